"""The mirror process: `python -m bitsweep.mirroring STORE URI SWEEP CHECKPOINTS`.

Follows the store until its standard input closes (the driver ended, however it ended), then
catches up once more. A server that is down is tried again; what stays missing comes later.
"""

import json
import logging
import os
import select
import sys
from time import monotonic

# MLflow's own defaults would try for minutes: the mirror tries again by itself.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from sqlalchemy.exc import SQLAlchemyError

from bitsweep.errors import BitsweepError
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.tracking.mlflow_mirror import MlflowMirror

PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# Training goes first where both want a core.
NICENESS = 10


def main(store: str, uri: str, sweep: str, checkpoints: str) -> int:
    """Mirror one sweep; 0 when MLflow holds everything the store does."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    os.nice(NICENESS)
    mirror = None
    pause = PAUSE_SECONDS
    while True:
        try:
            is_new = mirror is None
            begin = monotonic()
            mirror = mirror or _open(store, uri, checkpoints)
            mirror.catch_up(sweep)
            # The first time makes MLflow's tables: it says nothing about the next one.
            pause = PAUSE_SECONDS if is_new else 4 * (monotonic() - begin)
        except (BitsweepError, SQLAlchemyError):
            mirror = None
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        if _input_closes_within(min(max(pause, PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)):
            return _finish(mirror, store, uri, sweep, checkpoints)


def sweep_documents(reader: Reader, sweep: str) -> dict[str, str]:
    """What a sweep's run in MLflow keeps as files: the sweep file and its table as it stands."""
    from bitsweep.analysis.render import json_rows, render
    from bitsweep.analysis.table import sweep_table

    table = sweep_table(reader, sweep)
    return {
        "sweep.toml": reader.sweep(sweep).text,
        "table.md": render(table, "markdown") + "\n",
        "table.json": json.dumps(json_rows(table), indent=2) + "\n",
    }


def _open(store: str, uri: str, checkpoints: str) -> MlflowMirror:
    return MlflowMirror(Reader(open_to_read(store)), uri, checkpoints=checkpoints)


def _finish(mirror: MlflowMirror | None, store: str, uri: str, sweep: str, place: str) -> int:
    try:
        mirror = mirror or _open(store, uri, place)
        mirror.catch_up(sweep)
        mirror.close(sweep, sweep_documents(Reader(open_to_read(store)), sweep))
    except (BitsweepError, SQLAlchemyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _input_closes_within(seconds: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
