"""Put finished runs into the package, as pretrained networks.

python scripts/export_pretrained.py RUN...
"""

from __future__ import annotations

import argparse
import shutil
import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from softperm._files import write_text
from softperm.nn import SinkhornNet
from softperm.program.reproduce.runner import Result
from softperm.program.tasks import Jigsaw
from softperm.program.training.run import Run

PRETRAINED = Path(__file__).parents[1] / "src" / "softperm" / "pretrained"
_TOLERANCE = 1e-3  # of exact reconstruction, for what half precision may change
_CPU = torch.device("cpu")
_DATA = {
    "mnist": "MNIST (Y. LeCun and C. Cortes; CC BY-SA 3.0)",
    "digits": "the digits embedded in scikit-learn (E. Alpaydin and C. Kaynak, UCI; CC BY 4.0)",
}
_CARD = """# {name}

Puts the shuffled {k} x {k} pieces of a digit of {height} x {width} grey pixels together.

```python
from softperm.nn import load_pretrained

net = load_pretrained("{name}")
ordered, perm = net(scrambled)  # uint8 pieces, as net.puzzle.cut(images) gives them
```

or `softperm solve {name} picture.png`.

| | |
| --- | --- |
| network | `{network}`, {parameters:,} parameters, kept in float16 |
| data | {data}: {n_train:,} training images, no labels |
| command | `softperm train jigsaw --config config.yaml`, with the file beside this card |
| seed | {seed} |
| epochs | {epochs} |
| training | {seconds:.0f} seconds |
| licence | Apache-2.0, like the package |

## Metrics

Means over the {n_test:,} test images, none of which was trained on, with the weights kept here and
with those of the run, in float32. The two give another permutation for {different:,} of the images.

| metric | float16 | float32 |
| --- | --- | --- |
{rows}

The figures called "up to identical" and `exact_reconstruction` count pieces with the same pixels,
such as black ones, as interchangeable; the others cannot reach their best value on such images.

## Limits

It knows digits like those it was trained on: bright strokes on black, upright, centred, of this
size. On other pictures it gives a permutation all the same, and nothing says that it is wrong.
"""


def _card(
    name: str,
    task: Jigsaw,
    net: SinkhornNet,
    result: Result,
    settings: dict[str, object],
    different: int,
) -> str:
    """The model card."""
    kept = task.evaluate(net, _CPU)
    trained = result.metrics["test"]
    if abs(kept["exact_reconstruction"] - trained["exact_reconstruction"]) > _TOLERANCE:
        raise ValueError(
            f"exact_reconstruction of {name} must stay within {_TOLERANCE} of "
            f"{trained['exact_reconstruction']:.4f} in float16, got "
            f"{kept['exact_reconstruction']:.4f}"
        )
    rows = [f"| {metric} | {kept[metric]:.4f} | {value:.4f} |" for metric, value in trained.items()]
    return _CARD.format(
        name=name,
        k=task.puzzle.pieces,
        height=task.puzzle.height,
        width=task.puzzle.width,
        network=type(net).__name__,
        parameters=sum(p.numel() for p in net.parameters()),
        data=_DATA[task.config.data],
        n_train=task.n_train,
        n_test=len(task.images.test),
        seed=settings["seed"],
        epochs=result.epochs,
        seconds=result.seconds,
        different=different,
        rows="\n".join(rows),
    )


def _different(task: Jigsaw, a: SinkhornNet, b: SinkhornNet) -> int:
    """Test images for which two networks give different permutations."""
    pairs = zip(task.solved(a, _CPU), task.solved(b, _CPU), strict=True)
    return sum(int((one[3] != two[3]).any(-1).sum()) for one, two in pairs)


def export(run: Run, shelf: Path) -> Path:
    """Write a finished jigsaw run as a pretrained network.

    Arguments:
        run: The run, with the `result.json` that `softperm reproduce` leaves.
        shelf: The folder of pretrained networks, to get a folder such as `mnist-3x3`.

    Returns:
        The folder of the network, itself laid out like a run: `config.yaml`, `model.json`, and
        `model.safetensors` in float16; with the model card in `README.md`.

    Raises:
        ValueError: the run is not one of jigsaws of known data, or half precision harms it.
        OSError: a file is missing: the run is not finished.
    """
    result = Result.read(run.folder)
    task = run.load_task()
    if not isinstance(task, Jigsaw) or task.config.data not in _DATA:
        raise ValueError(f"{run.folder} must hold a jigsaw run of {' or '.join(_DATA)}")
    trained, net = task.make_net(), task.make_net()
    run.load_weights(trained)
    k = task.puzzle.pieces
    name = f"{task.config.data}-{k}x{k}"
    with TemporaryDirectory() as temporary:
        kept = Run(Path(temporary))
        kept.save_weights(deepcopy(trained).half())
        kept.load_weights(net)
        for source in (run.config_file, run.model_file):
            shutil.copy(source, kept.folder)
        settings = yaml.safe_load(kept.config_file.read_text(encoding="utf-8"))
        card = _card(name, task, net, result, settings, _different(task, trained, net))
        write_text(kept.folder / "README.md", card)
        kept.weights_file.chmod(0o644)  # safetensors lets only the owner read
        shutil.copytree(kept.folder, shelf / name, dirs_exist_ok=True)
    return shelf / name


def main() -> None:
    """Export the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="Folder of a run.")
    for folder in parser.parse_args().runs:
        try:
            print(f"wrote {export(Run(folder), PRETRAINED)}")
        except (ValueError, OSError) as error:
            sys.exit(f"export_pretrained: error: {error}")


if __name__ == "__main__":
    main()
