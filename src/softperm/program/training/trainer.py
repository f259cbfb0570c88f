"""The moving parts of a run: network, optimizers, and the steps that move them."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import Any

import torch
from torch import Tensor

from softperm._lock import Lock
from softperm.nn import SinkhornNet
from softperm.program.tasks import Task
from softperm.program.training.bar import Display
from softperm.program.training.checkpoint import Parts, Progress, load_checkpoint, save_checkpoint
from softperm.program.training.config import TrainConfig
from softperm.program.training.events import EventWriter
from softperm.program.training.loader import stored_examples
from softperm.program.training.memory import keep_freed_memory, require_room
from softperm.program.training.optimizers import make_optimizers, make_schedule
from softperm.program.training.phases import Phases
from softperm.program.training.run import Run
from softperm.program.training.sharding import whole
from softperm.program.training.signals import Stop, Stopped
from softperm.program.training.streams import stream_seed
from softperm.program.training.team import Team

_STEPS_A_REFRESH = 20  # reading the loss makes a GPU wait, so not at every step


class Trainer:
    """The moving parts of a run, in one of the processes that train it.

    Arguments:
        task: What to train on.
        config: Settings of the loop.
        run: Where the run is kept.
        team: The processes.
        workers: Processes that read ahead.
    """

    def __init__(self, task: Task, config: TrainConfig, run: Run, team: Team, workers: int) -> None:
        self.task, self.config, self.run = task, config, run
        self.team, self.workers = team, workers
        self.fabric = fabric = team.fabric
        require_room(task.make_net)
        keep_freed_memory()
        torch.manual_seed(stream_seed(config.seed, "weights"))
        self.raw_net = net = task.make_net()
        compiled: Any = torch.compile(net) if config.compile else net
        team.require_same(training_examples=task.n_train, test_examples=task.n_test)
        with team.together():
            self.net = fabric.setup_module(compiled)
        optimizers = make_optimizers(net, config)  # of the weights that this process keeps
        self.steps = -(-task.n_train // config.batch_size)
        total = self.steps * config.epochs
        schedules = [make_schedule(optimizer, config, total) for optimizer in optimizers]
        self.optimizers: list[Any] = [fabric.setup_optimizers(each) for each in optimizers]
        self.generator = torch.Generator(fabric.device)
        self.generator.manual_seed(stream_seed(config.seed, "noise"))
        self.phases = Phases(fabric.device)
        self.progress = Progress()
        precision = fabric.strategy.precision
        self.parts = Parts(net, optimizers, schedules, precision, self.generator)

    def save(self, lock: Lock | None) -> None:
        """Write the checkpoint, in the process that holds the lock of the folder.

        All processes call it at the same moment.

        Raises:
            FileNotFoundError: the folder is no longer the one that was locked.
            Left: another process ended.
        """
        with self.team.together():
            state = self.parts.state(kept=lock is not None)
        if lock is not None:
            lock.require_current()
            save_checkpoint(self.run.checkpoint_file, state, self.progress)

    def load(self) -> None:
        """Go on from the checkpoint, where there is one; the first process has the folder then.

        Raises:
            ValueError: it does not fit, or another process found another.
        """
        self.team.wait()  # the first process holds the lock: nobody writes any more
        if self.run.checkpoint_file.exists():
            self.progress = load_checkpoint(
                self.run.checkpoint_file, self.parts, epochs=self.config.epochs, steps=self.steps
            )
        self.team.require_same(epoch=self.progress.epoch, step=self.progress.step)

    def _batches(self) -> tuple[Tensor, ...]:
        """The indices of the steps of the present epoch that are still to do.

        Their order is a function of seed and epoch alone.
        """
        c, progress = self.config, self.progress
        generator = torch.Generator().manual_seed(stream_seed(c.seed, "order", progress.epoch))
        order = torch.randperm(self.task.n_train, generator=generator)
        batches: tuple[Tensor, ...] = order.split(c.batch_size)
        return batches[progress.step :]

    def _stored(self, batches: Sequence[Tensor]) -> Generator[Tensor]:
        """This process's part of the examples of every step, as they are stored."""
        parts = [self.team.part.of(indices) for indices in batches]
        return stored_examples(self.task.read, parts, self.workers)

    def _step(self, stored: Iterator[Tensor], total: int, measured: bool) -> Tensor:
        """One step on `total` examples; this process's part of the loss is not waited for."""
        phases = self.phases
        with self.team.together(), phases.step(measured):
            with phases.phase("data"):
                examples = self.task.examples(next(stored), self.generator, self.team.part, total)
            with phases.phase("forward"):
                loss = self.task.loss(self.net, examples)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            with phases.phase("backward"):
                # Gradients become their mean over the processes, and their sum is meant.
                self.fabric.backward(loss * self.team.size)
            for optimizer in self.optimizers:
                optimizer.step()
            for schedule in self.parts.schedules:
                schedule.step()
        self.progress.step += 1
        if self.progress.step == self.steps:
            phases.time_sinkhorn(self._whole_net(), examples)
        return loss.detach()

    def _count(self, losses: list[Tensor]) -> None:
        """Wait for the losses of some steps, of all processes, and add them up.

        Raises:
            ValueError: they are no finite numbers any more.
        """
        (total,) = self.team.add([_sum(losses)])
        self._require_finite(total, told=not self.team.leads)  # all processes find the same
        self.progress.loss_sum += total

    def _require_finite(self, loss: float, *, told: bool) -> None:
        if not math.isfinite(loss):
            error = ValueError(
                f"the loss is {loss} in step {self.progress.step} of epoch "
                f"{self.progress.epoch + 1}: lr, tau or the noise may be too large"
            )
            error.told = told  # type: ignore[attr-defined]
            raise error

    def first_step(self) -> None:
        """The first step of a new run, which shows whether everything fits together."""
        started = time.perf_counter()
        self.net.train()
        batches = self._batches()[:1]
        with closing(self._stored(batches)) as stored:
            self._count([self._step(stored, len(batches[0]), measured=self.steps == 1)])
        self.progress.seconds = time.perf_counter() - started

    @property
    def _label(self) -> str:
        """Which epoch it is."""
        return f"epoch {self.progress.epoch + 1}/{self.config.epochs}"

    @property
    def title(self) -> str:
        """What is trained, and where."""
        weights = sum(parameter.numel() for parameter in self.raw_net.parameters())
        processes = f", {self.team.size} processes" if self.team.size > 1 else ""
        return (
            f"training on {self.fabric.device.type}{processes}: {self.task.summary} of "
            f"{weights:,} parameters"
        )

    def _epoch(self, stop: Stop, shown: Display, lock: Lock | None) -> None:
        """The steps of the present epoch that are still to do."""
        progress, started = self.progress, time.perf_counter()
        self.net.train()
        shown.begin_epoch(self._label, self.steps, progress.step)
        unread: list[Tensor] = []
        done, batches = 0, self._batches()
        with closing(self._stored(batches)) as stored:
            for indices in batches:
                number = progress.step + 1
                due = number == self.steps or number % _STEPS_A_REFRESH == 0
                measured = due or shown.wants(number)
                try:
                    unread.append(self._step(stored, len(indices), measured))
                except ValueError:
                    if unread:  # where a loss was no number any more, that is the reason
                        self._require_finite(_sum(unread), told=False)
                    raise
                done += len(indices)
                asked = self.team.agree(stop.signum)
                if measured or asked is not None:
                    self._count(unread)
                    unread.clear()
                    rate = done / (time.perf_counter() - started)
                    shown.update(progress.step, progress.loss_sum / progress.step, rate)
                if asked is not None:
                    progress.seconds += time.perf_counter() - started
                    self.save(lock)
                    raise Stopped(asked)
        progress.seconds += time.perf_counter() - started

    def _whole_net(self) -> SinkhornNet:
        """The network with all its weights, asked for by all processes at the same moment."""
        with self.team.together():
            return whole(self.raw_net, self.task.make_net)

    def _finish_epoch(self, net: SinkhornNet) -> dict[str, float]:
        """Evaluate the network, and give what the epoch came to."""
        progress, phases, n = self.progress, self.phases, self.task.n_train
        parts = self.task.evaluate(net, self.fabric.device, part=self.team.part)
        metrics = zip(parts, self.team.add(list(parts.values())), strict=True)
        progress.epoch += 1
        row = {
            "epoch": float(progress.epoch),
            "step": float(progress.epoch * self.steps),
            "loss": progress.loss_sum / progress.step,
            "lr": self.optimizers[0].param_groups[0]["lr"],
            "seconds": progress.seconds,
            "examples_per_second": n / progress.seconds,
            **phases.shares(),
            **dict(metrics),
        }
        phases.clear()
        progress.rows.append(row)
        progress.step, progress.loss_sum, progress.seconds = 0, 0.0, 0.0
        return row

    def _end_epoch(self, events: EventWriter | None, lock: Lock | None) -> dict[str, float]:
        """Evaluate, write what the epoch came to, and give it."""
        net = self._whole_net()
        row = self._finish_epoch(net)
        if lock is not None and events is not None:
            lock.require_current()
            scalars = {name: value for name, value in row.items() if name not in ("epoch", "step")}
            events.add_scalars(scalars, int(row["step"]))
            self.run.write_metrics(self.progress.rows)
            self.run.save_weights(net)
        self.save(lock)
        return row

    def _write_again(self, lock: Lock | None) -> None:
        """Write what was deleted of a finished run and the checkpoint still holds."""
        net = self._whole_net()
        if lock is None:
            return
        lock.require_current()
        if not self.run.weights_file.exists():
            self.run.save_weights(net)
        if not self.run.metrics_file.exists():
            self.run.write_metrics(self.progress.rows)

    def all_epochs(self, stop: Stop, shown: Display, lock: Lock | None, resumed: bool) -> None:
        """All epochs that are still to do.

        Arguments:
            stop: Whether to stop.
            shown: Where to show how far it is.
            lock: The right to write to the folder, in the process that has it.
            resumed: Whether TensorBoard may hold steps that are done again.

        Raises:
            Stopped: it was asked for; the run is saved.
        """
        progress = self.progress
        if progress.epoch == self.config.epochs:
            self._write_again(lock)
        purge = progress.epoch * self.steps + 1 if resumed else None
        folder = self.run.folder / "tensorboard"
        with nullcontext() if lock is None else EventWriter(folder, purge) as events:
            while progress.epoch < self.config.epochs:
                label = self._label
                self._epoch(stop, shown, lock)
                shown.end_epoch(label, self._end_epoch(events, lock))
        if stop.signum is not None:
            raise Stopped(stop.signum)


def _sum(losses: list[Tensor]) -> float:
    """The sum of losses, waited for."""
    return torch.stack(losses).cpu().double().sum().item()
