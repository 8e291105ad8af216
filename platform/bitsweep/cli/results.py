"""Verbs that read the store: list, show, table, query."""

import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bitsweep.cli.places import JsonOption, StoreOption, WorkOption, store_address
from bitsweep.errors import InputError

if TYPE_CHECKING:
    from bitsweep.analysis.table import Table
    from bitsweep.store.reader import Reader
    from bitsweep.store.records import Score
    from bitsweep.trial import Trial


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("list")(list_sweeps)
    app.command("show")(show)
    app.command("table")(table)
    app.command("query")(query)


def open_reader(store: str | None) -> "Reader":
    """A reader of the store that the options and the environment name."""
    from bitsweep.store.database import open_to_read
    from bitsweep.store.reader import Reader

    return Reader(open_to_read(store_address(store)))


def list_sweeps(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the sweeps of a store, the newest first."""
    reader = open_reader(store)
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
    workspaces: WorkOption = None,
    command: Annotated[
        bool, typer.Option("--command", help="Print the command that runs it again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a sweep with its trials, or one trial in full.

    --command with --store or --workspaces prints a command for these places.
    """
    from bitsweep.store.database import shown

    reader = open_reader(store)
    places = {"--store": None if store is None else shown(store), "--workspaces": workspaces}
    if name in {sweep.name for sweep in reader.sweeps()}:
        _show_sweep(reader, name, places, command=command, as_json=as_json)
    else:
        _show_trial(reader, name, places, command=command, as_json=as_json)


def _run_here(command: str) -> str:
    """The `bitsweep run` of a command that submits: one trial is run again where one is."""
    words = shlex.split(command)
    if words[1:2] != ["submit"]:
        return command
    kept = ["bitsweep", "run", *words[2:3]]
    for option, value in pairwise(words):
        if option in {"--set", "--store"}:
            kept += [option, value]
    return shlex.join(kept)


def _placed(command: str, places: Mapping[str, str | None]) -> str:
    """A command with these options instead of its own."""
    words = shlex.split(command)
    for option, value in places.items():
        if value is None:
            continue
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return shlex.join(words)


def _show_sweep(
    reader: "Reader",
    name: str,
    places: Mapping[str, str | None],
    *,
    command: bool,
    as_json: bool,
) -> None:
    sweep = reader.sweep(name)
    trials = reader.trial_rows(sweep.id)
    if command:
        typer.echo(_placed(sweep.command, places))
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


def _show_trial(
    reader: "Reader",
    prefix: str,
    places: Mapping[str, str | None],
    *,
    command: bool,
    as_json: bool,
) -> None:
    from bitsweep.analysis.listed import listed_of
    from bitsweep.analysis.policies import policy_reports
    from bitsweep.store.dynamic import dynamic_rows

    trial = reader.trial(prefix)
    if command:
        again = reader.sweep(reader.sweep_of(trial.id)).command
        typer.echo(f"{_placed(_run_here(again), places)} --trial {trial.short_id}")
        return
    scores = reader.scores(trial.id)
    metric = next((one.metrics[0] for one in scores if one.is_listed), "loss")
    lists = listed_of(scores, metric=metric)
    reports = policy_reports(dynamic_rows(reader, trial.id))
    if as_json:
        document = _document(reader, trial, scores)
        if lists:
            document["listed_allocations"] = {
                split: [asdict(one) for one in some] for split, some in lists.items()
            }
        if reports:
            document["policies"] = [one.document() for one in reports]
        typer.echo(json.dumps(document))
        return
    document = _document(reader, trial, [one for one in scores if not one.is_listed])
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(f"{key}:")
            for row in value:
                typer.echo("  " + ", ".join(f"{name} {cell}" for name, cell in row.items()))
        else:
            typer.echo(f"{key}: {value}")
    for split, some in lists.items():
        told = "; ".join(one.told(metric) for one in some)
        typer.echo(f"{some[0].num_allocations} random allocations on {split}: {told}")
    if reports:
        typer.echo("policies:")
    for one in reports:
        typer.echo(f"  {one.line()}")


def _document(
    reader: "Reader", trial: "Trial", scores: "Sequence[Score]"
) -> dict[str, Any]:  # JSON
    """What the store knows of a trial, with these of its measurements."""
    from bitsweep.trial import status_of, trial_document

    ended = reader.ended([trial.id]).get(trial.id)
    outcome = None if ended is None else ended.outcome
    return {
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
                **_origin(one),
                "correct": one.correct,
                "total": one.total,
                "loss": None if one.loss_sum is None else one.loss_sum / one.total,
            }
            for one in scores
        ],
    }


def _origin(one: "Score") -> dict[str, str]:
    """Who chose the bits and how batch norms were estimated, where that is out of the ordinary."""
    told = {"allocator": one.allocator, "protocol": one.protocol}
    return {key: value for key, value in told.items() if value not in ("fixed", "running")}


TableFormat = Literal["text", "markdown", "latex", "csv", "json"]
_WHOLE = 10**9  # a file holds all rows; only what is printed is cut
QueryFormat = Literal["text", "markdown", "latex", "csv", "json", "parquet"]


def table(
    sweeps: Annotated[list[str], typer.Argument(metavar="SWEEP...")],
    form: Annotated[TableFormat, typer.Option("--format", help="How to print.")] = "text",
    at: Annotated[
        str | None, typer.Option("--at", help="These bits alone, such as w3a3,w2a2.")
    ] = None,
    against_arm: Annotated[
        str | None,
        typer.Option("--against", metavar="ARM", help="Paired differences to this arm."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin", min=1e-6, help="Of equivalence, in the metric's unit; top-1: 0.3 points."
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Beside papers' numbers of the same setting.")
    ] = False,
    rows: Annotated[
        Literal["arms", "methods", "models"] | None,
        typer.Option("--rows", help="Sweeps joined into one grid, with these as its rows."),
    ] = None,
    columns: Annotated[
        Literal["bits", "objectives"] | None,
        typer.Option("--columns", help="bits: a grid; objectives: accuracy, BitOps, size."),
    ] = None,
    stores: Annotated[
        list[str] | None,
        typer.Option("--store", help="Result store; may be given again.", show_default=False),
    ] = None,
) -> None:
    """Print sweeps' tables: mean, sd and n per arm and bit-width, and declared comparisons.

    Each sweep is a block of its own. With --rows or --columns bits, sweeps of equal setting are
    joined into one grid, in which a shared trial counts once; other settings stay blocks apart.
    """
    from bitsweep.analysis.render import csv_text, json_rows, render, table_rows
    from bitsweep.analysis.selection import against, narrowed
    from bitsweep.analysis.table import table_answers

    is_grid = columns == "bits" or (rows is not None and columns is None)
    if is_grid and (against_arm or published):
        raise InputError("--against and --published go with --columns objectives, the default")
    if rows is not None and columns == "objectives" and rows != "arms":
        raise InputError(f"--columns objectives shows arms, not {rows}: give --columns bits")
    found = _of_stores(stores or [store_address(None)], list(dict.fromkeys(sweeps)))
    if is_grid:
        _print_grids(found, rows or "arms", at, form)
        return
    tables = []
    for reader, _, name in found:
        one = _table(reader, name, published=published)
        one = narrowed(one, at.split(",")) if at else one
        if against_arm:
            answers = table_answers(reader, one)
            one = against(one, against_arm, margin=margin, answers=answers)
        tables.append(one)
    if form == "json":
        typer.echo(json.dumps([row for one in tables for row in json_rows(one)], indent=2))
    elif form == "csv":
        typer.echo(csv_text([row for one in tables for row in table_rows(one)]))
    else:
        typer.echo("\n\n".join(render(one, form) for one in tables))


def _of_stores(addresses: Sequence[str], names: Sequence[str]) -> list[tuple["Reader", str, str]]:
    """Each sweep in each store that has it; a sweep that none has is a mistake."""
    readers = [(open_reader(address), address) for address in dict.fromkeys(addresses)]
    known = [{one.name for one in reader.sweeps()} for reader, _ in readers]
    found = []
    for name in names:
        holding = [pair for pair, has in zip(readers, known, strict=True) if name in has]
        if not holding:
            readers[0][0].sweep(name)  # raises with the nearest name
        found += [(reader, address, name) for reader, address in holding]
    return found


def _print_grids(
    found: Sequence[tuple["Reader", str, str]],
    rows: Literal["arms", "methods", "models"],
    at: str | None,
    form: TableFormat,
) -> None:
    from bitsweep.analysis.grid import Source, grids
    from bitsweep.analysis.grid_text import render_grids
    from bitsweep.analysis.selection import narrowed
    from bitsweep.analysis.table import sweep_table
    from bitsweep.store.database import shown
    from bitsweep.store.history import settings

    sources = []
    for reader, address, name in found:
        table = sweep_table(reader, name)
        sources.append(
            Source(
                table=narrowed(table, at.split(",")) if at else table,
                settings=tuple(settings(reader, reader.sweep(name).id)),
                store=shown(address),
            )
        )
    typer.echo(render_grids(grids(sources, rows=rows), form))


def _table(reader: "Reader", name: str, *, published: bool) -> "Table":
    """A sweep's table, beside papers' numbers where they are asked for."""
    from bitsweep.analysis.selection import with_published
    from bitsweep.analysis.table import sweep_table
    from bitsweep.store.history import settings

    one = sweep_table(reader, name)
    if not published:
        return one
    found = settings(reader, reader.sweep(name).id)
    return with_published(one, found)


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT statement.")],
    form: Annotated[QueryFormat, typer.Option("--format", help="How to print.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", help="The file of --format parquet.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Ask the store in SQL; the database is opened for reading alone."""
    if (form == "parquet") != (output is not None):
        raise InputError("--format parquet and --output FILE go together")
    reader = open_reader(store)
    names, rows = reader.query(sql) if output is None else reader.query(sql, limit=_WHOLE)
    if output is not None:
        from bitsweep.exchange import write_rows

        write_rows(output, names, rows)
        typer.echo(f"{len(rows)} rows written to {output}")
    else:
        from bitsweep.store.asking import readable

        typer.echo(_query_text(names, [readable(row) for row in rows], form))


def _query_text(names: Sequence[str], rows: Sequence[Sequence[Any]], form: QueryFormat) -> str:
    from bitsweep.analysis.latex import latex_rows
    from bitsweep.analysis.render import markdown_lines, text_lines

    if form == "json":
        return json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str)
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        return out.getvalue().rstrip("\n")
    if form == "latex":
        return latex_rows(names, rows)
    shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
    lines = markdown_lines if form == "markdown" else text_lines
    return "\n".join(lines([list(names), *shown]))
