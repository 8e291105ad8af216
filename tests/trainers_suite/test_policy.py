"""ABN's policy on a toy problem: golden numbers, learning, rivals (G4-G7, I11-I20)."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainers_suite.toy_policy import (
    COSTS,
    EASY,
    HARD,
    PRICE,
    QUICK,
    REWARDS,
    Toy,
    seeded,
    state_hash,
    toy_agent,
    toy_images,
)
from tests.trainers_suite.trials import few
from torch.nn import functional

from bitsweep_trainers.policy.agent import Agent, greedy, greedy_choice
from bitsweep_trainers.policy.anchor import Policy
from bitsweep_trainers.policy.baselines import (
    best_static,
    cascade_cost,
    greedy_path,
    lowest_and_highest,
    matched_tilt,
    oracle_actions,
    random_actions,
    static_path,
    unsure,
)
from bitsweep_trainers.policy.environment import sample_costs, task_reward
from bitsweep_trainers.policy.exact import best_static_value, optimal_allocation, optimal_values
from bitsweep_trainers.policy.learn import (
    Learner,
    PolicyPlan,
    double_dqn_target,
    learn,
    objective,
    policy_gradient_loss,
    returns_to_go,
    step_rewards,
    stratified_actions,
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
from bitsweep_trainers.supernet import tilted_weights

torch.set_num_threads(1)


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


class Priced(Toy):
    """Six decisions of equal MACs at widths whose distances differ; it is never run."""

    widths = (2, 4, 8)  # type: ignore[assignment]
    costs = torch.tensor([[4.0, 16.0, 64.0]] * 6, dtype=torch.float64)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_random_allocations_cost_what_they_should(share: float) -> None:
    wanted = 24 + share * 360
    actions = random_actions(Priced(), 20_000, wanted, seeded())

    assert float(sample_costs(Priced.costs, actions).mean()) == pytest.approx(wanted, rel=0.01)


def test_random_allocations_at_the_least_cost_are_the_lowest_widths() -> None:
    actions = random_actions(Priced(), 100, 24.0, seeded())

    assert not bool(actions.any())


def test_random_allocations_are_stratified_by_cost() -> None:
    actions = random_actions(Priced(), 20_000, 204.0, seeded())
    spread = sample_costs(Priced.costs, actions).std()
    t = matched_tilt(Priced.costs, Priced.widths, 204.0, torch.zeros(1))
    alike = torch.multinomial(
        tilted_weights(Priced.widths, t), 120_000, replacement=True, generator=seeded()
    )

    # One tilt for all images: layers are independent, and costs lie near their mean.
    assert spread > 1.5 * sample_costs(Priced.costs, alike.view(-1, 6)).std()


def test_drawn_allocations_are_tilted_by_bits_and_not_by_position() -> None:
    actions = stratified_actions(40_000, 1, (2, 4, 8), 3.0, seeded())
    shares = torch.bincount(actions[:, 0], minlength=3) / len(actions)
    ts = torch.linspace(-3, 3, 2001)
    expected = torch.softmax(ts[:, None] * torch.tensor([2.0, 4.0, 8.0]), 1).mean(0)

    assert shares.tolist() == pytest.approx(expected.tolist(), abs=0.01)


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
