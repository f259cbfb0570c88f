"""What the tables of the third experiment hold: their columns, and the paper's figures in them.

Known without PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from softperm.program.neurons.config import Method

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


def names_of_cells() -> list[str]:
    """The names of tables and columns, by which cells are chosen."""
    return [*TITLES, *(column.name for column in columns())]


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
