"""A store as the pages see it: views by address, kept only while the store has not changed.

A store that cannot be read is a view too; one that was moved, replaced or restarted is noticed.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

from sqlalchemy.exc import SQLAlchemyError

from bitsweep.analysis.across import Key, Unlike, across
from bitsweep.analysis.by_image import Answers
from bitsweep.analysis.curves import pareto_chart
from bitsweep.analysis.glance import Best, among, best_of
from bitsweep.analysis.grid import Source
from bitsweep.analysis.landscape import landscape
from bitsweep.analysis.layer_views import layer_view
from bitsweep.analysis.search_history import history_chart
from bitsweep.analysis.selection import narrowed
from bitsweep.analysis.table import Table, sweep_table, table_answers
from bitsweep.analysis.trial_view import trial_view
from bitsweep.errors import InputError, StoreError
from bitsweep.measurement import Split
from bitsweep.store.asking import ask
from bitsweep.store.database import DEFAULT_STORE, first_line, open_to_read, store_url
from bitsweep.store.history import settings
from bitsweep.store.listing import (
    STATUSES,
    TRIAL_ORDERS,
    Activity,
    TrialOrder,
    activities,
    all_arms,
    trial_page,
)
from bitsweep.store.logs import work_root
from bitsweep.store.pulse import pulse
from bitsweep.store.reader import Reader
from bitsweep.store.records import SweepRow
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.trial_logs import NOT_READ, TrialLogs
from bitsweep_dashboards.views import (
    CompareView,
    Glance,
    LayersView,
    NotThere,
    OneTrial,
    Overview,
    SpaceView,
    SqlView,
    StoreGone,
    SweepView,
    View,
)

TRIALS_PER_PAGE = 100
SQL_ROWS = 1_000
SQL_SECONDS = 5.0
_KEPT = 32  # three of each sweep that somebody looks at, and a few of the whole store
_BEST_SECONDS = 0.25
_MOST_SWEEPS_COMPARED = 12
_NO_ACTIVITY = Activity(counts={}, training_seconds=0.0, last_at=None)
T = TypeVar("T")


class Library:
    """Views of the store at one address. Threads may share it; memory stays bounded."""

    def __init__(self, store: str, *, work: str | None = None) -> None:
        """`work` is the folder or the URL of trials' logs; None: beside the store."""
        self._store = store
        self._logs = TrialLogs(work_root(store) if work is None else work)
        self._lock = threading.RLock()
        self._reader: tuple[Hashable, Reader] | None = None
        self._pulse = ""
        self._kept: dict[Hashable, Any] = {}
        self._best: dict[Hashable, Best | None] = {}

    def pulse(self) -> str:
        """A text that differs when the store has changed: one query. Empty: it cannot be read."""
        try:
            with self._lock:
                return self._pulse_of(self._open())
        except (StoreError, SQLAlchemyError, OSError):
            return ""

    def view(self, place: Place) -> View:
        """What the address shows; every failure is a view."""
        if place.page == "sql":  # has a connection of its own: nobody waits for it
            return self._sql(place)
        try:
            with self._lock:
                reader = self._open()
                self._pulse_of(reader)
                found = self._view(reader, place)
            return self._with_log(found) if isinstance(found, OneTrial) else found
        except InputError as error:
            return NotThere(heading="Nothing is there", message=str(error))
        except StoreError as error:
            self._close()
            message = without_password(str(error), self._store)
            return StoreGone(store=shown_address(self._store), message=message)
        # The reader passes on what the driver raises in mid-query: a lost server, a locked file.
        except (SQLAlchemyError, OSError) as error:
            self._close()
            return StoreGone(store=shown_address(self._store), message=_complaint(error))

    def table(self, place: Place) -> Table:
        """The table that a sweep's page shows; raises what `view` turns into pages."""
        with self._lock:
            reader = self._open()
            self._pulse_of(reader)
            return self._shown_table(reader, place)[1]

    def sweep_of(self, prefix: str) -> tuple[str, str]:
        """(sweep, whole id) of the trial whose id begins so."""
        with self._lock:
            found = trial_view(self._open(), prefix)
            return found.sweep, found.trial.id

    def _open(self) -> Reader:
        """The reader, as long as the file behind it is the same one."""
        identity = _identity(self._store)
        if self._reader is None or self._reader[0] != identity:
            self._close()
            self._reader = (identity, Reader(open_to_read(self._store)))
        return self._reader[1]

    def _close(self) -> None:
        with self._lock:
            if self._reader is not None:
                self._reader[1].close()
            self._reader, self._pulse = None, ""
            self._kept.clear()
            self._best.clear()

    def _pulse_of(self, reader: Reader) -> str:
        found = pulse(reader)
        if found != self._pulse:
            self._pulse = found
            self._kept.clear()
        return found

    def _once(self, key: Hashable, read: Callable[[], T]) -> T:
        """What was read under this key since the store changed last; else read it."""
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = read()
        return cast("T", self._kept[key])

    def _view(self, reader: Reader, place: Place) -> View:
        if place.page == "overview":
            return self._overview(reader)
        if place.page == "sweep":
            return self._sweep(reader, place)
        if place.page == "compare":
            return self._compare(reader, place)
        if place.page == "space":
            return self._space(reader, place)
        if place.page == "layers":
            return self._layers(reader, place)
        if place.page == "trial":
            return OneTrial(trial=trial_view(reader, place.name), log=NOT_READ)
        return NotThere(heading="No such page", message=f"There is no page /{place.name[:80]}.")

    def _with_log(self, view: OneTrial) -> OneTrial:
        """Outside the lock: a place that does not answer keeps nobody else waiting."""
        return replace(view, log=self._logs.end(view.trial.trial.id))

    def _activities(self, reader: Reader) -> dict[int, Activity]:
        return self._once("activities", lambda: activities(reader))

    def _overview(self, reader: Reader) -> Overview:
        """Best results are read for a moment alone: what is left stands pending till next time."""
        sweeps = self._once("sweeps", reader.sweeps)
        found = self._activities(reader)
        end = monotonic() + _BEST_SECONDS
        glances = []
        for sweep in sweeps:
            activity = found.get(sweep.id, _NO_ACTIVITY)
            key = (sweep.id, sweep.updated_at, activity.counts.get("finished", 0))
            if key not in self._best and monotonic() < end:
                while len(self._best) >= 4 * len(sweeps) + 16:
                    del self._best[next(iter(self._best))]
                self._best[key] = self._best_of(reader, sweep) if key[2] else None
            glances.append(
                Glance(
                    sweep=sweep,
                    activity=activity,
                    best=self._best.get(key),
                    is_pending=key not in self._best,
                )
            )
        return Overview(store=shown_address(self._store), sweeps=tuple(glances))

    def _best_of(self, reader: Reader, sweep: SweepRow) -> Best | None:
        table = sweep_table(reader, sweep.name)
        validation = sweep_table(reader, sweep.name, split="validation")
        return best_of(table, validation)

    def _whole_table(self, reader: Reader, name: str, split: Split | None) -> Table:
        return self._once(("table", name, split), lambda: sweep_table(reader, name, split=split))

    def _shown_table(self, reader: Reader, place: Place) -> tuple[Table, Table]:
        """The whole table, and the part that the address picks."""
        split = cast("Split | None", place.among("split", ("validation", "test")))
        whole = self._whole_table(reader, place.name, split)
        hidden, at = place.all("hide"), place.all("bits")
        for arm in hidden:
            if arm not in whole.arms:
                raise InputError(f"{place.name} has no arm {arm[:40]!r} to hide")
        table = narrowed(whole, at) if at else whole
        return whole, among(table, hidden)

    def _sweep(self, reader: Reader, place: Place) -> SweepView:
        sweep = reader.sweep(place.name)
        whole, table = self._shown_table(reader, place)
        wanted = place.among("trials", STATUSES)
        order, is_descending = place.order("sort", TRIAL_ORDERS)
        page = place.number("page", default=1)
        trials = trial_page(
            reader,
            sweep.id,
            offset=(page - 1) * TRIALS_PER_PAGE,
            limit=TRIALS_PER_PAGE,
            statuses=() if wanted is None else (wanted,),
            arm=place.among("arm", whole.arms),
            order=cast("TrialOrder | None", order),
            is_descending=is_descending,
        )
        front = ("front", place.name)
        history = ("history", place.name)
        return SweepView(
            sweep=sweep,
            activity=self._activities(reader).get(sweep.id, _NO_ACTIVITY),
            whole=whole,
            table=table,
            hidden=place.all("hide"),
            front=self._once(front, lambda: _or_why(lambda: pareto_chart(reader, place.name))),
            history=self._once(
                history, lambda: _or_why(lambda: history_chart(reader, place.name))
            ),
            trials=trials,
            page=page,
            command=self._command(place),
        )

    def _command(self, place: Place) -> str:
        words = ["bitsweep", "table", place.name]
        if place.all("bits"):
            words += ["--at", ",".join(place.all("bits"))]
        if self._store != DEFAULT_STORE:
            words += ["--store", shown_address(self._store)]
        return " ".join(words)

    def _compare(self, reader: Reader, place: Place) -> CompareView:
        choices = self._once("arms", lambda: all_arms(reader))
        known = tuple((sweep, arm) for sweep, arm, _ in choices)
        keys = tuple(_key(text, known) for text in place.all("arm"))
        against = place.one("against")
        names = tuple(dict.fromkeys(sweep for sweep, _ in keys))
        if len(names) > _MOST_SWEEPS_COMPARED:
            raise InputError(f"at most {_MOST_SWEEPS_COMPARED} sweeps are compared at a time")
        found, unlike = None, {}
        if keys:
            try:
                sources = [self._source(reader, name) for name in names]
                found = across(
                    sources,
                    keys,
                    against=None if against is None else _key(against, known),
                    with_published=place.one("published") == "yes",
                    answers=self._answers(reader, sources) if against else None,
                )
            except Unlike as error:
                unlike = dict(error.differences)
        return CompareView(choices=known, keys=keys, across=found, unlike=unlike)

    def _source(self, reader: Reader, name: str) -> Source:
        table = self._whole_table(reader, name, None)
        sweep_id = reader.sweep(name).id
        found = self._once(("settings", name), lambda: settings(reader, sweep_id))
        return Source(table=table, settings=tuple(found))

    def _answers(self, reader: Reader, sources: Sequence[Source]) -> Answers:
        """Which images were right, where these sweeps keep it."""
        return {
            key: bits for one in sources for key, bits in table_answers(reader, one.table).items()
        }

    def _space(self, reader: Reader, place: Place) -> SpaceView:
        pair = (place.one("x"), place.one("y"))
        arm, bits = place.one("arm"), place.one("bits")
        sweep = reader.sweep(place.name)
        return SpaceView(
            sweep=sweep,
            landscape=self._once(
                ("space", place.name, arm, bits, pair),
                lambda: _or_why(
                    lambda: landscape(reader, place.name, arm=arm, allocation=bits, pair=pair),
                    is_default=not place.query,
                ),
            ),
        )

    def _layers(self, reader: Reader, place: Place) -> LayersView:
        sweep, price = reader.sweep(place.name), place.one("lambda")
        arm, bits = place.one("arm"), place.one("bits")
        return LayersView(
            sweep=sweep,
            layers=_or_why(
                lambda: layer_view(
                    reader, place.name, arm=arm, allocation=bits, price=_price(price)
                ),
                is_default=not place.query,
            ),
        )

    def _sql(self, place: Place) -> SqlView:
        sql = (place.one("q") or "").strip()
        if not sql:
            return SqlView(sql="", answer=None, problem=None)
        try:
            answer = ask(self._store, sql, limit=SQL_ROWS, timeout_seconds=SQL_SECONDS)
        except StoreError as error:
            return SqlView(sql=sql, answer=None, problem=without_password(str(error), self._store))
        return SqlView(sql=sql, answer=answer, problem=None)


def _or_why(read: Callable[[], T], *, is_default: bool = True) -> T | str:
    """What is read, or why there is nothing; of a choice that was made, the mistake itself."""
    try:
        return read()
    except InputError as error:
        if not is_default:
            raise
        return str(error)


def _key(text: str, known: tuple[Key, ...]) -> Key:
    sweep, _, arm = text.partition("/")
    if (sweep, arm) not in known:
        raise InputError(f"there is no arm {text[:80]!r}: expected SWEEP/ARM of this store")
    return sweep, arm


def _price(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise InputError(f"lambda: expected a number, got {text!r:.40}") from None


def _identity(store: str) -> Hashable:
    """What tells one file from another one under the same name; a server has no such thing."""
    if "://" in store:
        url = store_url(store)
        if url.get_backend_name() != "sqlite" or not url.database:
            return store
        store = url.database
    try:
        found = Path(store).stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def _complaint(error: Exception) -> str:
    return first_line(error) if isinstance(error, SQLAlchemyError) else str(error)


def shown_address(store: str) -> str:
    """The address of a store as it may be shown: a password in it becomes three stars.

    >>> shown_address("postgresql://ada:secret@db/lab")
    'postgresql://ada:***@db/lab'
    """
    if "://" not in store:
        return store
    try:
        url = store_url(store)
        plain = url.set(drivername=url.get_backend_name())  # the driver is our affair
        return plain.render_as_string(hide_password=True)
    except StoreError:
        return "the given address"


def without_password(message: str, store: str) -> str:
    """A message of the store's in which its address stands as it may be shown."""
    shown = shown_address(store)
    return message.replace(repr(store), repr(shown)).replace(store, shown)
