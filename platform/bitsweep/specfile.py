"""Sweep files: TOML to `Sweep` and nothing else; the only parser, and the JSON Schema for editors.

Every mistake becomes one `InputError` line that names the file, the line, the key, what was
expected and the nearest valid name.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitsweep import sweep as records
from bitsweep.bits import Bits, parse_bits
from bitsweep.checks import Problem, check_sweep
from bitsweep.cost import DEFAULT_CONVENTION, Convention
from bitsweep.errors import InputError, nearest
from bitsweep.space import Choice, Dimension, Range
from bitsweep.sweep import Arm, Sweep
from bitsweep.toml_lines import KeyPath, key_lines, key_text, line_of
from bitsweep.trainer import Declarations

Scalar = bool | int | float | str
BitsText = int | str
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Start(_Table):
    method: str
    epochs: Annotated[int, Field(ge=1)]
    parameters: dict[str, Scalar] = {}


class _Task(_Table):
    data: str
    model: str
    epochs: Annotated[int, Field(ge=1)]
    bits: Annotated[list[BitsText], Field(min_length=1)]
    trainer: str = "image"
    batch_size: Annotated[int, Field(ge=1)] = 128
    start: _Start | None = None
    convention: Literal["body", "whole_ends8", "whole_ends32", "whole_agent"] = "whole_ends8"


class _Dimension(_Table):
    choice: Annotated[list[Scalar], Field(min_length=1)] | None = None
    uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    log_uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    integer: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    log_integer: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    when: dict[str, Scalar | list[Scalar]] = {}


class _Arm(_Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    method: str
    parameters: dict[str, Scalar] = {}
    space: dict[str, _Dimension] = {}


class _Asha(_Table):
    grace_epochs: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class _Scheduler(_Table):
    asha: _Asha


class _Search(_Table):
    sampler: Literal["grid", "random", "tpe"] = "tpe"
    configurations_per_arm: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: Seeds = [1000]
    scheduler: _Scheduler | None = None


class _Objective(_Table):
    metric: Literal["top1_percent", "loss"] = "top1_percent"
    at: Literal["each", "all"] | Annotated[list[BitsText], Field(min_length=1)] = "all"
    goal: Literal["maximize", "minimize"] = "maximize"
    combine: Literal["mean", "min"] = "mean"


class _Confirm(_Table):
    best_per_arm: Annotated[int, Field(ge=1)] = 1
    seeds: Seeds


class _Comparison(_Table):
    arm: str
    against: str
    at: BitsText


class _Resources(_Table):
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    workers_per_trial: Annotated[int, Field(ge=1)] = 1
    max_concurrent: Annotated[int, Field(ge=1)] | None = None


class _Budget(_Table):
    trial_minutes: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0)] = 2


class _File(_Table):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    question: str
    reproduces: str
    expects: str
    cost: str
    task: _Task
    arms: Annotated[list[_Arm], Field(min_length=1)]
    objectives: Annotated[list[_Objective], Field(min_length=1, max_length=1)]
    search: _Search | None = None
    confirm: _Confirm | None = None
    comparisons: list[_Comparison] = []
    resources: _Resources = _Resources()
    budget: _Budget = _Budget()


_TABLES: dict[str, type[_Table]] = {
    "": _File,
    "task": _Task,
    "start": _Start,
    "arms": _Arm,
    "space": _Dimension,
    "search": _Search,
    "scheduler": _Scheduler,
    "asha": _Asha,
    "objectives": _Objective,
    "confirm": _Confirm,
    "comparisons": _Comparison,
    "resources": _Resources,
    "budget": _Budget,
}


def read_sweep(path: Path, declarations: Declarations, *, overrides: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file; raise InputError for the first mistake.

    overrides: "key.path=value" (value as TOML), applied before the checks.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    for override in overrides:
        _override(document, override)
    return _parse(document, text, path=path, declarations=declarations)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a sweep file, for editors."""
    return _File.model_json_schema(by_alias=True)


def _parse(
    document: Mapping[str, Any], text: str, *, path: Path, declarations: Declarations
) -> Sweep:
    try:
        file = _validated(document)
        sweep = _sweep(file, text)
        check_sweep(sweep, declarations)
    except Problem as problem:
        line = line_of(problem.path, key_lines(text))
        raise InputError(f"{path}:{line}: {key_text(problem.path)}: {problem}") from problem
    return sweep


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {override}: expected KEY=VALUE, such as task.epochs=4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    table: Any = document
    names = key.strip().split(".")
    try:
        for name in names[:-1]:
            table = table[int(name)] if isinstance(table, list) else table.setdefault(name, {})
        table[int(names[-1]) if isinstance(table, list) else names[-1]] = parsed
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"--set {override}: there is no place {key!r} in the file") from error


def _validated(document: Mapping[str, Any]) -> _File:
    try:
        return _File.model_validate(document)
    except ValidationError as error:
        details = error.errors()
        unknown = [one for one in details if one["type"] == "extra_forbidden"]
        first = (unknown or details)[0]
        path = tuple(part for part in first["loc"] if not _is_union_tag(part))
        more = f" ({len(details) - 1} more)" if len(unknown or details) > 1 else ""
        raise Problem(path, _message(first, path) + more) from error


def _is_union_tag(part: str | int) -> bool:
    """Pydantic adds the tried type to a location: drop what is no key of ours."""
    return isinstance(part, str) and (
        part in {"bool", "int", "float", "str"} or "[" in part or part.startswith("literal")
    )


def _message(error: Any, path: KeyPath) -> str:  # pydantic's ErrorDetails, loosely typed
    names = [part for part in path if isinstance(part, str)]
    if error["type"] == "extra_forbidden":
        table = _TABLES.get(names[-2] if len(names) > 1 else "")
        if len(names) > 2 and names[-3] == "space":
            table = _Dimension
        known = (
            [field.alias or name for name, field in table.model_fields.items()] if table else []
        )
        return f"unknown key{nearest(names[-1], known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return "this key is required and missing"
    came = repr(error["input"])
    if len(came) > 60:
        came = came[:57] + "..."
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"expected {expected}, got {came}"


def _sweep(file: _File, text: str) -> Sweep:
    search = file.search or _Search(configurations_per_arm=1)
    return Sweep(
        name=file.name,
        question=file.question,
        reproduces=file.reproduces,
        expects=file.expects,
        cost=file.cost,
        task=_task(file.task),
        arms=tuple(_arm(arm, index) for index, arm in enumerate(file.arms)),
        objectives=tuple(_objective(one, index) for index, one in enumerate(file.objectives)),
        search=records.Search(
            sampler=search.sampler,
            configurations_per_arm=search.configurations_per_arm,
            seed=search.seed,
            seeds=_seeds(search.seeds, ("search", "seeds")),
            scheduler=records.Asha(**search.scheduler.asha.model_dump())
            if search.scheduler
            else None,
        ),
        confirm=records.Confirm(
            best_per_arm=file.confirm.best_per_arm,
            seeds=_seeds(file.confirm.seeds, ("confirm", "seeds")),
        )
        if file.confirm
        else None,
        comparisons=tuple(
            records.Comparison(
                arm=one.arm, against=one.against, at=_bits(one.at, ("comparisons", index, "at"))
            )
            for index, one in enumerate(file.comparisons)
        ),
        resources=records.Resources(**file.resources.model_dump()),
        budget=records.Budget(**file.budget.model_dump()),
        text=text,
    )


def _task(task: _Task) -> records.Task:
    bits = [_bits(one, ("task", "bits")) for one in task.bits]
    if len(set(bits)) != len(bits):
        raise Problem(("task", "bits"), "a bit-width stands here twice")
    fields = task.model_dump(exclude={"bits", "start", "convention"})
    start = records.Start(**task.start.model_dump()) if task.start else None
    convention = Convention(task.convention) if task.convention else DEFAULT_CONVENTION
    return records.Task(**fields, bits=tuple(sorted(bits)), start=start, convention=convention)


def _arm(arm: _Arm, index: int) -> Arm:
    space = {
        name: _dimension(one, ("arms", index, "space", name)) for name, one in arm.space.items()
    }
    return Arm(name=arm.name, method=arm.method, parameters=arm.parameters, space=space)


def _dimension(dimension: _Dimension, path: KeyPath) -> Dimension:
    kinds = dimension.model_dump(exclude={"when"}, exclude_none=True)
    if len(kinds) != 1:
        known = "choice, uniform, log_uniform, integer, log_integer"
        raise Problem(path, f"expected exactly one of {known}, got {len(kinds)}")
    (kind, values), *_ = kinds.items()
    when = {
        name: tuple(wanted) if isinstance(wanted, list) else (wanted,)
        for name, wanted in dimension.when.items()
    }
    try:
        if kind == "choice":
            return Choice(values=tuple(values), when=when)
        is_integer, is_log = kind.endswith("integer"), kind.startswith("log")
        low, high = values
        return Range(low=low, high=high, is_integer=is_integer, is_log=is_log, when=when)
    except ValueError as error:
        raise Problem((*path, kind), str(error)) from error


def _objective(objective: _Objective, index: int) -> records.Objective:
    at: Any = objective.at
    if isinstance(at, list):
        at = tuple(_bits(one, ("objectives", index, "at")) for one in at)
    return records.Objective(
        metric=objective.metric, at=at, goal=objective.goal, combine=objective.combine
    )


def _bits(text: BitsText, path: KeyPath) -> Bits:
    try:
        return parse_bits(text)
    except ValueError as error:
        raise Problem(path, str(error)) from error


def _seeds(seeds: Sequence[int], path: KeyPath) -> tuple[int, ...]:
    if len(set(seeds)) != len(seeds):
        raise Problem(path, "a seed stands here twice")
    return tuple(seeds)
