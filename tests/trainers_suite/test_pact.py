"""PACT: golden numbers of both gradients of alpha, their laws, what learns and how."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, training_of, trial_of
from torch import Tensor

from bitsweep.bits import Bits
from bitsweep_trainers.evaluate import layer_bits
from bitsweep_trainers.loop import Training
from bitsweep_trainers.quantizers.clipping import ClippedActivations, clipped, clipped_values

X = torch.tensor([-0.5, 0.4, 1.0, 1.9, 2.5, 3.0])
vectors = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=1, max_size=40).map(
    torch.tensor
)
levels = st.floats(0.125, 8, width=32).map(torch.tensor)


def gradients(x: Tensor, *, is_calibrated: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(y_q, dx, dalpha) at alpha 2 and 2 bits for an upstream gradient of ones."""
    x, alpha = x.clone().requires_grad_(), torch.tensor(2.0, requires_grad=True)
    values = clipped(x, alpha, bits=2, is_calibrated=is_calibrated)
    dx, d_alpha = torch.autograd.grad(values.sum(), (x, alpha))
    return values.detach(), dx, d_alpha


def levels_of(made: Training) -> list[ClippedActivations]:
    """The clipping quantizers of a network."""
    return [one for one in made.network.modules() if isinstance(one, ClippedActivations)]


def made(*widths: int, **parameters: Any) -> Training:
    """A calibrated PACT network."""
    return training_of(trial_of("pact", *widths, parameters=parameters), few())


@pytest.mark.parametrize(("is_calibrated", "d_alpha"), [(False, 2.0), (True, 2.35)])
def test_the_goldens_of_values_and_gradients(is_calibrated: bool, d_alpha: float) -> None:
    values, dx, found = gradients(X, is_calibrated=is_calibrated)

    assert values.tolist() == pytest.approx([0, 2 / 3, 4 / 3, 2, 2, 2], abs=1e-5)
    assert dx.tolist() == pytest.approx([0, 1, 1, 1, 0, 0], abs=1e-6)
    assert float(found) == pytest.approx(d_alpha, abs=1e-5)


def test_the_golden_of_the_calibrated_gradient_value_by_value() -> None:
    each = [float(gradients(one, is_calibrated=True)[2]) for one in X]

    assert each == pytest.approx([0, 0.133333, 0.166667, 0.05, 1, 1], abs=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("level", [1.3, 1e-9, -0.5])
@pytest.mark.parametrize(("backend", "bits"), [("eager", 2), ("eager", 8), ("compiled", 3)])
def test_values_in_few_passes_equal_the_composed_formula(
    backend: str, bits: int, level: float, layout: torch.memory_format
) -> None:
    draws = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(4, 6, 5, 3, generator=draws) for _ in range(2))
    x.view(-1)[:5] = torch.tensor([0.0, -0.0, level, -1e-45, 5.0])
    results = []
    for one in (clipped, partial(clipped_values, backend=backend)):
        values = x.contiguous(memory_format=layout).requires_grad_()
        alpha = torch.tensor(level, requires_grad=True)
        y = one(values, alpha, bits=bits)
        results.append((y.detach(), *torch.autograd.grad(y, (values, alpha), upstream)))
    composed, found = results

    for wanted, got in zip(composed, found, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-6)
    if backend == "eager":
        assert torch.equal(found[0], composed[0]) and torch.equal(found[1], composed[1])


def test_a_value_at_alpha_counts_as_clipped() -> None:
    _, dx, d_alpha = gradients(torch.tensor([2.0]), is_calibrated=False)

    assert (dx.tolist(), float(d_alpha)) == ([0.0], 1.0)


@given(x=vectors, alpha=levels, bits=st.integers(1, 8))
def test_values_are_few_ordered_within_the_level_and_fixed_points(
    x: Tensor, alpha: Tensor, bits: int
) -> None:
    values = clipped(x.sort().values, alpha, bits=bits)

    assert len(torch.unique(values)) <= 2**bits
    assert bool((values.diff() >= 0).all())
    assert bool((values >= 0).all()) and bool((values <= alpha).all())
    assert torch.allclose(clipped(values, alpha, bits=bits), values, atol=1e-5)


@given(x=vectors, alpha=levels)
def test_sixteen_bits_recover_clipping(x: Tensor, alpha: Tensor) -> None:
    error = clipped(x, alpha, bits=16) - x.clamp(min=0).minimum(alpha)

    assert float(error.abs().max()) < 1e-3 * float(alpha)


def test_a_level_below_zero_stays_usable_and_learns() -> None:
    alpha = torch.tensor(-1.0, requires_grad=True)
    values = clipped(X, alpha, bits=2)
    (gradient,) = torch.autograd.grad(values.sum(), alpha)

    assert bool(torch.isfinite(values).all())
    assert float(gradient) > 0


@given(x=vectors.filter(lambda one: float(one.max()) > 0), bits=st.integers(2, 6))
def test_the_level_of_least_error_errs_no_more_than_the_largest_value(
    x: Tensor, bits: int
) -> None:
    quantizer = ClippedActivations(bits=bits, alpha=1.0, is_calibrated=False)
    quantizer.initialise(x)
    positive = x.clamp(min=0)
    at_peak = clipped(positive, positive.max(), bits=bits)

    least = float((quantizer(positive) - positive).detach().square().sum())
    assert least <= float((at_peak - positive).square().sum()) * (1 + 1e-4) + 1e-6


def test_levels_start_where_they_are_told() -> None:
    fixed = [one.alpha.item() for one in levels_of(made(4, alpha_init="fixed", alpha=7.5))]
    found = [one.alpha.item() for one in levels_of(made(4))]

    assert fixed == [7.5, 7.5]
    assert all(0 < one < 7.5 for one in found)


def test_levels_learn_and_decay_at_their_own_rates() -> None:
    training = made(4, learning_rate=0.2, alpha_learning_rate_ratio=0.5, alpha_decay=0.003)
    groups = {one.name: one for one in training.groups}

    assert groups["alphas"].learning_rate == pytest.approx(0.1)
    assert groups["alphas"].weight_decay == 0.003
    assert len(groups["alphas"].parameters) == 2


def test_the_trial_chooses_the_gradient_of_alpha() -> None:
    for gradient in ("paper", "calibrated"):
        quantizers = levels_of(made(4, alpha_gradient=gradient))

        assert {one.is_calibrated for one in quantizers} == {gradient == "calibrated"}


def test_without_activation_bits_nothing_about_alpha_remains() -> None:
    bits = (Bits(weight=4, activation=32),)
    trial = trial_of("pact", bits=bits, parameters={"activation_bits": 32})
    training = training_of(trial, few(train=32))

    assert not any(name.startswith("alpha") for name in trial.parameters)
    assert {one.name: len(one.parameters) for one in training.groups}["alphas"] == 0
    assert [one.scalars for one in layer_bits(trial, bits[0])] == [2, 0, 0, 2]


def test_one_alpha_is_stored_for_each_input() -> None:
    trial = trial_of("pact", 4)

    assert [one.scalars for one in layer_bits(trial, trial.bits[0])] == [2, 1, 1, 2]
