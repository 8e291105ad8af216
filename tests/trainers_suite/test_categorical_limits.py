"""The kernels of CPQ where floats end: no grid, no width, elements far outside or infinite."""

import subprocess
import sys
from math import inf, nan
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in

from bitsweep.errors import Diverged
from bitsweep_trainers import loop
from bitsweep_trainers.quantizers.categorical import quantize
from bitsweep_trainers.quantizers.categorical_compiled import kernels_of
from bitsweep_trainers.quantizers.cluster_promoting import quantizers
from bitsweep_trainers.quantizers.grid import make_grid

BACKENDS = ("eager", "compiled")
ALPHA, SIGMA = 0.1, 0.03
NO_NUMBERS = [(nan, SIGMA), (inf, SIGMA), (ALPHA, nan), (ALPHA, inf)]
NO_SCALES = [(0.0, SIGMA), (-0.1, SIGMA), (ALPHA, 0.0)]
SECONDS = 120  # a kernel that never returns takes no signal: only another process can end it
HERE = "tests.trainers_suite.test_categorical_limits"


def said_apart(call: str) -> list[str]:
    """The lines that a call of this file prints in a process of its own, which has SECONDS."""
    program = f"from math import inf, nan; from {HERE} import *; {call}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def is_all_nan(alpha: float, sigma: float, backend: str) -> bool:
    """Whether a masked step gives NaNs alone: values, their gradients, that of alpha."""
    x = torch.linspace(-1, 1, 20, requires_grad=True)
    scales = [torch.tensor(one, requires_grad=True) for one in (alpha, sigma)]
    z = torch.tensor([0.5, 0.3], requires_grad=True)
    grid = make_grid("sym", 4, "bitwise")
    y = quantize(x, scales[0], scales[1], z, grid=grid, kernels=kernels_of(backend))
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and scales[0].grad is not None
    return all(bool(one.isnan().all()) for one in (y, x.grad, scales[0].grad))


@pytest.mark.parametrize(("alpha", "sigma"), NO_NUMBERS)
def test_without_a_grid_or_a_width_all_is_a_nan(alpha: float, sigma: float) -> None:
    assert is_all_nan(alpha, sigma, "eager")


def tell_compiled() -> None:
    """Print a line for each pair of scales that are none."""
    for alpha, sigma in NO_NUMBERS + NO_SCALES:
        print(alpha, sigma, is_all_nan(alpha, sigma, "compiled"))


def test_compiled_kernels_return_nans_where_there_is_no_grid_or_width() -> None:
    expected = [f"{alpha} {sigma} True" for alpha, sigma in NO_NUMBERS + NO_SCALES]

    assert said_apart("tell_compiled()") == expected


def train_without_a_step(folder: Path, backend: str) -> None:
    """Begin to train a network one of whose weight grids has lost its step; tell how it ends."""
    training = training_of(trial_of("cpq_dropbits", 4, backend=backend), few())
    of_second_layer = [one for one in quantizers(training.network) if one.kind == "sym"][1]
    of_second_layer.raw_alpha.data.fill_(nan)
    try:
        next(loop.run(training, workspace_in(folder)))
    except Diverged as error:
        print(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_that_lost_a_step_diverges_by_epoch_and_layer(
    backend: str, tmp_path: Path
) -> None:
    said = said_apart(f"train_without_a_step(Path({str(tmp_path)!r}), {backend!r})")

    assert said == ["loss is nan at epoch 1, first in layer body.conv2"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("z", [None, (0.5, 0.3), (1.0, 0.0), (0.0, 1.0), (1e-7, 1e-7)])
def test_elements_far_outside_go_to_the_end_that_nearer_ones_go_to(
    z: tuple[float, ...] | None, backend: str
) -> None:
    grid = make_grid("sym", 4, "bitwise")
    masks = None if z is None else torch.tensor(z)
    far = torch.tensor([1e2, 1e4, 1e8, 1e10, 3e38, inf])
    x = torch.cat((far, -far, torch.tensor([nan])))
    y = quantize(
        *(x, torch.tensor(ALPHA), torch.tensor(SIGMA), masks),
        grid=grid,
        kernels=kernels_of(backend),
    )

    assert bool((y[:6] == y[0]).all()) and y[0] > 0
    assert torch.equal(y[6:12], -y[:6])
    assert y[-1].isnan()
