"""The training loop. It knows a task by the `Task` protocol alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as ProgressBar,
)
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR
from torch.utils.tensorboard import SummaryWriter

from softperm.program.tasks import Task
from softperm.program.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from softperm.program.training.config import TrainConfig, pick_device
from softperm.program.training.run import Run

_STEPS_A_REFRESH = 20  # reading the loss makes a GPU wait, so not at every step


class Stopped(Exception):  # noqa: N818 - a request that was met, not an error
    """Training was asked to stop; the run is saved and can be resumed."""


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination request sets, so that a step is never cut in two.

    A second Ctrl-C interrupts at once.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(signum: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signum, before[signal.Signals(signum)])

    for s in before:
        signal.signal(s, request)
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


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
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    batches: tuple[torch.Tensor, ...]
    batches = torch.randperm(n, generator=generator).split(config.batch_size)
    return batches


@contextmanager
def _progress_bar(epochs: int, done: int) -> Iterator[tuple[ProgressBar, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4g}  {task.fields[rate]:.0f} steps/s"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns) as bar:
        description = f"epoch {min(done + 1, epochs)}/{epochs}"
        yield bar, bar.add_task(description, total=None, loss=float("nan"), rate=0.0)


class _Trainer:
    """The moving parts of one run."""

    def __init__(self, task: Task, config: TrainConfig, run: Run) -> None:
        self.task, self.config, self.run = task, config, run
        accelerator = pick_device(config.device).type
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=config.precision)
        torch.manual_seed(config.seed)
        self.raw_net = net = task.make_net()
        optimizers = _make_optimizers(net, config)
        self.steps = -(-task.n_train // config.batch_size)
        total = self.steps * config.epochs
        self.schedules = [_make_schedule(optimizer, config, total) for optimizer in optimizers]
        self.net, *self.optimizers = self.fabric.setup(net, *optimizers)
        self.generator = torch.Generator(self.fabric.device).manual_seed(config.seed)
        self.progress = Progress()
        self.parts = (net, optimizers, self.schedules, self.generator)

    def save(self) -> None:
        save_checkpoint(self.run.checkpoint_file, *self.parts, self.progress)

    def load(self) -> None:
        self.progress = load_checkpoint(self.run.checkpoint_file, *self.parts)

    def step(self, indices: torch.Tensor) -> torch.Tensor:
        batch = self.task.batch(indices, self.generator)
        loss = self.task.loss(self.net, batch, self.generator)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.fabric.backward(loss)
        for optimizer in self.optimizers:
            optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        return loss.detach()

    def epoch(self, stop: threading.Event, bar: ProgressBar, line: TaskID) -> None:
        """The steps of the present epoch that are still to do."""
        progress, started = self.progress, time.perf_counter()
        self.net.train()
        batches = _epoch_batches(self.task.n_train, self.config, progress.epoch)
        label = f"epoch {progress.epoch + 1}/{self.config.epochs}"
        bar.reset(line, description=label, total=self.steps, completed=progress.step)
        unread: list[torch.Tensor] = []
        first = progress.step
        for indices in batches[first:]:
            unread.append(self.step(indices))
            progress.step += 1
            last = stop.is_set() or progress.step == self.steps
            if last or progress.step % _STEPS_A_REFRESH == 0:
                progress.loss_sum += torch.stack(unread).cpu().double().sum().item()
                unread.clear()
                rate = (progress.step - first) / (time.perf_counter() - started)
                mean = progress.loss_sum / progress.step
                bar.update(line, completed=progress.step, loss=mean, rate=rate)
            if stop.is_set():
                progress.seconds += time.perf_counter() - started
                self.save()
                raise Stopped
        progress.seconds += time.perf_counter() - started

    def finish_epoch(self, events: SummaryWriter) -> None:
        """Evaluate, report and save."""
        progress = self.progress
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
        for name, value in row.items():
            if name not in ("epoch", "step"):
                events.add_scalar(name, value, int(row["step"]))
        events.flush()
        self.run.write_metrics(progress.rows)
        self.run.save_weights(self.raw_net)
        self.save()


def train(task: Task, config: TrainConfig, run: Run, *, resume: bool = False) -> dict[str, float]:
    """Train a new network on `task` and leave everything in the run's folder.

    A run is a function of the task, `config` and nothing else: stopped at any moment and resumed,
    it ends with the same weights, bit for bit on the CPU.

    Arguments:
        task: What to train on.
        config: Settings of the loop.
        run: Where to keep the run.
        resume: Continue from the run's checkpoint; without one start from the beginning.

    Returns:
        The metrics after the last epoch.

    Raises:
        Stopped: Ctrl-C or a termination request came; the run is saved.
        ValueError: the device or the optimizer is not there, or the checkpoint does not fit.
    """
    with _determinism(config.deterministic):
        trainer = _Trainer(task, config, run)
        if resume and run.checkpoint_file.exists():
            trainer.load()
        progress = trainer.progress
        purge = progress.epoch * trainer.steps + 1 if resume else None
        with (
            SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge) as events,
            _stop_on_signal() as stop,
            _progress_bar(config.epochs, progress.epoch) as (bar, line),
        ):
            while progress.epoch < config.epochs:
                trainer.epoch(stop, bar, line)
                trainer.finish_epoch(events)
    skip = ("epoch", "step", "loss", "lr", "seconds")
    return {k: v for k, v in progress.rows[-1].items() if k not in skip}
