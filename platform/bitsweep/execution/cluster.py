"""Sweeps as jobs of a Ray cluster: submit, look, read the log, end. The driver runs over there."""

import asyncio
import json
import logging
import os
import re
import secrets
import shlex
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from bitsweep.errors import INTERRUPTED, InputError, UnknownName
from bitsweep.execution.shipping import stage

API_VARIABLE = "RAY_API_SERVER_ADDRESS"
SUBMITTED_VARIABLE = "BITSWEEP_SUBMITTED"
SWEEP_KEY = "bitsweep.sweep"
MODULE = "bitsweep.cli.submitted"
CONNECT_SECONDS = 5.0
# How long Ray waits after SIGTERM before it kills a driver: enough to write what was measured.
STOP_SECONDS = 30
POLL_SECONDS = 1.0
# They report each upload and each connection, at a level of their own.
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_JOB_ID = re.compile(r".+-\d{8}-\d{6}-[0-9a-f]{4}")


def is_job_id(name: str) -> bool:
    """Whether a name has the form of the ids that `submit` gives.

    >>> is_job_id("lsq-rates-20260131-235959-0a1b"), is_job_id("lsq-rates")
    (True, False)
    """
    return _JOB_ID.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A sweep for the cluster. `arguments` are those of `bitsweep run` after the file.

    environment: set for the driver alone, so that workers never see the store's password.
    """

    sweep: str
    text: str
    trainer: str
    arguments: tuple[str, ...]
    command: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A submitted sweep as the cluster sees it; times in UTC as text, empty if not yet."""

    job: str
    sweep: str
    status: str
    started_at: str
    ended_at: str
    exit_code: int | None
    message: str

    @property
    def is_over(self) -> bool:
        """Whether it ended."""
        return bool(JobStatus(self.status.upper()).is_terminal())


class Cluster:
    """The job server of a Ray cluster. Raises InputError when it does not answer or refuses."""

    def __init__(self, address: str | None = None) -> None:
        """Address: given, or from RAY_API_SERVER_ADDRESS, or from RAY_ADDRESS."""
        wanted = address or os.environ.get(API_VARIABLE) or os.environ.get("RAY_ADDRESS")
        if not wanted:
            raise InputError(f"no cluster is named: give --address, or set {API_VARIABLE}")
        self.address = wanted
        _knock(wanted)
        os.environ[API_VARIABLE] = wanted  # it outweighs the argument in Ray's client
        with self._translated():
            self._client = JobSubmissionClient(wanted)
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)

    def submit(self, submission: Submission) -> str:
        """Send code and sweep; return the job's id."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        name = f"{submission.sweep}-{stamp}-{secrets.token_hex(2)}"
        document = {
            "job": name,
            "sweep": submission.sweep,
            "text": submission.text,
            "arguments": list(submission.arguments),
            "command": submission.command,
        }
        settings = " ".join(
            f"{key}={shlex.quote(value)}" for key, value in submission.environment.items()
        )
        with tempfile.TemporaryDirectory(prefix="bitsweep-ship-") as folder, self._translated():
            self._client.submit_job(
                entrypoint=f"{settings} python -m {MODULE} run".strip(),
                submission_id=name,
                metadata={SWEEP_KEY: submission.sweep},
                runtime_env={
                    "py_modules": stage(Path(folder), trainer=submission.trainer),
                    "env_vars": {
                        SUBMITTED_VARIABLE: json.dumps(document),
                        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
                    },
                },
            )
        return name

    def jobs(self) -> list[JobRow]:
        """The sweeps that were submitted to this cluster, the newest first."""
        with self._translated():
            found = self._client.list_jobs()
        rows = [_row(one) for one in found if SWEEP_KEY in (one.metadata or {})]
        return sorted(rows, key=lambda row: row.started_at, reverse=True)

    def job(self, name: str) -> JobRow:
        """One of them; UnknownName if the cluster knows no such job."""
        return _row(self._details(name))

    def log(self, name: str) -> str:
        """What the driver has printed so far."""
        self._details(name)
        with self._translated():
            return str(self._client.get_job_logs(name))

    def follow(self, name: str, write: Callable[[str], None]) -> JobRow:
        """Write the log as it comes until the job ends; a lost connection is taken up again."""
        self._details(name)
        written = 0
        while True:
            seen = 0

            def pass_on(text: str) -> None:
                nonlocal seen, written
                fresh = text[max(0, written - seen) :]
                seen += len(text)
                if seen > written:
                    write(fresh)
                    written = seen

            with self._translated(may_break=True):
                asyncio.run(_tail(self._client, name, pass_on))
            row = self.job(name)
            if row.is_over:
                rest = self.log(name)[written:]
                if rest:
                    write(rest)
                return row
            sleep(POLL_SECONDS)

    def stop(self, name: str) -> str:
        """Let the job's running trials end: a second job asks its driver through the store.

        The store may be visible from the cluster alone. Returns what that job says; raises
        InputError where it fails.
        """
        details = self._details(name)
        if JobStatus(details.status).is_terminal():
            raise InputError(f"job {name} is over ({str(details.status.value).lower()})")
        helper = f"{name}-stop-{secrets.token_hex(2)}"
        with self._translated():
            self._client.submit_job(
                entrypoint=details.entrypoint.removesuffix(" run") + " stop",
                submission_id=helper,
                runtime_env=details.runtime_env,
            )
        row = self._wait(helper, seconds=120)
        said = self.log(helper).strip()
        if row.status != "succeeded":
            raise InputError(f"job {name} could not be asked to stop: {said or row.message}")
        return said

    def cancel(self, name: str) -> JobRow:
        """End the job with SIGTERM; return it when it is over."""
        if not self.job(name).is_over:
            with self._translated():
                self._client.stop_job(name)
        return self._wait(name, seconds=STOP_SECONDS + 30)

    def _wait(self, name: str, *, seconds: float) -> JobRow:
        end = monotonic() + seconds
        while not (row := self.job(name)).is_over:
            if monotonic() > end:
                raise InputError(f"job {name} is still {row.status} after {seconds:.0f} s")
            sleep(POLL_SECONDS / 4)
        return row

    def _details(self, name: str) -> Any:  # Ray's JobDetails
        with self._translated(job=name):
            return self._client.get_job_info(name)

    @contextmanager
    def _translated(self, *, job: str = "", may_break: bool = False) -> Iterator[None]:
        """Ray's errors in our words; a connection that breaks in the middle may be no error."""
        try:
            yield
        except AuthenticationError as error:
            raise InputError(
                f"the cluster at {self.address} refuses the token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to that of the cluster"
            ) from error
        except (ConnectionError, requests.RequestException) as error:
            raise InputError(_unreachable(self.address, str(error))) from error
        except RuntimeError as error:
            if may_break:
                return
            if job and "404" in str(error):
                hint = "`bitsweep status` lists them"
                raise UnknownName(f"{self.address} knows no job {job!r}; {hint}") from error
            raise InputError(f"the cluster at {self.address}: {_first(error)}") from error


async def _tail(client: JobSubmissionClient, name: str, write: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(name):
        write(text)


def exit_code_of(row: JobRow) -> int:
    """What a command that waited for the job ends with: the driver's own code if it had one."""
    if row.status == "succeeded":
        return 0
    if row.status == "stopped":
        return INTERRUPTED
    return row.exit_code or 1


def _row(details: Any) -> JobRow:  # Ray's JobDetails
    return JobRow(
        job=str(details.submission_id or details.job_id),
        sweep=(details.metadata or {}).get(SWEEP_KEY, ""),
        status=str(details.status.value).lower(),
        started_at=_time(details.start_time),
        ended_at=_time(details.end_time),
        exit_code=details.driver_exit_code,
        message=_first(details.message or ""),
    )


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _knock(address: str) -> None:
    """Open a connection at once, where the address says to what: Ray's clients wait for long."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise InputError(f"--address {address}: expected http://HOST:PORT") from error
    if parts.hostname is None or port is None:
        return  # "auto": Ray looks for a cluster of this machine
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(_unreachable(address, str(error))) from error


def _unreachable(address: str, reason: str) -> str:
    return f"no Ray cluster answers at {address}: {reason}; expected its job server, such as \
http://HEAD:8265"


def _first(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
