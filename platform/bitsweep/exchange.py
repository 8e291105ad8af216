"""Results in and out: sweeps as one Parquet or CSV file, and either of them back into a store.

The file's rows are the measurements, readable by any tool; all else of the sweeps stands beside
them as one JSON document: in Parquet's metadata (zlib, then base64, since evaluations are many) or
in the first line of the CSV (skip it there).
"""

import csv
import gc
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bitsweep.errors import InputError
from bitsweep.store import schema
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.merge import Merged, merge
from bitsweep.store.reader import Reader
from bitsweep.store.transfer import (
    CARRIED,
    Rows,
    described_rows,
    measured_batches,
    store_rows,
)

FORMAT = 1
_KEY = "bitsweep"
_TABLE = schema.measurements
_OWN = [column.name for column in _TABLE.columns]
_READABLE = ("arms", "method", "model", "data", "bits", "seed", "allocation")
_KINDS = {column.name: column.type.python_type for column in _TABLE.columns}


def export_sweeps(reader: Reader, sweeps: Sequence[str], output: Path) -> int:
    """Write these sweeps (none named: all) with all that belongs to them; count measurements.

    The file appears whole or not at all. Raises InputError for a name of no known form.
    """
    is_csv = _suffix(output) == ".csv"
    rows = described_rows(reader, sweeps)
    trial_ids = sorted(row["id"] for row in rows["trials"]) if sweeps else None
    document = json.dumps({"format": FORMAT, "rows": rows}, default=_bytes_as_text)
    measured = measured_batches(reader, trial_ids)
    unfinished = output.with_name(f"{output.name}.part")
    try:
        write = _write_csv if is_csv else _write_parquet
        with _no_collection():
            count = write(unfinished, measured, rows, document)
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


@contextmanager
def _no_collection() -> Iterator[None]:
    """Rows make no cycles, and each search for some among millions of them takes its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _bytes_as_text(value: Any) -> str:  # what json cannot write
    return b64encode(value).decode()


def import_results(origin: str | Path, store: str) -> Merged:
    """Merge an exported file or another store (a file or a URL) into a store, made if need be."""
    source = str(origin)
    is_export = Path(source).suffix in (".csv", ".parquet") and "://" not in source
    if "://" not in source and not Path(source).is_file():
        raise InputError(f"{source}: no such file")
    rows = read_export(Path(source)) if is_export else _store(source)
    engine = open_to_write(store)
    try:
        return merge(engine, rows)
    finally:
        engine.dispose()


def _store(source: str) -> dict[str, Rows]:
    reader = Reader(open_to_read(source))
    try:
        return store_rows(reader)
    finally:
        reader.close()


def _suffix(path: Path) -> str:
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: expected a name that ends in .parquet or .csv")
    return path.suffix


Columns = list[Sequence[Any]]
Measured = Iterable[Sequence[tuple[Any, ...]]]


def _flat(measured: Measured, rows: Mapping[str, Rows]) -> Iterator[Columns]:
    """Measurements column by column, with the names that their ids stand for put before them."""
    trial_at, allocation_at = _OWN.index("trial_id"), _OWN.index("allocation_id")
    labels = {row["id"]: row["label"] for row in rows["allocations"]}
    named = _named_trials(rows)
    for part in measured:
        if part:
            own = list(zip(*part, strict=True))
            of_trial = list(zip(*[named[id_] for id_ in own[trial_at]], strict=True))
            yield [*of_trial, [labels[id_] for id_ in own[allocation_at]], *own]


def _named_trials(rows: Mapping[str, Rows]) -> dict[str, tuple[Any, ...]]:
    """By trial the values of _READABLE, without the allocation."""
    models = {row["id"]: row["name"] for row in rows["models"]}
    arms = {row["id"]: row["name"] for row in rows["arms"]}
    served: dict[str, set[str]] = {}
    for member in rows["memberships"]:
        names = served.setdefault(member["trial_id"], set())
        if member["arm_id"] is not None:
            names.add(arms[member["arm_id"]])
    return {
        trial["id"]: (
            ", ".join(sorted(served.get(trial["id"], ()))),
            trial["method"],
            models[trial["model_id"]],
            trial["data"],
            trial["bits"],
            trial["seed"],
        )
        for trial in rows["trials"]
    }


def _write_csv(output: Path, measured: Measured, rows: Mapping[str, Rows], document: str) -> int:
    count = 0
    with output.open("w", encoding="utf-8", newline="") as file:
        file.write(f"#{_KEY} {document}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_READABLE, *_OWN])
        for columns in _flat(measured, rows):
            writer.writerows(zip(*columns, strict=True))
            count += len(columns[0])
    return count


def _write_parquet(
    output: Path, measured: Measured, rows: Mapping[str, Rows], document: str
) -> int:
    """Names are looked up by Arrow, a place per row: text per row would take twice as long."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {name: pa.string() for name in _READABLE} | {"seed": pa.int64()}
    of_type = {int: pa.int64(), float: pa.float64()}
    kinds |= {name: of_type.get(kind, pa.string()) for name, kind in _KINDS.items()}
    packed = b64encode(zlib.compress(document.encode(), level=1))
    schema_ = pa.schema(kinds.items(), metadata={_KEY: packed})
    of_trials, labelled = _named_trials(rows), rows["allocations"]
    trial_places = {id_: place for place, id_ in enumerate(of_trials)}
    label_places = {row["id"]: place for place, row in enumerate(labelled)}
    label_texts = pa.array([row["label"] for row in labelled], type=pa.string())
    columns = list(zip(*of_trials.values(), strict=True)) or [()] * (len(_READABLE) - 1)
    names = [
        pa.array(column, type=kinds[name])
        for name, column in zip(_READABLE, columns, strict=False)  # the allocation comes after
    ]
    count = 0
    with parquet.ParquetWriter(output, schema_, compression="zstd") as writer:
        for part in measured:
            own = dict(zip(_OWN, zip(*part, strict=True), strict=True))
            trials = pa.array([trial_places[id_] for id_ in own["trial_id"]], type=pa.int32())
            labels = pa.array([label_places[id_] for id_ in own["allocation_id"]], type=pa.int32())
            arrays = [one.take(trials) for one in names] + [label_texts.take(labels)]
            arrays += [pa.array(own[name], type=kinds[name]) for name in _OWN]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema_))
            count += len(part)
    return count


def read_export(source: Path) -> dict[str, Rows]:
    """An exported file as rows by table; raise InputError for any other file."""
    try:
        document, flat = _parts(source)
    except (OSError, ValueError, KeyError, zlib.error) as error:
        raise InputError(f"{source} is no file that bitsweep exported: {error}") from error
    if document.get("format") != FORMAT:
        raise InputError(
            f"{source}: expected export format {FORMAT}, got {document.get('format')}"
        )
    rows = document["rows"]
    rows["measurements"] = [{name: row[name] for name in _OWN} for row in flat]
    for row in rows["measurements"]:
        row["metric_sums"] = json.loads(row["metric_sums"])
    for row in rows.get("answers", []):
        row["bits"] = b64decode(row["bits"])
    for row in rows.get("sweeps", []):
        row.setdefault("metric", "top1_percent")  # exports of before it was kept
    for row in rows.get("comparisons", []):
        row.setdefault("against_at", row["at"])  # both sides stood at the same bits
    known = {table.name: {column.name for column in table.columns} for table in CARRIED}
    for name, found in rows.items():
        if name not in known or any(set(row) != known[name] for row in found):
            raise InputError(f"{source}: {name} has other columns than this version's store")
    return dict(rows)


def _parts(source: Path) -> tuple[dict[str, Any], Rows]:
    if source.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.read_table(source)
        document = zlib.decompress(b64decode(table.schema.metadata[_KEY.encode()]))
        return json.loads(document), table.to_pylist()
    with source.open(encoding="utf-8", newline="") as file:
        key, _, line = file.readline().partition(" ")
        if key != f"#{_KEY}":
            raise ValueError(f"its first line does not begin with #{_KEY}")
        return json.loads(line), list(_csv_rows(file))


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
