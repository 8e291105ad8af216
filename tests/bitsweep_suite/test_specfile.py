"""A sweep file becomes a sweep: every key arrives, defaults are filled in, --set replaces."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # no stubs
from tests.bitsweep_suite.sweep_texts import DECLARATIONS, WHOLE, read

from bitsweep.bits import tied
from bitsweep.cli.files import schema
from bitsweep.cost import Convention
from bitsweep.plan import Plan
from bitsweep.space import Choice, Range
from bitsweep.specfile import json_schema, read_sweep, stored_sweep
from bitsweep.sweep import Asha, Budget, Comparison, Confirm, Objective, Resources, Search, Start

ROOT = Path(__file__).parents[2]
SWEEP_FILES = sorted((ROOT / "sweeps").glob("*.toml"))
SHORT = """schema = 1
name = "short"
question = "?"
reproduces = ""
expects = ""
cost = ""
task = { data = "fashion-mnist-6k", model = "small-cnn", epochs = 1, bits = [32] }
arms = [{ name = "fp32", method = "fp32" }]
objectives = [{}]
"""


def test_every_table_arrives_in_the_sweep(tmp_path: Path) -> None:
    sweep = read(WHOLE, tmp_path)

    assert sweep.task.bits == (tied(2), tied(3), tied(4))
    assert sweep.task.start == Start(method="fp32", epochs=8, parameters={"learning_rate": 0.02})
    assert sweep.task.convention is Convention.WHOLE_ENDS8
    assert sweep.arm("ptq").parameters == {"activation_bits": 8}
    assert sweep.arm("cpq").space == {
        "sharing": Choice(values=("off", "bitwise", "endpoints")),
        "keep_probability": Range(low=0.7, high=0.99, when={"sharing": ("bitwise", "endpoints")}),
        "learning_rate": Range(low=5e-3, high=1e-1, is_log=True),
    }
    assert sweep.search == Search(
        sampler="tpe",
        configurations_per_arm=6,
        seed=0,
        seeds=(1000,),
        scheduler=Asha(grace_epochs=2, reduction_factor=2),
    )
    assert sweep.objectives == (Objective(at=(tied(3),)),)
    assert sweep.confirm == Confirm(best_per_arm=1, seeds=(0, 1))
    assert sweep.comparisons == (Comparison(arm="cpq", against="lsq", at=tied(3)),)
    assert sweep.resources == Resources(cpus_per_worker=1, max_concurrent=2)
    assert sweep.budget == Budget(trial_minutes=10, retries=2)


def test_the_text_of_the_file_is_kept(tmp_path: Path) -> None:
    assert read(WHOLE, tmp_path).text == WHOLE


def test_a_short_file_is_filled_with_defaults(tmp_path: Path) -> None:
    sweep = read(SHORT, tmp_path)

    assert (sweep.confirm, sweep.comparisons, sweep.budget) == (None, (), Budget())


def test_integer_ranges_are_whole_and_a_single_condition_may_stand_alone(tmp_path: Path) -> None:
    text = WHOLE.replace(
        "learning_rate = { log_uniform = [5e-3, 1e-1] }",
        'nest = { choice = [true, false], when = { sharing = "endpoints" } }',
    )

    assert read(text, tmp_path).arm("cpq").space["nest"].when == {"sharing": ("endpoints",)}


def test_an_arm_may_have_bits_of_its_own(tmp_path: Path) -> None:
    sweep = read(WHOLE.replace('method = "lsq"', 'method = "lsq"\nbits = [8, 3]'), tmp_path)
    plan = Plan(sweep=sweep, declarations=DECLARATIONS)
    measured = {arm.name: plan.measured_bits(arm, arm.parameters) for arm in sweep.arms}

    assert measured["lsq"] == (tied(3), tied(8))
    assert measured["cpq"] == (tied(2), tied(3), tied(4))


def test_the_bits_of_a_task_are_sorted(tmp_path: Path) -> None:
    text = WHOLE.replace('bits = [2, 3, "w4a4"]', 'bits = [4, "w2a2", 3]')

    assert read(text, tmp_path).task.bits == (tied(2), tied(3), tied(4))


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("task.epochs=5", lambda sweep: sweep.task.epochs == 5),
        ("search.seeds=[7, 8]", lambda sweep: sweep.search.seeds == (7, 8)),
        ("search.scheduler.asha.grace_epochs=1", lambda s: s.search.scheduler.grace_epochs == 1),
        ("arms.1.parameters.tau=0.25", lambda sweep: sweep.arms[1].parameters["tau"] == 0.25),
        ("name=other", lambda sweep: sweep.name == "other"),
        ("name='other'", lambda sweep: sweep.name == "other"),
        ("resources.gpus_per_worker=1", lambda s: s.resources.gpus_per_worker == 1.0),
        (
            "task.start.parameters.weight_decay=0.0",
            lambda s: "weight_decay" in s.task.start.parameters,
        ),
    ],
)
def test_set_replaces_one_key(override: str, found: Any, tmp_path: Path) -> None:
    assert found(read(WHOLE, tmp_path, override))


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.name)
def test_the_json_schema_accepts_each_shipped_sweep(path: Path) -> None:
    document = tomllib.loads(path.read_text(encoding="utf-8"))

    assert [*Draft202012Validator(json_schema()).iter_errors(document)] == []


def test_the_json_schema_accepts_every_table() -> None:
    assert [*Draft202012Validator(json_schema()).iter_errors(tomllib.loads(WHOLE))] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs = 4", "epochs = 0"),
        ("epochs = 4", "epoch = 4"),
        ('sampler = "tpe"', 'sampler = "best"'),
        ("seeds = [0, 1]", "seeds = []"),
    ],
)
def test_the_json_schema_refuses_what_the_parser_refuses(old: str, new: str) -> None:
    document = tomllib.loads(WHOLE.replace(old, new))

    assert not Draft202012Validator(json_schema()).is_valid(document)


def test_the_committed_schema_is_the_one_that_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    schema()
    committed = (ROOT / "docs" / "sweep.schema.json").read_text(encoding="utf-8")

    assert committed == capsys.readouterr().out, "run make docs"


def test_editors_are_led_to_the_committed_schema() -> None:
    (rule,) = tomllib.loads((ROOT / ".taplo.toml").read_text(encoding="utf-8"))["rule"]

    assert sorted(ROOT.glob(rule["include"][0])) == SWEEP_FILES
    assert (ROOT / rule["schema"]["path"]).is_file()


def test_the_json_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_reading_a_file_twice_gives_equal_sweeps(tmp_path: Path) -> None:
    assert read(WHOLE, tmp_path) == read(WHOLE, tmp_path)


def test_a_file_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(WHOLE.replace("\n", "\r\n").encode())

    assert read_sweep(path, DECLARATIONS).name == "whole"


def test_a_stored_sweep_finds_its_files_where_its_command_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweeps").mkdir()
    weights = tmp_path / "sweeps" / "w.pt"
    weights.write_bytes(b"weights")
    text = WHOLE.replace("[task]", '[task]\nweights = "w.pt"')
    monkeypatch.chdir(tmp_path)

    declarations = replace(DECLARATIONS, check_weights=lambda *given: None)
    sweep = stored_sweep("whole", text, "bitsweep run sweeps/whole.toml", declarations)

    assert sweep.task.weights == str(weights)


def test_a_cost_is_to_be_small_whatever_the_trainer_measures(tmp_path: Path) -> None:
    text = WHOLE.replace("[search]", '[[objectives]]\nmetric = "bitops"\n\n[search]')
    sweep = read(text, tmp_path)

    assert sweep.objectives[0] == Objective(metric="bitops", goal="minimize")
    assert sweep.metric == "top1_percent"
