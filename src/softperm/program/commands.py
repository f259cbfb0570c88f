"""What the commands of the program do."""

from __future__ import annotations

import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from softperm.program import report
from softperm.program.training.bar import PlainConsole
from softperm.program.training.config import Device, TrainConfig, pick_device
from softperm.program.training.find import find_run
from softperm.program.training.run import TASKS, Run


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


def train_neurons(options: dict[str, Any]) -> int:
    """Simulate worms, infer their names, and print the metrics."""
    from softperm.program.neurons.config import NeuronsConfig
    from softperm.program.neurons.folder import read_result, run_in

    config = NeuronsConfig(**_pick(NeuronsConfig, options))
    resume = options["resume"]
    if resume and not options["out"]:
        raise ValueError("--resume needs --out, the folder of the run to continue")
    folder = Path(options["out"] or Path("runs", "neurons"))
    run_in(folder, config, resume=resume)
    result = read_result(folder)
    if result is None:
        raise FileNotFoundError(f"{folder} was removed or replaced while it was in use")
    source, metrics = result
    print(f"wiring: {source}")
    PlainConsole().print(report.metrics_table(metrics))
    for path in sorted(folder.glob("*.png")):
        print(f"wrote {path}")
    print(report.metrics_line(metrics))
    return 0


def evaluate(run: str, device: Device = "auto") -> int:
    """Print all metrics over the whole test set, and write the pictures."""
    folder, out = find_run(run)
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


def reproduce(table: Literal["jigsaw", "sorting", "neurons"], options: dict[str, Any]) -> int:
    """Train and measure the cells of a table of the paper."""
    if table == "neurons":
        from softperm.program.reproduce.neurons_command import reproduce_neurons

        return reproduce_neurons(**options)
    from softperm.program.reproduce.command import (
        reproduce as reproduce_table,  # as costly as training
    )

    sizes = options["pieces" if table == "jigsaw" else "n"]
    rest = {name: value for name, value in options.items() if name not in ("pieces", "n")}
    return reproduce_table(table, sizes, **rest)
