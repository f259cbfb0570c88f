"""The operators on GPUs, compiled by Triton: which kernel does what.

`fused` for matrices that fit in the registers of one program, `tiled` for larger ones.
Nothing is stored between the two passes: the reverse one computes the scalings again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import triton
from torch import Tensor
from triton.backends import backends

from softperm.kernels import reference
from softperm.kernels.gpu import fused, tiled
from softperm.kernels.reference import Problem, Settings

_OLDEST = (7, 0)  # Volta
_AMD = re.compile(r"gfx(908|90a|9[4-9].|1\d{3})(:.*)?")  # CDNA and RDNA


def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on any device (TRITON_INTERPRET=1)."""
    return not isinstance(fused.forward_kernel, triton.JITFunction)


def supports(device: torch.device) -> bool:
    """Whether this Triton compiles for a CUDA or ROCm device."""
    if torch.version.hip is None:
        return "nvidia" in backends and torch.cuda.get_device_capability(device) >= _OLDEST
    name = torch.cuda.get_device_properties(device).gcnArchName
    return "amd" in backends and _AMD.fullmatch(name) is not None


def _contiguous(given: Problem) -> Problem:
    return Problem(*(None if tensor is None else tensor.contiguous() for tensor in given))  # type: ignore[arg-type]


def _without_entries(given: Problem, how: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """As `forward` for matrices without rows or without columns, where the first step is the last
    that changes anything.
    """
    iters = given.tau.new_full(given.x.shape[:-2], 1 if how.tol > 0 else how.n_iters)
    out = torch.empty_like(given.x)
    error = reference.final_row_error(out, given.log_rows)
    return out, iters.to(torch.int64), error.to(given.x.dtype)


def forward(
    given: Problem, how: Settings, keep: bool = False, info: bool = True
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """S (or log S) of every matrix, the iterations done, and the largest row error.

    Nothing is kept for the reverse pass, whatever `keep` says; `info` makes no difference here.
    """
    given = _contiguous(given)
    if not given.x.numel():
        return *_without_entries(given, how), []
    kernels = fused if fused.fits(given.x) else tiled
    with torch.cuda.device_of(given.x):  # where Triton launches
        return *kernels.forward(given, how), []


def backward(
    grad: Tensor,
    given: Problem,
    iters: Tensor,
    how: Settings,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """The exact gradient of the iterations done with respect to `x` and the log sums, from these
    alone.
    """
    given, grad, iters = _contiguous(given), grad.contiguous(), iters.contiguous()
    x = given.x
    if not x.numel():
        zeros = [x.new_zeros(x.shape[:-1]), x.new_zeros(x.shape[:-2] + x.shape[-1:])]
        dtype = reference.working_dtype(x)
        return torch.empty_like(x), zeros[0].to(dtype), zeros[1].to(dtype)
    kernels = fused if fused.fits(x) else tiled
    # With a tolerance there may be far fewer than the most that are allowed.
    steps = int(iters.max()) if how.tol > 0 else how.n_iters
    with torch.cuda.device_of(x):
        gradients: tuple[Tensor, Tensor, Tensor]
        gradients = kernels.backward(grad, given, iters, steps, how)
    return gradients
