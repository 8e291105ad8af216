"""Whatever is done to a sweep file, it is a sweep or an input error of one line."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bitsweep_suite.sweep_texts import DECLARATIONS, WHOLE, read

from bitsweep.errors import InputError
from bitsweep.plan import Plan
from bitsweep.sweep import Sweep

LINES = WHOLE.splitlines()
WORDS = sorted({word for line in LINES for word in line.replace('"', " ").split()})
VALUES = (
    '""', '"w3a3"', '"w0a4"', '"each"', '"fp32"', '"mbquant"', '"lenet5"', '"mnist"', '"cifar10"',
    "0", "1", "2", "-1", "8", "32", "33", "1.5", "1e999", "nan", "-inf", "true", "[]", "{}",
    "9223372036854775807", "-9223372036854775808", "1979-05-27", "07:32:00", "[2, 3]", "[[1]]",
    "[1, 1]", '["off", 1, true]', "{ choice = [1, 2] }", '{ method = "ptq" }',
    "{ uniform = [0, 1] }", '{ a = { b = "c" } }', "{ log_integer = [1, 4], when = { a = 1 } }",
)  # fmt: skip


def outcome(text: str) -> Sweep | str:
    """The sweep of a text, or the complaint about it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read(text, Path(folder))
        except InputError as error:
            return str(error)


def is_told_well(found: Sweep | str) -> bool:
    """A sweep whose trials can be planned, or one line that names the file."""
    if isinstance(found, str):
        return "sweep.toml" in found and "\n" not in found
    plan = Plan(sweep=found, declarations=DECLARATIONS)
    for arm in found.arms:
        bits = plan.measured_bits(arm, arm.parameters)
        assert plan.trials(arm, {}, seed=0, bits=bits, stage="confirm")
    return True


@st.composite
def edited(draw: st.DrawFn) -> str:
    """The whole file with a few lines dropped, doubled, moved or given other values."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[at].partition("=")
        change = draw(st.sampled_from(["value", "value", "drop", "double", "move", "key"]))
        if change == "value" and equals:
            lines[at] = f"{key}= {draw(st.sampled_from(VALUES))}"
        elif change == "drop":
            del lines[at]
        elif change == "double":
            lines.insert(at, lines[at])
        elif change == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
        elif equals:
            lines[at] = f"{draw(st.sampled_from(WORDS))} ={lines[at].partition('=')[2]}"
    return "\n".join(lines)


@settings(max_examples=300)
@given(edited())
def test_an_edited_file_is_a_sweep_or_an_input_error(text: str) -> None:
    assert is_told_well(outcome(text))


@settings(max_examples=150)
@given(st.integers(0, len(WHOLE)), st.integers(0, 20), st.text(max_size=6))
def test_a_spoilt_file_is_a_sweep_or_an_input_error(at: int, dropped: int, put: str) -> None:
    text = WHOLE[:at] + put + WHOLE[at + dropped :]

    assert is_told_well(outcome(text.encode("utf-8", "ignore").decode("utf-8")))


@given(st.text(max_size=60))
def test_any_text_is_an_input_error(text: str) -> None:
    found = outcome(text.encode("utf-8", "ignore").decode("utf-8"))

    assert isinstance(found, str) and is_told_well(found)


@settings(max_examples=100)
@given(st.sampled_from(WORDS), st.sampled_from(VALUES) | st.text(max_size=8))
def test_any_override_is_a_sweep_or_an_input_error(key: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            read(WHOLE, Path(folder), f"task.{key}={value}")
        except InputError as error:
            assert "\n" not in str(error)
