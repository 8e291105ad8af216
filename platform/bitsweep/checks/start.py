"""What trainings may not begin with: a start that cannot be run, or gives no plain network."""

from collections.abc import Mapping

from bitsweep.bits import Bits
from bitsweep.checks.problem import KeyPath, Problem, must_be_known, resolved
from bitsweep.declaration import Declarations, MethodDeclaration
from bitsweep.space import Choice, Parameters, Value, resolve
from bitsweep.sweep import Arm, Sweep


def check_start(sweep: Sweep, declarations: Declarations) -> None:
    """The method of the start exists, does its bits, and leaves a network to begin with."""
    start = sweep.task.start
    if start is None:
        return
    path = ("task", "start", "method")
    must_be_known(declarations.method, start.method, path)
    method = declarations.method(start.method)
    if method.needs_start:
        message = f"{method.name} needs a trained network itself; expected one that trains"
        raise Problem(path, message)
    resolved(method, start.parameters, ("task", "start", "parameters"))
    given = resolve(method.parameters, start.parameters)
    if method.held_share(given):
        message = f"{method.name} holds training images out; a start trains on all it may see"
        raise Problem(("task", "start", "parameters"), message)
    bits = method.allocation_bits(sweep.task.bits[0], start.parameters)
    must_keep_plain(declarations, method, given, bits=(bits,), path=path)
    if bits.weight not in method.weight_bits:
        can = ", ".join(str(one) for one in method.weight_bits)
        message = f"{method.name} cannot do {bits.label}, the first of task.bits: it does {can}"
        raise Problem(path, f"{message}-bit weights")
    try:
        method.check(given, (bits,))
    except ValueError as error:
        raise Problem(path, f"{error} (method {method.name})") from error


def must_keep_plain(
    declarations: Declarations,
    method: MethodDeclaration,
    parameters: Parameters,
    *,
    bits: tuple[Bits, ...],
    path: KeyPath,
) -> None:
    """Raise Problem for a method whose checkpoint no training can begin with."""
    if not method.keeps_plain(parameters, bits):
        known = [one for one in declarations.methods.values() if one.trains]
        can = ", ".join(sorted(one.name for one in known if one.keeps_plain({}, bits)))
        message = f"the network of {method.name} lacks tensors of the plain one: no training can "
        raise Problem(path, f"{message}begin with it; methods that leave such a network: {can}")


def check_classes(sweep: Sweep, declarations: Declarations) -> None:
    """What learns from classes, or counts right answers, has a trainer that knows classes."""
    trainer = declarations.trainer(sweep.task.trainer)
    if trainer is None or trainer.learning == "classification":
        return
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        for name, value in method.needs_classes_when.items():
            path = _with_value(arm, index, name, value)
            if path is not None:
                message = f"{name} = {value} learns from classes, and the trainer {trainer.name}"
                raise Problem(path, f"{message} has none (method {method.name})")
    if sweep.confirm is not None and sweep.confirm.keep_answers:
        message = f"expected false: answers of the trainer {trainer.name} are not right or wrong"
        raise Problem(("confirm", "keep_answers"), message)


def _with_value(arm: Arm, index: int, name: str, value: Value) -> KeyPath | None:
    """Where an arm gives a parameter this value, or may."""
    if arm.parameters.get(name) == value:
        return ("arms", index, "parameters", name)
    dimension = arm.space.get(name)
    may = isinstance(dimension, Choice) and value in dimension.values
    return ("arms", index, "space", name) if may else None


def never_holds(arm: Arm, when: Mapping[str, tuple[Value, ...]]) -> tuple[str, str] | None:
    """A parameter that the arm never gives a value of the condition, and these; None if none is.

    A range may give any value.
    """
    for name, wanted in when.items():
        dimension, possible = arm.space.get(name), set[Value]()
        if isinstance(dimension, Choice):
            possible = set(dimension.values)
        elif dimension is None:
            possible = {arm.parameters[name]}
        if possible and not possible & set(wanted):
            return name, " or ".join(repr(one) for one in wanted)
    return None
