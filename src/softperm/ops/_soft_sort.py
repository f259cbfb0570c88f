"""Sorting and ranking as soft permutations."""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import FLOAT_DTYPES, require_tensor, shape_of
from softperm._teach import teaching
from softperm._torch import can_read_values
from softperm._typing import Float
from softperm.kernels.reference import matrix_dtype
from softperm.ops._sinkhorn import sinkhorn


def standardise(x: Tensor) -> Tensor:
    r"""Lists (\*, n) with mean 0 and standard deviation 1; 0 where all numbers are equal."""
    # Shift and scale cancel out, so neither needs a gradient. Differences of close numbers are
    # exact, so the offset of a list costs no digits. In range are differences of halves, and the
    # squares of numbers up to 1.
    x = x / 2
    distance = x - x.detach().amin(-1, keepdim=True)
    width = distance.detach().amax(-1, keepdim=True)
    equal = width < torch.finfo(x.dtype).tiny
    scaled = distance / width.masked_fill(equal, 1)
    centred = scaled - scaled.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    # The root has no slope at 0; at infinity it is flat, and so is the quotient.
    return centred / variance.masked_fill(equal, torch.inf).sqrt()


def _last(x: Tensor, dim: int) -> Tensor:
    """Check the numbers, and bring the lists to the last dimension, in float32 or float64."""
    require_tensor(x, "x")
    if x.dtype not in FLOAT_DTYPES:
        raise TypeError(f"x must have a floating dtype, got {x.dtype}")
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"dim must be an int, got {type(dim).__name__}")
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim must be a dimension of x, got {dim} for shape {shape_of(x)}")
    if can_read_values(x) and not bool(x.isfinite().all()):
        raise ValueError(f"x must be finite, got NaN or infinity in shape {shape_of(x)}")
    return x.movedim(dim, -1).to(matrix_dtype(x.dtype))


def _sort(x: Tensor, tau: float | Tensor, n_iters: int, descending: bool) -> Tensor:
    """The soft permutation that sorts lists (*, n)."""
    places = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        return sinkhorn(x.unsqueeze(-1) * places, tau, n_iters)
    positions = standardise(-places if descending else places)
    return sinkhorn(-(standardise(x).unsqueeze(-1) - positions).square(), tau, n_iters)


@teaching
def soft_sort(
    x: Float[Tensor, "..."],
    tau: float | Float[Tensor, "..."] = 1.0,
    n_iters: int = 20,
    *,
    descending: bool = False,
    dim: int = -1,
) -> Float[Tensor, "*batch n n"]:
    r"""Compute the soft permutation that sorts numbers: P with P^T x in ascending order.

    .. math:: P = S(\log\alpha / \tau), \quad \log\alpha_{ij} = -(z_i - t_j)^2

    with z the numbers and t the positions 0, ..., n - 1, both shifted and scaled to mean 0 and
    standard deviation 1. So shift and scale of x make no difference. For tau to 0, with enough
    iterations, P sorts exactly.

    ``matching(P)`` is the position of each number. Compare it with
    ``permutation_from_order(x.argsort())``, not with ``x.argsort()``, which is the inverse.

    Arguments:
        x: Numbers, any floating dtype; lists of n along `dim`.
        tau: Temperature: a positive float, or a tensor that broadcasts against the other
            dimensions.
        n_iters: Number of Sinkhorn iterations.
        descending: The largest first.
        dim: The dimension that the lists are along.

    Returns:
        Soft permutation matrices, dtype of `x`, shape (\*, n, n), with \* the other dimensions.
        ``apply_permutation(P, x)`` sorts softly, where `dim` is the last; ``matching(P)`` gives
        hard positions.

    Raises:
        TypeError: `x` is not a floating-point tensor, or another argument of the wrong type.
        ValueError: `x` is not finite, or an argument out of range.

    Example:
        >>> from softperm import apply_permutation
        >>> x = torch.tensor([0.3, 9.0, -4.0])
        >>> P = soft_sort(x, tau=0.01, n_iters=100)
        >>> P.round()
        tensor([[0., 1., 0.],
                [0., 0., 1.],
                [1., 0., 0.]])
        >>> apply_permutation(P, x)
        tensor([-4.0000,  0.3000,  9.0000])
    """
    return _sort(_last(x, dim), tau, n_iters, descending).to(x.dtype)


@teaching
def soft_rank(
    x: Float[Tensor, "*shape"],
    tau: float | Float[Tensor, "..."] = 1.0,
    n_iters: int = 20,
    *,
    descending: bool = False,
    dim: int = -1,
) -> Float[Tensor, "*shape"]:
    r"""Compute the soft rank of every number in its list.

    .. math:: r_i = \sum_j P_{ij}\, j, \quad P \text{ as in `soft\_sort`}

    Ranks lie between 0 and n - 1 where the rows of P sum to 1. The lower the temperature, the more
    iterations that takes; columns sum to 1 after any number.

    Arguments and errors are those of `soft_sort`.

    Returns:
        Ranks, dtype and shape of `x`. For tau to 0, with enough iterations, they are exact.

    Example:
        >>> soft_rank(torch.tensor([0.3, 9.0, -4.0]), tau=0.01, n_iters=100).round()
        tensor([1., 2., 0.])
    """
    lists = _last(x, dim)
    P = _sort(lists, tau, n_iters, descending)
    places = torch.arange(lists.shape[-1], dtype=P.dtype, device=P.device)
    return (P * places).sum(-1).movedim(-1, dim).to(x.dtype)
