"""Verbs that run: run, mirror."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bitsweep.cli.places import (
    COMMAND_VARIABLE,
    CompletionOption,
    FileArgument,
    JsonOption,
    MlflowOption,
    NodesOption,
    RetryOption,
    SetOption,
    StoreOption,
    WorkOption,
    mlflow_uri,
    store_address,
    work_place,
)
from bitsweep.errors import INTERRUPTED, SOME_FAILED

if TYPE_CHECKING:
    from bitsweep.plan import Plan
    from bitsweep.run import RunOptions, RunReport

TOKEN_VARIABLE = "BITSWEEP_DASHBOARD_TOKEN"


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("run")(run)
    app.command("mirror")(mirror)
    app.command("dashboard")(dashboard)


def run(
    path: FileArgument,
    store: StoreOption = None,
    mlflow: MlflowOption = None,
    workspaces: WorkOption = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; default: one on this machine.")
    ] = None,
    wait_for_nodes: NodesOption = False,
    executor: Annotated[
        Literal["ray", "local"], typer.Option(help="Who runs the trials.")
    ] = "ray",
    trial: Annotated[
        str | None, typer.Option(help="Run this one trial again and compare its numbers.")
    ] = None,
    overrides: SetOption = None,
    retry: RetryOption = None,
    patience: Annotated[
        float,
        typer.Option(
            "--store-patience",
            metavar="SECONDS",
            min=0.0,
            help="How long a run that can do nothing else waits for a store that is away.",
        ),
    ] = 600.0,
    on_completion: CompletionOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run what is missing of a sweep and print its table.

    Exit code 0: all well; 1: some trials failed, a budget ended, or the store was lost;
    2: bad input; 130: interrupted.
    """
    from bitsweep.plan import Plan
    from bitsweep.specfile import read_sweep
    from bitsweep.trainer import load_declarations

    declarations = load_declarations()
    sweep = replace(
        read_sweep(path, declarations, overrides=overrides or []),
        command=_command(path, overrides or [], store, workspaces),
    )
    plan = Plan(sweep=sweep, declarations=declarations)
    place = store_address(store)
    if dry_run:
        _dry_run(plan, place, as_json=as_json)
        return
    if trial is not None:
        gpus = sweep.resources.gpus_per_worker
        _run_again(place, trial, work_place(workspaces), gpus=gpus, as_json=as_json)
        return
    from bitsweep.run import RunOptions

    options = RunOptions(
        store=place,
        mlflow=mlflow_uri(mlflow),
        executor=executor,
        address=address,
        retries_failed=retry == "failed",
        work=work_place(workspaces),
        waits_for_nodes=wait_for_nodes,
        patience_seconds=patience,
    )
    _run(plan, options, on_completion or sweep.on_completion, as_json=as_json)


def _run(plan: "Plan", options: "RunOptions", target: str | None, *, as_json: bool) -> None:
    """Run the plan, tell the target of on_completion and the user, end with the exit code."""
    from bitsweep.completion import Completion, exit_code
    from bitsweep.execution.watch import ends_cleanly
    from bitsweep.run import run_sweep

    sweep = plan.sweep
    completion = Completion(
        target=target, sweep=sweep.name, store=options.store, command=sweep.command
    )
    try:
        with (
            ends_cleanly(),
            completion,
            _display(as_json=as_json, name=sweep.name) as display,
        ):
            report = completion.report = run_sweep(plan, options, observe=display.show)
    except KeyboardInterrupt:  # before the first trial, or after the last
        typer.echo(_go_on(sweep.command), err=as_json)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if completion.problem:
            typer.echo(f"warning: on_completion: {completion.problem}", err=True)
    _tell(report, options.store, options.mlflow, sweep.command, as_json=as_json)
    if code := exit_code(report, None):
        raise typer.Exit(code)


def mirror(
    sweeps: Annotated[
        list[str] | None, typer.Argument(metavar="[SWEEP]...", help="Default: every sweep.")
    ] = None,
    store: StoreOption = None,
    mlflow: MlflowOption = None,
    workspaces: WorkOption = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Delete the sweeps' runs and log them anew.")
    ] = False,
    register: Annotated[
        list[str] | None,
        typer.Option(
            "--register",
            metavar="ARM",
            help="Enter the arm's confirmed networks into MLflow's model registry.",
        ),
    ] = None,
) -> None:
    """Bring MLflow up to date from the store."""
    from bitsweep.errors import InputError
    from bitsweep.mirroring import sweep_documents
    from bitsweep.run import folders_of
    from bitsweep.store.database import open_to_read
    from bitsweep.store.reader import Reader
    from bitsweep.tracking.mlflow_mirror import MlflowMirror

    uri = mlflow_uri(mlflow)
    if uri is None:
        raise InputError("--mlflow none: there is nothing to mirror to")
    if register and len(sweeps or []) != 1:
        raise InputError("--register ARM needs one SWEEP")
    place = store_address(store)
    reader = Reader(open_to_read(place))
    folders = folders_of(place, work_place(workspaces))
    view = MlflowMirror(reader, uri, checkpoints=folders.checkpoints_place)
    for name in sweeps or [one.name for one in reader.sweeps()]:
        touched = view.rebuild(name) if rebuild else view.catch_up(name)
        view.close(name, sweep_documents(reader, name))
        typer.echo(f"{name}: {touched} trials brought up to date")
        for arm in register or []:
            for one in view.register(name, arm, find=folders.find_checkpoint):
                state = "registered as" if one.is_new else "stands as"
                typer.echo(f"{one.trial_id[:12]} {state} {one.model} version {one.version}")


def dashboard(
    store: StoreOption = None,
    host: Annotated[str, typer.Option(help="Off loopback only with a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 8050,
    token: Annotated[
        str | None, typer.Option(help="Asked of every visitor.", envvar=TOKEN_VARIABLE)
    ] = None,
    path_prefix: Annotated[
        str | None, typer.Option(help="Path under which a reverse proxy serves the pages.")
    ] = None,
    mlflow_url: Annotated[
        str | None, typer.Option(help="MLflow server, for links to runs.")
    ] = None,
    ray_url: Annotated[str | None, typer.Option(help="Ray dashboard, for a link to it.")] = None,
    workspaces: WorkOption = None,
) -> None:
    """Open read-only pages over the store."""
    _look_at(store_address(store))
    command = [sys.executable, "-m", "bitsweep_dashboards.app", "--store", store_address(store)]
    command += ["--host", host, "--port", str(port)]
    for option, value in (
        ("--path-prefix", path_prefix),
        ("--mlflow-url", mlflow_url),
        ("--ray-url", ray_url),
        ("--workspaces", workspaces),
    ):
        command += [option, value] if value is not None else []
    # Through the environment: arguments show in the list of processes.
    environment = os.environ | ({TOKEN_VARIABLE: token} if token else {})
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


def _look_at(place: str) -> None:
    """Say that no store is there yet; StoreError for a file that is none. Servers may be away."""
    from bitsweep.errors import NoStore, StoreAway
    from bitsweep.store.database import open_to_look

    try:
        open_to_look(place).dispose()
    except NoStore as error:
        typer.echo(f"{error}; the pages fill once one is there", err=True)
    except StoreAway as error:
        typer.echo(f"{error}; the pages fill once it answers", err=True)


def _command(path: Path, overrides: list[str], store: str | None, workspaces: str | None) -> str:
    """What runs this sweep again from the same folder; of a job, what submits it again."""
    from bitsweep.store.database import shown

    if given := os.environ.get(COMMAND_VARIABLE):
        return given
    words = ["bitsweep", "run", str(path)]
    for override in overrides:
        words += ["--set", override]
    if store is not None:
        words += ["--store", shown(store)]
    if workspaces is not None:
        words += ["--workspaces", workspaces]
    return shlex.join(words)


def _display(*, as_json: bool, name: str) -> Any:  # one of two displays
    from bitsweep.cli.display import LiveDisplay, QuietDisplay

    if as_json or not sys.stderr.isatty():
        return QuietDisplay(is_silent=as_json)
    return LiveDisplay(name)


def _dry_run(plan: "Plan", place: str, *, as_json: bool) -> None:
    from bitsweep.estimate import estimate

    found = estimate(plan, place)
    if as_json:
        typer.echo(json.dumps(found))
        return
    seconds = found["seconds_estimated"]
    time = "unknown: nothing alike was run yet" if seconds is None else f"about {seconds:.0f} s"
    typer.echo(
        f"{found['sweep']}: {found['trials_total']} trials, {found['trials_known']} known, "
        f"{found['trials_to_run']} to run; time on this machine: {time}"
    )


def _run_again(place: str, prefix: str, work: str | None, *, gpus: float, as_json: bool) -> None:
    from bitsweep.repeat import repeat_trial

    repeated = repeat_trial(place, prefix, work, gpus=gpus)
    if as_json:
        typer.echo(json.dumps(repeated))
    else:
        for line in repeated["lines"]:
            typer.echo(line)
        verdict = "identical to" if repeated["is_identical"] else "DIFFERENT from"
        typer.echo(f"trial {repeated['trial'][:12]}: {verdict} what the store holds")
        if repeated["note"]:
            typer.echo(repeated["note"])
    if not repeated["is_identical"]:
        raise typer.Exit(SOME_FAILED)


def _tell(
    report: "RunReport", place: str, uri: str | None, command: str, *, as_json: bool
) -> None:
    from bitsweep.analysis.render import json_rows, render
    from bitsweep.analysis.table import sweep_table
    from bitsweep.store.database import open_to_read
    from bitsweep.store.reader import Reader

    table = sweep_table(Reader(open_to_read(place)), report.sweep)
    if as_json:
        typer.echo(json.dumps(_document(report) | {"table": json_rows(table)}))
        return
    typer.echo(render(table, "text"))
    typer.echo("")
    count = report.trials_dropped
    dropped = f", {count} dropped with one that failed" if count else ""
    typer.echo(
        f"{report.trials_run} trials run, {report.trials_reused} reused, "
        f"{report.trials_pruned} pruned, {report.trials_failed} failed{dropped}; "
        f"{report.measurements_written} measurements written in {report.seconds:.0f} s"
    )
    for note in report.notes:
        typer.echo(note)
    _tell_what_next(report, place, uri, command)


def _document(report: "RunReport") -> dict[str, Any]:  # JSON
    """A report's counts and notes under the keys that scripts rely on."""
    names = ("sweep", "trials_total", "trials_run", "trials_reused", "trials_failed")
    return {name: getattr(report, name) for name in names} | {
        "trials_pruned": report.trials_pruned,
        "trials_dropped": report.trials_dropped,
        "measurements_written": report.measurements_written,
        "seconds": report.seconds,
        "is_interrupted": report.is_interrupted,
        "failures": list(report.failures),
        "notes": list(report.notes),
        "is_stopped": report.is_stopped,
    }


def _go_on(command: str) -> str:
    return f"Interrupted; what was measured is kept. Go on: {command}"


def _tell_what_next(report: "RunReport", place: str, uri: str | None, command: str) -> None:
    """How to go on, and where to look."""
    from bitsweep.store.database import shown

    if report.is_interrupted:
        typer.echo(_go_on(command))
    elif report.trials_failed:
        typer.echo(f"Run the failed ones again: {command} --retry failed")
    if report.mirror_lag is not None and uri is not None:
        words = ["bitsweep", "mirror", report.sweep, "--store", shown(place)]
        again = shlex.join([*words, "--mlflow", shown(uri)])
        typer.echo(f"MLflow lags behind ({report.mirror_lag}); catch up: {again}")
    if uri is not None:
        is_server = uri.startswith(("http://", "https://"))
        where = shown(uri) if is_server else f"mlflow ui --backend-store-uri {shown(uri)}"
        typer.echo(f"Browse in MLflow: {where}")
