"""The training loop: order, learning rates, divergence, and that a restart changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, plain_network, training_of, trial_of, workspace_in
from torch import Tensor, nn

from bitsweep.errors import Diverged
from bitsweep.measurement import Evaluation
from bitsweep_trainers import loop
from bitsweep_trainers.divergence import first_not_finite
from bitsweep_trainers.methods.base import ParameterGroup


def facts(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Evaluations without their clock."""
    return [replace(one, seconds=0.0) for one in evaluations]


def test_the_order_of_the_data_depends_on_the_seed_alone() -> None:
    plain = training_of(trial_of("fp32"), few())
    quantized = training_of(trial_of("lsq", 2), few())
    other = training_of(trial_of("fp32", seed=1), few())
    orders = [torch.cat(list(loop.batches(one))) for one in (plain, quantized, other)]

    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert sorted(orders[0].tolist()) == list(range(160))


def test_an_incomplete_last_batch_is_left_out() -> None:
    training = training_of(trial_of("fp32"), few(train=100))

    assert [len(one) for one in loop.batches(training)] == [32, 32, 32]


def test_a_batch_larger_than_the_data_counts_the_examples_that_were_seen(tmp_path: Path) -> None:
    training = training_of(trial_of("fp32", batch_size=200), few(train=100, evaluated=20))
    evaluations = list(loop.run(training, workspace_in(tmp_path)))

    assert [len(one) for one in loop.batches(training)] == [100]
    assert [one.examples for one in evaluations] == [100, 200]


@pytest.mark.parametrize("method", ["fp32", "lsq"])
def test_an_interrupted_and_resumed_trial_equals_an_uninterrupted_one(
    method: str, tmp_path: Path
) -> None:
    trial = trial_of(method, 3, epochs=3)
    whole, cut = workspace_in(tmp_path / "whole"), workspace_in(tmp_path / "cut")
    uninterrupted = list(loop.run(training_of(trial, few()), whole))
    first = loop.run(training_of(trial, few()), cut)
    before = [next(first), next(first)]
    first.close()  # inside epoch 2's yield: only epoch 1 is saved
    after = list(loop.run(training_of(trial, few()), cut))

    assert facts(before) == facts(uninterrupted[:2])
    assert facts(after) == facts(uninterrupted[1:])
    weights = [torch.load(one.final_checkpoint)["network"] for one in (whole, cut)]
    assert all(
        torch.equal(one, weights[1][name])
        for name, one in weights[0].items()
        if isinstance(one, Tensor)
    )


def test_a_finished_trial_that_is_restarted_yields_nothing(tmp_path: Path) -> None:
    trial, workspace = trial_of("fp32", epochs=1), workspace_in(tmp_path)
    evaluations = list(loop.run(training_of(trial, few()), workspace))

    assert [one.epoch for one in evaluations] == [1]
    assert list(loop.run(training_of(trial, few()), workspace)) == []


def test_the_state_of_another_trial_is_refused(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    list(loop.run(training_of(trial_of("fp32", epochs=1), few()), workspace))
    other = training_of(trial_of("fp32", epochs=2), few())

    with pytest.raises(ValueError, match="state of trial"):
        next(loop.run(other, workspace))


def test_the_final_checkpoint_is_there_before_the_last_evaluation(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    seen = [
        workspace.final_checkpoint.exists()
        for _ in loop.run(training_of(trial_of("fp32"), few()), workspace)
    ]

    assert seen == [False, True]


def test_a_loss_that_is_not_finite_names_epoch_and_first_layer(tmp_path: Path) -> None:
    training = training_of(trial_of("fp32"), few())
    layer = training.network.get_submodule("body.conv2")
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = float("nan")

    with pytest.raises(Diverged, match=r"loss is nan at epoch 1, first in layer body\.conv2"):
        next(loop.run(training, workspace_in(tmp_path)))


def test_the_cosine_falls_from_one_towards_zero_over_all_steps() -> None:
    factors = [loop.cosine(step, 10) for step in range(11)]

    assert (factors[0], factors[5], factors[10]) == pytest.approx((1.0, 0.5, 0.0))
    assert factors == sorted(factors, reverse=True)


def test_each_group_gets_the_optimizer_the_rate_and_the_decay_it_asks_for() -> None:
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    sgd, adam = loop.optimizers_of(
        [
            ParameterGroup(name="a", parameters=[first], learning_rate=0.1, weight_decay=0.01),
            ParameterGroup(name="b", parameters=[second], learning_rate=1e-3, optimizer="adam"),
            ParameterGroup(name="empty", parameters=[], learning_rate=1.0),
        ]
    )
    loop.set_learning_rates([sgd, adam], 0.5)

    assert isinstance(sgd, torch.optim.SGD) and isinstance(adam, torch.optim.Adam)
    assert [group["lr"] for group in sgd.param_groups] == [0.05]
    assert sgd.param_groups[0]["weight_decay"] == 0.01 and sgd.param_groups[0]["momentum"] == 0.9
    assert [group["lr"] for group in adam.param_groups] == [0.0005]


def test_only_groups_that_ask_are_clipped() -> None:
    clipped, free = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    for one in (clipped, free):
        one.grad = torch.tensor([3.0, 4.0])
    loop.clip_gradients(
        [
            ParameterGroup(name="a", parameters=[clipped], learning_rate=0.1, clip_norm=1.0),
            ParameterGroup(name="b", parameters=[free], learning_rate=0.1),
        ]
    )

    assert clipped.grad is not None and free.grad is not None
    assert float(clipped.grad.norm()) == pytest.approx(1.0, abs=1e-4)
    assert free.grad.tolist() == [3.0, 4.0]


def test_streams_of_one_seed_differ_by_purpose_and_repeat() -> None:
    draws = [torch.rand(3, generator=loop.stream(7, one)) for one in ("order", "order", "model")]

    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_finite_network_diverges_in_the_loss_alone() -> None:
    network, images = plain_network(), torch.zeros(2, 1, 28, 28)

    assert first_not_finite(network, lambda: network(images)) == "the loss"
