"""LSQ+ (Bhalgat et al., arXiv 2004.09576): learned steps, and for inputs a learned offset.

The step and its gradients are LSQ's, from `learned_step`; offset and starts stand here.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.inputs import StepInput
from bitsweep_trainers.quantizers.learned_step import SMALLEST_STEP, kernels_of, learned_step
from bitsweep_trainers.quantizers.ste import scale_gradient

SEARCH_VALUES = 1 << 14
SEARCH_SHARES = tuple(1 - index / 20 for index in range(20))


def weight_start(weights: Tensor, *, bits: int) -> Tensor:
    """s = max(|mu - 3 sigma|, |mu + 3 sigma|) / 2^(b-1), sigma unbiased.

    >>> round(float(weight_start(torch.tensor([-0.9, -0.3, 0.1, 0.6]), bits=3)), 5)
    0.50707
    """
    mean, deviation = weights.mean(), weights.std()
    step: Tensor = (mean.abs() + 3 * deviation) / 2 ** (bits - 1)
    return step.clamp(min=SMALLEST_STEP)


def range_start(x: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    """(s, beta) = ((max - min) / (2^b - 1), min).

    >>> step, offset = range_start(torch.tensor([-1.0, 0.2, 2.0]), bits=2)
    >>> float(step), float(offset)
    (1.0, -1.0)
    """
    return _over(x.amin(), x.amax(), bits=bits)


def _over(lower: Tensor, upper: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    return ((upper - lower) / (2**bits - 1)).clamp(min=SMALLEST_STEP), lower


def least_error_start(x: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    """(s, beta) of least squared error, both ends of the range drawn towards the median.

    Looks at `SEARCH_VALUES` evenly spaced values; 400 ranges are tried, the widest wins a tie.
    """
    stride = -(-x.numel() // SEARCH_VALUES)
    sample = x.flatten()[::stride]
    middle = sample.median()
    lowest, highest = sample.amin() - middle, sample.amax() - middle
    candidates = [
        _over(middle + low * lowest, middle + high * highest, bits=bits)
        for low in SEARCH_SHARES
        for high in SEARCH_SHARES
    ]
    errors = [
        (offset_step(sample, step, offset, bits=bits) - sample).square().sum()
        for step, offset in candidates
    ]
    return candidates[int(torch.stack(errors).argmin())]


def offset_step(
    x: Tensor,
    step: Tensor,
    offset: Tensor,
    *,
    bits: int,
    gradient_scale: float = 1.0,
    backend: str = "eager",
) -> Tensor:
    """x_hat = round(clamp((x - beta) / s, 0, 2^b - 1)) s + beta.

    dx = 1 inside, 0 where clipped; dbeta the reverse; ds as LSQ with (x - beta) / s. Both of the
    last are multiplied by `gradient_scale`. Step and offset have no dimension.

    >>> x = torch.tensor([-0.25, -0.1, 0.1, 2.4])
    >>> values = offset_step(x, torch.tensor(0.4), torch.tensor(-0.2), bits=2)
    >>> [round(one, 4) for one in values.tolist()]
    [-0.2, -0.2, 0.2, 1.0]
    """
    beta = scale_gradient(offset, gradient_scale)
    centred = learned_step(
        x - beta,
        step,
        low=0,
        high=2**bits - 1,
        gradient_scale=gradient_scale,
        kernels=kernels_of(backend),
    )
    return centred + beta


class OffsetActivations(nn.Module):
    """Quantize an input of any sign with a learned step and offset; 32 bits pass it through.

    The gradient scale 1 / sqrt(N (2^b - 1)) counts the features of one sample.
    """

    def __init__(self, *, bits: int, backend: str = "eager") -> None:
        super().__init__()
        self.bits = bits
        self.backend = backend
        is_learned = bits < FULL_PRECISION_BITS
        self.step = nn.Parameter(torch.ones(()), requires_grad=is_learned)
        self.offset = nn.Parameter(torch.zeros(()), requires_grad=is_learned)

    @torch.no_grad()
    def initialise(self, values: Tensor, *, by_error: bool) -> None:
        """Set step and offset from values: of least squared error, or over their whole range."""
        if self.bits >= FULL_PRECISION_BITS:
            return
        start = least_error_start if by_error else range_start
        step, offset = start(values, bits=self.bits)
        self.step.copy_(step)
        self.offset.copy_(offset)

    def forward(self, values: Tensor) -> Tensor:
        """Activations (N, ...), of the same shape."""
        if self.bits >= FULL_PRECISION_BITS:
            return values
        count = values.numel() // values.shape[0]
        return offset_step(
            values,
            self.step,
            self.offset,
            bits=self.bits,
            gradient_scale=1 / sqrt(count * (2**self.bits - 1)),
            backend=self.backend,
        )

    def pack_input(self, widths: Sequence[int]) -> StepInput | None:
        """What a packed file keeps of an input's grid."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        step = self.step.detach().clamp(min=SMALLEST_STEP)
        return StepInput(step=step, low=0, high=2**self.bits - 1, offset=self.offset.detach())
