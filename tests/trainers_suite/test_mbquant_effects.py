"""Switches of MBQuant that have nothing to act on in a model leave no trace."""

from typing import Any

import pytest
import torch
from tests.bitsweep_suite.test_trial_identity import planned
from tests.trainers_suite.trials import trial_of

from bitsweep_trainers.branch_network import branch_network
from bitsweep_trainers.branch_rows import BranchShuffle, FrontIdentity
from bitsweep_trainers.methods.declared.branch_effects import blocks_of
from bitsweep_trainers.methods.mbquant import branch_plan
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.models.residual import residuals_of

SHAPE = (1, 28, 28)
IMAGE_MODELS = sorted(name for name, one in MODELS.items() if one.data_kind == "images")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_the_blocks_of_the_layers_are_those_of_the_network(model: str) -> None:
    network = build(model, SHAPE, 10, seeded())
    expected = {
        path: [f"{path}.{one}" for one in block.layers] for path, block in residuals_of(network)
    }
    found = blocks_of(MODELS[model].layers(SHAPE, 10))

    assert {path: [one.name for one in some] for path, some in found.items()} == expected


@pytest.mark.parametrize(
    ("model", "widths", "given"),
    [
        ("small-cnn", (2, 4), {"shuffle": "downsample"}),
        ("small-cnn", (2, 4), {"depthwise_bits": "width"}),
        ("mobilenet-v2", (2,), {"depthwise_bits": "width"}),
        ("resnet8-b", (2, 3), {"shuffle": "every_block"}),
        ("mobilenet-v2", (2, 4), {"shuffle": "every_block"}),
    ],
)
def test_a_switch_with_nothing_to_act_on_is_the_same_trial(
    model: str, widths: tuple[int, ...], given: dict[str, Any]
) -> None:
    plain = planned("mbquant", *widths, model=model)[0]
    asked = planned("mbquant", *widths, model=model, **given)[0]

    assert asked.id == plain.id


def test_the_front_of_a_wide_stem_without_a_block_behind_it_is_the_same_trial() -> None:
    given: dict[str, Any] = {"stem": "wide", "num_branches": 4}
    plain = planned("mbquant", 4, 6, **given)[0]

    assert planned("mbquant", 4, 6, stem_channels="front", **given)[0].id == plain.id


def test_the_reference_mode_names_what_acts_in_the_model() -> None:
    switches = {"range_index", "shuffle", "stem", "depthwise_bits", "weight_offset", "range_std"}
    parameters = planned("mbquant", 2, 4, 6, 8, mode="reference")[0].parameters

    assert set(parameters) & switches == {"range_index", "stem", "weight_offset", "range_std"}


@pytest.mark.parametrize("model", ["small-cnn", "resnet8", "resnet8-b", "resnet18-small"])
def test_what_is_left_in_a_trial_acts_in_its_network(model: str) -> None:
    trial = planned("mbquant", 4, 5, 6, model=model, mode="reference", weight_offset="own")[0]
    asked = trial_of("mbquant", 4, 5, 6, model=model, parameters={"mode": "reference"})
    kinds = {"shuffle": BranchShuffle, "stem_channels": FrontIdentity}
    layers = MODELS[model].layers(SHAPE, 10)
    network = build(model, SHAPE, 10, seeded())
    made = list(branch_network(network, layers, branch_plan(asked), seeded()).modules())

    for name, kind in kinds.items():
        assert (name in trial.parameters) == any(isinstance(one, kind) for one in made), name
