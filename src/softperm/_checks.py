"""Argument checks shared by the operators, with messages that repeat what was given."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, cast

import torch
from torch import Tensor

from softperm._torch import can_read_values
from softperm._typing import SampleShape

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INDEX_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_IN_NUMPY = (torch.float32, torch.float64)
_LARGEST = 1e100  # of log_alpha / tau; sums and differences of such numbers stay finite


def shape_of(x: Tensor) -> tuple[int, ...]:
    """The shape as a plain tuple, which prints as the user typed it."""
    return tuple(x.shape)


def common_shape(*shapes: torch.Size) -> torch.Size:
    """What the shapes broadcast to; PyTorch's function alone takes as long as a small Sinkhorn."""
    given = [shape for shape in shapes if shape]
    if len(given) < 2:
        return given[0] if given else torch.Size()
    return torch.Size(torch.broadcast_shapes(*given))


def broadcast_batch(names: str, *shapes: torch.Size) -> torch.Size:
    """The batch dimensions that all shapes broadcast to; `names` tells whose they are."""
    try:
        return common_shape(*shapes)
    except RuntimeError:
        got = ", ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"the batch dimensions of {names} must broadcast, got {got}") from None


def require_tensor(x: object, name: str) -> None:
    """Refuse everything that is not a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")


def require_float_matrix(x: object, name: str) -> None:
    """Refuse everything that is not a floating-point tensor of matrices."""
    require_tensor(x, name)
    assert isinstance(x, Tensor)
    if x.dtype not in FLOAT_DTYPES:
        raise TypeError(
            f"{name} must have a floating dtype (float16, bfloat16, float32 or float64), "
            f"got {x.dtype}"
        )
    if x.dim() < 2:
        raise ValueError(f"{name} must have shape (*, m, n), got {shape_of(x)}")


def require_log_alpha(log_alpha: Tensor) -> None:
    """Refuse NaN and +inf, on top of `require_float_matrix`."""
    require_float_matrix(log_alpha, "log_alpha")
    if can_read_values(log_alpha) and log_alpha.numel() > 0:
        _require_below_infinity(log_alpha.detach())


def in_one_thread(x: Tensor) -> Any:
    """x for `max`, `min` and comparisons; on CPUs an array, since NumPy needs this thread alone.

    PyTorch's other threads take long to come where other programs keep the cores busy, and never
    come in a forked child.
    """
    return x.numpy(force=True) if x.is_cpu and x.dtype in _IN_NUMPY else x.detach()


def nan_or_inf(highest: float) -> str:
    """Which of them there is, by the largest entry: NaN where any is."""
    return "NaN" if math.isnan(highest) else "+inf"


def _require_below_infinity(log_alpha: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Refuse NaN and +inf; the message shows the shape."""
    highest = float(in_one_thread(log_alpha).max())
    if not highest < torch.inf:
        what = nan_or_inf(highest)
        raise ValueError(
            f"log_alpha must be finite or -inf (a forbidden pair), got {what} in a tensor of "
            f"shape {shape or shape_of(log_alpha)}"
        )


def first_index(found: Tensor) -> str:
    """Where in the batch the first True is, in words; nothing where there is no batch."""
    index = tuple(found.nonzero()[0].tolist())
    return f" at batch index {index}" if index else ""


def _require_allowed_pairs(
    log_alpha: Tensor, sums: tuple[Tensor | None, Tensor | None], shape: tuple[int, ...]
) -> None:
    """Refuse lines of -inf alone, but for those whose wanted sum is 0."""
    for dim, name, log_sums in ((-1, "row", sums[0]), (-2, "column", sums[1])):
        forbidden = (in_one_thread(log_alpha) == -torch.inf).all(dim)
        empty = torch.as_tensor(forbidden, device=log_alpha.device)
        if log_sums is not None:
            empty = empty & (log_sums > -torch.inf)
        empty = empty.any(-1)
        if bool(empty.any()):
            plain = sums == (None, None)
            what = "permutation" if plain else "matrix with the wanted sums"
            raise ValueError(
                f"log_alpha must leave at least one {what} possible, got a {name} of -inf alone"
                f"{first_index(empty)} in shape {shape}"
            )


def require_solvable(
    log_alpha: Tensor,
    tau: float | Tensor,
    log_rows: Tensor | None = None,
    log_columns: Tensor | None = None,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Refuse NaN, +inf, lines of -inf alone that take part, and log_alpha / tau that overflows.

    The values can be read, and there are some. `log_rows` and `log_columns` are the logarithms of
    the wanted sums (None: all 1; -inf: no part); messages show the shape, that of `log_alpha` if
    None.
    """
    shape, values = shape or shape_of(log_alpha), in_one_thread(log_alpha)
    _require_below_infinity(log_alpha, shape)
    low, high = float(values.min()), float(values.max())
    if low == -torch.inf:
        _require_allowed_pairs(log_alpha, (log_rows, log_columns), shape)
        allowed = values[values > -torch.inf]
        low = float(allowed.min()) if len(allowed) else 0.0
    smallest, largest = _smallest(tau), max(abs(high) if high > -torch.inf else 0.0, -low)
    if _LARGEST * smallest < largest:
        raise ValueError(
            f"log_alpha / tau must be below {_LARGEST:g} in magnitude, got entries of {largest:g} "
            f"at tau {smallest:g}"
        )


def _smallest(tau: float | Tensor) -> float:
    """The lowest temperature; infinity where it cannot be seen for free."""
    if not isinstance(tau, Tensor):
        return tau
    return float(tau.detach().min()) if can_read_values(tau) and tau.numel() else torch.inf


def as_int(value: object, name: str) -> int:
    """An integer, NumPy's included, as Python's own; a truth value is none."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    return int(value)


def as_float(value: object, name: str, kind: str = "a float") -> float:
    """A real number, NumPy's included, as Python's own; a truth value is none."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {kind}, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:  # an integer beyond the range of floats
        return math.inf if cast(Any, value) > 0 else -math.inf


def require_positive_int(value: object, name: str) -> int:
    """The integer, of at least 1; everything else is refused."""
    number = as_int(value, name)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if number >= 1 << 63:
        raise ValueError(f"{name} must be below 2^63, got {value}")
    return number


def require_non_negative_int(value: object, name: str) -> int:
    """The integer, of at least 0; everything else is refused."""
    number = as_int(value, name)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return number


def require_positive_float(value: object, name: str) -> float:
    """The number, finite and above 0; everything else is refused."""
    number = as_float(value, name)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return number


def require_odd(value: int, name: str) -> None:
    """Refuse an even number."""
    if value % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value}")


def require_noise_scale(noise_scale: object) -> float:
    """The scale of the noise, finite and at least 0; everything else is refused."""
    number = as_float(noise_scale, "noise_scale")
    if not 0 <= number < float("inf"):
        raise ValueError(f"noise_scale must be finite and at least 0, got {noise_scale}")
    return number


def _require_indices(perm: Tensor, name: str) -> None:
    """Refuse everything that is not an integer tensor of at least one dimension."""
    require_tensor(perm, name)
    if perm.dtype not in INDEX_DTYPES:
        raise TypeError(f"{name} must hold integer indices (int64), got {perm.dtype}")
    if perm.dim() < 1:
        raise ValueError(f"{name} must have shape (*, n), got a scalar")


def _is_complete(places: Tensor) -> bool:
    """Whether sorted positions are those of permutations, 0..n-1."""
    return bool((places == torch.arange(places.shape[-1], device=places.device)).all())


def require_perm(perm: Tensor, name: str = "perm") -> None:
    """Refuse everything that is not an integer tensor whose rows are permutations of 0..n-1."""
    _require_indices(perm, name)
    if can_read_values(perm) and not _is_complete(perm.sort(-1).values):
        raise ValueError(
            f"{name} must hold every index 0..{perm.shape[-1] - 1} once along its last "
            f"dimension, got shape {shape_of(perm)} with a repeated or missing index"
        )


def require_positions(perm: Tensor, name: str, n_positions: int | None = None) -> tuple[int, bool]:
    """Refuse everything but an integer tensor of different positions, -1 standing for none.

    There are as many positions as items where `n_positions` does not tell. The answer is their
    number, and whether the rows are seen to fill them all.
    """
    _require_indices(perm, name)
    items = perm.shape[-1]
    n = items if n_positions is None else require_non_negative_int(n_positions, "n_positions")
    if not can_read_values(perm) or perm.numel() == 0:
        return n, False
    places = perm.sort(-1).values
    if items == n and _is_complete(places):
        return n, True
    _require_different(places, name, f"every index 0..{n - 1}", n)
    return n, False


def _require_different(places: Tensor, name: str, indices: str, limit: float) -> None:
    """Refuse sorted positions that are repeated (but for -1), below -1, or not below the limit."""
    places = places.long()  # in shorter integers the limits would wrap around
    repeated = (places[..., 1:] == places[..., :-1]) & (places[..., 1:] >= 0)
    if bool(repeated.any() | (places[..., 0] < -1).any() | (places[..., -1] >= limit).any()):
        raise ValueError(
            f"{name} must hold {indices} once at most along its last dimension, and -1 for items "
            f"without a position, got shape {shape_of(places)} with an index repeated or out of "
            f"range"
        )


def require_partial_perm(perm: Tensor, name: str) -> None:
    """Refuse everything but an integer tensor of different positions, -1 standing for none."""
    _require_indices(perm, name)
    if can_read_values(perm) and perm.numel() > 0:
        _require_different(perm.sort(-1).values, name, "every index", torch.inf)


def as_sample_shape(sample_shape: SampleShape, name: str = "sample_shape") -> torch.Size:
    """`sample_shape` as a torch.Size; an int counts as one dimension."""
    try:
        given = sample_shape if isinstance(sample_shape, list | tuple) else [sample_shape]
        sizes = [as_int(size, name) for size in given]
    except TypeError:
        message = f"{name} must be an int or a tuple of ints, got {sample_shape!r}"
        raise TypeError(message) from None
    if any(size < 0 for size in sizes):
        raise ValueError(f"{name} must hold integers of at least 0, got {sample_shape!r}")
    return torch.Size(sizes)
