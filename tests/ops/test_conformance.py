"""Every backend computes the same: values, gradients and steps, on matrices of every shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import log_sinkhorn, sinkhorn
from softperm.kernels import dispatch
from tests import references_shapes
from tests.conftest import compiled
from tests.ops.shape_cases import GIVEN, case, leaves, weighted

BACKENDS = [
    "torch",
    pytest.param("cpu", marks=compiled),
    pytest.param(
        "triton", marks=pytest.mark.skipif(not dispatch.HAS_TRITON, reason="not installed")
    ),
]
DEVICES = {"triton": "cuda" if torch.cuda.is_available() else "cpu"}
OPERATORS = [sinkhorn, log_sinkhorn]
# What NumPy says of -inf - (-inf) when it interprets a kernel that then chooses another value.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def placed(name: str, backend: str) -> tuple[Tensor, dict[str, Any], list[Tensor]]:
    """A case in float32, on the device of the backend, with what it has gradients for."""
    device = DEVICES.get(backend, "cpu")
    x, given = case(name)
    given = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in given.items()}
    return leaves(x.float().to(device), given)


def reference(operator: Any, x: Tensor, tau: float, n_iters: int, **given: Any) -> Tensor:
    """The plain loop in float64, on the CPU."""
    given = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in given.items()}
    out = references_shapes.log_any_shape(x.cpu(), tau, n_iters, **given)
    return out if operator is log_sinkhorn else out.exp()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GIVEN)
class TestAgainstTheLoop:
    @pytest.mark.parametrize("operator", OPERATORS)
    def test_values_and_gradients(self, name: str, backend: Any, operator: Any) -> None:
        x, given, wanting = placed(name, backend)
        out = operator(x, 0.7, 4, backend=backend, **given)
        wanted = reference(operator, x, 0.7, 4, **given)
        torch.testing.assert_close(out.double().cpu(), wanted, atol=1e-6, rtol=2e-6)
        found = torch.autograd.grad(weighted(out.cpu()), wanting)
        nothing = sum(0 * leaf.nan_to_num().sum() for leaf in wanting).cpu()  # type: ignore[union-attr]
        loop = torch.autograd.grad(weighted(wanted) + nothing, wanting)
        torch.testing.assert_close(found, loop, atol=2e-6, rtol=1e-5)

    def test_stopping(self, name: str, backend: Any) -> None:
        x, given, _ = placed(name, backend)
        x = x.detach()
        out, info = sinkhorn(x, 0.7, 60, tol=1e-3, return_info=True, backend=backend, **given)
        plain, by_loop = sinkhorn(x, 0.7, 60, tol=1e-3, return_info=True, backend="torch", **given)
        assert torch.equal(info.n_iters, by_loop.n_iters)
        assert bool(info.converged.all())
        torch.testing.assert_close(out, plain, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(info.row_error, by_loop.row_error, atol=1e-6, rtol=0)
