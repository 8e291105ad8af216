"""The studies of a sweep and the trials of their configurations in each stage."""

from bitsweep.bits import Bits
from bitsweep.execution.criteria import make_criteria
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.roster import Study
from bitsweep.plan import Plan, studies
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
        for label, at in studies(plan.sweep.objectives, measured).items():
            made.append(_study(plan, recorder, arm, label=label, at=at))
    return made


def _study(plan: Plan, recorder: Recorder, arm: Arm, *, label: str, at: tuple[Bits, ...]) -> Study:
    arm_id = recorder.arm_id(arm.name)
    criteria = make_criteria(plan, arm, at)
    search, asks_left = None, 0
    if arm.space:
        search = make_search(
            plan.sweep.search,
            arm.space,
            goals=criteria.goals,
            fixed=arm.parameters,
            first=arm.first,
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
    )


def stage_trials(plan: Plan, study: Study, parameters: Parameters, stage: Stage) -> list[Trial]:
    """The trials of a configuration: every seed of the stage at the bits the stage runs.

    The search runs methods of one width only at the bits of its objective; the confirm stage runs
    all bits of the task, or those of the study where each width has a study of its own.
    """
    bits = plan.measured_bits(study.arm, {**study.arm.parameters, **parameters})
    is_confirm = stage == "confirm" and plan.sweep.confirm is not None
    is_narrow = not is_confirm or plan.sweep.objectives[0].at == "each"
    if plan.method(study.arm).serves == "one" and is_narrow:
        bits = study.at
    return [
        trial
        for seed in _seeds(plan, stage)
        for trial in plan.trials(study.arm, parameters, seed=seed, bits=bits, stage=stage)
    ]


def trials_per_configuration(plan: Plan, study: Study, stage: Stage) -> int:
    """How many trials a configuration has in a stage, before it is known."""
    widths = 1 if plan.method(study.arm).serves == "all" else len(study.at)
    return len(_seeds(plan, stage)) * widths


def _seeds(plan: Plan, stage: Stage) -> tuple[int, ...]:
    confirm = plan.sweep.confirm
    return confirm.seeds if stage == "confirm" and confirm else plan.sweep.search.seeds
