"""One trial in full: how it went, its curves, its parameters and where it ran."""

from collections.abc import Mapping
from typing import Any

from dash import html

from bitsweep.analysis.trial_view import TrialView
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.drawing import figure_card
from bitsweep_dashboards.pages.parts import (
    LABELS,
    command_box,
    duration,
    explained,
    link,
    nothing,
    plain_table,
    scroll_box,
    short_time,
)
from bitsweep_dashboards.views import OneTrial


def trial_page(view: OneTrial, place: Place, *, mlflow: bool, ray: str | None) -> Any:
    """All that the store knows of a trial; links to MLflow and Ray where their addresses are."""
    one = view.trial
    trial = one.trial
    head = f"{trial.method} {trial.bits_label}, seed {trial.seed}"
    spent = "" if one.seconds is None else f", {duration(one.seconds)} of training"
    return html.Article(
        [
            html.P(link(one.sweep, place.go("sweep", one.sweep)), className="crumb"),
            html.H1(head),
            html.P(
                [
                    html.Span(
                        LABELS.get(one.status, one.status), className=f"status {one.status}"
                    ),
                    f", epoch {one.last_epoch} of {trial.epochs}{spent}",
                ]
            ),
            *([html.P(one.reason, className="problem")] if one.reason else []),
            command_box("Run it again", one.command, box_id="command"),
            _elsewhere(trial.id, place, mlflow=mlflow, ray=ray),
            html.H2("Curves"),
            _curves(one),
            html.H2("Parameters"),
            _facts(trial.parameters, "Parameters of the trial"),
            explained(html.H2("Attempts"), "attempts"),
            _attempts(one),
            html.H2("Log"),
            _log(view),
            html.H2("Last evaluations"),
            _evaluations(one),
            html.H2("Identity"),
            _facts({**one.facts, "id": trial.id}, "What the trial's name is made of"),
        ]
    )


def _elsewhere(trial_id: str, place: Place, *, mlflow: bool, ray: str | None) -> Any:
    links = []
    if mlflow:
        links.append(html.A("MLflow run", href=place.asset(f"mlflow/{trial_id}"), target="_blank"))
    if ray:
        links.append(html.A("Ray dashboard", href=ray, target="_blank", rel="noreferrer"))
    if not links:
        said = "Start the dashboard with --mlflow-url or --ray-url to have links to them here."
        return html.P(said, className="muted")
    return html.P([part for one in links for part in (one, " ")], className="elsewhere")


def _curves(one: TrialView) -> Any:
    if not one.curves:
        return nothing(f"{one.metric} was not measured yet")
    cards = [figure_card(panel, name=f"Curve on {panel.title}") for panel in one.curves]
    return html.Div(cards, className="panels")


def _facts(facts: Mapping[str, Any], label: str) -> Any:
    if not facts:
        return nothing("None: the method's own defaults")
    rows = [[html.Code(name), html.Code(str(value))] for name, value in sorted(facts.items())]
    return scroll_box(plain_table(["name", "value"], rows, className="results facts"), label)


def _attempts(one: TrialView) -> Any:
    if not one.attempts:
        return nothing("The trial was not given to a worker yet")
    rows = []
    for attempt in one.attempts:
        commit = (attempt["git_commit"] or "no repository")[:12]
        dirty = " and changes" if attempt["git_is_dirty"] else ""
        versions = ", ".join(f"{name} {value}" for name, value in attempt["versions"].items())
        rows.append(
            [
                short_time(attempt["started_at"]),
                short_time(attempt["ended_at"]),
                attempt["hostname"],
                attempt["device"],
                f"{commit}{dirty}",
                html.Span(versions, className="reason", title=versions),
            ]
        )
    head = ["started", "ended", "host", "device", "code", "packages"]
    return scroll_box(plain_table(head, rows), "Attempts with code and machine")


def _log(view: OneTrial) -> Any:
    """The tail of the trial's log; where it is not seen, why, and who can read it."""
    log = view.log
    command = html.Code(f"bitsweep logs {view.trial.trial.short_id} --workspaces PLACE")
    if log.is_pending:
        return _said(f"{log.place} has not answered yet: the log appears here when it does.")
    if log.problem:
        return html.Div(
            [
                html.P(log.problem, className="problem"),
                _said("Reload this page to ask again. In a shell: ", command),
            ]
        )
    if log.lines is None:
        return _said(
            f"No log of this trial lies in {log.place}. Where its workspaces are known, ",
            command,
            " prints it; bitsweep dashboard --workspaces PLACE shows it here.",
        )
    if not log.lines:
        return nothing("The log is empty")
    text = "\n".join(log.lines)
    whole = html.Code(f"bitsweep logs {view.trial.trial.short_id}")
    said = _said("The last lines; all of it: ", whole)
    return html.Div([html.Pre(text, className="log", tabIndex=0), said])


def _said(*parts: Any) -> Any:
    return html.P(list(parts), className="muted")


def _evaluations(one: TrialView) -> Any:
    if not one.log:
        return nothing("Nothing was recorded yet")
    return html.Pre("\n".join(one.log), className="log", tabIndex=0)
