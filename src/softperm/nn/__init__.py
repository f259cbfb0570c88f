"""Networks that give `log_alpha`, and the permutation that follows from it."""

from softperm.nn.base import SinkhornNet
from softperm.nn.conv import SinkhornConvNet
from softperm.nn.sets import PieceTransformer
from softperm.nn.sorting import RelativeSortNet, SinkhornSortNet

__all__ = [
    "PieceTransformer",
    "RelativeSortNet",
    "SinkhornConvNet",
    "SinkhornNet",
    "SinkhornSortNet",
]
