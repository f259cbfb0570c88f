"""The demo shows what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from softperm.program import demo


def test_it_restores_and_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    printed = re.sub(r"^epoch .*\n", "", printed, flags=re.MULTILINE)
    exact = [float(value) for value in re.findall(r"exact_reconstruction (0\.\d+|1\.0+)", printed)]
    assert len(exact) == 3
    assert exact[0] > 0.99  # mnist-3x3
    assert exact[1] > 0.95  # mnist-4x4
    assert exact[2] > 0.95  # trained here, 2x2
    named = printed.partition("look at the pictures:")[2].split()
    assert len(named) == 3
    assert all(Path(name).stat().st_size > 1000 for name in named)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        demo.main(["--out", str(tmp_path)])
    assert caught.value.code == 2
    assert "--out must be a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a shell of Unix")
def test_it_trains_where_the_output_is_closed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "softperm.program.demo", "--out", str(tmp_path)]
    closed = ["sh", "-c", 'exec "$0" "$@" >&-', *command]
    done = subprocess.run(closed, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "digits-2x2" / "puzzles.png").exists()
