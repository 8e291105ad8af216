"""From a trained network to records: what each layer and each batch norm is kept as.

Modules tell it themselves: layers and norms by `pack_part`, quantizers by `pack_weights` and
`pack_input`. A plain layer or norm is kept in floating point, folded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import FULL_PRECISION_BITS, Allocation, Bits
from bitsweep.errors import InputError
from bitsweep.taking import by_layer
from bitsweep_trainers.packed.inputs import Input
from bitsweep_trainers.packed.records import Folded, LayerRecord, NormRecord, Part
from bitsweep_trainers.packed.weights import FloatWeights, Weights

END_BITS = 8
Norm = nn.BatchNorm1d | nn.BatchNorm2d
Computing = nn.Conv2d | nn.Conv1d | nn.Linear


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a module stands: its path, the layer before it, the layers of the body in order.

    `widths` are those of the trial; several of them are switched between. `own` are the bits of
    each layer of the body where they are given or learned per layer.
    """

    path: str
    layer_before: str
    body: tuple[str, ...]
    widths: tuple[Bits, ...]
    own: tuple[Bits, ...] = ()

    @property
    def is_switched(self) -> bool:
        """Whether its bits follow the switch."""
        return len(self.widths) > 1 and self.path in self.body

    @property
    def bits(self) -> tuple[int, int]:
        """(weight, activation) of a layer that is not switched; the ends have 8."""
        if self.path not in self.body:
            return END_BITS, END_BITS
        own = self.own[self.body.index(self.path)] if self.own else self.widths[-1]
        return own.weight, own.activation


@runtime_checkable
class PackablePart(Protocol):
    """A layer or norm that says what is kept of it."""

    def pack_part(self, place: Place) -> Part:
        """Its record."""


@runtime_checkable
class PackableWeights(Protocol):
    """A weight quantizer that says what is kept of weights."""

    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """Their record; widths of the weights, ascending."""


@runtime_checkable
class PackableInput(Protocol):
    """An input quantizer that says what is kept of its grid."""

    def pack_input(self, widths: Sequence[int]) -> Input | None:
        """Its record; None where nothing is rounded."""


def layer_record(
    layer: Computing, place: Place, *, weight_quantizer: nn.Module, input_quantizer: nn.Module
) -> LayerRecord:
    """The record of a layer with quantizers; InputError for one that has no packed form."""
    weights, inputs = weight_quantizer, input_quantizer
    for one, kind in ((weights, PackableWeights), (inputs, PackableInput)):
        if not isinstance(one, kind):
            raise InputError(
                f"{place.path} cannot be exported: {type(one).__name__} has no packed form"
            )
    assert isinstance(weights, PackableWeights) and isinstance(inputs, PackableInput)
    return LayerRecord(
        weights=weights.pack_weights(layer.weight.detach(), [one.weight for one in place.widths]),
        input=inputs.pack_input([one.activation for one in place.widths]),
        bias=None if layer.bias is None else layer.bias.detach(),
        bits=None if place.is_switched else place.bits,
        strides=_strides(layer.weight, weights),
    )


@torch.no_grad()
def _strides(weight: Tensor, quantizer: nn.Module) -> tuple[int, ...]:
    """The strides of the rounded weights as the layer reads them in evaluation.

    Where an axis has one element they are ambiguous, and what a quantizer's operations make of
    them differs: (9, 9, 3, 1) or (9, 1, 3, 1) for (O, 1, 3, 3).
    """
    was_training = quantizer.training
    quantizer.eval()
    strides: tuple[int, ...] = tuple(quantizer(weight).stride())
    quantizer.train(was_training)
    return strides


def plain_record(layer: Computing) -> LayerRecord:
    """The record of a layer in floating point."""
    return LayerRecord(
        weights=FloatWeights(plain=layer.weight.detach()),
        input=None,
        bias=None if layer.bias is None else layer.bias.detach(),
        bits=(FULL_PRECISION_BITS, FULL_PRECISION_BITS),
        strides=layer.weight.stride(),
    )


@torch.no_grad()
def folded_of(weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Folded:
    """scale = weight / sqrt(var + eps), shift = bias - mean scale, to the last bit of torch's own.

    The kernel is asked what it makes of 1 and of 0: it may use fused operations, and a last bit
    can move a later activation across the edge between two codes.

    >>> one = torch.ones(1)
    >>> folded_of(2 * one, one, one, one, 3.0)
    Folded(scale=tensor([1.]), shift=tensor([0.]))
    """
    zeros, row = torch.zeros_like(bias), torch.zeros_like(bias).unsqueeze(0)
    scale = functional.batch_norm(row + 1, zeros, var, weight, zeros, False, 0.0, eps)[0]
    shift = functional.batch_norm(row, mean, var, weight, bias, False, 0.0, eps)[0]
    return Folded(scale=scale.detach(), shift=shift.detach())


def folded(norm: nn.Module) -> Folded:
    """A batch norm in evaluation."""
    assert isinstance(norm, Norm) and norm.running_mean is not None
    assert norm.running_var is not None
    return folded_of(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)


def parts_of(
    network: nn.Module, widths: tuple[Bits, ...], *, allocation: Allocation | None = None
) -> dict[str, Part]:
    """The records of a network's layers and norms, by path, in `modules()` order.

    allocation: that of a network whose layers have bits of their own, to which it is set.
    """
    kept: dict[str, nn.Module] = {}
    for path, module in network.named_modules():
        if any(path.startswith(f"{one}.") for one in kept):
            continue  # within a part that speaks for itself
        if _is_kept(module):
            kept[path] = module
    layers = [path for path, one in kept.items() if not _is_norm(one)]
    body = tuple(path for path in layers if path.startswith("body."))
    own = () if allocation is None else by_layer(allocation, len(body))
    found: dict[str, Part] = {}
    before = ""
    for path, one in kept.items():
        before = path if path in layers else before
        place = Place(path=path, layer_before=before, body=body, widths=widths, own=own)
        found[path] = _part(one, place)
    return found


def _is_kept(module: nn.Module) -> bool:
    return isinstance(module, PackablePart | Computing | Norm)


def _is_norm(module: nn.Module) -> bool:
    return any(isinstance(one, Norm) for one in module.modules())


def _part(module: nn.Module, place: Place) -> Part:
    if isinstance(module, PackablePart):
        return module.pack_part(place)
    if isinstance(module, Computing):
        return plain_record(module)
    return NormRecord(keyed_by=(), copies={"": folded(module)})
