"""A real PostgreSQL server on loopback, for tests and benchmarks; Debian's package brings it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POSTGRES_VARIABLE = "BITSWEEP_TEST_POSTGRES"


class NoPostgres(Exception):
    """There is neither a server nor a package of one; the message says what to do."""


class PostgresServer:
    """A server of our own that may be stopped and started again, on the same port and data.

    password: asked of every user ("" trusts everybody).
    """

    def __init__(self, *, password: str = "") -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not binaries:
            raise NoPostgres(f"no PostgreSQL: make system-packages, or set {POSTGRES_VARIABLE}")
        self.folder = Path(tempfile.mkdtemp(prefix="bitsweep-postgres-"))
        self.port = _free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        prefix = _as_postgres(self.folder)
        tools, data = binaries[-1].parent, str(self.folder / "data")
        self._control = [*prefix, str(tools / "pg_ctl"), "-D", data, "-w"]
        secret = self.folder / "password"
        secret.write_text(f"{password or 'none'}\n", encoding="utf-8")
        secret.chmod(0o644)
        method = ["-A", "scram-sha-256" if password else "trust", f"--pwfile={secret}"]
        initialise = [*prefix, str(tools / "initdb"), "-D", data, "-U", "postgres", *method]
        try:
            subprocess.run(initialise, check=True, capture_output=True, cwd=self.folder)
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        start = [*self._control, "-o", options, "-l", str(self.folder / "log"), "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def stop(self) -> None:
        """End it at once, as a crash does: connections break, what was committed is kept."""
        stop = [*self._control, "-m", "immediate", "stop"]
        subprocess.run(stop, capture_output=True, cwd=self.folder)

    def freeze(self) -> None:
        """Stop every process of it in its tracks: connections stay open, and nobody answers."""
        for process in processes_of(self.folder / "data"):
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for process in processes_of(self.folder / "data"):
            os.kill(process, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its data."""
        self.thaw()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def processes_of(data: Path) -> list[int]:
    """The postmaster of a data folder first, then its children: it starts none once it stands."""
    try:
        postmaster = int((data / "postmaster.pid").read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        return []
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
    return [postmaster, *map(int, children.read_text(encoding="ascii").split())]


@contextmanager
def running_server(given: str | None = None) -> Iterator[str]:
    """The URL of a server: the given one, that of the environment, or one of our own."""
    if known := given or os.environ.get(POSTGRES_VARIABLE):
        yield known
        return
    server = PostgresServer()
    try:
        yield server.url
    finally:
        server.close()


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
