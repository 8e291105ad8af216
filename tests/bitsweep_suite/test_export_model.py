"""bitsweep export-model on a sweep that really ran: files, numbers, and what can be wrong."""

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.plugin import bitsweep, run_text
from tests.trainers_suite.trials import trial_of

from bitsweep.bits import tied
from bitsweep.errors import InputError
from bitsweep.exporter import Exported, ExportForm, SameLayers, SameLogits
from bitsweep.model_export import ModelExport, export_model
from bitsweep.repeat import repeat_trial
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
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


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sweep ran; tests only add files."""
    folder = tmp_path_factory.mktemp("ran")
    run_text(folder, "tiny", SWEEP)
    return folder


def store_of(folder: Path) -> Path:
    return folder / "results" / "bitsweep.db"


def trial_id(folder: Path, *wanted: str) -> str:
    """The id of the trial of a stage, method and bits."""
    reader = Reader(open_to_read(str(store_of(folder))))
    rows = reader.trial_rows(reader.sweep("tiny").id)
    (found,) = [one.trial_id for one in rows if (one.stage, one.method, one.bits) == wanted]
    return found


def exported(
    store: Path, trial: str, output: Path, form: ExportForm = "packed", bits: int | None = None
) -> ModelExport:
    reader = Reader(open_to_read(str(store)))
    width = None if bits is None else tied(bits)
    return export_model(reader, str(store), trial, output, form=form, bits=width)


ABN = ("confirm", "abn", "w2a2+w4a4")


def test_the_command_writes_the_recorded_size_and_the_file_answers_as_the_trial_did(
    ran: Path,
) -> None:
    found = trial_id(ran, *ABN)
    done = bitsweep(ran, "export-model", found[:9], "--output", "abn.bits", "--json")
    said = json.loads(done.stdout)

    assert (done.returncode, done.stderr, said["faults"]) == (0, "", [])
    assert said["payload_bits"] == said["claimed_bits"] == said["recorded_bits"]
    assert said["file_bytes"] == (ran / "abn.bits").stat().st_size
    assert [one["bits"] for one in said["widths"]] == ["w2a2", "w4a4"]
    for one in said["widths"]:
        assert one["num_apart"] <= 1
        assert one["num_correct"] == said["recorded_correct"][one["bits"]]
    assert load(ran / "abn.bits").header["trial_id"] == found


def test_a_wrong_option_is_one_line(ran: Path) -> None:
    done = bitsweep(ran, "export-model", trial_id(ran, *ABN), "--output", "x", "--bits", "four")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --bits: expected bits such as 4 or 'w4a4', got 'four'"
    ]


def test_onnx_of_one_width_is_written_and_compared(ran: Path) -> None:
    made = exported(store_of(ran), trial_id(ran, *ABN), ran / "abn.onnx", "onnx", 2)
    (width,), layers = made.exported.widths, made.exported.layers

    assert (made.faults, made.exported.payload_bits, width.bits) == ((), None, "w2a2")
    assert layers is not None and layers.apart == () and layers.num_source_apart == 0
    assert not (ran / "abn.onnx.packed").exists()


@pytest.mark.parametrize(
    ("output", "form", "bits", "said"),
    [
        ("x", "onnx", 3, "serves w2a2, w4a4, not w3a3"),
        ("x", "packed", 4, "a packed file holds all widths"),
        ("no/such/folder.bits", "packed", None, "cannot be written: No such file or directory"),
        ("/", "packed", None, "--output /: expected the name of a file"),
        (".", "onnx", None, "expected the name of a file, this is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused(
    output: str, form: ExportForm, bits: int | None, said: str, ran: Path
) -> None:
    with pytest.raises(InputError, match=said):
        exported(store_of(ran), trial_id(ran, *ABN), ran / output, form, bits)


def test_a_network_that_was_not_kept_is_made_again_and_then_exported(ran: Path) -> None:
    found = trial_id(ran, "search", "dorefa", "w4a4")
    store, output = store_of(ran), ran / "searched.bits"
    with pytest.raises(InputError, match=f"--trial {found[:12]}` trains it again and keeps it"):
        exported(store, found, output)
    assert repeat_trial(str(store), found)["is_identical"]

    assert exported(store, found, output).faults == ()


def test_a_size_that_is_not_what_was_recorded_is_a_fault(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran / "results" / "artifacts", tmp_path / "artifacts")
    store = tmp_path / "bitsweep.db"
    copy = sqlite3.connect(store)
    sqlite3.connect(store_of(ran)).backup(copy)
    copy.execute("UPDATE measurements SET size_bits_whole_ends8 = 7")
    copy.commit()
    copy.close()
    made = exported(store, trial_id(ran, *ABN), tmp_path / "x.bits")

    assert [one for one in made.faults if "claimed are 7 and" in one]


def judged(*, layers: SameLayers | None, **changes: Any) -> tuple[str, ...]:
    """The faults of a ResNet-20 at 8 bits that was exported, or of a change of it."""
    width = SameLogits(
        bits="w8a8",
        images=1000,
        largest_difference=0.07,
        largest_logit=19.0,
        num_apart=233,
        num_agreeing=1000,
        num_correct=900,
    )
    exported = Exported(
        payload_bits=None,
        padding_bits=0,
        header_bytes=0,
        file_bytes=1,
        claimed_bits=1,
        widths=(replace(width, **changes),),
        layers=layers,
    )
    trial = trial_of("ptq", 8)
    return ModelExport(trial=trial, exported=exported, recorded_bits=1, recorded_correct={}).faults


SAME = SameLayers(num_images=128, num_compared=99, num_codes=10**6, num_at_edges=3, apart=())


def test_a_graph_is_judged_by_its_layers_and_answers_and_a_packed_file_by_its_logits() -> None:
    assert judged(layers=SAME) == ()
    assert judged(layers=None) == ("w8a8: logits of 233 images differ",)
    assert judged(layers=None, num_apart=10) == ()
    assert judged(layers=SAME, num_agreeing=None) == ()


@pytest.mark.parametrize(
    ("layers", "changes", "said"),
    [
        (SAME, {"num_agreeing": 949}, "w8a8: answers on 51 images differ"),
        (SAME, {"largest_difference": None}, "w8a8: NaN or infinity stands against another"),
        (replace(SAME, apart=("stem.conv",)), {}, "stem.conv: the graph gives other values"),
        (replace(SAME, apart=tuple("abcde")), {}, "a, b, c and 2 more: the graph gives other"),
        (replace(SAME, num_source_apart=2), {}, "was drawn from differs on 2 of 128 images"),
    ],
)
def test_what_is_wrong_with_a_graph_is_a_fault(
    layers: SameLayers, changes: dict[str, Any], said: str
) -> None:
    (fault,) = judged(layers=layers, **changes)

    assert said in fault


def test_the_command_tells_of_a_graphs_layers(ran: Path) -> None:
    given = ("--output", "said.onnx", "--format", "onnx")
    done = bitsweep(ran, "export-model", trial_id(ran, *ABN), *given)

    assert (done.returncode, done.stderr) == (0, "")
    assert "layer by layer on equal inputs, 128 images: " in done.stdout
    assert " operations, 0 apart; " in done.stdout
