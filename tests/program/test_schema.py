"""What is read has the names, types and ranges of the settings classes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softperm.nn import Puzzle
from softperm.program.presets import preset_file, preset_names
from softperm.program.readers import read_json, read_text, read_yaml
from softperm.program.schema import build, check, from_text, require_ranges, require_within, shorten
from softperm.program.settings import CONFIGS
from softperm.program.training.config import TrainConfig


@dataclass(frozen=True)
class Settings:
    count: int
    rate: float = 0.5
    name: str = "x"
    kind: Literal["a", "b"] = "a"
    size: int | None = None
    parts: tuple[float, ...] = ()
    on: bool = True
    rows: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_within(self.count, "count", 1, 10)


def test_every_range_is_checked_and_the_field_named() -> None:
    ranges = {"count": (1, 10), "rate": (0.0, 1.0)}
    require_ranges(Settings(10, 0.0), ranges)
    with pytest.raises(ValueError, match=r"rate must be between 0 and 1, got 2\.0"):
        require_ranges(Settings(1, 2.0), ranges)
    with pytest.raises(AttributeError, match="speed"):
        require_ranges(Settings(1), {"speed": (0, 1)})


def test_values_become_those_of_the_class() -> None:
    made = build(Settings, {"count": 3, "rate": 2, "parts": [1, 2.5], "size": None}, "it")
    assert made == Settings(3, 2.0, parts=(1.0, 2.5))
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1], "it must hold settings by name, got list"),
        (None, "it must hold settings by name, got NoneType"),
        ({}, "it must hold count"),
        ({"count": 1, "fly": 1}, "it must hold settings of settings, got fly"),
        ({1: 1}, "it must hold settings of settings, got 1"),
        ({"count": True}, "it: count must be an int, got True"),
        ({"count": 1.0}, "it: count must be an int, got 1.0"),
        ({"count": 11}, "it: count must be between 1 and 10, got 11"),
        ({"count": 1, "rate": "1"}, "it: rate must be a number, got '1'"),
        ({"count": 1, "rate": float("nan")}, "it: rate must be a finite number, got nan"),
        ({"count": 1, "rate": 10**400}, "it: rate must be a finite number, got 1000"),
        ({"count": 1, "rate": True}, "it: rate must be a number, got True"),
        ({"count": 1, "name": 3}, "it: name must be a text, got 3"),
        ({"count": 1, "kind": "c"}, "it: kind must be a or b, got 'c'"),
        ({"count": 1, "kind": []}, r"it: kind must be a or b, got \[\]"),
        ({"count": 1, "size": "3"}, "it: size must be an int, got '3'"),
        ({"count": 1, "parts": 3}, "it: parts must be a list of numbers, got 3"),
        ({"count": 1, "parts": [None]}, "it: parts must be a number, got None"),
        ({"count": 1, "on": 1}, "it: on must be true or false, got 1"),
    ],
)
def test_what_does_not_fit_is_named(values: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(Settings, values, "it")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = sorted(Puzzle.__dataclass_fields__)


@given(values=st.dictionaries(st.sampled_from(NAMES), anything))
def test_whatever_is_read_makes_an_object_or_a_value_error(values: dict[str, Any]) -> None:
    right = {"pieces": 2, "channels": 1, "height": 8, "width": 8, "mean": [0.3], "std": [0.4]}
    with suppress(ValueError):
        made = build(Puzzle, right | values, "it")
        assert build(Puzzle, asdict(made), "it") == made


@pytest.mark.parametrize("task", CONFIGS)
def test_every_preset_fits(task: str) -> None:
    kinds = (CONFIGS[task], TrainConfig)
    for name in preset_names(task):
        path = preset_file(task, name)
        assert check(read_yaml(path), path, *kinds)


def test_references_in_yaml_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text("a: &a [1, 1]\nb: *a\n")
    with pytest.raises(ValueError, match=r"bomb\.yaml is no YAML of settings: references"):
        read_yaml(path)


def test_numbers_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("[1e-3, 1E5, -2e+3, 0.5, 7, 1e, x1e3]")
    assert read_yaml(path) == [1e-3, 1e5, -2e3, 0.5, 7, "1e", "x1e3"]


@pytest.mark.parametrize("text", ["010", "-010", "+10", "1_0", "0"])
def test_whole_numbers_are_read_as_on_the_command_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: {text}")
    assert read_yaml(path) == {"seed": from_text(text, int, "seed")}


@pytest.mark.parametrize("text", ["0x10", "0b11", "1:30"])
def test_other_notations_of_numbers_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: {text}")
    with pytest.raises(ValueError, match=r"config\.yaml is no YAML of settings: invalid literal"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["lr: 1\nlr: 2", "{lr: 1, tau: 2, 'lr': 1}", "x: {lr: 1, lr: 1}"])
def test_names_given_twice_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml is no YAML of settings: lr is given twice"):
        read_yaml(path)


def test_long_and_deep_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep"
    path.write_text("[" * 90_000)
    for read in (read_json, read_yaml):
        with pytest.raises(ValueError, match="deep is no"):
            read(path)
    with pytest.raises(ValueError, match="deep must be no longer than 10 bytes"):
        read_text(path, 10)


def test_messages_keep_both_ends() -> None:
    assert shorten("a  b\nc") == "a b c"
    long = shorten("begin " + "x" * 1000 + " end")
    assert len(long) <= 200
    assert long.startswith("begin x")
    assert long.endswith("x end")
