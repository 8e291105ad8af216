"""Which layer really reads what, seen by hooks, against the rules that go by the layers' names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from bitsweep.declaration import Shape
from bitsweep_trainers.layers import Computing
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.declared.abn import decisions_of
from bitsweep_trainers.methods.declared.bit_mixer import num_transitions, reader_of
from bitsweep_trainers.methods.declared.branch_table import narrow_layers
from bitsweep_trainers.models.build import BUILDERS, build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.agent import agent_macs
from bitsweep_trainers.supernet import decision_layers, super_network
from bitsweep_trainers.switchable import Norm
from bitsweep_trainers.transitions import TransitionalNorm, add_transitional_norms

TORCHVISION_RESNETS = ("resnet18", "resnet18-small", "resnet34", "resnet50")
SHAPES: dict[str, tuple[Shape, int]] = {"series": ((1, 64), 4), "vectors": ((16,), 16)}
IMAGES: tuple[Shape, int] = ((3, 32, 32), 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What a pass showed: layers as they ran, and of each its input; of each norm who feeds it
    and, as they ran, the layers whose input depends on it by no other layer."""

    layers: Sequence[str]
    inputs: Mapping[str, Tensor]
    producers: Mapping[str, str]
    readers: Mapping[str, Sequence[str]]


def network_of(model: str) -> nn.Module:
    return build(model, *shape_of(model), torch.Generator().manual_seed(0))


def shape_of(model: str) -> tuple[Shape, int]:
    return SHAPES.get(MODELS[model].data_kind, IMAGES)


@cache
def flow_of(model: str) -> Flow:
    network = network_of(model).eval()
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    normed: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(path: str, module: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
        if isinstance(module, Norm):
            normed[path] = given[0], output
            return output
        inputs[path] = given[0]
        outputs[path] = output.detach().requires_grad_()  # cut: gradients stop at a layer
        return outputs[path]

    for path, module in network.named_modules():
        if isinstance(module, Computing | Norm):
            module.register_forward_hook(partial(watch, path))
    network(torch.randn(2, *shape_of(model)[0], generator=torch.Generator().manual_seed(0)))
    readers: dict[str, list[str]] = {path: [] for path in normed}
    for layer, values in inputs.items():
        if not values.requires_grad:
            continue  # the sample itself
        found = torch.autograd.grad(
            values.sum(), [one for _, one in normed.values()], allow_unused=True, retain_graph=True
        )
        for path, gradient in zip(normed, found, strict=True):
            if gradient is not None:
                readers[path].append(layer)
    producers = {
        path: next(layer for layer, output in outputs.items() if output is given)
        for path, (given, _) in normed.items()
    }
    return Flow(layers=tuple(inputs), inputs=inputs, producers=producers, readers=readers)


@pytest.mark.parametrize("model", sorted(BUILDERS))
def test_layers_run_in_the_order_they_are_declared_in(model: str) -> None:
    assert list(flow_of(model).layers) == [
        one.name for one in MODELS[model].layers(*shape_of(model))
    ]


@pytest.mark.parametrize("model", sorted(BUILDERS))
def test_a_transitional_norm_lies_between_the_layers_that_feed_and_first_read_it(
    model: str,
) -> None:
    flow, network = flow_of(model), network_of(model)
    add_transitional_norms(network, (2, 4))
    body = [one for one in flow.layers if one.startswith("body.")]
    index = {path: place for place, path in enumerate(body)}
    norms = {
        path: one for path, one in network.named_modules() if isinstance(one, TransitionalNorm)
    }

    assert norms.keys() == flow.producers.keys()
    for path, norm in norms.items():
        assert norm.producer == index.get(flow.producers[path]), path
        assert norm.consumer == index.get(flow.readers[path][0]), path


@pytest.mark.parametrize("model", sorted(BUILDERS))
def test_as_many_transitional_norms_are_declared_as_there_are(model: str) -> None:
    layers, network = MODELS[model].layers(*shape_of(model)), network_of(model)
    add_transitional_norms(network, (2, 3, 4))
    norms = [one for one in network.modules() if isinstance(one, TransitionalNorm)]
    normed = [index for index, one in enumerate(layers) if one.norm_channels]

    assert [len(one.norms) for one in norms] == [num_transitions(layers, one, 3) for one in normed]


@pytest.mark.parametrize("model", sorted(BUILDERS))
def test_layers_that_read_the_same_tensor_are_one_decision_and_no_others(model: str) -> None:
    flow = flow_of(model)
    read: dict[int, list[str]] = {}
    for path, values in flow.inputs.items():
        if path.startswith("body."):
            read.setdefault(id(values), []).append(path)
    network = super_network(network_of(model), (2, 4))

    assert list(decision_layers(network)) == [tuple(one) for one in read.values()]


@pytest.mark.parametrize("model", TORCHVISION_RESNETS)
def test_the_norm_before_the_second_block_is_read_by_that_block(model: str) -> None:
    names = [one.name for one in MODELS[model].layers((3, 224, 224), 1000)]
    last = "conv3" if model == "resnet50" else "conv2"

    for path in (last, "downsample.0"):
        index = names.index(f"body.stage2.0.{path}")
        assert reader_of(names, index) == "body.stage2.1.conv1"


@pytest.mark.parametrize(
    ("model", "num_layers", "num_decisions"),
    [("resnet18", 19, 16), ("resnet34", 35, 32), ("resnet50", 52, 48)],
)
def test_a_projection_of_torchvision_is_decided_with_the_first_layer_of_its_block(
    model: str, num_layers: int, num_decisions: int
) -> None:
    body = [one for one in MODELS[model].layers((3, 224, 224), 1000) if one.place == "body"]
    decisions = decisions_of([one.name for one in body])

    assert (len(body), len(decisions)) == (num_layers, num_decisions)


def test_the_agent_of_resnet18_takes_the_golden_multiplications() -> None:
    """150,528 with d = 32, h = 64 and three widths: the figure of the method's specification."""
    body = [one for one in MODELS["resnet18"].layers((3, 224, 224), 1000) if one.place == "body"]
    firsts = [body[group[0]] for group in decisions_of([one.name for one in body])]
    channels = [one.in_channels for one in firsts]

    assert agent_macs(channels, 3, encoder=32, hidden=64) == 150_528


@pytest.mark.parametrize("model", TORCHVISION_RESNETS)
def test_a_narrow_projection_reads_what_its_block_reads(model: str) -> None:
    layers = MODELS[model].layers((3, 32, 32), 10)
    narrow = narrow_layers(layers)
    ratio = sum(one.macs * narrow[one.name].mac_ratio for one in layers if one.place == "body")
    ratio /= sum(one.macs for one in layers if one.place == "body")

    for stage in (2, 3, 4):
        block = f"body.stage{stage}.0"
        assert narrow[f"{block}.downsample.0"].in_channels == narrow[f"{block}.conv1"].in_channels
    assert all(one.in_channels > 0 for one in narrow.values())
    assert 0.48 <= ratio <= 0.5


def test_only_trials_on_networks_of_torchvision_have_other_numerics() -> None:
    """ABN's were raised on every model since."""
    assert (DECLARED["bit_mixer"].numerics, DECLARED["abn"].numerics) == (1, 2)
    assert DECLARED["bit_mixer"].numerics_on == dict.fromkeys(TORCHVISION_RESNETS, 2)
    assert DECLARED["abn"].numerics_on == {}
