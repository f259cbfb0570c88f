"""The run folder: all that is needed to repeat, continue and use a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from softperm._lock import Lock
from softperm.nn import Puzzle, SinkhornNet
from softperm.program.readers import read_json, read_yaml
from softperm.program.schema import build, check, fit, require_same, shorten
from softperm.program.settings import CONFIGS, JigsawConfig, SortingConfig
from softperm.program.tasks import Jigsaw, Sorting, Task
from softperm.program.training.config import TrainConfig
from softperm.program.training.data import STATISTICS, require_same_data
from softperm.program.training.folder import CONFIG, begin_run, require_new
from softperm.program.training.table import read_table, write_table
from softperm.program.training.tensorfile import read_tensors, write_tensors

Config = JigsawConfig | SortingConfig

TASKS: dict[str, type[Jigsaw] | type[Sorting]] = {"jigsaw": Jigsaw, "sorting": Sorting}
MODELS: dict[str, type[Puzzle] | type[SortingConfig]] = {
    "jigsaw": Puzzle,
    "sorting": SortingConfig,
}


@dataclass(frozen=True)
class Run:
    """A run folder.

    Arguments:
        folder: Where it is. `config.yaml` holds the settings, `metrics.csv` a row an epoch,
            `tensorboard/` the same for TensorBoard, `last.ckpt/` what `--resume` continues from,
            `model.safetensors` and `model.json` the network, `*.png` the pictures.
    """

    folder: Path

    @property
    def config_file(self) -> Path:
        """The settings of the run."""
        return self.folder / CONFIG

    @property
    def metrics_file(self) -> Path:
        """Loss and metrics, a row an epoch."""
        return self.folder / "metrics.csv"

    @property
    def checkpoint_file(self) -> Path:
        """What a resumed run continues from."""
        return self.folder / "last.ckpt" / "state.safetensors"

    @property
    def weights_file(self) -> Path:
        """The network's weights after the last finished epoch."""
        return self.folder / "model.safetensors"

    @property
    def model_file(self) -> Path:
        """The task's name and all that using the network takes."""
        return self.folder / "model.json"

    @contextmanager
    def create(
        self, name: str, task: Task, task_config: Config, config: TrainConfig
    ) -> Iterator[Lock]:
        """Make the folder of a new run of the task called `name`, whole or not at all, and keep
        every other process from it: there is no moment at which it is there and free.

        An empty folder that is there already is filled; its run begins with `config.yaml`, the
        last file to be written.

        Raises:
            ValueError: the folder holds something.
            Busy: another process was quicker.
            OSError: it cannot be written.
        """
        settings = yaml.safe_dump({**asdict(task_config), **asdict(config)}, sort_keys=False)
        described = {"task": name, "model": task.describe(), "n_train": task.n_train}
        model = json.dumps(described, indent=2) + "\n"
        files = {self.model_file.name: model, self.config_file.name: settings}
        with begin_run(self.folder, files, self._is_left) as lock:
            yield lock

    def require_new(self) -> None:
        """Refuse a folder that holds a run, or anything else; errors as `require_new`."""
        require_new(self.folder, self._is_left)

    def _is_left(self, path: Path) -> bool:
        """Whether a file is one that a run begins with, left by a process that was killed."""
        if path != self.model_file or path.is_symlink():
            return False
        try:
            self.describe()
        except ValueError:
            return False
        return True

    def describe(self) -> tuple[str, Puzzle | SortingConfig]:
        """The task's name and the model that the run is to train.

        Raises:
            ValueError: the folder holds no run, or one that is damaged.
        """
        name, model, _ = self._read_model()
        return name, model

    def _read_model(self) -> tuple[str, Puzzle | SortingConfig, int | None]:
        """What `describe` gives, and the number of training examples where the run tells it."""
        path = self.model_file
        with self._reading(path):
            values = read_json(path)
            if not isinstance(values, dict) or values.keys() - {"n_train"} != {"task", "model"}:
                raise ValueError("it must hold task, model and n_train, and nothing else")
            n_train = fit(values.get("n_train"), int | None, "n_train")
            name = values["task"]
            if not isinstance(name, str) or name not in TASKS:
                got = shorten(repr(name), 60)
                raise ValueError(f"task must be {' or '.join(TASKS)}, got {got}")
            return name, build(MODELS[name], values["model"], "model"), n_train

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Tell which file of the run is missing or damaged."""
        try:
            yield
        except (OSError, TypeError, ValueError) as error:
            reason = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
            raise ValueError(
                f"{self.folder} holds no run: cannot read {path.name}: {reason}"
            ) from error

    def settings(self) -> tuple[Config, TrainConfig]:
        """The settings of the run; those newer than the run have their defaults.

        Raises:
            ValueError: the folder holds no run, or one that is damaged.
        """
        kind, path = CONFIGS[self.describe()[0]], self.config_file
        with self._reading(path):
            values = check(read_yaml(path), "it", kind, TrainConfig)
            names = {field.name for field in fields(kind)}
            task = {name: value for name, value in values.items() if name in names}
            rest = {name: value for name, value in values.items() if name not in names}
            return build(kind, task, "it"), build(TrainConfig, rest, "it")

    def require_settings(self, settings: dict[str, Any]) -> None:
        """Refuse to continue the run with other settings than it began with.

        Raises:
            ValueError: a setting differs from that in `config.yaml`, or the run is damaged.
        """
        task_config, config = self.settings()
        stored = {**asdict(task_config), **asdict(config)}
        require_same(stored, settings, self.folder)

    def load_task(self, *, only_test: bool = False) -> Task:
        """The task with the run's settings, its data loaded.

        Arguments:
            only_test: Whether the training data need not be there.

        Raises:
            ValueError: the run is damaged, or its data are not those it began with.
            OSError: the data cannot be read.
        """
        name, model, n_train = self._read_model()
        given = {}
        if only_test and isinstance(model, Puzzle):
            given["statistics"] = (model.mean, model.std)
        task: Task = TASKS[name](self.settings()[0], **given)  # type: ignore[arg-type]
        now = task.describe()
        for setting, value in asdict(model).items():
            if setting not in STATISTICS and now[setting] != value:
                raise ValueError(
                    f"{self.model_file} does not fit {self.config_file.name} and the data: "
                    f"{setting} is {shorten(str(value), 60)} there, {now[setting]} here"
                )
        if not only_test:
            require_same_data(self.folder, task, model, n_train)
        return task

    def save_weights(self, net: nn.Module) -> None:
        """Write the weights for use, apart from the checkpoint."""
        write_tensors(self.weights_file, net.state_dict())

    def load_weights(self, net: nn.Module, *, assign: bool = False) -> None:
        """Read the weights into `net`.

        Arguments:
            net: The network.
            assign: Put the weights that were read in the place of those it has.

        Raises:
            ValueError: there are none yet, or they do not fit `net`.
        """
        if not self.weights_file.exists():
            raise ValueError(
                f"{self.folder} has no trained weights: {self.weights_file.name} is not there; "
                f"softperm train --resume writes it"
            )
        try:
            weights = read_tensors(self.weights_file, checked=False)[0]
            net.load_state_dict(weights, assign=assign)
        except (RuntimeError, ValueError) as error:
            reason = shorten(str(error).split("\n")[0])
            raise ValueError(f"{self.weights_file} does not fit its run: {reason}") from error

    def load_net(self, make_net: Callable[[], SinkhornNet]) -> SinkhornNet:
        """A new network with the run's weights.

        It is made only after the file was found to fit it, so that no more memory is taken than
        the file has bytes.

        Raises:
            ValueError: as `load_weights`.
        """
        with torch.device("meta"):
            outline = make_net()
        self.load_weights(outline, assign=True)
        net = make_net()
        self.load_weights(net)
        return net

    def write_metrics(self, rows: Sequence[dict[str, float]]) -> None:
        """Write all rows so far."""
        write_table(self.metrics_file, rows)

    def read_metrics(self, *needed: str) -> list[dict[str, float]]:
        """The rows written so far; none before the first epoch is finished.

        Arguments:
            needed: Columns that must be there.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.metrics_file.exists():
            return []
        return read_table(self.metrics_file, needed)
