"""Searches as Optuna studies in memory, and optuna-dashboard over them; nothing goes back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from bitsweep.errors import InputError
from bitsweep.measurement import Goal
from bitsweep.search.base import Told
from bitsweep.search.optuna_search import STATES, distribution
from bitsweep.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A proposal to show: its result or None while it runs, its curve by epoch, and a note."""

    parameters: Mapping[str, Any]
    told: Told | None
    curve: Mapping[int, float]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStudy:
    """A study to show: `metrics` names each objective."""

    name: str
    space: Space
    goals: Sequence[Goal]
    metrics: Sequence[str]
    shown: Sequence[Shown]


def storage_of(studies: Iterable[ShownStudy]) -> InMemoryStorage:
    """A storage that holds the studies."""
    storage = InMemoryStorage()
    for one in studies:
        study = optuna.create_study(
            storage=storage, study_name=one.name, directions=list(one.goals)
        )
        study.set_metric_names(list(one.metrics))
        study.add_trials([_frozen(shown, one) for shown in one.shown])
    return storage


def _frozen(shown: Shown, study: ShownStudy) -> FrozenTrial:
    told = shown.told
    state = TrialState.RUNNING if told is None else STATES[told.verdict]
    excess = {} if told is None else told.excess
    return create_trial(
        state=state,
        params=dict(shown.parameters),
        distributions={name: distribution(study.space[name]) for name in shown.parameters},
        values=list(told.values) if told is not None and state is TrialState.COMPLETE else None,
        # Optuna shows curves of studies with one objective.
        intermediate_values=dict(shown.curve) if len(study.goals) == 1 else {},
        user_attrs={"trials": shown.note, **{f"over {k} by": v for k, v in excess.items()}},
        system_attrs={"constraints": list(excess.values())} if excess else {},
    )


class _Silent(WSGIRequestHandler):
    """Requests are no news."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        """Say nothing."""


def serve(studies: Iterable[ShownStudy], *, port: int, ready: Callable[[str], None]) -> None:
    """Serve optuna-dashboard on loopback until interrupted; `ready` is given the address.

    Raises InputError when optuna-dashboard is not installed or the port is taken.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        hint = "pip install 'bitsweep[optuna]' -c constraints.txt"
        raise InputError(f"optuna-dashboard is not installed: {hint}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    app = wsgi(storage_of(studies))
    try:
        server = make_server("127.0.0.1", port, app, handler_class=_Silent)
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror}; choose another") from error
    with server:
        ready(f"http://127.0.0.1:{server.server_port}/dashboard")
        server.serve_forever()
