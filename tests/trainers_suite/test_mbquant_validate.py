"""What `bitsweep validate` says of MBQuant: one line and exit code 2, or nothing wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

BITSWEEP = (sys.executable, "-c", "from bitsweep.cli import main; main()")
SWEEP = """schema = 1
name = "one"
question = "?"
reproduces = "nothing"
expects = "nothing"
cost = "none"

[task]
data = "fashion-mnist-6k"
model = "MODEL"
start = { method = "fp32", epochs = 1 }
epochs = 1
bits = BITS

[[arms]]
name = "a"
method = "mbquant"
ARM

[[objectives]]
at = "all"
"""


def validated(folder: Path, arm: str, *, model: str, bits: str = "[2, 4]") -> str:
    """The one line that refuses a sweep of one arm, or nothing."""
    text = SWEEP.replace("MODEL", model).replace("BITS", bits).replace("ARM", arm)
    (folder / "one.toml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*BITSWEEP, "validate", "one.toml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 0:
        return ""
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_network_with_depthwise_layers_is_taken(tmp_path: Path) -> None:
    arm = 'parameters = { depthwise_bits = "width" }'

    assert validated(tmp_path, arm, model="mobilenet-v2", bits="[2, 3, 4]") == ""


def test_a_network_over_series_is_refused(tmp_path: Path) -> None:
    message = validated(tmp_path, "", model="signal-cnn")

    assert "mbquant" in message or "series" in message


@pytest.mark.parametrize(
    ("model", "layer"),
    [("vgg7", "body.linear"), ("lenet5", "body.linear"), ("resnet50", "body.stage1.1.conv1")],
)
def test_windows_beyond_a_layers_weights_are_refused(
    model: str, layer: str, tmp_path: Path
) -> None:
    arm = 'parameters = { mode = "reference" }'
    message = validated(tmp_path, arm, model=model, bits="[2, 4, 6, 8]")

    for part in ("mode = reference (weight_offset = input_channels)", layer, "method mbquant"):
        assert part in message, message
    without = arm.replace(" }", ', weight_offset = "own" }')
    assert validated(tmp_path, without, model=model, bits="[2, 4, 6, 8]") == ""


def test_a_mode_that_does_not_fit_the_selection_is_named(tmp_path: Path) -> None:
    arm = 'parameters = { mode = "reference", selection = "balanced" }'
    message = validated(tmp_path, arm, model="small-cnn", bits="[2, 4, 6, 8]")

    assert "mode = reference (weight_offset = input_channels) needs neighbouring" in message


SEARCHED = """[arms.space]
mode = { choice = ["clean", "reference"] }
selection = { choice = ["nested", "balanced"]WHEN }
[search]
configurations_per_arm = 4
"""


def test_searched_choices_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    bits = "[2, 4, 6, 8]"
    message = validated(tmp_path, SEARCHED.replace("WHEN", ""), model="small-cnn", bits=bits)
    clean_alone = SEARCHED.replace("WHEN", ', when = { mode = ["clean"] }')

    assert "arms[0].space.selection: mode = reference" in message and "balanced" in message
    assert validated(tmp_path, clean_alone, model="small-cnn", bits=bits) == ""
