"""Triton's compiler takes every kernel to machine code for a GPU, which it can do without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from triton._C import libtriton

# Outside the interpreter, which TRITON_INTERPRET turned on for this process.
SCRIPT = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from softperm.kernels.gpu import fused, passes, reverse, tiled

dtype, backend = sys.argv[1:]
target = {"cuda": GPUTarget("cuda", 80, 32), "hip": GPUTarget("hip", "gfx942", 64)}[backend]
FLOATS = "x grad dx out error alphas betas totals w initial dus dvs"
DOUBLES = (
    "tau log_rows log_columns log_sums us vs u own across scalings tops tops_u tops_v"
    " d_rows d_columns"
)
TYPES = {"iters": "*i64", "absorbed": "*i32", "tol": "fp32"}
TYPES |= dict.fromkeys(FLOATS.split(), "*" + dtype) | dict.fromkeys(DOUBLES.split(), "*fp64")

def check(kernel, how, **constants):
    constants |= how
    warps = constants.pop("num_warps")
    fusion = constants.pop("enable_fp_fusion")
    signature = {name: TYPES.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
    options = {"num_warps": warps, "enable_fp_fusion": fusion}
    done = triton.compile(source, target=target, options=options)
    assert {"cuda": "cubin", "hip": "hsaco"}[backend] in done.asm
    print(kernel.__name__)

# Triton takes a size of 1 for a constant.
chip = fused.options(16, 16)
check(fused.forward_kernel, chip, ROWS=False, COLUMNS=False, LOG=False, STOP=False)
check(fused.forward_kernel, chip, ROWS=True, COLUMNS=True, LOG=True, STOP=True, n_iters=1)
check(fused.scalings_kernel, chip, ROWS=True, COLUMNS=False, steps=1)
check(reverse.reverse_kernel, chip, ROWS=False, COLUMNS=True, LOG=False)
rows = tiled._ROW_BLOCKS | tiled._LAUNCH
columns = tiled._COLUMN_BLOCKS | tiled._LAUNCH
tiles = tiled._TILES | tiled._LAUNCH
check(passes.normalise_kernel, columns, n_lines=1, line=1, along=1, GIVEN=True)
check(passes.reverse_half_kernel, rows, along=1)
check(passes.entries_kernel, tiles, GIVEN=True, LOG=False, TIMES=True)
check(passes.gradient_kernel, tiles, m=1)
"""


@pytest.mark.parametrize(
    ("dtype", "backend"),
    [
        ("fp32", "cuda"),
        pytest.param("fp64", "cuda", marks=pytest.mark.slow),
        pytest.param("fp32", "hip", marks=pytest.mark.slow),
    ],
)
def test_every_kernel_compiles(dtype: str, backend: str, tmp_path: Path) -> None:
    if backend == "hip" and not hasattr(getattr(libtriton, "amd", None), "link_hsaco"):
        pytest.skip("this Triton needs the linker of ROCm")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, dtype, backend],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 8
    assert len(set(done.stdout.split())) == 7
