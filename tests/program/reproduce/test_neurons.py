"""The tables of the neurons: cells, figures, and what the command writes and keeps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from softperm.data.worm import Wiring, synthetic_wiring
from softperm.program.cli import main
from softperm.program.neurons import folder as folder_module
from softperm.program.neurons.config import METHODS
from softperm.program.reproduce import neurons_command
from softperm.program.reproduce.neurons import methods_of, read_neurons, select_neurons
from softperm.program.reproduce.neurons_columns import columns
from softperm.program.reproduce.neurons_tables import (
    accuracy_grid,
    calibration_error,
    mean_and_error,
    neurons_notes,
    read_beliefs,
    reliability,
)
from tests.program.support import refused

MARKERS = "# Mine\n\n<!-- reproduce neurons -->\n<!-- end of reproduce neurons -->\n\nrest\n"


def test_the_cells_of_the_paper() -> None:
    paper = {c.name: c for c in columns() if c.table in ("candidates", "known")}
    assert len(paper) == 16
    assert paper["c10-w1"].published == {"naive": 0.34, "map": 0.34, "mcmc": 0.34, "vi": 0.79}
    assert paper["c60-w4"].published == {"naive": 0.12, "map": 0.12, "mcmc": 0.15, "vi": 0.44}
    assert paper["known40-eta0.1"].published == {"mcmc": 0.85, "vi": 0.97}
    assert paper["known10-eta0.2"].published == {"mcmc": 0.12, "vi": 0.23}
    assert paper["known20-eta0.1"].settings == {"candidates": 0.0, "eta": 0.1, "known": 0.2}


def test_selection() -> None:
    every = select_neurons(seeds=[0, 1])
    assert len({cell.name for cell in every}) == len(every)
    assert len(every) == 2 * sum(len(methods_of(c.table)) for c in columns())
    for cell in every:
        config = cell.config(None)
        assert (config.method, config.seed) == (cell.method, cell.seed)
    assert [c.method for c in every] == sorted((c.method for c in every), key=list(METHODS).index)
    assert {c.column.table for c in select_neurons(["known", "c10-w1"])} == {"known", "candidates"}
    assert {c.config(None).steps for c in select_neurons(quick=True)} == {300}


def test_a_check_lengthens_no_recording() -> None:
    full, quick = (select_neurons(["short", "c10-w1"], ["vi"], quick=q) for q in (False, True))
    steps = {a.column.name: (a.config(None).steps, b.config(None).steps)
             for a, b in zip(full, quick, strict=True)}  # fmt: skip
    assert steps["c10-w1"] == (1000, 300)
    assert steps["steps300-w1"] == (300, 300)
    assert steps["steps60-w4"] == (60, 60)


def test_the_notes_tell_a_check() -> None:
    short, full = select_neurons(["c10-w1"], ["vi"], quick=True), select_neurons(["c10-w1"], ["fw"])
    results = [(cell, "C. elegans", {"accuracy": 1.0}) for cell in short + full]
    assert "A check: 1 of 2 runs are of recordings of 300 steps alone" in neurons_notes(results)
    assert "check" not in neurons_notes(results[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "c7-w1"], "cells must be among"),
        (["--cells", "partial", "--methods", "mcmc"], "methods must be vi or start"),
        (["--methods", "luck"], "luck"),
        (["--seeds", "-1"], "seed must be between"),
        (["--docs", "missing.md"], "missing.md"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
    ],
    ids=str,
)
def test_wrong_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(["reproduce", "neurons", *arguments], capsys)
    assert not list(tmp_path.iterdir())


def test_reproducing_keeps_and_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = synthetic_wiring(64, 300)

    def load(data: str | None) -> Wiring:
        return small

    monkeypatch.setattr(folder_module, "load_wiring", load)
    monkeypatch.setattr(neurons_command, "load_wiring", load)
    docs, out = tmp_path / "results.md", tmp_path / "out"
    docs.write_text(MARKERS)
    cells = ["c10-w1", "steps300-w1"]
    command = ["reproduce", "neurons", "--out", str(out), "--methods", "vi", "fw", "--docs"]
    given = [*command, str(docs), "--quick", "--cells", *cells, "--seeds", "0"]
    assert main(given) == 0
    first = capsys.readouterr().out
    assert first.count(": finished") == 4
    assert main([*given, "1"]) == 0
    second = capsys.readouterr().out
    assert (second.count(": kept"), second.count(": finished")) == (4, 4)

    results = read_neurons(out)
    assert len(results) == 8
    grid = accuracy_grid("candidates", results)
    assert grid is not None
    assert "10, 1 worm" in grid.header
    values = [r["accuracy"] for c, _, r in results if (c.column.name, c.method) == ("c10-w1", "vi")]
    mean, error = mean_and_error(values)
    assert grid.rows[0] == ["Gumbel-Sinkhorn VI", f"{mean:.3f} ± {error:.3f}"]
    assert ["Gumbel-Sinkhorn VI, published", "0.79"] in grid.rows
    assert accuracy_grid("partial", results) is None
    text = docs.read_text()
    assert "Wiring: a synthetic wiring, not C. elegans. Mean over 2 simulated" in text
    assert "A check: 4 of 8 runs are of recordings of 300 steps alone" in text
    assert "Calibration" in text
    assert "| resampling the names | " in text
    assert "Expected calibration error" in text
    assert text.startswith("# Mine")
    assert text.endswith("rest\n")
    for name in ("table.md", "candidates.png", "reliability.png"):
        assert (out / name).exists()


def test_mean_and_error() -> None:
    mean, error = mean_and_error([0.5, 0.7, 0.9])
    assert mean == pytest.approx(0.7)
    assert error == pytest.approx(0.2 / math.sqrt(3))
    assert math.isnan(mean_and_error([1.0])[1])


def test_reliability_counts_every_name_once() -> None:
    pairs = [(k / 100, k % 2 == 0) for k in range(101)]
    bins = reliability(pairs)
    assert sum(b.names for b in bins) == 101
    assert bins[0].believed == pytest.approx(sum(range(20)) / 2000)
    assert bins[0].right == 0.5
    assert bins[-1].believed > 0.99


def test_the_calibration_error_is_none_where_beliefs_are_shares() -> None:
    """Of names believed to 0.25, a quarter is right; then half of those believed to 1 are wrong."""
    calibrated = [(0.25, k == 0) for k in range(4)]
    assert calibration_error(calibrated) == 0
    assert calibration_error([*calibrated, *[(1.0, k < 2) for k in range(4)]]) == 0.25


@pytest.mark.parametrize(
    "text",
    [
        "known,name\n0,A\n",
        "known,name,right,confidence_vi\n",
        "known,name,right,confidence_vi\n1,A,1,1.000\n",
        "known,name,right,confidence_vi\n0,A,1,inf\n",
        f"known,name,right,confidence_vi\n0,{'A' * 200_000},1,1.000\n",
        "known,name,right,confidence_vi\n0,A,1,1.000\n0,B,1,0.9",
    ],
    ids=["columns", "header", "known", "infinite", "long", "cut"],
)
def test_damaged_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(ValueError, match=r"names\.csv is not the table of names.*; remove it"):
        read_beliefs([tmp_path], "vi")


def test_missing_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names\.csv is not there: run its cell again"):
        read_beliefs([tmp_path], "vi")
