"""How much faster than the tutorial's own loop are training and evaluation on MNIST 2x2?

Both run in this process, in turns, with the tutorial's hyper-parameters; medians are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import tutorial_loop
from rich.console import Console
from rich.table import Table

from softperm.tasks import Jigsaw, JigsawConfig
from softperm.training.config import TrainConfig


class Ours:
    """Training steps as `softperm train jigsaw --preset tutorial-2x2` does them."""

    def __init__(self, task: Jigsaw, config: TrainConfig) -> None:
        self.task = task
        self.net = task.make_net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.lr, fused=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.batches = torch.randperm(task.n_train, generator=self.generator).split(
            config.batch_size
        )
        self.done = 0

    def step(self) -> None:
        self.net.train()
        indices = self.batches[self.done % len(self.batches)]
        self.done += 1
        batch = self.task.batch(indices, self.generator)
        loss = self.task.loss(self.net, batch, self.generator)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def seconds(function: Callable[[], object], times: int = 1) -> float:
    """Wall-clock time of one call, over a number of calls."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each loop")
    parser.add_argument("--steps", type=int, default=40, help="training steps a turn")
    options = parser.parse_args()

    torch.manual_seed(0)
    task = Jigsaw(JigsawConfig())
    config = TrainConfig()
    theirs = tutorial_loop.Trainer(task.images.train)
    ours = Ours(task, config)
    steps = len(ours.batches)
    test = task.images.test
    device = torch.device("cpu")

    for trainer in (theirs, ours):
        seconds(trainer.step, 20)  # warm-up
    train: list[tuple[float, float]] = []
    evaluation: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        train.append((seconds(theirs.step, options.steps), seconds(ours.step, options.steps)))
        evaluation.append(
            (
                seconds(lambda: tutorial_loop.evaluate(theirs.net, test[:1000])) * len(test) / 1000,
                seconds(lambda: task.evaluate(ours.net, device)),
            )
        )
    table = Table("", "tutorial's loop", "softperm", "ratio")
    for name, pairs, factor in (
        ("training, seconds an epoch", train, steps),
        ("evaluation, seconds", evaluation, 1),
    ):
        slow, fast = (median(column) * factor for column in zip(*pairs, strict=True))
        ratio = median(a / b for a, b in pairs)
        table.add_row(name, f"{slow:.2f}", f"{fast:.2f}", f"{ratio:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
