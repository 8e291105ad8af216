"""Every method on a data set that is named by its path: whole trials on a CSV of series."""

from pathlib import Path

import pytest
import torch
from tests.trainers_suite.path_trials import LENGTH, trained_on, trial_on, write_series
from torch import nn

from bitsweep.space import Value
from bitsweep.trial import Trial
from bitsweep_trainers import loop, supernet
from bitsweep_trainers.data.paths import data_of_path
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build
from bitsweep_trainers.precision import train_in_bf16

LEARNS: dict[str, dict[str, Value]] = {
    "cpq_dropbits": {"task": "hetero"},
    "adaqat": {"widths": "layer"},
    "bit_mixer": {"search": "greedy"},
    "abn": {"policy": "double_dqn", "policy_share": 0.2, "policy_epochs": 1, "policy_updates": 4},
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of a few random series."""
    return write_series(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    ("method", "given"),
    [
        *((name, {}) for name, one in sorted(DECLARED.items()) if "conv1d" in one.layer_kinds),
        *((name, given) for name, given in LEARNS.items()),
    ],
)
def test_a_trial_on_a_path_is_trained_and_measured(
    method: str, given: dict[str, Value], series: Path, tmp_path: Path
) -> None:
    trial, checkpoint = trained_on(series, tmp_path, method, given)

    assert checkpoint.is_file() and trial.model == "signal-cnn"


def test_bits_that_abn_draws_reach_convolutions_over_series(series: Path) -> None:
    trial = trial_on(series, "abn", {})
    network = converted(trial)
    groups = supernet.decision_layers(network)
    supernet.allocate(network, [2, *[4] * (len(groups) - 1)])
    found = [
        layer.weight_quantizer.bits for _, layer in quantized_layers(network.get_submodule("body"))
    ]

    assert found == [2, *[4] * (len(groups) - 1)]


def test_quantizers_of_series_compute_in_fp32_where_a_network_trains_in_bf16(series: Path) -> None:
    network = converted(trial_on(series, "lsq", {}))
    train_in_bf16(network)
    seen = []
    for _, layer in quantized_layers(network.get_submodule("body")):
        layer.input_quantizer.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0].dtype)
        )
    network.train()
    network(torch.randn(4, 1, LENGTH))

    assert set(seen) == {torch.float32}


def converted(trial: Trial) -> nn.Module:
    data = data_of_path(Path(str(trial.data_path)))
    network = build(trial.model, data.shape, data.classes, loop.stream(0, "model"))
    return method_of(trial.method).convert(network, trial, loop.stream(0, "convert"))
