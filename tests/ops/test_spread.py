"""Sinkhorn of rows that are spread over processes, against one process with all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import softperm

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform != "linux", reason="processes join by gloo on Linux"
)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_are_as_one(world: int, tmp_path: Path) -> None:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "tests.ops.spread_worker"]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(world), str(tmp_path / "store")],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for output in outputs:
        assert output.rstrip().endswith("all equal"), output


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A group of this process alone."""
    store = tmp_path_factory.mktemp("group") / "store"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_gradient_of_the_formula(alone: Any) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    columns = torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64)

    def iterate(x: torch.Tensor) -> torch.Tensor:
        return softperm.sinkhorn(x, 0.5, 3, row_sums=1.0, col_sums=columns, group=alone)

    assert torch.autograd.gradcheck(iterate, (x,))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"col_sums": None}, ValueError, "group needs row_sums or col_sums"),
        ({"tau": torch.tensor(0.5)}, TypeError, "tau must be a float where a group is given"),
        ({"n_rows": 2}, ValueError, "not with slack, n_rows or n_cols"),
        ({"grad": "implicit"}, ValueError, "grad must be 'unrolled' where a group is given"),
        ({"backend": "cpu"}, ValueError, "backend must be auto or torch .* got cpu"),
        ({"group": 3}, TypeError, "group must be a torch.distributed.ProcessGroup, got int"),
    ],
)
def test_errors(alone: Any, wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    if wrong.get("backend") == "cpu" and not softperm.kernels.cpu.is_available():
        pytest.skip("refused for another reason")
    given: dict[str, Any] = {"col_sums": 0.75, "group": alone, **wrong}
    with pytest.raises(error, match=message):
        softperm.sinkhorn(torch.zeros(3, 4), **given)
