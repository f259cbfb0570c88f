"""The progress bar of the training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from softperm.program.training.signals import TERMINAL_GONE, Stop

_SECONDS_A_REFRESH = 0.1


class PlainConsole(Console):
    """A console that tells its caller when nobody reads it any more."""

    def on_broken_pipe(self) -> NoReturn:
        """Pass the error on; the default ends the process."""
        raise BrokenPipeError("nobody reads the output")


class Bar:
    """Epoch, steps, loss and speed, in a line; where the terminal is gone, a request to stop.

    It is drawn by the training loop and no thread, so that all errors come up there.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._drawn = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4g}  {task.fields[rate]:.0f} steps/s"),
            TimeRemainingColumn(),
            console=PlainConsole(),
            auto_refresh=False,
        )
        self._line = self._progress.add_task("", total=None, loss=float("nan"), rate=0.0)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._stop.request(TERMINAL_GONE)

    def start(self) -> None:
        """Show the line."""
        with self._writing():
            self._progress.start()

    def close(self) -> None:
        """Leave the line as it is."""
        with self._writing():
            self._progress.stop()

    def begin_epoch(self, label: str, steps: int, done: int) -> None:
        """Begin anew with an epoch of which some steps are done."""
        with self._writing():
            self._progress.reset(self._line, description=label, total=steps, completed=done)

    def update(self, done: int, loss: float, rate: float) -> None:
        """Show the steps done, the mean loss and the speed."""
        self._progress.update(self._line, completed=done, loss=loss, rate=rate)
        if time.monotonic() - self._drawn > _SECONDS_A_REFRESH:
            self._drawn = time.monotonic()
            with self._writing():
                self._progress.refresh()


@contextmanager
def progress_bar(stop: Stop) -> Iterator[Bar]:
    """A bar on the terminal."""
    bar = Bar(stop)
    bar.start()
    try:
        yield bar
    finally:
        bar.close()
