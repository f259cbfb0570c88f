"""The shape of the pieces of an image, checked where a network is made and where it is called."""

from __future__ import annotations

from numbers import Integral

from torch import Tensor

from softperm._checks import require_positive_int, shape_of

PieceShape = tuple[int, int, int, int]


def piece_shape(in_channels: int, n_pieces: int, piece_size: int | tuple[int, int]) -> PieceShape:
    """(n, C, h, w), from arguments that a user gave."""
    sides = (piece_size, piece_size) if isinstance(piece_size, Integral) else piece_size
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise TypeError(f"piece_size must be an int or a pair of ints, got {piece_size!r}")
    in_channels = require_positive_int(in_channels, "in_channels")
    n_pieces = require_positive_int(n_pieces, "n_pieces")
    height, width = (require_positive_int(side, "piece_size") for side in sides)
    return n_pieces, in_channels, height, width


def require_pieces(items: Tensor, shape: PieceShape) -> None:
    """Refuse pieces of another shape than the network was made for."""
    if items.shape[-4:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"pieces must have shape (*, {wanted}), got {shape_of(items)}")
