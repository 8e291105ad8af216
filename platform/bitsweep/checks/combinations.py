"""Values that are right alone must fit each other: what the space of an arm can draw together."""

from collections.abc import Iterator, Sequence
from itertools import islice

from bitsweep.checks.problem import KeyPath, Problem
from bitsweep.declaration import Declarations
from bitsweep.plan import Plan
from bitsweep.space import Choice, Parameters, Range, Value, is_active
from bitsweep.sweep import Arm, Sweep

# So many combinations of an arm are checked at most; beyond, each value beside the others' first.
MOST_COMBINATIONS = 256


def check_combinations(sweep: Sweep, declarations: Declarations) -> None:
    """Every combination of choices fits together, with all ranges at their low or high ends.

    What lies within ranges, and what is too much to try, is checked when it is drawn.
    """
    plan = Plan(sweep=sweep, declarations=declarations)
    for index, arm in enumerate(sweep.arms):
        for point in drawable(arm):
            message = _wrong(plan, arm, point)
            if message is not None:
                raise Problem(_path(plan, arm, index, point), message)


def check_first_points(sweep: Sweep, declarations: Declarations) -> None:
    """The first points of each arm fit together."""
    plan = Plan(sweep=sweep, declarations=declarations)
    for index, arm in enumerate(sweep.arms):
        for number, point in enumerate(arm.first):
            message = _wrong(plan, arm, point)
            if message is not None:
                raise Problem(("arms", index, "first", number), message)


def _wrong(plan: Plan, arm: Arm, point: Parameters) -> str | None:
    """Why this point cannot be drawn, None if it can."""
    if (fault := plan.fault(arm, point)) is not None:
        return fault
    given = {**arm.parameters, **point}
    if plan.measured_bits(arm, given) != plan.measured_bits(arm, arm.parameters):
        message = "cannot be searched: it changes the bits that are measured; "
        return f"{message}give each value an arm of its own"
    return None


def _path(plan: Plan, arm: Arm, index: int, point: Parameters) -> KeyPath:
    """The key to blame: the first searched value with which the ones before it do not fit."""
    prefix: dict[str, Value] = {}
    if _wrong(plan, arm, prefix) is not None:
        return ("arms", index, "method")
    for name, value in point.items():
        prefix[name] = value
        if _wrong(plan, arm, prefix) is not None:
            break
    return ("arms", index, "space", name)


def drawable(arm: Arm) -> Iterator[dict[str, Value]]:
    """What stands for all that an arm can draw; one empty point where nothing is searched."""
    names = list(arm.space)
    for end in (0, -1):
        combined = list(islice(_combined(arm, names, {}, end), MOST_COMBINATIONS + 1))
        if len(combined) <= MOST_COMBINATIONS:
            yield from combined
        else:
            yield from _one_by_one(arm, end)


def _combined(
    arm: Arm, names: Sequence[str], point: dict[str, Value], end: int
) -> Iterator[dict[str, Value]]:
    """All combinations of choices that conditions allow; ranges at one end."""
    if not names:
        yield point
        return
    name, *rest = names
    dimension = arm.space[name]
    values: tuple[Value, ...] = dimension.extremes
    if isinstance(dimension, Range):
        values = (values[end],)
    if not is_active(dimension.when, {**arm.parameters, **point}):
        yield from _combined(arm, rest, point, end)
        return
    for value in values:
        yield from _combined(arm, rest, {**point, name: value}, end)


def _one_by_one(arm: Arm, end: int) -> Iterator[dict[str, Value]]:
    """Each value of each choice, every other choice at the first value that it may have."""
    for varied, dimension in arm.space.items():
        for value in dimension.extremes if isinstance(dimension, Choice) else (None,):
            point: dict[str, Value] = {}
            for name, one in arm.space.items():
                if is_active(one.when, {**arm.parameters, **point}):
                    at = 0 if isinstance(one, Choice) else end
                    point[name] = one.extremes[at]
                    if name == varied and value is not None:
                        point[name] = value
            yield point
