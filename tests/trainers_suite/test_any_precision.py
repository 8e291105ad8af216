"""Any-Precision: who teaches whom, the floating-point width, what is stored."""

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from bitsweep.bits import FULL_PRECISION, tied
from bitsweep.space import resolve
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.methods.any_precision import distilled_loss
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.switchable import select_switchable

LOGITS = [torch.tensor([row]) for row in ((2.0, 1, 0), (1.5, 1, 0), (1.0, 1, 0))]
LABEL = torch.tensor([0])


def losses(distillation: str, logits: list[Tensor]) -> list[Tensor]:
    """Of the widths from the largest down."""
    return [
        distilled_loss(one, logits[:place], LABEL, distillation=distillation)
        for place, one in enumerate(logits)
    ]


def test_recursive_distillation_gives_the_golden_losses() -> None:
    found = [float(one) for one in losses("recursive", LOGITS)]

    assert found == pytest.approx([0.407606, 0.861541, 0.983946], abs=1e-5)
    assert sum(found) == pytest.approx(2.253093, abs=1e-5)


def test_soft_has_the_largest_teach_all_and_hard_the_labels() -> None:
    soft, hard = losses("soft", LOGITS), losses("hard", LOGITS)
    expected = cross_entropy(LOGITS[2], softmax(LOGITS[0], 1))

    assert float(soft[2]) == pytest.approx(float(expected))
    assert [float(one) for one in hard] == [float(cross_entropy(one, LABEL)) for one in LOGITS]


def test_a_step_adds_up_the_losses_from_the_largest_width_down() -> None:
    training = training_of(trial_of("any_precision", 2, 3, 4), few())
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    logits = []
    for bits in training.trial.bits[::-1]:
        select_switchable(training.network, bits)
        logits.append(training.network(images).detach())
    expected = sum(
        float(distilled_loss(one, logits[:place], labels, distillation="recursive"))
        for place, one in enumerate(logits)
    )
    found = training.method.backward(
        training.network, training.trial, images, labels, training.noise
    )

    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_floating_point_width_trains_beside_the_others() -> None:
    trial = trial_of("any_precision", bits=(tied(1), tied(2), FULL_PRECISION))
    training = training_of(trial, few())
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    loss = training.method.backward(
        training.network, trial, images, torch.arange(8), training.noise
    )

    assert torch.isfinite(loss)
    body = layer_bits(trial, FULL_PRECISION)[1:3]
    assert [(one.weight, one.stored_bits, one.norm_copies) for one in body] == [(32, 32, 3)] * 2


def test_stored_are_the_codes_of_every_width_as_none_holds_another() -> None:
    first_body = layer_bits(trial_of("any_precision", 2, 3, 4), tied(2))[1]

    assert (first_body.weight, first_body.stored_bits) == (2, 9)
    assert (first_body.scalars, first_body.norm_copies) == (1, 3)


def test_one_width_has_no_teacher() -> None:
    declared = DECLARED["any_precision"]
    parameters = resolve(declared.parameters, {})

    assert "distillation" not in declared.canonical(parameters, (tied(4),))
    assert "distillation" in declared.canonical(parameters, (tied(2), tied(4)))
