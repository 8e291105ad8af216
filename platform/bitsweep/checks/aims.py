"""What a sweep may not aim at: objectives, constraints and comparisons."""

from bitsweep.bits import LEARNED, Bits, Rule
from bitsweep.checks.problem import KeyPath, Problem, can_measure
from bitsweep.declaration import Declarations
from bitsweep.errors import nearest
from bitsweep.measurement import ORACLE
from bitsweep.plan import Plan
from bitsweep.sweep import COST_METRICS, Arm, At, Sweep


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
    """Both sides exist, are confirmed, differ, and can be compared where they stand."""
    plan = Plan(sweep=sweep, declarations=declarations)
    for index, comparison in enumerate(sweep.comparisons):
        path: KeyPath = ("comparisons", index)
        other_key = "at" if comparison.against_at == "same" else "against_at"
        _check_side(plan, comparison.arm, comparison.at, (*path, "arm"), (*path, "at"))
        other = (*path, "against"), (*path, other_key)
        _check_side(plan, comparison.against, comparison.other_at, *other)
        if comparison.arm == comparison.against and comparison.at == comparison.other_at:
            message = "an arm against itself: name another arm, or other bits or another rule in "
            key = "against" if other_key == "at" else other_key
            raise Problem((*path, key), f"{message}against_at")
        if sweep.confirm is None:
            raise Problem(path, "a comparison needs [confirm] with seeds")


def _check_side(plan: Plan, name: str, at: At, arm_path: KeyPath, at_path: KeyPath) -> None:
    """An arm that exists and is measured there; full precision stands at every bit-width."""
    names = [arm.name for arm in plan.sweep.arms]
    if name not in names:
        message = f"no arm is named {name!r}{nearest(name, names)}"
        raise Problem(arm_path, f"{message}; arms: {', '.join(names)}")
    arm = plan.sweep.arm(name)
    if plan.method(arm).weight_bits != (32,):
        _can_compare(plan, arm, at, at_path)
    elif at_path[-1] == "against_at":
        raise Problem(at_path, f"arm {name!r} has full precision alone: leave this key out")


def _can_compare(plan: Plan, arm: Arm, at: At, path: KeyPath) -> None:
    """An arm is measured there: learned bits are compared as such, a rule where it is applied."""
    if isinstance(at, Rule):
        _can_apply(plan, arm, at, path)
        return
    has_learned = plan.has_learned_bits(arm)
    if has_learned and at is not None:
        message = f"the bits of arm {arm.name!r} are a result: expected at = {LEARNED!r}"
        raise Problem(path, f"{message}, got {at.label!r}")
    if not has_learned and at is None:
        message = f"arm {arm.name!r} neither learns its bits nor takes learned ones"
        raise Problem(path, f"{message}; expected bits such as 'w4a4'")
    if at is not None:
        can_measure(plan, arm, (at,), path)


def _can_apply(plan: Plan, arm: Arm, rule: Rule, path: KeyPath) -> None:
    """A rule that reads no labels, at a lambda that every configuration of the arm measures."""
    known = plan.rules(arm)
    if not known:
        message = f"arm {arm.name!r} has no policy, so that no rule is measured"
        raise Problem(path, f"{message}; expected bits such as 'w4a4', got {rule.label!r}")
    names = [name for name in dict.fromkeys(one.allocator for one in known) if name != ORACLE]
    if rule.allocator == ORACLE:
        message = "an oracle reads the labels: it is an upper bound, and nothing is compared to it"
        raise Problem(path, f"{message}; rules: {', '.join(names)}")
    if rule.allocator not in names:
        message = (
            f"arm {arm.name!r} has no rule {rule.allocator!r}{nearest(rule.allocator, names)}"
        )
        raise Problem(path, f"{message}; rules: {', '.join(names)}")
    if rule not in known:
        prices = ", ".join(f"{one.price:g}" for one in known if one.allocator == rule.allocator)
        message = f"arm {arm.name!r} never measures lambda {rule.price:g}"
        raise Problem(path, f"{message}: it is measured at {prices}")
