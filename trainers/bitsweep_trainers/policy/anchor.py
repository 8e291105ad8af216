"""What keeps a learned policy from doing worse than one allocation for all images.

A width is preferred to that of the best known static allocation only where its value is higher by
a margin; the margin is taken from images that neither the agent nor its epoch was chosen on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import torch
from torch import Tensor

from bitsweep_trainers.policy.agent import Agent, greedy, greedy_choice, values_at
from bitsweep_trainers.policy.environment import (
    Choose,
    Environment,
    given,
    relative_costs,
    run_batches,
    sample_costs,
    task_reward,
)

SURE_ERRORS = 2.0  # standard errors; one would let chance through, as five margins are tried
MARGIN_SHARES = (0.0, 0.5, 0.75, 0.9, 0.97)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Static allocations (K, L), the mean reward of each (K,), its cost over C_ref (K,)."""

    allocations: Tensor
    rewards: Tensor
    spent: Tensor

    @classmethod
    def of(cls, known: Mapping[tuple[int, ...], float], costs: Tensor) -> "Anchor":
        """From known mean rewards; costs: BitOps (L, m)."""
        allocations = torch.tensor(list(known))
        return cls(
            allocations=allocations,
            rewards=torch.tensor(list(known.values()), dtype=torch.float64),
            spent=sample_costs(relative_costs(costs), allocations),
        )

    def at(self, price: float) -> Tensor:
        """The allocation of the highest reward - lambda C / C_ref: (L,)."""
        return self.allocations[int((self.rewards - price * self.spent).argmax())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An agent and how far it may leave the anchor: 0 as it likes, infinity never."""

    agent: Agent
    anchor: Anchor | None = None
    margin: float = 0.0

    def choice(self, price: float) -> Choose:
        """What chooses at one lambda."""
        if self.anchor is None:
            return greedy_choice(self.agent, price)
        return anchored_choice(self.agent, self.anchor.at(price), price=price, margin=self.margin)


def anchored(values: Tensor, action: int, margin: float) -> Tensor:
    """The best width of each row (N, m), unless it beats `action` by the margin or less.

    >>> anchored(torch.tensor([[0.5, 0.6], [0.5, 0.9]]), 0, 0.2).tolist()
    [0, 1]
    """
    best = greedy(values)
    ahead = values.gather(1, best[:, None])[:, 0] - values[:, action]
    return torch.where(ahead > margin, best, torch.full_like(best, action))


def anchored_choice(agent: Agent, allocation: Tensor, *, price: float, margin: float) -> Choose:
    """Choose what the agent values most, where it leads the allocation's width by the margin."""

    @torch.no_grad()
    def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
        values = values_at(agent, t, features, before, price)
        return anchored(values, int(allocation[t]), margin).to(features.device)

    return choose


@torch.no_grad()
def trusted(
    environment: Environment,
    agent: Agent,
    anchor: Anchor,
    images: Tensor,
    labels: Tensor,
    *,
    prices: Sequence[float],
    batch: int,
) -> Policy:
    """The policy whose margin has the highest lower bound of its gain over the anchor.

    The gain in hits - lambda C / C_ref is meaned over lambdas for each image; the bound lies
    `SURE_ERRORS` standard errors below its mean. Without a positive bound it is infinity.
    """

    def values(policy: Policy) -> Tensor:
        found = []
        for price in prices:
            choose = policy.choice(price)
            rollout = run_batches(environment, images, lambda _, one=choose: one, batch)  # type: ignore[misc]
            spent = sample_costs(relative_costs(environment.costs), rollout.actions)
            found.append(task_reward(rollout.logits, labels).cpu() - price * spent.cpu())
        return torch.stack(found).mean(0)

    static = Policy(agent=agent, anchor=anchor, margin=inf)
    base, best, best_bound = values(static), static, 0.0
    for margin in margins(environment, agent, anchor, images, prices=prices, batch=batch):
        policy = Policy(agent=agent, anchor=anchor, margin=margin)
        gain = values(policy) - base
        bound = float(gain.mean() - SURE_ERRORS * gain.std() / sqrt(len(gain)))
        if bound > best_bound:
            best, best_bound = policy, bound
    return best


def margins(
    environment: Environment,
    agent: Agent,
    anchor: Anchor,
    images: Tensor,
    *,
    prices: Sequence[float],
    batch: int,
) -> list[float]:
    """0 and quantiles of the lead that other widths have over the anchor's, along its way."""
    leads = []
    for price in prices:
        allocation = anchor.at(price)
        each = allocation.expand(len(images), -1)
        rollout = run_batches(environment, images, lambda rows, one=each: given(one[rows]), batch)  # type: ignore[misc]
        at = torch.full((len(images),), price, device=images.device)
        values = agent.episode_values(rollout.features, rollout.actions, at)
        own = values.gather(2, rollout.actions[:, :, None])[:, :, 0]
        leads.append((values.max(2).values - own).flatten())
    lead = torch.cat(leads)
    lead = lead[lead > 0]
    if not len(lead):
        return []
    return [float(torch.quantile(lead, one)) if one else 0.0 for one in MARGIN_SHARES]
