"""The kernels built for older instruction sets, on a processor that has newer ones."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from softperm.kernels.cpu import library

LEVELS = {"x86-64-v2": 0, "x86-64-v3": 1}  # v3 has AVX2, v2 has not


def older_library(level: int) -> Callable[[str, torch.dtype], Any]:
    """`library.function` for the kernels built for an older instruction set."""
    found = library._load(level)
    library._lend_threads(found)

    @cache
    def function(name: str, dtype: torch.dtype) -> Any:
        kernel = getattr(found, f"softperm_{name}_{library._NAMES[dtype]}")
        kernel.restype = ctypes.c_int64
        return kernel

    return function
