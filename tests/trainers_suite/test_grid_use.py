"""What a CPQ trial's log tells of its grids: zero cells, kept points, bits against the target."""

import logging
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in
from torch import nn

from bitsweep.space import Value
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.grid_use import grid_uses, log_grid_use
from bitsweep_trainers.quantizers.cluster_promoting import quantizers

KEPT, DROPPED = 4.0, -4.0


def learning(given: dict[str, Value]) -> Trial:
    parameters = {"task": "hetero", **given}
    return trial_of("cpq_dropbits", 4, parameters=parameters, epochs=2, learns_bits=True)


def keep(network: nn.Module, logits: list[float]) -> None:
    for one in quantizers(network):
        if one.keep_logits is not None:
            one.keep_logits.data.copy_(torch.tensor(logits))


def test_the_share_of_zeros_is_counted_on_what_evaluation_gives() -> None:
    network = training_of(trial_of("cpq_dropbits", 4), few()).network.eval()
    layer = network.get_submodule("body.conv1")
    quantized = layer.get_submodule("weight_quantizer")(layer.get_parameter("weight"))
    (first, _) = grid_uses(network)

    assert first.layer == "body.conv1"
    assert 0 < first.zero_share < 1
    assert first.zero_share == pytest.approx((quantized == 0).float().mean().item())


def test_points_in_holes_are_not_counted() -> None:
    network = training_of(learning({"nest": False}), few()).network
    keep(network, [DROPPED, KEPT])

    assert {(one.length, one.points, one.code_bits) for one in grid_uses(network)} == {(4, 11, 4)}
    keep(network, [KEPT, DROPPED])
    assert {(one.length, one.points, one.code_bits) for one in grid_uses(network)} == {(3, 7, 3)}


def test_a_length_is_told_against_its_target(caplog: pytest.LogCaptureFixture) -> None:
    trial = learning({"target_bits": 3.0})
    network = training_of(trial, few()).network
    keep(network, [KEPT, DROPPED])
    with caplog.at_level(logging.INFO):
        log_grid_use(network, trial, epoch=1)

    (said,) = caplog.messages
    assert said.startswith("after epoch 1: weights in the zero cell: body.conv1 ")
    assert "lengths: body.conv1 3 bits (7 points: 3), body.conv2 3 bits (7 points: 3)" in said
    assert said.endswith("mean 3.000 bits against a target of 3")


def test_every_epoch_of_a_training_has_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trial_of("cpq_dropbits", 4, epochs=2)
    with caplog.at_level(logging.INFO):
        for _ in loop.run(training_of(trial, few(train=64, evaluated=20)), workspace_in(tmp_path)):
            pass
    told = [one.split(":")[0] for one in caplog.messages if "zero cell" in one]

    assert told == ["after epoch 1", "after epoch 2"]
    assert not any("lengths" in one for one in caplog.messages)
