"""Whether an ONNX file does what its network does: piece by piece, each on the network's values.

A whole run cannot tell: another runtime's sums differ in their last bits, a value at the edge
between two codes then falls to the other side, and all that comes after differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from bitsweep.exporter import SameLayers
from bitsweep_trainers.packed.inputs import Rounding
from bitsweep_trainers.packed.network import PackedLayer, PackedNetwork
from bitsweep_trainers.packed.onnx_graph import (
    LOGITS,
    input_grid,
    rounded_name,
    session_of,
    tensor_names,
    trace,
)
from bitsweep_trainers.packed.sameness import apart, largest

BATCH = 32
# Of the largest value of a tensor: float32 sums of thousands of products agree better.
SUMS_WITHIN = 1e-5
# Of the largest value of a grid, or weight of an output channel: one product and one sum.
VALUES_WITHIN = 1e-6
# Of a step, how near an edge between two codes lies: x / step in float32 at 8 bits, with room.
EDGE_WITHIN = 1e-3


@torch.inference_mode()
def same_layers(network: PackedNetwork, path: Path, images: Tensor) -> SameLayers:
    """Compare a file with the network that it was drawn from, on normalised images (N, ...).

    Every operation of the network is taken out of the file and fed with the network's own values:
    sums must agree to `SUMS_WITHIN`, codes exactly, but by one where a value lies at an edge.
    """
    beside = _Beside(network, path)
    for batch in torch.split(images, BATCH):
        beside.run(batch)
    return SameLayers(
        num_images=len(images),
        num_compared=len(beside.names_compared),
        num_codes=beside.num_codes,
        num_at_edges=beside.num_at_edges,
        apart=tuple(dict.fromkeys(beside.found_apart)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The operations of a file between tensors that are given and one that is asked for."""

    session: Any  # onnxruntime's
    inputs: tuple[str, ...]
    output: str

    def run(self, given: Mapping[str, Tensor]) -> Tensor | None:
        """What it makes of the given tensors; None if it reads another one."""
        if not set(self.inputs) <= set(given):
            return None
        feeds = {name: given[name].contiguous().numpy() for name in self.inputs}
        (found,) = self.session.run([self.output], feeds)
        return torch.from_numpy(np.asarray(found))


@dataclass(slots=True)
class Pieces:
    """A file cut at the tensors named in `cuts`; pieces are made when they are asked for."""

    path: Path
    cuts: frozenset[str]
    model: Any = field(init=False)  # onnx is optional, and has no types of its own
    made: dict[str, Piece] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        import onnx

        self.model = onnx.load(self.path)

    def run(self, output: str, given: Mapping[str, Tensor]) -> Tensor | None:
        """What the file makes of the given tensors; None if no piece of it does so."""
        from onnxruntime.capi import onnxruntime_pybind11_state as raised

        try:
            if output not in self.made:
                self.made[output] = self._cut(output)
            return self.made[output].run(given)
        except (raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.RuntimeException):
            return None

    def weights(self, layer: str) -> Tensor | None:
        """The weights that a layer of the file computes with; None if it has no such layer."""
        nodes = [one for one in self.model.graph.node if one.output[0] == layer]
        return self.run(nodes[0].input[1], {}) if nodes and len(nodes[0].input) > 1 else None

    def _cut(self, output: str) -> Piece:
        import onnx

        graph, helper = self.model.graph, onnx.helper
        wanted, nodes = {output}, []
        inputs: set[str] = set()
        for node in reversed(graph.node):  # each comes behind what it reads
            if not wanted.isdisjoint(node.output):
                nodes.append(node)
                inputs |= self.cuts.intersection(node.input)
                wanted |= set(node.input) - self.cuts
        constants = [one for one in graph.initializer if one.name in wanted]
        if not nodes:  # a constant, or nothing
            nodes.append(helper.make_node("Identity", [output], [f"{output}:copy"]))
            output = f"{output}:copy"
        values = [self._floats(one) for one in sorted(inputs)]
        whole = helper.make_graph(nodes[::-1], "piece", values, [self._floats(output)], constants)
        piece = helper.make_model(
            whole, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        session = session_of(piece.SerializeToString())
        return Piece(session=session, inputs=tuple(sorted(inputs)), output=output)

    def _floats(self, name: str) -> Any:
        import onnx

        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)


class _Beside(fx.Interpreter):
    """Runs a network operation by operation, and the same piece of the file beside each."""

    def __init__(self, network: PackedNetwork, path: Path) -> None:
        traced = trace(network)
        super().__init__(network.network, graph=traced)
        self.names = tensor_names(traced.nodes)
        layers = {name for name in self.names.values() if name}
        cuts = layers | {rounded_name(name) for name in layers}
        self.pieces = Pieces(path, frozenset(cuts))
        self.names_compared: set[str] = set()
        self.found_apart: list[str] = []
        self.num_codes = self.num_at_edges = 0

    def run_node(self, n: fx.Node) -> Tensor:
        """The network's own value of a node of its trace, after the file's was compared to it."""
        own: Tensor = super().run_node(n)
        if n.op == "placeholder":
            return own
        name = LOGITS if n.op == "output" else self.names[n]
        given: Mapping[str, Tensor] = {self.names[one]: self.env[one] for one in n.all_input_nodes}
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, PackedLayer):
            given = self._rounded(module, name, given)
            self._same_weights(module, name)
        self._same(name, own=own, found=self.pieces.run(name, given))
        return own

    def _rounded(
        self, layer: PackedLayer, name: str, given: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """What the layer computes with: its rounded input, if it rounds it."""
        rounding = input_grid(layer, name)
        if rounding is None:
            return given
        assert layer.record.input is not None
        bits, rounded = layer.bits.activation, rounded_name(name)
        ((source, values),) = given.items()
        if rounded not in self.names_compared:  # data may never come to the ends of a grid
            ramp = whole_grid(rounding)
            own = layer.record.input.rounded(ramp, bits)
            self._same_codes(rounded, rounding, (source, ramp), own)
        own = layer.record.input.rounded(values, bits)
        self._same_codes(rounded, rounding, (source, values), own)
        return {rounded: own}

    def _same_codes(
        self, rounded: str, rounding: Rounding, source: tuple[str, Tensor], own: Tensor
    ) -> None:
        self.names_compared.add(rounded)
        found = self.pieces.run(rounded, dict([source]))
        if found is None or found.shape != own.shape:
            self.found_apart.append(rounded)
            return
        num_at_edges, num_apart = codes_apart(source[1], own, found, rounding)
        self.num_codes += own.numel()
        self.num_at_edges += num_at_edges
        if num_apart:
            self.found_apart.append(rounded)

    def _same_weights(self, layer: PackedLayer, name: str) -> None:
        if name in self.names_compared:
            return
        (own,) = layer.weights
        bound = VALUES_WITHIN * own.abs().amax(tuple(range(1, own.ndim)), keepdim=True)
        self._same(name, own=own, found=self.pieces.weights(name), bound=bound)

    def _same(
        self, name: str, *, own: Tensor, found: Tensor | None, bound: Tensor | None = None
    ) -> None:
        self.names_compared.add(name)
        limit = SUMS_WITHIN * largest(own) if bound is None else bound
        if found is None or found.shape != own.shape or bool(apart(own, found, bound=limit).any()):
            self.found_apart.append(name)


def codes_apart(values: Tensor, own: Tensor, found: Tensor, rounding: Rounding) -> tuple[int, int]:
    """How many of two roundings of the same values differ: at edges by one code, and otherwise.

    >>> values, own = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.0, 0.0, 1.0])
    >>> codes_apart(values, own, torch.tensor([0.0, 1.0, 2.0]), Rounding(1.0, 0, 0, 3))
    (1, 1)
    """
    step = rounding.step
    within = VALUES_WITHIN * (largest(own) + abs(rounding.offset))
    differs = apart(own, found, bound=within)
    position = (values.double() - rounding.offset) / step
    is_at_edge = (position - position.floor() - 0.5).abs() <= EDGE_WITHIN
    is_next = ~apart(own, found, bound=step + within)
    excused = differs & is_at_edge & is_next
    return int(excused.sum()), int((differs & ~excused).sum())


def whole_grid(rounding: Rounding) -> Tensor:
    """Values between the edges of every code of a grid, and of two more beyond either end.

    >>> whole_grid(Rounding(2.0, 1, 0, 1)).tolist()
    [-6.5, -5.5, -4.5, -3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    """
    step, zero, low, high, offset = rounding
    quarters = torch.arange(4 * (low - 2) - 1, 4 * (high + 2) + 2, 2)
    return (quarters / 4 - zero) * step + offset
