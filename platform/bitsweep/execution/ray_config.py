"""What Tune hands to an actor as a trial's config: one job, or a cohort's jobs by trial."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bitsweep.execution.base import Job, job_document, parse_job

Config = dict[str, Any]


def config_of(jobs: Sequence[Job], *, bundle: Mapping[str, float]) -> Config:
    """The config of a job, or of grouped ones; the first names it."""
    first = jobs[0]
    config = {"trial_id": first.trial.id, "bundle": dict(bundle)}
    if not first.trial.is_grouped:
        return config | {"job": json.dumps(job_document(first))}
    return config | {"cohort": {one.trial.id: json.dumps(job_document(one)) for one in jobs}}


def job_in(config: Config) -> Job:
    """The job of a config without a cohort."""
    return parse_job(json.loads(config["job"]))


def cohort_in(config: Config) -> list[Job] | None:
    """The jobs of a cohort; None where the config is of one job."""
    if "cohort" not in config:
        return None
    return [parse_job(json.loads(one)) for one in config["cohort"].values()]


def name_of(config: Config) -> str:
    """Of a cohort: the trial that it began with."""
    return str(config["trial_id"])


def members_of(config: Config) -> list[str]:
    """The trials that have not ended."""
    return list(config.get("cohort", [name_of(config)]))


def alone(config: Config, member: str) -> Config:
    """The config of one member of a cohort as a cohort of its own."""
    return {**config, "trial_id": member, "cohort": {member: config["cohort"][member]}}
