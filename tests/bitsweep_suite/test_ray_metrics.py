"""What Prometheus sees of a driver on a real cluster, found as Prometheus finds it."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from tests.bitsweep_suite import plugin
from tests.bitsweep_suite.clusters import LoopbackCluster

pytestmark = pytest.mark.real
SAMPLE = re.compile(r"^ray_(bitsweep_\w+)\{(.*)\} (\S+)$", re.M)


@pytest.fixture
def cluster() -> Iterator[LoopbackCluster]:
    """One node of one CPU."""
    started = LoopbackCluster()
    yield started
    started.close()


def scraped(cluster: LoopbackCluster) -> dict[str, float]:
    """Our samples of all targets that Ray names to Prometheus: `name status` and value."""
    discovery = next(cluster.folder.rglob("prom_metrics_service_discovery.json"))
    found: dict[str, float] = {}
    for group in json.loads(discovery.read_text(encoding="utf-8")):
        for target in group["targets"]:
            try:
                with urlopen(f"http://{target}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:
                continue  # the dashboard's own port answers later
            for name, labels, value in re.findall(
                r"^ray_(bitsweep_\w+)\{(.*)\} (\S+)$", text, re.M
            ):
                if 'sweep="toy"' in labels:
                    status = re.search(r'status="(\w+)"', labels)
                    found[f"{name} {status.group(1) if status else ''}".strip()] = float(value)
    return found


def test_trials_and_measurements_are_counted(cluster: LoopbackCluster, tmp_path: Path) -> None:
    plugin.install(tmp_path, plugin.fixed_that("slow"))
    driver = plugin.start(
        tmp_path,
        *("run", "toy.toml", "--mlflow", "none", "--address", cluster.gcs_address),
        stderr=subprocess.STDOUT,
        **cluster.environment,
    )
    try:
        seen: dict[str, float] = {}
        while driver.poll() is None:
            seen = scraped(cluster) or seen
            if seen.get("bitsweep_trials_ended_total finished", 0) >= 2:
                break
            time.sleep(1.0)
        said, _ = driver.communicate(timeout=240)
    finally:
        driver.kill()

    assert driver.returncode == 0, said
    assert seen["bitsweep_trials_running"] in {0.0, 1.0, 2.0}  # one may wait for its worker
    assert seen["bitsweep_trials_ended_total finished"] >= 2
    assert seen["bitsweep_measurements_total"] >= 4
