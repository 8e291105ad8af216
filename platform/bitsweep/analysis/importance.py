"""Which hyper-parameters moved the result: functional ANOVA of a random forest over the search.

Source: Hutter, Hoos and Leyton-Brown, ICML 2014. Each parameter alone; what is left over belongs
to interactions.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitsweep.analysis.chart import Bars, Chart, method_look
from bitsweep.bits import POLICY
from bitsweep.errors import InputError
from bitsweep.space import Value
from bitsweep.store.history import Searched, searched
from bitsweep.store.reader import Reader
from bitsweep.store.records import SweepRow

FEWEST = 4
_TREES = 64
_ABSENT = "absent"


def importances(
    configurations: Sequence[Mapping[str, Value]], scores: Sequence[float], *, seed: int = 0
) -> dict[str, float]:
    """The share of a forest's variance that each parameter explains alone, largest first.

    A parameter that a configuration lacks has the value "absent". Nothing varies: all 0.
    """
    from sklearn.ensemble import RandomForestRegressor

    names = sorted({name for one in configurations for name in one})
    table = np.column_stack([_coded(configurations, name) for name in names])
    forest = RandomForestRegressor(n_estimators=_TREES, random_state=seed, min_samples_leaf=1)
    forest.fit(table, np.asarray(scores, dtype=float))
    parts = [
        found
        for tree in forest.estimators_
        if (found := _tree_shares(tree.tree_, table)) is not None
    ]
    means = np.mean(parts, axis=0) if parts else np.zeros(len(names))
    ranked = sorted(zip(names, means, strict=True), key=lambda pair: -pair[1])
    return {name: float(share) for name, share in ranked}


def _coded(configurations: Sequence[Mapping[str, Value]], name: str) -> NDArray[np.float64]:
    """A column of numbers: numbers as they are, choices and absence by their order."""
    column = [one.get(name, _ABSENT) for one in configurations]
    if all(isinstance(value, int | float) for value in column):
        return np.asarray(column, dtype=float)
    order = {text: float(place) for place, text in enumerate(sorted({str(v) for v in column}))}
    return np.asarray([order[str(value)] for value in column])


def _tree_shares(tree: Any, table: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Shares of one tree's variance over the box of the data; None for a tree that is a leaf.

    Marginals are averages over the *other* parameters, taken as uniform over their seen values.
    """
    boxes, values = _leaves(tree, table.shape[1])
    grids = [np.unique(table[:, column]) for column in range(table.shape[1])]
    # Part of each parameter's seen values that fall into each leaf: leaves x parameters.
    inside = [
        (grid[None, :] > boxes[:, column, 0, None]) & (grid[None, :] <= boxes[:, column, 1, None])
        for column, grid in enumerate(grids)
    ]
    parts = np.stack([one.mean(axis=1) for one in inside], axis=1)
    weights = parts.prod(axis=1)
    mean = float(weights @ values)
    variance = float(weights @ (values - mean) ** 2)
    if variance <= 1e-12:
        return None
    shares = []
    for column, one in enumerate(inside):
        others = np.delete(parts, column, axis=1).prod(axis=1)
        marginal = (others * values) @ one
        shares.append(float(np.mean((marginal - mean) ** 2)) / variance)
    return np.asarray(shares)


def _leaves(tree: Any, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each leaf's box (low exclusive, high inclusive, per parameter) and value."""
    boxes, values = [], []
    whole = np.tile(np.array([-np.inf, np.inf]), (columns, 1))
    open_nodes = [(0, whole)]
    while open_nodes:
        node, box = open_nodes.pop()
        if tree.children_left[node] < 0:
            boxes.append(box)
            values.append(float(tree.value[node].item()))
            continue
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        left, right = box.copy(), box.copy()
        left[feature, 1] = min(left[feature, 1], threshold)
        right[feature, 0] = max(right[feature, 0], threshold)
        open_nodes += [(tree.children_left[node], left), (tree.children_right[node], right)]
    return np.stack(boxes), np.asarray(values)


def importance_chart(reader: Reader, sweep_name: str) -> Chart:
    """A panel of bars per searched arm; InputError where no arm has enough configurations."""
    sweep = reader.sweep(sweep_name)
    methods = {arm.name: arm.method for arm in reader.arms(sweep.id)}
    panels = []
    for arm, (configurations, scores) in objectives(reader, sweep).items():
        if len(scores) < FEWEST or not any(configurations):
            continue
        found = importances(configurations, scores)
        panels.append(
            Bars(
                title=f"{arm} ({len(scores)} configurations)",
                names=tuple(found),
                values=tuple(found.values()),
                label="share of variance explained alone",
                colour=method_look(methods[arm])[0],
            )
        )
    if not panels:
        raise InputError(
            f"no arm of {sweep_name} has {FEWEST} finished configurations: too few to tell "
            "which parameter matters"
        )
    note = "Functional ANOVA of a random forest over the search; the rest is interaction."
    return Chart(title=sweep.name, panels=tuple(panels), note=note)


def objectives(
    reader: Reader, sweep: SweepRow
) -> dict[str, tuple[list[Mapping[str, Value]], list[float]]]:
    """By searched arm its configurations and what the search made of each, on validation."""
    rows = searched(reader, sweep.id, metric=sweep.metric)
    return {
        arm: _objective([row for row in rows if row.arm == arm])
        for arm in dict.fromkeys(row.arm for row in rows)
    }


def _objective(rows: Sequence[Searched]) -> tuple[list[Mapping[str, Value]], list[float]]:
    """Each configuration with its validation metric above the mean of its bits.

    Bits differ more than configurations do, and not all configurations are tried at all bits. What
    a policy reached is no objective of a search, and no part of it.
    """
    rows = [row for row in rows if not row.allocation.startswith(POLICY)]
    at: dict[str, list[float]] = {}
    for row in rows:
        at.setdefault(row.allocation, []).append(row.value)
    usual = {allocation: fmean(values) for allocation, values in at.items()}
    by_configuration: dict[int | None, list[Searched]] = {}
    for row in rows:
        by_configuration.setdefault(row.configuration_id, []).append(row)
    grouped = list(by_configuration.values())
    return (
        [some[0].parameters for some in grouped],
        [fmean(row.value - usual[row.allocation] for row in some) for some in grouped],
    )
