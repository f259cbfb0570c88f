"""Wrong inputs: made from the schema of the settings, and by damaging what is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

from softperm.program import settings
from softperm.program.settings import JigsawConfig, SortingConfig
from softperm.program.training import config as training
from softperm.program.training.config import TrainConfig
from tests.hostile import files
from tests.hostile.cases import Case, things

RANGES: dict[type, dict[str, tuple[float, float]]] = {
    JigsawConfig: settings.JIGSAW_RANGES,
    SortingConfig: settings.SORTING_RANGES,
    TrainConfig: training._RANGES,
}
TASK = {JigsawConfig: "jigsaw", SortingConfig: "sorting", TrainConfig: "sorting"}
NUMBERS = ["", "x", "nan", "inf", "-inf", "1e400", "9" * 5000, "[1]", "{a: 1}", "null", "\x00"]


JIGSAW = (
    "--pieces 9 --data digits",
    "--pieces 100 --data digits",
    "--kernel_size 99 --data digits",
    "--kernel_size 4 --data digits",
    "--hidden_channels 65536 --pieces 8 --data digits --kernel_size 1 --layers 999999999",
    "--net transformer --features 65536 --layers 1000 --heads 64 --data digits",
    "--net transformer --features 65536 --layers 100 --heads 63 --data digits",
    "--seed 99999999999999999999999 --data digits",
    "--image_size 0 --data digits",
    "--image_size 9 --data digits",
    "--channels 3 --data digits",
    "--channels 2 --data digits",
    "--data= --pieces 2",
    "--data nothing-here",
    "--data file.txt",
    "--data empty",
    "--epoch 3 --data digits",
    "--warmup 1 --schedule one_cycle --data digits",
    "--optimizer muon --precision 16-mixed --data digits",
    "--tau 1e-300 --data digits",
    "--lr 1e300 --data digits",
    "--gamma 1e300 --data digits",
    "--gamma -1 --data digits",
    "--out file.txt --data digits",
    "--out file.txt/run --data digits",
    "--out full --data digits",
    f"--out {'x' * 300} --data digits",
    "--preset nope",
    "--preset digits-2x2 --preset nope",
    "--resume",
    "--resume --out nothing-here",
    "--resume --out empty",
    "--resume --out full",
    "--device cuda:99",
)
SORTING = (
    "--low 0.99999999999",
    "--low 1 --high 1",
    "--high inf",
    "--n_items 20000 --test_lists 100000000",
    "--test_low 1e9 --test_high 1.00000000000000001e9",
    "--hidden_features 65536 --n_items 20000 --n_samples 10001",
    "--lr 1000 --tau 1e-6 --train_lists 10 --test_lists 10 --noise_scale 1e300",
)
OTHERS = (
    "evaluate",
    "evaluate full",
    "evaluate empty",
    "evaluate file.txt",
    "evaluate nothing-here",
    "solve empty x.png",
    "solve mnist-2x2 nothing.png",
    "solve mnist-2x2 file.txt",
    "solve mnist-2x2 empty",
    "solve mnist-2x2 file.txt --seed -1",
    "solve mnist-2x2 file.txt --seed 18446744073709551616",
    "reproduce sorting --n 5 --seeds -1",
    "reproduce sorting --n 5 --seeds 18446744073709551616",
    "reproduce sorting --n 5 --out file.txt",
    "reproduce sorting --n 5 --docs full",
    "reproduce jigsaw --pieces 2 --data empty",
    "evaluate full --device cuda:7",
    "fly",
    "train",
    "train chess",
)


def of_options() -> Iterator[Case]:
    """Every setting with values of the wrong type, and beyond both ends of its range."""
    for kind, task in TASK.items():
        hints = get_type_hints(kind)
        for field in fields(kind):
            name, hint = field.name, hints[field.name]
            values = list(NUMBERS) if name in RANGES[kind] else []
            if name in RANGES[kind]:
                low, high = RANGES[kind][name]
                values += [str(low - 1), str(high * 2 + 1)]
                values += ["1.5"] if hint is int else []
            elif get_origin(hint) is Literal:
                values = ["", "gan", "null", get_args(hint)[0][:-1]]
            elif hint is bool:
                values = ["", "perhaps", "2"]
            for value in values:
                yield Case(f"{name}={value[:9]}", ["train", task, f"--{name}={value}"])


def of_settings_that_do_not_fit() -> Iterator[Case]:
    """Settings each of which is right, and commands of which nothing is there."""
    for text in JIGSAW:
        yield Case(text[:60], ["train", "jigsaw", *text.split(" ")], things)
    for text in SORTING:
        yield Case(text[:60], ["train", "sorting", *text.split(" ")])
    for text in OTHERS:
        yield Case(text, text.split(" "), things)


def all_cases(damaged: int) -> list[Case]:
    """All of them; of tensors so many damaged files of each kind."""
    return [
        *of_options(),
        *of_settings_that_do_not_fit(),
        *files.of_config_files(),
        *files.of_models(),
        *files.of_runs(),
        *files.of_tensors(damaged),
        *files.of_data(),
    ]
