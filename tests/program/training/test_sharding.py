"""Trainings whose weights are shared out over two processes (gloo), and resumed by others."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from softperm.nn import RelativeSortNet
from softperm.program.cli import main
from softperm.program.training.run import Run
from softperm.program.training.sharding import shard
from tests.program.training.test_loop import rows, weights
from tests.program.training.test_processes import (
    NEEDS_FSDP,
    SECONDS,
    command,
    in_two,
    require_same_curve,
    started,
)

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="signals and process groups"),
    NEEDS_FSDP,
]
IN_TWO = ("--devices", "2", "--strategy")
TRANSFORMER = ("--net", "transformer", "--features", "32", "--layers", "2")
EPOCHS = 4
# The program; the first process asks all to stop after a number of steps, and each of them leaves
# word of how many numbers it holds of weights, gradients and averages.
PROGRAM = """
import json, os, signal, sys
from softperm.program.cli import main
from softperm.program.training.trainer import Trainer

do_step, do_epochs = Trainer._step, Trainer.all_epochs

def step(self, *arguments, **named):
    loss = do_step(self, *arguments, **named)
    done = self.progress.epoch * self.steps + self.progress.step
    if self.team.leads and done == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGTERM)
    return loss

def here(tensors):
    return sum(tensor.to_local().numel() for tensor in tensors)

def all_epochs(self, *arguments):
    try:
        do_epochs(self, *arguments)
    finally:
        held = list(self.raw_net.parameters())
        states = [state for each in self.optimizers for state in each.state.values()]
        averages = [t for state in states for name, t in state.items() if name != "step"]
        if hasattr(held[0], "to_local"):
            sizes = here(held), here(weight.grad for weight in held), here(averages)
            with open(f"{sys.argv[2]}-{self.team.part.rank}.json", "w") as file:
                json.dump(sizes, file)

Trainer._step, Trainer.all_epochs = step, all_epochs
sys.exit(main(sys.argv[3:]))
"""


def stopped(out: Path, after: int, *options: str) -> None:
    """Train in two processes, up to the end of a step."""
    script = out.with_name("program.py")
    script.write_text(PROGRAM)
    before = (sys.executable, str(script), str(after), str(out))
    with started(command(out, *options, epochs=EPOCHS), *before) as process:
        printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert printed.count("stopped; continue with") == 1
    assert errors == ""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The transformer, in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(command(out, *TRANSFORMER, epochs=EPOCHS)) == 0
    return Run(out)


@pytest.fixture(scope="module")
def conv_alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The convolutional net, in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(command(out, epochs=EPOCHS)) == 0
    return Run(out)


def test_each_process_holds_half_and_one_process_goes_on(tmp_path: Path, alone: Run) -> None:
    out = tmp_path / "run"
    stopped(out, 29, *IN_TWO, "fsdp", *TRANSFORMER)
    whole = sum(value.numel() for value in weights(alone).values())
    held = [json.loads(out.with_name(f"run-{rank}.json").read_text()) for rank in range(2)]
    assert [sum(sizes) for sizes in zip(*held, strict=True)] == [whole, whole, 2 * whole]
    assert max(sizes[0] for sizes in held) < 0.51 * whole
    assert len(rows(Run(out))) == 2
    assert main(command(out, "--resume", *TRANSFORMER, epochs=EPOCHS)) == 0
    for mine, theirs in zip(rows(Run(out)), rows(alone), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert Run(out).model_file.read_text() == alone.model_file.read_text()
    shapes = [{k: v.shape for k, v in weights(run).items()} for run in (Run(out), alone)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_any_strategy_goes_on_with_the_run_of_another(tmp_path: Path, conv_alone: Run) -> None:
    out = tmp_path / "run"
    stopped(out, 7, *IN_TWO, "ddp")
    stopped(out, 17, *IN_TWO, "fsdp", "--resume")
    stopped(out, 29, *IN_TWO, "fsdp", "--resume")
    stopped(out, 38, *IN_TWO, "ddp", "--resume")
    in_two(out, "--strategy", "fsdp", "--resume", epochs=EPOCHS)
    require_same_curve(Run(out), conv_alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "compiled", "rel"),
    [
        (("--optimizer", "muon"), "false", 1e-3),
        (("--precision", "bf16-mixed"), "false", 5e-3),
        (("--workers", "1", "--schedule", "one_cycle"), "false", 1e-4),
        ((), "true", 1e-4),
    ],
)
def test_other_settings_come_to_the_same_losses(
    tmp_path: Path, options: tuple[str, ...], compiled: str, rel: float
) -> None:
    assert main(command(tmp_path / "one", *TRANSFORMER, *options)) == 0
    in_two(tmp_path / "two", "--strategy", "fsdp", "--compile", compiled, *TRANSFORMER, *options)
    for mine, theirs in zip(rows(Run(tmp_path / "two")), rows(Run(tmp_path / "one")), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=rel)


def test_a_single_number_cannot_be_cut() -> None:
    """It is refused before the processes have anything to do, and the first one tells."""
    mesh: Any = SimpleNamespace(get_rank=lambda: 1)
    with pytest.raises(ValueError, match="cannot cut the weight log_scale") as raised:
        shard(RelativeSortNet(), mesh)
    assert vars(raised.value) == {"told": True}
