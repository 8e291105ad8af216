"""A problem of two decisions whose best policy is known, for tests of ABN's policy."""

from functools import cache
from hashlib import sha256

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers.policy.agent import Agent
from bitsweep_trainers.policy.environment import Choose, Rollout
from bitsweep_trainers.policy.learn import PolicyPlan, learn

COSTS = torch.tensor([[400.0, 1600.0], [1200.0, 4800.0]], dtype=torch.float64)
EASY, HARD = 0, 1
# Task rewards by (a_1, a_2): the easy image is always right, the hard one if a_2 is the second.
REWARDS = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
PRICE = 0.2
QUICK = PolicyPlan(
    epochs=12, updates=40, learning_rate=5e-3, batch_transitions=256, target_rate=0.02
)


class Toy:
    """Two decisions, two widths; an image is its kind (0 easy, 1 hard), its label is class 0."""

    widths = (2, 4)
    costs = COSTS
    channels = (2, 2)

    def run(self, images: Tensor, choose: Choose) -> Rollout:
        features = functional.one_hot(images, 2).float()
        first = choose(0, features, torch.zeros(len(images), 0, dtype=torch.long))
        second = choose(1, features, first[:, None])
        is_right = REWARDS[images, first, second].bool()
        logits = torch.where(is_right[:, None], torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        return Rollout(
            features=(features, features), actions=torch.stack([first, second], 1), logits=logits
        )


def toy_images(count: int = 40) -> tuple[Tensor, Tensor]:
    return torch.arange(count) % 2, torch.zeros(count, dtype=torch.long)


@cache
def toy_agent() -> Agent:
    images, labels = toy_images()
    return learn(Toy(), images, labels, QUICK, seeded()).agent


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state_hash(network: nn.Module) -> str:
    found = sha256()
    for name, one in sorted(network.state_dict().items()):
        if isinstance(one, Tensor):
            found.update(name.encode() + one.cpu().numpy().tobytes())
    return found.hexdigest()
