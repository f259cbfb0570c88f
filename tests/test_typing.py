"""Every signature of the library resolves at run time, with jaxtyping and without."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jaxtyping
import pytest
import torch

import softperm
from softperm import data, distributions, metrics, nn, ops, permutations, plotting, puzzles
from softperm._typing import Float

MODULES = (softperm, data, distributions, metrics, nn, ops, permutations, plotting, puzzles)


def methods(cls: type) -> Iterator[Callable[..., Any]]:
    """The constructor and the public methods and properties that a class of ours defines."""
    for name, member in vars(cls).items():
        function: Any = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)
        ours = inspect.isfunction(function) and function.__module__ == cls.__module__
        if ours and (name == "__init__" or not name.startswith("_")):
            yield function


def signatures(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """What a user may call in a module."""
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    for value in (getattr(module, name) for name in names):
        if getattr(value, "__module__", "").startswith("softperm."):
            yield value
            if inspect.isclass(value):
                for cls in value.__mro__:
                    yield from methods(cls) if cls.__module__.startswith("softperm.") else ()


PUBLIC = {
    f"{function.__module__}.{function.__qualname__}": function
    for module in MODULES
    for function in signatures(module)
    if inspect.isfunction(function) or inspect.isclass(function)
}


def test_the_walk_meets_what_users_call() -> None:
    assert len(PUBLIC) > 60
    assert {
        "softperm.ops._sinkhorn.sinkhorn",
        "softperm.ops._info.SinkhornInfo",
        "softperm.permutations.compose_permutations",
        "softperm.distributions.GumbelSinkhorn.__init__",
        "softperm.distributions.GumbelSinkhorn.rsample",
        "softperm.nn.base.SinkhornNet.forward",
        "softperm.metrics.kendall_tau",
        "softperm.puzzles.split",
    } <= set(PUBLIC)


@pytest.mark.parametrize("jaxtyping_installed", [True, False])
@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_resolve(
    name: str, jaxtyping_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = PUBLIC[name]
    if not jaxtyping_installed:
        monkeypatch.setitem(sys.modules, "jaxtyping", None)
    hints = typing.get_type_hints(function)
    parameters = [] if inspect.isclass(function) else list(inspect.signature(function).parameters)
    assert set(parameters) - {"self", "args", "kwargs"} <= set(hints)


def test_with_jaxtyping_they_carry_shapes() -> None:
    hints = typing.get_type_hints(softperm.puzzles.split)
    assert repr(hints["images"]) == repr(jaxtyping.Shaped[torch.Tensor, "*batch c height width"])
    square: Any = Float[torch.Tensor, "n n"]
    assert isinstance(torch.rand(3, 3), square)
    assert not isinstance(torch.rand(3, 2), square)
    assert not isinstance(torch.zeros(3, 3).long(), square)


def test_without_jaxtyping_they_name_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jaxtyping", None)
    square: Any = Float[torch.Tensor, "n n"]
    assert square is torch.Tensor
    hints = typing.get_type_hints(softperm.metrics.kendall_tau)
    assert hints["return"] is torch.Tensor
    assert hints["labels"] == torch.Tensor | None


def test_it_is_imported_when_a_signature_is_resolved_not_before() -> None:
    script = (
        "import sys, typing, softperm; assert 'jaxtyping' not in sys.modules;"
        "typing.get_type_hints(softperm.sample_gumbel); assert 'jaxtyping' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
