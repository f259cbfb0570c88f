"""The processes that train one network together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from softperm.program.schema import shorten
from softperm.program.tasks.base import Part

# What gloo, NCCL and the store say where the other end of a connection is gone.
_BROKEN = ("connection", "socket", "broken pipe", "timed out", "remote process exited")


class Left(OSError):  # noqa: N818 - it says what the other process did
    """Another process of the team ended before the work did.

    Attributes:
        told: Whether it is told elsewhere, and this process need not.
    """

    told = False


class Team:
    """The processes that train one network together; alone, a process waits for nobody.

    What they tell each other goes over the CPU (gloo), so that no GPU is waited for.

    Arguments:
        fabric: The processes, launched.

    Raises:
        Left: another process ended.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.part = Part(fabric.global_rank, fabric.world_size)
        with self.together():
            self._group = dist.new_group(backend="gloo") if self.size > 1 else None

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.part.size

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and shows."""
        return self.part.rank == 0

    def add(self, values: Sequence[float]) -> list[float]:
        """The sums of the numbers of all processes, in float64.

        Raises:
            Left: another process ended.
        """
        if self._group is None:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self.together():
            dist.all_reduce(total, group=self._group)
        found: list[float] = total.tolist()
        return found

    def wait(self) -> None:
        """Go on when all processes are here.

        Raises:
            Left: another process ended.
        """
        self.add([0.0])

    def require_same(self, **values: float) -> None:
        """Refuse a team whose processes do not do the same; all of them do.

        Every process calls it at the same moment. They would wait for each other for ever else.

        Raises:
            ValueError: a number differs.
            Left: another process ended.
        """
        if self._group is None:
            return
        mine = torch.tensor(list(values.values()), dtype=torch.float64)
        least, most = mine.clone(), mine.clone()
        with self.together():
            dist.all_reduce(least, dist.ReduceOp.MIN, group=self._group)
            dist.all_reduce(most, dist.ReduceOp.MAX, group=self._group)
        for name, low, high in zip(values, least.tolist(), most.tolist(), strict=True):
            if low != high:
                raise ValueError(
                    f"{name} must be the same in all processes, got {low:g} and {high:g}: they "
                    f"need the same options, data and run folder"
                )

    def agree(self, signum: int | None) -> int | None:
        """The signal that any of the processes was sent; all of them get the same answer.

        Raises:
            Left: another process ended.
        """
        if self._group is None:
            return signum
        most = torch.tensor(signum or 0)
        with self.together():
            dist.all_reduce(most, dist.ReduceOp.MAX, group=self._group)
        return int(most) or None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell plainly that another process ended, where that makes the work inside fail."""
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if self.size == 1 or not any(word in text.lower() for word in _BROKEN):
                raise
            raise Left(
                f"another process of the training ended ({shorten(text, 80)}); add --resume to go "
                f"on from its last checkpoint"
            ) from error
