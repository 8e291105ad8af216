"""A sweep: one question, asked of several arms. Plain records; `specfile` reads them from TOML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from bitsweep.bits import LEARNED, Bits, Rule
from bitsweep.cost import DEFAULT_CONVENTION, Convention
from bitsweep.measurement import Goal
from bitsweep.recipe import PLAIN, Recipe
from bitsweep.space import Parameters, Space
from bitsweep.taking import Form, Take

Sampler = Literal["grid", "random", "tpe", "gp", "cmaes", "nsga2", "nsga3", "qmc"]
Stage = Literal["start", "search", "confirm"]
Precision = Literal["fp32", "bf16"]
Backend = Literal["eager", "compiled", "auto"]
CostMetric = Literal["size_bits", "bitops"]
COST_METRICS: tuple[str, ...] = get_args(CostMetric)
At = Bits | Rule | None
Placement = Literal["pack", "spread", "strict_pack", "strict_spread"]
# Of a resource: the least that Ray tells from nothing.
SMALLEST_SHARE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The training every arm starts from: itself a trial, one per seed."""

    method: str
    epochs: int
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What all arms share: data, model, epochs, recipe and the bit-widths to confirm at.

    `data` with a slash is a path; `weights` is the path of a file of pretrained weights.
    precision: what convolutions and linear maps compute in while they are trained; measured is
    always in fp32. backend: which kernels quantize; auto is settled where the trials are planned.
    """

    data: str
    model: str
    epochs: int
    bits: tuple[Bits, ...]
    trainer: str = "image"
    batch_size: int = 128
    start: Start | None = None
    weights: str | None = None
    convention: Convention = DEFAULT_CONVENTION
    precision: Precision = "fp32"
    backend: Backend = "eager"
    recipe: Recipe = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an arm's trials take from the trial of another arm with the same seed.

    allocation: the learned bits of every layer, in a form; checkpoint: the network to start from.
    """

    arm: str
    take: Take
    form: Form = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One method, its fixed parameters and the space searched; an empty space skips search.

    first: points of the space that are tried before the sampler is asked. bits: what it is trained
    and measured at, instead of the task's bits. They are not in its `repr`, by which stores know
    the arms of before (`run.arm_digests`).
    """

    name: str
    method: str
    bits: tuple[Bits, ...] = field(default=(), repr=False)
    parameters: Parameters = field(default_factory=dict)
    space: Space = field(default_factory=dict)
    first: tuple[Parameters, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asha:
    """Asynchronous successive halving: 1/reduction_factor stays at each rung."""

    grace_epochs: int
    reduction_factor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Median:
    """A trial whose best value so far lies below the median of the others' means is stopped.

    Not before `grace_epochs`, and not before `min_trials` others reached the epoch.
    """

    grace_epochs: int
    min_trials: int = 3


Scheduler = Asha | Median


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpe:
    """Options of Optuna's TPE; `grouped`: conditional parameters have models of their own."""

    multivariate: bool = True
    grouped: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How the arms' spaces are explored; `seeds` are the training seeds of the search.

    startup_configurations: drawn at random before TPE and GP model anything. Optuna's own default
    of 10 would leave a search of a dozen configurations random. warm_start: earlier sweeps whose
    matching results the sampler is told.
    """

    sampler: Sampler = "tpe"
    tpe: Tpe = field(default_factory=Tpe)
    startup_configurations: int = 4
    configurations_per_arm: int = 1
    seed: int = 0
    seeds: tuple[int, ...] = (1000,)
    scheduler: Scheduler | None = None
    warm_start: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What the search optimises: measured on validation, always, or known before (a cost).

    metric: one of the task's trainer, or a cost.

    `at`: bits whose mean is one value; "each": one study per bit-width; "all": one study over all
    bits of the task, combined by `combine`.
    """

    metric: str = "top1_percent"
    at: tuple[Bits, ...] | Literal["each", "all"] = "all"
    goal: Goal = "maximize"
    combine: Literal["mean", "min"] = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A cost that no searched configuration may exceed at any of the bits.

    `at` None: the bits that the objectives measure. Costs follow the task's convention.
    """

    metric: CostMetric
    at_most: float
    at: tuple[Bits, ...] | None = None

    @property
    def label(self) -> str:
        """What names it in messages."""
        where = "" if self.at is None else f" at {'+'.join(one.label for one in self.at)}"
        return f"{self.metric} <= {self.at_most:g}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """The honest half: the best configurations again, on every seed, measured on test.

    keep_answers: the store also keeps which test images were right, one bit each.
    """

    best_per_arm: int = 1
    seeds: tuple[int, ...] = (0, 1, 2)
    keep_answers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A primary claim declared before the run: `arm` at `at` against `against` at `against_at`.

    At bits, or under a rule that chooses them per sample; None: where an arm's bits are learned or
    taken, each at its own. `against_at` "same": where the first side stands.
    """

    arm: str
    against: str
    at: At
    against_at: At | Literal["same"] = "same"

    @property
    def other_at(self) -> At:
        """Where the other side stands."""
        return self.at if self.against_at == "same" else self.against_at

    @property
    def at_label(self) -> str:
        """As tables name it: bits, a rule, or "learned"."""
        return LEARNED if self.at is None else self.at.label

    @property
    def against_at_label(self) -> str:
        """The same of the other side."""
        return LEARNED if self.other_at is None else self.other_at.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a trial occupies.

    custom_per_worker: amounts of resources that a cluster's nodes declare by name. placement: how
    the workers of one trial lie on nodes; the strict forms insist. sync_batch_norm: batch norms
    of a trial over several workers see the whole batch. priority: where sweeps of one store run on
    the same machines, one of less priority starts no trial while one of more wants to.
    seeds_together: so many trials of the confirm stage that differ in their seed alone, and so
    many of their starts, are trained in one worker as one network.
    """

    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    memory_gib_per_worker: float | None = None
    custom_per_worker: Mapping[str, float] = field(default_factory=dict)
    workers_per_trial: int = 1
    placement: Placement = "pack"
    sync_batch_norm: bool = False
    seeds_together: int = 1
    max_concurrent: int | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a trial, an arm or the sweep is given up.

    arm_failures: so many failures in a row, the first ones included, stop an arm. max_failures:
    so many in all stop the sweep. device_hours: no trial starts once so many are spent.
    """

    trial_minutes: float | None = None
    retries: int = 2
    arm_failures: int = 5
    max_failures: int | None = None
    device_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A whole question; `text` (the file) and `command` (what ran it) are kept as provenance.

    on_completion: a shell command, or a URL, that is told when a run ends, however it ends.
    """

    name: str
    question: str
    task: Task
    arms: tuple[Arm, ...]
    objectives: tuple[Objective, ...]
    reproduces: str
    expects: str
    cost: str
    search: Search = field(default_factory=Search)
    constraints: tuple[Constraint, ...] = ()
    confirm: Confirm | None = None
    comparisons: tuple[Comparison, ...] = ()
    resources: Resources = field(default_factory=Resources)
    budget: Budget = field(default_factory=Budget)
    on_completion: str | None = None
    text: str = ""
    command: str = ""

    def arm(self, name: str) -> Arm:
        """The arm of that name; KeyError if there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)

    @property
    def judged(self) -> Objective:
        """The first objective that is measured: what schedulers judge and progress shows."""
        for one in self.objectives:
            if one.metric not in COST_METRICS:
                return one
        raise ValueError("an objective is a metric that is measured")

    @property
    def measured_metrics(self) -> tuple[str, ...]:
        """The metrics of the objectives that trials measure, each once."""
        names = [one.metric for one in self.objectives if one.metric not in COST_METRICS]
        return tuple(dict.fromkeys(names))

    @property
    def goal(self) -> Goal:
        """The direction of the first objective that is measured."""
        return self.judged.goal

    @property
    def metric(self) -> str:
        """The metric of the first objective that is measured: what tables and figures show."""
        return self.judged.metric
