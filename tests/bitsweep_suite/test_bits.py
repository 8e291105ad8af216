"""Bit-widths and allocations: their labels are their names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.bits import Allocation, Bits, labels, one_name, parse_allocation, parse_bits, tied

bits = st.builds(Bits, weight=st.integers(1, 32), activation=st.integers(1, 32))
allocations = st.one_of(
    st.lists(bits, min_size=1, max_size=6).map(lambda many: Allocation(layers=tuple(many))),
    st.text(max_size=20).map(lambda name: Allocation(layers=(), policy=name)),
)


@given(bits)
def test_the_label_of_bits_reads_back_as_the_same_bits(one: Bits) -> None:
    assert parse_bits(one.label) == one


@given(allocations)
def test_the_label_of_an_allocation_reads_back_as_the_same_allocation(one: Allocation) -> None:
    assert parse_allocation(one.label) == one


@given(st.integers(1, 32))
def test_a_whole_number_means_the_same_bits_for_weights_and_activations(number: int) -> None:
    assert parse_bits(number) == tied(number)


@given(bits, bits)
def test_bits_are_ordered_by_weights_first(one: Bits, other: Bits) -> None:
    pair = (one.weight, one.activation), (other.weight, other.activation)

    assert (one < other) == (pair[0] < pair[1])


@given(st.text(max_size=12))
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        found = parse_bits(text)
    except ValueError:
        return

    assert parse_bits(found.label) == found


@pytest.mark.parametrize("value", [0, 33, -1, True, 2.0, "4"])
def test_bits_outside_1_to_32_or_of_another_type_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="bits"):
        Bits(weight=value, activation=4)  # type: ignore[arg-type]  # the point of the test


def test_equal_bits_in_all_layers_have_one_name() -> None:
    assert Allocation.of([tied(4), tied(4)]) == Allocation.uniform(tied(4))
    assert Allocation.of([tied(4), tied(4)]).spelled_out(2) == "w=[4,4] a=[4,4]"
    assert [one_name(one) for one in ("w=[4,4] a=[4,4]", "w4a4", "policy:a@1")] == [
        "w4a4",
        "w4a4",
        "policy:a@1",
    ]


@pytest.mark.parametrize("label", ["w4", "4", "W4A4", "w4a4 ", "w=[2] a=[2,3]", "w=[] a=[]", ""])
def test_a_label_that_names_no_allocation_is_refused(label: str) -> None:
    with pytest.raises(ValueError):
        parse_allocation(label)


def test_an_allocation_is_either_layers_or_a_policy() -> None:
    with pytest.raises(ValueError, match="either"):
        Allocation(layers=(tied(2),), policy="greedy")


def test_full_precision_is_32_bits_on_both_sides() -> None:
    assert tied(32).is_full_precision
    assert not Bits(weight=32, activation=8).is_full_precision


def test_a_list_of_bits_reads_as_labels_with_commas() -> None:
    assert labels([tied(2), Bits(weight=3, activation=8)]) == "w2a2, w3a8"
