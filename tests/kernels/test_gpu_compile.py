"""Triton's compiler takes every kernel to machine code for a GPU, which it can do without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

# Outside the interpreter, which TRITON_INTERPRET turned on for this process.
SCRIPT = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from softperm.kernels.gpu import fused, tiled

dtype = sys.argv[1]
FLOATS = ("x", "grad", "dx", "out", "error", "w", "earlier", "dus", "dvs")
TYPES = {"iters": "*i64", "tol": "fp32"} | dict.fromkeys(FLOATS, "*" + dtype)
TYPES |= dict.fromkeys(("tau", "u", "v", "us", "vs"), "*fp64")

def check(kernel, how, **constants):
    constants |= how
    warps = constants.pop("num_warps")
    fusion = constants.pop("enable_fp_fusion")
    signature = {name: TYPES.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
    options = {"num_warps": warps, "enable_fp_fusion": fusion}
    done = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert ".entry" in done.asm["ptx"]
    print(kernel.__name__)

chip = fused.options(16)
check(fused.forward_kernel, chip, LOG=False, STOP=True)
check(fused.scalings_kernel, chip)
check(fused.reverse_kernel, chip, LOG=False)
rows = tiled._ROW_BLOCKS | tiled._LAUNCH
columns = tiled._COLUMN_BLOCKS | tiled._LAUNCH
tiles = tiled._TILES | tiled._LAUNCH
TYPES["out"] = "*fp64"
check(tiled.normalise_kernel, columns, line=1)
TYPES["out"] = "*" + dtype
check(tiled.reverse_half_kernel, rows, along=1, COLUMNS=True)
check(tiled.entries_kernel, tiles, LOG=False, TIMES=True)
check(tiled.gradient_kernel, tiles)
"""


@pytest.mark.parametrize("dtype", ["fp32", pytest.param("fp64", marks=pytest.mark.slow)])
def test_every_kernel_compiles(dtype: str, tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, dtype], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 7
