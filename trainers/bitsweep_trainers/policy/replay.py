"""Past episodes to learn from: pooled features, actions and rewards; never feature maps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bitsweep_trainers.policy.environment import Rollout


class Replay:
    """The newest `capacity` episodes of L decisions, kept in a ring."""

    def __init__(self, capacity: int, channels: Sequence[int]) -> None:
        self.capacity = capacity
        self.features = [torch.zeros(capacity, one) for one in channels]
        self.actions = torch.zeros(capacity, len(channels), dtype=torch.long)
        self.rewards = torch.zeros(capacity)
        self.num_seen = 0

    def __len__(self) -> int:
        return min(self.num_seen, self.capacity)

    def add(self, rollout: Rollout, rewards: Tensor) -> None:
        """Keep episodes with their task rewards (N,)."""
        rows = (self.num_seen + torch.arange(len(rewards))) % self.capacity
        for kept, one in zip(self.features, rollout.features, strict=True):
            kept[rows] = one.cpu()
        self.actions[rows] = rollout.actions.cpu()
        self.rewards[rows] = rewards.float().cpu()
        self.num_seen += len(rewards)

    def draw(self, count: int, generator: torch.Generator) -> tuple[list[Tensor], Tensor, Tensor]:
        """Features per decision, actions and rewards of episodes drawn with replacement."""
        rows = torch.randint(len(self), (count,), generator=generator)
        return [one[rows] for one in self.features], self.actions[rows], self.rewards[rows]
