"""Signals that ask the program to stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object]

_PATIENCE = 1.0  # seconds for the second signal's handler
TERMINAL_GONE = 13  # SIGPIPE, which Windows has not
STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop, and nothing has to be finished first.

    Arguments:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Stopped(Exception):  # noqa: N818 - a request that was met, not an error
    """Training was asked to stop; the run is saved and can be resumed.

    Arguments:
        signum: The signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Stop:
    """Whether training was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def request(self, signum: int) -> None:
        """Ask to stop at the next moment at which nothing is half done."""
        self.signum = signum


@contextmanager
def handling(handler: _Handler) -> Iterator[None]:
    """All signals that ask to stop go to `handler` inside, and where they went afterwards.

    Only the main thread may handle signals: in others nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in before:
        if before[number] is not signal.SIG_IGN:  # such as SIGHUP under nohup
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Break off whatever is done at the moment."""
    raise Interrupted(signum)


def leave(signum: int, frame: FrameType | None) -> None:
    """End at once. While modules are loaded an exception would not come out as it went in."""
    os.write(2, b"softperm: error: interrupted\n")
    os._exit(128 + signum)


def leave_on_signal() -> None:
    """Let signals end the process at once, until another handler is set."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


def ignore_all() -> None:
    """Let nothing break off what is left to do."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def second_signal_ends() -> Iterator[None]:
    """Inside, the second signal ends the process within a second, even while it waits for others.

    A handler is not run before the main thread is back from a wait for another process. A thread
    sees the signals at once. It leaves the handler its time, and ends the process after it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen, sent = socket.socketpair()
    done = threading.Event()
    thread = threading.Thread(target=_leave_at_second, args=(seen, done), daemon=True)
    with seen, sent:
        sent.setblocking(False)  # as set_wakeup_fd wants it
        thread.start()
        before = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            done.set()
            sent.shutdown(socket.SHUT_WR)
            thread.join()


def _leave_at_second(seen: socket.socket, done: threading.Event) -> None:
    """Read the numbers of signals, and end the process where nobody is done after the second."""
    asked = 0
    while number := seen.recv(1):
        asked += number[0] in STOPPING
        if asked > 1 and not done.wait(_PATIENCE):
            if os.isatty(1):  # the bar hides the cursor
                os.write(1, b"\x1b[?25h\n")
            leave(number[0], None)


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """A request that a signal sets, so that a step is never cut in two.

    The second signal breaks off at once.
    """
    stop = Stop()

    def request(signum: int, frame: FrameType | None) -> None:
        if stop.signum is not None:
            raise Interrupted(signum)
        stop.request(signum)

    with handling(request):
        yield stop
