"""Telling somebody that a run has ended, however it ended: a command, or a POST to a URL.

What goes wrong with it is told and harms nothing: neither results nor exit code.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from bitsweep.errors import BAD_INPUT, INTERRUPTED, SOME_FAILED, BitsweepError, StoreLost
from bitsweep.run import RunReport
from bitsweep.store.database import shown

POST_SECONDS = 10.0
COMMAND_SECONDS = 60.0
_MOST_FAILURES = 20


@dataclass(slots=True, kw_only=True)
class Completion:
    """Wrap a run in it and set `report`: at the end of the block the target is told.

    target: a shell command, which gets the summary as JSON on its standard input, or an http(s)
    URL, which gets it as a POST; None: nobody. problem: what went wrong with that, in one line.
    """

    target: str | None
    sweep: str
    store: str
    command: str
    report: RunReport | None = None
    problem: str | None = None

    def __enter__(self) -> "Completion":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.target is not None:
            self.problem = tell(self.target, self.summary(error))

    def summary(self, error: BaseException | None) -> dict[str, Any]:
        """What is told: plain JSON values; `text` is a sentence for people."""
        document: dict[str, Any] = {
            "sweep": self.sweep,
            "status": _status(self.report, error),
            "exit_code": exit_code(self.report, error),
            "store": shown(self.store),
            "command": self.command,
            "error": None if error is None else _one_line(error),
        }
        report = self.report
        if report is not None:
            names = ("total", "run", "reused", "failed", "pruned", "dropped")
            document |= {f"trials_{name}": getattr(report, f"trials_{name}") for name in names}
            document |= {
                "measurements_written": report.measurements_written,
                "seconds": report.seconds,
                "failures": list(report.failures[:_MOST_FAILURES]),
                "notes": list(report.notes),
                "mirror_lag": report.mirror_lag,
            }
        return document | {"text": _sentence(document)}


def exit_code(report: RunReport | None, error: BaseException | None) -> int:
    """That of `bitsweep run`."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if error is not None or report is None:
        is_mistake = isinstance(error, BitsweepError) and not isinstance(error, StoreLost)
        return BAD_INPUT if is_mistake else SOME_FAILED
    if report.is_interrupted:
        return INTERRUPTED
    return SOME_FAILED if report.trials_failed or report.is_stopped else 0


def tell(target: str, summary: Mapping[str, Any]) -> str | None:
    """Run the command or post to the URL; return what went wrong, in one line."""
    document = json.dumps(summary)
    is_url = target.startswith(("http://", "https://"))
    return _post(target, document) if is_url else _run(target, document, summary)


def _post(url: str, document: str) -> str | None:
    """Of the URL only the host is ever told: its path is often a secret."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return "the URL cannot be read"
    headers = {"Content-Type": "application/json", "User-Agent": "bitsweep"}
    request = Request(url, data=document.encode(), headers=headers, method="POST")
    try:
        with urlopen(request, timeout=POST_SECONDS):
            return None
    except HTTPError as error:
        return f"{host} answered {error.code} {error.reason}"
    except URLError as error:
        return f"{host} was not reached: {_one_line(error.reason)}"
    except (OSError, ValueError) as error:
        return f"{host} was not reached: {_one_line(error)}"


def _run(command: str, document: str, summary: Mapping[str, Any]) -> str | None:
    told = {"BITSWEEP_SWEEP": str(summary["sweep"]), "BITSWEEP_STATUS": str(summary["status"])}
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            input=document,
            env=os.environ | told,
            stdout=subprocess.DEVNULL,  # standard output belongs to the run: --json
            stderr=subprocess.PIPE,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"the command took longer than {COMMAND_SECONDS:g} s and was ended"
    except OSError as error:
        return f"the command could not be run: {_one_line(error)}"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"the command ended with {done.returncode}{': ' + lines[-1] if lines else ''}"


def _status(report: RunReport | None, error: BaseException | None) -> str:
    if isinstance(error, KeyboardInterrupt) or (report is not None and report.is_interrupted):
        return "interrupted"
    if error is not None or report is None:
        return "error"
    if report.is_stopped:
        return "stopped"
    return "failed" if report.trials_failed else "finished"


def _sentence(document: Mapping[str, Any]) -> str:
    text = f"{document['sweep']}: {document['status']}"
    if document["error"]:
        return f"{text}: {document['error']}"
    return (
        f"{text}: {document['trials_run']} trials run, {document['trials_reused']} reused, "
        f"{document['trials_failed']} failed in {document['seconds']:.0f} s"
    )


def _one_line(error: object) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
