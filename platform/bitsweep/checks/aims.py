"""What a sweep may not aim at: objectives, constraints and comparisons."""

from bitsweep.bits import LEARNED, Bits
from bitsweep.checks.problem import KeyPath, Problem, can_measure
from bitsweep.errors import nearest
from bitsweep.plan import Plan
from bitsweep.sweep import COST_METRICS, Arm, Sweep
from bitsweep.trainer import Declarations


def check_objectives(sweep: Sweep, declarations: Declarations) -> None:
    """What is aimed at can be measured, once each, by the sampler that was chosen."""
    objectives = sweep.objectives
    if all(one.metric in COST_METRICS for one in objectives):
        measured = ", ".join(one.name for one in declarations.metrics(sweep.task.trainer))
        message = f"a cost alone needs no training: add an objective that is measured: {measured}"
        raise Problem(("objectives", 0, "metric"), message)
    for index, objective in enumerate(objectives):
        path = ("objectives", index)
        if objective in objectives[:index]:
            raise Problem(path, "this objective stands here twice")
        if objective.metric in COST_METRICS and objective.goal == "maximize":
            raise Problem((*path, "goal"), f"expected 'minimize' for {objective.metric}")
        if (objective.at == "each") != (objectives[0].at == "each"):
            message = "one study per width serves every objective: 'each' for all of them or none"
            raise Problem((*path, "at"), message)
    if len(objectives) > 1 and sweep.search.sampler == "cmaes":
        message = f"cmaes takes one objective, got {len(objectives)}; take tpe, gp or nsga2"
        raise Problem(("search", "sampler"), message)
    _check_objective_bits(sweep, declarations)


def _check_objective_bits(sweep: Sweep, declarations: Declarations) -> None:
    plan = Plan(sweep=sweep, declarations=declarations)
    places: list[tuple[str, int, tuple[Bits, ...] | str | None]]
    places = [("objectives", index, one.at) for index, one in enumerate(sweep.objectives)]
    places += [("constraints", index, one.at) for index, one in enumerate(sweep.constraints)]
    for table, index, at in places:
        if at is None or isinstance(at, str):
            continue
        for arm in sweep.arms:
            if arm.space and not plan.has_learned_bits(arm):
                can_measure(plan, arm, at, (table, index, "at"))
    if sweep.constraints and not any(arm.space for arm in sweep.arms):
        raise Problem(("constraints",), "nothing is searched, so that nothing can be refused")


def check_comparisons(sweep: Sweep, declarations: Declarations) -> None:
    """Both sides exist, are confirmed, and can be compared at these bits."""
    plan = Plan(sweep=sweep, declarations=declarations)
    names = [arm.name for arm in sweep.arms]
    for index, comparison in enumerate(sweep.comparisons):
        for key, name in (("arm", comparison.arm), ("against", comparison.against)):
            path = ("comparisons", index, key)
            if name not in names:
                message = f"no arm is named {name!r}{nearest(name, names)}"
                raise Problem(path, f"{message}; arms: {', '.join(names)}")
            arm = sweep.arm(name)
            if plan.method(arm).weight_bits != (32,):
                _can_compare(plan, arm, comparison.at, ("comparisons", index, "at"))
        if comparison.arm == comparison.against:
            raise Problem(("comparisons", index, "against"), "an arm against itself")
        if sweep.confirm is None:
            raise Problem(("comparisons", index), "a comparison needs [confirm] with seeds")


def _can_compare(plan: Plan, arm: Arm, at: Bits | None, path: KeyPath) -> None:
    """Learned bits are compared with learned ones, or with full precision."""
    has_learned = plan.has_learned_bits(arm)
    if has_learned and at is not None:
        message = f"the bits of arm {arm.name!r} are a result: expected at = {LEARNED!r}"
        raise Problem(path, f"{message}, got {at.label!r}")
    if not has_learned and at is None:
        message = f"arm {arm.name!r} neither learns its bits nor takes learned ones"
        raise Problem(path, f"{message}; expected bits such as 'w4a4'")
    if at is not None:
        can_measure(plan, arm, (at,), path)
