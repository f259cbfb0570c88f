"""Permutations as indices and as matrices: convert, apply, invert, compose, draw.

Conventions: as indices, ``perm[..., i] = j`` sends item i to position j; as a matrix,
``P[..., i, j] = 1`` exactly when ``perm[..., i] = j``.

`torch.argsort` answers the opposite question: after ``order = x.argsort()``, ``order[j]`` is the
item that belongs at position j, while ``perm[i]`` is the position where item i belongs. Each is the
inverse of the other: ``perm = permutation_from_order(order)``.

Permutations may be partial: m items, n positions, ``perm[..., i] = -1`` where item i has no
position. Its row of the matrix (m, n) is 0, and so are the columns of positions without an item.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softperm._apply import apply_permutation, inverse
from softperm._checks import (
    as_sample_shape,
    require_non_negative_int,
    require_perm,
    require_positions,
    require_tensor,
    shape_of,
)
from softperm._teach import teaching
from softperm._torch import can_read_values
from softperm._typing import Int64, Integer, Shaped

__all__ = [
    "apply_permutation",
    "compose_permutations",
    "invert_permutation",
    "permutation_from_order",
    "permutation_indices",
    "permutation_matrix",
    "random_permutation",
]


@teaching
def permutation_matrix(
    perm: Integer[Tensor, "*batch m"],
    dtype: torch.dtype | None = None,
    n_positions: int | None = None,
) -> Shaped[Tensor, "*batch m n"]:
    r"""Turn indices into permutation matrices.

    .. math:: P_{ij} = 1 \text{ if } \mathrm{perm}_i = j, \text{ else } 0

    Arguments:
        perm: Indices, integer, shape (\*, m); -1 for an item without a position, whose row is 0.
        dtype: dtype of the result; the default dtype (float32) when omitted.
        n_positions: Number n of positions; as many as items when omitted.

    Returns:
        Zeros and ones, shape (\*, m, n), on the device of `perm`.

    Raises:
        TypeError: `perm` is not an integer tensor, or `n_positions` not an int.
        ValueError: a row of `perm` repeats a position, or holds one out of range.

    Example:
        >>> permutation_matrix(torch.tensor([1, 2, 0]))
        tensor([[0., 1., 0.],
                [0., 0., 1.],
                [1., 0., 0.]])
        >>> permutation_matrix(torch.tensor([1, -1, 0]), n_positions=2)
        tensor([[0., 1.],
                [0., 0.],
                [1., 0.]])
    """
    n, _ = require_positions(perm, "perm", n_positions)
    places = torch.arange(n, device=perm.device)
    return (perm.unsqueeze(-1) == places).to(dtype or torch.get_default_dtype())


def permutation_indices(P: Shaped[Tensor, "*batch m n"]) -> Int64[Tensor, "*batch m"]:
    r"""Turn permutation matrices into indices: the inverse of `permutation_matrix`.

    Arguments:
        P: Permutation matrices, any real dtype, shape (\*, m, n). Rows and columns may be 0
            throughout.

    Returns:
        Indices, int64, shape (\*, m); -1 where a row is 0.

    Raises:
        TypeError: `P` is not a tensor, or complex.
        ValueError: a matrix is not a permutation matrix (use `matching` for soft matrices).

    Example:
        >>> permutation_indices(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([1, 0])
        >>> permutation_indices(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
        tensor([ 1, -1])
    """
    require_tensor(P, "P")
    if P.is_complex():
        raise TypeError(f"P must have a real dtype, got {P.dtype}")
    if P.dim() < 2:
        raise ValueError(f"P must have shape (*, m, n), got {shape_of(P)}")
    if P.numel() == 0:
        return P.new_full(P.shape[:-1], -1, dtype=torch.int64)
    largest, places = P.to(torch.uint8 if P.dtype == torch.bool else P.dtype).max(-1)
    perm = torch.where(largest > 0, places, -1)
    if can_read_values(P):
        ones = perm.unsqueeze(-1) == torch.arange(P.shape[-1], device=P.device)
        if not bool((ones == P).all() and (ones.sum(-2) <= 1).all()):
            raise ValueError(
                f"P must hold permutation matrices (one 1 at most in each row and column, else 0), "
                f"got another matrix in shape {shape_of(P)}; matching(P) rounds a soft one"
            )
    return perm


def invert_permutation(
    perm: Integer[Tensor, "*batch m"], n_positions: int | None = None
) -> Int64[Tensor, "*batch n"]:
    r"""Invert a permutation: ``inverse[perm[i]] = i``.

    The inverse of a partial one says which item each position holds.

    Arguments:
        perm: Indices, integer, shape (\*, m); -1 for an item without a position.
        n_positions: Number n of positions; as many as items when omitted.

    Returns:
        Indices, int64, shape (\*, n); -1 for a position without an item.

    Raises:
        TypeError: `perm` is not an integer tensor, or `n_positions` not an int.
        ValueError: a row of `perm` repeats a position, or holds one out of range.

    Example:
        >>> invert_permutation(torch.tensor([1, 2, 0]))
        tensor([2, 0, 1])
        >>> invert_permutation(torch.tensor([3, -1, 0]), n_positions=4)
        tensor([ 2, -1, -1,  0])
    """
    return inverse(perm, *require_positions(perm, "perm", n_positions))


def permutation_from_order(order: Integer[Tensor, "*batch n"]) -> Int64[Tensor, "*batch n"]:
    r"""Turn an order, as `torch.argsort` gives it, into the permutation that makes it.

    .. math:: \mathrm{perm}_{\mathrm{order}_j} = j

    An order names the item of each position, a permutation the position of each item: one is the
    inverse of the other. Comparing the two raises no error, and means nothing.

    Arguments:
        order: The item of each position, integer, shape (\*, n).

    Returns:
        The position of each item, int64, shape (\*, n).

    Raises:
        TypeError: `order` is not an integer tensor.
        ValueError: a row of `order` is not a permutation.

    Example:
        >>> x = torch.tensor([0.3, 0.9, 0.1])
        >>> order = x.argsort()
        >>> order, permutation_from_order(order)
        (tensor([2, 0, 1]), tensor([1, 2, 0]))
        >>> apply_permutation(permutation_from_order(order), x)
        tensor([0.1000, 0.3000, 0.9000])
    """
    require_perm(order, "order")
    return inverse(order, order.shape[-1], complete=True)


def compose_permutations(
    a: Integer[Tensor, "*#batch p"],
    b: Integer[Tensor, "*#batch m"],
    n_positions: int | None = None,
) -> Int64[Tensor, "*batch m"]:
    r"""Compose two permutations, `b` first, then `a`: ``c[i] = a[b[i]]``.

    An item that `b` or `a` leaves without a position has none: -1.

    Arguments:
        a: Indices, integer, shape (\*, p); -1 for an item without a position.
        b: Indices, integer, shape (\*, m), positions 0..p-1 or -1; batch dimensions broadcast
            against those of `a`.
        n_positions: Number of positions of `a`. When omitted it is p, and m must be p as well.

    Returns:
        Indices, int64, shape (\*, m).

    Raises:
        TypeError: an argument is not an integer tensor, or `n_positions` not an int.
        ValueError: a row repeats a position, or holds one out of range, or the shapes do not fit.

    Example:
        >>> compose_permutations(torch.tensor([1, 0, 2]), torch.tensor([1, 2, 0]))
        tensor([0, 2, 1])
        >>> compose_permutations(torch.tensor([1, 0]), torch.tensor([1, -1, 0]), n_positions=2)
        tensor([ 0, -1,  1])
    """
    require_positions(a, "a", n_positions)
    middle = a.shape[-1]
    if n_positions is None:
        require_positions(b, "b", None)
        if b.shape[-1] != middle:
            raise ValueError(
                f"a and b must permute the same number of items, got {middle} and {b.shape[-1]}; "
                f"where b places other items in the positions that a permutes, give n_positions"
            )
    else:
        require_positions(b, "b", middle)
    try:
        batch = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"batch dimensions of a and b must broadcast, got {shape_of(a)} and {shape_of(b)}"
        ) from None
    places = F.pad(a.long(), (0, 1), value=-1).expand(*batch, -1)
    return places.gather(-1, torch.where(b < 0, middle, b.long()).expand(*batch, -1))


@teaching
def random_permutation(
    n: int,
    batch_shape: int | tuple[int, ...] = (),
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Int64[Tensor, "*batch n"]:
    r"""Draw permutations of n items, independent and uniform over all n!.

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
    n = require_non_negative_int(n, "n")
    if device is None and generator is not None:
        device = generator.device
    shape = (*as_sample_shape(batch_shape, "batch_shape"), n)
    # 63 random bits per key: a tie, which would favour one order, is out of practical reach.
    keys = torch.randint(2**63 - 1, shape, generator=generator, device=device)
    return keys.argsort(-1)
