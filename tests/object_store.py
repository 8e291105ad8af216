"""A server on loopback that speaks S3 (moto), in a process of its own, empty at its start.

The protocol and s3fs at the other end are real; that Amazon answers so is moto's word.
"""

import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

START_SECONDS = 60
BUCKET = "bitsweep-tests"


class _Line(socketserver.BaseRequestHandler):
    """One connection to the server, as long as the line holds."""

    server: "_Lines"

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as other:
            pair = (self.request, other)
            self.server.open.extend(pair)
            back = threading.Thread(target=_carry, args=(other, self.request), daemon=True)
            back.start()
            _carry(*pair)
            back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class _Lines(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, here: int, there: int) -> None:
        self.port = there
        self.open: list[socket.socket] = []
        super().__init__(("127.0.0.1", here), _Line)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def cut(self) -> None:
        self.shutdown()
        self.server_close()
        for one in self.open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass
class ObjectStore:
    """A bucket, and the line to its server, which a test may cut."""

    url: str
    ports: tuple[int, int]
    _lines: _Lines | None = None

    def mend(self) -> None:
        self._lines = _Lines(*self.ports)

    def cut(self) -> None:
        assert self._lines is not None  # a line is cut once
        self._lines.cut()
        self._lines = None


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """An empty bucket; AWS's variables name its server while it runs."""
    import s3fs

    ports = _free_port(), _free_port()
    endpoint = f"http://127.0.0.1:{ports[0]}"
    folder = Path(tempfile.mkdtemp(prefix="bitsweep-s3-"))
    found = ObjectStore(f"s3://{BUCKET}", ports)
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # its own, before ours
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(ports[1])]
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_until_up(f"http://127.0.0.1:{ports[1]}", server, folder / "log")
            found.mend()
            s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
            yield found
            found.cut()
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(endpoint: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urlopen(f"{endpoint}/moto-api/", timeout=5):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(encoding="utf-8")[-2000:]) from None
            time.sleep(0.1)
