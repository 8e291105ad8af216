"""The logs of trials as files beside a store: where they lie, their last lines, in words."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bitsweep.store.database import store_url

TAIL_BYTES = 64 * 1024


def work_root(store: str) -> Path:
    """The folder of what trials keep: beside a SQLite file, else ./results."""
    url = store_url(store)
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(url.database).resolve().parent
    return Path("results").resolve()


def log_path(root: Path, trial_id: str) -> Path:
    """The log of one trial below that folder."""
    return root / log_name(trial_id)


def log_name(trial_id: str) -> str:
    """A log's name below the folder or the URL of what trials keep."""
    return f"logs/{trial_id}.jsonl"


def log_tail(path: Path, *, lines: int) -> tuple[str, ...] | None:
    """The last lines of a log for people, read from its end; None if it cannot be seen here."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            end = file.read()
    except OSError:
        return None
    return told_lines(end, lines=lines)


def told_lines(end: bytes, *, lines: int) -> tuple[str, ...]:
    """The last lines for people of a log's last bytes, of which the first line may be cut."""
    text = end.decode("utf-8", errors="replace")
    told = "\n".join(line_of(event) for event in read_lines(text)).splitlines()
    return tuple(told[-lines:])


def read_lines(text: str) -> Iterator[Mapping[str, Any]]:
    """The events of a log; a line that a crash cut is left out."""
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def line_of(event: Mapping[str, Any]) -> str:
    """One event for people; a traceback keeps its lines.

    >>> line_of({"at": "12:00", "event": "ended", "status": "failed", "reason": "timeout"})
    '12:00 ended: status failed, reason timeout'
    """
    facts = {key: value for key, value in event.items() if key not in {"at", "event"}}
    head = f"{event.get('at', '')} {event.get('event', '')}"
    if event.get("event") == "logged":
        level, logger = event.get("level", ""), event.get("logger", "")
        return f"{event.get('at', '')} {level} {logger}: {event.get('message', '')}"
    if "traceback" in facts:
        return f"{head}\n{str(facts['traceback']).rstrip()}"
    shown = (f"{key} {_value(value)}" for key, value in facts.items() if value not in ("", None))
    return f"{head}: {', '.join(shown)}"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {one}" for key, one in value.items())
    return str(value)
