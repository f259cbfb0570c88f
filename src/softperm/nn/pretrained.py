"""Trained networks that come with the package."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import torch

from softperm.nn.puzzle import Puzzle, PuzzleSolver

_PRETRAINED = Path(str(files("softperm"))) / "pretrained"


def pretrained_names() -> list[str]:
    """List the trained networks that come with the package."""
    return sorted(path.parent.name for path in _PRETRAINED.glob("*/model.safetensors"))


def pretrained_folder(name: str) -> Path:
    """The folder of a trained network: its weights, settings and model card.

    Raises:
        ValueError: there is none of that name.
    """
    names = pretrained_names()
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
    return _PRETRAINED / name


def load_pretrained(name: str) -> PuzzleSolver:
    """Load a trained network, on the CPU, in evaluation mode.

    It takes uint8 pieces as ``net.puzzle.cut`` gives them, brings them to what it was trained on,
    and gives them back in order with their permutation.

    Arguments:
        name: Its name, such as ``"mnist-3x3"``: MNIST digits in 3 x 3 pieces.

    Returns:
        The network. ``net.puzzle`` tells what it was made for; ``net.net`` is the trained part,
        which reads normalised pieces.

    Raises:
        ValueError: there is none of that name.
        ModuleNotFoundError: safetensors, part of ``softperm[train]``, is not installed.

    Example:
        >>> from softperm.puzzles import assemble, scramble
        >>> net = load_pretrained("mnist-3x3")
        >>> digit = torch.zeros(1, 28, 28, dtype=torch.uint8)
        >>> digit[0, 4:24, 13:16] = 255  # a one
        >>> scrambled, _ = scramble(net.puzzle.cut(digit))
        >>> ordered, perm = net(scrambled)
        >>> torch.equal(assemble(ordered, net.puzzle.pieces, size=(28, 28)), digit)
        True
    """
    folder = pretrained_folder(name)
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        message = "safetensors is not installed: pip install 'softperm[train]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))["model"]
    with torch.random.fork_rng(devices=[]):  # the weights drawn at first are thrown away
        solver = PuzzleSolver(Puzzle.from_json(model))
    solver.net.load_state_dict(load_file(folder / "model.safetensors"))
    return solver.eval()
