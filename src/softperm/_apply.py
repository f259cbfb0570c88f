"""Put items in their positions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from softperm._checks import require_positions, require_tensor, shape_of
from softperm._typing import Num, Shaped

__all__ = ["apply_permutation", "inverse"]


def inverse(perm: Tensor, n: int, complete: bool) -> Tensor:
    """The item of each position, -1 where there is none, for indices that have been checked."""
    items = torch.arange(perm.shape[-1], device=perm.device).expand(perm.shape)
    if complete:
        return torch.empty_like(items, memory_format=torch.contiguous_format).scatter(
            -1, perm.long(), items
        )
    # Items without a position share one place more, which is then cut off.
    held = items.new_full((*perm.shape[:-1], n + 1), -1)
    return held.scatter(-1, torch.where(perm < 0, n, perm.long()), items)[..., :n]


def apply_permutation(
    P_or_perm: Num[Tensor, "..."], x: Shaped[Tensor, "..."], n_positions: int | None = None
) -> Shaped[Tensor, "..."]:
    r"""Put items in their positions.

    .. math:: y_{j} = \sum_i P_{ij} x_i, \qquad y = P^\top x, \qquad y_{\mathrm{perm}_i} = x_i

    A position without an item gets 0.

    Arguments:
        P_or_perm: An integer tensor is read as indices, shape (\*, m), -1 for an item without a
            position; a floating one as hard or soft matrices, shape (\*, m, n).
        x: Items, shape (\*, m, ...) with any trailing shape; any dtype. Its leading dimensions
            broadcast against the batch dimensions of `P_or_perm`, aligned at the left.
        n_positions: Number n of positions, for indices; as many as items when omitted. Matrices
            have their own.

    Returns:
        The items in order, shape (\*, n, ...). With indices the dtype is that of `x`; with
        matrices the two dtypes are promoted, also under `torch.autocast`.

    Raises:
        TypeError: `P_or_perm` is boolean or complex, or an argument is not a tensor, or
            `n_positions` not an int.
        ValueError: the shapes do not fit, or a row of indices repeats a position or holds one out
            of range.

    Example:
        >>> apply_permutation(torch.tensor([2, 0, 1]), torch.tensor([10, 20, 30]))
        tensor([20, 30, 10])
        >>> apply_permutation(torch.tensor([2, -1]), torch.tensor([10, 20]), n_positions=3)
        tensor([ 0,  0, 10])
    """
    require_tensor(P_or_perm, "P_or_perm")
    require_tensor(x, "x")
    if P_or_perm.is_floating_point():
        return _apply_matrix(P_or_perm, x, n_positions)
    n, complete = require_positions(P_or_perm, "P_or_perm", n_positions)
    batch, x = _align(P_or_perm.shape[:-1], P_or_perm.shape[-1], x)
    sources = inverse(P_or_perm, n, complete).expand(*batch, n)
    dim, trailing = len(batch), x.shape[len(batch) + 1 :]
    if not complete:  # a position without an item takes a row of zeros behind the items
        sources = torch.where(sources < 0, x.shape[dim], sources)
        x = torch.cat([x, x.new_zeros(*batch, 1, *trailing)], dim)
    index = sources[(...,) + (None,) * len(trailing)].expand(*batch, n, *trailing)
    return x.gather(dim, index)


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Autocasting would round what promotion keeps."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def _apply_matrix(P: Tensor, x: Tensor, n_positions: int | None) -> Tensor:
    """P^T x for floating-point matrices."""
    if P.dim() < 2:
        raise ValueError(
            f"P_or_perm of dtype {P.dtype} is read as matrices, which must have shape (*, m, n), "
            f"got {shape_of(P)}; indices must be integers: P_or_perm.long()"
        )
    if n_positions is not None and n_positions != P.shape[-1]:
        raise ValueError(
            f"n_positions is {n_positions}, but P_or_perm as matrices has {P.shape[-1]} columns, "
            f"got shape {shape_of(P)}"
        )
    batch, x = _align(P.shape[:-2], P.shape[-2], x)
    dtype = torch.promote_types(P.dtype, x.dtype)
    items, trailing = x.shape[len(batch)], x.shape[len(batch) + 1 :]
    with _without_autocast(x):
        columns = x.reshape(*batch, items, trailing.numel()).to(dtype)
        y = P.to(dtype).mT @ columns
    return y.reshape(*batch, P.shape[-1], *trailing)


def _align(batch: torch.Size, m: int, x: Tensor) -> tuple[torch.Size, Tensor]:
    """The common batch shape of m-item permutations and items `x`, and `x` expanded to it."""
    found = x.shape[len(batch)] if x.dim() > len(batch) else None
    if found != m:
        raise ValueError(
            f"x must have {m} items in dimension {len(batch)}, as many as P_or_perm, after batch "
            f"dimensions that fit {tuple(batch)}, got shape {shape_of(x)}"
        )
    try:
        common = torch.broadcast_shapes(batch, x.shape[: len(batch)])
    except RuntimeError:
        raise ValueError(
            f"the leading dimensions of x must broadcast against the batch dimensions "
            f"{tuple(batch)} of P_or_perm, got shape {shape_of(x)}"
        ) from None
    return common, x.expand(*common, *x.shape[len(batch) :])
