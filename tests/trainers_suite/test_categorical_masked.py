"""Masks in the C++ kernels of CPQ, at their extremes: the choice and the gradients of every run.

Judged by the eager kernels in double precision, which `test_categorical_laws` holds against
autograd over every point.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from bitsweep_trainers.quantizers.categorical import EAGER, Gradients
from bitsweep_trainers.quantizers.categorical_compiled import COMPILED
from bitsweep_trainers.quantizers.grid import Grid, GridKind, Sharing, make_grid

ALPHA = 0.5  # a power of two: places halfway between points are exact
GRIDS: list[tuple[GridKind, Sharing]] = [
    *(("unsigned", "bitwise"), ("full", "bitwise"), ("sym", "endpoints")),
]
CASES = [
    case
    for case in product([3, 4, 8], [0.05, 1 / 3, 2.0], GRIDS)
    if case[0] < 8 or case[2][1] != "endpoints"  # 253 runs take the eager kernels a minute
]
EVERYWHERE = pytest.mark.parametrize(("bits", "ratio", "kind_and_sharing"), CASES)


def masks_of(grid: Grid) -> list[Tensor]:
    """All open; all shut; a hole below open outer points; fractions, rare ones among them."""
    count = grid.num_masks
    draws = torch.Generator().manual_seed(count)
    hole = torch.ones(count, dtype=torch.float64)
    hole[: (count + 1) // 2] = 0
    fractions = torch.rand(count, generator=draws, dtype=torch.float64)
    rare = fractions.clone()
    rare[::3] = 1e-6
    rare[1::3] = 0
    return [torch.ones_like(hole), torch.zeros_like(hole), hole, fractions, rare]


def scalars(ratio: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(ALPHA).double(), torch.tensor(ALPHA * ratio).double()


def values(grid: Grid, ratio: float) -> Tensor:
    """Float32 numbers all over the grid, densely at its core, at its ends and far outside."""
    draws = torch.Generator().manual_seed(grid.high)
    span = ALPHA * (grid.high - grid.low)
    over_all = ALPHA * grid.low + span * (1.2 * torch.rand(6000, generator=draws) - 0.1)
    core = 20 * ALPHA * (torch.rand(3000, generator=draws) - 0.5)
    beyond = ALPHA * grid.high + 60 * ratio * ALPHA * torch.rand(500, generator=draws)
    far = torch.tensor([-1e3, -3.0, 3.0, 1e3]) * span
    return torch.cat((over_all, core, beyond, far))


@EVERYWHERE
def test_the_choice_is_that_of_the_scores_ties_included(
    bits: int, ratio: float, kind_and_sharing: tuple[GridKind, Sharing]
) -> None:
    grid = make_grid(kind_and_sharing[0], bits, kind_and_sharing[1])
    halfway = ALPHA * (torch.arange(grid.low - 3, grid.high + 3) + 0.5)
    for z in masks_of(grid):
        x = torch.cat((values(grid, ratio), halfway))
        scored = EAGER.choose(x.double(), *scalars(ratio), z, grid)

        assert torch.equal(COMPILED.choose(x.double(), *scalars(ratio), z, grid), scored)
        alpha, sigma = (one.float() for one in scalars(ratio))
        found = COMPILED.choose(x, alpha, sigma, z, grid)
        shown = x[found.double() != scored]
        # sigma and z are rounded: the place where one run takes over moves by as much
        assert len(shown) <= 2, shown


def gradients(
    x: Tensor, G: Tensor, ratio: float, z: Tensor, grid: Grid, dtype: torch.dtype
) -> Gradients:
    """Those of the C++ kernels in one precision, of the points chosen in double precision."""
    y = EAGER.choose(x.double(), *scalars(ratio), z, grid)
    G, x, y, z = (one.to(dtype) for one in (G, x, y, z))
    alpha, sigma = (one.to(dtype) for one in scalars(ratio))
    return COMPILED.gradients(G, x, y, alpha, sigma, z, grid, "max")


def assert_alike(found: Gradients, expected: Gradients, tolerance: float, size: int) -> None:
    for name, one, other in zip(Gradients._fields, found, expected, strict=True):
        assert one is not None and other is not None
        assert bool(one.isfinite().all()), name
        is_below_cap = other.abs() < 1e15  # of a mask at 0: LARGEST_EXPONENT
        one, other = one.double()[is_below_cap], other[is_below_cap]
        scale = max(1.0, float(other.abs().max()) if other.numel() else 0.0)
        if name != "x":
            scale *= size**0.5
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * scale)


@EVERYWHERE
def test_gradients_at_the_extremes_are_those_of_every_run(
    bits: int,
    ratio: float,
    kind_and_sharing: tuple[GridKind, Sharing],
) -> None:
    grid = make_grid(kind_and_sharing[0], bits, kind_and_sharing[1])
    x = values(grid, ratio)
    G = torch.randn(len(x), generator=torch.Generator().manual_seed(bits))
    for z in masks_of(grid):
        y = EAGER.choose(x.double(), *scalars(ratio), z, grid)
        expected = EAGER.gradients(G.double(), x.double(), y, *scalars(ratio), z, grid, "max")
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
            found = gradients(x, G, ratio, z, grid, dtype)
            assert_alike(found, expected, tolerance, len(x))


def test_each_run_has_its_own_gradient_to_relative_precision() -> None:
    """Of a run whose sum is small beside the others', too: no sum of it is a difference."""
    grid = make_grid("unsigned", 8, "bitwise")
    z = torch.linspace(0.95, 0.6, grid.num_masks, dtype=torch.float64)
    x = torch.linspace(0.3, 25, 2000) * ALPHA  # half of the runs are far above
    y = EAGER.choose(x.double(), *scalars(1.0), z, grid)
    expected = EAGER.gradients(
        torch.ones(2000).double(), x.double(), y, *scalars(1.0), z, grid, "max"
    )
    found = gradients(x, torch.ones(2000), 1.0, z, grid, torch.float32)

    assert found.z is not None and expected.z is not None
    torch.testing.assert_close(found.z[:4].double(), expected.z[:4], rtol=1e-4, atol=0)
