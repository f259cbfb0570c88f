"""The sorting networks, against a plain evaluation number by number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from softperm import matching
from softperm.nn import RelativeSortNet, SinkhornSortNet


def test_parameters() -> None:
    net = SinkhornSortNet(5)
    # One number to 32 units, and those to 5 logits, both with a bias.
    assert sum(p.numel() for p in net.parameters()) == 32 * 2 + 5 * 33
    assert (net.tau, net.n_iters, net.noise_scale) == (1.0, 10, 1.0)


def test_equals_number_by_number() -> None:
    net = SinkhornSortNet(6, 7)
    first, second = (m for m in net.modules() if isinstance(m, nn.Linear))
    numbers = torch.randn(3, 6)
    for row, log_alpha in zip(numbers, net.log_alpha(numbers), strict=True):
        for x, found in zip(row, log_alpha, strict=True):
            hidden = (first.weight[:, 0] * x + first.bias).clamp_min(0)
            torch.testing.assert_close(found, second.weight @ hidden + second.bias)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_shapes_in_training_and_evaluation(batch: tuple[int, ...]) -> None:
    net = SinkhornSortNet(5)
    numbers = torch.rand(*batch, 5)
    ordered, P = net(numbers)
    assert (ordered.shape, P.shape) == (numbers.shape, (*batch, 5, 5))
    ordered, P = net(numbers, sample_shape=(2,))
    assert (ordered.shape, P.shape) == ((2, *batch, 5), (2, *batch, 5, 5))
    ordered, perm = net.eval()(numbers)
    assert torch.equal(perm, matching(net.log_alpha(numbers)))
    assert torch.equal(ordered.sort().values, numbers.sort().values)


def test_permuting_the_numbers_permutes_the_rows() -> None:
    net, order = SinkhornSortNet(7), torch.randperm(7)
    numbers = torch.rand(3, 7)
    torch.testing.assert_close(net.log_alpha(numbers[:, order]), net.log_alpha(numbers)[:, order])


def test_learns_to_sort() -> None:
    torch.manual_seed(0)
    net = SinkhornSortNet(3)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        numbers = torch.rand(32, 3)
        loss = (net(numbers, sample_shape=2)[0] - numbers.sort().values).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    numbers = torch.rand(200, 3)
    right = net.eval()(numbers)[0] == numbers.sort().values
    assert float(right.all(-1).float().mean()) > 0.85


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_items": 0}, ValueError, "n_items must be at least 1, got 0"),
        ({"n_items": 2.0}, TypeError, "n_items must be an int, got float"),
        ({"hidden_features": 0}, ValueError, "hidden_features must be at least 1, got 0"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
    ],
)
def test_errors(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SinkhornSortNet(**({"n_items": 3} | changes))


@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_lists_of_another_length(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"items must have shape \(\*, 3\), got \("):
        SinkhornSortNet(3)(torch.rand(shape))


def curve_of(net: nn.Sequential, z: float) -> float:
    """One of the small nets, in float64 loops."""
    first, second = (m for m in net if isinstance(m, nn.Linear))
    columns = (first.weight[:, 0], first.bias, second.weight[0])
    units = zip(*(column.tolist() for column in columns), strict=True)
    return float(sum(out * np.tanh(w * z + b) for w, b, out in units) + second.bias.item())


def test_relative_equals_the_formula() -> None:
    net = RelativeSortNet(4).double()
    nn.init.constant_(net.log_scale, 0.5)
    x = np.array([3.0, -1.0, 0.5])
    z, t = (x - x.mean()) / x.std(), np.array([-1.0, 0.0, 1.0]) * 1.5**0.5
    a = [curve_of(net.number_curve, v) for v in z]
    b = [curve_of(net.position_curve, v) for v in t]
    expected = [[-np.exp(0.5) * (p - q) ** 2 for q in b] for p in a]
    found = net.log_alpha(torch.tensor(x))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_relative_shapes_in_training_and_evaluation(batch: tuple[int, ...], n: int) -> None:
    net = RelativeSortNet()
    numbers = torch.rand(*batch, n)
    ordered, P = net(numbers, sample_shape=(2,))
    assert (ordered.shape, P.shape) == ((2, *batch, n), (2, *batch, n, n))
    ordered, perm = net.eval()(numbers)
    assert torch.equal(perm, matching(net.log_alpha(numbers)))
    assert torch.equal(ordered.sort().values, numbers.sort().values)


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_relative_permuting_the_numbers_permutes_the_rows(n: int, seed: int) -> None:
    torch.manual_seed(seed)
    net, order = RelativeSortNet(8).double(), torch.randperm(n)
    numbers = torch.randn(2, n, dtype=torch.float64)
    torch.testing.assert_close(
        net.log_alpha(numbers[:, order]), net.log_alpha(numbers)[:, order], rtol=1e-9, atol=1e-9
    )


@given(
    st.integers(1, 12),
    st.floats(-1e4, 1e4),
    st.floats(1e-3, 1e3),
    st.integers(0, 2**32),
)
def test_relative_ignores_shift_and_scale(n: int, shift: float, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    net = RelativeSortNet(8).double()
    x = torch.rand(2, n, dtype=torch.float64)
    # Rounding of the shifted numbers themselves, as a share of their spread.
    spread = float(x.std(-1, correction=0).min()) if n > 1 else 1.0
    lost = 1e-15 * (1 + abs(shift) / scale) / spread
    torch.testing.assert_close(
        net.log_alpha(scale * x + shift), net.log_alpha(x), rtol=0, atol=1e-9 + 100 * lost
    )


def test_relative_keeps_the_digits_of_float32() -> None:
    """A float32 list on (1000, 1001) is read as exactly as its own numbers allow."""
    net = RelativeSortNet()
    x = (torch.rand(50) + 1000).double()
    exact = RelativeSortNet().double()
    exact.load_state_dict(net.state_dict())
    assert torch.equal(x.float().double(), x)
    found = net.log_alpha(x.float()).double()
    torch.testing.assert_close(found, exact.log_alpha(x), rtol=0, atol=1e-5)


def test_relative_takes_equal_numbers() -> None:
    net = RelativeSortNet()
    numbers = torch.full((2, 4), 7.0)
    ordered, _ = net(numbers)
    assert ordered.isfinite().all()
    ordered.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert torch.equal(net.eval()(numbers)[0], numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_relative_gradient_of_equal_numbers_is_zero(n: int, dtype: torch.dtype) -> None:
    net = RelativeSortNet(4).to(dtype)
    numbers = torch.full((2, n), 7.0, dtype=dtype)
    numbers[1] += torch.arange(n, dtype=dtype)
    numbers.requires_grad_()
    weights = torch.rand(n, n, dtype=dtype)
    (grad,) = torch.autograd.grad((net.log_alpha(numbers) * weights).sum(), numbers)
    assert bool(grad.isfinite().all())
    assert bool((grad[0] == 0).all())
    assert n < 3 or bool((grad[1] != 0).any())  # two numbers are always standardised to -1 and 1


def test_relative_gradient_against_finite_differences() -> None:
    net = RelativeSortNet(4).double()
    x = torch.tensor([[0.3, -1.0, 0.8], [5.0, 5.1, 5.3]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net.log_alpha, (x,))
    assert torch.autograd.gradgradcheck(net.log_alpha, (x,))


@pytest.mark.parametrize("scale", [1e-36, 1e-25, 1.0, 1e25, 1e37])
def test_relative_ignores_scales_whose_squares_leave_the_range(scale: float) -> None:
    net = RelativeSortNet(4)
    x = torch.tensor([0.25, -1.0, 0.5, 2.0])
    torch.testing.assert_close(net.log_alpha(x * scale), net.log_alpha(x))


def test_relative_learns_to_sort_any_length_anywhere() -> None:
    torch.manual_seed(0)
    net = RelativeSortNet()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        numbers = torch.rand(16, 8)
        loss = (net(numbers)[0] - numbers.sort().values).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.double().eval()
    for n, low in ((8, 0.0), (8, 1000.0), (50, -3.0)):
        numbers = torch.rand(100, n, dtype=torch.float64) + low
        assert torch.equal(net(numbers)[0], numbers.sort().values)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (torch.tensor(1.0), ValueError, r"items must have shape \(\*, n\) with n >= 1, got \(\)"),
        (torch.zeros(2, 0), ValueError, r"got \(2, 0\)"),
        (torch.arange(3), TypeError, r"items must be floating, got torch.int64"),
    ],
)
def test_relative_wrong_items(items: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RelativeSortNet()(items)


def test_relative_errors() -> None:
    with pytest.raises(ValueError, match="hidden_features must be at least 1, got 0"):
        RelativeSortNet(0)
    with pytest.raises(ValueError, match="tau must be positive"):
        RelativeSortNet(tau=-1.0)
