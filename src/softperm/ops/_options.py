"""How to iterate: the temperature, the tolerance, the backend and the kind of gradient."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from softperm._checks import FLOAT_DTYPES, as_float, common_shape, shape_of
from softperm._torch import can_read_values
from softperm.kernels import cpu, dispatch

Backend = Literal["auto", "torch", "cpu", "triton"]
_BACKENDS = ("auto", "torch", "cpu", "triton")
Grad = Literal["unrolled", "implicit"]
_GRADS = ("unrolled", "implicit")


def check_tau(tau: object, batch_shape: torch.Size) -> float | Tensor:
    """The temperature; one that is not positive or does not fit the batch is refused."""
    if isinstance(tau, Tensor):
        if tau.dtype not in FLOAT_DTYPES:
            raise TypeError(f"tau must be a float or a floating tensor, got dtype {tau.dtype}")
        if can_read_values(tau) and not bool(((tau > 0) & tau.isfinite()).all()):
            raise ValueError(f"tau must be positive and finite, got {tau.tolist()}")
        try:
            common_shape(tau.shape, batch_shape)
        except RuntimeError:
            raise ValueError(
                f"tau must broadcast against the batch dimensions {tuple(batch_shape)} of "
                f"log_alpha, got shape {shape_of(tau)}"
            ) from None
        return tau
    number = as_float(tau, "tau", "a float or a floating tensor")
    if not 0 < number < float("inf"):
        raise ValueError(f"tau must be positive and finite, got {tau}")
    return number


def check_tol(tol: object) -> float:
    """The tolerance, 0 for None; one that is not a positive number is refused."""
    if tol is None:
        return 0.0
    number = as_float(tol, "tol", "None or a float")
    if not 0 < number < float("inf"):
        raise ValueError(f"tol must be positive and finite, got {tol}")
    return number


def check_backend(backend: str, device: torch.device) -> None:
    """Refuse a backend that does not exist, or not on this device."""
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}, got {backend!r}")
    if backend == "cpu":
        if device.type != "cpu":
            raise ValueError(f"backend cpu computes on the CPU, got log_alpha on {device}")
        if not cpu.is_available():
            raise ValueError("backend cpu needs the compiled kernels, which are not installed")
    if backend == "triton":
        if not dispatch.HAS_TRITON:
            raise ValueError("backend triton needs the package triton, which is not installed")
        from softperm.kernels import gpu

        if device.type != "cuda" and not gpu.is_interpreted():
            raise ValueError(f"backend triton computes on a GPU, got log_alpha on {device}")


def check_grad(grad: str) -> None:
    """Refuse a kind of gradient that does not exist."""
    if grad not in _GRADS:
        raise ValueError(f"grad must be one of {', '.join(_GRADS)}, got {grad!r}")
