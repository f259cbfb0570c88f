"""The scripts of `softperm completion`: the shells take them, and complete words by them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from softperm._pretrained import pretrained_names
from softperm.program.cli import main
from softperm.program.options import COMMANDS
from softperm.program.presets import preset_names

SHELLS = ("bash", "zsh", "fish")
COMPLETE = """
source '{script}'
function_of_it=$(complete -p softperm | sed -E 's/.*-F ([^ ]+).*/\\1/')
while IFS= read -r line; do
    read -ra COMP_WORDS <<< "$line"
    if [[ "$line" == *" " ]]; then COMP_WORDS+=(""); fi
    COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
    "$function_of_it"
    echo "${{COMPREPLY[*]}}"
done
"""


def shell(name: str) -> str:
    """Where a shell is."""
    found = shutil.which(name)
    if found is None or os.name == "nt":
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Path:
    """The script of a shell, in a file."""
    path = tmp_path / "script"
    assert main(["completion", getattr(request, "param", "bash")]) == 0
    path.write_text(capsys.readouterr().out)
    return path


def options_in_help(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that the help of a command shows, spelt with dashes."""
    with suppress(SystemExit):
        main([*command.split(), "--help"])
    indented = re.findall(r"^  (-.*)$", capsys.readouterr().out, re.MULTILINE)
    heads = " ".join(line.split("  ")[0] for line in indented)
    return {option.replace("_", "-") for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", heads)}


def completed(script: Path, lines: list[str]) -> list[set[str]]:
    """The words that bash offers at the end of every line, in the folder of the script."""
    done = subprocess.run(
        [shell("bash"), "--norc", "-c", COMPLETE.format(script=script)],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=script.parent,
    )
    assert done.stderr == ""
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("script", SHELLS, indirect=True, ids=SHELLS)
def test_the_shell_takes_its_script(script: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["script"]
    done = subprocess.run([shell(name), "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SHELLS, indirect=True, ids=SHELLS)
def test_every_option_is_in_it(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = script.read_text()
    for command in COMMANDS:
        function = f"_shtab_softperm_{command.replace(' ', '_')}"
        found = [
            *re.findall(rf"^{function}_option_strings=\((.*)\)$", text, re.MULTILINE),  # bash
            *re.findall(rf"^{function}_options=\(\n((?:  .*\n)*)", text, re.MULTILINE),  # zsh
            *re.findall(rf"-n '_shtab_softperm_using {command}' (-.*)", text),  # fish
        ]
        spelt = re.sub(r"-l (?=[a-z])", "--", "\n".join(found)).replace("-s h", "-h")
        options = options_in_help(command, capsys)
        assert "--help" in options
        assert options <= set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", spelt)), command


def test_bash_offers_every_option_of_every_command(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offered = completed(script, [f"softperm {command} -" for command in COMMANDS])
    for command, words in zip(COMMANDS, offered, strict=True):
        assert words == options_in_help(command, capsys), command


def test_bash_offers_the_commands(script: Path) -> None:
    first, second, begun = completed(script, ["softperm ", "softperm train ", "softperm ev"])
    assert first == {name.split()[0] for name in COMMANDS}
    assert second == {"jigsaw", "sorting", "neurons"}
    assert begun == {"evaluate"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("softperm train jigsaw --preset ", set(preset_names("jigsaw"))),
        ("softperm train sorting --epochs 2 --preset ", set(preset_names("sorting"))),
        ("softperm train jigsaw --net ", {"conv", "transformer"}),
        ("softperm train sorting --net ", {"paper", "relative"}),
        ("softperm train jigsaw --deterministic ", {"true", "false"}),
        ("softperm train jigsaw --device c", {"cpu", "cuda"}),
        ("softperm train jigsaw --data ", {"digits", "mnist", "pictures"}),
        ("softperm train neurons --data ", {"pictures"}),
        ("softperm train neurons --method m", {"map", "mcmc"}),
        ("softperm train jigsaw --config s", {"script", "seven.png"}),
        ("softperm train jigsaw --out ", {"pictures"}),
        ("softperm evaluate ", {*pretrained_names(), "pictures"}),
        ("softperm solve mnist-3x3 s", {"script", "seven.png"}),
        ("softperm solve mnist-3x3 seven.png s", {"script", "seven.png"}),
        ("softperm scramble seven.png --out ", {"pictures"}),
        ("softperm reproduce jigsaw --pieces ", {"2", "3", "4", "5", "6"}),
        ("softperm reproduce jigsaw --pieces 2 ", {"2", "3", "4", "5", "6"}),
        ("softperm reproduce jigsaw --data d", {"digits"}),
        ("softperm reproduce neurons --cells known4", {"known40-eta0.1", "known40-eta0.2"}),
        ("softperm reproduce neurons --cells kn", {"known", *(
            f"known{share}-eta{eta}" for share in (40, 30, 20, 10) for eta in (0.1, 0.2)
        )}),
        ("softperm reproduce neurons --methods n", {"naive"}),
        ("softperm reproduce sorting --docs se", {"seven.png"}),
        ("softperm completion ", set(SHELLS)),
        ("softperm --v", {"--version"}),
    ],
)  # fmt: skip
def test_bash_offers_the_values(script: Path, line: str, words: set[str]) -> None:
    (script.parent / "pictures").mkdir()
    (script.parent / "seven.png").touch()
    assert completed(script, [line]) == [words]


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_offers_the_same(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [*(f"softperm {command} --" for command in COMMANDS), "softperm train sorting --net "]
    asked = "\n".join(f"complete -C '{line}'; echo ====" for line in lines)
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c", f"source {script}\n{asked}"],
        capture_output=True,
        text=True,
    )
    *offered, nets, rest = [
        {line.split("\t")[0] for line in part.splitlines()} for part in done.stdout.split("====\n")
    ]
    for command, words in zip(COMMANDS, offered, strict=True):
        assert words == options_in_help(command, capsys) - {"-h"}, command
    assert nets == {"paper", "relative"}
    assert rest == set()


def test_it_is_written_without_pytorch() -> None:
    code = (
        "import sys; from softperm.program.cli import main; main(['completion', 'bash']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_help_knows_nothing_of_it() -> None:
    """What only scripts take to be written costs the other commands no time."""
    code = (
        "import sys; from softperm.program.cli import main; main(['--help']); "
        "assert not {'shtab', 'softperm.program.completion', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "invalid choice: 'cmd'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "shtab", None)
    monkeypatch.delitem(sys.modules, "softperm.program.completion", raising=False)
    assert main(["completion", "bash"]) == 1
    assert "shtab is not installed: pip install '.[train]'" in capsys.readouterr().err
