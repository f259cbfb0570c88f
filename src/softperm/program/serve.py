"""The command `softperm app`."""

from __future__ import annotations

import runpy


def serve() -> int:
    """Start the page as `python -m softperm.program.app` does."""
    runpy.run_module("softperm.program.app", run_name="__main__")
    return 0
