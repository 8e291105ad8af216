"""Rules that choose bits per sample do not bury what is compared; figures of few points."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.toys import (
    FIXED,
    LAYERS,
    evaluation,
    measurement,
    toy_sweep,
    toy_trial,
)
from tests.dashboards_suite.layouts import text_of

from bitsweep.analysis.chart import Curves, Series, Style
from bitsweep.analysis.trial_view import trial_view
from bitsweep.bits import Allocation
from bitsweep.measurement import Measurement
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.trial import Finished
from bitsweep_dashboards.address import parse_place
from bitsweep_dashboards.drawing import figure
from bitsweep_dashboards.pages import page
from bitsweep_dashboards.reading import Library

RULES = [
    f"{rule}@{price}" for rule in ("learned", "random", "shuffled") for price in (0.1, 0.2, 0.8)
]


def of_rule(rule: str) -> Measurement:
    """Of a rule at its price, on test."""
    name, _, price = rule.partition("@")
    return replace(
        measurement(split="test"),
        allocation=Allocation(layers=(), policy=rule),
        allocator="learned" if name == "learned" else "random",
        lambda_=float(price),
    )


def stored(folder: Path, *measurements: Measurement) -> tuple[str, str]:
    """A store with these measurements of one trial; return its address and the trial."""
    store = str(folder / "store.db")
    writer = Writer(open_to_write(store))
    sweep_id, (arm_id,) = writer.register_sweep(toy_sweep(FIXED), [(FIXED, "digest")])
    trial = toy_trial()
    writer.add_trial(trial, layers=LAYERS, sweep_id=sweep_id, stage="confirm", arm_id=arm_id)
    writer.record(trial.id, evaluation(4, *measurements))
    writer.end(trial.id, Finished(epoch=4), sweep_id=sweep_id)
    return store, trial.id


@pytest.fixture
def store(tmp_path: Path) -> str:
    """With nine rules beside plain bits."""
    return stored(tmp_path, measurement(split="test"), *map(of_rule, RULES))[0]


def layout(store: str, address: str) -> Any:
    """What is shown at an address."""
    path, _, search = address.partition("?")
    place = parse_place(path, search)
    return page(Library(store).view(place), place)


def test_rules_per_sample_fold_behind_what_is_compared(store: str) -> None:
    text = text_of(layout(store, "/sweep/toy"))
    before, folded, after = text.partition("9 rules that choose bits per sample")

    assert folded and "w2a2" in before and "policy:" not in before
    assert all(f"policy:{rule}" in after for rule in RULES)


def test_a_rule_that_was_picked_is_shown_beside_the_others(store: str) -> None:
    text = text_of(layout(store, "/sweep/toy?bits=w2a2&bits=policy:learned@0.1"))

    assert "rules that choose bits per sample" not in text
    assert "policy:learned@0.1" in text and "policy:random@0.1" not in text


def test_pickers_of_rules_fold_on_the_page_of_layers(tmp_path: Path) -> None:
    found = [measurement(), *(replace(of_rule(one), split="validation") for one in RULES)]
    store, _ = stored(tmp_path, *found)
    before, folded, after = text_of(layout(store, "/layers/toy")).partition("9 rules that choose")
    picked = text_of(layout(store, "/layers/toy?bits=policy:learned@0.1"))

    assert folded and "w2a2" in before and "policy:" not in before
    assert all(f"policy:{rule}" in after for rule in RULES)
    assert "policy:learned@0.1" in picked.partition("8 rules that choose")[0]


def test_bits_that_were_learned_at_a_price_are_no_policy(tmp_path: Path) -> None:
    one = replace(measurement(split="test"), allocator="learned", lambda_=0.01)
    text = text_of(
        layout(stored(tmp_path, replace(one, split="validation"), one)[0], "/layers/toy")
    )

    assert "gives every sample the same bits: there is no policy to show" in text
    assert "BitOps per sample" not in text


def test_lines_of_a_trial_look_different(tmp_path: Path) -> None:
    store, trial = stored(tmp_path, measurement(split="test"), *map(of_rule, RULES))
    (panel,) = trial_view(Reader(open_to_read(store)), trial).curves
    looks = {(one.style.colour, one.style.marker) for one in panel.series}

    assert len(looks) == len(panel.series) == 1 + len(RULES)


@pytest.mark.parametrize(("x", "name"), [(28_901_376.0, "28.9 M"), (2.0, "2")])
def test_the_axis_of_a_single_place_names_it_once(x: float, name: str) -> None:
    style = Style(colour="#000000", marker="circle")
    series = Series(name="a", x=(x, x), y=(1.0, 2.0), style=style)
    axis = figure(Curves(title="", x_label="", y_label="", series=(series,)))["layout"]["xaxis"]

    assert (axis["tickvals"], axis["ticktext"]) == ([x], [name])
