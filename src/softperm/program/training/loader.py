"""Training examples, read ahead by other processes."""

from __future__ import annotations

import atexit
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from softperm._torch import end_workers
from softperm.program.training.memory import give_back_freed_memory
from softperm.program.training.signals import STOPPING

Read = Callable[[Tensor], Tensor]
_AHEAD = 2  # steps that every worker reads ahead
_STEPS_A_TRIM = 20


def stored_examples(read: Read, steps: Sequence[Tensor], workers: int) -> Generator[Tensor]:
    """Read the examples of one step after the other.

    Arguments:
        read: Gives the examples at some indices, without any randomness. With workers it is called
            in other processes.
        steps: Indices of the examples of every step.
        workers: Processes that read ahead; 0 reads in this one, a step at a time.

    Yields:
        What `read` gives for every step, in their order; with workers in pinned memory where there
        is a CUDA device. The workers end with the iterator: close it where not all was read.

    Raises:
        Exception: what `read` raised, in whichever process, in place of the step that it was for.
        RuntimeError: a worker was killed.
    """
    if workers == 0:
        yield from map(read, steps)
    else:
        yield from _read_ahead(read, steps, workers)


class _Steps(Dataset[Tensor | Exception]):
    """What the workers do: every item is a step."""

    def __init__(self, read: Read, steps: Sequence[Tensor]) -> None:
        self._read, self._steps = read, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, step: int) -> Tensor | Exception:
        try:
            return self._read(self._steps[step])
        except Exception as error:
            # As it is: the loader would raise one of its type with the traceback for its message.
            if not _can_be_sent(error):
                raise
            return error


def _can_be_sent(error: Exception) -> bool:
    """Whether an error comes out of `pickle` as it went in."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # its own code is run, which may raise anything
        return False
    return type(again) is type(error) and str(again) == str(error)


def _read_ahead(read: Read, steps: Sequence[Tensor], workers: int) -> Generator[Tensor]:
    batches = _start(_Steps(read, steps), workers)

    def end() -> None:
        end_workers(batches)

    atexit.register(end)  # else a process that ends would wait for workers that ignore signals
    try:
        for number, batch in enumerate(batches, 1):
            if isinstance(batch, Exception):
                raise batch
            yield batch
            if number % _STEPS_A_TRIM == 0:
                give_back_freed_memory()
    finally:
        atexit.unregister(end)
        end()


def _start(steps: _Steps, workers: int) -> Iterator[Tensor | Exception]:
    """The workers' results in order; they begin to read."""
    with warnings.catch_warnings(), _signals_held_back():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        loader = DataLoader(
            steps,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=_AHEAD,
            worker_init_fn=_ignore_signals,
            # A forked worker has what is to be read; elsewhere it is sent there.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            generator=torch.Generator(),  # it draws a seed, which must not be from the run's stream
        )
        return iter(loader)


def _as_it_is(step: Any) -> Any:
    return step


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let no signal reach a worker before it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_signals(worker: int) -> None:
    """Requests to stop go to all processes of a terminal or a job: the first one answers them."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
