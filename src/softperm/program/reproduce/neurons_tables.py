"""The tables of the third experiment, with the paper's figures, and how calibrated they are."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from softperm.program.neurons.config import METHODS, Method
from softperm.program.neurons.folder import Result
from softperm.program.reproduce.neurons import NeuronsCell, methods_of
from softperm.program.reproduce.neurons_columns import TITLES, Column, TableName, columns
from softperm.program.reproduce.tables import Grid
from softperm.program.schema import require_within

Finished = Sequence[tuple[NeuronsCell, str, Result]]

_NOTHING = "-"
_ERROR_BINS = 10
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99, 1.0)
BELIEFS = {
    "resampled": "resampling the names",
    "vi": "scores of the bound",
    "start": "scores of its start",
}


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, NaN for fewer than two values.

    Example:
        >>> mean_and_error([1.0, 3.0])
        (2.0, 1.0)
    """
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def _values(results: Finished, column: Column, method: Method, name: str) -> list[float]:
    """A metric of all seeds of a cell."""
    return [
        result[name]
        for cell, _, result in results
        if (cell.column.name, cell.method) == (column.name, method) and name in result
    ]


def accuracies(results: Finished, column: Column, method: Method) -> list[float]:
    """The share named rightly of all seeds of a cell."""
    return _values(results, column, method, "accuracy")


def _entry(values: Sequence[float]) -> str:
    if not values:
        return _NOTHING
    mean, error = mean_and_error(values)
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def _number(values: Sequence[float]) -> str:
    return f"{mean_and_error(values)[0]:,.0f}" if values else _NOTHING


def accuracy_grid(table: TableName, results: Finished) -> Grid | None:
    """A row per method, ours and the paper's, a column per cell; None without results."""
    mine = [column for column in columns() if column.table == table]
    shown = [c for c in mine if any(cell.column.name == c.name for cell, *_ in results)]
    if not shown:
        return None
    rows = []
    for method in methods_of(table):
        figures = [accuracies(results, column, method) for column in shown]
        if any(figures):
            rows.append([METHODS[method], *map(_entry, figures)])
    for method in methods_of(table):
        left = [_values(results, column, method, "extra_unnamed") for column in shown]
        if any(left):
            rows.append([f"{METHODS[method]}: extra cells left unnamed", *map(_entry, left)])
    for method in METHODS:
        published = [column.published.get(method) for column in shown]
        if any(figure is not None for figure in published):
            texts = (_NOTHING if f is None else f"{f:.2f}" for f in published)
            rows.append([f"{METHODS[method]}, published", *texts])
    return Grid(TITLES[table], ["", *(column.label for column in shown)], rows)


def detail_grid(results: Finished) -> Grid:
    """Every cell and method: losses, evidence, bound and processor time, mean over seeds."""
    names = ("accuracy", "accuracy_unknown", "extra_unnamed")
    numbers = (
        "loss",
        "loss_of_the_truth",
        "log_evidence",
        "log_evidence_of_the_truth",
        "bound",
        "seconds",
    )
    rows = []
    for column in columns():
        for method in methods_of(column.table):
            values = {n: _values(results, column, method, n) for n in (*names, *numbers)}
            if values["accuracy"]:
                head = [column.label, METHODS[method], str(len(values["accuracy"]))]
                shares = (_entry(values[name]) for name in names)
                rows.append([*head, *shares, *(_number(values[name]) for name in numbers)])
    header = ["cell", "method", "seeds", "named rightly", "of unknown", "extra cells unnamed"]
    header += ["loss", "at the truth", "log evidence", "at the truth", "bound", "CPU seconds"]
    return Grid("Every cell, mean over seeds", header, rows)


class Bin(NamedTuple):
    """Names that were believed about equally."""

    names: int
    believed: float
    right: float


def read_beliefs(folders: Iterable[Path], kind: str) -> list[tuple[float, bool]]:
    """Confidence and truth of all names that were not known, by the scores of one kind.

    Raises:
        ValueError: a table of names is missing or damaged, or none of its names was not known.
    """
    pairs = []
    for folder in folders:
        path = folder / "names.csv"
        try:
            pairs += _read_beliefs(path, kind)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(
                f"{path} is not the table of names of a run: {error}; remove it and run its cell "
                f"again"
            ) from error
        except FileNotFoundError as error:
            raise ValueError(f"{path} is not there: run its cell again") from error
    return pairs


def _read_beliefs(path: Path, kind: str) -> list[tuple[float, bool]]:
    """The same of one table."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    if not text.endswith("\n"):  # every row that is written whole ends so
        raise ValueError("its last line is cut")
    table = csv.DictReader(io.StringIO(text, newline=""))
    rows = [row for row in table if row["known"] == "0" and row["name"]]
    pairs = [(float(row[f"confidence_{kind}"]), row["right"] == "1") for row in rows]
    if not pairs:
        raise ValueError("it holds no name that was not known")
    for believed, _ in pairs:
        require_within(believed, "a confidence", 0.0, 1.0)
    return pairs


def reliability(pairs: Sequence[tuple[float, bool]]) -> list[Bin]:
    """How often names are right, by how much they are believed; empty bins are left out.

    Example:
        >>> reliability([(0.95, True), (0.93, False), (0.1, False)])
        [Bin(names=1, believed=0.1, right=0.0), Bin(names=2, believed=0.94, right=0.5)]
    """
    bins = []
    for low, high in pairwise(BINS):
        inside = [(p, r) for p, r in pairs if low <= p < high or p == high == 1.0]
        if inside:
            n = len(inside)
            bins.append(Bin(n, sum(p for p, _ in inside) / n, sum(r for _, r in inside) / n))
    return bins


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error: mean distance of belief and truth over ten bins, by their names.

    Example:
        >>> calibration_error([(0.95, True), (0.93, False), (0.1, False), (0.1, False)])
        0.27
    """
    bins: dict[int, float] = {}
    for believed, right in pairs:
        k = min(int(_ERROR_BINS * believed), _ERROR_BINS - 1)
        bins[k] = bins.get(k, 0.0) + believed - right
    return sum(map(abs, bins.values())) / len(pairs)


def calibrated_folders(out: Path, results: Finished, table: TableName = "short") -> list[Path]:
    """The runs of vi in one table."""
    return [
        out / cell.name
        for cell, *_ in results
        if cell.method == "vi" and cell.column.table == table
    ]


def calibration_grid(out: Path, results: Finished) -> Grid | None:
    """How often names are right, by how sure they are; the short recordings; None without them."""
    folders = calibrated_folders(out, results)
    if not folders:
        return None
    rows = [
        [name, f"{b.believed:.3f}", f"{b.right:.3f}", f"{b.names:,}"]
        for kind, name in BELIEFS.items()
        for b in reliability(read_beliefs(folders, kind))
    ]
    title = "Calibration: names of the short recordings, by confidence"
    return Grid(title, ["confidence by", "mean confidence", "right", "names"], rows)


def calibration_error_grid(out: Path, results: Finished) -> Grid | None:
    """The calibration error of every cell of the short recordings; None without them."""
    shown: dict[str, list[Path]] = {}
    for cell, *_ in results:
        if cell.method == "vi" and cell.column.table == "short":
            shown.setdefault(cell.column.label, []).append(out / cell.name)
    if not shown:
        return None
    rows = [
        [name, *(f"{calibration_error(read_beliefs(f, kind)):.3f}" for f in shown.values())]
        for kind, name in BELIEFS.items()
    ]
    title = "Expected calibration error of the short recordings, by steps and worms"
    return Grid(title, ["confidence by", *shown], rows)


def neurons_grids(out: Path, results: Finished) -> list[Grid]:
    """What the command prints: the tables, and the calibration."""
    grids = [accuracy_grid(table, results) for table in TITLES]
    grids += [calibration_grid(out, results), calibration_error_grid(out, results)]
    return [grid for grid in grids if grid is not None]


def neurons_notes(results: Finished) -> str:
    """What has to be said beside the figures."""
    sources = sorted({source for _, source, _ in results})
    counts = sorted({len(accuracies(results, c.column, c.method)) for c, *_ in results})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    sets = f"{many} simulated data set{'' if counts == [1] else 's'}"
    return (
        f"Wiring: {', '.join(sources)}. Mean over {sets} per cell, with its standard error where "
        f"there are several; known names count as right ones.{_note_of_a_check(results)}"
    )


def _note_of_a_check(results: Finished) -> str:
    """What has to be said of short recordings; nothing where there are none."""
    steps = {cell.config(None).steps for cell, *_ in results if cell.quick}
    if not steps:
        return ""
    count = sum(cell.quick for cell, *_ in results)
    return (
        f" A check: {count} of {len(results)} runs are of recordings of {max(steps)} steps alone; "
        f"the published figures are of longer ones."
    )
