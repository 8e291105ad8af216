"""How the layers of a CPQ network use their grids, told in a trial's log after each epoch.

Under `max` a weight in the zero cell gets no gradient of the task: a share of such weights that
only rises is a layer that freezes. Nothing here is a measurement of the store.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep.trial import Trial
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.lengths import achieved_bits
from bitsweep_trainers.quantizers.cluster_promoting import ClusterPromoting

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridUse:
    """The weights of one layer on their grid.

    length: bits of the widest kept point. code_bits: bits that the kept points would need if those
    in the holes had no codes, ceil(log2(points)); the same as length where there are none.
    """

    layer: str
    zero_share: float
    length: int
    points: int

    @property
    def code_bits(self) -> int:
        """ceil(log2(points))."""
        return (self.points - 1).bit_length()


@torch.no_grad()
def grid_uses(network: nn.Module) -> tuple[GridUse, ...]:
    """Of each quantized layer with a CPQ grid for its weights, in `modules()` order."""
    uses = []
    for path, layer in quantized_layers(network):
        quantizer = layer.weight_quantizer
        if isinstance(quantizer, ClusterPromoting) and quantizer.bits < FULL_PRECISION_BITS:
            is_zero = quantizer.evaluated(layer.weight) == 0
            uses.append(
                GridUse(
                    layer=path,
                    zero_share=is_zero.float().mean().item(),
                    length=quantizer.length,
                    points=sum(high - low + 1 for low, high in quantizer.kept_runs()),
                )
            )
    return tuple(uses)


def log_grid_use(network: nn.Module, trial: Trial, *, epoch: int) -> None:
    """A line of the log after so many epochs; nothing is computed where nobody listens."""
    if LOG.isEnabledFor(logging.INFO):
        LOG.info("after epoch %d: %s", epoch, "; ".join(_told(network, trial)))


def _told(network: nn.Module, trial: Trial) -> Iterator[str]:
    uses = grid_uses(network)
    zeros = ", ".join(f"{one.layer} {100 * one.zero_share:.1f} %" for one in uses)
    yield f"weights in the zero cell: {zeros or 'none is quantized'}"
    if trial.parameters.get("task") != "hetero":
        return
    lengths = ", ".join(
        f"{one.layer} {one.length} bits ({one.points} points: {one.code_bits})" for one in uses
    )
    yield f"lengths: {lengths}"
    mean = f"mean {achieved_bits(network, trial):.3f} bits"
    target = trial.parameters.get("target_bits")
    yield f"{mean} against a target of {target:g}" if isinstance(target, int | float) else mean
