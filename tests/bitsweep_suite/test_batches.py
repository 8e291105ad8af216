"""A batch that cannot be trained on as it stands is refused with one line."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.sweep_texts import DECLARATIONS, line_with

from bitsweep.declaration import Declarations
from bitsweep.errors import InputError
from bitsweep.specfile import read_sweep

TEXT = """schema = 1
name = "batches"
question = "Is the batch one?"
reproduces = "nothing"
expects = "yes"
cost = "none"

[task]
data = "fashion-mnist-6k"
model = "small-cnn"
epochs = 2
bits = [2, 4]
batch_size = 64

[[arms]]
name = "own"
method = "lsq"

[[objectives]]

[confirm]
seeds = [0]
"""


def message_of(text: str, folder: Path, declarations: Declarations = DECLARATIONS) -> str | None:
    """What a text is refused with, from the line on; None where it is not."""
    path = folder / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    try:
        read_sweep(path, declarations)
    except InputError as error:
        assert "\n" not in str(error)
        return str(error).removeprefix(f"{path}:")
    return None


def with_samples(count: int, classes: int = 10) -> Declarations:
    """The same with so many training images."""
    name = "fashion-mnist-6k"
    few = replace(DECLARATIONS.data[name], sizes={"train": count}, classes=classes)
    return replace(DECLARATIONS, data={**DECLARATIONS.data, name: few})


def test_a_batch_may_be_all_training_images_and_no_more(tmp_path: Path) -> None:
    largest = TEXT.replace("batch_size = 64", "batch_size = 5000")
    beyond = TEXT.replace("batch_size = 64", "batch_size = 5001\nmicro_batch_size = 3")
    message = message_of(beyond, tmp_path)

    assert message_of(largest, tmp_path) is None
    assert message is not None
    assert message.startswith(f"{line_with(beyond, 'batch_size')}: task.batch_size: a batch of ")
    assert message.endswith("5000 training samples of fashion-mnist-6k; expected at most 5000")


def test_the_batch_of_what_trains_nothing_is_not_looked_at(tmp_path: Path) -> None:
    text = TEXT.replace('"lsq"', '"ptq"').replace("batch_size = 64", 'weights = "./w.pth"')
    (tmp_path / "w.pth").touch()
    declarations = replace(with_samples(20), check_weights=lambda *given: None)

    assert message_of(text, tmp_path, declarations) is None


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("bit_mixer", 'search = "greedy", search_share = 0.2'), ("abn", 'policy = "double_dqn"')],
)
def test_images_that_a_method_holds_out_are_not_in_its_batch(
    method: str, parameters: str, tmp_path: Path
) -> None:
    text = TEXT.replace('"lsq"', f'"{method}"\nparameters = {{ {parameters} }}')
    text = text.replace("batch_size = 64", "batch_size = 4900")
    message = message_of(text, tmp_path)

    assert message is not None and ": task.batch_size: a batch of 4900 is larger" in message
    assert f"({method} holds out 0." in message
    assert message_of(text.replace(parameters, ""), tmp_path) is None


def test_the_largest_share_of_a_search_counts(tmp_path: Path) -> None:
    space = "space.search_share = { uniform = [0.02, 0.2] }"
    text = TEXT.replace('"lsq"', f'"bit_mixer"\nparameters = {{ search = "greedy" }}\n{space}')
    text = text.replace("[confirm]", "[search]\nconfigurations_per_arm = 2\n\n[confirm]")
    message = message_of(text.replace("batch_size = 64", "batch_size = 4500"), tmp_path)

    assert message is not None and "holds out 0.2 of each class" in message
    assert message_of(text.replace("batch_size = 64", "batch_size = 3900"), tmp_path) is None


def test_too_few_images_to_hold_out_are_refused(tmp_path: Path) -> None:
    text = TEXT.replace('"lsq"', '"bit_mixer"\nparameters = { search = "greedy" }')
    message = message_of(text, tmp_path, with_samples(100))

    assert message is not None and ": task.data: bit_mixer holds out 0.1 of each class" in message
    assert message_of(text, tmp_path, with_samples(140)) is None


@pytest.mark.parametrize(
    ("model", "change", "key"),
    [
        ("lenet5", "batch_size = 1", "batch_size"),
        ("lenet5", "batch_size = 64\nmicro_batch_size = 1", "micro_batch_size"),
        ("lenet5", "batch_size = 2\n[resources]\nworkers_per_trial = 2", "batch_size"),
    ],
)
def test_one_sample_at_once_is_refused_where_a_norm_sees_one_value(
    model: str, change: str, key: str, tmp_path: Path
) -> None:
    text = TEXT.replace("small-cnn", model).replace("batch_size = 64", change)
    message = message_of(text, tmp_path)

    assert message is not None and f": task.{key}: the batch norms of {model} need" in message
    assert "at least 2 samples at once, got 1" in message
    assert message_of(text.replace(model, "small-cnn"), tmp_path) is None


def test_workers_whose_norms_are_synchronised_may_have_one_sample_each(tmp_path: Path) -> None:
    resources = "[resources]\nworkers_per_trial = 2\nsync_batch_norm = true"
    text = TEXT.replace("small-cnn", "lenet5")

    assert (
        message_of(text.replace("batch_size = 64", f"batch_size = 2\n{resources}"), tmp_path)
        is None
    )
