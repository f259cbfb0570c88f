"""What the compiled CPU kernels are called with: what they refuse, and what makes no difference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softperm.kernels import cpu
from softperm.kernels.reference import Problem, Settings
from tests.conftest import compiled
from tests.kernels import cases
from tests.kernels.cases import DTYPES, Case, forward, settings

LEVELS = cases.compiled_levels()
LAYOUTS = ["lanes", "rows"]
pytestmark = compiled


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every layout in turn."""
    chosen: str = request.param
    cases.use_layout(chosen, monkeypatch)
    return chosen


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 5, 17, 33])
def test_nan_is_refused_wherever_it_is(
    level: int, dtype: Any, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_level(level, monkeypatch)
    given, _ = Case(3, n, n, (1.0,)).problem(dtype)
    for place in range(0, n * n, 1 if n < 5 else 13):
        for neighbour in (0.0, 100.0, -torch.inf, torch.inf):
            x = given.x.clone()
            x[1].view(-1)[place - 1] = neighbour
            x[1].view(-1)[place] = torch.nan
            with pytest.raises(ValueError, match="got NaN"):
                forward(given._replace(x=x), settings())


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 5, 33])
@pytest.mark.parametrize("tau", [1.0, 1e-4])
def test_what_has_no_answer_is_refused(dtype: Any, n: int, tau: float) -> None:
    given, _ = Case(3, n, n, (tau,)).problem(dtype)
    for index, value, message in (
        ((1, 0, 1), torch.nan, "got NaN"),
        ((1, 1, 0), torch.inf, r"got \+inf"),
        ((2, 1), -torch.inf, "got a row of -inf alone at batch index"),
        ((2, slice(None), 0), -torch.inf, "got a column of -inf alone at batch index"),
    ):
        bad = given.x.clone()
        bad[index] = value
        with pytest.raises(ValueError, match=message):
            forward(given._replace(x=bad), settings())


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extreme", [-3e38, 3e38])
def test_overflow_by_the_temperature_is_refused(dtype: Any, extreme: float) -> None:
    given, _ = Case(3, 5, 5, (1e-80,)).problem(dtype)
    given.x[1, 2, 3] = extreme
    with pytest.raises(ValueError, match=r"log_alpha / tau must be below 1e\+100"):
        forward(given, settings())


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_of_minus_infinity_are_for_sums_of_0_alone(dtype: Any) -> None:
    given, _ = Case(3, 6, 9, (1.0,), "zeros").problem(dtype)
    assert given.x.isneginf().all(-1).any()
    assert forward(given, settings())[0].isfinite().all()
    given.x[2, 3] = -torch.inf
    with pytest.raises(ValueError, match="wanted sums possible, got a row of -inf"):
        forward(given, settings())


def everything(given: Problem, grad: Tensor, how: Any) -> list[Tensor]:
    """All that a forward and a backward pass give."""
    out, iters, error, scalings = forward(given, how, keep=True)
    gradients = cpu.backward(grad, given, iters, how, out, scalings)
    return [out, iters, error, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("sums", ["ones", "zeros"])
@pytest.mark.parametrize("n", [3, 16, 33])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_keeping_the_scalings_changes_nothing(
    layout: str, sums: str, n: int, dtype: Any, log: bool
) -> None:
    given, grad = Case(17, n, n, sums=sums).problem(dtype)
    how = settings(0.0 if layout == "lanes" else 1e-2, log)
    *kept, scalings = forward(given, how, keep=True)
    *dropped, none = forward(given, how)
    assert none == []
    for with_scalings, without in zip(kept, dropped, strict=True):
        assert torch.equal(with_scalings, without)
    expected = cpu.backward(grad, given, kept[1], how, kept[0], scalings)
    for again in (
        cpu.backward(grad, given, kept[1], how),
        cpu.backward(grad, given, kept[1], how, kept[0]),
    ):
        for one, other in zip(again, expected, strict=True):
            assert one is other is None or torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [0, 1, 3, 7])
def test_more_iterations_than_can_be_kept_are_done_again(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, grad = Case(3, 9, 9, (1.0, 0.1, 1e-4)).problem(torch.float32)
    how = settings(1e-3, n_iters=50)
    expected = everything(given, grad, how)
    assert int(expected[1].max()) > 7
    monkeypatch.setattr(cpu, "_MOST_KEPT", most * 3 * 18)
    for one, other in zip(everything(given, grad, how), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("most", [-1, 0, 1])
def test_as_many_iterations_as_can_be_kept(
    most: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, grad = Case(1, 9, 9, (0.3,)).problem(dtype)
    how = settings(1e-3, n_iters=50)
    expected = everything(given, grad, how)
    done = int(expected[1].max())
    assert 3 < done < 50
    monkeypatch.setattr(cpu, "_MOST_KEPT", (done + most) * 18)
    for one, other in zip(everything(given, grad, how), expected, strict=True):
        assert torch.equal(one, other)


def test_a_matrix_is_not_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that needs float64 brings a second call, for that one alone."""
    given, _ = Case(3, 9, 9, (1.0, 0.002, 1.0)).problem(torch.float32)
    original, calls = cpu._run, []

    def run(given: Problem, how: Settings, first_tier: int, *arrays: Any) -> int:
        if not first_tier:
            arrays[0][0] = torch.nan  # the result of one that is done
        left = original(given, how, first_tier, *arrays)
        calls.append(left)
        return left

    monkeypatch.setattr(cpu, "_run", run)
    out, _, _, kept = cpu.forward(given, settings(), True)
    assert (calls, kept[0].tolist()) == ([-2, 0], [1, 2, 1])
    assert out[0].isnan().all()
    assert out[1:].isfinite().all()
    monkeypatch.setattr(cpu, "_FIRST_TIER", 3)
    cpu.forward(given, settings(), True)
    assert calls[2:] == [3]  # and none for float64 that nothing needs


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("tau", [1.0, 0.01, 1e-4])
def test_leaving_out_the_statistics_changes_nothing(tau: float) -> None:
    given, grad = Case(17, 6, 6, (tau,)).problem(torch.float32)
    found, how = [], settings()
    for info in (True, False):
        out, iters, error, kept = cpu.forward(given, how, True, info)
        assert (error is None) == (not info)
        found.append((out, cpu.backward(grad, given, iters, how, out, kept)[0]))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau", [1.0, 0.01, 1e-4])
def test_one_temperature_for_all_is_one_for_each(dtype: Any, tau: float) -> None:
    given, grad = Case(17, 6, 6, (tau,)).problem(dtype)
    single: Any = (tau, torch.tensor(tau, dtype=torch.float64))
    found = [everything(given._replace(tau=t), grad, settings()) for t in (given.tau, *single)]
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_views_are_as_good_as_copies(dtype: Any, log: bool) -> None:
    given, grad = Case(5, 8, 6, sums="given").problem(dtype)
    views = Problem(*(t.mT.contiguous().mT if t.dim() > 1 else t for t in given))  # type: ignore[union-attr, arg-type]
    wide = torch.cat([grad, grad], -1)[..., :6]
    assert not views.x.is_contiguous()
    assert not wide.is_contiguous()
    expected = everything(given, grad, settings(log=log))
    for one, other in zip(everything(views, wide, settings(log=log)), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 0), (2, 0, 5, 5)])
def test_nothing_to_do(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    given = Problem(x, torch.ones(shape[:-2], dtype=torch.float64))
    out, iters, error, scalings = forward(given, settings(), keep=True)
    assert out.shape == shape
    assert iters.shape == error.shape == shape[:-2]
    assert scalings == []
    assert cpu.backward(x, given, iters, settings(), out, scalings)[0].shape == shape
