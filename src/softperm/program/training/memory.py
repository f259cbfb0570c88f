"""Networks that no memory holds, refused before they are made."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn

_COPIES = 4  # a weight, its gradient and two averages of Adam
_BYTES = 4


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
