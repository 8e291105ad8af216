"""Verbs on sweep files: validate, schema."""

import json
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("validate")(validate)
    app.command("schema")(schema)


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sweep files.")],
) -> None:
    """Check sweep files without running anything; the first mistake ends with exit code 2."""
    from bitsweep.specfile import read_sweep
    from bitsweep.trainer import load_declarations

    declarations = load_declarations()
    for path in paths:
        sweep = read_sweep(path, declarations)
        arms = ", ".join(arm.name for arm in sweep.arms)
        typer.echo(f"{path}: valid: {sweep.name}, arms {arms}")


def schema() -> None:
    """Print the JSON Schema of sweep files, for editors."""
    from bitsweep.specfile import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
