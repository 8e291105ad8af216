"""A real PostgreSQL server on loopback, for tests and benchmarks; Debian's package brings it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POSTGRES_VARIABLE = "BITSWEEP_TEST_POSTGRES"


class NoPostgres(Exception):
    """There is neither a server nor a package of one; the message says what to do."""


@contextmanager
def running_server(given: str | None = None) -> Iterator[str]:
    """The URL of a server: the given one, that of the environment, or one of our own."""
    if known := given or os.environ.get(POSTGRES_VARIABLE):
        yield known
        return
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not binaries:
        raise NoPostgres(f"no PostgreSQL: make system-packages, or set {POSTGRES_VARIABLE}")
    folder = Path(tempfile.mkdtemp(prefix="bitsweep-postgres-"))
    prefix = _as_postgres(folder)
    tools, port = binaries[-1].parent, _free_port()
    data = str(folder / "data")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*prefix, str(tools / "pg_ctl"), "-D", data, "-w"]
    initialise = [str(tools / "initdb"), "-D", data, "-A", "trust", "-U", "postgres"]
    log = str(folder / "log")
    try:
        subprocess.run([*prefix, *initialise], check=True, capture_output=True, cwd=folder)
        start = [*control, "-o", options, "-l", log, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, cwd=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres(folder: Path) -> list[str]:
    """The server refuses to run as root: then it runs as the user that its package made."""
    if os.getuid() != 0:
        return []
    shutil.chown(folder, user="postgres")
    return ["runuser", "-u", "postgres", "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
