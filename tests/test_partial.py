"""Permutations of m items into n positions, some of them without, against loops."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from softperm import (
    apply_permutation,
    compose_permutations,
    invert_permutation,
    permutation_indices,
    permutation_matrix,
)

SHAPES = [(0, 0), (0, 2), (2, 0), (1, 1), (2, 2), (3, 2), (2, 4), (3, 3)]


def all_partial(m: int, n: int) -> Tensor:
    """Every partial permutation of m items into n positions, (count, m)."""
    tuples = [
        places
        for places in product(range(-1, n), repeat=m)
        if len({j for j in places if j >= 0}) == sum(j >= 0 for j in places)
    ]
    return torch.tensor(tuples, dtype=torch.int64).reshape(len(tuples), m)


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_matrices_and_indices(m: int, n: int, dtype: torch.dtype) -> None:
    perms = all_partial(m, n)
    P = permutation_matrix(perms.to(dtype), n_positions=n)
    wanted = torch.zeros(len(perms), m, n)
    for b, perm in enumerate(perms.tolist()):
        for i, j in enumerate(perm):
            if j >= 0:
                wanted[b, i, j] = 1
    assert torch.equal(P, wanted)
    for kind in (torch.float32, torch.bool, torch.int64, torch.bfloat16):
        assert torch.equal(permutation_indices(P.to(kind)), perms)


@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_inverse(m: int, n: int) -> None:
    perms = all_partial(m, n)
    found = invert_permutation(perms, n)
    assert found.shape == (len(perms), n)
    for perm, inverse in zip(perms.tolist(), found.tolist(), strict=True):
        assert inverse == [perm.index(j) if j in perm else -1 for j in range(n)]
    assert torch.equal(invert_permutation(found, m), perms)


@pytest.mark.parametrize("trailing", [(), (2,), (2, 0)])
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_apply(m: int, n: int, trailing: tuple[int, ...]) -> None:
    perms = all_partial(m, n)
    x = torch.rand(len(perms), m, *trailing)
    wanted = torch.zeros(len(perms), n, *trailing)
    for b, perm in enumerate(perms.tolist()):
        for i, j in enumerate(perm):
            if j >= 0:
                wanted[b, j] = x[b, i]
    found = apply_permutation(perms, x, n)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(
        apply_permutation(permutation_matrix(perms, n_positions=n), x), found
    )
    for b in range(len(perms)):
        assert torch.equal(apply_permutation(perms[b], x[b], n), wanted[b])


@pytest.mark.parametrize(("m", "p", "n"), [(2, 3, 2), (3, 2, 3), (2, 2, 2), (0, 2, 1), (2, 0, 3)])
def test_compose(m: int, p: int, n: int) -> None:
    first, second = all_partial(m, p), all_partial(p, n)
    found = compose_permutations(second.unsqueeze(1), first, n)
    assert found.shape == (len(second), len(first), m)
    for a, row in zip(second.tolist(), found.tolist(), strict=True):
        for b, c in zip(first.tolist(), row, strict=True):
            assert c == [a[j] if j >= 0 else -1 for j in b]


def test_as_many_positions_as_items_when_not_said() -> None:
    perm = torch.tensor([2, -1, 0])
    assert permutation_matrix(perm).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert invert_permutation(perm).tolist() == [2, -1, 0]
    assert apply_permutation(perm, torch.tensor([10, 20, 30])).tolist() == [30, 0, 10]
    assert compose_permutations(torch.tensor([1, -1, 0]), perm).tolist() == [0, -1, 1]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.complex64])
def test_apply_keeps_the_dtype(dtype: torch.dtype) -> None:
    found = apply_permutation(torch.tensor([1, -1]), torch.tensor([1, 1]).to(dtype), 3)
    assert torch.equal(found, torch.tensor([0, 1, 0]).to(dtype))


def test_items_without_a_position_do_not_count() -> None:
    x = torch.tensor([1.0, torch.nan], requires_grad=True)
    y = apply_permutation(torch.tensor([0, -1]), x)
    assert y.tolist() == [1, 0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0]


def test_apply_is_differentiable() -> None:
    P = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    x = torch.rand(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(apply_permutation, (P, x))
    perm = torch.tensor([[3, -1, 0], [1, 0, 2]])
    assert torch.autograd.gradcheck(lambda x: apply_permutation(perm, x, 4), (x,))


def test_where_values_cannot_be_read() -> None:
    perm, x = all_partial(3, 2), torch.rand(len(all_partial(3, 2)), 3, 2)
    for name, mapped, wanted in [
        ("matrix", lambda p, _: permutation_matrix(p, None, 2), permutation_matrix(perm, None, 2)),
        ("inverse", lambda p, _: invert_permutation(p, 2), invert_permutation(perm, 2)),
        ("apply", lambda p, x: apply_permutation(p, x, 2), apply_permutation(perm, x, 2)),
    ]:
        assert torch.equal(torch.vmap(mapped)(perm, x), wanted), name


def test_compiles() -> None:
    torch._dynamo.reset()
    perm, x = torch.tensor([1, -1, 0]), torch.rand(3, 2)
    compiled = torch.compile(
        lambda p, P, x: (apply_permutation(p, x, 2), apply_permutation(P, x)),
        fullgraph=True,
        backend="eager",
    )
    P = permutation_matrix(perm, n_positions=2)
    for found in compiled(perm, P, x):
        assert torch.equal(found, torch.stack([x[2], x[0]]))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("perm", "n", "error", "message"),
    [
        ([0, 0], 2, ValueError, r"perm must hold every index 0..1 once at most .* \(2,\) with an"),
        ([0, 2], 2, ValueError, "perm must hold every index 0..1 once at most"),
        ([0, -2], 2, ValueError, "perm must hold .* and -1 for items without a position"),
        ([0, 1], 1, ValueError, "perm must hold every index 0..0 once at most"),
        ([0], -1, ValueError, "n_positions must be at least 0, got -1"),
        ([0], 1.0, TypeError, "n_positions must be an int, got float"),
        ([0], True, TypeError, "n_positions must be an int, got bool"),
    ],
)
def test_errors(perm: list[int], n: Any, error: type[Exception], message: str) -> None:
    indices = torch.tensor(perm)
    with pytest.raises(error, match=message):
        permutation_matrix(indices, n_positions=n)
    with pytest.raises(error, match=message):
        invert_permutation(indices, n)
    with pytest.raises(error, match=message.replace("perm must", "P_or_perm must")):
        apply_permutation(indices, torch.zeros(len(perm)), n)
    with pytest.raises(error, match=message.replace("perm must", "a must")):
        compose_permutations(indices, torch.arange(len(perm)), n)


def test_compose_errors() -> None:
    with pytest.raises(ValueError, match=r"b must hold every index 0..1 once at most"):
        compose_permutations(torch.tensor([1, 0]), torch.tensor([2, 0, 1]), 2)
    with pytest.raises(ValueError, match=r"same number of items, got 2 and 3; .* n_positions"):
        compose_permutations(torch.tensor([1, 0]), torch.tensor([2, 0, 1]))


def test_matrices_know_their_positions() -> None:
    P = torch.rand(2, 3)
    x = torch.rand(2)
    assert torch.equal(apply_permutation(P, x, 3), apply_permutation(P, x))
    with pytest.raises(ValueError, match=r"n_positions is 2, but P_or_perm .* 3 columns"):
        apply_permutation(P, x, 2)


@pytest.mark.parametrize(
    ("dtype", "n"), [(torch.uint8, 5), (torch.int8, 200), (torch.int16, 40_000)]
)
def test_short_index_dtypes(dtype: torch.dtype, n: int) -> None:
    perm = torch.tensor([3, 0], dtype=dtype)
    assert bool((permutation_matrix(perm, n_positions=n).argmax(-1) == perm).all())
    ordered = apply_permutation(perm, torch.tensor([1.0, 2.0]), n_positions=n)
    assert ordered.shape == (n,)
    assert ordered[3] == 1
    assert ordered[0] == 2
