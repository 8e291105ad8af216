"""A real Ray cluster of several nodes on loopback, with a token; ends only what it started."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

HEAD_IP = "127.0.0.2"
START_SECONDS = 90


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens to at this moment."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("0.0.0.0", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class LoopbackCluster:
    """A head on 127.0.0.2; `add_node` adds nodes of one CPU, one after the other."""

    def __init__(self, *, head_cpus: int = 1) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bs-ray-"))
        self._gcs_port, dashboard_port = free_ports(2)
        self.address = f"http://127.0.0.1:{dashboard_port}"
        self.gcs_address = f"{HEAD_IP}:{self._gcs_port}"
        self.token = secrets.token_hex(24)
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._lost: set[int] = set()
        self._start(
            "--head",
            f"--node-ip-address={HEAD_IP}",
            f"--port={self._gcs_port}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard_port}",
            f"--ray-client-server-port={free_ports(1)[0]}",
            cpus=head_cpus,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs beside the address."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    @property
    def size(self) -> int:
        """How many nodes live, the head included."""
        return len(self._nodes) - len(self._lost)

    def keep_the_head_alone(self) -> None:
        """End every other node."""
        for number in set(range(1, len(self._nodes))) - self._lost:
            self.kill_node(number)

    def add_node(self) -> int:
        """Start one more node of one CPU; return its number, from 1."""
        number = len(self._nodes)
        self._start(
            f"--address={self.gcs_address}", f"--node-ip-address={self.address_of(number)}"
        )
        return number

    def kill_node(self, number: int) -> None:
        """kill -9 of a node's raylet: the machine is gone."""
        _kill(self._raylet(number))
        self._lost.add(number)

    def kill_head(self) -> None:
        """kill -9 of all that the head's machine ran: control plane, raylet, jobs, workers."""
        for process in (*_family(self._nodes[0].pid), self._nodes[0].pid):
            _kill(process)

    @staticmethod
    def address_of(number: int) -> str:
        """The IP address of a node; 0 is the head."""
        return f"127.0.0.{number + 2}"

    def close(self) -> None:
        """End every process that was started here, the head last."""
        for node in reversed(self._nodes):
            family = _family(node.pid)
            node.kill()
            for process in family:
                _kill(process)
            node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *options: str, cpus: int = 1) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH"))}
        environment = {
            **kept,
            **self.environment,
            "RAY_TMPDIR": str(self.folder),
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        options = (
            *options,
            f"--num-cpus={cpus}",
            "--object-store-memory=80000000",
            f"--dashboard-agent-listen-port={free_ports(1)[0]}",
            "--disable-usage-stats",
            "--block",
        )
        log = (self.folder / f"node{len(self._nodes)}.log").open("wb")
        ray = Path(sys.executable).with_name("ray")
        node = subprocess.Popen(
            [str(ray), "start", *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        self._nodes.append(node)
        self._wait_until_up(len(self._nodes) - 1, log=Path(log.name))

    def _wait_until_up(self, number: int, *, log: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            text = log.read_text(encoding="utf-8", errors="replace")
            if "Ray runtime started." in text:
                return
            if self._nodes[number].poll() is not None:
                break
            time.sleep(0.25)
        raise AssertionError(f"node {number} did not come up: {log.read_text(errors='replace')}")

    def _raylet(self, number: int) -> int:
        for process in _family(self._nodes[number].pid):
            if Path(f"/proc/{process}/comm").read_text(encoding="ascii").strip() == "raylet":
                return process
        raise AssertionError(f"node {number} has no raylet")


def _family(ancestor: int) -> list[int]:
    """Every process that descends from this one."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            parents[int(status.parent.name)] = int(fields.split()[1])
    family = {ancestor}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {ancestor})


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
