"""Parameters and spaces: defaults, ranges, conditions."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.space import Choice, Condition, Parameter, Range, is_active, resolve

RATE = Parameter(
    name="rate", kind="float", low=0.0, high=1.0, default=0.5, meaning="how much", source="here"
)
COUNT = Parameter(
    name="count", kind="int", low=1, high=8, default=2, meaning="how many", source="here"
)
FLAG = Parameter(name="flag", kind="bool", default=False, meaning="whether", source="here")
SHARING = Parameter(
    name="sharing",
    kind="choice",
    choices=("off", "bitwise", 8),
    default="off",
    meaning="what",
    source="here",
)
KEEP = Parameter(
    name="keep",
    kind="float",
    low=0.0,
    high=1.0,
    default=0.9,
    meaning="only where shared",
    source="here",
    when={"sharing": ("bitwise",)},
)
ALL = (RATE, COUNT, FLAG, SHARING, KEEP)


def test_defaults_are_filled_in() -> None:
    assert resolve(ALL, {}) == {"rate": 0.5, "count": 2, "flag": False, "sharing": "off"}


def test_an_inert_parameter_is_removed() -> None:
    assert "keep" not in resolve(ALL, {"sharing": "off", "keep": 0.5})


def test_a_parameter_with_an_effect_is_kept() -> None:
    assert resolve(ALL, {"sharing": "bitwise"})["keep"] == 0.9


def test_the_order_in_which_parameters_are_given_means_nothing() -> None:
    one = resolve(ALL, {"rate": 0.1, "count": 3})
    other = resolve(ALL, {"count": 3, "rate": 0.1})

    assert list(one.items()) == list(other.items())


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown parameter 'ratee' \(did you mean 'rate'\?\)"):
        resolve(ALL, {"ratee": 0.1})


def test_a_whole_number_serves_where_a_number_is_wanted() -> None:
    value = RATE.check(1)

    assert value == 1.0 and isinstance(value, float)


def test_a_whole_float_serves_where_a_whole_number_is_wanted() -> None:
    value = COUNT.check(3.0)

    assert value == 3 and isinstance(value, int)


@pytest.mark.parametrize("value", [1.5, -0.1, nan, inf, -inf, True, "0.5", None, 10**400])
def test_a_number_outside_its_range_or_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"rate must be a number in \[0, 1\]"):
        RATE.check(value)


@pytest.mark.parametrize("value", [0, 9, 2.5, True, "2", nan, -(10**400)])
def test_a_whole_number_outside_its_range_or_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"count must be a whole number in \[1, 8\]"):
        COUNT.check(value)


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_switch_takes_true_and_false_alone(value: object) -> None:
    with pytest.raises(ValueError, match="flag must be true or false"):
        FLAG.check(value)


def test_a_choice_that_is_nearly_right_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'bitwise'"):
        SHARING.check("bitwize")


def test_true_is_not_the_choice_1() -> None:
    one = Parameter(
        name="one", kind="choice", choices=(1, 2), default=1, meaning="what", source="here"
    )

    with pytest.raises(ValueError, match="one of 1, 2"):
        one.check(True)


def test_a_default_outside_its_range_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="rate"):
        Parameter(name="rate", kind="float", low=0, high=1, default=2.0, meaning="no", source="no")


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_value_inside_a_range_is_kept_as_it_is(rate: float, keep: float) -> None:
    resolved = resolve(ALL, {"rate": rate, "sharing": "bitwise", "keep": keep})

    assert (resolved["rate"], resolved["keep"]) == (rate, keep)


@given(st.dictionaries(st.sampled_from(["rate", "keep"]), st.floats(0, 1)))
def test_resolving_twice_changes_nothing(given_values: dict[str, float]) -> None:
    once = resolve(ALL, {**given_values, "sharing": "bitwise"})

    assert resolve(ALL, once) == once


def test_a_condition_holds_only_where_every_part_holds() -> None:
    condition: Condition = {"sharing": ("bitwise",), "flag": (True,)}

    assert is_active(condition, {"sharing": "bitwise", "flag": True})
    assert not is_active(condition, {"sharing": "bitwise", "flag": False})
    assert not is_active(condition, {"sharing": "bitwise"})


@pytest.mark.parametrize(
    "fields",
    [
        {"low": 1.0, "high": 1.0},
        {"low": 2.0, "high": 1.0},
        {"low": 0.0, "high": 1.0, "is_log": True},
        {"low": 0.5, "high": 2.0, "is_integer": True},
        {"low": nan, "high": 1.0},
        {"low": 0.0, "high": inf},
    ],
)
def test_a_range_without_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Range(**fields)


@pytest.mark.parametrize("values", [(), ("off", "off"), (1, True)])
def test_a_choice_needs_different_values(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="at least one value and none twice"):
        Choice(values=values)


def test_the_extremes_of_whole_numbers_are_whole() -> None:
    assert Range(low=1, high=4, is_integer=True).extremes == (1, 4)
