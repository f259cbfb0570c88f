"""`import softperm` costs little beyond `import torch`, and an import only points down."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import torch
before = set(sys.modules)
import softperm
for name in softperm.__all__:
    getattr(softperm, name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""
EXPENSIVE = (
    "PIL",
    "beartype",
    "hypothesis",
    "jaxtyping",
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "pandas",
    "pooch",
    "rich",
    "safetensors",
    "scipy",
    "shtab",
    "sklearn",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "triton",
    "yaml",
)

# What modules, and those below them, are of no use without.
NEEDS = {"softperm.kernels.gpu": "triton"}

SOURCE = Path(__file__).parents[1] / "src" / "softperm"
FLOORS = {
    "_apply": 0,
    "_checks": 0,
    "_constraints": 0,
    "_files": 0,
    "_lock": 0,
    "_pretrained": 0,
    "_resize": 0,
    "_suggest": 0,
    "_teach": 0,
    "_torch": 0,
    "_typing": 0,
    "kernels": 0,
    "permutations": 0,
    "puzzles": 0,
    "ops": 1,
    "_kl": 2,
    "_perturbed": 2,
    "distributions": 2,
    "metrics": 2,
    "data": 3,
    "nn": 3,
    "plotting": 4,
    "program": 5,
    "__main__": 6,
}
# In the program the same holds: each of these knows those before it.
ROOMS = (
    "schema",
    "readers",
    "presets",
    "counting",
    "settings",
    "tasks",
    "training",
    "neurons",
    "report",
    "pieces",
    "app",
    "solve",
    "reproduce",
    "evaluate",
    "train",
    "worms",
    "errors",
    "environment",
    "parser",
    "options",
    "completion",
    "commandline",
    "cli",
    "demo",
)


def modules() -> dict[str, Path]:
    """Every module of the package by its name below `softperm`, but for the face."""
    names = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:
            names[".".join(parts)] = path
    return names


def imported(path: Path) -> set[str]:
    """Modules and names of the package that a file imports, wherever in it, below `softperm`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name.removeprefix("softperm.") for name in names if name.startswith("softperm.")}


def test_every_module_has_a_floor() -> None:
    assert {name.split(".")[0] for name in modules()} == set(FLOORS)


def test_an_import_only_points_down() -> None:
    seen = 0
    for name, path in modules().items():
        for target in imported(path):
            here, there = name.split(".")[0], target.split(".")[0]
            assert FLOORS[there] <= FLOORS[here], f"{name} imports {target}"
            seen += here != there
    assert seen > 50  # so many point to another floor or its neighbour


def test_an_import_in_the_program_only_points_down() -> None:
    seen = 0
    for name, path in modules().items():
        for target in imported(path):
            here, there = (full.split(".")[1:2] for full in (name, target))
            if target.startswith("program.") and here and here[0] in ROOMS:
                assert ROOMS.index(there[0]) <= ROOMS.index(here[0]), f"{name} imports {target}"
                seen += here != there
    assert seen > 20


def test_import_adds_nothing_expensive() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    assert "softperm.ops._sinkhorn" in added
    assert [m for m in added if m.startswith(tuple(f"{e}." for e in EXPENSIVE))] == []
    assert [m for m in added if m in EXPENSIVE] == []


def test_import_leaves_the_program_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    parts = {m.split(".")[1] for m in json.loads(done.stdout) if m.startswith("softperm.")}
    assert "ops" in parts
    assert parts & {"data", "plotting", "program"} == set()


def test_every_module_can_be_imported() -> None:
    import softperm

    seen = 0
    for module in pkgutil.walk_packages(softperm.__path__, "softperm."):
        optional = NEEDS.get(module.name.rpartition(".")[0], NEEDS.get(module.name))
        if not module.name.rpartition(".")[2].isidentifier():
            continue  # a compiled library beside the sources
        if optional is None or find_spec(optional) is not None:
            importlib.import_module(module.name)
            seen += 1
    assert seen > 50


def test_every_public_name_exists() -> None:
    import softperm

    assert all(hasattr(softperm, name) for name in softperm.__all__)
    assert softperm.__all__ == sorted(softperm.__all__)
    assert set(softperm.__all__) <= set(dir(softperm))
    with pytest.raises(AttributeError, match="module 'softperm' has no attribute 'sinkhron'"):
        _ = softperm.sinkhron  # type: ignore[attr-defined]


LAZY = """
import sys
import softperm
assert "torch" not in sys.modules
{use}
assert "torch" in sys.modules
"""


@pytest.mark.parametrize(
    "use",
    [
        "from softperm import *; sinkhorn, nn.Sinkhorn, random_permutation",
        "softperm.ops.sinkhorn; softperm.permutations; softperm.data; softperm.plotting",
        "import torch; torch.compile(lambda x: softperm.sinkhorn(x), backend='eager', "
        "fullgraph=True)(torch.zeros(2, 2))",
        "from torch.distributions import kl_divergence\n"
        "from softperm.distributions import GumbelSinkhorn\n"
        "import torch; q = GumbelSinkhorn(torch.zeros(2, 2)); assert kl_divergence(q, q) == 0",
    ],
    ids=["star", "modules", "compile", "divergence"],
)
def test_names_are_loaded_when_they_are_used(use: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAZY.format(use=use)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
