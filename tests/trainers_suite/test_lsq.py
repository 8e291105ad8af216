"""LSQ as a method: what it puts where, what learns and how."""

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import nn

from bitsweep.bits import Bits
from bitsweep_trainers.layers import calibrate_steps, learned_steps, quantized_layers
from bitsweep_trainers.quantizers.learned_step import LearnedStep


def widths(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Bits of weights and inputs of each quantized layer."""
    found = {}
    for path, layer in quantized_layers(network):
        weight, values = layer.weight_quantizer, layer.input_quantizer
        assert isinstance(weight, LearnedStep) and isinstance(values, LearnedStep)
        found[path] = (weight.bits, values.bits)
    return found


def test_the_body_runs_at_the_bits_of_the_trial_and_the_ends_at_8() -> None:
    network = training_of(trial_of("lsq", 3), few()).network

    assert widths(network) == {
        "stem.conv": (8, 8),
        "body.conv1": (3, 3),
        "body.conv2": (3, 3),
        "head.linear": (8, 8),
    }


@pytest.mark.parametrize("activation_bits", [8, 32])
def test_fixed_activation_bits_replace_the_tied_ones(activation_bits: int) -> None:
    bits = (Bits(weight=2, activation=activation_bits),)
    trial = trial_of("lsq", bits=bits, parameters={"activation_bits": activation_bits})
    network = training_of(trial, few()).network

    assert widths(network)["body.conv1"] == (2, activation_bits)


def test_inputs_after_relu_are_unsigned_and_images_are_signed() -> None:
    network = training_of(trial_of("lsq", 4), few()).network
    signs = []
    for _, layer in quantized_layers(network):
        assert isinstance(layer.input_quantizer, LearnedStep)
        signs.append(layer.input_quantizer.is_signed)

    assert signs == [True, False, False, False]


def test_weights_decay_norms_and_steps_do_not_and_steps_have_their_rate() -> None:
    trial = trial_of(
        "lsq",
        4,
        parameters={
            "learning_rate": 0.02,
            "weight_decay": 0.003,
            "step_learning_rate_ratio": 0.5,
        },
    )
    groups = {one.name: one for one in training_of(trial, few()).groups}

    assert {name: one.weight_decay for name, one in groups.items()} == {
        "weights": 0.003,
        "norms": 0.0,
        "steps": 0.0,
    }
    assert groups["steps"].learning_rate == pytest.approx(0.01)
    assert len(groups["steps"].parameters) == 7  # two a layer, less that of the images


def test_calibration_initialises_each_step_from_its_own_tensor() -> None:
    network = training_of(trial_of("lsq", 4), few()).network
    layer = dict(quantized_layers(network))["body.conv1"]
    assert isinstance(layer.weight_quantizer, LearnedStep)
    expected = 2 * layer.weight.detach().abs().mean() / 7**0.5

    assert layer.weight_quantizer.step.item() == pytest.approx(float(expected))
    assert all(one.step.item() != 1.0 for one in learned_steps(network))


def test_calibrating_twice_on_the_same_images_changes_nothing() -> None:
    training = training_of(trial_of("lsq", 4), few())
    data = training.data
    images = torch.randn(16, *data.train_images.shape[1:])
    steps = []
    for _ in range(2):
        calibrate_steps(training.network, images)
        steps.append([one.step.item() for one in learned_steps(training.network)])

    assert steps[0] == steps[1]
