"""Entries of any size and any number of iterations, on every backend that needs no GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, sinkhorn
from tests import references
from tests.conftest import BACKENDS, compiled
from tests.kernels import cases

SHAPE = (8, 5, 5)
KINDS = ["normal", "rounded", "integers", "forbidden"]


@pytest.fixture(
    params=["torch", *(pytest.param(layout, marks=compiled) for layout in ("lanes", "rows"))]
)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The plain loop, and the compiled kernels by each of their layouts."""
    if request.param == "torch":
        return "torch"
    cases.use_layout(request.param, monkeypatch)
    return "cpu"


def scores(kind: str, shape: tuple[int, ...]) -> Tensor:
    """Entries of at most 1 in magnitude, without or with many ties."""
    x = references.matrices(shape)
    if kind == "rounded":
        x = x.round()
    elif kind == "integers":
        x = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(0)).double()
    elif kind == "forbidden":
        x[..., 1, 2] = x[..., 2, 0] = -torch.inf
    return x / x.masked_fill(x.isneginf(), 0).abs().amax()


# The logarithm is taken from scalings while these are below 1e300, and the rounding of its terms.
LOG_ROUNDING = {torch.float32: 140.0, torch.float64: 1400.0}


def powers_that_fail(x: Tensor, tau: Tensor, backend: Any) -> dict[str, list[int]]:
    """For which powers of ten, the first dimension, something is wrong: columns that do not sum
    to 1, negative entries, gradients that are not finite, or pairs wrongly forbidden.
    """
    eps, n = torch.finfo(x.dtype).eps, x.shape[-1]
    wrong = {}

    def note(what: str, right: Tensor) -> None:
        wrong[what] = (~right.flatten(1).all(1)).nonzero().flatten().tolist()

    leaf = x.requires_grad_()
    S = sinkhorn(leaf, tau, backend=backend)
    note("sums", (S.double().sum(-2) - 1).abs() <= n * eps)
    note("sign", S >= 0)
    note("gradient", torch.autograd.grad(S.square().sum(), leaf)[0].isfinite())

    log_S = log_sinkhorn(leaf, tau, backend=backend)
    note("sums by logarithms", log_S.double().logsumexp(-2).abs() <= LOG_ROUNDING[x.dtype] * eps)
    forbidden = x.isneginf()
    largest = x.masked_fill(forbidden, 0).abs().amax((-2, -1), keepdim=True) / tau[..., None, None]
    overflows = largest > 0.1 * torch.finfo(x.dtype).max
    note("pairs", (log_S.isneginf() == forbidden) | overflows)
    loss = log_S.masked_fill(log_S.isneginf(), 0).mean()
    note("gradient of logarithms", torch.autograd.grad(loss, leaf)[0].isfinite())
    return {what: powers for what, powers in wrong.items() if powers}


@pytest.mark.parametrize("kind", KINDS)
def test_every_power_of_ten(way: str, kind: str) -> None:
    size = 10.0 ** torch.arange(100, dtype=torch.float64)
    x = 0.99 * size.reshape(-1, 1, 1, 1) * scores(kind, SHAPE)
    assert powers_that_fail(x, torch.ones(100, 1, dtype=torch.float64), way) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_power_of_ten_by_the_temperature(way: str, kind: str, dtype: Any) -> None:
    # The gradient is that by x / tau over tau, which float32 holds up to 1e38.
    powers = torch.arange(37 if dtype == torch.float32 else 100)
    tau = 10.0 ** -powers.double().unsqueeze(-1)
    x = scores(kind, SHAPE).expand(len(powers), *SHAPE).to(dtype)
    assert powers_that_fail(0.99 * x, tau, way) == {}


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_largest_numbers_of_single_precision(way: str, sign: float) -> None:
    x = (sign * 3e38 * scores("normal", SHAPE).unsqueeze(0)).float()
    assert powers_that_fail(x, torch.ones(1, 1, dtype=torch.float64), way) == {}


@pytest.fixture
def deterministic() -> Iterator[None]:
    """With algorithms that fill memory nobody has written to."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(4, 4), (3, 5, 5), (2, 40, 40)])
@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_the_most_iterations_that_can_be_asked_for(
    backend: Any, shape: tuple[int, ...], tau: float
) -> None:
    x = references.matrices(shape, scale=0.3).requires_grad_()
    S, info = sinkhorn(x, tau, 10**9, tol=1e-3, backend=backend, return_info=True)
    done = int(info.n_iters.max())
    assert 1 < done < 1000
    found = [S, *torch.autograd.grad(S.square().sum(), x)]
    S = sinkhorn(x, tau, done + 1, tol=1e-3, backend=backend)
    wanted = [S, *torch.autograd.grad(S.square().sum(), x)]
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


RESERVED = """
import sys, torch, softperm
from pathlib import Path

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

torch.use_deterministic_algorithms(True)
x = (0.5 * torch.randn(16, 10, 10)).requires_grad_()
softperm.sinkhorn(x, tol=1e-3, backend=sys.argv[1]).sum().backward()
Path("/proc/self/clear_refs").write_text("5")  # forget the highest level
before = resident("VmRSS")
S = softperm.sinkhorn(x, n_iters=10**9, tol=1e-3, backend=sys.argv[1])
S.square().sum().backward()
assert x.grad.isfinite().all()
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_is_that_of_the_iterations_done(backend: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESERVED, backend], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10_000  # kilobytes


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tol", [None, 1e-3])
def test_deterministic_algorithms_give_the_same(backend: Any, tol: float | None) -> None:
    x = references.matrices((16, 10, 10)).requires_grad_()

    def both() -> list[Tensor]:
        S = sinkhorn(x, 0.1, 30, tol=tol, backend=backend)
        return [S.detach(), *torch.autograd.grad(S.square().sum(), x)]

    found = both()
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(found, both(), strict=True))
