"""Presets are found by name."""

from __future__ import annotations

import pytest

from softperm.program.presets import preset_file, preset_names


def test_every_name_has_its_file() -> None:
    for task in ("jigsaw", "sorting"):
        names = preset_names(task)
        assert names
        assert all(preset_file(task, name).is_file() for name in names)
    assert "tutorial-2x2" in preset_names("jigsaw")


@pytest.mark.parametrize("name", ["nope", "../jigsaw/tutorial-2x2", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"preset must be one of .*sorting-5.* for sorting, got"):
        preset_file("sorting", name)
