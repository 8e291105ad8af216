"""The rules that choose bits, side by side on the same images: the learned one and its rivals."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bitsweep.measurement import Allocator
from bitsweep_trainers.policy.agent import Agent, agent_bitops, greedy_choice
from bitsweep_trainers.policy.baselines import (
    Cascade,
    best_static,
    best_threshold,
    oracle_actions,
    random_actions,
    run_actions,
    shuffled,
    static_path,
)
from bitsweep_trainers.policy.environment import (
    Environment,
    run_batches,
    sample_costs,
    task_reward,
)

ROLLOUT_BATCH = 250
NUM_ORACLE_DRAWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """What a rule did on N images: logits, actions (N, L), BitOps of each image (N,).

    `bitops` counts the body, reruns added up; the agent's own stand apart. actions: the run that
    gave the answer.
    """

    allocator: Allocator
    price: float
    logits: Tensor
    actions: Tensor
    bitops: Tensor
    agent_bitops: float = 0.0

    def accuracy(self, labels: Tensor) -> float:
        """The share of right answers."""
        return float((self.logits.argmax(1) == labels).double().mean())

    def value(self, labels: Tensor, reference: float) -> float:
        """Accuracy - lambda (BitOps with the agent's) / C_ref."""
        spent = float(self.bitops.mean()) + self.agent_bitops
        return self.accuracy(labels) - self.price * spent / reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """What the rivals know from the policy images, at one lambda."""

    static: tuple[int, ...]
    threshold: float


def static_rewards(
    environment: Environment, images: Tensor, labels: Tensor
) -> dict[tuple[int, ...], float]:
    """The allocations that greedy search passes and the uniform ones, with their accuracy."""

    def loss(logits: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(logits, labels))

    num_decisions, num_widths = environment.costs.shape
    uniform = [(one,) * num_decisions for one in range(num_widths)]
    allocations = dict.fromkeys([*uniform, *static_path(environment, images, loss)])
    return {
        one: float(
            task_reward(run_actions(environment, images, torch.tensor(one)).logits, labels).mean()
        )
        for one in allocations
    }


def rivals_at(
    environment: Environment,
    images: Tensor,
    labels: Tensor,
    *,
    price: float,
    known: dict[tuple[int, ...], float],
) -> Rivals:
    """Fit the static allocation and the cascade to the policy images at one lambda."""
    static = best_static(environment, list(known), list(known.values()), price=price)
    threshold = best_threshold(environment, images, labels, price=price)
    return Rivals(static=static, threshold=threshold)


def apply_learned(
    environment: Environment, agent: Agent, images: Tensor, *, price: float
) -> Ruled:
    """The learned policy at one lambda."""
    choose = greedy_choice(agent, price)
    rollout = run_batches(environment, images, lambda _: choose, ROLLOUT_BATCH)
    return Ruled(
        allocator="learned",
        price=price,
        logits=rollout.logits,
        actions=rollout.actions,
        bitops=sample_costs(environment.costs, rollout.actions),
        agent_bitops=agent_bitops(agent),
    )


def apply_actions(
    environment: Environment,
    images: Tensor,
    actions: Tensor,
    *,
    allocator: Allocator,
    price: float,
) -> Ruled:
    """Given actions (N, L) or (L,), whatever the images show."""
    rollout = run_actions(environment, images, actions)
    return Ruled(
        allocator=allocator,
        price=price,
        logits=rollout.logits,
        actions=rollout.actions,
        bitops=sample_costs(environment.costs, rollout.actions),
    )


def apply_cascade(
    environment: Environment, images: Tensor, *, threshold: float, price: float
) -> Ruled:
    """Low bits first, high ones where they were not sure enough; both runs are paid."""
    logits, is_escalated = Cascade(threshold=threshold).run(environment, images)
    num_decisions, num_widths = environment.costs.shape
    actions = (is_escalated.long() * (num_widths - 1))[:, None].expand(-1, num_decisions)
    again = is_escalated.double().cpu() * environment.costs[:, -1].sum()
    return Ruled(
        allocator="cascade",
        price=price,
        logits=logits,
        actions=actions,
        bitops=environment.costs[:, 0].sum() + again,
    )


def apply_all(
    environment: Environment,
    agent: Agent,
    rivals: Rivals,
    images: Tensor,
    labels: Tensor,
    *,
    price: float,
    generator: torch.Generator,
) -> list[Ruled]:
    """The learned policy and every rival at one lambda on the same images (labels: the oracle's).

    `shuffled` and `random` cost what the learned one costs, on average, without its agent.
    """
    learned = apply_learned(environment, agent, images, price=price)
    mean_cost = float(learned.bitops.mean())
    drawn = random_actions(environment.costs, len(images), mean_cost, generator)
    oracle = oracle_actions(
        environment, images, labels, num_draws=NUM_ORACLE_DRAWS, generator=generator
    )
    given: dict[Allocator, Tensor] = {
        "shuffled": shuffled(learned.actions.cpu(), generator),
        "random": drawn,
        "greedy": torch.tensor(rivals.static),
        "oracle": oracle,
    }
    others = [
        apply_actions(environment, images, actions, allocator=name, price=price)
        for name, actions in given.items()
    ]
    cascade = apply_cascade(environment, images, threshold=rivals.threshold, price=price)
    return [learned, *others, cascade]
