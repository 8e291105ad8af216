"""ABN's policy on a network: what it runs, what that costs, what its agent sees and takes."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.toy_policy import seeded, state_hash
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor, nn

from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.layers import QuantizedConv2d, quantized_layers
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.agent import (
    Agent,
    agent_macs,
    greedy_choice,
)
from bitsweep_trainers.policy.anchor import Policy
from bitsweep_trainers.policy.baselines import run_actions, shuffled
from bitsweep_trainers.policy.environment import (
    Choose,
    RoutedNetwork,
    RoutedNorm,
    decision_costs,
    sample_costs,
)
from bitsweep_trainers.policy.environment import given as given_actions
from bitsweep_trainers.policy.learn import Algorithm, Learner, PolicyPlan, learn, objective
from bitsweep_trainers.policy.rounding import (
    CHANGED_LIMIT,
    agent_bitops,
    at_bits,
    changed_share,
    eight_bit_agent,
    with_rounders,
)
from bitsweep_trainers.policy.rounding import bits_of as agent_bits_of
from bitsweep_trainers.quantizers.uniform import RangeRounder
from bitsweep_trainers.supernet import SwitchableWeights, allocate, decision_layers
from bitsweep_trainers.switchable import SwitchableStep

WIDTHS = (2, 3, 4)
torch.set_num_threads(1)


@cache
def made_of(model: str = "resnet8-b") -> loop.Training:
    return training_of(trial_of("abn", *WIDTHS, model=model), few(train=64, evaluated=60))


def routed(model: str = "resnet8-b") -> RoutedNetwork:
    layers = MODELS[model].layers((1, 28, 28), 10)
    return RoutedNetwork(made_of(model).network, layers, WIDTHS)


def some_images(count: int = 12) -> Tensor:
    data = made_of().data
    return normalise(data.train_images[:count], data.mean, data.std)


def any_actions(count: int, num_decisions: int, *, seed: int = 0) -> Tensor:
    return torch.randint(3, (count, num_decisions), generator=seeded(seed))


def bits_of(quantizer: nn.Module) -> int:
    assert isinstance(quantizer, SwitchableWeights | SwitchableStep)
    return quantizer.bits


@torch.no_grad()
def sharpen(agent: Agent, factor: float) -> None:
    """Draw the values of the widths apart."""
    last = agent.trunk[2]
    assert isinstance(last, nn.Linear)
    last.weight.mul_(factor)


def linear_weights(part: nn.Module) -> int:
    return sum(one.weight.numel() for one in part.modules() if isinstance(one, nn.Linear))


@pytest.mark.parametrize("model", ["small-cnn", "resnet8-b"])
def test_grouped_images_run_as_one_by_one_on_the_network_itself(model: str) -> None:
    environment, network = routed(model), made_of(model).network
    images = some_images()
    actions = any_actions(len(images), len(environment.channels))
    grouped = run_actions(environment, images, actions).logits
    network.eval()
    for index, image in enumerate(images):
        allocate(network, [WIDTHS[int(one)] for one in actions[index]])
        with torch.no_grad():
            alone = network(image[None])[0]

        assert torch.allclose(grouped[index], alone, atol=1e-4)


def test_a_permuted_batch_gives_permuted_results() -> None:
    environment, images = routed(), some_images()
    actions = any_actions(len(images), 6)
    order = torch.randperm(len(images), generator=seeded())
    plain = run_actions(environment, images, actions).logits
    permuted = run_actions(environment, images[order], actions[order]).logits

    assert torch.allclose(permuted, plain[order], atol=1e-4)


def test_later_weights_change_no_earlier_action() -> None:
    environment, images = routed(), some_images()
    agent = Agent(environment.channels, environment.costs, generator=seeded())
    sharpen(agent, 100)
    before = environment.run(images, greedy_choice(agent, 0.1))
    norm = environment._network.get_submodule("body.stage3.0.bn1")
    assert isinstance(norm, RoutedNorm)
    with torch.no_grad():
        for one in (norm.shifts, *norm.parameters()):
            one.add_(5)
    after = environment.run(images, greedy_choice(agent, 0.1))

    assert torch.equal(before.actions[:, :5], after.actions[:, :5])
    assert not torch.equal(before.features[5], after.features[5])


def test_costs_are_those_that_hooks_count() -> None:
    environment, network = routed(), made_of().network
    widths = (2, 3, 4, 4, 3, 2)
    allocate(network, widths)
    counted: list[float] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, QuantizedConv2d)
        macs = layer.weight.numel() * output.shape[2] * output.shape[3]
        counted.append(macs * bits_of(layer.weight_quantizer) * bits_of(layer.input_quantizer))

    layers = quantized_layers(network.get_submodule("body"))
    handles = [layer.register_forward_hook(count) for _, layer in layers]
    with torch.no_grad():
        network.eval()(some_images(1))
    for handle in handles:
        handle.remove()
    actions = torch.tensor([[WIDTHS.index(one) for one in widths]])

    assert sum(counted) == float(sample_costs(environment.costs, actions)[0])


def test_policy_training_leaves_the_super_network_as_it_was() -> None:
    made, environment = made_of("small-cnn"), routed("small-cnn")
    before = state_hash(made.network), state_hash(environment._network)
    plan = PolicyPlan(epochs=1, updates=2, batch_transitions=64)
    learn(environment, some_images(40), made.data.train_labels[:40], plan, seeded())

    assert (state_hash(made.network), state_hash(environment._network)) == before


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_constant_policy_is_a_uniform_network(index: int) -> None:
    environment, network = routed(), made_of().network
    images, bits = some_images(), WIDTHS[index]
    rollout = run_actions(environment, images, torch.full((6,), index))
    allocate(network, [bits] * 6)
    with torch.no_grad():
        plain = network.eval()(images)
    body = [one.macs for one in MODELS["resnet8-b"].layers((1, 28, 28), 10) if one.place == "body"]

    assert torch.allclose(rollout.logits, plain, atol=1e-5)
    assert float(sample_costs(environment.costs, rollout.actions)[0]) == sum(body) * bits**2


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_costs_lie_between_the_extremes_and_shuffling_keeps_their_mean(seed: int) -> None:
    costs = torch.tensor([[4.0, 9.0, 16.0], [40.0, 90.0, 160.0]], dtype=torch.float64)
    actions = any_actions(30, 2, seed=seed)
    spent = sample_costs(costs, actions)
    mixed = sample_costs(costs, shuffled(actions, seeded(seed)))

    assert float(spent.min()) >= 44.0
    assert float(spent.max()) <= 176.0
    assert float(mixed.mean()) == float(spent.mean())


def resnet20_channels() -> list[int]:
    return [16] * 7 + [32] * 6 + [64] * 5


def test_the_agent_of_resnet20_has_the_golden_cost() -> None:
    layers = MODELS["resnet20"].layers((3, 32, 32), 10)
    paths = [(one.name,) for one in layers if one.place == "body"]
    costs = decision_costs(layers, paths, WIDTHS)
    agent = Agent(resnet20_channels(), costs, generator=seeded())

    assert agent_macs(resnet20_channels(), 3, encoder=16, hidden=32) == 24_384
    assert agent_bitops(with_rounders(agent)) == 1_560_576
    assert agent_bitops(agent) == 24_969_216
    assert float(costs[:, 0].sum()) == 160_432_128


def test_the_agents_macs_are_those_of_its_linear_maps() -> None:
    environment = routed()
    agent = Agent(environment.channels, environment.costs, generator=seeded())
    encoders, trunk = linear_weights(agent.encoders), linear_weights(agent.trunk)

    assert agent.macs == encoders + len(agent.encoders) * trunk


PRICES = (0.05, 0.2, 0.8)


@cache
def learned_agent() -> tuple[Agent, Agent]:
    """In FP32 and at 8 bits, learned and rounded on the first 40 images; some are left."""
    environment, (images, labels) = routed(), told_apart(100)
    plan = PolicyPlan(epochs=4, updates=20)
    learner = Learner(environment, plan, seeded())
    for epoch in range(plan.epochs):
        learner.epoch(images[:40], labels[:40], epoch)
    agent = learner.agent
    features = environment.run(images[:40], greedy_choice(agent, 0.2)).features
    return agent, eight_bit_agent(agent, features, PRICES)


def told_apart(count: int, model: str = "resnet8-b") -> tuple[Tensor, Tensor]:
    """Bright and dark images in turn; the label of each is what the largest widths say of it.

    Bright ones are those first of which the lowest widths say something else: what bits an image
    needs can be seen from it. The network is as it was drawn.
    """
    environment, data = routed(model), few(train=2 * count)
    dark = normalise(data.train_images, data.mean, data.std)
    low, high = (
        run_actions(
            environment, dark + 2.0, torch.full((len(environment.channels),), one)
        ).logits.argmax(1)
        for one in (0, 2)
    )
    rows = torch.argsort((low == high).long(), stable=True)[: count // 2]
    images = torch.stack([dark[: count // 2], dark[rows] + 2.0], 1).flatten(0, 1)
    largest = torch.full((len(environment.channels),), 2)
    return images, run_actions(environment, images, largest).logits.argmax(1)


def changed(first: Agent, second: Agent, images: Tensor) -> float:
    actions = [
        torch.cat([routed().run(images, greedy_choice(one, at)).actions for at in PRICES])
        for one in (first, second)
    ]
    return float((actions[0] != actions[1]).double().mean())


def test_an_equalised_agent_decides_what_it_did() -> None:
    (agent, rounded), images = learned_agent(), told_apart(100)[0][40:]
    exact = at_bits(Policy(agent=rounded), 32).agent

    assert state_hash(agent) != state_hash(exact)
    assert changed(agent, exact, images) == 0.0


def test_what_all_widths_have_in_common_costs_an_agent_no_precision() -> None:
    images = told_apart(100)[0][40:]
    agent = deepcopy(learned_agent()[0])
    last = agent.trunk[2]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.add_(2.0)
    features = routed().run(told_apart(100)[0][:40], greedy_choice(agent, 0.2)).features
    rounded, plain = eight_bit_agent(agent, features, PRICES), with_rounders(agent)
    rounders = [one for one in plain.modules() if isinstance(one, RangeRounder)]
    for one in rounders:
        one.is_observing = True
    for price in PRICES:
        routed().run(told_apart(100)[0][:40], greedy_choice(plain, price))
    for one in rounders:
        one.is_observing = False

    kept, lost = changed(agent, rounded, images), changed(agent, plain, images)
    assert kept < lost / 2, f"{kept:.3f} of the decisions change, plainly rounded {lost:.3f}"


def test_an_agent_counts_at_8_bits_only_where_they_change_hardly_a_decision() -> None:
    environment, (images, labels) = routed(), told_apart(100)
    plan = PolicyPlan(epochs=4, updates=20)
    policy = learn(environment, images, labels, plan, seeded())
    share = changed_share(environment, policy, images[80:], prices=plan.selection_lambdas)
    bits = 8 if share <= CHANGED_LIMIT else 32

    assert agent_bits_of(policy.agent) == bits
    assert agent_bitops(policy.agent) == policy.agent.macs * bits**2


@pytest.mark.parametrize("algorithm", ["double_dqn", "reinforce"])
def test_by_default_a_policy_beats_the_best_static_allocation_where_images_differ(
    algorithm: Algorithm,
) -> None:
    environment, (images, labels) = routed("small-cnn"), told_apart(120, "small-cnn")
    policy = learn(environment, images, labels, PolicyPlan(algorithm=algorithm), seeded())
    rollout = environment.run(images, policy.choice(0.2))
    learned = objective(environment, rollout, labels, price=0.2, reward="hit")
    static = max(
        objective(
            environment,
            run_actions(environment, images, torch.tensor(one)),
            labels,
            price=0.2,
            reward="hit",
        )
        for one in product(range(3), repeat=2)
    )

    assert learned > static + 0.02


def every_decision(actions: Sequence[int]) -> Choose:
    return given_actions(torch.tensor([list(actions)]))


def test_a_decision_is_taken_once_for_all_its_layers() -> None:
    environment = routed()
    asked: list[int] = []
    inner = every_decision([0, 1, 2, 0, 1, 2])

    def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
        asked.append(t)
        return inner(t, features, before)

    environment.run(some_images(1), choose)

    assert asked == list(range(len(decision_layers(made_of().network))))
