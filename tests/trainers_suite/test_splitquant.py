"""SplitQuant: golden numbers, what a split keeps, and the honest cost."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, plain_network, trial_of
from torch import Tensor, nn

from bitsweep.bits import Bits, tied
from bitsweep.cost import Convention, bitops, size_bits, weight_size_bits
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.layers import computing_layers, select_body
from bitsweep_trainers.methods.splitquant import SplitLayer, SplitRounder, split_layer
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.quantizers.clusters import split_by_value
from bitsweep_trainers.quantizers.uniform import WeightRounder

W = torch.tensor([-1.0, -0.9, -0.1, 0.0, 0.1, 0.15, 0.8, 1.2])
LAYERS = MODELS["small-cnn"].layers((1, 28, 28), 10)
rows = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=6, max_size=6)
matrices = st.lists(rows, min_size=1, max_size=4).map(torch.tensor)


def rounder(bits: int, *, is_per_channel: bool = False) -> WeightRounder:
    return WeightRounder(bits=bits, is_symmetric=False, is_per_channel=is_per_channel)


def images(count: int = 32) -> Tensor:
    data = few(count)
    return normalise(data.train_images, data.mean, data.std)


def converted(*widths: int, **parameters: Any) -> nn.Module:
    """A calibrated SplitQuant network of the start's weights."""
    trial = trial_of("splitquant", *widths, start="0" * 64, parameters=parameters)
    method = method_of("splitquant")
    network = method.convert(plain_network(), trial, loop.stream(0, "convert"))
    method.calibrate(network, trial, images())
    return network


def test_the_golden_of_three_parts_at_2_bits() -> None:
    parts = split_by_value(W, is_per_channel=False)
    rounded = [rounder(2)(one) for one in parts]
    masks = (W < -0.5, W.abs() < 0.5, W > 0.5)
    found = [one[mask] for one, mask in zip(rounded, masks, strict=True)]

    assert found[0].tolist() == pytest.approx([-1, -1], abs=1e-5)
    assert found[1].tolist() == pytest.approx([-0.083333, 0, 0.083333, 0.166667], abs=1e-5)
    assert found[2].tolist() == pytest.approx([0.8, 1.2], abs=1e-5)
    error = (torch.stack(rounded).sum(0) - W).square().mean()
    assert float(error) == pytest.approx(0.00135417, abs=1e-7)


@given(weights=matrices, is_per_channel=st.booleans())
def test_the_parts_add_up_to_the_weights_and_do_not_overlap(
    weights: Tensor, is_per_channel: bool
) -> None:
    parts = torch.stack(split_by_value(weights, is_per_channel=is_per_channel))

    assert torch.equal(parts.sum(0), weights)
    assert int((parts != 0).sum(0).max()) <= 1


@given(weights=matrices)
def test_the_parts_are_intervals_in_order(weights: Tensor) -> None:
    parts = split_by_value(weights, is_per_channel=False)
    held = [weights[one != 0] for one in parts]
    ends = [float(one) for part in held if len(part) for one in (part.min(), part.max())]

    assert ends == sorted(ends)


@given(weights=matrices)
def test_clusters_of_a_channel_are_those_of_the_channel_alone(weights: Tensor) -> None:
    together = split_by_value(weights, is_per_channel=True)
    alone = [split_by_value(one, is_per_channel=False) for one in weights]

    for index, part in enumerate(together):
        assert torch.equal(part, torch.stack([one[index] for one in alone]))


def test_splitting_a_layer_changes_no_output_before_rounding() -> None:
    network = plain_network()
    trial = trial_of("splitquant", 4, start="0" * 64)
    for _, layer in computing_layers(network.get_submodule("body")):
        split = split_layer(layer, *trial.bits, trial=trial)
        select_body(named_body(split), tied(32))
        values = torch.randn(2, layer.weight.shape[1], 8, 8)
        with torch.no_grad():
            assert torch.allclose(split(values), layer(values), atol=1e-5)


def named_body(layer: nn.Module) -> nn.Module:
    """A network whose body is one layer."""
    return nn.ModuleDict({"body": layer})


def test_eight_bits_stay_close_to_floating_point() -> None:
    network = converted(8)
    with torch.no_grad():
        errors = (network(images()) - plain_network().eval()(images())).abs().mean()

    assert float(errors) < 0.05


def test_every_body_layer_becomes_three_and_the_ends_stay_whole() -> None:
    network = converted(4)
    split = [path for path, one in network.named_modules() if isinstance(one, SplitLayer)]

    assert split == ["body.conv1", "body.conv2"]


def test_thirds_of_the_channels_have_their_own_ranges() -> None:
    network = converted(4)
    for one in network.modules():
        if isinstance(one, SplitRounder):
            maxima = [float(third.get_buffer("maximum")) for third in one.rounders]

            assert len(set(maxima)) == 3 and min(maxima) > 0


def test_fewer_than_three_channels_are_rounded_too() -> None:
    split = SplitRounder(bits=8)

    assert split(torch.zeros(1, 2, 3)).shape == (1, 2, 3)


def test_dense_costs_three_times_the_products_and_the_weights() -> None:
    dense, plain = trial_of("splitquant", 4), trial_of("ptq", 4)
    found = [layer_bits(one, tied(4)) for one in (dense, plain)]
    products = [bitops(LAYERS, one, Convention.BODY) for one in found]
    sizes = [weight_size_bits(LAYERS, one, Convention.BODY) for one in found]

    assert products[0] == 3 * products[1]
    assert sizes[0] == 3 * sizes[1]


def test_sparse_costs_two_bits_of_index_for_each_weight() -> None:
    trial = trial_of("splitquant", 4, parameters={"storage": "sparse"})
    found = layer_bits(trial, tied(4))

    assert [(one.weight, one.stored_bits) for one in found[1:3]] == [(4, 6), (4, 6)]


@pytest.mark.parametrize(
    ("parameters", "scalars"),
    [({}, 12), ({"split_activations": False}, 8), ({"granularity": "channel"}, 6 * 32 + 6)],
)
def test_each_grid_stores_a_scale_and_a_zero_point(
    parameters: dict[str, Any], scalars: int
) -> None:
    unfolded = {"fold_batch_norm": False} | parameters
    found = layer_bits(trial_of("splitquant", 4, parameters=unfolded), tied(4))

    assert found[1].scalars == scalars


@pytest.mark.parametrize("method", ["ptq", "splitquant"])
def test_a_folded_batch_norm_leaves_a_shift_a_channel_and_no_scale(method: str) -> None:
    folded, kept = (
        layer_bits(trial_of(method, 4, parameters={"fold_batch_norm": one}), tied(4))
        for one in (True, False)
    )
    difference = size_bits(LAYERS, kept, Convention.BODY) - size_bits(
        LAYERS, folded, Convention.BODY
    )

    assert difference == 32 * sum(one.norm_channels for one in LAYERS if one.place == "body")


def test_inputs_in_floating_point_are_not_split_and_store_nothing() -> None:
    bits = Bits(weight=4, activation=32)
    given = {"activation_bits": 32, "fold_batch_norm": False}
    trial = trial_of("splitquant", bits=(bits,), parameters=given)

    assert "split_activations" not in trial.parameters
    assert layer_bits(trial, bits)[1].scalars == 6
