"""What the pages show, as records: all of it was read at one moment, none of it is a component."""

from collections.abc import Mapping
from dataclasses import dataclass

from bitsweep.analysis.across import Across
from bitsweep.analysis.chart import Chart
from bitsweep.analysis.glance import Best
from bitsweep.analysis.landscape import Landscape
from bitsweep.analysis.layer_views import LayerView
from bitsweep.analysis.table import Table
from bitsweep.analysis.trial_view import TrialView
from bitsweep.store.asking import Answer
from bitsweep.store.listing import Activity, TrialPage
from bitsweep.store.records import SweepRow
from bitsweep_dashboards.trial_logs import LogEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """A sweep on the first page; `is_pending` while its best result is still to be read."""

    sweep: SweepRow
    activity: Activity
    best: Best | None
    is_pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The sweeps of a store, the newest first; none in a store that is empty."""

    store: str
    sweeps: tuple[Glance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepView:
    """One sweep: its whole table, the part that is shown, figures and a page of its trials.

    A figure that cannot be drawn is the sentence that says why.
    """

    sweep: SweepRow
    activity: Activity
    whole: Table
    table: Table
    hidden: tuple[str, ...]
    front: Chart | str
    history: Chart | str
    trials: TrialPage
    page: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareView:
    """Chosen arms side by side, or why not; `choices` are all (sweep, arm) of the store."""

    choices: tuple[tuple[str, str], ...]
    keys: tuple[tuple[str, str], ...]
    across: Across | None
    unlike: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceView:
    """The search of one arm at one bit-width, or the sentence that says why there is none."""

    sweep: SweepRow
    landscape: Landscape | str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersView:
    """The layers of one arm, or the sentence that says why there are none."""

    sweep: SweepRow
    layers: LayerView | str


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTrial:
    """A trial in full, with the end of its log."""

    trial: TrialView
    log: LogEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlView:
    """A statement and its answer, or the database's complaint; all None before one is asked."""

    sql: str
    answer: Answer | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotThere:
    """The address asks for what the store does not have, or makes no sense."""

    heading: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreGone:
    """The store cannot be read; `message` says why, without a password."""

    store: str
    message: str


View = (
    Overview
    | SweepView
    | CompareView
    | SpaceView
    | LayersView
    | OneTrial
    | SqlView
    | NotThere
    | StoreGone
)


def is_pending(view: View) -> bool:
    """Whether something of it was not read in time: it is worth looking again soon."""
    if isinstance(view, Overview):
        return any(one.is_pending for one in view.sweeps)
    return isinstance(view, OneTrial) and view.log.is_pending
