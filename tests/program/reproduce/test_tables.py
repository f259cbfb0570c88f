"""The tables hold what was measured, beside the paper's figures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from softperm.program.reproduce.cells import CAVEAT, SIZES, Cell, Net, Table
from softperm.program.reproduce.runner import Result
from softperm.program.reproduce.tables import (
    Grid,
    notes,
    require_markers,
    summary,
    update_docs,
    write_tables,
)


def jigsaw(net: Net, size: int, seed: int, tau: float, data: str = "mnist") -> Result:
    metrics = {
        "kendall_tau": tau,
        "kendall_tau_up_to_identical": tau + 0.1,
        "exact_reconstruction": tau - 0.1,
        "l1": 10 * tau,
    }
    return Result(Cell("jigsaw", net, size, seed), data, 5, 60 * tau, {"test": metrics})


def sorting(net: Net, size: int, wrong: dict[str, float]) -> Result:
    metrics = {test: {"prop_any_wrong": value, "l2": 2 * value} for test, value in wrong.items()}
    return Result(Cell("sorting", net, size, 0), "", 2, 12.0, metrics)


JIGSAW = [jigsaw("paper", 3, 0, 0.5), jigsaw("paper", 3, 1, 0.7), jigsaw("ours", 3, 0, 0.8)]
SORTING = [
    sorting("paper", 80, {"U(0, 1)": 0.0, "U(1, 2)": 0.75}),
    sorting("paper", 120, {"U(0, 1)": 0.005, "U(1, 2)": 1.0}),
    sorting("ours", 120, {"U(0, 1)": 0.0, "U(1, 2)": 0.0}),
    sorting("ours", 500, {"U(0, 1)": 0.25}),
]


def test_markdown() -> None:
    grid = Grid("Title", ["a", "b"], [["1", "2"], ["3", "-"]])
    assert grid.markdown() == "**Title**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | - |\n"


def test_jigsaw_summary_is_the_mean_over_seeds() -> None:
    (grid,) = summary("jigsaw", [*JIGSAW, jigsaw("ours", 4, 0, 0.3)])
    assert grid.title == "Jigsaw puzzles (mnist), mean over the test set"
    assert grid.header == [
        "pieces",
        "net",
        "kendall_tau",
        "up to identical pieces",
        "exact",
        "seconds",
    ]
    assert grid.rows == [
        ["3x3", "the paper", "0.83", "-", "-", "-"],
        ["3x3", "the paper's net", "0.6000", "0.7000", "0.5000", "36"],
        ["3x3", "our net", "0.8000", "0.9000", "0.7000", "48"],
        ["4x4", "the paper", "0.43", "-", "-", "-"],
        ["4x4", "our net", "0.3000", "0.4000", "0.2000", "18"],
    ]


def test_other_images_have_other_figures() -> None:
    (celeba,) = summary("jigsaw", [jigsaw("ours", 3, 0, 0.5, "pictures/celeba")])
    assert "(celeba)" in celeba.title
    assert celeba.rows[0][:3] == ["3x3", "the paper", "0.96"]
    (digits,) = summary("jigsaw", [jigsaw("ours", 3, 0, 0.5, "digits")])
    assert [row[1] for row in digits.rows] == ["our net"]


def test_sorting_summary_has_a_table_for_every_net() -> None:
    paper, ours = summary("sorting", SORTING)
    assert paper.header == ["n", "80", "120"]
    assert paper.rows == [
        ["the paper", "0.00", "0.01"],
        ["U(0, 1)", "0.000", "0.005"],
        ["U(1, 2)", "0.750", "1.000"],
        ["seconds", "12", "12"],
    ]
    assert ours.rows[0] == ["the paper", "0.01", "-"]
    assert ours.rows[2] == ["U(1, 2)", "0.000", "-"]
    assert len(summary("sorting", SORTING[:2])) == 1


def test_the_widest_table_fits_a_terminal() -> None:
    wrong = dict.fromkeys(("U(0, 1)", "U(1000, 1001)"), 0.125)
    (grid,) = summary("sorting", [sorting("ours", n, wrong) for n in SIZES["sorting"]])
    console = Console(width=80, file=io.StringIO())
    with console.capture() as shown:
        console.print(grid.rich())
    assert shown.get().split().count("0.125") == 2 * len(SIZES["sorting"])
    assert "U(1000, 1001)" in shown.get()


def test_notes_say_where_the_figures_come_from() -> None:
    assert notes("jigsaw", JIGSAW[2:]) == f"{CAVEAT} Mean over 1 seed per cell."
    assert "Mean over 1 or 2 seeds per cell." in notes("jigsaw", JIGSAW)
    assert "far from 0" in notes("sorting", SORTING)


def test_the_file_holds_every_metric(tmp_path: Path) -> None:
    text = write_tables("jigsaw", JIGSAW, tmp_path / "table.md").read_text()
    assert text.startswith(CAVEAT)
    assert "| 3 | the paper's net | 2 | 5 | 36 | test | 0.6000 | 0.7000 | 0.5000 | 6.0000 |" in text
    assert "| 3 | our net | 1 | 5 | 48 | test | 0.8000 | 0.9000 | 0.7000 | 8.0000 |" in text
    text = write_tables("sorting", SORTING, tmp_path / "table.md").read_text()
    assert "| 120 | the paper's net | 1 | 2 | 12 | U(1, 2) | 1.0000 | 2.0000 |" in text


def markers(table: Table) -> tuple[str, str]:
    return f"<!-- reproduce {table} -->", f"<!-- end of reproduce {table} -->"


def test_docs_keep_all_but_the_table(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    (a, b), (c, d) = markers("jigsaw"), markers("sorting")
    path.write_text(f"# Results\n\n{a}\nold\n{b}\n\nBetween.\n\n{c}\n{d}\n\nEnd.\n")
    update_docs("jigsaw", JIGSAW, path)
    update_docs("sorting", SORTING, path)
    text = path.read_text()
    for table, results in (("jigsaw", JIGSAW), ("sorting", SORTING)):
        for grid in summary(table, results):  # type: ignore[arg-type]
            assert text.count(grid.markdown()) == 1
    assert "old" not in text
    assert text.count(CAVEAT) == 2
    assert text.startswith(f"# Results\n\n{a}\n")
    assert f"{b}\n\nBetween.\n\n{c}\n" in text
    assert text.endswith(f"{d}\n\nEnd.\n")
    update_docs("jigsaw", JIGSAW, path)
    assert path.read_text() == text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_docs_keep_their_line_ends(tmp_path: Path, end: str) -> None:
    path = tmp_path / "results.md"
    start, stop = markers("jigsaw")
    path.write_bytes(end.join(["# Results", start, stop, "End.", ""]).encode())
    for _ in range(2):
        update_docs("jigsaw", JIGSAW, path)
        text = path.read_bytes().decode()
        assert text.count("\n") == text.count(end) > 10
        assert text.count("\r") == (text.count("\n") if end == "\r\n" else 0)


@pytest.mark.parametrize("text", ["", "{0}\n", "{1}\n{0}\n", "{0}\n{0}\n{1}\n", "{0}{1}{1}"])
def test_documents_without_room(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.md"
    path.write_text(text.format(*markers("jigsaw")))
    for refuse in (require_markers, lambda table, path: update_docs(table, JIGSAW, path)):
        with pytest.raises(ValueError, match=r"results\.md must hold the lines <!-- reproduce jig"):
            refuse("jigsaw", path)
    assert path.read_text() == text.format(*markers("jigsaw"))
