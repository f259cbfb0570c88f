"""Where values can be read, with PyTorch's private names and without them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor

from softperm import _torch, matching, sinkhorn
from tests import references

SOURCE = Path(_torch.__file__).parent
PRIVATE = [
    (torch._C, "_are_functorch_transforms_active"),
    (torch._C, "_len_torch_dispatch_stack"),
    (forward_ad, "_current_level"),
]


@pytest.fixture(params=["private", "public"])
def interface(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The module as it is, and as it is loaded where torch has none of the private names."""
    if request.param == "public":
        with monkeypatch.context() as without:  # torch itself needs them, so only while it loads
            for holder, name in PRIVATE:
                without.delattr(holder, name)
            importlib.reload(_torch)
    yield request.param
    importlib.reload(_torch)


def test_the_substitutes_are_in_use(interface: str) -> None:
    parts = (_torch._transforms, _torch._modes, _torch._dual)
    substitutes = (_torch._probe_transforms, _torch._no_modes, _torch._has_tangent)
    for part, substitute in zip(parts, substitutes, strict=True):
        assert (part is substitute) == (interface == "public")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own, of forward AD
@pytest.mark.usefixtures("interface")
class TestPlain:
    @pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0)])
    def test_ordinary_tensors(self, shape: tuple[int, ...]) -> None:
        x = torch.ones(shape)
        for tensor in (x, x.requires_grad_(), x * 2, x.expand(2, *shape), x.bool()):
            assert _torch.is_plain(tensor)
            assert _torch.can_read_values(tensor)
        assert _torch.is_plain(x, x, x)

    def test_parameters_and_classes_with_values(self) -> None:
        class Named(Tensor):
            pass

        assert _torch.is_plain(torch.nn.Parameter(torch.ones(3)))
        assert _torch.is_plain(torch.ones(3).as_subclass(Named))

    def test_what_has_no_values(self) -> None:
        fakes = FakeTensorMode()
        for x in (
            torch.ones(3, device="meta"),
            torch._efficientzerotensor(3),
            torch.ones(3, dtype=torch.complex64).conj().imag,
            fakes.from_tensor(torch.ones(3)),
            fakes.from_tensor(torch.ones(0)),
            TwoTensor(torch.ones(3), torch.ones(3)),
        ):
            assert not _torch.is_plain(x)
            assert not _torch.is_plain(torch.ones(3), x)
            assert not _torch.can_read_values(x)

    @pytest.mark.parametrize(
        "transform",
        [
            torch.func.vmap,
            lambda f: torch.func.grad(lambda x: f(x).sum()),
            lambda f: lambda x: torch.func.jvp(f, (x,), (x,)),
            lambda f: lambda x: torch.func.vjp(f, x),
            torch.func.functionalize,
        ],
    )
    def test_transforms(self, transform: Callable[..., Any]) -> None:
        outside = torch.ones(3)
        seen = []

        def look(x: Tensor) -> Tensor:
            seen.extend([_torch.is_plain(x), _torch.is_plain(outside)])
            return x * 1

        transform(look)(torch.ones(2, 3))
        assert seen == [False, False]
        assert _torch.is_plain(outside)

    def test_forward_differentiation(self) -> None:
        x = torch.ones(3)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, x)
            assert not _torch.is_plain(dual)
            assert not _torch.is_plain(x, dual)
        assert _torch.is_plain(x)

    def test_batched_gradients(self) -> None:
        seen = []
        x = torch.ones(3, requires_grad=True)
        y = x * 1
        y.register_hook(lambda grad: seen.append(_torch.is_plain(grad)))
        torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
        assert seen == [False]

    def test_compiling_and_tracing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("is_compiling", "is_tracing"):
            with monkeypatch.context() as within:
                within.setattr(_torch, name, lambda: True)
                assert not _torch.is_plain(torch.ones(3))
        assert _torch.is_plain(torch.ones(3))

    def test_operators_stay_right(self) -> None:
        x = references.matrices((4, 3, 3))
        wanted = references.sinkhorn_loop(x, 1.0, 5)
        torch.testing.assert_close(torch.vmap(lambda x: sinkhorn(x, 1.0, 5))(x), wanted)
        assert torch.equal(torch.vmap(matching)(x), matching(x))
        leaf = x[0].clone().requires_grad_()  # of no interest to the transform, yet differentiable

        def loss(scale: Tensor) -> Tensor:
            return (scale * sinkhorn(leaf, 1.0, 5)).sum()

        found = torch.func.grad(loss)(torch.tensor(2.0, dtype=torch.float64))
        torch.testing.assert_close(found, wanted[0].sum())


def test_modes_are_seen() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(_torch.is_plain(x))
        return x * 1

    make_fx(look)(torch.ones(3))
    assert seen == [False]


def test_private_names_are_in_one_place() -> None:
    private = re.compile(r"\btorch(\.\w+)*\._[a-z]\w*|\bforward_ad\._\w+|\.\b_is_zerotensor\b")
    assert len(private.findall(Path(_torch.__file__).read_text(encoding="utf-8"))) == 1
    for path in SOURCE.rglob("*.py"):
        if path.name != "_torch.py":
            assert not private.search(path.read_text(encoding="utf-8")), path
