"""Scalars as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from softperm.program.training.events import EventWriter


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_forgets_what_it_does_again(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    with EventWriter(folder) as events:
        events.add_scalars({"loss": 2.0, "lr": 0.5}, 10)
        events.add_scalars({"loss": 1.0, "lr": 0.25}, 20)
    assert scalars(folder) == {"loss": [(10, 2.0), (20, 1.0)], "lr": [(10, 0.5), (20, 0.25)]}
    with EventWriter(folder, purge_step=11) as events:
        events.add_scalars({"loss": 1.5, "lr": 0.25}, 20)
    assert scalars(folder)["loss"] == [(10, 2.0), (20, 1.5)]
    assert len(list(folder.iterdir())) == 2


def test_scalars_are_there_at_once(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        events.add_scalars({"loss": 2.0}, 1)
        assert scalars(tmp_path) == {"loss": [(1, 2.0)]}
