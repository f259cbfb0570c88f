"""The network that sees all pieces, against a plain evaluation head by head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from softperm.nn import PieceTransformer
from softperm.puzzles import scramble


def net64(*args: Any, **settings: Any) -> PieceTransformer:
    """A network in float64 whose weights are all large enough to matter, biases too."""
    torch.manual_seed(0)
    net = PieceTransformer(*args, **settings).double()
    for weights in net.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return net


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Every row brought to mean 0 and variance 1, then scaled and moved."""
    rows = [(row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt() for row in x]
    return torch.stack(rows) * weight + bias


def attention(x: Tensor, w: dict[str, Tensor], heads: int) -> Tensor:
    """Self-attention of one image, head by head."""
    query, key, value = (x @ w["inputs.weight"].T + w["inputs.bias"]).chunk(3, 1)
    width = x.shape[1] // heads
    parts = []
    for head in range(heads):
        q, k, v = (m[:, head * width : (head + 1) * width] for m in (query, key, value))
        weights = (q @ k.T / math.sqrt(width)).exp()
        parts.append(weights / weights.sum(1, keepdim=True) @ v)
    return torch.cat(parts, 1) @ w["output.weight"].T + w["output.bias"]


def image_by_image(net: PieceTransformer, pieces: Tensor, heads: int) -> Tensor:
    """log_alpha of a single image (n, C, h, w)."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in net.state_dict().items() if k.startswith(prefix)}

    def linear(x: Tensor, name: str) -> Tensor:
        w = below(name)
        return x @ w[".weight"].T + w[".bias"]

    x = linear(linear(pieces.flatten(1), "encoder.0").clamp(0), "encoder.2")
    for i in range(len(net.blocks)):
        name = f"blocks.{i}"
        x = x + attention(norm(x, **below(f"{name}.attend.0.")), below(f"{name}.attend.1."), heads)
        hidden = linear(norm(x, **below(f"{name}.mlp.0.")), f"{name}.mlp.1")
        x = x + linear(hidden.clamp(0), f"{name}.mlp.3")
    return linear(norm(x, **below("head.0.")), "head.1")


@pytest.mark.parametrize(
    ("channels", "n", "size", "features", "layers", "heads"),
    [(1, 9, 4, 8, 2, 2), (3, 6, (2, 5), 12, 1, 3), (2, 4, (1, 1), 4, 3, 4), (1, 1, 3, 6, 2, 1)],
)
def test_equals_a_plain_evaluation(
    channels: int, n: int, size: Any, features: int, layers: int, heads: int
) -> None:
    net = net64(channels, n, size, features, layers, heads)
    height, width = (size, size) if isinstance(size, int) else size
    pieces = torch.randn(5, n, channels, height, width, dtype=torch.float64)
    log_alpha = net.log_alpha(pieces)
    assert log_alpha.shape == (5, n, n)
    for image, found in zip(pieces, log_alpha, strict=True):
        torch.testing.assert_close(found, image_by_image(net, image, heads))


@given(
    order=st.permutations(range(6)),
    shape=st.sampled_from([(1, 3, 3), (3, 2, 4), (2, 1, 5)]),
    layers=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_permuting_the_pieces_permutes_the_rows(
    order: list[int], shape: tuple[int, int, int], layers: int, seed: int
) -> None:
    net = net64(shape[0], 6, shape[1:], 8, layers, 2)
    generator = torch.Generator().manual_seed(seed)
    pieces = torch.randn(2, 6, *shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(net.log_alpha(pieces[:, order]), net.log_alpha(pieces)[:, order])


def test_a_piece_is_scored_by_the_others_too() -> None:
    net = net64(1, 4, 3, 8, 1, 2)
    pieces = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64)
    pieces[1, :3] = pieces[0, :3]  # the images differ in their last piece alone
    one, other = net.log_alpha(pieces).detach()
    assert float((one - other)[:3].abs().amax(1).amin()) > 1e-3


def test_identical_pieces_have_identical_scores() -> None:
    net = net64(1, 4, 3, 8, 2, 2)
    pieces = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    pieces[2] = pieces[0]
    scores = net.log_alpha(pieces)
    torch.testing.assert_close(scores[2], scores[0])


def test_defaults() -> None:
    net = PieceTransformer(1, 9, 10)
    assert (net.tau, net.n_iters, net.noise_scale) == (1.0, 20, 1.0)
    # Encoder 100 -> 128 -> 128; three blocks of attention (four square matrices) and a net (two
    # matrices of twice that); all with biases and normalisations; 9 logits.
    block = 4 * 128 * 128 + 4 * 128 + 2 * 128 * 256 + 256 + 128 + 4 * 128
    encoder = 101 * 128 + 129 * 128
    assert sum(p.numel() for p in net.parameters()) == encoder + 3 * block + 256 + 129 * 9


def test_weights_of_the_old_names_load_and_give_the_same() -> None:
    net = net64(1, 4, 3, 8, 2, 2)
    old = {name.replace(".mlp.", ".think."): w for name, w in net.state_dict().items()}
    assert sum(".think." in name for name in old) == 2 * 6
    other = PieceTransformer(1, 4, 3, 8, 2, 2).double()
    other.load_state_dict(old)
    pieces = torch.randn(5, 4, 1, 3, 3, dtype=torch.float64)
    assert torch.equal(net.log_alpha(pieces), other.log_alpha(pieces))
    assert any(".think." in name for name in old)  # the caller's dictionary is left as it is


def test_gradients_reach_the_weights() -> None:
    torch.manual_seed(0)
    net = PieceTransformer(1, 4, 4, 8, 2, 2)
    pieces = torch.randn(16, 4, 1, 4, 4)
    (net(pieces)[0] - pieces).square().sum().backward()
    for name, weights in net.named_parameters():
        assert weights.grad is not None, name
        assert float(weights.grad.abs().max()) > 0, name


def test_learns_what_no_piece_tells_alone() -> None:
    """Two grey pieces, darker first, of any brightness: only the other tells where one belongs."""
    torch.manual_seed(0)
    net = PieceTransformer(1, 2, 1, 16, 1, 2)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)

    def draw(n: int) -> Tensor:
        dark = 10 * torch.rand(n, 1) - 5
        return torch.cat([dark, dark + 1], 1).reshape(n, 2, 1, 1, 1)

    for _ in range(200):
        pieces = draw(64)
        loss = F.mse_loss(net(scramble(pieces)[0])[0], pieces)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scrambled, perm = scramble(draw(500))
    assert float((net.eval()(scrambled)[1] == perm).float().mean()) > 0.95


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": 0}, ValueError, "features must be at least 1, got 0"),
        ({"layers": 0}, ValueError, "layers must be at least 1, got 0"),
        ({"heads": "4"}, TypeError, "heads must be an int, got str"),
        ({"heads": 5}, ValueError, "features must be a multiple of heads, 5, got 128"),
    ],
)
def test_errors(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PieceTransformer(**({"in_channels": 1, "n_pieces": 4, "piece_size": 14} | changes))
