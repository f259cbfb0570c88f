"""What the commands of the program do."""

from __future__ import annotations

import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from softperm._files import replacing
from softperm.data import read_image
from softperm.metrics import prop_wrong
from softperm.nn import Puzzle
from softperm.nn.pretrained import pretrained_folder, pretrained_names
from softperm.permutations import apply_permutation
from softperm.plotting import plot_puzzles, save
from softperm.program import report
from softperm.program.schema import require_within
from softperm.program.training.bar import PlainConsole
from softperm.program.training.config import LARGEST_SEED, Device, TrainConfig, pick_device
from softperm.program.training.run import TASKS, Run
from softperm.puzzles import assemble, identical_pieces, scramble


def _pick(config_class: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are fields of a settings class."""
    return {field.name: options[field.name] for field in fields(config_class)}


def _require_run(run: Run, task: str, settings: dict[str, Any]) -> None:
    """Refuse to continue a run of another task or with other settings."""
    name = run.describe()[0]
    if name != task:
        raise ValueError(f"{run.folder} holds a {name} run, got train {task}")
    run.require_settings(settings)


def train(task_name: str, options: dict[str, Any]) -> int:
    """Train, then write the pictures and print the metrics."""
    # Costs seconds to import, which evaluate and solve need not pay.
    from softperm.program.training.loop import Stopped
    from softperm.program.training.loop import train as train_network

    config_class, task_class = TASKS[task_name]
    task_config = config_class(**_pick(config_class, options))
    config = TrainConfig(**_pick(TrainConfig, options))
    pick_device(config.device)  # a missing device is told before the data are read
    resume = options["resume"]
    if resume and not options["out"]:
        raise ValueError("--resume needs --out, the folder of the run to continue")
    run = Run(Path(options["out"] or Path("runs") / (options["preset"] or task_name)))
    if resume:
        _require_run(run, task_name, {**asdict(task_config), **asdict(config)})
        task = run.load_task()
    else:
        run.require_new()
        task = task_class(task_config)  # type: ignore[arg-type]

    def create() -> None:
        run.create(task_name, task, task_config, config)

    try:
        train_network(task, config, run, resume=resume, create=None if resume else create)
    except Stopped as stopped:
        folder = shlex.quote(str(run.folder))
        print(f"stopped; continue with: softperm train {task_name} --out {folder} --resume")
        return 128 + stopped.signum
    return evaluate(str(run.folder), config.device)


def _find(run: str) -> tuple[Run, Path]:
    """A run by its folder or a pretrained network by its name, and where its pictures go."""
    folder, names = Run(Path(run)), pretrained_names()
    if folder.model_file.exists():
        return folder, folder.folder
    if run in names:
        return Run(pretrained_folder(run)), Path("runs", "pretrained", run)
    raise ValueError(f"run must be {' or '.join(['the folder of a run', *names])}, got {run}")


def evaluate(run: str, device: Device = "auto") -> int:
    """Print all metrics over the whole test set, and write the pictures."""
    folder, out = _find(run)
    task = folder.load_task()
    net = folder.load_net(task.make_net)
    target = pick_device(device)
    net.to(target)
    metrics = task.evaluate(net, target)
    pictures = report.draw(task, net, target, Run(out))
    PlainConsole().print(report.metrics_table(metrics))
    for path in pictures:
        print(f"wrote {path}")
    print(report.metrics_line(metrics))
    return 0


def _load_puzzle(run: Run) -> Puzzle:
    """The puzzle of a jigsaw run."""
    name, model = run.describe()
    if not isinstance(model, Puzzle):
        raise ValueError(f"solve needs a jigsaw run, got a {name} run in {run.folder}")
    return model


def _save_image(image: Tensor, path: Path) -> Path:
    """Write a uint8 image (C, H, W) as PNG."""
    array = image.permute(1, 2, 0).squeeze(-1).numpy()
    with replacing(path) as temporary:
        Image.fromarray(array).save(temporary)
    return path


def _free_name(folder: Path, stem: str, taken: set[str]) -> Path:
    """A name of this call's own for every picture, also when two of them share a stem."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return folder / name


def solve(
    run: str,
    images: list[str],
    scrambled: bool = False,
    out: str | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> int:
    """Restore pictures and write them side by side with the original and the scrambled ones."""
    require_within(seed, "seed", 0, LARGEST_SEED)
    folder, home = _find(run)
    puzzle = _load_puzzle(folder)
    net = folder.load_net(puzzle.make_net)
    target_device = pick_device(device)
    net.to(target_device).eval()
    generator = torch.Generator().manual_seed(seed)
    k, size = puzzle.pieces, (puzzle.height, puzzle.width)
    originals = [read_image(path, size=size, channels=puzzle.channels) for path in images]
    taken: set[str] = set()
    for path, original in zip(images, originals, strict=True):
        pieces = puzzle.cut(original)
        given, target = (pieces, None) if scrambled else scramble(pieces, generator)
        with torch.no_grad():
            _, perm = net(puzzle.normalise(given.to(target_device)))
        perm = perm.cpu()
        restored = assemble(apply_permutation(perm, given), k)
        columns = {"scrambled": assemble(given, k)[None], "restored": restored[None]}
        wrong = None
        if target is not None:
            columns = {"original": assemble(pieces, k)[None], **columns}
            share = prop_wrong(perm, target, identical_pieces(given)).item()
            wrong = [round(share * k * k)]
        base = _free_name(Path(out or home / "solved"), Path(path).stem, taken)
        picture = save(plot_puzzles(columns, k, wrong), base.with_name(f"{base.name}.png"))
        _save_image(restored, base.with_name(f"{base.name}-restored.png"))
        verdict = "" if wrong is None else f" ({wrong[0]} wrong pieces)" if wrong[0] else " (exact)"
        print(f"wrote {picture}{verdict}")
    return 0


def reproduce(table: Literal["jigsaw", "sorting"], options: dict[str, Any]) -> int:
    """Train and measure the cells of a table of the paper."""
    from softperm.program.reproduce.command import (
        reproduce as reproduce_table,  # as costly as training
    )

    sizes = options["pieces" if table == "jigsaw" else "n"]
    rest = {name: value for name, value in options.items() if name not in ("pieces", "n")}
    return reproduce_table(table, sizes, **rest)
