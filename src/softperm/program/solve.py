"""The commands `softperm solve` and `softperm scramble`."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softperm._files import write_numbered
from softperm.data import read_picture
from softperm.nn import Puzzle, SinkhornNet
from softperm.ops import matching
from softperm.permutations import apply_permutation
from softperm.plotting import DPI, plot_puzzles
from softperm.program import pieces as picture_pieces
from softperm.program.pieces import Verdict, all_alike, as_image, is_light, judge, score
from softperm.program.schema import require_within
from softperm.program.training.config import LARGEST_SEED, Device, pick_device
from softperm.program.training.find import find_run
from softperm.program.training.run import Run
from softperm.puzzles import assemble, scramble

_MOST_PIECES = 100  # a side


@dataclass(frozen=True)
class _Solution:
    """A picture's pieces in order, scrambled and restored; the verdict where the order is known."""

    original: Tensor | None
    scrambled: Tensor
    restored: Tensor
    verdict: Verdict | None

    def write(self, folder: Path, stem: str, k: int) -> dict[str, Any]:
        """Write the restored picture, and a figure that shows it beside the others.

        Returns:
            Where they are, and how many pieces are wrong where the order is known.
        """
        parts = {
            "original": self.original,
            "scrambled": self.scrambled,
            "restored": self.restored,
        }
        columns = {
            title: assemble(part, k)[None] for title, part in parts.items() if part is not None
        }
        verdict = self.verdict
        captions = None if verdict is None else [verdict.caption]
        image = as_image(assemble(self.restored, k))
        drawn = plot_puzzles(columns, k, captions=captions)
        draw: Callable[[Path], object] = partial(drawn.savefig, dpi=DPI)
        files = {"-restored.png": image.save, ".png": draw}
        restored, figure = write_numbered(folder, stem, files)
        return {
            "restored": str(restored),
            "figure": str(figure),
            "wrong_pieces": None if verdict is None else verdict.wrong,
            "verdict": None if verdict is None else str(verdict),
        }


def _read_and_cut(path: str, k: int) -> tuple[Tensor, Tensor, list[str]]:
    """A picture and its pieces; and that it had to be stretched for them, where it had."""
    picture = read_picture(path)
    try:
        pieces = picture_pieces.cut(picture, k)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    height, width = (k * side for side in pieces.shape[-2:])
    stretched = (height, width) != tuple(picture.shape[-2:])
    notes = [f"stretched to {width} x {height} pixels, a multiple of {k}"] if stretched else []
    return picture, pieces, notes


def _one_by_one(images: list[str], k: int) -> Iterator[tuple[str, Tensor, Tensor, list[str]]]:
    """What `_read_and_cut` gives of one picture after the other, with its path; one is held.

    All are read once before the first is given, so that a wrong name leaves nothing behind.
    """
    for path in images:
        _read_and_cut(path, k)
    for path in images:
        yield path, *_read_and_cut(path, k)


def _load_puzzle(run: Run) -> Puzzle:
    """The puzzle of a jigsaw run."""
    name, model = run.describe()
    if not isinstance(model, Puzzle):
        raise ValueError(f"solve needs a jigsaw run, got a {name} run in {run.folder}")
    return model


def _solve(
    net: SinkhornNet,
    puzzle: Puzzle,
    pieces: Tensor,
    invert: bool,
    generator: torch.Generator | None,
) -> _Solution:
    """Restore pieces, scrambled first where a generator is given."""
    given = pieces if generator is None else scramble(pieces, generator)[0]
    perm = matching(score(net, puzzle, given, invert))
    restored = apply_permutation(perm, given)
    if generator is None:
        return _Solution(None, given, restored, None)
    return _Solution(pieces, given, restored, judge(restored, pieces))


def solve(
    run: str,
    images: list[str],
    scrambled: bool = False,
    invert: bool | None = None,
    out: str | None = None,
    seed: int = 0,
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Restore pictures and write them side by side with the original and the scrambled ones."""
    require_within(seed, "seed", 0, LARGEST_SEED)
    found, home = find_run(run)
    puzzle = _load_puzzle(found)
    net = found.load_net(puzzle.make_net)
    net.to(pick_device(device)).eval()
    generator = None if scrambled else torch.Generator().manual_seed(seed)
    told = []
    for path, picture, pieces, notes in _one_by_one(images, puzzle.pieces):
        row: dict[str, Any] = {"picture": path, "notes": notes}
        told.append(row)
        if all_alike(pieces):
            notes.append("nothing to solve, all pieces look the same")
        else:
            inverted = is_light(picture, puzzle) if invert is None else invert
            if inverted and invert is None:
                notes.append("light background, inverted for the network (--no-invert: leave it)")
            solution = _solve(net, puzzle, pieces, inverted, generator)
            row.update(solution.write(Path(out or home / "solved"), Path(path).stem, puzzle.pieces))
        if not json:
            _tell(row)
    if json:
        print(json_format.dumps({"run": run, "pictures": told}))
    return 0


def _tell(row: dict[str, Any]) -> None:
    """What was done with a picture, in lines."""
    for note in row["notes"]:
        print(f"{row['picture']}: {note}")
    if "figure" in row:
        print(f"wrote {row['figure']}" + (f" ({row['verdict']})" if row["verdict"] else ""))


def scramble_pictures(images: list[str], pieces: int, out: str = "scrambled", seed: int = 0) -> int:
    """Cut pictures, shuffle their pieces and write them, of their own size and colours."""
    require_within(pieces, "pieces", 2, _MOST_PIECES)
    require_within(seed, "seed", 0, LARGEST_SEED)
    generator = torch.Generator().manual_seed(seed)
    for path, _, parts, notes in _one_by_one(images, pieces):
        _tell({"picture": path, "notes": notes})
        image = as_image(assemble(scramble(parts, generator)[0], pieces))
        stem = f"{Path(path).stem}-scrambled"
        (scrambled,) = write_numbered(Path(out), stem, {".png": image.save})
        print(f"wrote {scrambled}")
    return 0
