"""Every fault, in the order in which it is told, and how one of them is made to strike."""

import tempfile
from pathlib import Path
from random import Random
from time import perf_counter

from tests.faults import machines, nodes, processes, servers
from tests.faults.scene import Fault, Grounds, Result, Scene

FAULTS: tuple[Fault, ...] = (
    *processes.FAULTS,
    *machines.FAULTS,
    *servers.FAULTS,
    *nodes.FAULTS,
)
BY_NAME = {one.name: one for one in FAULTS}


def strike(fault: Fault, *, seed: int, grounds: Grounds) -> tuple[Result, float]:
    """Let a fault happen once; the result and the seconds it took. The seed decides the moment."""
    begin = perf_counter()
    with tempfile.TemporaryDirectory(prefix="bs-fault-", ignore_cleanup_errors=True) as folder:
        random = Random(f"{fault.name} {seed}")
        scene = Scene(Path(folder).resolve(), random=random, grounds=grounds)
        with scene.closing:
            result = fault.strikes(scene)
    return result, perf_counter() - begin
