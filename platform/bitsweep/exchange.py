"""Results in and out: a sweep as one Parquet or CSV file, and either of them back into a store.

The file's rows are the measurements, readable by any tool; all else of the sweep stands beside
them as one JSON document, in Parquet's metadata or in the first line of the CSV (skip it there).
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bitsweep.errors import InputError
from bitsweep.store import schema
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.transfer import CARRIED, Merged, Rows, merge, store_rows, sweep_rows

FORMAT = 1
_KEY = "bitsweep"
_TABLE = schema.measurements
_OWN = [column.name for column in _TABLE.columns]
_READABLE = ("arms", "method", "model", "data", "bits", "seed", "allocation")
_KINDS = {column.name: column.type.python_type for column in _TABLE.columns}


def export_sweep(reader: Reader, sweep: str, output: Path) -> int:
    """Write a sweep's measurements with all that belongs to them; return their number."""
    suffix = _suffix(output)
    rows = sweep_rows(reader, sweep)
    measured = rows.pop("measurements")
    document = json.dumps({"format": FORMAT, "rows": rows})
    flat = _flat(measured, rows)
    if suffix == ".csv":
        _write_csv(output, flat, document)
    else:
        _write_parquet(output, flat, document)
    return len(flat)


def import_results(source: Path, store: str) -> Merged:
    """Merge an exported file or another SQLite store into a store, creating it if need be."""
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    rows = read_export(source) if source.suffix in (".csv", ".parquet") else _store(source)
    engine = open_to_write(store)
    try:
        return merge(engine, rows)
    finally:
        engine.dispose()


def _store(source: Path) -> dict[str, Rows]:
    reader = Reader(open_to_read(str(source)))
    try:
        return store_rows(reader)
    finally:
        reader.close()


def _suffix(path: Path) -> str:
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: expected a name that ends in .parquet or .csv")
    return path.suffix


def _flat(measured: Rows, rows: Mapping[str, Rows]) -> Rows:
    """Measurements with the names that their ids stand for put before them."""
    trials = {row["id"]: row for row in rows["trials"]}
    models = {row["id"]: row["name"] for row in rows["models"]}
    labels = {row["id"]: row["label"] for row in rows["allocations"]}
    arms = {row["id"]: row["name"] for row in rows["arms"]}
    served: dict[str, set[str]] = {}
    for member in rows["memberships"]:
        names = served.setdefault(member["trial_id"], set())
        if member["arm_id"] is not None:
            names.add(arms[member["arm_id"]])
    flat = []
    for row in measured:
        trial = trials[row["trial_id"]]
        readable = {
            "arms": ", ".join(sorted(served[row["trial_id"]])),
            "method": trial["method"],
            "model": models[trial["model_id"]],
            "data": trial["data"],
            "bits": trial["bits"],
            "seed": trial["seed"],
            "allocation": labels[row["allocation_id"]],
        }
        flat.append(readable | row | {"metric_sums": json.dumps(row["metric_sums"])})
    return flat


def _write_csv(output: Path, flat: Rows, document: str) -> None:
    with output.open("w", encoding="utf-8", newline="") as file:
        file.write(f"#{_KEY} {document}\n")
        writer = csv.DictWriter(file, [*_READABLE, *_OWN], lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)


def _write_parquet(output: Path, flat: Rows, document: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {name: pa.string() for name in _READABLE} | {"seed": pa.int64()}
    own = {int: pa.int64(), float: pa.float64()}
    kinds |= {name: own.get(kind, pa.string()) for name, kind in _KINDS.items()}
    arrays = {name: pa.array([row[name] for row in flat], type=kinds[name]) for name in kinds}
    table = pa.table(arrays).replace_schema_metadata({_KEY: document})
    parquet.write_table(table, output, compression="zstd")


def read_export(source: Path) -> dict[str, Rows]:
    """An exported file as rows by table; raise InputError for any other file."""
    try:
        document, flat = _parts(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{source} is no file that bitsweep exported: {error}") from error
    if document.get("format") != FORMAT:
        raise InputError(
            f"{source}: expected export format {FORMAT}, got {document.get('format')}"
        )
    rows = document["rows"]
    rows["measurements"] = [{name: row[name] for name in _OWN} for row in flat]
    for row in rows["measurements"]:
        row["metric_sums"] = json.loads(row["metric_sums"])
    for row in rows.get("sweeps", []):
        row.setdefault("metric", "top1_percent")  # exports of before it was kept
    known = {table.name: {column.name for column in table.columns} for table in CARRIED}
    for name, found in rows.items():
        if name not in known or any(set(row) != known[name] for row in found):
            raise InputError(f"{source}: {name} has other columns than this version's store")
    return dict(rows)


def _parts(source: Path) -> tuple[dict[str, Any], Rows]:
    if source.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.read_table(source)
        return json.loads(table.schema.metadata[_KEY.encode()]), table.to_pylist()
    with source.open(encoding="utf-8", newline="") as file:
        key, _, document = file.readline().partition(" ")
        if key != f"#{_KEY}":
            raise ValueError(f"its first line does not begin with #{_KEY}")
        return json.loads(document), list(_csv_rows(file))


def _csv_rows(lines: Any) -> Iterator[dict[str, Any]]:  # an open text file
    for row in csv.DictReader(lines):
        yield {name: _parsed(text, _KINDS[name]) for name, text in row.items() if name in _KINDS}


def _parsed(text: str, kind: type) -> Any:
    """A cell as its column's type: empty is absent, except for text that may be empty."""
    if text == "":
        return None
    return kind(text) if kind in (int, float) else text


def write_rows(output: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows of a query as a Parquet file; raise InputError where a column has no one type."""
    import pyarrow as pa
    from pyarrow import parquet

    if len(set(names)) != len(names):
        raise InputError(f"a column stands twice: {', '.join(names)}; name them apart with AS")
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    try:
        arrays = {name: pa.array(column) for name, column in zip(names, columns, strict=True)}
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"a column mixes types: {error}") from error
    parquet.write_table(pa.table(arrays), output, compression="zstd")
