"""What is installed and where it runs, for reports of bugs."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import softperm

_PACKAGES = ("torch", "numpy", "scipy", "triton")
_LEVELS = "level {} (on x86-64 0: v2, 1: v3 with AVX2, 2: v4 with AVX-512)"


def report() -> str:
    """The environment, one line each."""
    lines = {"softperm": softperm.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            lines[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            lines[name] = "not installed"
    lines["system"] = platform.platform()
    lines["processor"] = f"{platform.machine()}, {os.cpu_count()} cores"
    lines.update(_of_torch())
    return "\n".join(f"{name:<11}{value}" for name, value in lines.items())


def _of_torch() -> dict[str, str]:
    """What only PyTorch can tell; the reason where it cannot be loaded."""
    try:
        import torch

        from softperm.kernels.cpu.library import level
    except (ImportError, OSError) as error:
        return {"torch": f"cannot be loaded: {error}"}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found = level()
    return {
        "kernels": "not compiled: plain PyTorch" if found is None else _LEVELS.format(found),
        "threads": f"{torch.get_num_threads()} of torch",
        "cuda": f"{torch.version.cuda}, {', '.join(devices) or 'no device'}"
        if torch.version.cuda
        else "not in this torch",
        "mps": "available" if torch.backends.mps.is_available() else "none",
    }


if __name__ == "__main__":
    print(report())
