"""The tables of the third experiment: their cells, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from softperm.program.neurons.config import METHODS, Method, NeuronsConfig
from softperm.program.neurons.folder import Result, read_config, read_result, run_in

TableName = Literal["candidates", "known", "short", "partial"]

_CANDIDATES, _WORMS = (10, 30, 45, 60), (1, 4)
_KNOWN, _ETA = (0.4, 0.3, 0.2, 0.1), (0.1, 0.2)
_SHORT = (300, 150, 100, 60)
_PARTIAL: dict[str, dict[str, float]] = {
    "60 % observed": {"observed": 0.6},
    "40 % observed": {"observed": 0.4},
    "10 % extra": {"extra": 0.1},
    "60 % observed, 10 % extra": {"observed": 0.6, "extra": 0.1},
}
_QUICK_STEPS = 300


@dataclass(frozen=True, eq=False)
class Column:
    """A cell of a table, whatever method and seed.

    Arguments:
        table: The table.
        name: Its name, which begins those of its run folders.
        label: What heads its column.
        settings: The settings that make it.
        published: The paper's figures by method.
    """

    table: TableName
    name: str
    label: str
    settings: dict[str, Any]
    published: dict[Method, float]


# Tables 1 and 2 of the paper, one row per method.
_TABLE_1: dict[Method, tuple[float, ...]] = {
    "naive": (0.34, 0.32, 0.16, 0.16, 0.13, 0.12, 0.11, 0.12),
    "map": (0.34, 0.32, 0.17, 0.17, 0.14, 0.13, 0.13, 0.12),
    "mcmc": (0.34, 0.65, 0.18, 0.28, 0.14, 0.17, 0.13, 0.15),
    "vi": (0.79, 0.94, 0.40, 0.69, 0.25, 0.51, 0.21, 0.44),
}
_TABLE_2: dict[Method, tuple[float, ...]] = {
    "mcmc": (0.85, 0.80, 0.52, 0.46, 0.30, 0.26, 0.15, 0.12),
    "vi": (0.97, 0.96, 0.92, 0.84, 0.74, 0.58, 0.44, 0.23),
}
TITLES: dict[TableName, str] = {
    "candidates": "Share of neurons named rightly, by mean number of candidates and worms",
    "known": "Share of neurons named rightly, by share of known names and eta, one worm",
    "short": "Short recordings: share named rightly, by steps and worms, 60 candidates",
    "partial": "Partial recordings: share named rightly, by what is observed, 30 candidates",
}


def _published(table: dict[Method, tuple[float, ...]], k: int) -> dict[Method, float]:
    return {method: figures[k] for method, figures in table.items()}


def _worms(count: int) -> str:
    return f"{count} worm{'' if count == 1 else 's'}"


def columns() -> list[Column]:
    """All cells, table by table."""
    return [*_paper_columns(), *_short_columns(), *_partial_columns()]


def _paper_columns() -> list[Column]:
    first = [
        Column(
            "candidates",
            f"c{candidates}-w{worms}",
            f"{candidates}, {_worms(worms)}",
            {"candidates": float(candidates), "worms": worms},
            _published(_TABLE_1, k),
        )
        for k, (candidates, worms) in enumerate(product(_CANDIDATES, _WORMS))
    ]
    second = [
        Column(
            "known",
            f"known{100 * known:.0f}-eta{eta:g}",
            f"{100 * known:.0f} %, {eta:g}",
            {"candidates": 0.0, "eta": eta, "known": known},
            _published(_TABLE_2, k),
        )
        for k, (known, eta) in enumerate(product(_KNOWN, _ETA))
    ]
    return first + second


def _short_columns() -> list[Column]:
    return [
        Column(
            "short",
            f"steps{steps}-w{worms}",
            f"{steps}, {_worms(worms)}",
            {"candidates": 60.0, "worms": worms, "steps": steps},
            {},
        )
        for steps, worms in product(_SHORT, _WORMS)
    ]


def _partial_columns() -> list[Column]:
    return [
        Column(
            "partial",
            "-".join(f"{key}{100 * value:.0f}" for key, value in settings.items()) + f"-w{worms}",
            f"{label}, {_worms(worms)}",
            {"candidates": 30.0, "worms": worms, **settings},
            {},
        )
        for (label, settings), worms in product(_PARTIAL.items(), _WORMS)
    ]


@dataclass(frozen=True)
class NeuronsCell:
    """One run: a column, a method and a seed."""

    column: Column
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"{self.column.name}-{self.method}-seed{self.seed}"

    def config(self, data: str | None, *, quick: bool = False) -> NeuronsConfig:
        """The settings of the run."""
        settings = {**self.column.settings, "data": data, "method": self.method, "seed": self.seed}
        if quick:
            settings["steps"] = _QUICK_STEPS
        return NeuronsConfig(**settings)


def methods_of(table: TableName) -> tuple[Method, ...]:
    """The methods that a table compares; cells without a name are known to the first two alone."""
    return ("vi", "start") if table == "partial" else tuple(METHODS)


def select_neurons(
    cells: Sequence[str] | None = None,
    methods: Sequence[Method] | None = None,
    seeds: Sequence[int] = (0,),
    *,
    quick: bool = False,
) -> list[NeuronsCell]:
    """The runs that fill the tables, in the order in which they are done.

    Arguments:
        cells: Names of columns or tables; all when omitted, with `quick` the first of two tables.
        methods: Which methods; all that a table compares when omitted.
        seeds: Seeds; each is a simulated data set.
        quick: Whether this is the quick check.

    Raises:
        ValueError: there is no such cell or method, or the table does not compare the method.

    Example:
        >>> [cell.name for cell in select_neurons(["c10-w1"], ["vi"], [0, 1])]
        ['c10-w1-vi-seed0', 'c10-w1-vi-seed1']
    """
    every = columns()
    names = [*TITLES, *(column.name for column in every)]
    for cell in cells or ():
        if cell not in names:
            raise ValueError(f"cells must be among {', '.join(names)}, got {cell}")
    for method in methods or ():
        if method not in METHODS:
            raise ValueError(f"methods must be among {', '.join(METHODS)}, got {method}")
    chosen = cells or (["c10-w1", "known40-eta0.1"] if quick else names)
    compared = methods or (["vi", "fw"] if quick else list(METHODS))
    found = [
        NeuronsCell(column, method, seed)
        for method in METHODS  # the headline of all cells before the first baseline
        for column in every
        for seed in sorted(set(seeds))
        if {column.name, column.table} & set(chosen)
        and method in compared
        and method in methods_of(column.table)
    ]
    if not found:
        raise ValueError(f"methods must be vi or start for partial, got {', '.join(compared)}")
    return found


def run_neurons(
    cells: Sequence[NeuronsCell],
    out: Path,
    data: str | None,
    *,
    quick: bool = False,
    finished: Callable[[NeuronsCell, bool], None],
) -> None:
    """Run cells one after the other; what is finished is kept.

    Arguments:
        cells: The cells; all of their settings are checked before the first is run.
        out: The folder of their run folders.
        data: Folder of the wiring's tables.
        quick: Short recordings.
        finished: Called after every cell, with whether there was anything to do.

    Raises:
        ValueError: a folder holds a run with other settings.
    """
    configs = {cell: cell.config(data, quick=quick) for cell in cells}
    for cell in cells:
        finished(cell, run_in(out / cell.name, configs[cell], resume=True, draw=False))


def read_neurons(out: Path) -> list[tuple[NeuronsCell, str, Result]]:
    """All finished cells in a folder, with the source of the wiring and the metrics.

    Raises:
        ValueError: a result or its settings are damaged.
    """
    found = []
    for cell in (
        NeuronsCell(column, method, -1)
        for column in columns()
        for method in methods_of(column.table)
    ):
        for path in sorted(out.glob(f"{cell.column.name}-{cell.method}-seed*/result.json")):
            result = read_result(path.parent)
            if result is not None:
                seed = read_config(path.parent).seed
                found.append((NeuronsCell(cell.column, cell.method, seed), *result))
    return found
