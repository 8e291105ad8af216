"""The report of a policy: from counts in the store to entropy, costs and learned - shuffled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.toys import FIXED, evaluation, measurement, toy_sweep, toy_trial
from typer.testing import CliRunner

from bitsweep.analysis.policies import (
    PolicyReport,
    bootstrapped,
    entropy_bits,
    policy_report,
    policy_reports,
)
from bitsweep.bits import Allocation
from bitsweep.cli import app
from bitsweep.cost import SampleCosts
from bitsweep.measurement import Measurement
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.dynamic import DynamicRow, dynamic_rows
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer

SUMS = {
    "loss": 300.0,
    "distinct allocations": 3.0,
    "images at the commonest allocation": 700.0,
    "decisions that 8 bits change": 8.0,
    "images of body.conv1 at w2a2": 500.0,
    "images of body.conv1 at w4a4": 500.0,
    "images of body.conv2 at w2a2": 1000.0,
    "images of body.conv2 at w4a4": 0.0,
    "images -5/10 above shuffled": 100.0,
    "images +0/10 above shuffled": 600.0,
    "images +10/10 above shuffled": 300.0,
}
COSTS = SampleCosts(points=((4.0, 500), (16.0, 500)))


def learned(**changes: float) -> Measurement:
    return replace(
        measurement(700),
        allocation=Allocation(layers=(), policy="learned@0.2"),
        allocator="learned",
        lambda_=0.2,
        sums={**SUMS, **changes},
        sample_costs=COSTS,
    )


def stored(folder: Path, *measurements: Measurement) -> str:
    """A store with these measurements of one trial; return the trial."""
    from tests.bitsweep_suite.toys import LAYERS

    writer = Writer(open_to_write(str(folder / "store.db")))
    sweep_id, (arm_id,) = writer.register_sweep(toy_sweep(FIXED), [(FIXED, "digest")])
    trial = toy_trial()
    writer.add_trial(trial, layers=LAYERS, sweep_id=sweep_id, stage="confirm", arm_id=arm_id)
    writer.record(trial.id, evaluation(1, *measurements))
    writer.close()
    return trial.id


def rows_of(folder: Path, *measurements: Measurement) -> list[DynamicRow]:
    trial_id = stored(folder, *measurements)
    return dynamic_rows(Reader(open_to_read(str(folder / "store.db"))), trial_id)


def reported(folder: Path, *measurements: Measurement) -> list[PolicyReport]:
    return policy_reports(rows_of(folder, *measurements))


def test_the_report_tells_what_was_counted(tmp_path: Path) -> None:
    (report,) = reported(tmp_path, measurement(), learned())
    above = report.above_shuffled
    assert above is not None

    assert (report.distinct, report.is_collapsed, report.price) == (3, False, 0.2)
    assert report.entropy_bits == {"body.conv1": 1.0, "body.conv2": 0.0}
    assert report.shares["body.conv1"] == {"w2a2": 0.5, "w4a4": 0.5}
    assert (report.commonest_share, report.changed_share) == (0.7, 8 / 2000)
    assert report.costs == COSTS
    assert above.mean == pytest.approx(25.0)
    # sd of one sample 0.5123 of 1, n = 1000: 1.96 standard errors are 3.18 points.
    assert above.low95 == pytest.approx(25.0 - 3.18, abs=0.2)
    assert above.high95 == pytest.approx(25.0 + 3.18, abs=0.2)


def test_a_policy_of_one_allocation_is_told_as_collapsed(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, learned())
    none = {name: one for name, one in SUMS.items() if "shuffled" not in name}
    equal = {"distinct allocations": 1.0, "images +0/10 above shuffled": 1000.0}
    report = policy_report(replace(row, sums=none | equal))
    assert report.above_shuffled is not None

    assert report.is_collapsed
    assert "COLLAPSED" in report.line()
    assert (report.above_shuffled.low95, report.above_shuffled.high95) == (0.0, 0.0)


def test_a_policy_of_almost_one_allocation_is_told_as_nearly_collapsed(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, learned())
    reports = {
        count: policy_report(
            replace(row, sums={**SUMS, "images at the commonest allocation": count})
        )
        for count in (950.0, 951.0)
    }

    assert [one.is_nearly_collapsed for one in reports.values()] == [False, True]
    assert not reports[951.0].is_collapsed
    assert "95.1 % of the samples at the commonest one" in reports[951.0].line()
    assert "; NEARLY COLLAPSED" in reports[951.0].line()
    assert "COLLAPSED" not in reports[950.0].line()


def test_a_rival_of_one_allocation_has_not_collapsed(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, learned())
    report = policy_report(replace(row, allocator="greedy", sums={"distinct allocations": 1.0}))

    assert not report.is_collapsed
    assert report.above_shuffled is None


def test_show_tells_the_policies_of_a_trial(tmp_path: Path) -> None:
    trial_id = stored(tmp_path, measurement(), learned())
    store = ["--store", str(tmp_path / "store.db")]
    text = CliRunner().invoke(app, ["show", trial_id[:12], *store]).stdout
    shown = json.loads(CliRunner().invoke(app, ["show", trial_id[:12], "--json", *store]).stdout)

    assert "policy:learned@0.2 on validation: 70.00 % of 1000; BitOps" in text
    assert "mean 10, p5 4, p50 4, p95 16, max 16" in text
    assert "3 different allocations; 70.0 % of the samples at the commonest one" in text
    assert "8 bits change 0.40 % of its decisions" in text
    assert shown["policies"][0]["sample_bitops_body"]["p95"] == 16.0
    assert shown["policies"][0]["above_shuffled_points"]["mean"] == pytest.approx(25.0)


def test_an_interval_narrows_with_the_samples_and_repeats() -> None:
    few, many = ({-1.0: n, 0.0: 8 * n, 1.0: n} for n in (10, 1000))
    widths = [one.high95 - one.low95 for one in (bootstrapped(few), bootstrapped(many))]

    assert widths[0] == pytest.approx(10 * widths[1], rel=0.1)
    assert bootstrapped(few) == bootstrapped(few)


def test_entropy_of_equal_shares_is_the_logarithm_of_their_number() -> None:
    assert entropy_bits([0.25] * 4) == 2.0
    assert entropy_bits([1.0, 0.0]) == 0.0
