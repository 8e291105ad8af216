"""Depthwise layers in branches, of 2 bits or (D4) of the width, in a network of their own."""

import pytest
import torch
from tests.trainers_suite.test_mbquant_switches import BITS, EVEN, layer_at, seeded
from torch import nn
from torch.nn import functional

from bitsweep.bits import tied
from bitsweep.cost import Convention, Layer, bitops
from bitsweep.space import resolve
from bitsweep_trainers.branch_network import active_rows, branch_network
from bitsweep_trainers.branches import BranchPlan
from bitsweep_trainers.methods.declared.branch_switches import switched
from bitsweep_trainers.methods.declared.branch_table import branch_table
from bitsweep_trainers.methods.declared.mbquant import MBQUANT as DECLARED
from bitsweep_trainers.models.network import (
    Network,
    convolution,
    initialise,
    named,
    pooled_classifier,
)


def depthwise_network() -> tuple[nn.Module, tuple[Layer, ...]]:
    """Stem, depthwise 3x3, pointwise, depthwise, pointwise; 12 x 12 images of one channel."""

    def depthwise(channels: int) -> nn.Conv2d:
        return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)

    body = named(
        dw1=depthwise(16),
        bn1=nn.BatchNorm2d(16),
        relu1=nn.ReLU(),
        pw1=convolution(16, 32, kernel=1),
        bn2=nn.BatchNorm2d(32),
        relu2=nn.ReLU(),
        dw2=depthwise(32),
        bn3=nn.BatchNorm2d(32),
        relu3=nn.ReLU(),
        pw2=convolution(32, 64, kernel=1),
        bn4=nn.BatchNorm2d(64),
        relu4=nn.ReLU(),
    )
    stem = named(conv=convolution(1, 16, kernel=3, padding=1), bn=nn.BatchNorm2d(16))
    network = Network(stem=stem, body=body, head=pooled_classifier(64, 4))
    initialise(network, seeded())
    ends = [("stem.conv", "first", 1, 16, 1), ("head.linear", "last", 64, 4, 1)]
    inner = [
        ("body.dw1", "body", 16, 16, 16),
        ("body.pw1", "body", 16, 32, 1),
        ("body.dw2", "body", 32, 32, 32),
        ("body.pw2", "body", 32, 64, 1),
    ]
    layers = []
    for name, place, given, made, groups in (ends[0], *inner, ends[1]):
        kernel = 9 if groups > 1 or place == "first" else 1
        weights = given // groups * made * kernel
        layers.append(
            Layer(
                name=name,
                kind="depthwise" if groups > 1 else "linear" if place == "last" else "conv",
                place=place,  # type: ignore[arg-type]
                macs=weights * (144 if place != "last" else 1),
                weights=weights,
                norm_channels=made if place != "last" else 0,
                in_channels=given,
                out_channels=made,
                groups=groups,
            )
        )
    return network, tuple(layers)


def depthwise_branches(widths: tuple[int, ...], depthwise_bits: str) -> nn.Module:
    network, layers = depthwise_network()
    num_branches = -(-max(widths) // 2)
    plan = BranchPlan(
        table=branch_table(widths, num_branches, "paper_code"),
        num_branches=num_branches,
        noise=0.05,
        range_factor=3.0,
        switches=switched({"depthwise_bits": depthwise_bits}),
    )
    return branch_network(network, layers, plan, seeded())


@pytest.mark.parametrize("widths", [EVEN, (2, 3, 4), (2, 3, 4, 5, 6, 7, 8)])
@pytest.mark.parametrize("depthwise_bits", ["two", "width"])
def test_a_depthwise_network_runs_at_every_width_and_its_widths_add_up(
    widths: tuple[int, ...], depthwise_bits: str
) -> None:
    network = depthwise_branches(widths, depthwise_bits).double().train()
    images = torch.randn(4, 1, 12, 12, generator=seeded(), dtype=torch.float64)
    rows = active_rows(network)
    rows.is_calibrating = True
    network(images)
    rows.is_calibrating = False
    rows.activate(widths)
    at_once = network(images).chunk(len(widths))
    for bits, logits in zip(widths, at_once, strict=True):
        rows.activate((bits,))
        assert torch.allclose(network(images), logits, atol=1e-9)


def test_a_depthwise_row_is_a_depthwise_convolution_of_its_codes() -> None:
    network = depthwise_branches((2, 4), "two").double()
    layer = layer_at(network, "dw1")
    rows = active_rows(network)
    rows.activate((2,))
    x = torch.rand(2, 16, 5, 5, generator=seeded(), dtype=torch.float64)
    codes = (3 * x).round()
    weights = 2 * (layer.weight_codes()[0] / 3) - 1
    expected = functional.conv2d(codes / 3, weights, padding=1, groups=16)

    assert torch.allclose(layer(x), expected)


@pytest.mark.parametrize(("depthwise_bits", "most"), [("two", [3, 3]), ("width", [3, 15])])
def test_depthwise_weights_have_two_bits_or_those_of_the_width(
    depthwise_bits: str, most: list[int]
) -> None:
    network = depthwise_branches((2, 4), depthwise_bits)
    layer, other = layer_at(network, "dw1"), layer_at(network, "pw1")
    rows = active_rows(network)
    levels = [int(layer.levels_T[layer.tensors_R[row]].item()) for row, _ in enumerate(rows.full)]

    assert sorted(set(levels)) == sorted(set(most))
    assert layer.weight_codes().max() <= max(most) and other.weight_codes().max() <= 3


def test_depthwise_weights_at_the_width_cost_b_over_two_times_more() -> None:
    _, layers = depthwise_network()
    body = [one for one in layers if one.place == "body"]
    found = {}
    for one in ("two", "width"):
        parameters = resolve(DECLARED.parameters, {"depthwise_bits": one})
        parameters = dict(DECLARED.canonical(parameters, BITS))
        bits = DECLARED.layer_bits(layers, tied(8), parameters, BITS)
        found[one] = bitops(layers, bits, Convention.BODY)
    depthwise = sum(one.macs for one in body if one.kind == "depthwise")

    assert found["two"] == 64 * sum(one.macs for one in body)
    assert found["width"] - found["two"] == (4 - 1) * 64 * depthwise
