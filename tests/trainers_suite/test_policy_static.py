"""Static rivals against brute force: all allocations of a small problem are known."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitsweep_trainers.policy.static import (
    Allocation,
    cost_of,
    evolved,
    linear_program,
    sensitivities,
)

NUM_DECISIONS, NUM_WIDTHS = 4, 3
WIDTHS = (2, 3, 4)
EVERY = list(product(range(NUM_WIDTHS), repeat=NUM_DECISIONS))
seeds = st.integers(0, 10_000)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_costs(seed: int) -> Tensor:
    macs = 1e6 * torch.randint(1, 50, (NUM_DECISIONS, 1), generator=seeded(seed)).double()
    return macs * torch.tensor([4.0, 9.0, 16.0], dtype=torch.float64)


def budget_of(costs: Tensor, share: float) -> float:
    least, most = float(costs[:, 0].sum()), float(costs[:, -1].sum())
    return least + share * (most - least)


def drawn_losses(seed: int) -> dict[Allocation, float]:
    """Any loss for each allocation: layers need not add up."""
    values = torch.rand(len(EVERY), generator=seeded(seed)).tolist()
    return dict(zip(EVERY, values, strict=True))


@given(seed=seeds, share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_linear_program_finds_the_least_sum_within_the_budget(seed: int, share: float) -> None:
    costs, gained = (
        drawn_costs(seed),
        torch.rand(NUM_DECISIONS, NUM_WIDTHS, generator=seeded(seed)),
    )
    gained, budget = gained.double(), budget_of(costs, share)

    def total(one: Allocation) -> float:
        return sum(float(gained[t, action]) for t, action in enumerate(one))

    best = min(total(one) for one in EVERY if cost_of(costs, one) <= budget * (1 + 1e-9))
    found = linear_program(gained, costs, budget)

    assert cost_of(costs, found) <= budget * (1 + 1e-6)
    assert total(found) == pytest.approx(best, abs=1e-9)


@given(seed=seeds, share=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_evolution_finds_the_best_allocation_of_a_small_problem(seed: int, share: float) -> None:
    costs, losses = drawn_costs(seed), drawn_losses(seed)
    budget = budget_of(costs, share)
    affordable = [one for one in EVERY if cost_of(costs, one) <= budget * (1 + 1e-9)]
    found = evolved(losses.__getitem__, costs, budget, seeded(seed), widths=WIDTHS)

    assert cost_of(costs, found) <= budget * (1 + 1e-9)
    ranked = sorted(losses[one] for one in affordable)
    assert losses[found] <= ranked[min(2, len(ranked) - 1)]


def test_evolution_repeats_and_depends_on_its_draws() -> None:
    costs, losses = drawn_costs(1), drawn_losses(1)
    asked: list[Allocation] = []

    def loss_of(one: Allocation) -> float:
        asked.append(one)
        return losses[one]

    budget = budget_of(costs, 0.5)
    first = evolved(loss_of, costs, budget, seeded(0), widths=WIDTHS, population=6, generations=2)
    seen, asked[:] = list(asked), []
    again = evolved(loss_of, costs, budget, seeded(0), widths=WIDTHS, population=6, generations=2)
    same, asked[:] = list(asked), []
    evolved(loss_of, costs, budget, seeded(1), widths=WIDTHS, population=6, generations=2)

    assert (first, seen) == (again, same)
    assert seen != asked


def test_a_sensitivity_is_what_one_layer_alone_loses() -> None:
    losses = {one: sum((2 - action) * (t + 1) for t, action in enumerate(one)) for one in EVERY}
    found = sensitivities(losses.__getitem__, num_decisions=4, num_widths=3)

    assert found.tolist() == [[2.0, 1.0, 0.0], [4.0, 2.0, 0.0], [6.0, 3.0, 0.0], [8.0, 4.0, 0.0]]


def test_a_budget_that_nothing_meets_is_refused() -> None:
    costs = drawn_costs(0)

    with pytest.raises(ValueError, match="below the lowest widths"):
        linear_program(torch.zeros(4, 3), costs, 0.99 * float(costs[:, 0].sum()))


def test_the_lowest_cost_itself_is_a_budget() -> None:
    costs = drawn_costs(3)
    least = float(costs[:, 0].sum())

    assert linear_program(-costs, costs, least * (1 - 1e-12)) == (0, 0, 0, 0)
    assert evolved(
        lambda one: -sum(one), costs, least, seeded(0), widths=WIDTHS, population=6
    ) == (0, 0, 0, 0)
