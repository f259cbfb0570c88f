"""Settings of how a training is run, and what is refused before a process is started."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from torch.torch_version import TorchVersion

from softperm.program.tasks.base import Part
from softperm.program.training import launch as launching
from softperm.program.training.config import TrainConfig
from softperm.program.training.launch import LaunchConfig, make_fabric
from softperm.program.training.team import Left, Team

CPU = TrainConfig(device="cpu")


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("devices", 0, ValueError, "devices must be between 1 and"),
        ("devices", "two", TypeError, "devices must be an int or auto, got 'two'"),
        ("devices", 1.5, TypeError, "devices must be an int or auto, got 1.5"),
        ("nodes", 0, ValueError, "nodes must be between 1 and"),
        ("workers", -1, ValueError, "workers must be between 0 and"),
        ("log_every", 0, ValueError, "log_every must be between 1 and"),
        ("strategy", "dp", ValueError, "strategy must be auto, ddp or fsdp, got 'dp'"),
    ],
)
def test_bad_settings_are_named(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LaunchConfig(**{name: value})


def test_alone_there_is_one_process_and_nothing_to_agree_on() -> None:
    fabric = make_fabric(LaunchConfig(devices="auto"), CPU)
    assert fabric.world_size == 1
    team = Team(fabric)
    assert team.leads
    assert team.add([1.5, 2.0]) == [1.5, 2.0]
    assert (team.agree(None), team.agree(15)) == (None, 15)


def test_nodes_without_a_launcher_are_refused() -> None:
    with pytest.raises(ValueError, match="nodes above 1 need torchrun or SLURM"):
        make_fabric(LaunchConfig(nodes=2), CPU)


def test_other_processes_than_torchrun_started_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="the 4 processes that torchrun started, got 2 x 1"):
        make_fabric(LaunchConfig(devices=2), CPU)


def test_other_tasks_than_slurm_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the script of a job, before any step, there is one process."""
    for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.setenv(name, "4")
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    assert make_fabric(LaunchConfig(), CPU).world_size == 1
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    with pytest.raises(ValueError, match="the 4 processes that SLURM started, got 1 x 1"):
        make_fabric(LaunchConfig(), CPU)


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match=r"device cpu needs precision .* or bf16-mixed, got 16-mi"):
        make_fabric(LaunchConfig(), TrainConfig(device="cpu", precision="16-mixed"))


def test_what_fsdp_does_not_go_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = LaunchConfig(strategy="fsdp")
    with pytest.raises(ValueError, match=r"fsdp needs precision 32-true or bf16-mixed, got 16-mi"):
        launching._strategy(launch, TrainConfig(precision="16-mixed"), "cuda", processes=1)
    with monkeypatch.context() as patch:
        patch.setattr(launching, "pick_device", lambda device: torch.device("mps"))
        with pytest.raises(ValueError, match="fsdp needs device cpu or cuda, got mps"):
            make_fabric(launch, CPU)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.1"))
    with pytest.raises(ValueError, match=r"fsdp needs PyTorch 2\.9 or later, got 2\.8\.1"):
        make_fabric(launch, CPU)


@pytest.mark.skipif(torch.cuda.device_count() == 0, reason="needs a GPU")
def test_more_gpus_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="devices must be at most the"):
        make_fabric(LaunchConfig(devices=999), TrainConfig(device="cuda"))


def test_only_a_broken_connection_is_called_one() -> None:
    team = Team(make_fabric(LaunchConfig(), CPU))
    team.part = Part(0, 2)
    with pytest.raises(Left, match="another process of the training ended"), team.together():
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    with pytest.raises(RuntimeError, match="sizes differ"), team.together():
        raise RuntimeError("sizes differ")


@pytest.mark.skipif(sys.platform == "win32", reason="there a process keeps its parent's number")
def test_a_process_ends_after_the_one_that_started_it() -> None:
    """Whatever it waits for."""
    waits = (
        "import os, threading, time\n"
        "from softperm.program.training import launch\n"
        "launch._PATIENCE = 0.0\n"
        "threading.Thread(target=launch._end_after, args=(os.getppid(),), daemon=True).start()\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    starter = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {waits!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) != process.pid
        process.kill()
        begun = time.monotonic()
        assert process.stdout.read() == b""  # until the last that could write to it is gone
    assert time.monotonic() - begun < 30
