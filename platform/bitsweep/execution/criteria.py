"""What a study judges its configurations by: objectives, and constraints on costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bitsweep.bits import LEARNED, Bits, parse_allocation
from bitsweep.measurement import Goal
from bitsweep.plan import Plan, bits_of
from bitsweep.space import Parameters
from bitsweep.sweep import COST_METRICS, Arm, Constraint, Objective

# The validation values of a trial: by metric, then by allocation.
Validation = Mapping[str, Mapping[str, float]]
# Beside the metrics: the labels of the allocations that a trial of learned bits was measured at.
ALLOCATIONS = "allocations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Objectives and constraints, each with its bits; `cost` is arithmetic on parameters.

    Where bits are a result, a value counts at the learned allocation, whatever that is;
    `learned_cost` then prices the label of one, which is known when the trial has measured.
    """

    objectives: tuple[tuple[Objective, tuple[Bits, ...]], ...]
    constraints: tuple[tuple[Constraint, tuple[Bits, ...]], ...]
    cost: Callable[[Parameters, Bits], Mapping[str, float]]
    judged: Objective
    learned_cost: Callable[[Parameters, str], Mapping[str, float]] | None = None

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The direction of each objective."""
        return tuple(objective.goal for objective, _ in self.objectives)

    @property
    def judged_labels(self) -> frozenset[str]:
        """The allocations whose mean the scheduler judges."""
        bits = next(at for objective, at in self.objectives if objective is self.judged)
        return frozenset({LEARNED, *(one.label for one in bits)})

    def excess(self, parameters: Parameters) -> dict[str, float]:
        """By which part of its limit each constraint is exceeded at worst; 0 or less: not."""
        return {
            constraint.label: max(
                self.cost(parameters, one)[constraint.metric] / constraint.at_most - 1
                for one in at
            )
            for constraint, at in self.constraints
        }

    def values(
        self, parameters: Parameters, by_seed: Mapping[int, Sequence[Validation]]
    ) -> tuple[float, ...]:
        """One value per objective; () where one has nothing to go by.

        Measured ones are combined over bits per seed, then averaged over seeds.
        """
        found = []
        for objective, at in self.objectives:
            if objective.metric in COST_METRICS and self.learned_cost is not None:
                means = list(self._learned_costs(parameters, by_seed, objective.metric))
                if not means:
                    return ()
                found.append(fmean(means))
                continue
            if objective.metric in COST_METRICS:
                costs = [self.cost(parameters, one)[objective.metric] for one in at]
                found.append(_combine(objective, costs))
                continue
            labels = {LEARNED, *(one.label for one in at)}
            combined = [
                _combine(objective, values)
                for seen in by_seed.values()
                if (values := _values(seen, objective.metric, labels))
            ]
            if not combined:
                return ()
            found.append(fmean(combined))
        return tuple(found)

    def _learned_costs(
        self, parameters: Parameters, by_seed: Mapping[int, Sequence[Validation]], metric: str
    ) -> Iterator[float]:
        """The cost of what each seed has learned."""
        assert self.learned_cost is not None
        for seen in by_seed.values():
            for validation in seen:
                for label in validation.get(ALLOCATIONS, {}):
                    yield self.learned_cost(parameters, label)[metric]

    def judged_value(self, values: Sequence[float]) -> float:
        """The value of the objective that is judged, among those of all."""
        names = [objective for objective, _ in self.objectives]
        return values[names.index(self.judged)]


def make_criteria(plan: Plan, arm: Arm, at: Sequence[Bits]) -> Criteria:
    """The criteria of one study of an arm."""
    measured = plan.measured_bits(arm, arm.parameters)
    convention = plan.sweep.task.convention

    def cost(parameters: Parameters, bits: Bits) -> Mapping[str, float]:
        operations, size = plan.cost(arm, parameters, bits, convention)
        return {"bitops": operations, "size_bits": float(size)}

    def learned_cost(parameters: Parameters, label: str) -> Mapping[str, float]:
        allocation = parse_allocation(label)
        operations, size = plan.cost_at(arm, parameters, allocation, convention)
        return {"bitops": operations, "size_bits": float(size)}

    return Criteria(
        objectives=tuple(
            (one, bits_of(one.at, study=at, measured=measured)) for one in plan.sweep.objectives
        ),
        constraints=tuple(
            (one, bits_of(one.at, study=at, measured=measured)) for one in plan.sweep.constraints
        ),
        cost=cost,
        judged=plan.sweep.judged,
        learned_cost=learned_cost if plan.learns_bits(arm) else None,
    )


def _combine(objective: Objective, values: Sequence[float]) -> float:
    return min(values) if objective.combine == "min" else fmean(values)


def _values(seen: Sequence[Validation], metric: str, labels: set[str]) -> list[float]:
    return [
        value
        for validation in seen
        for label, value in validation.get(metric, {}).items()
        if label in labels
    ]
