"""ABN's policy in a packed file: it comes back, routes each image as it did, and is counted."""

from pathlib import Path

import pytest
import torch
from tests.trainers_suite.packed_nets import packed
from tests.trainers_suite.path_trials import trained_on, write_series
from torch import nn

from bitsweep.errors import InputError
from bitsweep.space import Value
from bitsweep_trainers.export import export, trained_network
from bitsweep_trainers.packed.file import load, load_routed, save
from bitsweep_trainers.packed.routing import policy_of
from bitsweep_trainers.policy.agent import Agent
from bitsweep_trainers.policy.anchor import Anchor, Policy
from bitsweep_trainers.policy.environment import Rollout
from bitsweep_trainers.policy.kept import kept_policy
from bitsweep_trainers.policy.measured import environment_of
from bitsweep_trainers.policy.rounding import at_bits, eight_bit_agent

QUICK: dict[str, Value] = {
    "policy": "double_dqn",
    "policy_share": 0.2,
    "policy_epochs": 2,
    "policy_updates": 4,
}
TOLERANCE = 2e-5


def agreeing(one: Rollout, other: Rollout) -> None:
    assert torch.equal(one.actions, other.actions)
    assert (one.logits - other.logits).abs().max() < TOLERANCE


@pytest.mark.parametrize("model", ["small-cnn", "resnet8-b"])
@pytest.mark.parametrize(("margin", "bits"), [(0.0, 8), (0.0, 32), (0.001, 8), (float("inf"), 8)])
def test_a_file_routes_each_image_as_the_network_did(
    model: str, margin: float, bits: int, tmp_path: Path
) -> None:
    one = packed(tmp_path, "abn", 2, 3, 4, model=model, **QUICK)
    network, trial, data = one.made.network.eval(), one.made.trial, one.made.data
    environment = environment_of(network, trial)
    costs = environment.costs
    generator = torch.Generator().manual_seed(3)
    agent = Agent(environment.channels, costs, generator=generator)
    with torch.no_grad():
        agent.get_submodule("trunk.2").weight.mul_(30)  # type: ignore[operator]
    seen = environment.run(one.images, Policy(agent=agent).choice(0.1))
    kept = kept_policy(network)
    num_decisions = len(costs)
    kept.known = {(0,) * num_decisions: 0.5, (2,) * num_decisions: 0.7}
    eight = eight_bit_agent(agent, seen.features, (0.1,))
    anchor = Anchor.of(kept.known, costs) if margin else None
    policy = at_bits(Policy(agent=eight, anchor=anchor, margin=margin), bits)
    kept.keep(policy)
    written = save(network, trial, one.path, mean=data.mean, std=data.std)
    routed = load_routed(one.path)

    assert written.payload_bits == one.written.payload_bits
    assert written.policy_bits > bits * sum(
        m.weight.numel() for m in agent.modules() if isinstance(m, nn.Linear)
    )
    for price in (0.02, 0.8):
        own = environment.run(one.images, policy.choice(price))
        agreeing(own, routed.run(one.images, price))
        agreeing(own, routed.predict(data.validation_images, price))
        if not margin and price == 0.02:
            assert len(torch.unique(own.actions, dim=0)) > 1
    assert load(one.path).widths == trial.bits


def test_a_trial_that_learned_a_policy_leaves_with_it(tmp_path: Path) -> None:
    trial, checkpoint = trained_on(write_series(tmp_path), tmp_path, "abn", QUICK)
    said = export(trial, checkpoint, tmp_path / "x.bits", form="packed", bits=None)
    labels = [one.bits for one in said.widths]
    network, routed = trained_network(trial, checkpoint), load_routed(tmp_path / "x.bits")
    policy = policy_of(network, trial)
    samples = torch.randn(20, 1, 64, generator=torch.Generator().manual_seed(0))

    assert policy is not None
    assert labels[:3] == ["w2a2", "w4a4", "policy:learned@0.05"]
    assert said.payload_bits == said.claimed_bits and said.policy_bits > 0
    assert [one.num_apart for one in said.widths] == [0] * len(labels)
    for price in routed.lambdas:
        own = environment_of(network, trial).run(samples, policy.choice(price))
        agreeing(own, routed.run(samples, price))


def test_a_file_without_a_policy_cannot_route(tmp_path: Path) -> None:
    one = packed(tmp_path, "abn", 2, 4)

    assert one.written.policy_bits == 0
    with pytest.raises(InputError, match="holds no policy: only an ABN trial that learned one"):
        load_routed(one.path)
