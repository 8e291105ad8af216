"""The studies of a sweep and the trials of their configurations in each stage."""

from collections.abc import Sequence

from bitsweep.bits import Bits
from bitsweep.execution.criteria import make_criteria
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import Study
from bitsweep.execution.warm import warm_start
from bitsweep.plan import Plan
from bitsweep.search.base import make_search
from bitsweep.space import Parameters
from bitsweep.sweep import Arm, Stage
from bitsweep.trial import Trial

FIXED = "fixed"


def make_studies(plan: Plan, recorder: Recorder) -> list[Study]:
    """One study per arm and objective bits; an arm without a space has a study without search."""
    made = []
    for arm in plan.sweep.arms:
        measured = plan.measured_bits(arm, arm.parameters)
        if not arm.space:
            made.append(_study(plan, recorder, arm, label=FIXED, at=measured))
            continue
        for label, at in plan.studies(arm).items():
            made.append(_study(plan, recorder, arm, label=label, at=at))
    return made


def _study(plan: Plan, recorder: Recorder, arm: Arm, *, label: str, at: tuple[Bits, ...]) -> Study:
    arm_id = recorder.arm_id(arm.name)
    criteria = make_criteria(plan, arm, at)
    search, asks_left = None, 0
    notes: tuple[str, ...] = ()
    if arm.space:
        metrics = plan.sweep.measured_metrics
        warm = warm_start(plan, recorder, arm, at, criteria=criteria, metrics=metrics)
        notes = warm.notes
        search = make_search(
            plan.sweep.search,
            arm.space,
            goals=criteria.goals,
            fixed=arm.parameters,
            first=arm.first,
            prior=warm.told,
        )
        asks_left = plan.sweep.search.configurations_per_arm
    return Study(
        arm=arm,
        arm_id=arm_id,
        label=label,
        at=at,
        criteria=criteria,
        search=search,
        asks_left=asks_left,
        notes=list(notes),
    )


def stage_trials(
    plan: Plan, arm: Arm, at: tuple[Bits, ...], parameters: Parameters, stage: Stage
) -> list[Trial]:
    """The trials of a configuration: every seed of the stage at the bits the stage runs.

    The search runs methods of one width only at the bits of its objective; the confirm stage runs
    all bits of the task, or those of the study (`at`) where each width has a study of its own.
    """
    bits = plan.measured_bits(arm, {**arm.parameters, **parameters})
    is_confirm = stage == "confirm" and plan.sweep.confirm is not None
    is_narrow = not is_confirm or plan.sweep.objectives[0].at == "each"
    if plan.method(arm).serves == "one" and is_narrow:
        bits = at
    return [
        trial
        for seed in stage_seeds(plan, stage)
        for trial in plan.trials(arm, parameters, seed=seed, bits=bits, stage=stage)
    ]


def trials_to_come(plan: Plan, made: Sequence[Study]) -> int:
    """The trials of configurations that are not known yet, in the search and after it."""
    confirm = plan.sweep.confirm
    count = 0
    for study in made:
        if not study.stopped:
            count += max(study.asks_left, 0) * _trials_each(plan, study, "search")
        if confirm is not None and not study.is_confirmed:
            count += confirm.best_per_arm * _trials_each(plan, study, "confirm")
    return count


def _trials_each(plan: Plan, study: Study, stage: Stage) -> int:
    """How many trials a configuration has in a stage, before it is known."""
    return len(stage_seeds(plan, stage)) * trials_per_seed(plan, study)


def trials_per_seed(plan: Plan, study: Study) -> int:
    """How many trials a configuration has at one seed."""
    is_one = plan.method(study.arm).serves == "all" or plan.has_learned_bits(study.arm)
    return 1 if is_one else len(study.at)


def stage_seeds(plan: Plan, stage: Stage) -> tuple[int, ...]:
    """The training seeds of a stage."""
    confirm = plan.sweep.confirm
    return confirm.seeds if stage == "confirm" and confirm else plan.sweep.search.seeds
