"""Permutations as indices and as matrices: convert, apply, invert, compose, draw.

Conventions: as indices, ``perm[..., i] = j`` sends item i to position j; as a matrix,
``P[..., i, j] = 1`` exactly when ``perm[..., i] = j``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import (
    as_sample_shape,
    can_read_values,
    require_perm,
    require_tensor,
    shape_of,
)
from softperm._typing import Int64, Integer, Num, Shaped

__all__ = [
    "apply_permutation",
    "compose_permutations",
    "invert_permutation",
    "permutation_indices",
    "permutation_matrix",
    "random_permutation",
]


def permutation_matrix(
    perm: Integer[Tensor, "*batch n"], dtype: torch.dtype | None = None
) -> Shaped[Tensor, "*batch n n"]:
    r"""The matrix of a permutation given as indices.

    .. math:: P_{ij} = 1 \text{ if } \mathrm{perm}_i = j, \text{ else } 0

    Arguments:
        perm: Indices, integer, shape (\*, n).
        dtype: dtype of the result; the default dtype (float32) when omitted.

    Returns:
        Zeros and ones, shape (\*, n, n), on the device of `perm`.

    Raises:
        TypeError: `perm` is not an integer tensor.
        ValueError: a row of `perm` is not a permutation.

    Example:
        >>> permutation_matrix(torch.tensor([1, 2, 0]))
        tensor([[0., 1., 0.],
                [0., 0., 1.],
                [1., 0., 0.]])
    """
    require_perm(perm)
    positions = torch.arange(perm.shape[-1], device=perm.device)
    return (perm.unsqueeze(-1) == positions).to(dtype or torch.get_default_dtype())


def permutation_indices(P: Shaped[Tensor, "*batch n n"]) -> Int64[Tensor, "*batch n"]:
    r"""The indices of a permutation given as a matrix: the inverse of `permutation_matrix`.

    Arguments:
        P: Permutation matrices, any real dtype, shape (\*, n, n).

    Returns:
        Indices, int64, shape (\*, n).

    Raises:
        TypeError: `P` is not a tensor, or complex.
        ValueError: a matrix is not a permutation matrix (use `matching` for soft matrices).

    Example:
        >>> permutation_indices(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([1, 0])
    """
    require_tensor(P, "P")
    if P.is_complex():
        raise TypeError(f"P must have a real dtype, got {P.dtype}")
    if P.dim() < 2 or P.shape[-1] != P.shape[-2]:
        raise ValueError(f"P must have shape (*, n, n), got {shape_of(P)}")
    if P.numel() == 0:
        return P.new_empty(P.shape[:-1], dtype=torch.int64)
    perm = P.to(torch.uint8 if P.dtype == torch.bool else P.dtype).argmax(-1)
    if can_read_values(P):
        ones = perm.unsqueeze(-1) == torch.arange(P.shape[-1], device=P.device)
        if not bool((ones == P).all() and (ones.sum(-2) == 1).all()):
            raise ValueError(
                f"P must hold permutation matrices (one 1 in each row and column, else 0), "
                f"got another matrix in shape {shape_of(P)}; matching(P) rounds a soft one"
            )
    return perm


def invert_permutation(perm: Integer[Tensor, "*batch n"]) -> Int64[Tensor, "*batch n"]:
    r"""The permutation that undoes `perm`: ``inverse[perm[i]] = i``.

    Arguments:
        perm: Indices, integer, shape (\*, n).

    Returns:
        Indices, int64, shape (\*, n).

    Raises:
        TypeError: `perm` is not an integer tensor.
        ValueError: a row of `perm` is not a permutation.

    Example:
        >>> invert_permutation(torch.tensor([1, 2, 0]))
        tensor([2, 0, 1])
    """
    require_perm(perm)
    return _invert(perm)


def _invert(perm: Tensor) -> Tensor:
    """`invert_permutation` for indices known to be permutations."""
    items = torch.arange(perm.shape[-1], device=perm.device).expand(perm.shape)
    return torch.empty_like(items, memory_format=torch.contiguous_format).scatter(
        -1, perm.long(), items
    )


def compose_permutations(
    a: Integer[Tensor, "*#batch n"], b: Integer[Tensor, "*#batch n"]
) -> Int64[Tensor, "*batch n"]:
    r"""The permutation that applies `b` first, then `a`: ``c[i] = a[b[i]]``.

    Arguments:
        a: Indices, integer, shape (\*, n).
        b: Indices, integer, shape (\*, n); batch dimensions broadcast against those of `a`.

    Returns:
        Indices, int64, shape (\*, n).

    Raises:
        TypeError: an argument is not an integer tensor.
        ValueError: a row is not a permutation, or the shapes do not fit.

    Example:
        >>> compose_permutations(torch.tensor([1, 0, 2]), torch.tensor([1, 2, 0]))
        tensor([0, 2, 1])
    """
    require_perm(a, "a")
    require_perm(b, "b")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"a and b must permute the same number of items, got {a.shape[-1]} and {b.shape[-1]}"
        )
    try:
        a, b = torch.broadcast_tensors(a.long(), b.long())
    except RuntimeError:
        raise ValueError(
            f"batch dimensions of a and b must broadcast, got {shape_of(a)} and {shape_of(b)}"
        ) from None
    return a.gather(-1, b)


def random_permutation(
    n: int,
    batch_shape: int | tuple[int, ...] = (),
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Int64[Tensor, "*batch n"]:
    r"""Independent permutations of n items, uniform over all n!.

    Arguments:
        n: Number of items.
        batch_shape: Shape of the batch of permutations.
        generator: Source of randomness; torch's global one when omitted.
        device: Device of the result; the generator's, else the default device.

    Returns:
        Indices, int64, shape batch_shape + (n,).

    Raises:
        TypeError: `n` or a batch size is not an int.
        ValueError: `n` or a batch size is negative.

    Example:
        >>> random_permutation(4, (2,), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 4])
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be an int, got {type(n).__name__}")
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    if device is None and generator is not None:
        device = generator.device
    shape = (*as_sample_shape(batch_shape, "batch_shape"), n)
    # 63 random bits a key: a tie, which would favour one order, is out of practical reach.
    keys = torch.randint(2**63 - 1, shape, generator=generator, device=device)
    return keys.argsort(-1)


def apply_permutation(
    P_or_perm: Num[Tensor, "..."], x: Shaped[Tensor, "..."]
) -> Shaped[Tensor, "..."]:
    r"""Put items in their positions.

    .. math:: y_{j} = \sum_i P_{ij} x_i, \qquad y = P^\top x, \qquad y_{\mathrm{perm}_i} = x_i

    Arguments:
        P_or_perm: An integer tensor is read as indices, shape (\*, n); a floating one as hard or
            soft matrices, shape (\*, n, n).
        x: Items, shape (\*, n, ...) with any trailing shape; any dtype. Its leading dimensions
            broadcast against the batch dimensions of `P_or_perm`, aligned at the left.

    Returns:
        The items in order, shape (\*, n, ...). With indices the dtype is that of `x`; with
        matrices the two dtypes are promoted.

    Raises:
        TypeError: `P_or_perm` is boolean or complex, or an argument is not a tensor.
        ValueError: the shapes do not fit, or indices are not permutations.

    Example:
        >>> apply_permutation(torch.tensor([2, 0, 1]), torch.tensor([10, 20, 30]))
        tensor([20, 30, 10])
    """
    require_tensor(P_or_perm, "P_or_perm")
    require_tensor(x, "x")
    if P_or_perm.is_floating_point():
        return _apply_matrix(P_or_perm, x)
    require_perm(P_or_perm, "P_or_perm")
    batch, x = _align(P_or_perm.shape[:-1], P_or_perm.shape[-1], x)
    sources = _invert(P_or_perm).expand(*batch, -1)
    trailing = x.dim() - len(batch) - 1
    return x.gather(len(batch), sources[(...,) + (None,) * trailing].expand(x.shape))


def _apply_matrix(P: Tensor, x: Tensor) -> Tensor:
    """P^T x for floating-point matrices."""
    if P.dim() < 2 or P.shape[-1] != P.shape[-2]:
        raise ValueError(f"P_or_perm as matrices must have shape (*, n, n), got {shape_of(P)}")
    batch, x = _align(P.shape[:-2], P.shape[-1], x)
    dtype = torch.promote_types(P.dtype, x.dtype)
    n, trailing = x.shape[len(batch)], x.shape[len(batch) + 1 :]
    columns = x.reshape(*batch, n, trailing.numel()).to(dtype)
    return (P.to(dtype).mT @ columns).reshape(x.shape)


def _align(batch: torch.Size, n: int, x: Tensor) -> tuple[torch.Size, Tensor]:
    """The common batch shape of n-item permutations and items `x`, and `x` expanded to it."""
    found = x.shape[len(batch)] if x.dim() > len(batch) else None
    if found != n:
        raise ValueError(
            f"x must have {n} items in dimension {len(batch)}, after batch dimensions that fit "
            f"{tuple(batch)}, got shape {shape_of(x)}"
        )
    try:
        common = torch.broadcast_shapes(batch, x.shape[: len(batch)])
    except RuntimeError:
        raise ValueError(
            f"the leading dimensions of x must broadcast against the batch dimensions "
            f"{tuple(batch)} of P_or_perm, got shape {shape_of(x)}"
        ) from None
    return common, x.expand(*common, *x.shape[len(batch) :])
