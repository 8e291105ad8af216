"""The learned policy inside the network's own state: a checkpoint holds both, or neither."""

from typing import Any

import torch
from torch import Tensor, nn

from bitsweep.errors import InputError
from bitsweep_trainers.policy.agent import Agent
from bitsweep_trainers.policy.anchor import Anchor, Policy
from bitsweep_trainers.policy.environment import Environment
from bitsweep_trainers.policy.rounding import bits_of, with_rounders

NAME = "kept_policy"


class KeptPolicy(nn.Module):
    """What was learned after the last epoch, as extra state: no parameter of the network.

    `known` are the mean rewards of static allocations on the policy images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[tuple[int, ...], float] = {}
        self.policy: dict[str, Any] | None = None  # what torch.load reads back

    def get_extra_state(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "allocations": [list(one) for one in self.known],
            "rewards": list(self.known.values()),
            "policy": self.policy,
        }

    def set_extra_state(self, state: Any) -> None:  # torch's own signature
        """The inverse of `get_extra_state`."""
        pairs = zip(state["allocations"], state["rewards"], strict=True)
        self.known = {tuple(allocation): reward for allocation, reward in pairs}
        self.policy = state["policy"]

    def keep(self, policy: Policy) -> None:
        """Take over a learned policy."""
        weights: dict[str, Tensor] = dict(policy.agent.state_dict())
        self.policy = {
            "agent": weights,
            "bits": bits_of(policy.agent),
            "margin": policy.margin,
            "anchored": bool(policy.anchor),
        }

    def restored(self, environment: Environment, *, encoder: int, hidden: int) -> Policy | None:
        """The policy that was kept, on the environment of the network it was learned on.

        None if none was. InputError for one that was kept before agents said their bits.
        """
        if self.policy is None:
            return None
        if "bits" not in self.policy:
            raise InputError(
                "this checkpoint's policy was rounded in another way (abn numerics 1); "
                "run its trial again"
            )
        blank = Agent(
            environment.channels,
            environment.costs,
            encoder=encoder,
            hidden=hidden,
            generator=torch.Generator(),
        )
        agent = with_rounders(blank, self.policy["bits"])
        agent.load_state_dict(self.policy["agent"])
        anchor = Anchor.of(self.known, environment.costs) if self.policy["anchored"] else None
        return Policy(agent=agent, anchor=anchor, margin=self.policy["margin"])


def kept_policy(network: nn.Module) -> KeptPolicy:
    """Where the network keeps its policy; AssertionError for one without."""
    found = network.get_submodule(NAME)
    assert isinstance(found, KeptPolicy)
    return found
