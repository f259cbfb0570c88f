"""`import softperm` costs little beyond `import torch`."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, sys
import torch
before = set(sys.modules)
import softperm
print(json.dumps(sorted(set(sys.modules) - before)))
"""
EXPENSIVE = (
    "PIL",
    "beartype",
    "gradio",
    "hypothesis",
    "jaxtyping",
    "jsonargparse",
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "numba",
    "pandas",
    "pooch",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "triton",
    "yaml",
)


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
    assert parts & {"app", "cli", "data", "plotting", "report", "tasks", "training"} == set()


def test_every_public_name_exists() -> None:
    import softperm

    assert all(hasattr(softperm, name) for name in softperm.__all__)
    assert softperm.__all__ == sorted(softperm.__all__)
