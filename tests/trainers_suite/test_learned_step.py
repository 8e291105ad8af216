"""LSQ: golden numbers, the closed form against autograd, eager against compiled."""

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitsweep_trainers.quantizers.learned_step import (
    EAGER,
    Kernels,
    LearnedStep,
    code_bounds,
    compiled_kernels,
    initial_step,
    kernels_of,
    learned_step,
)
from bitsweep_trainers.quantizers.ste import round_ste, scale_gradient

X_A = torch.tensor([-1.30, -0.62, -0.20, 0.05, 0.30, 0.74, 1.10, 2.00])
U_A = torch.tensor([1.0, -1, 2, 1, 1, -1, 0.5, 1])
X_B = torch.tensor([-0.3, 0.1, 0.26, 0.9, 1.4, 2.2])


def gradients(
    x: Tensor,
    u: Tensor,
    *,
    step: float,
    bounds: tuple[int, int],
    gradient_scale: float = 1.0,
    kernels: Kernels = EAGER,
) -> tuple[Tensor, Tensor, Tensor]:
    """(x_hat, dx, ds) of the closed form."""
    x, s = x.clone().requires_grad_(), torch.tensor(step, dtype=x.dtype, requires_grad=True)
    low, high = bounds
    x_hat = learned_step(x, s, low=low, high=high, gradient_scale=gradient_scale, kernels=kernels)
    dx, ds = torch.autograd.grad(x_hat, (x, s), u)
    return x_hat.detach(), dx, ds


def composed(
    x: Tensor, u: Tensor, *, step: float, bounds: tuple[int, int], gradient_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x_hat, dx, ds) by autograd over the straight-through pieces, as the paper writes it."""
    x, s = x.clone().requires_grad_(), torch.tensor(step, dtype=x.dtype, requires_grad=True)
    scaled = scale_gradient(s, gradient_scale)
    x_hat = round_ste((x / scaled).clamp(*bounds)) * scaled
    dx, ds = torch.autograd.grad(x_hat, (x, s), u)
    return x_hat.detach(), dx, ds


def test_golden_a_signed_at_3_bits() -> None:
    scale = 1 / sqrt(8 * 3)
    bounds = code_bounds(3, is_signed=True)
    x_hat, dx, raw = gradients(X_A, U_A, step=0.5, bounds=bounds)
    _, _, ds = gradients(X_A, U_A, step=0.5, bounds=bounds, gradient_scale=scale)

    assert x_hat.tolist() == pytest.approx([-1.5, -0.5, 0, 0, 0.5, 0.5, 1.0, 1.5], abs=1e-5)
    assert dx.tolist() == pytest.approx([*U_A[:-1].tolist(), 0.0])
    assert float(raw) == pytest.approx(3.84, abs=1e-5)
    assert scale == pytest.approx(0.204124, abs=1e-6)
    assert float(ds) == pytest.approx(0.783837, abs=1e-5)
    assert float(initial_step(X_A, 3)) == pytest.approx(0.910770, abs=1e-5)


def test_golden_b_unsigned_at_2_bits() -> None:
    scale = 1 / sqrt(6 * 3)
    bounds = code_bounds(2, is_signed=False)
    x_hat, dx, raw = gradients(X_B, torch.ones(6), step=0.6, bounds=bounds)
    _, _, ds = gradients(X_B, torch.ones(6), step=0.6, bounds=bounds, gradient_scale=scale)

    assert x_hat.tolist() == pytest.approx([0, 0, 0, 0.6, 1.2, 1.8], abs=1e-5)
    assert dx.tolist() == [0, 1, 1, 1, 1, 0]
    assert float(raw) == pytest.approx(1.566667, abs=1e-5)
    assert float(ds) == pytest.approx(0.369267, abs=1e-5)


@given(
    seed=st.integers(0, 10_000),
    bits=st.integers(2, 8),
    is_signed=st.booleans(),
    step=st.floats(0.01, 2.0),
)
@settings(max_examples=60, deadline=None)
def test_the_closed_form_equals_autograd(
    seed: int, bits: int, is_signed: bool, step: float
) -> None:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 4, 2, dtype=torch.float64, generator=draws)
    u = torch.randn(3, 4, 2, dtype=torch.float64, generator=draws)
    bounds = code_bounds(bits, is_signed=is_signed)
    closed = gradients(x, u, step=step, bounds=bounds, gradient_scale=0.3)
    reference = composed(x, u, step=step, bounds=bounds, gradient_scale=0.3)

    for one, other in zip(closed, reference, strict=True):
        assert torch.allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(64,), (8, 6, 5, 5), (3, 7)])
def test_compiled_kernels_give_the_numbers_of_the_eager_ones(
    bits: int, shape: tuple[int, ...]
) -> None:
    draws = torch.Generator().manual_seed(bits)
    x, u = torch.randn(shape, generator=draws), torch.randn(shape, generator=draws)
    bounds = code_bounds(bits, is_signed=True)
    eager = gradients(x, u, step=0.1, bounds=bounds)
    compiled = gradients(x, u, step=0.1, bounds=bounds, kernels=compiled_kernels())

    for one, other in zip(eager, compiled, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-5)
    assert torch.allclose(eager[0], compiled[0], rtol=0, atol=1e-6)


def test_memory_format_changes_no_number_and_is_kept() -> None:
    draws = torch.Generator().manual_seed(0)
    x, u = torch.randn(2, 3, 4, 5, generator=draws), torch.randn(2, 3, 4, 5, generator=draws)
    last = x.contiguous(memory_format=torch.channels_last)
    plain = gradients(x, u, step=0.3, bounds=(-4, 3))
    other = gradients(last, u, step=0.3, bounds=(-4, 3))
    strided = gradients(
        x.repeat(1, 2, 1, 1)[:, ::2], u.repeat(1, 1, 1, 1), step=0.3, bounds=(-4, 3)
    )

    assert other[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain[0], other[0]) and torch.equal(plain[1], other[1])
    assert float(plain[2]) == pytest.approx(float(other[2]), rel=1e-5)
    assert strided[0].shape == x.shape


@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), is_signed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_levels_idempotence_and_order_hold_at_every_width(
    seed: int, bits: int, is_signed: bool
) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed))
    low, high = code_bounds(bits, is_signed=is_signed)
    step = initial_step(x, high)
    x_hat = learned_step(x, step, low=low, high=high)

    assert len(torch.unique(x_hat)) <= 2**bits
    assert torch.equal(learned_step(x_hat, step, low=low, high=high), x_hat)
    ordered = learned_step(x.sort().values, step, low=low, high=high)
    assert bool((ordered.diff() >= 0).all())


def test_sixteen_bits_recover_the_values() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    low, high = code_bounds(16, is_signed=True)
    x_hat = learned_step(x, x.abs().max() / high, low=low, high=high)

    assert float((x_hat - x).abs().max()) < 1e-3 * float(x.abs().max())


def test_a_step_driven_below_zero_stays_finite_and_learns() -> None:
    x_hat, dx, ds = gradients(X_A, U_A, step=-0.1, bounds=(-4, 3))

    assert bool(torch.isfinite(x_hat).all() and torch.isfinite(dx).all() and torch.isfinite(ds))
    assert float(ds) != 0


def test_switching_bits_and_back_loses_nothing() -> None:
    quantizer = LearnedStep(bits=4, role="activation")
    x = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    quantizer.initialise(x)
    before = quantizer(x)
    quantizer.bits = 2
    assert len(torch.unique(quantizer(x))) <= 4
    quantizer.bits = 32
    assert torch.equal(quantizer(x), x)
    quantizer.bits = 4

    assert torch.equal(quantizer(x), before)


def test_the_sign_comes_from_the_data_and_survives_a_checkpoint() -> None:
    quantizer, restored = (LearnedStep(bits=3, role="activation") for _ in range(2))
    quantizer.initialise(torch.tensor([[-1.0, 1.0]]))
    restored.load_state_dict(quantizer.state_dict())

    assert restored.bounds == (-4, 3)
    quantizer.initialise(torch.tensor([[0.0, 1.0]]))
    assert quantizer.bounds == (0, 7)


@pytest.mark.parametrize(("counts_batch", "count"), [(False, 12), (True, 60)])
def test_the_gradient_scale_counts_the_features_of_one_sample_or_of_the_batch(
    counts_batch: bool, count: int
) -> None:
    quantizer = LearnedStep(bits=2, role="activation", n_counts_batch=counts_batch)
    x = torch.full((5, 3, 2, 2), 10.0)  # all clipped: each element adds Qp = 3
    quantizer(x).sum().backward()

    assert quantizer.step.grad is not None
    expected = 60 * 3 / sqrt(count * 3)
    assert float(quantizer.step.grad) == pytest.approx(expected, rel=1e-5)


def test_the_step_of_images_covers_their_range_and_does_not_learn() -> None:
    quantizer = LearnedStep(bits=8, role="images")
    quantizer.initialise(torch.tensor([[-0.5, 2.0]]))

    assert float(quantizer.step) == pytest.approx(2.0 / 127)
    assert not quantizer.step.requires_grad


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="'eagre'"):
        kernels_of("eagre")
