"""CPQ with DropBits as a method: what it declares, what its network does, that it learns."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from bitsweep.bits import Bits, tied
from bitsweep.cost import Layer
from bitsweep.space import Parameters, Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers.methods.cpq_dropbits import CPQ_DROPBITS
from bitsweep_trainers.methods.declared.cpq_dropbits import DECLARATION, MASK_PARAMETERS
from bitsweep_trainers.models.network import initialise
from bitsweep_trainers.models.small_cnn import small_cnn
from bitsweep_trainers.quantizers.cluster_promoting import (
    ClusterPromoting,
    initial_alpha,
    quantizers,
)
from bitsweep_trainers.quantizers.grid import make_grid


def parameters(bits: Bits, **given: Value) -> Parameters:
    return DECLARATION.canonical(resolve(DECLARATION.parameters, given), (bits,))


def trial(bits: Bits, **given: Value) -> Trial:
    return Trial(
        trainer="image",
        method="cpq_dropbits",
        model="small_cnn",
        data="toy",
        data_sha256="",
        split_rule="",
        bits=(bits,),
        parameters=parameters(bits, **given),
        epochs=1,
        batch_size=16,
        seed=0,
        numerics={},
    )


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 1, 12, 12, generator=generator), torch.arange(16) % 4


def network(of: Trial) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    made: nn.Module = small_cnn((1, 12, 12), 4)
    initialise(made, generator)
    made = CPQ_DROPBITS.convert(made, of, generator).train()
    CPQ_DROPBITS.calibrate(made, of, batch()[0])
    return made


def steps(made: nn.Module, of: Trial, count: int) -> list[float]:
    """Steps on one batch at the declared rates; the losses."""
    groups = CPQ_DROPBITS.parameter_groups(made, of)
    optimizers = [
        torch.optim.Adam(one.parameters, lr=one.learning_rate)
        if one.optimizer == "adam"
        else torch.optim.SGD(one.parameters, lr=one.learning_rate, momentum=0.9)
        for one in groups
    ]
    generator = torch.Generator().manual_seed(2)
    losses = []
    for _ in range(count):
        made.zero_grad()
        losses.append(CPQ_DROPBITS.backward(made, of, *batch(), generator).item())
        for optimizer in optimizers:
            optimizer.step()
    return losses


def logits(made: nn.Module) -> Tensor:
    with torch.no_grad():
        output: Tensor = made.eval()(batch()[0])
    return output


SETTINGS: list[dict[str, Value]] = [
    {},
    {"sharing": "off", "ste_act": "max"},
    {"sharing": "endpoints", "nest": True, "ste": "full", "ste_act": "full"},
    {"mask": "bernoulli", "grid": "full", "sigma_tied": False, "alpha_init": "max"},
    {"ste": "plain", "learn_sigma": False, "alpha_init": "percentile"},
]


@pytest.mark.parametrize("given", SETTINGS)
@pytest.mark.parametrize("bits", [tied(2), tied(4), Bits(weight=3, activation=32)])
def test_every_setting_learns_one_batch(bits: Bits, given: dict[str, Value]) -> None:
    of = trial(bits, **given)
    losses = steps(network(of), of, 40)

    assert sum(losses[-5:]) / 5 < 0.9 * losses[0]


def test_every_learning_parameter_gets_a_finite_gradient() -> None:
    of = trial(tied(4), ste_act="max")
    made = network(of)
    steps(made, of, 1)
    groups = CPQ_DROPBITS.parameter_groups(made, of)

    assert {group.name for group in groups} == {
        *("weights", "norms", "steps", "scales", "keep_logits")
    }
    for parameter in (one for group in groups for one in group.parameters):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    learning = sum(parameter.requires_grad for parameter in made.parameters())
    assert sum(len(group.parameters) for group in groups) == learning


def test_equal_seeds_give_equal_networks_and_other_masks_other_ones() -> None:
    of = trial(tied(4))
    first, second, third = network(of), network(of), network(of)
    steps(first, of, 3)
    steps(second, of, 3)
    for seed in range(3):
        CPQ_DROPBITS.backward(third, of, *batch(), torch.Generator().manual_seed(seed))

    assert torch.equal(logits(first), logits(second))
    assert not torch.equal(logits(first), logits(third))


def test_evaluation_reads_neither_masks_nor_sigma() -> None:
    made = network(trial(tied(4)))
    before = logits(made)
    for one in quantizers(made):
        one.raw_sigma.data.add_(1.0)
        if one.keep_logits is not None:
            one.keep_logits.data.sub_(5.0)
            one.drawn = torch.zeros_like(one.keep_logits)

    assert torch.equal(logits(made), before)


def test_training_really_drops_points() -> None:
    made = network(trial(tied(4), keep_probability=0.01))
    weights = [one for one in quantizers(made) if one.keep_logits is not None]
    assert weights
    for one in weights:
        assert one.masks is not None and one.keep_logits is not None
        one.drawn = one.masks.draw(one.keep_logits, torch.full_like(one.keep_logits, 1e-6))
        alpha, _ = one.scales()
        codes = (one(torch.linspace(-1, 1, 100)) / alpha).round()

        assert set(codes.tolist()) == {-1.0, 0.0, 1.0}


def test_at_two_bits_dropbits_changes_nothing() -> None:
    with_masks, without = trial(tied(2), sharing="endpoints"), trial(tied(2), sharing="off")

    assert with_masks.id == without.id
    assert not set(MASK_PARAMETERS) & set(with_masks.parameters)
    assert all(one.keep_logits is None for one in quantizers(network(with_masks)))


@pytest.mark.parametrize(
    ("bits", "one", "other"),
    [
        (tied(3), {"nest": True}, {"nest": False}),
        (tied(4), {"mask": "bernoulli", "tau": 0.2}, {"mask": "bernoulli"}),
        (tied(4), {"sharing": "off", "keep_probability": 0.5}, {"sharing": "off"}),
        (Bits(weight=4, activation=32), {"ste_act": "max"}, {"ste_act": "plain"}),
        (
            tied(4),
            {"sharing": "off", "ste": "plain", "sigma_ratio": 0.1},
            {"sharing": "off", "ste": "plain"},
        ),
    ],
)
def test_parameters_that_mean_the_same_are_made_equal(
    bits: Bits, one: dict[str, Value], other: dict[str, Value]
) -> None:
    assert trial(bits, **one).id == trial(bits, **other).id


def test_nesting_matters_where_there_is_more_than_one_mask() -> None:
    assert trial(tied(4), nest=True).id != trial(tied(4), nest=False).id
    endpoints = [trial(tied(3), sharing="endpoints", nest=nest) for nest in (True, False)]
    assert endpoints[0].id != endpoints[1].id


def test_a_network_reads_its_state_back_exactly() -> None:
    of = trial(tied(3))
    made = network(of)
    steps(made, of, 3)
    generator = torch.Generator().manual_seed(5)
    other = CPQ_DROPBITS.convert(small_cnn((1, 12, 12), 4), of, generator)
    other.load_state_dict(deepcopy(made.state_dict()))

    assert torch.equal(logits(made), logits(other))


def test_a_network_runs_at_its_own_width_only() -> None:
    made = network(trial(Bits(weight=3, activation=8)))
    CPQ_DROPBITS.select(made, Bits(weight=3, activation=8))

    with pytest.raises(ValueError, match="made for w3a8"):
        CPQ_DROPBITS.select(made, tied(4))


def test_sigma_stays_between_its_bounds_and_can_come_back() -> None:
    of = trial(tied(4))
    one = quantizers(network(of))[0]
    one.raw_sigma.data.fill_(-20.0)
    alpha, sigma = one.scales()
    (slope,) = torch.autograd.grad(sigma, one.raw_sigma)

    assert sigma.item() == pytest.approx(0.05 * alpha.item(), rel=1e-4)
    assert slope.item() > 0


def test_an_input_with_negatives_gets_a_signed_grid() -> None:
    of = trial(tied(4))
    inputs = [one for one in quantizers(network(of)) if one.kind == "unsigned"]
    assert len(inputs) == 2
    one: ClusterPromoting = inputs[0]
    one.initialise(torch.linspace(-1, 1, 50), "mse")

    assert one.kind == "full"
    assert one(torch.tensor([-0.9])).item() < -0.5


def test_the_least_squared_error_sets_a_ternary_step_as_golden() -> None:
    values = torch.special.ndtri((torch.arange(100_000) + 0.5) / 100_000)
    alpha = initial_alpha(values, make_grid("sym", 2), "mse")

    assert alpha == pytest.approx(1.224, abs=0.04)


def test_each_body_layer_stores_two_scalars() -> None:
    layer = Layer(name="conv", kind="conv", place="body", macs=10, weights=10)
    (body,) = DECLARATION.layer_bits([layer], tied(3), parameters(tied(3)), (tied(3),))

    assert (body.weight, body.activation, body.scalars) == (3, 3, 2)
