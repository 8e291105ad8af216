"""A packed network as an ONNX graph of QuantizeLinear and DequantizeLinear around float layers.

The graph is drawn from a trace of the network: each module or addition gives its nodes. Codes of
up to 4 bits are stored as (u)int4, others as (u)int8.
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from bitsweep.errors import InputError
from bitsweep_trainers.branches import BranchLayer
from bitsweep_trainers.models.resnet import PadShortcut
from bitsweep_trainers.packed.bitstream import bits_of, pack
from bitsweep_trainers.packed.inputs import Rounding, SeveralGrids
from bitsweep_trainers.packed.network import PackedLayer, PackedNetwork, PackedNorm
from bitsweep_trainers.packed.weights import FloatWeights, UnitLatentWeights

OPSET = 21  # the first whose QuantizeLinear knows 4 bits
IR_VERSION = 10
IMAGES, LOGITS = "images", "logits"  # the input and the output of a graph
MISSING = "ONNX needs two packages more: pip install 'bitsweep[export]' -c constraints.txt"


class _Tracer(fx.Tracer):
    """Goes into containers and blocks, and takes everything with a formula as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential) and type(m) not in self.opened

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        leaves = (PackedLayer, PackedNorm, PadShortcut)
        self.opened = {
            type(one)
            for one in network.modules()
            if list(one.children()) and not isinstance(one, leaves)
        }


class Graph:
    """The nodes and constants of a graph in the making."""

    def __init__(self, onnx: Any) -> None:  # the onnx package, which is optional
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node; its output has its name."""
        made = self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes)
        self.nodes.append(made)
        return name

    def floats(self, name: str, values: Tensor | float) -> str:
        """Add a constant in floating point."""
        array = torch.as_tensor(values, dtype=torch.float32).detach().cpu().contiguous().numpy()
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def wholes(self, name: str, values: Tensor | Sequence[int]) -> str:
        """Add a constant of int64."""
        array = np.asarray(values, dtype=np.int64)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def codes(self, name: str, values: Tensor, *, low: int, high: int) -> str:
        """Add whole numbers in the smallest type that holds low..high."""
        kind, _, _ = self.container(low, high)
        flat = values.detach().cpu().reshape(-1).to(torch.int16).numpy().astype(np.uint8)
        is_half = kind in (self.onnx.TensorProto.INT4, self.onnx.TensorProto.UINT4)
        # ONNX lays two codes of 4 bits into a byte, the first one low, as a packed file does.
        data = pack(bits_of(flat & np.uint8(15), 4)) if is_half else flat.tobytes()
        made = self.onnx.helper.make_tensor(name, kind, list(values.shape), data, raw=True)
        self.constants.append(made)
        return name

    def container(self, low: int, high: int) -> tuple[int, int, int]:
        """The type of codes low..high, and the numbers that it can hold."""
        types = self.onnx.TensorProto
        for kind, first, last in (
            (types.UINT4, 0, 15),
            (types.INT4, -8, 7),
            (types.UINT8, 0, 255),
            (types.INT8, -128, 127),
        ):
            if first <= low and high <= last:
                return int(kind), first, last
        raise InputError(f"codes from {low} to {high} fit into no type of 8 bits")


def write_onnx(network: PackedNetwork, path: Path) -> None:
    """Write the network as it is switched; InputError where a layer has no uniform grid."""
    try:
        import onnx
    except ImportError as error:
        raise InputError(MISSING) from error
    if any(isinstance(one, BranchLayer) for one in network.modules()):
        raise InputError("branches have no ONNX form: only the packed format holds this network")
    graph = Graph(onnx)
    nodes = trace(network).nodes
    names = tensor_names(nodes)
    for node in nodes:
        if node.op not in ("placeholder", "output"):
            _draw(graph, network, node, names)
    _finish(graph, network, names[next(reversed(nodes))], path)


def trace(network: PackedNetwork) -> fx.Graph:
    """What a network does to its images, module by module."""
    return _Tracer(network.network).trace(network.network)


def tensor_names(nodes: Iterable[fx.Node]) -> dict[fx.Node, str]:
    """The name in the graph of what each node of a trace gives.

    That of a module is its path; a later call of the same module has its number behind.
    """
    names: dict[fx.Node, str] = {}
    calls: Counter[str] = Counter()
    for node in nodes:
        path = str(node.target)
        calls[path] += 1
        if node.op == "placeholder":
            names[node] = IMAGES
        elif node.op == "output":
            names[node] = names[node.all_input_nodes[0]]
        elif node.op == "call_module":
            names[node] = path if calls[path] == 1 else f"{path}:{calls[path]}"
        else:
            names[node] = node.name
    return names


def _draw(
    graph: Graph, network: PackedNetwork, node: fx.Node, names: Mapping[fx.Node, str]
) -> str:
    given = [names[one] for one in node.all_input_nodes]
    if node.op == "call_function" and node.target is operator.add:
        return graph.node("Add", given, names[node])
    if node.op == "call_module":
        module = network.network.get_submodule(str(node.target))
        for kind, draw in DRAWN.items():
            if isinstance(module, kind):
                return draw(graph, module, given[0], names[node])
    what = type(module).__name__ if node.op == "call_module" else str(node.target)
    raise InputError(f"{what} has no ONNX form: only the packed format holds this network")


def _finish(graph: Graph, network: PackedNetwork, last: str, path: Path) -> None:
    helper, types = graph.onnx.helper, graph.onnx.TensorProto
    graph.node("Identity", [last], LOGITS)
    shape, classes = network.header["data"]["shape"], network.header["data"]["classes"]
    images = helper.make_tensor_value_info(IMAGES, types.FLOAT, ["batch", *shape])
    logits = helper.make_tensor_value_info(LOGITS, types.FLOAT, ["batch", classes])
    whole = helper.make_graph(graph.nodes, "bitsweep", [images], [logits], graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION)
    model.producer_name = "bitsweep"
    for key in ("trial_id", "convention", "claimed_bits"):
        model.metadata_props.add(key=f"bitsweep.{key}", value=str(network.header[key]))
    _check(graph.onnx, model)
    path.write_bytes(model.SerializeToString())


def _check(onnx: Any, model: Any) -> None:
    """InputError where onnx itself finds a graph to be none, in its first line."""
    refusals = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    try:
        onnx.checker.check_model(model, full_check=True)
    except refusals as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"onnx refuses the graph of this network: {reason}; the packed format holds it"
        ) from error


def _layer(graph: Graph, module: nn.Module, values: str, name: str) -> str:
    assert isinstance(module, PackedLayer)
    rounding = input_grid(module, name)
    if rounding is not None:
        values = _rounded(graph, rounding, values, rounded_name(name))
    inputs = [values, _weights(graph, module, name)]
    if module.record.bias is not None:
        inputs.append(graph.floats(f"{name}.bias", module.record.bias))
    if module.is_linear:
        return graph.node("Gemm", inputs, name, transB=1)
    keywords = module.geometry
    padding = list(keywords["padding"])
    return graph.node(
        "Conv",
        inputs,
        name,
        strides=list(keywords["stride"]),
        pads=[*padding, *padding],
        dilations=list(keywords["dilation"]),
        group=keywords["groups"],
    )


def input_grid(layer: PackedLayer, name: str) -> Rounding | None:
    """The grid of a layer's inputs as it is switched; None: they are floats.

    InputError for several grids, or one with holes, naming the layer.
    """
    try:
        rounds = layer.record.input
        return None if rounds is None else rounds.rounding(layer.bits.activation)
    except SeveralGrids as error:
        raise InputError(
            f"{name} rounds its input to several grids, or to one with holes: ONNX QDQ needs one "
            "without, the packed format does not"
        ) from error


def rounded_name(layer: str) -> str:
    """The name in the graph of a layer's rounded input."""
    return f"{layer}.input"


def _rounded(graph: Graph, rounding: Rounding, values: str, name: str) -> str:
    """Quantize and dequantize; codes that their type could exceed are clipped before."""
    step, zero, low, high, offset = rounding
    if offset:
        graph.floats(f"{name}.offset", offset)
        values = graph.node("Sub", [values, f"{name}.offset"], f"{name}.centred")
    kind, first, last = graph.container(low, high)
    if (first, last) != (low, high):
        ends = [
            graph.floats(f"{name}.{end}", (code - zero) * step)
            for end, code in (("least", low), ("greatest", high))
        ]
        values = graph.node("Clip", [values, *ends], f"{name}.clipped")
    scale = graph.floats(f"{name}.step", step)
    graph.constants.append(graph.onnx.helper.make_tensor(f"{name}.zero", kind, [], [zero]))
    codes = graph.node("QuantizeLinear", [values, scale, f"{name}.zero"], f"{name}.codes")
    read = [codes, scale, f"{name}.zero"]
    if not offset:
        return graph.node("DequantizeLinear", read, name)
    values = graph.node("DequantizeLinear", read, f"{name}.values")
    return graph.node("Add", [values, f"{name}.offset"], name)


def _weights(graph: Graph, module: PackedLayer, name: str) -> str:
    """DequantizeLinear of the codes; an Add where zero lies between two codes."""
    kept, bits = module.record.weights, module.bits.weight
    found = kept.uniform(bits)
    if found is None:
        values = kept.values(bits)
        if isinstance(kept, FloatWeights | UnitLatentWeights):
            return graph.floats(f"{name}.weight", values[0])
        raise InputError(
            f"{name} keeps {type(kept).__name__}, which have no uniform grid: ONNX QDQ needs one, "
            "the packed format does not"
        )
    codes, (scale, zero, offset) = found[0], found[1].lattice()
    low, high = (int(one) for one in torch.cat([codes.flatten(), zero.flatten()]).aminmax())
    shape = [codes.shape[0]] if scale.numel() > 1 else []
    names = [
        graph.codes(f"{name}.weight.codes", codes, low=low, high=high),
        graph.floats(f"{name}.weight.scale", scale.reshape(shape)),
        graph.codes(f"{name}.weight.zero", zero.reshape(shape), low=low, high=high),
    ]
    axis = {"axis": 0} if shape else {}
    values_name = graph.node("DequantizeLinear", names, f"{name}.weight.values", **axis)
    if bool((offset == 0).all()):
        return values_name
    graph.floats(f"{name}.weight.offset", offset)
    return graph.node("Add", [values_name, f"{name}.weight.offset"], f"{name}.weight.moved")


def _norm(graph: Graph, module: nn.Module, values: str, name: str) -> str:
    assert isinstance(module, PackedNorm)
    folded = module.current
    names = [
        graph.floats(f"{name}.scale", folded.scale),
        graph.floats(f"{name}.shift", folded.shift),
        graph.floats(f"{name}.mean", torch.zeros_like(folded.shift)),
        graph.floats(f"{name}.var", torch.ones_like(folded.scale)),
    ]
    return graph.node("BatchNormalization", [values, *names], name, epsilon=0.0)


def _max_pool(graph: Graph, module: nn.Module, values: str, name: str) -> str:
    assert isinstance(module, nn.MaxPool2d | nn.MaxPool1d)
    num_axes = 2 if isinstance(module, nn.MaxPool2d) else 1
    kernel, stride, padding = (
        [one] * num_axes if isinstance(one, int) else [int(side) for side in one]
        for one in (module.kernel_size, module.stride, module.padding)
    )
    return graph.node(
        "MaxPool",
        [values],
        name,
        kernel_shape=kernel,
        strides=stride,
        pads=[*padding, *padding],
        ceil_mode=int(module.ceil_mode),
    )


def _mean_pool(graph: Graph, module: nn.Module, values: str, name: str) -> str:
    assert isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool1d)
    if module.output_size not in (1, (1,), (1, 1)):
        raise InputError(f"{name} pools to {module.output_size}: ONNX export knows 1 alone")
    return graph.node("GlobalAveragePool", [values], name)


def _pad_shortcut(graph: Graph, module: nn.Module, values: str, name: str) -> str:
    assert isinstance(module, PadShortcut)
    added = module.out_channels - module.in_channels
    before = added // 2
    bounds = [
        graph.wholes(f"{name}.starts", [0, 0]),
        graph.wholes(f"{name}.ends", [2**31 - 1, 2**31 - 1]),
        graph.wholes(f"{name}.axes", [2, 3]),
        graph.wholes(f"{name}.steps", [module.stride, module.stride]),
    ]
    pixels = graph.node("Slice", [values, *bounds], f"{name}.pixels")
    pads = graph.wholes(f"{name}.pads", [0, before, 0, 0, 0, added - before, 0, 0])
    return graph.node("Pad", [pixels, pads], name)


def _relu6(graph: Graph, module: nn.Module, values: str, name: str) -> str:
    ends = [graph.floats(f"{name}.{end}", at) for end, at in (("least", 0.0), ("greatest", 6.0))]
    return graph.node("Clip", [values, *ends], name)


def _simple(kind: str, **attributes: Any) -> Callable[[Graph, nn.Module, str, str], str]:
    def draw(graph: Graph, module: nn.Module, values: str, name: str) -> str:
        return graph.node(kind, [values], name, **attributes)

    return draw


DRAWN: dict[type[nn.Module], Callable[[Graph, nn.Module, str, str], str]] = {
    PackedLayer: _layer,
    PackedNorm: _norm,
    nn.ReLU6: _relu6,
    nn.ReLU: _simple("Relu"),
    nn.MaxPool2d: _max_pool,
    nn.MaxPool1d: _max_pool,
    nn.AdaptiveAvgPool2d: _mean_pool,
    nn.AdaptiveAvgPool1d: _mean_pool,
    nn.Flatten: _simple("Flatten", axis=1),
    nn.Identity: _simple("Identity"),
    PadShortcut: _pad_shortcut,
}


def onnx_logits(path: Path, images: Tensor) -> Tensor:
    """What onnxruntime makes of normalised images, node by node as the graph says.

    Its fused integer kernels are left off: on some processors those add up in 16 bits.
    """
    session = session_of(path.read_bytes())
    (logits,) = session.run([LOGITS], {IMAGES: images.cpu().contiguous().numpy()})
    return torch.from_numpy(np.asarray(logits))


def session_of(model: bytes) -> Any:  # onnxruntime is optional, and has no types of its own
    """A run of a model by onnxruntime, node by node; InputError where that is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(MISSING) from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
