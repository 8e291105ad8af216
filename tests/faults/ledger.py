"""What the trainers say they did, held against the store: lost, doubled, wrong, run again."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitsweep.errors import StoreError
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader

Fact = tuple[str, int, str, str]
Line = Mapping[str, Any]

MEASURED = """
    SELECT m.trial_id, m.epoch, m.split, a.label, m.correct
    FROM measurements m JOIN allocations a ON a.id = m.allocation_id
"""
UNFINISHED = """
    SELECT t.id FROM trials t LEFT JOIN outcomes o ON o.trial_id = t.id
    WHERE COALESCE(o.status, '') <> 'finished' OR t.epochs <>
    (SELECT COUNT(*) FROM evaluations e WHERE e.trial_id = t.id)
"""
RUNNING = frozenset({"begun", "measured", "acknowledged"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a fault came to. All counts are of measurements but `again`, of finished trials.

    lost: acknowledged and not in the store. doubled: there more than once, or in conflict. wrong:
    in the store with a number that no trainer measured. again: finished trials that began again.
    """

    lost: int
    doubled: int
    wrong: int
    again: int
    is_complete: bool
    trials: int

    @property
    def is_clean(self) -> bool:
        """Nothing lost, doubled, wrong or run again, and the sweep is complete."""
        return self.is_complete and not (self.lost or self.doubled or self.wrong or self.again)


def read_ledger(path: Path) -> list[Line]:
    """The lines so far."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in whole]


def running(lines: Iterable[Line], *, stage: str | None = None) -> list[str]:
    """The trials that a trainer works on, as far as it told."""
    last: dict[str, str] = {}
    stages: dict[str, str] = {}
    for line in lines:
        last[line["trial"]] = line["event"]
        if "stage" in line:
            stages[line["trial"]] = line["stage"]
    return [
        trial
        for trial, event in last.items()
        if event in RUNNING and stage in {None, stages[trial]}
    ]


def ask(store: str, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the store; none while it is being made."""
    try:
        reader = Reader(open_to_read(store))
    except StoreError:
        return []
    try:
        return reader.query(sql)[1]
    finally:
        reader.close()


def finished(store: str) -> frozenset[str]:
    """The trials that stand as finished."""
    rows = ask(store, "SELECT trial_id FROM outcomes WHERE status = 'finished'")
    return frozenset(str(trial) for (trial,) in rows)


def began(lines: Sequence[Line], trials: Iterable[str]) -> int:
    """How many of these trials a trainer began in these lines."""
    begun = {line["trial"] for line in lines if line["event"] == "begun"}
    return len(begun & set(trials))


def judge(store: str, lines: Sequence[Line], *, again: int, is_complete: bool) -> Verdict:
    """Hold the whole ledger against the store."""
    found = Counter((*row[:4], row[4]) for row in ask(store, MEASURED))
    keys = Counter(key[:4] for key in found.elements())
    measured = set(_facts(lines, "measured"))
    acknowledged = set(_facts(lines, "acknowledged"))
    conflicts = len(ask(store, "SELECT * FROM conflicts"))
    left = ask(store, "SELECT * FROM claims")
    return Verdict(
        lost=len(acknowledged - set(found)),
        doubled=sum(count - 1 for count in keys.values()) + conflicts,
        wrong=len(set(found) - measured),
        again=again,
        is_complete=is_complete and not left and not ask(store, UNFINISHED),
        trials=len(finished(store)),
    )


def _facts(lines: Iterable[Line], event: str) -> Iterable[tuple[Any, ...]]:
    for line in lines:
        if line["event"] == event:
            for split, label, correct in line["facts"]:
                yield line["trial"], line["epoch"], split, label, correct
