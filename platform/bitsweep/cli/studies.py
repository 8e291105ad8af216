"""The verb that shows searches in optuna-dashboard: optuna."""

from typing import TYPE_CHECKING, Annotated

import typer

from bitsweep.cli.places import StoreOption, store_address

if TYPE_CHECKING:
    from bitsweep.search.optuna_view import ShownStudy


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("optuna")(optuna)


def optuna(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP")],
    store: StoreOption = None,
    port: Annotated[int, typer.Option(help="Port; 0: any free.", min=0, max=65535)] = 8080,
) -> None:
    """Open optuna-dashboard over a sweep's searches as they stand in the store (read-only)."""
    from bitsweep.search.optuna_view import serve

    studies = _studies(sweep, store_address(store))

    def ready(address: str) -> None:
        typer.echo(f"{len(studies)} studies of {sweep}: {address} (Ctrl-C ends)")

    serve(studies, port=port, ready=ready)


def _studies(name: str, store: str) -> "list[ShownStudy]":
    from bitsweep.errors import InputError
    from bitsweep.execution.lookback import look_back
    from bitsweep.plan import Plan
    from bitsweep.search.optuna_view import Shown, ShownStudy
    from bitsweep.specfile import stored_sweep
    from bitsweep.store.database import open_to_read
    from bitsweep.store.reader import Reader
    from bitsweep.trainer import load_declarations

    reader = Reader(open_to_read(store))
    row = reader.sweep(name)
    declarations = load_declarations()
    plan = Plan(
        sweep=stored_sweep(row.name, row.text, row.command, declarations),
        declarations=declarations,
    )
    found = look_back(plan, reader, row.id)
    reader.close()
    if not found:
        raise InputError(f"{name}: no arm has a space, so that there is no search to show")
    return [
        ShownStudy(
            name=f"{name}/{one.arm.name}/{one.label}",
            space=one.arm.space,
            goals=one.criteria.goals,
            metrics=[objective.metric for objective, _ in one.criteria.objectives],
            shown=[
                Shown(
                    parameters=seen.parameters,
                    told=seen.told,
                    curve=seen.curve,
                    note=seen.note,
                )
                for seen in one.seen
            ],
        )
        for one in found
    ]
