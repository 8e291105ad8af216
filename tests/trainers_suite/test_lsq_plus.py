"""LSQ+: golden numbers, closed forms against autograd, starts, and what learns."""

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor

from bitsweep.bits import Bits
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.quantizers.learned_offset import (
    OffsetActivations,
    least_error_start,
    offset_step,
    range_start,
    weight_start,
)
from bitsweep_trainers.quantizers.learned_step import LearnedStep
from bitsweep_trainers.quantizers.ste import round_ste

X = torch.tensor([-0.25, -0.1, 0.1, 0.5, 1.2, 2.4])
W = torch.tensor([-0.9, -0.3, 0.1, 0.6])
vectors = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=2, max_size=40).map(
    torch.tensor
)
steps = st.floats(0.125, 2, width=32).map(torch.tensor)
offsets = st.floats(-2, 2, width=32).map(torch.tensor)


def gradients(
    x: Tensor, step: float, offset: float, *, bits: int = 2, gradient_scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x_hat, dx, ds, dbeta) for an upstream gradient of ones."""
    values = x.clone().requires_grad_()
    s, beta = (torch.tensor(one, requires_grad=True) for one in (step, offset))
    x_hat = offset_step(values, s, beta, bits=bits, gradient_scale=gradient_scale)
    dx, ds, d_beta = torch.autograd.grad(x_hat.sum(), (values, s, beta))
    return x_hat.detach(), dx, ds, d_beta


def composed(x: Tensor, step: Tensor, offset: Tensor, bits: int) -> list[Tensor]:
    """[x_hat, dx, ds, dbeta] by autograd over the formula with straight-through rounding."""
    leaves = [one.clone().requires_grad_() for one in (x, step, offset)]
    values, s, beta = leaves
    x_hat = round_ste(((values - beta) / s).clamp(0, 2**bits - 1)) * s + beta
    return [x_hat.detach(), *torch.autograd.grad(x_hat.sum(), leaves)]


def test_the_golden_at_2_bits() -> None:
    x_hat, dx, ds, d_beta = gradients(X, 0.4, -0.2)

    assert x_hat.tolist() == pytest.approx([-0.2, -0.2, 0.2, 0.6, 1.0, 1.0], abs=1e-5)
    assert dx.tolist() == [0, 1, 1, 1, 0, 0]
    assert float(d_beta) == pytest.approx(3, abs=1e-5)
    assert float(ds) == pytest.approx(6.25, abs=1e-5)


def test_the_gradient_scale_multiplies_both_scalars_gradients() -> None:
    _, dx, ds, d_beta = gradients(X, 0.4, -0.2, gradient_scale=0.5)

    assert dx.tolist() == [0, 1, 1, 1, 0, 0]
    assert (float(ds), float(d_beta)) == pytest.approx((3.125, 1.5), abs=1e-5)


@given(x=vectors, step=steps, offset=offsets, bits=st.integers(2, 6))
def test_the_closed_form_is_what_autograd_gives(
    x: Tensor, step: Tensor, offset: Tensor, bits: int
) -> None:
    x = x[((x - offset) / step % 1 != 0)]  # at an end of the range the derivative is a choice
    closed = gradients(x, float(step), float(offset), bits=bits)

    for one, other in zip(closed, composed(x, step, offset, bits), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)


@given(x=vectors, step=steps, offset=offsets, bits=st.integers(2, 8))
def test_values_are_few_ordered_and_fixed_points(
    x: Tensor, step: Tensor, offset: Tensor, bits: int
) -> None:
    values = offset_step(x.sort().values, step, offset, bits=bits)

    assert len(torch.unique(values)) <= 2**bits
    assert bool((values.diff() >= 0).all())
    assert torch.allclose(offset_step(values, step, offset, bits=bits), values, atol=1e-4)


@given(x=vectors)
def test_sixteen_bits_over_the_whole_range_recover_the_values(x: Tensor) -> None:
    step, offset = range_start(x, bits=16)
    error = (offset_step(x, step, offset, bits=16) - x).abs().max()

    assert float(error) <= 1e-3 * float(x.max() - x.min()) + 1e-6


@settings(max_examples=20)
@given(x=vectors, bits=st.integers(2, 4))
def test_the_start_of_least_error_errs_no_more_than_the_whole_range(x: Tensor, bits: int) -> None:
    errors = [
        float((offset_step(x, *start(x, bits=bits), bits=bits) - x).square().sum())
        for start in (least_error_start, range_start)
    ]

    assert errors[0] <= errors[1] * (1 + 1e-4) + 1e-6


def test_weights_start_at_three_deviations() -> None:
    mean, deviation = -0.125, sqrt(1.2075 / 3)

    assert float(weight_start(W, bits=3)) == pytest.approx((3 * deviation - mean) / 4, abs=1e-6)


def test_calibration_sets_the_steps_of_the_body_as_the_paper_does() -> None:
    network = training_of(trial_of("lsq_plus", 4), few()).network
    for _, layer in quantized_layers(network.get_submodule("body")):
        weights, inputs = layer.weight_quantizer, layer.input_quantizer
        assert isinstance(weights, LearnedStep) and isinstance(inputs, OffsetActivations)
        expected = float(weight_start(layer.weight.detach(), bits=4))

        assert weights.step.item() == pytest.approx(expected)
        assert 0 < inputs.step.item() < 1
        assert inputs.offset.item() == 0  # after ReLU


def test_steps_and_offsets_learn_at_one_rate_without_decay() -> None:
    given_ = {"learning_rate": 0.02, "step_learning_rate_ratio": 0.5}
    training = training_of(trial_of("lsq_plus", 4, parameters=given_), few())
    groups = {one.name: one for one in training.groups}

    assert {one: len(groups[one].parameters) for one in ("steps", "inputs")} == {
        "steps": 5,
        "inputs": 4,
    }
    for name in ("steps", "inputs"):
        assert groups[name].learning_rate == pytest.approx(0.01)
        assert groups[name].weight_decay == 0


def test_min_max_starts_span_wider_ranges_than_least_error_ones() -> None:
    spans = {}
    for start in ("mse", "min_max"):
        trial = trial_of("lsq_plus", 2, parameters={"activation_init": start})
        network = training_of(trial, few()).network
        inputs = [one for one in network.modules() if isinstance(one, OffsetActivations)]
        spans[start] = inputs[0].step.item()

    assert spans["mse"] < spans["min_max"]


def test_inputs_in_floating_point_have_neither_step_nor_offset() -> None:
    bits = (Bits(weight=4, activation=32),)
    trial = trial_of("lsq_plus", bits=bits, parameters={"activation_bits": 32})
    training = training_of(trial, few(train=32))

    assert {one.name: len(one.parameters) for one in training.groups}["inputs"] == 0
    assert [one.scalars for one in layer_bits(trial, bits[0])] == [2, 1, 1, 2]


def test_a_step_and_an_offset_are_stored_for_each_input() -> None:
    trial = trial_of("lsq_plus", 4)

    assert [one.scalars for one in layer_bits(trial, trial.bits[0])] == [2, 3, 3, 2]
