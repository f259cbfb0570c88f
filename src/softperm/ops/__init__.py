"""The operators: Sinkhorn, matching, Gumbel noise and their two distributions, soft sorting."""

from softperm.ops._gumbel import (
    gumbel_matching,
    gumbel_sinkhorn,
    sample_gumbel,
)
from softperm.ops._info import SinkhornInfo
from softperm.ops._matching import matching
from softperm.ops._matching_list import matching_list
from softperm.ops._sinkhorn import log_sinkhorn, sinkhorn
from softperm.ops._soft_sort import soft_rank, soft_sort
from softperm.ops._straight_through import straight_through

__all__ = [
    "SinkhornInfo",
    "gumbel_matching",
    "gumbel_sinkhorn",
    "log_sinkhorn",
    "matching",
    "matching_list",
    "sample_gumbel",
    "sinkhorn",
    "soft_rank",
    "soft_sort",
    "straight_through",
]
