"""One set of integer codes for all widths: AdaBits weights that run from their codes alone.

The codes of fewer bits are the high bits of those of the most, so changing the width moves no
weight and loses nothing.
"""

import torch
from torch import Tensor, nn

from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.quantizers.dorefa import unit_weights
from bitsweep_trainers.quantizers.nested import NestedWeights, grid_values, unit_codes


class CodedWeights(nn.Module):
    """Weights kept as codes of the largest width, one byte each; `bits` may be set at any time.

    The floating-point weights a layer hands over are not looked at.
    """

    codes: Tensor

    def __init__(self, source: NestedWeights, weights: Tensor, *, top_bits: int) -> None:
        super().__init__()
        self.grid = source.grid
        self.top_bits = top_bits
        self.bits = source.bits
        u = unit_weights(weights.detach(), detach_max=source.detach_max)
        self.register_buffer("codes", unit_codes(u, top_bits).to(torch.uint8))

    def forward(self, weights: Tensor) -> Tensor:
        """The values of the codes' high bits; ValueError for more bits than there are."""
        if self.bits > self.top_bits:
            raise ValueError(f"codes of {self.top_bits} bits cannot run at {self.bits} bits")
        high_bits = self.codes >> (self.top_bits - self.bits)
        return grid_values(high_bits.to(weights.dtype), self.bits, self.grid)


def keep_codes(network: nn.Module, *, top_bits: int) -> None:
    """Make the body of an AdaBits network run from codes, in place; its weights become zeros.

    `select_switchable` goes on switching widths. Such a network is not trained any further.
    """
    for _, layer in quantized_layers(network.get_submodule("body")):
        quantizer = layer.weight_quantizer
        if isinstance(quantizer, NestedWeights):
            layer.weight_quantizer = CodedWeights(quantizer, layer.weight, top_bits=top_bits)
            layer.weight = nn.Parameter(torch.zeros_like(layer.weight), requires_grad=False)
