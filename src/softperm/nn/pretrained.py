"""Trained networks that come with the package."""

from __future__ import annotations

import json

import torch

from softperm._pretrained import pretrained_folder, pretrained_names
from softperm.nn.puzzle import Puzzle, PuzzleSolver

__all__ = ["load_pretrained", "pretrained_folder", "pretrained_names"]


def load_pretrained(name: str | None = None) -> PuzzleSolver:
    """Load a trained network, on the CPU, in evaluation mode.

    It takes uint8 pieces as ``net.puzzle.cut`` gives them, brings them to what it was trained on,
    and gives them back in order with their permutation.

    Arguments:
        name: Its name, such as ``"mnist-3x3"``: MNIST digits in 3 x 3 pieces. `pretrained_names`
            gives them all, and so does the error where it is omitted.

    Returns:
        The network. ``net.puzzle`` tells what it was made for; ``net.net`` is the trained part,
        which reads normalised pieces.

    Raises:
        ValueError: there is none of that name.
        ModuleNotFoundError: safetensors, part of the extra ``train``, is not installed.

    Example:
        >>> from softperm.puzzles import assemble, scramble
        >>> net = load_pretrained("mnist-3x3")
        >>> digit = torch.zeros(1, 28, 28, dtype=torch.uint8)
        >>> digit[0, 4:24, 13:16] = 255  # a one
        >>> scrambled, _ = scramble(net.puzzle.cut(digit))
        >>> ordered, perm = net(scrambled)
        >>> torch.equal(assemble(ordered, 3), assemble(net.puzzle.cut(digit), 3))
        True
    """
    folder = pretrained_folder(name)
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        message = "safetensors is not installed: pip install '.[train]', in the clone of softperm"
        raise ModuleNotFoundError(message, name=error.name) from error
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))["model"]
    with torch.random.fork_rng(devices=[]):  # the weights drawn at first are thrown away
        solver = PuzzleSolver(Puzzle.from_json(model))
    solver.net.load_state_dict(load_file(folder / "model.safetensors"))
    return solver.eval()
