"""Measurements and evaluations: what cannot be true cannot be made, and documents read back."""

import json
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bitsweep_suite.toys import evaluation, layer_bits, measurement

from bitsweep.bits import Allocation, Bits, tied
from bitsweep.cost import LayerBits, SampleCosts
from bitsweep.measurement import (
    Evaluation,
    Measurement,
    evaluation_document,
    parse_evaluation,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
layer_bits_strategy = st.lists(
    st.builds(
        LayerBits,
        weight=st.floats(0.1, 32),
        activation=st.floats(0.1, 32),
        stored=st.none() | st.floats(0.1, 64),
        scalars=st.integers(0, 1000),
        norm_copies=st.integers(1, 4),
        share=st.floats(0.01, 1.0),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
measurements = st.builds(
    Measurement,
    split=st.sampled_from(["validation", "test"]),
    allocation=st.builds(Bits, weight=st.integers(1, 32), activation=st.integers(1, 32)).map(
        Allocation.uniform
    ),
    total=st.just(1000),
    correct=st.none() | st.integers(0, 1000),
    sums=st.dictionaries(st.sampled_from(["loss", "squares"]), finite),
    layer_bits=layer_bits_strategy,
    allocator=st.sampled_from(["fixed", "learned", "greedy"]),
    lambda_=st.none() | st.floats(0, 1),
    protocol=st.sampled_from(["running", "re-estimated"]),
    sample_costs=st.none() | st.just(SampleCosts(points=((0.1 + 0.2, 400), (7.0, 600)))),
)


@given(st.lists(measurements, max_size=3, unique_by=lambda one: one.key), st.integers(0, 99))
def test_an_evaluation_survives_the_wire(many: list[Measurement], epoch: int) -> None:
    one = Evaluation(epoch=epoch, seconds=0.25, examples=8, measurements=tuple(many))
    sent = json.dumps(evaluation_document(one), allow_nan=False)

    assert parse_evaluation(json.loads(sent)) == one


def test_answers_survive_the_wire_as_the_bits_they_are() -> None:
    one = evaluation(1, measurement(2, answers=b"\x81" + bytes(124)))
    sent = json.dumps(evaluation_document(one))

    assert parse_evaluation(json.loads(sent)) == one


def test_top1_percent_is_derived_from_counts() -> None:
    assert measurement(250).metric("top1_percent") == 25.0


def test_other_metrics_are_means_over_samples() -> None:
    assert measurement(250).metric("loss") == 0.75


def test_a_metric_that_was_not_measured_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="top1_percent"):
        replace(measurement(), correct=None).metric("top1_percent")


@pytest.mark.parametrize(
    "changes",
    [
        {"total": 0},
        {"sample_costs": SampleCosts(points=((1.0, 3),))},
        {"answers": b"\x80" + bytes(123)},
        {"answers": b"\xc0" + bytes(124)},
        {"correct": None, "answers": bytes(125)},
        {"total": 3, "answers": b"\x01"},
        {"correct": -1},
        {"correct": 1001},
        {"sums": {"loss": nan}},
        {"sums": {"loss": inf}},
        {"layer_bits": ()},
        {"split": "train"},
        {"allocator": "magic"},
    ],
)
def test_a_measurement_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "split": "test",
        "allocation": Allocation.uniform(tied(2)),
        "total": 1000,
        "correct": 1,
        "sums": {},
        "layer_bits": layer_bits(tied(2)),
    }

    with pytest.raises(ValueError):
        Measurement(**{**fields, **changes})


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="protocol"):
        measurement(protocol="frozen")


def test_one_evaluation_measures_each_thing_once() -> None:
    with pytest.raises(ValueError, match="key twice"):
        evaluation(1, measurement(1), measurement(2))


@pytest.mark.parametrize("changes", [{"epoch": -1}, {"seconds": -0.1}, {"examples": -1}])
def test_negative_counts_of_an_evaluation_are_refused(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"epoch": 1, "seconds": 0.0, "examples": 0}

    with pytest.raises(ValueError):
        Evaluation(**{**fields, **changes})


@pytest.mark.parametrize("seconds", [nan, inf])
def test_training_seconds_are_finite(seconds: float) -> None:
    with pytest.raises(ValueError):
        Evaluation(epoch=1, seconds=seconds, examples=1)
