"""What the paper's tables hold, and the networks trained to fill them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Table = Literal["jigsaw", "sorting"]
Net = Literal["paper", "ours"]

CAVEAT = "The paper's figures are quoted second-hand and are approximate."

# Table 2: Kendall's tau by data set and pieces per side.
JIGSAW_FIGURES: dict[str, dict[int, float]] = {
    "mnist": {2: 1.0, 3: 0.83, 4: 0.43, 5: 0.39, 6: 0.27},
    "celeba": {2: 1.0, 3: 0.96, 4: 0.88, 5: 0.78},
    "imagenet": {2: 0.85, 3: 0.73},
}
# Table 1: share of lists with any number misplaced, trained and tested on U(0, 1), by length.
SORTING_FIGURES: dict[int, float] = {5: 0.0, 10: 0.0, 15: 0.0, 80: 0.0, 100: 0.0, 120: 0.01}

INTERVALS: tuple[tuple[float, float], ...] = (
    (0, 1),
    (0, 10),
    (0, 1000),
    (1, 2),
    (10, 11),
    (100, 101),
    (1000, 1001),
)
SIZES: dict[Table, tuple[int, ...]] = {
    "jigsaw": (2, 3, 4, 5, 6),
    "sorting": (5, 10, 15, 80, 100, 120, 500, 1000),
}
METRICS: dict[Table, tuple[str, ...]] = {  # that every measurement has
    "jigsaw": ("kendall_tau", "kendall_tau_up_to_identical", "exact_reconstruction"),
    "sorting": ("kendall_tau", "prop_wrong", "prop_any_wrong"),
}
_LONGEST_OF_THE_PAPER = max(SORTING_FIGURES)  # longer lists are sorted by our network alone
_QUICK_SIZES = 2  # a quick check takes the smallest ones


@dataclass(frozen=True)
class Cell:
    """One network, trained once.

    Arguments:
        table: The table it belongs to.
        net: The paper's network, or ours.
        size: Pieces per side, or numbers in a list.
        seed: Seed of the run.
    """

    table: Table
    net: Net
    size: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its run folder."""
        size = f"{self.size}x{self.size}" if self.table == "jigsaw" else f"n{self.size}"
        return f"{self.net}-{size}-seed{self.seed}"

    @property
    def preset(self) -> str:
        """The name of the settings it is trained with."""
        if self.table == "jigsaw":
            net = "paper" if self.net == "paper" else "transformer"
            return f"{net}-{self.size}x{self.size}"
        return f"{'paper' if self.net == 'paper' else 'relative'}-{self.size}"

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """Where the test lists of a sorting cell come from."""
        return INTERVALS if self.size <= _LONGEST_OF_THE_PAPER else INTERVALS[:1]


def select_cells(
    table: Table,
    sizes: Sequence[int] | None = None,
    net: Literal["paper", "ours", "both"] = "both",
    seeds: Sequence[int] = (0,),
    *,
    quick: bool = False,
) -> list[Cell]:
    """The cells of a table in the order in which they are trained, small ones first.

    Arguments:
        table: Which table.
        sizes: Pieces per side, or numbers in a list; when omitted all, with `quick` the two
            smallest.
        net: Which networks.
        seeds: Seeds of the runs; every one gives a cell.
        quick: Whether this is the quick check.

    Raises:
        ValueError: the table has no such cell.

    Example:
        >>> [cell.name for cell in select_cells("jigsaw", [3], seeds=(0, 1), net="paper")]
        ['paper-3x3-seed0', 'paper-3x3-seed1']
    """
    known = SIZES[table]
    option = "pieces" if table == "jigsaw" else "n"
    for size in sizes or ():
        if size not in known:
            raise ValueError(f"{option} must be among {', '.join(map(str, known))}, got {size}")
    chosen = sorted(set(sizes or (known[:_QUICK_SIZES] if quick else known)))
    nets: tuple[Net, ...] = ("paper", "ours") if net == "both" else (net,)
    cells = [
        Cell(table, kind, size, seed)
        for size in chosen
        for kind in nets
        for seed in sorted(set(seeds))
        if not (table == "sorting" and kind == "paper" and size > _LONGEST_OF_THE_PAPER)
    ]
    if not cells:
        raise ValueError(
            f"n must be at most {_LONGEST_OF_THE_PAPER} with the paper's net, got "
            f"{', '.join(map(str, chosen))}"
        )
    return cells


def paper_figure(table: Table, size: int, data: str = "mnist") -> float | None:
    """What the paper has in a cell: Kendall's tau, or the share of lists not sorted.

    A folder called celeba or imagenet is taken for those images.

    Example:
        >>> paper_figure("jigsaw", 3), paper_figure("jigsaw", 3, "pictures/CelebA")
        (0.83, 0.96)
    """
    if table == "sorting":
        return SORTING_FIGURES.get(size)
    return JIGSAW_FIGURES.get(Path(data).name.lower(), {}).get(size)
