"""Linear assignment by SciPy's shortest augmenting paths, one matrix after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def matching(x: Tensor) -> Tensor:
    """The maximising assignment of every matrix, (*, n) int64; a row of -1 where there is none."""
    from scipy.optimize import linear_sum_assignment  # costs a third of a second to import

    n = x.shape[-1]
    flat = x.detach().to("cpu", torch.float64).reshape(x.shape[:-2].numel(), n, n).numpy()
    perm = torch.full((flat.shape[0], n), -1, dtype=torch.int64)
    for b, scores in enumerate(flat):
        try:
            perm[b] = torch.from_numpy(linear_sum_assignment(scores, maximize=True)[1])
        except ValueError:
            continue  # no permutation avoids the forbidden pairs: the caller reports the -1
    return perm.reshape(x.shape[:-1]).to(x.device)
