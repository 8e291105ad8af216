"""Functional ANOVA: what moves the score has the share, what does not has none."""

from collections.abc import Mapping

import numpy as np
import pytest

from bitsweep.analysis.importance import importances
from bitsweep.space import Value


def drawn(number: int) -> list[dict[str, float]]:
    """Configurations of three numbers, drawn evenly."""
    draws = np.random.default_rng(0).random((number, 3))
    return [dict(zip("xyz", map(float, row), strict=True)) for row in draws]


def test_shares_of_a_sum_are_those_of_its_variances() -> None:
    """Var(3x + y) splits 9 to 1; z does nothing."""
    configurations = drawn(300)
    found = importances(configurations, [3 * one["x"] + one["y"] for one in configurations])

    assert list(found) == ["x", "y", "z"]
    assert found["x"] == pytest.approx(0.9, abs=0.05)
    assert found["y"] == pytest.approx(0.1, abs=0.05)
    assert found["z"] == pytest.approx(0.0, abs=0.02)


def test_a_pure_interaction_is_explained_by_neither_alone() -> None:
    configurations = drawn(300)
    scores = [(one["x"] - 0.5) * (one["y"] - 0.5) for one in configurations]

    assert sum(importances(configurations, scores).values()) < 0.5


def test_choices_and_absent_parameters_are_values_like_others() -> None:
    configurations: list[Mapping[str, Value]] = [{"c": "a"}, {"c": "b", "k": 1.0}] * 20
    found = importances(configurations, [0.0, 1.0] * 20)

    assert set(found) == {"c", "k"} and sum(found.values()) == pytest.approx(1.0, abs=0.3)


def test_where_nothing_varies_nothing_matters() -> None:
    assert importances(drawn(8), [1.0] * 8) == {"x": 0.0, "y": 0.0, "z": 0.0}
