"""What a reader answers: plain records, without SQL."""

from collections.abc import Mapping
from dataclasses import dataclass

from bitsweep.bits import LEARNED, parse_allocation
from bitsweep.space import Value
from bitsweep.sweep import Stage
from bitsweep.trial import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration as it stands in the store."""

    id: int
    number: int
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A trial's outcome, and the sweep that saw it."""

    outcome: Outcome
    sweep_id: int


def is_listed(allocator: str, allocation: str) -> bool:
    """Whether an allocation was measured as one of a random list, and not chosen by anything.

    >>> is_listed("random", "w=[2,4] a=[2,4]"), is_listed("random", "policy:random@0.2")
    (True, False)
    """
    return allocator == "random" and parse_allocation(allocation).policy is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measurement without its trial: what the search looks at."""

    epoch: int
    split: str
    allocation: str
    allocator: str
    protocol: str
    correct: int | None
    total: int
    loss_sum: float | None
    metric_sums: Mapping[str, float]
    recorded_at: str

    @property
    def is_listed(self) -> bool:
        """It is one of a list of allocations, of which mean and sd are told."""
        return is_listed(self.allocator, self.allocation)

    def metric(self, name: str) -> float:
        """top1_percent, loss or another metric; KeyError where it was not measured."""
        if name == "top1_percent" and self.correct is not None:
            return 100.0 * self.correct / self.total
        if name == "loss" and self.loss_sum is not None:
            return self.loss_sum / self.total
        return self.metric_sums[name] / self.total

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all that was measured."""
        counted = ("top1_percent",) if self.correct is not None else ()
        lost = ("loss",) if self.loss_sum is not None else ()
        return (*counted, *lost, *sorted(self.metric_sums))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """A row of the view `member_results`: a measurement at the last epoch of a trial.

    `value` is the sweep's metric, None where it was not measured.
    `bits`: those of the trial; "learned" where its allocation is a result.
    """

    arm: str | None
    method: str
    trial_id: str
    configuration_id: int | None
    seed: int
    stage: Stage
    status: str
    split: str
    allocation: str
    allocator: str
    protocol: str
    correct: int | None
    total: int
    loss: float | None
    bitops: float
    size_bits: int
    mean_weight_bits: float
    value: float | None
    bits: str

    @property
    def is_listed(self) -> bool:
        """It is one of a list of allocations, of which mean and sd are told."""
        return is_listed(self.allocator, self.allocation)

    @property
    def column(self) -> str:
        """What it stands under: learned bits are others in every trial."""
        return LEARNED if self.bits == LEARNED else self.allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRow:
    """An arm of a sweep, and how far its search came."""

    id: int
    name: str
    method: str
    configurations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """A declared comparison: `arm` at `at` less `against` at `against_at`."""

    arm: str
    against: str
    at: str
    against_at: str
    is_primary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """A sweep as it stands in the store."""

    id: int
    name: str
    question: str
    convention: str
    goal: str
    metric: str
    text: str
    text_sha256: str
    command: str
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """A trial of a sweep and how it ended; status running or planned where it has not."""

    trial_id: str
    arm: str | None
    method: str
    bits: str
    seed: int
    stage: Stage
    status: str
    reason: str
    last_epoch: int | None
    epochs: int
