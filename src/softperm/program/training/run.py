"""The run folder: all that is needed to repeat, continue and use a run."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from softperm._files import replacing, write_text
from softperm.program.tasks import Jigsaw, JigsawConfig, Sorting, SortingConfig, Task
from softperm.program.training.config import TrainConfig

TASKS: dict[str, tuple[type[JigsawConfig] | type[SortingConfig], type[Jigsaw] | type[Sorting]]] = {
    "jigsaw": (JigsawConfig, Jigsaw),
    "sorting": (SortingConfig, Sorting),
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
        return self.folder / "config.yaml"

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

    def create(
        self, name: str, task: Task, task_config: JigsawConfig | SortingConfig, config: TrainConfig
    ) -> None:
        """Write the settings of a new run of the task called `name`."""
        settings = {**asdict(task_config), **asdict(config)}
        write_text(self.config_file, yaml.safe_dump(settings, sort_keys=False))
        model = {"task": name, "model": task.describe()}
        write_text(self.model_file, json.dumps(model, indent=2) + "\n")

    def describe(self) -> tuple[str, dict[str, Any]]:
        """The task's name and what its `describe` gave.

        Raises:
            ValueError: the folder holds no run.
        """
        try:
            model = json.loads(self.model_file.read_text(encoding="utf-8"))
            return model["task"], model["model"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.folder} holds no run: cannot read model.json") from error

    def require_settings(self, settings: dict[str, Any]) -> None:
        """Refuse to continue the run with other settings than it began with.

        Raises:
            ValueError: a setting differs from that in `config.yaml`.
        """
        stored = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        for name, value in settings.items():
            was = stored[name] if name in stored else self._default(name)
            if was != value:
                raise ValueError(
                    f"a resumed run keeps its settings: {name} was {was} in {self.folder}, "
                    f"got {value}"
                )

    def _default(self, name: str) -> object:
        """What a setting that is newer than the run was when there was no choice."""
        kinds = (TASKS[self.describe()[0]][0], TrainConfig)
        return {field.name: field.default for kind in kinds for field in fields(kind)}.get(name)

    def holds(self, task: str) -> bool:
        """Whether this is the folder of a run of the task called `task`."""
        return self.config_file.exists() and self.describe()[0] == task

    def load_task(self) -> Task:
        """The task with the run's settings, its data loaded."""
        config_class, task_class = TASKS[self.describe()[0]]
        try:
            settings = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
            names = {field.name for field in fields(config_class)}
            config = config_class(**{k: v for k, v in settings.items() if k in names})
        except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.folder} holds no run: cannot read config.yaml") from error
        return task_class(config)  # type: ignore[arg-type]

    def save_weights(self, net: nn.Module) -> None:
        """Write the weights for use, apart from the checkpoint."""
        with replacing(self.weights_file) as temporary:
            weights = {k: v.cpu().contiguous() for k, v in net.state_dict().items()}
            save_file(weights, temporary)

    def load_weights(self, net: nn.Module) -> None:
        """Read the weights into `net`.

        Raises:
            ValueError: there are none yet, or they do not fit `net`.
        """
        if not self.weights_file.exists():
            raise ValueError(f"{self.folder} has no trained weights yet: no epoch was finished")
        try:
            net.load_state_dict(load_file(self.weights_file))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{self.weights_file} does not fit its run: {reason}") from error

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """Write all rows so far."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_file, text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows written so far; none before the first epoch is finished."""
        if not self.metrics_file.exists():
            return []
        with self.metrics_file.open(newline="", encoding="utf-8") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
