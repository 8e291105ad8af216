"""Nested codes: golden numbers, truncation that agrees with quantizing anew, closed gradients."""

from itertools import pairwise
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitsweep_trainers.quantizers.any_precision import ScaledWeights, scaled_weights
from bitsweep_trainers.quantizers.dorefa import unit_weights
from bitsweep_trainers.quantizers.nested import (
    Grid,
    NestedStep,
    NestedWeights,
    RescaledWeights,
    Truncation,
    grid_values,
    nested_weights,
    rescaled,
    step_codes,
    truncated,
    unit_codes,
)

W = torch.tensor([-0.9, -0.3, 0.1, 0.6])
U = unit_weights(W)
STEP_W = torch.tensor([-0.83, -0.34, -0.04, 0.07, 0.26, 0.71])
TENSORS = st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=30).map(torch.tensor)
GRIDS: tuple[Grid, ...] = ("released", "symmetric", "centred")


def near(found: Tensor, expected: list[float]) -> bool:
    return torch.allclose(found.detach(), torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("bits", "golden"), [(4, [0, 4, 9, 13]), (3, [0, 2, 4, 6]), (2, [0, 1, 2, 3])]
)
def test_unit_codes_are_the_golden_ones(bits: int, golden: list[int]) -> None:
    assert unit_codes(U, bits).tolist() == golden


@pytest.mark.parametrize(
    ("bits", "grid", "golden"),
    [
        (3, "symmetric", [-1, -0.428571, 0.142857, 0.714286]),
        (2, "symmetric", [-1, -1 / 3, 1 / 3, 1]),
        (2, "centred", [-0.75, -0.25, 0.25, 0.75]),
        (2, "released", [-1, -0.5, 0, 0.5]),
    ],
)
def test_grid_values_are_the_golden_ones(bits: int, grid: Grid, golden: list[float]) -> None:
    assert near(nested_weights(U, bits, grid), golden)


def test_the_released_grid_ends_one_cell_below_one() -> None:
    highest = {bits: grid_values(torch.tensor(2.0**bits - 1), bits, "released") for bits in (2, 8)}

    assert {bits: float(one) for bits, one in highest.items()} == {2: 1 - 2**-1, 8: 1 - 2**-7}


def test_rescaling_for_two_outputs_gives_the_golden_values() -> None:
    values = nested_weights(U, 2, "symmetric").view(2, 2)

    assert float(values.std()) == pytest.approx(0.860663, abs=1e-5)
    assert near(rescaled(values).flatten(), [-0.821584, -0.273861, 0.273861, 0.821584])


def test_rescaled_weights_have_variance_one_over_the_outputs() -> None:
    quantizer = RescaledWeights(bits=8, grid="centred", detach_max=True)
    weights = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))

    assert float(quantizer(weights).var()) == pytest.approx(0.1, rel=1e-4)


@settings(deadline=None)
@given(weights=TENSORS, widths=st.lists(st.integers(1, 12), min_size=2, max_size=4, unique=True))
def test_truncating_codes_gives_the_codes_of_fewer_bits(
    weights: Tensor, widths: list[int]
) -> None:
    u = unit_weights(weights)
    for high, low in pairwise(sorted(widths, reverse=True)):
        cut = truncated(unit_codes(u, high), from_bits=high, to_bits=low)

        assert torch.equal(cut, unit_codes(u, low))


@settings(deadline=None)
@given(weights=TENSORS, bits=st.integers(2, 8))
def test_nested_grids_are_monotone_have_few_levels_and_stay_in_range(
    weights: Tensor, bits: int
) -> None:
    ordered = unit_weights(weights.sort().values)
    for grid in GRIDS:
        values = nested_weights(ordered, bits, grid)

        assert bool((values.diff() >= 0).all())
        assert len(set(values.tolist())) <= 2**bits
        assert float(values.abs().max()) <= 1


@pytest.mark.parametrize("grid", GRIDS)
def test_many_bits_give_the_bounded_weights_back(grid: Grid) -> None:
    assert float((nested_weights(U, 16, grid) - (2 * U - 1)).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("detach_max", "first"), [(True, 0.679769), (False, 0.327791)], ids=["detached", "attached"]
)
def test_the_gradient_is_dorefas_whatever_the_grid(detach_max: bool, first: float) -> None:
    for grid in GRIDS:
        weights = W.clone().requires_grad_()
        NestedWeights(bits=2, grid=grid, detach_max=detach_max)(weights).sum().backward()
        assert weights.grad is not None

        assert near(weights.grad, [first, 1.277593, 1.382199, 0.993410])


@pytest.mark.parametrize(
    ("bits", "golden"),
    [
        (1, [-0.475, -0.475, 0.475, 0.475]),
        (2, [-0.475, -0.158333, 0.158333, 0.475]),
        (4, [-0.475, -0.221667, 0.095, 0.348333]),
        (8, [-0.475, -0.191863, 0.065196, 0.355784]),
    ],
)
def test_scaled_weights_are_the_golden_ones(bits: int, golden: list[float]) -> None:
    assert near(scaled_weights(W, bits=bits, detach_max=False), golden)


def test_scaled_weights_at_32_bits_are_the_bounded_ones() -> None:
    found = ScaledWeights(bits=32, detach_max=False)(W)

    assert near(found, (0.475 * (2 * U - 1)).tolist())


def test_the_codes_of_scaled_weights_are_not_nested() -> None:
    weights = torch.linspace(-1, 1, 41)
    three, four = (unit_weights(weights).mul(2**bits - 1).round() for bits in (3, 4))

    assert not torch.equal(truncated(four, from_bits=4, to_bits=3), three)


@pytest.mark.parametrize(
    ("bits", "truncation", "golden_codes", "golden"),
    [
        (4, "floor", [-8, -3, 0, 1, 3, 7], [-0.8, -0.3, 0, 0.1, 0.3, 0.7]),
        (3, "floor", [-4, -2, 0, 0, 1, 3], [-0.8, -0.4, 0, 0, 0.2, 0.6]),
        (2, "floor", [-2, -1, 0, 0, 0, 1], [-0.8, -0.4, 0, 0, 0, 0.4]),
        (3, "round", [-4, -2, 0, 0, 2, 3], [-0.8, -0.4, 0, 0, 0.4, 0.6]),
        (2, "round", [-2, -1, 0, 0, 1, 1], [-0.8, -0.4, 0, 0, 0.4, 0.4]),
    ],
)
def test_cut_steps_are_the_golden_ones(
    bits: int, truncation: Truncation, golden_codes: list[int], golden: list[float]
) -> None:
    quantizer = NestedStep(top_bits=4, truncation=truncation, drop_lowest=False)
    quantizer.step.data.fill_(0.1)
    top = torch.tensor([-8.0, -3, 0, 1, 3, 7])
    quantizer.bits = bits

    assert step_codes(top, top_bits=4, bits=bits, truncation=truncation).tolist() == golden_codes
    assert near(quantizer(STEP_W), golden)


def test_dropping_the_lowest_code_clips_one_step_earlier() -> None:
    quantizer = NestedStep(top_bits=4, truncation="floor", drop_lowest=True)
    quantizer.step.data.fill_(0.1)

    assert near(quantizer(STEP_W), [-0.7, -0.3, 0, 0.1, 0.3, 0.7])


@pytest.mark.parametrize("truncation", ["floor", "round"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_gradients_of_a_cut_step_have_their_closed_form(
    truncation: Truncation, bits: int
) -> None:
    quantizer = NestedStep(top_bits=4, truncation=truncation, drop_lowest=False)
    quantizer.step.data.fill_(0.1)
    quantizer.bits = bits
    weights = torch.cat([STEP_W, torch.tensor([-1.2, 1.1])]).requires_grad_()
    upstream = torch.tensor([1.0, -1, 2, 1, 0.5, 1, -2, 3])
    values = quantizer(weights)
    values.backward(upstream)
    is_inside = (weights > -0.8) & (weights < 0.7)
    error = torch.where(is_inside, values - weights, values).detach()
    assert weights.grad is not None and quantizer.step.grad is not None

    assert near(weights.grad, torch.where(is_inside, upstream, 0.0).tolist())
    expected = float((upstream * error).sum()) / 0.1 / sqrt(len(weights) * 7)
    assert float(quantizer.step.grad) == pytest.approx(expected, abs=1e-5)


@settings(deadline=None)
@given(weights=TENSORS, bits=st.integers(2, 8))
def test_switching_a_cut_step_and_back_loses_nothing(weights: Tensor, bits: int) -> None:
    quantizer = NestedStep(top_bits=8, truncation="floor", drop_lowest=False)
    quantizer.initialise(weights)
    before = quantizer(weights)
    quantizer.bits = bits
    assert len(set(quantizer(weights).tolist())) <= 2**bits

    quantizer.bits = 8
    assert torch.equal(quantizer(weights), before)


def test_unknown_grids_and_truncations_are_refused() -> None:
    with pytest.raises(ValueError, match="grid must be one of"):
        NestedWeights(bits=2, grid="hexagonal", detach_max=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="truncation must be one of"):
        NestedStep(top_bits=4, truncation="up", drop_lowest=False)  # type: ignore[arg-type]
