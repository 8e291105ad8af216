"""A trial's identity: stable over time, changed by what changes numbers and by nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bitsweep_suite.toys import toy_trial

from bitsweep.bits import tied
from bitsweep.plan import Plan
from bitsweep.recipe import PLAIN, Recipe
from bitsweep.sweep import Arm, Backend, Confirm, Objective, Precision, Start, Sweep, Task
from bitsweep.trainer import load_declarations
from bitsweep.trial import (
    Diverged,
    Failed,
    Finished,
    Interrupted,
    Pruned,
    Trial,
    canonical_json,
    parse_trial,
    status_of,
    trial_document,
)

DECLARATIONS = load_declarations()
CHANGES: dict[str, Any] = {
    "trainer": "other",
    "method": "toy_all",
    "model": "other",
    "data": "other",
    "data_sha256": "1" * 64,
    "split_rule": "other",
    "bits": (tied(3),),
    "parameters": {"x": 0.25},
    "epochs": 5,
    "batch_size": 64,
    "seed": 1,
    "numerics": {"method": 2, "model": 1, "loop": 1},
    "splits": ("validation", "test"),
    "start": "2" * 64,
    "precision": "bf16",
    "world_size": 2,
    "sync_batch_norm": True,
    "is_grouped": True,
    "held_share": 0.1,
    "threads": 2,
    "backend": "compiled",
    "weights_sha256": "3" * 64,
    "recipe": Recipe(ema_decay=0.99),
    "learns_bits": True,
    "allocation": "w=[2,3] a=[4,4]",
}
PLACES: dict[str, Any] = {"data_path": "/data/beats.npz", "weights_path": "/weights/resnet18.pth"}
values = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)


def planned(
    method: str,
    *bits: int,
    recipe: Recipe = PLAIN,
    precision: Precision = "fp32",
    backend: Backend = "eager",
    model: str = "small-cnn",
    **parameters: Any,
) -> tuple[Trial, ...]:
    """The trials of an arm of a real method, with these parameters searched."""
    sweep = Sweep(
        name="one",
        question="?",
        reproduces="",
        expects="",
        cost="",
        task=Task(
            data="fashion-mnist-6k",
            model=model,
            epochs=1,
            bits=tuple(tied(one) for one in bits),
            start=Start(method="fp32", epochs=1),
            recipe=recipe,
            precision=precision,
            backend=backend,
        ),
        arms=(Arm(name="one", method=method),),
        objectives=(Objective(),),
        confirm=Confirm(),
    )
    plan = Plan(sweep=sweep, declarations=DECLARATIONS)
    return plan.trials(sweep.arms[0], parameters, seed=0, bits=sweep.task.bits, stage="search")


def test_the_id_of_a_known_trial_is_what_it_was() -> None:
    # sha256sum of its canonical JSON, spelled out by hand.
    golden = "b5f7a656686889c651bd54f9f7a24b995451b98b1f1bcb02aede7dee5b107d77"

    assert toy_trial().id == golden


def test_every_field_is_part_of_the_identity_except_where_files_lie() -> None:
    assert set(CHANGES) | set(PLACES) == set(Trial.__dataclass_fields__)


@pytest.mark.parametrize("name", PLACES)
def test_a_file_that_is_moved_leaves_the_id(name: str) -> None:
    moved = replace(toy_trial(), **{name: PLACES[name]})

    assert moved.id == toy_trial().id
    assert parse_trial(trial_document(moved)) == moved


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_field_changes_the_id(name: str) -> None:
    changed = replace(toy_trial(), **{name: CHANGES[name]})

    assert changed.id != toy_trial().id


def test_numbers_that_a_parameter_switches_on_leave_other_trials_what_they_are() -> None:
    (plain,) = planned("cpq_dropbits", 4)
    (hetero,) = planned("cpq_dropbits", 4, task="hetero")
    (with_target,) = planned("cpq_dropbits", 4, task="hetero", target_bits=3.0)

    assert set(plain.numerics) == set(hetero.numerics) == {"method", "model", "loop"}
    (untuned,) = planned("cpq_dropbits", 4, task="hetero", finetune_fraction=0.0)
    assert untuned.numerics == {**hetero.numerics, "finetune_fraction": 2}
    assert with_target.numerics == {**hetero.numerics, "target_bits": 2}


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_parameters_means_nothing(order: list[str]) -> None:
    mixed = toy_trial(parameters=dict.fromkeys(order, 1))

    assert mixed.id == toy_trial(parameters={"a": 1, "b": 1, "c": 1}).id


def test_equal_contents_are_equal_trials() -> None:
    assert toy_trial() == toy_trial()


@given(st.dictionaries(st.text(max_size=5), values, max_size=3), st.integers(0, 2**31))
def test_a_trial_survives_its_document(parameters: dict[str, Any], seed: int) -> None:
    trial = toy_trial(parameters=parameters, seed=seed)
    again = parse_trial(trial_document(trial))

    assert again == trial and again.id == trial.id


def test_the_document_of_a_trial_is_canonical_json() -> None:
    document = trial_document(toy_trial())

    assert canonical_json(document) == canonical_json(dict(reversed(document.items())))


def test_the_short_id_begins_the_id() -> None:
    assert toy_trial().id.startswith(toy_trial().short_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": ()},
        {"bits": (tied(3), tied(2))},
        {"bits": (tied(2), tied(2))},
        {"seed": -1},
        {"epochs": -1},
        {"batch_size": 0},
        {"threads": 0},
    ],
)
def test_a_trial_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        toy_trial(**changes)


def test_a_number_that_is_not_finite_has_no_identity() -> None:
    with pytest.raises(ValueError):
        _ = toy_trial(parameters={"x": float("nan")}).id


def test_a_default_spelled_out_is_the_same_trial() -> None:
    assert planned("lsq", 4, learning_rate=0.03) == planned("lsq", 4)


def test_cpq_at_2_bits_has_nothing_to_drop_whatever_shares_a_mask() -> None:
    shared = planned("cpq_dropbits", 2, sharing="bitwise", keep_probability=0.7)

    assert shared[0].id == planned("cpq_dropbits", 2, sharing="off")[0].id


def test_cpq_at_4_bits_is_another_trial_with_another_keep_probability() -> None:
    shared = planned("cpq_dropbits", 4, sharing="bitwise", keep_probability=0.7)

    assert shared[0].id != planned("cpq_dropbits", 4, sharing="bitwise")[0].id


def test_cpq_without_masks_ignores_their_keep_probability() -> None:
    unshared = planned("cpq_dropbits", 4, sharing="off", keep_probability=0.7)

    assert unshared[0].id == planned("cpq_dropbits", 4, sharing="off")[0].id


def test_mbquant_policies_that_select_the_same_branches_are_one_trial() -> None:
    full = {
        policy: planned("mbquant", 4, num_branches=2, selection=policy)[0].id
        for policy in ("paper_code", "nested", "balanced")
    }

    assert len(set(full.values())) == 1


def test_mbquant_with_branches_left_to_it_is_the_trial_that_names_them() -> None:
    assert planned("mbquant", 2, 4, num_branches=2) == planned("mbquant", 2, 4)


def test_a_method_for_all_widths_has_one_trial_and_the_others_one_per_width() -> None:
    assert [trial.bits_label for trial in planned("mbquant", 2, 4)] == ["w2a2+w4a4"]
    assert [trial.bits_label for trial in planned("lsq", 2, 4)] == ["w2a2", "w4a4"]


def test_the_full_precision_arm_is_one_trial_whatever_bits_are_asked() -> None:
    trials = planned("fp32", 32)

    assert [trial.bits_label for trial in trials] == ["w32a32"]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(memory_format="contiguous"),
        Recipe(micro_batch_size=64),
        Recipe(ema_decay=0.9),
        Recipe(label_smoothing=0.1),
        Recipe(warmup_epochs=1),
    ],
)
def test_every_option_of_a_recipe_changes_the_id_and_survives_the_document(
    recipe: Recipe,
) -> None:
    trial = replace(toy_trial(), recipe=recipe)
    again = parse_trial(trial_document(trial))

    assert trial.id != toy_trial().id
    assert again == trial and again.id == trial.id


def test_a_recipe_at_its_defaults_leaves_no_trace() -> None:
    assert "recipe" not in trial_document(toy_trial())
    assert trial_document(replace(toy_trial(), recipe=Recipe(ema_decay=0.9)))["recipe"] == {
        "ema_decay": 0.9
    }


def test_a_micro_batch_of_the_whole_batch_is_the_plain_trial() -> None:
    plain, whole, half = (planned_with(Recipe(micro_batch_size=size)) for size in (None, 128, 64))

    assert plain == whole != half


def planned_with(recipe: Recipe, method: str = "lsq", precision: Precision = "fp32") -> Trial:
    """The trial of a method at 4 bits under a recipe."""
    return planned(method, 4, recipe=recipe, precision=precision)[0]


def test_the_recipe_of_a_task_reaches_its_trials_and_their_start() -> None:
    trial = planned_with(Recipe(label_smoothing=0.1), precision="bf16")

    assert trial.recipe == Recipe(label_smoothing=0.1) and trial.precision == "bf16"
    assert trial.start != planned_with(Recipe()).start


def test_what_trains_nothing_has_no_recipe_but_its_start_has() -> None:
    trial = planned_with(Recipe(label_smoothing=0.1), "ptq", "bf16")

    assert trial.recipe == Recipe() and trial.precision == "fp32"
    assert trial.start != planned_with(Recipe(), "ptq").start


def test_the_backend_of_a_task_is_that_of_the_methods_with_kernels() -> None:
    eager, compiled = planned("lsq", 4)[0], planned("lsq", 4, backend="compiled")[0]

    assert (eager.backend, compiled.backend) == ("eager", "compiled")
    assert eager.id != compiled.id and eager.start == compiled.start
    for method in ("fp32", "ptq"):
        assert planned(method, 4, backend="compiled") == planned(method, 4)


@pytest.mark.parametrize(("compiler", "backend"), [("true", "compiled"), ("no-such", "eager")])
def test_auto_is_settled_by_the_compiler_that_is_here(
    compiler: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)

    assert planned("lsq", 4, backend="auto")[0].backend == backend


@pytest.mark.parametrize(
    ("method", "model", "numerics"),
    [
        ("bit_mixer", "resnet18-small", 2),
        ("bit_mixer", "resnet20-b", 1),
        ("lsq", "resnet18-small", 1),
    ],
)
def test_a_method_may_have_other_numerics_on_some_models(
    method: str, model: str, numerics: int
) -> None:
    assert planned(method, 4, model=model)[0].numerics["method"] == numerics


def test_a_method_that_does_not_train_has_no_epochs() -> None:
    assert planned("ptq", 4)[0].epochs == 0


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Finished(epoch=1), "finished"),
        (lambda: Pruned(epoch=1), "pruned"),
        (lambda: Diverged(reason="nan"), "diverged"),
        (lambda: Failed(reason="no"), "failed"),
        (lambda: Interrupted(), "interrupted"),
    ],
)
def test_each_outcome_has_its_word(make: Callable[[], Any], word: str) -> None:
    assert status_of(make()) == word
