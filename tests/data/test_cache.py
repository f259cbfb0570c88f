"""The file that a folder of pictures is read into: what it holds, and when it is made again."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from softperm import _lock
from softperm.data import cache, load_folder, load_test_images, read_image, reading
from softperm.data.cache import load_source
from softperm.data.imagelist import Images, Pixels
from softperm.data.reading import Source

N, SIZE = 12, 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of noise, some of them in a subfolder."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "my pictures"
    (folder / "more").mkdir(parents=True)
    for i in range(N):
        name = f"more/{i}.png" if i % 3 == 0 else f"{i}.bmp"
        Image.fromarray(draw.integers(0, 256, (9, 7, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setattr(cache, "user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that were read."""
    names: list[str] = []

    def read(path: Path, *, size: int, channels: int) -> Tensor:
        names.append(path.name)
        return read_image(path, size=size, channels=channels)

    monkeypatch.setattr("softperm.data.reading.read_image", read)
    return names


def load(folder: Path, size: int = SIZE, channels: int = 3) -> Images:
    return load_source(Source(folder, size, channels))


def whole(images: Images) -> Tensor:
    return images[torch.arange(len(images))]


def plain(folder: Path, size: int = SIZE, channels: int = 3) -> Tensor:
    """The pictures read one by one, in the order of their paths."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".bmp"))
    return torch.stack([read_image(path, size=size, channels=channels) for path in paths])


def files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize(("size", "channels"), [(6, 3), (5, 1)])
def test_it_holds_what_reading_one_by_one_gives(folder: Path, size: int, channels: int) -> None:
    expected = plain(folder, size, channels)
    for images in (load(folder, size, channels), load(folder, size, channels)):
        assert images.shape == (N, channels, size, size)
        assert torch.equal(whole(images), expected)


def test_pictures_are_read_once(folder: Path, reads: list[str]) -> None:
    load(folder)
    assert len(reads) == N
    load(folder)
    load(folder / ".." / folder.name)
    assert len(reads) == N
    load(folder, SIZE + 1)
    assert len(reads) == 2 * N


def test_the_order_is_that_of_paths(tmp_path: Path) -> None:
    """Of their parts, that is: a folder comes before a file whose name goes on after its own."""
    names = ["a.png", "a/z.png", "a/b/c.png", "a-b.png", "B.png", "a/b.png", "Z/y.png", "é.png"]
    for i, name in enumerate(names):
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), i).save(path)
    ordered = sorted(Path(name) for name in names)
    expected = [names.index(path.as_posix()) for path in ordered]
    assert whole(load(tmp_path / "x", 2, 1))[:, 0, 0, 0].tolist() == expected


def test_the_file_tells_where_it_is_from(folder: Path, place: Path) -> None:
    load(folder)
    (file,) = files(place)
    assert file.parent.name.startswith("my_pictures-")
    assert file.name == "6x6x3.images"


def add(folder: Path) -> None:
    Image.new("L", (3, 3)).save(folder / "new.png")


def remove(folder: Path) -> None:
    (folder / "4.bmp").unlink()


def rename(folder: Path) -> None:
    (folder / "4.bmp").rename(folder / "44.bmp")


def repaint(folder: Path) -> None:
    """A picture of as many bytes, a nanosecond younger."""
    path = folder / "4.bmp"
    state = path.stat()
    Image.new("RGB", (7, 9), (1, 2, 3)).save(path)
    assert path.stat().st_size == state.st_size
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def resize(folder: Path) -> None:
    """A picture of another size, but as old."""
    path = folder / "4.bmp"
    state = path.stat()
    Image.new("RGB", (20, 9), (1, 2, 3)).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("change", [add, remove, rename, repaint, resize])
def test_a_changed_folder_is_read_again(
    folder: Path, place: Path, change: Callable[[Path], None]
) -> None:
    before = load(folder)
    content = whole(before)
    change(folder)
    assert torch.equal(whole(load(folder)), plain(folder))
    assert len(files(place)) == 1
    assert torch.equal(whole(before), content)  # whoever uses the old images still has them


def test_other_files_change_nothing(folder: Path, reads: list[str]) -> None:
    load(folder)
    (folder / "notes.txt").write_text("no picture")
    (folder / "4.bmp").chmod(0o600)
    load(folder)
    assert len(reads) == N


def cut(data: bytes) -> bytes:
    return data[:-1]


def cut_to_pixels(data: bytes) -> bytes:
    return data[: N * 3 * SIZE * SIZE]


def cut_in_front(data: bytes) -> bytes:
    return data[1:]


def lengthen(data: bytes) -> bytes:
    return data + b"\0"


def lengthen_in_front(data: bytes) -> bytes:
    return b"\0" + data


def empty(data: bytes) -> bytes:
    return b""


def zeros(data: bytes) -> bytes:
    """What a file system may leave after the power failed."""
    return bytes(len(data))


def describe_otherwise(data: bytes) -> bytes:
    return data.replace(b'"n_files": 12', b'"n_files": 13')


def describe_less(data: bytes) -> bytes:
    """What a version might write that knows of no skipped pictures."""
    n_text, _, mark = cache._END.unpack(data[-cache._END.size :])
    text = data[-cache._END.size - n_text : -cache._END.size].replace(b'"reasons"', b'"becauses"')
    end = cache._END.pack(len(text), zlib.crc32(text), mark)
    return data[: N * 3 * SIZE * SIZE] + text + end


DAMAGE = [
    *(cut, cut_to_pixels, cut_in_front, lengthen, lengthen_in_front, empty, zeros),
    *(describe_otherwise, describe_less),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(
    folder: Path,
    place: Path,
    reads: list[str],
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    load(folder)
    (file,) = files(place)
    good = file.read_bytes()
    bad = damage(good)
    assert bad != good
    file.unlink()
    file.write_bytes(bad)
    assert torch.equal(whole(load(folder)), plain(folder))
    assert len(reads) == 2 * N
    assert file.read_bytes() == good
    (told,) = caplog.messages
    assert told.startswith(f"{file} is damaged, and made again: it")


def test_what_the_disk_did_not_keep_is_an_error(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = cache._Checked.write

    def lose_a_bit(self: cache._Checked, image: Pixels) -> None:
        write(self, image)
        self._file.seek(-1, os.SEEK_END)
        self._file.write(bytes([image.flat[-1] ^ 1]))

    monkeypatch.setattr(cache._Checked, "write", lose_a_bit)
    with pytest.raises(OSError, match="not what was written to it"):
        load(folder)
    assert files(place) == []


def test_another_version_is_made_again(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder)
    monkeypatch.setattr(cache, "_VERSION", 2)
    load(folder)
    assert len(reads) == 2 * N


def test_skipped_pictures_are_remembered(
    folder: Path, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG")
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    said = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="softperm"):
            assert len(load(folder)) == N
        said.append(caplog.messages)
    assert said[0] == said[1]
    assert len(reads) == N + 2
    assert [name in " ".join(said[0]) for name in ("bad.png", "link.png")] == [True, True]
    assert said[0][-1] == f"skipped 2 of {N + 2} pictures"


def test_a_changed_folder_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is given, and the next one sees the change."""

    def read_all(*args: object) -> object:
        add(folder)
        return reading.read_all(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "read_all", read_all)
    assert len(load(folder)) == N + 1
    monkeypatch.undo()


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Files can be no longer than so many bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, N * 3 * SIZE * SIZE])
def test_a_full_disk_is_told_and_nothing_is_left(folder: Path, place: Path, size: int) -> None:
    with limited(size), pytest.raises(OSError, match="File too large") as caught:
        load(folder)
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value.filename).startswith(str(place))
    assert files(place) == []
    assert list((place / "folders").iterdir()) == []
    assert torch.equal(whole(load(folder)), plain(folder))


def test_interrupted_reading_leaves_nothing(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
        yield stop

    with pytest.raises(KeyboardInterrupt):
        load_source(Source(folder, SIZE, 3), progress)
    assert files(place) == []


def test_leftovers_of_killed_processes_are_removed(folder: Path, place: Path) -> None:
    load(folder)
    (file,) = files(place)
    file.with_name(f".6x6x3.{2**30}.softperm-part.images").write_bytes(b"half")
    file.unlink()
    load(folder)
    assert files(place) == [file]


def test_where_nothing_can_be_written_images_are_in_memory(
    folder: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.write_text("a file where the folder should be")
    (folder / "bad.png").write_bytes(b"\x89PNG")
    with caplog.at_level(logging.WARNING, logger="softperm"):
        images = load(folder)
    (folder / "bad.png").unlink()
    assert torch.equal(whole(images), plain(folder))
    assert torch.equal(whole(pickle.loads(pickle.dumps(images))), plain(folder))
    told = [line for line in caplog.messages if "held in memory" in line]
    assert len(told) == 1
    assert str(folder) in told[0]
    assert caplog.messages[-1] == f"skipped 1 of {N + 1} pictures"


def test_a_cache_that_can_only_be_read(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    """Such as one that was made for many users."""
    load(folder)
    monkeypatch.setattr(cache, "_alone", None)
    load(folder)
    assert len(reads) == N


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("known", [True, False])
def test_processes_that_make_it_at_once(
    folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Also where there are no locks. With them the others wait for the first."""
    log = folder.parent / "log"
    log.touch()

    def read(path: Path, *, size: int, channels: int) -> Tensor:
        time.sleep(0.01)
        with log.open("ab") as file:
            file.write(b"1")
        return read_image(path, size=size, channels=channels)

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("softperm.data.reading.read_image", read)
    if not known:
        monkeypatch.setattr(_lock, "_lock", refuse)
    expected = plain(folder)
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)

    def make() -> None:
        barrier.wait()
        assert torch.equal(whole(load(folder)), expected)

    children = [fork.Process(target=make) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert [path.name for path in files(place)] == ["6x6x3.images"]
    assert not known or log.stat().st_size == N


def test_progress_is_told(folder: Path) -> None:
    told: list[object] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
        told.extend([label, total])
        yield told.append

    source = Source(folder, SIZE, 3)
    load_source(source, progress)
    assert told[:2] == ["reading pictures", N]
    assert sum(told[2:]) == N  # type: ignore[arg-type]
    del told[:]
    load_source(source, progress)
    assert told == []


def test_another_process_maps_the_file(folder: Path) -> None:
    """What is sent to it are no pixels."""
    images = load(folder, 64).take(torch.tensor([3, 1, 7]))
    sent = pickle.dumps(images)
    assert len(sent) < 3000
    assert torch.equal(whole(pickle.loads(sent)), whole(images))
    add(folder)
    load(folder, 64)
    with pytest.raises(ValueError, match="was replaced while it was in use"):
        pickle.loads(sent)


def test_the_test_images_need_no_training_images(folder: Path, place: Path) -> None:
    expected = plain(folder)
    folder.rename(folder.parent / "test")
    (folder.parent / "train").mkdir()
    images = load_test_images(str(folder.parent), size=SIZE)
    assert isinstance(images, Images)
    assert torch.equal(whole(images), expected)


@pytest.mark.parametrize(("size", "multiple", "side"), [(6, 4, 8), (8, 4, 8), (None, 3, 66)])
def test_pictures_are_read_at_a_multiple(
    folder: Path, size: int | None, multiple: int, side: int
) -> None:
    images = load_test_images(str(folder), size=size, multiple=multiple)
    expected = load_folder(folder, size=side).test
    assert torch.equal(whole(expected), images[torch.arange(len(images))])


def test_too_many_pieces(folder: Path) -> None:
    with pytest.raises(ValueError, match="at least 7 pixels per side for 7 x 7 pieces, got 6 x 6"):
        load_test_images(str(folder), size=6, multiple=7)
