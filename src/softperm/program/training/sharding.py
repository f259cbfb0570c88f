"""Networks of which every process keeps a part alone (FSDP), and how they are put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from softperm.nn import PieceTransformer, SinkhornNet

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def _is_shared_out(value: object) -> TypeGuard[DTensor]:
    """Whether every process has a part of it alone; a PyTorch may lack all of `distributed`."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def shard(net: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Leave every process its part of each weight, in place.

    The blocks of a transformer are put together one at a time, all other weights at once.

    Arguments:
        net: The network, the same in all processes.
        mesh: The processes; those along "data_parallel" share the weights.

    Raises:
        ValueError: a weight is a single number, which cannot be cut.
    """
    from torch.distributed.fsdp import fully_shard

    for name, weight in net.named_parameters():
        if weight.dim() == 0:
            error = ValueError(
                f"strategy fsdp cannot cut the weight {name}, a single number: take strategy ddp"
            )
            error.told = mesh.get_rank() > 0  # type: ignore[attr-defined]
            raise error
        weight.data = weight.data.contiguous()  # no other memory format can be cut
    processes = mesh["data_parallel"]
    for block in net.blocks if isinstance(net, PieceTransformer) else ():
        fully_shard(block, mesh=processes)
    fully_shard(net, mesh=processes)
    return net


def gather(value: Any, *, kept: bool) -> Any:
    """The value with every tensor in it that is shared out put together, on the CPU.

    All processes call it at the same moment.

    Arguments:
        value: Tensors in dicts and lists.
        kept: Whether this process keeps them; where it does not, None takes their place.
    """
    if _is_shared_out(value):
        full = value.full_tensor()
        return full.cpu() if kept else None
    if isinstance(value, dict):
        return {name: gather(part, kept=kept) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [gather(part, kept=kept) for part in value]
    return value


def whole(net: SinkhornNet, make_net: Callable[[], SinkhornNet]) -> SinkhornNet:
    """A copy of a network with all its weights in every process; itself where it has them all.

    All processes call it at the same moment.
    """
    weights = net.state_dict()
    if not any(map(_is_shared_out, weights.values())):
        return net
    with torch.device("meta"):
        copy = make_net()
    full = {
        name: weight.full_tensor() if _is_shared_out(weight) else weight
        for name, weight in weights.items()
    }
    copy.load_state_dict(full, assign=True)
    return copy


def cut_weights(weights: dict[str, Any], net: nn.Module) -> dict[str, Any]:
    """The weights that a process keeps of those of the whole network."""
    mine = net.state_dict()
    return {name: _cut(weight, mine.get(name)) for name, weight in weights.items()}


def cut_averages(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The part that this process keeps of the state of an optimizer of the whole network."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    averages = {
        number: {name: _cut(value, weights[number]) for name, value in of_weight.items()}
        for number, of_weight in state["state"].items()
    }
    return {**state, "state": averages}


def _cut(value: Any, like: Tensor | None) -> Any:
    """The part of a tensor that this process keeps, if it has the shape of a weight that is cut;
    everything else as it is.
    """
    if _is_shared_out(like) and isinstance(value, Tensor) and value.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return value
