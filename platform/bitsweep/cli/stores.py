"""Verbs about the result database itself: store upgrade, store check, store catch-up."""

import json
from typing import Annotated

import typer

from bitsweep.cli.places import JsonOption, StoreOption, WorkOption, store_address, work_place

NOT_SOUND = 1


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    store = typer.Typer(help="The result database.", no_args_is_help=True)
    store.command("upgrade")(upgrade)
    store.command("check")(check)
    store.command("catch-up")(catch_up)
    app.add_typer(store, name="store")


def upgrade(store: StoreOption = None) -> None:
    """Bring a result database to the newest schema."""
    from bitsweep.store.database import open_to_write, shown

    place = store_address(store)
    open_to_write(place).dispose()
    typer.echo(f"{shown(place)}: up to date")


def check(
    store: StoreOption = None,
    workspaces: WorkOption = None,
    files: Annotated[
        bool, typer.Option("--files", help="Read every kept checkpoint and compare its digest.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check schema, references, what must always hold, and the files of kept checkpoints.

    Changes nothing. Exit code 0: sound; 1: faults, one line each; 2: it cannot be opened.
    """
    from bitsweep.store.database import shown
    from bitsweep.upkeep import check_store

    place = store_address(store)
    found = check_store(place, work_place(workspaces), reads_files=files)
    if as_json:
        document = {"faults": list(found.faults), "notes": list(found.notes)}
        typer.echo(json.dumps({"store": shown(place), "is_sound": not found.faults, **document}))
    else:
        for line in found.faults:
            typer.echo(f"FAULT  {line}")
        for line in found.notes:
            typer.echo(f"note   {line}")
        typer.echo(f"{shown(place)}: {'NOT sound' if found.faults else 'sound'}")
    if found.faults:
        raise typer.Exit(NOT_SOUND)


def catch_up(store: StoreOption = None, workspaces: WorkOption = None) -> None:
    """Write what runs could not write while the store was out of reach; `run` does it too."""
    from bitsweep.run import catch_up_journals, folders_of
    from bitsweep.store.database import open_to_write
    from bitsweep.store.reader import Reader
    from bitsweep.store.writer import Writer

    place = store_address(store)
    engine = open_to_write(place)
    folders = folders_of(place, work_place(workspaces))
    told = catch_up_journals(place, folders, Writer(engine), Reader(engine))
    engine.dispose()
    typer.echo("\n".join(told) or "nothing is left to write")
