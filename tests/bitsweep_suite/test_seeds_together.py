"""`resources.seeds_together`: what cannot be trained so is refused, and what else it means."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bitsweep_suite.toys import FIXED, STARTED, toy_plan, toy_sweep, toy_task

from bitsweep.checks import Problem, check_sweep
from bitsweep.declaration import Declarations
from bitsweep.errors import InputError
from bitsweep.recipe import Recipe
from bitsweep.sweep import Arm, Resources, Sweep
from bitsweep.testing import toy_declarations, toy_train_group
from bitsweep.trainer import load_group_trainer

TOGETHER = Resources(seeds_together=2)
ALL = Arm(name="all", method="toy_all")
KEY = ("resources", "seeds_together")


def declarations(**changes: Any) -> Declarations:
    """The toys, with these fields of the method `toy` changed."""
    known = toy_declarations()
    return replace(
        known, methods={**known.methods, "toy": replace(known.methods["toy"], **changes)}
    )


def sweep(*arms: Arm, **changes: Any) -> Sweep:
    """A sweep whose seeds are trained together."""
    return toy_sweep(*(arms or (FIXED,)), **{"resources": TOGETHER, **changes})


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (sweep(ALL), "toy_all cannot be trained with seeds_together = 2: its seeds cannot share"),
        (sweep(FIXED, ALL), "toy_all cannot be trained with seeds_together = 2"),
        (
            sweep(task=toy_task(recipe=Recipe(ema_decay=0.9))),
            "toy cannot be trained with seeds_together = 2: with ema_decay it is not proved",
        ),
        (
            sweep(task=toy_task(recipe=Recipe(micro_batch_size=64))),
            "with micro_batch_size it is not proved",
        ),
        (sweep(task=toy_task(precision="bf16")), "with precision it is not proved"),
        (
            sweep(resources=Resources(seeds_together=2, workers_per_trial=2)),
            "with workers_per_trial it is not proved",
        ),
        (
            sweep(confirm=None),
            "only seeds of the confirm stage are trained together: add [confirm]",
        ),
        (sweep(task=toy_task(backend="compiled")), "expected task.backend eager"),
        (
            sweep(task=toy_task(trainer="bitsweep.testing:toy_layers")),
            "several seeds are trained by the function of its module with _group behind its name",
        ),
    ],
)
def test_what_cannot_be_trained_together_is_refused(refused: Sweep, expected: str) -> None:
    with pytest.raises(Problem) as raised:
        check_sweep(refused, toy_declarations())

    assert raised.value.path == KEY and expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_installed_trainer_without_one_for_several_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "solo-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: solo\nVersion: 1.0\n")
    trainer = "[bitsweep.trainers]\nsolo = bitsweep.testing:toy_train\n"
    (installed / "entry_points.txt").write_text(trainer)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Problem) as raised:
        check_sweep(sweep(task=toy_task(trainer="solo")), toy_declarations())

    assert raised.value.path == KEY
    can = "trainers that can train several: image, series, vectors"
    assert f"the trainer 'solo' trains one seed at a time; {can}" in str(raised.value)


@pytest.mark.parametrize("task", [toy_task(), STARTED, toy_task(backend="auto")])
def test_what_can_be_trained_together_is_not_refused(task: Any) -> None:
    check_sweep(sweep(task=task), toy_declarations())


def test_a_start_that_cannot_be_trained_together_is_refused() -> None:
    known = toy_declarations()
    alone = replace(known.methods["toy_fp32"], groups_seeds=False)
    known = replace(known, methods={**known.methods, "toy_fp32": alone})

    with pytest.raises(Problem, match="toy_fp32 cannot be trained with seeds_together"):
        check_sweep(sweep(task=STARTED), known)


def test_a_method_that_trains_nothing_is_not_refused() -> None:
    check_sweep(sweep(task=STARTED), declarations(trains=False, groups_seeds=False))


@pytest.mark.parametrize(("together", "backend"), [(1, "compiled"), (2, "eager")])
def test_auto_is_eager_where_seeds_are_trained_together(together: int, backend: str) -> None:
    resources = Resources(seeds_together=together)
    plan = toy_plan(sweep(task=toy_task(backend="auto"), resources=resources))

    assert plan.backend == backend


def test_the_trainer_of_several_lies_beside_that_of_one() -> None:
    assert load_group_trainer("bitsweep.testing:toy_train") is toy_train_group


def test_a_trainer_of_several_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"unknown group trainer 'imgae'.*did you mean 'image'"):
        load_group_trainer("imgae")
