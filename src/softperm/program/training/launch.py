"""How a training is run: on which processes, and what it shows. No result depends on it."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from softperm.program.schema import fit, require_ranges
from softperm.program.training.config import TrainConfig, pick_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.strategy import Strategy

Devices = int | Literal["auto"]
_PATIENCE = 5.0  # seconds for a process to notice by itself that its starter is gone
_RANGES: dict[str, tuple[float, float]] = {
    "devices": (1, 10_000),
    "nodes": (1, 100_000),
    "workers": (0, 1_024),
    "log_every": (1, 1_000_000_000),
}


@dataclass(frozen=True)
class LaunchConfig:
    """How a training is run; a run may be resumed with others.

    Arguments:
        devices: Processes per node, each with a GPU or a share of the CPU's cores; auto takes all
            GPUs. batch_size is that of all processes together.
        nodes: Machines that train together; start the same command on each with torchrun or SLURM.
        strategy: How several processes share the work: auto, which is ddp; ddp: every process holds
            the whole network; fsdp: every process holds its part of the weights, their gradients
            and averages, for networks that no device holds whole while they are trained.
        workers: Processes per device that read images ahead; 0 reads them in the training process.
        log_every: Steps between two lines where the output is no terminal; omitted, a line every
            three minutes. A line per epoch comes anyway.
    """

    devices: Devices = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    workers: int = 0
    log_every: int | None = None

    def __post_init__(self) -> None:
        ranges = dict(_RANGES)
        fit(self.devices, Devices, "devices")
        if self.devices == "auto":
            del ranges["devices"]
        if self.log_every is None:
            del ranges["log_every"]
        require_ranges(self, ranges)
        if self.strategy not in ("auto", "ddp", "fsdp"):
            raise ValueError(f"strategy must be auto, ddp or fsdp, got {self.strategy!r}")


def make_fabric(launch: LaunchConfig, config: TrainConfig) -> Fabric:
    """Start the processes of this machine, unless torchrun or SLURM has started them.

    It returns in each of them, once all are there.

    Raises:
        ValueError: the device is not there, or not so often, the processes are not those that
            torchrun or SLURM started, or the strategy or the precision does not go with the other
            settings.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    accelerator = pick_device(config.device).type
    if accelerator == "cpu" and config.precision == "16-mixed":  # Fabric would take bf16-mixed
        raise ValueError(
            "device cpu needs precision 32-true or bf16-mixed, got 16-mixed, which needs a GPU"
        )
    devices = _count(launch.devices, accelerator)
    starter, started = "torchrun", os.environ.get("WORLD_SIZE", "1")
    if not TorchElasticEnvironment.detect():
        # Without a step it is the script of a job, of which there is one.
        starter, started = "SLURM", os.environ.get("SLURM_NTASKS", "1")
    elsewhere = TorchElasticEnvironment.detect() or "SLURM_STEP_ID" in os.environ
    if elsewhere and int(started) != devices * launch.nodes:
        raise ValueError(
            f"devices x nodes must be the {started} processes that {starter} started, got "
            f"{devices} x {launch.nodes}"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # not who registered where
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=launch.nodes,
            strategy=_strategy(launch, config, accelerator, devices * launch.nodes),
            precision=config.precision,
        )
    except RuntimeError as error:  # variables of SLURM that contradict each other
        raise ValueError(str(error)) from error
    environment = getattr(fabric.strategy, "cluster_environment", None)
    if launch.nodes > 1 and isinstance(environment, LightningEnvironment):
        raise ValueError(
            f"nodes above 1 need torchrun or SLURM to start the processes, got {launch.nodes}"
        )
    fabric.launch()
    if fabric.local_rank > 0 and isinstance(environment, LightningEnvironment):
        threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()
    if fabric.global_rank > 0:
        logging.getLogger("softperm").setLevel(logging.ERROR)  # the first process warns
    return fabric


def _end_after(starter: int) -> None:
    """End this process some seconds after the one that started it.

    As a rule gloo notices at once that a process is lost. Where the process is lost while gloo
    sends to it, it may wait for half an hour.
    """
    while os.getppid() == starter:
        time.sleep(1)
    time.sleep(_PATIENCE)
    os._exit(1)


def _strategy(
    launch: LaunchConfig, config: TrainConfig, accelerator: str, processes: int
) -> str | Strategy:
    """How Fabric is to share the work.

    Raises:
        ValueError: fsdp does not go with the device, the precision or this PyTorch.
    """
    if launch.strategy != "fsdp":
        return launch.strategy
    import torch
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    from softperm.program.training.sharding import shard

    if not torch.distributed.is_available():
        raise ValueError("strategy fsdp needs a PyTorch that was built with torch.distributed")
    if accelerator == "mps":
        raise ValueError("strategy fsdp needs device cpu or cuda, got mps")
    if config.precision == "16-mixed":
        raise ValueError("strategy fsdp needs precision 32-true or bf16-mixed, got 16-mixed")
    if torch.__version__ < "2.9":  # gloo adds up where fsdp asks for a mean, or it does not run
        raise ValueError(f"strategy fsdp needs PyTorch 2.9 or later, got {torch.__version__}")
    # PyTorch warns of changing in place what the network returns, which nothing here does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    return ModelParallelStrategy(shard, data_parallel_size=processes, tensor_parallel_size=1)


def _count(devices: int | str, accelerator: str) -> int:
    """Processes per node.

    Raises:
        ValueError: there are fewer devices.
    """
    import torch

    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(accelerator)
    if devices == "auto":
        return there or 1
    if there is not None and int(devices) > there:
        raise ValueError(f"devices must be at most the {there} of this machine, got {devices}")
    return int(devices)
