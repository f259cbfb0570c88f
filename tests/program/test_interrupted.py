"""Interrupted while it is still being loaded, the program ends in a line and with code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys

def interrupt(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
sys.argv = ["softperm", *{arguments}]
from softperm.program.cli import main
sys.exit(main())
"""
EVALUATE = ["evaluate", "nothing-here"]
TRAIN = ["train", "jigsaw", "--data", "digits", "--resume", "--out", "nothing-here"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no such signal")


def require_told(code: int, out: str, err: str) -> None:
    assert (code, out, err) == (130, "", "softperm: error: interrupted\n")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("softperm.program.commandline", EVALUATE),
        ("softperm.program.options", ["--help"]),
        ("softperm.program.report", EVALUATE),
        ("torch", EVALUATE),
        ("numpy", EVALUATE),
        ("torch._C", EVALUATE),
        ("torch.nn", EVALUATE),
        ("softperm.nn", EVALUATE),
        ("matplotlib", EVALUATE),
        ("torch._C", TRAIN),
    ],
)
def test_while_a_module_is_loaded(module: str, arguments: list[str], tmp_path: Path) -> None:
    script = SCRIPT.format(module=module, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    require_told(done.returncode, done.stdout, done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_at_any_moment(tmp_path: Path) -> None:
    """From the first line of the entry on, until the command has begun."""
    script = (
        "import os\nos.write(1, b'.')\n"
        f"import sys\nsys.argv = ['softperm', *{EVALUATE}]\n"
        "from softperm.program.training.signals import leave_on_signal\nleave_on_signal()\n"
        "os.write(1, b'.')\n"
        "from softperm.program.cli import main\nsys.exit(main())"
    )
    told = 0
    for delay in [0.05 * i for i in range(60)]:
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=-1, stderr=-1, cwd=tmp_path
        ) as process:
            assert process.stdout is not None
            process.stdout.read(2)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            out, err = (text.decode() for text in process.communicate())
        if process.returncode != 1:  # else it was too late: the command has refused the folder
            require_told(process.returncode, out, err)
            told += 1
    assert told > 5
