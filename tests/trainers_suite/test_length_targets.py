"""A target of mean bits for learned lengths: its price, its readout, where trainings end."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.test_lengths import FAST, learning, logits_of, run, set_logits
from tests.trainers_suite.trials import few, training_of

from bitsweep.cost import MeanBits, mean_bits
from bitsweep_trainers.lengths import body_layers, layer_shares, length_penalty, levels_within
from bitsweep_trainers.quantizers.cluster_promoting import expected_levels, quantizers

BARELY_KEPT = -2.3  # S(p) > 1/12: read out, though P(z > 0) is 0.33


@pytest.mark.parametrize(
    ("logit", "price"), [(20.0, 1.0 * (4 - 2.5)), (BARELY_KEPT, 4 - 2.5), (-20.0, 0.0)]
)
def test_with_a_target_only_bits_read_out_above_it_cost(logit: float, price: float) -> None:
    trial = learning({"lambda": 1.0, "target_bits": 2.5})
    network = training_of(trial, few()).network
    set_logits(network, logit)
    found = length_penalty(network, trial)

    assert found is not None and found.item() == pytest.approx(price, abs=1e-5)


def test_the_price_above_a_target_has_the_slope_of_the_expected_bits() -> None:
    trial = learning({"lambda": 2.0, "target_bits": 2.5, "reg_weight": "size"})
    network = training_of(trial, few()).network
    set_logits(network, BARELY_KEPT)
    logits, price = logits_of(network), length_penalty(network, trial)
    assert price is not None
    levels = expected_levels([one for one in quantizers(network) if one.masks])
    shares = levels.new_tensor(layer_shares(body_layers(trial), "size"))

    slopes = torch.autograd.grad(2.0 * (levels * shares).sum() / shares.sum(), logits)
    for found, slope in zip(torch.autograd.grad(price, logits), slopes, strict=True):
        assert torch.allclose(found, slope) and bool((found > 0).all())


@pytest.mark.parametrize("target", [2.5, 3.0, 3.5])
def test_a_training_ends_at_its_target_of_mean_bits(target: float, tmp_path: Path) -> None:
    trial = learning({**FAST, "target_bits": target}, epochs=4)
    last = run(trial, tmp_path, train=640)[-1].measurements[0]

    assert mean_bits(body_layers(trial), last.layer_bits[1:-1], MeanBits.LAYER) == target


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-6, 6), min_size=2, max_size=2), st.floats(0.1, 1)),
        min_size=1,
        max_size=5,
    ),
    st.floats(0, 2),
)
def test_levels_within_a_target_are_the_likeliest_that_fit(
    layers: list[tuple[list[float], float]], most: float
) -> None:
    logits, shares = [row for row, _ in layers], [share for _, share in layers]
    kept = levels_within(logits, shares, most)
    total = sum(share * levels for share, levels in zip(shares, kept, strict=True))

    assert all(0 <= one <= 2 for one in kept)
    assert total <= (most + 1e-3) * sum(shares)
    next_shares = [share for share, levels in zip(shares, kept, strict=True) if levels < 2]
    assert all(total + share > (most - 1e-3) * sum(shares) for share in next_shares)
