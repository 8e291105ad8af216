"""The log of a trial: JSON lines of what happened to it, in every life it had, on every node.

It is for people; the store is the truth. It stays when the workspace is cleared. What reads it
stands in `store.logs`.
"""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bitsweep.measurement import Evaluation
from bitsweep.trial import Outcome, status_of

LONGEST_MESSAGE = 10_000


def _now() -> datetime:
    return datetime.now(UTC)


class TrialLog:
    """Appends to one file. A log that cannot be written never ends a trial."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = _now) -> None:
        self.path = path
        self._now = now

    def write(self, event: str, **facts: Any) -> None:  # JSON values
        """Append one line."""
        at = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"at": at, "event": event, **facts}, default=str)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            logging.getLogger(__name__).warning("the log %s: %s", self.path, error)

    def started(self, *, epochs_known: int, gpus: float = 0.0, rank: int = 0) -> None:
        """A life begins: where, and how much earlier lives have measured."""
        self.write(
            "started",
            host=socket.gethostname(),
            process=os.getpid(),
            device=_device(gpus),
            rank=rank,
            epochs_known=epochs_known,
        )

    def evaluated(self, evaluation: Evaluation) -> None:
        """An evaluation, with its validation in short."""
        found = {
            f"{one.split} {one.allocation.label}": round(100.0 * one.correct / one.total, 2)
            for one in evaluation.measurements
            if one.correct is not None
        }
        self.write(
            "evaluated",
            epoch=evaluation.epoch,
            seconds=round(evaluation.seconds, 3),
            top1_percent=dict(list(found.items())[:12]),
        )

    def ended(self, outcome: Outcome) -> None:
        """How it ended by itself; a trial that is pruned is only told to close."""
        self.write("ended", status=status_of(outcome), reason=getattr(outcome, "reason", ""))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what this process logs in the block, from INFO on."""
        handler = _Handler(self)
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(min(before, logging.INFO))
        try:
            yield
        finally:
            root.setLevel(before)
            root.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, log: TrialLog) -> None:
        super().__init__(level=logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == __name__:
            return  # a complaint about this very log
        self._log.write(
            "logged",
            level=record.levelname,
            logger=record.name,
            message=record.getMessage()[:LONGEST_MESSAGE],
        )


def _device(gpus: float) -> str:
    """What the sweep asks for, and which of them the environment gives: no torch is known here."""
    return f"cuda {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".strip() if gpus else "cpu"
