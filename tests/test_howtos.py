"""The how-tos of the documentation do what they say, as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "docs" / "howto"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(name: str) -> dict[str, Any]:
    """Run all blocks of a page, one after the other; the names they leave."""
    text = (FOLDER / f"{name}.md").read_text()
    names: dict[str, Any] = {"__name__": name}
    state = torch.get_rng_state()
    try:
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(1))
            exec(compile("\n" * line + match[1], f"{name}.md", "exec"), names)
    finally:
        torch.set_rng_state(state)
    return names


def test_all_pages_are_here() -> None:
    assert {page.stem for page in FOLDER.glob("*.md")} == {
        "balanced-clusters",
        "latent-permutations",
        "outliers",
        "set-loss",
    }


def test_set_loss(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("set-loss")
    assert names["losses"][-1] < 0.6 * names["losses"][0]
    counts = [k.shape for k in names["perms"]]
    assert counts == [(8,)] * 4
    for perm, count in zip(names["perms"], names["counts"].tolist(), strict=True):
        assert int((perm >= 0).sum()) == count
    assert "at last" in capsys.readouterr().out


def test_outliers() -> None:
    names = run("outliers")
    assert names["losses"][-1] < 0.3 * names["losses"][0]
    assert names["precision"] > 0.9
    assert names["recall"] > 0.9


def test_balanced_clusters() -> None:
    names = run("balanced-clusters")
    assert names["losses"][-1] < names["losses"][0]
    assert names["sizes"].min() > 0.7 * 64
    assert names["sizes"].max() < 1.3 * 64
    assert names["accuracy"] > 0.9


def test_latent_permutations(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("latent-permutations")
    collapsed, fitted = names["fits"]["at once"], names["fits"]["with warm-up"]
    assert names["share_right"](fitted[0]) > 0.95
    assert fitted[1] == pytest.approx(1.8, abs=0.15)
    assert fitted[2] == pytest.approx(0.6, abs=0.2)
    assert names["share_right"](collapsed[0]) < names["share_right"](fitted[0])
    assert collapsed[1] < 0.5
    assert fitted[3][-1] > collapsed[3][-1] > collapsed[3][0]
    assert names["sure"].mean().item() > 0.95
    assert "with warm-up: bound" in capsys.readouterr().out
