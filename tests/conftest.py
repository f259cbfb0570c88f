"""In the tests every public function is held to the shapes and dtypes of its signature.

A result that does not fit its annotation fails the test; so does a call whose arguments do not
fit theirs, unless the function itself refuses it with a TypeError or ValueError.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import beartype
import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

import softperm
from softperm import kernels, metrics, puzzles
from softperm.kernels import assignment, cpu, dispatch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: run its kernels on the CPU

settings.register_profile(
    "softperm", deadline=None, derandomize=True, database=None, max_examples=30
)
settings.load_profile("softperm")

# NumPy's numbers are welcome wherever Python's are, though its stubs do not call them so.
Int = int | np.integer
NAMES = {name: getattr(jaxtyping, name) for name in dir(jaxtyping) if name[0].isupper()} | {
    "Tensor": torch.Tensor,
    "SampleShape": Int | list[Int] | tuple[Int, ...] | torch.Size,
    "int": Int,
    "float": float | np.floating,
}
# An int is welcome wherever a float is (PEP 484's numeric tower).
typechecker = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of `function` that raises `jaxtyping.TypeCheckError` where its signature is broken."""
    function = inspect.unwrap(function)
    assert isinstance(function, types.FunctionType)
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = typing.get_type_hints(function, localns=NAMES)
    return jaxtyping.jaxtyped(copy, typechecker=typechecker)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, failing where its arguments or results break its own signature."""
    checker = strict(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return checker(*args, **kwargs)
        except jaxtyping.TypeCheckError as error:
            if "checking the parameters" in str(error):
                function(*args, **kwargs)  # is to refuse them itself
            raise AssertionError(f"{function.__qualname__} breaks its signature") from error

    return wrapper


for module in (softperm, metrics, puzzles):
    for name in module.__all__:
        if inspect.isfunction(getattr(module, name)):
            setattr(module, name, checked(getattr(module, name)))


@pytest.fixture
def generator() -> torch.Generator:
    """A source of randomness in a known state."""
    return torch.Generator().manual_seed(0)


compiled = pytest.mark.skipif(not cpu.is_available(), reason="the kernels are not compiled here")
BACKENDS = ["torch", pytest.param("cpu", marks=compiled)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """What computes wherever a test leaves it to the library: every backend in turn."""
    chosen: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "best", lambda x: chosen)
        matcher = cpu if chosen == "cpu" else assignment
        patch.setattr(dispatch, "assignment_kernel", lambda: matcher)
        yield chosen


@pytest.fixture(scope="module", params=[*BACKENDS, pytest.param("lists", marks=compiled)])
def matcher(request: pytest.FixtureRequest) -> Iterator[None]:
    """What finds assignments: every backend in turn, and rows with lists of columns, which are
    otherwise for large matrices.
    """
    kernel = assignment if request.param == "torch" else cpu
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "assignment_kernel", lambda: kernel)
        if request.param == "lists":
            patch.setattr("softperm.kernels.cpu.assignment._LISTS_ABOVE", 0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of pictures are not read into the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr("softperm.data.cache.user_cache", lambda: folder)
        yield


class _Poisoned:
    """torch, but for memory that nothing was written to: it is full of what gives itself away."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def _fill(x: torch.Tensor) -> torch.Tensor:
        if x.numel() > 1_000_000:  # room for much more than is used
            return x
        if x.dtype.is_floating_point:
            return x.fill_(torch.nan)
        return x.fill_(True if x.dtype == torch.bool else torch.iinfo(x.dtype).min + 1)

    def empty(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self._fill(torch.empty(*args, **kwargs))

    def empty_like(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self._fill(torch.empty_like(*args, **kwargs))


def _compiled_kernels() -> Iterator[types.ModuleType]:
    """The modules of the kernels that write to memory themselves."""
    for found in pkgutil.walk_packages(kernels.__path__, "softperm.kernels."):
        triton = found.name.startswith("softperm.kernels.gpu")
        compiled = found.name.count(".") > 2 or found.ispkg
        python = found.name.rpartition(".")[2].isidentifier()  # not a library beside the sources
        if compiled and python and (dispatch.HAS_TRITON or not triton):
            yield importlib.import_module(found.name)


@pytest.fixture(autouse=True, scope="session")
def _poisoned_memory() -> Iterator[None]:
    """A kernel that reads what it has not written computes NaN."""
    with pytest.MonkeyPatch.context() as patch:
        for module in _compiled_kernels():
            if hasattr(module, "torch"):
                patch.setattr(module, "torch", _Poisoned())
        yield
