"""Packed files: every method comes back with equal logits from as many bits as it claims."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from struct import pack_into
from typing import Any

import pytest
import torch
from tests.trainers_suite.packed_nets import packed
from tests.trainers_suite.trials import few

from bitsweep.bits import tied
from bitsweep.errors import InputError
from bitsweep_trainers import supernet, transitions
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.table import METHODS
from bitsweep_trainers.packed import container
from bitsweep_trainers.packed.file import claimed_bits, load
from bitsweep_trainers.packed.network import PackedLayer, PackedNetwork

# Float32 of a sum of a few hundred products of size 1; a flipped code would be at least 1e-3.
TOLERANCE = 2e-5
# (method, widths, parameters): every way that weights, inputs or norms are kept.
CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    *((name, (), {}) for name in sorted(METHODS)),
    ("lsq", (2,), {"activation_bits": 32}),
    ("ptq", (8,), {"scheme": "asymmetric", "granularity": "tensor", "range": "mse"}),
    ("ptq", (3,), {"fold_batch_norm": False, "activation_bits": 8}),
    ("dorefa", (1,), {"activation_bits": 8}),
    ("pact", (1,), {"activation_bits": 8}),
    ("cpq_dropbits", (3,), {"grid": "full"}),
    ("splitquant", (2,), {"storage": "sparse", "granularity": "channel"}),
    ("splitquant", (4,), {"split_activations": False, "fold_batch_norm": False}),
    ("alq", (3,), {"kept_share": 0.5}),
    ("adabits", (2, 3, 8), {"grid": "symmetric", "clipping": "shared"}),
    ("adabits", (4,), {"grid": "centred", "last_layer": "rescaled"}),
    ("any_precision", (1, 2, 32), {}),
    ("any_precision", (3,), {}),
    ("bit_mixer", (2, 3, 4), {"truncation": "floor", "drop_lowest": True}),
    ("bit_mixer", (3,), {}),
    ("mbquant", (2, 3, 4), {}),
    ("mbquant", (2, 4), {"range_index": "position"}),
    ("mbquant", (2, 4), {"stem": "wide", "ends": 32}),
    ("mbquant", (2, 4, 6), {"mode": "reference"}),
    ("mbquant", (2, 3, 4), {"mode": "reference", "ends": 32}),
    ("abn", (2, 3, 4), {"weight_source": "nested"}),
    ("abn", (2, 4), {"norms": "shared"}),
    ("abn", (3,), {}),
]


def case_name(case: tuple[str, tuple[int, ...], dict[str, Any]]) -> str:
    method, widths, parameters = case
    return "-".join([method, *map(str, widths), *map(str, parameters.values())])


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_file_has_the_claimed_bits_and_gives_the_logits_at_every_width(
    case: tuple[str, tuple[int, ...], dict[str, Any]], tmp_path: Path
) -> None:
    method, widths, parameters = case
    one = packed(tmp_path, method, *widths, **parameters)
    network = load(one.path)
    trial = one.made.trial

    assert one.written.payload_bits == claimed_bits(trial)
    for bits in (*trial.bits, *trial.bits[::-1]):
        network.set_bits(bits)
        with torch.no_grad():
            found = network(one.images)
        assert (found - one.logits(bits)).abs().max() < TOLERANCE


@pytest.mark.parametrize("method", ["lsq", "ptq", "splitquant", "bit_mixer", "mbquant", "abn"])
@pytest.mark.parametrize("model", ["resnet8", "resnet8-b"])
def test_shortcuts_are_kept_too(method: str, model: str, tmp_path: Path) -> None:
    widths = {"mbquant": (2, 3)}.get(method, ())
    one = packed(tmp_path, method, *widths, model=model)
    network = load(one.path)

    assert one.written.payload_bits == claimed_bits(one.made.trial)
    for bits in one.made.trial.bits:
        network.set_bits(bits)
        with torch.no_grad():
            assert (network(one.images) - one.logits(bits)).abs().max() < TOLERANCE


@pytest.mark.parametrize("given", [{}, {"shuffle": "every_block"}, {"mode": "reference"}])
@pytest.mark.parametrize("widths", [(2, 4), (2, 3, 4)])
def test_branches_of_every_mode_are_kept_in_a_network_with_shortcuts(
    given: dict[str, Any], widths: tuple[int, ...], tmp_path: Path
) -> None:
    one = packed(tmp_path, "mbquant", *widths, model="resnet8", **given)
    network = load(one.path)

    assert one.written.payload_bits == claimed_bits(one.made.trial)
    for bits in one.made.trial.bits:
        network.set_bits(bits)
        with torch.no_grad():
            assert (network(one.images) - one.logits(bits)).abs().max() < TOLERANCE


@pytest.mark.real
def test_branches_of_torchvisions_blocks_are_kept(tmp_path: Path) -> None:
    given = {"shuffle": "downsample", "num_branches": 3, "selection": "amortized"}
    one = packed(tmp_path, "mbquant", 3, 4, model="resnet18-small", **given)
    network = load(one.path)

    assert one.written.payload_bits == claimed_bits(one.made.trial)
    for bits in one.made.trial.bits:
        network.set_bits(bits)
        with torch.no_grad():
            assert (network(one.images) - one.logits(bits)).abs().max() < TOLERANCE


MOVED = {"weight_offset": "input_channels"}


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("small-cnn", {"range_index": "position"}),
        ("small-cnn", {"stem": "wide"}),
        ("small-cnn", MOVED),
        ("small-cnn", {**MOVED, "range_index": "position"}),
        ("small-cnn", {**MOVED, "num_branches": 5}),
        ("small-cnn", {"range_std": "filter"}),
        ("small-cnn", {"mode": "reference", "weight_offset": "own"}),
        ("resnet8-b", MOVED),  # layers of equal channels, too, whose windows are branches
    ],
)
def test_branches_have_the_claimed_bits_under_each_switch(
    model: str, given: dict[str, Any], tmp_path: Path
) -> None:
    one = packed(tmp_path, "mbquant", 2, 4, 6, 8, model=model, **given)

    assert one.written.payload_bits == claimed_bits(one.made.trial)


@pytest.mark.parametrize("given", [{}, {"depthwise_bits": "width"}, {"mode": "reference"}])
def test_depthwise_layers_in_branches_are_kept(given: dict[str, Any], tmp_path: Path) -> None:
    one = packed(tmp_path, "mbquant", 2, 4, model="mobilenet-v2", **given)
    network = load(one.path)

    assert one.written.payload_bits == claimed_bits(one.made.trial)
    for bits in one.made.trial.bits:
        network.set_bits(bits)
        with torch.no_grad():
            assert (network(one.images) - one.logits(bits)).abs().max() < TOLERANCE


def test_a_layer_of_hidden_units_with_its_norm_is_kept(tmp_path: Path) -> None:
    one = packed(tmp_path, "lsq", 2, model="lenet5")
    with torch.no_grad():
        found = load(one.path)(one.images)

    assert one.written.payload_bits == claimed_bits(one.made.trial)
    assert (found - one.logits(tied(2))).abs().max() < TOLERANCE


@pytest.mark.parametrize("method", ["abn", "bit_mixer"])
def test_layers_may_have_bits_of_their_own(method: str, tmp_path: Path) -> None:
    one = packed(tmp_path, method, 2, 4, model="resnet8-b")
    layers = quantized_layers(one.made.network.get_submodule("body"))
    widths = [2 if index % 3 else 4 for index, _ in enumerate(layers)]
    network = load(one.path)
    network.set_bits(widths)
    if method == "bit_mixer":
        transitions.allocate(one.made.network, widths)
    else:
        groups = supernet.decision_layers(one.made.network)
        body = list(network.body_layers)
        chosen = [widths[body.index(group[0])] for group in groups]
        supernet.allocate(one.made.network, chosen)
        same = {path: bits for group, bits in zip(groups, chosen, strict=True) for path in group}
        network.set_bits([same[path] for path in body])
    one.made.network.eval()
    with torch.no_grad():
        difference = network(one.images) - one.made.network(one.images)

    assert difference.abs().max() < TOLERANCE


# AdaBits trains with q + (w - q) in float32, which is q to the last bit or two alone.
ONE_CHANNEL: list[tuple[str, int, str, dict[str, Any]]] = [
    ("ptq", 8, "resnet20", {}),
    ("ptq", 8, "resnet20", {"range": "mse"}),
    ("ptq", 8, "resnet20", {"scheme": "asymmetric", "granularity": "tensor"}),
    ("splitquant", 8, "resnet20", {}),
    ("splitquant", 8, "resnet20", {"storage": "sparse", "granularity": "channel"}),
    *((name, 4, "resnet8-b", {}) for name in sorted(METHODS) if name != "adabits"),
    ("dorefa", 4, "mobilenet-v2", {}),  # depthwise layers have kernels of one channel, too
]


@pytest.mark.parametrize("case", ONE_CHANNEL, ids=lambda case: "-".join(map(str, case)))
def test_kernels_of_one_channel_are_laid_out_as_in_training_and_logits_equal_to_the_last_bit(
    case: tuple[str, int, str, dict[str, Any]], tmp_path: Path
) -> None:
    method, bits, model, parameters = case
    one = packed(tmp_path, method, bits, model=model, **parameters)
    network, trial = load(one.path), one.made.trial
    images = normalise(few(evaluated=500).validation_images, network.mean, network.std)
    for width in trial.bits:
        network.set_bits(width)
        one.made.method.select(one.made.network, width)
        one.made.network.eval()
        with torch.no_grad():
            assert torch.equal(network(images), one.made.network(images))
        for path, layer in quantized_layers(one.made.network):
            trained = layer.weight_quantizer(layer.weight).stride()
            found = packed_layer(network, path.partition(".parts.")[0])
            assert {value.stride() for value in found.weights} == {trained}


def packed_layer(network: PackedNetwork, path: str) -> PackedLayer:
    layer = network.network.get_submodule(path)
    assert isinstance(layer, PackedLayer)
    return layer


def test_a_file_without_strides_is_laid_out_channels_last(tmp_path: Path) -> None:
    network = load(packed(tmp_path, "lsq", 4).path)
    layer = packed_layer(network, "stem.conv")
    laid_out = layer.weights[0].stride()
    layer.record = replace(layer.record, strides=None)
    layer.switch(None)

    assert layer.weights[0].stride() == laid_out == (9, 1, 3, 1)


def test_a_packed_network_takes_raw_images_and_nothing_in_it_learns(tmp_path: Path) -> None:
    one = packed(tmp_path, "lsq", 4)
    network = load(one.path)
    with torch.no_grad():
        expected = network(one.images)

    assert torch.equal(network.predict(one.made.data.validation_images), expected)
    assert list(network.parameters()) == []
    assert network.header["trial_id"] == one.made.trial.id


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (packed(tmp_path, "lsq", 2).path.read_bytes() for _ in range(2))

    assert first == second


def test_padding_and_header_are_no_part_of_the_payload(tmp_path: Path) -> None:
    written = packed(tmp_path, "lsq", 3).written
    payload_bytes = written.file_bytes - written.header_bytes

    assert 8 * payload_bytes == written.payload_bits + written.padding_bits
    assert written.padding_bits < 8


@pytest.mark.parametrize("bits", [3, "w4a8", [2, 4, 4], "four", 40])
def test_bits_that_a_file_does_not_hold_are_refused(bits: Any, tmp_path: Path) -> None:
    network = load(packed(tmp_path, "adabits", 2, 4).path)

    with pytest.raises(InputError, match=r"holds w2a2, w4a4|for 2 layers|expected bits|between"):
        network.set_bits(bits)


def test_a_network_follows_to_another_type(tmp_path: Path) -> None:
    one = packed(tmp_path, "lsq", 4)
    with torch.no_grad():
        found = load(one.path).double()(one.images.double())

    assert found.dtype == torch.float64
    assert (found - one.logits(tied(4))).abs().max() < 1e-2


def changed(path: Path, change: str) -> Path:
    """The file with something wrong."""
    data = bytearray(path.read_bytes())
    if change == "cut":
        data = data[:-5]
    elif change == "short":
        data = data[:20]
    elif change == "flipped":
        data[-9] ^= 1
    elif change == "version":
        pack_into("<I", data, len(container.MAGIC), 99)
    elif change == "foreign":
        data = bytearray(b"PK\x03\x04 a pickle within a zip")
    else:
        path.unlink()
        return path
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cut", "damaged or cut"),
        ("short", "is cut: 20 bytes"),
        ("flipped", "checksum differs"),
        ("version", "has version 99 .* reads 1: export the trial again"),
        ("foreign", "is no packed model"),
        ("missing", "cannot be read: No such file"),
    ],
)
def test_a_file_with_something_wrong_is_one_clear_error(
    change: str, said: str, tmp_path: Path
) -> None:
    path = changed(packed(tmp_path, "lsq", 2).path, change)

    with pytest.raises(InputError, match=said):
        load(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind": "coded"', '"kind": "os.system"'),
        ('"model": "small-cnn"', '"model": "resnet8"'),
        ('"path": "body.conv1"', '"path": "body.conv9"'),
        ('"shape": [32, 16, 3, 3]', '"shape": [32, 16, 3, 999999]'),
        ('"offset": 0', '"offset": -32'),
        ('"widths": ["w2a2"]', '"widths": 7'),
        ('"strides": [144, 1, 48, 16]', '"strides": [999999, 1, 48, 16]'),
        ('"strides": [144, 1, 48, 16]', '"strides": [0, 0, 0, 511]'),
        ('"strides": [144, 1, 48, 16]', '"strides": [1]'),
    ],
)
def test_a_header_that_lies_is_refused_even_with_a_good_checksum(
    old: str, new: str, tmp_path: Path
) -> None:
    path = packed(tmp_path, "lsq", 2).path
    whole = path.read_bytes()
    _, _, header_bytes, _ = container.LEAD.unpack_from(whole)
    begin = container.LEAD.size
    header = whole[begin : begin + header_bytes].decode()
    spoilt = header.replace(old.replace('": ', '":').replace(", ", ","), new, 1).encode()
    assert spoilt != header.encode()
    behind = spoilt + whole[begin + header_bytes :]
    digest = sha256(behind).digest()
    lead = container.LEAD.pack(container.MAGIC, container.VERSION, len(spoilt), digest)
    path.write_bytes(lead + behind)

    with pytest.raises(InputError):
        load(path)


def test_a_quantizer_without_a_packed_form_is_named(tmp_path: Path) -> None:
    one = packed(tmp_path, "lsq", 2)
    layer = one.made.network.get_submodule("body.conv1")
    layer.weight_quantizer = torch.nn.Tanh()

    with pytest.raises(InputError, match=r"body\.conv1 cannot be exported: Tanh"):
        container_of(one.made, tmp_path)


def container_of(made: Any, folder: Path) -> None:
    from bitsweep_trainers.packed.file import save

    save(made.network, made.trial, folder / "x", mean=made.data.mean, std=made.data.std)
