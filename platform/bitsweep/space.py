"""What may vary: the parameters a method declares and the space a sweep searches over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from bitsweep.errors import nearest

Value = float | int | bool | str
Parameters = Mapping[str, Value]
Condition = Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a method: type, range, default, meaning and where it comes from.

    `when` names the values of other parameters under which this one has an effect at all; where
    they do not hold it is inert and leaves no trace in a trial's identity.
    """

    name: str
    kind: Literal["float", "int", "bool", "choice"]
    default: Value
    meaning: str
    source: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check(self.default)

    @property
    def range_text(self) -> str:
        """The range in words, for messages and method cards."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return "one of " + ", ".join(repr(one) for one in self.choices)
        noun = "whole number" if self.kind == "int" else "number"
        return f"a {noun} in [{self.low:g}, {self.high:g}]"

    def check(self, value: object) -> Value:
        """Return the value in its declared type; raise ValueError naming what was expected."""
        wrong = ValueError(f"{self.name} must be {self.range_text}, got {value!r}")
        if self.kind == "choice":
            for one in self.choices:
                if one == value and isinstance(one, bool) == isinstance(value, bool):
                    return one
            raise ValueError(f"{wrong}{self._meant(value)}")
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            raise wrong
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong
        if self.low is None or self.high is None or not self.low <= value <= self.high:
            raise wrong
        if self.kind == "int" and int(value) != value:
            raise wrong
        return int(value) if self.kind == "int" else float(value)

    def _meant(self, value: object) -> str:
        """A hint at the choice that was probably meant."""
        for one in self.choices:
            if str(one) == str(value):
                quotes = "with" if isinstance(one, str) else "without"
                return f" (did you mean {one!r}, {quotes} quotes?)"
        return nearest(str(value), [str(one) for one in self.choices])


def is_active(condition: Condition, parameters: Parameters) -> bool:
    """Whether every named parameter is present with one of the wanted values."""
    return all(
        name in parameters and parameters[name] in wanted for name, wanted in condition.items()
    )


def resolve(declared: Sequence[Parameter], given: Parameters) -> dict[str, Value]:
    """Fill in defaults, check ranges, drop what is inert; raise ValueError for an unknown name.

    Parameters may depend only on those declared before them.
    """
    names = [one.name for one in declared]
    for name in given:
        if name not in names:
            raise ValueError(
                f"unknown parameter {name!r}{nearest(name, names)}; known: {', '.join(names)}"
            )
    resolved: dict[str, Value] = {}
    for parameter in declared:
        if is_active(parameter.when, resolved):
            resolved[parameter.name] = parameter.check(
                given.get(parameter.name, parameter.default)
            )
    return resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError("a choice has at least one value and none twice")

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values whose validity proves that of the whole dimension."""
        return self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number between two bounds, both reachable; `is_log`: uniform in the logarithm."""

    low: float
    high: float
    is_integer: bool = False
    is_log: bool = False
    when: Condition = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range needs low < high, got [{self.low}, {self.high}]")
        if self.is_log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, got {self.low}")
        if self.is_integer and (int(self.low) != self.low or int(self.high) != self.high):
            raise ValueError("a range of whole numbers has whole bounds")

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values whose validity proves that of the whole dimension."""
        return (int(self.low), int(self.high)) if self.is_integer else (self.low, self.high)


Dimension = Choice | Range
Space = Mapping[str, Dimension]


def contains(dimension: Dimension, value: Value) -> bool:
    """Whether a dimension can draw the value; true and 1 are different values."""
    if isinstance(dimension, Choice):
        return any(
            value == one and isinstance(value, bool) == isinstance(one, bool)
            for one in dimension.values
        )
    if isinstance(value, bool | str) or (dimension.is_integer and value != int(value)):
        return False
    return dimension.low <= value <= dimension.high


def check_point(space: Space, fixed: Parameters, point: Parameters) -> None:
    """Raise ValueError, naming the parameter, unless the space could propose the whole point."""
    for name in point:
        if name not in space:
            raise ValueError(f"{name} is not searched{nearest(name, list(space))}")
    given = {**fixed, **point}
    for name, dimension in space.items():
        if not is_active(dimension.when, given):
            if name in point:
                raise ValueError(f"{name} is not drawn where its condition does not hold")
        elif name not in point:
            raise ValueError(f"{name} is missing: give every searched parameter a value")
        elif not contains(dimension, point[name]):
            raise ValueError(f"{name} = {point[name]!r} lies outside the space")
