"""The anchor: a policy leaves the best static allocation only where there is evidence for it."""

from math import inf

import pytest
import torch
from tests.trainers_suite.toy_policy import COSTS, PRICE, QUICK, REWARDS, Toy, seeded, toy_images
from torch import Tensor
from torch.nn import functional

from bitsweep_trainers.policy.anchor import Anchor, anchored
from bitsweep_trainers.policy.environment import Choose, Rollout, sample_costs
from bitsweep_trainers.policy.learn import learn, objective
from bitsweep_trainers.policy.rules import static_rewards


class Blind(Toy):
    """The toy problem with features that tell nothing: no image can be told from another."""

    def run(self, images: Tensor, choose: Choose) -> Rollout:
        noise = torch.rand(len(images), 2, generator=seeded(int(images.sum())))
        first = choose(0, noise, torch.zeros(len(images), 0, dtype=torch.long))
        second = choose(1, noise, first[:, None])
        is_right = REWARDS[images, first, second].bool()
        logits = functional.one_hot((~is_right).long(), 2).float()
        actions = torch.stack([first, second], 1)
        return Rollout(features=(noise, noise), actions=actions, logits=logits)


def test_the_anchor_is_the_best_known_allocation_at_each_price() -> None:
    anchor = Anchor.of({(0, 0): 0.5, (0, 1): 1.0, (1, 1): 1.0}, COSTS)

    assert anchor.at(0.2).tolist() == [0, 1]
    assert anchor.at(5.0).tolist() == [0, 0]


def test_a_width_must_lead_by_more_than_the_margin() -> None:
    values = torch.tensor([[0.0, 0.1], [0.0, 0.3], [0.2, 0.0]])

    assert anchored(values, 0, 0.2).tolist() == [0, 1, 0]
    assert anchored(values, 1, 0.1).tolist() == [1, 1, 0]
    assert anchored(values, 0, inf).tolist() == [0, 0, 0]


def test_where_images_can_be_told_apart_the_policy_leaves_the_anchor() -> None:
    images, labels = toy_images(100)
    known = static_rewards(Toy(), images, labels)
    policy = learn(Toy(), images, labels, QUICK, seeded(), known=known)
    rollout = Toy().run(images, policy.choice(PRICE))
    value = objective(Toy(), rollout, labels, price=PRICE, reward="hit")

    assert policy.margin < inf
    assert value == pytest.approx(0.89375)


@pytest.mark.parametrize("price", [0.05, PRICE, 0.8])
def test_where_features_tell_nothing_the_policy_is_the_best_static_allocation(
    price: float,
) -> None:
    images, labels = toy_images(100)
    known = static_rewards(Blind(), images, labels)
    policy = learn(Blind(), images, labels, QUICK, seeded(1), known=known)
    rollout = Blind().run(images, policy.choice(price))
    static = max(
        reward - price * float(sample_costs(COSTS, torch.tensor([one]))[0]) / 6400
        for one, reward in known.items()
    )

    assert objective(Blind(), rollout, labels, price=price, reward="hit") == pytest.approx(static)
