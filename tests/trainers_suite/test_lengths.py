"""Bit-lengths that CPQ with DropBits learns: price, reading, freezing, what is measured."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import nn

from bitsweep.bits import tied
from bitsweep.cost import MeanBits, mean_bits
from bitsweep.measurement import Evaluation
from bitsweep.recipe import Recipe
from bitsweep.space import Value, resolve
from bitsweep.taking import by_layer
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.lengths import (
    body_layers,
    freeze_lengths,
    layer_shares,
    learned_allocation,
    length_penalty,
)
from bitsweep_trainers.methods.cpq_dropbits import last_learning_epoch
from bitsweep_trainers.methods.declared.cpq_dropbits import DECLARATION
from bitsweep_trainers.quantizers.cluster_promoting import (
    ClusterPromoting,
    Masks,
    Noise,
    expected_levels,
    quantizers,
)
from bitsweep_trainers.quantizers.grid import GridKind, Sharing, make_grid
from bitsweep_trainers.quantizers.hard_concrete import hard_concrete

KEPT, DROPPED = 4.0, -4.0
FAST: dict[str, Value] = {"lambda": 1.0, "keep_learning_rate": 0.1, "keep_probability": 0.5}


def learning(given: Mapping[str, Value] | None = None, *, epochs: int = 2) -> Trial:
    """A small trial that learns its lengths from 4 bits."""
    return trial_of(
        "cpq_dropbits",
        4,
        parameters={"task": "hetero", **(given or {})},
        epochs=epochs,
        learns_bits=True,
    )


def quantizer(
    logits: list[float],
    *,
    kind: GridKind = "sym",
    sharing: Sharing = "bitwise",
    nest: bool = True,
    bits: int = 4,
) -> ClusterPromoting:
    """A quantizer that learns its length, with these logits of its masks."""
    masks = Masks(
        sharing=sharing,
        nest=nest,
        kind="hard_concrete",
        keep_probability=0.9,
        tau=2 / 3,
        is_learned=True,
        learns_length=True,
    )
    noise = Noise(ratio=1 / 3, is_learned=True, is_tied=True)
    made = ClusterPromoting(bits=bits, kind=kind, ste="max", noise=noise, masks=masks)
    assert made.keep_logits is not None and len(made.keep_logits) == len(logits)
    made.keep_logits.data.copy_(torch.tensor(logits))
    made.initialise(torch.linspace(0.0 if kind == "unsigned" else -1.0, 1.0, 200), "max")
    return made


def run(trial: Trial, folder: Path, *, train: int = 320) -> list[Evaluation]:
    """Every evaluation of a trial on the first images."""
    made = training_of(trial, few(train=train, evaluated=50))
    return list(loop.run(made, workspace_in(folder)))


def test_the_expected_levels_are_those_of_the_specification() -> None:
    # P(z > 0) of golden example E9: 0.9780291183 and 0.8697326341.
    logits = [2.1972245773, 0.3]
    apart, nested = quantizer(logits, nest=False), quantizer(logits, nest=True)

    assert expected_levels([apart]).item() == pytest.approx(0.9780291183 + 0.8697326341, abs=1e-6)
    assert expected_levels([nested]).item() == pytest.approx(
        0.9780291183 * (1 + 0.8697326341), abs=1e-6
    )


def test_nested_levels_count_the_expected_bits_above_two() -> None:
    logits = [1.0, 0.2, -0.4]
    made = quantizer(logits, bits=5)
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(100_000, 3, generator=generator).clamp(1e-6, 1 - 1e-6)
    z = torch.cumprod(hard_concrete(torch.tensor(logits), uniform, 2 / 3), dim=1)

    assert expected_levels([made]).item() == pytest.approx(
        (z > 0).sum(1).double().mean().item(), abs=0.01
    )


@given(st.lists(st.floats(-6, 6), min_size=2, max_size=2), st.booleans())
def test_a_higher_keep_probability_always_costs_more(logits: list[float], nest: bool) -> None:
    made = quantizer(logits, nest=nest)
    expected_levels([made]).backward()  # type: ignore[no-untyped-call]

    assert made.keep_logits is not None and made.keep_logits.grad is not None
    assert bool((made.keep_logits.grad > 0).all())


@pytest.mark.parametrize(
    ("logits", "nest", "length"),
    [
        ([KEPT, KEPT], True, 4),
        ([KEPT, DROPPED], True, 3),
        ([DROPPED, KEPT], True, 2),
        ([DROPPED, KEPT], False, 4),
        ([DROPPED, DROPPED], False, 2),
    ],
)
@pytest.mark.parametrize("kind", ["sym", "full", "unsigned"])
def test_the_length_is_that_of_the_widest_kept_point(
    logits: list[float], nest: bool, length: int, kind: GridKind
) -> None:
    assert quantizer(logits, nest=nest, kind=kind).length == length


@pytest.mark.parametrize("last", range(1, 8))
def test_the_length_of_end_points_counts_the_digits_of_the_last_pair(last: int) -> None:
    logits = [KEPT if pair <= last else DROPPED for pair in range(2, 8)]
    made = quantizer(logits, sharing="endpoints")

    assert made.length == 1 + math.ceil(math.log2(last + 1))


@pytest.mark.parametrize("kind", ["sym", "unsigned"])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_evaluation_with_nested_levels_is_the_grid_of_the_length(
    levels: int, kind: GridKind
) -> None:
    made = quantizer([KEPT] * levels + [DROPPED] * (2 - levels), kind=kind).eval()
    x = torch.linspace(-1.3, 1.3, 501)
    alpha, _ = made.scales()
    grid = make_grid(kind, 2 + levels)
    expected = (x / alpha).round().clamp(grid.low, grid.high)

    with torch.no_grad():
        codes = (made(x) / alpha).round()

    assert torch.equal(codes, expected)
    assert made.length == 2 + levels


@given(st.lists(st.sampled_from([KEPT, DROPPED]), min_size=2, max_size=2), st.booleans())
def test_freezing_changes_no_output_and_no_length(logits: list[float], nest: bool) -> None:
    made = quantizer(logits, nest=nest).eval()
    x = torch.linspace(-1.3, 1.3, 301)
    with torch.no_grad():
        before, length = made(x), made.length
        made.freeze()
        made.keep_logits.data.neg_()  # type: ignore[union-attr]
        after = made(x)
        trained = made.train()(x)

    assert torch.equal(before, after) and torch.equal(trained, after)
    assert made.length == length
    assert len(torch.unique(before)) <= 2**length - 1


def test_an_unsigned_grid_has_a_mask_per_level() -> None:
    runs = make_grid("unsigned", 4, "bitwise").runs

    assert runs == ((0, 3, None), (4, 7, 0), (8, 15, 1))


def test_shares_of_a_layer_are_its_weights_or_its_macs() -> None:
    body = body_layers(learning())
    by_size, by_macs = layer_shares(body, "size"), layer_shares(body, "bitops")

    assert layer_shares(body, "one") == [1.0] * len(body)
    assert sum(by_size) == pytest.approx(1) and sum(by_macs) == pytest.approx(1)
    assert by_size[0] / by_size[1] == pytest.approx(body[0].weights / body[1].weights)
    assert by_macs[0] / by_macs[1] == pytest.approx(body[0].macs / body[1].macs)


def set_logits(network: nn.Module, value: float) -> None:
    for one in quantizers(network):
        if one.keep_logits is not None:
            one.keep_logits.data.fill_(value)


def test_the_price_is_lambda_times_the_weighted_levels() -> None:
    trial = learning({"lambda": 0.5, "reg_weight": "size"})
    network = training_of(trial, few()).network
    set_logits(network, 20.0)
    price = length_penalty(network, trial)

    assert price is not None
    assert price.item() == pytest.approx(0.5 * 2, abs=1e-5)


def logits_of(network: nn.Module) -> list[nn.Parameter]:
    return [one.keep_logits for one in quantizers(network) if one.keep_logits is not None]


def test_a_price_adds_its_own_gradient_and_none_at_zero() -> None:
    gradients, slopes = [], []
    for price in (0.0, 1.0):
        trial = learning({"lambda": price})
        made = training_of(trial, few())
        data = made.data
        images = normalise(data.train_images[:32], data.mean, data.std)
        made.method.backward(made.network, trial, images, data.train_labels[:32], made.noise)
        logits = logits_of(made.network)
        gradients.append([one.grad for one in logits])
        levels = expected_levels([one for one in quantizers(made.network) if one.masks])
        slopes = list(torch.autograd.grad(levels.sum(), logits))

    for without, with_price, slope in zip(*gradients, slopes, strict=True):
        assert without is not None and with_price is not None
        assert torch.allclose(with_price - without, slope, atol=1e-5)


def test_a_higher_price_leaves_fewer_bits(tmp_path: Path) -> None:
    means = []
    for price in (0.0, 1.0):
        trial = learning({**FAST, "lambda": price}, epochs=3)
        last = run(trial, tmp_path / str(price), train=640)[-1].measurements[0]
        body = body_layers(trial)
        means.append(mean_bits(body, last.layer_bits[1:-1], MeanBits.LAYER))

    assert means == [4.0, 2.0]


def test_what_is_measured_is_what_was_learned_at_every_epoch(tmp_path: Path) -> None:
    trial = learning(FAST, epochs=3)
    evaluations = run(trial, tmp_path, train=640)
    labels = [one.measurements[0].allocation.label for one in evaluations]

    assert len(set(labels)) > 1
    for evaluation in evaluations:
        (one,) = evaluation.measurements
        body = one.layer_bits[1:-1]
        assert (one.allocator, one.lambda_) == ("learned", 1.0)
        assert [bits.weight for bits in body] == [b.weight for b in by_layer(one.allocation, 2)]
        assert [bits.weight for bits in (one.layer_bits[0], one.layer_bits[-1])] == [8, 8]


def test_with_an_average_of_weights_the_lengths_are_those_learned() -> None:
    training = training_of(replace(learning(), recipe=Recipe(ema_decay=0.999)), few())
    set_logits(training.network, DROPPED)
    assert training.average is not None

    with training.average.applied(training.network):
        assert learned_allocation(training.network).label == "w2a4"
    assert learned_allocation(training.network).label == "w2a4"


def test_without_a_share_to_fine_tune_lengths_learn_to_the_last_step(tmp_path: Path) -> None:
    trial = learning({**FAST, "finetune_fraction": 0.0}, epochs=2)
    training = training_of(trial, few(train=320, evaluated=50))
    before = [one.detach().clone() for one in logits_of(training.network)]
    for _ in loop.run(training, workspace_in(tmp_path)):
        after = [one.detach().clone() for one in logits_of(training.network)]
        assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        before = after

    assert all(one.frozen is None for one in quantizers(training.network))


def test_lengths_stand_still_once_the_fine_tuning_has_begun(tmp_path: Path) -> None:
    final = {}
    for fraction in (0.0, 0.7):
        trial = learning({**FAST, "finetune_fraction": fraction}, epochs=3)
        evaluations = run(trial, tmp_path / str(fraction), train=640)
        final[fraction] = [one.measurements[0].allocation.label for one in evaluations]

    assert set(final[0.7]) == {final[0.0][0]}
    assert final[0.0][-1] != final[0.0][0]


@pytest.mark.parametrize(
    ("epochs", "fraction", "last"), [(10, 0.3, 7), (2, 0.9, 1), (2, 0.0, 2), (1, 0.3, 1)]
)
def test_at_least_one_epoch_learns_lengths(epochs: int, fraction: float, last: int) -> None:
    assert last_learning_epoch(learning({"finetune_fraction": fraction}, epochs=epochs)) == last


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_a_restarted_trial_learns_the_same_lengths(stopped_after: int, tmp_path: Path) -> None:
    trial = learning({**FAST, "finetune_fraction": 0.5}, epochs=4)
    whole = run(trial, tmp_path / "whole")
    data = few(train=320, evaluated=50)
    first = loop.run(training_of(trial, data), workspace_in(tmp_path / "cut"))
    for _ in range(stopped_after + 1):
        next(first)
    first.close()
    rest = list(loop.run(training_of(trial, data), workspace_in(tmp_path / "cut")))

    expected = [one.measurements for one in whole[stopped_after:]]
    assert [one.measurements for one in rest] == expected


def test_a_network_with_frozen_lengths_reads_its_state_back() -> None:
    trial = learning()
    made, again = training_of(trial, few()).network, training_of(trial, few()).network
    weights = [one for one in quantizers(made) if one.keep_logits is not None]
    weights[0].keep_logits.data.fill_(DROPPED)  # type: ignore[union-attr]
    freeze_lengths(made, trial)
    again.load_state_dict(made.state_dict())

    assert learned_allocation(again) == learned_allocation(made)
    assert learned_allocation(made).label == "w=[2,4] a=[4,4]"
    assert length_penalty(again, trial) is None


def test_activations_learn_their_lengths_where_asked(tmp_path: Path) -> None:
    trial = learning({**FAST, "learn_activations": True, "ste_act": "max"}, epochs=3)
    last = run(trial, tmp_path, train=640)[-1].measurements[0]

    assert [one.activation for one in by_layer(last.allocation, 2)] == [2, 2]
    assert [one.activation for one in last.layer_bits[1:-1]] == [2, 2]


def test_a_given_allocation_is_trained_and_measured_as_given(tmp_path: Path) -> None:
    trial = trial_of("cpq_dropbits", 3, allocation="w=[2,3] a=[4,4]", epochs=1)
    (evaluation,) = run(trial, tmp_path)
    (one,) = evaluation.measurements

    assert (one.allocation.label, one.allocator, one.lambda_) == ("w=[2,3] a=[4,4]", "fixed", None)
    assert [(bits.weight, bits.activation) for bits in one.layer_bits[1:-1]] == [(2, 4), (3, 4)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sharing": "off"}, "task 'hetero' needs sharing 'bitwise' or 'endpoints', got 'off'"),
        ({"mask": "bernoulli"}, "needs mask 'hard_concrete', got 'bernoulli'"),
        ({"ste": "plain"}, "needs ste 'max' or 'full', got 'plain'"),
        ({"learn_keep_probability": False}, "needs learn_keep_probability True, got False"),
        ({"target_bits": 5.0}, r"target_bits must be 0 or a number in \[2, 4\]"),
        ({"target_bits": 3.0, "nest": False}, "target_bits needs sharing 'bitwise' and nest"),
        ({"learn_activations": True}, "needs ste_act 'max' or 'full', got 'plain'"),
        (
            {"learn_activations": True, "ste_act": "max", "reg_weight": "size"},
            "needs reg_weight 'one' or 'bitops'",
        ),
        (
            {"learn_activations": True, "ste_act": "max", "activation_bits": 8},
            "needs activation_bits 'tied'",
        ),
    ],
)
def test_lengths_that_cannot_be_learned_are_refused(given: dict[str, Value], words: str) -> None:
    resolved = resolve(DECLARATION.parameters, {"task": "hetero", **given})

    with pytest.raises(ValueError, match=words):
        DECLARATION.check(resolved, (tied(4),))


def test_a_negative_price_is_refused_with_its_range() -> None:
    with pytest.raises(ValueError, match=r"lambda must be a number in \[0, 10\], got -1"):
        resolve(DECLARATION.parameters, {"task": "hetero", "lambda": -1.0})


def test_learned_lengths_leave_no_trace_in_trials_of_given_bits() -> None:
    plain = trial_of("cpq_dropbits", 4)
    asked = trial_of("cpq_dropbits", 4, parameters={"task": "fixed"})

    assert plain.id == asked.id
    assert not {"task", "lambda", "initial_bits", "reg_weight"} & set(plain.parameters)
