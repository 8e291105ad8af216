"""What a file keeps of layers and batch norms, and how records become JSON and named tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from bitsweep_trainers.packed.inputs import INPUT_KINDS, Input
from bitsweep_trainers.packed.weights import WEIGHT_KINDS, Codes, Weights

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """A convolution or linear map; geometry is that of the model. input None: nothing is rounded.

    bits: (weight, activation) where they are fixed; None: those that are switched to.
    strides: those of the weights in the trained network, by which kernels are chosen; None, as in
    older files: channels last.
    """

    weights: Weights
    input: Input | None
    bias: Tensor | None
    bits: tuple[int, ...] | None
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A batch norm in evaluation: x scale + shift, by channel."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class NormRecord:
    """Batch norms by the bits of the layers in `keyed_by`, joined by "_"; "": there is one."""

    keyed_by: tuple[str, ...]
    copies: Mapping[str, Folded]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRecord:
    """Codes of branches with the ranges of weights (K,) and inputs (rows,).

    codes: 2-bit ones (K O, I, ...), or a tensor (O, I, ...) for each way that rows read weights,
    each with bits of its own. Inference reads no range of the weights; the method counts them, and
    they are kept.
    """

    codes: Codes | tuple[Codes, ...]
    weight_lower: Tensor
    weight_upper: Tensor
    input_lower: Tensor
    input_upper: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchNormRecord:
    """The folded batch norms of all rows of branches, one behind the other."""

    rows: Folded


Part = LayerRecord | NormRecord | BranchRecord | BranchNormRecord
PART_KINDS: dict[str, type[Part]] = {
    "layer": LayerRecord,
    "norm": NormRecord,
    "branches": BranchRecord,
    "branch_norm": BranchNormRecord,
}
KINDS: dict[str, type] = {**PART_KINDS, **WEIGHT_KINDS, **INPUT_KINDS, "folded": Folded}
NAMES = {kind: name for name, kind in KINDS.items()}


class Encoder:
    """Turns records into JSON values and collects their tensors, each of them once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor | Codes] = {}
        self._names: dict[int, str] = {}

    def encode(self, value: Any, name: str) -> Any:  # Any: a tree of records and JSON values
        """The JSON of a value; `name` is that of its tensors."""
        if isinstance(value, Tensor):
            return {"$tensor": self._keep(value, value, name)}
        if isinstance(value, Codes):
            found = self._keep(value.raw, value, name)
            return {"$codes": found, "bits": value.bits, "low": value.low}
        if is_dataclass(value):
            members = {one.name: getattr(value, one.name) for one in fields(value)}
            encoded = {key: self.encode(one, f"{name}.{key}") for key, one in members.items()}
            return {"kind": NAMES[type(value)], **encoded}
        if isinstance(value, Mapping):
            return {"$map": {key: self.encode(one, f"{name}.{key}") for key, one in value.items()}}
        if isinstance(value, tuple):
            return [self.encode(one, f"{name}.{index}") for index, one in enumerate(value)]
        return value

    def _keep(self, identity: Tensor, value: Tensor | Codes, name: str) -> str:
        known = self._names.setdefault(id(identity), name)
        self.tensors.setdefault(known, value)
        return known


def decode(document: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `Encoder.encode`; KeyError, TypeError or ValueError for what is no record."""
    if isinstance(document, list):
        return tuple(decode(one, tensors) for one in document)
    if not isinstance(document, dict):
        return document
    if "$tensor" in document:
        return tensors[document["$tensor"]]
    if "$codes" in document:
        raw = tensors[document["$codes"]]
        return Codes(raw=raw, bits=int(document["bits"]), low=int(document["low"]))
    if "$map" in document:
        return {str(key): decode(one, tensors) for key, one in document["$map"].items()}
    kind = KINDS[document["kind"]]
    members = {key: decode(one, tensors) for key, one in document.items() if key != "kind"}
    return kind(**members)


def map_tensors(record: T, change: Callable[[Tensor], Tensor]) -> T:
    """The record with each of its tensors changed, such as moved to a device."""
    found: Any = record  # a tree of any of the kinds
    if isinstance(found, Tensor):
        found = change(found)
    elif isinstance(found, Mapping):
        found = {key: map_tensors(one, change) for key, one in found.items()}
    elif isinstance(found, tuple):
        found = tuple(map_tensors(one, change) for one in found)
    elif is_dataclass(found) and not isinstance(found, type):
        members = {one.name: getattr(found, one.name) for one in fields(found)}
        found = replace(found, **{key: map_tensors(one, change) for key, one in members.items()})
    result: T = found
    return result
