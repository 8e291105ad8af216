"""Each feature of MBQuant does something: which rows ran, what was learned how, from which start.

What is equal by design (executions, tables of one branch) is told apart by what ran.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor, nn

from bitsweep.space import Value
from bitsweep_trainers.branch_network import (
    active_rows,
    branch_layers,
    branch_network,
    branch_norms,
    estimate_norms,
)
from bitsweep_trainers.branch_rows import BranchMean, FanOut
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.distillation import student_loss
from bitsweep_trainers.methods.declared.branch_table import branch_table
from bitsweep_trainers.methods.mbquant import MBQUANT, branch_plan, draw_table
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS

EVEN = (2, 4, 6, 8)
Run = tuple[tuple[int, ...], int]  # widths, rows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(
    *widths: int, model: str = "small-cnn", seed: int = 0, **parameters: Value
) -> tuple[nn.Module, Any, list[Run]]:
    """A network after a backward pass, its trial, and each pass through the body."""
    made = training_of(trial_of("mbquant", *widths, model=model, parameters=parameters), few(8))
    network, runs = made.network, list[Run]()
    rows = active_rows(network)

    def note(_module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        runs.append((rows.widths, rows.num_active))

    mean = next(one for one in network.modules() if isinstance(one, BranchMean))
    mean.register_forward_pre_hook(note)
    images = normalise(made.data.train_images[:8], made.data.mean, made.data.std)
    MBQUANT.backward(network, made.trial, images, made.data.train_labels[:8], seeded(seed))
    return network, made.trial, runs


def branches_with_gradient(network: nn.Module) -> set[tuple[int, int]]:
    """(bits, branch) of the full rows whose batch norms got a gradient."""
    rows, norm = active_rows(network), branch_norms(network)[0]
    assert norm.weight.grad is not None
    by_row = norm.weight.grad.view(len(rows.full), norm.channels).abs().amax(1)
    return {place for place, most in zip(rows.full, by_row.tolist(), strict=True) if most > 0}


@pytest.mark.parametrize("execution", ["one_pass", "per_width"])
def test_a_step_of_a_random_selection_trains_the_branches_that_were_drawn(execution: str) -> None:
    network, trial, _ = trained(*EVEN, selection="random", execution=execution, seed=3)
    drawn = draw_table(trial, seeded(3))
    assert drawn is not None
    expected = {(bits, use.branch) for bits, uses in drawn.items() for use in uses}
    served = branch_table(EVEN, 4, "paper_code")

    assert branches_with_gradient(network) == expected
    assert expected != {(bits, use.branch) for bits, uses in served.items() for use in uses}


def test_a_pass_a_width_has_one_width_in_memory_and_the_teacher_first() -> None:
    _, _, runs = trained(*EVEN, execution="per_width")

    assert runs == [((8,), 4), ((6,), 3), ((4,), 2), ((2,), 1)]


def test_rows_of_one_pass_take_turns_on_a_cpu() -> None:
    _, _, runs = trained(2, 3, 4)

    assert runs == [((2,), 1), ((3,), 1), ((3,), 1), ((4,), 1), ((4,), 1)]


def test_rows_that_a_shuffle_mixes_run_together() -> None:
    _, _, runs = trained(2, 4, model="resnet8-b", shuffle="downsample")

    assert runs == [((2, 4), 3)]


@pytest.mark.parametrize(
    ("temperature", "loss", "gradient"),
    [
        (2.0, 2.4689892, [-0.4517383, 0.2633122, 0.1884261]),
        (4.0, 9.0268167, [-0.4575336, 0.2389859, 0.2185477]),
    ],
)
def test_the_soft_loss_is_scaled_by_the_square_of_its_temperature(
    temperature: float, loss: float, gradient: list[float]
) -> None:
    z8 = torch.tensor([[2.0, 1.0, -1.0]])
    z2 = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0])
    found = student_loss(z2, z8, labels, weight=0.5, temperature=temperature)
    torch.autograd.backward(found)

    assert float(found.detach()) == pytest.approx(loss, abs=1e-5)
    assert z2.grad is not None
    assert torch.allclose(z2.grad, torch.tensor([gradient]), atol=1e-5)


@pytest.mark.parametrize("factor", [1.5, 4.0])
def test_the_range_of_the_weights_begins_at_the_given_number_of_sd(factor: float) -> None:
    trial = trial_of("mbquant", *EVEN, parameters={"weight_range": factor})
    layers = MODELS["small-cnn"].layers((1, 28, 28), 10)
    network = build("small-cnn", (1, 28, 28), 10, seeded())
    branch_network(network, layers, branch_plan(trial), seeded())
    for layer in branch_layers(network):
        expected = factor * layer.branches.detach().flatten(1).std(1)
        assert torch.allclose(layer.weight_upper, expected)
        assert torch.allclose(layer.weight_lower, -expected)


def test_each_group_of_parameters_learns_at_the_given_rate_and_decay() -> None:
    parameters: Mapping[str, Value] = {
        "learning_rate": 0.3,
        "weight_decay": 0.02,
        "quantizer_learning_rate": 0.004,
        "step_learning_rate_ratio": 0.5,
    }
    made = training_of(trial_of("mbquant", 2, 4, parameters=parameters), few(8))
    groups = {one.name: one for one in MBQUANT.parameter_groups(made.network, made.trial)}
    rates = {name: one.learning_rate for name, one in groups.items()}

    assert rates == {"weights": 0.3, "steps": pytest.approx(0.15), "ranges": 0.004}
    assert {name: one.weight_decay for name, one in groups.items()} == {
        "weights": 0.02,
        "steps": 0.0,
        "ranges": 0.0,
    }


@pytest.mark.parametrize(
    ("bits", "convolved"), [(4, [1, 2]), (5, [0, 1, 2]), (7, [0, 1, 2, 3]), (6, [1, 2, 3])]
)
def test_the_first_convolution_of_an_odd_width_reads_the_stem_from_the_front(
    bits: int, convolved: list[int]
) -> None:
    parameters = {"stem": "wide", "stem_channels": "front"}
    trial = trial_of("mbquant", *range(2, 9), model="resnet8", parameters=parameters)
    network = build("resnet8", (3, 16, 16), 10, seeded())
    layers = MODELS["resnet8"].layers((3, 16, 16), 10)
    branch_network(network, layers, branch_plan(trial), seeded())
    fan_out = network.get_submodule("body.fan_out")
    assert isinstance(fan_out, FanOut)
    active_rows(network).activate((bits,))
    features = torch.arange(4.0).repeat_interleave(16).view(1, 64, 1, 1)
    stems = fan_out(features).view(-1, 16)

    assert stems[:, 0].tolist() == convolved
    assert fan_out.front is not None
    assert fan_out.front.view(-1, 16)[:, 0].tolist() == list(range(len(convolved)))


def test_norms_are_estimated_anew_before_the_first_step() -> None:
    data = few(160)
    made = training_of(trial_of("mbquant", 2, 3, 4), data)
    norms = branch_norms(made.network)
    begun = [norm.running_mean.clone() for norm in norms]
    images = normalise(data.train_images, data.mean, data.std)
    estimate_norms(made.network, torch.split(images, made.trial.batch_size))

    for norm, mean in zip(norms, begun, strict=True):
        assert torch.allclose(norm.running_mean, mean, atol=1e-5)


def test_a_temperature_and_a_weight_of_the_trial_reach_its_loss() -> None:
    losses = []
    for given in ({}, {"distillation_temperature": 4.0}, {"distillation_weight": 0.9}):
        made = training_of(trial_of("mbquant", 2, 4, parameters=given), few(8))
        images = normalise(made.data.train_images[:8], made.data.mean, made.data.std)
        trial = replace(made.trial, parameters=made.trial.parameters)
        loss = MBQUANT.backward(made.network, trial, images, made.data.train_labels[:8], seeded())
        losses.append(float(loss))

    assert len(set(losses)) == 3
