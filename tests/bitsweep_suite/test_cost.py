"""Laws of the cost arithmetic; the golden tables stand in the trainers' suite."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.cost import (
    Convention,
    Layer,
    LayerBits,
    MeanBits,
    SampleCosts,
    bitops,
    mean_bits,
    size_bits,
    spread,
    weight_size_bits,
)

conventions = st.sampled_from(list(Convention))
widths = st.integers(1, 8)
bodies = st.lists(
    st.builds(
        Layer,
        name=st.just("body"),
        kind=st.just("conv"),
        place=st.just("body"),
        macs=st.integers(1, 10**9),
        weights=st.integers(1, 10**7),
        biases=st.integers(0, 100),
        norm_channels=st.integers(0, 100),
    ),
    min_size=1,
    max_size=5,
)
FIRST = Layer(name="first", kind="conv", place="first", macs=100, weights=10)
LAST = Layer(name="last", kind="linear", place="last", macs=20, weights=20, biases=2)
AGENT = Layer(name="agent", kind="linear", place="agent", macs=5, weights=5)


def uniform(layers: Sequence[Layer], bits: int) -> list[LayerBits]:
    """Every layer at these bits."""
    return [LayerBits(weight=bits, activation=bits) for _ in layers]


@given(bodies, widths, conventions)
def test_more_bits_never_cost_less(body: list[Layer], bits: int, one: Convention) -> None:
    layers = [FIRST, *body, LAST]
    fewer, more = uniform(layers, bits), uniform(layers, bits + 1)

    assert bitops(layers, fewer, one) < bitops(layers, more, one)
    assert size_bits(layers, fewer, one) < size_bits(layers, more, one)


@given(bodies, widths, st.integers(1, 32), st.integers(1, 32))
def test_ends_count_at_eight_bits_or_at_what_they_run_at(
    body: list[Layer], bits: int, weight: int, activation: int
) -> None:
    layers, own = [FIRST, *body, LAST], LayerBits(weight=weight, activation=activation)
    least = LayerBits(weight=max(8, weight), activation=max(8, activation))
    counts = []
    for end in (own, least):
        found = [end, *uniform(body, bits), end]
        counts.append(bitops(layers, found, Convention.WHOLE_ENDS8))
    ends = FIRST.macs + LAST.macs

    assert counts[0] == counts[1]
    assert counts[0] - bitops(body, uniform(body, bits), Convention.BODY) == (
        ends * least.weight * least.activation
    )


@given(bodies, widths, conventions, st.randoms())
def test_the_order_of_layers_means_nothing(
    body: list[Layer], bits: int, one: Convention, shuffled: Random
) -> None:
    layers = [FIRST, *body, LAST]
    mixed = list(layers)
    shuffled.shuffle(mixed)

    assert bitops(mixed, uniform(mixed, bits), one) == bitops(layers, uniform(layers, bits), one)
    assert size_bits(mixed, uniform(mixed, bits), one) == size_bits(
        layers, uniform(layers, bits), one
    )


@given(bodies, widths)
def test_a_body_at_equal_bits_costs_macs_times_bits_squared(body: list[Layer], bits: int) -> None:
    expected = sum(layer.macs for layer in body) * bits * bits

    assert bitops(body, uniform(body, bits), Convention.BODY) == expected


@given(bodies, widths)
def test_ends_at_32_bits_cost_more_than_ends_at_8(body: list[Layer], bits: int) -> None:
    layers = [FIRST, *body, LAST]
    given_bits = uniform(layers, bits)
    ends = [FIRST.macs + LAST.macs]

    difference = bitops(layers, given_bits, Convention.WHOLE_ENDS32) - bitops(
        layers, given_bits, Convention.WHOLE_ENDS8
    )
    assert difference == ends[0] * (32 * 32 - 8 * 8)


@given(bodies)
def test_a_network_in_full_precision_costs_the_same_with_either_ends(body: list[Layer]) -> None:
    layers = [FIRST, *body, LAST]
    full = uniform(layers, 32)

    assert bitops(layers, full, Convention.WHOLE_ENDS8) == bitops(
        layers, full, Convention.WHOLE_ENDS32
    )


@given(bodies, widths)
def test_only_the_agents_convention_counts_the_agent(body: list[Layer], bits: int) -> None:
    alone, together = [FIRST, *body, LAST], [FIRST, *body, LAST, AGENT]
    difference = bitops(together, uniform(together, bits), Convention.WHOLE_AGENT) - bitops(
        alone, uniform(alone, bits), Convention.WHOLE_ENDS8
    )

    assert difference == AGENT.macs * bits * bits
    assert bitops(together, uniform(together, bits), Convention.WHOLE_ENDS8) == bitops(
        alone, uniform(alone, bits), Convention.WHOLE_ENDS8
    )


@given(bodies, widths, st.sampled_from(list(MeanBits)))
def test_every_mean_of_equal_bits_is_those_bits(
    body: list[Layer], bits: int, kind: MeanBits
) -> None:
    assert mean_bits(body, uniform(body, bits), kind) == pytest.approx(bits)


@given(bodies, st.data())
def test_a_mean_lies_between_the_smallest_and_the_largest_bits(
    body: list[Layer], data: st.DataObject
) -> None:
    chosen = [data.draw(widths) for _ in body]
    given_bits = [LayerBits(weight=one, activation=one) for one in chosen]

    for kind in MeanBits:
        assert min(chosen) - 1e-9 <= mean_bits(body, given_bits, kind) <= max(chosen) + 1e-9


@given(bodies, widths)
def test_shares_of_a_policy_weigh_its_bitops(body: list[Layer], bits: int) -> None:
    half = [replace(one, share=0.5) for one in uniform(body, bits)]

    assert bitops(body, half, Convention.BODY) == pytest.approx(
        bitops(body, uniform(body, bits), Convention.BODY) / 2
    )


def test_scalars_norms_and_biases_are_stored_in_32_bits_each() -> None:
    layer = Layer(
        name="body", kind="conv", place="body", macs=1, weights=1, biases=3, norm_channels=5
    )
    given_bits = [LayerBits(weight=2, activation=2, scalars=2, norm_copies=2)]
    extras = size_bits([layer], given_bits, Convention.BODY) - weight_size_bits(
        [layer], given_bits, Convention.BODY
    )

    assert extras == 32 * (2 + 2 * 5 * 2 + 3)


def test_bits_for_another_number_of_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="2 layers but bits for 1"):
        bitops([FIRST, LAST], uniform([FIRST], 2), Convention.BODY)


@pytest.mark.parametrize("fields", [{"weight": 0}, {"share": 0}, {"share": 1.5}])
def test_layer_bits_without_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        LayerBits(**{"weight": 2, "activation": 2, **fields})  # type: ignore[arg-type]  # floats


def test_costs_of_few_kinds_are_kept_as_they_are() -> None:
    costs = spread([3.0, 1.0, 3.0, 2.0])

    assert costs.points == ((1.0, 1), (2.0, 1), (3.0, 2))
    assert costs.summary() == {"mean": 2.25, "p5": 1.0, "p50": 2.0, "p95": 3.0, "max": 3.0}


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=300), st.integers(2, 20))
def test_costs_of_many_kinds_become_few_points_with_the_same_summary(
    values: list[float], most: int
) -> None:
    exact = spread(values, most_points=len(values)).summary()
    few = spread(values, most_points=most)
    ordered = sorted(values)

    assert few.total == len(values)
    assert len(few.points) <= 2 * most + 10
    assert few.summary() == pytest.approx(exact)
    assert few.quantile(0.95) == ordered[-(len(ordered) // 20) - 1]


@pytest.mark.parametrize("points", [(), ((2.0, 1), (1.0, 1)), ((1.0, 0),), ((float("inf"), 1),)])
def test_costs_that_cannot_be_are_refused(points: tuple[tuple[float, int], ...]) -> None:
    with pytest.raises(ValueError, match="costs"):
        SampleCosts(points=points)
