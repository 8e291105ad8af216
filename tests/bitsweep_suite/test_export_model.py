"""bitsweep export-model on a sweep that really ran: files, numbers, and what can be wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bitsweep_suite.plugin import bitsweep

from bitsweep_trainers.packed.file import load

SWEEP = """
schema = 1
name = "tiny"
question = "Do trained networks leave as files?"
reproduces = "no paper's table"
expects = "yes"
cost = "seconds"

[task]
data = "fashion-mnist-6k"
model = "small-cnn"
epochs = 1
bits = [2, 4]
batch_size = 1000

[[arms]]
name = "abn"
method = "abn"
parameters = { policy = "off", weight_source = "nested", random_networks = 0 }

[[arms]]
name = "searched"
method = "dorefa"
[arms.space]
learning_rate = { choice = [0.01, 0.02] }

[search]
sampler = "grid"
configurations_per_arm = 1

[[objectives]]
at = ["w4a4"]

[confirm]
seeds = [0]
"""
TRIALS = "SELECT DISTINCT stage, method, allocation, trial_id FROM results"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sweep ran; tests only add files."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.toml").write_text(SWEEP, encoding="utf-8")
    done = bitsweep(folder, "run", "tiny.toml", "--executor", "local", "--mlflow", "none")
    assert done.returncode == 0, done.stderr
    return folder


def trial_id(folder: Path, *wanted: str) -> str:
    """The id of the trial of a stage, method and allocation."""
    rows = json.loads(bitsweep(folder, "query", TRIALS, "--format", "json").stdout)
    (found,) = [
        row["trial_id"]
        for row in rows
        if (row["stage"], row["method"], row["allocation"]) == wanted
    ]
    return str(found)


def test_the_file_has_the_recorded_size_and_answers_as_the_trial_did(ran: Path) -> None:
    found = trial_id(ran, "confirm", "abn", "w4a4")
    done = bitsweep(ran, "export-model", found[:9], "--output", "abn.bits", "--json")
    said = json.loads(done.stdout)

    assert (done.returncode, done.stderr, said["faults"]) == (0, "", [])
    assert said["payload_bits"] == said["claimed_bits"] == said["recorded_bits"]
    assert said["file_bytes"] == (ran / "abn.bits").stat().st_size
    assert [one["bits"] for one in said["widths"]] == ["w2a2", "w4a4"]
    for one in said["widths"]:
        assert one["num_apart"] <= 1
        assert one["num_correct"] == said["recorded_correct"][one["bits"]]


def test_the_file_serves_without_the_store(ran: Path) -> None:
    found = trial_id(ran, "confirm", "abn", "w4a4")
    bitsweep(ran, "export-model", found, "--output", "alone.bits")
    network = load(ran / "alone.bits")

    assert network.header["trial_id"] == found
    assert [one.label for one in network.widths] == ["w2a2", "w4a4"]


def test_what_was_compared_is_said_in_words(ran: Path) -> None:
    found = trial_id(ran, "confirm", "dorefa", "w2a2")
    done = bitsweep(ran, "export-model", found, "--output", "lsq.bits")

    assert done.returncode == 0
    assert "payload" in done.stdout and "of 1000 images apart" in done.stdout


def test_onnx_of_one_width_is_written_and_compared(ran: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = trial_id(ran, "confirm", "abn", "w4a4")
    arguments = ("--output", "abn.onnx", "--format", "onnx", "--bits", "2", "--json")
    done = bitsweep(ran, "export-model", found, *arguments)
    said = json.loads(done.stdout)

    assert done.returncode == 0 and said["payload_bits"] is None
    assert [one["bits"] for one in said["widths"]] == ["w2a2"]
    assert not (ran / "abn.onnx.packed").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "onnx", "--bits", "3"), "serves w2a2, w4a4, not w3a3"),
        (("--bits", "4"), "a packed file holds all widths"),
        (("--format", "onnx", "--bits", "four"), "--bits: expected bits such as 4"),
        (("--output", "no/such/folder.bits"), "cannot be written: No such file or directory"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: tuple[str, ...], said: str, ran: Path) -> None:
    found = trial_id(ran, "confirm", "abn", "w4a4")
    done = bitsweep(ran, "export-model", found, "--output", "x.bits", *arguments)

    assert done.returncode == 2 and said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_network_that_was_not_kept_is_made_again_and_then_exported(ran: Path) -> None:
    found = trial_id(ran, "search", "dorefa", "w4a4")
    export = ("export-model", found, "--output", "searched.bits")
    refused = bitsweep(ran, *export)
    assert refused.returncode == 2
    assert f"--trial {found[:12]}` trains it again and keeps it" in refused.stderr
    command = refused.stderr.split("`")[1].removeprefix("bitsweep ").split()
    again = bitsweep(ran, *command)
    assert again.returncode == 0, again.stderr

    assert bitsweep(ran, *export).returncode == 0


def test_a_size_that_is_not_what_was_recorded_is_a_fault(ran: Path) -> None:
    found = trial_id(ran, "confirm", "dorefa", "w4a4")
    store = ran / "spoilt" / "bitsweep.db"
    store.parent.mkdir()
    code = (
        "import shutil, sqlite3, sys\n"
        "source, target = sys.argv[1:]\n"
        "sqlite3.connect(source).backup(copy := sqlite3.connect(target))\n"
        "copy.execute('UPDATE measurements SET size_bits_whole_ends8 = 7')\n"
        "copy.commit()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(ran / "results" / "bitsweep.db"), str(store)], check=True
    )
    (store.parent / "artifacts").symlink_to(ran / "results" / "artifacts")
    done = bitsweep(ran, "export-model", found, "--output", "spoilt.bits", "--store", str(store))

    assert done.returncode == 1
    assert "FAULT: the payload has" in done.stdout and "claimed are 7 and" in done.stdout
