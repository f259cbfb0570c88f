"""A puzzle, and the network that solves it from pixels."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch

from softperm.nn import PieceTransformer, Puzzle, PuzzleSolver
from softperm.puzzles import scramble

PUZZLE = Puzzle(
    3, 1, 8, 8, (0.4,), (0.3,), net="transformer", features=8, layers=1, heads=2, gamma=0.5
)


def test_fields_survive_json() -> None:
    again = Puzzle.from_json(json.loads(json.dumps(asdict(PUZZLE))))
    assert again == PUZZLE
    assert hash(again) == hash(PUZZLE)


def test_a_solver_reads_pixels_as_the_puzzle_normalises_them(generator: torch.Generator) -> None:
    solver = PuzzleSolver(PUZZLE).eval()
    assert isinstance(solver.net, PieceTransformer)
    images = torch.randint(256, (5, 1, 8, 8), generator=generator, dtype=torch.uint8)
    pieces, _ = scramble(PUZZLE.cut(images), generator)
    ordered, perm = solver(pieces)
    scores = solver.net.log_alpha(((pieces / 255) ** 0.5 - 0.4) / 0.3)
    torch.testing.assert_close(solver.log_alpha(pieces), scores)
    assert torch.equal(perm, solver.net(PUZZLE.normalise(pieces))[1])
    assert ordered.dtype == torch.uint8
    for b in range(5):
        for i in range(9):
            assert torch.equal(ordered[b, perm[b, i]], pieces[b, i])


def test_a_solver_samples_as_the_puzzle_says() -> None:
    puzzle = Puzzle(2, 1, 4, 4, (0.4,), (0.3,), tau=0.7, n_iters=7, noise_scale=0.2)
    solver = PuzzleSolver(puzzle)
    assert (solver.tau, solver.n_iters, solver.noise_scale) == (0.7, 7, 0.2)


def test_other_pieces_are_refused() -> None:
    solver = PuzzleSolver(PUZZLE)
    with pytest.raises(TypeError, match=r"pieces must be uint8, .* got torch\.float32"):
        solver.log_alpha(torch.rand(9, 1, 3, 3))
    with pytest.raises(ValueError, match=r"pieces must have shape \(\*, 9, 1, 3, 3\), got"):
        solver.log_alpha(torch.zeros(9, 1, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"pieces": 0}, ValueError, "pieces must be at least 1, got 0"),
        ({"pieces": 9}, ValueError, "pieces must be at most the pixels per side, 8, got 9"),
        ({"pieces": "2"}, TypeError, "pieces must be an int, got str"),
        ({"height": 0}, ValueError, "height must be at least 1"),
        ({"net": "gan"}, ValueError, "net must be conv or transformer, got 'gan'"),
        ({"net": None}, ValueError, "net must be conv or transformer, got None"),
        ({"net": "conv", "kernel_size": 4}, ValueError, "kernel_size must be odd"),
        ({"net": "conv", "kernel_size": 9}, ValueError, "kernel_size must be at most 7 for"),
        ({"mean": ()}, ValueError, "mean must hold a number for each of 1 channels"),
        ({"mean": None}, TypeError, "mean must be a tuple of finite floats, got None"),
        ({"mean": (float("nan"),)}, TypeError, "mean must be a tuple of finite floats"),
        ({"std": (0.0,)}, ValueError, "std must hold a number .* above 0"),
        ({"gamma": -1.0}, ValueError, "gamma must be positive and finite, got -1"),
        ({"tau": 0.0}, ValueError, "tau must be positive"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale must be finite and at least 0"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Puzzle(**{**asdict(PUZZLE), **changes})
