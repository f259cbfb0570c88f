"""The convolutional Sinkhorn network for image pieces."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softperm._checks import require_odd, require_positive_int
from softperm.nn._pieces import piece_shape, require_pieces
from softperm.nn.base import SinkhornNet
from softperm.ops._options import Backend, Grad


class SinkhornConvNet(SinkhornNet):
    r"""The paper's puzzle network: every piece is read by the same small convolutional net.

    .. math:: \log\alpha_i = W \operatorname{flatten}(\operatorname{pool}(
        \operatorname{relu}(\operatorname{conv}(x_i))))

    One convolution with same padding, ReLU, 2 x 2 max-pooling, one linear layer without bias to n
    logits. All pieces of all images go through in one call.

    Arguments:
        in_channels: Channels of a piece.
        n_pieces: Number n of pieces, and of positions.
        piece_size: Height and width of a piece, or one int for both.
        hidden_channels: Channels of the convolution.
        kernel_size: Side of the convolution's kernel, odd.
        tau: Temperature of the Gumbel-Sinkhorn samples in training.
        n_iters: Sinkhorn iterations in training.
        noise_scale: Scale of the Gumbel noise in training.
        tol: As in `sinkhorn`.
        backend: As in `sinkhorn`.
        grad: As in `sinkhorn`.

    Shapes: see `SinkhornNet.forward`; items are pieces, (\*, n, C, h, w), in a floating dtype.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Source: Mena et al., ICLR 2018, Fig. 1 and section 5.2.

    Example:
        >>> net = SinkhornConvNet(1, n_pieces=4, piece_size=14)
        >>> sum(p.numel() for p in net.parameters())
        7104
        >>> ordered, P = net(torch.rand(8, 4, 1, 14, 14))
        >>> ordered.shape, P.shape
        (torch.Size([8, 4, 1, 14, 14]), torch.Size([8, 4, 4]))
        >>> ordered, perm = net.eval()(torch.rand(8, 4, 1, 14, 14))
        >>> perm.shape
        torch.Size([8, 4])
    """

    def __init__(
        self,
        in_channels: int,
        n_pieces: int,
        piece_size: int | tuple[int, int],
        hidden_channels: int = 32,
        kernel_size: int = 5,
        tau: float = 1.0,
        n_iters: int = 20,
        *,
        noise_scale: float = 1.0,
        tol: float | None = None,
        backend: Backend = "auto",
        grad: Grad = "unrolled",
    ) -> None:
        super().__init__(tau, n_iters, noise_scale, tol=tol, backend=backend, grad=grad)
        self.item_shape = piece_shape(in_channels, n_pieces, piece_size)
        hidden_channels = require_positive_int(hidden_channels, "hidden_channels")
        kernel_size = require_positive_int(kernel_size, "kernel_size")
        require_odd(kernel_size, "kernel_size")
        height, width = self.item_shape[2:]
        # A side of a single pixel has nothing to pool.
        pool = (min(2, height), min(2, width))
        # ReLU and maximum commute, so pooling first gives the same on a quarter of the numbers.
        # In this memory format pooling runs along channels. Both make a step a third shorter.
        self.encoder = nn.Sequential(
            nn.Conv2d(self.item_shape[1], hidden_channels, kernel_size, padding=kernel_size // 2),
            nn.MaxPool2d(pool),
            nn.ReLU(),
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.features = (hidden_channels, height // pool[0], width // pool[1])
        self.head = nn.Linear(math.prod(self.features), self.item_shape[0], bias=False)

    def log_alpha(self, items: Tensor) -> Tensor:
        r"""Compute the logits of every piece, shape (\*, n, n).

        Raises:
            ValueError: `items` does not have the shape the network was made for.
        """
        require_pieces(items, self.item_shape)
        n = self.item_shape[0]
        features = self.encoder(items.reshape(-1, *self.item_shape[1:]))
        # Flattening in memory order spares copies of all features; the weights are few.
        weight = self.head.weight.reshape(n, *self.features).permute(0, 2, 3, 1)
        logits = F.linear(features.permute(0, 2, 3, 1).flatten(1), weight.flatten(1))
        return logits.reshape(*items.shape[:-3], n)
