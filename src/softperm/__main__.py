"""The program as a module: ``python -m softperm``, ``torchrun ... -m softperm``."""

from __future__ import annotations

import sys

from softperm.program.cli import main

if __name__ == "__main__":
    sys.exit(main())
