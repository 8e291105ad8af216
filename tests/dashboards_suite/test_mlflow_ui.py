"""MLflow's own pages over a mirrored sweep, in a real browser: a run is found by what it is."""

from collections.abc import Iterator
from typing import Any

import pytest
from mlflow import MlflowClient
from tests.dashboards_suite.stores import toy_sweep
from tests.mlflow_server import MlflowServer

from bitsweep.plan import Plan
from bitsweep.run import RunOptions, run_sweep
from bitsweep.testing import toy_declarations

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]
PATIENCE_MILLISECONDS = 60_000


FILTER = "tags.\"bitsweep.method\" = 'toy_fp32' AND tags.\"bitsweep.bits\" = 'w32a32'"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of the runs of a mirrored sweep."""
    folder = tmp_path_factory.mktemp("shown")
    server = MlflowServer()
    try:
        plan = Plan(sweep=toy_sweep(name="shown"), declarations=toy_declarations())
        options = RunOptions(store=str(folder / "store.db"), mlflow=server.url, executor="local")
        report = run_sweep(plan, options, observe=lambda progress: None)
        assert report.mirror_lag is None
        experiment = MlflowClient(tracking_uri=server.url).get_experiment_by_name("shown")
        assert experiment is not None
        yield f"{server.url}/#/experiments/{experiment.experiment_id}/runs"
    finally:
        server.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """That page, opened; no address but loopback's is asked."""
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    opened.set_default_timeout(PATIENCE_MILLISECONDS)
    opened.goto(address)
    yield opened
    opened.close()


def number_of_rows(address: str, filter_string: str) -> int:
    """What MLflow's own client finds, and the parent runs under which the page shows it."""
    url, _, experiment = address.removesuffix("/runs").partition("/#/experiments/")
    found = MlflowClient(tracking_uri=url).search_runs([experiment], filter_string)
    return len(found) + len({run.data.tags["mlflow.parentRunId"] for run in found})


def test_a_run_is_found_by_method_and_bits(page: Any, address: str) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    box = page.get_by_test_id("search-box")
    box.fill(FILTER)
    box.press("Enter")
    count = number_of_rows(address, FILTER)
    expect(page.get_by_text("matching runs")).to_contain_text(f"{count} matching runs")
    rows = page.get_by_role("row")
    rows.filter(has_text="start").get_by_role("button").first.click()
    page.get_by_role("link", name="start/w32a32/seed 1").first.click()

    expect(page.get_by_text("validation/top1_percent/w32a32").first).to_be_visible()
    expect(page.get_by_text("bitsweep.method").first).to_be_visible()


def test_a_filter_that_fits_nothing_finds_nothing(page: Any) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    box = page.get_by_test_id("search-box")
    box.fill("tags.\"bitsweep.method\" = 'nothing'")
    box.press("Enter")

    expect(page.get_by_text("matching runs")).to_contain_text("0 matching runs")
