"""MNIST, from its four IDX files, found or downloaded."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from torch import Tensor

from softperm._checks import shape_of
from softperm.data._download import fetch
from softperm.data.imagedata import ImageData

_BASE_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
_UNSIGNED_BYTE = 8
_LARGEST = 2**32  # bytes of an array
_PART = 2**20  # bytes read at a time, so that no more memory is taken than the file has


def read_idx(path: str | Path) -> Tensor:
    """Read an IDX file of unsigned bytes with 1 or 3 dimensions, gzipped or not.

    Arguments:
        path: The file; whether it is gzipped is seen from its content.

    Returns:
        The array, uint8, of the shape that the file declares.

    Raises:
        ValueError: damaged gzip, wrong magic number, element type or number of dimensions, or fewer
            or more bytes than declared.
        OSError: the file cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "three.idx")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        ...     read_idx(path)
        tensor([7, 8, 9], dtype=torch.uint8)
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            return _read_array(cast(IO[bytes], file), path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}") from error


def _read_array(file: IO[bytes], path: Path) -> Tensor:
    """The array behind its header; never more is read than it declares, and a byte."""
    shape = _idx_shape(file.read(4), file, path)
    size = math.prod(shape)
    most = size if size <= _LARGEST else _PART
    data = bytearray()
    while len(data) <= most and (part := file.read(min(_PART, most + 1 - len(data)))):
        data += part
    if len(data) != size:
        raise ValueError(
            f"{path} must hold {' x '.join(map(str, shape))} = {size} bytes after its header, "
            f"got {len(data)}{' or more' if len(data) > most else ''}"
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(shape))


def _idx_shape(magic: bytes, file: IO[bytes], path: Path) -> list[int]:
    """The shape that the header of an IDX file declares."""
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            f"{path} must begin with the magic number 00 00 08 of an IDX file of bytes, "
            f"got {magic.hex(' ') or 'an empty file'}"
        )
    if magic[2] != _UNSIGNED_BYTE:
        raise ValueError(f"{path} must hold unsigned bytes (IDX type 08), got type {magic[2]:02x}")
    n_dims = magic[3]
    if n_dims not in (1, 3):
        raise ValueError(f"{path} must have 1 or 3 dimensions, got {n_dims}")
    sides = file.read(4 * n_dims)
    if len(sides) < 4 * n_dims:
        raise ValueError(
            f"{path} must have a header of {4 + 4 * n_dims} bytes, got {4 + len(sides)} in all"
        )
    return [int(side) for side in np.frombuffer(sides, ">u4", n_dims)]


def load_mnist(folder: str | Path | None = None) -> ImageData[Tensor]:
    """Load MNIST: 60,000 training and 10,000 test images of 28 x 28 grey pixels.

    Arguments:
        folder: Where the four IDX files are, gzipped or not. When omitted they are read from
            the folder $SOFTPERM_DATA, or mnist in it, if that variable is set, and otherwise
            downloaded once, with checksums, into the user's cache.

    Returns:
        The images, with the usual mean 0.1307 and standard deviation 0.3081.

    Raises:
        ValueError: a file is damaged, or images and labels differ in number.
        OSError: a file is missing or cannot be downloaded.

    Example:
        >>> load_mnist("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder must hold train-images-idx3-ubyte.gz, zipped or not
    """
    return ImageData(_read_part(folder, "train"), load_mnist_test(folder), (0.1307,), (0.3081,))


def load_mnist_test(folder: str | Path | None = None) -> Tensor:
    """The test images of MNIST alone, uint8, (10000, 1, 28, 28).

    Arguments:
        folder: As in `load_mnist`; the files of the training images need not be there.

    Raises:
        ValueError, OSError: as `load_mnist`.
    """
    return _read_part(folder, "t10k")


def _folder_of_the_user() -> Path | None:
    """$SOFTPERM_DATA, or the folder mnist in it; None where the variable is not set."""
    named = os.environ.get("SOFTPERM_DATA")
    if not named:
        return None
    inside = Path(named, "mnist")
    return inside if inside.is_dir() else Path(named)


def _read_part(folder: str | Path | None, part: str) -> Tensor:
    """Images with a channel dimension; the labels only prove that the files belong together."""
    folder = _folder_of_the_user() if folder is None else Path(folder)
    names = (name for name in _SHA256 if name.startswith(part))
    image_path, label_path = (
        _download(name) if folder is None else _find(folder, name) for name in names
    )
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dim() != 3 or images.numel() == 0:
        raise ValueError(
            f"{image_path} must hold images with pixels, (n, H, W), got shape {shape_of(images)}"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{image_path} and {label_path} must hold the same number of images and labels, "
            f"got {len(images)} and labels of shape {shape_of(labels)}"
        )
    return images.unsqueeze(1)


def _find(folder: Path, name: str) -> Path:
    """The file called `name`, or its unzipped form."""
    for path in (folder / name, folder / name.removesuffix(".gz")):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} must hold {name}, zipped or not")


def _download(name: str) -> Path:
    """The file called `name` in the user's cache, fetched if it is not there or damaged."""
    try:
        return fetch(name, _BASE_URLS, _SHA256[name], "mnist")
    except OSError as error:
        raise OSError(f"{error}; set SOFTPERM_DATA to a folder that holds {name}") from error
