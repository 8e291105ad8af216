"""The kernels of `categorical` in C++, one pass over memory each way; on a CPU alone.

Tensors elsewhere, and the gradient that runs through all points (`full`), go the eager way.
"""

import ctypes
from collections.abc import Sequence
from functools import cache, partial
from math import inf, nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitsweep_trainers.quantizers.categorical import EAGER, Gradients, Kernels, Ste
from bitsweep_trainers.quantizers.grid import Grid, Run
from bitsweep_trainers.quantizers.native import FLAGS, library

SOURCE = Path(__file__).with_name("categorical_kernels.cpp")
Flags = tuple[str, ...]
NAMES = {torch.float32: "float32", torch.float64: "float64"}


def _function(name: str, x: Tensor, flags: Flags) -> Any:  # ctypes has no types for what it loads
    return getattr(library(SOURCE, flags), f"{name}_{NAMES[x.dtype]}")


def _place(values: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.data_ptr())


def _span_a_grid(alpha: float, sigma: float) -> bool:
    """Whether there is a grid and a width: both positive and finite."""
    return 0 < alpha < inf and 0 < sigma < inf


def _runs_of(z: Tensor | None, grid: Grid) -> tuple[Any, ...]:  # C arrays
    """How many runs, their lowest and highest points, their masks; one run without masks."""
    if z is None:
        return *_places_of(Grid(runs=(Run(grid.low, grid.high, None),))), (ctypes.c_double * 1)(
            1.0
        )
    masks = z.tolist()
    values = [1.0 if run.mask is None else masks[run.mask] for run in grid.runs]
    return *_places_of(grid), (ctypes.c_double * len(values))(*values)


@cache
def _places_of(grid: Grid) -> tuple[Any, ...]:  # C arrays
    """How many runs, their lowest and their highest points: read, never written."""
    count = len(grid.runs)
    return (
        count,
        (ctypes.c_int32 * count)(*(run.low for run in grid.runs)),
        (ctypes.c_int32 * count)(*(run.high for run in grid.runs)),
    )


def _choose(
    flags: Flags, x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid
) -> Tensor:
    if not x.is_cpu:
        return EAGER.choose(x, alpha, sigma, z, grid)
    step, width = alpha.item(), sigma.item()
    if not _span_a_grid(step, width):
        return torch.full_like(x, nan)
    y = torch.empty_like(x)
    _function("choose", x, flags)(
        *(_place(x), _place(y), ctypes.c_int64(x.numel())),
        *(ctypes.c_double(step), ctypes.c_double(width)),
        *(*_runs_of(z, grid), torch.get_num_threads()),
    )
    return y


def _gradients(
    flags: Flags,
    G: Tensor,
    x: Tensor,
    y: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    z: Tensor | None,
    grid: Grid,
    ste: Ste,
) -> Gradients:
    if not x.is_cpu or ste == "full":
        return EAGER.gradients(G, x, y, alpha, sigma, z, grid, ste)
    step, width = alpha.item(), sigma.item()
    if not _span_a_grid(step, width):
        return _not_a_number(x, alpha, sigma, z)
    dx = torch.empty_like(x)
    runs = _runs_of(z, grid)
    sums = (ctypes.c_double * (3 + runs[0]))()
    _function("slopes", x, flags)(
        *(_place(x), _place(y), _place(G), _place(dx), ctypes.c_int64(x.numel())),
        *(ctypes.c_double(step), ctypes.c_double(width)),
        *(*runs, int(ste == "plain"), sums, torch.get_num_threads()),
    )
    G_y, x_dx, dsigma, *of_runs = sums
    dalpha = (G_y - x_dx - width * dsigma) / step
    return Gradients(
        x=dx,
        alpha=alpha.new_tensor(dalpha),
        sigma=sigma.new_tensor(dsigma),
        z=None if z is None else z.new_tensor(_sums_of_masks(of_runs, grid)),
    )


def _not_a_number(x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None) -> Gradients:
    """The gradients where there is no grid: a step that takes them shows as a diverged one."""
    return Gradients(
        x=torch.full_like(x, nan),
        alpha=torch.full_like(alpha, nan),
        sigma=torch.full_like(sigma, nan),
        z=None if z is None else torch.full_like(z, nan),
    )


def _sums_of_masks(of_runs: Sequence[float], grid: Grid) -> list[float]:
    """Those of each mask, on the host, where they are: so few take no tensor."""
    sums = [0.0] * grid.num_masks
    for run, of_run in zip(grid.runs, of_runs, strict=True):
        if run.mask is not None:
            sums[run.mask] += of_run
    return sums


def kernels_with(flags: Flags) -> Kernels:
    """The kernels as compiled with these flags."""
    return Kernels(choose=partial(_choose, flags), gradients=partial(_gradients, flags))


COMPILED = kernels_with(FLAGS)


def kernels_of(backend: str) -> Kernels:
    """The kernels of a trial's backend; ValueError for one that there is not."""
    known = {"eager": EAGER, "compiled": COMPILED}
    if backend not in known:
        raise ValueError(f"backend must be one of {tuple(known)}, got {backend!r}")
    return known[backend]
