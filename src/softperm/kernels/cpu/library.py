"""The compiled library of the kernels: found and loaded when it is first needed."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch

_IMPORTED_BY = (
    os.getpid()
)  # a child forked later, before the library is loaded, has no such threads
_NAMES = {torch.float32: "f32", torch.float64: "f64"}
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def _load(level: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(Path(__file__).parent / f"kernels-{level}{_SUFFIX}"))


@cache
def _library() -> ctypes.CDLL | None:
    """The library for the best instruction set that this processor has; None without one.

    The plainest one is for any processor of the platform, and can tell what this one has.
    """
    try:
        plain = _load("0")
    except OSError:
        warnings.warn(
            "softperm computes with plain PyTorch and SciPy, which is slower: its compiled kernels "
            "are not installed. Install a wheel for your platform, or install again where there is "
            "a C++ compiler (GCC or Clang)",
            stacklevel=2,
        )
        return None
    level = plain.softperm_level()
    library = _load(str(level)) if level else plain
    _lend_threads(library)
    return library


def _lend_threads(library: ctypes.CDLL) -> None:
    """Let the kernels use the threads that PyTorch has from OpenMP; not those of another process."""
    try:
        start_threads = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return
    pointer = ctypes.cast(start_threads, ctypes.c_void_p)
    library.softperm_borrow(pointer, ctypes.c_int64(_IMPORTED_BY))


def is_available() -> bool:
    """Whether the compiled kernels are there."""
    return _library() is not None


@cache
def function(name: str, dtype: torch.dtype) -> Any:
    """A function of the library for matrices of a dtype; its argument is a pointer."""
    found = getattr(_library(), f"softperm_{name}_{_NAMES[dtype]}")
    found.restype = ctypes.c_int64
    return found
