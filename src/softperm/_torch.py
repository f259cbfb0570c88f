"""What only PyTorch's private names tell, and what can be done where a version lacks them.

Nothing else in the library uses private names of torch. Each is looked up once, at import; its
substitute is public, and right, but slower or, for modes, less complete.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import Parameter

__all__ = ["can_read_values", "end_workers", "is_plain"]


class _Probe(torch.autograd.Function):
    """Without a `setup_context`, transforms refuse it."""

    @staticmethod
    def forward(ctx: Any) -> None:
        pass


def _probe_transforms() -> bool:
    """Whether a transform of `torch.func` is at work."""
    try:
        _Probe.apply()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return True
    return False


def _no_modes() -> int:
    """Modes cannot be counted by public means: they see what operators do, not the operators."""
    return 0


def _within_level(x: Tensor) -> bool:
    """Whether x may have a tangent."""
    seen: bool = forward_ad._current_level >= 0
    return seen


def _has_tangent(x: Tensor) -> bool:
    """Whether x has a tangent, for which it must be unpacked."""
    return forward_ad.unpack_dual(x).tangent is not None


_transforms = getattr(torch._C, "_are_functorch_transforms_active", _probe_transforms)
_modes = getattr(torch._C, "_len_torch_dispatch_stack", _no_modes)
_dual = _within_level if hasattr(forward_ad, "_current_level") else _has_tangent


def _has_memory(x: Tensor) -> bool:
    """Whether x has values of its own: fake, wrapped, mapped and lazy tensors have none."""
    try:
        if type(x) is Tensor or type(x) is Parameter:
            return x.data_ptr() != 0 or x.numel() == 0
        # A fake tensor warns when asked for its address.
        return x.untyped_storage().device.type != "meta" and x.data_ptr() != 0
    except RuntimeError:
        return False


def is_plain(*tensors: Tensor) -> bool:
    """Whether they hold their values here and now: nothing is traced, mapped or lazily negated."""
    if is_compiling() or is_tracing() or _transforms() or _modes():
        return False
    for x in tensors:  # noqa: SIM110 - a generator takes longer than what it asks
        if _dual(x) or x.is_neg() or not _has_memory(x):
            return False
    return True


def can_read_values(*tensors: Tensor) -> bool:
    """Whether looking at the values costs no device synchronisation and breaks no tracing."""
    for x in tensors:
        if not x.is_cpu:
            return False
    return is_plain(*tensors)


def end_workers(batches: Any) -> None:
    """End the processes that read for the iterator of a `DataLoader`.

    By public means they end when nothing refers to the iterator any more, which tracebacks do.
    """
    end = getattr(batches, "_shutdown_workers", None)
    if end is not None:
        end()
