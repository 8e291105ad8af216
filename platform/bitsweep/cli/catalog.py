"""Verbs about what there is: methods, data, doctor."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bitsweep.cli.places import JsonOption


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("methods")(methods)
    app.command("doctor")(doctor)
    data = typer.Typer(help="Data sets: what there is, and fetching them.", no_args_is_help=True)
    data.command("list")(data_list)
    data.command("fetch")(data_fetch)
    app.add_typer(data, name="data")


def methods(
    name: Annotated[str | None, typer.Argument(help="One method in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the methods with their bits and parameters."""
    from bitsweep.trainer import load_declarations

    declarations = load_declarations()
    chosen = [declarations.method(name)] if name else list(declarations.methods.values())
    if as_json:
        rows = [
            {
                "name": method.name,
                "title": method.title,
                "source": method.source,
                "serves": method.serves,
                "bits": list(method.weight_bits),
                "groups_seeds": method.groups_seeds,
                "parameters": [
                    {
                        "name": one.name,
                        "kind": one.kind,
                        "default": one.default,
                        "range": one.range_text,
                        "meaning": one.meaning,
                        "source": one.source,
                    }
                    for one in method.parameters
                ],
            }
            for method in chosen
        ]
        typer.echo(json.dumps(rows))
        return
    for method in chosen:
        bits = ", ".join(str(one) for one in method.weight_bits)
        typer.echo(f"{method.name}: {method.title} ({method.source}); bits {bits}")
        for one in method.parameters:
            line = f"  {one.name} = {one.default!r}: {one.meaning}; {one.range_text}"
            typer.echo(f"{line} [{one.source}]" if name else line)


def data_list(as_json: JsonOption = False) -> None:
    """List the data sets and whether they are here."""
    from bitsweep.trainer import load_data_tools, load_declarations

    tools = load_data_tools()
    rows = [
        {
            "name": one.name,
            "title": one.title,
            "shape": list(one.shape),
            "classes": one.classes,
            "sizes": dict(one.sizes),
            "is_here": tools.is_present(one.name),
            "sha256": one.sha256,
        }
        for one in load_declarations().data.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        sizes = ", ".join(f"{split} {count}" for split, count in dict(row["sizes"]).items())  # type: ignore[call-overload]  # a mapping by construction
        state = "here" if row["is_here"] else f"not here: bitsweep data fetch {row['name']}"
        typer.echo(f"{row['name']}: {row['title']}; {sizes}; {state}")


def data_fetch(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Fetch a data set, check it and keep it; a broken download goes on where it stopped."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from bitsweep.trainer import load_data_tools, load_declarations

    load_declarations().data_set(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        path = load_data_tools().fetch(name, show)
    typer.echo(f"{name}: {path}")


def doctor() -> None:
    """Check what bitsweep needs: packages, trainers, data, a place to write."""
    from bitsweep.trainer import load_declarations, load_trainer

    problems = 0
    for package in ("torch", "ray", "optuna", "mlflow", "sqlalchemy", "dash"):
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"ok       {package} {version(package)}")
        except PackageNotFoundError:
            problems += 1
            typer.echo(f"missing  {package}: pip install -e . -c constraints.txt")
    declarations = load_declarations()
    typer.echo(f"ok       methods: {', '.join(declarations.methods)}")
    typer.echo(f"ok       models: {', '.join(declarations.models)}")
    load_trainer("image")
    typer.echo("ok       the image trainer loads")
    compiler = declarations.missing_compiler()
    typer.echo(f"ok       backend = eager; {compiler or 'compiled kernels can be built'}")
    folder = Path("results")
    try:
        folder.mkdir(exist_ok=True)
        typer.echo(f"ok       {folder.resolve()} can be written")
    except OSError as error:
        problems += 1
        typer.echo(f"missing  a place to write: {error}")
    sys.exit(1 if problems else 0)
