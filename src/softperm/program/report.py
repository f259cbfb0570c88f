"""What a finished run shows: its pictures and its table of metrics."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch
from rich.table import Table

from softperm.metrics import prop_wrong
from softperm.nn import SinkhornNet
from softperm.permutations import apply_permutation
from softperm.plotting import plot_curves, plot_puzzles, plot_temperatures, save
from softperm.program.tasks import Jigsaw, Sorting, Task
from softperm.program.training.run import Run
from softperm.puzzles import assemble, identical_pieces

_EXAMPLES = 6
_CURVES = ("epoch", "loss", "kendall_tau", "prop_wrong", "prop_any_wrong")
_FAILURE_COLUMNS = ("original", "scrambled", "restored", "difference")
_UP_TO_IDENTICAL = "_up_to_identical"


def metrics_table(metrics: dict[str, float]) -> Table:
    """Metrics in rows; where there is a value up to identical pieces, it stands in a column."""
    both = any(name.endswith(_UP_TO_IDENTICAL) for name in metrics)
    table = Table("metric", "value" if not both else "raw")
    if both:
        table.add_column("up to identical pieces")
    for name, value in metrics.items():
        if name.endswith(_UP_TO_IDENTICAL):
            continue
        cells = [name, f"{value:.4f}"]
        if both and name + _UP_TO_IDENTICAL in metrics:
            cells.append(f"{metrics[name + _UP_TO_IDENTICAL]:.4f}")
        table.add_row(*cells)
    return table


def metrics_line(metrics: dict[str, float]) -> str:
    """All metrics in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def draw_curves(run: Run) -> list[Path]:
    """Training curves, once an epoch is finished."""
    rows = run.read_metrics(*_CURVES)
    if not rows:
        return []
    return [save(plot_curves(rows), run.folder / "curves.png")]


@torch.no_grad()
def draw_puzzles(task: Jigsaw, net: SinkhornNet, device: torch.device, run: Run) -> list[Path]:
    """Test puzzles with their solutions, and the permutation matrices of the first of them."""
    pieces, scrambled, target, perm = next(task.solved(net, device, _EXAMPLES))
    k = task.puzzle.pieces
    restored = apply_permutation(perm, scrambled)
    share = prop_wrong(perm, target, identical_pieces(scrambled))
    images = {"original": pieces, "scrambled": scrambled, "restored": restored}
    columns = {title: assemble(value, k) for title, value in images.items()}
    wrong = [round(value * k * k) for value in share.tolist()]
    scores = net.log_alpha(task.puzzle.normalise(scrambled[:1]))[0]
    return [
        save(plot_puzzles(columns, k, wrong), run.folder / "puzzles.png"),
        save(plot_temperatures(scores), run.folder / "temperatures.png"),
    ]


@torch.no_grad()
def draw_failures(task: Jigsaw, net: SinkhornNet, device: torch.device, run: Run) -> list[Path]:
    """The first test puzzles that are not restored exactly, if there are any."""
    k, picture = task.puzzle.pieces, run.folder / "failures.png"
    found: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
    wrong: list[int] = []
    for pieces, scrambled, _, perm in task.solved(net, device):
        restored = apply_permutation(perm, scrambled)
        unlike = (restored != pieces).flatten(2).any(-1).sum(-1)  # pieces of every image
        for i in unlike.nonzero().flatten()[: _EXAMPLES - len(wrong)].tolist():
            difference = (restored[i].int() - pieces[i].int()).abs()
            difference = difference * 255 // difference.max()
            images = (pieces[i], scrambled[i], restored[i], difference.to(pieces.dtype))
            for title, image in zip(_FAILURE_COLUMNS, images, strict=True):
                found[title].append(assemble(image, k))
            wrong.append(int(unlike[i]))
        if len(wrong) == _EXAMPLES:
            break
    if not wrong:
        picture.unlink(missing_ok=True)  # of a worse network
        return []
    columns = {title: torch.stack(images) for title, images in found.items()}
    return [save(plot_puzzles(columns, k, wrong), picture)]


@torch.no_grad()
def draw_sorting(task: Sorting, net: SinkhornNet, device: torch.device, run: Run) -> list[Path]:
    """The permutation matrices of one test list, whose items are in ascending order.

    With the items in order a right answer is the identity.
    """
    numbers = task.test_lists()[0].sort().values.to(device, torch.float32)
    scores = net.log_alpha(numbers)
    return [save(plot_temperatures(scores), run.folder / "temperatures.png")]


def draw(task: Task, net: SinkhornNet, device: torch.device, run: Run) -> list[Path]:
    """All pictures of a run."""
    pictures = draw_curves(run)
    if isinstance(task, Jigsaw):
        pictures += draw_puzzles(task, net, device, run)
        pictures += draw_failures(task, net, device, run)
    elif isinstance(task, Sorting):
        pictures += draw_sorting(task, net, device, run)
    return pictures
