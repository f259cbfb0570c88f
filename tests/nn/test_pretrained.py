"""The trained networks in the package: each keeps what its card promises."""

from __future__ import annotations

import math
import os
import re
import sys

import pytest
import torch

from softperm.nn import PuzzleSolver, load_pretrained
from softperm.nn.pretrained import pretrained_folder, pretrained_names
from softperm.program.tasks import Jigsaw
from softperm.program.training.run import Run
from softperm.puzzles import scramble

NAMES = pretrained_names()
needs_mnist = pytest.mark.skipif(
    "SOFTPERM_DATA" not in os.environ, reason="SOFTPERM_DATA is not set"
)


def card(name: str) -> dict[str, float]:
    """The metrics in a model card, of the weights that are in the package."""
    text = (pretrained_folder(name) / "README.md").read_text(encoding="utf-8")
    return {k: float(v) for k, v in re.findall(r"^\| (\w+) \| ([\d.]+) \| [\d.]+ \|$", text, re.M)}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def task(name: str) -> Jigsaw:
    task = Run(pretrained_folder(name)).load_task()
    assert isinstance(task, Jigsaw)
    return task


def test_a_network_is_what_its_name_says(name: str) -> None:
    net = load_pretrained(name)
    k = net.puzzle.pieces
    assert name == f"mnist-{k}x{k}"
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in net.parameters())
    assert {path.name for path in pretrained_folder(name).iterdir()} == {
        "README.md",
        "config.yaml",
        "model.json",
        "model.safetensors",
    }


def test_loading_draws_no_random_numbers(name: str) -> None:
    before = torch.get_rng_state()
    a, b = load_pretrained(name), load_pretrained(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def exact(net: PuzzleSolver, images: torch.Tensor) -> float:
    """Share of images restored pixel for pixel."""
    pieces = net.puzzle.cut(images)
    scrambled, _ = scramble(pieces, torch.Generator().manual_seed(1))
    with torch.no_grad():
        ordered, _ = net(scrambled)
    share: torch.Tensor = (ordered == pieces).flatten(1).all(1).double().mean()
    return share.item()


@needs_mnist
def test_test_puzzles_are_solved_as_the_card_says(name: str, task: Jigsaw) -> None:
    """On 500 images, but for four standard deviations of such a share, and one image."""
    stated = card(name)["exact_reconstruction"]
    slack = 4 * math.sqrt(stated * (1 - stated) / 500) + 1 / 500
    assert exact(load_pretrained(name), task.images.test[:500]) >= stated - slack


@needs_mnist
@pytest.mark.slow
def test_every_figure_of_the_card(name: str, task: Jigsaw) -> None:
    measured = task.evaluate(load_pretrained(name).net, torch.device("cpu"))
    assert card(name) == pytest.approx(measured, abs=5e-4)


@pytest.mark.parametrize("wrong", ["mnist-9x9", "", "../presets", "mnist-3x3/"])
def test_unknown_names_are_refused(wrong: str) -> None:
    listed = re.escape(", ".join(NAMES))
    with pytest.raises(ValueError, match=f"name must be one of {listed}, got '{wrong}'"):
        load_pretrained(wrong)


def test_missing_safetensors_is_explained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[train\]'"):
        load_pretrained(name)


def test_all_of_them_take_less_than_three_megabytes() -> None:
    paths = [path for name in NAMES for path in pretrained_folder(name).iterdir()]
    assert sum(path.stat().st_size for path in paths) < 3_000_000
