"""Whether a task's batch can be trained on: enough samples in the data, enough in a batch."""

from collections.abc import Iterator
from math import floor

from bitsweep.bits import Bits
from bitsweep.checks.problem import Problem
from bitsweep.cost import fewest_norm_values
from bitsweep.declaration import DataDeclaration, Declarations
from bitsweep.plan import Plan
from bitsweep.space import Parameters, resolve
from bitsweep.sweep import Arm, Sweep

# Of the samples that a method holds out some learn, some choose and some judge.
LEAST_HELD = 8
_HELD_BY_CLASS = 0.5  # samples more or fewer: the share of each class is rounded


def check_batch(sweep: Sweep, declarations: Declarations) -> None:
    """A batch is no larger than the training samples left to it, and those held out suffice."""
    trained = _trained(sweep, declarations)
    data = declarations.data_set(sweep.task.data)
    for method, share in trained.items() if "train" in data.sizes else ():
        _check_size(sweep, data, method, share=share)
    if trained:
        _check_norms(sweep, declarations)


def _trained(sweep: Sweep, declarations: Declarations) -> dict[str, float]:
    """The methods that train, each with the largest share of images that it may hold out."""
    plan, shares = Plan(sweep=sweep, declarations=declarations), dict[str, float]()
    if (start := sweep.task.start) is not None:
        method = declarations.method(start.method)
        shares[start.method] = method.held_share(resolve(method.parameters, start.parameters))
    for arm in sweep.arms:
        method = declarations.method(arm.method)
        if method.trains:
            given = [plan.resolved(method, one, bits) for one, bits in _corners(plan, arm)]
            largest = max(method.held_share(one) for one in given)
            shares[arm.method] = max(largest, shares.get(arm.method, 0.0))
    return shares


def _corners(plan: Plan, arm: Arm) -> Iterator[tuple[Parameters, tuple[Bits, ...]]]:
    """The fixed parameters, alone and with each end of a dimension, and the bits measured."""
    ends = [{name: one} for name, dimension in arm.space.items() for one in dimension.extremes]
    for end in ({}, *ends):
        given = {**arm.parameters, **end}
        yield given, plan.measured_bits(arm, given)


def _check_size(sweep: Sweep, data: DataDeclaration, method: str, *, share: float) -> None:
    images, batch = data.sizes["train"], sweep.task.batch_size
    left = f"the {images} training samples of {data.name}"
    if share:
        held = floor(share * images - _HELD_BY_CLASS * data.classes)
        images = floor((1 - share) * images - _HELD_BY_CLASS * data.classes)
        held_out = f"{method} holds out {share:g} of each class"
        if held < LEAST_HELD:
            message = f"{held_out}: of {left} that may be fewer than the {LEAST_HELD} it needs"
            raise Problem(("task", "data"), message)
        left = f"what is left of {left} ({held_out})"
    if batch > images:
        message = f"a batch of {batch} is larger than {left}"
        raise Problem(("task", "batch_size"), f"{message}; expected at most {images}")


def _check_norms(sweep: Sweep, declarations: Declarations) -> None:
    """Batch norms see at least two values a channel of what is computed at once."""
    task, resources = sweep.task, sweep.resources
    workers = 1 if resources.sync_batch_norm else resources.workers_per_trial
    at_once = task.recipe.micro_batch_size or task.batch_size // workers
    layers = Plan(sweep=sweep, declarations=declarations).layers()
    if at_once * fewest_norm_values(layers) >= 2:
        return
    key = "batch_size" if task.recipe.micro_batch_size is None else "micro_batch_size"
    each = "" if workers == 1 else f" for each of {workers} workers"
    message = f"the batch norms of {task.model} need at least 2 samples at once"
    raise Problem(("task", key), f"{message}, got {at_once}{each}")
