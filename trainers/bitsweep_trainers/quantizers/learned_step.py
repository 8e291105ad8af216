"""LSQ: uniform quantization with a learned step size (Esser et al., ICLR 2020, arXiv 1902.08153).

One autograd function with the closed-form gradients; eager and compiled kernels, equal numbers.
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import sqrt
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.inputs import StepInput
from bitsweep_trainers.packed.weights import Affine, CodedWeights, Codes, FloatWeights, Weights
from bitsweep_trainers.quantizers.members import is_vmapped, with_own

Backend = Literal["eager", "compiled"]
Role = Literal["weight", "activation", "images"]
# A step that training drives to zero or below stays usable; its gradient passes, so it can return.
SMALLEST_STEP = 1e-8


class Kernels(NamedTuple):
    """The two passes over memory, on dense tensors viewed as one dimension.

    quantize(x, s, low, high) -> x_hat;  gradients(u, x, x_hat, s, low, high) -> (dx, ds).
    """

    quantize: Callable[[Tensor, Tensor, int, int], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, Tensor, int, int], tuple[Tensor, Tensor]]


def _quantize_eager(x: Tensor, s: Tensor, low: int, high: int) -> Tensor:
    return torch.div(x, s).clamp_(low, high).round_().mul_(s)


def _gradients_eager(
    u: Tensor, x: Tensor, x_hat: Tensor, s: Tensor, low: int, high: int
) -> tuple[Tensor, Tensor]:
    """Few passes: s ds = sum_inside u (x_hat - x) + sum_outside u x_hat."""
    dx = _inside(u, x, s, low, high)
    rounding = torch.dot(dx, x_hat - x)
    clipping = torch.dot(u - dx, x_hat)
    return dx, (rounding + clipping) / s


def _inside(u: Tensor, x: Tensor, s: Tensor, low: int, high: int) -> Tensor:
    """u where low s < x < high s, else 0; one vectorised pass on a CPU."""
    if x.is_cpu:
        step = s.item()
        dx: Tensor = torch.ops.aten.hardtanh_backward(u, x, low * step, high * step)
        return dx
    return torch.where((x > low * s) & (x < high * s), u, 0.0)


def _quantize_formula(x: Tensor, s: Tensor, low: int, high: int) -> Tensor:
    return torch.clamp(x / s, low, high).round() * s


def _gradients_formula(
    u: Tensor, x: Tensor, x_hat: Tensor, s: Tensor, low: int, high: int
) -> tuple[Tensor, Tensor]:
    is_inside = (x > low * s) & (x < high * s)
    error = torch.where(is_inside, x_hat - x, x_hat)
    return torch.where(is_inside, u, 0.0), (u * error).sum() / s


EAGER = Kernels(quantize=_quantize_eager, gradients=_gradients_eager)


@cache
def compiled_kernels() -> Kernels:
    """The formulas as fused loops for any size and bits; compiled at the first call (seconds)."""
    return Kernels(
        quantize=torch.compile(_quantize_formula, dynamic=True),
        gradients=torch.compile(_gradients_formula, dynamic=True),
    )


def is_compiled(backend: str) -> bool:
    """Whether a trial's backend is the compiled one; ValueError for one that there is not."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    return backend == "compiled"


def kernels_of(backend: str) -> Kernels:
    """The kernels of a trial's backend; ValueError for one that there is not."""
    return compiled_kernels() if is_compiled(backend) else EAGER


def flat(values: Tensor) -> Tensor:
    """A dense tensor as one dimension in memory order, whatever its memory format."""
    return values.as_strided((values.numel(),), (1,))


def flat_like(values: Tensor, other: Tensor) -> Tensor:
    """The values in the memory order of a dense tensor, as one dimension."""
    if values.stride() != other.stride():
        values = torch.empty_like(other).copy_(values)
    return flat(values)


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's own context object
        x: Tensor,
        step: Tensor,
        low: int,
        high: int,
        gradient_scale: float,
        kernels: Kernels,
    ) -> Tensor:
        if not torch.ops.aten.is_non_overlapping_and_dense(x):
            x = x.contiguous()
        s = step.detach().clamp(min=SMALLEST_STEP)
        x_hat = kernels.quantize(flat(x), s, low, high).as_strided(x.shape, x.stride())
        ctx.save_for_backward(x, x_hat, s)
        ctx.bounds, ctx.gradient_scale, ctx.kernels = (low, high), gradient_scale, kernels
        return x_hat

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, x_hat, s = (one.detach() for one in ctx.saved_tensors)
        dx, ds = ctx.kernels.gradients(flat_like(u, x), flat(x), flat(x_hat), s, *ctx.bounds)
        return dx.as_strided(x.shape, x.stride()), ds * ctx.gradient_scale, None, None, None, None


class _LearnedStepEach(torch.autograd.Function):
    """The same for steps that broadcast against x: one for each of several networks."""

    @staticmethod
    def forward(
        ctx: Any,  # torch's own context object
        x: Tensor,
        steps: Tensor,
        low: int,
        high: int,
        gradient_scale: float,
    ) -> Tensor:
        s = steps.detach().clamp(min=SMALLEST_STEP)
        x_hat = _quantize_eager(x, s, low, high)
        ctx.save_for_backward(x, x_hat, s)
        ctx.bounds, ctx.gradient_scale = (low, high), gradient_scale
        return x_hat

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, x_hat, s = (one.detach() for one in ctx.saved_tensors)
        # A kernel of its own takes fewer passes than two comparisons and a choice.
        dx = torch.ops.aten.hardtanh_backward(u, x / s, *ctx.bounds)
        if not ctx.needs_input_grad[1]:
            return dx, None, None, None, None
        terms = (x_hat - x).mul_(dx).addcmul_(u - dx, x_hat)
        ds = terms.sum_to_size(s.shape) / s * ctx.gradient_scale
        return dx, ds, None, None, None


def learned_step(
    x: Tensor,
    step: Tensor,
    *,
    low: int,
    high: int,
    gradient_scale: float = 1.0,
    kernels: Kernels = EAGER,
) -> Tensor:
    """x_hat = round(clamp(x / s, low, high)) s, with LSQ's gradients for x and s (eq. 1-3).

    dx = u where low < x/s < high, else 0; ds = gradient_scale * sum of u times round(x/s) - x/s
    inside, low or high outside. `step` has no dimension. Under torch.vmap the kernels are the
    eager ones.

    >>> w = torch.tensor([-0.9, -0.3, 0.1, 0.6])
    >>> learned_step(w, torch.tensor(0.5), low=-2, high=1).tolist()
    [-1.0, -0.5, 0.0, 0.5]
    """
    if is_vmapped():
        return with_own(
            lambda x, steps: _LearnedStepEach.apply(x, steps, low, high, gradient_scale),  # type: ignore[no-untyped-call]
            x,
            step,
        )
    x_hat: Tensor = _LearnedStep.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        x, step, low, high, gradient_scale, kernels
    )
    return x_hat


def code_bounds(bits: int, *, is_signed: bool) -> tuple[int, int]:
    """The smallest and the largest code (-Qn, Qp): two's complement, or from 0.

    >>> code_bounds(3, is_signed=True), code_bounds(2, is_signed=False)
    ((-4, 3), (0, 3))
    """
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)


def initial_step(x: Tensor, high: int) -> Tensor:
    """2 mean|x| / sqrt(Qp) (section 2.1)."""
    return (2.0 * x.abs().mean() / sqrt(high)).clamp(min=SMALLEST_STEP)


class LearnedStep(nn.Module):
    """Quantize a tensor with one learned step; 32 bits pass it through.

    Weights are signed; the others are unsigned when what they are initialised from is >= 0.
    The step of images is fixed at max|x| / Qp: to learn it takes a gradient for the input of the
    first layer, which no other parameter needs and which can cost as much as all the others.
    `bits` may be set at any time: nothing else changes, so going back is lossless.
    `n_counts_batch`: the gradient scale 1/sqrt(N Qp) counts the features of the whole batch, as
    much public code does, instead of those of one sample.
    """

    def __init__(
        self, *, bits: int, role: Role, backend: str = "eager", n_counts_batch: bool = False
    ) -> None:
        super().__init__()
        self.bits = bits
        self.role = role
        self.is_signed = role == "weight"
        self.kernels = kernels_of(backend)
        self.n_counts_batch = n_counts_batch
        self.step = nn.Parameter(torch.ones(()), requires_grad=role != "images")

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest code at the current bits."""
        return code_bounds(self.bits, is_signed=self.is_signed)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set the sign and the step from the values to be quantized."""
        if self.role != "weight":
            self.is_signed = bool((x < 0).any())
        if self.bits >= FULL_PRECISION_BITS:
            return
        high = self.bounds[1]
        learned = self.role != "images"
        self.step.copy_(initial_step(x, high) if learned else x.abs().max() / high)

    def forward(self, x: Tensor) -> Tensor:
        """x_hat, of the shape and memory format of x (weights, or activations (N, ...))."""
        if self.bits >= FULL_PRECISION_BITS:
            return x
        low, high = self.bounds
        counts_all = self.role == "weight" or self.n_counts_batch
        count = x.numel() if counts_all else x.numel() // x.shape[0]
        scale = 1.0 / sqrt(count * high)
        return learned_step(
            x, self.step, low=low, high=high, gradient_scale=scale, kernels=self.kernels
        )

    @torch.no_grad()
    def used_step(self) -> Tensor:
        """The step as the kernels see it."""
        return self.step.detach().clamp(min=SMALLEST_STEP)

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights."""
        if self.bits >= FULL_PRECISION_BITS:
            return FloatWeights(plain=weights)
        (low, high), step = self.bounds, self.used_step()
        codes = torch.div(weights, step).clamp(low, high).round()
        return CodedWeights(
            codes=Codes.of(codes, bits=self.bits, low=low), grid=Affine(scale=step)
        )

    def pack_input(self, widths: Sequence[int]) -> StepInput | None:
        """What a packed file keeps of an input's grid."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        low, high = self.bounds
        return StepInput(step=self.used_step(), low=low, high=high)

    def get_extra_state(self) -> dict[str, bool]:
        """What a checkpoint keeps besides the step."""
        return {"is_signed": self.is_signed}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """The inverse of `get_extra_state`."""
        self.is_signed = state["is_signed"]

    def extra_repr(self) -> str:
        """Bits and sign, for print(network)."""
        return f"bits={self.bits}, role={self.role!r}, is_signed={self.is_signed}"
