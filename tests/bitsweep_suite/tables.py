"""Tables made by hand: known cells, so that what is printed can be read off."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from bitsweep.analysis.cell import Cell
from bitsweep.analysis.table import Table


def cell(arm: str, allocation: str, correct: Sequence[int], *, method: str = "lsq") -> Cell:
    """An arm at these bits with so many correct of a thousand per seed."""
    percents = [one / 10 for one in correct]
    return Cell(
        arm=arm,
        method=method,
        allocation=allocation,
        split="test",
        mean=fmean(percents),
        sd=stdev(percents) if len(percents) > 1 else None,
        n=len(percents),
        bitops=1.234e9,
        size_bits=1_234_567,
        mean_weight_bits=3.0,
        value_by_seed=dict(enumerate(percents)),
        correct_by_seed=dict(enumerate(correct)),
        total=1000,
        trial_ids=frozenset(f"{arm} {allocation} {one}" for one in range(len(correct))),
    )


def table(*cells: Cell, **changes: Any) -> Table:  # the fields of Table
    """The cells as a confirmed table."""
    fields: dict[str, Any] = {
        "sweep": "by_hand",
        "question": "Which one?",
        "convention": "whole_ends8",
        "split": "test",
        "stage": "confirm",
        "arms": tuple(dict.fromkeys(one.arm for one in cells)),
        "allocations": tuple(sorted({one.allocation for one in cells})),
        "cells": {(one.arm, one.allocation): one for one in cells},
        "comparisons": (),
        "footnotes": (),
    }
    return Table(**(fields | changes))


THREE = table(
    cell("a", "w2a2", (800, 820)),
    cell("b", "w2a2", (850, 870)),
    cell("c", "w2a2", (90, 110)),
    cell("a", "w3a3", (900, 910)),
)
