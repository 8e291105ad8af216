"""Cluster-promoting quantization (arXiv 2109.02100): the most probable grid point, in closed form.

x is seen with logistic noise of width sigma; the grid is {alpha n}. The probability of a cell is a
difference of sigmoids and sums over runs of equal mask telescope, so no tensor of N x K elements
exists. The masks themselves (DropBits) are drawn elsewhere.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from bitsweep_trainers.quantizers.categorical_slopes import (
    LARGEST_EXPONENT,
    cell_of,
    run_masks,
    slopes_of,
    table_of,
    within_reach,
)
from bitsweep_trainers.quantizers.grid import Grid
from bitsweep_trainers.quantizers.learned_step import flat, flat_like

Ste = Literal["max", "full", "plain"]


class Gradients(NamedTuple):
    """dL/dx, flat, and dL/dalpha, dL/dsigma, dL/dz."""

    x: Tensor
    alpha: Tensor
    sigma: Tensor
    z: Tensor | None


class Kernels(NamedTuple):
    """The passes over memory, on tensors viewed as one dimension.

    choose(x, alpha, sigma, z, grid) -> y;  gradients(G, x, y, alpha, sigma, z, grid, ste).
    """

    choose: Callable[[Tensor, Tensor, Tensor, Tensor | None, Grid], Tensor]
    gradients: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Grid, Ste], Gradients
    ]


# Elements of one temporary: small enough for a processor's cache, or enough to fill a GPU.
CPU_CHUNK = 1 << 15
GPU_CHUNK = 1 << 22


def quantize(
    x: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    z: Tensor | None,
    *,
    grid: Grid,
    ste: Ste = "max",
    kernels: Kernels | None = None,
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
    x_hat: Tensor = _Categorical.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        x, alpha, sigma, z, grid, ste, kernels or EAGER
    )
    return x_hat


def probability(
    x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, *, grid: Grid
) -> Tensor:
    """pi~ of the chosen point, shape of x: how sure the choice is; carries no gradient."""
    with torch.no_grad():
        y = _choose(x.flatten(), alpha, sigma, z, grid)
        slopes = [
            slopes_of(x.flatten()[part], y[part], alpha, sigma, z, grid).pi
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
        kernels: Kernels,
    ) -> Tensor:
        if not torch.ops.aten.is_non_overlapping_and_dense(x):
            x = x.contiguous()
        y = kernels.choose(flat(x), alpha, sigma, z, grid).as_strided(x.shape, x.stride())
        ctx.save_for_backward(x, y, alpha, sigma, z)
        ctx.grid, ctx.ste, ctx.kernels = grid, ste, kernels
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y, alpha, sigma, z = ctx.saved_tensors
        found = ctx.kernels.gradients(
            flat_like(gradients[0], x), flat(x), flat(y), alpha, sigma, z, ctx.grid, ctx.ste
        )
        dx = found.x.as_strided(x.shape, x.stride())
        return dx, found.alpha, found.sigma, found.z, None, None, None


def _gradients(
    G: Tensor,
    x: Tensor,
    y: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    z: Tensor | None,
    grid: Grid,
    ste: Ste,
) -> Gradients:
    """Part by part, so that what is in between stays in the caches."""
    if ste == "plain":
        dx, dalpha = _plain_gradients(x, y, G, alpha, grid)
        return Gradients(dx, dalpha, torch.zeros_like(sigma), _zeros_like(z))
    dx = torch.empty_like(G)
    sums = _Sums.zeros(x, grid)
    rule = _max_gradients if ste == "max" else _full_gradients
    for part in _parts(x, _rows(grid, ste, z)):
        dx[part] = rule(x[part], y[part], G[part], alpha, sigma, z, grid, sums)
    dalpha = (torch.dot(G, y) - sums.x_dx - sigma * sums.dsigma) / alpha
    return Gradients(dx, dalpha, sums.dsigma, None if z is None else _mask_sums(sums.dz, z, grid))


class _Sums:
    """What the parts of a tensor add up: x dL/dx (through pi~), dL/dsigma and dL/dz per run."""

    __slots__ = ("dsigma", "dz", "x_dx")

    def __init__(self, x_dx: Tensor, dsigma: Tensor, dz: Tensor) -> None:
        self.x_dx, self.dsigma, self.dz = x_dx, dsigma, dz

    @classmethod
    def zeros(cls, like: Tensor, grid: Grid) -> "_Sums":
        return cls(like.new_zeros(()), like.new_zeros(()), like.new_zeros(len(grid.runs)))


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


def _mask_sums(per_run: Tensor, z: Tensor, grid: Grid) -> Tensor:
    """Add up what belongs to the runs of one mask."""
    mask = table_of(grid, per_run.dtype, per_run.device).mask
    groups = torch.arange(1, len(z) + 1, device=z.device)[:, None]
    return torch.where(mask == groups, per_run, 0.0).sum(dim=1).to(z.dtype)


def _choose(x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid) -> Tensor:
    """alpha n*; per run the nearest point stands, and the best of z r among them wins (4.2).

    Where alpha or sigma is not finite every point is a NaN.
    """
    alpha = torch.add(alpha, alpha + sigma, alpha=0)
    if z is None:
        return (x / alpha).round_().clamp_(grid.low, grid.high).mul_(alpha)
    x = within_reach(x, alpha, sigma, grid)  # scores of infinite distances cannot be compared
    table = table_of(grid, x.dtype, x.device)
    log_z = torch.log(run_masks(z.to(x.dtype), table))
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
    slopes = slopes_of(x, y, alpha, sigma, z, grid)
    w = G * y * slopes.pi
    dx = w * slopes.t / sigma
    sums.x_dx += torch.dot(dx, slopes.x)
    sums.dsigma += torch.dot(w, slopes.s) / sigma
    if z is not None and slopes.chosen is not None and slopes.run_share is not None:
        z_runs = run_masks(z.to(x.dtype), table_of(grid, x.dtype, x.device))[:, 0]
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
    x = within_reach(x, alpha, sigma, grid)
    table = table_of(grid, x.dtype, x.device)
    h = alpha / (2 * sigma)
    cell = cell_of((alpha * table.points - x) / sigma, h)
    chosen = cell_of((y - x) / sigma, h)
    exponent = (chosen.distance - cell.distance).clamp_max_(LARGEST_EXPONENT)
    relative = torch.exp(exponent) * chosen.q / cell.q
    z_runs = torch.ones_like(table.low) if z is None else run_masks(z.to(x.dtype), table)
    share = relative / (z_runs[table.run_of_point] * relative).sum(dim=0)
    pi = z_runs[table.run_of_point] * share
    deviation = table.points - (table.points * pi).sum(dim=0)
    w = G * alpha
    dx = w * (deviation * pi * (cell.t - chosen.t)).sum(dim=0) / sigma
    sums.x_dx += torch.dot(dx, x)
    sums.dsigma += torch.dot(w, (deviation * pi * (cell.s - chosen.s)).sum(dim=0)) / sigma
    sums.dz.index_add_(0, table.run_of_point, (deviation * share) @ w)
    return dx


EAGER = Kernels(choose=_choose, gradients=_gradients)
