"""The rules that choose bits, side by side on the same images: the learned one and its rivals."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitsweep.measurement import Allocator
from bitsweep_trainers.policy.anchor import Policy
from bitsweep_trainers.policy.baselines import (
    best_static,
    best_threshold,
    lowest_and_highest,
    oracle_actions,
    random_actions,
    run_actions,
    shuffled,
    static_path,
    unsure,
)
from bitsweep_trainers.policy.environment import (
    Environment,
    run_batches,
    sample_costs,
    task_reward,
)
from bitsweep_trainers.policy.rounding import agent_bitops, num_changed
from bitsweep_trainers.policy.static import evolved, linear_program, sensitivities

ROLLOUT_BATCH = 250
NUM_ORACLE_DRAWS = 50
NUM_SHUFFLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """What a rule did on N images: logits, actions (N, L), BitOps of each image (N,).

    `bitops` counts the body, reruns added up; the agent's own stand apart. actions: the run that
    gave the answer. shuffled_hits: of the learned one, how many of `NUM_SHUFFLES` permutations of
    its allocations got each image right (N,). changed: how many of its decisions 8 bits change.
    """

    allocator: Allocator
    price: float
    logits: Tensor
    actions: Tensor
    bitops: Tensor
    agent_bitops: float = 0.0
    shuffled_hits: Tensor | None = None
    changed: int | None = None

    def accuracy(self, labels: Tensor) -> float:
        """The share of right answers."""
        return float((self.logits.argmax(1) == labels).double().mean())

    def value(self, labels: Tensor, reference: float) -> float:
        """Accuracy - lambda (BitOps with the agent's) / C_ref."""
        spent = float(self.bitops.mean()) + self.agent_bitops
        return self.accuracy(labels) - self.price * spent / reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """What the rivals know from the policy images, at one lambda.

    static is greedy search's; evolution and the linear program keep to the learned policy's cost.
    """

    static: tuple[int, ...]
    evolutionary: tuple[int, ...]
    ilp: tuple[int, ...]
    threshold: float


@dataclass(slots=True, kw_only=True)
class StaticLosses:
    """The mean loss of static allocations on the policy images, each run once."""

    environment: Environment
    images: Tensor
    labels: Tensor
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def __call__(self, allocation: tuple[int, ...]) -> float:
        """Mean cross-entropy of an allocation (L,)."""
        if allocation not in self.known:
            rollout = run_actions(self.environment, self.images, torch.tensor(allocation))
            self.known[allocation] = float(cross_entropy(rollout.logits, self.labels))
        return self.known[allocation]


def rivals_at(
    losses: StaticLosses,
    *,
    price: float,
    known: Mapping[tuple[int, ...], float],
    budget: float,
    generator: torch.Generator,
) -> Rivals:
    """Fit the rivals at one lambda to the images of `losses`; known: mean rewards there.

    budget: BitOps that evolution and the linear program may spend, those of the learned policy.
    """
    costs = losses.environment.costs
    num_decisions, num_widths = costs.shape
    gained = sensitivities(losses, num_decisions=num_decisions, num_widths=num_widths)
    threshold = best_threshold(losses.environment, losses.images, losses.labels, price=price)
    return Rivals(
        static=best_static(losses.environment, list(known), list(known.values()), price=price),
        evolutionary=evolved(losses, costs, budget, generator, widths=losses.environment.widths),
        ilp=linear_program(gained, costs, budget),
        threshold=threshold,
    )


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


def apply_learned(
    environment: Environment,
    policy: Policy,
    images: Tensor,
    labels: Tensor,
    *,
    price: float,
    generator: torch.Generator,
) -> tuple[Ruled, Ruled]:
    """The learned policy at one lambda, and its allocations given to other images.

    Labels serve the comparison with further permutations; a collapsed policy needs none.
    """
    choose = policy.choice(price)
    rollout = run_batches(environment, images, lambda _: choose, ROLLOUT_BATCH)
    actions = rollout.actions.cpu()
    right = (rollout.logits.argmax(1) == labels).long()
    mixed = [shuffled(actions, generator) for _ in range(NUM_SHUFFLES)]
    first = apply_actions(environment, images, mixed[0], allocator="shuffled", price=price)
    if len(torch.unique(actions, dim=0)) == 1:
        hits = NUM_SHUFFLES * right
    else:
        others = [run_actions(environment, images, one).logits for one in mixed[1:]]
        answers = [one.argmax(1) for one in (first.logits, *others)]
        hits = torch.stack([(one == labels).long() for one in answers]).sum(0)
    learned = Ruled(
        allocator="learned",
        price=price,
        logits=rollout.logits,
        actions=rollout.actions,
        bitops=sample_costs(environment.costs, rollout.actions),
        agent_bitops=agent_bitops(policy.agent),
        shuffled_hits=hits,
        changed=num_changed(environment, policy, images, price=price),
    )
    return learned, first


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
    low, high = lowest_and_highest(environment, images)
    again = unsure(low, threshold)
    num_decisions, num_widths = environment.costs.shape
    first, second = (environment.costs[:, one].sum() for one in (0, -1))
    return Ruled(
        allocator="cascade",
        price=price,
        logits=torch.where(again[:, None], high, low),
        actions=(again.long() * (num_widths - 1))[:, None].expand(-1, num_decisions),
        bitops=first + again.double().cpu() * second,
    )


def apply_all(
    environment: Environment,
    policy: Policy,
    rivals: Rivals,
    images: Tensor,
    labels: Tensor,
    *,
    price: float,
    oracle: Tensor,
    generator: torch.Generator,
) -> list[Ruled]:
    """The learned policy and every rival at one lambda on the same images.

    `shuffled` and `random` cost what the learned one costs, on average, without its agent;
    evolution and the linear program at most that on the policy images. oracle: `oracle_of`'s.
    """
    learned, mixed = apply_learned(
        environment, policy, images, labels, price=price, generator=generator
    )
    drawn = random_actions(environment, len(images), float(learned.bitops.mean()), generator)
    given: dict[Allocator, Tensor] = {
        "random": drawn,
        "greedy": torch.tensor(rivals.static),
        "evolutionary": torch.tensor(rivals.evolutionary),
        "ilp": torch.tensor(rivals.ilp),
        "oracle": oracle,
    }
    others = [
        apply_actions(environment, images, actions, allocator=name, price=price)
        for name, actions in given.items()
    ]
    cascade = apply_cascade(environment, images, threshold=rivals.threshold, price=price)
    return [learned, mixed, *others, cascade]


def oracle_of(
    environment: Environment, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """The actions (N, L) of the oracle over random allocations; no lambda changes them."""
    return oracle_actions(
        environment, images, labels, num_draws=NUM_ORACLE_DRAWS, generator=generator
    )
