"""Seeds that train as one network: their steps, files and failures are those of each alone.

Steps are compared in float64, where rounding is far below what is asked; in float32 the last bit
of a sum decides ties of max pools and codes at their edges (decision 084).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import few, trial_of, workspace_in
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bitsweep.errors import Diverged, InputError
from bitsweep.measurement import Evaluation
from bitsweep.recipe import Recipe
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial
from bitsweep_trainers import export, grouped, image, loop
from bitsweep_trainers.data.augment import Augmentation
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.layers import learned_steps
from bitsweep_trainers.loop import Training
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.methods.table import METHODS, method_of
from bitsweep_trainers.models.build import build
from bitsweep_trainers.stacked import mean_losses, stack

GROUPED = sorted(name for name, one in DECLARED.items() if one.groups_seeds)
BOTH = Augmentation(pad=2, is_flipped=True)
BATCH = 16
# Data by the shape of a sample, with the outputs: images, series, vectors to be restored.
SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "mobilenet-v2": ((3, 32, 32), 10),
    "signal-cnn": ((1, 32), 5),
    "channel-autoencoder": ((64,), 64),
}


def random_data(shape: tuple[int, ...], outputs: int, count: int) -> Arrays:
    """Random samples of a shape with classes, or vectors that are their own targets."""
    draws = torch.Generator().manual_seed(0)
    samples = torch.randn(count, *shape, generator=draws)
    labels = torch.randint(outputs, (count,), generator=draws)
    targets = samples if len(shape) == 1 else labels
    mean, std = (0.0,) * shape[0], (1.0,) * shape[0]
    parts = {"train": (samples, targets), "validation": (samples, targets)}
    parts["test"] = parts["validation"]
    fields = {f"{name}_images": images for name, (images, _) in parts.items()}
    fields |= {f"{name}_labels": wanted for name, (_, wanted) in parts.items()}
    if len(shape) == 1:
        mean, std = (0.0,), (1.0,)
    return Arrays(mean=mean, std=std, **fields)


def training_of(
    trial: Trial, data: Arrays, *, augmentation: Augmentation = BOTH, is_double: bool = True
) -> Training:
    """A training as `image.train` prepares it, in float64 if asked for."""
    torch.set_num_threads(1)
    outputs = SHAPES[trial.model][1] if trial.model in SHAPES else 10
    method = method_of(trial.method)
    shape = tuple(data.train_images.shape[1:])
    plain = build(trial.model, shape, outputs, loop.stream(trial.seed, "model"))
    network = method.convert(plain, trial, loop.stream(trial.seed, "convert"))
    image.calibrate(network, trial, data)
    if is_double:
        network.double()
        data = in_double(data)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
    return loop.prepare(network, method, trial=trial, data=data, augmentation=augmentation)


def in_double(data: Arrays) -> Arrays:
    """The same values, pixels over 255, in float64; classes stay whole numbers."""
    changed = {}
    for part in ("train", "validation", "test"):
        samples, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        is_pixels = not samples.is_floating_point()
        changed[f"{part}_images"] = samples.double() / 255 if is_pixels else samples.double()
        changed[f"{part}_labels"] = labels.double() if labels.is_floating_point() else labels
    return replace(data, **changed)


def trainings(
    method: str, *, model: str = "resnet8", seeds: Sequence[int] = (0, 1, 2), steps: int = 1
) -> list[Training]:
    """One training per seed of a method at 3 bits, of so many steps an epoch, in float64."""
    if model in SHAPES:
        data = random_data(*SHAPES[model], count=BATCH * steps)
    else:
        data = few(train=BATCH * steps)
    augmentation = Augmentation() if model in SHAPES else BOTH
    return [
        training_of(one, data, augmentation=augmentation)
        for one in trials(method, seeds, model=model)
    ]


def trials(method: str, seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> list[Trial]:
    """Trials that differ in seed alone."""
    fields: dict[str, Any] = {"model": "resnet8", "batch_size": BATCH, "epochs": 3} | changes
    return [trial_of(method, 3, seed=seed, **fields) for seed in seeds]


def tensors_of(training: Training) -> dict[str, Tensor]:
    """Weights, statistics, quantizer parameters and the states of the optimizers."""
    state = training.network.state_dict()
    found = {name: one for name, one in state.items() if isinstance(one, Tensor)}
    for index, optimizer in enumerate(training.optimizers):
        for number, one in optimizer.state_dict()["state"].items():
            found |= {f"{index} {number} {name}": value for name, value in one.items()}
    return found


def assert_equal(ours: Training, theirs: Training, *, within: float = 1e-10) -> None:
    """Every tensor differs by less than a share of its largest entry; the draws are the same."""
    found, wanted = tensors_of(ours), tensors_of(theirs)
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        scale = float(one.abs().max()) if one.numel() else 0.0
        torch.testing.assert_close(found[name], one, rtol=0.0, atol=within * max(scale, 1.0))
    assert torch.equal(ours.order.get_state(), theirs.order.get_state())


@pytest.mark.parametrize(
    ("method", "model"),
    [
        *((method, model) for method in GROUPED for model in ("resnet8", "small-cnn")),
        ("lsq", "lenet5"),
        ("dorefa", "lenet5"),
        ("lsq", "mobilenet-v2"),
        ("lsq", "signal-cnn"),
        ("pact", "signal-cnn"),
        ("fp32", "channel-autoencoder"),
        ("lsq", "channel-autoencoder"),
    ],
)
def test_the_first_step_of_each_seed_is_that_of_the_seed_alone(method: str, model: str) -> None:
    together, alone = (trainings(method, model=model, seeds=(0, 1)) for _ in range(2))
    assert grouped.train_epoch(together, 1) == {}
    for one in alone:
        loop.train_epoch(one, 1)

    for ours, theirs in zip(together, alone, strict=True):
        assert_equal(ours, theirs)


@pytest.mark.parametrize("method", GROUPED)
def test_in_float32_the_first_step_differs_by_its_last_digits(method: str) -> None:
    steps = []
    for train in (lambda given: grouped.train_epoch(given, 1), _each_alone):
        data = few(train=BATCH)
        made = [training_of(one, data, is_double=False) for one in trials(method)]
        train(made)
        steps.append(made)

    for ours, theirs in zip(*steps, strict=True):
        assert_equal(ours, theirs, within=1e-4)


def _each_alone(given: Sequence[Training]) -> None:
    for one in given:
        loop.train_epoch(one, 1)


@pytest.mark.parametrize("method", GROUPED)
def test_two_epochs_with_augmentation_are_those_of_each_seed_alone(method: str) -> None:
    together, alone = (trainings(method, seeds=(0, 1), steps=2) for _ in range(2))
    for epoch in (1, 2):
        grouped.train_epoch(together, epoch)
        for one in alone:
            loop.train_epoch(one, epoch)

    for ours, theirs in zip(together, alone, strict=True):
        assert_equal(ours, theirs)


def test_a_seed_does_not_depend_on_who_trains_with_it() -> None:
    groups = [trainings("lsq", seeds=seeds, steps=2) for seeds in ((0,), (2, 0, 1))]
    for one in groups:
        grouped.train_epoch(one, 1)
    ((alone,), (_, with_others, _)) = groups

    assert_equal(with_others, alone)


@pytest.mark.parametrize("recipe", [Recipe(label_smoothing=0.1), Recipe(warmup_epochs=1)])
def test_a_recipe_means_the_same_together(recipe: Recipe) -> None:
    data = few(train=2 * BATCH)
    made = [
        [training_of(one, data) for one in trials("pact", (0, 1), recipe=recipe)] for _ in range(2)
    ]
    grouped.train_epoch(made[0], 1)
    _each_alone(made[1])

    for ours, theirs in zip(*made, strict=True):
        assert_equal(ours, theirs)


def test_adam_and_clipped_gradients_are_each_seeds_own() -> None:
    made = []
    for _ in range(2):
        adapted = []
        for index, one in enumerate(trainings("lsq", steps=2)):
            weights, *others = one.groups
            # Norms differ between seeds, so that one is clipped harder than another.
            clipped = replace(weights, clip_norm=0.01, optimizer="adam", learning_rate=0.001)
            groups = (clipped, *others)
            optimizers = loop.optimizers_of(groups)
            adapted.append(replace(one, groups=groups, optimizers=optimizers))
            with torch.no_grad():
                one.network.get_parameter("head.linear.weight").mul_(1 + 5 * index)
        made.append(adapted)
    grouped.train_epoch(made[0], 1)
    _each_alone(made[1])

    for ours, theirs in zip(*made, strict=True):
        assert_equal(ours, theirs)
        assert [type(one).__name__ for one in ours.optimizers] == ["SGD", "Adam"]


def test_networks_that_differ_in_more_than_numbers_train_apart() -> None:
    made = []
    for _ in range(2):
        group = trainings("lsq", steps=2)
        signed = next(one for one in learned_steps(group[1].network) if one.role == "activation")
        signed.is_signed = not signed.is_signed
        made.append(group)
    grouped.train_epoch(made[0], 1)
    _each_alone(made[1])

    for ours, theirs in zip(*made, strict=True):
        assert_equal(ours, theirs)


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts what is computed, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["resnet8", "small-cnn"])
@pytest.mark.parametrize("method", GROUPED)
def test_a_step_computes_no_more_often_for_three_seeds_than_for_two(
    method: str, model: str
) -> None:
    found = []
    for seeds in ((0, 1), (0, 1, 2)):
        group = stack(trainings(method, model=model, seeds=seeds))
        images = torch.randn(BATCH, len(seeds), 1, 28, 28, dtype=torch.float64)
        targets = torch.randint(10, (len(seeds), BATCH))
        with _Calls() as calls:
            mean_losses(group, images, targets).sum().backward()  # type: ignore[no-untyped-call]
            for optimizer in group.optimizers:
                optimizer.step()
        found.append(calls.counts)
    convolutions = {"resnet8": 7, "small-cnn": 3}[model]

    assert found[0] == found[1]
    assert found[0]["aten.convolution.default"] == convolutions
    assert found[0]["aten.convolution_backward.default"] == convolutions


def facts(found: object) -> object:
    """What was reported without its clock."""
    if isinstance(found, tuple):
        return tuple(facts(one) for one in found)
    return replace(found, seconds=0.0) if isinstance(found, Evaluation) else found


def places(folder: Path, count: int = 3) -> list[Workspace]:
    """A workspace for each seed."""
    return [workspace_in(folder / str(index)) for index in range(count)]


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer reads 64 images of the shipped data set."""
    monkeypatch.setattr(image, "load_of", lambda trial: few(train=64))


@pytest.fixture
def in_float64() -> Iterator[None]:
    """All that is made computes in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained_both_ways(given: Sequence[Trial], folder: Path) -> list[tuple[Evaluation, Evaluation]]:
    """What each seed reports trained with the others, and alone, by seed and epoch."""
    rounds = list(image.train_group(given, places(folder / "together", len(given))))
    pairs = []
    for index, trial in enumerate(given):
        alone = image.train(trial, workspace_in(folder / f"alone{index}"))
        for one, ours in zip(alone, rounds, strict=True):
            mine = ours[index]
            assert isinstance(mine, Evaluation)
            pairs.append((mine, one))
    return pairs


@pytest.mark.usefixtures("in_float64")
def test_three_epochs_are_measured_as_those_of_each_seed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "load_of", lambda trial: few(train=48, evaluated=50))
    given = trials("lsq", (0, 1), splits=("validation", "test"))
    for ours, alone in trained_both_ways(given, tmp_path):
        assert (ours.epoch, ours.examples) == (alone.epoch, alone.examples)
        assert len(ours.measurements) == (2 if ours.epoch == 3 else 1)
        for found, wanted in zip(ours.measurements, alone.measurements, strict=True):
            assert found.sums["loss"] == pytest.approx(wanted.sums["loss"], rel=1e-6)
            assert replace(found, sums={}) == replace(wanted, sums={})


# So small a rate that float32 does not make of its last digits another network.
GENTLE: dict[str, Any] = {"parameters": {"learning_rate": 1e-3}}


@pytest.mark.parametrize("method", ["fp32", "lsq"])
def test_in_float32_three_gentle_epochs_agree_within_three_tenths_of_a_point(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "load_of", lambda trial: few(train=64, evaluated=1000))
    for ours, alone in trained_both_ways(trials(method, (0, 1), **GENTLE), tmp_path):
        (found,), (wanted,) = ours.measurements, alone.measurements

        assert found.metric("top1_percent") == pytest.approx(
            wanted.metric("top1_percent"), abs=0.3
        )
        assert found.sums["loss"] == pytest.approx(wanted.sums["loss"], rel=1e-4)


@pytest.mark.usefixtures("small_data")
def test_the_files_of_a_seed_are_those_of_a_solo_run(tmp_path: Path) -> None:
    given, here = trials("lsq", model="small-cnn"), places(tmp_path / "together")
    list(image.train_group(given, here))
    solo = workspace_in(tmp_path / "solo")
    list(image.train(given[1], solo))
    states, finals = (
        [torch.load(getattr(one, kind), weights_only=True) for one in (here[1], solo)]
        for kind in ("state_path", "final_checkpoint")
    )
    exported = export.export(
        given[1], here[1].final_checkpoint, tmp_path / "x.bits", form="packed", bits=None
    )

    assert finals[0]["trial"] == finals[1]["trial"]
    assert finals[0]["network"].keys() == finals[1]["network"].keys()
    assert states[0].keys() == states[1].keys()
    assert torch.equal(states[0]["order"], states[1]["order"])
    groups, wanted = (one["optimizers"][0]["param_groups"] for one in states)
    assert groups == wanted
    assert [(one.num_apart, one.images) for one in exported.widths] == [(0, 1000)]


@pytest.mark.usefixtures("small_data")
def test_an_interrupted_group_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    given = trials("lsq", model="small-cnn")
    whole = list(image.train_group(given, places(tmp_path / "whole")))
    cut = places(tmp_path / "cut")
    first = image.train_group(given, cut)
    before = [next(first), next(first)]
    first.close()  # inside the second round's yield: only epoch 1 is saved
    after = list(image.train_group(given, cut))

    assert facts(tuple(before)) == facts(tuple(whole[:2]))
    assert facts(tuple(after)) == facts(tuple(whole[1:]))
    assert list(image.train_group(given, cut)) == []


@pytest.mark.usefixtures("small_data")
def test_seeds_that_come_back_with_unequal_epochs_are_brought_level_first(tmp_path: Path) -> None:
    given, here = trials("fp32", **GENTLE), places(tmp_path / "here")
    whole = []
    for index, one in enumerate(image.train_group(given, places(tmp_path / "whole"))):
        whole.append(one)
        states = tmp_path / "whole" / str(2 - index) / "state.pt"
        if states.exists():  # epochs behind them: seed 1 has one, seed 0 two, seed 2 none
            copyfile(states, here[2 - index].state_path)
    after = list(image.train_group(given, here))
    epochs = [
        [one.epoch if isinstance(one, Evaluation) else one for one in each] for each in after
    ]

    assert epochs == [[None, None, 1], [None, 2, 2], [3, 3, 3]]
    for ours, theirs in zip(after[-1], whole[-1], strict=True):
        assert isinstance(ours, Evaluation) and isinstance(theirs, Evaluation)
        assert ours.measurements[0].metric("top1_percent") == pytest.approx(
            theirs.measurements[0].metric("top1_percent"), abs=0.3
        )


def _break(training: Training) -> None:
    """A weight that is no number from the start."""
    with torch.no_grad():
        training.network.get_parameter("body.stage2.0.conv1.weight")[0] = float("nan")


def _break_later(training: Training) -> None:
    """A momentum that makes a weight no number with the first step."""
    (optimizer, *_) = training.optimizers
    weight = training.network.get_parameter("body.stage2.0.conv1.weight")
    for group in optimizer.param_groups:
        for one in group["params"]:
            optimizer.state[one]["momentum_buffer"] = torch.zeros_like(one)
    optimizer.state[weight]["momentum_buffer"].fill_(float("nan"))


def _rest(training: Training) -> None:
    """Momentum of zero, as at the start, so that all are after the same step."""
    _break_later(training)
    weight = training.network.get_parameter("body.stage2.0.conv1.weight")
    training.optimizers[0].state[weight]["momentum_buffer"].zero_()


@pytest.mark.parametrize(
    ("spoil", "leave"), [(_break, lambda training: None), (_break_later, _rest)]
)
@pytest.mark.parametrize("method", ["lsq"])
def test_a_seed_that_diverges_leaves_and_the_others_do_not_notice(
    method: str,
    spoil: Callable[[Training], None],
    leave: Callable[[Training], None],
    tmp_path: Path,
) -> None:
    together, alone = trainings(method, steps=2), trainings(method, seeds=(0, 2), steps=2)
    spoil(together[1])
    for one in (together[0], together[2], *alone):
        leave(one)
    rounds = list(grouped.run(together, places(tmp_path)))
    for one in alone:
        for epoch in (1, 2, 3):
            loop.train_epoch(one, epoch)
    ended = rounds[0][1]

    assert isinstance(ended, Diverged)
    message = r"loss is nan at epoch 1, first in layer body\.stage2\.0\.conv1"
    with pytest.raises(Diverged, match=message):
        raise ended
    assert [one[1] for one in rounds[1:]] == [None, None]
    assert not places(tmp_path)[1].state_path.exists()
    for ours, theirs in zip((together[0], together[2]), alone, strict=True):
        assert_equal(ours, theirs)


def test_seeds_that_all_diverge_end_the_group(tmp_path: Path) -> None:
    together = trainings("fp32", seeds=(0, 1), steps=2)
    for one in together:
        _break(one)
    (only,) = grouped.run(together, places(tmp_path, 2))

    assert all(isinstance(one, Diverged) for one in only)


@pytest.mark.usefixtures("small_data")
def test_a_seed_that_cannot_be_measured_diverges_alone(tmp_path: Path) -> None:
    together = trainings("fp32", seeds=(0, 1))
    norm: Any = together[1].network.get_submodule("stem.bn")
    norm.running_mean[0] = float("nan")
    rounds = list(grouped.run(together, places(tmp_path, 2)))

    assert [isinstance(one[0], Evaluation) for one in rounds] == [True] * 3
    assert isinstance(rounds[0][1], Diverged) and "measured after epoch 1" in str(rounds[0][1])
    assert [one[1] for one in rounds[1:]] == [None, None]


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("lsq", {"recipe": Recipe(ema_decay=0.9)}, "with ema_decay it is not proved to be right"),
        ("lsq", {"recipe": Recipe(micro_batch_size=8)}, "with micro_batch_size it is not proved"),
        ("lsq", {"precision": "bf16"}, "with precision it is not proved to be right"),
        ("lsq", {"world_size": 2}, "with workers_per_trial it is not proved to be right"),
        ("lsq", {"backend": "compiled"}, "with the backend eager alone, got 'compiled'"),
        ("fp32", {"epochs": 0}, "at least one epoch, got 0"),
        ("mbquant", {}, "seeds_together = 2: its seeds cannot share a network"),
    ],
)
def test_what_is_not_proved_together_is_refused_with_its_reason(
    method: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = trials(method, (0, 1), **changes)

    with pytest.raises(InputError, match=message):
        next(image.train_group(given, places(tmp_path, 2)))


def test_trials_that_differ_in_more_than_seed_and_start_are_refused(tmp_path: Path) -> None:
    one = trial_of("lsq", 3)
    for other in (one, replace(one, seed=1, epochs=5), replace(one, seed=1, model="resnet8")):
        with pytest.raises(InputError, match="differ in seed and start alone"):
            next(image.train_group([one, other], places(tmp_path, 2)))


def test_methods_that_group_seeds_have_the_plain_step() -> None:
    """What a stack takes for granted: one mean loss, and the same data for every seed."""
    assert GROUPED == ["dorefa", "fp32", "lsq", "lsq_plus", "pact"]
    for name in GROUPED:
        assert METHODS[name].backward is cross_entropy_backward
        assert DECLARED[name].held_share({}) == 0
