"""What a sweep asks for and no trial would honour is refused: starts, conditions, classes."""

from pathlib import Path

import numpy as np
import pytest
from tests.bitsweep_suite.sweep_texts import DECLARATIONS

from bitsweep.bits import Bits
from bitsweep.errors import InputError
from bitsweep.plan import Plan
from bitsweep.specfile import read_sweep
from bitsweep.sweep import Sweep

HEAD = """schema = 1
name = "honoured"
question = "Is what is asked done?"
reproduces = "nothing"
expects = "yes"
cost = "none"
"""
IMAGES = """[task]
data = "fashion-mnist-6k"
model = "small-cnn"
epochs = 2
bits = [2, 4]
"""
VECTORS = """[task]
data = "./v.npz"
trainer = "vectors"
model = "channel-autoencoder"
epochs = 2
batch_size = 16
bits = [2, 4]
"""
REST = """
[[objectives]]

[confirm]
seeds = [0]
"""


def read(folder: Path, task: str, arms: str, rest: str = REST) -> Sweep:
    path = folder / "sweep.toml"
    path.write_text(f"{HEAD}\n{task}\n{arms}\n{rest}")
    return read_sweep(path, DECLARATIONS)


def message_of(folder: Path, task: str, arms: str, rest: str = REST) -> str:
    with pytest.raises(InputError) as raised:
        read(folder, task, arms, rest)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def vectors_in(folder: Path) -> None:
    drawn = np.random.default_rng(0).standard_normal((2, 300, 8))
    np.savez(folder / "v.npz", vectors=drawn[0] + 1j * drawn[1])


ARM = '[[arms]]\nname = "own"\nmethod = "lsq"\n'


def test_a_start_runs_at_the_activation_bits_that_its_parameters_fix(tmp_path: Path) -> None:
    start = 'start = { method = "lsq", epochs = 2, parameters = { activation_bits = 8 } }'
    trial = Plan(sweep=read(tmp_path, f"{IMAGES}{start}", ARM), declarations=DECLARATIONS)
    made = trial.start_trial(0)

    assert made is not None and made.bits == (Bits(weight=2, activation=8),)


@pytest.mark.parametrize(
    ("given", "key"),
    [('search = "greedy"', "search"), ('teacher = "fp32"', "teacher")],
)
def test_what_learns_from_classes_is_refused_where_there_are_none(
    given: str, key: str, tmp_path: Path
) -> None:
    vectors_in(tmp_path)
    start = 'start = { method = "fp32", epochs = 2 }'
    arm = f'[[arms]]\nname = "own"\nmethod = "bit_mixer"\nparameters = {{ {given} }}'
    message = message_of(tmp_path, VECTORS + start, arm)

    assert f": arms[0].parameters.{key}: " in message
    assert "learns from classes, and the trainer vectors has none" in message
    assert read(tmp_path, VECTORS + start, arm.replace(given, "")).arms[0].method == "bit_mixer"


def test_answers_that_are_not_right_or_wrong_cannot_be_kept(tmp_path: Path) -> None:
    vectors_in(tmp_path)
    message = message_of(tmp_path, VECTORS, ARM, REST + "keep_answers = true\n")

    assert ": confirm.keep_answers: expected false" in message


def test_a_condition_that_can_never_hold_is_refused(tmp_path: Path) -> None:
    space = """[arms.space]
learning_rate = { choice = [0.1, 0.2] }
weight_decay = { choice = [0.0, 0.1], when = { learning_rate = 0.7 } }

[search]
configurations_per_arm = 2
"""
    message = message_of(tmp_path, IMAGES, ARM + space)

    assert ": arms[0].space.weight_decay.when.learning_rate: this arm never has" in message
    assert read(tmp_path, IMAGES, ARM + space.replace("= 0.7", "= [0.7, 0.1]")).arms


def test_a_checkpoint_that_is_no_plain_network_cannot_be_taken(tmp_path: Path) -> None:
    arms = '[[arms]]\nname = "all"\nmethod = "adabits"\n' + ARM
    arms += 'from = { arm = "all", take = "checkpoint" }\n'
    message = message_of(tmp_path, IMAGES, arms)

    assert ": arms[1].from.arm: the network of adabits lacks tensors of the plain one" in message


def test_activations_of_one_bit_are_refused_where_a_grid_needs_two(tmp_path: Path) -> None:
    task = IMAGES.replace("[2, 4]", '["w4a1"]')

    assert "at least 2 bits, got 1" in message_of(
        tmp_path, task, ARM.replace('"lsq"', '"cpq_dropbits"')
    )
