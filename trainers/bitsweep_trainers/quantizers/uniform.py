"""Uniform grids from a range of values, for quantization after training: nothing is learned here.

Round to nearest, min-max; one grid per tensor or one per output channel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The values (code - zero_point) scale for whole codes from `low` to `high`.

    `scale` and `zero_point` broadcast against the tensor they quantize.
    """

    scale: Tensor
    zero_point: Tensor
    low: int
    high: int

    def codes(self, values: Tensor) -> Tensor:
        """The nearest whole code of each value, as floats."""
        return (torch.round(values / self.scale) + self.zero_point).clamp(self.low, self.high)

    def quantize(self, values: Tensor) -> Tensor:
        """The grid's value nearest to each value within its range.

        >>> w = torch.tensor([-0.9, -0.3, 0.1, 0.6])
        >>> asymmetric_grid(w.min(), w.max(), bits=2).quantize(w).tolist()
        [-1.0, -0.5, 0.0, 0.5]
        """
        return (self.codes(values) - self.zero_point) * self.scale


def _usable(scale: Tensor) -> Tensor:
    """A range of zeros alone has no scale; 1 represents it exactly."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def asymmetric_grid(minimum: Tensor, maximum: Tensor, *, bits: int) -> Grid:
    """2^b codes from 0 over [min(0, minimum), max(0, maximum)]; zero is exact."""
    high = 2**bits - 1
    lowest = minimum.clamp(max=0)
    scale = _usable((maximum.clamp(min=0) - lowest) / high)
    zero_point = torch.round(-lowest / scale).clamp(0, high)
    return Grid(scale=scale, zero_point=zero_point, low=0, high=high)


def symmetric_grid(peak: Tensor, *, bits: int) -> Grid:
    """2^b - 1 codes over [-peak, peak]; ternary at 2 bits."""
    high = 2 ** (bits - 1) - 1
    scale = _usable(peak / high)
    return Grid(scale=scale, zero_point=torch.zeros_like(scale), low=-high, high=high)


def grid_of(values: Tensor, *, bits: int, is_symmetric: bool, is_per_channel: bool) -> Grid:
    """The grid over the range of a tensor, or of each slice along its first dimension."""
    dims = tuple(range(1 if is_per_channel else 0, values.ndim))
    minimum, maximum = values.amin(dims, keepdim=True), values.amax(dims, keepdim=True)
    if is_symmetric:
        return symmetric_grid(torch.maximum(-minimum, maximum), bits=bits)
    return asymmetric_grid(minimum, maximum, bits=bits)


class WeightRounder(nn.Module):
    """Round a weight to the grid over its own range; 32 bits pass it through."""

    def __init__(self, *, bits: int, is_symmetric: bool, is_per_channel: bool) -> None:
        super().__init__()
        self.bits = bits
        self.is_symmetric = is_symmetric
        self.is_per_channel = is_per_channel

    def forward(self, weights: Tensor) -> Tensor:
        """Weights, output channels first, of the same shape."""
        if self.bits >= FULL_PRECISION_BITS:
            return weights
        grid = grid_of(
            weights,
            bits=self.bits,
            is_symmetric=self.is_symmetric,
            is_per_channel=self.is_per_channel,
        )
        return grid.quantize(weights)


class RangeRounder(nn.Module):
    """Round an activation to the asymmetric grid over the range it was calibrated on.

    While `is_observing` it passes values through and widens its range to theirs (running
    minimum and maximum).
    """

    minimum: Tensor
    maximum: Tensor

    def __init__(self, *, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.is_observing = False
        self.register_buffer("minimum", torch.zeros(()))
        self.register_buffer("maximum", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape, one range for all."""
        if self.is_observing:
            torch.minimum(self.minimum, values.amin(), out=self.minimum)
            torch.maximum(self.maximum, values.amax(), out=self.maximum)
            return values
        if self.bits >= FULL_PRECISION_BITS:
            return values
        return asymmetric_grid(self.minimum, self.maximum, bits=self.bits).quantize(values)
