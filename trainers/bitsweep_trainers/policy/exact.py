"""The exact optimum where every allocation of an image is known: small problems and tests."""

from itertools import product

import torch
from torch import Tensor

from bitsweep_trainers.policy.environment import relative_costs


def optimal_values(rewards: Tensor, costs: Tensor, price: float) -> list[Tensor]:
    """Q* of one image: at decision t a tensor (m,) * t of values, return-to-go, prefix by prefix.

    rewards: the task reward of every allocation, (m,) * L; costs: BitOps (L, m).
    """
    relative = relative_costs(costs)
    values = [rewards.double() - price * relative[-1]]
    for t in range(len(costs) - 2, -1, -1):
        values.insert(0, values[0].max(-1).values - price * relative[t])
    return values


def optimal_allocation(values: list[Tensor]) -> tuple[int, ...]:
    """The greedy way through Q*; ties go to the lower bits."""
    chosen: tuple[int, ...] = ()
    for one in values:
        row = one[chosen]
        chosen = (*chosen, int((row == row.max()).to(torch.uint8).argmax()))
    return chosen


def best_static_value(rewards: Tensor, costs: Tensor, price: float) -> float:
    """The best mean over images of R - lambda C / C_ref that one allocation reaches.

    rewards: (N,) + (m,) * L.
    """
    num_decisions, num_widths = costs.shape
    relative = relative_costs(costs)
    mean = rewards.double().mean(0)
    return max(
        float(mean[one]) - price * float(sum(relative[t, a] for t, a in enumerate(one)))
        for one in product(range(num_widths), repeat=num_decisions)
    )
