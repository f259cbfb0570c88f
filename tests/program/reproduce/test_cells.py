"""Which cells a table has, and the paper's figures in them."""

from __future__ import annotations

from typing import Any

import pytest

from softperm.program.presets import preset_names
from softperm.program.reproduce.cells import SIZES, Cell, paper_figure, select_cells


def test_the_whole_tables() -> None:
    jigsaw, sorting = select_cells("jigsaw"), select_cells("sorting")
    assert [(c.size, c.net) for c in jigsaw] == [
        (k, net) for k in (2, 3, 4, 5, 6) for net in ("paper", "ours")
    ]
    assert [(c.size, c.net) for c in sorting] == [
        *((n, net) for n in (5, 10, 15, 80, 100, 120) for net in ("paper", "ours")),
        (500, "ours"),
        (1000, "ours"),
    ]


def test_names_and_presets() -> None:
    cells = [Cell("jigsaw", "ours", 4, 1), Cell("sorting", "paper", 80, 0)]
    assert [cell.name for cell in cells] == ["ours-4x4-seed1", "paper-n80-seed0"]
    assert [cell.preset for cell in cells] == ["transformer-4x4", "paper-80"]
    assert Cell("sorting", "ours", 1000, 0).preset == "relative-1000"


def test_the_presets_are_there() -> None:
    for cell in (*select_cells("sorting"), *select_cells("jigsaw")):
        assert cell.preset in preset_names(cell.table)


def test_selection() -> None:
    cells = select_cells("jigsaw", [4, 3, 4], "ours", [1, 0, 1])
    assert [c.name for c in cells] == [
        "ours-3x3-seed0",
        "ours-3x3-seed1",
        "ours-4x4-seed0",
        "ours-4x4-seed1",
    ]
    assert {c.size for c in select_cells("sorting", quick=True)} == {5, 10}
    assert {c.size for c in select_cells("sorting", [80], quick=True)} == {80}
    assert [c.net for c in select_cells("sorting", [500])] == ["ours"]


def test_long_lists_are_tested_on_the_training_interval() -> None:
    assert len(Cell("sorting", "ours", 120, 0).intervals) == 7
    assert Cell("sorting", "ours", 500, 0).intervals == ((0, 1),)


def test_figures_of_the_paper() -> None:
    assert [paper_figure("jigsaw", k) for k in SIZES["jigsaw"]] == [1.0, 0.83, 0.43, 0.39, 0.27]
    assert [paper_figure("sorting", n) for n in SIZES["sorting"]] == [
        0,
        0,
        0,
        0,
        0,
        0.01,
        None,
        None,
    ]
    assert paper_figure("jigsaw", 3, "data/ImageNet") == 0.73
    assert paper_figure("jigsaw", 6, "celeba") is None
    assert paper_figure("jigsaw", 2, "digits") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jigsaw", [7]), "pieces must be among 2, 3, 4, 5, 6, got 7"),
        (("sorting", [5, 6]), "n must be among 5, .*, 1000, got 6"),
        (("sorting", [500, 1000], "paper"), "n must be at most 120 .*, got 500, 1000"),
    ],
)
def test_cells_that_are_not_there(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_cells(*arguments)
