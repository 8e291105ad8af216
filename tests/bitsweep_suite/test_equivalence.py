"""Equivalence and McNemar: goldens of metrics.md section 9, and agreement with t tests."""

import pytest
from scipy import stats

from bitsweep.analysis.equivalence import mcnemar, tost

DIFFERENCES = [0.3, 0.2, 0.1, 0.5, 0.3]


def test_mcnemar_is_that_of_the_worked_example() -> None:
    found = mcnemar(60, 40)

    assert found.p_exact == pytest.approx(0.056888, abs=5e-7)
    assert found.chi_squared == pytest.approx(3.61)


def test_mcnemar_agrees_with_the_binomial_test() -> None:
    assert mcnemar(3, 9).p_exact == pytest.approx(stats.binomtest(3, 12).pvalue)


def test_two_checkpoints_that_never_disagree_have_no_test() -> None:
    with pytest.raises(ValueError, match="at least one discordant"):
        mcnemar(0, 0)


def test_tost_is_the_larger_of_two_one_sided_t_tests() -> None:
    found = tost(DIFFERENCES, margin=0.4)
    below = stats.ttest_1samp(DIFFERENCES, 0.4, alternative="less").pvalue
    above = stats.ttest_1samp(DIFFERENCES, -0.4, alternative="greater").pvalue

    assert found is not None
    assert found.p == pytest.approx(max(below, above))


def test_a_wider_margin_is_easier_to_stay_within() -> None:
    narrow, wide = tost(DIFFERENCES, margin=0.3), tost(DIFFERENCES, margin=0.6)

    assert narrow is not None and wide is not None
    assert wide.p < 0.05 < narrow.p


@pytest.mark.parametrize("points", [[], [0.1], [0.1, 0.1]])
def test_too_few_pairs_or_no_spread_prove_nothing(points: list[float]) -> None:
    assert tost(points) is None


def test_a_margin_is_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        tost(DIFFERENCES, margin=0.0)
