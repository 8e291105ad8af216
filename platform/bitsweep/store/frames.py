"""Rows of the views made for people, as notebooks and tables of many sweeps ask for them."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import String, bindparam, text

from bitsweep.store.reader import Reader
from bitsweep.store.views import VIEW_COLUMNS


def view_rows(
    reader: Reader,
    sweeps: Sequence[str],
    equal: Mapping[str, str],
    *,
    view: Literal["results", "scores"],
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a view of these sweeps (none: of all) where columns equal values."""
    names = list(VIEW_COLUMNS[view])
    unknown = set(equal) - set(names)
    assert not unknown, unknown  # names of columns come from our own code, never from a user
    conditions = [f"{name} = :{name}" for name in equal]
    parameters: dict[str, Any] = dict(equal)
    binds = [bindparam(name, type_=String) for name in equal]
    if sweeps:
        conditions.append("sweep IN :sweeps")
        parameters["sweeps"] = list(sweeps)
        binds.append(bindparam("sweeps", expanding=True))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = " ORDER BY sweep, arm, allocation, split, seed, trial_id"
    statement = text(f"SELECT {', '.join(names)} FROM {view}{where}{order}").bindparams(*binds)
    rows = reader.rows(statement, parameters)
    return names, [tuple(_number(one) for one in row.values()) for row in rows]


def arms_parameters(reader: Reader, sweep: str) -> list[dict[str, Any]]:
    """Rows of `trial_parameters_wide` of one sweep with the JSON read."""
    statement = text(
        "SELECT * FROM trial_parameters_wide WHERE sweep = :sweep ORDER BY arm, stage, trial_id"
    )
    rows = reader.rows(statement, {"sweep": sweep})
    return [row | {"parameters": _read(row["parameters"])} for row in rows]


def _number(value: Any) -> Any:  # what PostgreSQL divides exactly is a float in SQLite
    return float(value) if isinstance(value, Decimal) else value


def _read(document: Any) -> dict[str, Any]:  # PostgreSQL's driver reads JSON, SQLite's does not
    return dict(json.loads(document) if isinstance(document, str) else document)
