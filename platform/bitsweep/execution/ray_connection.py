"""A driver's connection to Ray: join a cluster or start one here, and see what its nodes have."""

import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Read once, when ray.tune is imported.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray._private import utils as ray_utils
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from bitsweep.errors import InputError
from bitsweep.execution.shipping import stage

PROBE_SECONDS = 10.0
# What ray.init calls a cluster that ends with this process, and what each head node declares.
LOCAL = "local"
HEAD_RESOURCE = "node:__internal_head__"
# Ray sets it for the driver of a submitted job.
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def connect(address: str | None, *, trainer: str = "") -> bool:
    """Join a cluster or start a local one; False if this process is connected already.

    A bare ray.init() would join any cluster it finds on the machine, so that "local" is said. A
    cluster gets our code with the connection; a submitted job brought it. Raises InputError when
    none answers.
    """
    if ray.is_initialized():
        return False
    wanted = _wanted(address)
    _check_answers(wanted)
    with tempfile.TemporaryDirectory(prefix="bitsweep-ship-") as folder, _sigterm_kept():
        options: dict[str, Any] = {}
        if wanted == LOCAL:
            options = {"include_dashboard": False}
        elif JOB_VARIABLE not in os.environ:
            options = {"runtime_env": {"py_modules": stage(Path(folder), trainer=trainer)}}
        try:
            ray.init(address=wanted, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"no Ray cluster answers at {wanted!r}: {reason}") from error
        except KeyboardInterrupt:
            ray.shutdown()  # what it had started by then
            raise
    return True


def nodes_alive() -> list[dict[str, float]]:
    """The resources of each node of the cluster, whoever uses them at this moment."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def place_of(address: str | None) -> str:
    """The cluster by its head node; this machine, where Ray is for this process alone."""
    if _wanted(address) == LOCAL:
        return socket.gethostname()
    return next(str(one["NodeID"]) for one in ray.nodes() if HEAD_RESOURCE in one["Resources"])


def disconnect() -> None:
    """Leave the cluster; one that this process started ends."""
    ray.shutdown()


@contextmanager
def requested(bundles: list[dict[str, float]]) -> Iterator[None]:
    """Ask the autoscaler for these while the block runs: a request stands until it is replaced."""
    request_resources(bundles=bundles)
    try:
        yield
    finally:
        request_resources(bundles=[])


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM: ray.init sets one of its own, which leaves without a word.

    Restoring it afterwards would be too late for a signal that comes while Ray starts. Can go once
    ray.init has an option for it.
    """
    sets = ray_utils.set_sigterm_handler
    before = signal.getsignal(signal.SIGTERM)
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = sets
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's C++ part has one too


def _wanted(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def _check_answers(address: str) -> None:
    """Say at once where nothing listens: Ray tries for two minutes. "auto", "local": Ray's own."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        if place.hostname is None or place.port is None:
            return
        socket.create_connection((place.hostname, place.port), timeout=PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r}: {error}; expected HOST:PORT of its head"
        ) from error
