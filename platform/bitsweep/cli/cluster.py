"""Verbs on runs in progress: stop, cancel."""

from typing import TYPE_CHECKING, Annotated

import typer

from bitsweep.cli.places import (
    StoreOption,
    store_address,
)
from bitsweep.errors import InputError

if TYPE_CHECKING:
    from bitsweep.store.requests import Request

AddressOption = Annotated[
    str | None,
    typer.Option(
        help="The cluster's job server, such as http://head:8265; RAY_API_SERVER_ADDRESS and "
        "RAY_ADDRESS count.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    #    app.command("submit")(submit)
    #    app.command("status")(status)
    #    app.command("logs")(logs)
    app.command("stop")(stop)
    app.command("cancel")(cancel)


def stop(
    name: Annotated[str, typer.Argument(metavar="JOB_OR_SWEEP", help="What runs.")],
    store: StoreOption = None,
    address: AddressOption = None,
) -> None:
    """Let the running trials of a job or a sweep end and start no others."""
    _end("stop", name, store=store, address=address)


def cancel(
    name: Annotated[str, typer.Argument(metavar="JOB_OR_SWEEP", help="What runs.")],
    store: StoreOption = None,
    address: AddressOption = None,
) -> None:
    """End a job or the runs of a sweep at once; what was measured is kept."""
    _end("cancel", name, store=store, address=address)


def _end(kind: "Request", name: str, *, store: str | None, address: str | None) -> None:
    _ask_drivers(kind, name, store_address(store))


def _ask_drivers(kind: "Request", name: str, place: str) -> None:
    from time import time

    from bitsweep.store.database import open_to_read, open_to_write
    from bitsweep.store.reader import Reader
    from bitsweep.store.requests import ask, drivers_alive

    sweep = Reader(open_to_read(place)).sweep(name)
    engine = open_to_write(place)
    ask(engine, sweep.id, kind)
    drivers = drivers_alive(engine, sweep.id, clock=time)
    engine.dispose()
    if not drivers:
        raise InputError(f"no driver of {name} gives a sign of life: there is nothing to {kind}")
    who = "1 driver" if len(drivers) == 1 else f"{len(drivers)} drivers"
    typer.echo(f"{name}: asked {who} to {kind}: {', '.join(drivers)}")
