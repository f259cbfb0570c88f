"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

from softperm.nn import SinkhornNet
from softperm.program.tasks.base import Examples

_PHASES = ("data", "forward", "backward")
_TIMES = 3


class Phases:
    """The shares of an epoch's time that its phases take, found in some of its steps.

    Arguments:
        device: Where the steps run. A GPU is waited for in the steps measured, and in no others.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._measuring = False
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._steps = 0
        self._seconds = dict.fromkeys((*_PHASES, "step"), 0.0)
        self._sinkhorn = float("nan")

    def _now(self) -> float:
        """The time when the device has done all that it was asked for."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    @contextmanager
    def step(self, measured: bool) -> Iterator[None]:
        """A step, measured or not."""
        self._measuring = measured
        self._steps += measured
        with self.phase("step"):
            yield
        self._measuring = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase of a step."""
        if not self._measuring:
            yield
            return
        start = self._now()
        yield
        self._seconds[name] += self._now() - start

    def time_sinkhorn(self, net: SinkhornNet, examples: Examples) -> None:
        """Time the samples of a step and their gradient alone, which are parts of two phases."""
        with torch.no_grad():
            log_alpha = net.log_alpha(examples.items)
        log_alpha.requires_grad_()
        times = []
        for _ in range(_TIMES):
            start = self._now()
            P = net.soften(log_alpha, (examples.n_samples,), noise=examples.noise)
            torch.autograd.grad(P.sum(), log_alpha)
            times.append(self._now() - start)
        self._sinkhorn = median(times)

    def shares(self) -> dict[str, float]:
        """Shares of the time, those of forward and backward with their part of sinkhorn.

        They are NaN where no step was measured: in an epoch that was resumed at its end.
        """
        whole = self._seconds["step"] or float("nan")
        shares = {f"{name}_share": self._seconds[name] / whole for name in _PHASES}
        return {**shares, "sinkhorn_share": self._sinkhorn * self._steps / whole}
