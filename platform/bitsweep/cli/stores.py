"""Verbs about the result database itself: store upgrade, store catch-up."""

import typer

from bitsweep.cli.places import StoreOption, WorkOption, store_address, work_place


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    store = typer.Typer(help="The result database.", no_args_is_help=True)
    store.command("upgrade")(upgrade)
    store.command("catch-up")(catch_up)
    app.add_typer(store, name="store")


def upgrade(store: StoreOption = None) -> None:
    """Bring a result database to the newest schema."""
    from bitsweep.store.database import open_to_write, shown

    place = store_address(store)
    open_to_write(place).dispose()
    typer.echo(f"{shown(place)}: up to date")


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
