"""Layers that permute, networks that give `log_alpha`, and the permutation that follows from it."""

from softperm.nn.base import Ordering, SinkhornNet
from softperm.nn.conv import SinkhornConvNet
from softperm.nn.layers import DoublyStochastic, GumbelSinkhorn, Sinkhorn
from softperm.nn.learned import LearnedPermutation
from softperm.nn.pretrained import load_pretrained, pretrained_names
from softperm.nn.puzzle import Puzzle, PuzzleSolver
from softperm.nn.sorting import RelativeSortNet, SinkhornSortNet
from softperm.nn.transformer import PieceTransformer

__all__ = [
    "DoublyStochastic",
    "GumbelSinkhorn",
    "LearnedPermutation",
    "Ordering",
    "PieceTransformer",
    "Puzzle",
    "PuzzleSolver",
    "RelativeSortNet",
    "Sinkhorn",
    "SinkhornConvNet",
    "SinkhornNet",
    "SinkhornSortNet",
    "load_pretrained",
    "pretrained_names",
]
