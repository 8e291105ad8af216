"""What every store keeps: facts are written once, the first ones stand, nothing is doubled."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine
from tests.bitsweep_suite.toys import (
    LAYERS,
    SEARCHED,
    evaluation,
    layer_bits,
    measurement,
    toy_sweep,
    toy_task,
    toy_trial,
)

from bitsweep.bits import Allocation, tied
from bitsweep.cost import Convention, Layer, SampleCosts, bitops, mean_bits, size_bits
from bitsweep.errors import Conflict, InputError, UnknownName
from bitsweep.measurement import Measurement
from bitsweep.store.answers import kept_answers
from bitsweep.store.database import open_to_read, open_to_write
from bitsweep.store.reader import Reader
from bitsweep.store.writer import Writer
from bitsweep.sweep import Arm, Comparison, Stage, Sweep
from bitsweep.trial import Diverged, Failed, Finished, Interrupted, Outcome, Pruned, Trial

COMPARED = Comparison(arm="a", against="b", at=tied(2))
TWO_ARMS = (SEARCHED, Arm(name="b", method="toy"))
PROVENANCE = {
    "git_commit": "c" * 40,
    "git_is_dirty": False,
    "git_diff": None,
    "python": "3.11",
    "versions": {"numpy": "2"},
    "hostname": "here",
    "device": "cpu",
}


@pytest.fixture
def engine(store: str) -> Iterator[Engine]:
    """A migrated, empty store."""
    opened = open_to_write(store)
    yield opened
    opened.dispose()


@pytest.fixture
def writer(engine: Engine) -> Writer:
    """The verbs of a run."""
    return Writer(engine)


@pytest.fixture
def reader(engine: Engine) -> Reader:
    """Questions to the same store."""
    return Reader(engine)


def register(writer: Writer, sweep: Sweep | None = None) -> tuple[int, list[int]]:
    """Write a sweep of two arms, each with a digest of its own."""
    one = sweep or toy_sweep(*TWO_ARMS)
    return writer.register_sweep(one, [(arm, f"digest of {arm.name}") for arm in one.arms])


def add(
    writer: Writer,
    trial: Trial | None = None,
    *,
    stage: Stage = "confirm",
    sweep_id: int | None = None,
    arm_id: int | None = None,
) -> Trial:
    """Write a trial into the first arm of a sweep."""
    one = trial or toy_trial()
    if sweep_id is None:
        sweep_id, arm_ids = register(writer)
        arm_id = arm_ids[0]
    writer.add_trial(one, layers=LAYERS, sweep_id=sweep_id, stage=stage, arm_id=arm_id)
    return one


def count(reader: Reader, table: str) -> int:
    """Rows of a table."""
    return int(reader.query(f"SELECT COUNT(*) FROM {table}")[1][0][0])


def test_an_evaluation_recorded_twice_changes_nothing(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    first = writer.record(trial.id, evaluation(1))
    before = reader.query("SELECT * FROM measurements")
    second = writer.record(trial.id, evaluation(1))

    assert (first, second) == (True, False)
    assert reader.query("SELECT * FROM measurements") == before
    assert count(reader, "evaluations") == 1


def test_training_seconds_are_no_fact_that_could_conflict(writer: Writer) -> None:
    trial = add(writer)
    writer.record(trial.id, evaluation(1))

    assert writer.record(trial.id, replace(evaluation(1), seconds=99.0)) is False


@pytest.mark.parametrize(
    "other",
    [
        measurement(701),
        measurement(700, total=1001),
        measurement(700, sums={"loss": 1.0}),
        measurement(700, sums={"loss": 300.0, "squares": 1.0}),
        measurement(700, protocol="re-estimated"),
        measurement(700, bits=tied(3)),
        measurement(700, split="test"),
        measurement(700, sample_costs=SampleCosts(points=((1.0, 1000),))),
    ],
    ids=["correct", "total", "loss", "another metric", "protocol", "bits", "split", "costs"],
)
def test_other_facts_are_a_conflict_and_the_first_stand(
    other: Measurement, writer: Writer, reader: Reader
) -> None:
    trial = add(writer)
    writer.record(trial.id, evaluation(1))
    before = reader.query("SELECT * FROM measurements")

    with pytest.raises(Conflict, match="epoch 1: measured again with other numbers"):
        writer.record(trial.id, evaluation(1, other))
    assert reader.query("SELECT * FROM measurements") == before
    assert reader.query("SELECT trial_id, epoch FROM conflicts")[1] == [(trial.id, 1)]


def test_equal_bits_of_all_layers_come_again_under_their_other_name(
    writer: Writer, reader: Reader
) -> None:
    layers = (*LAYERS[:2], replace(LAYERS[1], name="second"), LAYERS[2])
    sweep_id, (arm_id, *_) = register(writer)
    trial = toy_trial()
    writer.add_trial(trial, layers=layers, sweep_id=sweep_id, stage="confirm", arm_id=arm_id)
    one = measurement(layer_bits=layer_bits(tied(2))[:1] * 4)
    old = replace(one, allocation=Allocation(layers=(tied(2), tied(2))))
    writer.record(trial.id, evaluation(1, old))

    assert not writer.record(trial.id, evaluation(1, one))
    assert reader.query("SELECT COUNT(*) FROM measurements")[1] == [(1,)]


def test_costs_per_sample_are_kept_and_come_again_as_the_same_facts(
    writer: Writer, reader: Reader
) -> None:
    trial = add(writer)
    costs = SampleCosts(points=((0.1 + 0.2, 400), (1e9, 600)))
    one = evaluation(1, measurement(), measurement(split="test", sample_costs=costs))

    assert writer.record(trial.id, one) is True
    assert writer.record(trial.id, one) is False
    query = "SELECT bitops, count FROM sample_costs ORDER BY bitops"
    assert tuple(reader.query(query)[1]) == costs.points


ANSWERS = b"\x81" + bytes(124)  # the first and the eighth of a thousand


def test_answers_are_kept_where_there_are_any(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    one = evaluation(1, measurement(2, split="test", answers=ANSWERS))
    writer.record(trial.id, one.without_answers())
    without = kept_answers(reader, [trial.id])
    writer.record(trial.id, replace(one, epoch=2))

    assert without == {}
    assert kept_answers(reader, [trial.id]) == {(trial.id, "w2a2"): ANSWERS}


def test_answers_are_added_to_an_evaluation_that_stands_without(
    writer: Writer, reader: Reader
) -> None:
    trial = add(writer)
    one = evaluation(1, measurement(2, split="test", answers=ANSWERS), measurement(3))
    writer.record(trial.id, one.without_answers())

    assert writer.record(trial.id, one) is False
    assert kept_answers(reader, [trial.id]) == {(trial.id, "w2a2"): ANSWERS}


def test_other_answers_of_equal_counts_are_a_conflict(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    others = b"\x82" + bytes(124)
    one, other = (measurement(2, split="test", answers=bits) for bits in (ANSWERS, others))
    writer.record(trial.id, evaluation(1, one))

    with pytest.raises(Conflict):
        writer.record(trial.id, evaluation(1, other))
    assert kept_answers(reader, [trial.id]) == {(trial.id, "w2a2"): ANSWERS}
    assert count(reader, "conflicts") == 1


def test_whole_numbers_and_fractions_of_equal_value_are_the_same_facts(writer: Writer) -> None:
    trial = add(writer)
    sums: dict[str, Any] = {"loss": 300, "squares": 7}
    writer.record(trial.id, evaluation(1, measurement(sums=sums)))

    assert not writer.record(trial.id, evaluation(1, measurement(sums=sums)))
    same = {"loss": 300.0, "squares": 7.0}
    assert not writer.record(trial.id, evaluation(1, measurement(sums=same)))


def test_sums_in_another_order_are_the_same_facts(writer: Writer) -> None:
    trial = add(writer)
    writer.record(trial.id, evaluation(1, measurement(sums={"loss": 1.0, "a": 2.0, "b": 3.0})))
    mixed = {"b": 3.0, "a": 2.0, "loss": 1.0}

    assert writer.record(trial.id, evaluation(1, measurement(sums=mixed))) is False


def test_the_newest_epoch_stands_with_the_trial(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    for epoch in (1, 3, 2):
        writer.record(trial.id, evaluation(epoch))

    assert reader.query("SELECT last_epoch FROM trials")[1] == [(3,)]


def test_measurements_of_one_evaluation_are_all_kept(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    many = (
        measurement(1),
        measurement(2, split="test"),
        measurement(3, bits=tied(3)),
        measurement(4, protocol="re-estimated"),
        measurement(5, allocator="greedy", lambda_=0.5),
        measurement(6, allocator="greedy", lambda_=0.25),
    )
    writer.record(trial.id, evaluation(1, *many))
    found = reader.query("SELECT correct FROM measurements ORDER BY correct")[1]

    assert found == [(number,) for number in range(1, 7)]
    assert writer.record(trial.id, evaluation(1, *many)) is False


def test_an_allocation_is_stored_once(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    for epoch in (1, 2, 3):
        writer.record(trial.id, evaluation(epoch))

    assert (count(reader, "allocations"), count(reader, "layer_bits")) == (1, len(LAYERS))


def test_another_writer_knows_what_the_first_one_wrote(engine: Engine, reader: Reader) -> None:
    trial = add(Writer(engine))
    Writer(engine).record(trial.id, evaluation(1))
    again = Writer(engine).record(trial.id, evaluation(1))

    assert again is False and count(reader, "measurements") == 1


def test_the_costs_stored_are_those_of_the_arithmetic(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    writer.record(trial.id, evaluation(1, measurement(bits=tied(3))))
    names, rows = reader.query("SELECT * FROM measurements")
    row = dict(zip(names, rows[0], strict=True))
    bits = layer_bits(tied(3))

    assert row["mean_weight_bits"] == mean_bits(LAYERS, bits)
    for convention in Convention:
        assert row[f"bitops_{convention}"] == bitops(LAYERS, bits, convention)
        assert row[f"size_bits_{convention}"] == size_bits(LAYERS, bits, convention)


def test_costs_are_equal_when_the_layers_come_from_the_store(
    engine: Engine, reader: Reader
) -> None:
    trial = add(Writer(engine))
    Writer(engine).record(trial.id, evaluation(1))

    expected = bitops(LAYERS, layer_bits(tied(2)), Convention.WHOLE_ENDS8)
    assert reader.query("SELECT bitops_whole_ends8 FROM measurements")[1] == [(expected,)]


def test_counts_beyond_32_bits_are_kept(writer: Writer, reader: Reader) -> None:
    layers = (Layer(name="big", kind="conv", place="body", macs=10**12, weights=10**11),)
    sweep_id, _ = register(writer)
    trial = toy_trial()
    writer.add_trial(trial, layers=layers, sweep_id=sweep_id, stage="confirm")
    bits = layer_bits(tied(2))[:1]
    writer.record(trial.id, evaluation(1, measurement(layer_bits=bits)))

    assert reader.query("SELECT size_bits_body FROM measurements")[1] == [(2 * 10**11,)]


def test_a_trial_comes_back_as_it_was(writer: Writer, reader: Reader) -> None:
    trial = add(writer, toy_trial(bits=(tied(2), tied(4)), splits=("validation", "test")))

    assert reader.trial(trial.short_id) == trial


def test_parameters_can_be_asked_for_as_numbers_and_as_text(
    writer: Writer, reader: Reader
) -> None:
    add(writer, toy_trial(parameters={"x": 0.25, "sharing": "off"}))
    rows = reader.query("SELECT name, number, text FROM parameters ORDER BY name")[1]

    assert rows == [("sharing", None, "off"), ("x", 0.25, "0.25")]


def test_a_prefix_of_no_trial_is_an_unknown_name(writer: Writer, reader: Reader) -> None:
    add(writer)

    with pytest.raises(UnknownName, match="no trial's id begins with 'zz'"):
        reader.trial("zz")


def test_a_prefix_of_several_trials_asks_for_more_digits(writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer)
    for seed in range(17):
        add(writer, toy_trial(seed=seed), sweep_id=sweep_id)
    first = [trial for (trial,) in reader.query("SELECT id FROM trials")[1]]
    twice = next(one[0] for one in first if sum(other[0] == one[0] for other in first) > 1)

    with pytest.raises(InputError, match="give more digits"):
        reader.trial(twice)


@pytest.mark.parametrize("prefix", ["%", "_", ""])
def test_signs_of_patterns_are_letters_in_a_prefix(
    prefix: str, writer: Writer, reader: Reader
) -> None:
    sweep_id, _ = register(writer)
    for seed in range(2):
        add(writer, toy_trial(seed=seed), sweep_id=sweep_id)

    with pytest.raises(InputError):
        reader.trial(prefix)


OUTCOMES: list[Outcome] = [
    Finished(epoch=4, checkpoint="f" * 64),
    Pruned(epoch=2),
    Diverged(reason="loss is nan"),
    Failed(reason="RuntimeError: no"),
    Interrupted(),
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda one: type(one).__name__)
def test_an_outcome_comes_back_as_it_was(outcome: Outcome, writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer)
    trial = add(writer, sweep_id=sweep_id)
    writer.end(trial.id, outcome, sweep_id=sweep_id)
    writer.end(trial.id, outcome, sweep_id=sweep_id)

    assert reader.ended([trial.id])[trial.id].outcome == outcome


@pytest.mark.parametrize("later", OUTCOMES[1:], ids=lambda one: type(one).__name__)
def test_a_finished_trial_stays_finished(later: Outcome, writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer)
    trial = add(writer, sweep_id=sweep_id)
    writer.end(trial.id, OUTCOMES[0], sweep_id=sweep_id)
    writer.end(trial.id, later, sweep_id=sweep_id)

    assert reader.ended([trial.id])[trial.id].outcome == OUTCOMES[0]


@pytest.mark.parametrize("earlier", OUTCOMES[1:], ids=lambda one: type(one).__name__)
def test_any_other_outcome_may_still_become_finished(
    earlier: Outcome, writer: Writer, reader: Reader
) -> None:
    sweep_id, _ = register(writer)
    trial = add(writer, sweep_id=sweep_id)
    writer.end(trial.id, earlier, sweep_id=sweep_id)
    writer.end(trial.id, OUTCOMES[0], sweep_id=sweep_id)

    assert reader.ended([trial.id])[trial.id].outcome == OUTCOMES[0]


def test_a_claimed_trial_is_not_given_to_another_driver(writer: Writer, reader: Reader) -> None:
    trial = add(writer)

    assert writer.claim(trial.id, "one", at=0.0)
    assert not writer.claim(trial.id, "two", at=1e9)
    assert reader.claimant(trial.id) == ("one", 0.0)


def test_a_driver_may_claim_its_trial_again(writer: Writer) -> None:
    trial = add(writer)
    writer.claim(trial.id, "one", at=0.0)

    assert writer.claim(trial.id, "one", at=1.0)


def test_a_heartbeat_shows_on_every_claim_of_its_driver_alone(
    writer: Writer, reader: Reader
) -> None:
    first, second, other = (add(writer, toy_trial(seed=seed)) for seed in range(3))
    for trial, owner in ((first, "one"), (second, "one"), (other, "two")):
        writer.claim(trial.id, owner, at=0.0)
    writer.heartbeat("one", at=7.0)

    assert [reader.claimant(one.id) for one in (first, second)] == [("one", 7.0)] * 2
    assert reader.claimant(other.id) == ("two", 0.0)


def test_a_released_claim_is_free(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    writer.claim(trial.id, "one", at=0.0)
    writer.release("one")

    assert reader.claimant(trial.id) is None
    assert writer.claim(trial.id, "two", at=0.0)


def test_an_outcome_ends_the_claim_and_the_attempt(writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer)
    trial = add(writer, sweep_id=sweep_id)
    writer.claim(trial.id, "one", at=0.0)
    writer.start_attempt(trial.id, sweep_id=sweep_id, owner="one", provenance=PROVENANCE)
    writer.end(trial.id, Finished(epoch=1), sweep_id=sweep_id)

    assert count(reader, "claims") == 0
    assert all(attempt["ended_at"] for attempt in reader.provenance(trial.id))


def test_each_attempt_tells_where_it_ran_and_equal_provenance_stands_once(
    writer: Writer, reader: Reader
) -> None:
    sweep_id, _ = register(writer)
    trial = add(writer, sweep_id=sweep_id)
    for _ in range(2):
        writer.start_attempt(trial.id, sweep_id=sweep_id, owner="one", provenance=PROVENANCE)

    assert [row["hostname"] for row in reader.provenance(trial.id)] == ["here", "here"]
    assert count(reader, "provenance") == 1


def test_configurations_are_numbered_in_each_study(writer: Writer, reader: Reader) -> None:
    _, (first, second) = register(writer)
    for arm_id, study, x in ((first, "w2a2", 1), (first, "w2a2", 2), (first, "w3a3", 1)):
        writer.add_configuration(arm_id, study, {"x": x})
    writer.add_configuration(second, "w2a2", {"x": 1})

    assert [one.number for one in reader.proposals(first, "w2a2")] == [0, 1]
    assert [one.number for one in reader.proposals(first, "w3a3")] == [0]
    assert [one.parameters for one in reader.proposals(second, "w2a2")] == [{"x": 1}]


def test_a_configuration_written_twice_keeps_its_number(writer: Writer, reader: Reader) -> None:
    _, (arm_id, _) = register(writer)
    first = writer.add_configuration(arm_id, "w2a2", {"x": 1, "y": 2})
    writer.add_configuration(arm_id, "w2a2", {"x": 2})

    assert writer.add_configuration(arm_id, "w2a2", {"y": 2, "x": 1}) == first
    assert len(reader.proposals(arm_id, "w2a2")) == 2


def test_a_sweep_registered_twice_is_one_sweep(writer: Writer, reader: Reader) -> None:
    assert register(writer) == register(writer)
    assert (count(reader, "sweeps"), count(reader, "arms")) == (1, 2)


def test_an_edited_arm_is_a_new_row_and_the_old_one_is_not_current(
    writer: Writer, reader: Reader
) -> None:
    sweep_id, _ = register(writer)
    sweep = toy_sweep(*TWO_ARMS)
    _, ids = writer.register_sweep(sweep, [(arm, "edited") for arm in sweep.arms])

    assert [arm.id for arm in reader.arms(sweep_id)] == ids
    assert count(reader, "arms") == 4


def test_arms_stand_in_the_order_of_the_file(writer: Writer, reader: Reader) -> None:
    register(writer)
    sweep_id, _ = register(writer, toy_sweep(*reversed(TWO_ARMS)))

    assert [arm.name for arm in reader.arms(sweep_id)] == ["b", "a"]


def test_a_comparison_declared_before_its_arms_were_confirmed_is_primary(
    writer: Writer, reader: Reader
) -> None:
    sweep = toy_sweep(*TWO_ARMS, comparisons=(COMPARED,))
    sweep_id, arm_ids = register(writer, sweep)
    trial = add(writer, sweep_id=sweep_id, arm_id=arm_ids[0])
    writer.record(trial.id, evaluation(1, measurement(split="test")))
    register(writer, sweep)

    assert [one.is_primary for one in reader.comparisons(sweep_id)] == [True]


def test_a_comparison_declared_after_its_arms_were_confirmed_is_not_primary(
    writer: Writer, reader: Reader
) -> None:
    sweep_id, arm_ids = register(writer)
    trial = add(writer, sweep_id=sweep_id, arm_id=arm_ids[0])
    writer.record(trial.id, evaluation(1, measurement(split="test")))
    register(writer, toy_sweep(*TWO_ARMS, comparisons=(COMPARED,)))

    assert [one.is_primary for one in reader.comparisons(sweep_id)] == [False]


@pytest.mark.parametrize("stage", ["search", "start"])
def test_what_the_search_measured_leaves_a_comparison_primary(
    stage: Stage, writer: Writer, reader: Reader
) -> None:
    sweep_id, arm_ids = register(writer)
    trial = add(writer, sweep_id=sweep_id, arm_id=arm_ids[0], stage=stage)
    writer.record(trial.id, evaluation(1))
    register(writer, toy_sweep(*TWO_ARMS, comparisons=(COMPARED,)))

    assert [one.is_primary for one in reader.comparisons(sweep_id)] == [True]


def test_a_comparison_that_left_the_file_is_not_current(writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer, toy_sweep(*TWO_ARMS, comparisons=(COMPARED,)))
    register(writer)

    assert reader.comparisons(sweep_id) == [] and count(reader, "comparisons") == 1


def test_a_trial_that_two_sweeps_share_is_one_trial(writer: Writer, reader: Reader) -> None:
    first, first_arms = register(writer)
    second, second_arms = register(writer, toy_sweep(*TWO_ARMS, name="other"))
    trial = add(writer, sweep_id=first, arm_id=first_arms[0])
    add(writer, sweep_id=second, arm_id=second_arms[0])
    writer.record(trial.id, evaluation(1, measurement(split="test")))

    assert count(reader, "trials") == count(reader, "measurements") == 1
    assert [len(reader.results(name)) for name in ("toy", "other")] == [1, 1]


def test_a_trial_in_two_configurations_of_an_arm_counts_once_in_the_results(
    writer: Writer, reader: Reader
) -> None:
    sweep_id, (arm_id, _) = register(writer)
    trial = toy_trial()
    for x in (1, 2):
        configuration = writer.add_configuration(arm_id, "w2a2", {"x": x})
        writer.add_trial(
            trial,
            layers=LAYERS,
            sweep_id=sweep_id,
            stage="confirm",
            arm_id=arm_id,
            configuration_id=configuration,
        )
    writer.record(trial.id, evaluation(1, measurement(split="test")))
    writer.end(trial.id, Finished(epoch=1), sweep_id=sweep_id)

    assert count(reader, "results") == 1
    assert reader.query("SELECT arm, n FROM best_per_bit")[1] == [("a", 1)]


def test_a_trial_taken_out_of_an_arm_stays_known_and_in_other_arms(
    writer: Writer, reader: Reader
) -> None:
    sweep_id, arm_ids = register(writer)
    trial = add(writer, sweep_id=sweep_id, arm_id=arm_ids[0])
    add(writer, sweep_id=sweep_id, arm_id=arm_ids[1])
    writer.forget(trial.id, sweep_id=sweep_id, arm_id=arm_ids[0])
    left = reader.query("SELECT arm_id FROM memberships")[1]

    assert [row[0] for row in left] == [arm_ids[1]]
    assert reader.trial(trial.id) == trial


def test_results_are_those_of_the_last_epoch(writer: Writer, reader: Reader) -> None:
    trial = add(writer)
    writer.record(trial.id, evaluation(1, measurement(600)))
    writer.record(trial.id, evaluation(2, measurement(800)))

    assert reader.query("SELECT epoch, top1_percent FROM results")[1] == [(2, 80.0)]


def test_results_name_the_status(writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer)
    trial = add(writer, sweep_id=sweep_id)
    writer.record(trial.id, evaluation(1))
    running = reader.query("SELECT status FROM results")[1]
    writer.end(trial.id, Failed(reason="no"), sweep_id=sweep_id)

    assert running == [("running",)]
    assert reader.query("SELECT status FROM results")[1] == [("failed",)]


@pytest.mark.parametrize("convention", list(Convention))
def test_results_cost_by_the_convention_of_their_sweep(
    convention: Convention, writer: Writer, reader: Reader
) -> None:
    sweep = toy_sweep(*TWO_ARMS, task=toy_task(convention=convention))
    sweep_id, _ = register(writer, sweep)
    trial = add(writer, sweep_id=sweep_id)
    writer.record(trial.id, evaluation(1))
    bits = layer_bits(tied(2))
    expected = (bitops(LAYERS, bits, convention), size_bits(LAYERS, bits, convention))

    found = reader.query("SELECT bitops, size_bits, convention FROM results")[1]
    assert found == [(*expected, str(convention))]


def test_the_best_arm_per_bits_is_chosen_on_validation_and_told_on_test(
    writer: Writer, reader: Reader
) -> None:
    sweep_id, arm_ids = register(writer)
    for arm_id, seed, validated, tested in zip(
        arm_ids, (1, 2), (750, 760), (900, 800), strict=True
    ):
        trial = add(writer, toy_trial(seed=seed), sweep_id=sweep_id, arm_id=arm_id)
        both = (measurement(validated), measurement(tested, split="test"))
        writer.record(trial.id, evaluation(1, *both))
        writer.end(trial.id, Finished(epoch=1), sweep_id=sweep_id)

    found = reader.query("SELECT allocation, arm, mean_top1_percent, n FROM best_per_bit")[1]
    assert [tuple(row) for row in found] == [("w2a2", "b", 80.0, 1)]


def test_an_unknown_sweep_names_the_nearest(writer: Writer, reader: Reader) -> None:
    register(writer)

    with pytest.raises(UnknownName, match=r"no sweep is named 'toi' \(did you mean 'toy'\?\)"):
        reader.sweep("toi")


def test_the_time_of_like_trials_is_their_median(writer: Writer, reader: Reader) -> None:
    sweep_id, _ = register(writer)
    for seed in range(3):
        trial = add(writer, toy_trial(seed=seed), sweep_id=sweep_id)
        writer.record(trial.id, replace(evaluation(4), seconds=float(seed)))
        writer.end(trial.id, Finished(epoch=4), sweep_id=sweep_id)

    assert reader.trial_seconds(method="toy", data="toy-data", epochs=4) == 1.0
    assert reader.trial_seconds(method="toy", data="toy-data", epochs=5) is None


def test_the_percent_sign_of_a_pattern_reaches_the_database(writer: Writer, store: str) -> None:
    register(writer)
    reader = Reader(open_to_read(store))
    found = reader.query("SELECT name FROM arms WHERE name LIKE 'b%' AND name NOT LIKE '%x'")
    reader.close()

    assert found == (["name"], [("b",)])
