"""The forms an allocation is taken in: laws, and the numbers of a network by hand."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.bits import Allocation, Bits, parse_allocation
from bitsweep.cost import Layer, LayerBits, MeanBits, mean_bits
from bitsweep.taking import by_layer, taken

pairs = st.builds(Bits, weight=st.integers(2, 8), activation=st.integers(2, 8))
bodies = st.lists(st.tuples(pairs, st.integers(1, 1000), st.integers(1, 1000)), min_size=2)


def body(sizes: list[tuple[int, int]]) -> tuple[Layer, ...]:
    """A first layer, then body layers of so many (weights, MACs), then a last one."""
    ends = [
        Layer(name=one, kind="conv", place=one, macs=1, weights=1) for one in ("first", "last")
    ]
    layers = [
        Layer(name=str(index), kind="conv", place="body", macs=macs, weights=weights)
        for index, (weights, macs) in enumerate(sizes)
    ]
    return (ends[0], *layers, ends[1])


@given(bodies, st.integers(0, 1000))
def test_a_shuffle_keeps_the_histogram_and_changes_the_order(
    made: list[tuple[Bits, int, int]], seed: int
) -> None:
    learned = Allocation(layers=tuple(bits for bits, _, _ in made))
    layers = body([(weights, macs) for _, weights, macs in made])
    shuffled = taken(learned, "shuffled", layers=layers, seed=seed)

    own = by_layer(shuffled, len(made))

    assert Counter(own) == Counter(learned.layers)
    assert (own == learned.layers) == (len(set(learned.layers)) == 1)
    assert shuffled == taken(learned, "shuffled", layers=layers, seed=seed)


@given(bodies)
def test_a_uniform_allocation_has_the_same_mean_bits_or_up_to_one_more(
    made: list[tuple[Bits, int, int]],
) -> None:
    learned = Allocation(layers=tuple(bits for bits, _, _ in made))
    layers = body([(weights, macs) for _, weights, macs in made])
    (uniform,) = taken(learned, "uniform", layers=layers, seed=0).layers
    own = [LayerBits(weight=bits.weight, activation=bits.activation) for bits, _, _ in made]
    mean = mean_bits(layers[1:-1], own, MeanBits.WEIGHT)

    assert -1e-9 <= uniform.weight - mean < 1


def test_other_seeds_shuffle_in_other_ways() -> None:
    learned = parse_allocation("w=[2,3,4,5,6] a=[4,4,4,4,4]")
    layers = body([(1, 1)] * 5)

    assert len({taken(learned, "shuffled", layers=layers, seed=seed) for seed in range(9)}) > 3


def test_a_kept_allocation_is_the_same_one() -> None:
    learned = parse_allocation("w=[2,4] a=[4,4]")

    assert taken(learned, "kept", layers=body([(30, 1), (10, 1)]), seed=0) == learned


def test_large_layers_weigh_more() -> None:
    learned = parse_allocation("w=[2,4] a=[4,4]")
    means = [
        taken(learned, "uniform", layers=body(sizes), seed=0).label
        for sizes in ([(30, 1), (10, 1)], [(10, 1), (30, 1)], [(1, 1), (1, 1)])
    ]

    assert means == ["w3a4", "w4a4", "w3a4"]


def test_an_allocation_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="not for a body of 2 layers"):
        by_layer(parse_allocation("w=[2,3,4] a=[4,4,4]"), 2)
