"""PACT's activations (Choi et al., arXiv 1805.06085): clipped at a learned level alpha, rounded.

Both gradients for alpha: the paper's, and the calibrated one of CG-PACT (SAT, arXiv 1912.10207).
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.inputs import ClipInput
from bitsweep_trainers.quantizers.dorefa import BELOW_ZERO, inside, unit_levels
from bitsweep_trainers.quantizers.learned_step import flat, flat_like, is_compiled
from bitsweep_trainers.quantizers.members import is_vmapped, with_own
from bitsweep_trainers.quantizers.uniform import least_error_grid

# A level that training drives to zero or below stays usable; its gradient passes.
SMALLEST_ALPHA = 1e-6


class _ClipKernels(NamedTuple):
    """The passes over memory, on flat tensors; s is the level that is used.

    levels(x, s, n) -> y;  gradients(u, x, s, n) -> (dx, dalpha), the paper's.
    """

    levels: Callable[[Tensor, Tensor, int], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


def _levels_eager(x: Tensor, s: Tensor, n: int) -> Tensor:
    return torch.div(x, s).clamp_(0, 1).mul_(n).round_().div_(n).mul_(s)


def _gradients_eager(u: Tensor, x: Tensor, s: Tensor, n: int) -> tuple[Tensor, Tensor]:
    d_alpha = (u - _between(u, x, -inf, s)).sum()
    # The factors cancel but for the rounding of the composed formula, which this keeps.
    return _between(u, x, BELOW_ZERO, s).mul_(s).div_(n).mul_(n).div_(s), d_alpha


def _between(u: Tensor, x: Tensor, low: float, s: Tensor) -> Tensor:
    """u where low < x < s, else 0; one vectorised pass on a CPU, elsewhere s stays where it is."""
    if x.is_cpu:
        return inside(u, x, low, s.item())
    return torch.where((x > low) & (x < s), u, 0.0)


def _levels_formula(x: Tensor, s: Tensor, n: int) -> Tensor:
    return torch.round(torch.clamp(x / s, 0, 1) * n) / n * s


def _gradients_formula(u: Tensor, x: Tensor, s: Tensor, n: int) -> tuple[Tensor, Tensor]:
    is_below = x < s
    return torch.where((x >= 0) & is_below, u, 0.0), torch.where(is_below, 0.0, u).sum()


_EAGER = _ClipKernels(levels=_levels_eager, gradients=_gradients_eager)


@cache
def _compiled_kernels() -> _ClipKernels:
    return _ClipKernels(
        levels=torch.compile(_levels_formula, dynamic=True),
        gradients=torch.compile(_gradients_formula, dynamic=True),
    )


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's own context object
        x: Tensor,
        alpha: Tensor,
        n: int,
        kernels: _ClipKernels,
    ) -> Tensor:
        if not torch.ops.aten.is_non_overlapping_and_dense(x):
            x = x.contiguous()
        s = alpha.detach()
        s = s + (s.clamp(min=SMALLEST_ALPHA) - s)
        ctx.save_for_backward(x, s)
        ctx.n, ctx.kernels = n, kernels
        return kernels.levels(flat(x.detach()), s, n).as_strided(x.shape, x.stride())

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, s = (one.detach() for one in ctx.saved_tensors)
        dx, d_alpha = ctx.kernels.gradients(flat_like(u, x), flat(x), s, ctx.n)
        return dx.as_strided(x.shape, x.stride()), d_alpha, None, None


class _ClippedEach(torch.autograd.Function):
    """The same for levels that broadcast against x: one for each of several networks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alphas: Tensor, n: int) -> Tensor:  # torch's context
        s = alphas.detach().clamp(min=SMALLEST_ALPHA)
        ctx.save_for_backward(x, s)
        return _levels_eager(x, s, n)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, s = (one.detach() for one in ctx.saved_tensors)
        shares = x / s
        is_below = torch.ops.aten.hardtanh_backward(u, shares, -inf, 1.0)
        dx = torch.ops.aten.hardtanh_backward(is_below, shares, BELOW_ZERO, inf)
        return dx, (u - is_below).sum_to_size(s.shape), None


def clipped_values(
    x: Tensor, alpha: Tensor, *, bits: int, is_calibrated: bool = False, backend: str = "eager"
) -> Tensor:
    """What `clipped` gives, and its gradients, in few passes over memory."""
    n = 2**bits - 1
    if is_calibrated:
        return clipped(x, alpha, bits=bits, is_calibrated=True)
    if is_vmapped():
        return with_own(
            lambda x, alphas: _ClippedEach.apply(x, alphas, n),  # type: ignore[no-untyped-call]
            x,
            alpha,
        )
    kernels = _compiled_kernels() if is_compiled(backend) else _EAGER
    y: Tensor = _Clipped.apply(x, alpha, n, kernels)  # type: ignore[no-untyped-call]  # torch's
    return y


def clipped(x: Tensor, alpha: Tensor, *, bits: int, is_calibrated: bool = False) -> Tensor:
    """round(y n / alpha) alpha / n, y = clamp(x, 0, alpha), n = 2^b - 1; alpha has no dimension.

    dx = 1 on [0, alpha), else 0; dalpha = 1 where x >= alpha and 0 where x < 0. Between, dalpha is
    0, or with `is_calibrated` q_k(x / alpha) - x / alpha: what rounding really does to the value.

    >>> x = torch.tensor([-0.5, 0.1, 0.9, 2.5])
    >>> clipped(x, torch.tensor(1.5), bits=2).tolist()
    [0.0, 0.0, 1.0, 1.5]
    """
    alpha = alpha + (alpha.clamp(min=SMALLEST_ALPHA) - alpha).detach()
    scale = alpha if is_calibrated else alpha.detach()
    inside = scale * unit_levels(x.clamp(min=0) / scale, bits=bits)
    return torch.where(x >= alpha, alpha, inside)


class ClippedActivations(nn.Module):
    """Quantize an activation with one learned clipping level; 32 bits pass it through."""

    def __init__(
        self, *, bits: int, alpha: float, is_calibrated: bool, backend: str = "eager"
    ) -> None:
        super().__init__()
        self.backend = backend
        self.bits = bits
        self.is_calibrated = is_calibrated
        self.alpha = nn.Parameter(torch.tensor(alpha), requires_grad=bits < FULL_PRECISION_BITS)

    @torch.no_grad()
    def initialise(self, values: Tensor) -> None:
        """Set alpha to the level of least squared error on these values."""
        if self.bits < FULL_PRECISION_BITS:
            grid = least_error_grid(
                values.clamp(min=0), bits=self.bits, is_symmetric=False, is_per_channel=False
            )
            self.alpha.copy_(grid.scale.squeeze() * grid.high)

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape; those below zero become 0."""
        if self.bits >= FULL_PRECISION_BITS:
            return values
        return clipped_values(
            values,
            self.alpha,
            bits=self.bits,
            is_calibrated=self.is_calibrated,
            backend=self.backend,
        )

    def pack_input(self, widths: Sequence[int]) -> ClipInput | None:
        """What a packed file keeps of an input's grid."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        return ClipInput(alpha=self.alpha.detach().clamp(min=SMALLEST_ALPHA))
