"""Figures: chosen on validation, drawn on test, in lasting colours, with embedded fonts."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from tests.bitsweep_suite.tables import cell, table
from tests.bitsweep_suite.toys import (
    CONDITIONAL,
    FIXED,
    LAYERS,
    SEARCHED,
    STARTED,
    acting,
    evaluation,
    measurement,
    run_toy,
    toy_plan,
    toy_sweep,
    toy_trial,
)

from bitsweep.analysis.chart import (
    _METHODS,
    Bars,
    Curves,
    Heat,
    Kind,
    Pick,
    Surface,
    arm_looks,
    method_look,
)
from bitsweep.analysis.curves import chosen_on_validation
from bitsweep.bits import Allocation
from bitsweep.cost import SampleCosts
from bitsweep.errors import InputError
from bitsweep.figures.draw import sweep_chart, write_chart
from bitsweep.measurement import Allocator, Measurement
from bitsweep.run import arm_digests
from bitsweep.space import Choice, Range, Space
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.sweep import Arm, Search

KINDS: tuple[Kind, ...] = get_args(Kind)
WHOLE = Arm(name="whole", method="toy_fp32")


def reading(folder: Path) -> Reader:
    """A reader of the folder's store."""
    return Reader(open_to_read(str(folder / "store.db")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a finished sweep with enough configurations; tests only read."""
    folder = tmp_path_factory.mktemp("made")
    search = Search(configurations_per_arm=6)
    run_toy(toy_sweep(WHOLE, SEARCHED, FIXED, task=STARTED, search=search), folder)
    return folder


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searched parameters, learned bits and a policy at two lambdas; tests only read."""
    folder = tmp_path_factory.mktemp("rich")
    two: Space = {
        "x": Range(low=0.001, high=1.0, is_log=True),
        "branches": Choice(values=(1, 2, 3)),
    }
    arms = (
        Arm(name="two", method="toy_branches", space=two),
        Arm(name="learner", method="toy_learned"),
        FIXED,
    )
    sweep = toy_sweep(*arms, search=Search(configurations_per_arm=12))
    run_toy(sweep, folder)
    writer = Writer(open_to_write(str(folder / "store.db")))
    sweep_id, arm_ids = writer.register_sweep(sweep, arm_digests(toy_plan(sweep)))
    for seed in (0, 1):
        trial = toy_trial(seed=seed, method="toy_policy", splits=("validation", "test"))
        writer.add_trial(
            trial, layers=LAYERS, sweep_id=sweep_id, stage="confirm", arm_id=arm_ids[2]
        )
        writer.record(trial.id, evaluation(4, *policy_measurements()))
    writer.close()
    return folder


def policy_measurements() -> list[Measurement]:
    """A learned rule and its shuffle at two lambdas on test."""
    sums = {"images of body at w2a2": 250.0, "images of body at w3a3": 750.0}
    rules: tuple[tuple[Allocator, int], ...] = (("learned", 750), ("shuffled", 700))
    return [
        measurement(
            correct,
            split="test",
            allocation=Allocation(layers=(), policy=f"{allocator}@{price:g}"),
            allocator=allocator,
            lambda_=price,
            sums=sums,
            sample_costs=SampleCosts(points=((1000.0, 400), (2000.0, 600))),
        )
        for price in (0.2, 0.5)
        for allocator, correct in rules
    ]


def test_learned_bits_are_drawn_over_all_epochs_though_they_change(rich: Path) -> None:
    (panel,) = sweep_chart(reading(rich), "toy", "epochs").panels

    assert isinstance(panel, Heat)
    assert (panel.title, panel.columns) == (
        "learner learned",
        ("epoch 1", "epoch 2", "epoch 3", "epoch 4"),
    )
    assert panel.values[panel.rows.index("body")] == (4.0, 2.5, 2.5, 2.5)


def test_fixed_bits_are_drawn_over_epochs_where_they_are_picked(rich: Path) -> None:
    pick = Pick(arm="fixed", at="w3a3")
    (panel,) = sweep_chart(reading(rich), "toy", "epochs", pick).panels

    assert isinstance(panel, Heat)
    assert set(panel.values) == {(3.0,) * 4}


def test_a_policy_is_drawn_by_layer_and_by_sample_at_each_lambda(rich: Path) -> None:
    choices = sweep_chart(reading(rich), "toy", "choices").panels
    costs = sweep_chart(reading(rich), "toy", "costs", Pick(price=0.5)).panels
    (first, second) = choices
    (spread,) = costs

    assert isinstance(first, Heat) and isinstance(spread, Curves)
    assert [first.title, second.title] == ["fixed, \u03bb = 0.2", "fixed, \u03bb = 0.5"]
    assert first.values == ((25.0, 75.0),)
    assert sorted(one for one in spread.series[0].y if one) == pytest.approx([40.0, 60.0])


def test_a_contour_stands_over_the_parameters_picked(rich: Path) -> None:
    pick = Pick(arm="two", at="w3a3", x="branches", y="x")
    (panel,) = sweep_chart(reading(rich), "toy", "contour", pick).panels

    assert isinstance(panel, Surface)
    assert (panel.title, panel.x_label, panel.y_label) == ("two w3a3", "branches", "x")
    assert panel.y_is_log and not panel.x_is_log
    assert {one[0] for one in panel.points} <= {1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    ("kind", "pick", "message"),
    [
        ("contour", Pick(arm="two", x="z"), "'z' is no searched parameter"),
        ("contour", Pick(x="z"), "'z' is no searched parameter"),
        ("slices", Pick(arm="fixed"), "'fixed' is no searched arm"),
        ("slices", Pick(at="w9a9"), "'w9a9' is no bits of two"),
        ("epochs", Pick(arm="lerner"), "did you mean 'learner'"),
        ("costs", Pick(price=0.3), "choose one of: 0.2, 0.5"),
        ("choices", Pick(arm="two"), "'two' is no arm of toy with a policy"),
        ("pareto", Pick(arm="two"), "--arm goes with"),
        ("slices", Pick(x="x"), "--x goes with --kind contour, not with slices"),
        ("curves", Pick(price=0.5), "--lambda goes with"),
    ],
)
def test_what_is_picked_and_is_not_there_is_named(
    kind: Kind, pick: Pick, message: str, rich: Path
) -> None:
    with pytest.raises(InputError, match=message):
        sweep_chart(reading(rich), "toy", kind, pick)


def test_a_configuration_without_a_parameter_stands_below_its_axis(tmp_path: Path) -> None:
    run_toy(toy_sweep(CONDITIONAL, search=Search(configurations_per_arm=8)), tmp_path)
    panel = sweep_chart(reading(tmp_path), "toy", "parallel").panels[0]
    assert isinstance(panel, Curves)
    keep = panel.x_ticks.index("keep")

    assert sorted(line.y[keep] < 0 for line in panel.series).count(True) == 1
    assert [name for _, name in panel.y_ticks] == ["not taken", "lowest tried", "highest tried"]


def test_the_front_is_chosen_on_validation_and_told_as_it_came_out_on_test() -> None:
    validation = table(cell("a", "w2a2", (900,)), cell("b", "w2a2", (800,)), split="validation")
    test = table(cell("a", "w2a2", (700,)), cell("b", "w2a2", (750,)))

    assert [(one.arm, one.mean) for one in chosen_on_validation(test, validation)] == [("a", 70.0)]


def test_every_method_of_ours_has_a_look_of_its_own() -> None:
    looks = [method_look(method) for method in ("fp32", *_METHODS)]

    assert len(set(looks)) == len(looks) == 15


def test_a_method_looks_the_same_in_every_sweep() -> None:
    few = arm_looks([("x", "lsq")])
    many = arm_looks([("a", "ptq"), ("y", "lsq"), ("z", "lsq")])

    assert few["x"] == many["y"]
    assert many["z"] == replace(many["y"], dash="dashed")


def test_learning_curves_have_a_panel_per_bits_and_a_thin_line_per_seed(made: Path) -> None:
    chart = sweep_chart(reading(made), "toy", "curves")
    panels = [one for one in chart.panels if isinstance(one, Curves)]

    assert [panel.title for panel in panels] == ["w2a2", "w3a3"]
    for panel in panels:
        names = [series.name for series in panel.series if not series.style.is_thin]
        thin = [series for series in panel.series if series.style.is_thin]
        assert names == ["whole", "a", "fixed"] and len(thin) == 2 * len(names)


def test_full_precision_is_a_level_and_does_not_stretch_the_axis_of_costs(made: Path) -> None:
    (panel, *_) = sweep_chart(reading(made), "toy", "pareto").panels
    assert isinstance(panel, Curves)
    level = next(one for one in panel.series if one.name and one.name.startswith("whole"))
    others = [x for one in panel.series if one is not level for x in one.x]

    assert level.x == (min(others), max(others)) and len(set(level.y)) == 1


def test_bits_per_layer_are_those_of_each_allocation(made: Path) -> None:
    panels = {one.title: one for one in sweep_chart(reading(made), "toy", "layers").panels}
    heat = panels["fixed"]

    assert isinstance(heat, Heat)
    assert heat.columns == ("w2a2", "w3a3")
    assert all(row == (2.0, 3.0) for row in heat.values)


def test_the_importance_of_the_only_parameter_is_nearly_all(made: Path) -> None:
    (panel,) = sweep_chart(reading(made), "toy", "importance").panels

    assert isinstance(panel, Bars)
    assert panel.names == ("x",)
    assert panel.values[0] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn_in_each_form(kind: Kind, rich: Path, tmp_path: Path) -> None:
    chart = sweep_chart(reading(rich), "toy", kind)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "html": b"<!doctype html>"}
    for suffix in begins:
        write_chart(chart, tmp_path / f"figure.{suffix}")

    assert {
        suffix: (tmp_path / f"figure.{suffix}").read_bytes()[: len(start)]
        for suffix, start in begins.items()
    } == begins


def test_fonts_are_embedded_and_the_file_is_the_same_each_time(made: Path, tmp_path: Path) -> None:
    chart = sweep_chart(reading(made), "toy", "pareto")
    for name in ("one.pdf", "two.pdf", "one.svg", "two.svg"):
        write_chart(chart, tmp_path / name)
    pdf = (tmp_path / "one.pdf").read_bytes()

    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert pdf == (tmp_path / "two.pdf").read_bytes()
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_page_needs_no_network(made: Path, tmp_path: Path) -> None:
    write_chart(sweep_chart(reading(made), "toy", "pareto"), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")

    assert re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page) == []


def test_a_file_of_no_known_form_is_refused(made: Path, tmp_path: Path) -> None:
    chart = sweep_chart(reading(made), "toy", "pareto")

    with pytest.raises(InputError, match=r"ends in \.png, \.svg, \.pdf, \.html"):
        write_chart(chart, tmp_path / "a.gif")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_in_which_all_failed_has_nothing_to_draw(kind: Kind, tmp_path: Path) -> None:
    run_toy(toy_sweep(acting("raise")), tmp_path)

    with pytest.raises(InputError, match=r"toy"):
        sweep_chart(reading(tmp_path), "toy", kind)


def test_a_slice_has_a_point_per_configuration_of_the_search(made: Path) -> None:
    chart = sweep_chart(reading(made), "toy", "slices")
    panel = chart.panels[0]

    assert isinstance(panel, Curves)
    assert panel.title == "a w2a2: x" and len(panel.series[0].x) == 6


def test_parallel_coordinates_end_at_the_score_and_the_best_is_thick(made: Path) -> None:
    (panel,) = sweep_chart(reading(made), "toy", "parallel").panels

    assert isinstance(panel, Curves)
    assert panel.x_ticks == ("x", "score")
    assert panel.y_ticks == ((0.0, "lowest tried"), (1.0, "highest tried"))
    assert [(one.y[-1], one.style.is_thin) for one in panel.series][-1] == (1.0, False)
    assert sum(not one.style.is_thin for one in panel.series) == 1


def test_choices_are_named_on_the_axis_of_a_slice(tmp_path: Path) -> None:
    run_toy(toy_sweep(CONDITIONAL, search=Search(configurations_per_arm=8)), tmp_path)
    panels = sweep_chart(reading(tmp_path), "toy", "slices").panels
    ticks = {one.title: one.x_ticks for one in panels if isinstance(one, Curves)}
    ((keep, none),) = [pair for pair in ticks.items() if pair[0].startswith("a w2a2: keep")]

    assert ticks["a w2a2: sharing"] == ("bitwise", "off")
    # Eight proposals, five of them distinct; one of the five is "off", which has no `keep`.
    assert (keep, none) == ("a w2a2: keep (4 of 5)", ())


@pytest.mark.parametrize(("kind", "unit"), [("size", "bits"), ("bits", "mean weight bits")])
def test_the_front_stands_over_size_and_mean_bits_too(kind: Kind, unit: str, made: Path) -> None:
    panel = sweep_chart(reading(made), "toy", kind).panels[0]

    assert isinstance(panel, Curves)
    assert unit in panel.x_label
    assert {x for one in panel.series for x in one.x if kind == "bits"} <= {2.0, 3.0}
