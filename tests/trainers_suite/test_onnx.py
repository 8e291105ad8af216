"""ONNX graphs against the networks they come from, run by onnxruntime."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from tests.trainers_suite.packed_nets import packed
from torch import nn

from bitsweep.errors import InputError
from bitsweep_trainers.packed.file import load
from bitsweep_trainers.packed.onnx_graph import DRAWN, _simple, onnx_logits, write_onnx

TOLERANCE = 2e-5
CASES: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
    ("fp32", "small-cnn", (), {}),
    ("ptq", "small-cnn", (4,), {}),
    ("ptq", "small-cnn", (8,), {"scheme": "asymmetric", "granularity": "tensor"}),
    ("lsq", "resnet8", (4,), {}),
    ("lsq", "resnet8-b", (8,), {}),
    ("lsq", "lenet5", (3,), {}),
    ("lsq_plus", "small-cnn", (4,), {}),
    ("dorefa", "small-cnn", (4,), {}),
    ("dorefa", "small-cnn", (1,), {"activation_bits": 8}),
    ("pact", "small-cnn", (8,), {}),
    ("cpq_dropbits", "small-cnn", (4,), {}),
    ("adabits", "small-cnn", (2, 4), {}),
    ("any_precision", "small-cnn", (2, 8), {}),
    ("any_precision", "small-cnn", (2, 32), {}),  # 32: weights and inputs are plain floats
    ("bit_mixer", "small-cnn", (2, 4), {}),
    ("abn", "small-cnn", (2, 4), {}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:3])))
def test_onnxruntime_gives_the_logits_at_every_width(
    case: tuple[str, str, tuple[int, ...], dict[str, Any]], tmp_path: Path
) -> None:
    method, model, widths, parameters = case
    one = packed(tmp_path, method, *widths, model=model, **parameters)
    network = load(one.path)
    for bits in network.widths:
        network.set_bits(bits)
        write_onnx(network, tmp_path / "x.onnx")
        with torch.no_grad():
            difference = (network(one.images) - onnx_logits(tmp_path / "x.onnx", one.images)).abs()

        # An activation at the edge between two codes may fall on either side: one image of 40.
        assert int((difference.amax(1) > TOLERANCE).sum()) <= 1


def test_four_bits_are_stored_as_four_bits(tmp_path: Path) -> None:
    network = load(packed(tmp_path, "lsq", 4).path)
    write_onnx(network, tmp_path / "x.onnx")
    model = onnx.load(tmp_path / "x.onnx")
    types = {one.name: one.data_type for one in model.graph.initializer}
    kinds = {one.op_type for one in model.graph.node}

    assert types["body.conv1.weight.codes"] == onnx.TensorProto.INT4
    assert types["stem.conv.weight.codes"] == onnx.TensorProto.INT8
    assert types["body.conv1.input.zero"] == onnx.TensorProto.UINT4
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


@pytest.mark.parametrize(
    ("method", "model", "bits"),
    [
        ("lsq", "resnet18", 4),  # each block calls its one ReLU twice
        ("ptq", "mobilenet-v2", 8),  # ReLU6
    ],
)
def test_torchvisions_networks_have_a_graph(
    method: str, model: str, bits: int, tmp_path: Path
) -> None:
    one = packed(tmp_path, method, bits, model=model)
    network = load(one.path)
    write_onnx(network, tmp_path / "x.onnx")
    with torch.no_grad():
        difference = (network(one.images) - onnx_logits(tmp_path / "x.onnx", one.images)).abs()

    # Many layers have many activations at an edge between two codes: four images of 40.
    assert int((difference.amax(1) > TOLERANCE).sum()) <= 4


def test_what_onnx_itself_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load(packed(tmp_path, "lsq", 4).path)
    monkeypatch.setitem(DRAWN, nn.ReLU, _simple("NoSuchOperation"))

    with pytest.raises(InputError, match="onnx refuses the graph of this network: ") as raised:
        write_onnx(network, tmp_path / "x.onnx")
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("alq", "BasesWeights, which have no uniform grid"),
        ("splitquant", "rounds its input to several grids"),
        ("mbquant", "branches have no ONNX form"),
    ],
)
def test_what_has_no_uniform_grid_is_refused(method: str, said: str, tmp_path: Path) -> None:
    network = load(packed(tmp_path, method).path)

    with pytest.raises(InputError, match=said):
        write_onnx(network, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
