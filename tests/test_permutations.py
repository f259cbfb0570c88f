"""Permutations as indices and matrices, against loops and enumeration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from softperm import (
    apply_permutation,
    compose_permutations,
    invert_permutation,
    permutation_from_order,
    permutation_indices,
    permutation_matrix,
    random_permutation,
)
from tests import references

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIZES = range(6)


# A permutation by hand: item 0 goes to position 1, item 1 to position 2, item 2 to position 0.
CYCLE = torch.tensor([1, 2, 0])


def test_conventions_by_hand() -> None:
    P = permutation_matrix(CYCLE)
    assert P.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert apply_permutation(CYCLE, torch.tensor([10, 20, 30])).tolist() == [30, 10, 20]
    assert invert_permutation(CYCLE).tolist() == [2, 0, 1]
    # First swap items 0 and 1, then cycle: 0 -> 1 -> 2, 1 -> 0 -> 1, 2 -> 2 -> 0.
    assert compose_permutations(CYCLE, torch.tensor([1, 0, 2])).tolist() == [2, 1, 0]


@pytest.mark.parametrize("n", SIZES)
def test_matrix_and_indices_of_every_permutation(n: int) -> None:
    perms = references.all_permutations(n)
    P = permutation_matrix(perms)
    assert P.dtype == torch.float32
    for perm, found in zip(perms, P, strict=True):
        assert torch.equal(found, references.matrix(perm).reshape(n, n))
    assert torch.equal(permutation_indices(P), perms)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.int8, torch.bool])
def test_matrix_dtypes(dtype: torch.dtype) -> None:
    P = permutation_matrix(CYCLE, dtype)
    assert P.dtype == dtype
    assert torch.equal(permutation_indices(P), CYCLE)


def test_matrix_takes_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert permutation_matrix(CYCLE).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_index_dtypes(dtype: torch.dtype) -> None:
    perm = CYCLE.to(dtype)
    assert torch.equal(permutation_matrix(perm), permutation_matrix(CYCLE))
    assert torch.equal(invert_permutation(perm), invert_permutation(CYCLE))
    assert torch.equal(compose_permutations(perm, perm), compose_permutations(CYCLE, CYCLE))
    assert torch.equal(apply_permutation(perm, CYCLE), apply_permutation(CYCLE, CYCLE))


@pytest.mark.parametrize("n", SIZES)
def test_invert_every_permutation(n: int) -> None:
    perms = references.all_permutations(n)
    for perm, found in zip(perms, invert_permutation(perms), strict=True):
        assert torch.equal(found, references.inverse(perm))


@pytest.mark.parametrize("n", range(5))
def test_compose_every_pair(n: int) -> None:
    perms = references.all_permutations(n)
    found = compose_permutations(perms.unsqueeze(1), perms)
    x = torch.arange(n)
    for a, row in zip(perms, found, strict=True):
        for b, c in zip(perms, row, strict=True):
            wanted = references.place(a, references.place(b, x))
            assert torch.equal(references.place(c, x), wanted)


def test_compose_is_the_product_of_matrices() -> None:
    a, b = random_permutation(7, (2, 5), generator=torch.Generator().manual_seed(1))
    # y = P_a^T P_b^T x, so the matrices multiply in the opposite order.
    product = permutation_matrix(b) @ permutation_matrix(a)
    assert torch.equal(permutation_matrix(compose_permutations(a, b)), product)


@pytest.mark.parametrize("trailing", [(), (3,), (2, 1, 4), (0,)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_apply_to_any_shape(
    n: int, batch: tuple[int, ...], trailing: tuple[int, ...], generator: torch.Generator
) -> None:
    perm = random_permutation(n, batch, generator=generator)
    x = torch.rand(*batch, n, *trailing, generator=generator)
    y = apply_permutation(perm, x)
    assert y.shape == x.shape
    count = torch.Size(batch).numel()
    flat = zip(
        perm.reshape(count, n),
        x.reshape(count, n, *trailing),
        y.reshape(count, n, *trailing),
        strict=True,
    )
    for p, before, after in flat:
        assert torch.equal(after, references.place(p, before))
    torch.testing.assert_close(apply_permutation(permutation_matrix(perm), x), y)
    assert torch.equal(apply_permutation(invert_permutation(perm), y), x)


@pytest.mark.parametrize("trailing", [(), (3,), (2, 2)])
def test_apply_soft_matrices(trailing: tuple[int, ...], generator: torch.Generator) -> None:
    P = torch.rand(5, 4, 4, generator=generator, dtype=torch.float64)
    x = torch.rand(5, 4, *trailing, generator=generator, dtype=torch.float64)
    wanted = torch.stack([references.mix(p, items) for p, items in zip(P, x, strict=True)])
    torch.testing.assert_close(apply_permutation(P, x), wanted)


def test_apply_is_differentiable(generator: torch.Generator) -> None:
    P = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(apply_permutation, (P, x))
    perm = random_permutation(3, (2,), generator=generator)
    torch.autograd.gradcheck(lambda items: apply_permutation(perm, items), (x,))


def test_apply_broadcasts_aligned_at_the_left(generator: torch.Generator) -> None:
    perms = random_permutation(3, (5, 1), generator=generator)
    x = torch.rand(1, 4, 3, 2, generator=generator)
    for P in (perms, permutation_matrix(perms)):
        y = apply_permutation(P, x)
        assert y.shape == (5, 4, 3, 2)
        for b in range(5):
            for c in range(4):
                torch.testing.assert_close(y[b, c], references.place(perms[b, 0], x[0, c]))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.complex64])
def test_indices_keep_the_dtype_of_the_items(dtype: torch.dtype) -> None:
    x = torch.tensor([1, 0, 1]).to(dtype)
    assert torch.equal(apply_permutation(CYCLE, x), references.place(CYCLE, x))


@pytest.mark.parametrize(
    ("P", "x", "result"),
    [
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.int64, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
    ],
)
def test_matrices_promote(P: torch.dtype, x: torch.dtype, result: torch.dtype) -> None:
    y = apply_permutation(permutation_matrix(CYCLE, P), torch.tensor([10, 20, 30]).to(x))
    assert y.dtype == result
    assert y.tolist() == [30, 10, 20]


@pytest.mark.parametrize("P", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("x", [torch.float32, torch.float64, torch.bfloat16])
def test_matrices_promote_under_autocast(P: torch.dtype, x: torch.dtype) -> None:
    soft = torch.tensor([[0.7, 0.3], [0.3, 0.7]]).to(P).requires_grad_()
    items = torch.tensor([[1.001, 2.0], [3.0, 4.0]]).to(x).requires_grad_()
    wanted = apply_permutation(soft, items)
    with torch.autocast("cpu", torch.bfloat16):
        found = apply_permutation(soft, items)
        inside = torch.mm(torch.eye(2), torch.eye(2))
    assert inside.dtype == torch.bfloat16
    assert found.dtype == torch.promote_types(P, x)
    assert torch.equal(found, wanted)
    found.float().sum().backward()
    assert soft.grad is not None
    assert soft.grad.dtype == P


def test_apply_on_a_device_without_autocast() -> None:
    P = torch.empty(2, 2, device="meta")
    assert apply_permutation(P, torch.empty(2, 3, device="meta")).shape == (2, 3)


def test_order_and_permutation() -> None:
    x = torch.tensor([[0.3, 0.9, 0.1], [3.0, 1.0, 2.0]])
    order = x.argsort(-1)
    perm = permutation_from_order(order)
    assert perm.tolist() == [[1, 2, 0], [2, 0, 1]]
    assert torch.equal(apply_permutation(perm, x), x.sort(-1).values)
    assert torch.equal(permutation_from_order(perm), order)
    with pytest.raises(ValueError, match=r"order must hold every index 0..1 once"):
        permutation_from_order(torch.tensor([0, -1]))
    with pytest.raises(TypeError, match="order must hold integer indices"):
        permutation_from_order(x)


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("batch", [(), 3, (2, 3), (0,)])
def test_random_permutations_are_permutations(n: int, batch: int | tuple[int, ...]) -> None:
    perm = random_permutation(n, batch)
    shape = (batch,) if isinstance(batch, int) else batch
    assert perm.shape == (*shape, n)
    assert perm.dtype == torch.int64
    assert torch.equal(perm.sort(-1).values, torch.arange(n).expand(perm.shape))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_random_permutations_are_uniform(n: int, generator: torch.Generator) -> None:
    cells = references.all_permutations(n)
    draws = random_permutation(n, (400 * len(cells),), generator=generator)
    counts = (draws.unsqueeze(1) == cells).all(-1).sum(0)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_random_permutations_follow_the_generator() -> None:
    a, b, c = (
        random_permutation(20, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


BAD_INDICES: list[tuple[Any, type[Exception], str]] = [
    ([0, 1], TypeError, "{name} must be a torch.Tensor, got list"),
    (torch.tensor([0.0, 1.0]), TypeError, "{name} must hold integer indices"),
    (torch.tensor([True, False]), TypeError, "{name} must hold integer indices"),
    (torch.tensor(0), ValueError, r"{name} must have shape \(\*, n\), got a scalar"),
    (torch.tensor([0, 0]), ValueError, r"{name} must hold every index 0..1 once"),
    (torch.tensor([0, 2]), ValueError, r"{name} must hold every index 0..1 once"),
    (torch.tensor([[0, 1], [1, 1]]), ValueError, r"{name} must hold .* got shape \(2, 2\)"),
    (torch.tensor([-2, 0]), ValueError, r"{name} must hold every index 0..1 once"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD_INDICES)
def test_bad_indices(bad: Any, error: type[Exception], message: str) -> None:
    good = torch.tensor([1, 0])
    with pytest.raises(error, match=message.format(name="perm")):
        permutation_matrix(bad)
    with pytest.raises(error, match=message.format(name="perm")):
        invert_permutation(bad)
    with pytest.raises(error, match=message.format(name="a")):
        compose_permutations(bad, good)
    with pytest.raises(error, match=message.format(name="b")):
        compose_permutations(good, bad)


@pytest.mark.parametrize(("bad", "error", "message"), [BAD_INDICES[i] for i in (0, 2, 3, 4, 5)])
def test_apply_bad_permutation(bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.format(name="P_or_perm")):
        apply_permutation(bad, torch.zeros(2))


@pytest.mark.parametrize(
    ("P", "x", "error", "message"),
    [
        (torch.eye(2, dtype=torch.complex64), torch.zeros(2), TypeError, "P_or_perm"),
        (CYCLE, [1, 2, 3], TypeError, "x must be a torch.Tensor, got list"),
        (
            torch.zeros(3),
            torch.zeros(3),
            ValueError,
            r"P_or_perm of dtype torch.float32 is read as matrices, .* \(\*, m, n\), got \(3,\); "
            r"indices must be integers: P_or_perm.long\(\)",
        ),
        (torch.zeros(2, 3), torch.zeros(3), ValueError, "x must have 2 items in dimension 0, as"),
        (CYCLE, torch.zeros(4), ValueError, r"x must have 3 items in dimension 0.*got shape \(4,"),
        (CYCLE, torch.tensor(0.0), ValueError, "x must have 3 items"),
        (torch.eye(3), torch.zeros(2, 3), ValueError, "x must have 3 items in dimension 0"),
        (CYCLE.expand(2, 3), torch.zeros(4, 3), ValueError, r"leading dimensions of x .* \(4, 3\)"),
        (torch.eye(3).expand(2, 3, 3), torch.zeros(4, 3), ValueError, "leading dimensions of x"),
    ],
)
def test_apply_bad_shapes(P: Any, x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        apply_permutation(P, x)


@pytest.mark.parametrize(
    ("P", "error", "message"),
    [
        ([[1.0]], TypeError, "P must be a torch.Tensor, got list"),
        (torch.eye(2, dtype=torch.complex64), TypeError, "P must have a real dtype"),
        (torch.zeros(3), ValueError, r"P must have shape \(\*, m, n\), got \(3,\)"),
        (torch.full((2, 3), 0.2), ValueError, r"P must hold .* got another .* shape \(2, 3\)"),
        (torch.full((2, 2), 0.5), ValueError, "P must hold permutation matrices"),
        (torch.tensor([[1.0, 0.0], [1.0, 0.0]]), ValueError, "P must hold permutation matrices"),
        (torch.tensor([[2.0, 0.0], [0.0, 2.0]]), ValueError, "P must hold permutation matrices"),
        (torch.tensor([[-1.0, 0.0], [0.0, 1.0]]), ValueError, "P must hold permutation matrices"),
        (torch.full((1, 1), torch.nan), ValueError, "P must hold permutation matrices"),
    ],
)
def test_bad_matrices(P: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        permutation_indices(P)


def test_indices_of_empty_batches() -> None:
    assert permutation_indices(torch.empty(0, 3, 3)).shape == (0, 3)
    assert permutation_indices(torch.empty(2, 0, 0)).shape == (2, 0)


def test_compose_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"a and b must permute the same number .* 3 and 2"):
        compose_permutations(CYCLE, torch.tensor([1, 0]))
    with pytest.raises(ValueError, match=r"a and b must broadcast, got \(2, 3\) and \(4, 3\)"):
        compose_permutations(CYCLE.expand(2, 3), CYCLE.expand(4, 3))


@pytest.mark.parametrize(
    ("n", "batch", "error", "message"),
    [
        (-1, (), ValueError, "n must be at least 0, got -1"),
        (2.0, (), TypeError, "n must be an int, got float"),
        (True, (), TypeError, "n must be an int, got bool"),
        (2, (-1,), ValueError, "batch_shape must hold integers of at least 0"),
        (2, -1, ValueError, "batch_shape must hold integers of at least 0"),
        (2, 1.5, TypeError, "batch_shape must be an int or a tuple of ints, got 1.5"),
        (2, (1.5,), TypeError, "batch_shape must be an int or a tuple of ints"),
        (2, None, TypeError, "batch_shape must be an int or a tuple of ints, got None"),
    ],
)
def test_random_bad_arguments(n: Any, batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        random_permutation(n, batch)
