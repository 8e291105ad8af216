"""Files of weights: what does not fit a model is told before any trial, in one line."""

import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from tests.trainers_suite.trials import plain_network
from torch import Tensor

from bitsweep.errors import InputError
from bitsweep.specfile import read_sweep
from bitsweep.trainer import load_declarations
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.declared import check_weights

DATA = DATA_SETS["fashion-mnist-6k"]
KERNEL = "stem.conv.weight"
SWEEP = """schema = 1
name = "begun"
question = "Do the weights fit?"
reproduces = "nothing"
expects = "yes"
cost = "none"

[task]
data = "fashion-mnist-6k"
model = "small-cnn"
weights = "w.pth"
epochs = 1
bits = [4]

[[arms]]
name = "ptq"
method = "ptq"

[[objectives]]
"""


def state(
    model: str = "small-cnn", *, changes: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, Tensor]:
    """The weights of a network as it is drawn, some of them changed."""
    return {**plain_network(model).state_dict(), **changes}


def message_of(folder: Path) -> str | None:
    """What a sweep that begins with w.pth is refused with; None where it is not."""
    path = folder / "sweep.toml"
    path.write_text(SWEEP)
    try:
        read_sweep(path, load_declarations())
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, "it lacks stem.conv.weight, expected with shape (16, 1, 3, 3)"),
        (state("lenet5"), "are of another model than small-cnn: it lacks body.conv1.weight, exp"),
        (
            state(changes={"body.extra": torch.ones(1)}),
            "it has 'body.extra', which is no part of it",
        ),
        (state(changes={"a\nb": torch.ones(1)}), "it has 'a\\nb'"),
        (state(changes={KERNEL: torch.ones(3)}), f"{KERNEL} is (3,), expected (16, 1, 3, 3)"),
        (state(changes={KERNEL: torch.full((16, 1, 3, 3), torch.nan)}), f"{KERNEL} is not finite"),
        (state(changes={KERNEL: torch.ones(16, 1, 3, 3) * 1j}), f"{KERNEL} is complex64"),
        (state(changes={KERNEL: torch.ones(16, 1, 3, 3).int()}), f"{KERNEL} is int32"),
        (state(changes={KERNEL: torch.ones(16, 1, 3, 3).to_sparse()}), "expected dense floating"),
        ([1, 2], "expected a dictionary of tensors"),
    ],
    ids=lambda one: one[:30] if isinstance(one, str) else "",
)
def test_weights_that_do_not_fit_are_refused_by_validate(
    weights: object, expected: str, tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pth")
    message = message_of(tmp_path)

    assert message is not None and "\n" not in message
    assert message.startswith(f"{tmp_path}/sweep.toml:11: task.weights: weights {tmp_path}/w.pth")
    assert expected in message


def test_weights_that_fit_are_accepted_also_with_a_last_layer_of_other_classes(
    tmp_path: Path,
) -> None:
    other = state(
        changes={"head.linear.weight": torch.ones(5, 64), "head.linear.bias": torch.ones(5)}
    )
    for weights in (
        state(),
        other,
        {"network": state()},
        {k: v.half() for k, v in state().items()},
    ):
        torch.save(weights, tmp_path / "w.pth")

        assert message_of(tmp_path) is None


@pytest.mark.parametrize(
    "content", [b"hello", b"hi there", b"", b"PK\3\4", b"<html>", b"\x80\x02"]
)
def test_a_file_that_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    message = message_of(tmp_path)

    assert message is not None and f"weights {tmp_path}/w.pth: " in message
    assert "\n" not in message


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_damaged_checkpoint_never_ends_in_a_traceback(is_zip: bool, tmp_path: Path) -> None:
    path, drawn = tmp_path / "w.pth", random.Random(0)
    torch.save(state(), path, _use_new_zipfile_serialization=is_zip)
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(drawn.choice((1, 2, 10))):
            damaged[drawn.randrange(2000)] = drawn.randrange(256)
        path.write_bytes(damaged)
        try:
            check_weights(str(path), "small-cnn", DATA)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)

    assert refused > 50


def test_the_weights_of_a_model_of_another_package_are_not_looked_into(tmp_path: Path) -> None:
    check_weights(str(tmp_path / "absent.onnx"), "transformer", DATA)
