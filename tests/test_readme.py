"""Code in the README and on pages runs, and prints what the comments beside it say."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_howtos import BLOCK

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def values(code: str, names: dict[str, Any]) -> list[tuple[str, str]]:
    """Run the code; what every expression gives, and what the comment behind it says."""
    lines, found = code.splitlines(), []
    for node in ast.parse(code).body:
        source = ast.unparse(node)
        if not isinstance(node, ast.Expr):
            exec(source, names)
            continue
        value = eval(source, names)
        said = lines[(node.end_lineno or 0) - 1].partition("  # ")[2]
        found.append((re.sub(r"grad_fn=<\w+>", "grad_fn=<...>", repr(value)), said))
    return found


def test_code_gives_what_is_said() -> None:
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        results = [pair for block in BLOCK.findall(TEXT) for pair in values(block, names)]
    checked = [(value, said) for value, said in results if said.startswith("tensor")]
    assert len(checked) == 7
    assert [value for value, _ in checked] == [said.partition(": ")[0] for _, said in checked]


def test_wrong_words_are_noticed() -> None:
    assert values("1 + 1  # 3", {}) == [("2", "3")]


def test_links_lead_to_files() -> None:
    links = [link for link in LINK.findall(TEXT) if "://" not in link]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).is_file()] == []


@pytest.mark.parametrize("page", ["index.md", "reference/training.md"])
def test_code_of_other_pages_runs(page: str) -> None:
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        for block in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
            exec(block, names)
    if page == "index.md":
        assert names["perm"].shape == (8, 5)
    else:
        assert names["metrics"]["kendall_tau"] > 0.1  # a random order has 0
