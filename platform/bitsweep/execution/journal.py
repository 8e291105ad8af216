"""The journal of a driver: what was acknowledged to workers while the store was out of reach.

A file of JSON lines, each on the disk before it counts. Its first line says which store and sweep
it belongs to. A last line that a crash cut was acknowledged to nobody and is left out.
"""

import fcntl
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from bitsweep.errors import Conflict, InputError, StoreLost
from bitsweep.execution.base import outcome_document, parse_outcome
from bitsweep.measurement import Evaluation, evaluation_document, parse_evaluation
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.trial import Failed, Outcome

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An evaluation of a trial or its outcome; `at`: when it came, as the store writes times."""

    trial_id: str
    step: Evaluation | Outcome
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Whose journal it is. `store`: a name without user and password (`store_name`)."""

    store: str
    sweep: str
    owner: str


class Journal:
    """The file of one driver; there is none while there is nothing to keep.

    The driver holds a lock on it, so that no other process replays it meanwhile.
    """

    def __init__(self, path: Path, heading: Heading) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._heading = heading
        self._file: TextIO | None = None

    def append(self, line: Line) -> None:
        """Keep a line; raise StoreLost where not even that is possible."""
        try:
            if self._file is None:
                self._file = _create(self.path, self._heading)
            _write_synced(self._file, _document(line))
        except OSError as error:
            raise StoreLost(
                f"the store cannot be used and the journal {self.path} cannot be written: "
                f"{error.strerror}; what workers measured stays in their workspaces"
            ) from error
        self.lines.append(line)

    def clear(self) -> None:
        """Everything in it stands in the store."""
        self.lines.clear()
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file; it stays for whoever replays it."""
        if self._file is not None:
            self._file.close()
        self._file = None


def journals_in(folder: Path) -> list[Path]:
    """The journals that drivers left behind, or write at this moment."""
    return sorted(folder.glob("*.jsonl"))


def heading_of(path: Path) -> Heading | None:
    """Whose journal it is; None where not even the first line is whole. InputError: no journal."""
    with path.open("rb") as file:
        first = file.readline()
    if not first.endswith(b"\n"):
        return None
    try:
        document = json.loads(first)
        if document["journal"] != FORMAT:
            raise InputError(
                f"{path}: a journal of format {document['journal']}, expected {FORMAT}: update "
                "bitsweep"
            )
        return Heading(store=document["store"], sweep=document["sweep"], owner=document["owner"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: this is no journal of a driver") from error


def read_lines(path: Path) -> list[Line]:
    """The lines behind the heading; InputError for a broken one that is not the last."""
    lines = []
    whole = path.read_bytes().splitlines(keepends=True)
    for number, text in enumerate(whole[1:], start=2):
        try:
            if not text.endswith(b"\n"):
                break
            lines.append(_parse(json.loads(text)))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(whole):
                break
            raise InputError(f"{path}:{number}: this line of the journal is broken") from error
    return lines


def replay(
    path: Path, writer: Writer, reader: Reader, *, hook: Callable[[str, Outcome], None]
) -> int | None:
    """Write a journal that was left behind into the store and remove it; again: nothing.

    Returns how many lines there were; None while its driver lives. hook: called after an outcome
    stands. Raises UnknownName where the store does not have its sweep.
    """
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        heading = heading_of(path)
        lines = [] if heading is None else read_lines(path)
        if heading is not None and lines:
            write_lines(lines, writer, sweep_id=reader.sweep(heading.sweep).id, hook=hook)
        path.unlink(missing_ok=True)
    return len(lines)


def write_lines(
    lines: Sequence[Line],
    writer: Writer,
    *,
    sweep_id: int,
    hook: Callable[[str, Outcome], None],
) -> dict[str, str]:
    """Write lines in their order, each once however often; return what disagreed, by trial.

    A trial with measurements that stand with other facts has failed, whatever came of it.
    """
    conflicts: dict[str, str] = {}
    for line in lines:
        step: Evaluation | Outcome = line.step
        if isinstance(step, Evaluation):
            try:
                writer.record(line.trial_id, step, at=line.at)
            except Conflict as error:
                conflicts[line.trial_id] = str(error)
                step = Failed(reason=str(error))
        elif line.trial_id in conflicts:
            continue
        if not isinstance(step, Evaluation):
            writer.end(line.trial_id, step, sweep_id=sweep_id, at=line.at)
            hook(line.trial_id, step)
    return conflicts


def _create(path: Path, heading: Heading) -> TextIO:
    """A new locked file with its first line. One that was replayed away meanwhile is made anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()
    document = {"journal": FORMAT, "store": heading.store, "sweep": heading.sweep}
    _write_synced(file, document | {"owner": heading.owner})
    with suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return file


def _write_synced(file: TextIO, document: dict[str, Any]) -> None:
    file.write(json.dumps(document) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _document(line: Line) -> dict[str, Any]:
    step = line.step
    if isinstance(step, Evaluation):
        return {"trial": line.trial_id, "at": line.at, "evaluation": evaluation_document(step)}
    return {"trial": line.trial_id, "at": line.at, "outcome": outcome_document(step)}


def _parse(document: dict[str, Any]) -> Line:
    step: Evaluation | Outcome
    if "evaluation" in document:
        step = parse_evaluation(document["evaluation"])
    else:
        step = parse_outcome(document["outcome"])
    return Line(trial_id=document["trial"], step=step, at=document["at"])
