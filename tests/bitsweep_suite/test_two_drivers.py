"""Two drivers of one sweep at once, on one store: each trial is trained by one of them."""

from pathlib import Path
from threading import Barrier, Thread

import pytest
from tests.bitsweep_suite.toys import FIXED, SEARCHED, ask_store, run_toy, toy_sweep

from bitsweep.execution.progress import Progress
from bitsweep.run import RunReport
from bitsweep.space import Choice
from bitsweep.sweep import Arm, Confirm, Sampler, Search, Sweep

GRID = Arm(name="a", method="toy", space={"x": Choice(values=tuple(n / 20 for n in range(12)))})


def drive_twice(sweep: Sweep, folder: Path) -> list[RunReport]:
    """Two drivers of a sweep, which begin their first trials at the same moment."""
    both_run = Barrier(2)
    reports: list[RunReport] = []

    def drive() -> None:
        has_met = False

        def meet(progress: Progress) -> None:
            nonlocal has_met
            if progress.event.startswith("started") and not has_met:
                has_met = True
                both_run.wait(timeout=30)

        reports.append(run_toy(sweep, folder, observe=meet))

    threads = [Thread(target=drive) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    return reports


def test_what_one_driver_finished_the_other_takes_over(tmp_path: Path) -> None:
    sweep = toy_sweep(FIXED, confirm=Confirm(seeds=(0, 1, 2, 3)))
    reports = drive_twice(sweep, tmp_path)

    attempts = "SELECT COUNT(*), COUNT(DISTINCT trial_id) FROM attempts"
    assert ask_store(tmp_path, attempts) == [(8, 8)]
    assert [one.trials_total for one in reports] == [8, 8]
    assert sum(one.trials_run for one in reports) == 8
    assert ask_store(tmp_path, "SELECT * FROM claims") == []


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_two_drivers_search_no_more_than_one(sampler: Sampler, tmp_path: Path) -> None:
    arm = GRID if sampler == "grid" else SEARCHED
    search = Search(configurations_per_arm=12, sampler=sampler)
    reports = drive_twice(toy_sweep(arm, search=search), tmp_path)

    assert ask_store(tmp_path, "SELECT COUNT(*), COUNT(DISTINCT digest) FROM configurations") == [
        (12, 12)
    ]
    assert [one.trials_total for one in reports] == [28, 28]
    assert sum(one.trials_run for one in reports) == 28
    attempts = "SELECT COUNT(*), COUNT(DISTINCT trial_id) FROM attempts"
    assert ask_store(tmp_path, attempts) == [(28, 28)]
