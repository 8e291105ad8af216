"""How fast a large store answers: tables, views, export, shell, on SQLite and PostgreSQL.

python benchmarks/queries.py [--sweeps 40] [--postgres URL] [--keep FOLDER]

Without --postgres a server of Debian's package is started on loopback; without one of these the
figures of PostgreSQL are missing and `holds` is false. --keep leaves the SQLite store there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.large_store import Size, fill, sweep_name  # noqa: E402

from bitsweep.analysis.table import sweep_table  # noqa: E402
from bitsweep.exchange import export_sweeps  # noqa: E402
from bitsweep.store.database import open_to_read, open_to_write  # noqa: E402
from bitsweep.store.reader import Reader  # noqa: E402

BITSWEEP = Path(sys.executable).with_name("bitsweep")
BACKENDS = ("sqlite", "postgresql")
LIMITS = {
    **{f"table_{name}_milliseconds": 150.0 for name in BACKENDS},
    **{f"results_view_{name}_milliseconds": 100.0 for name in BACKENDS},
    **{f"best_per_bit_{name}_seconds": 2.0 for name in BACKENDS},
    "export_parquet_seconds": 15.0,
    "shell_table_seconds": 1.5,
}


def seconds(work: Callable[[], object], *, repeats: int = 7) -> float:
    """The median over repeats, after one that warms the caches."""
    work()
    taken = []
    for _ in range(repeats):
        begin = perf_counter()
        work()
        taken.append(perf_counter() - begin)
    return median(taken)


def measured(address: str, backend: str, size: Size) -> dict[str, float]:
    """The figures of one database, which is filled first."""
    engine = open_to_write(address)
    begin = perf_counter()
    fill(engine, size)
    engine.dispose()
    print(
        f"{backend}: {size.measurements:,} measurements in {size.trials:,} trials, "
        f"{size.trials_per_sweep} a sweep, written in {perf_counter() - begin:.1f} s",
        flush=True,
    )
    reader = Reader(open_to_read(address))
    name = sweep_name(size.sweeps // 2)
    view = f"SELECT * FROM results WHERE sweep = '{name}'"
    best = "SELECT * FROM best_per_bit"
    for sql in (view, best):
        print_plan(reader, sql, backend)
    figures = {
        f"table_{backend}_milliseconds": 1e3 * seconds(lambda: sweep_table(reader, name)),
        f"results_view_{backend}_milliseconds": 1e3 * seconds(lambda: reader.query(view)),
        f"best_per_bit_{backend}_seconds": seconds(lambda: reader.query(best), repeats=3),
    }
    reader.close()
    return figures


def print_plan(reader: Reader, sql: str, backend: str) -> None:
    """What the database does for a statement, in its own words."""
    explain = "EXPLAIN QUERY PLAN" if backend == "sqlite" else "EXPLAIN"
    print(f"{backend}: plan of {sql}")
    for row in reader.query(f"{explain} {sql}")[1]:
        print(f"    {row[-1]}")


def files_and_shell(address: str, folder: Path, size: Size) -> dict[str, float]:
    """All rows into a Parquet file, and one table from the command line."""
    reader = Reader(open_to_read(address))
    begin = perf_counter()
    export_sweeps(reader, [], folder / "all.parquet")
    export = perf_counter() - begin
    reader.close()
    command = [str(BITSWEEP), "table", sweep_name(0), "--store", address]

    def shell() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return {"export_parquet_seconds": export, "shell_table_seconds": seconds(shell, repeats=5)}


@contextmanager
def postgres_database(given: str | None) -> Iterator[str | None]:
    """The URL of an empty database that is dropped afterwards; None where there is no server."""
    import psycopg
    from tests.postgres import NoPostgres, running_server

    try:
        with running_server(given) as server:
            name = f"benchmark_{uuid4().hex}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            yield f"{server.rpartition('/')[0]}/{name}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    except NoPostgres as reason:
        print(f"postgresql: not measured: {reason}")
        yield None


def main() -> None:
    """Fill, measure, print plans and figures; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=Size().sweeps)
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    size = Size(sweeps=given.sweeps)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bitsweep-queries-") as made:
        folder = given.keep or Path(made)
        store = folder / "large.db"
        store.unlink(missing_ok=True)
        figures |= measured(str(store), "sqlite", size)
        figures |= files_and_shell(str(store), folder, size)
        with postgres_database(given.postgres) as address:
            if address is not None:
                figures |= measured(address, "postgresql", size)
    for name, limit in LIMITS.items():
        shown = f"{figures[name]:.3f}" if name in figures else "not measured"
        print(f"{name}: {shown} (limit {limit:g})")
    is_whole = size.measurements >= 1_000_000 and set(figures) == set(LIMITS)
    holds = is_whole and all(figures[name] < limit for name, limit in LIMITS.items())
    print(
        json.dumps({"benchmark": "queries", "figures": figures, "limits": LIMITS, "holds": holds})
    )


if __name__ == "__main__":
    main()
