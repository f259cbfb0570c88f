"""Wrong files: settings, models, runs, data sets and pictures that are none, or are damaged."""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.cases import DIGITS, Case, Prepare, things, writing

RESUME = ["train", "jigsaw", "--out", "run", "--resume"]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def _bomb(depth: int) -> bytes:
    """YAML of which every line means nine times the line before."""
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(lines).encode()


SETTINGS: dict[str, bytes] = {
    "empty": b"",
    "a list": b"- 1\n- 2\n",
    "a number": b"3",
    "a text": b"lr",
    "a picture": PNG,
    "UTF-16": "lr: 0.1\n".encode("utf-16"),
    "zeros": bytes(100),
    "nested": b"[" * 100_000,
    "nested, and short": b"{a: " * 20_000,
    "references": b"a: &a 1\nlr: *a\n",
    "a bomb": _bomb(9),
    "long": b"#" * 2_000_000,
    "unknown": b"fly: 1\n",
    "a name that is no text": b"1: 2\n",
    "names": b"{[1]: 2}\n",
    "a dictionary": b"lr: {a: 1}\n",
    "nothing": b"lr: null\n",
    "not finite": b"lr: .nan\n",
    "infinite": b"lr: .inf\n",
    "a text for a number": b"epochs: three\n",
    "a float for an int": b"epochs: 1.5\n",
    "true for an int": b"epochs: true\n",
    "a date": b"epochs: 2020-01-01\n",
    "python": b"lr: !!python/object/apply:os.system [touch owned]\n",
    "binary": b"lr: !!binary aGFsbG8=\n",
    "open": b"lr: [1, 2\n",
    "tabs": b"lr:\t- 1\n\t- 2\n",
    "two documents": b"lr: 0.1\n---\nlr: 0.2\n",
    "beyond": b"epochs: 100000000000000000000000\n",
    "below": b"gamma: -1\n",
    "a net that is not there": b"net: gan\n",
}


def of_config_files() -> Iterator[Case]:
    """Files given with --config."""
    argv = ["train", "jigsaw", *DIGITS, "--config", "config"]
    for name, data in SETTINGS.items():
        yield Case(f"--config {name}", argv, writing("config", data))
    for path in ("nothing-here", "empty", "/dev/zero", "/dev/null"):
        yield Case(f"--config {path}", [*argv[:-1], path], things)


CHANGES: dict[str, tuple[Any, ...]] = {
    "pieces": (0, -1, 10**6, 1.5, "2", None, True, 3),
    "height": (0, 10**9, "8", None, 9),
    "width": (0, 10**9, [8], 9),
    "channels": (0, 10**9, 3),
    "mean": ([], None, [0.1, 0.2], ["x"], [None], 0.3, {}, [float("nan")]),
    "std": ([], None, [0.0], [-1.0], [float("inf")]),
    "net": ("gan", None, 1, []),
    "gamma": (-1, 0, "1", float("nan")),
    "kernel_size": (99, 4, 0, 5),
    "hidden_channels": (0, 999_999_999, 31),
    "features": (0, "128"),
    "layers": (0, -1),
    "heads": (0,),
    "tau": (0, float("inf")),
    "n_iters": (0, 1.5),
    "noise_scale": (-1,),
    "fly": (1,),
}
MODELS: dict[str, Any] = {
    "empty": b"",
    "truncated": b'{"task": "jigsaw", "mod',
    "a list": b"[1, 2]",
    "a picture": PNG,
    "nested": b"[" * 100_000,
    "nested, and short": b"[" * 90_000,
    "long": b" " * 2_000_000,
    "null": b"null",
    "a number": b"7" * 10_000,
    "unknown task": {"task": "chess"},
    "a task that is no text": {"task": ["jigsaw"]},
    "another task": {"task": "sorting"},
    **{
        f"{name} {value!r}"[:40]: {"model": {name: value}}
        for name, values in CHANGES.items()
        for value in values
    },
}


def _changed_model(change: Any) -> Prepare:
    def prepare(folder: Path) -> None:
        path = folder / "run" / "model.json"
        if isinstance(change, bytes):
            path.write_bytes(change)
            return
        values = json.loads(path.read_text())
        values["task"] = change.get("task", values["task"])
        values["model"].update(change.get("model", {}))
        path.write_text(json.dumps(values))

    return prepare


def of_models() -> Iterator[Case]:
    """Runs with a damaged or hand-edited model.json."""
    for i, (name, change) in enumerate(MODELS.items()):
        argv = (["evaluate", "run"], ["solve", "run", "x.png"], RESUME)[i % 3]
        if name in ("height 9", "width 9"):  # solve needs no other file, and the network fits
            argv = ["evaluate", "run"]
        yield Case(f"model.json {name}", argv, _changed_model(change))


def of_runs() -> Iterator[Case]:
    """Runs of which another file is damaged."""
    for i, (name, data) in enumerate(SETTINGS.items()):
        argv = (["evaluate", "run"], RESUME)[i % 2]
        yield Case(f"config.yaml {name}", argv, writing("run/config.yaml", data))
    for name, data in {
        "empty": b"",
        "without a column": b"epoch,loss\n1,2\n",
        "of words": b"epoch,loss,kendall_tau,prop_wrong,prop_any_wrong\n1,2,x,4,5\n",
        "short": b"epoch,loss,kendall_tau,prop_wrong,prop_any_wrong\n1,2\n",
        "long": b"epoch,loss,kendall_tau,prop_wrong,prop_any_wrong\n1,2,3,4,5,6\n",
        "twice": b"epoch,loss,loss,kendall_tau,prop_wrong,prop_any_wrong\n1,2,3,4,5,6\n",
        "a picture": PNG,
        "zeros": bytes(1000),
        "quotes": b'"epoch',
    }.items():
        yield Case(f"metrics.csv {name}", ["evaluate", "run"], writing("run/metrics.csv", data))
    for name in ("config.yaml", "model.json", "model.safetensors"):
        yield Case(f"no {name}", ["evaluate", "run"], _removing(f"run/{name}"))
        yield Case(f"{name} is a folder", ["evaluate", "run"], _folder_for(f"run/{name}"))
    for change in ("--lr 1", "--pieces 4", "--seed 5", "--preset digits-2x2", "--data mnist"):
        yield Case(f"--resume {change}", [*RESUME, *change.split(" ")])
    yield Case("--resume as another task", ["train", "sorting", "--out", "run", "--resume"])
    yield Case("a run is there already", ["train", "jigsaw", *DIGITS, "--out", "run"])


def _removing(name: str) -> Prepare:
    return lambda folder: (folder / name).unlink()


def _folder_for(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return prepare


def of_tensors(n: int) -> Iterator[Case]:
    """Weights and checkpoints with damaged bytes."""
    for name, argv in (
        ("model.safetensors", ["evaluate", "run"]),
        ("last.ckpt/state.safetensors", RESUME),
    ):
        for seed in range(n):
            yield Case(f"{name} damaged {seed}", argv, _damaging(f"run/{name}", seed))


def _damaging(name: str, seed: int) -> Prepare:
    """Bytes flipped, cut off, swapped, zeroed, or added."""

    def prepare(folder: Path) -> None:
        draw, path = random.Random(seed), folder / name
        before = path.read_bytes()
        data = bytearray(before)
        at, other = sorted(draw.sample(range(len(data)), 2))
        if seed % 5 == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif seed % 5 == 1:
            del data[at:]
        elif seed % 5 == 2:
            data[at:other] = data[at:other][::-1]
        elif seed % 5 == 3:
            data[at:other] = bytes(other - at)
        else:
            data[at:at] = draw.randbytes(8)
        assert data != before
        path.write_bytes(data)

    return prepare


def idx(*shape: int, dims: int | None = None, data: bytes | None = None) -> bytes:
    """An IDX file."""
    head = bytes([0, 0, 8, len(shape) if dims is None else dims])
    size = 1
    for side in shape:
        size *= side
    return head + struct.pack(f">{len(shape)}I", *shape) + (bytes(size) if data is None else data)


FILES = {
    "train-images-idx3-ubyte": idx(6, 8, 8),
    "train-labels-idx1-ubyte": idx(6),
    "t10k-images-idx3-ubyte": idx(2, 8, 8),
    "t10k-labels-idx1-ubyte": idx(2),
}
BAD_FILES: dict[str, dict[str, bytes]] = {
    "no training images": {
        "train-images-idx3-ubyte": idx(0, 8, 8),
        "train-labels-idx1-ubyte": idx(0),
    },
    "no test images": {"t10k-images-idx3-ubyte": idx(0, 8, 8), "t10k-labels-idx1-ubyte": idx(0)},
    "no pixels": {"train-images-idx3-ubyte": idx(6, 0, 8)},
    "other sizes": {"t10k-images-idx3-ubyte": idx(2, 8, 9)},
    "other numbers": {"t10k-labels-idx1-ubyte": idx(3)},
    "empty": {"train-images-idx3-ubyte": b""},
    "truncated": {"train-images-idx3-ubyte": idx(6, 8, 8)[:-1]},
    "longer": {"train-images-idx3-ubyte": idx(6, 8, 8) + b"x"},
    "declared too large": {"train-images-idx3-ubyte": idx(2**31, 2**31, 2**31, data=b"")},
    "declared large": {"train-images-idx3-ubyte": idx(2**16, 2**8, 2**7, data=b"")},
    "swapped": {"train-images-idx3-ubyte": idx(6), "train-labels-idx1-ubyte": idx(6, 8, 8)},
    "a picture": {"train-images-idx3-ubyte": PNG},
    "damaged gzip": {"train-images-idx3-ubyte": gzip.compress(idx(6, 8, 8))[:-9]},
    "a bomb": {"train-images-idx3-ubyte": gzip.compress(idx(6, 8, 8, data=bytes(50_000_000)), 1)},
}


def of_data() -> Iterator[Case]:
    """Data sets that are none."""
    argv = ["train", "jigsaw", "--data", "mnist", "--device", "cpu"]
    for name, files in BAD_FILES.items():
        yield Case(f"IDX {name}", argv, data_set({**FILES, **files}))
    pictures = ["train", "jigsaw", "--data", "pictures", "--image_size", "8", "--device", "cpu"]
    for name, data in {"junk": PNG, "empty": b"", "a bomb": png(60_000, 60_000)}.items():
        yield Case(f"picture {name}", pictures, writing("pictures/x.png", data))
        yield Case(
            f"solve {name}",
            ["solve", "mnist-2x2", "pictures/x.png"],
            writing("pictures/x.png", data),
        )


def data_set(files: dict[str, bytes]) -> Prepare:
    def prepare(folder: Path) -> None:
        for name, data in files.items():
            writing(f"data/mnist/{name}", data)(folder)

    return prepare


def png(width: int, height: int) -> bytes:
    """A small file that is a large grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")
