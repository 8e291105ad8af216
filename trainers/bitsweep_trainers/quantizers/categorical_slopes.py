"""Probabilities of grid points under logistic noise and their logarithmic slopes, by element.

Numbers of sections are those of the specification that `categorical` follows. Runs are
neighbouring points of one mask; R, T, S and D are sums over them.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from bitsweep_trainers.quantizers.grid import Grid

# Gradients farther out than this many sigma are below e^-30; clamping there saves the digits.
REACH_SIGMA = 30.0
# R / D of a dropped outer group has no bound; exp of this is finite in float32 after any sum, and
# a hard concrete mask at 0 multiplies it by 0.
LARGEST_EXPONENT = 60.0


class Table(NamedTuple):
    """A grid as tensors: of each run low, high (columns) and mask + 1; the edges between runs."""

    low: Tensor
    high: Tensor
    mask: Tensor
    edges: Tensor
    points: Tensor
    run_of_point: Tensor


@lru_cache(maxsize=256)
def table_of(grid: Grid, dtype: torch.dtype, device: torch.device) -> Table:
    """The table of a grid, kept per device: copying it at each step would make the host wait."""
    runs = grid.runs
    points = list(range(grid.low, grid.high + 1))
    owner = [next(i for i, run in enumerate(runs) if n <= run.high) for n in points]
    edges = [runs[0].low - 0.5, *(run.high + 0.5 for run in runs)]

    def column(values: list[int] | list[float]) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)[:, None]

    masks = [0 if run.mask is None else run.mask + 1 for run in runs]
    return Table(
        low=column([run.low for run in runs]),
        high=column([run.high for run in runs]),
        mask=torch.tensor(masks, device=device),
        edges=column(edges),
        points=column(points),
        run_of_point=torch.tensor(owner, device=device),
    )


def run_masks(z: Tensor, table: Table) -> Tensor:
    """The mask value of each run as a column; 1 in the core."""
    return torch.cat((z.new_ones(1), z))[table.mask][:, None]


def _psi(D: Tensor) -> Tensor:
    """D / (e^D - 1)."""
    return D / torch.expm1(D)


class Cell(NamedTuple):
    """r = 2 sinh h e^-distance / q, t = S_lo + S_hi - 1, s = sigma dlog(r)/dsigma of one point."""

    distance: Tensor
    q: Tensor
    t: Tensor
    s: Tensor


def cell_of(u: Tensor, h: Tensor) -> Cell:
    """r = sinh h / (cosh h + cosh u), u = (alpha n - x) / sigma, by one exponential (4.1)."""
    distance = u.abs()
    e = torch.exp(-distance)
    q = (e + 2 * torch.cosh(h)).mul_(e).add_(1.0)
    t = torch.copysign((1 - e * e).div_(q), u)
    s = u * t + (2 * h * torch.sinh(h)) * e.div_(q) - (h + _psi(2 * h))
    return Cell(distance, q, t, s)


def within_reach(x: Tensor, alpha: Tensor, sigma: Tensor, grid: Grid) -> Tensor:
    """x, at most REACH_SIGMA outside the grid."""
    reach = REACH_SIGMA * sigma
    return torch.clamp(x, alpha * (grid.low - 0.5) - reach, alpha * (grid.high + 0.5) + reach)


class Slopes(NamedTuple):
    """pi~ of the chosen point; t = sigma dlog(pi~)/dx, s = sigma dlog(pi~)/dsigma; per element.

    x: within reach of the grid. Where points are masked also chosen: 1 for the run of the chosen
    point, 0 for the others; and run_share: R_run / D; both (runs, N).
    """

    x: Tensor
    pi: Tensor
    t: Tensor
    s: Tensor
    chosen: Tensor | None = None
    run_share: Tensor | None = None


def slopes_of(
    x: Tensor, y: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid
) -> Slopes:
    """pi~ of y and its logarithmic slopes at x; x and y flat."""
    x = within_reach(x, alpha, sigma, grid)
    cell = cell_of((y - x) / sigma, alpha / (2 * sigma))
    if z is None:
        return _one_run_slopes(x, cell, alpha, sigma, grid)
    return _masked_slopes(x, y, cell, alpha, sigma, z, grid)


def _one_run_slopes(x: Tensor, cell: Cell, alpha: Tensor, sigma: Tensor, grid: Grid) -> Slopes:
    """Nothing is masked: the normaliser is R = (1 - e^-2H) / ((1 + P) (1 + Q))."""
    low, high = alpha * (grid.low - 0.5), alpha * (grid.high + 0.5)
    H = (high - low) / (2 * sigma)
    P = torch.exp((low - x).div_(sigma))
    Q = torch.exp((x - high).div_(sigma))
    inverse = ((1 + P) * (1 + Q)).reciprocal_()
    T = (P - Q) * inverse
    R = inverse * -torch.expm1(-2 * H)
    S = ((low + high) / 2 - x).div_(sigma).mul_(T).add_(R * H) - (H + _psi(2 * H))
    sinh_h = torch.sinh(alpha / (2 * sigma))
    pi = torch.exp(-cell.distance).mul_(2 * sinh_h).div_(R * cell.q)
    return Slopes(x, pi, cell.t - T, cell.s - S)


def _masked_slopes(
    x: Tensor, y: Tensor, cell: Cell, alpha: Tensor, sigma: Tensor, z: Tensor, grid: Grid
) -> Slopes:
    """The normaliser is the sum of z R over runs, held relative to r of the chosen point (4.4)."""
    table = table_of(grid, x.dtype, x.device)
    z_runs = run_masks(z.to(x.dtype), table)
    edges = alpha * table.edges
    A = (edges - x).div_(sigma)
    e = torch.exp(-A.abs())
    inverse = (1 + e).reciprocal_()
    S = torch.where(A > 0, inverse, e * inverse)
    S_low, S_high = S[:-1], S[1:]
    D_run = alpha * (table.high - table.low + 1) / sigma
    T = S_low + S_high - 1
    s = (A[:-1] + A[1:]).mul_(0.5).mul_(T) - (D_run / 2 * (1 - S_high + S_low) + _psi(D_run))
    # R / r of the chosen point; S(A) = e^min(A, 0) / (1 + e^-|A|) keeps the digits of small R.
    exponent = cell.distance + A[1:].clamp_max(0) - A[:-1].clamp_min(0)
    scale = -torch.expm1(-D_run) / (2 * torch.sinh(alpha / (2 * sigma)))
    relative = torch.exp(exponent.clamp_max_(LARGEST_EXPONENT)).mul_(scale)
    relative = relative.mul_(inverse[:-1]).mul_(inverse[1:]).mul_(cell.q)
    weight = z_runs * relative
    D = weight.sum(dim=0)
    chosen = ((y > edges[:-1]) & (y < edges[1:])).to(x.dtype)
    return Slopes(
        x,
        (z_runs * chosen).sum(dim=0).div_(D),
        cell.t - T.mul_(weight).sum(dim=0).div_(D),
        cell.s - s.mul_(weight).sum(dim=0).div_(D),
        chosen,
        relative.div_(D),
    )
