"""The golden numbers of CPQ with DropBits: float64, alpha = 0.5, sigma = 0.2, G = 1."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from bitsweep_trainers.quantizers.categorical import Ste, probability, quantize
from bitsweep_trainers.quantizers.categorical_compiled import kernels_of
from bitsweep_trainers.quantizers.grid import Grid, make_grid
from bitsweep_trainers.quantizers.hard_concrete import (
    deterministic_gate,
    hard_concrete,
    live_probability,
    saturated_probability,
)

ALPHA, SIGMA = 0.5, 0.2
NINE = (-2.0, -0.62, 0.10, 0.37, 0.50, 0.74, 0.76, 1.20, 1.90)
SEVEN = (-3.6, -1.3, 0.2, 0.8, 1.2, 1.26, 2.6)


def float64(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str
    grid: Grid
    x: tuple[float, ...]
    points: tuple[int, ...]
    pi: tuple[float, ...]
    dx: tuple[float, ...]
    dalpha: float
    dsigma: float
    z: tuple[float, ...] | None = None
    dz: tuple[float, ...] = ()
    ste: Ste = "max"


E1_POINTS = (-3, -1, 0, 1, 1, 1, 2, 2, 3)
E1_PI = (
    *(0.8968237578, 0.5229744222, 0.5313213384, 0.5160802648, 0.5556775934),
    *(0.4358361843, 0.4361279372, 0.4966704975, 0.8836521242),
)
EXAMPLES = (
    Example(
        name="E1",
        grid=make_grid("sym", 3),
        x=NINE,
        points=E1_POINTS,
        pi=E1_PI,
        dx=(
            *(0.1545498358, -0.2662182882, 0, 0.2905752190, 0.0026585388),
            *(-0.4376878959, 0.9051706604, -0.7012683880, 0.2473797961),
        ),
        dalpha=7.5017094105,
        dsigma=-3.5409633931,
    ),
    Example(
        name="E2",
        grid=make_grid("sym", 3),
        x=NINE,
        points=E1_POINTS,
        pi=E1_PI,
        ste="full",
        dx=(
            *(0.0567228982, 0.9776011150, 0.9931432857, 0.9930278061, 0.9750926537),
            *(0.9762767191, 0.9732782508, 0.8021909550, 0.0910238679),
        ),
        dalpha=0.8741216558,
        dsigma=-1.3474701083,
    ),
    Example(
        name="E3",
        grid=make_grid("sym", 3, "bitwise"),
        x=NINE,
        z=(0.0,),
        points=(-1, -1, 0, 1, 1, 1, 1, 1, 1),
        pi=(
            *(0.9182784358, 0.7944749978, 0.5599053237, 0.5951783601, 0.7152681766),
            *(0.8459563672, 0.8523530150, 0.9105982871, 0.9181846999),
        ),
        dx=(
            *(0.0003612703, 0.2677669983, 0, 0.5217622968, 0.3947804756),
            *(0.1667748952, 0.1532118435, 0.0193939090, 0.0005955116),
        ),
        dalpha=4.1728061913,
        dsigma=-2.8718294502,
        dz=(1.8309794624,),
    ),
    Example(
        name="E4",
        grid=make_grid("sym", 3, "bitwise"),
        x=NINE,
        z=(0.25,),
        points=(-3, -1, 0, 1, 1, 1, 1, 2, 3),
        pi=(
            *(0.8741477395, 0.7032079344, 0.5524748240, 0.5732146324, 0.6673522887),
            *(0.6848468098, 0.6766001420, 0.3808387875, 0.8582052257),
        ),
        dx=(
            *(0.1872394921, 0.0370020704, 0, 0.4525916171, 0.2587031372),
            *(-0.1881995324, -0.2239933896, -0.1626850434, 0.2991335554),
        ),
        dalpha=6.6880903140,
        dsigma=-4.0353221458,
        dz=(-0.0154463727,),
    ),
    Example(
        name="E5",
        grid=make_grid("sym", 4, "bitwise"),
        x=SEVEN,
        z=(0.0, 1.0),
        points=(-7, -4, 0, 1, 1, 4, 5),
        pi=(
            *(0.7821301819, 0.5583918578, 0.5009816124, 0.8469950029),
            *(0.5584669604, 0.4769187793, 0.5403939949),
        ),
        dx=(
            *(2.0250566646, 3.9323504648, 0, 0.0630755598),
            *(-0.9839505212, 4.1687382027, -1.2399763573),
        ),
        dalpha=22.3077093052,
        dsigma=1.7500675764,
        dz=(-1.3218669901, -0.0928014882),
    ),
    Example(
        name="E6",
        grid=make_grid("sym", 4, "bitwise"),
        x=SEVEN,
        z=(0.6, 0.3),
        points=(-7, -3, 0, 1, 2, 3, 5),
        pi=(
            *(0.7819086254, 0.4704224978, 0.4800832460, 0.4890538463),
            *(0.4517029041, 0.4293943294, 0.5253427444),
        ),
        dx=(
            *(2.0271156103, 1.4954303169, 0, -0.4542617376),
            *(-0.5861859084, 1.5738382451, -1.0231350626),
        ),
        dalpha=22.8183932882,
        dsigma=0.3821320946,
        dz=(-0.1014489898, 0.1017161937),
    ),
    Example(
        name="E7",
        grid=make_grid("sym", 3, "endpoints"),
        x=NINE,
        z=(0.0, 1.0),
        points=(-3, -1, 0, 1, 1, 1, 1, 3, 3),
        pi=(
            *(0.9904499798, 0.7513321982, 0.5575631234, 0.5874469426, 0.6962354667),
            *(0.7492133371, 0.7419740103, 0.7985432648, 0.9889381335),
        ),
        dx=(
            *(0.0172918853, 0.1213208278, 0, 0.4946717612, 0.3295157947),
            *(-0.1536437993, -0.2088002998, 1.6972226656, 0.0291242797),
        ),
        dalpha=4.1997982511,
        dsigma=-5.7875079077,
        dz=(-1.7253805630, 0.1599567731),
    ),
    Example(
        name="E8",
        grid=make_grid("unsigned", 2),
        x=(0.0, 0.20, 0.26, 0.90, 1.30, 1.60, 4.00),
        points=(0, 0, 1, 2, 3, 3, 3),
        pi=(
            *(0.7136406638, 0.5162759587, 0.4671654721, 0.5404468098),
            *(0.5162759587, 0.7821309273, 0.9179556970),
        ),
        dx=(0, 0, 0.3926743874, 0.4963059436, 1.6936159534, 0.8678784571, 0.0000073467),
        dalpha=6.7906783909,
        dsigma=-7.6722277157,
    ),
)


@pytest.mark.parametrize("backend", ["eager", "compiled"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_the_golden_examples_hold_to_nine_digits(example: Example, backend: str) -> None:
    x = float64(example.x).requires_grad_()
    alpha = torch.tensor(ALPHA, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(SIGMA, dtype=torch.float64, requires_grad=True)
    z = None if example.z is None else float64(example.z).requires_grad_()
    kernels = kernels_of(backend)
    x_hat = quantize(x, alpha, sigma, z, grid=example.grid, ste=example.ste, kernels=kernels)
    pi = probability(x, alpha, sigma, z, grid=example.grid)
    inputs = [x, alpha, sigma] if z is None else [x, alpha, sigma, z]
    got = torch.autograd.grad(x_hat.sum(), inputs)
    wanted = [float64(example.dx), float64((example.dalpha,)), float64((example.dsigma,))]
    wanted += [] if z is None else [float64(example.dz)]

    assert (x_hat / ALPHA).round().int().tolist() == list(example.points)
    torch.testing.assert_close(pi, float64(example.pi), rtol=0, atol=1e-9)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.view_as(other), other, rtol=0, atol=1e-9)


def test_hard_concrete_masks_and_their_logit_gradients_are_golden() -> None:
    p = float64((2.1972245773, 0.3)).requires_grad_()
    z = hard_concrete(p, float64((0.3, 0.45)), 2 / 3)
    x, G = (torch.linspace(a, b, 41, dtype=torch.float64) for a, b in ((-3.3, 3.3), (-1, 2)))
    alpha, sigma = float64((ALPHA, SIGMA))
    nested = torch.cumprod(z, dim=0)
    x_hat = quantize(x, alpha, sigma, nested, grid=make_grid("sym", 4, "bitwise"))
    (dp,) = torch.autograd.grad(x_hat, p, G)
    live = live_probability(p, 2 / 3)

    for got, wanted in (
        (z, (0.9600628489, 0.5446156815)),
        (live, (0.9780291183, 0.8697326341)),
        (dp, (0.0721409143, 0.3197300221)),
    ):
        torch.testing.assert_close(got.detach(), float64(wanted), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("tau", "keep", "zero", "one", "gate"),
    [
        (2 / 3, 0.05, 0.7934, 0.0105, 0.0),
        (2 / 3, 0.8, 0.0481, 0.4471, 0.86),
        (0.2, 0.9, 0.0644, 0.8478, 0.98),
    ],
)
def test_the_table_of_mask_probabilities_is_golden(
    tau: float, keep: float, zero: float, one: float, gate: float
) -> None:
    p = torch.logit(torch.tensor(keep, dtype=torch.float64))

    assert 1 - live_probability(p, tau).item() == pytest.approx(zero, abs=5e-5)
    assert saturated_probability(p, tau).item() == pytest.approx(one, abs=5e-5)
    assert deterministic_gate(p).item() == pytest.approx(gate, abs=5e-5)
