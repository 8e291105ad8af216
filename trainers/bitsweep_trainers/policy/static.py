"""Searches for one allocation for all images, within a budget of BitOps (section 3.6).

Evolution on the loss itself, and an integer linear program on the losses of single layers.
Allocations are tuples of indices of widths; costs are BitOps (L, m).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from bitsweep_trainers.supernet import tilted_weights

Allocation = tuple[int, ...]
LossOf = Callable[[Allocation], float]
POPULATION, GENERATIONS, MUTATION = 50, 20, 0.1
ROOM = 1e-9  # a budget that is a mean of costs may lie below the least of them by rounding


def cost_of(costs: Tensor, allocation: Allocation) -> float:
    """BitOps of an allocation.

    >>> cost_of(torch.tensor([[4.0, 16.0], [8.0, 32.0]]), (0, 1))
    36.0
    """
    return float(sum(costs[t, action] for t, action in enumerate(allocation)))


def sensitivities(loss_of: LossOf, *, num_decisions: int, num_widths: int) -> Tensor:
    """Loss gained by one decision at a lower width, all others at the largest: (L, m) float64."""
    largest = (num_widths - 1,) * num_decisions
    whole = loss_of(largest)
    return torch.tensor(
        [
            [
                loss_of((*largest[:t], action, *largest[t + 1 :])) - whole
                for action in range(num_widths)
            ]
            for t in range(num_decisions)
        ],
        dtype=torch.float64,
    )


def linear_program(gained: Tensor, costs: Tensor, budget: float) -> Allocation:
    """The allocation of the least sum of sensitivities (L, m) that costs at most the budget.

    Solved exactly (HiGHS, through scipy). Raise ValueError for a budget below the lowest widths'.

    >>> gained = torch.tensor([[5.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    >>> costs = torch.tensor([[4.0, 16.0], [8.0, 32.0]], dtype=torch.float64)
    >>> linear_program(gained, costs, 36.0)
    (1, 0)
    """
    num_decisions, num_widths = costs.shape
    least = float(costs[:, 0].sum())
    if budget < least * (1 - ROOM):
        raise ValueError(f"a budget of {budget:g} BitOps lies below the lowest widths' {least:g}")
    one_each = np.kron(np.eye(num_decisions), np.ones(num_widths))
    scaled = (costs / costs.sum()).flatten().numpy()
    limit = max(budget, least) / float(costs.sum()) * (1 + ROOM)
    solved = milp(
        gained.flatten().numpy(),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(scaled, -np.inf, limit)],
        integrality=np.ones(costs.numel(), dtype=np.int8),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    assert solved.x is not None, solved.message
    chosen = solved.x.reshape(num_decisions, num_widths).argmax(1)
    return tuple(int(one) for one in chosen)


def evolved(
    loss_of: LossOf,
    costs: Tensor,
    budget: float,
    generator: torch.Generator,
    *,
    widths: Sequence[int],
    population: int = POPULATION,
    generations: int = GENERATIONS,
) -> Allocation:
    """The allocation of the least loss within the budget that evolution meets.

    The fitter half survives; children cross two of it, decision by decision, and mutate. What is
    too dear has decisions lowered at random until it is not. Lower cost wins ties. widths: bits.
    """
    num_decisions, num_widths = costs.shape

    def affordable(allocation: list[int]) -> Allocation:
        while cost_of(costs, tuple(allocation)) > budget * (1 + ROOM) and any(allocation):
            t = int(torch.randint(num_decisions, (), generator=generator))
            allocation[t] = max(0, allocation[t] - 1)
        return tuple(allocation)

    def drawn() -> Allocation:
        tilt = 3 * (2 * torch.rand((), generator=generator).item() - 1)
        p = tilted_weights(widths, tilt)
        actions = torch.multinomial(p, num_decisions, replacement=True, generator=generator)
        return affordable(actions.tolist())

    def fitness(one: Allocation) -> tuple[float, float, Allocation]:
        return loss_of(one), cost_of(costs, one), one

    def child(parents: list[Allocation]) -> Allocation:
        first, second = (
            parents[int(torch.randint(len(parents), (), generator=generator))] for _ in range(2)
        )
        crossed = torch.rand(num_decisions, generator=generator) < 0.5
        mutates = torch.rand(num_decisions, generator=generator) < MUTATION
        other = torch.randint(num_widths, (num_decisions,), generator=generator)
        mixed = torch.where(crossed, torch.tensor(first), torch.tensor(second))
        return affordable(torch.where(mutates, other, mixed).tolist())

    uniform = [(one,) * num_decisions for one in range(num_widths)]
    living = [one for one in uniform if cost_of(costs, one) <= budget * (1 + ROOM)]
    living += [drawn() for _ in range(population - len(living))]
    for _ in range(generations):
        fitter = sorted(dict.fromkeys(living), key=fitness)[: max(2, population // 2)]
        living = fitter + [child(fitter) for _ in range(population - len(fitter))]
    return min(living, key=fitness)
