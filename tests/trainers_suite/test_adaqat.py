"""AdaQAT: golden step, the laws of its widths, what its network does and keeps."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import Tensor

from bitsweep.bits import Bits
from bitsweep.space import Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.methods.adaqat import LearnedWidth, loss_at, widths_of
from bitsweep_trainers.methods.declared.adaqat import DECLARATION
from bitsweep_trainers.methods.pact import PACT

PLAIN = {"rate": 0.05, "smoothing": 0.99, "max_turns": 10}
# So quick that bits change within a few steps.
QUICK: dict[str, Value] = {
    "weight_bits_learning_rate": 0.05,
    "activation_bits_learning_rate": 0.02,
    "lambda": 0.2,
}


def width(value: float) -> LearnedWidth:
    made = LearnedWidth(8)
    made.value.fill_(value)
    return made


def adaqat(given: Mapping[str, Value] | None = None, *, epochs: int = 2) -> Trial:
    return trial_of("adaqat", parameters=dict(given or {}), epochs=epochs, learns_bits=True)


def batch(made: loop.Training, count: int = 32) -> tuple[Tensor, Tensor]:
    data = made.data
    images = normalise(data.train_images[:count], data.mean, data.std)
    return images, data.train_labels[:count]


def test_the_golden_step() -> None:
    # N_w = 3.4, N_a = 3.2, lambda = 0.1, eta = 0.05; L(4,4), L(3,4), L(4,3) = 0.50, 0.62, 0.55.
    weight, activation = width(3.4), width(3.2)
    assert (weight.bits, activation.bits) == (4, 4)
    weight.step(0.50 - 0.62, 0.1 * 4, **PLAIN)  # type: ignore[arg-type]
    activation.step(0.50 - 0.55, 0.1 * 4, **PLAIN)  # type: ignore[arg-type]

    assert weight.value.item() == pytest.approx(3.386, abs=1e-9)
    assert activation.value.item() == pytest.approx(3.1825, abs=1e-9)
    assert (weight.bits, activation.bits) == (4, 4)


def test_the_mean_of_differences_is_that_of_a_decaying_average() -> None:
    made, differences = width(8.0), [0.4, -0.2, 0.1]
    expected = 8.0
    for count in range(1, 4):
        weights = [0.5 ** (count - index) for index in range(1, count + 1)]
        seen = zip(weights, differences[:count], strict=True)
        mean = sum(one * value for one, value in seen) / sum(weights)
        expected = min(8.0, expected - 0.1 * (mean + 0.3))
        made.step(differences[count - 1], 0.3, rate=0.1, smoothing=0.5, max_turns=10)

        assert made.value.item() == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 5)), max_size=40),
    st.floats(0, 1),
    st.integers(1, 5),
)
def test_bits_stay_between_two_and_eight(
    steps: list[tuple[float, float]], rate: float, max_turns: int
) -> None:
    made = width(5.0)
    for difference, price in steps:
        if not bool(made.is_fixed):
            made.step(difference, price, rate=rate, smoothing=0.0, max_turns=max_turns)

        assert 2 <= made.bits <= 8


def test_a_width_that_swings_is_fixed_at_the_larger_of_its_two() -> None:
    made, seen = width(4.05), []
    for index in range(40):
        if bool(made.is_fixed):
            break
        made.step(5.0 if index % 2 == 0 else -5.0, 0.0, rate=0.1, smoothing=0.0, max_turns=10)
        seen.append(made.bits)

    # The first change has no direction before it: ten turns are eleven changes, the last undone.
    assert seen == [4, 5] * 5 + [5]
    assert bool(made.is_fixed)


def test_a_price_of_nothing_and_equal_losses_move_nothing() -> None:
    made = width(6.5)
    made.step(0.0, 0.0, rate=0.5, smoothing=0.9, max_turns=10)

    assert made.value.item() == 6.5


def test_the_other_parameters_get_the_gradients_of_pact() -> None:
    made = training_of(adaqat(), few())
    pact = training_of(trial_of("pact", 8), few())
    pact.network.load_state_dict(
        {name: one for name, one in made.network.state_dict().items() if "widths" not in name}
    )
    images, labels = batch(made)
    loss = made.method.backward(made.network, made.trial, images, labels, made.noise)
    expected = PACT.backward(pact.network, pact.trial, images, labels, pact.noise)

    assert torch.equal(loss, expected)
    own = dict(made.network.named_parameters())
    for name, other in pact.network.named_parameters():
        assert (own[name].grad is None) == (other.grad is None)
        assert other.grad is None or torch.equal(own[name].grad, other.grad)  # type: ignore[arg-type]


def test_asking_for_the_loss_at_other_bits_leaves_the_network_as_it_was() -> None:
    made = training_of(adaqat(), few())
    before = deepcopy(made.network.state_dict())
    images, labels = batch(made)
    low = loss_at(made.network, Bits(weight=2, activation=2), images, labels)
    high = loss_at(made.network, Bits(weight=8, activation=8), images, labels)

    assert low != high
    for name, one in made.network.state_dict().items():
        is_same = (
            torch.equal(one, before[name]) if isinstance(one, Tensor) else one == before[name]
        )
        assert is_same, name
    assert all(one.momentum == 0.1 for one in made.network.modules() if hasattr(one, "momentum"))


def test_a_step_moves_the_widths_by_loss_and_price() -> None:
    trial = adaqat(QUICK)
    made = training_of(trial, few())
    images, labels = batch(made)
    high = loss_at(made.network, Bits(weight=8, activation=8), images, labels)
    weight = loss_at(made.network, Bits(weight=7, activation=8), images, labels)
    activation = loss_at(made.network, Bits(weight=8, activation=7), images, labels)
    made.method.begin_epoch(made.network, trial, 1)
    made.method.backward(made.network, trial, images, labels, made.noise)
    widths = widths_of(made.network)

    assert widths.weight.value.item() == pytest.approx(8 - 0.05 * (high - weight + 1.6), abs=1e-6)
    assert widths.activation.value.item() == pytest.approx(
        8 - 0.02 * (high - activation + 1.6), abs=1e-6
    )


def test_learned_bits_are_measured_and_a_higher_price_leaves_fewer(tmp_path: Path) -> None:
    means = []
    for price in (0.0, 1.0):
        trial = adaqat({**QUICK, "lambda": price})
        made = training_of(trial, few(train=320, evaluated=50))
        last = list(loop.run(made, workspace_in(tmp_path / str(price))))[-1].measurements[0]
        bits = widths_of(made.network).bits
        means.append(bits.weight)

        assert (last.allocation.label, last.allocator, last.lambda_) == (
            bits.label,
            "learned",
            price,
        )
        assert {one.weight for one in last.layer_bits[1:-1]} == {bits.weight}

    assert means[1] < means[0]


def test_a_restarted_trial_learns_the_same_bits(tmp_path: Path) -> None:
    trial, data = (
        adaqat({**QUICK, "weight_bits_learning_rate": 0.2}, epochs=3),
        few(train=320, evaluated=50),
    )
    whole = list(loop.run(training_of(trial, data), workspace_in(tmp_path / "whole")))
    first = loop.run(training_of(trial, data), workspace_in(tmp_path / "cut"))
    next(first)
    next(first)
    first.close()
    rest = list(loop.run(training_of(trial, data), workspace_in(tmp_path / "cut")))

    assert whole[0].measurements[0].allocation.label != "w8a8"
    assert [one.measurements for one in rest] == [one.measurements for one in whole[1:]]


def test_a_price_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lambda must be a number in \[0, 10\], got -0.1"):
        resolve(DECLARATION.parameters, {"lambda": -0.1})


def test_the_bits_of_the_start_are_those_that_learning_starts_from() -> None:
    assert DECLARATION.learned_from({}) == Bits(weight=8, activation=8)
    assert DECLARATION.learned_from({"start_bits": 4}) == Bits(weight=4, activation=4)
