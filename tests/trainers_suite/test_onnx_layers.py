"""The judge of ONNX files: it passes right ones of any method, and names what is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.trainers_suite.packed_nets import Packed, packed

from bitsweep.exporter import SameLayers
from bitsweep_trainers.packed import onnx_graph
from bitsweep_trainers.packed.file import load
from bitsweep_trainers.packed.inputs import Rounding
from bitsweep_trainers.packed.onnx_graph import write_onnx
from bitsweep_trainers.packed.onnx_layers import codes_apart, same_layers

RIGHT: list[tuple[str, str, tuple[int, ...], dict[str, Any]]] = [
    ("fp32", "small-cnn", (), {}),
    ("ptq", "resnet20", (8,), {}),
    ("ptq", "small-cnn", (8,), {"scheme": "asymmetric", "granularity": "tensor"}),
    ("pact", "resnet20", (8,), {}),  # multiplies where QuantizeLinear divides
    ("lsq", "resnet8-b", (4,), {}),
    ("lsq", "resnet18", (4,), {}),
    ("lsq_plus", "small-cnn", (4,), {}),
    ("dorefa", "small-cnn", (4,), {}),
    ("ptq", "mobilenet-v2", (8,), {}),
    ("cpq_dropbits", "lenet5", (4,), {}),
    ("adabits", "small-cnn", (2, 4), {}),
    ("any_precision", "small-cnn", (2, 8, 32), {}),
    ("bit_mixer", "small-cnn", (2, 4), {}),
    ("abn", "small-cnn", (2, 4), {}),
]


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: "-".join(map(str, case[:3])))
def test_a_right_graph_has_no_operation_apart(
    case: tuple[str, str, tuple[int, ...], dict[str, Any]], tmp_path: Path
) -> None:
    method, model, widths, parameters = case
    one = packed(tmp_path, method, *widths, model=model, **parameters)
    network = load(one.path)
    for bits in network.widths:
        network.set_bits(bits)
        write_onnx(network, tmp_path / "x.onnx")
        said = same_layers(network, tmp_path / "x.onnx", one.images)

        assert said.apart == ()
        assert said.num_at_edges <= 1e-5 * said.num_codes
        assert said.num_compared > len(network.body_layers)
        assert said.num_images == len(one.images)


@pytest.fixture(scope="module")
def lsq(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return packed(tmp_path_factory.mktemp("lsq"), "lsq", 4, model="resnet8-b")


@pytest.fixture(scope="module")
def ptq(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    given = {"scheme": "asymmetric", "granularity": "tensor"}
    return packed(tmp_path_factory.mktemp("ptq"), "ptq", 8, model="resnet8", **given)


def changed_constant(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Any], None]:
    """A change of the constant of that name."""

    def apply(model: Any) -> None:
        (found,) = [one for one in model.graph.initializer if one.name == name]
        array = numpy_helper.to_array(found)
        found.CopyFrom(numpy_helper.from_array(change(array).astype(array.dtype), name))

    return apply


def changed_node(name: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    """A change of the node of that name."""

    def apply(model: Any) -> None:
        (found,) = [one for one in model.graph.node if one.name == name]
        change(found)

    return apply


def attribute(name: str, values: list[int]) -> Callable[[Any], None]:
    def apply(node: Any) -> None:
        (found,) = [one for one in node.attribute if one.name == name]
        found.ints[:] = values

    return apply


def reads(index: int, other: str) -> Callable[[Any], None]:
    def apply(node: Any) -> None:
        node.input[index] = other

    return apply


def plus_at_first(array: np.ndarray) -> np.ndarray:
    """The first code moved by one, towards 3 lest it leave its type."""
    moved = array.astype(np.int64)
    moved.flat[0] += 1 if moved.flat[0] < 3 else -1
    return moved


CONV = "body.stage1.0.conv1"


def judged(one: Packed, path: Path, *changes: Callable[[Any], None]) -> SameLayers:
    """The graph of a network with something changed in it, against the network."""
    network = load(one.path)
    write_onnx(network, path)
    model = onnx.load(path)
    for change in changes:
        change(model)
    onnx.save(model, path)
    return same_layers(network, path, one.images)


# What is wrong, with the operation that must be named; each alone, everything else is right.
WRONG: list[tuple[str, Callable[[Any], None], str]] = [
    ("input step", changed_constant(f"{CONV}.input.step", lambda one: one * 1.0001), ".input"),
    ("weight scale", changed_constant(f"{CONV}.weight.scale", lambda one: one * 1.0001), ""),
    ("one weight code", changed_constant(f"{CONV}.weight.codes", plus_at_first), ""),
    ("strides", changed_node(CONV, attribute("strides", [2, 2])), ""),
    ("no padding", changed_node(CONV, attribute("pads", [0, 0, 0, 0])), ""),
    ("swapped padding", changed_node(CONV, attribute("pads", [0, 2, 2, 0])), ""),
    ("padding behind alone", changed_node(CONV, attribute("pads", [0, 0, 2, 2])), ""),
    ("another input", changed_node(f"{CONV}.input.codes", reads(0, "stem.conv")), ".input"),
    ("unrounded input", changed_node(CONV, reads(0, "stem.relu")), ""),
]


@pytest.mark.parametrize(
    ("change", "where"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG]
)
@pytest.mark.parametrize("method", ["lsq", "ptq"])
def test_a_wrong_layer_is_named_and_no_other(
    method: str,
    change: Callable[[Any], None],
    where: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    said = judged(request.getfixturevalue(method), tmp_path / "x.onnx", change)

    assert said.apart == (f"{CONV}{where}",)


def test_a_wrong_zero_point_is_named(ptq: Packed, tmp_path: Path) -> None:
    for name, where in (("input.zero", ".input"), ("weight.zero", "")):
        change = changed_constant(f"{CONV}.{name}", lambda one: one + 1)

        assert judged(ptq, tmp_path / "x.onnx", change).apart == (f"{CONV}{where}",)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            changed_constant("body.stage1.0.bn1.scale", lambda one: one * 1.001),
            "body.stage1.0.bn1",
        ),
        (changed_constant("body.stage1.0.bn1.shift", lambda one: one + 0.01), "body.stage1.0.bn1"),
        (
            changed_node("body.stage1.0.relu1", reads(0, "body.stage1.0.conv1")),
            "body.stage1.0.relu1",
        ),
        (changed_node("add", reads(1, "body.stage1.0.bn2")), "add"),
        (changed_node("logits", reads(0, "stem.relu")), "logits"),
        (changed_constant("head.linear.bias", lambda one: one + 0.001), "head.linear"),
        (changed_constant("stem.conv.weight.codes", plus_at_first), "stem.conv"),
        (changed_constant(f"{CONV}.weight.scale", lambda one: one * np.nan), CONV),
    ],
)
def test_what_is_wrong_between_layers_is_named(
    change: Callable[[Any], None], named: str, lsq: Packed, tmp_path: Path
) -> None:
    assert judged(lsq, tmp_path / "x.onnx", change).apart == (named,)


def test_one_layer_at_other_bits_is_named(tmp_path: Path) -> None:
    one = packed(tmp_path, "abn", 2, 4, weight_source="nested")
    network = load(one.path)
    first, *others = network.body_layers
    network.set_bits([2, *(4 for _ in others)])
    write_onnx(network, tmp_path / "x.onnx")
    network.set_bits(4)
    said = same_layers(network, tmp_path / "x.onnx", one.images)

    assert {first, f"{first}.input"} <= set(said.apart)
    assert not {f"{other}{end}" for other in others for end in ("", ".input")} & set(said.apart)


def test_a_grid_that_is_drawn_wrong_is_found(
    lsq: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = onnx_graph._rounded

    def wrong(graph: Any, rounding: Rounding, values: str, name: str) -> str:
        return right(graph, rounding._replace(high=rounding.high // 2), values, name)

    monkeypatch.setattr(onnx_graph, "_rounded", wrong)
    said = judged(lsq, tmp_path / "x.onnx")

    assert f"{CONV}.input" in said.apart


def test_codes_may_differ_by_one_at_an_edge_alone() -> None:
    grid = Rounding(0.5, 0, 0, 15)
    values = torch.tensor([0.24999999, 0.3, 1.0, 1.25])
    own = torch.tensor([0.0, 0.5, 1.0, 1.0])

    assert codes_apart(values, own, own, grid) == (0, 0)
    assert codes_apart(values, own, torch.tensor([0.5, 0.5, 1.0, 1.5]), grid) == (2, 0)
    assert codes_apart(values, own, torch.tensor([0.0, 0.0, 1.0, 1.0]), grid) == (0, 1)
    assert codes_apart(values, own, torch.tensor([1.0, 0.5, 1.0, 1.0]), grid) == (0, 1)
    assert codes_apart(values, own, torch.full((4,), torch.nan), grid) == (0, 4)
