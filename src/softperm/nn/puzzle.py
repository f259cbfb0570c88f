"""A kind of puzzle, and a network that solves it from the pixels as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from softperm._checks import (
    require_noise_scale,
    require_odd,
    require_positive_float,
    require_positive_int,
    require_tensor,
    shape_of,
)
from softperm._resize import resize, stretch
from softperm.nn.base import SinkhornNet
from softperm.nn.conv import SinkhornConvNet
from softperm.nn.transformer import PieceTransformer
from softperm.puzzles import split

NetName = Literal["conv", "transformer"]

_COUNTS = (
    "pieces",
    "channels",
    "height",
    "width",
    "hidden_channels",
    "kernel_size",
    "n_iters",
    "features",
    "layers",
    "heads",
)


@dataclass(frozen=True)
class Puzzle:
    """A kind of puzzle and the network for it: all that solving one takes.

    Arguments:
        pieces: Pieces per side.
        channels: Channels of an image.
        height: Height of an image in pixels.
        width: Width of an image in pixels.
        mean: Mean of every channel, of pixel values in [0, 1] to the power `gamma`.
        std: Standard deviation of every channel, likewise.
        hidden_channels: As in `SinkhornConvNet`; so is kernel_size.
        features: As in `PieceTransformer`; so are the rest.
        net: The network: conv (`SinkhornConvNet`) or transformer (`PieceTransformer`).
        gamma: Power to which pixel values in [0, 1] are raised before the network reads them.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or two of them do
            not fit each other.

    Example:
        >>> puzzle = Puzzle(2, 1, 28, 28, (0.1307,), (0.3081,))
        >>> pieces = puzzle.cut(torch.zeros(5, 1, 28, 28, dtype=torch.uint8))
        >>> puzzle.make_net().eval()(puzzle.normalise(pieces))[1].shape
        torch.Size([5, 4])
    """

    pieces: int
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hidden_channels: int = 32
    kernel_size: int = 5
    tau: float = 0.1
    n_iters: int = 20
    noise_scale: float = 1.0
    net: NetName = "conv"
    features: int = 128
    layers: int = 3
    heads: int = 4
    gamma: float = 1.0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            require_positive_int(getattr(self, name), name)
        if self.pieces > min(self.height, self.width):
            raise ValueError(
                f"pieces must be at most the pixels per side, {min(self.height, self.width)}, "
                f"got {self.pieces}"
            )
        if self.net not in get_args(NetName):
            raise ValueError(f"net must be {' or '.join(get_args(NetName))}, got {self.net!r}")
        require_odd(self.kernel_size, "kernel_size")
        widest = 2 * max(self.piece_size) + 1
        if self.net == "conv" and self.kernel_size > widest:
            raise ValueError(
                f"kernel_size must be at most {widest} for pieces of {self.piece_size[0]} x "
                f"{self.piece_size[1]} pixels, got {self.kernel_size}"
            )
        for values, name in ((self.mean, "mean"), (self.std, "std")):
            self._require_statistics(values, name)
        require_positive_float(self.tau, "tau")
        require_positive_float(self.gamma, "gamma")
        require_noise_scale(self.noise_scale)

    def _require_statistics(self, values: object, name: str) -> None:
        """Refuse everything but a finite number per channel; a deviation is above 0."""
        if not isinstance(values, tuple | list) or not all(
            isinstance(value, int | float) and math.isfinite(value) for value in values
        ):
            raise TypeError(f"{name} must be a tuple of finite floats, got {values!r}")
        if len(values) != self.channels or (name == "std" and min(values) <= 0):
            raise ValueError(
                f"{name} must hold a number for each of {self.channels} channels"
                f"{', above 0' if name == 'std' else ''}, got {values}"
            )

    @property
    def piece_size(self) -> tuple[int, int]:
        """Height and width of a piece in pixels."""
        return -(-self.height // self.pieces), -(-self.width // self.pieces)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Puzzle:
        """Make the puzzle whose fields went through JSON, which turns tuples into lists."""
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return Puzzle(**given)

    def make_net(self) -> SinkhornNet:
        """Make a new network, initialised from torch's global generator."""
        shape = (self.channels, self.pieces**2, self.piece_size)
        sampling: dict[str, Any] = {
            "tau": self.tau,
            "n_iters": self.n_iters,
            "noise_scale": self.noise_scale,
        }
        if self.net == "transformer":
            return PieceTransformer(*shape, self.features, self.layers, self.heads, **sampling)
        return SinkhornConvNet(*shape, self.hidden_channels, self.kernel_size, **sampling)

    def cut(self, images: Tensor) -> Tensor:
        r"""Cut images into the pieces that the network reads.

        A side that `pieces` does not divide is stretched to the next multiple. Every piece is then
        resized by itself to `piece_size`, where the images have another size than the puzzle's.

        Arguments:
            images: uint8, shape (\*, C, H, W), with at least `pieces` pixels per side.

        Returns:
            The pieces in row-major order, uint8, shape (\*, pieces * pieces, C, h, w).

        Raises:
            TypeError: `images` is no tensor of uint8.
            ValueError: `images` has another shape, or fewer pixels per side than pieces.
        """
        require_tensor(images, "images")
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, values from 0 to 255, got {images.dtype}")
        if images.dim() < 3 or images.shape[-3] != self.channels:
            raise ValueError(
                f"images must have shape (*, {self.channels}, H, W), got {shape_of(images)}"
            )
        *batch, channels, height, width = images.shape
        flat = images.reshape(-1, channels, height, width)
        pieces = split(stretch(flat, self.pieces), self.pieces)
        sized = resize(pieces.flatten(0, 1), self.piece_size)
        return sized.reshape(*batch, self.pieces**2, channels, *self.piece_size)

    def normalise(self, pieces: Tensor) -> Tensor:
        """Turn uint8 pieces into what the network reads: float32, standardised per channel."""
        shape = (self.channels, 1, 1)
        mean = torch.tensor(self.mean, device=pieces.device).reshape(shape)
        std = torch.tensor(self.std, device=pieces.device).reshape(shape)
        return ((pieces.float() / 255).pow(self.gamma) - mean) / std


class PuzzleSolver(SinkhornNet):
    r"""Solve puzzles of raw pixels: a kind of puzzle and its network in one.

    Pieces go in and come out as uint8.

    .. math:: \log\alpha = g((x / 255)^\gamma \text{, normalised})

    with the network g of `Puzzle.make_net`. To train g further, call it on
    ``puzzle.normalise(pieces)``, so that the error is measured on what it reads.

    Arguments:
        puzzle: The kind of puzzle.

    Attributes:
        puzzle: The same; ``puzzle.cut(images)`` gives the pieces.
        net: The network g, initialised from torch's global generator.

    Shapes: see `SinkhornNet.forward`; items are pieces, uint8, (\*, n, C, h, w).

    Example:
        >>> solver = PuzzleSolver(Puzzle(2, 1, 28, 28, (0.1307,), (0.3081,))).eval()
        >>> pieces = solver.puzzle.cut(torch.zeros(5, 1, 28, 28, dtype=torch.uint8))
        >>> ordered, perm = solver(pieces)
        >>> ordered.dtype, perm.shape
        (torch.uint8, torch.Size([5, 4]))
    """

    def __init__(self, puzzle: Puzzle) -> None:
        super().__init__(puzzle.tau, puzzle.n_iters, puzzle.noise_scale)
        self.puzzle = puzzle
        self.net = puzzle.make_net()

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""Compute the logits of every piece, shape (\*, n, n).

        Raises:
            TypeError: `items` is not uint8.
            ValueError: `items` does not have the shape of the puzzle's pieces.
        """
        if items.dtype != torch.uint8:
            raise TypeError(f"pieces must be uint8, values from 0 to 255, got {items.dtype}")
        return self.net.log_alpha(self.puzzle.normalise(items))
