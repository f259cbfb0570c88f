"""Names that the examples in docstrings take for granted."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each has a core of its own; read by the import of torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

collect_ignore_glob = [] if find_spec("triton") else ["src/softperm/kernels/gpu/*.py"]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch
