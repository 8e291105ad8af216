"""A trial of ABN with a policy: what it measures besides its widths, and at what cost."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in

from bitsweep.cost import Convention, bitops
from bitsweep.measurement import Measurement, evaluation_document, parse_evaluation
from bitsweep.store.rows import measurement_row
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.methods.table import METHODS
from bitsweep_trainers.policy.measured import layers_of

RULES = ["learned", "shuffled", "random", "greedy", "oracle", "cascade"]
POLICY = {"policy": "double_dqn", "policy_epochs": 1}


def policy_trial() -> Trial:
    return trial_of("abn", 2, 3, 4, epochs=1, parameters=POLICY)


@cache
def measured(run: int = 0) -> tuple[Measurement, ...]:
    """The measurements of a whole run."""
    with TemporaryDirectory() as folder:
        return trained_in(Path(folder) / str(run))


def trained_in(folder: Path) -> tuple[Measurement, ...]:
    trial = policy_trial()
    data = METHODS["abn"].divide(few(train=320), trial, loop.stream(0, "divide"))
    assert len(data.held_labels) == pytest.approx(32, abs=6)
    (evaluation,) = loop.run(training_of(trial, data), workspace_in(folder))
    assert parse_evaluation(evaluation_document(evaluation)) == evaluation
    return evaluation.measurements


def test_a_policy_and_its_rivals_are_measured_at_every_price() -> None:
    found = [one for one in measured() if one.allocator != "fixed"]

    assert [one.allocator for one in found] == RULES * 3
    assert sorted({one.lambda_ or 0.0 for one in found}) == [0.05, 0.2, 0.8]
    assert len({one.allocation.label for one in found}) == 18


def test_the_agent_counts_in_its_own_convention_alone() -> None:
    trial, layers = policy_trial(), layers_of(policy_trial())
    learned, mixed = measured()[3:5]
    row, other = (measurement_row(trial.id, 1, one, layers) for one in (learned, mixed))
    assert learned.agent is not None

    assert (learned.allocator, mixed.allocator) == ("learned", "shuffled")
    agent = row["bitops_whole_agent"] - row["bitops_whole_ends8"]
    assert agent == pytest.approx(64 * learned.agent.macs)
    assert row["bitops_body"] == pytest.approx(other["bitops_body"])
    assert other["bitops_whole_agent"] == other["bitops_whole_ends8"]
    assert row["size_bits_whole_agent"] > other["size_bits_whole_agent"]


def test_images_at_each_width_add_up_to_the_split() -> None:
    learned = measured()[3]
    per_layer: dict[str, float] = {}
    for name, count in learned.sums.items():
        if name.startswith("images of "):
            per_layer[name.split(" at ")[0]] = per_layer.get(name.split(" at ")[0], 0) + count

    assert set(per_layer.values()) == {float(learned.total)}
    layers = layers_of(policy_trial())
    squares = sum(
        next(one.macs for one in layers if f"images of {one.name} at" in name)
        * count
        * int(name[-1]) ** 2
        for name, count in learned.sums.items()
        if name.startswith("images of ")
    )
    assert learned.agent is not None
    body = bitops((*layers, learned.agent), learned.layer_bits, Convention.BODY)
    assert body == pytest.approx(squares / learned.total)


def test_equal_seeds_learn_equal_policies() -> None:
    assert measured(0) == measured(1)


def test_a_cascade_counts_both_runs() -> None:
    cascade = next(one for one in measured() if one.allocator == "cascade")
    layers = layers_of(policy_trial())
    body = sum(one.macs for one in layers if one.place == "body")
    again = next(count for name, count in cascade.sums.items() if name.endswith("conv1 at w4a4"))

    found = bitops(layers, cascade.layer_bits, Convention.BODY)
    assert found == pytest.approx(body * (4 + 16 * again / cascade.total))


def test_without_a_policy_nothing_is_held_out() -> None:
    data = few(train=64)
    trial = trial_of("abn", 2, 4)

    assert METHODS["abn"].divide(data, trial, torch.Generator()) is data
