"""PACT's activations (Choi et al., arXiv 1805.06085): clipped at a learned level alpha, rounded.

Both gradients for alpha: the paper's, and the calibrated one of CG-PACT (SAT, arXiv 1912.10207).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.inputs import ClipInput
from bitsweep_trainers.quantizers.dorefa import unit_levels
from bitsweep_trainers.quantizers.uniform import least_error_grid

# A level that training drives to zero or below stays usable; its gradient passes.
SMALLEST_ALPHA = 1e-6


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

    def __init__(self, *, bits: int, alpha: float, is_calibrated: bool) -> None:
        super().__init__()
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
        return clipped(values, self.alpha, bits=self.bits, is_calibrated=self.is_calibrated)

    def pack_input(self, widths: Sequence[int]) -> ClipInput | None:
        """What a packed file keeps of an input's grid."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        return ClipInput(alpha=self.alpha.detach().clamp(min=SMALLEST_ALPHA))
