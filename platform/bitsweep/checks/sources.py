"""What an arm may not take from another."""

from bitsweep.checks.problem import KeyPath, Problem
from bitsweep.checks.start import must_keep_plain
from bitsweep.declaration import Declarations
from bitsweep.errors import nearest
from bitsweep.plan import Plan
from bitsweep.space import resolve
from bitsweep.sweep import Arm, Sweep


def check_sources(sweep: Sweep, declarations: Declarations) -> None:
    """What an arm takes exists, fits it, and does not come from itself."""
    plan = Plan(sweep=sweep, declarations=declarations)
    names = [arm.name for arm in sweep.arms]
    for index, arm in enumerate(sweep.arms):
        if arm.source is None:
            continue
        path: KeyPath = ("arms", index, "from")
        if arm.source.arm not in names:
            message = f"no arm is named {arm.source.arm!r}{nearest(arm.source.arm, names)}"
            raise Problem((*path, "arm"), f"{message}; arms: {', '.join(names)}")
        if arm.name in _ancestors(sweep, arm):
            message = f"arm {arm.name!r} would wait for itself: {arm.source.arm!r} takes from it"
            raise Problem((*path, "arm"), message)
        if arm.space:
            message = "is searched here and takes from another arm: give its values in parameters"
            raise Problem(("arms", index, "space"), message)
        if sweep.confirm is not None and sweep.confirm.best_per_arm > 1:
            message = "expected 1 where an arm takes from the best of another"
            raise Problem(("confirm", "best_per_arm"), message)
        parent = sweep.arm(arm.source.arm)
        take = _check_allocation if arm.source.take == "allocation" else _check_checkpoint
        take(plan, arm, parent, path)


def _ancestors(sweep: Sweep, arm: Arm) -> list[str]:
    """The arms that an arm takes from, nearest first; ends where one comes twice."""
    found: list[str] = []
    known = {one.name: one for one in sweep.arms}
    while arm.source is not None and arm.source.arm not in found and arm.source.arm in known:
        found.append(arm.source.arm)
        arm = known[arm.source.arm]
    return found


def _check_allocation(plan: Plan, arm: Arm, parent: Arm, path: KeyPath) -> None:
    method = plan.method(arm)
    if not plan.has_learned_bits(parent):
        can = ", ".join(sorted(_learning(plan.declarations))) or "none"
        message = f"arm {parent.name!r} ({parent.method}) learns no bits that could be taken"
        raise Problem((*path, "take"), f"{message}; methods that can: {can}")
    if plan.learns_bits(arm):
        message = f"arm {arm.name!r} learns its own bits: it cannot be given an allocation too"
        raise Problem((*path, "take"), message)
    if not method.takes_allocations:
        known = plan.declarations.methods.values()
        can = ", ".join(sorted(one.name for one in known if one.takes_allocations))
        message = f"{method.name} cannot run given bits per layer; methods that can: {can}"
        raise Problem((*path, "take"), message)


def _learning(declarations: Declarations) -> list[str]:
    """The methods that learn bits, by default or by one of their choices."""
    found = []
    for method in declarations.methods.values():
        choices = [{one.name: value} for one in method.parameters for value in one.choices]
        if any(method.learns_bits(given) for given in ({}, *choices)):
            found.append(method.name)
    return found


def _check_checkpoint(plan: Plan, arm: Arm, parent: Arm, path: KeyPath) -> None:
    if arm.source is not None and arm.source.form != "kept":
        raise Problem((*path, "as"), "only an allocation has other forms: leave it out")
    if not plan.method(parent).trains:
        message = f"{parent.method} (arm {parent.name!r}) trains nothing: it has no checkpoint"
        raise Problem((*path, "take"), message)
    theirs = plan.measured_bits(parent, parent.parameters)
    method = plan.method(parent)
    given = resolve(method.parameters, parent.parameters)
    must_keep_plain(plan.declarations, method, given, bits=theirs, path=(*path, "arm"))
    own = plan.measured_bits(arm, arm.parameters)
    is_one = plan.method(parent).serves == "all" or len(theirs) == 1
    if not is_one and (plan.method(arm).serves == "all" or not set(own) <= set(theirs)):
        message = f"arm {parent.name!r} trains a network per width: which one is not told; "
        raise Problem((*path, "arm"), f"{message}expected an arm with one, or with the same bits")
    share = plan.held_share(arm)
    if share not in (0.0, plan.held_share(parent)):
        message = f"{arm.method} holds {share:g} of the training images out, which the network of "
        message += f"arm {parent.name!r} was trained on; start from [task.start] or from an arm "
        raise Problem((*path, "take"), f"{message}that holds out as many")
