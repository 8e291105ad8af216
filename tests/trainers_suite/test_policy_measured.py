"""A trial of ABN with a policy: what it measures besides its widths, and at what cost."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import few, training_of, trial_of, workspace_in

from bitsweep.cost import Convention, bitops
from bitsweep.errors import InputError
from bitsweep.measurement import Measurement, evaluation_document, parse_evaluation
from bitsweep.store.rows import measurement_row
from bitsweep.trial import Trial
from bitsweep_trainers import clock, image, loop
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.policy import measured as measuring
from bitsweep_trainers.policy import raw
from bitsweep_trainers.policy.baselines import ROLLOUT_BATCH
from bitsweep_trainers.policy.kept import kept_policy
from bitsweep_trainers.policy.measured import layers_of, policy_measurements
from bitsweep_trainers.policy.rules import NUM_SHUFFLES, oracle_of

RULES = ["learned", "shuffled", "random", "greedy", "evolutionary", "ilp", "oracle", "cascade"]
POLICY = {"policy": "double_dqn", "policy_epochs": 1}


def policy_trial() -> Trial:
    return trial_of("abn", 2, 3, 4, epochs=1, parameters=POLICY)


@cache
def measured(run: int = 0) -> tuple[Measurement, ...]:
    """The measurements of a whole run."""
    with TemporaryDirectory() as folder:
        return trained_in(Path(folder) / str(run))


def divided() -> Arrays:
    return image.divided(few(train=320), policy_trial())


def trained_in(folder: Path) -> tuple[Measurement, ...]:
    trial, data = policy_trial(), divided()
    assert len(data.held_labels) == pytest.approx(32, abs=6)
    (evaluation,) = loop.run(training_of(trial, data), workspace_in(folder))
    assert parse_evaluation(evaluation_document(evaluation)) == evaluation
    return evaluation.measurements


def test_a_policy_and_its_rivals_are_measured_at_every_price() -> None:
    found = [one for one in measured() if one.allocator != "fixed"]

    assert [one.allocator for one in found] == RULES * 3
    assert sorted({one.lambda_ or 0.0 for one in found}) == [0.05, 0.2, 0.8]
    assert len({one.allocation.label for one in found}) == 24


def test_the_agent_counts_in_its_own_convention_alone() -> None:
    trial, layers = policy_trial(), layers_of(policy_trial())
    learned, mixed = measured()[3:5]
    row, other = (measurement_row(trial.id, 1, one, layers) for one in (learned, mixed))
    assert learned.agent is not None

    assert (learned.allocator, mixed.allocator) == ("learned", "shuffled")
    agent = row["bitops_whole_agent"] - row["bitops_whole_ends8"]
    assert agent == pytest.approx(learned.layer_bits[-1].weight ** 2 * learned.agent.macs)
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


def test_a_finished_trial_is_read_back_with_its_policy_and_measures_the_same(
    tmp_path: Path,
) -> None:
    found = trained_in(tmp_path)
    document = torch.load(tmp_path / "final.pt", weights_only=True)
    again = training_of(policy_trial(), divided()).network
    again.load_state_dict(document["network"])

    assert kept_policy(again).policy is not None
    assert policy_measurements(again, policy_trial(), divided()) == found[3:]
    assert found == measured()


class Killed(Exception):
    """Ends a process in a test."""


@pytest.mark.parametrize("stage", ["static_rewards", "learn", "rivals_at"])
def test_a_trial_killed_in_the_policy_phase_repeats_that_stage_alone(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = ["train_epoch", "static_rewards", "learn", "rivals_at"]
    done: list[str] = []

    def note(module: ModuleType, name: str) -> None:
        inner = getattr(module, name)

        def noted(*given: Any, **named: Any) -> Any:
            done.append(name)
            if name == stage and done.count(name) == 1:
                raise Killed
            return inner(*given, **named)

        monkeypatch.setattr(module, name, noted)

    note(loop, "train_epoch")
    for one in stages[1:]:
        note(measuring, one)
    with pytest.raises(Killed):
        next(loop.run(training_of(policy_trial(), divided()), workspace_in(tmp_path)))
    done.clear()
    done.append(stage)
    evaluation = next(loop.run(training_of(policy_trial(), divided()), workspace_in(tmp_path)))

    assert list(dict.fromkeys(done)) == stages[stages.index(stage) :]
    assert evaluation.measurements == measured()


def test_costs_of_single_images_have_the_mean_that_the_bits_have() -> None:
    layers = layers_of(policy_trial())
    dynamic = [one for one in measured() if one.allocator != "fixed"]
    for one in dynamic:
        assert one.sample_costs is not None
        body = bitops(layers, one.layer_bits[: len(layers)], Convention.BODY)
        assert one.sample_costs.mean == pytest.approx(body)

    fixed = [one for one in measured() if one.allocator == "fixed"]
    assert all(one.sample_costs is None for one in fixed)


def test_each_image_is_held_against_its_shuffles() -> None:
    learned = measured()[3]
    above = {
        name: count for name, count in learned.sums.items() if name.endswith("above shuffled")
    }

    assert sum(above.values()) == learned.total
    assert all(f"/{NUM_SHUFFLES} " in name for name in above)
    assert learned.sums["distinct allocations"] >= 1
    assert 0 < learned.sums["images at the commonest allocation"] <= learned.total
    assert 0 <= learned.sums["decisions that 8 bits change"] <= 2 * learned.total


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

    assert image.divided(data, trial) is data


def test_a_start_leaves_out_the_images_that_its_network_s_policy_learns_on() -> None:
    data = few(train=320)
    rows = torch.arange(320)
    data = replace(data, train_images=rows.view(-1, 1, 1, 1).float(), train_labels=rows % 10)
    trial = policy_trial()
    share = DECLARED["abn"].held_share(trial.parameters)
    start = replace(trial_of("fp32", epochs=1), held_share=share)
    seen = image.divided(data, start).train_images.flatten().tolist()
    held = image.divided(data, trial).held_images.flatten().tolist()

    assert len(held) == 30
    assert set(seen).isdisjoint(held)
    assert sorted([*seen, *held]) == rows.tolist()


def test_what_the_policys_learning_takes_counts_and_measuring_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time stands still, but for 1 s an epoch, 10 s of learning and 100 s of measuring."""
    now = [0.0]

    def taking(module: ModuleType, name: str, seconds: float) -> None:
        inner = getattr(module, name)

        def slow(*given: Any, **named: Any) -> Any:
            found = inner(*given, **named)
            now[0] += seconds
            return found

        monkeypatch.setattr(module, name, slow)

    monkeypatch.setattr(clock, "perf_counter", lambda: now[0])
    taking(loop, "train_epoch", 1.0)
    taking(measuring, "learn", 10.0)
    taking(measuring, "rivals_at", 100.0)
    monkeypatch.setattr(measuring, "oracle_of", raising)
    with pytest.raises(Killed):
        next(loop.run(training_of(policy_trial(), divided()), workspace_in(tmp_path)))
    monkeypatch.setattr(measuring, "oracle_of", oracle_of)
    evaluation = next(loop.run(training_of(policy_trial(), divided()), workspace_in(tmp_path)))

    assert evaluation.seconds == 11.0


def raising(*_: Any) -> None:
    raise Killed


def test_a_data_set_too_small_for_a_policy_is_refused_before_training() -> None:
    with pytest.raises(InputError, match=r"abn holds 0\.1 of 40 .* at least 8 are needed"):
        image.divided(few(train=40), policy_trial())


def test_no_more_than_a_batch_is_normalised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(images: Any, *statistics: Any) -> Any:
        sizes.append(len(images))
        return normalise(images, *statistics)

    data = few(train=320, evaluated=300)
    divided = image.divided(data, policy_trial())
    network = training_of(policy_trial(), divided).network.eval()
    monkeypatch.setattr(raw, "normalise", noted)
    policy_measurements(network, policy_trial(), divided)

    assert max(sizes) == ROLLOUT_BATCH
