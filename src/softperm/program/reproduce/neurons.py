"""The cells of the third experiment's tables, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from softperm.program.neurons.config import METHODS, Method, NeuronsConfig
from softperm.program.neurons.folder import Result, read_config, read_result, run_in
from softperm.program.reproduce.neurons_columns import Column, TableName, columns, names_of_cells

_QUICK_STEPS = 300


@dataclass(frozen=True)
class NeuronsCell:
    """One run.

    Arguments:
        column: Its column.
        method: Its method.
        seed: Its seed.
        quick: Whether its recordings are short, for a check.
    """

    column: Column
    method: Method
    seed: int
    quick: bool = False

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"{self.column.name}-{self.method}-seed{self.seed}"

    def config(self, data: str | None) -> NeuronsConfig:
        """The settings of the run."""
        settings = {**self.column.settings, "data": data, "method": self.method, "seed": self.seed}
        config = NeuronsConfig(**settings)
        return replace(config, steps=min(config.steps, _QUICK_STEPS)) if self.quick else config


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
        ValueError: there is no such cell or method, the table does not compare the method, or a
            seed is out of range.

    Example:
        >>> [cell.name for cell in select_neurons(["c10-w1"], ["vi"], [0, 1])]
        ['c10-w1-vi-seed0', 'c10-w1-vi-seed1']
    """
    every, names = columns(), names_of_cells()
    for cell in cells or ():
        if cell not in names:
            raise ValueError(f"cells must be among {', '.join(names)}, got {cell}")
    for method in methods or ():
        if method not in METHODS:
            raise ValueError(f"methods must be among {', '.join(METHODS)}, got {method}")
    chosen = cells or (["c10-w1", "known40-eta0.1"] if quick else names)
    compared = methods or (["vi", "fw"] if quick else list(METHODS))
    found = [
        NeuronsCell(column, method, seed, quick)
        for method in METHODS  # the headline of all cells before the first baseline
        for column in every
        for seed in sorted(set(seeds))
        if {column.name, column.table} & set(chosen)
        and method in compared
        and method in methods_of(column.table)
    ]
    if not found:
        raise ValueError(f"methods must be vi or start for partial, got {', '.join(compared)}")
    for run in found:
        run.config(None)  # refuses seeds that are out of range
    return found


def run_neurons(
    cells: Sequence[NeuronsCell],
    out: Path,
    data: str | None,
    *,
    finished: Callable[[NeuronsCell, bool], None],
) -> None:
    """Run cells one after the other; what is finished is kept.

    Arguments:
        cells: The cells; all of their settings are checked before the first is run.
        out: The folder of their run folders.
        data: Folder of the wiring's tables.
        finished: Called after every cell, with whether there was anything to do.

    Raises:
        ValueError: a folder holds a run with other settings.
    """
    configs = {cell: cell.config(data) for cell in cells}
    for cell in cells:
        finished(cell, run_in(out / cell.name, configs[cell], resume=True, draw=False))


def read_neurons(out: Path) -> list[tuple[NeuronsCell, str, Result]]:
    """All finished cells in a folder, with the source of the wiring and the metrics.

    Raises:
        ValueError: a result or its settings are damaged.
    """
    found = []
    for cell in (
        NeuronsCell(column, method, 0)
        for column in columns()
        for method in methods_of(column.table)
    ):
        for path in sorted(out.glob(f"{cell.column.name}-{cell.method}-seed*/result.json")):
            result = read_result(path.parent)
            if result is not None:
                config = read_config(path.parent)
                quick = config.steps < cell.config(None).steps
                found.append((replace(cell, seed=config.seed, quick=quick), *result))
    return found
