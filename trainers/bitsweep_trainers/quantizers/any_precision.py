"""Any-Precision's weights (arXiv 1911.07346): DoReFa's levels times the mean magnitude.

The codes of a width are rounded for that width: they are not the high bits of another's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.weights import (
    CodedWeights,
    Codes,
    SeparateWeights,
    Unit,
    UnitLatentWeights,
    Weights,
)
from bitsweep_trainers.quantizers.dorefa import unit_levels, unit_weights


def scaled_weights(weights: Tensor, *, bits: int, detach_max: bool) -> Tensor:
    """w_hat = E (2 q_k(u) - 1), E = mean|w| without gradient, u as DoReFa's; no q_k at 32 bits.

    >>> import torch
    >>> w = torch.tensor([-0.9, -0.3, 0.1, 0.6])
    >>> [round(one, 4) for one in scaled_weights(w, bits=2, detach_max=True).tolist()]
    [-0.475, -0.1583, 0.1583, 0.475]
    """
    u = unit_weights(weights, detach_max=detach_max)
    q = u if bits >= FULL_PRECISION_BITS else unit_levels(u, bits=bits)
    return weights.detach().abs().mean() * (2 * q - 1)


class ScaledWeights(nn.Module):
    """Quantize weights as Any-Precision does; `bits` may be set at any time."""

    def __init__(self, *, bits: int, detach_max: bool) -> None:
        super().__init__()
        self.bits = bits
        self.detach_max = detach_max

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of any shape -> values in [-mean|w|, mean|w|]."""
        return scaled_weights(weights, bits=self.bits, detach_max=self.detach_max)

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights: codes of all widths, or u where that is less."""
        u = unit_weights(weights, detach_max=self.detach_max)
        scale = weights.abs().mean()
        if sum(widths) >= FULL_PRECISION_BITS:
            return UnitLatentWeights(latent=u, scale=scale)
        return SeparateWeights(
            widths={
                str(bits): CodedWeights(
                    codes=Codes.of(torch.round(u * (2**bits - 1)), bits=bits),
                    grid=Unit(levels=2**bits - 1, scale=scale),
                )
                for bits in widths
            }
        )
