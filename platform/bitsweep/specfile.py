"""Sweep files: TOML to `Sweep` and nothing else; the only parser, and the JSON Schema for editors.

Every mistake becomes one `InputError` line that names the file, the line, the key, what was
expected and the nearest valid name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as fields_of
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from bitsweep import sweep as records
from bitsweep.bits import LEARNED, POLICY, Bits, parse_bits, parse_rule
from bitsweep.checks import Problem, check_sweep
from bitsweep.cost import DEFAULT_CONVENTION, Convention
from bitsweep.declaration import Declarations
from bitsweep.errors import InputError, nearest
from bitsweep.measurement import Goal, Metric
from bitsweep.recipe import Recipe
from bitsweep.space import Choice, Dimension, Range
from bitsweep.sweep import Arm, Sweep
from bitsweep.toml_document import load_toml, override_key, stored_document, stored_folder
from bitsweep.toml_lines import KeyPath, key_lines, key_text, line_of
from bitsweep.toml_tables import (
    LARGEST_TOML,
    ArmTable,
    BitsText,
    ComparisonTable,
    DimensionTable,
    ObjectiveTable,
    SamplerTable,
    SchedulerTable,
    SearchTable,
    SweepFile,
    TaskTable,
    known_keys,
)

T = TypeVar("T")
# Of the keys with mistakes, beside the one that is described.
MOST_NAMED = 6


def read_sweep(path: Path, declarations: Declarations, *, overrides: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file; raise InputError for the first mistake.

    overrides: "key.path=value" (value as TOML), applied before the checks.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    try:
        document = load_toml(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    for override in overrides:
        override_key(document, override)
    return _parse(document, text, path=path, folder=path.parent, declarations=declarations)


def stored_sweep(name: str, text: str, command: str, declarations: Declarations) -> Sweep:
    """The sweep that a store holds; raise InputError where it can no longer be read.

    Paths in it are found from the folder that its command was run in.
    """
    try:
        document = stored_document(text, command)
    except ValueError as error:
        raise InputError(f"{name}: its stored text is not valid TOML: {error}") from error
    folder = stored_folder(command)
    return _parse(document, text, path=Path(name), folder=folder, declarations=declarations)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a sweep file, for editors."""
    return SweepFile.model_json_schema(by_alias=True)


def _parse(
    document: Mapping[str, Any],
    text: str,
    *,
    path: Path,
    folder: Path,
    declarations: Declarations,
) -> Sweep:
    try:
        _check_values(document, ())
        file = _validated(document)
        sweep = _sweep(_at_home(file, folder), text, declarations)
        check_sweep(sweep, declarations)
    except Problem as problem:
        line = line_of(problem.path, key_lines(text))
        raise InputError(f"{path}:{line}: {key_text(problem.path)}: {problem}") from problem
    return sweep


def _check_values(value: object, path: KeyPath) -> None:
    """Refuse whole numbers that TOML does not have, and NULs: few programs could take them."""
    inside: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    elif isinstance(value, int) and abs(value) > LARGEST_TOML:
        raise Problem(path, "expected a whole number of 64 bits, got a larger one")
    elif isinstance(value, str) and "\0" in value:
        raise Problem(path, "expected a text without NUL characters, which no database keeps")
    for name, one in inside:
        _check_values(one, (*path, name))


def _validated(document: Mapping[str, Any]) -> SweepFile:
    try:
        return SweepFile.model_validate(document)
    except ValidationError as error:
        details = error.errors()
        unknown = [one for one in details if one["type"] == "extra_forbidden"]
        mistakes: dict[KeyPath, list[Any]] = {}
        for one in unknown or details:
            mistakes.setdefault(_path(one, document), []).append(one)
        path, first = next(iter(mistakes.items()))
        raise Problem(path, _message(first, path) + _others(list(mistakes)[1:])) from error


def _others(paths: Sequence[KeyPath]) -> str:
    """The keys of the mistakes that are not described, as far as a line holds them."""
    named = [key_text(path) for path in paths[:MOST_NAMED]]
    more = ", ..." if len(paths) > len(named) else ""
    return f" ({len(paths)} more: {', '.join(named)}{more})" if paths else ""


def _path(error: Any, document: Mapping[str, Any]) -> KeyPath:  # pydantic's ErrorDetails
    """The key of a mistake. Where several types are possible pydantic adds the one it tried."""
    path: KeyPath = ()
    place: Any = document
    for part in error["loc"]:
        is_key = isinstance(place, dict) and part in place
        if is_key or (isinstance(place, list) and isinstance(part, int)):
            path, place = (*path, part), place[part]
    return (*path, error["loc"][-1]) if error["type"] == "missing" else path


def _message(errors: Sequence[Any], path: KeyPath) -> str:  # pydantic's ErrorDetails
    """What is wrong with one key; several errors: none of the possible types fits."""
    error = errors[0]
    if error["type"] == "extra_forbidden":
        known = known_keys(path)
        return f"unknown key{nearest(str(path[-1]), known)}; known: {', '.join(known)}"
    if error["type"] == "missing":
        return "this key is required and missing"
    came = repr(error["input"])
    if len(came) > 60:
        came = came[:57] + "..."
    expected = dict.fromkeys(_expected(one) for one in errors)
    hint = ""
    if error["type"] == "list_type" and isinstance(error["input"], dict) and len(path) == 1:
        hint = f": write [[{path[0]}]] in place of [{path[0]}]"
    return f"expected {' or '.join(expected)}, got {came}{hint}"


def _expected(error: Any) -> str:  # pydantic's ErrorDetails
    """What a mistake says was expected, in our words where pydantic speaks of its own."""
    context, given = error.get("ctx", {}), error["input"]
    if isinstance(given, float) and isnan(given):
        return "a finite number"
    match error["type"]:
        case "model_type":
            return "a table"
        case "too_short":
            return f"at least {_items(context['min_length'])}"
        case "too_long":
            return f"at most {_items(context['max_length'])}"
        case "string_too_short":
            return "a text that is not empty"
        case "string_too_long":
            return f"at most {context['max_length']} characters"
        case "string_pattern_mismatch":
            return "a name of letters, digits, '_', '.' and '-' that begins with a letter or digit"
    return str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ")


def _items(count: int) -> str:
    return f"{count} item{'s' if count > 1 else ''}"


def _at_home(file: SweepFile, folder: Path) -> SweepFile:
    """Paths in a sweep file are relative to its folder; from here on they are absolute."""
    task = file.task
    changes = {
        name: str(_absolute(value, folder, ("task", name)))
        for name, value in (("data", task.data), ("weights", task.weights))
        if value is not None and (name == "weights" or "/" in value)
    }
    return file.model_copy(update={"task": task.model_copy(update=changes)})


def _absolute(value: str, folder: Path, key: KeyPath) -> Path:
    if not value.isprintable():
        raise Problem(key, f"expected a path of printable characters, got {value!r}")
    return (folder / value).resolve()


def _sweep(file: SweepFile, text: str, declarations: Declarations) -> Sweep:
    search = file.search or SearchTable(configurations_per_arm=1)
    for index, arm in enumerate(file.arms):
        if arm.space and file.search is None:
            message = "a space is searched: add [search] with configurations_per_arm"
            raise Problem(("arms", index, "space"), message)
    return Sweep(
        name=file.name,
        question=file.question,
        reproduces=file.reproduces,
        expects=file.expects,
        cost=file.cost,
        task=_task(file.task),
        arms=tuple(_arm(arm, index) for index, arm in enumerate(file.arms)),
        objectives=tuple(
            _objective(one, index, declarations.metrics(file.task.trainer))
            for index, one in enumerate(file.objectives)
        ),
        search=_search(search),
        constraints=tuple(
            records.Constraint(
                metric=one.metric,
                at_most=one.at_most,
                at=_distinct_bits(one.at, ("constraints", index, "at")) if one.at else None,
            )
            for index, one in enumerate(file.constraints)
        ),
        confirm=records.Confirm(
            best_per_arm=file.confirm.best_per_arm,
            seeds=_seeds(file.confirm.seeds, ("confirm", "seeds")),
            keep_answers=file.confirm.keep_answers,
        )
        if file.confirm
        else None,
        comparisons=tuple(_comparison(one, index) for index, one in enumerate(file.comparisons)),
        resources=records.Resources(**file.resources.model_dump()),
        budget=records.Budget(**file.budget.model_dump()),
        on_completion=file.on_completion,
        text=text,
    )


def _search(search: SearchTable) -> records.Search:
    given, tpe = search.sampler, records.Tpe()
    if isinstance(given, SamplerTable):
        tpe = records.Tpe(**given.tpe.model_dump())
    return records.Search(
        sampler="tpe" if isinstance(given, SamplerTable) else given,
        tpe=tpe,
        startup_configurations=search.startup_configurations,
        configurations_per_arm=search.configurations_per_arm,
        seed=search.seed,
        seeds=_seeds(search.seeds, ("search", "seeds")),
        scheduler=_scheduler(search.scheduler) if search.scheduler else None,
        warm_start=tuple(dict.fromkeys(search.warm_start)),
    )


def _scheduler(table: SchedulerTable) -> records.Scheduler:
    if (table.asha is None) == (table.median is None):
        raise Problem(("search", "scheduler"), "expected exactly one of asha, median")
    if table.asha is not None:
        return records.Asha(**table.asha.model_dump())
    assert table.median is not None  # one of two
    return records.Median(**table.median.model_dump())


def _task(task: TaskTable) -> records.Task:
    bits = _distinct_bits(task.bits, ("task", "bits"))
    options = {one.name for one in fields_of(Recipe)}
    fields = task.model_dump(exclude={"bits", "start", "convention", *options})
    recipe = Recipe(**task.model_dump(include=options))
    start = records.Start(**task.start.model_dump()) if task.start else None
    convention = Convention(task.convention) if task.convention else DEFAULT_CONVENTION
    return records.Task(
        **fields, bits=tuple(sorted(bits)), start=start, convention=convention, recipe=recipe
    )


def _arm(arm: ArmTable, index: int) -> Arm:
    space = {
        name: _dimension(one, ("arms", index, "space", name)) for name, one in arm.space.items()
    }
    source = records.Source(**arm.source.model_dump()) if arm.source else None
    return Arm(
        name=arm.name,
        method=arm.method,
        bits=tuple(sorted(_distinct_bits(arm.bits or (), ("arms", index, "bits")))),
        parameters=arm.parameters,
        space=space,
        first=tuple(arm.first),
        source=source,
    )


def _dimension(dimension: DimensionTable, path: KeyPath) -> Dimension:
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


def _objective(
    objective: ObjectiveTable, index: int, metrics: Sequence[Metric]
) -> records.Objective:
    """Without a metric the trainer's first one; without a goal the one of the metric.

    A cost is no metric of a trainer: it is known before, and the smaller the better.
    """
    at: Any = objective.at
    if isinstance(at, list):
        at = _distinct_bits(at, ("objectives", index, "at"))
    goals: dict[str, Goal] = {one.name: one.goal for one in metrics}
    goals |= dict.fromkeys(records.COST_METRICS, "minimize")
    name = objective.metric or metrics[0].name
    if name not in goals:
        known = list(goals)
        message = f"the task's trainer has no metric {name!r}{nearest(name, known)}"
        raise Problem(("objectives", index, "metric"), f"{message}; it has: {', '.join(known)}")
    return records.Objective(
        metric=name, at=at, goal=objective.goal or goals[name], combine=objective.combine
    )


def _comparison(comparison: ComparisonTable, index: int) -> records.Comparison:
    path, other = ("comparisons", index), comparison.against_at
    return records.Comparison(
        arm=comparison.arm,
        against=comparison.against,
        at=_at(comparison.at, (*path, "at")),
        against_at="same" if other is None else _at(other, (*path, "against_at")),
    )


def _at(text: BitsText, path: KeyPath) -> records.At:
    """Bits, "learned", or a rule at a lambda."""
    if text == LEARNED:
        return None
    if isinstance(text, int) or not ("@" in text or text.startswith(POLICY)):
        return _bits(text, path)
    try:
        return parse_rule(text)
    except ValueError as error:
        raise Problem(path, str(error)) from error


def _distinct_bits(texts: Sequence[BitsText], path: KeyPath) -> tuple[Bits, ...]:
    bits = tuple(_bits(one, (*path, index)) for index, one in enumerate(texts))
    if (twice := _twice(bits)) is not None:
        raise Problem(path, f"{twice.label} stands here twice")
    return bits


def _bits(text: BitsText, path: KeyPath) -> Bits:
    try:
        return parse_bits(text)
    except ValueError as error:
        raise Problem(path, str(error)) from error


def _seeds(seeds: Sequence[int], path: KeyPath) -> tuple[int, ...]:
    if (twice := _twice(seeds)) is not None:
        raise Problem(path, f"seed {twice} stands here twice")
    return tuple(seeds)


def _twice(values: Sequence[T]) -> T | None:
    """The first value that stood before; None if all differ."""
    return next((one for index, one in enumerate(values) if one in values[:index]), None)
