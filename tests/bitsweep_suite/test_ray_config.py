"""What Tune carries: a job, or a cohort whose members leave one by one."""

from pathlib import Path

from tests.bitsweep_suite.test_worker import job_in
from tests.bitsweep_suite.toys import toy_trial

from bitsweep.execution.base import Job
from bitsweep.execution.ray_config import (
    alone,
    cohort_in,
    config_of,
    members_of,
    name_of,
)
from bitsweep.execution.ray_config import (
    job_in as job_of,
)

BUNDLE = {"CPU": 1.0}


def grouped(folder: Path) -> list[Job]:
    """Jobs of three seeds that are trained together."""
    return [job_in(folder, trial=toy_trial(seed=seed, is_grouped=True)) for seed in range(3)]


def test_a_job_survives_its_config(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    config = config_of((job,), bundle=BUNDLE)

    assert (job_of(config), cohort_in(config)) == (job, None)
    assert (name_of(config), members_of(config)) == (job.trial.id, [job.trial.id])


def test_the_jobs_of_a_cohort_survive_its_config_in_their_order(tmp_path: Path) -> None:
    jobs = grouped(tmp_path)
    config = config_of(jobs, bundle=BUNDLE)

    assert cohort_in(config) == jobs
    assert name_of(config) == jobs[0].trial.id
    assert members_of(config) == [job.trial.id for job in jobs]


def test_a_grouped_trial_without_companions_is_a_cohort_of_one(tmp_path: Path) -> None:
    (first, *_) = grouped(tmp_path)

    assert cohort_in(config_of((first,), bundle=BUNDLE)) == [first]


def test_one_member_alone_leaves_the_cohort_as_it_is(tmp_path: Path) -> None:
    jobs = grouped(tmp_path)
    config = config_of(jobs, bundle=BUNDLE)
    one = alone(config, jobs[1].trial.id)

    assert (name_of(one), cohort_in(one)) == (jobs[1].trial.id, [jobs[1]])
    assert cohort_in(config) == jobs and one["bundle"] == BUNDLE
