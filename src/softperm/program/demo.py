"""What the package can do, on the digits that come with scikit-learn: ``make demo``.

Networks that were trained on MNIST restore digits in 3x3 and 4x4 pieces. Then a network for 2x2
pieces is trained from nothing, on a folder of pictures.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from softperm.data import ImageData, load_digits
from softperm.metrics import kendall_tau
from softperm.nn import PuzzleSolver, load_pretrained
from softperm.plotting import plot_puzzles, save
from softperm.program.cli import main as softperm
from softperm.puzzles import assemble, identical_pieces, scramble

_BOX, _MARGIN = 20, 4  # MNIST's digits fill a box of 20 x 20 pixels in an image of 28 x 28
_CONTRAST = 1.5  # enlarging makes edges grey, and MNIST's strokes are nearly white
_EXAMPLES = 6
_TRAINED = ("mnist-3x3", "mnist-4x4")
_SETTINGS = (
    *("--image_size", "28", "--channels", "1", "--shift", "2"),
    *("--hidden_channels", "16", "--tau", "1", "--epochs", "15", "--lr", "0.01"),
    *("--schedule", "one_cycle", "--device", "cpu"),
)


def like_mnist(digits: Tensor) -> Tensor:
    r"""Digits of 8 x 8 pixels, enlarged to how MNIST's digits look.

    Arguments:
        digits: uint8, shape (B, 1, 8, 8).

    Returns:
        uint8, shape (B, 1, 28, 28).

    Example:
        >>> like_mnist(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 1, 28, 28])
    """
    large = F.interpolate(digits.float(), size=(_BOX, _BOX), mode="bilinear")
    sharp = (_CONTRAST * (large - 127.5) + 127.5).clamp(0, 255)
    return F.pad(sharp, (_MARGIN,) * 4).round().to(torch.uint8)


@torch.no_grad()
def restore(net: PuzzleSolver, images: Tensor, path: Path) -> str:
    """Restore scrambled images, draw the first of them, and say how many are right.

    Arguments:
        net: The trained network.
        images: uint8, shape (B, 1, 28, 28).
        path: Where the picture goes.

    Returns:
        The line of metrics, means over all images.
    """
    k, size = net.puzzle.pieces, (net.puzzle.height, net.puzzle.width)
    pieces = net.puzzle.cut(images)
    scrambled, target = scramble(pieces, torch.Generator().manual_seed(0))
    restored, perm = net(scrambled)
    parts = {"original": pieces, "scrambled": scrambled, "restored": restored}
    columns = {
        title: assemble(part[:_EXAMPLES], k, None if title == "scrambled" else size)
        for title, part in parts.items()
    }
    unlike = (restored != pieces).flatten(2).any(-1).sum(-1)
    save(plot_puzzles(columns, k, unlike[:_EXAMPLES].tolist()), path)
    tau = kendall_tau(perm, target, identical_pieces(scrambled)).mean().item()
    exact = (unlike == 0).float().mean().item()
    return f"kendall_tau_up_to_identical {tau:.4f}  exact_reconstruction {exact:.4f}"


def write_pictures(digits: ImageData, folder: Path) -> None:
    """Write digits as pictures into `train` and `test` of a folder, as they look enlarged."""
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        for i, image in enumerate(like_mnist(getattr(digits, part))):
            Image.fromarray(image[0].numpy()).save(folder / part / f"{i:04}.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, train and evaluate; name the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs", "demo"), help="A new folder.")
    out: Path = parser.parse_args(arguments).out
    if out.exists() and any(out.iterdir()):
        parser.error(f"--out must be a new or empty folder, got {out}")
    start = time.monotonic()
    digits = load_digits()
    for name in _TRAINED:
        path = out / f"{name}.png"
        line = restore(load_pretrained(name), like_mnist(digits.test), path)
        print(f"{name} on {len(digits.test)} digits it was not trained on:")
        print(f"{line}\nwrote {path}\n")
    write_pictures(digits, out / "digits")
    run = out / "trained-2x2"
    given = ["train", "jigsaw", "--data", str(out / "digits"), *_SETTINGS, "--out", str(run)]
    print(f"softperm {shlex.join(given)}")
    if code := softperm(given):
        return code
    print(f"\ndone in {time.monotonic() - start:.0f} seconds; look at the pictures:")
    for picture in (*(f"{name}.png" for name in _TRAINED), f"{run.name}/puzzles.png"):
        print(f"  {out / picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
