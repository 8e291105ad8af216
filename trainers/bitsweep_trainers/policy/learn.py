"""Learning the policy: Double DQN with replay, or REINFORCE with a self-critical baseline.

Rewards (section 3.1): -lambda c_t / C_ref at each decision, plus the task reward at the last; no
discount. One agent serves every lambda: it is drawn anew for each episode that is learned from.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import cos, log, pi
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.policy.agent import Agent, greedy, greedy_choice
from bitsweep_trainers.policy.anchor import Anchor, Policy, trusted
from bitsweep_trainers.policy.environment import (
    Choose,
    Environment,
    Reward,
    Rollout,
    given,
    relative_costs,
    run_batches,
    sample_costs,
    task_reward,
)
from bitsweep_trainers.policy.replay import Replay
from bitsweep_trainers.policy.rounding import (
    CHANGED_LIMIT,
    at_bits,
    changed_share,
    eight_bit_agent,
)
from bitsweep_trainers.supernet import tilted_weights

Algorithm = Literal["double_dqn", "reinforce"]
Target = Literal["bootstrap", "return"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlan:
    """How a policy is learned; the defaults are those of section 3.3, where it has them.

    target_rate: at 0.02 trainings of under 500 updates learn better; those of 1,200 do not.
    updates: gradient steps of each epoch, which for Double DQN begins with one exploring episode
    per policy image. A step of REINFORCE runs `images_per_step` drawn images, each sampled
    `episodes_per_image` times and once greedily. lambdas: the range that training draws from,
    uniform in the logarithm. target: bootstrapped or observed returns.
    selection_share, trust_share: of the images, those that choose the epoch and the margin.
    """

    algorithm: Algorithm = "double_dqn"
    target: Target = "bootstrap"
    reward: Reward = "hit"
    epochs: int = 30
    updates: int = 40
    batch_transitions: int = 1024
    images_per_step: int = 16
    episodes_per_image: int = 3
    learning_rate: float = 1e-3
    last_learning_rate: float = 1e-5
    target_rate: float = 0.005
    last_epsilon: float = 0.05
    exploring_share: float = 0.6
    stratified_share: float = 0.5
    tilt: float = 3.0
    entropy_bonus: float = 0.01
    lambdas: tuple[float, float] = (0.02, 2.0)
    selection_lambdas: tuple[float, ...] = (0.05, 0.2, 0.8)
    selection_share: float = 0.2
    trust_share: float = 0.2
    replay_transitions: int = 200_000
    rollout_batch: int = 250
    encoder: int = 16
    hidden: int = 32

    def epsilon(self, progress: float) -> float:
        """From 1 down to the last one, over the exploring share of the training.

        >>> [round(PolicyPlan().epsilon(done), 3) for done in (0.0, 0.3, 0.6, 1.0)]
        [1.0, 0.525, 0.05, 0.05]
        """
        return max(
            self.last_epsilon, 1.0 - (1.0 - self.last_epsilon) * progress / self.exploring_share
        )


def double_dqn_target(
    rewards: Tensor, online_next: Tensor, target_next: Tensor, is_last: Tensor
) -> Tensor:
    """y = r + Q_target(s', argmax_a Q_online(s', a)), or r at the last decision (section 3.3).

    >>> online, target = torch.tensor([[0.9, 0.7]]), torch.tensor([[0.5, 0.8]])
    >>> y = double_dqn_target(torch.tensor([-0.0125]), online, target, torch.tensor([False]))
    >>> round(y.item(), 4)
    0.4875
    """
    best = greedy(online_next)
    bootstrapped = rewards + target_next.gather(1, best[:, None])[:, 0]
    return torch.where(is_last, rewards, bootstrapped)


def step_rewards(costs: Tensor, actions: Tensor, prices: Tensor, task: Tensor) -> Tensor:
    """r_t = -lambda c_t / C_ref, plus the task reward at the last one: (N, L).

    costs: BitOps (L, m); actions (N, L); prices, task rewards (N,).
    """
    spent = relative_costs(costs).gather(1, actions.T).T.to(prices.dtype)
    rewards = -prices[:, None] * spent
    rewards[:, -1] += task
    return rewards


def returns_to_go(rewards: Tensor) -> Tensor:
    """The sum of the rewards from each decision on, (N, L)."""
    return rewards.flip(1).cumsum(1).flip(1)


def policy_gradient_loss(logits: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
    """-mean_n A_n sum_t log pi(a_t): logits (N, L, m), actions (N, L), advantages (N,)."""
    log_p = functional.log_softmax(logits, 2).gather(2, actions[:, :, None])[:, :, 0]
    return -(advantages.detach() * log_p.sum(1)).mean()


def objective(
    environment: Environment, rollout: Rollout, labels: Tensor, *, price: float, reward: Reward
) -> float:
    """Mean of R - lambda C / C_ref over episodes."""
    task = task_reward(rollout.logits, labels, reward)
    spent = sample_costs(relative_costs(environment.costs), rollout.actions)
    return float((task.cpu() - price * spent).mean())


def learn(
    environment: Environment,
    images: Tensor,
    labels: Tensor,
    plan: PolicyPlan,
    generator: torch.Generator,
    *,
    known: Mapping[tuple[int, ...], float] | None = None,
) -> Policy:
    """A policy for any lambda of the plan; no image of it was fitted before.

    Images (N, ...) as the environment takes them, in random order. known: mean rewards of static
    allocations, to which the policy is anchored (None: it is not). The last images select the
    epoch, and those before them how far the policy may leave the anchor. Its agent runs at 8 bits,
    or in FP32 where 8 bits change more than `CHANGED_LIMIT` of the policy's decisions on these two
    parts.
    """
    num_selection = max(1, round(plan.selection_share * len(labels)))
    num_trust = 0 if known is None else max(2, round(plan.trust_share * len(labels)))
    cuts = [len(labels) - num_selection - num_trust, num_trust, num_selection]
    parts = list(zip(torch.split(images, cuts), torch.split(labels, cuts), strict=True))
    learner = Learner(environment, plan, generator)
    best, best_value = deepcopy(learner.agent), float("-inf")
    for epoch in range(plan.epochs):
        learner.epoch(*parts[0], epoch)
        value = learner.value(*parts[2])
        if value > best_value:
            best, best_value = deepcopy(learner.agent), value
    best.to(images.device)  # it learned on the CPU, where its draws and its replay are
    fitting = images[: plan.rollout_batch]
    seen = [environment.run(fitting, greedy_choice(best, one)) for one in plan.selection_lambdas]
    features = [torch.cat(list(one)) for one in zip(*(r.features for r in seen), strict=True)]
    prices, batch = plan.selection_lambdas, plan.rollout_batch

    def policy_of(agent: Agent) -> Policy:
        if known is None:
            return Policy(agent=agent)
        anchor = Anchor.of(known, environment.costs)
        return trusted(environment, agent, anchor, *parts[1], prices=prices, batch=batch)

    policy = policy_of(eight_bit_agent(best, features, prices))
    fresh = images[cuts[0] :]
    if changed_share(environment, policy, fresh, prices=prices) <= CHANGED_LIMIT:
        return policy
    return policy_of(at_bits(policy, FULL_PRECISION_BITS).agent)


class Learner:
    """An agent, what it remembers and how it goes on; draws come from the generator alone."""

    def __init__(
        self, environment: Environment, plan: PolicyPlan, generator: torch.Generator
    ) -> None:
        self.environment = environment
        self.plan = plan
        self.generator = generator
        self.agent = Agent(
            environment.channels,
            environment.costs,
            encoder=plan.encoder,
            hidden=plan.hidden,
            generator=generator,
        )
        self.target = deepcopy(self.agent)
        self.replay = Replay(
            plan.replay_transitions // len(environment.channels), environment.channels
        )
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=plan.learning_rate)

    def epoch(self, images: Tensor, labels: Tensor, epoch: int) -> None:
        """The updates of an epoch; Double DQN first explores, one episode for each image."""
        self._set_rate(epoch / self.plan.epochs)
        if self.plan.algorithm == "reinforce":
            for _ in range(self.plan.updates):
                self._reinforce(images, labels)
            return
        self._explore(images, labels, epsilon=self.plan.epsilon(epoch / self.plan.epochs))
        for _ in range(self.plan.updates):
            self._update_values()

    def value(self, images: Tensor, labels: Tensor) -> float:
        """The mean objective of the greedy policy over the selection's lambdas."""
        values = []
        for price in self.plan.selection_lambdas:
            rollout = self._run(images, greedy_choice(self.agent, price))
            values.append(
                objective(self.environment, rollout, labels, price=price, reward=self.plan.reward)
            )
        return sum(values) / len(values)

    def _set_rate(self, progress: float) -> None:
        first, last = self.plan.learning_rate, self.plan.last_learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = last + (first - last) * 0.5 * (1 + cos(pi * progress))

    def _run(self, images: Tensor, choose: Choose) -> Rollout:
        return run_batches(self.environment, images, lambda _: choose, self.plan.rollout_batch)

    def _prices(self, count: int) -> Tensor:
        """Lambdas, uniform in the logarithm: (N,)."""
        low, high = map(log, self.plan.lambdas)
        return torch.exp(low + (high - low) * torch.rand(count, generator=self.generator))

    def _explore(self, images: Tensor, labels: Tensor, *, epsilon: float) -> None:
        """Part of the episodes follow a drawn allocation, the others the agent up to epsilon."""
        for begin in range(0, len(labels), self.plan.rollout_batch):
            rows = slice(begin, begin + self.plan.rollout_batch)
            choose = self._exploring_choice(len(labels[rows]), epsilon)
            rollout = self.environment.run(images[rows], choose)
            reward = task_reward(rollout.logits, labels[rows], self.plan.reward)
            self.replay.add(rollout, reward - self._expected(images[rows], labels[rows]))

    def _expected(self, images: Tensor, labels: Tensor) -> Tensor:
        """What `rel` takes off: the hits of the largest widths; else nothing. (N,)"""
        if self.plan.reward != "rel":
            return torch.zeros((), device=images.device)
        num_decisions, num_widths = self.environment.costs.shape
        largest = torch.full((len(labels), num_decisions), num_widths - 1)
        return task_reward(self.environment.run(images, given(largest)).logits, labels)

    def _exploring_choice(self, count: int, epsilon: float) -> Choose:
        draws, prices = self.generator, self._prices(count)
        num_decisions, num_widths = self.environment.costs.shape
        widths = self.environment.widths
        drawn = stratified_actions(count, num_decisions, widths, self.plan.tilt, draws)
        is_drawn = torch.rand(count, generator=draws) < self.plan.stratified_share

        @torch.no_grad()
        def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
            own = greedy(self.agent(t, features.cpu(), before.cpu(), prices))
            other = torch.randint(num_widths, (count,), generator=draws)
            own = torch.where(torch.rand(count, generator=draws) < epsilon, other, own)
            return torch.where(is_drawn, drawn[:, t], own).to(features.device)

        return choose

    def _update_values(self) -> None:
        """One step of Huber's loss on Q at all decisions of episodes from the replay."""
        num_decisions = len(self.environment.channels)
        count = max(1, self.plan.batch_transitions // num_decisions)
        features, actions, task = self.replay.draw(count, self.generator)
        prices = self._prices(count)
        rewards = step_rewards(self.environment.costs, actions, prices, task)
        values = self.agent.episode_values(features, actions, prices)
        if self.plan.target == "return":
            wanted = returns_to_go(rewards)
        else:
            wanted = self._bootstrapped(features, actions, prices, rewards, values.detach())
        taken = values.gather(2, actions[:, :, None])[:, :, 0]
        self._step(functional.smooth_l1_loss(taken, wanted))
        with torch.no_grad():
            pairs = zip(self.target.parameters(), self.agent.parameters(), strict=True)
            for slow, quick in pairs:
                slow.lerp_(quick, self.plan.target_rate)

    @torch.no_grad()
    def _bootstrapped(
        self,
        features: Sequence[Tensor],
        actions: Tensor,
        prices: Tensor,
        rewards: Tensor,
        online: Tensor,
    ) -> Tensor:
        """Double DQN's targets (N, L) of whole episodes; the last decision has no next one."""
        count, num_decisions, num_widths = online.shape
        slow = self.target.episode_values(features, actions, prices)
        is_last = torch.arange(num_decisions).expand(count, -1) == num_decisions - 1
        return double_dqn_target(
            rewards.flatten(),
            online.roll(-1, 1).reshape(-1, num_widths),
            slow.roll(-1, 1).reshape(-1, num_widths),
            is_last.flatten(),
        ).view(count, num_decisions)

    def _reinforce(self, images: Tensor, labels: Tensor) -> None:
        """One step: sampled episodes of drawn images, each image's against its greedy one.

        The greedy episodes run in the same batch, before the sampled ones.
        """
        count, copies = self.plan.images_per_step, self.plan.episodes_per_image
        rows = torch.randint(len(labels), (count,), generator=self.generator)
        each = rows.repeat(copies + 1).to(labels.device)
        prices = self._prices(count).repeat(copies + 1)
        is_greedy = torch.arange(len(each)) < count
        rollout = self.environment.run(images[each], self._policy_choice(prices, is_greedy))
        returns = self._returns(rollout, labels[each], prices)
        advantages = returns[count:] - returns[:count].repeat(copies)
        features = [one[count:].cpu() for one in rollout.features]
        actions = rollout.actions[count:].cpu()
        logits = self.agent.episode_values(features, actions, prices[count:])
        p = functional.softmax(logits, 2)
        entropy = -(p * functional.log_softmax(logits, 2)).sum(2).mean()
        loss = policy_gradient_loss(logits, actions, advantages)
        self._step(loss - self.plan.entropy_bonus * entropy)

    def _policy_choice(self, prices: Tensor, is_greedy: Tensor) -> Choose:
        """Greedy where it is asked for (N,), else drawn from the softmax of the agent's values."""

        @torch.no_grad()
        def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
            logits = self.agent(t, features.cpu(), before.cpu(), prices)
            p = functional.softmax(logits, 1)
            drawn = torch.multinomial(p, 1, generator=self.generator)[:, 0]
            return torch.where(is_greedy, greedy(logits), drawn).to(features.device)

        return choose

    def _returns(self, rollout: Rollout, labels: Tensor, prices: Tensor) -> Tensor:
        task = task_reward(rollout.logits, labels, self.plan.reward).float().cpu()
        rewards = step_rewards(self.environment.costs, rollout.actions.cpu(), prices, task)
        return rewards.sum(1)

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.agent.parameters(), 10.0)
        self.optimizer.step()


def stratified_actions(
    count: int,
    num_decisions: int,
    widths: Sequence[int],
    tilt: float,
    generator: torch.Generator,
) -> Tensor:
    """Allocations stratified by cost, one per image, as action indices (N, L) (section 2.5)."""
    ts = tilt * (2 * torch.rand(count, generator=generator) - 1)
    p = tilted_weights(widths, ts)
    return torch.multinomial(p, num_decisions, replacement=True, generator=generator)
