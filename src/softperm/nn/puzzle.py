"""A kind of puzzle, and a network that solves it from the pixels as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from softperm.nn.base import SinkhornNet
from softperm.nn.conv import SinkhornConvNet
from softperm.nn.transformer import PieceTransformer
from softperm.puzzles import split

NetName = Literal["conv", "transformer"]


@dataclass(frozen=True)
class Puzzle:
    """A kind of puzzle and the network for it: all that solving one takes.

    Arguments:
        pieces: Pieces a side.
        channels: Channels of an image.
        height: Height of an image in pixels.
        width: Width of an image in pixels.
        mean: Mean of every channel, of pixel values in [0, 1] to the power `gamma`.
        std: Standard deviation of every channel, likewise.
        hidden_channels: As in `SinkhornConvNet`; so is kernel_size.
        features: As in `PieceTransformer`; so are the rest.
        net: The network: conv (`SinkhornConvNet`) or transformer (`PieceTransformer`).
        gamma: Power to which pixel values in [0, 1] are raised before the network reads them.

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

    @staticmethod
    def from_json(values: dict[str, Any]) -> Puzzle:
        """The puzzle whose fields went through JSON, which makes lists of tuples."""
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return Puzzle(**given)

    def make_net(self) -> SinkhornNet:
        """A new network, initialised from torch's global generator."""
        size = (-(-self.height // self.pieces), -(-self.width // self.pieces))
        shape = (self.channels, self.pieces**2, size)
        sampling: dict[str, Any] = {
            "tau": self.tau,
            "n_iters": self.n_iters,
            "noise_scale": self.noise_scale,
        }
        if self.net == "transformer":
            return PieceTransformer(*shape, self.features, self.layers, self.heads, **sampling)
        return SinkhornConvNet(*shape, self.hidden_channels, self.kernel_size, **sampling)

    def cut(self, images: Tensor) -> Tensor:
        """The pieces of uint8 images, uint8; padding is black."""
        return split(images, self.pieces)

    def normalise(self, pieces: Tensor) -> Tensor:
        """uint8 pieces as the network reads them: float32, mean 0 and variance 1 a channel."""
        shape = (self.channels, 1, 1)
        mean = torch.tensor(self.mean, device=pieces.device).reshape(shape)
        std = torch.tensor(self.std, device=pieces.device).reshape(shape)
        return ((pieces.float() / 255).pow(self.gamma) - mean) / std


class PuzzleSolver(SinkhornNet):
    r"""A puzzle and its network in one: pieces go in, and come out, with the pixels they have.

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
        r"""The logits of every piece, shape (\*, n, n).

        Raises:
            TypeError: `items` is not uint8.
            ValueError: `items` does not have the shape of the puzzle's pieces.
        """
        if items.dtype != torch.uint8:
            raise TypeError(f"pieces must be uint8, values from 0 to 255, got {items.dtype}")
        return self.net.log_alpha(self.puzzle.normalise(items))
