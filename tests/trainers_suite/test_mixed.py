"""Bit-Mixer taught by its FP32 start, and the greedy search for layer-wise bits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import Tensor
from torch.nn import functional

from bitsweep.cost import Convention, bitops
from bitsweep.errors import InputError
from bitsweep.space import Value
from bitsweep.trial import Trial
from bitsweep_trainers import image, loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.methods.bit_mixer import BIT_MIXER, num_steps_of
from bitsweep_trainers.mixed import logits_at, mixed_layer_bits, search_greedily, within
from bitsweep_trainers.models.declared import MODELS

WIDTHS = (2, 3, 4)
START = "0" * 64


def mixer(**parameters: Value) -> Trial:
    return trial_of("bit_mixer", *WIDTHS, start=START, epochs=1, parameters=parameters)


def searched(trial: Trial) -> loop.Training:
    """A network that is not trained, with images held out."""
    return training_of(trial, image.divided(few(), trial))


def test_the_teacher_is_the_start_network_and_no_part_of_the_state() -> None:
    taught, plain = (training_of(mixer(teacher=one), few()) for one in ("fp32", "none"))

    assert taught.network.state_dict().keys() == plain.network.state_dict().keys()
    assert len(list(taught.network.parameters())) == len(list(plain.network.parameters()))


def test_the_loss_is_the_mean_of_labels_and_teacher() -> None:
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 1, 28, 28, generator=draws), torch.arange(8)
    losses = []
    for weight in (0.0, 1.0, 0.5):
        made = training_of(mixer(teacher="fp32", distillation_weight=weight), few())
        made.network.train()
        loss = BIT_MIXER.backward(made.network, made.trial, images, labels, made.noise)
        losses.append(float(loss))

    assert abs(losses[0] - losses[1]) > 1e-4
    assert losses[2] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-4)


def test_the_teacher_never_learns() -> None:
    made = training_of(mixer(teacher="fp32"), few())
    teacher = made.network.teacher
    images = torch.randn(4, 1, 28, 28)
    before = teacher.logits(images)  # type: ignore[operator, union-attr]  # no module
    BIT_MIXER.backward(made.network, made.trial, images, torch.arange(4), made.noise)
    for optimizer in made.optimizers:
        optimizer.step()
    after = teacher.logits(images)  # type: ignore[operator, union-attr]

    assert torch.equal(before, after)


def test_a_teacher_needs_a_start() -> None:
    trial = replace(mixer(teacher="fp32"), start=None)

    with pytest.raises(InputError, match="teacher = fp32 is the start network"):
        training_of(trial, few())


def test_neither_teacher_nor_search_leave_a_trace_where_there_is_none() -> None:
    parameters = mixer().parameters

    assert not {"teacher", "search", "search_share", "distillation_weight"} & set(parameters)


def test_a_single_width_has_nothing_to_search() -> None:
    trial = trial_of("bit_mixer", 4, parameters={"search": "greedy"})

    assert trial.parameters == trial_of("bit_mixer", 4).parameters


def test_the_first_allocation_that_fits_is_taken() -> None:
    path = [(4, 4, 4), (4, 4, 3), (4, 3, 3), (3, 3, 3), (3, 3, 2), (2, 3, 2), (2, 2, 2)]

    assert within(path, 3.5) == (4, 3, 3)
    assert within(path, 2.5) == (2, 3, 2)
    assert within(path, 4.0) == (4, 4, 4)


def test_images_of_the_search_are_held_out_and_the_stages_know_it() -> None:
    made = searched(mixer(search="greedy", search_share=0.1))

    assert len(made.data.held_labels) == pytest.approx(16, abs=5)
    assert len(made.data.train_labels) + len(made.data.held_labels) == 160
    assert num_steps_of(mixer(search="greedy")) < num_steps_of(mixer())


def test_the_search_lowers_first_what_costs_the_loss_least() -> None:
    made = searched(mixer(search="greedy"))
    found = search_greedily(made.network, made.trial, made.data)

    assert list(found) == [2.5, 3.0, 3.5]
    assert all(sum(bits) / len(bits) <= budget for budget, bits in found.items())
    chosen = found[3.5]
    losses: dict[tuple[int, ...], Tensor] = {}
    images = normalise(made.data.held_images, made.data.mean, made.data.std)
    for bits in ((3, 4), (4, 3)):
        losses[bits] = functional.cross_entropy(
            logits_at(made.network, images, bits), made.data.held_labels
        )
    assert chosen == min(losses, key=lambda one: float(losses[one]))


def test_greedy_and_shuffled_bits_are_measured_after_the_last_epoch(tmp_path: Path) -> None:
    trial = replace(mixer(search="greedy"), splits=("validation", "test"))
    (evaluation,) = loop.run(searched(trial), workspace_in(tmp_path))
    mixed = [one for one in evaluation.measurements if one.allocator != "fixed"]

    assert {one.allocator for one in mixed} == {"greedy", "shuffled"}
    assert {one.split for one in mixed} == {"validation", "test"}
    for one in mixed:
        assert one.layer_bits == mixed_layer_bits(
            trial, [bits.weight for bits in one.allocation.layers]
        )


def test_equal_bits_in_every_layer_cost_what_the_width_costs() -> None:
    trial = mixer()
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    for bits in trial.bits:
        mixed = mixed_layer_bits(trial, [bits.weight] * 2)

        assert mixed == layer_bits(trial, bits)
    between = bitops(layers, mixed_layer_bits(trial, [2, 4]), Convention.BODY)
    ends = [bitops(layers, mixed_layer_bits(trial, [b, b]), Convention.BODY) for b in (2, 4)]
    assert ends[0] < between < ends[1]
