"""Interval quantization: both ends of the quantized range are learned (MBQuant's, from EWGS).

Rows (branches, or branches at a width) have ranges of their own. The function gives integer codes;
what a code is worth is its caller's: `weight_values` for 2-bit weights, code / (2^b - 1) for
activations. Neither restores the scale of the range: the batch norm behind the layer does.
"""

from collections.abc import Callable
from functools import cache
from math import pi, sqrt
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

Backend = Literal["eager", "compiled"]
WEIGHT_LEVELS = 3  # 2 bits: codes 0..3
HALF_NORMAL_STD = sqrt(1 - 2 / pi)  # of |x| where x is standard normal


class Kernels(NamedTuple):
    """The passes over memory, for values (N, R, M) and ranges (R, 1).

    encode(x, l, u, n) -> codes;  gradients(g, x, l, u, n) -> (dx (N, R, M), dl (R,), du (R,)).
    """

    encode: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def _encode_eager(x: Tensor, lower: Tensor, upper: Tensor, levels: Tensor) -> Tensor:
    scale = levels / (upper - lower)
    codes = torch.addcmul(-lower * scale, x, scale)
    return codes.clamp_(torch.zeros_like(levels), levels).round_()


def _gradients_eager(
    grad: Tensor, x: Tensor, lower: Tensor, upper: Tensor, levels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Few passes: dl and du are sums of g and g x over the inside."""
    inside = _inside(grad, x, lower, upper)
    total = inside.sum((0, 2))
    moment = torch.linalg.vecdot(inside, x).sum(0)
    scale = levels / (upper - lower)
    slope = (scale / (upper - lower)).squeeze(1)
    d_lower = slope * (moment - upper.squeeze(1) * total)
    d_upper = slope * (lower.squeeze(1) * total - moment)
    return inside.mul_(scale), d_lower, d_upper


def _inside(grad: Tensor, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """g where l <= x <= u, else 0; on a CPU one vectorised pass a row.

    hardtanh's derivative leaves its ends out: they are moved by one unit in the last place.
    """
    if not x.is_cpu:
        return torch.where((x >= lower) & (x <= upper), grad, 0.0)
    inside = torch.empty_like(x, memory_format=torch.contiguous_format)
    infinity = torch.full_like(lower, torch.inf)
    below = torch.nextafter(lower, -infinity).flatten().tolist()
    above = torch.nextafter(upper, infinity).flatten().tolist()
    for row, (low, high) in enumerate(zip(below, above, strict=True)):
        torch.ops.aten.hardtanh_backward.grad_input(
            grad[:, row], x[:, row], low, high, grad_input=inside[:, row]
        )
    return inside


def _encode_formula(x: Tensor, lower: Tensor, upper: Tensor, levels: Tensor) -> Tensor:
    scale = levels / (upper - lower)
    return torch.addcmul(-lower * scale, x, scale).clamp(min=0).minimum(levels).round()


def _gradients_formula(
    grad: Tensor, x: Tensor, lower: Tensor, upper: Tensor, levels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    scale = levels / (upper - lower)
    inside = torch.where((x >= lower) & (x <= upper), grad, 0.0)
    slope = (scale / (upper - lower)).squeeze(1)
    d_lower = slope * (inside * (x - upper)).sum((0, 2))
    d_upper = -slope * (inside * (x - lower)).sum((0, 2))
    return inside * scale, d_lower, d_upper


EAGER = Kernels(encode=_encode_eager, gradients=_gradients_eager)
FORMULAS = Kernels(encode=_encode_formula, gradients=_gradients_formula)


@cache
def compiled_kernels() -> Kernels:
    """The formulas as fused loops for any size; compiled at the first call (seconds)."""
    return Kernels(
        encode=torch.compile(FORMULAS.encode, dynamic=True),
        gradients=torch.compile(FORMULAS.gradients, dynamic=True),
    )


def kernels_of(backend: str) -> Kernels:
    """The kernels of a trial's backend; ValueError for one that there is not."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    return EAGER if backend == "eager" else compiled_kernels()


class _IntervalCodes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's own context object
        x: Tensor,
        lower: Tensor,
        upper: Tensor,
        levels: Tensor,
        kernels: Kernels,
    ) -> Tensor:
        tensors = [one.detach() for one in (x, lower, upper, levels)]
        ctx.save_for_backward(*tensors)
        ctx.kernels = kernels
        return kernels.encode(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lower, upper, levels = ctx.saved_tensors
        dx, d_lower, d_upper = ctx.kernels.gradients(grad, x, lower, upper, levels)
        return dx, d_lower.unsqueeze(1), d_upper.unsqueeze(1), None, None


def interval_codes(
    x: Tensor, lower: Tensor, upper: Tensor, levels: Tensor, *, kernels: Kernels = EAGER
) -> Tensor:
    """round(n clamp((x - l) / (u - l), 0, 1)): codes 0..n, half to even (sections 2.2, 2.3).

    x (N, R, M); lower, upper and levels (the greatest code n) (R,). Inside, ends included:
    dx = n / (u-l), dl = n (x-u) / (u-l)^2, du = -n (x-l) / (u-l)^2; outside all three are 0.

    >>> x = torch.tensor([[[-0.2, 0.37, 1.3, 2.4]]])
    >>> ends = torch.tensor([0.0]), torch.tensor([2.0])
    >>> interval_codes(x, *ends, torch.tensor([7.0])).tolist()
    [[[0.0, 1.0, 5.0, 7.0]]]
    """
    columns = (one.unsqueeze(1) for one in (lower, upper, levels))
    codes: Tensor = _IntervalCodes.apply(  # type: ignore[no-untyped-call]  # torch's
        x, *columns, kernels
    )
    return codes


def weight_values(codes: Tensor) -> Tensor:
    """2 (code/3 - 1/2): -1, -1/3, 1/3 or 1.

    >>> weight_values(torch.tensor([0.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    return codes * (2 / WEIGHT_LEVELS) - 1


def weight_range(weights: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """l = -factor std, u = factor std of each row (K, M), std unbiased (section 2.2)."""
    upper = factor * weights.std(1)
    return -upper, upper


def activation_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """l = min x, u = 3 std x / sqrt(1 - 2/pi) of each row of (N, R, M) (section 2.3)."""
    rows = x.transpose(0, 1).flatten(1)
    return rows.amin(1), 3 * rows.std(1) / HALF_NORMAL_STD
