"""What the Sinkhorn operator refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from softperm import log_sinkhorn, sinkhorn

pytestmark = pytest.mark.usefixtures("backend")
INF = torch.inf
ZEROS = torch.zeros(2, 3, 4)
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"row_sums": "1"}, TypeError, "row_sums must be a float or a floating tensor, got str"),
    ({"col_sums": torch.tensor(1)}, TypeError, "col_sums must be a float .* torch.int64"),
    ({"row_sums": True}, TypeError, "row_sums must be a float or a floating tensor, got bool"),
    ({"row_sums": torch.ones(4)}, ValueError, r"row_sums must broadcast against \(2, 3\).*\(4,\)"),
    ({"col_sums": torch.ones(3, 4)}, ValueError, r"col_sums must broadcast against \(2, 4\)"),
    ({"row_sums": 0.0}, ValueError, "row_sums must be positive and finite, got 0"),
    ({"row_sums": torch.tensor([1.0, -2.0, 1.0])}, ValueError, "row_sums must be .* got -2"),
    ({"col_sums": INF}, ValueError, "col_sums must be positive and finite, got inf"),
    ({"col_sums": torch.nan}, ValueError, "col_sums must be positive and finite, got nan"),
    (
        {"row_sums": 1.0, "col_sums": 1.0},
        ValueError,
        r"row_sums and col_sums must have the same total, got 3 and 4",
    ),
    (
        {"row_sums": 1.0, "col_sums": torch.tensor([[0.75], [1.25]])},
        ValueError,
        r"the same total, got 3 and 5 at batch index \(1,\)",
    ),
    ({"row_sums": 1.0, "slack": 0.0}, ValueError, "give slack or row_sums, not both"),
    ({"col_sums": 1.0, "slack": 0.0}, ValueError, "give slack or col_sums, not both"),
    ({"slack": "1"}, TypeError, "slack must be a float or a floating tensor, got str"),
    ({"slack": INF}, ValueError, "slack must be finite, got inf"),
    ({"slack": torch.tensor(torch.nan)}, ValueError, "slack must be finite, got NaN"),
    (
        {"slack": torch.zeros(3)},
        ValueError,
        r"slack must broadcast against the batch .*\(2,\).*\(3,\)",
    ),
    ({"n_rows": 4}, ValueError, r"n_rows must lie in 0..3, .* got 4"),
    ({"n_cols": torch.tensor([2, -1])}, ValueError, r"n_cols must lie in 0..4, .* got -1"),
    (
        {"n_cols": torch.tensor([2, 1, 2])},
        ValueError,
        r"n_cols must broadcast against the batch .*\(2,\)",
    ),
    ({"n_rows": 2.0}, TypeError, "n_rows must be an int or an integer tensor, got float"),
    ({"n_rows": torch.ones(2)}, TypeError, "n_rows must be an int .* dtype torch.float32"),
    (
        {"log_alpha": torch.zeros(3, 4), "slack": torch.zeros(2), "n_rows": torch.ones(3).long()},
        ValueError,
        r"the batch dimensions of .* must broadcast, got \(\), \(2,\), \(3,\)",
    ),
    (
        {"n_rows": torch.tensor([3, 0]), "row_sums": 1.0, "col_sums": 0.75},
        ValueError,
        r"the same total, got 0 and 3 at batch index \(1,\)",
    ),
]


@pytest.mark.parametrize("operator", [sinkhorn, log_sinkhorn])
@pytest.mark.parametrize(("given", "error", "message"), BAD)
def test_errors(operator: Any, given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        operator(**({"log_alpha": ZEROS} | given))


@pytest.mark.parametrize("given", [{}, {"slack": 0.0}, {"row_sums": 1.0}, {"n_rows": 3}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_values_without_an_answer(given: dict[str, Any], dtype: Any, requires_grad: bool) -> None:
    for value, message in ((torch.nan, "got NaN"), (INF, r"got \+inf")):
        x = torch.zeros(2, 3, 4, dtype=dtype)
        x[1, 0, 1] = value
        with pytest.raises(ValueError, match=message + r".*\(2, 3, 4\)"):
            sinkhorn(x.requires_grad_(requires_grad), **given)


@pytest.mark.parametrize(
    ("shape", "index", "given", "what"),
    [
        ((2, 3, 3), (1, 2), {}, "permutation possible, got a row"),
        ((2, 3, 3), (1, slice(None), 0), {}, "permutation possible, got a column"),
        ((2, 3, 4), (1, 2), {}, "matrix with the wanted sums possible, got a row"),
        ((2, 4, 3), (1, slice(None), 2), {}, "matrix with the wanted sums possible, got a column"),
        (
            (2, 3, 4),
            (1, slice(None), 2),
            {"row_sums": 1.0},
            "matrix with the wanted sums possible, got a column",
        ),
        (
            (2, 3, 3),
            (1, 1),
            {"n_rows": torch.tensor([3, 2])},
            "matrix with the wanted sums possible, got a row",
        ),
    ],
)
def test_forbidden_lines(shape: Any, index: Any, given: dict[str, Any], what: str) -> None:
    x = torch.zeros(shape)
    x[index] = -INF
    message = rf"log_alpha must leave at least one {what} of -inf alone at batch index \(1,\)"
    with pytest.raises(ValueError, match=message):
        sinkhorn(x, **given)


@pytest.mark.parametrize(
    ("shape", "index", "given"),
    [
        ((2, 3, 4), (1, slice(None), 2), {}),
        ((2, 4, 3), (1, 1), {}),
        ((2, 3, 3), (1, 1), {"slack": 0.0}),
        ((2, 3, 3), (1,), {"slack": 0.0}),
        ((2, 3, 3), (1, 2), {"n_rows": torch.tensor([3, 2])}),
        ((2, 3, 3), (1, slice(None), 2), {"n_cols": torch.tensor([3, 2]), "row_sums": 1.0}),
    ],
)
def test_lines_that_may_be_forbidden(shape: Any, index: Any, given: dict[str, Any]) -> None:
    x = torch.zeros(shape)
    x[index] = -INF
    S = sinkhorn(x.requires_grad_(), n_iters=50, **given)
    assert bool((S[..., : shape[1], : shape[2]][index] == 0).all())
    (grad,) = torch.autograd.grad(S.square().sum(), x)
    assert bool(grad.isfinite().all())
