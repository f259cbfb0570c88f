"""Matrices of every kind of shape, with what has to be given for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests import references


def _sums(m: int, n: int, total: float, seed: int) -> dict[str, Tensor]:
    """Uneven sums of the same total for the rows and columns of two matrices."""
    rows = references.matrices((2, m), seed=seed).exp()
    columns = references.matrices((2, n), seed=seed + 1).exp()
    return {
        "row_sums": total * rows / rows.sum(-1, keepdim=True),
        "col_sums": total * columns / columns.sum(-1, keepdim=True),
    }


SIZES = {"n_rows": torch.tensor([2, 4]), "n_cols": torch.tensor([3, 2])}
GIVEN: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "square": ((2, 3, 3), {}),
    "wide": ((2, 2, 5), {}),
    "tall": ((2, 4, 3), {}),
    "one row": ((2, 1, 4), {}),
    "one column": ((2, 3, 1), {}),
    "sums": ((2, 3, 4), _sums(3, 4, 2.5, seed=3)),
    "sums of the rows": ((2, 4, 3), {"row_sums": _sums(4, 3, 4.0, seed=5)["row_sums"]}),
    "sums of the columns": ((2, 3, 4), {"col_sums": 0.75}),
    "balanced": ((2, 6, 3), {"row_sums": 1, "col_sums": 2.0}),
    "slack": ((2, 3, 4), {"slack": torch.tensor([0.3, -1.0], dtype=torch.float64)}),
    "slack of a square": ((2, 3, 3), {"slack": -0.5}),
    "ragged": ((2, 4, 3), SIZES),
    "ragged rows": ((2, 3, 3), {"n_rows": torch.tensor([3, 1])}),
    "ragged columns": ((2, 2, 5), {"n_cols": torch.tensor([2, 4])}),
    "ragged with an int": ((2, 4, 4), {"n_rows": 3, "n_cols": torch.tensor([4, 2])}),
    "ragged slack": ((2, 4, 3), {"slack": 0.7, **SIZES}),
    "ragged sums": ((2, 4, 4), {"row_sums": 1.0, **SIZES}),
    "nothing counts": ((2, 3, 2), {"n_rows": torch.tensor([0, 3]), "n_cols": torch.tensor([2, 0])}),
    "only slack": (
        (3, 3, 2),
        {"slack": 0.1, "n_rows": torch.tensor([0, 3, 0]), "n_cols": torch.tensor([2, 0, 0])},
    ),
}


def case(name: str) -> tuple[Tensor, dict[str, Any]]:
    """Scores, and the arguments; what does not count is NaN."""
    shape, given = GIVEN[name]
    x = references.matrices(shape, seed=len(name))
    sizes = (("n_rows", -2), ("n_cols", -1))
    for key, dim in sizes:
        if key in given:
            count = torch.as_tensor(given[key]).expand(shape[0])[:, None, None]
            positions = torch.arange(shape[dim]).unsqueeze(-1 if dim == -2 else 0)
            x = torch.where(positions < count, x, torch.nan)
    return x, given


def leaves(x: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any], list[Tensor]]:
    """The same with a gradient wherever there can be one, and the tensors that have it."""
    x = x.clone().requires_grad_()
    given = {
        key: value.clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for key, value in given.items()
    }
    wanting = [
        value for value in given.values() if isinstance(value, Tensor) and value.requires_grad
    ]
    return x, given, [x, *wanting]


def weighted(out: Tensor) -> Tensor:
    """A weighted sum of what is finite."""
    weights = references.matrices(tuple(out.shape), seed=9).to(out.dtype)
    return (out.masked_fill(out.isneginf(), 0) * weights).sum()
