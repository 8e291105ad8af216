"""Samples that are too small for a network, and batches too small for its norms: told before."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bitsweep.checks.task import too_small
from bitsweep.cost import fewest_norm_values
from bitsweep.declaration import Shape
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS

CLASSES = 3


def shape_of(name: str, side: int) -> Shape:
    """A sample of this side for a model."""
    shapes = {"images": (3, side, side), "series": (1, side), "vectors": (side,)}
    return shapes[MODELS[name].data_kind]


def drawn(name: str, side: int) -> nn.Module:
    """The network for samples of this side."""
    return build(name, shape_of(name, side), CLASSES, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_least_side_is_the_least_that_a_network_can_be_built_for(name: str) -> None:
    side = MODELS[name].least_side
    layers = MODELS[name].layers(shape_of(name, side), CLASSES)
    with torch.inference_mode():
        outputs = drawn(name, side).eval()(torch.zeros(2, *shape_of(name, side)))

    assert min(one.macs for one in layers) > 0
    assert outputs.shape[0] == 2 and bool(outputs.isfinite().all())


@pytest.mark.parametrize("name", sorted(n for n, one in MODELS.items() if one.least_side > 1))
def test_one_less_than_the_least_side_is_refused_with_both_numbers(name: str) -> None:
    model, side = MODELS[name], MODELS[name].least_side - 1
    shape = shape_of(name, side)
    data = replace(DATA_SETS["mnist"], name="tiny", shape=shape, kind=model.data_kind)
    with pytest.raises(ValueError, match="positive counts"):
        model.layers(shape, CLASSES)
    message = too_small(model, data)

    assert message is not None and f"{name} needs at least {side + 1} " in message
    assert f"tiny has {side}" in message
    assert too_small(model, replace(data, shape=shape_of(name, side + 1))) is None


@pytest.mark.parametrize("more", [0, 1, 12])
@pytest.mark.parametrize("name", ["small-cnn", "lenet5", "resnet8-b", "signal-cnn", "resnet18"])
def test_norms_train_on_one_sample_just_where_the_arithmetic_says_so(name: str, more: int) -> None:
    side = MODELS[name].least_side + more
    network = drawn(name, side).train()
    images = torch.randn(1, *shape_of(name, side), generator=torch.Generator().manual_seed(0))
    if fewest_norm_values(MODELS[name].layers(shape_of(name, side), CLASSES)) >= 2:
        assert network(images).shape == (1, CLASSES)
        return
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(images)
