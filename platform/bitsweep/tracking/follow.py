"""The mirror process: `python -m bitsweep.tracking.follow STORE URI SWEEP`.

Follows the store until its standard input closes (the driver ended, however it ended), then
catches up once more. A server that is down is tried again; what stays missing comes later.
"""

import logging
import os
import select
import sys
from time import monotonic

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from bitsweep.errors import BitsweepError
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.tracking.mlflow_mirror import MlflowMirror

PAUSE_SECONDS = 1.0


def main(store: str, uri: str, sweep: str) -> int:
    """Mirror one sweep; 0 when MLflow holds everything the store does."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    mirror = None
    while True:
        begin = monotonic()
        try:
            mirror = mirror or MlflowMirror(Reader(open_to_read(store)), uri)
            mirror.catch_up(sweep)
        except BitsweepError:
            mirror = None
        pause = max(PAUSE_SECONDS, 4 * (monotonic() - begin))
        if _input_closes_within(min(pause, 10.0)):
            return _finish(mirror, store, uri, sweep)


def _finish(mirror: MlflowMirror | None, store: str, uri: str, sweep: str) -> int:
    try:
        mirror = mirror or MlflowMirror(Reader(open_to_read(store)), uri)
        mirror.catch_up(sweep)
        mirror.close(sweep)
    except BitsweepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _input_closes_within(seconds: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
