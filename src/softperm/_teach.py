"""Arguments that do not exist, answered with the one that was probably meant."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from softperm._suggest import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

# What arguments are called elsewhere, by what they are called here.
_ELSEWHERE = {
    "tau": "temperature temp eps epsilon reg entropy_reg",
    "n_iters": "n_iter iterations iters max_iter max_iters num_iters num_iterations steps",
    "sample_shape": "n_samples num_samples samples size",
    "noise_scale": "noise noise_factor scale sigma",
    "generator": "seed rng random_state key",
    "log_alpha": "logits scores similarity matrix input x cost costs cost_matrix",
    "tol": "tolerance threshold stop_thr",
    "row_sums": "a r mu row_marginals",
    "col_sums": "b c nu col_marginals column_sums",
    "slack": "bin_score dustbin dummy",
    "unmatched": "bin_score dustbin dummy threshold",
    "n_rows": "n1 nrows rows",
    "n_cols": "n2 ncols cols columns n_columns",
    "return_info": "info return_iters verbose",
    "descending": "reverse ascending",
}
# What is worth saying beside the name, by what was given.
_NOTES = {
    "n_samples": "sample_shape=(5,) draws five",
    "num_samples": "sample_shape=(5,) draws five",
    "seed": "generator=torch.Generator().manual_seed(0)",
    "random_state": "generator=torch.Generator().manual_seed(0)",
    "cost": "scores are maximised, so give -cost",
    "costs": "scores are maximised, so give -costs",
    "cost_matrix": "scores are maximised, so give -cost_matrix",
    "ascending": "descending=True where ascending is False",
    "maximize": "scores are maximised: for costs give -costs",
    "maximise": "scores are maximised: for costs give -costs",
    "minimize": "scores are maximised: for costs give -costs",
    "hard": "straight_through(S) is hard in the forward pass, and matching gives indices",
    "log": "log_sinkhorn gives the logarithm",
    "implicit": "grad='implicit' is the gradient of the limit",
    "dim": "the last two dimensions are rows and columns, all before them a batch",
}


def answer(name: str, known: Collection[str]) -> str:
    """What to give in place of an argument that a function does not know."""
    meant = [own for own, others in _ELSEWHERE.items() if own in known and name in others.split()]
    note = _NOTES.get(name)
    if meant:
        return f": it is called {meant[0]}" + (f" ({note})" if note else "")
    return did_you_mean(name, known) or f": {note or 'its arguments are ' + ', '.join(known)}"


def _explain(function: Callable[..., Any], given: Collection[str]) -> str | None:
    """The message for an argument that a function does not know, if there is one."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]
    for name in given:
        if name not in known:
            called = function.__qualname__.removesuffix(".__init__")
            return f"{called} has no argument {name}{answer(name, known)}"
    return None


def teaching(function: F) -> F:
    """The same function; a call with an argument that it has not is told which one was meant."""
    explain = _explain

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            message = explain(function, kwargs)
            if message is None:
                raise
            raise TypeError(message) from None

    # In the module of the function, or doctest would take it for one of this module.
    inside = types.FunctionType(
        call.__code__, function.__globals__, function.__name__, None, call.__closure__
    )
    return cast(F, functools.wraps(function)(inside))
