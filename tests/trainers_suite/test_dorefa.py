"""DoReFa: golden numbers, what its quantizers keep, and what the method puts where."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor

from bitsweep.bits import Bits, tied
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.quantizers.dorefa import (
    DorefaWeights,
    UnitActivations,
    dorefa_weights,
    unit_levels,
    unit_weights,
)

W = torch.tensor([-0.9, -0.3, 0.1, 0.6])
X = torch.tensor([-0.2, 0.1, 0.4, 0.5, 0.9, 1.3])

vectors = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=1, max_size=40).map(
    torch.tensor
)
units = st.lists(st.floats(0, 1, width=32, allow_subnormal=False), min_size=1, max_size=40).map(
    torch.tensor
)


def weight_gradient(bits: int, *, detach_max: bool) -> Tensor:
    """dw for an upstream gradient of ones."""
    weights = W.clone().requires_grad_()
    quantized = dorefa_weights(weights, bits=bits, detach_max=detach_max)
    (gradient,) = torch.autograd.grad(quantized.sum(), weights)
    return gradient


@pytest.mark.parametrize(
    ("bits", "golden"),
    [
        (1, [-0.475, -0.475, 0.475, 0.475]),
        (2, [-1, -1 / 3, 1 / 3, 1]),
        (3, [-1, -0.428571, 0.142857, 0.714286]),
    ],
)
def test_the_goldens_of_the_weights(bits: int, golden: list[float]) -> None:
    assert unit_weights(W).tolist() == pytest.approx([0, 0.296654, 0.569572, 0.874879], abs=1e-5)
    assert dorefa_weights(W, bits=bits).tolist() == pytest.approx(golden, abs=1e-5)


@pytest.mark.parametrize(("detach_max", "first"), [(True, 0.679769), (False, 0.327791)])
def test_the_golden_gradient_differs_at_the_largest_weight_alone(
    detach_max: bool, first: float
) -> None:
    gradient = weight_gradient(2, detach_max=detach_max)

    assert gradient.tolist() == pytest.approx([first, 1.277593, 1.382199, 0.993410], abs=1e-5)


def test_the_gradient_of_one_bit_is_that_of_the_identity() -> None:
    assert weight_gradient(1, detach_max=True).tolist() == [1, 1, 1, 1]


def test_the_golden_of_the_activations_and_their_gradient() -> None:
    values = X.clone().requires_grad_()
    rounded = UnitActivations(bits=2)(values)
    rounded.sum().backward()

    assert rounded.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1], abs=1e-5)
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 1, 1, 0]


@given(weights=vectors, bits=st.integers(1, 8))
def test_weights_have_few_levels_within_one_and_keep_their_order(
    weights: Tensor, bits: int
) -> None:
    rounded = dorefa_weights(weights.sort().values, bits=bits)

    assert len(torch.unique(rounded)) <= 2**bits
    assert bool((rounded.diff() >= 0).all())
    if bits > 1:
        assert float(rounded.abs().max()) <= 1


@given(values=units, bits=st.integers(1, 8))
def test_rounding_a_level_again_changes_nothing(values: Tensor, bits: int) -> None:
    rounded = unit_levels(values, bits=bits)

    assert torch.allclose(unit_levels(rounded, bits=bits), rounded, atol=1e-6)


@given(weights=vectors)
def test_sixteen_bits_recover_the_weights_that_tanh_makes(weights: Tensor) -> None:
    squashed = torch.tanh(weights)
    peak = squashed.abs().max()
    expected = squashed / peak if peak > 0 else squashed

    assert float((dorefa_weights(weights, bits=16) - expected).abs().max()) < 2e-3


def spread_map() -> Tensor:
    """A map with values at both ends and beyond them, which alone are easily got wrong."""
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(4, 6, 5, 3, generator=draws) * 0.8 + 0.5
    values.view(-1)[:8] = torch.tensor([0.0, -0.0, 1.0, -1e-45, 1.0000001, -1.0, 2.0, 0.9999999])
    return values


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("backend", "bits"), [("eager", 2), ("eager", 8), ("compiled", 3)])
def test_activations_in_few_passes_equal_the_composed_formula(
    backend: str, bits: int, layout: torch.memory_format
) -> None:
    values, upstream = spread_map().contiguous(memory_format=layout), torch.randn(4, 6, 5, 3)
    found, composed = (values.clone().requires_grad_() for _ in range(2))
    levels = UnitActivations(bits=bits, backend=backend)(found)
    expected = unit_levels(composed.clamp(0, 1), bits=bits)
    torch.autograd.backward(levels, upstream)
    torch.autograd.backward(expected, upstream)
    assert found.grad is not None and composed.grad is not None

    assert torch.equal(levels, expected)
    if backend == "eager":
        assert torch.equal(found.grad, composed.grad)
    assert torch.allclose(found.grad, composed.grad, rtol=1e-6, atol=0)


def test_weights_that_are_all_zero_stay_finite() -> None:
    assert bool(torch.isfinite(dorefa_weights(torch.zeros(4), bits=4)).all())


def test_the_body_has_dorefa_quantizers_at_the_bits_of_the_trial() -> None:
    bits = (Bits(weight=2, activation=8),)
    trial = trial_of("dorefa", bits=bits, parameters={"activation_bits": 8, "detach_max": False})
    network = training_of(trial, few()).network
    for _, layer in quantized_layers(network.get_submodule("body")):
        weights, inputs = layer.weight_quantizer, layer.input_quantizer

        assert isinstance(weights, DorefaWeights) and isinstance(inputs, UnitActivations)
        assert (weights.bits, inputs.bits, weights.detach_max) == (2, 8, False)


def test_the_gradient_of_the_maximum_is_inert_at_one_bit() -> None:
    trial = trial_of("dorefa", 1, parameters={"detach_max": False})

    assert "detach_max" not in trial.parameters
    assert training_of(trial, few(train=32)).network is not None


@pytest.mark.parametrize(("bits", "scalars"), [(1, [2, 1, 1, 2]), (4, [2, 0, 0, 2])])
def test_fixed_ranges_store_no_scalar(bits: int, scalars: list[int]) -> None:
    found = layer_bits(trial_of("dorefa", bits), tied(bits))

    assert [one.scalars for one in found] == scalars
    assert [one.weight for one in found] == [8, bits, bits, 8]
