"""The jigsaw task: loss and metrics against a loop over images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from softperm.data import load_digits, load_folder
from softperm.metrics import kendall_tau
from softperm.nn import PieceTransformer, SinkhornConvNet, SinkhornNet
from softperm.program.cli import main
from softperm.program.presets import preset_file
from softperm.program.tasks import Jigsaw, JigsawConfig, Puzzle
from softperm.program.tasks.base import Part
from softperm.program.training.run import Run
from softperm.puzzles import assemble

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task() -> Jigsaw:
    return Jigsaw(JigsawConfig(data="digits", pieces=2, kernel_size=3))


class Oracle(SinkhornNet):
    """Knows the test puzzles by heart."""

    def __init__(self, task: Jigsaw) -> None:
        super().__init__()
        net = SinkhornConvNet(1, 4, 4)  # any permutation does: only the targets are read
        self.answers = torch.cat([target for _, _, target, _ in task.solved(net, CPU)])

    def log_alpha(self, items: Tensor) -> Tensor:
        answers = self.answers[: len(items)]
        self.answers = self.answers[len(items) :]
        return torch.nn.functional.one_hot(answers, items.shape[1]).float()


def test_a_perfect_solver_has_perfect_metrics(task: Jigsaw) -> None:
    metrics = task.evaluate(Oracle(task), CPU)
    ones = {"kendall_tau", "kendall_tau_up_to_identical", "exact_reconstruction"}
    assert metrics == {name: 1.0 if name in ones else 0.0 for name in metrics}


def test_metrics_against_a_loop_over_images(task: Jigsaw) -> None:
    torch.manual_seed(0)
    net = task.make_net()
    metrics = task.evaluate(net, CPU)
    exact, wrong, any_wrong, l1, l2, tau = ([] for _ in range(6))
    for pieces, scrambled, target, perm in task.solved(net, CPU):
        for b in range(len(pieces)):
            restored = torch.empty_like(pieces[b])
            for i, j in enumerate(perm[b].tolist()):
                restored[j] = scrambled[b, i]
            difference = (restored.double() - pieces[b].double()) / 255
            exact.append(float((difference == 0).all()))
            wrong.append((perm[b] != target[b]).double().mean().item())
            any_wrong.append(float((perm[b] != target[b]).any()))
            l1.append(difference.abs().sum().item())
            l2.append(difference.norm().item())
            tau.append(kendall_tau(perm[b], target[b]).item())
    expected = {
        "exact_reconstruction": exact,
        "prop_wrong": wrong,
        "prop_any_wrong": any_wrong,
        "l1": l1,
        "l2": l2,
        "kendall_tau": tau,
    }
    for name, values in expected.items():
        assert metrics[name] == pytest.approx(sum(values) / len(values), abs=1e-5), name
    assert metrics["prop_any_wrong_up_to_identical"] == pytest.approx(
        1 - metrics["exact_reconstruction"]
    )
    assert metrics == task.evaluate(net, CPU)


def test_loss_is_the_squared_error_of_an_image(task: Jigsaw) -> None:
    """A net that returns its input unordered leaves the distance of scrambled and original."""

    class Lazy(torch.nn.Module):
        def forward(self, items: Tensor, sample_shape: Any, noise: Tensor) -> tuple[Tensor, None]:
            self.items = items
            return items.expand(*sample_shape, *items.shape), None

    net = Lazy()
    images = task.read(torch.arange(6))
    loss = task.loss(net, task.examples(images, torch.Generator().manual_seed(0)))
    original = task.puzzle.normalise(task.puzzle.cut(images))
    expected = sum(((a - b) ** 2).sum() for a, b in zip(net.items, original, strict=True)) / 6
    torch.testing.assert_close(loss, expected)


def test_loss_has_a_gradient_and_is_a_function_of_the_generator(task: Jigsaw) -> None:
    net = task.make_net()
    images = task.read(torch.arange(4))
    seeds = (torch.Generator().manual_seed(seed) for seed in (0, 0, 1))
    losses = [task.loss(net, task.examples(images, generator)) for generator in seeds]
    assert losses[0] == losses[1] != losses[2]
    losses[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_training_images_are_moved_and_test_images_are_not(task: Jigsaw) -> None:
    moving = Jigsaw(JigsawConfig(data="digits", pieces=2, kernel_size=3, shift=1))
    indices, generator = torch.arange(50), torch.Generator().manual_seed(0)
    still = task.puzzle.normalise(task.puzzle.cut(task.read(indices)))
    moved = moving.examples(moving.read(indices), generator).targets
    assert torch.equal(task.examples(task.read(indices), generator).targets, still)
    # A ninth of the images is expected where it was.
    assert 1 <= int((moved == still).flatten(1).all(1).sum()) <= 15
    net = task.make_net()
    for ours, theirs in zip(task.solved(net, CPU), moving.solved(net, CPU), strict=True):
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_normalise_gives_mean_zero_and_variance_one(gamma: float) -> None:
    task = Jigsaw(JigsawConfig(data="digits", pieces=2, gamma=gamma))
    pieces = task.puzzle.normalise(task.puzzle.cut(task.images.train))
    assert pieces.mean().abs() < 1e-5
    assert pieces.std() == pytest.approx(1, abs=1e-3)


def test_pixels_are_raised_to_the_power_gamma() -> None:
    puzzle = Puzzle(1, 1, 1, 3, (0.2,), (0.5,), gamma=0.5)
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3)
    wanted = torch.tensor([(0 - 0.2) / 0.5, (0.2**0.5 - 0.2) / 0.5, (1 - 0.2) / 0.5])
    torch.testing.assert_close(puzzle.normalise(pixels).flatten(), wanted)


def test_images_are_stretched_to_sides_that_divide_and_get_no_margin() -> None:
    task = Jigsaw(JigsawConfig(data="digits", pieces=3, kernel_size=3))
    assert (task.puzzle.height, task.puzzle.width, task.puzzle.piece_size) == (9, 9, (3, 3))
    original = load_digits()
    for part in ("train", "test"):
        mine, given = getattr(task.images, part), getattr(original, part)
        assert mine.shape == (len(given), 1, 9, 9)
        wanted = F.interpolate(given.float(), (9, 9), mode="bicubic", antialias=True)
        assert (mine - wanted.clamp(0, 255)).abs().max() <= 0.5
    whole = task.images.train.float() / 255
    assert task.puzzle.mean[0] == pytest.approx(whole.mean().item())
    assert task.puzzle.std[0] == pytest.approx(whole.std(correction=0).item())


def test_a_bright_picture_stays_bright_at_its_border() -> None:
    puzzle = Puzzle(3, 1, 8, 8, (0.5,), (0.5,))
    pieces = puzzle.cut(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    assert pieces.shape == (2, 9, 1, 3, 3)
    assert pieces.eq(255).all()
    net = puzzle.make_net().eval()
    assert net(puzzle.normalise(pieces))[1].shape == (2, 9)


def test_every_piece_of_a_larger_picture_is_brought_to_size_by_itself() -> None:
    puzzle = Puzzle(2, 1, 8, 8, (0.5,), (0.5,))
    images = torch.randint(0, 256, (3, 1, 24, 24), dtype=torch.uint8)
    pieces = puzzle.cut(images)
    assert pieces.shape == (3, 4, 1, 4, 4)
    images[:, :, :12, 12:] = 0  # the second piece
    changed = (puzzle.cut(images) != pieces).flatten(2).any(-1).any(0)
    assert changed.tolist() == [False, True, False, False]
    constant = puzzle.cut(torch.full((1, 1, 24, 24), 7, dtype=torch.uint8))
    assert constant.eq(7).all()
    assert torch.equal(puzzle.cut(images.unflatten(0, (3, 1))), puzzle.cut(images).unsqueeze(1))
    assert torch.equal(puzzle.cut(images[0]), puzzle.cut(images)[0])
    assert puzzle.cut(images[:0]).shape == (0, 4, 1, 4, 4)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 1, 8, 8), TypeError, r"images must be uint8.*got torch\.float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ValueError, r"images must have shape \(\*, 1"),
        (torch.zeros(1, 1, 8, 1, dtype=torch.uint8), ValueError, "at least 2 pixels per side"),
        ([0], TypeError, r"images must be a torch\.Tensor, got list"),
    ],
)
def test_what_cannot_be_cut_is_refused(images: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Puzzle(2, 1, 8, 8, (0.5,), (0.5,)).cut(images)


def test_enlarged_training_images_give_pieces_of_the_same_size() -> None:
    plain = Jigsaw(JigsawConfig(data="digits", pieces=2, kernel_size=3))
    larger = Jigsaw(JigsawConfig(data="digits", pieces=2, kernel_size=3, enlarge=3))
    images, generator = plain.read(torch.arange(5)), torch.Generator().manual_seed(0)
    still = plain.examples(images, generator).targets
    drawn = [larger.examples(images, generator).targets for _ in range(20)]
    assert all(targets.shape == still.shape for targets in drawn)
    kinds = {tuple(targets.flatten().tolist()) for targets in drawn}
    assert len(kinds) == 3
    assert tuple(still.flatten().tolist()) in kinds  # factor 1 changes nothing


@pytest.mark.parametrize("size", [2, 3, 7])
def test_parts_of_a_step_are_the_step(size: int) -> None:
    """Their examples are those of the whole, and so is the sum of their losses."""
    config = {"kernel_size": 3, "shift": 1, "enlarge": 2, "n_samples": 3, "tau": 1.0}
    task = Jigsaw(JigsawConfig(data="digits", pieces=2, **config))  # type: ignore[arg-type]
    net, indices = task.make_net(), torch.arange(5)
    whole = task.examples(task.read(indices), torch.Generator().manual_seed(0))
    parts = []
    for rank in range(size):
        part = Part(rank, size)
        stored, generator = task.read(part.of(indices)), torch.Generator().manual_seed(0)
        parts.append(task.examples(stored, generator, part, len(indices)))
    assert torch.equal(torch.cat([part.items for part in parts]), whole.items)
    assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
    noise = [part.noise for part in parts if part.noise is not None]
    assert whole.noise is not None
    assert torch.equal(torch.cat(noise, 1), whole.noise)
    losses = torch.stack([task.loss(net, part) for part in parts])  # some parts are empty
    torch.testing.assert_close(losses.sum(), task.loss(net, whole))


@pytest.mark.parametrize("size", [2, 5])
def test_parts_of_the_metrics_add_up(task: Jigsaw, size: int) -> None:
    net = task.make_net()
    whole = task.evaluate(net, CPU)
    parts = [task.evaluate(net, CPU, part=Part(rank, size)) for rank in range(size)]
    assert {k: sum(part[k] for part in parts) for k in whole} == pytest.approx(whole)


def test_the_net_is_made_as_the_settings_say() -> None:
    common = {"data": "digits", "pieces": 2, "tau": 0.7, "n_iters": 7, "noise_scale": 0.3}
    conv = Jigsaw(JigsawConfig(**common, hidden_channels=3, kernel_size=1)).make_net()  # type: ignore[arg-type]
    assert isinstance(conv, SinkhornConvNet)
    assert conv.features == (3, 2, 2)
    set_net = Jigsaw(
        JigsawConfig(**common, net="transformer", features=12, layers=4, heads=3)  # type: ignore[arg-type]
    ).make_net()
    assert isinstance(set_net, PieceTransformer)
    assert len(set_net.blocks) == 4
    assert {block.attend[1].heads for block in set_net.blocks} == {3}  # type: ignore[index, union-attr]
    assert set_net.log_alpha(torch.rand(4, 1, 4, 4)).shape == (4, 4)
    for net in (conv, set_net):
        assert (net.tau, net.n_iters, net.noise_scale) == (0.7, 7, 0.3)


def test_a_described_puzzle_makes_the_same_net() -> None:
    config = JigsawConfig(data="digits", pieces=3, net="transformer", features=8, layers=2, heads=2)
    task = Jigsaw(config)
    model = json.loads(json.dumps(task.describe()))
    net = Puzzle(**model).make_net()
    net.load_state_dict(task.make_net().state_dict())


def test_a_puzzle_described_before_there_was_a_choice_of_nets() -> None:
    fields = ("pieces", "channels", "height", "width", "mean", "std", "hidden_channels")
    values = (2, 1, 8, 8, [0.3], [0.4], 16)
    net = Puzzle(**dict(zip(fields, values, strict=True))).make_net()  # type: ignore[arg-type]
    assert isinstance(net, SinkhornConvNet)


def test_weights_of_the_presets_fit_into_three_megabytes() -> None:
    """In half precision, 2x2 to 5x5 together."""
    names = {"net", "features", "layers"}
    total = 0
    for k in range(2, 6):
        settings = yaml.safe_load(preset_file("jigsaw", f"transformer-{k}x{k}").read_text())
        assert settings["pieces"] == k
        chosen = {name: settings[name] for name in names}
        net = Puzzle(k, 1, 28, 28, (0.0,), (1.0,), **chosen).make_net()
        assert isinstance(net, PieceTransformer)
        total += sum(weights.numel() for weights in net.parameters())
    assert 2 * total < 3_000_000


def paint(folder: Path, n: int) -> None:
    """Pictures in colour: red grows to the right, green downwards, blue is noise."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    ramp = torch.linspace(30, 220, 12).expand(12, 12)
    for i in range(n):
        colours = torch.stack([ramp, ramp.T, 255 * torch.rand(12, 12)], -1)
        pixels = (colours + 10 * torch.randn(12, 12, 3)).clamp(0, 255).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")


def test_pictures_are_read_at_a_size_that_the_pieces_divide(tmp_path: Path) -> None:
    """Nothing is stretched afterwards, which would take all of them at once."""
    paint(tmp_path / "pictures", 20)
    config = JigsawConfig(data=str(tmp_path / "pictures"), pieces=5, image_size=12, kernel_size=3)
    task = Jigsaw(config)
    expected = load_folder(config.data, size=15)
    assert (task.puzzle.height, task.puzzle.width) == (15, 15)
    assert (task.puzzle.mean, task.puzzle.std) == (expected.mean, expected.std)
    indices = torch.tensor([3, 0, 7])
    stored = task.images.train[indices]
    assert isinstance(stored, Tensor)
    assert torch.equal(stored, expected.train[indices])
    pieces = [pieces for pieces, *_ in task.solved(task.make_net(), CPU)]
    assert torch.equal(assemble(torch.cat(pieces), 5), next(expected.test.split(100)))


@pytest.mark.parametrize("net", ["conv", "transformer"])
def test_colour_pictures_from_a_folder_end_to_end(
    tmp_path: Path, net: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paint(tmp_path / "pictures", 60)
    out = tmp_path / "run"
    small = "--hidden_channels 8 --kernel_size 3 --features 16 --layers 1 --heads 2 --tau 1"
    loop = "--epochs 12 --batch_size 8 --lr 0.01 --schedule one_cycle --device cpu"
    images = f"--data {tmp_path / 'pictures'} --image_size 12 --channels 3 --pieces 2"
    options = f"{images} --net {net} {small} {loop} --out {out}".split()
    assert main(["train", "jigsaw", *options]) == 0
    rows = Run(out).read_metrics()
    assert rows[-1]["exact_reconstruction"] == 1
    assert rows[-1]["loss"] < rows[0]["loss"] / 3
    assert main(["solve", str(out), str(tmp_path / "pictures" / "0.png")]) == 0
    assert "(exact)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pieces", 0),
        ("hidden_channels", 0),
        ("kernel_size", 4),
        ("net", "resnet"),
        ("features", 0),
        ("layers", 0),
        ("heads", 5),
        ("gamma", 0.0),
        ("shift", -1),
        ("tau", 0.0),
        ("n_iters", 0),
        ("noise_scale", -1.0),
        ("n_samples", 0),
    ],
)
def test_bad_settings_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        JigsawConfig(**{name: value})
