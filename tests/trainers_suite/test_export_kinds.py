"""Exports of networks for series and vectors, and of networks with bits per layer."""

from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainers_suite.path_trials import trained_on, write_series, write_vectors
from tests.trainers_suite.trials import few

from bitsweep.bits import parse_allocation, tied
from bitsweep.errors import InputError
from bitsweep.exporter import Exported, ExportForm, load_exporter
from bitsweep.space import Value
from bitsweep.trial import Trial
from bitsweep_trainers.export import _compared, trained_network
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.packed.file import load

SERIES = sorted(name for name, one in DECLARED.items() if "conv1d" in one.layer_kinds)
VECTORS = sorted(name for name, one in DECLARED.items() if "regression" in one.learning)
QUICK: dict[str, Value] = {
    "task": "hetero",
    "lambda": 10.0,
    "keep_probability": 0.5,
    "keep_learning_rate": 0.1,
    "finetune_fraction": 0.0,
}


def exported(
    trial: Trial, checkpoint: Path, output: Path, form: ExportForm = "packed", **given: Any
) -> Exported:
    """By the exporter that the trial's trainer has."""
    return load_exporter(trial.trainer)(
        trial, checkpoint, output, form=form, bits=given.get("bits")
    )


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("method", SERIES)
def test_networks_for_series_leave_with_the_claimed_bits_and_their_logits(
    method: str, series: Path, tmp_path: Path
) -> None:
    trial, checkpoint = trained_on(series, tmp_path, method, {})
    said = exported(trial, checkpoint, tmp_path / "x.bits")

    assert said.payload_bits == said.claimed_bits
    for one in said.widths:
        assert one.images == 3 and one.num_correct is not None
        assert (one.num_apart, one.num_agreeing) == (0, 3)


@pytest.mark.parametrize("method", VECTORS)
def test_networks_for_vectors_leave_without_right_answers(method: str, tmp_path: Path) -> None:
    trial, checkpoint = trained_on(write_vectors(tmp_path), tmp_path, method, {})
    said = exported(trial, checkpoint, tmp_path / "x.bits")

    assert said.payload_bits == said.claimed_bits
    for one in said.widths:
        assert (one.num_apart, one.num_agreeing, one.num_correct) == (0, None, None)


@pytest.mark.parametrize(
    ("spoilt", "num_apart"), [(torch.nan, 40), (torch.inf, 40), (0.5, 40), (0.0, 0)]
)
def test_samples_are_apart_whatever_stands_against_a_number(spoilt: float, num_apart: int) -> None:
    data = few(evaluated=40)
    logits = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    said = _compared(lambda _: logits, data, lambda _: logits + spoilt, label="w4a4")

    assert said.num_apart == num_apart
    assert (said.largest_difference is None) == (not isfinite(spoilt))
    assert said.largest_logit == float(logits.abs().max())


def test_what_is_not_finite_in_both_is_the_same() -> None:
    logits = torch.full((40, 10), torch.nan)
    logits[:, 0] = torch.inf
    said = _compared(lambda _: logits, few(evaluated=40), lambda _: logits, label="w4a4")

    assert (said.num_apart, said.largest_difference, said.largest_logit) == (0, 0.0, 0.0)


@pytest.mark.parametrize("method", ["lsq", "ptq", "cpq_dropbits"])
def test_onnx_takes_series(method: str, series: Path, tmp_path: Path) -> None:
    trial, checkpoint = trained_on(series, tmp_path, method, {})
    (one,) = exported(trial, checkpoint, tmp_path / "x.onnx", "onnx", bits=tied(4)).widths

    assert (one.bits, one.num_apart) == ("w4a4", 0)


def test_onnx_takes_vectors(tmp_path: Path) -> None:
    trial, checkpoint = trained_on(write_vectors(tmp_path), tmp_path, "lsq", {})
    (one,) = exported(trial, checkpoint, tmp_path / "x.onnx", "onnx").widths

    assert one.num_apart == 0


@pytest.mark.parametrize("form", ["packed", "onnx"])
@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("cpq_dropbits", QUICK),
        ("adaqat", {"weight_bits_learning_rate": 1.0, "activation_bits_learning_rate": 1.0}),
        ("adaqat", {"weight_bits_learning_rate": 1.0, "widths": "layer"}),
    ],
)
def test_a_network_leaves_at_the_bits_that_it_learned(
    method: str, given: dict[str, Value], form: ExportForm, series: Path, tmp_path: Path
) -> None:
    trial, checkpoint = trained_on(
        series, tmp_path, method, given, epochs=40 if method == "cpq_dropbits" else 8
    )
    said = exported(trial, checkpoint, tmp_path / "x", form)
    chosen = method_of(method).chosen(trained_network(trial, checkpoint), trial)
    (one,) = said.widths

    assert chosen is not None
    assert {bits.weight for bits in chosen.allocation.layers} != {trial.bits[0].weight}
    assert (one.bits, one.num_apart) == (chosen.allocation.label, 0)
    if form == "packed":
        assert said.payload_bits == said.claimed_bits


@pytest.mark.parametrize(
    "method", sorted(name for name, one in DECLARED.items() if one.takes_allocations)
)
def test_a_network_leaves_at_the_bits_that_it_was_given(
    method: str, series: Path, tmp_path: Path
) -> None:
    label = "w=[2,4] a=[8,3]"
    trial, checkpoint = trained_on(series, tmp_path, method, {}, allocation=label)
    said = exported(trial, checkpoint, tmp_path / "x.bits")
    network = load(tmp_path / "x.bits")

    assert said.payload_bits == said.claimed_bits
    assert [(one.bits, one.num_apart) for one in said.widths] == [(label, 0)]
    assert (network.allocation, network.widths) == (label, ())
    assert parse_allocation(label).layers[0].weight == 2
    with pytest.raises(InputError, match=r"holds w=\[2,4\] a=\[8,3\] alone"):
        network.set_bits(4)
    with pytest.raises(InputError, match="leave --bits out"):
        exported(trial, checkpoint, tmp_path / "x", "onnx", bits=tied(4))
