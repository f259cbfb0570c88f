"""IDX files and MNIST: round trips, damage, and downloads from a local server."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from softperm.data import (
    load_images,
    load_mnist,
    load_mnist_test,
    load_test_images,
    mnist,
    read_idx,
)
from tests.data.site import Site

NAMES = tuple(mnist._SHA256)


def idx(array: NDArray[np.uint8]) -> bytes:
    """The IDX file of an array of bytes, as its format is described."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize("declared", [24, 2**93])
def test_a_gzip_bomb_is_unzipped_no_further_than_declared(tmp_path: Path, declared: int) -> None:
    path = tmp_path / "bomb.idx"
    sides = (2, 3, 4) if declared == 24 else 3 * (2**31,)
    header = struct.pack(">HBB3I", 0, 8, 3, *sides)
    path.write_bytes(gzip.compress(header + bytes(50_000_000), 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"bomb\.idx .*= {declared} bytes .* got \d+ or more"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.fixture
def files() -> dict[str, bytes]:
    """Five training and three test images of 4 x 3 pixels, gzipped."""
    random = np.random.default_rng(0)
    shapes = ((5, 4, 3), (5,), (3, 4, 3), (3,))
    return {
        name: gzip.compress(idx(random.integers(0, 256, shape, np.uint8)), mtime=0)
        for name, shape in zip(NAMES, shapes, strict=True)
    }


def write(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


small = arrays(
    np.uint8, st.one_of(st.tuples(st.integers(0, 9)), st.tuples(*3 * [st.integers(0, 5)]))
)


@given(array=small, zipped=st.booleans())
def test_read_idx_round_trip(
    array: NDArray[np.uint8], zipped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / "no-suffix-tells-it"
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    found = read_idx(path)
    assert found.dtype == torch.uint8
    assert found.shape == array.shape
    assert np.array_equal(found.numpy(), array)


def test_read_idx_gives_memory_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(idx(np.arange(3, dtype=np.uint8)))
    found = read_idx(str(path))
    found += 1
    assert found.tolist() == [1, 2, 3]


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "magic number 00 00 08 .* got an empty file"),
        (b"\x00\x00\x08", "magic number 00 00 08 .* got 00 00 08$"),
        (b"PK\x03\x04" + GOOD, "magic number 00 00 08 .* got 50 4b 03 04"),
        (b"\x00\x00\x0d\x03" + GOOD[4:], "unsigned bytes .* got type 0d"),
        (b"\x00\x00\x08\x00", "1 or 3 dimensions, got 0"),
        (b"\x00\x00\x08\x02" + GOOD[4:], "1 or 3 dimensions, got 2"),
        (b"\x00\x00\x08\xff", "1 or 3 dimensions, got 255"),
        (GOOD[:15], "header of 16 bytes, got 15"),
        (GOOD[:-1], "2 x 3 x 4 = 24 bytes after its header, got 23"),
        (GOOD + b"\n", "2 x 3 x 4 = 24 bytes after its header, got 25"),
        # 2**96 bytes are 0 in 64 bits.
        (b"\x00\x00\x08\x03" + 3 * b"\x80\x00\x00\x00", f"= {2**93} bytes .* got 0"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(GOOD, mtime=0) + b"x", "damaged gzip"),
        (gzip.compress(GOOD[:-1], mtime=0), "24 bytes after its header, got 23"),
    ],
)
def test_read_idx_names_the_damage(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged.idx .*{words}"):
        read_idx(path)


def test_no_cut_or_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "damaged.idx"
    packed = gzip.compress(GOOD, mtime=0)
    for whole in (GOOD, packed):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"damaged\.idx"):
                read_idx(path)
    outcomes = [
        outcome_of_flip(path, packed, position, flip)
        for position in range(len(packed))
        for flip in (0x01, 0x04, 0x80, 0xFF)
    ]
    # Some bits change nothing, such as the time in the header or padding after the last block.
    assert set(outcomes) == {"read", "refused"}
    assert outcomes.count("refused") > outcomes.count("read")


def outcome_of_flip(path: Path, packed: bytes, position: int, flip: int) -> str:
    changed = bytearray(packed)
    changed[position] ^= flip
    path.write_bytes(changed)
    try:
        same = read_idx(path).flatten().tolist() == list(range(24))
    except ValueError as error:
        return "refused" if str(path) in str(error) else "refused without the name"
    return "read" if same else "wrong"


def test_read_idx_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_idx(tmp_path / "nothing")


@pytest.mark.parametrize("zipped", [True, False])
def test_load_mnist_from_a_folder(files: dict[str, bytes], zipped: bool, tmp_path: Path) -> None:
    folder = write(files, tmp_path)
    if not zipped:
        for name in NAMES:
            (folder / name).rename(folder / "packed")
            (folder / name[:-3]).write_bytes(gzip.decompress((folder / "packed").read_bytes()))
    data = load_mnist(folder)
    assert data.train.shape == (5, 1, 4, 3)
    assert data.test.shape == (3, 1, 4, 3)
    assert data.train.numpy().tobytes() == gzip.decompress(files[NAMES[0]])[16:]
    assert data.test.numpy().tobytes() == gzip.decompress(files[NAMES[2]])[16:]
    assert (data.mean, data.std) == ((0.1307,), (0.3081,))


@pytest.mark.parametrize("changed", [NAMES[1], NAMES[3]])
def test_counts_of_images_and_labels_must_agree(
    files: dict[str, bytes], changed: str, tmp_path: Path
) -> None:
    files[changed] = idx(np.zeros(4, np.uint8))
    part = changed.partition("-")[0]
    count = 5 if part == "train" else 3
    words = f"{part}-images.* and .*{part}-labels.* same number .* got {count} .*4"
    with pytest.raises(ValueError, match=words):
        load_mnist(write(files, tmp_path))


def test_images_must_have_three_dimensions(files: dict[str, bytes], tmp_path: Path) -> None:
    files[NAMES[0]] = files[NAMES[1]]
    with pytest.raises(ValueError, match=r"train-images.* must hold images .* got shape \(5,\)"):
        load_mnist(write(files, tmp_path))


@pytest.mark.parametrize("shape", [(0, 4, 3), (3, 0, 3)])
def test_test_images_must_be_there_and_have_pixels(
    shape: tuple[int, ...], files: dict[str, bytes], tmp_path: Path
) -> None:
    files[NAMES[2]] = idx(np.zeros(shape, np.uint8))
    files[NAMES[3]] = idx(np.zeros(shape[0], np.uint8))
    words = "t10k-images.* must hold images with pixels, .* got shape " + re.escape(str(shape))
    with pytest.raises(ValueError, match=words):
        load_mnist_test(write(files, tmp_path))


def test_environment_names_the_folder(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} must hold {NAMES[0]}"):
        load_mnist()
    write(files, tmp_path / "mnist")
    assert load_mnist().train.shape == (5, 1, 4, 3)
    monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path / "mnist"))  # the folder itself will do
    assert load_mnist().train.shape == (5, 1, 4, 3)
    (tmp_path / "mnist" / NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/mnist must hold {NAMES[3]}"):
        load_mnist()


def test_test_images_alone(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = load_mnist(write(files, tmp_path))
    for name in NAMES[:2]:
        (tmp_path / name).unlink()
    monkeypatch.setenv("SOFTPERM_DATA", str(tmp_path))
    for found in (load_mnist_test(tmp_path), load_mnist_test(), load_test_images("mnist")):
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, both.test)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} must hold {NAMES[0]}"):
        load_images("mnist")


@pytest.fixture
def sites(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, Site]]:
    """Two mirrors of the tiny files, in folders `first` and `second`; an empty cache."""
    both = tuple(Site(write(files, tmp_path / name)) for name in ("first", "second"))
    monkeypatch.delenv("SOFTPERM_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mnist, "_BASE_URLS", tuple(site.url for site in both))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(mnist, "_SHA256", hashes)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    yield both[0], both[1]
    for site in both:
        site.close()


def test_download_once_with_a_progress_bar(
    sites: tuple[Site, Site], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_mnist()
    assert data.train.shape == (5, 1, 4, 3)
    assert "100%" in capsys.readouterr().err
    assert sorted(sites[0].requests) == sorted(NAMES)
    cached = tmp_path / "cache" / "softperm" / "mnist"
    assert sorted(path.name for path in cached.iterdir()) == sorted(NAMES)
    assert torch.equal(load_mnist().train, data.train)
    assert len(sites[0].requests) == 4
    assert sites[1].requests == []


@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_bad_mirror_is_replaced_by_the_other(
    sites: tuple[Site, Site], files: dict[str, bytes], damage: str, tmp_path: Path
) -> None:
    path = tmp_path / "first" / NAMES[2]
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"<html>Sign in</html>" if damage == "changed" else files[NAMES[2]][:-3])
    data = load_mnist()
    assert data.test.numpy().tobytes() == gzip.decompress(files[NAMES[2]])[16:]
    assert sites[1].requests == [NAMES[2]]


@pytest.mark.parametrize("close", [True, False])
def test_failed_download_says_what_to_do(
    sites: tuple[Site, Site], close: bool, tmp_path: Path
) -> None:
    for site, folder in zip(sites, ("first", "second"), strict=True):
        (tmp_path / folder / NAMES[0]).write_bytes(b"bad")
        if close:
            site.server.server_close()
    with pytest.raises(OSError, match="cannot download") as caught:
        load_mnist()
    message = str(caught.value)
    assert message.count("\n") == 0
    for word in (NAMES[0], sites[0].url, sites[1].url, "set SOFTPERM_DATA to a folder that holds"):
        assert word in message
    assert not (tmp_path / "cache" / "softperm" / "mnist" / NAMES[0]).exists()


def test_damaged_cache_is_fetched_anew(sites: tuple[Site, Site], tmp_path: Path) -> None:
    expected = load_mnist()
    cached = tmp_path / "cache" / "softperm" / "mnist" / NAMES[0]
    cached.write_bytes(cached.read_bytes()[:-5])
    assert torch.equal(load_mnist().train, expected.train)
    assert sites[0].requests.count(NAMES[0]) == 2
    assert len(sites[0].requests) == 5


real = pytest.mark.skipif(
    not os.environ.get("SOFTPERM_DATA"), reason="SOFTPERM_DATA names no folder that holds mnist/"
)


@real
def test_real_mnist() -> None:
    data = load_mnist()
    assert data.train.shape == (60000, 1, 28, 28)
    assert data.test.shape == (10000, 1, 28, 28)
    # Published SHA-256 of the unzipped files.
    for images, digest in (
        (data.train, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        (data.test, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ):
        assert hashlib.sha256(idx(images.squeeze(1).numpy())).hexdigest() == digest


@real
def test_usual_statistics_are_those_of_the_training_images() -> None:
    data = load_mnist()
    share = data.train.flatten().bincount(minlength=256).double() / data.train.numel()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = float(share @ values)
    assert round(mean, 4) == data.mean[0]
    assert round(float(share @ (values - mean) ** 2) ** 0.5, 4) == data.std[0]
