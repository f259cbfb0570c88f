"""Files and folders appear whole or not at all, and are on the disk when they appear."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from softperm._files import appearing, remove_leftovers, replacing, write_numbered, write_text

posix = pytest.mark.skipif(os.name == "nt", reason="folders cannot be synchronised on Windows")


@posix
def test_what_is_brought_to_the_disk_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to synchronise a handle that is open for reading alone."""
    import fcntl

    seen: list[str] = []
    original = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            seen.append("folder")
        else:
            assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            seen.append("file")
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file.txt", "new")
    assert seen == ["file", "folder"]  # the name after what it stands for


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with appearing(folder) as temporary:
        write_text(temporary / "file.txt", "content")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["file.txt"]
    assert [path.name for path in folder.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_nothing_above_it_either(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    def fail() -> None:
        with appearing(tmp_path / "a" / "b") as temporary:
            write_text(temporary / "file.txt", "content")
            raise kind

    with pytest.raises(kind):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("content")
    with pytest.raises(OSError, match="run"), appearing(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


def beside(folder: Path, pid: int) -> Path:
    """What a process of this number leaves where a folder was to appear."""
    return folder.with_name(f".{folder.stem}.{pid}.softperm-part{folder.suffix}")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o755])
def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path, mode: int) -> None:
    file, link = tmp_path / "there" / "file.txt", tmp_path / "link.txt"
    write_text(file, "old")
    file.chmod(mode)
    link.symlink_to(Path("there", "file.txt"))
    with replacing(link) as temporary:
        temporary.write_text("new")
        assert temporary.stat().st_mode & stat.S_IROTH <= mode & stat.S_IROTH
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert len(list(tmp_path.rglob("*"))) == 3


@posix
def test_a_link_that_leads_to_nothing_is_given_its_file(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("file.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "file.txt").read_text() == "new"


def leftovers(folder: Path, pid: int) -> list[Path]:
    """What a process of this number may leave when it is killed."""
    (folder / "last").mkdir(parents=True)
    paths = [
        folder / f".model.{pid}.softperm-part.json",
        folder / "last" / f".state.{pid}.softperm-part.safetensors",
        beside(folder, pid),
    ]
    for path in paths[:2]:
        path.write_text("half")
    paths[2].mkdir()
    (paths[2] / "config.yaml").write_text("half")
    return paths


@pytest.mark.parametrize("name", ["run[1]", "v1.5", "run", ".hidden.d"])
def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path, name: str) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], text=True,
                          capture_output=True, check=True)  # fmt: skip
    folder = tmp_path / name
    paths = leftovers(folder, int(dead.stdout))
    kept = [
        folder / f".model.{os.getppid()}.softperm-part.json",  # of a process that runs
        folder / ".model.json",
        folder / "model.softperm-part.json",
        *(beside(tmp_path / other, int(dead.stdout)) for other in ("other", f"{name}.x", "v1.6")),
    ]
    for path in kept:
        path.write_text("mine")
    remove_leftovers(folder)
    assert not any(path.exists() for path in paths)
    assert all(path.read_text() == "mine" for path in kept)


def test_the_temporary_name_is_one_that_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with replacing(folder / "file.txt") as temporary:
        temporary.write_text("half")
        kept = temporary.with_name(temporary.name)
        remove_leftovers(folder)
        assert not kept.exists()
        temporary.write_text("whole")
    assert (folder / "file.txt").read_text() == "whole"


@pytest.mark.parametrize("name", ["run", "v1.5"])
def test_the_temporary_folder_is_one_that_is_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with appearing(folder) as temporary:
        assert temporary == beside(folder, os.getpid())
        remove_leftovers(folder)
        assert not temporary.exists()
        temporary.mkdir()
    assert folder.exists()


ENDINGS = ("-small.txt", ".txt")
# Writes as many pairs as it is told, once its input is closed.
WRITER = """
import sys
from pathlib import Path
from softperm._files import write_numbered
folder, who, times, links = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
if links == "without links":
    import os
    def link(*names):
        raise PermissionError(1, "Operation not permitted")
    os.link = link
print("ready", flush=True)
sys.stdin.read()
for i in range(times):
    text = f"{who} {i}"
    files = dict.fromkeys(("-small.txt", ".txt"), lambda path: path.write_text(text))
    print(*(path.name for path in write_numbered(folder, "x", files)))
"""


@pytest.mark.parametrize("links", ["with links", "without links"])
def test_processes_that_write_the_same_names_at_once(tmp_path: Path, links: str) -> None:
    times = 30
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(who), str(times), links],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    found = []
    for who, writer in enumerate(writers):
        assert writer.stdout is not None
        with writer.stdout:
            lines = writer.stdout.read().splitlines()
        assert writer.wait() == 0
        for i, line in enumerate(lines):
            found += (names := line.split())
            assert [(tmp_path / name).read_text() for name in names] == [f"{who} {i}"] * 2
            small, large = names
            assert small.removesuffix("-small.txt") == large.removesuffix(".txt")
    assert len(found) == 3 * times * 2
    assert sorted(found) == sorted(path.name for path in tmp_path.iterdir())


def write_pair(folder: Path, text: str) -> list[str]:
    files = dict.fromkeys(ENDINGS, lambda path: path.write_text(text))
    return [path.name for path in write_numbered(folder, "x", files)]


def test_the_first_number_at_which_all_names_are_free(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert write_pair(folder, "1") == ["x-small.txt", "x.txt"]
    (folder / "x-2.txt").symlink_to("nowhere")
    (folder / "x-3-small.txt").mkdir()
    assert write_pair(folder, "2") == ["x-4-small.txt", "x-4.txt"]
    assert (folder / "x.txt").read_text() == "1"
    assert (folder / "x-2.txt").is_symlink()
    assert len(list(folder.iterdir())) == 6


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half of the ")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_numbered(tmp_path, "x", {"-small.txt": Path.touch, ".txt": fail})
    assert list(tmp_path.iterdir()) == []
