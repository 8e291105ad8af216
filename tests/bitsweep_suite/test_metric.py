"""A sweep is judged by its own metric, in every table and figure; top-1 is but one of them."""

from pathlib import Path

import pytest
from tests.bitsweep_suite.tables import table as made_table
from tests.bitsweep_suite.toys import (
    LAYERS,
    evaluation,
    measurement,
    run_toy,
    toy_sweep,
    toy_trial,
)

from bitsweep.analysis.curves import learning_chart, pareto_chart
from bitsweep.analysis.importance import importance_chart
from bitsweep.analysis.paired import paired, paired_values
from bitsweep.analysis.render import render, table_rows
from bitsweep.analysis.selection import against, marks
from bitsweep.analysis.table import Table, sweep_table
from bitsweep.bits import tied
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.sweep import Arm, Comparison, Objective, Search
from bitsweep.trial import Finished

COSINE = Objective(metric="cosine_similarity", goal="maximize")
SEEDS = (0, 1, 2)
VALUES = {"a": (0.90, 0.92, 0.91), "b": (0.85, 0.86, 0.88)}


def regression_store(folder: Path, text: str = "name = 'toy'") -> Reader:
    """Two arms on three seeds; nothing is counted, cosine similarities are summed."""
    engine = open_to_write(str(folder / "store.db"))
    writer = Writer(engine)
    arms = tuple(Arm(name=name, method="toy") for name in VALUES)
    claim = Comparison(arm="a", against="b", at=tied(2))
    sweep = toy_sweep(*arms, objectives=(COSINE,), comparisons=(claim,), text=text)
    sweep_id, arm_ids = writer.register_sweep(sweep, [(arm, arm.name) for arm in arms])
    for arm_id, (name, values) in zip(arm_ids, VALUES.items(), strict=True):
        configuration = writer.add_configuration(arm_id, "all", {"x": 0.1})
        for seed, value in zip(SEEDS, values, strict=True):
            trial = toy_trial(seed=seed, parameters={"x": 0.1 if name == "a" else 0.2})
            writer.add_trial(
                trial,
                layers=LAYERS,
                sweep_id=sweep_id,
                stage="confirm",
                arm_id=arm_id,
                configuration_id=configuration,
            )
            for epoch in (1, 2):
                sums = {"loss": 10.0, "cosine_similarity": 1000 * value * epoch / 2}
                measured = [
                    measurement(split=split, correct=None, sums=sums)
                    for split in ("validation", "test")
                ]
                writer.record(trial.id, evaluation(epoch, *measured))
            writer.end(trial.id, Finished(epoch=2), sweep_id=sweep_id)
    engine.dispose()
    return Reader(open_to_read(str(folder / "store.db")))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return sweep_table(regression_store(tmp_path), "toy")


def test_a_table_shows_the_metric_of_its_sweep(table: Table) -> None:
    rows = {row["arm"]: row for row in table_rows(table)}

    assert rows["a"]["unit"] == "cosine_similarity"
    assert rows["a"]["mean"] == pytest.approx(0.91)
    assert rows["a"]["sd"] == pytest.approx(0.01)


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_no_form_of_it_speaks_of_top_1(table: Table, form: str) -> None:
    text = render(table, form)  # type: ignore[arg-type]

    assert "osine similarity" in text and "0.9100" in text
    assert "top-1" not in text.lower() and "points" not in text


def test_its_comparison_is_paired_in_the_metric_itself(table: Table) -> None:
    (one,) = table.comparisons

    assert one.result is not None
    assert one.result.mean == pytest.approx(0.0466667, abs=1e-6)
    assert one.result.p_permutation == 0.25


def test_a_difference_has_no_margin_but_the_one_that_is_given(table: Table) -> None:
    assert against(table, "b").differences[0].equivalence is None
    assert against(table, "b", margin=0.1).differences[0].equivalence is not None


def test_figures_show_the_metric(tmp_path: Path) -> None:
    reader = regression_store(tmp_path)
    pareto, curves = pareto_chart(reader, "toy"), learning_chart(reader, "toy")

    assert "cosine similarity on test" in str(pareto.panels[0])
    assert "Hypervolume" not in pareto.note
    assert "cosine similarity on validation" in str(curves.panels[0])
    assert "0.455" in str(curves.panels[0])


def test_the_best_of_a_loss_is_the_least_one(tmp_path: Path) -> None:
    least = Objective(metric="loss", goal="minimize")
    run_toy(toy_sweep(objectives=(least,), search=Search(configurations_per_arm=5)), tmp_path)
    reader = Reader(open_to_read(str(tmp_path / "store.db")))
    found = sweep_table(reader, "toy")
    cell = next(iter(found.cells.values()))
    rows = [row for row in reader.results("toy") if row.split == "validation"]
    searched = [row for row in rows if row.stage == "search" and row.status == "finished"]
    confirmed = {row.configuration_id for row in rows if row.stage == "confirm"}
    losses: dict[int | None, float] = {}
    for row in searched:
        losses[row.configuration_id] = losses.get(row.configuration_id, 0.0) + (row.loss or 0.0)

    assert found.metric == "loss" and cell.mean == pytest.approx(
        sum(cell.value_by_seed.values()) / cell.n
    )
    assert confirmed == {min(losses, key=lambda one: losses[one])}
    assert importance_chart(reader, "toy").panels


def test_marks_follow_the_goal() -> None:
    from tests.bitsweep_suite.tables import cell

    cells = (cell("a", "w2a2", (800, 820)), cell("b", "w2a2", (850, 870)))

    assert marks(made_table(*cells, goal="minimize")) == {
        ("a", "w2a2"): "best",
        ("b", "w2a2"): "second",
    }


def test_notes_of_several_objectives_name_the_metric_and_its_winners(tmp_path: Path) -> None:
    text = "objectives = [{}, { metric = 'bitops' }]\nsearch.scheduler.asha.grace_epochs = 1"
    notes = "\n".join(sweep_table(regression_store(tmp_path, text), "toy").footnotes)

    assert "Objectives: cosine_similarity, bitops. Confirmed" in notes
    assert "Early stopping judged cosine_similarity on validation alone" in notes
    assert "winner a w2a2, configuration 1: cosine similarity 0.9100 ± 0.0100 (n = 3)" in notes


def test_the_view_names_the_best_arm_by_the_metric(tmp_path: Path) -> None:
    reader = regression_store(tmp_path)
    found = reader.query("SELECT arm, mean_top1_percent, metric, mean_value FROM best_per_bit")[1]

    assert [(arm, top1, metric) for arm, top1, metric, _ in found] == [
        ("a", None, "cosine_similarity")
    ]
    assert found[0][3] == pytest.approx(0.91)


def test_accuracy_and_cost_of_a_regression_stand_by_its_metric(tmp_path: Path) -> None:
    sql = "SELECT arm, mean_top1_percent, metric, goal, mean_value, mean_validation_value "
    found = regression_store(tmp_path).query(f"{sql}FROM accuracy_cost ORDER BY arm")[1]

    assert [row[:4] for row in found] == [
        (arm, None, "cosine_similarity", "maximize") for arm in ("a", "b")
    ]
    assert found[0][4:] == pytest.approx((0.91, 0.91))


def test_paired_values_agree_with_paired_counts() -> None:
    counts = [3, -2, 1, 5, 3]
    by_counts = paired(counts, total=100)
    by_values = paired_values([float(one) for one in counts])

    assert by_values.p_permutation == by_counts.p_permutation
    assert by_values.mean == pytest.approx(by_counts.mean)
