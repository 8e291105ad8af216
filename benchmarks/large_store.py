"""A large store for benchmarks: by default 1,000,000 measurements in 20,000 trials of 40 sweeps.

Rows go in bulk past the writer, under the same keys and with costs from the same arithmetic.
Used as a module: `fill(open_to_write(address), SIZE)`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Engine, Table

from bitsweep.bits import Allocation, Bits, tied
from bitsweep.cost import LayerBits
from bitsweep.measurement import Measurement
from bitsweep.store import schema
from bitsweep.store.rows import layer_bits_row, layer_rows, measurement_row, parameter_rows
from bitsweep.testing import TOY_TRAINER, toy_layers
from bitsweep.trial import Trial, canonical_json, digest, trial_document

METHODS = ("lsq", "cpq_dropbits", "mbquant", "abn", "adabits")
WIDTHS = tuple(tied(bits) for bits in (2, 3, 4, 5, 6))
TOTAL = 10_000
_LAYERS = toy_layers((1, 8, 8), 10)
_TIME = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Sweeps of five arms; per arm so many searched and so many confirmed trials.

    Each trial has 10 rounds of 5 allocations; a confirmed one has test in place of its first.
    """

    sweeps: int = 40
    searched_per_arm: int = 80
    confirmed_per_arm: int = 20

    @property
    def trials_per_sweep(self) -> int:
        """Trials of one sweep."""
        return len(METHODS) * (self.searched_per_arm + self.confirmed_per_arm)

    @property
    def trials(self) -> int:
        """Trials in all."""
        return self.sweeps * self.trials_per_sweep

    @property
    def measurements(self) -> int:
        """Measurements in all."""
        return self.trials * 10 * len(WIDTHS)


MILLION = Size()


def sweep_name(number: int) -> str:
    """The name of a sweep by its number from 0."""
    return f"large-{number:03d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A trial and where it stands; ids count from 1."""

    trial: Trial
    number: int
    sweep: int
    arm: int
    position: int
    configuration: int | None
    is_confirmed: bool


def fill(engine: Engine, size: Size = MILLION) -> None:
    """Write the rows into an empty, migrated store; the same size gives the same rows."""
    places = list(_places(size))
    for table, names, rows in _tables(size, places):
        if engine.dialect.name == "postgresql":
            _copy(engine, table, names, rows)
        else:
            _insert(engine, table, names, rows)
    _settle(engine)


def _places(size: Size) -> Iterator[_Place]:
    number = configuration = 0
    for sweep in range(size.sweeps):
        for position, method in enumerate(METHODS):
            for index in range(size.searched_per_arm + size.confirmed_per_arm):
                number += 1
                is_confirmed = index >= size.searched_per_arm
                configuration += not is_confirmed
                arm = sweep * len(METHODS) + position + 1
                yield _Place(
                    trial=_trial(method, sweep, index, size),
                    number=number,
                    sweep=sweep + 1,
                    arm=arm,
                    position=index,
                    configuration=(arm - 1) * size.searched_per_arm + 1
                    if is_confirmed
                    else configuration,
                    is_confirmed=is_confirmed,
                )


def _trial(method: str, sweep: int, index: int, size: Size) -> Trial:
    """Searched trials differ in their rate, confirmed ones in their seed."""
    is_confirmed = index >= size.searched_per_arm
    rate = 0.001 * (1 if is_confirmed else 1 + index) + 1e-7 * sweep
    return Trial(
        trainer=TOY_TRAINER,
        method=method,
        model="toy-net",
        data="toy-data",
        data_sha256="0" * 64,
        split_rule="none",
        bits=WIDTHS,
        parameters={"learning_rate": rate, "sharing": ("off", "bitwise")[index % 2]},
        epochs=9 if is_confirmed else 10,
        batch_size=128,
        seed=index - size.searched_per_arm if is_confirmed else 1000,
        numerics={"method": 1, "model": 1, "loop": 1},
        splits=("validation", "test") if is_confirmed else ("validation",),
    )


_Rows = tuple[Table, Sequence[str], Iterable[Sequence[Any]]]


def _tables(size: Size, places: Sequence[_Place]) -> Iterator[_Rows]:
    """Each table with the columns and rows it gets, parents before children."""
    yield from _declared(size)
    yield _rows(schema.trials, (_trial_row(one) for one in places))
    yield _rows(schema.parameters, (row for one in places for row in parameter_rows(one.trial)))
    yield _rows(schema.memberships, (_member_row(one) for one in places))
    yield _rows(schema.attempts, (_attempt_row(one) for one in places))
    yield _rows(schema.outcomes, (_outcome_row(one) for one in places))
    yield _rows(schema.evaluations, _evaluation_rows(places))
    yield _rows(schema.measurements, _measurement_rows(places))


def _rows(table: Table, rows: Iterable[dict[str, Any]]) -> _Rows:
    """Dictionaries of equal keys as a header and tuples."""
    iterator = iter(rows)
    first = next(iterator)

    def values() -> Iterator[tuple[Any, ...]]:
        yield tuple(first.values())
        for row in iterator:
            yield tuple(row.values())

    return table, tuple(first), values()


def _declared(size: Size) -> Iterator[_Rows]:
    """Sweeps, arms, configurations, comparisons, the model and its allocations."""
    arms = [(sweep, place) for sweep in range(size.sweeps) for place in range(len(METHODS))]
    yield _rows(schema.sweeps, (_sweep_row(one) for one in range(size.sweeps)))
    yield _rows(schema.arms, (_arm_row(*one) for one in arms))
    yield _rows(
        schema.configurations,
        (
            {
                "id": arm * size.searched_per_arm + number + 1,
                "arm_id": arm + 1,
                "study": "all",
                "number": number,
                "parameters": canonical_json({"learning_rate": 0.001 * (1 + number)}),
                "digest": digest(number),
            }
            for arm in range(len(arms))
            for number in range(size.searched_per_arm)
        ),
    )
    yield _rows(schema.comparisons, (_comparison_row(one) for one in range(size.sweeps)))
    model = {"id": 1, "name": "toy-net", "data": "toy-data", "digest": "toy-net"}
    yield _rows(schema.models, [model])
    yield _rows(schema.layers, ({"model_id": 1, **row} for row in layer_rows(_LAYERS)))
    bits = {
        place + 1: [layer_bits_row(i, one) for i, one in enumerate(_layer_bits(width))]
        for place, width in enumerate(WIDTHS)
    }
    yield _rows(
        schema.allocations,
        (
            {
                "id": place + 1,
                "digest": digest([1, width.label, bits[place + 1]]),
                "label": width.label,
                "model_id": 1,
            }
            for place, width in enumerate(WIDTHS)
        ),
    )
    yield _rows(
        schema.layer_bits,
        ({"allocation_id": id_, **row} for id_, rows in bits.items() for row in rows),
    )
    provenance = {"python": "3.11", "versions": "{}", "hostname": "host", "device": "cpu"}
    yield _rows(schema.provenance, [{"id": 1, "digest": "provenance", **provenance}])


def _layer_bits(width: Bits) -> tuple[LayerBits, ...]:
    return tuple(LayerBits(weight=width.weight, activation=width.activation) for _ in _LAYERS)


def _sweep_row(number: int) -> dict[str, Any]:
    name = sweep_name(number)
    return {
        "id": number + 1,
        "name": name,
        "question": f"Which of five methods serves 2 to 6 bits best ({number})?",
        "reproduces": "nothing: made for a benchmark",
        "expects": "",
        "cost": "",
        "text": f'name = "{name}"',
        "text_sha256": digest(name),
        "command": "",
        "goal": "maximize",
        "convention": "whole_ends8",
        "created_at": _TIME,
        "updated_at": _TIME,
    }


def _arm_row(sweep: int, position: int) -> dict[str, Any]:
    method = METHODS[position]
    return {
        "id": sweep * len(METHODS) + position + 1,
        "sweep_id": sweep + 1,
        "name": method,
        "method": method,
        "digest": digest(method),
        "position": position,
        "is_current": True,
    }


def _comparison_row(sweep: int) -> dict[str, Any]:
    return {
        "id": sweep + 1,
        "sweep_id": sweep + 1,
        "arm": "cpq_dropbits",
        "against": "lsq",
        "at": "w3a3",
        "against_at": "w3a3",
        "declared_at": _TIME,
        "is_primary": True,
        "is_current": True,
    }


def _trial_row(one: _Place) -> dict[str, Any]:
    trial = one.trial
    return {
        "id": trial.id,
        "method": trial.method,
        "model_id": 1,
        "data": trial.data,
        "bits": trial.bits_label,
        "epochs": trial.epochs,
        "seed": trial.seed,
        "document": canonical_json(trial_document(trial)),
        "last_epoch": trial.epochs,
        "created_at": _TIME,
    }


def _member_row(one: _Place) -> dict[str, Any]:
    return {
        "id": one.number,
        "sweep_id": one.sweep,
        "arm_id": one.arm,
        "configuration_id": one.configuration,
        "trial_id": one.trial.id,
        "stage": "confirm" if one.is_confirmed else "search",
    }


def _attempt_row(one: _Place) -> dict[str, Any]:
    return {
        "id": one.number,
        "trial_id": one.trial.id,
        "sweep_id": one.sweep,
        "provenance_id": 1,
        "owner": "host:1:benchmark",
        "started_at": _TIME,
        "ended_at": _TIME,
    }


def _outcome_row(one: _Place) -> dict[str, Any]:
    """A few of the search failed or were pruned."""
    status = {17: "failed", 33: "pruned"}.get(one.position, "finished")
    is_finished = one.is_confirmed or status == "finished"
    return {
        "trial_id": one.trial.id,
        "status": "finished" if is_finished else status,
        "reason": "" if is_finished else "made up for the benchmark",
        "epoch": one.trial.epochs,
        "sweep_id": one.sweep,
        "ended_at": _TIME,
    }


def _evaluation_rows(places: Sequence[_Place]) -> Iterator[dict[str, Any]]:
    number = 0
    for one in places:
        for epoch in range(1, one.trial.epochs + 1):
            number += 1
            yield {
                "id": number,
                "trial_id": one.trial.id,
                "epoch": epoch,
                "seconds": 0.5 * epoch,
                "examples": 6000 * epoch,
                "recorded_at": _TIME,
            }


def _measurement_rows(places: Sequence[_Place]) -> Iterator[dict[str, Any]]:
    """Costs are computed once per width: they do not depend on the trial."""
    models = {}
    for place, width in enumerate(WIDTHS):
        facts = Measurement(
            split="validation",
            allocation=Allocation.uniform(width),
            total=TOTAL,
            correct=0,
            sums={"loss": 0.0},
            layer_bits=_layer_bits(width),
        )
        row = measurement_row("", 0, facts, _LAYERS) | {"metric_sums": "{}"}
        models[place] = {"id": 0, **row, "allocation_id": place + 1}
    number = 0
    for one in places:
        for epoch, split in _rounds(one):
            noise = sha256(f"{one.trial.id}{epoch}{split}".encode()).digest()
            for place, model in models.items():
                number += 1
                correct = 5000 + 600 * place + 100 * epoch + 3 * noise[place]
                yield model | {
                    "id": number,
                    "trial_id": one.trial.id,
                    "epoch": epoch,
                    "split": split,
                    "correct": correct,
                    "loss_sum": float(TOTAL - correct),
                }


def _rounds(one: _Place) -> Iterator[tuple[int, str]]:
    """Validation after each epoch; test after the last one of a confirmed trial."""
    for epoch in range(1, one.trial.epochs + 1):
        yield epoch, "validation"
    if one.is_confirmed:
        yield one.trial.epochs, "test"


def _insert(engine: Engine, table: Table, names: Sequence[str], rows: Iterable[Any]) -> None:
    """SQLite: one transaction a table, past the expression language."""
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join("?" for _ in names)
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=OFF")
        cursor.execute("PRAGMA foreign_keys=OFF")
        cursor.execute("BEGIN IMMEDIATE")
        statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"
        cursor.executemany(statement, rows)  # type: ignore[arg-type]  # sqlite3 takes any iterable
        cursor.execute("COMMIT")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
    finally:
        connection.close()


def _copy(engine: Engine, table: Table, names: Sequence[str], rows: Iterable[Any]) -> None:
    """PostgreSQL: COPY, then the sequence goes on after the ids that were given."""
    columns = ", ".join(f'"{name}"' for name in names)
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection  # psycopg's own connection
        with driver.cursor() as cursor:
            with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            if "id" in names and table.c["id"].type.python_type is int:
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "
                    f"(SELECT MAX(id) FROM {table.name}))"
                )


def _settle(engine: Engine) -> None:
    """What autovacuum does within a minute on a server; a SQLite store gets no statistics."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
