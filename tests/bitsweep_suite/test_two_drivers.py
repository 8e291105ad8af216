"""Two drivers of one sweep at once, on one store: each trial is trained by one of them."""

from pathlib import Path
from threading import Barrier, Thread

from tests.bitsweep_suite.toys import FIXED, ask_store, run_toy, toy_sweep

from bitsweep.execution.progress import Progress
from bitsweep.run import RunReport
from bitsweep.sweep import Confirm


def test_what_one_driver_finished_the_other_takes_over(tmp_path: Path) -> None:
    sweep = toy_sweep(FIXED, confirm=Confirm(seeds=(0, 1, 2, 3)))
    both_run = Barrier(2)
    reports: list[RunReport] = []

    def drive() -> None:
        has_met = False

        def meet(progress: Progress) -> None:
            nonlocal has_met
            if progress.event.startswith("started") and not has_met:
                has_met = True
                both_run.wait(timeout=30)

        reports.append(run_toy(sweep, tmp_path, observe=meet))

    threads = [Thread(target=drive) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)

    attempts = "SELECT COUNT(*), COUNT(DISTINCT trial_id) FROM attempts"
    assert ask_store(tmp_path, attempts) == [(8, 8)]
    assert [one.trials_total for one in reports] == [8, 8]
    assert sum(one.trials_run for one in reports) == 8
    assert ask_store(tmp_path, "SELECT * FROM claims") == []
