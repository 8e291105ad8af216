"""The kernels of `categorical` in C++, one pass over memory each way; on a CPU alone.

Tensors elsewhere, and the gradient that runs through all points (`full`), go the eager way.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitsweep_trainers.quantizers.categorical import EAGER, Gradients, Kernels, Ste, mask_sums
from bitsweep_trainers.quantizers.grid import Grid, Run
from bitsweep_trainers.quantizers.native import library

SOURCE = Path(__file__).with_name("categorical_kernels.cpp")
NAMES = {torch.float32: "float32", torch.float64: "float64"}


def _function(name: str, x: Tensor) -> Any:  # ctypes has no types for what it loads
    return getattr(library(SOURCE), f"{name}_{NAMES[x.dtype]}")


def _place(values: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.data_ptr())


def _scalars(alpha: Tensor, sigma: Tensor) -> tuple[ctypes.c_double, ctypes.c_double]:
    return ctypes.c_double(alpha.item()), ctypes.c_double(sigma.item())


def _runs_of(z: Tensor | None, grid: Grid) -> tuple[Any, ...]:  # C arrays
    """How many runs, their lowest and highest points, their masks; one run without masks."""
    runs = grid.runs if z is not None else (Run(grid.low, grid.high, None),)
    masks = [] if z is None else z.tolist()
    values = [1.0 if run.mask is None else masks[run.mask] for run in runs]
    count = len(runs)
    return (
        count,
        (ctypes.c_int32 * count)(*(run.low for run in runs)),
        (ctypes.c_int32 * count)(*(run.high for run in runs)),
        (ctypes.c_double * count)(*values),
    )


def _choose(x: Tensor, alpha: Tensor, sigma: Tensor, z: Tensor | None, grid: Grid) -> Tensor:
    if not x.is_cpu:
        return EAGER.choose(x, alpha, sigma, z, grid)
    y = torch.empty_like(x)
    _function("choose", x)(
        *(_place(x), _place(y), ctypes.c_int64(x.numel()), *_scalars(alpha, sigma)),
        *(*_runs_of(z, grid), torch.get_num_threads()),
    )
    return y


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
    if not x.is_cpu or ste == "full":
        return EAGER.gradients(G, x, y, alpha, sigma, z, grid, ste)
    dx = torch.empty_like(x)
    runs = _runs_of(z, grid)
    sums = (ctypes.c_double * (3 + runs[0]))()
    _function("slopes", x)(
        *(_place(x), _place(y), _place(G), _place(dx), ctypes.c_int64(x.numel())),
        *(*_scalars(alpha, sigma), *runs, int(ste == "plain"), sums, torch.get_num_threads()),
    )
    G_y, x_dx, dsigma, *of_runs = sums
    dalpha = (G_y - x_dx - sigma.item() * dsigma) / alpha.item()
    return Gradients(
        x=dx,
        alpha=alpha.new_tensor(dalpha),
        sigma=sigma.new_tensor(dsigma),
        z=None if z is None else mask_sums(z.new_tensor(of_runs), z, grid),
    )


COMPILED = Kernels(choose=_choose, gradients=_gradients)


def kernels_of(backend: str) -> Kernels:
    """The kernels of a trial's backend; ValueError for one that there is not."""
    known = {"eager": EAGER, "compiled": COMPILED}
    if backend not in known:
        raise ValueError(f"backend must be one of {tuple(known)}, got {backend!r}")
    return known[backend]
