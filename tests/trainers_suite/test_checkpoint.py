"""Damaged checkpoints: one line that names the file and what to do, wherever one is read."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in

from bitsweep.errors import InputError
from bitsweep_trainers import loop
from bitsweep_trainers.checkpoint import read_checkpoint
from bitsweep_trainers.export import trained_network
from bitsweep_trainers.image import start_network

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "cut at the end": lambda whole: whole[:-30],
    "empty": lambda whole: b"",
    "garbage": lambda whole: b"no checkpoint at all\n" * 9,
    "zeros": lambda whole: bytes(len(whole)),
}
SAID = "is damaged or cut: .*; remove it"


def saved(document: object, path: Path) -> Path:
    torch.save(document, path)
    return path


def is_one_line(error: BaseException, path: Path) -> bool:
    return len(str(error).splitlines()) == 1 and str(path) in str(error)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_no_export(damage: Damage, tmp_path: Path) -> None:
    made = training_of(trial_of("lsq"), few(train=32, evaluated=10))
    path = tmp_path / "final.pt"
    loop.save_checkpoint(made.network, made.trial, path)
    assert not trained_network(made.trial, path).training
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match=SAID) as raised:
        trained_network(made.trial, path)
    assert is_one_line(raised.value, path)
    assert f"--trial {made.trial.short_id}" in str(raised.value)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_start_is_named_with_the_trial_it_is_of(damage: Damage, tmp_path: Path) -> None:
    made = training_of(trial_of("fp32"), few(train=32, evaluated=10))
    path = tmp_path / "start.pt"
    loop.save_checkpoint(made.network, made.trial, path)
    trial = trial_of("lsq", start=made.trial.id)
    start_network(trial, workspace_in(tmp_path, path))
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match=r"is damaged or cut: .*; `bitsweep run") as raised:
        start_network(trial, workspace_in(tmp_path, path))
    assert is_one_line(raised.value, path)
    assert f"--trial {made.trial.short_id}" in str(raised.value)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_without_its_damaged_state_a_trial_goes_on_from_its_start(
    damage: Damage, tmp_path: Path
) -> None:
    data, trial, place = few(train=64, evaluated=10), trial_of("lsq"), workspace_in(tmp_path)
    first = loop.run(training_of(trial, data), place)
    began = next(first)
    next(first)
    path = place.state_path
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match=SAID) as raised:
        next(loop.run(training_of(trial, data), place))
    assert is_one_line(raised.value, path)
    path.unlink()
    assert next(loop.run(training_of(trial, data), place)).measurements == began.measurements


@pytest.mark.parametrize("holds", [{}, [1, 2], {"trial": 1, "network": {}}])
def test_a_whole_file_that_holds_something_else_is_told(holds: object, tmp_path: Path) -> None:
    path = saved(holds, tmp_path / "x.pt")

    with pytest.raises(InputError, match=r"holds no trial|does not fit the trial") as raised:
        trained_network(trial_of("lsq"), path)
    assert is_one_line(raised.value, path)


def test_a_network_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    made, other = (
        training_of(trial_of("lsq", model=model), few(train=32, evaluated=10))
        for model in ("small-cnn", "lenet5")
    )
    loop.save_checkpoint(other.network, made.trial, tmp_path / "x.pt")

    with pytest.raises(InputError, match="does not fit the trial: ") as raised:
        trained_network(made.trial, tmp_path / "x.pt")
    assert is_one_line(raised.value, tmp_path / "x.pt")


def test_no_change_of_a_file_is_anything_but_an_input_error(tmp_path: Path) -> None:
    path = saved({"trial": {"a": 1}, "network": {"w": torch.zeros(30, 30)}}, tmp_path / "x.pt")
    whole, drawn = path.read_bytes(), random.Random(0)
    for _ in range(300):
        changed = bytearray(whole[: drawn.randrange(1, len(whole))])
        for _ in range(3):
            changed[drawn.randrange(len(changed))] ^= 255
        path.write_bytes(bytes(changed))

        with pytest.raises(InputError, match="remove it"):
            read_checkpoint(path, holds=("trial", "network"), remedy="remove it")
