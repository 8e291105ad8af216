"""Cluster-promoting quantization (arXiv 2109.02100): the most probable grid point, in closed form.

x is seen with logistic noise of width sigma; the grid is {alpha n}. The probability of a cell is a
difference of sigmoids and sums over runs of equal mask telescope, so no tensor of N x K elements
exists. The masks themselves (DropBits) are drawn elsewhere.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from bitsweep_trainers.quantizers.grid import Grid

Ste = Literal["max", "full", "plain"]

# Gradients farther out than this many sigma are below e^-30; clamping there saves the digits.
REACH_SIGMA = 30.0
# R / D of a dropped outer group has no bound; exp of this is finite in float32 after any sum, and
# a hard concrete mask at 0 multiplies it by 0.
LARGEST_EXPONENT = 60.0
# Elements of one temporary: small enough for a processor's cache, or enough to fill a GPU.
CPU_CHUNK = 1 << 15
GPU_CHUNK = 1 << 22


def quantize(
    x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, *, grid: Grid, ste: Ste = "max"
) -> Tensor:
    """x_hat = alpha n*, n* the most probable point; gradients for x, alpha, sigma and z.

    alpha, sigma: positive scalars (0-d), sigma / alpha >= 0.01. z: (grid.num_masks,) values in
    [0, 1] that multiply the probabilities of their points, or None: nothing is masked. ste: "max"
    lets the gradient into the probability of n* alone, "full" into all, "plain" is that of a
    rounding with learned step. Deterministic, without host synchronisation, O(N) memory.

    >>> from bitsweep_trainers.quantizers.grid import make_grid
    >>> x = torch.tensor([-2.0, 0.2, 0.4, 1.1])
    >>> alpha, sigma = torch.tensor(0.5), torch.tensor(0.2)
    >>> quantize(x, alpha, sigma, None, grid=make_grid("sym", 3))
    tensor([-1.5000,  0.0000,  0.5000,  1.0000])
    >>> quantize(x, alpha, sigma, torch.zeros(1), grid=make_grid("sym", 3, "bitwise"))
    tensor([-0.5000,  0.0000,  0.5000,  0.5000])
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    x_hat: Tensor = _Categorical.apply(x, alpha, sigma, z, grid, ste)  # type: ignore[no-untyped-call]
    return x_hat


def probability(
    x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, *, grid: Grid
) -> Tensor:
    """pi~ of the chosen point, shape of x: how sure the choice is; carries no gradient."""
    with torch.no_grad():
        y = _choose(x.flatten(), alpha, sigma, z, grid)
        slopes = [
            _slopes(x.flatten()[part], y[part], alpha, sigma, z, grid).pi
            for part in _parts(x, 1 if z is None else len(grid.runs))
        ]
    return torch.cat(slopes).view_as(x)


class _Categorical(torch.autograd.Function):
    """Forward 2.2-2.3 and backward 2.4 of the method card; x and x_hat are all it keeps."""

    @staticmethod
    def forward(
        ctx: Any,  # torch's context has attributes made on the fly
        x: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        z: Tensor | None,
        grid: Grid,
        ste: Ste,
    ) -> Tensor:
        if not torch.ops.aten.is_non_overlapping_and_dense(x):
            x = x.contiguous()
        y = _choose(_flat(x), alpha, sigma, z, grid).as_strided(x.shape, x.stride())
        ctx.save_for_backward(x, y, alpha, sigma, z)
        ctx.grid, ctx.ste = grid, ste
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y, alpha, sigma, z = ctx.saved_tensors
        flat_x, flat_y, G = _flat(x), _flat(y), _flat_like(gradients[0], x)
        if ctx.ste == "plain":
            dx, dalpha = _plain_gradients(flat_x, flat_y, G, alpha, ctx.grid)
            dx = dx.as_strided(x.shape, x.stride())
            return dx, dalpha, torch.zeros_like(sigma), _zeros_like(z), None, None
        dx = torch.empty_like(G)
        sums = _Sums.zeros(x, ctx.grid)
        rule = _max_gradients if ctx.ste == "max" else _full_gradients
        rows = _rows(ctx.grid, ctx.ste, z)
        for part in _parts(x, rows):
            dx[part] = rule(flat_x[part], flat_y[part], G[part], alpha, sigma, z, ctx.grid, sums)
        dalpha = (torch.dot(G, flat_y) - sums.x_dx - sigma * sums.dsigma) / alpha
        dz = None if z is None else _mask_sums(sums.dz, z, ctx.grid)
        return dx.as_strided(x.shape, x.stride()), dalpha, sums.dsigma, dz, None, None


class _Sums:
    """What the parts of a tensor add up: x dL/dx (through pi~), dL/dsigma and dL/dz per run."""

    __slots__ = ("dsigma", "dz", "x_dx")

    def __init__(self, x_dx: Tensor, dsigma: Tensor, dz: Tensor) -> None:
        self.x_dx, self.dsigma, self.dz = x_dx, dsigma, dz

    @classmethod
    def zeros(cls, like: Tensor, grid: Grid) -> "_Sums":
        return cls(like.new_zeros(()), like.new_zeros(()), like.new_zeros(len(grid.runs)))


class _Slopes(NamedTuple):
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


def _flat(values: Tensor) -> Tensor:
    """A dense tensor as one dimension in memory order, whatever its memory format."""
    return values.as_strided((values.numel(),), (1,))


def _flat_like(values: Tensor, other: Tensor) -> Tensor:
    """The values in the memory order of `other`, as one dimension."""
    if values.stride() != other.stride():
        values = torch.empty_like(other).copy_(values)
    return _flat(values)


def _zeros_like(z: Tensor | None) -> Tensor | None:
    return None if z is None else torch.zeros_like(z)


def _rows(grid: Grid, ste: Ste, z: Tensor | None) -> int:
    """Rows of the largest temporary."""
    if ste == "full":
        return grid.high - grid.low + 1
    return 1 if z is None else len(grid.runs)


def _parts(x: Tensor, rows: int) -> Iterator[slice]:
    """Slices of the flattened x, so that `rows` rows of one stay below a fixed size."""
    size = max(1, (GPU_CHUNK if x.is_cuda else CPU_CHUNK) // rows)
    for start in range(0, x.numel(), size):
        yield slice(start, start + size)


class _Table(NamedTuple):
    """A grid as tensors: of each run low, high (columns) and mask + 1; the edges between runs."""

    low: Tensor
    high: Tensor
    mask: Tensor
    edges: Tensor
    points: Tensor
    run_of_point: Tensor


@lru_cache(maxsize=256)
def _table(grid: Grid, dtype: torch.dtype, device: torch.device) -> _Table:
    """Kept per device: copying it at each step would make the host wait."""
    runs = grid.runs
    points = list(range(grid.low, grid.high + 1))
    owner = [next(i for i, run in enumerate(runs) if n <= run.high) for n in points]
    edges = [runs[0].low - 0.5, *(run.high + 0.5 for run in runs)]

    def column(values: list[int] | list[float]) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)[:, None]

    masks = [0 if run.mask is None else run.mask + 1 for run in runs]
    return _Table(
        low=column([run.low for run in runs]),
        high=column([run.high for run in runs]),
        mask=torch.tensor(masks, device=device),
        edges=column(edges),
        points=column(points),
        run_of_point=torch.tensor(owner, device=device),
    )


def _run_masks(z: Tensor, table: _Table) -> Tensor:
    """The mask value of each run as a column; 1 in the core."""
    return torch.cat((z.new_ones(1), z))[table.mask][:, None]


def _mask_sums(per_run: Tensor, z: Tensor, grid: Grid) -> Tensor:
    """Add up what belongs to the runs of one mask."""
    mask = _table(grid, per_run.dtype, per_run.device).mask
    groups = torch.arange(1, len(z) + 1, device=z.device)[:, None]
    return torch.where(mask == groups, per_run, 0.0).sum(dim=1).to(z.dtype)


def _choose(x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid) -> Tensor:
    """alpha n*; per run the nearest point stands, and the best of z r among them wins (4.2)."""
    if z is None:
        return (x / alpha).round_().clamp_(grid.low, grid.high).mul_(alpha)
    table = _table(grid, x.dtype, x.device)
    log_z = torch.log(_run_masks(z.to(x.dtype), table))
    two_cosh_h = 2 * torch.cosh(alpha / (2 * sigma))
    y = torch.empty_like(x)
    for part in _parts(x, len(grid.runs)):
        nearest = (x[part] / alpha).round_()
        points = torch.clamp(nearest, table.low, table.high).mul_(alpha)
        u = (points - x[part]).div_(sigma).abs_()
        e = torch.exp(-u)
        scores = log_z - u - torch.log1p(e * (two_cosh_h + e))
        y[part] = _best(points, scores)
    return y


def _best(points: Tensor, scores: Tensor) -> Tensor:
    """The points of the highest score, (runs, N) -> (N,); at equal ones the lowest run's.

    Row by row: torch's argmax over the first axis takes ten times as long on a CPU.
    """
    best_point, best_score = points[0], scores[0]
    for point, score in zip(points[1:], scores[1:], strict=True):
        best_point = torch.where(score > best_score, point, best_point)
        best_score = torch.maximum(score, best_score)
    return best_point


def _plain_gradients(
    x: Tensor, y: Tensor, G: Tensor, alpha: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Straight-through inside the span of the grid; alpha learns as the step of LSQ does."""
    low, high = alpha * (grid.low - 0.5), alpha * (grid.high + 0.5)
    if x.is_cpu:  # one vectorised pass
        dx = torch.ops.aten.hardtanh_backward(G, x, low.item(), high.item())
    else:
        dx = torch.where((x > low) & (x < high), G, 0.0)
    return dx, (torch.dot(G, y) - torch.dot(dx, x)) / alpha


def _psi(D: Tensor) -> Tensor:
    """D / (e^D - 1)."""
    return D / torch.expm1(D)


class _Cell(NamedTuple):
    """r = 2 sinh h e^-distance / q, t = S_lo + S_hi - 1, s = sigma dlog(r)/dsigma of one point."""

    distance: Tensor
    q: Tensor
    t: Tensor
    s: Tensor


def _cell(u: Tensor, h: Tensor) -> _Cell:
    """r = sinh h / (cosh h + cosh u), u = (alpha n - x) / sigma, by one exponential (4.1)."""
    distance = u.abs()
    e = torch.exp(-distance)
    q = (e + 2 * torch.cosh(h)).mul_(e).add_(1.0)
    t = torch.copysign((1 - e * e).div_(q), u)
    s = u * t + (2 * h * torch.sinh(h)) * e.div_(q) - (h + _psi(2 * h))
    return _Cell(distance, q, t, s)


def _within_reach(x: Tensor, alpha: Tensor, sigma: Tensor, grid: Grid) -> Tensor:
    """x, at most REACH_SIGMA outside the grid."""
    reach = REACH_SIGMA * sigma
    return torch.clamp(x, alpha * (grid.low - 0.5) - reach, alpha * (grid.high + 0.5) + reach)


def _slopes(
    x: Tensor, y: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid
) -> _Slopes:
    """pi~ of y and its logarithmic slopes at x; x and y flat."""
    x = _within_reach(x, alpha, sigma, grid)
    cell = _cell((y - x) / sigma, alpha / (2 * sigma))
    if z is None:
        return _one_run_slopes(x, cell, alpha, sigma, grid)
    return _masked_slopes(x, y, cell, alpha, sigma, z, grid)


def _one_run_slopes(x: Tensor, cell: _Cell, alpha: Tensor, sigma: Tensor, grid: Grid) -> _Slopes:
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
    return _Slopes(x, pi, cell.t - T, cell.s - S)


def _masked_slopes(
    x: Tensor, y: Tensor, cell: _Cell, alpha: Tensor, sigma: Tensor, z: Tensor, grid: Grid
) -> _Slopes:
    """The normaliser is the sum of z R over runs, held relative to r of the chosen point (4.4)."""
    table = _table(grid, x.dtype, x.device)
    z_runs = _run_masks(z.to(x.dtype), table)
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
    return _Slopes(
        x,
        (z_runs * chosen).sum(dim=0).div_(D),
        cell.t - T.mul_(weight).sum(dim=0).div_(D),
        cell.s - s.mul_(weight).sum(dim=0).div_(D),
        chosen,
        relative.div_(D),
    )


def _max_gradients(
    x: Tensor,
    y: Tensor,
    G: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    z: Tensor | None,
    grid: Grid,
    sums: _Sums,
) -> Tensor:
    """dL/dx = w dlog(pi~)/dx with w = G alpha n* pi~ (4.4); adds the rest to `sums`."""
    slopes = _slopes(x, y, alpha, sigma, z, grid)
    w = G * y * slopes.pi
    dx = w * slopes.t / sigma
    sums.x_dx += torch.dot(dx, slopes.x)
    sums.dsigma += torch.dot(w, slopes.s) / sigma
    if z is not None and slopes.chosen is not None and slopes.run_share is not None:
        z_runs = _run_masks(z.to(x.dtype), _table(grid, x.dtype, x.device))[:, 0]
        of_chosen = slopes.chosen @ w / torch.where(z_runs > 0, z_runs, 1.0)
        sums.dz += of_chosen - slopes.run_share @ w
    return dx


def _full_gradients(
    x: Tensor,
    y: Tensor,
    G: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    z: Tensor | None,
    grid: Grid,
    sums: _Sums,
) -> Tensor:
    """The slope of E[alpha n] over all points (4.5); adds the rest to `sums`.

    The deviations of n have mean 0, so slopes relative to those of n* give the same sums, with
    the digits kept far outside the grid.
    """
    x = _within_reach(x, alpha, sigma, grid)
    table = _table(grid, x.dtype, x.device)
    h = alpha / (2 * sigma)
    cell = _cell((alpha * table.points - x) / sigma, h)
    chosen = _cell((y - x) / sigma, h)
    exponent = (chosen.distance - cell.distance).clamp_max_(LARGEST_EXPONENT)
    relative = torch.exp(exponent) * chosen.q / cell.q
    z_runs = torch.ones_like(table.low) if z is None else _run_masks(z.to(x.dtype), table)
    share = relative / (z_runs[table.run_of_point] * relative).sum(dim=0)
    pi = z_runs[table.run_of_point] * share
    deviation = table.points - (table.points * pi).sum(dim=0)
    w = G * alpha
    dx = w * (deviation * pi * (cell.t - chosen.t)).sum(dim=0) / sigma
    sums.x_dx += torch.dot(dx, x)
    sums.dsigma += torch.dot(w, (deviation * pi * (cell.s - chosen.s)).sum(dim=0)) / sigma
    sums.dz.index_add_(0, table.run_of_point, (deviation * share) @ w)
    return dx
