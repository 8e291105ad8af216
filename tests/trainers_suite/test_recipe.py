"""Training options: each means what it says, for every method, and a restart changes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.errors import Diverged, InputError
from bitsweep.measurement import Evaluation
from bitsweep.recipe import Recipe
from bitsweep.trial import Trial
from bitsweep_trainers import image, loop
from bitsweep_trainers.averaging import Average
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.methods.declared import METHODS as DECLARED

TRAINED = sorted(name for name, one in DECLARED.items() if one.trains)
WIDTHS = (2, 4)


def trained_trial(method: str, recipe: Recipe, **changes: Any) -> Trial:
    """A trial of a method at 4 bits, or at 2 and 4 where it serves several widths."""
    widths = WIDTHS if DECLARED[method].serves == "all" else (4,)
    start = "0" * 64 if DECLARED[method].needs_start else None
    return trial_of(method, *widths, recipe=recipe, start=start, **changes)


def batch_of(made: loop.Training, count: int) -> tuple[Tensor, Tensor]:
    """The first images of the training data, normalised, and their labels."""
    data = made.data
    return normalise(data.train_images[:count], data.mean, data.std), data.train_labels[:count]


def gradients(made: loop.Training, images: Tensor, labels: Tensor) -> tuple[float, list[Tensor]]:
    """The loss and every gradient of one step."""
    made.network.train()
    loss = loop.gradients(made, images, labels)
    learned = [one for group in made.groups for one in group.parameters]
    return loss, [torch.zeros_like(one) if one.grad is None else one.grad for one in learned]


def without_norms(made: loop.Training) -> loop.Training:
    """The same network with nothing in the place of its batch norms."""
    for path, module in list(made.network.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            made.network.set_submodule(path, nn.Identity())
    return made


@pytest.mark.parametrize("method", ["fp32", "lsq", "pact", "dorefa", "cpq_dropbits"])
def test_two_parts_of_64_are_a_batch_of_128_where_nothing_is_normalised(method: str) -> None:
    found = []
    for recipe in (Recipe(), Recipe(micro_batch_size=64)):
        trial = trained_trial(method, recipe, batch_size=128)
        made = without_norms(training_of(trial, few(train=128)))
        found.append(gradients(made, *batch_of(made, 128)))
    (loss, whole), (parts_loss, parts) = found

    assert parts_loss == pytest.approx(loss, rel=1e-5)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(one.abs().max()) + 1e-9)


@pytest.mark.parametrize("method", TRAINED)
def test_two_equal_parts_have_the_gradients_of_one_for_every_method(method: str) -> None:
    found = []
    for recipe, copies in ((Recipe(), 1), (Recipe(micro_batch_size=16), 2)):
        trial = trained_trial(method, recipe, batch_size=32)  # calibration looks at it
        made = training_of(trial, few())
        images, labels = batch_of(made, 16)
        found.append(gradients(made, images.repeat(copies, 1, 1, 1), labels.repeat(copies)))
    (loss, once), (twice_loss, twice) = found

    assert twice_loss == pytest.approx(loss, rel=1e-5)
    for one, other in zip(once, twice, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(one.abs().max()) + 1e-9)


def test_abn_clips_the_mean_over_the_parts_of_a_batch() -> None:
    found = []
    for recipe in (Recipe(), Recipe(micro_batch_size=16)):
        trial = trained_trial("abn", recipe, parameters={"gradient_clip": 1e-3})
        made = training_of(trial, few())
        images, labels = batch_of(made, 16)
        copies = made.trial.recipe.micro_batches(32)
        _, grads = gradients(made, images.repeat(copies, 1, 1, 1), labels.repeat(copies))
        found.append(torch.cat([one.flatten() for one in grads]))

    assert float(found[0].abs().max()) == pytest.approx(1e-3)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_parts_that_would_not_be_equal_are_refused() -> None:
    made = training_of(trial_of("fp32", recipe=Recipe(micro_batch_size=16)), few())

    with pytest.raises(ValueError, match="micro_batch_size must divide the batch of 24, got 16"):
        loop.gradients(made, *batch_of(made, 24))


def test_the_stages_of_bit_mixer_count_steps_and_not_parts() -> None:
    shares = []
    for recipe in (Recipe(), Recipe(micro_batch_size=16)):
        made = training_of(trained_trial("bit_mixer", recipe), few())
        for _ in range(3):
            gradients(made, *batch_of(made, 32))
        progress: Any = made.network.get_submodule("progress")
        shares.append(progress.share)

    assert shares[0] == shares[1] > 0


def test_the_average_of_weights_has_the_golden_values() -> None:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = Average(layer, decay=0.5)
    found = []
    for value in (1.0, 1.0, 3.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update(layer)
        found.append(float(average.values["weight"]))

    # Decays 2/11, 3/12 and 4/13, all below 0.5.
    assert found == pytest.approx([9 / 11, 21 / 22, (4 * 21 / 22 + 27) / 13])


def test_the_average_is_applied_within_the_block_alone() -> None:
    layer = nn.Linear(2, 2)
    network = nn.Sequential(layer, nn.BatchNorm1d(2))
    average = Average(network, decay=0.9)
    with torch.no_grad():
        layer.weight.mul_(2.0)
    own = layer.weight.detach().clone()
    with average.applied(network):
        inside = layer.weight.detach().clone()

    assert torch.equal(inside, own / 2)
    assert torch.equal(layer.weight, own)


def test_measured_and_kept_is_the_average(tmp_path: Path) -> None:
    recipe = Recipe(ema_decay=0.9)
    made = training_of(trial_of("fp32", epochs=1, recipe=recipe), few())
    list(loop.run(made, workspace_in(tmp_path)))
    kept = torch.load(workspace_in(tmp_path).final_checkpoint)["network"]
    assert made.average is not None
    name = "body.conv2.weight"

    assert torch.equal(kept[name], made.average.values[name])
    assert not torch.equal(kept[name], made.network.state_dict()[name])


def test_smoothed_labels_are_torchs() -> None:
    logits, labels = torch.randn(5, 10), torch.tensor([0, 3, 9, 3, 1])
    trial = trial_of("fp32", recipe=Recipe(label_smoothing=0.1))
    probabilities = loop.smoothed(labels, trial)
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.1)

    assert probabilities[0].tolist() == pytest.approx([0.91] + 9 * [0.01])
    assert float(functional.cross_entropy(logits, probabilities)) == pytest.approx(float(expected))


def test_labels_without_smoothing_stay_whole_numbers() -> None:
    labels = torch.tensor([0, 3])

    assert loop.smoothed(labels, trial_of("fp32")) is labels


@pytest.mark.parametrize("method", TRAINED)
def test_the_loss_of_every_method_is_linear_in_the_smoothing(method: str) -> None:
    """As a cross-entropy with (1 - s) onehot + s / classes is; a squared error would not be."""
    losses = []
    for smoothing in (0.0, 0.3, 0.6):
        recipe = Recipe(label_smoothing=smoothing)
        made = training_of(trained_trial(method, recipe), few())
        losses.append(gradients(made, *batch_of(made, 32))[0])

    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-4)


def test_the_learning_rate_rises_in_the_warm_up_and_then_follows_the_cosine() -> None:
    factors = [loop.schedule(step, 8, warmup_steps=4) for step in range(8)]

    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert [loop.schedule(step, 8, warmup_steps=0) for step in range(8)] == [
        loop.cosine(step, 8) for step in range(8)
    ]


def test_a_warm_up_slows_the_first_epoch(tmp_path: Path) -> None:
    made = training_of(trial_of("fp32", epochs=3, recipe=Recipe(warmup_epochs=1)), few())
    run = loop.run(made, workspace_in(tmp_path))
    next(run)
    (group,) = made.optimizers[0].param_groups[:1]
    rates = [group["lr"] / group["peak"]]
    next(run)
    rates.append(group["lr"] / group["peak"])

    assert rates == pytest.approx([1.0, loop.cosine(4, 10)])


def facts(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Evaluations without their clock."""
    return [replace(one, seconds=0.0) for one in evaluations]


@pytest.mark.parametrize("method", ["fp32", "mbquant", "bit_mixer"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_restart_changes_nothing_under_a_full_recipe(
    method: str, precision: str, tmp_path: Path
) -> None:
    recipe = Recipe(micro_batch_size=16, ema_decay=0.9, label_smoothing=0.1, warmup_epochs=1)
    trial = trained_trial(method, recipe, epochs=3, precision=precision)
    whole, cut = workspace_in(tmp_path / "whole"), workspace_in(tmp_path / "cut")
    data = few(train=64)
    uninterrupted = list(loop.run(training_of(trial, data), whole))
    first = loop.run(training_of(trial, data), cut)
    next(first), next(first)
    first.close()  # inside epoch 2's yield: only epoch 1 is saved
    after = list(loop.run(training_of(trial, data), cut))

    assert facts(after) == facts(uninterrupted[1:])


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_trains_in_bf16_and_is_measured_in_fp32(method: str) -> None:
    made = {
        precision: training_of(trained_trial(method, Recipe(), precision=precision), few())
        for precision in ("fp32", "bf16")
    }
    logits = {}
    for precision, one in made.items():
        one.network.eval()
        with torch.no_grad():
            logits[precision] = one.network(batch_of(one, 8)[0])
    losses = {name: gradients(one, *batch_of(one, 32)) for name, one in made.items()}
    (loss, exact), (rough_loss, rough) = losses["fp32"], losses["bf16"]

    assert torch.equal(logits["fp32"], logits["bf16"])
    assert rough_loss == pytest.approx(loss, rel=0.1) and rough_loss != loss
    assert all(one.dtype == torch.float32 and one.isfinite().all() for one in rough)
    assert any(not torch.equal(one, other) for one, other in zip(exact, rough, strict=True))


def test_quantizers_are_given_fp32_while_convolutions_compute_in_bf16() -> None:
    made = training_of(trial_of("lsq", 4, precision="bf16"), few())
    layer: Any = made.network.get_submodule("body.conv2")
    seen: dict[str, torch.dtype] = {}
    layer.input_quantizer.register_forward_pre_hook(
        lambda _module, inputs: seen.update(quantizer=inputs[0].dtype)
    )
    layer.register_forward_hook(lambda _m, _i, output: seen.update(layer=output.dtype))
    gradients(made, *batch_of(made, 8))

    assert seen == {"quantizer": torch.float32, "layer": torch.bfloat16}


@pytest.mark.parametrize("method", TRAINED)
def test_a_weight_that_is_not_finite_is_traced_to_its_layer(method: str, tmp_path: Path) -> None:
    made = training_of(trained_trial(method, Recipe()), few())
    layer = made.network.get_submodule("body.conv2")
    with torch.no_grad():
        layer.get_parameter("weight").view(-1)[0] = float("nan")

    with pytest.raises(Diverged, match=r"loss is nan at epoch 1, first in layer body\.conv2$"):
        next(loop.run(made, workspace_in(tmp_path)))


def test_a_width_that_is_not_finite_is_found_though_another_runs_last(tmp_path: Path) -> None:
    made = training_of(trained_trial("adabits", Recipe()), few())
    norm = made.network.get_submodule("body.bn2.norms.2")
    with torch.no_grad():
        norm.get_parameter("bias")[0] = float("nan")

    with pytest.raises(Diverged, match=r"at epoch 1, first in layer body\.bn2\.norms\.2"):
        next(loop.run(made, workspace_in(tmp_path)))


def test_a_validation_loss_that_is_not_finite_names_epoch_width_and_layer(tmp_path: Path) -> None:
    made = training_of(trained_trial("adabits", Recipe(), epochs=1), few())
    norm: Any = made.network.get_submodule("body.bn2.norms.2")
    norm.running_mean[0] = float("nan")

    with pytest.raises(
        Diverged, match=r"validation loss is nan at w2a2, first in layer body\.bn2"
    ):
        next(loop.run(made, workspace_in(tmp_path)))


@pytest.mark.parametrize("method", ["fp32", "lsq", "mbquant"])
def test_the_memory_format_changes_the_layout_and_hardly_the_loss(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "load_of", lambda trial: few(train=64))
    losses = []
    for index, layout in enumerate(("channels_last", "contiguous")):
        recipe = Recipe(memory_format="contiguous") if layout == "contiguous" else Recipe()
        trial = trained_trial(method, recipe, epochs=0)
        assert image.memory_format(trial) == (
            torch.contiguous_format if layout == "contiguous" else torch.channels_last
        )
        (evaluation,) = image.train(trial, workspace_in(tmp_path / str(index)))
        losses.append([one.sums["loss"] for one in evaluation.measurements])

    # Another order of summation moves a few values over the edge of their code.
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("fp32", {"precision": "fp16"}, "precision must be one of"),
        ("fp32", {"recipe": Recipe(micro_batch_size=5)}, "must divide the batch of 32, got 5"),
        ("alq", {"recipe": Recipe(ema_decay=0.9)}, "alq cannot be trained with ema_decay = 0.9"),
    ],
)
def test_what_a_trainer_cannot_honour_is_one_error(
    method: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        next(image.train(replace(trial_of(method), **changes), workspace_in(tmp_path)))


@pytest.mark.parametrize(
    "option",
    [
        {"memory_format": "nhwc"},
        {"micro_batch_size": 0},
        {"ema_decay": 1.0},
        {"label_smoothing": 1.0},
        {"warmup_epochs": -1},
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(option: dict[str, Any]) -> None:
    (name,) = option

    with pytest.raises(ValueError, match=name):
        Recipe(**option)
