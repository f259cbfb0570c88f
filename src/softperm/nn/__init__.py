"""Networks that give `log_alpha`, and the permutation that follows from it."""

from softperm.nn.base import SinkhornNet
from softperm.nn.conv import SinkhornConvNet
from softperm.nn.sorting import RelativeSortNet, SinkhornSortNet

__all__ = ["RelativeSortNet", "SinkhornConvNet", "SinkhornNet", "SinkhornSortNet"]
