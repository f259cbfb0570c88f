"""The program as a module: ``python -m softperm``, ``torchrun ... -m softperm``."""

from softperm.program.cli import main

raise SystemExit(main())
