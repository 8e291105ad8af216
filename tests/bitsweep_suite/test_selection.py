"""A table narrowed to bits and set against an arm: nothing is claimed that was not declared."""

import pytest
from tests.bitsweep_suite.tables import THREE, cell, table

from bitsweep.analysis.paired import paired
from bitsweep.analysis.render import render
from bitsweep.analysis.selection import against, narrowed
from bitsweep.errors import UnknownName


def test_a_narrowed_table_has_these_bits_alone() -> None:
    kept = narrowed(THREE, ["w3a3"])

    assert kept.allocations == ("w3a3",)
    assert set(kept.cells) == {("a", "w3a3")}


def test_bits_that_were_not_measured_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'w3a3'\?"):
        narrowed(THREE, ["w3a33"])


def test_differences_are_paired_by_seed() -> None:
    (first, *_) = [one for one in against(THREE, "a").differences if one.arm == "b"]

    assert (first.at, first.against) == ("w2a2", "a")
    assert first.result == paired([50, 50], total=1000)


def test_only_common_seeds_are_compared() -> None:
    uneven = table(cell("a", "w2a2", (800, 820, 810)), cell("b", "w2a2", (850, 860)))
    (one,) = against(uneven, "a").differences

    assert one.result.n == 2


def test_a_full_precision_arm_is_the_other_side_at_every_bit_width() -> None:
    both = table(cell("fp", "w32a32", (950, 960)), cell("a", "w2a2", (900, 920)))

    assert [one.at for one in against(both, "fp").differences] == ["w2a2"]


def test_an_unknown_arm_is_named() -> None:
    with pytest.raises(UnknownName, match="no arm 'z'"):
        against(THREE, "z")


def test_a_difference_that_nobody_declared_is_called_exploratory() -> None:
    spread = table(cell("a", "w2a2", (800, 820)), cell("b", "w2a2", (850, 860)))
    text = render(against(spread, "a"), "text")

    assert "b - a at w2a2: +4.50 \u00b1 0.71 points (n = 2, 95 % CI [-1.85, +10.85]" in text
    assert "equivalence within 0.3 points p = " in text and "exploratory." in text
    assert "significant" not in text
