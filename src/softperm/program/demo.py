"""What the package can do, on the digits that come with scikit-learn: ``make demo``.

Networks that were trained on MNIST restore digits in 3x3 and 4x4 pieces. Then a network for 2x2
pieces is trained from nothing.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from softperm.data import load_digits
from softperm.metrics import kendall_tau
from softperm.nn import PuzzleSolver, load_pretrained
from softperm.plotting import plot_puzzles, save
from softperm.program.cli import main as softperm
from softperm.program.cli import open_closed_streams
from softperm.puzzles import assemble, identical_pieces, scramble

_EXAMPLES = 6
_TRAINED = ("mnist-3x3", "mnist-4x4")


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
    k = net.puzzle.pieces
    pieces = net.puzzle.cut(images)
    scrambled, target = scramble(pieces, torch.Generator().manual_seed(0))
    restored, perm = net(scrambled)
    parts = {"original": pieces, "scrambled": scrambled, "restored": restored}
    columns = {title: assemble(part[:_EXAMPLES], k) for title, part in parts.items()}
    unlike = (restored != pieces).flatten(2).any(-1).sum(-1)
    save(plot_puzzles(columns, k, unlike[:_EXAMPLES].tolist()), path)
    tau = kendall_tau(perm, target, identical_pieces(scrambled)).mean().item()
    exact = (unlike == 0).float().mean().item()
    return f"kendall_tau_up_to_identical {tau:.4f}  exact_reconstruction {exact:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore, train and evaluate; name the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs", "demo"), help="A new folder.")
    out: Path = parser.parse_args(arguments).out
    if out.exists() and any(out.iterdir()):
        parser.error(f"--out must be a new or empty folder, got {out}")
    start = time.monotonic()
    images = load_digits(28).test
    for name in _TRAINED:
        path = out / f"{name}.png"
        line = restore(load_pretrained(name), images, path)
        print(f"{name} on {len(images)} digits that it was not trained on:")
        print(f"{line}\nwrote {path}\n")
    run = out / "digits-2x2"
    command = ["train", "jigsaw", "--preset", run.name, "--out", str(run)]
    print(f"softperm {shlex.join(command)}")
    if code := softperm(command):
        return code
    print(f"\ndone in {time.monotonic() - start:.0f} seconds; look at the pictures:")
    for picture in (*(f"{name}.png" for name in _TRAINED), f"{run.name}/puzzles.png"):
        print(f"  {out / picture}")
    return 0


if __name__ == "__main__":
    open_closed_streams()
    raise SystemExit(main())
