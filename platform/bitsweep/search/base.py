"""The seam to a sampler: it is asked for parameters and told what came of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from bitsweep.measurement import Goal
from bitsweep.space import Space, Value
from bitsweep.sweep import Sampler

Verdict = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of a proposal: a value if it was measured to the end, or up to its pruning."""

    parameters: Mapping[str, Value]
    verdict: Verdict
    value: float | None

    def __post_init__(self) -> None:
        if self.verdict == "complete" and self.value is None:
            raise ValueError("a completed configuration has a value")


class Search(Protocol):
    """A sampler over one arm's space, rebuilt from the store at every start.

    ask returns parameters, or None when the space is exhausted; a proposal may repeat an earlier
    one. tell may come in any order, and also for configurations that this object never proposed
    (those an earlier process measured).
    """

    def ask(self) -> dict[str, Value] | None: ...

    def tell(self, told: Told, /) -> None: ...


def make_search(
    sampler: Sampler,
    space: Space,
    *,
    goal: Goal,
    seed: int,
    known: int,
    fixed: Mapping[str, Value],
) -> Search:
    """The search of a sampler; `known` configurations came before and are not repeated.

    fixed: the parameters of the arm that are not searched; conditions may name them.
    """
    if sampler == "grid":
        from bitsweep.search.grid import GridSearch

        return GridSearch(space, fixed=fixed)
    from bitsweep.search.optuna_search import OptunaSearch

    return OptunaSearch(space, sampler=sampler, goal=goal, seed=seed, known=known, fixed=fixed)
