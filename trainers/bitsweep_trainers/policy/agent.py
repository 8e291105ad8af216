"""The agent: what it sees and its small network (section 3.2); `rounding` gives it 8 bits.

N images, L decisions, m widths. Its values serve as Q or as logits of a stochastic policy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.policy.environment import Choose, relative_costs

NUM_EXTRAS = 3


def agent_macs(channels: Sequence[int], num_widths: int, *, encoder: int, hidden: int) -> int:
    """Multiplications for one image: encoders, then the trunk once per decision.

    >>> agent_macs([16] * 7 + [32] * 6 + [64] * 5, 3, encoder=16, hidden=32)
    24384
    """
    state = encoder + NUM_EXTRAS + num_widths
    trunk = state * hidden + hidden * num_widths
    return sum(channels) * encoder + len(channels) * trunk


class Agent(nn.Module):
    """Values of the widths at a decision, from pooled features and what was spent so far.

    costs: BitOps of each action, float64 (L, m).
    """

    relative: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        costs: Tensor,
        *,
        encoder: int = 16,
        hidden: int = 32,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.num_widths = costs.shape[1]
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(one), nn.Linear(one, encoder), nn.ReLU())
            for one in channels
        )
        self.trunk = nn.Sequential(
            nn.Linear(encoder + NUM_EXTRAS + self.num_widths, hidden),
            nn.ReLU(),
            nn.Linear(hidden, self.num_widths),
        )
        self.macs = agent_macs(channels, self.num_widths, encoder=encoder, hidden=hidden)
        self.register_buffer("relative", relative_costs(costs))
        self._draw(generator)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        """Weights from the generator alone; the last layer small, so that no width is favoured."""
        linears = [one for one in self.modules() if isinstance(one, nn.Linear)]
        for one in linears:
            nn.init.kaiming_uniform_(one.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(one.bias)
        linears[-1].weight.mul_(0.1)

    @property
    def num_decisions(self) -> int:
        """L."""
        return len(self.encoders)

    def extras(self, t: int, before: Tensor, prices: Tensor) -> Tensor:
        """e_t = (t / L, C_before / C_ref, lambda, one-hot of the last action): (N, 3 + m).

        before: actions (N, t); prices: lambda of each image (N,). The first decision is t = 1.
        """
        spent = self.relative[:t].gather(1, before.T).sum(0)
        known = torch.stack(
            [torch.full_like(prices, (t + 1) / self.num_decisions), spent.to(prices), prices], 1
        )
        last = torch.zeros(len(prices), self.num_widths, device=prices.device)
        if t:
            last = functional.one_hot(before[:, -1], self.num_widths).to(prices)
        return torch.cat([known, last], 1)

    def forward(self, t: int, features: Tensor, before: Tensor, prices: Tensor) -> Tensor:
        """Features (N, C_t), actions before (N, t), lambdas (N,) -> values (N, m).

        -lambda c_t / C_ref of each width is known and added as it is; the network has to find the
        rest of the return alone.
        """
        encoded = self.encoders[t](features)
        rest: Tensor = self.trunk(torch.cat([encoded, self.extras(t, before, prices)], 1))
        return rest - prices[:, None] * self.relative[t].to(rest)

    def episode_values(
        self, features: Sequence[Tensor], actions: Tensor, prices: Tensor
    ) -> Tensor:
        """The values at every decision of episodes: (N, L, m)."""
        values = [self(t, one, actions[:, :t], prices) for t, one in enumerate(features)]
        return torch.stack(values, 1)


def greedy(values: Tensor) -> Tensor:
    """The best width of each row (N, m) -> (N,); ties go to the lower bits.

    >>> greedy(torch.tensor([[0.0, 0.0, -1.0], [0.1, 0.3, 0.3]])).tolist()
    [0, 1]
    """
    is_best = values == values.max(1, keepdim=True).values
    return is_best.to(torch.uint8).argmax(1)


def values_at(agent: Agent, t: int, features: Tensor, before: Tensor, price: float) -> Tensor:
    """What the agent values each width at, at one lambda (N, m); states come from any device."""
    here = agent.relative.device
    prices = torch.full((len(features),), price, device=here)
    values: Tensor = agent(t, features.to(here), before.to(here), prices)
    return values


def greedy_choice(agent: Agent, price: float) -> Choose:
    """Choose what the agent values most at one lambda."""

    @torch.no_grad()
    def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
        return greedy(values_at(agent, t, features, before, price)).to(features.device)

    return choose
