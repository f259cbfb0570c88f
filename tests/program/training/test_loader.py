"""Examples read by other processes: the same ones in the same order, and nothing is left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softperm.program.training.loader import stored_examples

SOURCE = Path(__file__).parents[3] / "src"
VALUES = torch.arange(60, dtype=torch.uint8).reshape(20, 1, 1, 3)
STEPS = torch.tensor([7, 0, 19, 3, 3, 8, 11, 2, 5, 1]).split(3)


def read(indices: Tensor) -> Tensor:
    return VALUES[indices]


class OddError(ValueError):
    """An error that does not come out of `pickle` again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def failing(error: Exception) -> Callable[[Tensor], Tensor]:
    """A reader that cannot read example 8."""

    def read_most(indices: Tensor) -> Tensor:
        if 8 in indices:
            raise error
        return VALUES[indices]

    return read_most


@pytest.fixture(autouse=True)
def _no_workers_are_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_every_step_in_order(workers: int) -> None:
    """Also where there are more workers than steps."""
    found = list(stored_examples(read, STEPS, workers))
    assert len(found) == len(STEPS) == 4
    for batch, step in zip(found, STEPS, strict=True):
        assert batch.dtype == torch.uint8
        assert torch.equal(batch, VALUES[step])


@pytest.mark.parametrize("workers", [0, 2])
def test_no_steps(workers: int) -> None:
    assert list(stored_examples(read, [], workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_is_kept_where_the_first_takes_longest(workers: int) -> None:
    def slow_at_first(indices: Tensor) -> Tensor:
        time.sleep(0.2 if indices[0] == STEPS[0][0] else 0)
        return VALUES[indices]

    found = torch.cat(list(stored_examples(slow_at_first, STEPS, workers)))
    assert torch.equal(found, VALUES[torch.cat(STEPS)])


@pytest.mark.parametrize("workers", [0, 2])
def test_randomness_is_left_alone(workers: int) -> None:
    before = torch.get_rng_state()
    list(stored_examples(read, STEPS, workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_error_is_raised_in_place_of_its_step(workers: int) -> None:
    error = FileNotFoundError(2, "No such file or directory", "pictures/8.png")
    reader = stored_examples(failing(error), STEPS, workers)
    assert torch.equal(next(reader), VALUES[STEPS[0]])
    with pytest.raises(FileNotFoundError) as caught:
        next(reader)
    assert (caught.value.args, caught.value.filename) == (error.args, error.filename)


def test_an_error_that_cannot_be_sent_keeps_its_message() -> None:
    reader = stored_examples(failing(OddError("no", "picture")), STEPS, 1)
    next(reader)
    with pytest.raises((OddError, RuntimeError), match="no picture"):
        next(reader)


def test_workers_read_ahead_but_not_everything(tmp_path: Path) -> None:
    def read_and_tell(indices: Tensor) -> Tensor:
        (tmp_path / str(int(indices[0]))).touch()
        return VALUES[indices]

    reader = stored_examples(read_and_tell, torch.arange(20).split(1), 2)
    next(reader)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    reader.close()
    assert len(list(tmp_path.iterdir())) == 5  # two ahead for each worker, and the one in use


@pytest.mark.parametrize("private", [True, False])
def test_workers_end_where_the_rest_is_not_wanted(
    private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where PyTorch has no private name for it."""
    if not private:
        monkeypatch.setattr("softperm.program.training.loader.end_workers", lambda batches: None)
    reader = stored_examples(read, STEPS, 2)
    next(reader)
    assert len(multiprocessing.active_children()) == 2
    reader.close()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_told_of() -> None:
    def die(indices: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return VALUES[indices]

    with pytest.raises(RuntimeError, match=r"DataLoader worker .* killed|exited unexpectedly"):
        list(stored_examples(die, STEPS, 1))


ALONE = """
import os, signal, torch
from softperm.program.training.loader import stored_examples

values = torch.arange(100)
reader = stored_examples(values.__getitem__, values.split(5), 2)
next(reader)
told = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: told.append(number))
    os.killpg(0, number)
rest = torch.cat(list(reader))
assert told == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], told
assert torch.equal(rest, values[5:])
unfinished = stored_examples(values.__getitem__, values.split(5), 2)
next(unfinished)
print("done")
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no groups of processes")
def test_signals_and_the_end_of_a_process() -> None:
    """Signals to the whole group reach the first process alone, and it ends with workers at work.

    Nothing is written to the standard error output: no warning, no semaphore left over.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE],
        env=os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
