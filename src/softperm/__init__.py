"""Differentiable permutations for PyTorch: Sinkhorn, matching, Gumbel-Sinkhorn."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {"data", "distributions", "metrics", "nn", "ops", "permutations", "plotting", "puzzles"}

# What is used is loaded then (PEP 562): the program's help need not wait for PyTorch.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"softperm.{name}")
        if name not in __all__:
            raise AttributeError(f"module 'softperm' has no attribute {name!r}")
        homes = (import_module(f"softperm.{home}") for home in ("ops", "permutations"))
        value = globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
        return value

    def __dir__() -> list[str]:
        return sorted({*__all__, *_MODULES, "__version__"})
