"""The memory of a training: refused where there is not enough, and kept from step to step."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_COPIES = 4  # a weight, its gradient and two averages of Adam
_BYTES = 4

# Of glibc's `mallopt`: from how much free memory some is given back, and from which size a block
# comes from the system itself. Where larger ones do not, some gigabytes may lie idle between them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_FREE_MEMORY, _LARGEST_BLOCK = 1 << 30, 32 << 20


def _installed() -> float:
    """Bytes of memory of the machine; without limit where the system does not tell."""
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    if not set(names) <= set(getattr(os, "sysconf_names", ())):
        return float("inf")
    return float(os.sysconf(names[0]) * os.sysconf(names[1]))


def require_room(make_net: Callable[[], nn.Module]) -> None:
    """Refuse a network that cannot be trained in the memory of this machine.

    Raises:
        ValueError: its weights, gradients and averages take more memory than there is.
    """
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in make_net().parameters())
    wanted, there = weights * _COPIES * _BYTES, _installed()
    if wanted > there:
        raise ValueError(
            f"a network of {weights:,} weights takes {wanted / 2**30:,.0f} GiB to train, and there "
            f"are {there / 2**30:,.0f}: take fewer channels, features or pieces"
        )


def _of_glibc(name: str) -> Any:
    """A function of its allocator; None where there is another one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for the next step needs as much again.

    glibc gives it back to the system, which has to clear every page when it is touched again: that
    took longer than what a small network computes.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None and mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK):
        mallopt(_TRIM_THRESHOLD, _FREE_MEMORY)


def give_back_freed_memory() -> None:
    """Let the system have what this process has freed.

    What comes from workers leaves gaps that glibc does not fill: hundreds of MB after some passes.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)
