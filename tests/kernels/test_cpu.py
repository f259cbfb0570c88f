"""The compiled CPU kernels, each layout by itself, against the plain loop in float64.

The layouts are chosen by size in practice; here each is made to do matrices of every size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import compiled
from tests.kernels import cases
from tests.kernels.cases import DTYPES, Case, check

LEVELS = cases.compiled_levels()
pytestmark = compiled

# Around the widths of vectors, 2 to 16 numbers, and of groups of them.
SIDES = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 63, 64, 65)
SHAPES = [(3, 7), (7, 3), (1, 9), (9, 1), (16, 5), (5, 16), (33, 17), (17, 33), (100, 40), (2, 130)]
LAYOUTS = [("lanes", 0.0), ("rows", 0.0), ("rows", 1e-2)]


@pytest.fixture(params=LEVELS[-1:])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The best instruction set of this processor; others where a test asks for them."""
    chosen: int = request.param
    cases.use_level(chosen, monkeypatch)
    return chosen


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("layout", "tol"), LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_squares_of_every_size(
    layout: str, tol: float, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout(layout, monkeypatch)
    for n in SIDES:
        if not tol or n < 48:
            check(Case(4, n, n), dtype, log, tol)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("layout", "tol"), LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_batches_that_do_and_do_not_fill_the_lanes(
    layout: str, tol: float, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout(layout, monkeypatch)
    for batch in (1, 2, 15, 16, 17, 35):
        check(Case(batch, 6, 6), dtype, log, tol)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("layout", "tol"), LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("sums", ["columns", "given", "zeros"])
def test_any_shape_and_sums(
    layout: str, tol: float, dtype: Any, log: bool, sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout(layout, monkeypatch)
    for m, n in [*SHAPES, (6, 6), (17, 17)]:
        check(Case(5, m, n, sums=sums), dtype, log, tol)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("n", [100, 112, 405, 641])  # copied; in place; copied; in place with tails
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_rows_of_larger_matrices(
    n: int, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout("rows", monkeypatch)
    check(Case(2, n, n, (1.0, 0.01)), dtype, log)
    check(Case(1, n, n - 7, (1.0,), "given"), dtype, log)


@pytest.mark.parametrize("level", LEVELS[:-1], indirect=True)
@pytest.mark.parametrize(("layout", "tol"), LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
def test_every_instruction_set(
    level: int, layout: str, tol: float, dtype: Any, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout(layout, monkeypatch)
    for n in (1, 3, 8, 17, 33):
        check(Case(17 if n < 9 else 4, n, n), dtype, log, tol)
    check(Case(5, 33, 17, sums="zeros"), dtype, log, tol)
    check(Case(5, 5, 16, sums="given"), dtype, log, tol)


@pytest.mark.parametrize("level", LEVELS, indirect=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_a_large_matrix_is_shared_out(
    level: int, dtype: Any, log: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_threads(threads, monkeypatch)
    m, n = (520, 521) if level == LEVELS[-1] else (512, 512)
    check(Case(1, m, n, (1.0,), "ones" if m == n else "given"), dtype, log, 1e-3)
    if level == LEVELS[-1]:
        check(Case(1, 4111, 64, (0.01,), "zeros"), dtype, log)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("layout", ["lanes", "rows"])
@pytest.mark.parametrize("sums", ["ones", "given"])
def test_every_way_to_compute_is_used(
    layout: str, sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout(layout, monkeypatch)
    by_dtype = {torch.float32: [1, 1, 2, 3], torch.float64: [1, 1, 1, 3]}
    for dtype, wanted in by_dtype.items():
        ways = check(Case(4, 16, 16, (1.0, 1.0, 0.01, 1e-4), sums), dtype, False)[0]
        assert ways.tolist() == wanted


@pytest.mark.parametrize("level", LEVELS, indirect=True)
def test_lanes_of_few_matrices_are_not_done_for_them_alone(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout("lanes", monkeypatch)
    ways = check(Case(20, 16, 16, (1.0, 1e-4, 1e-4, 1e-4)), torch.float32, False)[0]
    assert bool((ways > 1).all()), level


@pytest.mark.parametrize("level", LEVELS, indirect=True)
@pytest.mark.parametrize("layout", ["lanes", "rows"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_of_sum_0_are_no_reason_for_another_way(
    level: int, layout: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases.use_layout(layout, monkeypatch)
    for m in (3, 6, 17, 65):
        given, _ = Case(2, m, m, (1.0,)).problem(dtype)
        sums = torch.zeros(2, m, dtype=torch.float64)
        sums[1, : m // 2] = -torch.inf
        x = given.x.masked_fill(sums.isneginf().unsqueeze(-1), -torch.inf)
        total = torch.full((2, m), 1.0, dtype=torch.float64)
        total[1] *= (m - m // 2) / m
        ragged = given._replace(x=x, log_rows=sums, log_columns=total.log())
        assert cases.forward(ragged, cases.settings(), True)[3][0].tolist() == [1, 1], level


@pytest.mark.usefixtures("level")
def test_matrices_stop_at_different_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    cases.use_layout("rows", monkeypatch)
    given, _ = Case(17, 16, 16).problem(torch.float32)
    iters = cases.forward(given, cases.settings(1e-2))[1]
    assert len(iters.unique()) > 1
