"""Whole trials on a device that is not the CPU: nothing stays behind, nothing changes.

No GPU is needed, and nothing is said of a GPU's speed or last digits.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainers_suite.path_trials import trial_on, write_series, write_vectors
from tests.trainers_suite.trials import few, plain_network, trial_of, workspace_in
from torch import Tensor

from bitsweep.errors import Diverged
from bitsweep.measurement import Evaluation, Measurement
from bitsweep.space import Parameters
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial
from bitsweep_trainers import image, loop
from bitsweep_trainers.data.load import load_of
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import method_of

# They compute in another order where convolutions are not run on a CPU.
OTHER_ORDER = {"mbquant"}
POLICY: Parameters = {"policy_epochs": 1, "policy": "reinforce"}
LEARNS: list[tuple[str, Parameters]] = [
    ("cpq_dropbits", {"task": "hetero"}),
    ("adaqat", {"widths": "layer"}),
    ("bit_mixer", {"search": "greedy"}),
    ("abn", POLICY),
    ("abn", {**POLICY, "policy": "double_dqn", "policy_updates": 2}),
]
TRAINED = [name for name, one in DECLARED.items() if one.trains]
Numbers = tuple[list[tuple[int, float]], dict[str, Any]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Callable[..., Any]]:
    """Calls a function in a process with the stage."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda call, *given: pool.submit(on_stage, call, *given).result()


def on_stage(call: Callable[..., Any], *given: Any) -> Any:
    from tests.trainers_suite import stage

    if torch.tensor.__module__ != stage.__name__:
        stage.open_stage()
    vars(image).update(device_of=lambda workspace: stage.STAGE, load_of=load_of)
    with stage.Stage():  # type: ignore[no-untyped-call]
        return call(*given)


def trained(trial: Trial, folder: Path, start: Path | None) -> Numbers:
    """Right answers and losses of every measurement, and the tensors of the checkpoint."""
    few_of_each()
    return numbers_of(trial, workspace_in(folder, start))


def few_of_each() -> None:
    """Trials load the first images alone."""
    vars(image)["load_of"] = lambda trial: few(train=96, evaluated=32)


def right_and_loss(one: Measurement) -> tuple[int, float]:
    return int(one.correct or 0), one.sums["loss"]


def numbers_of(trial: Trial, workspace: Workspace) -> Numbers:
    evaluations = list(image.train(trial, workspace))
    measured = [right_and_loss(one) for each in evaluations for one in each.measurements]
    saved = torch.load(workspace.final_checkpoint, map_location="cpu", weights_only=True)
    tensors = {
        name: one for name, one in saved["network"].items() if isinstance(one, torch.Tensor)
    }
    return measured, {name: one.tolist() for name, one in tensors.items()}


@pytest.fixture(autouse=True)
def own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What loads data is replaced for one test."""
    monkeypatch.setitem(vars(image), "load_of", vars(image)["load_of"])


@pytest.mark.parametrize(
    ("method", "given"), [*((name, {}) for name in sorted(DECLARED)), *LEARNS]
)
def test_a_trial_measures_there_what_it_measures_on_the_cpu(
    method: str, given: Parameters, stage: Callable[..., Any], tmp_path: Path
) -> None:
    declared = DECLARED[method]
    start = trial_of("fp32", epochs=1)
    checkpoint = None
    if declared.needs_start:
        trained(start, tmp_path / "start", None)
        checkpoint = Workspace(folder=tmp_path / "start").final_checkpoint
    trial = trial_of(
        method,
        *((2, 4) if declared.serves == "all" else (4,)),
        parameters=given,
        epochs=1 if declared.trains else 0,
        start=start.id if declared.needs_start else None,
        learns_bits=declared.learns_bits(given),
    )
    here = trained(trial, tmp_path / "here", checkpoint)
    there = stage(trained, trial, tmp_path / "there", checkpoint)

    if method in OTHER_ORDER:
        assert there[0] == [
            (pytest.approx(c, abs=3), pytest.approx(x, rel=1e-2)) for c, x in here[0]
        ]
    else:
        assert there == here


def together(trials: list[Trial], folder: Path) -> list[list[tuple[int, float]]]:
    """What each of several seeds measures as part of one network."""
    few_of_each()
    places = [workspace_in(folder / str(one.seed)) for one in trials]
    rounds = list(image.train_group(trials, places))
    found = [
        [one for one in column if isinstance(one, Evaluation)]
        for column in zip(*rounds, strict=True)
    ]
    return [
        [right_and_loss(one) for each in column for one in each.measurements] for column in found
    ]


@pytest.mark.parametrize("method", ["fp32", "lsq"])
def test_seeds_as_one_network_measure_there_what_they_measure_on_the_cpu(
    method: str, stage: Callable[..., Any], tmp_path: Path
) -> None:
    trials = [trial_of(method, 4, seed=seed, is_grouped=True) for seed in (0, 1)]

    here = together(trials, tmp_path / "here")
    assert stage(together, trials, tmp_path / "there") == here
    assert len(here) == len(trials)


def interrupted(trial: Trial, folder: Path) -> Numbers:
    """A training that is closed after an epoch, and taken up again."""
    few_of_each()
    workspace = workspace_in(folder)
    training = image.train(trial, workspace)
    next(training)
    next(training)
    training.close()
    return numbers_of(trial, workspace)


def test_a_training_goes_on_there_from_its_state(
    stage: Callable[..., Any], tmp_path: Path
) -> None:
    trial = trial_of("lsq", 4, epochs=3)
    measured, weights = trained(trial, tmp_path / "here", None)
    again = stage(interrupted, trial, tmp_path / "there")

    assert again == (measured[1:], weights)


def diverged(trial: Trial, folder: Path) -> str:
    """What is said of a training whose images are no numbers."""
    data = few(train=96, evaluated=32)
    blank = torch.full(data.train_images.shape, float("nan"))
    vars(image)["load_of"] = lambda trial: replace(data, train_images=blank)
    with pytest.raises(Diverged) as error:
        list(image.train(trial, workspace_in(folder)))
    return str(error.value)


def test_a_divergence_names_its_layer_there(stage: Callable[..., Any], tmp_path: Path) -> None:
    trial = trial_of("fp32", epochs=1)
    here = diverged(trial, tmp_path / "here")

    assert "first in" in here
    assert stage(diverged, trial, tmp_path / "there") == here


@pytest.mark.parametrize("write", [write_series, write_vectors])
def test_series_and_vectors_measure_there_what_they_measure_on_the_cpu(
    write: Callable[[Path], Path], stage: Callable[..., Any], tmp_path: Path
) -> None:
    trial = trial_on(write(tmp_path), "lsq", {})
    here = all_sums(trial, tmp_path / "here")

    assert stage(all_sums, trial, tmp_path / "there") == here


def all_sums(trial: Trial, folder: Path) -> list[dict[str, float]]:
    evaluations = list(image.train(trial, workspace_in(folder)))
    return [dict(one.sums) for each in evaluations for one in each.measurements]


def waits_in_an_epoch(trial: Trial) -> list[str]:
    """What the host waits for in the two steps of a second epoch."""
    from tests.trainers_suite import stage

    data = image.on_device(few(train=2 * trial.batch_size), stage.STAGE)
    network = method_of(trial.method).convert(
        plain_network(), trial, loop.stream(trial.seed, "convert")
    )
    network.to(stage.STAGE)
    image.calibrate(network, trial, data)
    training = loop.prepare(
        network,
        method_of(trial.method),
        trial=trial,
        data=data,
        augmentation=image.augmentation_of(trial),
    )
    loop.train_epoch(training, 1)
    stage.WAITS.clear()
    loop.train_epoch(training, 2)
    return list(stage.WAITS)


@pytest.mark.parametrize("method", sorted(set(TRAINED) - {"adaqat"}))
def test_in_a_step_the_host_waits_for_the_loss_alone(
    method: str, stage: Callable[..., Any]
) -> None:
    """AdaQAT is left out: it decides from a loss at which bits its step runs."""
    widths = (2, 4) if DECLARED[method].serves == "all" else (4,)
    start = "0" * 64 if DECLARED[method].needs_start else None

    assert len(stage(waits_in_an_epoch, trial_of(method, *widths, start=start))) == 2


def mixed_sum() -> Tensor:
    return torch.zeros(2, device="stage:0") + torch.ones(2)


def mixed_convolution() -> Tensor:
    kernel = torch.ones(1, 1, 1, 1)
    return torch.nn.functional.conv2d(torch.zeros(1, 1, 2, 2, device="stage:0"), kernel)


def foreign_draw() -> Tensor:
    return torch.zeros(2, device="stage:0").uniform_(generator=torch.Generator())


def foreign_index() -> Tensor:
    return torch.zeros(2)[torch.zeros(1, dtype=torch.long, device="stage:0")]


def scalar_sum() -> list[float]:
    numbers: list[float] = (torch.ones(2, device="stage:0") + torch.tensor(1.0)).tolist()
    return numbers


@pytest.mark.parametrize("wrong", [mixed_sum, mixed_convolution, foreign_draw, foreign_index])
def test_what_a_gpu_refuses_is_refused(
    wrong: Callable[[], Tensor], stage: Callable[..., Any]
) -> None:
    with pytest.raises(RuntimeError, match=r"two devices|CPU generator"):
        stage(wrong)


def test_scalars_of_the_cpu_are_taken(stage: Callable[..., Any]) -> None:
    assert stage(scalar_sum) == [2.0, 2.0]
