"""The story: a sweep's life in one short function, from a plan to a report."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, time
from typing import Literal

from bitsweep.errors import InputError, UrlAway
from bitsweep.execution.base import Executor, Folders
from bitsweep.execution.conductor import Conductor
from bitsweep.execution.here import check_data, check_machine
from bitsweep.execution.journal import Heading, Journal, heading_of, journals_in, replay
from bitsweep.execution.local import LocalExecutor
from bitsweep.execution.precedence import Turn
from bitsweep.execution.progress import Progress
from bitsweep.execution.provenance import describe, is_dead, owner_name
from bitsweep.execution.pruning import make_pruner
from bitsweep.execution.recorder import Recorder
from bitsweep.execution.remote import cache_folder, home_folder
from bitsweep.execution.spool import PATIENCE_SECONDS, told
from bitsweep.execution.watch import Stoppable, ends_cleanly, watch
from bitsweep.plan import Plan, file_sha256
from bitsweep.store.database import open_to_write, store_name
from bitsweep.store.logs import work_root
from bitsweep.store.reader import Reader
from bitsweep.store.remote import Remote, is_url
from bitsweep.store.writer import Writer
from bitsweep.sweep import Arm, Task
from bitsweep.tracking.mirror_process import MirrorProcess
from bitsweep.trial import Diverged, Failed, Finished, Outcome, Pruned, digest

PROBE_BYTES = 64 * 1024
ExecutorName = Literal["ray", "local"]
# A file that another process holds longer than this is out of reach: the journal takes over.
_BUSY_MILLISECONDS = 3_000
# No statement of a run takes seconds: a server this silent stands still.
ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where results go and who runs the trials. `mlflow` None: no mirror.

    work: the folder of workspaces, checkpoints and logs, one that every node sees; None: beside
    the store. waits_for_nodes: the cluster can grow to what the sweep wants. patience_seconds:
    how long a run that can do nothing else waits for a store that is out of reach.
    answer_seconds: after so long without an answer to a statement, PostgreSQL is out of reach.
    """

    store: str
    mlflow: str | None
    executor: ExecutorName = "ray"
    address: str | None = None
    retries_failed: bool = False
    work: str | None = None
    waits_for_nodes: bool = False
    patience_seconds: float = PATIENCE_SECONDS
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a run did. `failures` holds one line per trial that failed or diverged.

    trials_dropped: given up because another trial of their configuration failed.
    notes: what was learned from other sweeps, and what was stopped and why. is_stopped: a breaker
    or a budget kept something from running, or no configuration of an arm keeps to a limit.
    """

    sweep: str
    trials_total: int
    trials_run: int
    trials_reused: int
    trials_failed: int
    trials_pruned: int
    trials_dropped: int
    measurements_written: int
    seconds: float
    is_interrupted: bool
    failures: tuple[str, ...]
    mirror_lag: str | None
    notes: tuple[str, ...] = ()
    is_stopped: bool = False


def run_sweep(
    plan: Plan, options: RunOptions, *, observe: Callable[[Progress], None]
) -> RunReport:
    """Run what is missing of a sweep.

    Ctrl-C, SIGTERM and a request in the store end it early and lose nothing measured.
    """
    begin = monotonic()
    mirror = MirrorProcess(
        options.store,
        options.mlflow,
        plan.sweep.name,
        checkpoints=folders_of(options.store, options.work).checkpoints_place,
    )
    with mirror:
        report = _run(plan, options, mirror, observe=observe)
    return replace(report, seconds=monotonic() - begin, mirror_lag=mirror.lag)


def _run(
    plan: Plan,
    options: RunOptions,
    mirror: MirrorProcess,
    *,
    observe: Callable[[Progress], None],
) -> RunReport:
    folders = folders_of(options.store, options.work)
    _check_writable(folders)
    engine = open_to_write(
        options.store,
        busy_milliseconds=_BUSY_MILLISECONDS,
        answer_seconds=options.answer_seconds,
    )
    writer, reader = Writer(engine), Reader(engine)
    owner = owner_name()
    caught_up = catch_up_journals(options.store, folders, writer, reader)
    sweep_id, arm_ids = writer.register_sweep(plan.sweep, arm_digests(plan))
    names = [arm.name for arm in plan.sweep.arms]
    recorder = Recorder(
        writer,
        reader,
        sweep_id=sweep_id,
        arm_ids=dict(zip(names, arm_ids, strict=True)),
        owner=owner,
        provenance=describe(),
        clock=time,
        is_dead=is_dead,
        ended_hook=lambda trial_id, outcome: _clear(folders, trial_id, outcome),
        journal=Journal(
            folders.journals / f"{owner.replace(':', '_')}.jsonl",
            Heading(store=store_name(options.store), sweep=plan.sweep.name, owner=owner),
        ),
        patience_seconds=options.patience_seconds,
        keeps_answers=plan.sweep.confirm is not None and plan.sweep.confirm.keep_answers,
    )
    conductor = Conductor(
        plan,
        recorder=recorder,
        pruner=make_pruner(
            plan.sweep.search.scheduler, goal=plan.sweep.goal, epochs=plan.sweep.task.epochs
        ),
        folders=folders,
        retries_failed=options.retries_failed,
        observe=observe,
    )
    is_interrupted, is_hasty = False, True
    executor = _executor(plan, options)
    resources = plan.sweep.resources
    turn = Turn(
        priority=resources.priority, most=resources.max_concurrent, place=lambda: executor.place
    )
    watching = watch(
        options.store,
        sweep_id=sweep_id,
        owner=owner,
        turn=turn,
        answer_seconds=options.answer_seconds,
    )
    with ends_cleanly(), watching as stop:
        try:
            # Nothing more comes: the mirror catches up while the executor cleans up.
            agenda = Stoppable(
                conductor, stop, done_hook=lambda: _finish(mirror, recorder), turn=turn
            )
            if not conductor.is_done():
                _check_here(plan, options)
                executor.run(agenda)
            is_interrupted = not conductor.is_done()
            is_hasty = False
            recorder.finish()
            if not is_interrupted:
                mirror.wait()  # an interrupted run frees its workers first
        except KeyboardInterrupt:
            is_interrupted = conductor.interrupt() > 0 or not conductor.is_done()
            mirror.hurry()
        finally:
            try:
                recorder.finish(is_hasty=is_hasty)
            finally:
                recorder.close()
                mirror.finish()
                executor.close()
    engine.dispose()
    report = _report(plan, conductor, is_interrupted=is_interrupted)
    return replace(report, notes=(*caught_up, *report.notes))


def _finish(mirror: MirrorProcess, recorder: Recorder) -> None:
    """Nothing more comes, unless a journal still has to be written."""
    if not recorder.is_down:
        mirror.finish()


def catch_up_journals(
    store: str, folders: Folders, writer: Writer, reader: Reader
) -> tuple[str, ...]:
    """Write what dead drivers could not write into this store; tell it, one line per journal.

    Journals of other stores and of drivers that live are left alone.
    """
    notes = []
    for path in journals_in(folders.journals):
        heading = heading_of(path)
        if heading is not None and heading.store != store_name(store):
            continue
        count = replay(
            path,
            writer,
            reader,
            hook=lambda trial_id, outcome: _clear(folders, trial_id, outcome),
        )
        if count:
            notes.append(f"{told(count)} of an earlier run written from its journal {path}")
    return tuple(notes)


def arm_digests(plan: Plan) -> list[tuple[Arm, str]]:
    """Each arm with the digest of all that shapes its search: task, arm, search, objectives.

    Files of the task stand in it with their content, so that a search may move to other folders.
    """
    sweep = plan.sweep
    shared = [repr(_placeless(plan)), repr(sweep.search), repr(sweep.objectives)]
    own = [[repr(arm), *([repr(arm.bits)] if arm.bits else [])] for arm in sweep.arms]
    return [(arm, digest([*shared, *texts])) for arm, texts in zip(sweep.arms, own, strict=True)]


def _placeless(plan: Plan) -> Task:
    """The task with digests in place of paths."""
    task = plan.sweep.task
    data = plan.declarations.data_set(task.data)
    if data.path is not None:
        task = replace(task, data=f"{data.name} {data.sha256}")
    if task.weights is not None:
        task = replace(task, weights=file_sha256(task.weights))
    return task


def folders_of(store: str, work: str | None = None) -> Folders:
    """What trials keep: in `work` (a folder or a URL), else beside a SQLite file or ./results."""
    root, home = work_root(store), None
    if work is not None and is_url(work):
        Remote(work)  # an unusable URL is said before anything runs
        root, home = cache_folder(work, Path(tempfile.gettempdir())), home_folder(work)
    elif work is not None:
        root = Path(work).resolve()
    return Folders(
        workspaces=root / "workspaces",
        artifacts=root / "artifacts" / "checkpoints",
        logs=root / "logs",
        remote=work if work is not None and is_url(work) else None,
        home=home,
    )


def _check_writable(folders: Folders) -> None:
    """Say before anything runs where trials could keep nothing."""
    try:
        folders.workspaces.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folders.workspaces) as file:
            file.write(bytes(PROBE_BYTES))  # a full disk makes empty files
    except OSError as error:
        raise InputError(
            f"the workspaces in {folders.workspaces} cannot be written: {error.strerror}; name "
            "another folder with --workspaces"
        ) from error
    if folders.remote is not None:
        try:
            Remote(folders.remote).check_writable()
        except UrlAway as error:
            raise InputError(
                f"--workspaces: {error}; name a folder or a URL that can be written"
            ) from error


def _check_here(plan: Plan, options: RunOptions) -> None:
    """Say before anything starts what this machine lacks, if trials run on it alone."""
    if options.executor == "local":
        check_machine(plan)
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    if options.executor == "local" or address == "local":
        check_data(plan)


def _executor(plan: Plan, options: RunOptions) -> Executor:
    if options.executor == "local":
        return LocalExecutor(retries=plan.sweep.budget.retries)
    from bitsweep.execution.ray_tune import RayTuneExecutor

    return RayTuneExecutor(
        resources=plan.sweep.resources,
        retries=plan.sweep.budget.retries,
        trainer=plan.sweep.task.trainer,
        sweep=plan.sweep.name,
        address=options.address,
        waits_for_nodes=options.waits_for_nodes,
    )


def _clear(folders: Folders, trial_id: str, outcome: Outcome) -> None:
    """A trial that ended for good needs its workspace no more; one that may go on keeps it."""
    if isinstance(outcome, Finished | Pruned | Diverged):
        with suppress(UrlAway):  # it stays there, and harms nobody
            folders.clear_workspace(trial_id)


def _report(plan: Plan, conductor: Conductor, *, is_interrupted: bool) -> RunReport:
    entries = list(conductor.entries)
    ran = [one for one in entries if one.outcome is not None and not one.is_reused]
    failed = [one for one in entries if isinstance(one.outcome, Failed | Diverged)]
    pruned = [one.outcome for one in entries if isinstance(one.outcome, Pruned)]
    dropped = [one for one in pruned if one.is_dropped]
    return RunReport(
        sweep=plan.sweep.name,
        trials_total=conductor.planned() if is_interrupted else len(entries),
        trials_run=len(ran),
        trials_reused=sum(one.is_reused for one in entries),
        trials_failed=len(failed),
        trials_pruned=len(pruned) - len(dropped),
        trials_dropped=len(dropped),
        measurements_written=conductor.measurements,
        seconds=0.0,
        is_interrupted=is_interrupted,
        failures=tuple(conductor.describe(one) for one in failed),
        mirror_lag=None,
        notes=conductor.notes,
        is_stopped=conductor.is_stopped,
    )
