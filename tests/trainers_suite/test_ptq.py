"""PTQ: batch norms fold away, ranges come from calibration, nothing is trained."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.trainers_suite.trials import few, plain_network, trial_of, workspace_in
from torch import nn

from bitsweep.bits import tied
from bitsweep.errors import InputError
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.image import train
from bitsweep_trainers.layers import fold_batch_norms, quantized_layers, select_body
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.quantizers.uniform import RangeRounder, grid_of, least_error_grid

matrices = st.lists(
    st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=6, max_size=6),
    min_size=1,
    max_size=4,
).map(torch.tensor)


def images(count: int = 64) -> torch.Tensor:
    data = few(count)
    return normalise(data.train_images, data.mean, data.std)


def with_statistics(network: nn.Module) -> nn.Module:
    """A network whose batch norms have seen images, in evaluation mode."""
    network.train()
    with torch.no_grad():
        network(images())
    return network.eval()


def converted(*widths: int, **parameters: bool | str) -> nn.Module:
    trial = trial_of("ptq", *widths, start="0" * 64, parameters=parameters)
    method = method_of("ptq")
    network = method.convert(with_statistics(plain_network()), trial, loop.stream(0, "convert"))
    method.calibrate(network, trial, images())
    return network


def rounders(network: nn.Module) -> list[RangeRounder]:
    return [one for one in network.modules() if isinstance(one, RangeRounder)]


@pytest.mark.parametrize("model", ["small-cnn", "lenet5", "resnet8", "resnet8-b"])
def test_folding_batch_norms_changes_no_output(model: str) -> None:
    network = with_statistics(plain_network(model))
    with torch.no_grad():
        before = network(images())
        fold_batch_norms(network)
        after = network(images())

    assert not any(isinstance(one, nn.BatchNorm2d) for one in network.modules())
    assert torch.allclose(before, after, atol=1e-4)


def test_eight_bits_stay_close_to_floating_point_and_two_bits_do_not() -> None:
    network = converted(8)
    with torch.no_grad():
        plain = with_statistics(plain_network())(images())
        errors = {}
        for bits in (8, 2):
            select_body(network, tied(bits))
            errors[bits] = float((network(images()) - plain).abs().mean())

    assert errors[8] < 0.05 < errors[2]


def test_ranges_after_relu_begin_at_zero_and_those_of_images_do_not() -> None:
    minima = [
        float(layer.input_quantizer.get_buffer("minimum"))
        for _, layer in quantized_layers(converted(4))
    ]

    assert minima[0] < 0 and minima[1:] == [0.0, 0.0, 0.0]


@given(weights=matrices, bits=st.integers(2, 8), is_symmetric=st.booleans())
def test_the_least_error_grid_errs_no_more_than_the_whole_range(
    weights: torch.Tensor, bits: int, is_symmetric: bool
) -> None:
    errors = [
        (
            make(weights, bits=bits, is_symmetric=is_symmetric, is_per_channel=True).quantize(
                weights
            )
            - weights
        )
        .square()
        .sum(1)
        for make in (least_error_grid, grid_of)
    ]

    assert bool((errors[0] <= errors[1] * (1 + 1e-4) + 1e-6).all())


def test_an_outlier_is_clipped_where_that_errs_less() -> None:
    values = torch.cat([torch.linspace(-1, 1, 400), torch.tensor([10.0])])
    grid = least_error_grid(values, bits=2, is_symmetric=True, is_per_channel=False)

    assert float(grid.quantize(values).max()) < 5


def test_least_error_ranges_are_shares_of_the_observed_ones() -> None:
    whole, shared = (rounders(converted(2, range=one)) for one in ("min_max", "mse"))
    ratios = [float(b.maximum / a.maximum) for a, b in zip(whole, shared, strict=True)]

    assert all(0 < one <= 1 for one in ratios)
    assert min(ratios) < 0.8
    assert not any(one.is_observing or one.is_weighing for one in shared)


def test_the_range_weighed_over_batches_errs_least_on_them_together() -> None:
    rounder = RangeRounder(bits=2)
    batches = torch.split(torch.linspace(-0.2, 1, 300).square(), 100)
    for phase in ("is_observing", "is_weighing"):
        setattr(rounder, phase, True)
        for batch in batches:
            assert rounder(batch) is batch
        setattr(rounder, phase, False)
    values = torch.cat(batches)
    before = float((rounder(values) - values).square().sum())
    rounder.shrink()

    assert float((rounder(values) - values).square().sum()) < before


def test_least_error_grids_follow_the_bits_there_and_back() -> None:
    network = converted(4, range="mse")
    found = []
    for bits in (4, 2, 4):
        select_body(network, tied(bits))
        with torch.no_grad():
            found.append(network(images()))

    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_ptq_without_a_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a start"):
        next(train(trial_of("ptq"), workspace_in(tmp_path)))


def test_ptq_yields_one_evaluation_at_epoch_0_and_none_when_restarted(tmp_path: Path) -> None:
    start = workspace_in(tmp_path / "start")
    list(train(trial_of("fp32", epochs=2, batch_size=128), start))
    results = {}
    for bits in (2, 8):
        trial = trial_of("ptq", bits, start="0" * 64, splits=("validation", "test"))
        workspace = workspace_in(tmp_path / str(bits), start.final_checkpoint)
        (evaluation,) = train(trial, workspace)
        assert list(train(trial, workspace)) == []
        assert evaluation.epoch == 0
        results[bits] = evaluation.measurements[1].metric("top1_percent")

    assert results[2] < 30 < 60 < results[8]
