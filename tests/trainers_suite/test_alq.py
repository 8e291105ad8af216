"""ALQ: golden numbers, what multi-bit weights keep, what is removed, and fractional bits."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor

from bitsweep.bits import Bits, tied
from bitsweep.cost import Convention, MeanBits, mean_bits, size_bits
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.loop import Training
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.quantizers.multi_bit import (
    MultiBitWeights,
    best_coordinates,
    first_coordinates,
    nearest_bases,
    removal_costs,
)

BASES = torch.tensor([[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]])
ALPHA = torch.tensor([[0.5, 0.2]])
VALUES = torch.tensor([[0.7, 0.3, -0.3, -0.7]])
BOTH = torch.ones(1, 2)
LAYERS = MODELS["small-cnn"].layers((1, 28, 28), 10)
matrices = st.lists(
    st.lists(st.floats(-4, 4, width=32, allow_subnormal=False), min_size=8, max_size=8),
    min_size=1,
    max_size=4,
).map(torch.tensor)


def started(weights: Tensor, bits: int) -> MultiBitWeights:
    """A quantizer with all bases, fitted to the weights."""
    quantizer = MultiBitWeights(bits=bits, num_groups=len(weights))
    quantizer.start(weights)
    return quantizer


def made(bits: int = 4, **parameters: Any) -> Training:
    return training_of(trial_of("alq", bits, parameters=parameters), few())


def body(training: Training) -> list[tuple[Tensor, MultiBitWeights]]:
    """Weights and quantizers of the body."""
    found = []
    for _, layer in quantized_layers(training.network.get_submodule("body")):
        assert isinstance(layer.weight_quantizer, MultiBitWeights)
        found.append((layer.weight, layer.weight_quantizer))
    return found


def test_the_golden_of_the_sum_of_bases() -> None:
    assert (BASES @ ALPHA.unsqueeze(2)).flatten().tolist() == pytest.approx(VALUES[0].tolist())
    assert torch.equal(nearest_bases(VALUES, ALPHA, BOTH), BASES)
    assert best_coordinates(VALUES, BASES, BOTH)[0].tolist() == pytest.approx([0.5, 0.2], abs=1e-4)


def test_the_golden_of_removal_takes_the_second_coordinate() -> None:
    gradient, curvature = torch.tensor([[0.1, 0.02]]), torch.tensor([[2.0, 1.0]])
    costs = removal_costs(ALPHA, gradient, curvature)
    quantizer = started(VALUES, 2)
    quantizer.coordinates.copy_(ALPHA)
    quantizer.remove(costs, 1)

    assert costs[0].tolist() == pytest.approx([0.2, 0.016], abs=1e-6)
    assert quantizer.kept.tolist() == [[1, 0]]
    assert quantizer.coordinates.tolist() == [[0.5, 0]]


@given(weights=matrices, bits=st.integers(1, 5))
def test_a_group_takes_at_most_two_to_the_bases_values_and_each_is_nearest(
    weights: Tensor, bits: int
) -> None:
    quantizer = started(weights, bits)
    values = quantizer(weights)
    # Distances to all levels that the group's weights take.
    distances = (weights.unsqueeze(2) - values.unsqueeze(1)).abs()

    assert all(len(torch.unique(one)) <= 2**bits for one in values)
    assert bool(((weights - values).abs() <= distances.amin(2) + 1e-5).all())


@given(weights=matrices, bits=st.integers(1, 4))
def test_sums_of_bases_are_kept_as_they_are(weights: Tensor, bits: int) -> None:
    quantizer = started(weights, bits)
    values = quantizer(weights)

    assert torch.allclose(quantizer(values), values, atol=1e-5)


@settings(max_examples=30)
@given(weights=matrices, bits=st.integers(1, 4))
def test_a_refit_does_not_raise_the_error(weights: Tensor, bits: int) -> None:
    quantizer = MultiBitWeights(bits=bits, num_groups=len(weights))
    quantizer.start(weights)
    before = (quantizer(weights) - weights).square().sum()
    quantizer.refit(weights)
    after = (quantizer(weights) - weights).square().sum()

    assert float(after) <= float(before) * (1 + 1e-3) + 1e-4


def test_the_gradient_passes_to_the_weights_unchanged() -> None:
    quantizer = started(VALUES, 1)
    weights = VALUES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((quantizer(weights) * VALUES).sum(), weights)

    assert torch.equal(gradient, VALUES)


def test_a_channel_without_bases_is_zero() -> None:
    quantizer = started(VALUES, 2)
    quantizer.remove(torch.zeros(1, 2), 2)

    assert quantizer(VALUES).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("share", [0.3, 0.75, 1.0])
def test_what_stays_is_what_the_cost_counts(share: float) -> None:
    training = made(4, kept_share=share)
    declared = layer_bits(training.trial, tied(4))[1:3]
    for (_, quantizer), one in zip(body(training), declared, strict=True):
        kept = float(quantizer.kept.sum())

        assert one.weight == kept / len(quantizer.kept)
        assert one.scalars == kept + 1
        assert float(quantizer.kept.sum(1).max()) <= 4


def test_channels_differ_in_their_bits() -> None:
    counts = body(made(4))[0][1].kept.sum(1)

    assert len(torch.unique(counts)) > 1


@pytest.mark.parametrize("keeps_master", [False, True])
def test_weights_are_sums_of_bases_unless_a_master_is_kept(keeps_master: bool) -> None:
    training = made(2, keeps_master=keeps_master)
    data = training.data
    images = normalise(data.train_images[:8], data.mean, data.std)
    training.method.backward(
        training.network, training.trial, images, data.train_labels[:8], training.noise
    )
    for weight, quantizer in body(training):
        is_sum = torch.allclose(quantizer.values(weight.detach()), weight, atol=1e-5)

        assert is_sum is not keeps_master


def test_the_body_learns_by_adam_and_the_ends_by_sgd() -> None:
    groups = {one.name: one for one in made(4, basis_learning_rate=0.002).groups}

    assert (groups["bases"].optimizer, groups["bases"].learning_rate) == ("adam", 0.002)
    assert (groups["ends"].optimizer, groups["ends"].weight_decay) == ("sgd", 1e-4)
    assert [len(groups[one].parameters) for one in ("bases", "ends")] == [2, 2]


def test_more_rounds_remove_as_much() -> None:
    found = [int(body(made(3, rounds=one))[0][1].kept.sum()) for one in (1, 4)]

    assert found[0] == found[1] == 72  # 0.75 of 32 channels with 3 bases


def test_bits_are_fractions_and_coordinates_are_stored() -> None:
    bits = layer_bits(trial_of("alq", 2), tied(2))
    plain = layer_bits(trial_of("lsq", 2), tied(2))

    assert mean_bits(LAYERS, bits, MeanBits.WEIGHT) == 1.5
    extra_scalars = (48 + 96) - 2  # coordinates, instead of a step a layer
    counts_bits = 2 * (32 + 64)
    fewer = sum(layer.weights for layer in LAYERS[1:3]) // 2
    assert size_bits(LAYERS, bits, Convention.BODY) - size_bits(
        LAYERS, plain, Convention.BODY
    ) == (32 * extra_scalars + counts_bits - fewer)


def test_inputs_in_floating_point_store_no_step() -> None:
    bits = Bits(weight=2, activation=32)
    trial = trial_of("alq", bits=(bits,), parameters={"activation_bits": 32})

    assert layer_bits(trial, bits)[1].scalars == 48


@pytest.mark.parametrize("num_bases", [1, 2, 4, 6])
def test_the_nearest_sums_are_those_of_a_binary_search(num_bases: int) -> None:
    generator = torch.Generator().manual_seed(num_bases)
    rows = torch.randn(50, 3000, generator=generator)  # more than one block
    kept = (torch.rand(50, num_bases, generator=generator) < 0.8).float()
    alpha = first_coordinates(rows, num_bases)
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=num_bases)))
    levels, order = ((alpha * kept) @ signs.T).sort(1)
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    rows[:, : middles.shape[1]] = middles  # values on an edge, too
    found = torch.searchsorted(middles, rows)

    expected = signs[order.gather(1, found)] * kept.unsqueeze(1)
    assert torch.equal(nearest_bases(rows, alpha, kept), expected)
