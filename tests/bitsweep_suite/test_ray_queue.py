"""What the Ray executor tells Tune: which trial begins, and what becomes of a cohort's members."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from tests.bitsweep_suite.test_worker import job_in
from tests.bitsweep_suite.toys import evaluation, toy_trial

from bitsweep.execution.ray_config import Config, alone, config_of, members_of
from bitsweep.execution.ray_tune import _Deaths, _Recording
from bitsweep.execution.worker import step_document
from bitsweep.measurement import Evaluation
from bitsweep.trial import Diverged, Failed, Finished, Outcome


class Controller:
    """Tune's controller as a scheduler sees it; who asks for every trial there was, fails."""

    def __init__(self) -> None:
        self.live: set[Trial] = set()

    def get_live_trials(self) -> set[Trial]:
        return self.live


@pytest.fixture
def scheduler() -> Any:
    nobody: Any = SimpleNamespace(place=lambda trial: None)
    return _Recording(nobody, [], nobody)


def trials(scheduler: Any, controller: Controller, statuses: list[str]) -> list[Trial]:
    made = [Trial("toy", stub=True) for _ in statuses]
    for trial, status in zip(made, statuses, strict=True):
        scheduler.on_trial_add(controller, trial)
        trial.set_status(status)
        controller.live.add(trial)
    return made


def test_the_first_that_waits_begins(scheduler: Any) -> None:
    controller = Controller()
    made = trials(scheduler, controller, [Trial.RUNNING, *[Trial.PENDING] * 20])

    assert scheduler.choose_trial_to_run(controller) is made[1]
    made[1].set_status(Trial.RUNNING)
    assert scheduler.choose_trial_to_run(controller) is made[2]


def test_a_paused_one_begins_when_none_waits(scheduler: Any) -> None:
    controller = Controller()
    paused, waiting = trials(scheduler, controller, [Trial.PAUSED, Trial.PENDING])

    assert scheduler.choose_trial_to_run(controller) is waiting
    waiting.set_status(Trial.TERMINATED)
    assert scheduler.choose_trial_to_run(controller) is paused
    paused.set_status(Trial.RUNNING)
    assert scheduler.choose_trial_to_run(controller) is None


class Notes:
    """An agenda, and what tries trials again, that write down what they are told."""

    def __init__(self, *, unwanted: str = "") -> None:
        self.told: list[tuple[str, object]] = []
        self.unwanted = unwanted

    def evaluated(self, trial_id: str, evaluation: Evaluation, /) -> bool:
        self.told.append((trial_id, evaluation.epoch))
        return trial_id != self.unwanted

    def ended(self, named: Config | str, outcome: Outcome, *, node: str = "") -> None:
        ended = named if isinstance(named, str) else str(named["trial_id"])
        self.told.append((ended, outcome))

    def again(self, trial_id: str, /) -> None:
        self.told.append((trial_id, "again"))


def cohort_of(folder: Path) -> Any:
    """Tune's trial of three members, as far as the executor looks at it."""
    jobs = [job_in(folder, trial=toy_trial(seed=seed, is_grouped=True)) for seed in range(3)]
    return SimpleNamespace(config=config_of(jobs, bundle={"CPU": 1.0}), num_failures=3)


def result(*steps: tuple[str, Evaluation | Outcome]) -> dict[str, Any]:
    """What a cohort's worker tells."""
    return {"steps": json.dumps([[one, step_document(step)] for one, step in steps]), "node": "n"}


def test_a_member_that_ended_is_not_begun_again_and_the_others_go_on(tmp_path: Path) -> None:
    notes: Any = Notes()
    trial = cohort_of(tmp_path)
    a, b, c = members_of(trial.config)
    recording = _Recording(notes, [], notes)
    bad = Diverged(reason="nan")
    decision = recording.on_trial_result(None, trial, result((a, evaluation()), (b, bad)))

    assert decision == recording.CONTINUE and members_of(trial.config) == [a, c]
    assert notes.told == [(a, 1), (b, bad)]


def test_what_the_agenda_has_ended_is_told_to_it_no_more(tmp_path: Path) -> None:
    trial = cohort_of(tmp_path)
    a, b, _ = members_of(trial.config)
    notes: Any = Notes(unwanted=b)
    recording = _Recording(notes, [], notes)
    recording.on_trial_result(None, trial, result((a, evaluation()), (b, evaluation())))
    recording.on_trial_result(None, trial, result((a, evaluation(2)), (b, evaluation(2))))

    assert notes.told == [(a, 1), (b, 1), (a, 2)]


def test_a_cohort_of_which_nobody_goes_on_is_stopped(tmp_path: Path) -> None:
    trial = cohort_of(tmp_path)
    trial.config = alone(trial.config, members_of(trial.config)[1])
    (member,) = members_of(trial.config)
    notes: Any = Notes(unwanted=member)
    recording = _Recording(notes, [], notes)
    last = result((member, evaluation()))

    assert recording.on_trial_result(None, trial, last) == recording.STOP
    recording.on_trial_complete(None, trial, last)  # Tune may tell it again
    assert notes.told == [(member, 1)]


def test_the_last_words_of_a_cohort_end_each_member(tmp_path: Path) -> None:
    trial = cohort_of(tmp_path)
    members = members_of(trial.config)
    notes: Any = Notes()
    outcome = Finished(epoch=4)
    _Recording(notes, [], notes).on_trial_complete(
        None, trial, result(*((one, outcome) for one in members))
    )

    assert notes.told == [(one, outcome) for one in members]


def test_members_whose_worker_died_too_often_are_handed_out_one_by_one(tmp_path: Path) -> None:
    notes: Any = Notes()
    source: Any = SimpleNamespace(again=[])
    trial = cohort_of(tmp_path)
    members = members_of(trial.config)
    deaths = _Deaths(notes, [], source, retries=2)
    deaths.on_trial_error(0, [], trial)
    single = SimpleNamespace(config=source.again[1], num_failures=3)
    deaths.on_trial_error(0, [], single)

    assert [members_of(one) for one in source.again] == [[one] for one in members]
    assert notes.told == [
        *((one, "again") for one in members),
        (members[1], Failed(reason="its worker process died 2 times")),
    ]


def test_every_member_gets_another_attempt_with_its_worker(tmp_path: Path) -> None:
    notes: Any = Notes()
    source: Any = SimpleNamespace(again=[])
    trial = cohort_of(tmp_path)
    trial.num_failures = 1
    deaths = _Deaths(notes, [], source, retries=2)
    deaths.on_trial_recover(0, [], trial)
    deaths.on_trial_error(0, [], trial)  # it could not even start

    again = [(one, "again") for one in members_of(trial.config)]
    assert notes.told == [*again, *again]
    assert [members_of(one) for one in source.again] == [members_of(trial.config)]
