"""How many leading rows and columns of each matrix count, and what else is given per matrix."""

from __future__ import annotations

from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor

from softperm._checks import FLOAT_DTYPES, INDEX_DTYPES, as_float, common_shape, shape_of
from softperm._torch import can_read_values


def require_number_or_tensor(value: object, name: str) -> None:
    """Refuse everything but a number and a floating tensor."""
    if isinstance(value, Tensor):
        if value.dtype not in FLOAT_DTYPES:
            raise TypeError(f"{name} must be a float or a floating tensor, got dtype {value.dtype}")
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a float or a floating tensor, got {type(value).__name__}")


def require_broadcast(value: object, name: str, wanted: tuple[int, ...], lines: str = "") -> None:
    """Refuse a tensor that does not broadcast against the batch dimensions, or, where it is for
    lines ("rows" or "columns"), against these and the number of lines.
    """
    if not isinstance(value, Tensor) or value.shape == wanted:
        return
    try:
        common = common_shape(value.shape, torch.Size(wanted))
    except RuntimeError:
        common = None
    if common is None or (lines and common[-1] != wanted[-1]):
        what = f"{tuple(wanted)}, the {lines}" if lines else f"the batch dimensions {tuple(wanted)}"
        raise ValueError(
            f"{name} must broadcast against {what} of log_alpha, got shape {shape_of(value)}"
        )


def require_finite(value: float | Tensor, name: str) -> None:
    """Refuse NaN and infinities, where they can be seen."""
    if not isinstance(value, Tensor):
        if not abs(as_float(value, name)) < float("inf"):
            raise ValueError(f"{name} must be finite, got {value}")
    elif can_read_values(value) and not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity in shape {shape_of(value)}")


def check_size(size: object, name: str, length: int, batch_shape: torch.Size) -> None:
    """Refuse sizes that are no integers of 0 to `length`, or do not fit the batch."""
    if isinstance(size, Tensor):
        if size.dtype not in INDEX_DTYPES:
            raise TypeError(f"{name} must be an int or an integer tensor, got dtype {size.dtype}")
        require_broadcast(size, name, batch_shape)
        if not can_read_values(size) or size.numel() == 0:
            return
        low, high = (int(extreme) for extreme in size.aminmax())
    elif isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"{name} must be an int or an integer tensor, got {type(size).__name__}")
    else:
        low = high = int(size)
    if low < 0 or high > length:
        wrong = low if low < 0 else high
        raise ValueError(f"{name} must lie in 0..{length}, the size of log_alpha, got {wrong}")


class Side(NamedTuple):
    """The rows, or the columns: how many there are, how many count, and which: (*, length)."""

    length: int
    size: int | Tensor
    counted: Tensor | None

    def keep(self, values: Tensor, other: float) -> Tensor:
        """The values (*, length) of lines that count, another for those beyond."""
        return values if self.counted is None else torch.where(self.counted, values, other)


def side(length: int, size: int | Tensor | None, device: torch.device) -> Side:
    """The rows or columns of which so many count; None for all."""
    if size is None:
        return Side(length, length, None)
    count = torch.as_tensor(size, device=device).long()
    return Side(length, count, torch.arange(length, device=device) < count.unsqueeze(-1))


def counted_entries(rows: Side, columns: Side) -> Tensor | None:
    """Which entries are in a row and a column that count: broadcasts against (*, m, n)."""
    if rows.counted is None:
        return None if columns.counted is None else columns.counted.unsqueeze(-2)
    if columns.counted is None:
        return rows.counted.unsqueeze(-1)
    return rows.counted.unsqueeze(-1) & columns.counted.unsqueeze(-2)
