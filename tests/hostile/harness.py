"""The program run in children that can be killed, starved and interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
TINY = ["--data", "digits", "--kernel_size", "3", "--batch_size", "300", "--lr", "0.01"]
TRAIN = ["train", "jigsaw", *TINY, "--epochs", "2", "--device", "cpu", "--out", "run"]
RESUME = ["train", "jigsaw", "--out", "run", "--resume"]


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Arguments:
        code: Its exit code; below 0 the signal that killed it.
        out: What it wrote to the standard output.
        err: What it wrote to the standard error output.
    """

    code: int
    out: str
    err: str

    def require_polite(self) -> None:
        """No traceback, and at most a line of error."""
        assert "Traceback" not in self.err, self.err
        assert "Traceback" not in self.out, self.out
        assert self.code not in (70, 99), self.err
        lines = [line for line in self.err.splitlines() if line.startswith("softperm: error")]
        assert len(lines) <= 1, self.err
        assert all(len(line) < 700 for line in lines)


class Program:
    """A server of children."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "hostile" / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
        )

    def close(self) -> None:
        """End the server."""
        self._server.communicate()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(
        self,
        cwd: Path,
        argv: list[str],
        *,
        action: str | int = "count",
        at: int = 0,
        file_size: int | None = None,
        name: str = "log",
        stdout: Path | None = None,
    ) -> int:
        """Start a command and return the number of its process."""
        logs = cwd.parent / f"{cwd.name}.{name}"
        request = {
            "cwd": str(cwd),
            "argv": argv,
            "action": action,
            "at": at,
            "file_size": file_size,
            "stdout": str(stdout or f"{logs}.out"),
            "stderr": f"{logs}.err",
        }
        return self._ask(request)

    def wait(self, pid: int, cwd: Path, name: str = "log") -> Outcome:
        """How a command that was started ended."""
        code = self._ask({"wait": pid})
        logs = cwd.parent / f"{cwd.name}.{name}"
        texts = [Path(f"{logs}.{end}") for end in ("out", "err")]
        out, err = (path.read_text() if path.exists() else "" for path in texts)
        return Outcome(code, out, err)

    def wait_until_halted(self, pid: int) -> None:
        """Wait until a process was halted by SIGSTOP."""
        assert self._ask({"halted": pid}), "it ended"

    def ends_before(self, pid: int, path: Path, text: str) -> bool:
        """Whether a process ends before a file begins with a text; it is still to be waited for."""
        deadline = time.monotonic() + 60
        while not self._ask({"ended": pid}):
            with contextlib.suppress(FileNotFoundError):
                if path.read_text().startswith(text):
                    return False
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return True

    def run(self, cwd: Path, argv: list[str], **options: Any) -> Outcome:
        """Run a command to its end, whatever that is."""
        return self.wait(self.start(cwd, argv, **options), cwd)

    def finish(self, cwd: Path) -> None:
        """Go on with what was broken off, as a user would, and see that it can be done."""
        begun = (cwd / "run").exists()
        outcome = self.run(cwd, RESUME if begun else TRAIN)
        assert outcome.code == 0, outcome.err


def require_same(run: Path, whole: Path) -> None:
    """The weights and the names of the files of the undisturbed run, and nothing beside them."""
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (run, whole))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert tree(run) == tree(whole)
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def tree(folder: Path) -> set[str]:
    """The files of a run, those of TensorBoard under one name: there is one for every start."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {path.parts[0] if path.parts[0] == "tensorboard" else str(path) for path in paths}
