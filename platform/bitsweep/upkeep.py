"""Looking after a store and the files that belong to it: `bitsweep store check`."""

from dataclasses import dataclass

from sqlalchemy import text

from bitsweep.execution.base import Folders
from bitsweep.execution.journal import heading_of, journals_in
from bitsweep.run import folders_of
from bitsweep.store.database import open_to_look, store_name
from bitsweep.store.soundness import faults_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """What a check found. `faults` are wrong; `notes` are worth knowing."""

    faults: tuple[str, ...]
    notes: tuple[str, ...]


def check_store(store: str, work: str | None = None, *, reads_files: bool = False) -> Soundness:
    """Check a store and its kept checkpoints; StoreError where it cannot be opened.

    reads_files: read every checkpoint and compare its digest with its name.
    """
    engine = open_to_look(store)
    try:
        faults = faults_of(engine)
        is_readable = not any(one.startswith("schema:") for one in faults)
        kept = []
        if is_readable:
            query = (
                "SELECT DISTINCT checkpoint FROM outcomes WHERE checkpoint IS NOT NULL "
                "AND status = 'finished' ORDER BY 1"
            )
            with engine.connect() as connection:
                kept = [str(name) for (name,) in connection.execute(text(query))]
    finally:
        engine.dispose()
    folders = folders_of(store, work)
    notes = _waiting(folders, store)
    if kept and not folders.artifacts.is_dir() and folders.remote is None:
        notes.append(
            f"{len(kept)} checkpoints were not looked at: there is no {folders.artifacts} here "
            "(--workspaces)"
        )
    else:
        faults += _missing(folders, kept, reads_files=reads_files)
    return Soundness(faults=tuple(faults), notes=tuple(notes))


def _missing(folders: Folders, kept: list[str], *, reads_files: bool) -> list[str]:
    faults = []
    gone = [name for name in kept if not folders.bring_checkpoint(name)]
    if gone:
        where = folders.remote or folders.artifacts
        shown = "; ".join(one[:12] for one in gone[:3]) + (", ..." if len(gone) > 3 else "")
        faults.append(f"{len(gone)} of {len(kept)} checkpoints are not in {where}: {shown}")
    for name in kept if reads_files else []:
        if folders.is_damaged(name):
            path = folders.checkpoint(name)
            faults.append(f"{path}: its content has another digest than its name")
    return faults


def _waiting(folders: Folders, store: str) -> list[str]:
    notes = []
    for path in journals_in(folders.journals):
        heading = heading_of(path)
        if heading is not None and heading.store == store_name(store):
            notes.append(f"{path} waits to be written: `bitsweep store catch-up`, or a run")
    return notes
