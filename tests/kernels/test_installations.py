"""The library where its kernels are not installed, and where nothing can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import softperm
from softperm.kernels.cpu import library
from tests.conftest import compiled

PACKAGE = Path(softperm.__file__).parent

# An editable installation redirects imports to its sources, whatever the path says.
THIS_PLACE_ALONE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
"""
WITHOUT_KERNELS = f"""{THIS_PLACE_ALONE}
import warnings
from importlib import metadata

def no_distribution(name):
    raise metadata.PackageNotFoundError(name)

metadata.files = no_distribution
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, softperm

    x = torch.randn(3, 5, 5, dtype=torch.float64, requires_grad=True)
    S, info = softperm.sinkhorn(x, 0.5, 1000, tol=1e-3, return_info=True)
    (dx,) = torch.autograd.grad(S.square().sum(), x)
    rectangle = softperm.sinkhorn(torch.randn(2, 3, 5), n_rows=2)
    P = softperm.matching(x.detach())
    partial = softperm.matching(torch.randn(2, 3, 5), unmatched=0.0)
    listed = softperm.matching_list([matrix for matrix in x.detach()])

print(softperm.__file__)
found = [str(one.message) for one in caught if "compiled kernels" in str(one.message)]
assert len(found) == 1, found
assert "Install it again where there is a C++ compiler" in found[0]
assert info.converged.all() and dx.isfinite().all()
assert torch.allclose(S.sum(-2), torch.ones((), dtype=x.dtype))
assert rectangle.shape == (2, 3, 5) and partial.shape == (2, 3)
assert all((one == other).all() for one, other in zip(listed, P))

for call in (softperm.sinkhorn, softperm.log_sinkhorn, softperm.gumbel_sinkhorn):
    try:
        call(x, backend="cpu")
    except ValueError as error:
        assert str(error) == "backend cpu needs the compiled kernels, which are not installed"
    else:
        raise AssertionError(call)
"""

EVERYTHING = f"""{THIS_PLACE_ALONE}
import torch, softperm

print(softperm.__file__)
x = torch.randn(64, 22, 22, requires_grad=True)
softperm.sinkhorn(x).square().sum().backward()
softperm.sinkhorn(x, 1e-4, tol=1e-3)
softperm.matching(x.detach())
softperm.matching_list([x[0].detach(), torch.randn(3, 4)])
softperm.gumbel_matching(x.detach())
"""


def copy_of_the_package(to: Path, kernels: bool) -> Path:
    """A place to import a copy from."""
    place = to / "place"
    unwanted = ["__pycache__"] if kernels else ["__pycache__", "lib"]
    shutil.copytree(PACKAGE, place / "softperm", ignore=shutil.ignore_patterns(*unwanted))
    return place


def run(script: str, place: Path, **more: str) -> None:
    """The script, with the copy that lies there."""
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "2"} | more
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(place)


def test_everything_works_without_the_kernels(tmp_path: Path) -> None:
    run(WITHOUT_KERNELS, copy_of_the_package(tmp_path, kernels=False))


def listing(place: Path) -> dict[str, int]:
    """Everything there, and when it was last changed."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(place.rglob("*"))}


@compiled
def test_nothing_is_written_by_calls(tmp_path: Path) -> None:
    place, home = copy_of_the_package(tmp_path, kernels=True), tmp_path / "home"
    temporary = tmp_path / "temporary"
    for folder in (home, temporary):
        folder.mkdir()
    before = listing(tmp_path)
    folders = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / "cache")}
    run(EVERYTHING, place, PYTHONDONTWRITEBYTECODE="1", **folders)
    assert listing(tmp_path) == before


@compiled
@pytest.mark.skipif(sys.platform == "win32", reason="permissions are of another kind there")
def test_no_place_to_write_is_needed(tmp_path: Path) -> None:
    place = copy_of_the_package(tmp_path, kernels=True)
    for folder in (place, *(path for path in place.rglob("*") if path.is_dir())):
        folder.chmod(0o555)  # void for root, who is answered by the test above
    try:
        run(EVERYTHING, place, HOME="/nonexistent", XDG_CACHE_HOME="/nonexistent/cache")
    finally:
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)


@compiled
def test_a_library_of_another_version_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library._library.__wrapped__() is not None
    monkeypatch.setattr(library, "LAYOUT", 0)
    with pytest.warns(UserWarning, match=r"compiled kernels are missing, or of another version"):
        assert library._library.__wrapped__() is None
