"""What is handed out: the wheel and the source archive hold the data files."""

from __future__ import annotations

import tarfile
from pathlib import Path
from zipfile import ZipFile

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "softperm"


def data_files() -> set[str]:
    """The presets and pretrained networks, as paths in the package."""
    paths = [*PACKAGE.glob("program/presets/*/*.yaml"), *PACKAGE.glob("pretrained/*/*")]
    return {path.relative_to(PACKAGE.parent).as_posix() for path in paths}


def test_the_wheel_holds_the_data_files_and_is_small(tmp_path: Path) -> None:
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with ZipFile(wheel) as archive:
        assert data_files() <= set(archive.namelist())
    assert Path(wheel).stat().st_size < 3_000_000


def test_the_source_archive_holds_them_too(tmp_path: Path) -> None:
    sdist = next(SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {f"src/{path}" for path in data_files()} <= names
    assert {"scripts/export_pretrained.py", "tests/test_export_pretrained.py"} <= names
