"""What must work anywhere, with the library's own dependencies alone (and pytest).

Needs nothing from `conftest.py`: python -m pytest --noconftest tests/test_smoke.py
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import softperm
from softperm.nn import RelativeSortNet, SinkhornNet, SinkhornSortNet
from tests import references

# All that the extras bring, each a module that must not be needed.
EXTRAS = (
    *("PIL", "lightning_fabric", "matplotlib", "pooch", "rich"),
    *(
        "safetensors",
        "shtab",
        "sklearn",
        "tensorboard",
        "yaml",
        "beartype",
        "hypothesis",
        "jaxtyping",
    ),
)
SCRIPT = """
import importlib, json, pkgutil, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # whoever imports one of these fails
import softperm
apart = ("softperm.program", "softperm.plotting", "softperm.kernels.gpu", "softperm.__main__")
found = [module.name for module in pkgutil.walk_packages(softperm.__path__, "softperm.")]
library = [name for name in found if not name.startswith(apart) and "-" not in name]
for name in library:
    importlib.import_module(name)
print(json.dumps(library))
"""


def test_no_extra_is_imported() -> None:
    command = [sys.executable, "-c", SCRIPT, json.dumps(EXTRAS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert {"softperm.kernels.cpu", "softperm.nn", "softperm.distributions"} <= set(imported)


@pytest.mark.parametrize("shape", [(1, 1), (64, 5, 5), (40, 40), (2, 130, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [1.0, 0.01])
class TestSinkhorn:
    def test_the_plain_loop(self, shape: tuple[int, ...], dtype: torch.dtype, tau: float) -> None:
        x = references.matrices(shape).to(dtype)
        wanted = references.sinkhorn_loop(x, tau, 20).to(dtype)
        torch.testing.assert_close(softperm.sinkhorn(x, tau), wanted, rtol=1e-4, atol=1e-5)

    def test_its_gradient(self, shape: tuple[int, ...], dtype: torch.dtype, tau: float) -> None:
        x = references.matrices(shape).to(dtype).requires_grad_()
        weights = references.matrices(shape, seed=1)

        def gradient(S: Tensor) -> Tensor:
            return torch.autograd.grad((weights * S).sum(), x)[0]

        found = gradient(softperm.sinkhorn(x, tau))
        wanted = gradient(references.sinkhorn_loop(x, tau, 20))
        scale = float(wanted.abs().max()) + 1
        torch.testing.assert_close(found / scale, wanted / scale, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matching(dtype: torch.dtype) -> None:
    x = references.matrices((200, 5, 5)).to(dtype)
    perms = softperm.matching(x)
    for scores, perm in zip(x, perms, strict=True):
        assert sorted(perm.tolist()) == list(range(5))
        assert references.score(scores, perm) == pytest.approx(references.best_score(scores))


def test_a_large_matching_ends_in_a_permutation() -> None:
    planted = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    x = references.matrices((400, 400)) + 100 * references.matrix(planted)
    assert torch.equal(softperm.matching(x), planted)


@pytest.mark.parametrize("kind", [SinkhornSortNet, RelativeSortNet])
def test_a_network_learns(kind: type[SinkhornNet]) -> None:
    torch.manual_seed(0)
    sizes = {"n_items": 6} if kind is SinkhornSortNet else {}
    net = kind(**sizes, noise_scale=0.0)  # type: ignore[arg-type]
    numbers = torch.rand(32, 6)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        ordered, P = net(numbers)
        torch.testing.assert_close(P.sum(-2), torch.ones_like(numbers))
        loss = (ordered - numbers.sort().values).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
