"""What the search may not be told: seeds, samplers, first points, what it would set itself."""

from bitsweep.checks.problem import Problem
from bitsweep.declaration import Declarations
from bitsweep.plan import Plan
from bitsweep.space import check_point
from bitsweep.sweep import COST_METRICS, Median, Sampler, Sweep

LEARNS_FROM_OTHERS: tuple[Sampler, ...] = ("tpe", "gp", "cmaes")


def check_seeds(sweep: Sweep, declarations: Declarations) -> None:
    """Confirm repeats on seeds that chose nothing."""
    if sweep.confirm is None:
        return
    if overlap := sorted(set(sweep.confirm.seeds) & set(sweep.search.seeds)):
        shown = ", ".join(str(seed) for seed in overlap)
        message = f"seeds {shown} are also in search.seeds: a lucky search seed would enter the"
        raise Problem(("confirm", "seeds"), f"{message} reported mean; choose others")


def check_search(sweep: Sweep, declarations: Declarations) -> None:
    """The sampler can do what its tables ask, and the scheduler has time to stop something."""
    search, path = sweep.search, ("search",)
    if search.tpe.grouped and not search.tpe.multivariate:
        raise Problem((*path, "sampler", "tpe", "grouped"), "needs multivariate = true")
    scheduler = search.scheduler
    if scheduler is not None and scheduler.grace_epochs >= sweep.task.epochs:
        message = f"expected fewer than task.epochs = {sweep.task.epochs}, else nothing is stopped"
        kind = "median" if isinstance(scheduler, Median) else "asha"
        raise Problem((*path, "scheduler", kind, "grace_epochs"), message)
    if search.warm_start and search.sampler not in LEARNS_FROM_OTHERS:
        message = f"{search.sampler} cannot learn from other sweeps' results"
        known = ", ".join(LEARNS_FROM_OTHERS)
        raise Problem((*path, "warm_start"), f"{message}; expected sampler {known}")
    if sweep.name in search.warm_start:
        message = "a sweep goes on from its own results by itself: name others"
        raise Problem((*path, "warm_start"), message)


def check_first(sweep: Sweep, declarations: Declarations) -> None:
    """First points lie in the arm's space, and there is room for them."""
    for index, arm in enumerate(sweep.arms):
        path = ("arms", index, "first")
        if len(arm.first) > sweep.search.configurations_per_arm:
            message = f"{len(arm.first)} points, but search.configurations_per_arm is "
            raise Problem(path, f"{message}{sweep.search.configurations_per_arm}")
        for number, point in enumerate(arm.first):
            if not arm.space:
                raise Problem(path, "the arm has no space: put the values into parameters")
            try:
                check_point(arm.space, arm.parameters, point)
            except ValueError as error:
                raise Problem((*path, number), str(error)) from error


def check_prices(sweep: Sweep, declarations: Declarations) -> None:
    """Learned bits cost what comes out: no constraint can refuse them before the training.

    An objective of accuracy alone would set a price of bits to what costs most bits; with a cost
    among the objectives both are weighed, at the allocations that were learned.
    """
    plan = Plan(sweep=sweep, declarations=declarations)
    are_weighed = any(one.metric in COST_METRICS for one in sweep.objectives)
    for index, arm in enumerate(sweep.arms):
        method = declarations.method(arm.method)
        if arm.space and sweep.constraints and plan.has_learned_bits(arm):
            message = (
                "a constraint refuses proposals untrained, and what learned bits cost is known "
            )
            message += (
                "only after the training: make the cost an objective instead, or give the arm "
            )
            message += "no space"
            raise Problem(("arms", index, "space"), message)
        for name in arm.space:
            if name in method.bit_prices and not are_weighed:
                message = "cannot be searched: it sets what bits cost, and accuracy alone would "
                message += "choose the most; add a cost to the objectives, or give each value an "
                message += "arm of its own"
                raise Problem(("arms", index, "space", name), f"{message} (method {method.name})")
