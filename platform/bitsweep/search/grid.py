"""Every combination of the choices, once, in the order of the file (the last dimension first)."""

from collections.abc import Iterator, Mapping

from bitsweep.search.base import Told
from bitsweep.space import Choice, Space, Value, is_active


class GridSearch:
    """The points that have not been told; raises ValueError for a dimension that is a range."""

    def __init__(self, space: Space, *, fixed: Mapping[str, Value]) -> None:
        for name, dimension in space.items():
            if not isinstance(dimension, Choice):
                raise ValueError(f"{name}: a grid needs choices, not a range")
        self._points = _points(space, dict(fixed), list(space))
        self._fixed = set(fixed)
        self._told: list[dict[str, Value]] = []

    def ask(self) -> dict[str, Value] | None:
        """The next point that was not told, or None after the last."""
        for point in self._points:
            proposal = {name: value for name, value in point.items() if name not in self._fixed}
            if proposal not in self._told:
                return proposal
        return None

    def tell(self, told: Told, /) -> None:
        """Strike a point off."""
        self._told.append(dict(told.parameters))


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
