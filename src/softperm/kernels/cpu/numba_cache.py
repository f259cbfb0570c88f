"""Numba's cache on disk, for functions whose code is spread over several files.

Numba keeps machine code under the name of a function, and looks at the function's own file alone
to see whether it is out of date. So nothing is cached but what gets its name here, which changes
with every file of the kernels.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any


def digest(folder: Path) -> str:
    """A name for the contents of the kernels' files in a folder."""
    files = sorted(folder.glob("numba_*.py"))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@cache
def _present() -> str:
    return digest(Path(__file__).parent)


def named(function: Any, way: str = "") -> FunctionType:
    """The same function, under a name for its code and the way in which it is compiled."""
    name = f"{function.__name__}{way}_{_present()}"
    twin = FunctionType(function.__code__, function.__globals__, name)
    twin.__qualname__ = name
    return twin
