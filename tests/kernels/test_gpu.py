"""The Triton kernels: compiled where there is a GPU, by Triton's interpreter elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, sinkhorn
from softperm.kernels.reference import Problem, Settings
from tests import references

pytest.importorskip("triton")

from softperm.kernels import gpu
from softperm.kernels.gpu import fused

pytestmark = [  # PyTorch's own tracing does what PyTorch warns of
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float64]
OPERATORS = [sinkhorn, log_sinkhorn]
REFERENCES = {sinkhorn: references.sinkhorn_loop, log_sinkhorn: references.log_sinkhorn_loop}
FORBIDDEN = -torch.inf


def both(
    operator: Callable[..., Any], x: Tensor, tau: Tensor, n_iters: int, **options: Any
) -> list[Tensor]:
    """The result, and the gradients of a weighted sum of it with respect to x and tau."""
    leaves = [x.detach().clone().requires_grad_(), tau.detach().clone().requires_grad_()]
    out = operator(*leaves, n_iters, **options)
    weights = references.matrices(tuple(out.shape), seed=9).float().to(out)
    loss = (out.masked_fill(out == FORBIDDEN, 0) * weights).sum()
    return [out.detach(), *torch.autograd.grad(loss, leaves)]


def on_device(operator: Callable[..., Any], x: Tensor, tau: Tensor, *args: Any) -> list[Tensor]:
    """`both` with Triton, brought back."""
    found = both(operator, x.to(DEVICE), tau.to(DEVICE), *args, backend="triton")
    return [tensor.cpu() for tensor in found]


def close(found: list[Tensor], wanted: list[Tensor], dtype: torch.dtype) -> None:
    """Equality to rounding of `both`'s results; a gradient of tau sums over the matrix."""
    for f, w, factor in zip(found, wanted, (16, 16, 64), strict=False):
        rounding = factor * torch.finfo(dtype).eps
        scale = max(1.0, float(w.masked_fill(w == FORBIDDEN, 0).abs().max()))
        torch.testing.assert_close(f.double(), w.double(), atol=rounding * scale, rtol=rounding)


@pytest.mark.parametrize(("operator", "dtype"), [*zip(OPERATORS, DTYPES, strict=True)])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 33])
def test_on_chip(operator: Any, dtype: Any, n: int) -> None:
    x, tau = references.matrices((2, n, n), seed=n).to(dtype), torch.tensor([0.5, 2.0]).double()
    found = on_device(operator, x, tau, 3)
    close(found, both(REFERENCES[operator], x.double(), tau, 3), dtype)
    assert found[0].dtype == found[1].dtype == dtype


@pytest.mark.parametrize(
    ("operator", "dtype", "n"),
    [
        (sinkhorn, torch.float32, 18),
        (sinkhorn, torch.float64, 3),
        (log_sinkhorn, torch.float32, 3),
        (log_sinkhorn, torch.float64, 18),
    ],
)
@pytest.mark.parametrize("kernels", ["tiled"], indirect=True)
def test_tiled(operator: Any, dtype: Any, n: int, kernels: str) -> None:
    x, tau = references.matrices((2, n, n), seed=n).to(dtype), torch.tensor([0.5, 2.0]).double()
    found = on_device(operator, x, tau, 2)
    close(found, both(REFERENCES[operator], x.double(), tau, 2), dtype)
    assert found[0].dtype == found[1].dtype == dtype


def test_one_step(kernels: str) -> None:
    x, tau = references.matrices((3, 3)), torch.tensor(0.5).double()
    close(on_device(sinkhorn, x, tau, 1), both(references.sinkhorn_loop, x, tau, 1), x.dtype)


@pytest.mark.parametrize(("dtype", "n"), [(torch.float32, 129), (torch.float64, 65)])
def test_the_smallest_that_does_not_fit_on_chip(dtype: Any, n: int) -> None:
    x, tau = references.matrices((1, n, n)).to(dtype), torch.tensor(0.5).double()
    assert fused.fits(x[:, 1:, 1:])
    assert not fused.fits(x)
    close(on_device(sinkhorn, x, tau, 1), both(references.sinkhorn_loop, x, tau, 1), dtype)


@pytest.mark.parametrize(("operator", "dtype"), [*zip(OPERATORS, DTYPES, strict=True)])
def test_extreme_values(operator: Any, dtype: Any, kernels: str) -> None:
    scale = torch.tensor([1.0, 1e4, 1.0, 1e4, 1.0]).double()[:, None, None]
    tau = torch.tensor([1e-4, 1e-4, 0.01, 1.0, 1e4]).double()
    x = (references.matrices((5, 5, 5), seed=3).clamp(-1, 1) * scale).to(dtype)
    out, dx, _ = on_device(operator, x, tau, 5)
    wanted, wanted_dx, _ = both(operator, x.double(), tau, 5, backend="torch")
    rounding = max(16 * torch.finfo(dtype).eps, 1e-7)  # that of 1e8 in float64
    torch.testing.assert_close(out.double(), wanted, atol=rounding, rtol=rounding)
    # What reaches a matrix is of the order of 1 / tau; at low temperature it nearly cancels.
    for found, exact, t in zip(dx.double(), wanted_dx, tau, strict=True):
        largest = max(float(exact.abs().max()), float(1 / t))
        torch.testing.assert_close(found, exact, atol=2 * rounding * largest, rtol=2 * rounding)


def at_powers(exponents: tuple[int, ...], tied: bool) -> Tensor:
    """Entries of up to 10^k for every exponent k, random or such that lines share a maximum."""
    x = references.matrices((4, 4), seed=5)
    x = x.sign() if tied else x / x.abs().max()
    return torch.stack([x * 10.0**k for k in exponents])


@pytest.mark.parametrize(
    ("operator", "dtype"), [*zip(OPERATORS, DTYPES, strict=True), (sinkhorn, torch.float64)]
)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings(
    "ignore:overflow encountered in cast:RuntimeWarning"
)  # NumPy's, to -inf
def test_every_power_of_ten(operator: Any, tied: bool, dtype: Any, kernels: str) -> None:
    exponents = (0, 4, 8, 12, 14, 16, 17, 20, 30, 60, 99)
    x, tau = at_powers(exponents, tied), torch.ones(len(exponents)).double()
    if dtype == torch.float32:  # up to 1e30, and the rest by temperature
        tau = torch.tensor([10.0 ** min(30 - k, 0) for k in exponents], dtype=torch.float64)
        x *= tau[:, None, None]
    out, dx, _ = on_device(operator, x.to(dtype), tau, 3)
    S = out.double().exp() if operator is log_sinkhorn else out.double()
    rounding = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(S.sum(-2), torch.ones(11, 4).double(), atol=rounding, rtol=0)
    assert bool((S >= 0).all())
    # A constant added to a row of log_alpha changes nothing; beyond, 1 / tau is not float32 either.
    dL = dx.double() * tau[:, None, None]
    held = slice(0, 10 if dtype == torch.float32 else 11)
    assert bool(dx[held].isfinite().all())
    assert float(dL[held].sum(-1).abs().max()) <= 4 * rounding
    assert float(dL[:2].abs().max()) > 0.01


def test_scalings_that_drift_far() -> None:
    # Seven rows want column 0 and one row all others: in every step the scalings of the seven rows
    # and columns grow by log 7 each, until entries of -220 matter.
    x = references.matrices((8, 8)).sub(220)
    x[:7, 0], x[7] = 0, 0
    tau = torch.tensor(1.0).double()
    found = on_device(sinkhorn, x.float(), tau, 62)
    wanted = both(sinkhorn, x.float().double(), tau, 62, backend="torch")
    close(found[:2], wanted[:2], torch.float32)


def test_division_by_tau_loses_nothing_to_float32(kernels: str) -> None:
    # One unit in the last place of 1e4 is 2^-10, or 9.77 after division by 1e-4.
    x = torch.tensor([[1e4 + 2**-10, 1e4], [1e4, 1e4]], device=DEVICE)
    S = sinkhorn(x, 1e-4, 3, backend="triton").cpu()
    wanted = references.sinkhorn_loop(x.cpu(), 1e-4, 3)
    torch.testing.assert_close(S.double(), wanted, atol=1e-6, rtol=0)


def test_the_smallest_tau_gives_no_nan(kernels: str) -> None:
    S = sinkhorn(torch.zeros(2, 2, device=DEVICE), 1e-310, 3, backend="triton")
    torch.testing.assert_close(S.cpu(), torch.full((2, 2), 0.5))


@pytest.mark.parametrize(("operator", "tau"), [(sinkhorn, 1.0), (log_sinkhorn, 1e-4)])
def test_forbidden_pairs(operator: Any, tau: float, kernels: str) -> None:
    keep = torch.tensor(
        [
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
            [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
            [[1, 1, 0], [0, 1, 1], [1, 0, 1]],
        ]
    ).bool()
    x = references.matrices((4, 3, 3), scale=100.0).masked_fill(~keep, FORBIDDEN).float()
    taus = torch.tensor(tau).double()
    out, dx, dtau = on_device(operator, x, taus, 4)
    wanted, wanted_dx, _ = both(operator, x.double(), taus, 4, backend="torch")
    torch.testing.assert_close(out, wanted.float())
    torch.testing.assert_close(dx, wanted_dx.float(), atol=4e-6 / tau, rtol=4e-6)
    assert bool(dtau.isfinite())
    assert bool(((out if operator is sinkhorn else out.exp())[~keep] == 0).all())


def test_an_impossible_pattern_stays_finite(kernels: str) -> None:
    x = torch.tensor([[0, FORBIDDEN, FORBIDDEN], [0, FORBIDDEN, FORBIDDEN], [0, 0, 0]])
    out, dx, dtau = on_device(sinkhorn, x, torch.tensor(0.1).double(), 15)
    assert bool(out.isfinite().all() & dx.isfinite().all() & dtau.isfinite())
    torch.testing.assert_close(out, sinkhorn(x, 0.1, 15, backend="torch"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_matrix_stops_by_itself(dtype: torch.dtype, kernels: str) -> None:
    x = torch.stack([references.matrices((4, 4), seed=s, scale=2.0 * s) for s in range(3)])
    tau = torch.ones(3, dtype=torch.float64)
    found, info = sinkhorn(
        x.to(DEVICE, dtype), n_iters=9, tol=1e-2, return_info=True, backend="triton"
    )
    wanted, exact = sinkhorn(x, n_iters=9, tol=1e-2, return_info=True, backend="torch")
    assert len(exact.n_iters.unique()) > 2
    assert torch.equal(info.n_iters.cpu(), exact.n_iters)
    assert torch.equal(info.converged.cpu(), exact.converged)
    torch.testing.assert_close(info.row_error.cpu().double(), exact.row_error, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.cpu(), wanted.to(dtype))
    gradients = [
        both(sinkhorn, m, tau.to(m.device), 9, tol=1e-2, backend=b)[1].cpu()
        for m, b in ((x.to(DEVICE, dtype), "triton"), (x, "torch"))
    ]
    torch.testing.assert_close(gradients[0], gradients[1].to(dtype), atol=1e-6, rtol=1e-5)


def test_no_tol_is_too_small_to_stop_without_any_error(kernels: str) -> None:
    x = torch.zeros(2, 2, dtype=torch.float64, device=DEVICE)
    info = sinkhorn(x, n_iters=4, tol=1e-50, return_info=True, backend="triton")[1]
    assert info.row_error.item() == 0
    assert info.n_iters.item() == 1


def test_the_row_error_without_tol(kernels: str) -> None:
    x = references.matrices((2, 3, 3)).to(DEVICE)
    S, info = sinkhorn(x, n_iters=2, return_info=True, backend="triton")
    assert info.n_iters.tolist() == [2, 2]
    torch.testing.assert_close(info.row_error, (S.sum(-1) - 1).abs().amax(-1))


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0), (3, 3), (2, 1, 3, 3)])
def test_shapes(shape: tuple[int, ...], kernels: str) -> None:
    x = references.matrices(shape).to(DEVICE).requires_grad_()
    out, info = sinkhorn(x, n_iters=2, tol=1e-9, backend="triton", return_info=True)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert out.shape == grad.shape == x.shape
    assert info.n_iters.shape == info.row_error.shape == shape[:-2]
    torch.testing.assert_close(out, sinkhorn(x, n_iters=2, backend="torch"))


@pytest.mark.parametrize("layout", ["transposed", "expanded", "strided"])
def test_memory_layouts(layout: str) -> None:
    base = references.matrices((2, 6, 6)).to(DEVICE)
    x = {
        "transposed": base.mT,
        "expanded": base[0].expand(2, 6, 6),
        "strided": base[:, ::2, ::2],
    }[layout]
    tau = torch.tensor(0.5, dtype=torch.float64, device=DEVICE)
    found, wanted = (both(sinkhorn, x, tau, 2, backend=name) for name in ("triton", "torch"))
    close(found, wanted, x.dtype)


@pytest.mark.parametrize(("log", "tol"), [(False, 1e-2), (True, 0.0)])
def test_opcheck(log: bool, tol: float) -> None:
    x = references.matrices((2, 3, 2)).float().to(DEVICE)
    tau, rows = (torch.full(shape, 0.5, device=DEVICE).double() for shape in ((2,), (2, 3)))
    given, how = Problem(x, tau, rows, None), Settings(2, tol, log, "triton")
    torch.library.opcheck(torch.ops.softperm.sinkhorn.default, (*given, *how))
    iters = gpu.forward(given, how)[1]
    reverse = (torch.ones_like(x), *given, iters, *how)
    torch.library.opcheck(torch.ops.softperm.sinkhorn_backward.default, reverse)


def test_transforms_and_second_derivatives() -> None:
    def loss(x: Tensor) -> Tensor:
        return sinkhorn(x, 0.5, 2, backend="triton").square().sum()

    x = references.matrices((2, 3, 3)).to(DEVICE)
    found = torch.func.vmap(torch.func.grad(loss))(x)
    torch.testing.assert_close(found, torch.func.grad(loss)(x))
    assert torch.autograd.gradgradcheck(loss, (x[0, :2, :2].requires_grad_(),))


def test_compiled() -> None:
    x = references.matrices((2, 3, 3)).to(DEVICE)
    torch._dynamo.reset()
    function = torch.compile(
        lambda x: sinkhorn(x, 0.5, 2, backend="triton"), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(function(x), sinkhorn(x, 0.5, 2, backend="torch"))
