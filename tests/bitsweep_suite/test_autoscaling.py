"""A cluster without a single CPU that grows to what a sweep wants: Ray's own autoscaler.

Ray's fake provider starts its nodes as processes on this machine; it expects the head's port.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.clusters import START_SECONDS, free_ports
from tests.bitsweep_suite.toys import ask_store

pytestmark = pytest.mark.real
PORT = 6379
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup")
CONFIG = {
    "cluster_name": "grows",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 1,
    "provider": {
        "type": "fake_multinode",
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    **{f"{kind}_commands": [] for kind in (*COMMANDS, "head_start_ray", "worker_start_ray")},
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
}
GROWTH = """
import ray
ray.init({address!r}, log_to_driver=False, logging_level="ERROR")
print(sorted(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))
"""


class Growing:
    """A head without CPUs, and the address that it tells."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bs-grow-"))
        config, log = self._folder / "grows.yaml", self._folder / "head.log"
        config.write_text(json.dumps(CONFIG), encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment = {
            **kept,
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_TMPDIR": str(self._folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        options = [f"--port={PORT}", "--num-cpus=0", "--block", "--disable-usage-stats"]
        options += [f"--autoscaling-config={config}", "--object-store-memory=80000000"]
        options += ["--dashboard-agent-listen-port={}".format(*free_ports(1))]
        options += ["--dashboard-port={}".format(*free_ports(1))]
        options += ["--ray-client-server-port={}".format(*free_ports(1))]
        with log.open("wb") as file:
            self._head = subprocess.Popen(
                ["ray", "start", "--head", *options],
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.address = self._told(log)

    def _told(self, log: Path) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._head.poll() is None:
            text = log.read_text(encoding="utf-8", errors="replace")
            if "To terminate the Ray runtime" in text:
                return text.partition("--address='")[2].partition("'")[0]
            time.sleep(0.5)
        raise AssertionError(log.read_text(encoding="utf-8", errors="replace"))

    def asked(self, *command: str) -> str:
        """What a command against the cluster prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shows(self, wanted: str, *command: str) -> None:
        """Wait until a command prints this: the autoscaler looks once a second."""
        end = time.monotonic() + START_SECONDS
        while wanted not in (said := self.asked(*command)):
            assert time.monotonic() < end, said
            time.sleep(1)

    def close(self) -> None:
        """End the head, and with it the nodes that it started."""
        for which in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._head.pid, which)
            time.sleep(3)
        self._head.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def growing() -> Iterator[Growing]:
    started = Growing()
    yield started
    started.close()


def test_a_sweep_makes_the_cluster_grow_and_withdraws_its_request(
    growing: Growing, tmp_path: Path
) -> None:
    plugin.install(tmp_path)
    (tmp_path / "toy.toml").write_text(plugin.SWEEP, encoding="utf-8")
    words = ("run", "toy.toml", "--address", growing.address)
    settings: Any = growing.environment
    refused = plugin.bitsweep(tmp_path, *words, **settings)
    ran = plugin.bitsweep(
        tmp_path, *words, "--wait-for-nodes", "--set", "resources.max_concurrent=2", **settings
    )
    assert refused.returncode == 2
    assert "wait-for-nodes" in refused.stderr
    assert ran.returncode == 0, ran.stderr
    growing.shows("[0, 1.0, 1.0]", sys.executable, "-c", GROWTH.format(address=growing.address))
    growing.shows(
        "From request_resources:\n (none)", "ray", "status", "--address", growing.address
    )
    ended = ask_store(tmp_path / "results", "SELECT status FROM outcomes", name="bitsweep.db")
    assert set(ended) == {("finished",)}
