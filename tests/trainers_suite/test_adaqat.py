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
from torch.nn.functional import cross_entropy

from bitsweep.bits import Bits
from bitsweep.space import Value, resolve
from bitsweep.taking import by_layer
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.adaqat import LearnedWidth, LearnedWidths, loss_at, parts_of
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


def body_loss(made: loop.Training, weight: int, activation: int, *layers: int) -> float:
    """The loss of the batch with these layers of the body, or all, at other bits."""
    body = [layer for _, layer in quantized_layers(made.network.get_submodule("body"))]
    bits = Bits(weight=weight, activation=activation)
    asked = [body[index] for index in layers] or body
    return loss_at(made.network, asked, bits, *batch(made))


def widths_of(made: loop.Training) -> LearnedWidths:
    """The one pair of widths of a whole body."""
    (part,) = parts_of(made.network, made.trial)
    return part.widths


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
    low, high = body_loss(made, 2, 2), body_loss(made, 8, 8)

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
    high, weight, activation = body_loss(made, 8, 8), body_loss(made, 7, 8), body_loss(made, 8, 7)
    made.method.begin_epoch(made.network, trial, 1)
    made.method.backward(made.network, trial, images, labels, made.noise)
    widths = widths_of(made)

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
        bits = widths_of(made).bits
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


PER_LAYER: dict[str, Value] = {**QUICK, "widths": "layer"}


def test_a_layer_moves_by_its_loss_and_its_share_of_the_price() -> None:
    trial = adaqat(PER_LAYER)
    made = training_of(trial, few())
    high, weight, activation = (
        body_loss(made, 8, 8),
        body_loss(made, 7, 8, 0),
        body_loss(made, 8, 7, 0),
    )
    made.method.begin_epoch(made.network, trial, 1)
    made.method.backward(made.network, trial, *batch(made), made.noise)
    first, second = parts_of(made.network, trial)
    # 3x3 kernels at 14 x 14 and 7 x 7 pixels: 16 to 32 and 32 to 64 channels.
    macs = 14 * 14 * 9 * 16 * 32, 7 * 7 * 9 * 32 * 64
    price = 0.2 * 8 * macs[0] / sum(macs)

    assert first.share == pytest.approx(macs[0] / sum(macs))
    assert first.widths.weight.value.item() == pytest.approx(
        min(8.0, 8 - 2 * 0.05 * (high - weight + price)), abs=1e-6
    )
    assert first.widths.activation.value.item() == pytest.approx(
        min(8.0, 8 - 2 * 0.02 * (high - activation + price)), abs=1e-6
    )
    assert second.widths.bits == Bits(weight=8, activation=8)


def test_layers_take_turns_until_they_are_fixed() -> None:
    trial = adaqat(PER_LAYER)
    made = training_of(trial, few())
    parts, asked = parts_of(made.network, trial), []
    for index in range(6):
        if index == 4:
            parts[0].widths.weight.is_fixed.fill_(True)
            parts[0].widths.activation.is_fixed.fill_(True)
        made.method.backward(made.network, trial, *batch(made), made.noise)
        asked.append(tuple(int(one.widths.weight.num_steps) for one in parts))

    assert asked == [(1, 0), (1, 1), (2, 1), (2, 2), (2, 3), (2, 4)]


def test_bits_per_layer_are_measured_kept_and_learned_again(tmp_path: Path) -> None:
    given = {**PER_LAYER, "weight_bits_learning_rate": 0.15, "activation_bits_learning_rate": 0.1}
    trial, data = adaqat(given, epochs=3), few(train=320, evaluated=50)
    made = training_of(trial, data)
    whole = list(loop.run(made, workspace_in(tmp_path / "whole")))
    first = loop.run(training_of(trial, data), workspace_in(tmp_path / "cut"))
    next(first)
    next(first)
    first.close()
    rest = list(loop.run(training_of(trial, data), workspace_in(tmp_path / "cut")))
    widths = [part.widths for part in parts_of(made.network, trial)]
    (last,) = whole[-1].measurements

    assert widths[0].weight.value.item() != widths[1].weight.value.item()
    assert by_layer(last.allocation, len(widths)) == tuple(one.bits for one in widths)
    assert [one.weight for one in last.layer_bits[1:-1]] == [
        one.weight for one in by_layer(last.allocation, len(widths))
    ]
    assert [one.measurements for one in rest] == [one.measurements for one in whole[1:]]


def test_the_widths_of_the_paper_leave_no_trace_in_a_trial() -> None:
    assert adaqat({"widths": "body"}).id == adaqat().id != adaqat({"widths": "layer"}).id


def test_a_price_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lambda must be a number in \[0, 10\], got -0.1"):
        resolve(DECLARATION.parameters, {"lambda": -0.1})


def test_the_bits_of_the_start_are_those_that_learning_starts_from() -> None:
    assert DECLARATION.learned_from({}) == Bits(weight=8, activation=8)
    assert DECLARATION.learned_from({"start_bits": 4}) == Bits(weight=4, activation=4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_asked_at_the_own_bits_is_the_loss_that_is_trained(precision: str) -> None:
    trial = trial_of("adaqat", learns_bits=True, precision=precision)
    made = training_of(trial, few())
    made.network.train()
    images, labels = batch(made)
    bits = widths_of(made).bits
    trained = cross_entropy(made.network(images), labels).item()

    assert body_loss(made, bits.weight, bits.activation) == trained
