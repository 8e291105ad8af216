"""What `bitsweep validate` says of MBQuant: one line and exit code 2, or nothing wrong."""

import subprocess
import sys
from pathlib import Path

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
