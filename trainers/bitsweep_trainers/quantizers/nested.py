"""Weight codes whose high bits are the codes of fewer bits: one stored tensor serves all widths.

AdaBits cuts DoReFa's unit interval with floor; Bit-Mixer floors the codes of one learned step.
"""

from collections.abc import Sequence
from functools import cache, partial
from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed import weights as packed
from bitsweep_trainers.quantizers.dorefa import unit_weights
from bitsweep_trainers.quantizers.learned_step import (
    SMALLEST_STEP,
    Kernels,
    code_bounds,
    initial_step,
    kernels_of,
    learned_step,
)

Grid = Literal["released", "symmetric", "centred"]
Truncation = Literal["floor", "round"]


def unit_codes(u: Tensor, bits: int) -> Tensor:
    """q = min(floor(2^k u), 2^k - 1) for u in [0, 1], as floats (AdaBits, section 3.3).

    >>> unit_codes(torch.tensor([0.0, 0.296654, 0.569572, 0.874879]), 3).tolist()
    [0.0, 2.0, 4.0, 6.0]
    """
    return torch.floor(u * float(2**bits)).clamp(max=2**bits - 1)


def truncated(codes: Tensor, *, from_bits: int, to_bits: int) -> Tensor:
    """The high bits of codes: floor(q / 2^(from - to)).

    >>> truncated(torch.tensor([0.0, 4.0, 9.0, 13.0]), from_bits=4, to_bits=2).tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    return torch.floor(codes / float(2 ** (from_bits - to_bits)))


def grid_values(codes: Tensor, bits: int, grid: Grid) -> Tensor:
    """The values in [-1, 1] that codes from 0 to 2^k - 1 stand for.

    >>> grid_values(torch.arange(4.0), 2, "centred").tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    if grid == "symmetric":
        return 2 * codes / float(2**bits - 1) - 1
    shift = 0.5 if grid == "centred" else 0.0
    return 2 * (codes + shift) / float(2**bits) - 1


def nested_weights(u: Tensor, bits: int, grid: Grid) -> Tensor:
    """The grid value of each u in [0, 1]; its gradient is 2, as of 2 u - 1.

    >>> nested_weights(torch.tensor([0.0, 0.3, 0.6, 0.9]), 2, "released").tolist()
    [-1.0, -0.5, 0.0, 0.5]
    """
    plain = 2 * u - 1
    return plain + (grid_values(unit_codes(u, bits), bits, grid) - plain).detach()


def rescaled(weights_OI: Tensor) -> Tensor:
    """w / sqrt(n_out Var[w]), the variance detached and unbiased (SAT, arXiv 1912.10207).

    >>> w = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    >>> [round(one, 4) for one in rescaled(w).flatten().tolist()]
    [-0.6124, -0.6124, 0.6124, 0.6124]
    """
    num_out = len(weights_OI)
    return weights_OI / (num_out * weights_OI.detach().var()).sqrt()


def packed_grid(bits: int, grid: Grid, scale: Tensor | float = 1.0) -> packed.Grid:
    """`grid_values` times a scale, as a packed file keeps it.

    >>> packed_grid(2, "centred").values(torch.arange(4.0)).tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    if grid == "symmetric":
        return packed.Unit(levels=2**bits - 1, scale=scale)
    shift = 0.5 if grid == "centred" else 0.0
    return packed.Affine(scale=scale, zero=2.0 ** (bits - 1) - shift, factor=2.0 ** (1 - bits))


class NestedWeights(nn.Module):
    """Quantize weights to a nested grid of AdaBits; `bits` may be set at any time."""

    def __init__(self, *, bits: int, grid: Grid, detach_max: bool) -> None:
        super().__init__()
        if grid not in get_args(Grid):
            raise ValueError(f"grid must be one of {get_args(Grid)}, got {grid!r}")
        self.bits = bits
        self.grid: Grid = grid
        self.detach_max = detach_max

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of any shape -> values in [-1, 1]."""
        return nested_weights(
            unit_weights(weights, detach_max=self.detach_max), self.bits, self.grid
        )

    @torch.no_grad()
    def pack_weights(
        self, weights: Tensor, widths: Sequence[int], scale: Tensor | float = 1.0
    ) -> packed.Weights:
        """What a packed file keeps of weights: codes of the largest width."""
        top = widths[-1]
        codes = unit_codes(unit_weights(weights, detach_max=self.detach_max), top)
        return packed.NestedWeights(
            codes=packed.Codes.of(codes, bits=top),
            cut="floor",
            grids={str(bits): packed_grid(bits, self.grid, scale) for bits in widths},
        )


class RescaledWeights(nn.Module):
    """Nested weights of a last layer, scaled as SAT does: no batch norm follows to do it."""

    def __init__(self, *, bits: int, grid: Grid, detach_max: bool) -> None:
        super().__init__()
        self.nested = NestedWeights(bits=bits, grid=grid, detach_max=detach_max)

    def forward(self, weights_OI: Tensor) -> Tensor:
        """Weights (O, I) of the same shape, variance 1 / O."""
        return rescaled(self.nested(weights_OI))

    @torch.no_grad()
    def pack_weights(self, weights_OI: Tensor, widths: Sequence[int]) -> packed.Weights:
        """What a packed file keeps of weights: codes, and one scale."""
        values = self.nested(weights_OI)
        scale = 1 / (len(values) * values.var()).sqrt()
        return self.nested.pack_weights(weights_OI, [self.nested.bits], scale)


def step_codes(codes: Tensor, *, top_bits: int, bits: int, truncation: Truncation) -> Tensor:
    """Signed codes of `top_bits` -> codes of `bits`: floor(q / 2^(B-b)), or rounded and clamped.

    >>> q = torch.tensor([-8.0, -3.0, 0.0, 1.0, 3.0, 7.0])
    >>> step_codes(q, top_bits=4, bits=2, truncation="floor").tolist()
    [-2.0, -1.0, 0.0, 0.0, 0.0, 1.0]
    >>> step_codes(q, top_bits=4, bits=2, truncation="round").tolist()
    [-2.0, -1.0, 0.0, 0.0, 1.0, 1.0]
    """
    if truncation == "floor":
        return truncated(codes, from_bits=top_bits, to_bits=bits)
    low, high = code_bounds(bits, is_signed=True)
    return torch.round(codes / float(2 ** (top_bits - bits))).clamp(low, high)


def _quantize(
    x: Tensor, s: Tensor, low: int, high: int, *, top_bits: int, bits: int, truncation: Truncation
) -> Tensor:
    codes = torch.clamp(x / s, low, high).round()
    factor = float(2 ** (top_bits - bits))
    return step_codes(codes, top_bits=top_bits, bits=bits, truncation=truncation) * (s * factor)


@cache
def nested_kernels(
    top_bits: int, bits: int, truncation: Truncation, backend: str = "eager"
) -> Kernels:
    """LSQ's kernels with cut codes in the forward pass; the gradients are LSQ's formulas."""
    kernels = kernels_of(backend)
    if bits == top_bits:
        return kernels
    quantize = partial(_quantize, top_bits=top_bits, bits=bits, truncation=truncation)
    compiled = torch.compile(quantize, dynamic=True) if backend == "compiled" else quantize
    return Kernels(quantize=compiled, gradients=kernels.gradients)


class NestedStep(nn.Module):
    """Quantize weights with the learned step of the largest width; fewer bits cut its codes.

    With w the weights and q their cut codes, w_hat = q 2^(B-b) s. Inside the largest
    width's range dw_hat/dw = 1 and dw_hat/ds = (w_hat - w) / s; outside 0 and w_hat / s. `bits`
    may be set at any time; 32 passes the weights through.
    drop_lowest: the largest width does without its lowest code, -2^(B-1).
    """

    def __init__(
        self, *, top_bits: int, truncation: Truncation, drop_lowest: bool, backend: str = "eager"
    ) -> None:
        super().__init__()
        if truncation not in get_args(Truncation):
            raise ValueError(f"truncation must be one of {get_args(Truncation)}: {truncation!r}")
        self.top_bits = top_bits
        self.bits = top_bits
        self.truncation: Truncation = truncation
        self.drop_lowest = drop_lowest
        self.backend = backend
        self.step = nn.Parameter(torch.ones(()))

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest code at the largest width."""
        low, high = code_bounds(self.top_bits, is_signed=True)
        return low + self.drop_lowest, high

    @torch.no_grad()
    def initialise(self, weights: Tensor) -> None:
        """Set the step from the weights, by LSQ's rule at the largest width."""
        self.step.copy_(initial_step(weights, self.bounds[1]))

    def forward(self, weights: Tensor) -> Tensor:
        """w_hat, of the shape and memory format of the weights."""
        if self.bits >= FULL_PRECISION_BITS:
            return weights
        low, high = self.bounds
        return learned_step(
            weights,
            self.step,
            low=low,
            high=high,
            gradient_scale=1.0 / sqrt(weights.numel() * high),
            kernels=nested_kernels(self.top_bits, self.bits, self.truncation, self.backend),
        )

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> packed.Weights:
        """What a packed file keeps of weights: codes of the largest width, and its step."""
        top, (low, high) = self.top_bits, self.bounds
        step = self.step.detach().clamp(min=SMALLEST_STEP)
        codes = torch.clamp(weights / step, low, high).round()
        return packed.NestedWeights(
            codes=packed.Codes.of(codes, bits=top, low=-(2 ** (top - 1))),
            cut=self.truncation,
            grids={
                str(bits): packed.Affine(scale=step, factor=2.0 ** (top - bits)) for bits in widths
            },
        )
