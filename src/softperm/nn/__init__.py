"""Networks that give `log_alpha`, and the permutation that follows from it."""

from softperm.nn.base import SinkhornNet
from softperm.nn.conv import SinkhornConvNet
from softperm.nn.pretrained import load_pretrained
from softperm.nn.puzzle import Puzzle, PuzzleSolver
from softperm.nn.sorting import RelativeSortNet, SinkhornSortNet
from softperm.nn.transformer import PieceTransformer

__all__ = [
    "PieceTransformer",
    "Puzzle",
    "PuzzleSolver",
    "RelativeSortNet",
    "SinkhornConvNet",
    "SinkhornNet",
    "SinkhornSortNet",
    "load_pretrained",
]
