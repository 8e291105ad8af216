"""The image trainer as the platform sees it: evaluations, checkpoints, starts, refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from tests.trainers_suite.trials import plain_network, trial_of, workspace_in

from bitsweep.errors import InputError
from bitsweep.recipe import Recipe
from bitsweep.trainer import Trainer, Workspace, load_trainer
from bitsweep.trial import parse_trial
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.load import load
from bitsweep_trainers.image import device_of, start_network, train

BATCH = 500


def trained_start(folder: Path, **changes: Any) -> Path:
    """The final checkpoint of a short fp32 trial."""
    workspace = workspace_in(folder)
    fields = {"epochs": 1, "batch_size": BATCH} | changes
    list(train(trial_of("fp32", **fields), workspace))
    return workspace.final_checkpoint


def test_the_entry_point_names_this_trainer() -> None:
    assert load_trainer("image") is train
    assert isinstance(train, Trainer)


def test_a_gpu_is_used_where_one_was_set_aside_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = workspace_in(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(here) == torch.device("cpu")
    assert device_of(replace(here, uses_gpu=True)) == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        InputError, match=r"gpus_per_worker asks for a GPU, and torch .* sees none"
    ):
        next(train(trial_of("fp32", batch_size=BATCH), replace(here, uses_gpu=True)))


def test_test_is_measured_once_after_the_last_epoch_when_asked_for(tmp_path: Path) -> None:
    trial = trial_of("fp32", batch_size=BATCH, splits=("validation", "test"))
    evaluations = list(train(trial, workspace_in(tmp_path)))

    assert [one.epoch for one in evaluations] == [1, 2]
    assert [[m.split for m in one.measurements] for one in evaluations] == [
        ["validation"],
        ["validation", "test"],
    ]
    assert [one.total for one in evaluations[1].measurements] == [1000, 2000]
    assert [one.examples for one in evaluations] == [5000, 10000]


def test_the_answers_on_test_are_those_of_the_trained_network(tmp_path: Path) -> None:
    trial = trial_of("fp32", batch_size=BATCH, splits=("validation", "test"), epochs=1)
    (last,) = train(trial, workspace_in(tmp_path))
    validation, test = last.measurements
    data = load(trial.data)
    network = start_network(
        replace(trial, start="x" * 64),
        Workspace(folder=tmp_path, start_checkpoint=workspace_in(tmp_path).final_checkpoint),
    ).eval()
    with torch.no_grad():
        logits = network(normalise(data.test_images, data.mean, data.std))
    hits = logits.argmax(1) == data.test_labels

    assert validation.answers is None
    assert test.answers == numpy.packbits(hits.numpy()).tobytes()


def test_an_fp32_checkpoint_is_a_plain_network_with_its_trial(tmp_path: Path) -> None:
    document = torch.load(trained_start(tmp_path), weights_only=True)
    plain_network().load_state_dict(document["network"])

    assert parse_trial(document["trial"]).method == "fp32"


def test_a_trial_with_a_start_begins_from_its_weights(tmp_path: Path) -> None:
    start = trained_start(tmp_path / "start", batch_size=50)
    cold = trial_of("lsq", 8, epochs=1, batch_size=BATCH, parameters={"learning_rate": 1e-6})
    warm = trial_of(
        "lsq", 8, epochs=1, batch_size=BATCH, parameters={"learning_rate": 1e-6}, start="0" * 64
    )
    (without,) = train(cold, workspace_in(tmp_path / "cold"))
    (with_start,) = train(warm, workspace_in(tmp_path / "warm", start))

    assert with_start.measurements[0].metric("top1_percent") > 40
    assert without.measurements[0].metric("top1_percent") < 30


def test_a_start_of_another_model_is_refused(tmp_path: Path) -> None:
    start = trained_start(tmp_path / "start")
    trial = trial_of("lsq", model="resnet8", start="0" * 64)

    with pytest.raises(InputError, match="expected a checkpoint of resnet8"):
        next(train(trial, workspace_in(tmp_path / "other", start)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "precision must be one of"),
        ({"backend": "auto"}, "backend must be one of"),
        ({"world_size": 2, "precision": "bf16"}, "with precision it is not proved"),
        ({"world_size": 2, "recipe": Recipe(ema_decay=0.9)}, "with ema_decay it is not proved"),
        (
            {"world_size": 2, "recipe": Recipe(micro_batch_size=1)},
            "with micro_batch_size it is not",
        ),
        ({"world_size": 2, "allocation": "w3a3"}, "over several workers with bits that were"),
        ({"data_sha256": "0" * 64}, "another version of the data set"),
        ({"start": "0" * 64}, "no checkpoint came"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        next(train(trial_of("fp32", **changes), workspace_in(tmp_path)))


def test_compiled_kernels_without_a_compiler_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(InputError, match="no 'no-such-compiler'"):
        next(train(trial_of("lsq", backend="compiled"), workspace_in(tmp_path)))


def test_the_same_trial_twice_gives_identical_measurements(tmp_path: Path) -> None:
    trial = trial_of("lsq", 2, epochs=1, batch_size=BATCH)
    (first,) = train(trial, workspace_in(tmp_path / "first"))
    (second,) = train(trial, workspace_in(tmp_path / "second"))

    assert first.measurements == second.measurements


def test_a_quantized_checkpoint_gives_its_weights_and_norms(tmp_path: Path) -> None:
    first = workspace_in(tmp_path / "lsq")
    list(train(trial_of("lsq", 4, epochs=1, batch_size=BATCH), first))
    kept = torch.load(first.final_checkpoint, weights_only=True)["network"]
    trial = trial_of("cpq_dropbits", 3, start="0" * 64)
    network = start_network(trial, workspace_in(tmp_path / "cpq", first.final_checkpoint))

    state = network.state_dict()
    assert state.keys() < kept.keys()
    assert all(torch.equal(one, kept[name]) for name, one in state.items())


def test_a_checkpoint_without_plain_norms_is_refused(tmp_path: Path) -> None:
    first = workspace_in(tmp_path / "adabits")
    list(train(trial_of("adabits", 4, epochs=1, batch_size=BATCH), first))
    trial = trial_of("lsq", start="0" * 64)

    with pytest.raises(InputError, match="with its own layers and norms"):
        start_network(trial, workspace_in(tmp_path / "lsq", first.final_checkpoint))


@pytest.mark.parametrize(
    ("method", "allocation", "message"),
    [
        ("alq", "w=[2,3] a=[4,4]", "alq cannot run given bits per layer"),
        ("cpq_dropbits", "unknown", "has no bits: what it takes them from failed"),
    ],
)
def test_an_allocation_that_cannot_be_run_is_refused(
    method: str, allocation: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        next(train(trial_of(method, allocation=allocation), workspace_in(tmp_path)))
