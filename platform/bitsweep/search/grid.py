"""Every combination of the choices, once, in the order of the file (the last dimension first)."""

from collections.abc import Iterator, Mapping

from bitsweep.search.base import Told
from bitsweep.space import Choice, Parameters, Space, Value, is_active
from bitsweep.trial import canonical_json


class GridSearch:
    """The points that are not known; raises ValueError for a dimension that is a range."""

    def __init__(self, space: Space, *, fixed: Mapping[str, Value]) -> None:
        for name, dimension in space.items():
            if not isinstance(dimension, Choice):
                raise ValueError(f"{name}: a grid needs choices, not a range")
        self._points = _points(space, dict(fixed), list(space))
        self._fixed = set(fixed)
        self._known: set[str] = set()

    def ask(self) -> dict[str, Value] | None:
        """The next point that is not known, or None after the last."""
        for point in self._points:
            proposal = {name: value for name, value in point.items() if name not in self._fixed}
            if canonical_json(proposal) not in self._known:
                return proposal
        return None

    def retract(self, parameters: Parameters, /) -> None:
        """An ask leaves nothing behind."""

    def recall(self, parameters: Parameters, /, *, is_open: bool = False) -> None:
        """Strike a point off."""
        self._known.add(canonical_json(dict(parameters)))

    def tell(self, told: Told, /) -> None:
        """A grid learns nothing from results."""


def _points(
    space: Space, chosen: dict[str, Value], names: list[str]
) -> Iterator[dict[str, Value]]:
    if not names:
        yield dict(chosen)
        return
    name, *rest = names
    dimension = space[name]
    if not isinstance(dimension, Choice) or not is_active(dimension.when, chosen):
        yield from _points(space, chosen, rest)
        return
    for value in dimension.values:
        yield from _points(space, {**chosen, name: value}, rest)
