"""How much faster than the tutorial's own loop are training and evaluation on MNIST 2x2?

Both run in this process, in turns, with the tutorial's hyper-parameters; medians are compared.
"""

from __future__ import annotations

import argparse
from statistics import median

import report
import torch
import tutorial_loop
from plain import THREADS
from timing import prepare, seconds

from softperm.program.tasks import Jigsaw, JigsawConfig
from softperm.program.training.config import TrainConfig


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
        examples = self.task.examples(self.task.read(indices), self.generator)
        loss = self.task.loss(self.net, examples)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each loop")
    parser.add_argument("--steps", type=int, default=40, help="training steps a turn")
    options = parser.parse_args()

    prepare(THREADS)
    torch.manual_seed(0)
    task = Jigsaw(JigsawConfig())
    ours = Ours(task, TrainConfig())
    device = torch.device("cpu")
    header = ["tutorial's loop, convolution called", "", "tutorial", "softperm", "ratio"]
    table = report.Cells(header, [])
    results: dict[str, dict[str, float]] = {}
    for label, across in (("for every piece", False), ("for every position", True)):
        theirs = tutorial_loop.Trainer(task.images.train, across)
        train, evaluation = compare(theirs, ours, task, device, options.rounds, options.steps)
        for what, pairs in (("training, s per epoch", train), ("evaluation, s", evaluation)):
            slow, fast = (median(column) for column in zip(*pairs, strict=True))
            ratio = median(a / b for a, b in pairs)
            table.rows.append([label, what, f"{slow:.2f}", f"{fast:.2f}", f"{ratio:.1f}x"])
            results[f"{label}: {what}"] = {"tutorial": slow, report.OURS: fast}
    table.print("training")
    report.publish({"training": table}, {"training": results})


def compare(
    theirs: tutorial_loop.Trainer,
    ours: Ours,
    task: Jigsaw,
    device: torch.device,
    rounds: int,
    steps: int,
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Seconds of both for an epoch and for an evaluation, in turns."""
    test = task.images.test
    share = len(test) // 1000  # the slow loop evaluates a thousand images
    epoch = len(ours.batches)
    for trainer in (theirs, ours):
        seconds(trainer.step, 20)  # warm-up
    train: list[tuple[float, float]] = []
    evaluation: list[tuple[float, float]] = []
    for _ in range(rounds):
        slow, fast = seconds(theirs.step, steps), seconds(ours.step, steps)
        train.append((slow * epoch, fast * epoch))
        slow = seconds(lambda: tutorial_loop.evaluate(theirs.net, test[:1000])) * share
        evaluation.append((slow, seconds(lambda: task.evaluate(ours.net, device))))
    return train, evaluation


if __name__ == "__main__":
    main()
