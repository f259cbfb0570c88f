"""Tables of numbers in CSV files, checked when they are read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from softperm._files import write_text
from softperm.program.readers import read_text

_LARGEST = 100_000_000  # bytes


def write_table(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write rows that all have the columns of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, float]]:
    """The rows of a table.

    Arguments:
        path: The file.
        needed: Columns that must be there.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    try:
        table = list(csv.reader(io.StringIO(read_text(path, _LARGEST)), strict=True))
    except csv.Error as error:
        raise ValueError(f"{path} is no table: {error}") from error
    names = table[0] if table else []
    missing = [name for name in needed if name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(f"{path} must have a column {(missing or names)[0]}, once")
    return [_numbers(names, row, f"{path}, line {i}") for i, row in enumerate(table[1:], 2)]


def _numbers(names: Sequence[str], row: Sequence[str], where: str) -> dict[str, float]:
    """A row of a table by the names of its columns."""
    try:
        return {name: float(text) for name, text in zip(names, row, strict=True)}
    except ValueError as error:
        raise ValueError(f"{where} must hold {len(names)} numbers") from error
