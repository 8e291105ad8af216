"""The command line as scripts see it: exit codes, one JSON document, one line for a mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.plugin import bitsweep, run_sweep

TABLE_KEYS = "arm method allocation split mean sd n unit bitops size_bits"
RUN_KEYS = """sweep trials_total trials_run trials_reused trials_failed measurements_written
    seconds table"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plug-in and a sweep that ran in it; tests only read."""
    folder = tmp_path_factory.mktemp("made")
    plugin.install(folder)
    document = run_sweep(folder)
    (folder / "first.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def spoilt(folder: Path, old: str, new: str) -> Path:
    """A folder with the plug-in and the sweep file changed."""
    text = plugin.SWEEP.replace(old, new)
    assert text != plugin.SWEEP
    plugin.install(folder, text)
    return folder


FIXED = 'name = "fixed"\nmethod = "toy"'
FAILING = (FIXED, f'{FIXED}\nparameters.act = "raise"')


def test_json_of_a_run_is_one_document_with_the_keys_that_scripts_rely_on(made: Path) -> None:
    document = json.loads((made / "first.json").read_text(encoding="utf-8"))

    assert set(RUN_KEYS.split()) <= set(document)
    assert document["trials_run"] == document["trials_total"] > 0
    assert document["table"]


def test_a_run_again_runs_nothing_and_prints_the_table(made: Path) -> None:
    done = bitsweep(made, *plugin.RUN)

    assert done.returncode == 0
    assert "0 trials run" in done.stdout and "searched" in done.stdout


def test_json_of_the_table_has_the_keys_that_scripts_rely_on(made: Path) -> None:
    done = bitsweep(made, "table", "toy", "--format", "json")
    rows = json.loads(done.stdout)

    assert all(set(TABLE_KEYS.split()) <= set(row) for row in rows)
    assert {(row["arm"], row["allocation"], row["n"]) for row in rows} == {
        (arm, bits, 2) for arm in ("fixed", "searched") for bits in ("w2a2", "w3a3")
    }


@pytest.mark.parametrize("form", ["text", "markdown", "csv"])
def test_the_table_is_printed_in_each_form(form: str, made: Path) -> None:
    done = bitsweep(made, "table", "toy", "--format", form)

    assert (done.returncode, done.stderr) == (0, "") and "w3a3" in done.stdout


def test_the_table_tells_what_two_seeds_can_reach(made: Path) -> None:
    text = bitsweep(made, "table", "toy").stdout

    assert "searched - fixed at w3a3" in text and "0.5" in text
    assert "Configurations searched per arm: searched 3" in text


def test_an_unknown_sweep_names_the_nearest(made: Path) -> None:
    done = bitsweep(made, "table", "tou")

    assert done.returncode == 2
    assert done.stderr == "error: no sweep is named 'tou' (did you mean 'toy'?); sweeps: toy\n"


def test_show_tells_a_sweep_and_a_trial_in_full(made: Path) -> None:
    sweep = json.loads(bitsweep(made, "show", "toy", "--json").stdout)
    trial = sweep["trials"][0]["trial_id"]
    shown = json.loads(bitsweep(made, "show", trial[:12], "--json").stdout)

    assert shown["trial"] == trial and shown["measurements"]


def test_show_of_nothing_known_is_a_mistake(made: Path) -> None:
    done = bitsweep(made, "show", "ffffffffffff0")

    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_list_tells_the_sweeps(made: Path) -> None:
    (row,) = json.loads(bitsweep(made, "list", "--json").stdout)

    assert row["sweep"] == "toy" and row["finished"] == row["trials"]


def test_a_query_answers_as_json(made: Path) -> None:
    done = bitsweep(made, "query", "SELECT COUNT(*) AS n FROM sweeps", "--format", "json")

    assert json.loads(done.stdout) == [{"n": 1}]


def test_a_query_refuses_to_write(made: Path) -> None:
    done = bitsweep(made, "query", "DELETE FROM measurements")

    assert done.returncode == 2
    assert done.stderr == "error: the query failed: attempt to write a readonly database\n"


def test_a_dry_run_runs_nothing(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    done = bitsweep(tmp_path, *plugin.RUN, "--dry-run", "--json")

    assert json.loads(done.stdout)["trials_to_run"] > 0
    assert not (tmp_path / "results" / "bitsweep.db").exists()


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("mysql://x/y", "expected SQLite (a file) or postgresql://..."),
        ("postgresql://127.0.0.1:9/none", "cannot be used now"),
        ("toy.toml", "file is not a database"),
    ],
)
def test_a_dry_run_says_that_it_cannot_read_the_store(
    store: str, expected: str, tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    done = bitsweep(tmp_path, *plugin.RUN, "--dry-run", "--store", store)

    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: store") and expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_dry_run_of_a_finished_sweep_has_nothing_to_run(made: Path) -> None:
    document = json.loads(bitsweep(made, *plugin.RUN, "--dry-run", "--json").stdout)

    assert document["trials_to_run"] == 0


def test_a_trial_run_again_gives_identical_numbers(made: Path) -> None:
    sweep = json.loads(bitsweep(made, "show", "toy", "--json").stdout)
    trial = sweep["trials"][-1]["trial_id"]
    done = bitsweep(made, "run", "toy.toml", "--trial", trial[:12])

    assert (done.returncode, "identical" in done.stdout) == (0, True)


def test_failed_trials_end_with_1_and_their_reasons_are_told(tmp_path: Path) -> None:
    spoilt(tmp_path, *FAILING)
    done = bitsweep(tmp_path, *plugin.RUN)

    assert done.returncode == 1
    assert "RuntimeError: the toy was told to fail" in done.stdout
    assert "--retry failed" in done.stdout


def test_json_of_a_run_with_failures_is_still_one_document(tmp_path: Path) -> None:
    spoilt(tmp_path, *FAILING)
    document = run_sweep(tmp_path)

    assert document["trials_failed"] == len(document["failures"]) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "absent.toml"),
        ("validate", "absent.toml"),
        ("run", "toy.toml", "--set", "task.epoch=3"),
        ("run", "toy.toml", "--executor", "slurm"),
        ("run", "toy.toml", "--store", "mysql://x/y"),
        ("table", "toy", "--store", "absent.db"),
        ("methods", "lqs"),
        ("tabel", "toy"),
        ("run",),
    ],
)
def test_bad_input_ends_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    plugin.install(tmp_path)
    done = bitsweep(tmp_path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_a_mistake_in_a_sweep_file_is_one_line(tmp_path: Path) -> None:
    spoilt(tmp_path, "epochs = 3", "epoch = 3")
    done = bitsweep(tmp_path, "validate", "toy.toml")

    assert done.returncode == 2
    assert done.stderr.startswith("error: toy.toml:14: task.epoch: unknown key")
    assert done.stderr.count("\n") == 1


def test_a_plug_in_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    site = plugin.install(tmp_path)
    (site / "toy_plugin.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    done = bitsweep(tmp_path, "methods")

    assert done.returncode == 2
    assert "the plug-in 'toy_plugin' cannot be loaded" in done.stderr


def test_a_plug_in_that_breaks_while_it_is_imported_is_one_line(tmp_path: Path) -> None:
    site = plugin.install(tmp_path)
    (site / "toy_plugin.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    done = bitsweep(tmp_path, "methods")

    assert done.returncode == 2
    assert "the plug-in 'toy_plugin' cannot be loaded" in done.stderr


def test_json_of_the_methods_has_the_keys_that_scripts_rely_on(made: Path) -> None:
    rows = json.loads(bitsweep(made, "methods", "--json").stdout)

    assert {"fp32", "ptq", "lsq", "cpq_dropbits", "mbquant", "toy"} <= {r["name"] for r in rows}
    assert all({"name", "parameters", "bits"} <= set(row) for row in rows)
    groups_seeds = {row["name"]: row["groups_seeds"] for row in rows}
    assert (groups_seeds["toy"], groups_seeds["ptq"]) == (True, False)


def test_the_store_of_the_environment_is_used(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(made / "results" / "bitsweep.db", copy)
    done = bitsweep(tmp_path, "list", "--json", BITSWEEP_STORE=str(copy), PYTHONPATH="")

    assert json.loads(done.stdout)[0]["sweep"] == "toy"


def test_a_reader_that_leaves_early_is_no_error(made: Path) -> None:
    command = f"{sys.executable} -c 'from bitsweep.cli import main; main()' methods | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=made,
        env=plugin.environment(made),
        capture_output=True,
        text=True,
    )

    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_the_schema_is_json(made: Path) -> None:
    document = json.loads(bitsweep(made, "schema").stdout)

    assert document["type"] == "object" and "arms" in document["properties"]


def test_a_dashboard_of_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    done = bitsweep(tmp_path, "dashboard", "--store", "toy.toml", "--port", "0")

    assert done.returncode == 2
    assert done.stderr.startswith("error: store 'toy.toml' cannot be read: file is not a database")


def test_a_dashboard_says_that_there_is_no_store_yet(tmp_path: Path) -> None:
    # Ends at once: off loopback it wants a token.
    done = bitsweep(tmp_path, "dashboard", "--store", "none.db", "--host", "0.0.0.0")

    assert done.stderr.startswith("no store at 'none.db': run a sweep first")


def test_an_address_that_mlflow_has_not_is_refused_before_anything_runs(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    run = ("run", "toy.toml", "--executor", "local", "--mlflow", "foo://ada:secret@bar")
    done = bitsweep(tmp_path, *run)

    assert done.returncode == 2 and "secret" not in done.stderr
    assert done.stderr.startswith("error: --mlflow foo://...: MLflow has no such kind of address")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "results" / "bitsweep.db").exists()


def test_what_brings_mlflow_up_to_date_names_store_and_address(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    run = ("run", "toy.toml", "--executor", "local", "--store", "a.db")
    done = bitsweep(tmp_path, *run, "--mlflow", "mysql://127.0.0.1:9/none")
    wanted = "catch up: bitsweep mirror toy --store a.db --mlflow mysql://127.0.0.1:9/none"

    assert done.returncode == 0 and wanted in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "toy.toml", "--executor", "foo"), "'--executor'"),
        (("dashboard", "--port", "99999"), "'--port'"),
        (("plan", "toy.toml"), "Did you mean `bitsweep run FILE --dry-run`?"),
        (("check", "toy.toml"), "Did you mean `bitsweep validate FILE` or"),
        (("vlidate", "toy.toml"), "Did you mean 'validate'?"),
        (("report", "toy", "--output", "x.txt"), "x.txt: expected a name that ends in .html"),
    ],
)
def test_a_mistaken_command_line_is_one_line(
    words: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    done = bitsweep(tmp_path, *words)

    assert done.returncode == 2 and expected in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    plugin.install(tmp_path)
    path = tmp_path / "toy.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert bitsweep(tmp_path, "validate", "toy.toml").returncode == 0
