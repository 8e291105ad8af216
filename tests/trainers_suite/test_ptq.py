"""PTQ: batch norms fold away, ranges come from calibration, nothing is trained."""

from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, plain_network, trial_of, workspace_in
from torch import nn

from bitsweep.bits import tied
from bitsweep.errors import InputError
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.image import train
from bitsweep_trainers.layers import fold_batch_norms, quantized_layers, select_body
from bitsweep_trainers.methods.table import method_of


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
