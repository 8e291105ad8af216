"""Interval quantization against golden numbers and the laws of its gradients."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitsweep_trainers.quantizers.interval import (
    EAGER,
    FORMULAS,
    WEIGHT_LEVELS,
    Kernels,
    activation_range,
    compiled_kernels,
    interval_codes,
    kernels_of,
    weight_range,
    weight_values,
)

WEIGHTS = [-0.9, -0.3, 0.1, 0.6]
ACTIVATIONS = [-0.2, 0, 0.11, 0.37, 0.8, 1.3, 2.4]


def gradients(
    values: list[float],
    ends: tuple[float, float],
    *,
    levels: int,
    upstream: list[float],
    is_weight: bool,
) -> tuple[Tensor, Tensor, float, float]:
    """(values of the codes, dx, dl, du) of one row."""
    x = torch.tensor(values).view(1, 1, -1).requires_grad_()
    lower, upper = (torch.tensor([end], requires_grad=True) for end in ends)
    codes = interval_codes(x, lower, upper, torch.tensor([float(levels)]))
    quantized = weight_values(codes) if is_weight else codes / levels
    torch.autograd.backward(quantized, torch.tensor(upstream).view(1, 1, -1))
    assert x.grad is not None and lower.grad is not None and upper.grad is not None
    return quantized.detach().flatten(), x.grad.flatten(), lower.grad.item(), upper.grad.item()


def close(found: Tensor, expected: Sequence[float]) -> bool:
    return torch.allclose(found, torch.tensor(expected, dtype=found.dtype), atol=1e-5)


def test_symmetric_two_bit_weights_have_the_golden_values_and_gradients() -> None:
    values, dw, dl, du = gradients(
        WEIGHTS, (-0.75, 0.75), levels=3, upstream=[1, -2, 0.5, 3], is_weight=True
    )

    assert close(values, [-1, -1 / 3, 1 / 3, 1])
    assert close(dw, [0, -2.666667, 0.666667, 4])
    assert (dl, du) == pytest.approx((1.177778, -3.177778), abs=1e-5)


def test_asymmetric_two_bit_weights_have_the_golden_values_and_gradients() -> None:
    values, dw, dl, du = gradients(
        WEIGHTS, (-0.5, 0.7), levels=3, upstream=[1, 1, 1, 1], is_weight=True
    )

    assert close(values, [-1, -1, 1 / 3, 1])
    assert close(dw, [0, 1.666667, 1.666667, 1.666667])
    assert (dl, du) == pytest.approx((-2.361111, -2.638889), abs=1e-5)


def test_weight_ranges_begin_at_three_unbiased_standard_deviations() -> None:
    weights = torch.tensor([WEIGHTS])
    lower, upper = weight_range(weights, 3.0)
    codes = interval_codes(weights.unsqueeze(0), lower, upper, torch.tensor([3.0]))

    assert (lower.item(), upper.item()) == pytest.approx((-1.903287, 1.903287), abs=1e-5)
    assert close(weight_values(codes).flatten(), [-1 / 3, -1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (2, [0, 0, 0, 1, 1, 2, 3]),
        (3, [0, 0, 0, 1, 3, 5, 7]),
        (4, [0, 0, 1, 3, 6, 10, 15]),
        (6, [0, 0, 3, 12, 25, 41, 63]),
        (8, [0, 0, 14, 47, 102, 166, 255]),
    ],
)
def test_activations_have_the_golden_codes_and_gradients(bits: int, expected: list[int]) -> None:
    levels = 2**bits - 1
    values, dx, dl, du = gradients(
        ACTIVATIONS, (0.0, 2.0), levels=levels, upstream=[1.0] * 7, is_weight=False
    )

    assert (values * levels).round().int().tolist() == expected
    assert close(dx, [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0])
    assert (dl, du) == pytest.approx((-1.855, -0.645), abs=1e-5)


def test_activations_above_a_positive_lower_end_have_the_golden_gradients() -> None:
    values, dx, dl, du = gradients(
        ACTIVATIONS, (0.1, 1.1), levels=3, upstream=[1.0] * 7, is_weight=False
    )

    assert close(values, [0, 0, 0, 1 / 3, 2 / 3, 1, 1])
    assert close(dx, [0, 0, 1, 1, 1, 0, 0])
    assert (dl, du) == pytest.approx((-2.02, -0.98), abs=1e-5)


def test_activation_ranges_begin_at_the_minimum_and_the_half_normal_end() -> None:
    x = torch.tensor([0, 0, 0.5, 1, 0, 2, 0.25, 0]).view(2, 1, 4)
    lower, upper = activation_range(x)

    assert (lower.item(), upper.item()) == pytest.approx((0.0, 3.546438), abs=1e-5)


def test_unknown_backends_are_refused() -> None:
    assert kernels_of("eager") is EAGER
    with pytest.raises(ValueError, match="backend"):
        kernels_of("quick")


FLOATS = st.floats(-4, 4, allow_nan=False, width=32)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(FLOATS, min_size=1, max_size=12),
    lower=st.floats(-2, 0.5, width=32),
    width=st.floats(0.25, 3, width=32),
    bits=st.integers(2, 8),
)
def test_gradients_obey_scale_and_shift_invariance_element_by_element(
    values: list[float], lower: float, width: float, bits: int
) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    each = x.view(1, -1, 1).requires_grad_()  # a row each, so that dl and du are per element
    ends = [
        torch.full((x.numel(),), end, dtype=torch.float64, requires_grad=True)
        for end in (lower, lower + width)
    ]
    levels = torch.full((x.numel(),), 2.0**bits - 1, dtype=torch.float64)
    torch.autograd.backward(interval_codes(each, ends[0], ends[1], levels).sum())
    dx, dl, du = (one.grad.flatten() for one in (each, *ends) if one.grad is not None)
    euler = x * dx + ends[0] * dl + ends[1] * du

    assert torch.allclose(euler, torch.zeros_like(euler), atol=1e-9 * 2**bits)
    assert torch.allclose(dx + dl + du, torch.zeros_like(dx), atol=1e-9 * 2**bits)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(FLOATS, min_size=2, max_size=30), bits=st.integers(2, 4))
def test_codes_are_few_monotone_whole_and_idempotent(values: list[float], bits: int) -> None:
    levels = torch.tensor([2.0**bits - 1])
    x = torch.tensor(values).sort().values.view(1, 1, -1)
    codes = interval_codes(x, torch.tensor([-1.0]), torch.tensor([2.0]), levels)
    decoded = codes / levels * 3 - 1
    again = interval_codes(decoded, torch.tensor([-1.0]), torch.tensor([2.0]), levels)

    assert len(set(codes.flatten().tolist())) <= 2**bits
    assert bool((codes.diff(dim=2) >= 0).all()) and torch.equal(codes, codes.round())
    assert torch.equal(again, codes)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(FLOATS, min_size=1, max_size=20), factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_codes_are_unchanged_when_values_and_range_are_scaled_together(
    values: list[float], factor: float
) -> None:
    x = torch.tensor(values).view(1, 1, -1)
    lower, upper, levels = torch.tensor([-0.75]), torch.tensor([1.25]), torch.tensor([3.0])
    plain = interval_codes(x, lower, upper, levels)
    scaled = interval_codes(x * factor, lower * factor, upper * factor, levels)

    assert torch.equal(plain, scaled)


def test_weight_values_are_odd_for_a_symmetric_range_away_from_ties() -> None:
    weights = torch.tensor([0.05, 0.2, 0.45, 0.7, 1.5]).view(1, 1, -1)
    ends = torch.tensor([-0.75]), torch.tensor([0.75]), torch.tensor([float(WEIGHT_LEVELS)])

    assert torch.allclose(
        weight_values(interval_codes(weights, *ends)),
        -weight_values(interval_codes(-weights, *ends)),
    )


def run_kernels(kernels: Kernels, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 7, generator=generator, dtype=dtype).relu().requires_grad_()
    lower = torch.tensor([0.0, 0.1, -0.2], dtype=dtype, requires_grad=True)
    upper = torch.tensor([1.0, 1.5, 0.7], dtype=dtype, requires_grad=True)
    levels = torch.tensor([3.0, 7.0, 15.0], dtype=dtype)
    codes = interval_codes(x, lower, upper, levels, kernels=kernels)
    torch.autograd.backward(codes, torch.randn(5, 3, 7, generator=generator, dtype=dtype))
    return [codes.detach()] + [one.grad for one in (x, lower, upper) if one.grad is not None]


def test_eager_kernels_agree_with_the_formulas_that_are_compiled() -> None:
    eager, formulas = (run_kernels(one, torch.float64) for one in (EAGER, FORMULAS))

    assert all(map(partial(torch.allclose, atol=1e-12), eager, formulas))


@pytest.mark.real
def test_compiled_kernels_agree_with_the_eager_ones() -> None:
    eager, compiled = (run_kernels(one, torch.float32) for one in (EAGER, compiled_kernels()))

    assert all(map(partial(torch.allclose, atol=1e-5), eager, compiled))
