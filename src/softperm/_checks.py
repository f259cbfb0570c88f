"""Argument checks shared by the operators, with messages that repeat what was given."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INDEX_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_LARGEST = 1e100  # of log_alpha / tau; sums and differences of such numbers stay finite


def shape_of(x: Tensor) -> tuple[int, ...]:
    """The shape as a plain tuple, which prints as the user typed it."""
    return tuple(x.shape)


def _wraps_others(x: Tensor) -> bool:
    """Whether x is of a class whose objects have no memory of their own."""
    return (
        isinstance(x, torch._subclasses.FakeTensor)
        or is_traceable_wrapper_subclass(x)
        or (x.numel() > 0 and x.data_ptr() == 0)
    )


def is_plain(*tensors: Tensor) -> bool:
    """Whether they hold their values here and now: nothing is traced, mapped or lazily negated."""
    if (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    ):
        return False
    for x in tensors:
        if (
            torch._C._functorch.is_legacy_batchedtensor(x)
            or x.is_neg()
            or x._is_zerotensor()
            or (type(x) is not Tensor and _wraps_others(x))
        ):
            return False
    return True


def can_read_values(x: Tensor) -> bool:
    """Whether looking at the values costs no device synchronisation and breaks no tracing."""
    return x.is_cpu and is_plain(x)


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
        _require_below_infinity(log_alpha)


def _require_below_infinity(log_alpha: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Refuse NaN and +inf; the message shows the shape."""
    if not bool(log_alpha.amax() < torch.inf):  # one pass: NaN and +inf both propagate to amax
        what = "NaN" if bool(log_alpha.isnan().any()) else "+inf"
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
        empty = log_alpha.amax(dim) == -torch.inf
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
    shape = shape or shape_of(log_alpha)
    _require_below_infinity(log_alpha, shape)
    low, high = (float(extreme) for extreme in log_alpha.detach().aminmax())
    if low == -torch.inf:
        _require_allowed_pairs(log_alpha, (log_rows, log_columns), shape)
        low = float(log_alpha.detach().masked_fill(log_alpha.isneginf(), 0).amin())
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


def require_positive_int(value: object, name: str) -> None:
    """Refuse everything but an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def require_non_negative_int(value: object, name: str) -> None:
    """Refuse everything but an integer of at least 0."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")


def require_positive_float(value: object, name: str) -> None:
    """Refuse everything but a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a float, got {type(value).__name__}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def require_odd(value: int, name: str) -> None:
    """Refuse an even number."""
    if value % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value}")


def require_noise_scale(noise_scale: object) -> None:
    """Refuse a noise scale that is not a finite number of at least 0."""
    if isinstance(noise_scale, bool) or not isinstance(noise_scale, int | float):
        raise TypeError(f"noise_scale must be a float, got {type(noise_scale).__name__}")
    if not 0 <= noise_scale < float("inf"):
        raise ValueError(f"noise_scale must be finite and at least 0, got {noise_scale}")


def require_perm(perm: object, name: str = "perm") -> None:
    """Refuse everything that is not an integer tensor whose rows are permutations of 0..n-1."""
    require_tensor(perm, name)
    assert isinstance(perm, Tensor)
    if perm.dtype not in INDEX_DTYPES:
        raise TypeError(f"{name} must hold integer indices (int64), got {perm.dtype}")
    if perm.dim() < 1:
        raise ValueError(f"{name} must have shape (*, n), got a scalar")
    if not can_read_values(perm):
        return
    if not bool((perm.sort(-1).values == torch.arange(perm.shape[-1], device=perm.device)).all()):
        raise ValueError(
            f"{name} must hold every index 0..{perm.shape[-1] - 1} once along its last "
            f"dimension, got shape {shape_of(perm)} with a repeated or missing index"
        )


def as_sample_shape(
    sample_shape: int | list[int] | tuple[int, ...] | torch.Size,
    name: str = "sample_shape",
) -> torch.Size:
    """`sample_shape` as a torch.Size; an int counts as one dimension."""
    sizes = [sample_shape] if isinstance(sample_shape, int) else sample_shape
    if not isinstance(sizes, list | tuple) or any(
        isinstance(size, bool) or not isinstance(size, int) for size in sizes
    ):
        raise TypeError(f"{name} must be an int or a tuple of ints, got {sample_shape!r}")
    if any(size < 0 for size in sizes):
        raise ValueError(f"{name} must hold integers of at least 0, got {sample_shape!r}")
    return torch.Size(sizes)
