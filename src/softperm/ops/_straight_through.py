"""Hard matrices with the gradient of soft ones."""

from __future__ import annotations

import torch
from torch import Tensor

from softperm._checks import require_float_matrix, shape_of
from softperm._torch import can_read_values
from softperm._typing import Float
from softperm.ops._matching import matching
from softperm.permutations import permutation_matrix


def replace_by(hard: Tensor, soft: Tensor) -> Tensor:
    """The hard matrices, with the derivatives of the soft ones, whose entries are finite."""
    return hard + (soft - soft.detach())  # exact: what is added is 0


def straight_through(soft: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch m n"]:
    r"""Round to the most likely permutation, with the gradient of the soft one.

    .. math:: \text{forward pass: } M(\log \mathrm{soft}), \qquad
        \text{backward pass: } \partial\,\mathrm{out} / \partial\,\mathrm{soft} = \mathrm{id}

    For soft = S(X / tau) the result is M(X). The logarithm of S differs from X / tau only by
    constants per row and column, and these do not change which permutation is best. That holds
    while no entry that matters underflows: below about tau = 0.03 times the spread of X in float32,
    use `matching`.

    Of m items and n positions, min(m, n) are paired. For m != n the result may differ from M(X),
    because the constants of the longer side decide which of its lines stay without a partner.
    ``gumbel_sinkhorn(..., hard=True)`` gives M(X) exactly, and knows `slack` and ragged batches.
    The lines of slack are no items: leave them out, ``soft[..., :-1, :-1]``.

    Arguments:
        soft: Doubly stochastic matrices, any floating dtype, shape (\*, m, n), entries at least 0.

    Returns:
        Permutation matrices, dtype of `soft`, shape (\*, m, n).

    Raises:
        TypeError: `soft` is not a floating-point tensor.
        ValueError: it has no two dimensions, or holds NaN, infinities or entries below 0.

    Source: Mena et al., ICLR 2018, section 3; the straight-through estimator of Bengio et al.
        (2013), as in `torch.nn.functional.gumbel_softmax` with hard=True.

    Example:
        >>> soft = torch.tensor([[0.7, 0.3], [0.3, 0.7]], requires_grad=True)
        >>> straight_through(soft)[0, 0].backward()
        >>> soft.grad
        tensor([[1., 0.],
                [0., 0.]])
    """
    require_float_matrix(soft, "soft")
    if can_read_values(soft) and not bool(((soft >= 0) & soft.isfinite()).all()):
        raise ValueError(
            f"soft must hold finite entries of at least 0, got others in shape {shape_of(soft)}"
        )
    # M(log S(X)) = M(X): log S differs from X by a constant per row and per column only.
    scores = soft.detach().clamp_min(torch.finfo(soft.dtype).tiny).log()
    hard = permutation_matrix(matching(scores), soft.dtype, soft.shape[-1])
    return replace_by(hard, soft)
