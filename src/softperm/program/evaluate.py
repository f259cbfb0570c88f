"""The command `softperm evaluate`."""

from __future__ import annotations

import json as json_format

from softperm.program import report
from softperm.program.counting import PlainConsole, counting
from softperm.program.training.config import Device, pick_device
from softperm.program.training.find import find_run
from softperm.program.training.run import Run


def evaluate(run: str, device: Device = "auto", json: bool = False) -> int:
    """Print all metrics over the whole test set, and write the pictures.

    Arguments:
        run: A run folder, or the name of a pretrained network.
        device: Where to compute.
        json: Print one JSON object and nothing else.

    Returns:
        The exit code.
    """
    folder, out = find_run(run)
    task = folder.load_task(only_test=True)
    net = folder.load_net(task.make_net)
    target = pick_device(device)
    net.to(target)
    if not json:
        weights = sum(parameter.numel() for parameter in net.parameters())
        print(f"evaluating on {target.type}: {task.summary} of {weights:,} parameters", flush=True)
    with counting("testing", task.n_test, quiet=json) as watch:
        metrics = task.evaluate(net, target, watch=watch)
    if not json:
        PlainConsole().print(report.metrics_table(metrics))
    pictures: list[str] = []
    try:
        pictures += map(str, report.draw(task, net, target, Run(out)))
    finally:  # the metrics count, whether or not pictures can be written
        if json:
            found = {"run": run, "device": target.type, "metrics": metrics, "pictures": pictures}
            print(json_format.dumps(found), flush=True)
    if json:
        return 0
    for path in pictures:
        print(f"wrote {path}")
    print(report.metrics_line(metrics))
    return 0
