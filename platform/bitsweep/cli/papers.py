"""Verbs for papers: plot, published, report, export, import."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from bitsweep.analysis.chart import Kind, Pick
from bitsweep.cli.places import JsonOption, StoreOption, store_address
from bitsweep.cli.results import open_reader
from bitsweep.errors import InputError

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("plot")(plot)
    app.command("published")(published)
    app.command("report")(report)
    app.command("export")(export)
    app.command("import")(import_)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """A file that cannot be written is the user's mistake."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}") from error


def plot(
    sweep: SweepArgument,
    kind: Annotated[Kind, typer.Option("--kind", help="What to draw.")],
    output: Annotated[Path, typer.Option("--output", help="A .png, .svg, .pdf or .html file.")],
    columns: Annotated[
        Literal["one", "two"], typer.Option("--columns", help="Of a paper that it fills.")
    ] = "two",
    arm: Annotated[str | None, typer.Option("--arm", help="This arm alone.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="At these bits, such as w3a3.")] = None,
    x: Annotated[str | None, typer.Option("--x", help="A parameter, across a contour.")] = None,
    y: Annotated[str | None, typer.Option("--y", help="A parameter, up a contour.")] = None,
    price: Annotated[
        float | None, typer.Option("--lambda", help="Of a policy: choices, costs.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Draw a sweep: accuracy by BitOps (pareto), size or bits; learning curves; bits per layer at
    the end or over epochs; of a policy, its choices per layer, its costs per sample, and what it
    trades for them; of the search, what mattered, a slice per parameter, parallel coordinates, a
    contour of two parameters.
    """
    from bitsweep.figures.draw import sweep_chart, write_chart

    pick = Pick(arm=arm, at=at, x=x, y=y, price=price)
    chart = sweep_chart(open_reader(store), sweep, kind, pick)
    with _writing(output):
        write_chart(chart, output, width=columns)
    typer.echo(f"written to {output}")


def published(
    data: Annotated[str | None, typer.Option("--data", help="Such as cifar10.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Such as resnet-18.")] = None,
    bits: Annotated[str | None, typer.Option("--bits", help="Such as w4a4.")] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Part of a method's or paper's name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the numbers that papers print, each with its place and who told it."""
    from bitsweep.analysis.published import filtered
    from bitsweep.analysis.published import published as known
    from bitsweep.analysis.render import text_lines

    rows = filtered(known(), data=data, model=model, bits=bits, text=text)
    head = ["data", "model", "bits", "top-1 %", "method", "paper", "place", "provenance"]
    grid = [
        [r.data, r.model, r.bits, r.top1, r.method, r.paper, r.place, r.provenance] for r in rows
    ]
    if as_json:
        names = ["data", "model", "bits", "top1", "method", "paper", "place", "provenance"]
        typer.echo(
            json.dumps(
                [
                    {**dict(zip(names, line, strict=True)), "source": row.source}
                    for line, row in zip(grid, rows, strict=True)
                ]
            )
        )
        return
    typer.echo("\n".join(text_lines([head, *grid], numbers={3})))


def report(
    sweep: SweepArgument,
    output: Annotated[Path, typer.Option("--output", help="An .html file.")],
    store: StoreOption = None,
) -> None:
    """Write one page that holds all of a sweep: question, table, figures, failures, provenance."""
    from bitsweep.report import sweep_report

    if output.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"{output}: expected a name that ends in .html")
    page = sweep_report(open_reader(store), sweep)
    with _writing(output):
        output.write_text(page, encoding="utf-8")
    typer.echo(f"written to {output}")


def export(
    sweeps: Annotated[
        list[str] | None, typer.Argument(metavar="[SWEEP...]", show_default=False)
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", help="A .parquet or .csv file.")],
    store: StoreOption = None,
) -> None:
    """Write sweeps (none named: all) into one file, losslessly; `bitsweep import` reads it."""
    from bitsweep.exchange import export_sweeps

    with _writing(output):
        number = export_sweeps(open_reader(store), sweeps or [], output)
    typer.echo(f"{number} measurements written to {output}")


def import_(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_STORE")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge an exported file or another store (a file or a URL) into the store.

    What stands is kept; facts that differ are told, and the exit code is then 1.
    """
    from bitsweep.exchange import import_results

    done = import_results(source, store_address(store))
    if as_json:
        typer.echo(json.dumps({"added": done.added, "conflicts": done.conflicts}))
    else:
        added = ", ".join(f"{number} {name}" for name, number in done.added.items())
        typer.echo(f"added: {added or 'nothing'}")
        for line in done.conflicts:
            typer.echo(f"conflict: {line}")
    if done.conflicts:
        raise typer.Exit(1)
