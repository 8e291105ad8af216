"""Verbs on a cluster and on runs in progress: submit, status, logs, stop, cancel."""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitsweep.cli.places import (
    MLFLOW_VARIABLE,
    STORE_VARIABLE,
    WORK_VARIABLE,
    CompletionOption,
    FileArgument,
    JsonOption,
    MlflowOption,
    NodesOption,
    RetryOption,
    SetOption,
    StoreOption,
    WorkOption,
    store_address,
    work_place,
)
from bitsweep.errors import INTERRUPTED, InputError

if TYPE_CHECKING:
    from bitsweep.execution.cluster import JobRow
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
    app.command("submit")(submit)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("stop")(stop)
    app.command("cancel")(cancel)


def submit(
    path: FileArgument,
    address: AddressOption = None,
    store: StoreOption = None,
    mlflow: MlflowOption = None,
    workspaces: WorkOption = None,
    is_persistent: Annotated[
        bool,
        typer.Option(
            "--persistent", help="The store is a file in a folder that outlives the job."
        ),
    ] = False,
    wait_for_nodes: NodesOption = False,
    overrides: SetOption = None,
    retry: RetryOption = None,
    on_completion: CompletionOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the log.")] = False,
) -> None:
    """Run a sweep as a job of a Ray cluster: the driver and its trials run there.

    The sweep is checked here first; the installed code goes along. Follows the log and ends with
    the job's exit code; Ctrl-C leaves the job running.
    """
    from bitsweep.specfile import read_sweep
    from bitsweep.trainer import load_declarations

    place = _lasting_store(store, is_persistent=is_persistent)
    mirror = mlflow or os.environ.get(MLFLOW_VARIABLE) or "none"
    sweep = read_sweep(path, load_declarations(), overrides=overrides or [])
    arguments = [word for one in overrides or [] for word in ("--set", one)]
    arguments += ["--retry", retry] if retry else []
    arguments += ["--wait-for-nodes"] if wait_for_nodes else []
    # Not part of the command that is kept with the results: a URL is often a secret.
    told = ["--on-completion", on_completion] if on_completion else []
    _warn_of_passwords(place, mirror, *(one for one in told if "://" in one))
    from bitsweep.execution.cluster import Cluster, Submission

    cluster = Cluster(address)
    job = cluster.submit(
        Submission(
            sweep=sweep.name,
            text=sweep.text,
            trainer=sweep.task.trainer,
            arguments=("--address", "auto", *arguments, *told),
            command=_command(path, arguments, cluster.address, place, is_persistent=is_persistent),
            environment=_environment(place, mirror, work_place(workspaces)),
        )
    )
    where = f"--address {cluster.address}"
    typer.echo(f"{sweep.name}: submitted as {job}", err=True)
    typer.echo(f"Its log: bitsweep logs {job} --follow {where}", err=True)
    typer.echo(f"End it: bitsweep stop {job} {where}", err=True)
    if no_wait:
        typer.echo(job)
        return
    _follow(cluster, job)


def _environment(place: str, mirror: str, work: str | None) -> dict[str, str]:
    """What the driver in the cluster finds in its environment."""
    found = {STORE_VARIABLE: place, MLFLOW_VARIABLE: mirror}
    if work:
        found |= {WORK_VARIABLE: work}
    if passwords := os.environ.get("PGPASSFILE"):
        found |= {"PGPASSFILE": passwords}
    return found


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Default: all.")] = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the sweeps that were submitted to a cluster."""
    from dataclasses import asdict

    from bitsweep.execution.cluster import Cluster

    cluster = Cluster(address)
    rows = [cluster.job(job)] if job else cluster.jobs()
    if as_json:
        documents: Any = [asdict(row) for row in rows]
        typer.echo(json.dumps(documents[0] if job else documents, indent=2))
        return
    if not rows:
        typer.echo(f"{cluster.address}: no sweep was submitted yet")
    for row in rows:
        typer.echo(_line(row))


def logs(
    name: Annotated[
        str, typer.Argument(metavar="JOB_OR_TRIAL", help="A job's id, or a trial's first digits.")
    ],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until it ends.")] = False,
    address: AddressOption = None,
    store: StoreOption = None,
    workspaces: WorkOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a trial's events as they are: JSON lines.")
    ] = False,
) -> None:
    """Print the log of a job of a cluster, or of a trial."""
    from bitsweep.execution.cluster import Cluster, is_job_id

    if not is_job_id(name):
        _trial_log(name, store_address(store), work_place(workspaces), follow, as_json=as_json)
        return
    cluster = Cluster(address)
    if follow:
        _follow(cluster, name)
    else:
        typer.echo(cluster.log(name), nl=False)


def _trial_log(prefix: str, place: str, work: str | None, follow: bool, *, as_json: bool) -> None:
    from time import sleep

    from bitsweep.run import folders_of
    from bitsweep.store.database import open_to_read
    from bitsweep.store.logs import line_of, read_lines
    from bitsweep.store.reader import Reader

    reader = Reader(open_to_read(place))
    trial = reader.trial(prefix)
    folders = folders_of(place, work)
    shown = 0
    while True:
        is_over = trial.id in reader.ended([trial.id])
        text = folders.log_text(trial.id)
        if text is None and not follow:
            raise InputError(
                f"trial {trial.short_id} has no log in {folders.remote or folders.logs}: it was "
                "not started yet, or its worker wrote elsewhere (--workspaces)"
            )
        whole = (text or "").rpartition("\n")[0] + "\n"
        for event in read_lines(whole[shown:]):
            typer.echo(json.dumps(event) if as_json else line_of(event))
        shown = len(whole) if text else 0
        if is_over or not follow:
            return
        sleep(1.0)


def stop(
    name: Annotated[str, typer.Argument(metavar="JOB_OR_SWEEP", help="What runs.")],
    store: StoreOption = None,
    address: AddressOption = None,
) -> None:
    """Let the running trials of a job or of a sweep end and start no others."""
    from bitsweep.execution.cluster import Cluster, is_job_id

    if is_job_id(name):
        typer.echo(Cluster(address).stop(name))
    else:
        _ask_drivers("stop", name, store_address(store))


def cancel(
    name: Annotated[str, typer.Argument(metavar="JOB_OR_SWEEP", help="What runs.")],
    store: StoreOption = None,
    address: AddressOption = None,
) -> None:
    """End a job or the runs of a sweep at once; what was measured is kept."""
    from bitsweep.execution.cluster import Cluster, is_job_id

    if is_job_id(name):
        typer.echo(_line(Cluster(address).cancel(name)))
    else:
        _ask_drivers("cancel", name, store_address(store))


def _follow(cluster: Any, job: str) -> None:  # a Cluster, which only verbs import
    from bitsweep.execution.cluster import exit_code_of

    try:
        row = cluster.follow(job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        again = f"bitsweep logs {job} --follow --address {cluster.address}"
        typer.echo(f"\nThe job goes on. Look again: {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(_line(row), err=True)
    if code := exit_code_of(row):
        raise typer.Exit(code)


def _line(row: "JobRow") -> str:
    times = f"{row.started_at} to {row.ended_at or 'now'}" if row.started_at else "not started"
    code = "" if row.exit_code is None else f", exit code {row.exit_code}"
    says = f": {row.message}" if row.status == "failed" and row.message else ""
    return f"{row.job}  {row.status}{code}  {times}{says}"


def _lasting_store(option: str | None, *, is_persistent: bool) -> str:
    """The store that the job will use; InputError unless it outlives the job."""
    from bitsweep.store.database import shown, store_url

    place = option or os.environ.get(STORE_VARIABLE)
    if place is None:
        raise InputError(
            "a job needs a store that outlives it: --store postgresql://..., or --store FILE "
            "--persistent with a file in a folder of the cluster that stays"
        )
    if store_url(place).get_backend_name() == "sqlite":
        if not is_persistent:
            raise InputError(
                f"store {shown(place)!r} is a file, which may go with the job: give "
                "postgresql://..., or say --persistent if its folder stays"
            )
        if "://" not in place and not Path(place).is_absolute():
            raise InputError(
                f"--store {place}: a file on the cluster is named by its whole path, from /"
            )
    return place


def _warn_of_passwords(*addresses: str) -> None:
    if any(_has_password(one) for one in addresses):
        typer.echo(
            "warning: a password in an address can be read in Ray's list of jobs; leave it out "
            "and name a password file of the cluster in PGPASSFILE",
            err=True,
        )


def _has_password(address: str) -> bool:
    from urllib.parse import urlsplit

    try:
        return bool(urlsplit(address).password)
    except ValueError:  # a command that holds a URL, and more
        return False


def _command(
    path: Path, arguments: list[str], address: str, place: str, *, is_persistent: bool
) -> str:
    """What submits this sweep again."""
    from bitsweep.store.database import shown

    words = ["bitsweep", "submit", str(path), "--address", address, "--store", shown(place)]
    words += ["--persistent"] if is_persistent else []
    return shlex.join([*words, *arguments])


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
