"""What the networks that order the pieces of an image share: shapes, and bad sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from softperm import matching
from softperm.nn import PieceTransformer, SinkhornConvNet, SinkhornNet
from softperm.puzzles import assemble, scramble, split

NETS = pytest.mark.parametrize("net", [PieceTransformer, SinkhornConvNet])
SMALL: dict[Any, dict[str, int]] = {
    PieceTransformer: {"features": 8, "layers": 2, "heads": 2},
    SinkhornConvNet: {"hidden_channels": 4, "kernel_size": 3},
}


@NETS
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_shapes_in_training_and_evaluation(net: Any, batch: tuple[int, ...]) -> None:
    model = net(2, 4, (3, 5), **SMALL[net])
    pieces = torch.rand(*batch, 4, 2, 3, 5)
    ordered, P = model(pieces)
    assert (ordered.shape, P.shape) == (pieces.shape, (*batch, 4, 4))
    torch.testing.assert_close(P.sum(-2), torch.ones(*batch, 4))
    ordered, P = model(pieces, sample_shape=6)
    assert (ordered.shape, P.shape) == ((6, *pieces.shape), (6, *batch, 4, 4))
    ordered, perm = model.eval()(pieces)
    assert ordered.shape == pieces.shape
    assert torch.equal(perm, matching(model.log_alpha(pieces)))


@pytest.mark.parametrize(
    "make",
    [lambda: PieceTransformer(1, 4, 4, 16, 2, 2), lambda: SinkhornConvNet(1, 4, 4, 8, 3, tau=0.5)],
    ids=["transformer", "conv"],
)
def test_learns_to_order_two_by_two(make: Callable[[], SinkhornNet]) -> None:
    torch.manual_seed(0)
    images = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8) + 0.05 * torch.randn(32, 1, 8, 8)
    pieces, net = split(images, 2), make()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        scrambled, _ = scramble(pieces)
        loss = (net(scrambled)[0] - pieces).square().sum((1, 2, 3, 4)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scrambled, perm = scramble(pieces)
    ordered, found = net.eval()(scrambled)
    assert float((found == perm).float().mean()) > 0.95
    assert assemble(ordered, 2).shape == images.shape


@NETS
@pytest.mark.parametrize("shape", [(4, 1, 6, 7), (2, 3, 1, 6, 6), (2, 4, 3, 6, 6), (6, 6)])
def test_pieces_of_another_shape(net: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pieces must have shape \(\*, 4, 1, 6, 6\), got \("):
        net(1, 4, 6)(torch.rand(shape))


@NETS
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, "in_channels must be at least 1, got 0"),
        ({"n_pieces": 0}, ValueError, "n_pieces must be at least 1, got 0"),
        ({"n_pieces": 4.0}, TypeError, "n_pieces must be an int, got float"),
        ({"piece_size": 0}, ValueError, "piece_size must be at least 1, got 0"),
        ({"piece_size": (3, 0)}, ValueError, "piece_size must be at least 1, got 0"),
        ({"piece_size": 14.0}, TypeError, "piece_size must be an int or a pair of ints, got 14.0"),
        ({"piece_size": (1, 2, 3)}, TypeError, "piece_size must be an int or a pair of ints"),
        ({"tau": -1.0}, ValueError, "tau must be positive"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite"),
    ],
)
def test_errors(net: Any, changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        net(**({"in_channels": 1, "n_pieces": 4, "piece_size": 14} | changes))
