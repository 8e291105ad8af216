"""Uniform grids from a range of values, for quantization after training: nothing is learned here.

Round to nearest; over the whole range, or over the share of it that errs least; one grid per
tensor or one per output channel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.inputs import ZeroPointInput
from bitsweep_trainers.packed.weights import Affine, CodedWeights, Codes, FloatWeights, Weights

# Shares of a range that a search for the least squared error tries; the first wins a tie.
SHRINKS = tuple(1 - index / 50 for index in range(50))


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


def range_grid(minimum: Tensor, maximum: Tensor, *, bits: int, is_symmetric: bool) -> Grid:
    """The grid over a range, or over each of many."""
    if is_symmetric:
        return symmetric_grid(torch.maximum(-minimum, maximum), bits=bits)
    return asymmetric_grid(minimum, maximum, bits=bits)


def grid_of(values: Tensor, *, bits: int, is_symmetric: bool, is_per_channel: bool) -> Grid:
    """The grid over the range of a tensor, or of each slice along its first dimension."""
    dims = tuple(range(1 if is_per_channel else 0, values.ndim))
    minimum, maximum = values.amin(dims, keepdim=True), values.amax(dims, keepdim=True)
    return range_grid(minimum, maximum, bits=bits, is_symmetric=is_symmetric)


def least_error_grid(
    values: Tensor, *, bits: int, is_symmetric: bool, is_per_channel: bool
) -> Grid:
    """The grid of least squared error among those over `SHRINKS` of the range of `grid_of`.

    >>> w = torch.tensor([-0.9, -0.3, 0.1, 0.6])
    >>> grid = least_error_grid(w, bits=2, is_symmetric=True, is_per_channel=False)
    >>> [round(one, 3) for one in grid.quantize(w).tolist()]
    [-0.756, 0.0, 0.0, 0.756]
    """
    dims = tuple(range(1 if is_per_channel else 0, values.ndim))
    minimum, maximum = values.amin(dims, keepdim=True), values.amax(dims, keepdim=True)
    errors = []
    for shrink in SHRINKS:
        grid = range_grid(shrink * minimum, shrink * maximum, bits=bits, is_symmetric=is_symmetric)
        errors.append((grid.quantize(values) - values).square().sum(dims, keepdim=True))
    best = values.new_tensor(SHRINKS)[torch.stack(errors).argmin(0)]
    return range_grid(best * minimum, best * maximum, bits=bits, is_symmetric=is_symmetric)


class WeightRounder(nn.Module):
    """Round a weight to the grid over its own range; 32 bits pass it through.

    `by_error`: the grid of least squared error. It is searched at the first call at some bits and
    kept, so the weights must stay as they are.
    """

    def __init__(
        self, *, bits: int, is_symmetric: bool, is_per_channel: bool, by_error: bool = False
    ) -> None:
        super().__init__()
        self.bits = bits
        self.is_symmetric = is_symmetric
        self.is_per_channel = is_per_channel
        self.by_error = by_error
        self.found: dict[int, Grid] = {}

    def forward(self, weights: Tensor) -> Tensor:
        """Weights, output channels first, of the same shape."""
        if self.bits >= FULL_PRECISION_BITS:
            return weights
        return self.grid(weights).quantize(weights)

    def grid(self, weights: Tensor) -> Grid:
        """The grid at the current bits."""
        if not self.by_error:
            return self._grid(weights, grid_of)
        if self.bits not in self.found:
            self.found[self.bits] = self._grid(weights.detach(), least_error_grid)
        return self.found[self.bits]

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights; a symmetric grid has no zero-points."""
        if self.bits >= FULL_PRECISION_BITS:
            return FloatWeights(plain=weights)
        grid = self.grid(weights)
        codes = Codes.of(grid.codes(weights), bits=self.bits, low=grid.low)
        zero = 0.0 if self.is_symmetric else grid.zero_point
        return CodedWeights(codes=codes, grid=Affine(scale=grid.scale, zero=zero))

    def _grid(self, weights: Tensor, search: Callable[..., Grid]) -> Grid:
        return search(
            weights,
            bits=self.bits,
            is_symmetric=self.is_symmetric,
            is_per_channel=self.is_per_channel,
        )


class RangeRounder(nn.Module):
    """Round an activation to the asymmetric grid over the range it was calibrated on.

    While `is_observing` it passes values through and widens its range to theirs (running
    minimum and maximum). While `is_weighing`, afterwards, it passes them through and adds up the
    squared error of each of `SHRINKS` of that range; `shrink` takes the best one.
    """

    minimum: Tensor
    maximum: Tensor
    errors: Tensor

    def __init__(self, *, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.is_observing = False
        self.is_weighing = False
        self.register_buffer("minimum", torch.zeros(()))
        self.register_buffer("maximum", torch.zeros(()))
        self.register_buffer("errors", torch.zeros(len(SHRINKS)), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape, one range for all."""
        if self.is_observing:
            torch.minimum(self.minimum, values.amin(), out=self.minimum)
            torch.maximum(self.maximum, values.amax(), out=self.maximum)
            return values
        if self.bits >= FULL_PRECISION_BITS:
            return values
        if self.is_weighing:
            for index, shrink in enumerate(SHRINKS):
                self.errors[index] += (self._grid(shrink).quantize(values) - values).square().sum()
            return values
        return self._grid(1.0).quantize(values)

    def pack_input(self, widths: Sequence[int]) -> ZeroPointInput | None:
        """What a packed file keeps of an input's grid."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        grid = self._grid(1.0)
        return ZeroPointInput(scale=grid.scale, zero=grid.zero_point, high=grid.high)

    def shrink(self) -> None:
        """Keep the share of the range with the least error; the widest one wins a tie."""
        best = SHRINKS[int(self.errors.argmin())]
        self.minimum.mul_(best)
        self.maximum.mul_(best)
        self.errors.zero_()

    def _grid(self, shrink: float) -> Grid:
        return asymmetric_grid(shrink * self.minimum, shrink * self.maximum, bits=self.bits)
