"""The script that changes one setting at a time."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml

SCRIPT = Path(__file__).parents[1] / "scripts" / "ablation.py"


@pytest.fixture
def ablation() -> Any:
    spec = spec_from_file_location("ablation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_row_and_a_run_for_every_change(
    ablation: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ablation.CHANGES = {"nothing": {}, "tau 10": {"tau": 10.0}}
    arguments = ["--pieces", "2", "--epochs", "1", "--data", "digits", "--out", str(tmp_path)]
    ablation.main(arguments)
    rows = (tmp_path / "table.md").read_text().splitlines()[4:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| nothing",
        "| tau 10",
        "| no context: the paper's net",
    ]
    values = [float(cell) for row in rows for cell in row.strip("| ").split(" | ")[1:]]
    assert len(values) == 6
    assert all(0 <= value <= 1 for value in values)
    taus = [
        yaml.safe_load((tmp_path / name / "config.yaml").read_text())["tau"]
        for name in ("nothing", "tau-10")
    ]
    assert taus == [1.0, 10.0]
    weights = tmp_path / "tau-10" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    capsys.readouterr()
    ablation.main(arguments)  # everything is kept
    assert weights.stat().st_mtime_ns == written
    assert "\n".join(rows) in capsys.readouterr().out


def test_every_change_is_one_of_the_preset(ablation: Any) -> None:
    assert len(ablation.variants(3, 3, "mnist")) == len(ablation.CHANGES) + 1
    variants = ablation.variants(3, 3, "mnist")
    chosen = [ablation.settings(cell, changes) for _, cell, changes in variants]
    assert all(settings != chosen[0] for settings in chosen[1:])
