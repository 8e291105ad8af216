"""The toy trainer as an installed plug-in that keeps a ledger and misbehaves when it is told.

`site.py` copies this file into a package of its own beside `setting.json`; both travel to the
cluster as any plug-in does. The ledger is independent of what is tested: each line is one write,
synced, by the process that measured.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bitsweep.measurement import Evaluation
from bitsweep.testing import toy_declarations, toy_train
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial

DECLARED = toy_declarations()
METHODS, MODELS, DATA_SETS = DECLARED.methods, DECLARED.models, DECLARED.data
_FILE = Path(__file__).with_name("setting.json")
# What the leader says in a collective.
END, GO_ON, DIE = 0, 1, 2
SETTING: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.exists() else {}


def note(event: str, trial: str, **facts: Any) -> None:  # JSON values
    """One line of the ledger."""
    line = json.dumps({"event": event, "trial": trial, "process": os.getpid(), **facts})
    handle = os.open(SETTING["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, f"{line}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def is_told(act: str, *, once: bool = True) -> bool:
    """Whether the file of an act is there by now; `once`: for the first who asks alone."""
    told = Path(SETTING["orders"]) / act
    if not told.exists():
        return False
    if not once:
        return True
    try:
        told.with_suffix(".done").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die_if_told(place: str) -> None:
    """kill -9 of this process, at exactly this place."""
    if is_told(f"kill-{place}"):
        os.kill(os.getpid(), signal.SIGKILL)


def train(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """The toy, at a human pace; a trial over several workers meets once an epoch."""
    if workspace.team is not None:
        yield from _together(trial, workspace)
        return
    yield from _alone(trial, workspace)


def _alone(
    trial: Trial, workspace: Workspace, meet: Callable[[int], None] = lambda epoch: None
) -> Iterator[Evaluation]:
    stage = "confirm" if "test" in trial.splits else "search"
    note("begun", trial.id, stage=stage if trial.method == "toy" else "start", node=_node())
    _wait_for_company()
    for evaluation in toy_train(trial, workspace):
        _misbehave(trial)
        time.sleep(SETTING["seconds_per_epoch"])
        meet(evaluation.epoch)
        facts = [[one.split, one.allocation.label, one.correct] for one in evaluation.measurements]
        note("measured", trial.id, epoch=evaluation.epoch, facts=facts)
        die_if_told("measured")
        yield evaluation
        note("acknowledged", trial.id, epoch=evaluation.epoch, facts=facts)
    note("over", trial.id)


def _node() -> str:
    """The address of the node that this worker runs on; empty where there is no cluster."""
    if "ray" not in sys.modules:
        return ""
    import ray

    return str(ray.util.get_node_ip_address()) if ray.is_initialized() else ""


def _wait_for_company() -> None:
    """Until so many trials run at once: Tune gives all to one worker while others still start."""
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        begun = Path(SETTING["ledger"]).read_text(encoding="utf-8").count('"begun"')
        if begun >= SETTING["at_once"]:
            return
        time.sleep(0.05)


def _misbehave(trial: Trial) -> None:
    """What a sick trial does; only one of them is."""
    if trial.method != "toy":
        return
    if is_told("hang"):
        note("hangs", trial.id)
        while True:
            time.sleep(1.0)
    if is_told("deadlock"):
        note("hangs", trial.id)
        mutex = ctypes.create_string_buffer(64)  # all zeros: an unlocked one
        lock = ctypes.CDLL(None).pthread_mutex_lock
        lock(mutex)
        lock(mutex)  # no signal leads out of here, as in a driver's or a collective's code
    if is_told("leak"):
        note("leaks", trial.id)
        kept = []
        while True:
            kept.append(os.urandom(4_000_000))
            time.sleep(0.005)
    if is_told("sick-node", once=False) and _node() == SETTING["bad_node"]:
        note("refused", trial.id)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _together(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """A collective an epoch; the leader tells in it whether another one follows."""
    import torch
    from torch import distributed

    team = workspace.team
    assert team is not None  # the caller has looked
    distributed.init_process_group(
        "gloo", init_method=f"tcp://{team.meeting}", rank=team.rank, world_size=team.size
    )

    def meet(word: int) -> int:
        shared = torch.tensor([word])
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return int(shared.item())

    def die(victim: int) -> None:
        """The victim waits inside a collective, alone, when it is killed."""
        if team.rank == victim:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            time.sleep(1.0)
        meet(GO_ON)

    def lead(_epoch: int) -> None:
        if is_told("kill-rank"):
            meet(DIE)
            die(SETTING["victim"])
        meet(GO_ON)

    try:
        if team.rank == 0:
            yield from _alone(trial, workspace, lead)
            meet(END)
        while team.rank > 0 and (word := meet(END)) > END:
            if word == DIE:
                die(SETTING["victim"])
            else:
                yield Evaluation(epoch=1, seconds=0.0, examples=0)
    finally:
        distributed.destroy_process_group()


def _after(owner: Any, name: str, place: str) -> None:  # a module or a class
    """Ask for an order to die right after a call of the platform's."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        die_if_told(place)
        return result

    setattr(owner, name, wrapped)


if SETTING:
    from bitsweep.execution import worker
    from bitsweep.store.writer import Writer

    _after(worker, "_append", "outbox")
    _after(Writer, "record", "recorded")
    _after(Writer, "end", "ended")
