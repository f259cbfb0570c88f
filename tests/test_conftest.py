"""The signature checks of the test run do catch what they are there for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import softperm
from tests.conftest import checked

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def transpose(x: Float[Tensor, "*batch n m"], wrong: bool = False) -> Float[Tensor, "*batch m n"]:
    return x if wrong else x.mT


def square(x: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    if x.dim() == 1:
        raise ValueError("x must have two dimensions")
    return x


def test_fitting_calls_pass_through() -> None:
    x = torch.rand(2, 3)
    assert torch.equal(checked(transpose)(x), x.mT)


def test_a_result_of_the_wrong_shape_fails() -> None:
    with pytest.raises(AssertionError, match="transpose breaks its signature"):
        checked(transpose)(torch.rand(2, 3), wrong=True)


def test_arguments_of_the_wrong_shape_fail_if_accepted() -> None:
    with pytest.raises(AssertionError, match="square breaks its signature"):
        checked(square)(torch.rand(2, 3))


def test_arguments_refused_by_the_function_itself_raise_its_own_error() -> None:
    with pytest.raises(ValueError, match="x must have two dimensions"):
        checked(square)(torch.rand(2))


def test_public_functions_are_wrapped() -> None:
    assert hasattr(softperm.sinkhorn, "__wrapped__")
    assert hasattr(softperm.metrics.kendall_tau, "__wrapped__")
    assert hasattr(softperm.puzzles.split, "__wrapped__")
