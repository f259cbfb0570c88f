"""What is handed out: wheels and the source archive hold all they need, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from scikit_build_core import build

from tests.conftest import compiled

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "softperm"
LIBRARIES = "softperm/kernels/cpu/lib/"

# Of the packages on the path the first is taken, not the one that is being edited.
SCRIPT = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
sys.path.insert(0, sys.argv[1])
import torch, softperm
assert softperm.__file__.startswith(sys.argv[1])
x = torch.tensor([[2.0, 1.0], [1.0, 0.0]], requires_grad=True)
for _ in range(2):
    softperm.sinkhorn(x).sum().backward()
    print(softperm.matching(x.detach()).tolist())
"""


def data_files() -> set[str]:
    """Presets, pretrained networks and the files of the page, as paths in the package."""
    patterns = ("program/presets/*/*.yaml", "pretrained/*/*", "program/app/static/*")
    paths = [path for pattern in patterns for path in PACKAGE.glob(pattern)]
    return {path.relative_to(PACKAGE.parent).as_posix() for path in paths}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this one, in which libraries of other builds lie about, to work in."""
    folder = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__", "lib", ".*", "runs", "site", "dist", "build")
    shutil.copytree(ROOT, folder, ignore=ignore)
    stale = folder / "src" / LIBRARIES
    stale.mkdir()
    for name in ("level-0.so", "level-7.so", "level-7.dll", "level-7.dylib"):
        (stale / name).write_bytes(b"stale")
    monkeypatch.chdir(folder)
    return folder


def names_in(wheel: Path) -> set[str]:
    """The files in a wheel."""
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture
def pure(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel that comes of the source archive where there is no compiler."""
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, "/nonexistent")
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(next(tmp_path.glob("softperm-*/")))
    return tmp_path / build.build_wheel(str(tmp_path))


def test_the_source_archive(checkout: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {f"src/{path}" for path in data_files()} <= names
    assert {"scripts/export_pretrained.py", "tests/test_export_pretrained.py"} <= names
    assert {"CMakeLists.txt", "src/softperm/kernels/cpu/src/api.cpp"} <= names
    assert not any(LIBRARIES in name for name in names)


def test_a_wheel_without_a_compiler(pure: Path) -> None:
    names = names_in(pure)
    assert pure.name.endswith("-py3-none-any.whl")
    assert data_files() <= names
    assert not any(LIBRARIES in name or "cpu/src" in name for name in names)
    assert pure.stat().st_size < 3_000_000


def test_what_it_computes(pure: Path, tmp_path: Path) -> None:
    with ZipFile(pure) as archive:
        archive.extractall(tmp_path / "site")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["[0, 1]", "[0, 1]", ""]
    assert done.stderr.count("UserWarning: ") == 1
    assert "where there is a C++ compiler" in done.stderr


@compiled
@pytest.mark.slow
@pytest.mark.usefixtures("checkout")
def test_a_wheel_with_kernels(tmp_path: Path) -> None:
    wheel = tmp_path / build.build_wheel(str(tmp_path))
    names = names_in(wheel)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    assert data_files() <= names
    assert f"{LIBRARIES}level-0.so" in names
    assert not any("level-7" in name or "cpu/src" in name for name in names)
    with ZipFile(wheel) as archive:
        assert archive.read(f"{LIBRARIES}level-0.so") != b"stale"
    assert wheel.stat().st_size < 5_000_000


def test_declared_minimums_are_those_that_are_tested() -> None:
    """Whatever pyproject.toml declares, constraints-minimum.txt pins to that release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in ("train", "app", "docs", "dev"):
        wanted += project["optional-dependencies"][extra]
    found = (re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", text) for text in wanted)
    declared = {match[1]: match[2] for match in found if match}
    lines = (ROOT / "constraints-minimum.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned.keys() == declared.keys()
    for name, version in declared.items():
        assert f"{pinned[name].removesuffix('.*')}.".startswith(f"{version}."), name
