"""A process that has everything loaded and forks children that run the program.

It reads a request a line from its standard input and answers with a line on its standard output.
A child so costs a fork in place of seconds of imports, and dies like any other process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


class Trap:
    """Does something at the n-th change that a process makes to the files of a folder.

    Arguments:
        folder: The folder.
        action: kill, or the number of a signal to send to the process itself; full, to let this
            and all later changes fail but for removals; count, to note how many there were.
        at: Which change, from 1 on.
    """

    def __init__(self, folder: str, action: str | int, at: int) -> None:
        self.folder, self.action, self.at, self.seen = folder, action, at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & _WRITING:
                return
        elif event in _CHANGES:
            path = arguments[0]
        else:
            return
        if isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(self.folder):
            return
        self.seen += 1
        self._act(event)

    def _act(self, event: str) -> None:
        if self.action == "full":
            if self.seen >= self.at and event not in ("os.remove", "os.rmdir"):
                raise OSError(28, "No space left on device")
        elif self.seen == self.at and self.action != "count":
            os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else int(self.action))


def child(request: dict[str, Any]) -> int:
    """Run the program as the request says."""
    from softperm.program.cli import main

    os.chdir(request["cwd"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        handle = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
    if request["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
    trap = Trap(request["cwd"], request["action"], request["at"])
    sys.addaudithook(trap)
    sys.argv[1:] = request["argv"]
    code = main()
    if request["action"] == "count":
        Path(request["stderr"]).with_suffix(".count").write_text(str(trap.seen))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code


def serve() -> None:
    """Answer requests until there are no more."""
    import sklearn.datasets  # noqa: F401
    import torch
    from matplotlib.figure import Figure

    import softperm
    import softperm.program.train
    from softperm.program import report

    # Pictures are written as ever, but not painted: that takes ten times as long as the rest.
    for name in ("plot_curves", "plot_puzzles", "plot_temperatures"):
        setattr(report, name, lambda *_: Figure(figsize=(1, 1)))
    torch.set_num_threads(1)
    softperm.sinkhorn(torch.zeros(1, 4, 4))
    softperm.matching(torch.zeros(1, 4, 4))
    ended: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "halted" in request:
            answer = int(os.WIFSTOPPED(os.waitpid(request["halted"], os.WUNTRACED)[1]))
        elif "ended" in request:
            answer, status = os.waitpid(request["ended"], os.WNOHANG)
            if answer:
                ended[answer] = os.waitstatus_to_exitcode(status)
        elif "wait" in request:
            pid = request["wait"]
            if pid not in ended:
                ended[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer = ended.pop(pid)
        elif (answer := os.fork()) == 0:
            code = 99
            try:
                code = child(request)
            finally:
                os._exit(code)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
