"""DoReFa-Net's quantizers (Zhou et al., arXiv 1606.06160): tanh weights, inputs clamped to [0, 1].

Nothing is learned here but the weights; gradients pass rounding straight through.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.inputs import UnitInput
from bitsweep_trainers.packed.weights import (
    Affine,
    CodedWeights,
    Codes,
    FloatWeights,
    Unit,
    Weights,
)
from bitsweep_trainers.quantizers.learned_step import flat, flat_like, is_compiled
from bitsweep_trainers.quantizers.members import below_vmap, is_vmapped
from bitsweep_trainers.quantizers.ste import round_ste


def unit_levels(values: Tensor, *, bits: int) -> Tensor:
    """q_k(r) = round((2^k - 1) r) / (2^k - 1) of values in [0, 1]; the gradient is 1.

    >>> [round(one, 4) for one in unit_levels(torch.tensor([0.1, 0.4, 0.9]), bits=2).tolist()]
    [0.0, 0.3333, 1.0]
    """
    n = 2**bits - 1
    levels: Tensor = round_ste(values * n) / n
    return levels


class _UnitKernels(NamedTuple):
    """The passes over flat tensors: levels(x, n) -> q_k(clamp(x, 0, 1)); masked(u, x, n) -> dx."""

    levels: Callable[[Tensor, int], Tensor]
    masked: Callable[[Tensor, Tensor, int], Tensor]


def inside(u: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """u where low < x < high, else 0; one vectorised pass on a CPU."""
    if x.is_cpu:
        dx: Tensor = torch.ops.aten.hardtanh_backward(u, x, low, high)
        return dx
    return torch.where((x > low) & (x < high), u, 0.0)


BELOW_ZERO, ABOVE_ONE = -(2.0**-149), 1 + 2.0**-23  # the float32 next to each


def _masked_eager(u: Tensor, x: Tensor, n: int) -> Tensor:
    # Both factors stand in the composed formula, whose rounding this keeps.
    return inside(u, x, BELOW_ZERO, ABOVE_ONE).div_(n).mul_(n)


def _levels_formula(x: Tensor, n: int) -> Tensor:
    return torch.round(x.clamp(0, 1) * n) / n


def _masked_formula(u: Tensor, x: Tensor, n: int) -> Tensor:
    return torch.where((x >= 0) & (x <= 1), u, 0.0)


_EAGER = _UnitKernels(
    levels=lambda x, n: x.clamp(0, 1).mul_(n).round_().div_(n), masked=_masked_eager
)


@cache
def _compiled_kernels() -> _UnitKernels:
    return _UnitKernels(
        levels=torch.compile(_levels_formula, dynamic=True),
        masked=torch.compile(_masked_formula, dynamic=True),
    )


class _ClampedLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, n: int, kernels: _UnitKernels) -> Tensor:  # torch's context
        if not torch.ops.aten.is_non_overlapping_and_dense(x):
            x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.n, ctx.kernels = n, kernels
        return kernels.levels(flat(x.detach()), n).as_strided(x.shape, x.stride())

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0].detach()
        dx = ctx.kernels.masked(flat_like(u, x), flat(x), ctx.n)
        return dx.as_strided(x.shape, x.stride()), None, None


def unit_weights(weights: Tensor, *, detach_max: bool = True) -> Tensor:
    """u = tanh(w) / (2 M) + 1/2 with M = max|tanh w|: weights mapped into [0, 1].

    `detach_max` holds M constant in the gradient; only that of the largest weight differs.
    """
    squashed = torch.tanh(weights)
    peak = squashed.abs().amax()
    if detach_max:
        peak = peak.detach()
    # A tensor of zeros has no range; any range represents it.
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    return squashed / (2 * peak) + 0.5


def dorefa_weights(weights: Tensor, *, bits: int, detach_max: bool = True) -> Tensor:
    """w_hat = 2 q_k(u) - 1, u = `unit_weights`; at 1 bit sign(w) mean|w|.

    The 1-bit gradient is that of the identity; a weight of 0 counts as positive.

    >>> w = torch.tensor([-0.9, -0.3, 0.1, 0.6])
    >>> [round(one, 4) for one in dorefa_weights(w, bits=2).tolist()]
    [-1.0, -0.3333, 0.3333, 1.0]
    """
    if bits == 1:
        held = weights.detach()
        mean = held.abs().mean()
        return torch.where(held >= 0, mean, -mean) + (weights - held)  # the bracket is 0
    return 2 * unit_levels(unit_weights(weights, detach_max=detach_max), bits=bits) - 1


class DorefaWeights(nn.Module):
    """Quantize weights to [-1, 1]; 32 bits pass them through. The batch norm behind restores the
    scale.
    """

    def __init__(self, *, bits: int, detach_max: bool = True) -> None:
        super().__init__()
        self.bits = bits
        self.detach_max = detach_max

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of any shape."""
        if self.bits >= FULL_PRECISION_BITS:
            return weights
        return dorefa_weights(weights, bits=self.bits, detach_max=self.detach_max)

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights; one bit is the sign, with the mean magnitude."""
        if self.bits >= FULL_PRECISION_BITS:
            return FloatWeights(plain=weights)
        if self.bits == 1:
            signs = Codes.of((weights >= 0).int(), bits=1)
            mean = weights.abs().mean()
            return CodedWeights(codes=signs, grid=Affine(scale=mean, zero=0.5, factor=2.0))
        n = 2**self.bits - 1
        codes = torch.round(unit_weights(weights, detach_max=self.detach_max) * n)
        return CodedWeights(codes=Codes.of(codes, bits=self.bits), grid=Unit(levels=n))


class UnitActivations(nn.Module):
    """q_k(clamp(x, 0, 1)); the gradient is 1 on [0, 1], else 0. 32 bits pass values through."""

    def __init__(self, *, bits: int, backend: str = "eager") -> None:
        super().__init__()
        self.bits = bits
        self.kernels = _compiled_kernels() if is_compiled(backend) else _EAGER

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape."""
        if self.bits >= FULL_PRECISION_BITS:
            return values
        if is_vmapped():  # no network has numbers of its own
            return below_vmap(lambda given, dims, _: (self._levels(given[0]), dims[0]), values)
        return self._levels(values)

    def _levels(self, values: Tensor) -> Tensor:
        levels: Tensor = _ClampedLevels.apply(  # type: ignore[no-untyped-call]  # torch's
            values, 2**self.bits - 1, self.kernels
        )
        return levels

    def pack_input(self, widths: Sequence[int]) -> UnitInput | None:
        """What a packed file keeps of an input's grid."""
        return None if min(widths) >= FULL_PRECISION_BITS else UnitInput()
