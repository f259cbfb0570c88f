"""The training loop. It knows a task by the `Task` protocol alone."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from softperm._files import remove_leftovers
from softperm.program.tasks import Task
from softperm.program.training.bar import Display, display
from softperm.program.training.checkpoint import Parts, Progress, load_checkpoint, save_checkpoint
from softperm.program.training.config import TrainConfig, pick_device
from softperm.program.training.events import EventWriter
from softperm.program.training.lock import Lock, locked
from softperm.program.training.memory import require_room
from softperm.program.training.run import Run
from softperm.program.training.signals import Stop, Stopped, stop_on_signal
from softperm.program.training.streams import stream_seed

__all__ = ["Stopped", "train"]

_STEPS_A_REFRESH = 20  # reading the loss makes a GPU wait, so not at every step
_NO_METRICS = ("epoch", "step", "loss", "lr", "seconds")


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms inside, the caller's setting afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted)
    settings.fill_uninitialized_memory = False  # nothing here reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fills


def _make_optimizers(net: torch.nn.Module, config: TrainConfig) -> list[Optimizer]:
    parameters = list(net.parameters())
    if config.optimizer == "adam":
        return [Adam(parameters, config.lr, fused=True)]
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer muon needs PyTorch 2.9 or later, got {torch.__version__}")
    matrices = [p for p in parameters if p.dim() == 2]
    others = [p for p in parameters if p.dim() != 2]
    optimizers: list[Optimizer] = []
    if matrices:
        scaled = "match_rms_adamw"
        optimizers.append(torch.optim.Muon(matrices, config.lr, 0.1, adjust_lr_fn=scaled))
    if others:
        optimizers.append(Adam(others, config.lr, fused=True))
    return optimizers


def _make_schedule(optimizer: Optimizer, config: TrainConfig, total_steps: int) -> LRScheduler:
    if config.schedule == "one_cycle":
        length = total_steps + 1  # the schedule steps once more after the last training step
        # OneCycleLR divides by zero where the way up takes no more than one step.
        pct = max(config.warmup, 1.5 / length)
        cycle = isinstance(optimizer, Adam)  # Muon's momentum would be cycled too
        return OneCycleLR(
            optimizer, config.lr, total_steps=length, pct_start=pct, cycle_momentum=cycle
        )
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def _epoch_batches(n: int, config: TrainConfig, epoch: int) -> tuple[torch.Tensor, ...]:
    """The indices of every step of an epoch: a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "order", epoch))
    batches: tuple[torch.Tensor, ...]
    batches = torch.randperm(n, generator=generator).split(config.batch_size)
    return batches


class _Trainer:
    """The moving parts of one run."""

    def __init__(self, task: Task, config: TrainConfig, run: Run) -> None:
        self.task, self.config, self.run = task, config, run
        require_room(task.make_net)
        accelerator = pick_device(config.device).type
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=config.precision)
        torch.manual_seed(stream_seed(config.seed, "weights"))
        self.raw_net = net = task.make_net()
        optimizers = _make_optimizers(net, config)
        self.steps = -(-task.n_train // config.batch_size)
        total = self.steps * config.epochs
        schedules = [_make_schedule(optimizer, config, total) for optimizer in optimizers]
        self.net, *self.optimizers = self.fabric.setup(net, *optimizers)
        self.generator = torch.Generator(self.fabric.device)
        self.generator.manual_seed(stream_seed(config.seed, "noise"))
        self.progress = Progress()
        precision = self.fabric.strategy.precision
        self.parts = Parts(net, optimizers, schedules, precision, self.generator)

    def save(self, lock: Lock) -> None:
        """Write the checkpoint, if the folder is still the one that was locked."""
        lock.require_current()
        save_checkpoint(self.run.checkpoint_file, self.parts, self.progress)

    def load(self) -> None:
        """Go on from the checkpoint."""
        self.progress = load_checkpoint(
            self.run.checkpoint_file, self.parts, epochs=self.config.epochs, steps=self.steps
        )

    def batches(self) -> tuple[torch.Tensor, ...]:
        """The indices of the steps of the present epoch that are still to do."""
        batches = _epoch_batches(self.task.n_train, self.config, self.progress.epoch)
        return batches[self.progress.step :]

    def step(self, indices: torch.Tensor) -> torch.Tensor:
        """One step; the loss is not waited for."""
        batch = self.task.batch(indices, self.generator)
        loss = self.task.loss(self.net, batch, self.generator)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.fabric.backward(loss)
        for optimizer in self.optimizers:
            optimizer.step()
        for schedule in self.parts.schedules:
            schedule.step()
        self.progress.step += 1
        return loss.detach()

    def count(self, losses: list[torch.Tensor]) -> None:
        """Wait for the losses of some steps, and add them up.

        Raises:
            ValueError: they are no finite numbers any more.
        """
        total = torch.stack(losses).cpu().double().sum().item()
        if not math.isfinite(total):
            raise ValueError(
                f"the loss is {total} in step {self.progress.step} of epoch "
                f"{self.progress.epoch + 1}: lr, tau or the noise may be too large"
            )
        self.progress.loss_sum += total

    def first_step(self) -> None:
        """The first step of a new run, which shows whether everything fits together."""
        started = time.perf_counter()
        self.net.train()
        self.count([self.step(self.batches()[0])])
        self.progress.seconds = time.perf_counter() - started

    @property
    def label(self) -> str:
        """Which epoch it is."""
        return f"epoch {self.progress.epoch + 1}/{self.config.epochs}"

    @property
    def title(self) -> str:
        """What is trained, and where."""
        weights = sum(parameter.numel() for parameter in self.raw_net.parameters())
        return (
            f"training on {self.fabric.device.type}: {self.task.summary} of {weights:,} parameters"
        )

    def epoch(self, stop: Stop, shown: Display, lock: Lock) -> None:
        """The steps of the present epoch that are still to do."""
        progress, started = self.progress, time.perf_counter()
        self.net.train()
        shown.begin_epoch(self.label, self.steps, progress.step)
        unread: list[torch.Tensor] = []
        first = progress.step
        for indices in self.batches():
            try:
                unread.append(self.step(indices))
            except ValueError:
                if unread:  # where a loss was no number any more, that is the reason
                    self.count(unread)
                raise
            last = stop.signum is not None or progress.step == self.steps
            if last or progress.step % _STEPS_A_REFRESH == 0:
                self.count(unread)
                unread.clear()
                rate = (progress.step - first) / (time.perf_counter() - started)
                shown.update(progress.step, progress.loss_sum / progress.step, rate)
            if stop.signum is not None:
                progress.seconds += time.perf_counter() - started
                self.save(lock)
                raise Stopped(stop.signum)
        progress.seconds += time.perf_counter() - started

    def finish_epoch(self, events: EventWriter, shown: Display, lock: Lock) -> None:
        """Evaluate, report and save."""
        progress, label = self.progress, self.label
        lr = self.optimizers[0].param_groups[0]["lr"]
        progress.epoch += 1
        row = {
            "epoch": float(progress.epoch),
            "step": float(progress.epoch * self.steps),
            "loss": progress.loss_sum / progress.step,
            "lr": lr,
            "seconds": progress.seconds,
            **self.task.evaluate(self.raw_net, self.fabric.device),
        }
        progress.rows.append(row)
        progress.step, progress.loss_sum, progress.seconds = 0, 0.0, 0.0
        scalars = {name: value for name, value in row.items() if name not in ("epoch", "step")}
        lock.require_current()
        events.add_scalars(scalars, int(row["step"]))
        self.run.write_metrics(progress.rows)
        self.run.save_weights(self.raw_net)
        self.save(lock)
        shown.end_epoch(label, row)

    def run_all(self, stop: Stop, shown: Display, lock: Lock, resumed: bool) -> None:
        """All epochs that are still to do."""
        progress = self.progress
        purge = progress.epoch * self.steps + 1 if resumed else None
        with EventWriter(self.run.folder / "tensorboard", purge) as events:
            while progress.epoch < self.config.epochs:
                self.epoch(stop, shown, lock)
                self.finish_epoch(events, shown, lock)
        if stop.signum is not None:
            raise Stopped(stop.signum)


def train(
    task: Task,
    config: TrainConfig,
    run: Run,
    *,
    resume: bool = False,
    create: Callable[[], AbstractContextManager[Lock]] | None = None,
) -> dict[str, float]:
    """Train a new network on `task` and leave everything in the run's folder.

    A run is a function of the task, `config` and nothing else: stopped at any moment and resumed,
    it ends with the same weights, bit for bit on the CPU.

    Arguments:
        task: What to train on.
        config: Settings of the loop.
        run: Where to keep the run.
        resume: Continue from the run's checkpoint; without one start from the beginning.
        create: Makes the folder and locks it; called after the first step, before anything is
            written.

    Returns:
        The metrics after the last epoch.

    Raises:
        Stopped: Ctrl-C or another request to stop came; the run is saved.
        ValueError: the device or the optimizer is not there, or the checkpoint does not fit.
        Busy: another process is writing to the folder.
        OSError: something cannot be written, or the folder was removed.
    """
    with _determinism(config.deterministic):
        trainer = _Trainer(task, config, run)
        if create is not None:
            trainer.first_step()
        else:
            run.folder.mkdir(parents=True, exist_ok=True)
        holding = locked(run.folder) if create is None else create()
        with holding as lock, stop_on_signal() as stop:
            remove_leftovers(run.folder)
            if resume and run.checkpoint_file.exists():
                trainer.load()
            with display(stop, trainer.title) as shown:
                trainer.run_all(stop, shown, lock, resume)
    rows = trainer.progress.rows
    return {name: value for name, value in rows[-1].items() if name not in _NO_METRICS}
