"""Wrong names of arguments are answered with the right ones, and nothing else changes."""

from __future__ import annotations

import inspect
import pickle
import typing
from collections.abc import Callable
from typing import Any

import pytest
import torch

from softperm import distributions, nn, ops, permutations
from softperm.nn import load_pretrained, pretrained_names

X = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
CASES: list[tuple[Callable[..., Any], str, str]] = [
    (ops.sinkhorn, "n_iter", "sinkhorn has no argument n_iter: it is called n_iters"),
    (ops.sinkhorn, "iterations", "it is called n_iters"),
    (ops.sinkhorn, "temperature", "it is called tau"),
    (ops.sinkhorn, "eps", "it is called tau"),
    (ops.sinkhorn, "n_itres", "did you mean n_iters?"),
    (ops.sinkhorn, "hard", "straight_through"),
    (ops.sinkhorn, "bin_score", "it is called slack"),
    (ops.sinkhorn, "zzz", "its arguments are log_alpha, tau, n_iters, "),
    (ops.log_sinkhorn, "max_iter", "log_sinkhorn has no argument max_iter: it is called n_iters"),
    (ops.matching, "maximize", "scores are maximised: for costs give -costs"),
    (ops.matching, "dustbin", "it is called unmatched"),
    (ops.matching_list, "dummy", "it is called unmatched"),
    (ops.gumbel_sinkhorn, "n_samples", "it is called sample_shape (sample_shape=(5,) draws five)"),
    (ops.gumbel_sinkhorn, "seed", "it is called generator (generator=torch.Generator()"),
    (ops.gumbel_sinkhorn, "noise", "it is called noise_scale"),
    (ops.gumbel_matching, "num_samples", "it is called sample_shape"),
    (ops.sample_gumbel, "size", "sample_gumbel has no argument size"),
    (ops.soft_sort, "reverse", "it is called descending"),
    (ops.soft_rank, "temperature", "it is called tau"),
    (permutations.random_permutation, "seed", "it is called generator"),
    (nn.Sinkhorn, "temperature", "Sinkhorn has no argument temperature: it is called tau"),
    (nn.GumbelSinkhorn, "n_iter", "GumbelSinkhorn has no argument n_iter: it is called n_iters"),
    (nn.LearnedPermutation, "iterations", "it is called n_iters"),
    (distributions.GumbelSinkhorn, "temperature", "it is called tau"),
    (distributions.GumbelMatching, "noise", "it is called noise_scale"),
]


@pytest.mark.parametrize(("function", "wrong", "words"), CASES, ids=[str(c[2]) for c in CASES])
def test_the_right_name_is_told(function: Callable[..., Any], wrong: str, words: str) -> None:
    with pytest.raises(TypeError) as error:
        function(X, **{wrong: 1})
    assert words in str(error.value)
    assert error.value.__cause__ is None


def test_other_type_errors_are_left_alone() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'log_alpha'"):
        ops.sinkhorn()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="multiple values for argument 'log_alpha'"):
        ops.matching(X, log_alpha=X)  # type: ignore[misc]
    with pytest.raises(TypeError, match="log_alpha must"):
        ops.matching(X.long())


def test_signatures_hints_and_pickles_are_as_ever() -> None:
    assert list(inspect.signature(ops.sinkhorn).parameters)[:3] == ["log_alpha", "tau", "n_iters"]
    assert list(inspect.signature(nn.Sinkhorn).parameters)[:2] == ["tau", "n_iters"]
    assert typing.get_type_hints(ops.matching).keys() >= {"log_alpha", "return"}
    for function in (ops.sinkhorn, ops.matching, permutations.random_permutation):
        assert pickle.loads(pickle.dumps(function)) is function
        assert ">>>" in (function.__doc__ or "")
        assert function.__globals__["__name__"] == function.__module__  # doctest looks there


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_and_exported() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        soft = ops.sinkhorn(x, tau=0.5, n_iters=3)
        return permutations.permutation_matrix(ops.matching(soft)) @ soft

    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert torch.equal(compiled(X), function(X))

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    exported = torch.export.export(Module(), (X,)).module()
    assert torch.equal(exported(X), function(X))


def test_pretrained_networks_are_listed() -> None:
    names = ", ".join(pretrained_names())
    with pytest.raises(ValueError, match=f"name must be one of {names}, got nothing"):
        load_pretrained()
    with pytest.raises(ValueError, match=f"{names}, got 'minst-3x3': did you mean mnist-3x3\\?"):
        load_pretrained("minst-3x3")
