"""bitsweep optuna: a real server over the searches of a store, asked over HTTP."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.plugin import bitsweep, run_sweep, start

MISSING = "raise ImportError('as if it were not installed')\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep that ran; its configurations were set on the command line."""
    folder = tmp_path_factory.mktemp("made")
    plugin.install(folder)
    run_sweep(folder, "--set", "search.configurations_per_arm=5")
    return folder


@pytest.fixture(scope="module")
def address(made: Path) -> Iterator[str]:
    """The address that the running command prints."""
    with start(made, "optuna", "toy", "--port", "0", stderr=None, PYTHONUNBUFFERED="1") as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found.group()
        server.terminate()


def ask(address: str, path: str) -> Any:  # JSON
    """What the server answers."""
    with urlopen(f"{address}{path}", timeout=20) as answer:
        return json.loads(answer.read())


def test_each_searched_arm_is_a_study(address: str) -> None:
    studies = ask(address, "/api/studies")["study_summaries"]

    assert [one["study_name"] for one in studies] == ["toy/searched/all"]


def test_its_trials_are_the_proposals_of_the_store(address: str, made: Path) -> None:
    study = ask(address, "/api/studies/0?after=0")
    sql = "SELECT configuration_id, avg(top1_percent) FROM member_results WHERE stage = 'search' "
    sql += "GROUP BY configuration_id ORDER BY configuration_id"
    stored = json.loads(bitsweep(made, "query", sql, "--format", "json").stdout)
    values = [trial["values"][0] for trial in study["trials"]]

    assert len(values) == 5
    assert values == pytest.approx([list(row.values())[1] for row in stored])
    assert {one["state"] for one in study["trials"]} == {"Complete"}
    assert all(len(one["intermediate_values"]) == 3 for one in study["trials"])


def test_the_page_itself_is_served(address: str) -> None:
    with urlopen(f"{address}/dashboard", timeout=20) as answer:
        assert b"<html" in answer.read().lower()


def test_the_store_is_not_written(address: str, made: Path) -> None:
    store = made / "results" / "bitsweep.db"
    before = sha256(store.read_bytes()).hexdigest()
    ask(address, "/api/studies")

    assert sha256(store.read_bytes()).hexdigest() == before


def test_without_the_extra_one_line_says_how_to_install_it(made: Path, tmp_path: Path) -> None:
    (tmp_path / "optuna_dashboard.py").write_text(MISSING, encoding="utf-8")
    path = f"{tmp_path}:{made / 'site'}"
    done = bitsweep(made, "optuna", "toy", "--port", "0", PYTHONPATH=path)

    assert done.returncode == 2
    assert "optuna-dashboard is not installed: pip install 'bitsweep[optuna]'" in done.stderr


def test_a_port_that_is_taken_is_an_input_error(address: str, made: Path) -> None:
    port = address.rpartition(":")[2]
    done = bitsweep(made, "optuna", "toy", "--port", port)

    assert done.returncode == 2 and "Address already in use; choose another" in done.stderr


def test_a_sweep_that_is_unknown_is_an_input_error(made: Path) -> None:
    done = bitsweep(made, "optuna", "tyo")

    assert done.returncode == 2 and "did you mean 'toy'?" in done.stderr
