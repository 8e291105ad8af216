"""Laws of the categorical quantizer: against N x K autograd, and the invariants of the method."""

from typing import Literal, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitsweep_trainers.quantizers.categorical import Ste, probability, quantize
from bitsweep_trainers.quantizers.categorical_compiled import kernels_of
from bitsweep_trainers.quantizers.grid import Grid, GridKind, Sharing, make_grid
from bitsweep_trainers.quantizers.hard_concrete import (
    LOG_LOWER,
    coin,
    deterministic_gate,
    draw_uniform,
    hard_concrete,
    live_probability,
    saturated_probability,
)

ALPHA = 0.5
MaskKind = Literal["hard", "fractional", "ones"]


class Gradients(NamedTuple):
    x: Tensor
    alpha: Tensor
    sigma: Tensor
    z: Tensor | None


def points_and_masks(grid: Grid) -> tuple[Tensor, list[int]]:
    """All n, and for each the index of its mask + 1 (0: never masked)."""
    points = [(n, run.mask) for run in grid.runs for n in range(run.low, run.high + 1)]
    n = torch.tensor([point for point, _ in points], dtype=torch.float64)
    return n, [0 if mask is None else mask + 1 for _, mask in points]


def naive(
    x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid, ste: Ste
) -> tuple[Tensor, Tensor]:
    """x_hat whose gradient autograd finds, and pi~ (N, K), with every point spelled out."""
    n, masks = points_and_masks(grid)
    factor = torch.ones_like(n) if z is None else torch.cat((z.new_ones(1), z))[masks]
    side = torch.where(alpha * n > x[:, None], -1, 1)  # S(a) - S(b) = S(-b) - S(-a)
    upper = torch.sigmoid(side * (alpha * (n + 0.5) - x[:, None]) / sigma)
    lower = torch.sigmoid(side * (alpha * (n - 0.5) - x[:, None]) / sigma)
    r = factor * side * (upper - lower)
    pi = r / r.sum(dim=1, keepdim=True)
    y = torch.nn.functional.one_hot(pi.argmax(dim=1), len(n)).to(x.dtype)
    through = y * pi if ste == "max" else pi
    soft = ((through - through.detach() + y) * n * alpha).sum(dim=1)
    return soft, pi


def draw_masks(grid: Grid, kind: MaskKind, generator: torch.Generator) -> Tensor | None:
    if grid.num_masks == 0:
        return None
    uniform = torch.rand(grid.num_masks, generator=generator, dtype=torch.float64)
    if kind == "ones":
        return torch.ones_like(uniform)
    return (uniform < 0.5).double() if kind == "hard" else uniform


def gradients(x_hat: Tensor, G: Tensor, inputs: list[Tensor]) -> Gradients:
    got = torch.autograd.grad(x_hat, inputs, G)
    return Gradients(got[0], got[1], got[2], got[3] if len(got) > 3 else None)


GRIDS: list[tuple[GridKind, Sharing]] = [
    ("sym", "off"),
    ("full", "off"),
    ("unsigned", "off"),
    ("sym", "bitwise"),
    ("full", "bitwise"),
    ("sym", "endpoints"),
    ("full", "endpoints"),
]
RATIOS = (0.1, 0.2, 1 / 3, 1.0)


@pytest.mark.parametrize(
    ("ste", "backend"), [("max", "eager"), ("max", "compiled"), ("full", "eager")]
)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
@pytest.mark.parametrize(("kind", "sharing"), GRIDS)
def test_the_closed_form_equals_autograd_over_every_point(
    kind: GridKind, sharing: Sharing, bits: int, ste: Ste, backend: str
) -> None:
    generator = torch.Generator().manual_seed(bits)
    grid = make_grid(kind, bits, sharing)
    for ratio in RATIOS:
        for masks in ("hard", "fractional"):
            z = draw_masks(grid, masks, generator)
            reach = min(0.2 * grid.high, 29 * ratio) * ALPHA
            low, high = ALPHA * grid.low - reach, ALPHA * grid.high + reach
            x = low + (high - low) * torch.rand(200, generator=generator, dtype=torch.float64)
            x = x[((x / ALPHA).abs() % 1 - 0.5).abs() > 1e-6].requires_grad_()
            G = torch.randn(len(x), generator=generator, dtype=torch.float64)
            alpha = torch.tensor(ALPHA, dtype=torch.float64, requires_grad=True)
            sigma = torch.tensor(ratio * ALPHA, dtype=torch.float64, requires_grad=True)
            inputs = [x, alpha, sigma] + ([] if z is None else [z.requires_grad_()])
            ours = quantize(x, alpha, sigma, z, grid=grid, ste=ste, kernels=kernels_of(backend))
            theirs, pi = naive(x, alpha, sigma, z, grid, ste)

            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
            chosen = probability(x, alpha, sigma, z, grid=grid)
            torch.testing.assert_close(chosen, pi.max(dim=1).values, rtol=0, atol=1e-9)
            for one, other in zip(
                gradients(ours, G, inputs), gradients(theirs, G, inputs), strict=True
            ):
                if one is not None and other is not None:
                    is_below_cap = other.abs() < 1e20  # of a mask at 0: LARGEST_EXPONENT
                    ours_kept, theirs_kept = one[is_below_cap], other[is_below_cap]
                    scale = max(1.0, other[is_below_cap].abs().sum().item())
                    torch.testing.assert_close(ours_kept, theirs_kept, rtol=0, atol=1e-8 * scale)


scales = st.floats(min_value=0.01, max_value=100)
ratios = st.floats(min_value=0.05, max_value=2)
seeds = st.integers(min_value=0, max_value=10_000)
widths = st.sampled_from([2, 3, 4, 5, 6, 8])
masked = st.sampled_from(["bitwise", "endpoints"])
kinds = st.sampled_from(["sym", "full"])
stes = st.sampled_from(["max", "full", "plain"])


def sample(grid: Grid, seed: int, alpha: float, *, count: int = 64, spread: float = 1.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    reach = spread * max(-grid.low, grid.high) * alpha
    x = (torch.rand(count, generator=generator, dtype=torch.float64) * 2 - 1) * reach
    return x[((x / alpha).abs() % 1 - 0.5).abs() > 1e-6]


def scalars(alpha: float, ratio: float) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor(alpha, dtype=torch.float64, requires_grad=True),
        torch.tensor(alpha * ratio, dtype=torch.float64, requires_grad=True),
    )


@settings(max_examples=40, deadline=None)
@given(kinds, widths, masked, seeds, ratios)
def test_outputs_lie_on_the_grid_under_any_masks(
    kind: GridKind, bits: int, sharing: Sharing, seed: int, ratio: float
) -> None:
    grid = make_grid(kind, bits, sharing)
    z = draw_masks(grid, "fractional", torch.Generator().manual_seed(seed))
    alpha, sigma = scalars(ALPHA, ratio)
    n = quantize(sample(grid, seed, ALPHA), alpha, sigma, z, grid=grid) / ALPHA

    torch.testing.assert_close(n, n.round(), rtol=0, atol=1e-12)
    assert grid.low <= n.min() and n.max() <= grid.high


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["sym", "full", "unsigned"]), widths, seeds, scales, ratios)
def test_without_masks_it_rounds_to_the_nearest_point_and_twice_changes_nothing(
    kind: GridKind, bits: int, seed: int, scale: float, ratio: float
) -> None:
    grid = make_grid(kind, bits)
    alpha, sigma = scalars(scale, ratio)
    x = sample(grid, seed, scale)
    x_hat = quantize(x, alpha, sigma, None, grid=grid)
    rounded = scale * (x / scale).round().clamp(grid.low, grid.high)

    torch.testing.assert_close(x_hat, rounded)
    torch.testing.assert_close(quantize(x_hat, alpha, sigma, None, grid=grid), x_hat)


@settings(max_examples=40, deadline=None)
@given(kinds, st.sampled_from([3, 4, 5, 6]), masked, seeds, ratios)
def test_hard_masks_round_to_the_nearest_kept_point(
    kind: GridKind, bits: int, sharing: Sharing, seed: int, ratio: float
) -> None:
    grid = make_grid(kind, bits, sharing)
    z = draw_masks(grid, "hard", torch.Generator().manual_seed(seed))
    assert z is not None
    n, masks = points_and_masks(grid)
    kept = ALPHA * n[torch.cat((z.new_ones(1), z))[masks] > 0]
    x = sample(grid, seed, ALPHA)
    alpha, sigma = scalars(ALPHA, ratio)
    x_hat = quantize(x, alpha, sigma, z, grid=grid)
    distance = (x[:, None] - kept).abs().min(dim=1).values

    torch.testing.assert_close((x - x_hat).abs(), distance)
    for value in (-ALPHA, 0.0, ALPHA):
        point = quantize(torch.tensor([value]).double(), alpha, sigma, z, grid=grid)
        assert point.item() == pytest.approx(value)


@settings(max_examples=30, deadline=None)
@given(kinds, widths, masked, seeds, ratios, stes)
def test_masks_of_one_are_no_masks(
    kind: GridKind, bits: int, sharing: Sharing, seed: int, ratio: float, ste: Ste
) -> None:
    grid = make_grid(kind, bits, sharing)
    z = draw_masks(grid, "ones", torch.Generator())
    x = sample(grid, seed, ALPHA).requires_grad_()
    G = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    alpha, sigma = scalars(ALPHA, ratio)
    masked_hat = quantize(x, alpha, sigma, z, grid=grid, ste=ste)
    plain_hat = quantize(x, alpha, sigma, None, grid=make_grid(kind, bits), ste=ste)
    of_masked = gradients(masked_hat, G, [x, alpha, sigma])[:3]
    of_plain = gradients(plain_hat, G, [x, alpha, sigma])[:3]

    assert torch.equal(masked_hat, plain_hat)
    for one, other in zip(of_masked, of_plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(widths, masked, seeds, ratios)
def test_the_chosen_probability_is_at_least_that_of_an_even_choice(
    bits: int, sharing: Sharing, seed: int, ratio: float
) -> None:
    grid = make_grid("sym", bits, sharing)
    z = draw_masks(grid, "hard", torch.Generator().manual_seed(seed))
    _, masks = points_and_masks(grid)
    factor = torch.ones(1) if z is None else torch.cat((z.new_ones(1), z))
    num_kept = int((factor[masks] > 0).sum())
    pi = probability(sample(grid, seed, ALPHA), *scalars(ALPHA, ratio), z, grid=grid)

    assert pi.max() <= 1 + 1e-9
    assert pi.min() >= 1 / num_kept - 1e-9


@settings(max_examples=40, deadline=None)
@given(widths, masked, seeds, st.floats(min_value=0.05, max_value=1))
def test_a_symmetric_grid_is_odd(bits: int, sharing: Sharing, seed: int, ratio: float) -> None:
    grid = make_grid("sym", bits, sharing)
    z = draw_masks(grid, "fractional", torch.Generator().manual_seed(seed))
    x = sample(grid, seed, ALPHA).requires_grad_()
    G = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    alpha, sigma = scalars(ALPHA, ratio)
    shared = [alpha, sigma] + ([] if z is None else [z.requires_grad_()])
    minus_x = (-x).detach().requires_grad_()
    hat = quantize(x, alpha, sigma, z, grid=grid)
    mirror_hat = quantize(minus_x, alpha, sigma, z, grid=grid)
    one = gradients(hat, G, [x, *shared])
    other = gradients(mirror_hat, -G, [minus_x, *shared])

    assert torch.equal(hat, -mirror_hat)
    torch.testing.assert_close(one.x, -other.x, rtol=1e-9, atol=1e-9)
    for a, b in zip(one[1:], other[1:], strict=True):
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(widths, masked, seeds, scales, ratios)
def test_only_ratios_of_x_alpha_and_sigma_matter(
    bits: int, sharing: Sharing, seed: int, scale: float, ratio: float
) -> None:
    grid = make_grid("sym", bits, sharing)
    z = draw_masks(grid, "fractional", torch.Generator().manual_seed(seed))
    x = sample(grid, seed, 1.0)
    pi = probability(x, *scalars(1.0, ratio), z, grid=grid)
    scaled = probability(scale * x, *scalars(scale, ratio), z, grid=grid)
    hat = quantize(x, *scalars(1.0, ratio), z, grid=grid)
    scaled_hat = quantize(scale * x, *scalars(scale, ratio), z, grid=grid)

    torch.testing.assert_close(pi, scaled, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(scale * hat, scaled_hat)


@settings(max_examples=40, deadline=None)
@given(widths, masked, seeds, ratios, st.sampled_from(["max", "full"]))
def test_euler_identity_holds_for_the_part_through_the_probability(
    bits: int, sharing: Sharing, seed: int, ratio: float, ste: Ste
) -> None:
    grid = make_grid("sym", bits, sharing)
    z = draw_masks(grid, "fractional", torch.Generator().manual_seed(seed))
    x = sample(grid, seed, ALPHA, spread=1.0).requires_grad_()
    alpha, sigma = scalars(ALPHA, ratio)
    hat = quantize(x, alpha, sigma, z, grid=grid, ste=ste)
    got = gradients(hat, torch.ones_like(x), [x, alpha, sigma])
    direct = (hat / alpha).sum()
    total = (x * got.x).sum() + alpha * (got.alpha - direct) + sigma * got.sigma

    assert total.item() == pytest.approx(0.0, abs=1e-9 * (1 + got.alpha.abs().item()))


def slope(x: Tensor, grid: Grid, ratio: float) -> Tensor:
    alpha, sigma = scalars(1.0, ratio)
    (dx,) = torch.autograd.grad(quantize(x, alpha, sigma, None, grid=grid).sum(), x)
    return dx


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.2, 1 / 3])
def test_the_slope_vanishes_at_centres_and_points_away_from_the_edges(ratio: float) -> None:
    grid = make_grid("sym", 6)
    offsets = torch.linspace(0.011, 0.49, 40, dtype=torch.float64)
    for n in (0, 1, 5, -12, 20):
        centre = torch.tensor([float(n)], dtype=torch.float64, requires_grad=True)
        inner = slope((n + offsets).requires_grad_(), grid, ratio)
        distance = min(31.5 - n, 31.5 + n)
        bound = abs(n) / ratio * float(torch.exp(torch.tensor(-distance / ratio)))

        assert slope(centre, grid, ratio).abs().item() <= bound + 1e-12
        assert torch.equal(inner == 0, torch.full_like(inner, n == 0, dtype=torch.bool))
        assert torch.all(inner * n <= 0)
        assert torch.all(inner.abs().diff() >= 0)


@pytest.mark.parametrize(
    ("ratio", "edge", "full_centre"),
    [(0.1, 2.4995, 0.1330), (0.2, 1.2168, 0.7066), (1 / 3, 0.6145, 0.9636), (0.5, 0.29, 0.9979)],
)
def test_the_slopes_of_the_specification_are_golden(
    ratio: float, edge: float, full_centre: float
) -> None:
    grid = make_grid("sym", 4)
    x = torch.tensor([1.5 - 1e-9], dtype=torch.float64, requires_grad=True)
    alpha, sigma = scalars(1.0, ratio)
    centre = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    full = quantize(centre, alpha, sigma, None, grid=grid, ste="full")

    assert slope(x, grid, ratio).abs().item() == pytest.approx(edge, abs=1e-3)
    assert torch.autograd.grad(full, centre)[0].item() == pytest.approx(full_centre, abs=1e-4)


@pytest.mark.parametrize("backend", ["eager", "compiled"])
@pytest.mark.parametrize("ste", ["max", "full", "plain"])
@pytest.mark.parametrize("ratio", [0.05, 1 / 3, 2.0])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_float32_stays_finite_far_outside_the_grid(
    bits: int, ratio: float, ste: Ste, backend: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    for sharing in ("off", "bitwise", "endpoints"):
        grid = make_grid("sym", bits, sharing)
        reach = 1e3 * ALPHA * 2**bits
        x = torch.cat((torch.linspace(-1, 1, 101) * reach, torch.randn(100) * grid.high))
        z = draw_masks(grid, "hard", generator)
        z = None if z is None else z.float().requires_grad_()
        alpha, sigma = (torch.tensor(one, requires_grad=True) for one in (ALPHA, ALPHA * ratio))
        kernels = kernels_of(backend)
        hat = quantize(x.requires_grad_(), alpha, sigma, z, grid=grid, ste=ste, kernels=kernels)
        inputs = [x, alpha, sigma] + ([] if z is None else [z])
        got = gradients(hat, torch.ones_like(x), inputs)

        assert all(one is None or bool(one.isfinite().all()) for one in (hat, *got))
        assert got.x[0].abs().item() < 1e-6


@settings(max_examples=40, deadline=None)
@given(widths, seeds, ratios)
def test_unsigned_inputs_up_to_zero_get_no_gradient(bits: int, seed: int, ratio: float) -> None:
    grid = make_grid("unsigned", bits)
    x = -sample(grid, seed, ALPHA).abs().requires_grad_()
    hat = quantize(x, *scalars(ALPHA, ratio), None, grid=grid)
    (dx,) = torch.autograd.grad(hat.sum(), x)

    assert not hat.any()
    assert not dx.any()


@pytest.mark.parametrize("ste", ["max", "full", "plain"])
def test_the_memory_format_is_kept_and_does_not_matter(ste: Ste) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = make_grid("unsigned", 3)
    x = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64) * 4
    G = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    last = x.to(memory_format=torch.channels_last).requires_grad_()
    alpha, sigma = scalars(ALPHA, 0.3)
    first_hat = quantize(x.requires_grad_(), alpha, sigma, None, grid=grid, ste=ste)
    last_hat = quantize(last, alpha, sigma, None, grid=grid, ste=ste)
    of_first = gradients(first_hat, G, [x, alpha, sigma])
    of_last = gradients(last_hat, G, [last, alpha, sigma])

    assert torch.equal(first_hat, last_hat)
    assert last_hat.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(of_first.x, of_last.x)
    torch.testing.assert_close(of_first.alpha, of_last.alpha)


def largest_temporary(bits: int, count: int) -> int:
    """Bytes that one backward allocates at once at most, by the profiler."""
    grid = make_grid("sym", bits, "bitwise")
    x = torch.randn(count).requires_grad_()
    z = torch.rand(grid.num_masks).requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        x_hat = quantize(x, torch.tensor(0.1), torch.tensor(0.03), z, grid=grid)
        torch.autograd.grad(x_hat, [x, z], torch.ones_like(x))
    live = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda one: one.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_peak_memory_does_not_grow_with_the_bits() -> None:
    assert largest_temporary(8, 1_000_000) <= 1.2 * largest_temporary(3, 1_000_000)


def cluster_share(ste: Ste) -> float:
    """Share of latents within 0.1 alpha of a point after noise alone has moved them."""
    generator = torch.Generator().manual_seed(0)
    grid = make_grid("sym", 4)
    alpha, sigma = torch.tensor(1.0), torch.tensor(1 / 3)
    x = torch.rand(2000, generator=generator) * 3 + 0.5
    for _ in range(3000):
        x.requires_grad_()
        G = torch.randn(len(x), generator=generator)
        (dx,) = torch.autograd.grad(quantize(x, alpha, sigma, None, grid=grid, ste=ste), x, G)
        x = (x - 0.05 * dx).detach()
    return ((x - x.round()).abs() < 0.1).float().mean().item()


def test_noise_gathers_latents_around_grid_points_under_max_alone() -> None:
    assert cluster_share("max") >= 0.8
    assert 0.15 <= cluster_share("plain") <= 0.27


@pytest.mark.parametrize("tau", [0.2, 2 / 3])
def test_hard_concrete_masks_saturate_as_often_as_the_formulas_say(tau: float) -> None:
    uniform = draw_uniform(100_000, torch.Generator().manual_seed(0)).double()
    for keep in (0.2, 0.5, 0.9):
        p = torch.logit(torch.full_like(uniform, keep)).requires_grad_()
        z = hard_concrete(p, uniform, tau)
        (dp,) = torch.autograd.grad(z.sum(), p)

        live = live_probability(p[:1], tau).item()
        assert (z > 0).float().mean().item() == pytest.approx(live, abs=1e-2)
        saturated = saturated_probability(p[:1], tau).item()
        assert (z == 1).float().mean().item() == pytest.approx(saturated, abs=1e-2)
        assert not dp[(z == 0) | (z == 1)].any()
        assert coin(p, uniform).mean().item() == pytest.approx(keep, abs=1e-2)


def test_the_deterministic_gate_rises_and_opens_at_one_twelfth() -> None:
    keep = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    gate = deterministic_gate(torch.logit(keep))

    assert torch.all(gate.diff() >= 0)
    assert torch.equal(gate > 0, keep > 1 / 12)
    assert LOG_LOWER < 0


def test_levels_and_pairs_are_grouped_as_the_paper_draws_them() -> None:
    bitwise = [(run.low, run.high, run.mask) for run in make_grid("sym", 4, "bitwise").runs]

    assert bitwise == [(-7, -4, 1), (-3, -2, 0), (-1, 1, None), (2, 3, 0), (4, 7, 1)]
    assert make_grid("full", 4, "bitwise").runs[0] == (-8, -4, 1)
    assert make_grid("full", 4, "endpoints").runs[0] == (-8, -7, 5)
    assert make_grid("sym", 4, "endpoints").num_masks == 6
    assert make_grid("sym", 2, "bitwise").num_masks == 0


def test_impossible_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 bits"):
        make_grid("sym", 1)
    with pytest.raises(ValueError, match="no pairs"):
        make_grid("unsigned", 4, "endpoints")
