"""What all benchmarks of Sinkhorn share: the loop that they compare with, sizes and iterations."""

from __future__ import annotations

import torch
from torch import Tensor

SIZES = ((64, 4), (1024, 10), (64, 16), (64, 36), (64, 100), (16, 256), (2, 1000), (1, 4096))
N_ITERS = 20
THREADS = 2


def plain_loop(x: Tensor, tau: float) -> Tensor:
    """The loop that everybody writes first."""
    log_p = x / tau
    for _ in range(N_ITERS):
        log_p = log_p - torch.logsumexp(log_p, dim=-1, keepdim=True)
        log_p = log_p - torch.logsumexp(log_p, dim=-2, keepdim=True)
    return log_p.exp()
