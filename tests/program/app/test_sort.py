"""Numbers that are typed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from softperm.program.app.sort import MOST_NUMBERS, parse_numbers, sort


def test_separators() -> None:
    assert parse_numbers(" 3,1;2\n-1e3\t.5 ,, ") == [3.0, 1.0, 2.0, -1000.0, 0.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "type 2 to 32 numbers, got 0"),
        ("7", "got 1"),
        ("1 " * 33, "got 33"),
        ("1 two", "'two' is no number"),
        ("1 nan", "at most 1e\\+100 in magnitude, got nan"),
        ("1 inf", "got inf"),
        ("1 -2e100", "got -2e100"),
        ("1 " + 5000 * "x", r"'x+ \.\.\. x+' is no number"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_numbers(text)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("n", [2, 3, 9, MOST_NUMBERS])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e99])
def test_any_list_is_sorted(n: int, scale: float) -> None:
    source = random.Random(n)
    numbers = [scale * source.uniform(-1, 1) for _ in range(n)]
    found = sort(" ".join(map(repr, numbers)))
    assert found["sorted"] == sorted(numbers)
    assert found["in_order"]
    assert not found["equal"]
    assert [sorted(numbers).index(x) for x in numbers] == found["positions"]


def test_the_coldest_matrix_sorts_and_the_hottest_mixes() -> None:
    found = sort("3.1 -2 14 0.5 7 1.25 9 4")
    hot, cold = (np.array(found["matrices"][at]) for at in (0, -1))
    assert np.array_equal(cold.argmax(1), found["positions"])
    assert np.abs(cold.T @ found["numbers"] - found["sorted"]).max() < 0.02
    assert cold.max(1).min() > 0.99
    assert hot.max() < 0.5


def test_equal_numbers_share_their_places() -> None:
    found = sort("1 1 2")
    assert found["equal"]
    assert found["sorted"] == [1.0, 1.0, 2.0]
    assert found["matrices"][-1] == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert sort("5 5")["sorted"] == [5.0, 5.0]


def test_numbers_too_close_to_tell_apart_are_not_called_sorted() -> None:
    found = sort("2 1 1e100")
    assert found["in_order"] == (found["sorted"] == [1.0, 2.0, 1e100])
    assert not sort("1e-320 0 1e-321")["in_order"]
