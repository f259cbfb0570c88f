"""The compiled library of the kernels: found and loaded when it is first needed."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch

from softperm.kernels.cpu.structures import LAYOUT

# A child that is forked later, before the library is loaded, does not have PyTorch's threads.
_IMPORTED_BY = os.getpid()
_NAMES = {torch.float32: "f32", torch.float64: "f64"}
_SUFFIX = ".dll" if sys.platform == "win32" else ".so"


def _load(level: int) -> ctypes.CDLL:
    """The library for a level of instruction sets: beside this file, or, where Python imports the
    sources of an editable installation, where that was installed.
    """
    name = f"level-{level}{_SUFFIX}"
    path = Path(__file__).parent / "lib" / name
    if not path.exists():
        installed = files("softperm") or []
        path = next((Path(str(f.locate())) for f in installed if f.name == name), path)
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "softperm_layout") or library.softperm_layout() != LAYOUT:
        raise OSError(f"{path} belongs to another version of softperm")
    return library


@cache
def _library() -> ctypes.CDLL | None:
    """The library for the best instruction set that this processor has; None without one.

    The plainest one is for any processor of the platform, and can tell what this one has.
    """
    try:
        plain = _load(0)
    except (OSError, PackageNotFoundError):
        warnings.warn(
            "softperm computes with plain PyTorch and SciPy, which is slower: its compiled kernels "
            "are missing, or of another version. Install it again where there is a C++ compiler "
            "(GCC or Clang)",
            stacklevel=2,
        )
        return None
    level = plain.softperm_level()
    library = _load(level) if level else plain
    _lend_threads(library)
    return library


def _was_forked() -> bool:
    """Whether this process is a copy of another, without its threads; False where none can see."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return bool(int(fields[6]) & 0x40)  # PF_FORKNOEXEC


def _lend_threads(library: ctypes.CDLL) -> None:
    """Let the kernels use the threads that PyTorch has from OpenMP, in this process alone."""
    if _was_forked():
        return
    try:
        start_threads = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return
    pointer = ctypes.cast(start_threads, ctypes.c_void_p)
    library.softperm_borrow(pointer, ctypes.c_int64(_IMPORTED_BY))


def is_available() -> bool:
    """Whether the compiled kernels are there."""
    return _library() is not None


def level() -> int | None:
    """The level of instruction sets that is computed with, 0 the plainest; None without kernels."""
    library = _library()
    return None if library is None else int(library.softperm_level())


@cache
def function(name: str, dtype: torch.dtype) -> Any:
    """A function of the library for matrices of a dtype; its argument is a pointer."""
    found = getattr(_library(), f"softperm_{name}_{_NAMES[dtype]}")
    found.restype = ctypes.c_int64
    return found
