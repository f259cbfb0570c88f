"""A process may be forked at any moment, whatever threads it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import compiled

STEPS = [
    "import",
    "import beside a thread",
    "first call",
    "after calls",
    "a large matrix",
    "many numbers",
    "a fork in a fork",
    "a pool",
    "amid a call",
]
pytestmark = [
    compiled,
    pytest.mark.skipif(sys.platform != "linux", reason="forking with threads is Linux's habit"),
]


@pytest.fixture(scope="module")
def outcomes() -> str:
    """What every step prints."""
    script = Path(__file__).with_name("forking.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("step", STEPS)
def test_children_compute(step: str, outcomes: str) -> None:
    assert f"{step}: fine" in outcomes.splitlines(), outcomes
