"""The seam to a sampler: it is asked for parameters and told what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bitsweep import sweep
from bitsweep.measurement import Goal
from bitsweep.space import Parameters, Space, Value

Verdict = Literal["complete", "pruned", "failed", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of a proposal.

    values: one per objective, measured to the end or up to the pruning; empty where nothing was.
    excess: by how much each constraint is broken (0 or less: it holds). refused: before
    anything was trained it was seen that a constraint is broken, or that it cannot be.
    """

    parameters: Mapping[str, Value]
    verdict: Verdict
    values: tuple[float, ...] = ()
    excess: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict == "complete" and not self.values:
            raise ValueError("a completed configuration has a value per objective")


class Search(Protocol):
    """A sampler over one arm's space, rebuilt from the store at every start.

    ask returns parameters, or None when the space is exhausted; a proposal may repeat an earlier
    one. retract takes an ask back that another driver forestalled, so that its place is free.
    recall says that an earlier life, or another driver, was given this proposal: call it in
    the order of the proposals; is_open says that its result is not known yet. tell gives the
    result of a proposal that was asked or recalled, in any order; results that come as they
    are recalled rebuild the search exactly: its next proposal depends on the seed, the number of
    proposals and what is known of them.
    """

    def ask(self) -> dict[str, Value] | None: ...

    def retract(self, parameters: Parameters, /) -> None: ...

    def recall(self, parameters: Parameters, /, *, is_open: bool = False) -> None: ...

    def tell(self, told: Told, /) -> None: ...


class FirstPoints:
    """A search that begins with given points; the sampler behind it learns from them as well."""

    def __init__(self, points: Sequence[Parameters], search: Search) -> None:
        self._points = points
        self._search = search
        self._asked = 0

    def ask(self) -> dict[str, Value] | None:
        """The next of the points, then what the sampler proposes."""
        if self._asked >= len(self._points):
            return self._search.ask()
        point = dict(self._points[self._asked])
        self.recall(point, is_open=True)
        return point

    def retract(self, parameters: Parameters, /) -> None:
        """Pass on, and count back."""
        self._asked -= 1
        self._search.retract(parameters)

    def recall(self, parameters: Parameters, /, *, is_open: bool = False) -> None:
        """Pass on, and count."""
        self._asked += 1
        self._search.recall(parameters, is_open=is_open)

    def tell(self, told: Told, /) -> None:
        """Pass on."""
        self._search.tell(told)


def make_search(
    wanted: sweep.Search,
    space: Space,
    *,
    goals: Sequence[Goal],
    fixed: Parameters,
    first: Sequence[Parameters] = (),
    prior: Sequence[Told] = (),
) -> Search:
    """The search that a sweep wants over one space.

    fixed: the parameters of the arm that are not searched; conditions may name them. first: points
    to try before the sampler is asked. prior: what earlier sweeps measured; the sampler learns
    from it where it can, and it counts for nothing else.
    """
    if wanted.sampler == "grid":
        from bitsweep.search.grid import GridSearch

        search: Search = GridSearch(space, fixed=fixed)
    else:
        from bitsweep.search.optuna_search import OptunaSearch

        search = OptunaSearch(space, wanted=wanted, goals=goals, fixed=fixed, prior=prior)
    return FirstPoints(first, search) if first else search
