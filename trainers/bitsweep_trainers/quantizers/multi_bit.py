"""Multi-bit weights: each group a sum of a few signed bases, w ~ sum_i alpha_i beta_i (as in ALQ).

Bases are vectors of -1 and 1. A group is an output channel. G groups, M weights in a group, K
bases at most; `kept` (G, K) says which bases a group still has.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from math import ceil, log2

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.packed.weights import BasesWeights, Codes, FloatWeights, Weights

REFITS = 10
# Two bases of a group may become equal; the ridge shares the coordinate between them.
RIDGE = 1e-5
BLOCK = 2**16  # weights that are looked at together


@cache
def _sign_rows(num_bases: int) -> tuple[tuple[float, ...], ...]:
    return tuple(product((-1.0, 1.0), repeat=num_bases))


def nearest_bases(rows: Tensor, coordinates: Tensor, kept: Tensor) -> Tensor:
    """The bases (G, M, K) whose sum is nearest to each value of (G, M); 0 where none is kept.

    >>> alpha, kept = torch.tensor([[0.5, 0.2]]), torch.ones(1, 2)
    >>> nearest_bases(torch.tensor([[0.8, 0.2, -0.25]]), alpha, kept).tolist()
    [[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]]]
    """
    signs = rows.new_tensor(_sign_rows(coordinates.shape[1]))
    levels, order = ((coordinates * kept) @ signs.T).sort(1)
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    by_level_GLK = signs[order] * kept.unsqueeze(1)
    index = _nearest_levels(rows, middles)
    first = torch.arange(len(rows), dtype=torch.int32, device=rows.device) * levels.shape[1]
    index += first.unsqueeze(1)
    return embedding(index, by_level_GLK.flatten(0, 1))


def _nearest_levels(rows: Tensor, middles: Tensor) -> Tensor:
    """For each value of (G, M) how many of its group's middles (G, L - 1) lie below it, int32.

    Counted in blocks that stay in the cache: a binary search over all weights takes several times
    as long.
    """
    index = torch.zeros(rows.shape, dtype=torch.int32, device=rows.device)
    count = max(1, BLOCK // rows.shape[1])
    for parts in zip(*(torch.split(one, count) for one in (rows, middles, index)), strict=True):
        some, between, counted = parts
        for middle in between.unsqueeze(2).unbind(1):
            counted += middle < some
    return index


def best_coordinates(rows: Tensor, bases: Tensor, kept: Tensor) -> Tensor:
    """alpha (G, K) of least squared error of sum_i alpha_i beta_i; 0 where not kept.

    >>> bases = torch.tensor([[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]])
    >>> rows = torch.tensor([[0.7, 0.3, -0.3, -0.7]])
    >>> alpha = best_coordinates(rows, bases, torch.ones(1, 2))
    >>> [round(one, 4) for one in alpha[0].tolist()]
    [0.5, 0.2]
    """
    gram = bases.mT @ bases / rows.shape[1]
    gram = gram + torch.diag_embed(1 - kept + RIDGE * kept)
    target = bases.mT @ rows.unsqueeze(2) / rows.shape[1]
    solved: Tensor = torch.linalg.solve(gram, target)
    return solved.squeeze(2) * kept


def first_coordinates(rows: Tensor, num_bases: int) -> Tensor:
    """alpha (G, K), each the mean magnitude of what the bases before it leave over.

    >>> alpha = first_coordinates(torch.tensor([[0.7, 0.3, -0.3]]), 2)
    >>> [round(one, 4) for one in alpha[0].tolist()]
    [0.4333, 0.1778]
    """
    found, rest = [], rows
    for _ in range(num_bases):
        found.append(rest.abs().mean(1, keepdim=True))
        rest = rest - found[-1] * torch.where(rest >= 0, 1.0, -1.0)
    return torch.cat(found, 1)


def removal_costs(coordinates: Tensor, gradient: Tensor, curvature: Tensor) -> Tensor:
    """-m alpha + h alpha^2 / 2: how much the modelled loss grows without a coordinate.

    >>> alpha, m, h = torch.tensor([0.5, 0.2]), torch.tensor([0.1, 0.02]), torch.tensor([2.0, 1.0])
    >>> [round(one, 4) for one in removal_costs(alpha, m, h).tolist()]
    [0.2, 0.016]
    """
    return -gradient * coordinates + 0.5 * curvature * coordinates.square()


class MultiBitWeights(nn.Module):
    """Weights as sums of `bits` bases a channel at most; 32 bits pass them through.

    `coordinates` and `kept` are (output channels, bits). Weights become the nearest sums; the
    gradient passes to them as if nothing had happened.
    """

    coordinates: Tensor
    kept: Tensor

    def __init__(self, *, bits: int, num_groups: int) -> None:
        super().__init__()
        self.bits = bits
        self.is_started = False
        num_bases = bits if bits < FULL_PRECISION_BITS else 1
        self.register_buffer("coordinates", torch.zeros(num_groups, num_bases))
        self.register_buffer("kept", torch.ones(num_groups, num_bases))

    def bases(self, weights: Tensor) -> Tensor:
        """The nearest bases (G, M, K) of the weights."""
        return nearest_bases(weights.flatten(1), self.coordinates, self.kept)

    def values(self, weights: Tensor) -> Tensor:
        """The nearest sums, of the shape of the weights."""
        sums = self.bases(weights) @ self.coordinates.unsqueeze(2)
        return sums.view_as(weights)

    @torch.no_grad()
    def start(self, weights: Tensor) -> None:
        """Find coordinates for the weights, with all bases."""
        self.coordinates.copy_(first_coordinates(weights.flatten(1), self.coordinates.shape[1]))
        self.is_started = True
        for _ in range(REFITS):
            self.refit(weights)

    @torch.no_grad()
    def refit(self, weights: Tensor) -> None:
        """One step: the nearest bases, then the best coordinates for them."""
        rows = weights.flatten(1)
        self.coordinates.copy_(best_coordinates(rows, self.bases(weights), self.kept))

    @torch.no_grad()
    def remove(self, costs: Tensor, count: int) -> None:
        """Take away the `count` kept bases of least cost (G, K)."""
        order = torch.where(self.kept > 0, costs, torch.inf).flatten().argsort(stable=True)
        self.kept.view(-1)[order[:count]] = 0
        self.coordinates.mul_(self.kept)

    def forward(self, weights: Tensor) -> Tensor:
        """Weights, output channels first, of the same shape; as they are before `start`."""
        if self.bits >= FULL_PRECISION_BITS or not self.is_started:
            return weights
        held = weights.detach()
        return self.values(held) + (weights - held)  # the sums exactly: the bracket is 0

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights: how many bases a channel has, and those it has."""
        if self.bits >= FULL_PRECISION_BITS or not self.is_started:
            return FloatWeights(plain=weights)
        kept = self.kept > 0
        is_used = kept.unsqueeze(1).expand(-1, weights[0].numel(), -1)
        return BasesWeights(
            counts=Codes.of(kept.sum(1), bits=ceil(log2(self.bits + 1))),
            coordinates=self.coordinates[kept],
            signs=Codes.of((self.bases(weights)[is_used] > 0).int(), bits=1),
            shape=tuple(weights.shape),
        )

    def get_extra_state(self) -> dict[str, bool]:
        """What a checkpoint keeps besides the tensors."""
        return {"is_started": self.is_started}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        """The inverse of `get_extra_state`."""
        self.is_started = state["is_started"]
