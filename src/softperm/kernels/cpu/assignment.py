"""Linear assignment, compiled: the same two functions as in `softperm.kernels.assignment`."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from softperm.kernels.cpu import library
from softperm.kernels.cpu.structures import Matches, address

# Rows keep lists of their best columns where both sides of a matrix are longer; -1: where that is
# quicker with the vectors of the library.
_LISTS_ABOVE = -1


def _run(matches: Matches, dtype: torch.dtype) -> int:
    """The first matrix that has no assignment, or -1."""
    failed: int = library.function("match", dtype)(ctypes.byref(matches))
    if failed < -1:
        raise MemoryError(f"no memory for the working arrays of {matches.count} assignments")
    return failed


def match_batch(
    scores: Tensor,
    unmatched: Tensor | None = None,
    n_rows: Tensor | None = None,
    n_cols: Tensor | None = None,
) -> tuple[Tensor, int]:
    """The assignments of (batch, m, n) scores, and the first matrix that has none, or -1.

    Scores of NaN or +inf allow none.
    """
    count, m, n = scores.shape
    given = [None if t is None else t.contiguous() for t in (scores, unmatched, n_rows, n_cols)]
    perm = torch.empty(count, m, dtype=torch.int64, device="cpu")
    addresses = (*map(address, given), perm.data_ptr())
    matches = Matches(count, m, n, torch.get_num_threads(), _LISTS_ABOVE, None, *addresses)
    return perm, _run(matches, scores.dtype)


def match_list(
    scores: list[Tensor], unmatched: list[Tensor] | None = None
) -> tuple[list[Tensor], int]:
    """The assignment of every matrix of a list, all of one dtype, and the first that has none, or
    -1.
    """
    if not scores:
        return [], -1
    scores = [matrix.contiguous() for matrix in scores]
    sizes = torch.tensor([matrix.shape for matrix in scores], device="cpu").T.contiguous()
    alone = None if unmatched is None else torch.cat(unmatched)
    starts = (ctypes.c_void_p * len(scores))(*map(Tensor.data_ptr, scores))
    perm = torch.empty(int(sizes[0].sum()), dtype=torch.int64, device="cpu")
    addresses = map(address, (alone, sizes[0], sizes[1], perm))
    numbers = (len(scores), 0, 0, torch.get_num_threads(), _LISTS_ABOVE)
    matches = Matches(*numbers, ctypes.addressof(starts), None, *addresses)
    failed = _run(matches, scores[0].dtype)
    return list(perm.split(sizes[0].tolist())), failed
