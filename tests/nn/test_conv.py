"""The convolutional network, against a plain evaluation piece by piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softperm.nn import SinkhornConvNet


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def convolution(net: SinkhornConvNet) -> nn.Conv2d:
    (conv,) = (m for m in net.modules() if isinstance(m, nn.Conv2d))
    return conv


def linear(net: SinkhornConvNet) -> nn.Linear:
    (layer,) = (m for m in net.modules() if isinstance(m, nn.Linear))
    return layer


def piece_by_piece(net: SinkhornConvNet, pieces: Tensor) -> Tensor:
    """log_alpha of a single image (n, C, h, w): conv, ReLU, pool, flatten, W for each piece."""
    conv, rows = convolution(net), []
    for piece in pieces:
        maps = F.relu(F.conv2d(piece, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2))
        window = [min(2, side) for side in piece.shape[-2:]]
        rows.append(linear(net).weight @ F.max_pool2d(maps, window).flatten())
    return torch.stack(rows)


def test_parameters_of_the_tutorial() -> None:
    net = SinkhornConvNet(1, 4, 14)
    # 32 kernels of 5 x 5 with a bias, and 32 x 7 x 7 features to 4 logits without one.
    assert count(net) == 32 * (25 + 1) + 32 * 49 * 4 == 7104
    assert linear(net).bias is None


def test_defaults_of_the_tutorial() -> None:
    net = SinkhornConvNet(1, 4, 14)
    assert convolution(net).kernel_size == (5, 5)
    assert convolution(net).out_channels == 32
    assert (net.tau, net.n_iters, net.noise_scale) == (1.0, 20, 1.0)


@pytest.mark.parametrize(
    ("channels", "n", "size", "kernel"),
    [
        (1, 4, 14, 5),
        (3, 9, 10, 3),
        (1, 9, (7, 5), 5),
        (2, 4, 3, 1),
        (1, 16, 7, 9),
        (1, 4, 1, 5),
        (3, 6, (1, 4), 3),
        (1, 1, (5, 1), 3),
    ],
)
def test_equals_piece_by_piece(channels: int, n: int, size: Any, kernel: int) -> None:
    torch.manual_seed(0)
    net = SinkhornConvNet(channels, n, size, hidden_channels=6, kernel_size=kernel)
    height, width = (size, size) if isinstance(size, int) else size
    pieces = torch.randn(5, n, channels, height, width)
    log_alpha = net.log_alpha(pieces)
    assert log_alpha.shape == (5, n, n)
    for image, found in zip(pieces, log_alpha, strict=True):
        torch.testing.assert_close(found, piece_by_piece(net, image), atol=1e-5, rtol=1e-5)


def test_one_convolution_for_the_whole_batch() -> None:
    net, calls = SinkhornConvNet(1, 4, 6), list[torch.Size]()
    convolution(net).register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape))
    net(torch.rand(8, 4, 1, 6, 6))
    assert calls == [(32, 1, 6, 6)]


def test_permuting_the_pieces_permutes_the_rows() -> None:
    net = SinkhornConvNet(1, 9, 4)
    pieces = torch.rand(3, 9, 1, 4, 4)
    order = torch.randperm(9)
    torch.testing.assert_close(net.log_alpha(pieces[:, order]), net.log_alpha(pieces)[:, order])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hidden_channels": -1}, ValueError, "hidden_channels must be at least 1, got -1"),
        ({"kernel_size": 4}, ValueError, "kernel_size must be odd, got 4"),
        ({"kernel_size": "5"}, TypeError, "kernel_size must be an int, got str"),
    ],
)
def test_errors(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SinkhornConvNet(**({"in_channels": 1, "n_pieces": 4, "piece_size": 14} | changes))
