"""Min-max grids: the golden numbers of round to nearest, and what every grid keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitsweep_trainers.quantizers.uniform import (
    Grid,
    RangeRounder,
    WeightRounder,
    asymmetric_grid,
    grid_of,
    symmetric_grid,
)

W = torch.tensor([-0.9, -0.3, 0.1, 0.6])
SPLIT_W = torch.tensor([-1.0, -0.9, -0.1, 0.0, 0.1, 0.15, 0.8, 1.2])

vectors = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=1, max_size=40).map(
    torch.tensor
)


def mean_squared_error(values: Tensor, grid: Grid) -> float:
    return float(((grid.quantize(values) - values) ** 2).mean())


def test_the_asymmetric_golden_at_2_bits() -> None:
    grid = asymmetric_grid(W.min(), W.max(), bits=2)

    assert float(grid.scale) == pytest.approx(0.5)
    assert float(grid.zero_point) == 2
    assert grid.codes(W).tolist() == [0, 1, 2, 3]
    assert grid.quantize(W).tolist() == pytest.approx([-1, -0.5, 0, 0.5])
    assert mean_squared_error(W, grid) == pytest.approx(0.0175, abs=1e-5)


@pytest.mark.parametrize(
    ("bits", "scale", "values", "error"),
    [
        (2, 0.9, [-0.9, 0, 0, 0.9], 0.0475),
        (4, 0.128571, [-0.9, -0.257143, 0.128571, 0.642857], 0.00112245),
    ],
)
def test_the_symmetric_goldens(bits: int, scale: float, values: list[float], error: float) -> None:
    grid = symmetric_grid(W.abs().max(), bits=bits)

    assert float(grid.scale) == pytest.approx(scale, abs=1e-5)
    assert grid.quantize(W).tolist() == pytest.approx(values, abs=1e-5)
    assert mean_squared_error(W, grid) == pytest.approx(error, abs=1e-6)


def test_the_whole_tensor_golden_of_split_quantization() -> None:
    grid = grid_of(SPLIT_W, bits=2, is_symmetric=False, is_per_channel=False)

    assert float(grid.scale) == pytest.approx(0.733333, abs=1e-5)
    assert float(grid.zero_point) == 1
    assert mean_squared_error(SPLIT_W, grid) == pytest.approx(0.027118, abs=1e-6)


@given(values=vectors, bits=st.integers(2, 8), is_symmetric=st.booleans())
def test_a_grid_has_at_most_two_to_the_bits_levels_and_keeps_zero_and_itself(
    values: Tensor, bits: int, is_symmetric: bool
) -> None:
    grid = grid_of(values, bits=bits, is_symmetric=is_symmetric, is_per_channel=False)
    rounded = grid.quantize(values)

    assert len(torch.unique(rounded)) <= 2**bits
    assert float(grid.quantize(torch.zeros(()))) == 0
    assert torch.allclose(grid.quantize(rounded), rounded, atol=1e-6)


@given(values=vectors, bits=st.integers(2, 8), is_symmetric=st.booleans())
def test_rounding_keeps_the_order_and_errs_by_a_step_at_most(
    values: Tensor, bits: int, is_symmetric: bool
) -> None:
    grid = grid_of(values, bits=bits, is_symmetric=is_symmetric, is_per_channel=False)
    rounded = grid.quantize(values.sort().values)

    assert bool((rounded.diff() >= 0).all())
    assert bool(((grid.quantize(values) - values).abs() <= 1.001 * grid.scale + 1e-6).all())


def test_a_grid_per_channel_is_the_grid_of_each_channel_alone() -> None:
    weights = torch.stack([W, 10 * W]).view(2, 2, 1, 2)
    both = WeightRounder(bits=3, is_symmetric=True, is_per_channel=True)(weights)
    alone = [
        WeightRounder(bits=3, is_symmetric=True, is_per_channel=False)(one) for one in weights
    ]

    assert torch.equal(both, torch.stack(alone))


def test_a_channel_of_zeros_stays_zero() -> None:
    rounder = WeightRounder(bits=2, is_symmetric=True, is_per_channel=True)

    assert torch.equal(rounder(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_a_range_widens_over_the_batches_it_observes() -> None:
    rounder = RangeRounder(bits=8)
    rounder.is_observing = True
    for batch in (torch.tensor([0.5, 2.0]), torch.tensor([-1.0, 0.1])):
        assert torch.equal(rounder(batch), batch)
    rounder.is_observing = False

    assert (float(rounder.minimum), float(rounder.maximum)) == (-1.0, 2.0)
    assert float(rounder(torch.tensor(5.0))) == pytest.approx(2.0, abs=0.01)
