"""What this machine lacks for a sweep whose trials run here: said at once instead of by trials."""

import os
from contextlib import suppress

from bitsweep.declaration import Declarations
from bitsweep.errors import InputError, UnknownName
from bitsweep.execution.placement import bundles_of, check_fits
from bitsweep.plan import Plan
from bitsweep.trainer import load_data_tools


def check_data(plan: Plan) -> None:
    """Raise InputError where the task's data set is known and was not fetched.

    What lies at a path was read with the sweep file; a package without tools fetches its own.
    """
    name = plan.sweep.task.data
    if "/" in name:
        return
    with suppress(UnknownName):
        if not load_data_tools().is_present(name):
            raise InputError(f"data set {name!r} is not here: `bitsweep data fetch {name}`")


def check_machine(plan: Plan) -> None:
    """Raise InputError where a trial asks for more than this machine has."""
    resources = plan.sweep.resources
    node = this_machine(plan.declarations if resources.gpus_per_worker else None)
    if resources.gpus_per_worker and "GPU" not in node:
        node["GPU"] = resources.gpus_per_worker * resources.workers_per_trial
    check_fits(bundles_of(resources), [node])


def this_machine(declarations: Declarations | None = None) -> dict[str, float]:
    """Its cores and memory in bytes, in Ray's names; its GPUs where a trainer package tells."""
    node = {
        "CPU": float(os.cpu_count() or 1),
        "memory": float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }
    num_gpus = None if declarations is None else declarations.num_gpus()
    return node if num_gpus is None else node | {"GPU": float(num_gpus)}
