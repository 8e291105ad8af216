"""Results for notebooks: a store as pandas DataFrames. Entry: `bitsweep.open(store)`."""

import os
from types import TracebackType
from typing import Literal

import pandas as pd

from bitsweep.analysis.render import table_rows
from bitsweep.analysis.table import sweep_table
from bitsweep.measurement import Split
from bitsweep.store.database import DEFAULT_STORE, open_to_read
from bitsweep.store.frames import arms_parameters, view_rows
from bitsweep.store.history import CurvePoint, curve_points
from bitsweep.store.reader import Reader
from bitsweep.store.records import SweepRow
from bitsweep.sweep import Stage

_ALL = 10**9


def open_results(store: str | None) -> "Results":
    """What `bitsweep.open` does."""
    address = store or os.environ.get("BITSWEEP_STORE") or DEFAULT_STORE
    return Results(Reader(open_to_read(address)))


class Results:
    """A store opened for reading alone; every method asks anew. Use it in `with`, or close it.

    Unknown sweeps raise UnknownName with the nearest name, SQL errors StoreError.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._reader.close()

    def sweeps(self) -> pd.DataFrame:
        """A row per sweep, the newest first: name, question, metric, convention, times."""
        rows = self._reader.sweeps()
        names = ["name", "question", "metric", "goal", "convention", "created_at", "updated_at"]
        return pd.DataFrame(
            [[getattr(one, name) for name in names] for one in rows], columns=names
        )

    def results(
        self,
        *sweeps: str,
        arm: str | None = None,
        stage: Stage | None = None,
        split: Split | None = None,
        allocation: str | None = None,
        status: str | None = None,
        view: Literal["results", "scores"] = "results",
    ) -> pd.DataFrame:
        """The view `results` (docs/data-dictionary.md) of these sweeps, or of all, filtered.

        One row per trial, split and allocation at the trial's last epoch. Report stage "confirm"
        and split "test"; what validation of the search says flatters its winner. The view `scores`
        has the metric that each sweep is judged by in place of top-1: `metric`, `value`.
        """
        equal = {"arm": arm, "stage": stage, "split": split}
        equal |= {"allocation": allocation, "status": status}
        given = {name: value for name, value in equal.items() if value is not None}
        names, rows = view_rows(self._reader, self._known(sweeps), given, view=view)
        return pd.DataFrame(rows, columns=names)

    def table(self, sweep: str, *, split: Split | None = None) -> pd.DataFrame:
        """The sweep's table, a row per arm and allocation: mean and sd in `unit`, n, costs."""
        return pd.DataFrame(table_rows(sweep_table(self._reader, sweep, split=split)))

    def curves(self, sweep: str, *, split: Split = "validation") -> pd.DataFrame:
        """The sweep's metric as the current arms measured it epoch by epoch: `metric`, `value`."""
        row = self._reader.sweep(sweep)
        points = curve_points(self._reader, row.id, metric=row.metric, split=split)
        names = list(CurvePoint.__dataclass_fields__)
        frame = pd.DataFrame(
            [[getattr(one, name) for name in names] for one in points], columns=names
        )
        frame.insert(len(names) - 1, "metric", row.metric)
        return frame

    def parameters(self, sweep: str) -> pd.DataFrame:
        """A row per trial of the sweep, a column per resolved parameter that any of them has."""
        rows = arms_parameters(self._reader, self._reader.sweep(sweep).name)
        fixed = ("arm", "stage", "method", "trial_id", "bits", "seed", "epochs", "status")
        return pd.DataFrame(
            [{name: row[name] for name in fixed} | row["parameters"] for row in rows],
            columns=[*fixed, *sorted({name for row in rows for name in row["parameters"]})],
        )

    def query(self, sql: str) -> pd.DataFrame:
        """What a SELECT answers; the database refuses to write."""
        names, rows = self._reader.query(sql, limit=_ALL)
        return pd.DataFrame(rows, columns=names)

    def sweep(self, name: str) -> SweepRow:
        """One sweep with its file's text and the command that ran it."""
        return self._reader.sweep(name)

    def _known(self, sweeps: tuple[str, ...]) -> list[str]:
        return [self._reader.sweep(name).name for name in sweeps]
