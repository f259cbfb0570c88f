"""Compiling ahead: afterwards no call compiles anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COUNT = """
import numba, torch, softperm
from softperm.kernels.cpu import numba_jobs, numba_rows_linear

def count():
    from_python = [f for f in vars(numba_rows_linear).values() if hasattr(f, "signatures")]
    return numba_jobs._compiled.cache_info().currsize + sum(len(f.signatures) for f in from_python)

softperm.warm_up({arguments})
before = count()
for dtype in {dtypes}:
    for batch, n in {sizes}:
        for scale in (1.0, 1e6):
            for tau in (1.0, torch.tensor(1.0), torch.ones(batch)):
                for tol in {tols}:
                    x = scale * torch.randn(batch, n, n, dtype=dtype)
                    softperm.sinkhorn(x.requires_grad_(), tau, 5, tol=tol).sum().backward()
                    softperm.log_sinkhorn(x, tau, 5, tol=tol).sum().backward()
                    softperm.matching(x)
print(before, count())
"""


@pytest.mark.parametrize(
    ("arguments", "dtypes", "sizes", "tols"),
    [
        (
            "",
            "(torch.float32, torch.float64)",
            "((3, 4), (64, 110), (1, 130), (1, 520))",
            "(None, 0.1)",
        ),
        ("4, torch.float32", "(torch.float32,)", "((1, 4), (64, 4))", "(None,)"),
        ("105, torch.float32", "(torch.float32,)", "((1, 105), (64, 105))", "(None,)"),
    ],
)
def test_nothing_is_left_to_compile(arguments: str, dtypes: str, sizes: str, tols: str) -> None:
    script = _COUNT.format(arguments=arguments, dtypes=dtypes, sizes=sizes, tols=tols)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert 0 < before == after
