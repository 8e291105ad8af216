"""ABN's policy: golden numbers of a toy problem, learning, rivals, invariants (G4-G7, I11-I20)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor, nn
from torch.nn import functional

from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.layers import QuantizedConv2d, quantized_layers
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.agent import (
    Agent,
    agent_bitops,
    agent_macs,
    eight_bit_agent,
    greedy,
    greedy_choice,
)
from bitsweep_trainers.policy.anchor import Policy
from bitsweep_trainers.policy.baselines import (
    best_static,
    cascade_cost,
    greedy_path,
    lowest_and_highest,
    matched_tilt,
    oracle_actions,
    random_actions,
    run_actions,
    shuffled,
    static_path,
    unsure,
)
from bitsweep_trainers.policy.environment import (
    Choose,
    Rollout,
    RoutedNetwork,
    RoutedNorm,
    decision_costs,
    sample_costs,
    task_reward,
)
from bitsweep_trainers.policy.environment import (
    given as given_actions,
)
from bitsweep_trainers.policy.exact import (
    best_static_value,
    optimal_allocation,
    optimal_values,
)
from bitsweep_trainers.policy.learn import (
    Learner,
    PolicyPlan,
    double_dqn_target,
    learn,
    objective,
    policy_gradient_loss,
    returns_to_go,
    step_rewards,
)
from bitsweep_trainers.policy.rules import (
    NUM_SHUFFLES,
    StaticLosses,
    apply_all,
    oracle_of,
    rivals_at,
    static_rewards,
)
from bitsweep_trainers.policy.split import hold_out
from bitsweep_trainers.supernet import SwitchableWeights, allocate, decision_layers
from bitsweep_trainers.switchable import SwitchableStep

COSTS = torch.tensor([[400.0, 1600.0], [1200.0, 4800.0]], dtype=torch.float64)
EASY, HARD = 0, 1
# Task rewards by (a_1, a_2): the easy image is always right, the hard one if a_2 is the second.
REWARDS = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
PRICE = 0.2
WIDTHS = (2, 3, 4)
QUICK = PolicyPlan(epochs=12, updates=40, learning_rate=5e-3, batch_transitions=256)
torch.set_num_threads(1)


class Toy:
    """Two decisions, two widths; an image is its kind (0 easy, 1 hard), its label is class 0."""

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


def state_hash(network: nn.Module) -> str:
    found = sha256()
    for name, one in sorted(network.state_dict().items()):
        if isinstance(one, Tensor):
            found.update(name.encode() + one.cpu().numpy().tobytes())
    return found.hexdigest()


def test_the_toy_problem_has_the_golden_optimum() -> None:
    easy, hard = (optimal_values(one, COSTS, PRICE) for one in REWARDS)
    best = [optimal_allocation(one) for one in (easy, hard)]
    costs = sample_costs(COSTS, torch.tensor(best))

    assert easy[0].tolist() == pytest.approx([0.95, 0.9125])
    assert hard[0].tolist() == pytest.approx([0.8375, 0.80])
    assert easy[1][0].tolist() == pytest.approx([0.9625, 0.85])
    assert hard[1][0].tolist() == pytest.approx([-0.0375, 0.85])
    assert best == [(0, 0), (0, 1)]
    assert float(costs.mean()) == 3400.0


def test_the_toy_problem_has_the_golden_gain_over_every_static_allocation() -> None:
    statics = {
        one: best_static_value(REWARDS[:, one[0], one[1]].view(2, 1, 1), COSTS[:, :1], 0.0)
        for one in ((0, 0), (1, 0), (0, 1), (1, 1))
    }
    values = {
        one: right - PRICE * float(sample_costs(COSTS, torch.tensor([one]))[0]) / 6400
        for one, right in statics.items()
    }
    adaptive = sum(float(optimal_values(one, COSTS, PRICE)[0].max()) for one in REWARDS) / 2

    assert list(values.values()) == pytest.approx([0.45, 0.4125, 0.8375, 0.80])
    assert best_static_value(REWARDS, COSTS, PRICE) == pytest.approx(0.8375)
    assert adaptive == pytest.approx(0.89375)


@pytest.mark.parametrize(("price", "expected"), [(1.77, (0, 1)), (1.79, (0, 0))])
def test_the_hard_image_is_given_up_above_the_golden_price(
    price: float, expected: tuple[int, ...]
) -> None:
    assert optimal_allocation(optimal_values(REWARDS[HARD], COSTS, price)) == expected


@given(rewards=st.lists(st.floats(0, 1), min_size=8, max_size=8), price=st.floats(0, 2))
@settings(max_examples=50, deadline=None)
def test_the_optimum_is_no_worse_than_static_and_costs_less_at_a_higher_price(
    rewards: list[float], price: float
) -> None:
    images = torch.tensor(rewards, dtype=torch.float64).view(2, 2, 2)
    adaptive = sum(float(optimal_values(one, COSTS, price)[0].max()) for one in images) / 2
    costs = [
        sample_costs(
            COSTS,
            torch.tensor([optimal_allocation(optimal_values(one, COSTS, at)) for one in images]),
        ).sum()
        for at in (price, price + 0.5)
    ]

    assert adaptive >= best_static_value(images, COSTS, price) - 1e-9
    assert costs[1] <= costs[0]


def test_without_a_price_ties_go_to_the_lowest_bits_and_a_high_price_takes_them() -> None:
    constant = torch.full((2, 2), 0.5)

    assert optimal_allocation(optimal_values(constant, COSTS, 0.0)) == (0, 0)
    assert optimal_allocation(optimal_values(REWARDS[HARD], COSTS, 1e6)) == (0, 0)


def test_the_target_is_double_dqns_and_not_dqns() -> None:
    online, target = torch.tensor([[0.9, 0.7]]), torch.tensor([[0.5, 0.8]])
    reward = torch.tensor([-0.0125])
    found = double_dqn_target(reward, online, target, torch.tensor([False]))

    assert found.item() == pytest.approx(0.4875)
    assert double_dqn_target(reward, online, target, torch.tensor([True])).item() == reward.item()


def test_the_policy_gradient_is_golden() -> None:
    logits = torch.log(torch.tensor([[[0.6, 0.4]]])).requires_grad_()
    loss = policy_gradient_loss(logits, torch.tensor([[1]]), torch.tensor([0.8375 - 0.5]))
    torch.autograd.backward(loss)
    assert logits.grad is not None

    assert (-logits.grad[0, 0]).tolist() == pytest.approx([-0.2025, 0.2025])


def test_a_cascade_pays_both_runs() -> None:
    is_escalated = torch.tensor([True, True, False, False, False])

    assert cascade_cost(COSTS, is_escalated) == 4160.0


def test_rewards_add_up_to_the_task_less_the_price_of_the_bitops() -> None:
    actions = torch.tensor([[0, 1], [1, 1], [1, 0]])
    prices, task = torch.tensor([0.2, 0.5, 1.0]), torch.tensor([1.0, 0.0, 1.0])
    rewards = step_rewards(COSTS, actions, prices, task)
    expected = task - prices * sample_costs(COSTS, actions).float() / 6400

    assert torch.allclose(rewards.sum(1), expected)
    assert torch.allclose(returns_to_go(rewards)[:, 0], expected)


@pytest.mark.parametrize(
    "plan",
    [
        QUICK,
        replace(QUICK, target="return"),
        replace(QUICK, reward="rel"),
        replace(QUICK, epochs=100, learning_rate=1e-2, algorithm="reinforce"),
    ],
    ids=["double_dqn", "observed_returns", "relative", "reinforce"],
)
def test_the_toy_problem_is_learned(plan: PolicyPlan) -> None:
    images, labels = toy_images()
    policy = learn(Toy(), images, labels, plan, seeded())
    rollout = Toy().run(torch.tensor([EASY, HARD]), policy.choice(PRICE))

    assert rollout.actions.tolist() == [[0, 0], [0, 1]]
    value = objective(Toy(), rollout, torch.zeros(2).long(), price=PRICE, reward="hit")
    assert value == pytest.approx(0.89375)


def test_learning_is_repeatable() -> None:
    images, labels = toy_images(20)
    plan = PolicyPlan(epochs=2, updates=3, batch_transitions=32)
    agents = [learn(Toy(), images, labels, plan, seeded(5)).agent for _ in range(2)]

    assert state_hash(agents[0]) == state_hash(agents[1])


def test_observed_costs_fall_as_the_price_rises_on_the_toy() -> None:
    images, _ = toy_images()
    agent = toy_agent()
    costs = [
        float(sample_costs(COSTS, Toy().run(images, greedy_choice(agent, one)).actions).mean())
        for one in (0.05, 0.4, 2.0)
    ]

    assert costs == sorted(costs, reverse=True)


def test_epsilon_and_rewards_of_other_kinds() -> None:
    logits, labels = torch.tensor([[0.0, 0.0], [0.0, 20.0]]), torch.tensor([0, 0])

    assert task_reward(logits, labels, "hit").tolist() == [1.0, 0.0]
    assert task_reward(logits, labels, "prob").tolist() == pytest.approx([0.5, 0.0], abs=1e-6)
    assert task_reward(logits, labels, "nll").tolist() == pytest.approx([-0.693147, -5.0])


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


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_random_allocations_cost_what_they_should(share: float) -> None:
    costs = torch.tensor([[4.0, 9.0, 16.0]] * 6, dtype=torch.float64)
    wanted = 24 + share * 72
    actions = random_actions(costs, 20_000, wanted, seeded())

    assert float(sample_costs(costs, actions).mean()) == pytest.approx(wanted, rel=0.01)
    assert matched_tilt(costs, 24.0) == pytest.approx(-50.0, abs=20)


def test_greedy_search_lowers_the_cheapest_loss_first() -> None:
    def loss_of(allocation: tuple[int, ...]) -> float:
        return 10.0 * (1 - allocation[0]) + 1.0 * (1 - allocation[1])

    assert greedy_path(COSTS, loss_of, is_upward=False) == [(1, 1), (1, 0), (0, 0)]
    assert greedy_path(COSTS, loss_of, is_upward=True) == [(0, 0), (1, 0), (1, 1)]


def test_greedy_search_finds_the_best_static_allocation_of_the_toy() -> None:
    images, labels = toy_images()
    known = static_rewards(Toy(), images, labels)
    found = best_static(Toy(), list(known), list(known.values()), price=PRICE)

    assert found == (0, 1)
    assert (0, 1) in static_path(
        Toy(), images, lambda z: functional.cross_entropy(z, labels).item()
    )


def test_the_oracle_takes_the_cheapest_right_allocation() -> None:
    images, labels = toy_images(4)
    found = oracle_actions(Toy(), images, labels, num_draws=40, generator=seeded())

    assert found.tolist() == [[0, 0], [0, 1], [0, 0], [0, 1]]


def test_a_cascade_reruns_only_what_is_not_sure() -> None:
    images, _ = toy_images(4)
    low, high = lowest_and_highest(Toy(), images)
    sure = torch.softmax(low, 1).max(1).values

    assert not bool(unsure(low, 0.0).any())
    assert bool(unsure(low, 1.0).all())
    assert unsure(low, float(sure.max())).tolist() == (sure < sure.max()).tolist()
    assert not torch.equal(low, high)


def test_all_rules_run_side_by_side_and_the_shuffled_one_costs_the_same() -> None:
    images, labels = toy_images()
    known = static_rewards(Toy(), images, labels)
    losses = StaticLosses(environment=Toy(), images=images, labels=labels)
    rivals = rivals_at(losses, price=PRICE, known=known, budget=3400.0, generator=seeded())
    oracle = oracle_of(Toy(), images, labels, seeded())
    ruled = apply_all(
        Toy(),
        Policy(agent=toy_agent()),
        rivals,
        images,
        labels,
        price=PRICE,
        oracle=oracle,
        generator=seeded(),
    )
    by_name = {one.allocator: one for one in ruled}
    learned, mixed = by_name["learned"], by_name["shuffled"]

    assert list(by_name) == [
        "learned",
        "shuffled",
        "random",
        "greedy",
        "evolutionary",
        "ilp",
        "oracle",
        "cascade",
    ]
    assert float(mixed.bitops.mean()) == float(learned.bitops.mean())
    assert learned.accuracy(labels) > mixed.accuracy(labels)
    assert learned.agent_bitops > 0
    assert by_name["greedy"].agent_bitops == 0
    assert learned.shuffled_hits is not None
    assert set(learned.shuffled_hits[images == EASY].tolist()) == {NUM_SHUFFLES}
    assert 0 < float(learned.shuffled_hits[images == HARD].double().mean()) < NUM_SHUFFLES


def resnet20_channels() -> list[int]:
    return [16] * 7 + [32] * 6 + [64] * 5


def test_the_agent_of_resnet20_has_the_golden_cost() -> None:
    layers = MODELS["resnet20"].layers((3, 32, 32), 10)
    paths = [(one.name,) for one in layers if one.place == "body"]
    costs = decision_costs(layers, paths, WIDTHS)
    agent = Agent(resnet20_channels(), costs, generator=seeded())

    assert agent_macs(resnet20_channels(), 3, encoder=16, hidden=32) == 24_384
    assert agent_bitops(agent) == 1_560_576
    assert float(costs[:, 0].sum()) == 160_432_128


def test_the_agents_macs_are_those_of_its_linear_maps() -> None:
    environment = routed()
    agent = Agent(environment.channels, environment.costs, generator=seeded())
    encoders, trunk = linear_weights(agent.encoders), linear_weights(agent.trunk)

    assert agent.macs == encoders + len(agent.encoders) * trunk


def test_the_agent_sees_what_was_spent_the_price_and_the_last_action() -> None:
    agent = Agent((2, 2), COSTS, generator=seeded())
    prices = torch.tensor([0.2, 0.4])
    first = agent.extras(0, torch.zeros(2, 0, dtype=torch.long), prices)
    second = agent.extras(1, torch.tensor([[0], [1]]), prices)

    assert first.tolist() == [
        pytest.approx([0.5, 0.0, 0.2, 0.0, 0.0]),
        pytest.approx([0.5, 0.0, 0.4, 0.0, 0.0]),
    ]
    assert second.tolist() == [
        pytest.approx([1.0, 0.0625, 0.2, 1.0, 0.0]),
        pytest.approx([1.0, 0.25, 0.4, 0.0, 1.0]),
    ]


def test_eight_bits_change_few_of_the_agents_actions() -> None:
    environment, images = routed(), some_images(60)
    agent = Agent(environment.channels, environment.costs, generator=seeded())
    sharpen(agent, 30)
    prices = (0.05, 0.2, 0.8)
    features = environment.run(images, greedy_choice(agent, 0.2)).features
    rounded = eight_bit_agent(agent, features, prices)
    first, second = (
        torch.cat([environment.run(images, greedy_choice(one, at)).actions for at in prices])
        for one in (agent, rounded)
    )

    assert state_hash(agent) != state_hash(rounded)
    assert float((first != second).double().mean()) < 0.05


def test_ties_go_to_the_lowest_bits() -> None:
    assert greedy(torch.zeros(3, 4)).tolist() == [0, 0, 0]


def test_the_policy_split_is_balanced_disjoint_and_repeatable() -> None:
    data = few(train=1000)
    remaining = hold_out(data, 0.1, seeded(3))
    images, labels = remaining.held_images, remaining.held_labels
    again = hold_out(data, 0.1, seeded(3))
    shares = [float((labels == one).sum() / (data.train_labels == one).sum()) for one in range(10)]

    assert len(labels) + len(remaining.train_labels) == 1000
    assert all(one == pytest.approx(0.1, abs=0.01) for one in shares)
    assert torch.equal(images, again.held_images)
    whole = torch.cat([remaining.train_images, images]).flatten(1).double().sum(1)
    assert torch.equal(whole.sort()[0], data.train_images.flatten(1).double().sum(1).sort()[0])


def test_exploration_remembers_every_episode_and_no_feature_map() -> None:
    images, labels = toy_images(20)
    learner = Learner(Toy(), PolicyPlan(updates=1, batch_transitions=8), seeded())
    learner.epoch(images, labels, 0)

    assert len(learner.replay) == 20
    assert all(one.ndim == 2 for one in learner.replay.features)


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
