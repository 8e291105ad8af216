"""What a sweep may not say: its meaning against what methods, models and data declare."""

from bitsweep.checks.aims import check_comparisons, check_objectives
from bitsweep.checks.arms import (
    check_arm_names,
    check_bits,
    check_methods,
    check_parameters,
)
from bitsweep.checks.batch import check_batch
from bitsweep.checks.combinations import check_combinations, check_first_points
from bitsweep.checks.problem import Problem
from bitsweep.checks.search import check_first, check_prices, check_search, check_seeds
from bitsweep.checks.sources import check_sources
from bitsweep.checks.start import check_classes, check_start
from bitsweep.checks.task import (
    check_backend,
    check_recipe,
    check_resources,
    check_seeds_together,
    check_task,
    check_task_names,
)
from bitsweep.declaration import Declarations
from bitsweep.sweep import Sweep

__all__ = ["Problem", "check_sweep"]

_CHECKS = (
    check_task_names,
    check_start,
    check_arm_names,
    check_task,
    check_methods,
    check_parameters,
    check_recipe,
    check_backend,
    check_bits,
    check_combinations,
    check_classes,
    check_sources,
    check_prices,
    check_seeds,
    check_search,
    check_first,
    check_first_points,
    check_objectives,
    check_comparisons,
    check_resources,
    check_seeds_together,
    check_batch,
)


def check_sweep(sweep: Sweep, declarations: Declarations) -> None:
    """Raise Problem for the first thing that cannot be run or would not be honest."""
    for check in _CHECKS:
        check(sweep, declarations)
