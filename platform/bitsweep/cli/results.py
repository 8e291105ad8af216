"""Verbs that read the store: list, show, table, query."""

import csv
import io
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bitsweep.cli.places import JsonOption, StoreOption, store_address

if TYPE_CHECKING:
    from bitsweep.store.reader import Reader


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("list")(list_sweeps)
    app.command("show")(show)
    app.command("table")(table)
    app.command("query")(query)


def _reader(store: str | None) -> "Reader":
    from bitsweep.store.database import open_to_read
    from bitsweep.store.reader import Reader

    return Reader(open_to_read(store_address(store)))


def list_sweeps(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the sweeps of a store, the newest first."""
    reader = _reader(store)
    rows = []
    for sweep in reader.sweeps():
        trials = reader.trial_rows(sweep.id)
        finished = len({one.trial_id for one in trials if one.status == "finished"})
        rows.append(
            {
                "sweep": sweep.name,
                "trials": len({one.trial_id for one in trials}),
                "finished": finished,
                "updated_at": sweep.updated_at,
                "question": sweep.question,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(
            f"{row['sweep']}: {row['finished']} of {row['trials']} trials finished, "
            f"{row['updated_at']}: {row['question']}"
        )


def show(
    name: Annotated[str, typer.Argument(metavar="SWEEP_OR_TRIAL")],
    store: StoreOption = None,
    command: Annotated[
        bool, typer.Option("--command", help="Print the command that runs it again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a sweep with its trials, or one trial in full."""
    reader = _reader(store)
    if name in {sweep.name for sweep in reader.sweeps()}:
        _show_sweep(reader, name, command=command, as_json=as_json)
    else:
        _show_trial(reader, name, command=command, as_json=as_json)


def _show_sweep(reader: "Reader", name: str, *, command: bool, as_json: bool) -> None:
    sweep = reader.sweep(name)
    trials = reader.trial_rows(sweep.id)
    if command:
        typer.echo(sweep.command)
        return
    if as_json:
        names = type(trials[0]).__dataclass_fields__ if trials else ()
        rows = [{field: getattr(one, field) for field in names} for one in trials]
        typer.echo(json.dumps({"sweep": name, "question": sweep.question, "trials": rows}))
        return
    typer.echo(f"{name}: {sweep.question}\n\n{sweep.text}")
    for one in trials:
        reason = f": {one.reason}" if one.reason else ""
        typer.echo(
            f"{one.trial_id[:12]}  {one.stage:8}{one.arm or '-':16} {one.bits:16} "
            f"seed {one.seed:<6}{one.last_epoch or 0}/{one.epochs} epochs  {one.status}{reason}"
        )


def _show_trial(reader: "Reader", prefix: str, *, command: bool, as_json: bool) -> None:
    from bitsweep.trial import status_of, trial_document

    trial = reader.trial(prefix)
    if command:
        again = reader.sweep(reader.sweep_of(trial.id)).command
        typer.echo(f"{again} --trial {trial.short_id}")
        return
    ended = reader.ended([trial.id]).get(trial.id)
    outcome = None if ended is None else ended.outcome
    scores = reader.scores(trial.id)
    document: dict[str, Any] = {
        "trial": trial.id,
        **trial_document(trial),
        "status": "running" if outcome is None else status_of(outcome),
        "reason": getattr(outcome, "reason", ""),
        "attempts": reader.provenance(trial.id),
        "measurements": [
            {
                "epoch": one.epoch,
                "split": one.split,
                "allocation": one.allocation,
                "correct": one.correct,
                "total": one.total,
                "loss": None if one.loss_sum is None else one.loss_sum / one.total,
            }
            for one in scores
        ],
    }
    if as_json:
        typer.echo(json.dumps(document))
        return
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(f"{key}:")
            for row in value:
                typer.echo("  " + ", ".join(f"{name} {cell}" for name, cell in row.items()))
        else:
            typer.echo(f"{key}: {value}")


def table(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP")],
    form: Annotated[
        Literal["text", "markdown", "csv", "json"], typer.Option("--format", help="How to print.")
    ] = "text",
    store: StoreOption = None,
) -> None:
    """Print a sweep's table: mean, sd and n per arm and bit-width, and declared comparisons."""
    from bitsweep.analysis.render import render
    from bitsweep.analysis.table import sweep_table

    typer.echo(render(sweep_table(_reader(store), sweep), form))


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT statement.")],
    form: Annotated[
        Literal["text", "markdown", "csv", "json"], typer.Option("--format", help="How to print.")
    ] = "text",
    store: StoreOption = None,
) -> None:
    """Ask the store in SQL; the database is opened for reading alone."""
    names, rows = _reader(store).query(sql)
    if form == "json":
        typer.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str))
    elif form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        typer.echo(out.getvalue().rstrip("\n"))
    else:
        from bitsweep.analysis.render import markdown_lines, text_lines

        shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
        lines = markdown_lines if form == "markdown" else text_lines
        typer.echo("\n".join(lines([list(names), *shown])))
