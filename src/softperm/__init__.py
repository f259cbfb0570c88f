"""Differentiable permutations for PyTorch: Sinkhorn, matching, Gumbel-Sinkhorn."""

from softperm import _kl as _kl  # registers the divergence with torch.distributions
from softperm import distributions, metrics, nn, puzzles
from softperm.ops import (
    SinkhornInfo,
    gumbel_matching,
    gumbel_sinkhorn,
    log_sinkhorn,
    matching,
    matching_list,
    sample_gumbel,
    sinkhorn,
    soft_rank,
    soft_sort,
    straight_through,
)
from softperm.permutations import (
    apply_permutation,
    compose_permutations,
    invert_permutation,
    permutation_from_order,
    permutation_indices,
    permutation_matrix,
    random_permutation,
)

__version__ = "0.1.0"

__all__ = [
    "SinkhornInfo",
    "apply_permutation",
    "compose_permutations",
    "distributions",
    "gumbel_matching",
    "gumbel_sinkhorn",
    "invert_permutation",
    "log_sinkhorn",
    "matching",
    "matching_list",
    "metrics",
    "nn",
    "permutation_from_order",
    "permutation_indices",
    "permutation_matrix",
    "puzzles",
    "random_permutation",
    "sample_gumbel",
    "sinkhorn",
    "soft_rank",
    "soft_sort",
    "straight_through",
]
