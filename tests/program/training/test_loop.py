"""The loop trains, stops and resumes; it is tried on a task that the package does not know."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning_fabric
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors.torch import load_file
from torch import Tensor

from softperm.nn import SinkhornNet, SinkhornSortNet
from softperm.program.tasks.base import (
    WHOLE,
    Examples,
    Part,
    Watch,
    draw_noise,
    squared_error,
)
from softperm.program.training.config import TrainConfig, pick_device
from softperm.program.training.loop import Stopped, train
from softperm.program.training.run import Run
from softperm.program.training.streams import stream_seed

CONFIG = TrainConfig(epochs=3, batch_size=8, lr=0.01, schedule="one_cycle", device="cpu")


class ToyTask:
    """Sorts three numbers; sends itself a signal at a chosen call of `loss`."""

    n_items = 3
    n_train = 40
    n_test = 1
    summary = "three numbers, toy net"

    def __init__(self, stop_at: int | None = None, sig: signal.Signals = signal.SIGINT) -> None:
        self.calls = 0
        self.stop_at = stop_at
        self.signal = sig

    def make_net(self) -> SinkhornNet:
        return SinkhornSortNet(3, hidden_features=4)

    def read(self, indices: Tensor) -> Tensor:
        return indices

    def examples(
        self,
        stored: Tensor,
        generator: torch.Generator,
        part: Part = WHOLE,
        total: int | None = None,
    ) -> Examples:
        lists = torch.rand(len(stored), 3, generator=generator)
        noise = draw_noise((1, len(stored), 3), 1.0, part, generator)
        return Examples(lists, lists.sort(-1).values, noise, 1, len(stored))

    def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), self.signal)
        return squared_error(net, examples)

    def evaluate(
        self,
        net: SinkhornNet,
        device: torch.device,
        *,
        watch: Watch | None = None,
        part: Part = WHOLE,
    ) -> dict[str, float]:
        return {"weight": next(net.parameters()).sum().item()}

    def describe(self) -> dict[str, Any]:
        return {}


def weights(run: Run) -> dict[str, Tensor]:
    return load_file(run.weights_file)


def rows(run: Run) -> list[dict[str, float]]:
    """All that the clock has no part in."""
    timed = ("seconds", "examples_per_second")
    return [
        {k: v for k, v in row.items() if k not in timed and not k.endswith("_share")}
        for row in run.read_metrics()
    ]


@pytest.fixture
def uninterrupted(tmp_path: Path) -> Run:
    run = Run(tmp_path / "whole")
    train(ToyTask(), CONFIG, run)
    return run


def assert_same_run(run: Run, other: Run) -> None:
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert rows(run) == rows(other)


def test_same_config_same_weights_other_seed_other_weights(
    tmp_path: Path, uninterrupted: Run
) -> None:
    again = Run(tmp_path / "again")
    train(ToyTask(), CONFIG, again)
    assert_same_run(again, uninterrupted)
    other = Run(tmp_path / "other")
    train(ToyTask(), TrainConfig(**{**vars(CONFIG), "seed": 1}), other)
    assert not torch.equal(*(next(iter(weights(r).values())) for r in (other, uninterrupted)))


@pytest.mark.parametrize("stop_at", [1, 5, 6, 8, 15])
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_run_ends_with_the_same_weights(
    tmp_path: Path, uninterrupted: Run, stop_at: int, sig: signal.Signals
) -> None:
    run = Run(tmp_path / "stopped")
    with pytest.raises(Stopped):
        train(ToyTask(stop_at, sig), CONFIG, run)
    assert run.checkpoint_file.exists()
    train(ToyTask(), CONFIG, run, resume=True)
    assert_same_run(run, uninterrupted)


HAS_MUON = hasattr(torch.optim, "Muon")


@pytest.mark.skipif(not HAS_MUON, reason="PyTorch before 2.9")
def test_a_run_with_two_optimizers_resumes_too(tmp_path: Path) -> None:
    config = TrainConfig(**{**vars(CONFIG), "optimizer": "muon"})
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "stopped")
    train(ToyTask(), config, whole)
    with pytest.raises(Stopped):
        train(ToyTask(stop_at=8), config, run)
    train(ToyTask(), config, run, resume=True)
    assert_same_run(run, whole)


def test_the_scale_of_16_bit_gradients_resumes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale doubles every other step here; begun anew, it would be smaller."""
    scalers: list[torch.amp.GradScaler] = []
    scales: dict[str, list[float]] = {"whole": [], "parts": []}

    def fabric(**_: object) -> Fabric:
        scalers.append(torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=2))
        plugin = MixedPrecision("16-mixed", "cpu", scalers[-1])
        return Fabric(accelerator="cpu", devices=1, plugins=[plugin])

    class Scaled(ToyTask):
        def __init__(self, name: str, stop_at: int | None = None) -> None:
            super().__init__(stop_at)
            self.scales = scales[name]

        def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
            self.scales.append(scalers[-1].get_scale())
            return super().loss(net, examples)

    monkeypatch.setattr(lightning_fabric, "Fabric", fabric)
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "stopped")
    train(Scaled("whole"), CONFIG, whole)
    with pytest.raises(Stopped):
        train(Scaled("parts", stop_at=8), CONFIG, run)
    train(Scaled("parts"), CONFIG, run, resume=True)
    assert scales["parts"] == scales["whole"]
    assert scales["whole"][8] > scales["whole"][0]
    assert_same_run(run, whole)


@pytest.mark.skipif(not HAS_MUON, reason="PyTorch before 2.9")
def test_a_checkpoint_of_one_optimizer_is_not_one_of_two(
    tmp_path: Path, uninterrupted: Run
) -> None:
    config = TrainConfig(**{**vars(CONFIG), "optimizer": "muon"})
    before = uninterrupted.checkpoint_file.read_bytes()
    with pytest.raises(ValueError, match="it has 1 optimizers, the run 2"):
        train(ToyTask(), config, uninterrupted, resume=True)
    assert uninterrupted.checkpoint_file.read_bytes() == before


def test_muon_needs_a_pytorch_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    config = TrainConfig(**{**vars(CONFIG), "optimizer": "muon"})
    with pytest.raises(ValueError, match=r"optimizer muon needs PyTorch 2\.9"):
        train(ToyTask(), config, Run(tmp_path))


def test_muon_and_a_gradient_scaler_are_refused() -> None:
    with pytest.raises(ValueError, match="optimizer muon needs precision"):
        TrainConfig(optimizer="muon", precision="16-mixed")


@pytest.mark.skipif(not HAS_MUON, reason="PyTorch before 2.9")
def test_muon_moves_all_directions_of_a_matrix_alike_and_leaves_vectors_to_adam(
    tmp_path: Path,
) -> None:
    lr, decay = 0.01, 0.1
    config = TrainConfig(epochs=1, batch_size=40, lr=lr, optimizer="muon", device="cpu")
    torch.manual_seed(stream_seed(config.seed, "weights"))
    before = ToyTask().make_net().state_dict()
    run = Run(tmp_path)
    train(ToyTask(), config, run)
    after = weights(run)
    matrix = after["scores.2.weight"] - (1 - lr * decay) * before["scores.2.weight"]
    values = torch.linalg.svdvals(matrix) / (0.2 * 4**0.5 * lr)  # 4: the longer side
    assert 0.5 < values[1] <= values[0] < 1.5  # the third is 0: the gradient has rank 2
    vector = (after["scores.2.bias"] - before["scores.2.bias"]).abs()
    torch.testing.assert_close(vector, torch.full_like(vector, lr), rtol=0.02, atol=0.0)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_network_is_saved_and_resumed_under_its_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Run
) -> None:
    compiled: list[torch.nn.Module] = []
    original = torch.compile

    def eager(net: torch.nn.Module, **how: Any) -> Any:
        compiled.append(net)
        return original(net, backend="eager")

    monkeypatch.setattr(torch, "compile", eager)
    config = TrainConfig(**{**vars(CONFIG), "compile": True})
    run = Run(tmp_path / "stopped")
    with pytest.raises(Stopped):
        train(ToyTask(stop_at=8), config, run)
    train(ToyTask(), config, run, resume=True)
    assert len(compiled) >= 2
    assert_same_run(run, uninterrupted)  # here the compiled code is the same


def test_run_stopped_twice(tmp_path: Path, uninterrupted: Run) -> None:
    run = Run(tmp_path / "stopped")
    for _ in range(2):
        with pytest.raises(Stopped):
            train(ToyTask(stop_at=4), CONFIG, run, resume=True)
    train(ToyTask(), CONFIG, run, resume=True)
    assert_same_run(run, uninterrupted)


def test_resuming_a_finished_run_changes_nothing(uninterrupted: Run) -> None:
    before = weights(uninterrupted)
    task = ToyTask()
    train(task, CONFIG, uninterrupted, resume=True)
    assert task.calls == 0
    assert all(torch.equal(v, before[k]) for k, v in weights(uninterrupted).items())


def test_resume_without_checkpoint_starts_from_the_beginning(
    tmp_path: Path, uninterrupted: Run
) -> None:
    run = Run(tmp_path / "fresh")
    train(ToyTask(), CONFIG, run, resume=True)
    assert_same_run(run, uninterrupted)


def test_signal_handlers_and_determinism_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), torch.are_deterministic_algorithms_enabled()
    with pytest.raises(Stopped):
        train(ToyTask(stop_at=2), CONFIG, Run(tmp_path))
    assert (signal.getsignal(signal.SIGINT), torch.are_deterministic_algorithms_enabled()) == before


def test_failure_inside_the_task_is_raised(tmp_path: Path) -> None:
    class Broken(ToyTask):
        def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train(Broken(), CONFIG, Run(tmp_path))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_any_more_ends_the_run(tmp_path: Path, bad: float) -> None:
    class Diverging(ToyTask):
        def loss(self, net: torch.nn.Module, examples: Examples) -> Tensor:
            loss = super().loss(net, examples)
            return loss * bad if self.calls == 8 else loss

    run = Run(tmp_path)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) in step \d of epoch 2: lr"):
        train(Diverging(), CONFIG, run)
    assert len(rows(run)) == 1  # what was finished before is kept


@pytest.mark.parametrize("damage", ["truncate", "garbage", "other network"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    run = Run(tmp_path)
    with pytest.raises(Stopped):
        train(ToyTask(stop_at=2), CONFIG, run)
    data = run.checkpoint_file.read_bytes()
    task = ToyTask()
    if damage == "truncate":
        run.checkpoint_file.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        run.checkpoint_file.write_bytes(b"not a checkpoint")
    else:
        task.make_net = lambda: SinkhornSortNet(3, hidden_features=5)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"state\.safetensors is not a checkpoint of this run"):
        train(task, CONFIG, run, resume=True)


def test_one_cycle_ends_near_zero_and_constant_stays(tmp_path: Path) -> None:
    cycled, constant = Run(tmp_path / "a"), Run(tmp_path / "b")
    train(ToyTask(), CONFIG, cycled)
    train(ToyTask(), TrainConfig(**{**vars(CONFIG), "schedule": "constant"}), constant)
    assert cycled.read_metrics()[-1]["lr"] < 1e-3 * CONFIG.lr
    assert {row["lr"] for row in constant.read_metrics()} == {CONFIG.lr}


@pytest.mark.parametrize("epochs", [1, 2])
def test_one_cycle_works_for_the_shortest_runs(tmp_path: Path, epochs: int) -> None:
    config = TrainConfig(**{**vars(CONFIG), "epochs": epochs, "batch_size": 100})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(ToyTask(), config, Run(tmp_path))
    assert len(rows(Run(tmp_path))) == epochs


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("batch_size", -1, ValueError),
        ("lr", 0.0, ValueError),
        ("lr", float("nan"), ValueError),
        ("warmup", 1.0, ValueError),
        ("seed", -1, ValueError),
    ],
)
def test_bad_settings_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        TrainConfig(**{name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_device_is_refused() -> None:
    with pytest.raises(ValueError, match=r"device must be auto or one that is there.*got cuda"):
        pick_device("cuda")
