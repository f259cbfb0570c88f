"""The matching operator M(X): the permutation that maximises the sum of its entries in X."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from softperm._checks import require_float_matrix, require_log_alpha, shape_of
from softperm._torch import can_read_values
from softperm.kernels import assignment

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


def _compute(x: Tensor) -> Tensor:
    """The assignment, found on the CPU wherever the scores are."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    scores = x.to("cpu", dtype)
    require_log_alpha(scores)  # also where it could not be seen before
    flat = scores.reshape(-1, *x.shape[-2:])
    perm, failed = assignment.match_batch(flat)
    if failed >= 0:
        first = tuple(int(k) for k in np.unravel_index(failed, x.shape[:-2]))
        where = f" at batch index {first}" if first else ""
        raise ValueError(
            f"log_alpha must leave at least one permutation possible, got a matrix{where} whose "
            f"-inf entries forbid them all, in shape {shape_of(x)}"
        )
    perm = perm.view(x.shape[:-1])
    return perm.to(x.device)


@torch.library.custom_op("softperm::matching", mutates_args=())
def _matching(x: Tensor) -> Tensor:
    return _compute(x)


@_matching.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.int64)


@_matching.register_vmap
def _(info: object, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
    return _matching(x.movedim(in_dims[0], 0)), 0


def matching(log_alpha: Float[Tensor, "*batch n n"]) -> Int64[Tensor, "*batch n"]:
    r"""The permutation with the largest total score: an exact linear assignment.

    .. math:: M(X) = \operatorname*{argmax}_{P \in \mathcal{P}_n} \langle P, X \rangle_F
        = \lim_{\tau \to 0} S(X / \tau)

    Arguments:
        log_alpha: Scores, any floating dtype, shape (\*, n, n). Any permutation that avoids the
            entries at -inf is preferred to none.

    Returns:
        Indices ``perm[..., i] = j``, int64, shape (\*, n). Not differentiable. Among permutations
        of equal score one is chosen, always the same for the same input. `permutation_matrix`
        makes it a matrix.

    Raises:
        TypeError: `log_alpha` is not a floating-point tensor.
        ValueError: it is not square, holds NaN or +inf, or its -inf entries forbid every
            permutation.

    Source: Mena et al., ICLR 2018, equation (3) and Theorem 1.

    Example:
        >>> matching(torch.tensor([[1.0, 3.0], [2.0, 5.0]]))
        tensor([0, 1])
    """
    require_float_matrix(log_alpha, "log_alpha")
    x = log_alpha.detach()
    # Dispatching an operator costs more than solving 64 small matrices.
    perm: Tensor = _compute(x) if can_read_values(x) else _matching(x)
    return perm
