"""SplitQuant (arXiv 2501.12428): each layer becomes three, of its lower, middle and upper weights.

Their outputs add up to the layer's. Each rounds its weights to a grid of its own; nothing is
trained.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from bitsweep.bits import Bits
from bitsweep.trial import Trial
from bitsweep_trainers.allocated import given_allocation, replace_body
from bitsweep_trainers.layers import (
    END_BITS,
    Computing,
    Quantized,
    fold_batch_norms,
    quantized,
    replace_layers,
    select_body,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.declared.splitquant import INDEX_BITS
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.methods.ptq import calibrate_ranges
from bitsweep_trainers.packed.inputs import ThirdsInput
from bitsweep_trainers.packed.pack import Place
from bitsweep_trainers.packed.records import LayerRecord
from bitsweep_trainers.packed.weights import (
    Affine,
    CodedWeights,
    Codes,
    IndexedWeights,
    PartsWeights,
    Weights,
)
from bitsweep_trainers.quantizers.clusters import NUM_CLUSTERS, split_by_value
from bitsweep_trainers.quantizers.uniform import RangeRounder, WeightRounder


class SplitRounder(nn.Module):
    """Three `RangeRounder`s, each for about a third of the channels."""

    def __init__(self, *, bits: int) -> None:
        super().__init__()
        self.rounders = nn.ModuleList(RangeRounder(bits=bits) for _ in range(NUM_CLUSTERS))

    @property
    def bits(self) -> int:
        """The bits of all three."""
        (bits,) = {one.bits for one in self.rounders}
        assert isinstance(bits, int)
        return bits

    @bits.setter
    def bits(self, bits: int) -> None:
        for one in self.rounders:
            one.bits = bits  # type: ignore[assignment]  # a plain int

    def pack_input(self, widths: Sequence[int]) -> ThirdsInput | None:
        """What a packed file keeps of the inputs' grids."""
        found = [one.pack_input(widths) for one in self.rounders if isinstance(one, RangeRounder)]
        parts = tuple(one for one in found if one is not None)
        return ThirdsInput(parts=parts) if parts else None

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, C, ...), of the same shape."""
        thirds = values.tensor_split(NUM_CLUSTERS, dim=1)
        rounded = (
            rounder(third)
            for rounder, third in zip(self.rounders, thirds, strict=True)
            if third.shape[1]
        )
        return torch.cat(tuple(rounded), 1)


class SplitLayer(nn.Module):
    """Three layers in the place of one; what they give is added. The first has the bias."""

    def __init__(self, parts: Sequence[Quantized], *, is_indexed: bool = False) -> None:
        super().__init__()
        self.is_indexed = is_indexed
        self.parts = nn.ModuleList(parts)

    def forward(self, values: Tensor) -> Tensor:
        """As the layer in whose place it stands."""
        return torch.stack([one(values) for one in self.parts]).sum(0)

    def pack_part(self, place: Place) -> LayerRecord:
        """What a packed file keeps: the parts whole, or without the zeros of other clusters."""
        records = [one.pack_part(place) for one in self.parts if isinstance(one, Quantized)]
        weights = [one.weights for one in records if isinstance(one.weights, CodedWeights)]
        kept: Weights = PartsWeights(parts=tuple(weights))
        if self.is_indexed:
            kept = indexed([cast(Tensor, one.weight) for one in self.parts], weights)
        return replace(records[0], weights=kept)


def indexed(parts: Sequence[Tensor], coded: Sequence[CodedWeights]) -> IndexedWeights:
    """For each weight the part it belongs to, and its code there; a zero belongs to the first."""
    index = torch.stack([one != 0 for one in parts]).int().argmax(0)
    raw = torch.stack([one.codes.raw for one in coded]).gather(0, index.cpu().unsqueeze(0))[0]
    grids = tuple(one.grid for one in coded if isinstance(one.grid, Affine))
    return IndexedWeights(
        index=Codes.of(index, bits=INDEX_BITS),
        codes=Codes(raw=raw, bits=coded[0].codes.bits),
        grids=grids,
    )


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    if trial.parameters["fold_batch_norm"]:
        fold_batch_norms(network)
    replace_body(network, trial, partial(split_layer, trial=trial))
    for name in ("stem", "head"):
        replace_layers(network.get_submodule(name), _end)
    return network


def split_layer(layer: Computing, bits: Bits, *, trial: Trial) -> SplitLayer:
    """The three layers of one; they read the same rounded input."""
    is_per_channel = trial.parameters["granularity"] == "channel"
    splits = trial.parameters.get("split_activations", False)
    inputs = (SplitRounder if splits else RangeRounder)(bits=bits.activation)
    parts: list[Quantized] = []
    for weights in split_by_value(layer.weight.detach(), is_per_channel=is_per_channel):
        part = deepcopy(layer)
        part.weight = nn.Parameter(weights)
        part.bias = None if parts else part.bias
        rounder = WeightRounder(
            bits=bits.weight, is_symmetric=False, is_per_channel=is_per_channel
        )
        parts.append(quantized(part, weight_quantizer=rounder, input_quantizer=inputs))
    return SplitLayer(parts, is_indexed=trial.parameters["storage"] == "sparse")


def _end(layer: Computing) -> Quantized:
    return quantized(
        layer,
        weight_quantizer=WeightRounder(bits=END_BITS, is_symmetric=False, is_per_channel=False),
        input_quantizer=RangeRounder(bits=END_BITS),
    )


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    calibrate_ranges(network, images)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    return ()


SPLITQUANT = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=cross_entropy_backward,
    select=select_body,
    chosen=given_allocation,
)
