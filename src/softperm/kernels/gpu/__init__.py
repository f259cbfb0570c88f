"""The operators on GPUs, compiled by Triton: which kernel does what.

`fused` for matrices that fit in the registers of one program, `tiled` for larger ones.
Nothing is stored between the two passes: the reverse one computes the scalings again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from softperm.kernels.gpu import fused, tiled


def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on any device (TRITON_INTERPRET=1)."""
    return not isinstance(fused.forward_kernel, triton.JITFunction)


def forward(
    x: Tensor,
    tau: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    keep: bool = False,
    info: bool = True,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """S (or log S) of every matrix, the iterations done, and the largest row error.

    Nothing is kept for the reverse pass, whatever `keep` says; `info` makes no difference here.
    """
    x, tau = x.contiguous(), tau.contiguous()
    if not x.numel():
        batch = x.shape[:-2]
        iters = tau.new_full(batch, n_iters, dtype=torch.int64)
        return torch.empty_like(x), iters, x.new_zeros(batch), []
    kernels = fused if fused.fits(x) else tiled
    with torch.cuda.device_of(x):  # where Triton launches
        out, iters, error = kernels.forward(x, tau, n_iters, tol, log)
    return out, iters, error, []


def backward(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
    iters: Tensor,
    n_iters: int,
    tol: float,
    log: bool,
    out: Tensor | None = None,
    scalings: Sequence[Tensor] = (),
) -> Tensor:
    """The exact gradient of the iterations done with respect to `x`, from `x` alone."""
    x, grad, tau, iters = (tensor.contiguous() for tensor in (x, grad, tau, iters))
    if not x.numel():
        return torch.empty_like(x)
    kernels = fused if fused.fits(x) else tiled
    with torch.cuda.device_of(x):
        dx: Tensor = kernels.backward(grad, x, tau, iters, n_iters, tol, log)
    return dx
