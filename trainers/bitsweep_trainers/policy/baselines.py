"""What a learned policy is held against, on the same frozen network (section 3.6).

Static rules give one allocation, the others one per image; actions are indices of widths.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitsweep_trainers.policy.environment import (
    Environment,
    Rollout,
    given,
    relative_costs,
    run_batches,
    sample_costs,
)
from bitsweep_trainers.supernet import tilted_weights

ROLLOUT_BATCH = 250
TILT = 3.0  # tau of section 2.5


def run_actions(environment: Environment, images: Tensor, actions: Tensor) -> Rollout:
    """Run images at actions (N, L), or at one allocation (L,) for all."""
    each = actions.expand(len(images), -1) if actions.ndim == 1 else actions
    return run_batches(environment, images, lambda rows: given(each[rows]), ROLLOUT_BATCH)


def shuffled(actions: Tensor, generator: torch.Generator) -> Tensor:
    """The same allocations for other images: equal cost, no dependence on the image."""
    return actions[torch.randperm(len(actions), generator=generator)]


def matched_tilt(costs: Tensor, widths: Sequence[int], mean_cost: float, offsets: Tensor) -> float:
    """The t at which images drawn by softmax((t + offset) b) have this mean cost; bisection.

    costs: BitOps (L, m); offsets: one per image (N,). A cost out of reach gives -50 or 50.
    """
    low, high = -50.0, 50.0
    of_width = costs.sum(0)
    for _ in range(60):
        middle = (low + high) / 2
        expected = float((tilted_weights(widths, middle + offsets) @ of_width).mean())
        low, high = (middle, high) if expected < mean_cost else (low, middle)
    return (low + high) / 2


def random_actions(
    environment: Environment, count: int, mean_cost: float, generator: torch.Generator
) -> Tensor:
    """An allocation for each image, stratified by cost, at a mean cost as given: (N, L).

    Each image has a tilt of its own, uniform in -/+ `TILT` around the one that meets the cost
    (sections 2.5, 3.6): cheap and dear images, as a policy has them.
    """
    costs, widths = environment.costs, environment.widths
    offsets = TILT * (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
    p = tilted_weights(widths, matched_tilt(costs, widths, mean_cost, offsets) + offsets)
    return torch.multinomial(p, len(costs), replacement=True, generator=generator)


def greedy_path(
    costs: Tensor, loss_of: Callable[[tuple[int, ...]], float], *, is_upward: bool
) -> list[tuple[int, ...]]:
    """Allocations from one extreme to the other, one step of one decision at a time.

    Downwards the step of least loss gained per BitOp saved, upwards that of most loss lost per
    BitOp spent; loss_of(allocation) is a mean over images.
    """
    num_decisions, num_widths = costs.shape
    start, end, move = (0, num_widths - 1, 1) if is_upward else (num_widths - 1, 0, -1)
    current = (start,) * num_decisions
    path, loss = [current], loss_of(current)
    while any(one != end for one in current):
        moves = []
        for t, action in enumerate(current):
            if action == end:
                continue
            there = (*current[:t], action + move, *current[t + 1 :])
            there_loss = loss_of(there)
            saved = abs(float(costs[t, action + move] - costs[t, action]))
            slope = (there_loss - loss) / saved
            moves.append((slope, t, there, there_loss))
        _, _, current, loss = min(moves)
        path.append(current)
    return path


def static_path(
    environment: Environment, images: Tensor, loss: Callable[[Tensor], float]
) -> list[tuple[int, ...]]:
    """All allocations that greedy search passes, downwards and upwards, each once.

    loss(logits of all images) is a mean; each allocation is run once.
    """
    known: dict[tuple[int, ...], float] = {}

    def loss_of(allocation: tuple[int, ...]) -> float:
        if allocation not in known:
            rollout = run_actions(environment, images, torch.tensor(allocation))
            known[allocation] = loss(rollout.logits)
        return known[allocation]

    paths = [
        greedy_path(environment.costs, loss_of, is_upward=is_upward) for is_upward in (False, True)
    ]
    return list(dict.fromkeys(one for path in paths for one in path))


def best_static(
    environment: Environment,
    allocations: Sequence[tuple[int, ...]],
    rewards: Sequence[float],
    *,
    price: float,
) -> tuple[int, ...]:
    """The allocation of the highest mean reward - lambda C / C_ref."""
    costs = relative_costs(environment.costs)
    values = [
        reward - price * float(sample_costs(costs, torch.tensor([one]))[0])
        for one, reward in zip(allocations, rewards, strict=True)
    ]
    return allocations[values.index(max(values))]


def unsure(logits: Tensor, threshold: float) -> Tensor:
    """Which images (N,) have no class of at least this probability: a cascade runs them again."""
    return torch.softmax(logits, 1).max(1).values < threshold


def lowest_and_highest(environment: Environment, images: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (N, classes) at the lowest widths, and at the highest ones."""
    num_decisions, num_widths = environment.costs.shape
    low, high = (
        run_actions(environment, images, torch.full((num_decisions,), one)).logits
        for one in (0, num_widths - 1)
    )
    return low, high


def cascade_cost(costs: Tensor, is_escalated: Tensor) -> float:
    """Mean BitOps of a cascade: the first run is paid by all, the second by those who need it.

    >>> costs = torch.tensor([[400.0, 1600.0], [1200.0, 4800.0]], dtype=torch.float64)
    >>> cascade_cost(costs, torch.tensor([True, True, False, False, False]))
    4160.0
    """
    again = float(is_escalated.double().mean())
    return float(costs[:, 0].sum() + again * costs[:, -1].sum())


def best_threshold(
    environment: Environment, images: Tensor, labels: Tensor, *, price: float
) -> float:
    """The threshold of the highest accuracy - lambda C / C_ref on these images."""
    reference = float(environment.costs[:, -1].sum())
    low, high = lowest_and_highest(environment, images)
    values = {}
    for step in range(21):
        again = unsure(low, step / 20)
        logits = torch.where(again[:, None], high, low)
        hits = float((logits.argmax(1) == labels).double().mean())
        cost = cascade_cost(environment.costs, again) / reference
        values[step / 20] = hits - price * cost
    return max(values, key=lambda one: (values[one], -one))


def oracle_actions(
    environment: Environment,
    images: Tensor,
    labels: Tensor,
    *,
    num_draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Per image the cheapest right one of K random allocations, else the lowest widths: (N, L).

    It reads the labels: an upper bound, never a method.
    """
    num_decisions = len(environment.costs)
    best = torch.zeros(len(images), num_decisions, dtype=torch.long)
    best_cost = torch.full((len(images),), float("inf"), dtype=torch.float64)
    for _ in range(num_draws):
        t = TILT * (2 * torch.rand((), generator=generator).item() - 1)
        p = tilted_weights(environment.widths, t)
        drawn = torch.multinomial(p, num_decisions, replacement=True, generator=generator)
        is_right = run_actions(environment, images, drawn).logits.argmax(1) == labels
        cost = float(sample_costs(environment.costs, drawn[None])[0])
        is_better = is_right.cpu() & (cost < best_cost)
        best[is_better], best_cost[is_better] = drawn, cost
    return best
