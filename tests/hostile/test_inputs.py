"""Wrong inputs get a line and an exit code, are never accepted, and leave nothing behind."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from softperm.program.cli import main
from tests.hostile.cases import Case
from tests.hostile.corpus import all_cases
from tests.hostile.files import FILES, RESUME, data_set

CASES = all_cases(damaged=20)
_SECONDS = 20  # that a refusal may take, on a busy machine


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with a hash of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes() if path.is_file() else b"folder"
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and a picture."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        argv = ["--data", "digits", "--kernel_size", "3", "--batch_size", "300", "--epochs", "1"]
        assert main(["train", "jigsaw", *argv, "--device", "cpu", "--out", "run"]) == 0
        Image.linear_gradient("L").resize((8, 8)).save("x.png")
    return folder


class Hostile:
    """A folder for every case, and what is asked of all of them."""

    def __init__(
        self,
        finished: Path,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self.finished, self.folder, self.capfd = finished, folder, capfd
        self.patch = monkeypatch

    def refuse(self, case: Case, number: int) -> None:
        """Run a case and find nothing wrong with how it was refused."""
        cwd = self.folder / str(number)
        cwd.mkdir()
        needs_run = any(part == "run" for part in case.argv)
        if needs_run:
            shutil.copytree(self.finished, cwd, dirs_exist_ok=True)
        case.prepare(cwd)
        before, started = contents(cwd), time.monotonic()
        self.capfd.readouterr()
        with self.patch.context() as patch:
            patch.chdir(cwd)
            patch.setenv("SOFTPERM_DATA", str(cwd / "data"))
            patch.setattr(tempfile, "tempdir", str(cwd))
            code = main(case.argv)
        out, err = self.capfd.readouterr()
        assert code in (1, 2, 3), f"{case.name}: {code} {err}"
        assert "Traceback" not in out + err, f"{case.name}: {err}"
        lines = [line for line in err.splitlines() if not line.startswith("skipped")]
        assert len(lines) == 1, f"{case.name}: {err}"
        assert lines[0].startswith("softperm: error: "), f"{case.name}: {err}"
        assert len(lines[0]) < 700, case.name
        assert contents(cwd) == before, case.name
        assert time.monotonic() - started < _SECONDS, case.name
        shutil.rmtree(cwd)


@pytest.fixture
def hostile(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Hostile:
    return Hostile(finished, tmp_path, monkeypatch, capfd)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 400
    assert len({case.name for case in CASES}) > 350


def test_what_is_right_is_accepted(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same commands on the same files, without what is wrong."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path / "data"))
    data_set(FILES)(tmp_path)
    Path("config").write_text("epochs: 1\nlr: 1e-3\n")
    mnist = ["train", "jigsaw", "--data", "mnist", "--device", "cpu", "--config", "config"]
    for argv in (["evaluate", "run"], ["solve", "run", "x.png"], RESUME, mnist):
        assert main(argv) == 0


def refuse_all(hostile: Hostile, cases: list[Case]) -> None:
    failures = []
    for number, case in enumerate(cases):
        try:
            hostile.refuse(case, number)
        except (AssertionError, SystemExit) as error:
            failures.append(f"{case.name}: {case.argv}: {error}"[:2000])
    assert not failures, "\n".join([f"{len(failures)} of {len(cases)}", *failures])


def test_some_wrong_inputs(hostile: Hostile) -> None:
    refuse_all(hostile, CASES[::6])


@pytest.mark.slow
def test_all_wrong_inputs(hostile: Hostile) -> None:
    refuse_all(hostile, CASES)
