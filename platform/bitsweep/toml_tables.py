"""The tables of a sweep file and their types, as pydantic checks them; `specfile` reads them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bitsweep.measurement import Goal
from bitsweep.sweep import SMALLEST_SHARE, Backend, CostMetric, Placement, Sampler
from bitsweep.taking import Form, Take
from bitsweep.toml_lines import KeyPath

Scalar = bool | int | float | str
BitsText = int | str
# The whole numbers of TOML have 64 bits; those that the store keeps have 32.
LARGEST_TOML = 2**63 - 1
LARGEST = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Seeds = Annotated[list[Whole], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
MINUTES_OF_A_YEAR = 525_600
# No cluster has more.
Amount = Annotated[float, Field(ge=SMALLEST_SHARE, le=1e9, allow_inf_nan=False)]
Gib = Annotated[float, Field(ge=0.001, le=1e6, allow_inf_nan=False)]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StartTable(Table):
    method: str
    epochs: Count
    parameters: dict[str, Scalar] = {}


class TaskTable(Table):
    data: str
    model: str
    epochs: Count
    bits: Annotated[list[BitsText], Field(min_length=1)]
    trainer: str = "image"
    batch_size: Count = 128
    start: StartTable | None = None
    weights: str | None = None
    convention: Literal["body", "whole_ends8", "whole_ends32", "whole_agent"] = "whole_ends8"
    precision: Literal["fp32", "bf16"] = "fp32"
    backend: Backend = "eager"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    micro_batch_size: Count | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warmup_epochs: Whole = 0


class DimensionTable(Table):
    choice: Annotated[list[Scalar], Field(min_length=1)] | None = None
    uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    log_uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    integer: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    log_integer: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    when: dict[str, Scalar | list[Scalar]] = {}


class SourceTable(Table):
    arm: str
    take: Take
    form: Annotated[Form, Field(alias="as")] = "kept"


class ArmTable(Table):
    name: Name
    method: str
    bits: Annotated[list[BitsText], Field(min_length=1)] | None = None
    source: Annotated[SourceTable | None, Field(alias="from")] = None
    parameters: dict[str, Scalar] = {}
    space: dict[str, DimensionTable] = {}
    first: list[dict[str, Scalar]] = []


class AshaTable(Table):
    grace_epochs: Count
    reduction_factor: Annotated[int, Field(ge=2, le=LARGEST)] = 3


class MedianTable(Table):
    grace_epochs: Count
    min_trials: Count = 3


class SchedulerTable(Table):
    asha: AshaTable | None = None
    median: MedianTable | None = None


class TpeTable(Table):
    multivariate: bool = True
    grouped: bool = True


class SamplerTable(Table):
    tpe: TpeTable


class SearchTable(Table):
    sampler: Sampler | SamplerTable = "tpe"
    startup_configurations: Whole = 4
    configurations_per_arm: Count
    seed: Whole = 0
    seeds: Seeds = [1000]
    scheduler: SchedulerTable | None = None
    warm_start: list[str] = []


class ObjectiveTable(Table):
    metric: str | None = None
    at: Literal["each", "all"] | Annotated[list[BitsText], Field(min_length=1)] = "all"
    goal: Goal | None = None
    combine: Literal["mean", "min"] = "mean"


class ConstraintTable(Table):
    metric: CostMetric
    at_most: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    at: Annotated[list[BitsText], Field(min_length=1)] | None = None


class ConfirmTable(Table):
    best_per_arm: Count = 1
    seeds: Seeds
    keep_answers: bool = False


class ComparisonTable(Table):
    arm: str
    against: str
    at: BitsText
    against_at: BitsText | None = None


class ResourcesTable(Table):
    cpus_per_worker: Count = 1
    gpus_per_worker: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = 0.0
    memory_gib_per_worker: Gib | None = None
    custom_per_worker: dict[str, Amount] = {}
    workers_per_trial: Annotated[int, Field(ge=1, le=10_000)] = 1
    placement: Placement = "pack"
    sync_batch_norm: bool = False
    seeds_together: Count = 1
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0


class BudgetTable(Table):
    trial_minutes: Annotated[float, Field(gt=0, le=MINUTES_OF_A_YEAR)] | None = None
    retries: Whole = 2
    arm_failures: Count = 5
    max_failures: Count | None = None
    device_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class SweepFile(Table):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    question: str
    reproduces: str
    expects: str
    cost: str
    task: TaskTable
    arms: Annotated[list[ArmTable], Field(min_length=1)]
    objectives: Annotated[list[ObjectiveTable], Field(min_length=1, max_length=4)]
    search: SearchTable | None = None
    constraints: list[ConstraintTable] = []
    confirm: ConfirmTable | None = None
    comparisons: list[ComparisonTable] = []
    resources: ResourcesTable = ResourcesTable()
    budget: BudgetTable = BudgetTable()
    on_completion: Annotated[str, Field(min_length=1, max_length=2000)] | None = None


_TABLES: dict[str, type[Table]] = {
    "": SweepFile,
    "task": TaskTable,
    "start": StartTable,
    "arms": ArmTable,
    "from": SourceTable,
    "search": SearchTable,
    "scheduler": SchedulerTable,
    "sampler": SamplerTable,
    "tpe": TpeTable,
    "asha": AshaTable,
    "median": MedianTable,
    "objectives": ObjectiveTable,
    "constraints": ConstraintTable,
    "confirm": ConfirmTable,
    "comparisons": ComparisonTable,
    "resources": ResourcesTable,
    "budget": BudgetTable,
}


def known_keys(path: KeyPath) -> list[str]:
    """What the table around an unknown key may hold."""
    names = [part for part in path[:-1] if isinstance(part, str)]
    table = _TABLES[names[-1] if names else ""] if "space" not in names else DimensionTable
    return [field.alias or name for name, field in table.model_fields.items()]
