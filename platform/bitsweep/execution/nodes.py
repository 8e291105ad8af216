"""Which nodes fail trials that others finish: such a node gets no further trial.

A failure is believed of a trial only when it failed on two nodes, or where there is but one.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from bitsweep.trial import Failed, Interrupted, Outcome

# So many trials in a row that failed on a node and ended well on another one put it aside.
NODE_FAILURES = 3
# What a trial brings about wherever it runs, and what would be dear to try again.
OWN_FAULTS = ("timeout:", "memory:")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suspicion:
    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAside:
    """A node gets no further trial: `count` in a row failed there and ended well elsewhere."""

    node: str
    count: int
    reason: str

    def text(self, name: str) -> str:
        """What the user reads; name: of the node, for people."""
        return (
            f"node {name} gets no further trial: {self.count} in a row failed there and ended "
            f"well elsewhere, the last one: {self.reason}"
        )


class Nodes:
    """Counts per node; ids of nodes are any that the executor gives."""

    def __init__(self, *, limit: int = NODE_FAILURES) -> None:
        self._limit = limit
        self._suspicions: dict[str, _Suspicion] = {}
        self._in_a_row: Counter[str] = Counter()
        self._aside: set[str] = set()

    @property
    def aside(self) -> frozenset[str]:
        """The nodes that get no trial any more."""
        return frozenset(self._aside)

    def wants_another(
        self, trial_id: str, outcome: Outcome, *, node: str, others: Collection[str]
    ) -> bool:
        """Whether a trial that ended so on a node is tried once more, on one of the others."""
        if not isinstance(outcome, Failed | Interrupted):
            return False
        is_second = trial_id in self._suspicions
        if is_second or not set(others) - self._aside - {node}:
            return False
        if outcome.reason.startswith(OWN_FAULTS):
            return False
        self._suspicions[trial_id] = _Suspicion(node=node, reason=outcome.reason)
        return True

    def avoided_by(self, trial_id: str) -> frozenset[str]:
        """Where a trial must not run."""
        suspicion = self._suspicions.get(trial_id)
        return self.aside | ({suspicion.node} if suspicion else set())

    def ended(self, trial_id: str, outcome: Outcome, *, node: str) -> PutAside | None:
        """Count how a trial ended for good; tell if a node is put aside for it."""
        suspicion = self._suspicions.pop(trial_id, None)
        if isinstance(outcome, Failed | Interrupted):
            return None  # it failed on two nodes: nothing is learned of either
        self._in_a_row[node] = 0
        if suspicion is None or suspicion.node == node:
            return None
        self._in_a_row[suspicion.node] += 1
        count = self._in_a_row[suspicion.node]
        if count < self._limit or suspicion.node in self._aside:
            return None
        self._aside.add(suspicion.node)
        return PutAside(node=suspicion.node, count=count, reason=suspicion.reason)
