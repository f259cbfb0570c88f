"""Soft sorting and ranking, against the formula written out and against hard sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from torch import Tensor

from softperm import apply_permutation, matching, permutation_from_order, soft_rank, soft_sort
from tests import references

pytestmark = [  # PyTorch's own tracing does what PyTorch warns of
    pytest.mark.usefixtures("backend"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
LISTS = arrays(np.float64, st.integers(1, 6), elements=st.integers(-50, 50).map(float), unique=True)


def by_formula(x: Tensor, tau: float, n_iters: int, sign: float = 1.0) -> Tensor:
    """P of a single list, entry by entry."""
    n = len(x)
    t = sign * torch.arange(n, dtype=torch.float64)
    z, t = ((y - y.mean()) / y.std(unbiased=False) for y in (x.double(), t))
    scores = torch.stack([torch.stack([-((z[i] - t[j]) ** 2) for j in range(n)]) for i in range(n)])
    return references.sinkhorn_loop(scores, tau, n_iters)


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("descending", [False, True])
def test_is_the_formula(n: int, tau: float, descending: bool) -> None:
    x = references.matrices((3, n))
    found = soft_sort(x, tau, 7, descending=descending)
    ranks = soft_rank(x, tau, 7, descending=descending)
    places = torch.arange(n).double()
    for numbers, P, rank in zip(x, found, ranks, strict=True):
        wanted = by_formula(numbers, tau, 7, -1.0 if descending else 1.0)
        torch.testing.assert_close(P, wanted)
        torch.testing.assert_close(rank, wanted @ places)


@given(LISTS, st.booleans())
def test_hard_permutations_sort(x: Any, descending: bool) -> None:
    numbers = torch.from_numpy(x)
    perm = matching(soft_sort(numbers, 0.1, descending=descending).log())
    assert torch.equal(perm, permutation_from_order(numbers.argsort(descending=descending)))


def test_low_temperature_sorts_and_ranks() -> None:
    x = references.matrices((5, 6))
    P = soft_sort(x, 1e-3, 2000)
    torch.testing.assert_close(apply_permutation(P, x), x.sort(-1).values, atol=1e-3, rtol=0)
    wanted = torch.from_numpy(rankdata(x.numpy(), axis=-1) - 1)
    torch.testing.assert_close(soft_rank(x, 1e-3, 2000), wanted, atol=1e-2, rtol=0)


@given(LISTS, st.floats(0.1, 100), st.floats(-100, 100))
def test_scale_and_shift_make_no_difference(x: Any, scale: float, shift: float) -> None:
    numbers = torch.from_numpy(x)
    found = soft_sort(scale * numbers + shift)
    torch.testing.assert_close(found, soft_sort(numbers), atol=1e-9, rtol=0)


def test_dimensions() -> None:
    x = references.matrices((2, 5, 3))
    found = soft_sort(x, dim=1)
    assert found.shape == (2, 3, 5, 5)
    torch.testing.assert_close(found[1, 2], soft_sort(x[1, :, 2]))
    ranks = soft_rank(x, dim=-2)
    assert ranks.shape == x.shape
    torch.testing.assert_close(ranks[1, :, 2], soft_rank(x[1, :, 2]))
    taus = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(soft_sort(x, taus, dim=1)[:, 0], soft_sort(x[..., 0], 0.1))


@pytest.mark.parametrize("shape", [(1,), (0,), (0, 3), (3, 0)])
def test_short_lists(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    assert soft_sort(x).shape == (*shape, shape[-1])
    assert soft_rank(x).tolist() == torch.zeros(shape).tolist() or shape == (0, 3)


def test_equal_numbers_share_their_positions() -> None:
    x = torch.full((4,), 7.0, requires_grad=True)
    P = soft_sort(x)
    torch.testing.assert_close(P, P[:1].expand(4, 4))
    (grad,) = torch.autograd.grad(soft_rank(x)[0], x)
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: torch.dtype) -> None:
    x = references.matrices((2, 5)).to(dtype)
    assert soft_sort(x).dtype == soft_rank(x).dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(soft_sort(x).double(), soft_sort(x.double()), atol=1e-6, rtol=eps)


def test_gradients() -> None:
    x = references.matrices((2, 4)).requires_grad_()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for function in (soft_sort, soft_rank):
        assert torch.autograd.gradcheck(lambda x, t, f=function: f(x, t, 4), (x, tau))


def test_transforms() -> None:
    x = references.matrices((3, 5))
    torch.testing.assert_close(torch.func.vmap(soft_rank)(x), soft_rank(x))
    torch._dynamo.reset()
    compiled = torch.compile(soft_rank, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), soft_rank(x))
    torch._dynamo.reset()


@pytest.mark.parametrize("function", [soft_sort, soft_rank])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x must be a torch.Tensor, got list"),
        ({"x": torch.arange(3)}, TypeError, "x must have a floating dtype, got torch.int64"),
        ({"x": torch.tensor(1.0)}, ValueError, r"dim must be a dimension of x, got -1 for .* \(\)"),
        ({"dim": 1}, ValueError, r"dim must be a dimension of x, got 1 for shape \(3,\)"),
        ({"dim": 1.0}, TypeError, "dim must be an int, got float"),
        ({"x": torch.tensor([1.0, torch.nan])}, ValueError, "x must be finite, got NaN"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"n_iters": 0}, ValueError, "n_iters must be at least 1"),
    ],
)
def test_errors(
    function: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(**({"x": torch.zeros(3)} | arguments))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_whole_range_of_a_dtype(dtype: torch.dtype) -> None:
    highest = torch.finfo(dtype).max
    x = torch.tensor([-highest, 0, highest], dtype=dtype)
    torch.testing.assert_close(soft_rank(x), soft_rank(torch.tensor([-1.0, 0, 1], dtype=dtype)))


def test_empty_lists_have_a_gradient() -> None:
    x = torch.zeros(2, 0, requires_grad=True)
    (grad,) = torch.autograd.grad(soft_rank(x).sum(), x, create_graph=True)
    assert grad.shape == (2, 0)
