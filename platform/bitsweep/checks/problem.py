"""A mistake at its key, and the looks into the declarations that several checks take."""

from collections.abc import Callable, Mapping, Sequence

from bitsweep.bits import Bits
from bitsweep.declaration import MethodDeclaration
from bitsweep.errors import InputError, nearest
from bitsweep.plan import Plan
from bitsweep.space import Value, resolve
from bitsweep.sweep import Arm

KeyPath = tuple[str | int, ...]


class Problem(Exception):
    """A mistake at a key, before the file and the line are known."""

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def must_be_known(look_up: Callable[[str], object], name: str, path: KeyPath) -> None:
    """Raise Problem with what the look-up says where it knows no such name."""
    try:
        look_up(name)
    except InputError as error:
        raise Problem(path, str(error)) from error


def resolved(
    method: MethodDeclaration, given: Mapping[str, Value], path: KeyPath
) -> dict[str, Value]:
    """The parameters of a method with its defaults; Problem for one that it cannot have."""
    names = [one.name for one in method.parameters]
    for name, value in given.items():
        if name not in names:
            message = f"{method.name} has no such parameter{nearest(name, names)}"
            raise Problem((*path, name), f"{message}; known: {', '.join(names)}")
        try:
            next(one for one in method.parameters if one.name == name).check(value)
        except ValueError as error:
            raise Problem((*path, name), f"{error} (method {method.name})") from error
    return resolve(method.parameters, given)


def can_measure(plan: Plan, arm: Arm, at: Sequence[Bits], path: KeyPath) -> None:
    """Raise Problem for bits that an arm is never measured at."""
    measured = plan.measured_bits(arm, arm.parameters)
    for bits in at:
        if bits not in measured:
            can = ", ".join(one.label for one in measured)
            message = f"arm {arm.name!r} can never measure {bits.label}: it is measured at {can}"
            raise Problem(path, message)
