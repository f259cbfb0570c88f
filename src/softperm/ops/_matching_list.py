"""The matching operator on lists of matrices of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softperm._checks import require_float_matrix, shape_of
from softperm._teach import teaching
from softperm._torch import can_read_values
from softperm.kernels import dispatch
from softperm.kernels.reference import matrix_dtype
from softperm.ops._matching import (
    in_range,
    refuse_infeasible,
    require_below_infinity,
)
from softperm.ops._sizes import require_broadcast, require_finite, require_number_or_tensor


def _compute_list(scores: Sequence[Tensor], unmatched: Sequence[Tensor]) -> Tensor:
    """The assignments of all matrices, one after the other in one tensor, on the CPU.

    `unmatched` has one tensor per matrix, or none at all.
    """
    perms, failed = dispatch.assignment_kernel().match_list(list(scores), list(unmatched) or None)
    if failed >= 0:
        m, n = scores[failed].shape
        require_below_infinity(scores[failed], f"log_alphas[{failed}]", (m, n))
        refuse_infeasible(f" at index {failed} of the list", (m, n), m == n)
    return torch.cat([*perms, torch.empty(0, dtype=torch.int64, device="cpu")])


def _to_cpu(parts: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """All parts on the CPU, in one copy."""
    if parts[0].is_cpu:
        return [part.to(dtype) for part in parts]
    flat = torch.cat([part.reshape(-1).to(dtype) for part in parts]).cpu()
    split = flat.split([part.numel() for part in parts])
    return [part.reshape(given.shape) for part, given in zip(split, parts, strict=True)]


@torch.library.custom_op("softperm::matching_list", mutates_args=())
def _matching_list(scores: Sequence[Tensor], unmatched: Sequence[Tensor]) -> Tensor:
    dtype, count = matrix_dtype(scores[0].dtype), len(scores)
    parts = _to_cpu([*scores, *unmatched], dtype)
    return _compute_list(parts[:count], parts[count:]).to(scores[0].device)


@_matching_list.register_fake
def _(scores: Sequence[Tensor], unmatched: Sequence[Tensor]) -> Tensor:
    return scores[0].new_empty(sum(matrix.shape[0] for matrix in scores), dtype=torch.int64)


def _check_list(log_alphas: Any) -> list[Tensor]:
    """The matrices, in one dtype; refuse everything else."""
    if not isinstance(log_alphas, list | tuple):
        raise TypeError(f"log_alphas must be a list of tensors, got {type(log_alphas).__name__}")
    for k, matrix in enumerate(log_alphas):
        require_float_matrix(matrix, f"log_alphas[{k}]")
        if matrix.dim() != 2:
            raise ValueError(f"log_alphas[{k}] must have shape (m, n), got {shape_of(matrix)}")
        if matrix.device != log_alphas[0].device:
            raise ValueError(
                f"log_alphas must be on one device, got {log_alphas[0].device} and {matrix.device}"
            )
    double = any(matrix.dtype == torch.float64 for matrix in log_alphas)
    dtype = torch.float64 if double else torch.float32
    return [matrix.detach().to(dtype) for matrix in log_alphas]


def _check_unmatched(unmatched: Any, scores: list[Tensor]) -> list[Tensor]:
    """The scores of staying alone, one tensor per matrix."""
    if not isinstance(unmatched, list | tuple):
        unmatched = [unmatched] * len(scores)
    if len(unmatched) != len(scores):
        raise ValueError(
            f"unmatched must be a float or a list of {len(scores)}, as log_alphas, got "
            f"{len(unmatched)}"
        )
    found = []
    for k, (given, matrix) in enumerate(zip(unmatched, scores, strict=True)):
        name, m = f"unmatched[{k}]", matrix.shape[0]
        require_number_or_tensor(given, name)
        require_broadcast(given, name, (m,), "rows")
        require_finite(given, name)
        found.append(in_range(given, matrix.dtype, matrix.device).expand(m))
    return found


@teaching
def matching_list(
    log_alphas: Sequence[Tensor],
    *,
    unmatched: float | Sequence[float | Tensor] | None = None,
) -> list[Tensor]:
    r"""Match matrices of different sizes in one call: `matching` for a list.

    Nothing is padded, and on the CPU nothing is copied. From a GPU all scores are copied to the CPU
    once, and the indices back once.

    Arguments:
        log_alphas: Scores, a list of floating tensors of shapes (m_i, n_i), on one device.
        unmatched: Score of an item without a position: a float, or a list with a float or a tensor
            that broadcasts against (m_i,) per matrix. None: as many pairs as possible.

    Returns:
        Indices, a list of int64 tensors of shapes (m_i,); -1 for an item without a position.

    Raises:
        TypeError, ValueError: as `matching`, naming the index in the list.

    Example:
        >>> matching_list([torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[1.0], [4.0]])])
        [tensor([1]), tensor([-1,  0])]
    """
    scores = _check_list(log_alphas)
    alone = [] if unmatched is None else _check_unmatched(unmatched, scores)
    if not scores:
        return []
    plain = can_read_values(*scores, *alone)
    flat: Tensor = _compute_list(scores, alone) if plain else _matching_list(scores, alone)
    return list(flat.split([matrix.shape[0] for matrix in scores]))
