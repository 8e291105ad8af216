"""What a machine lacks is said before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.sweep_texts import DECLARATIONS, WHOLE, read
from tests.bitsweep_suite.toys import FIXED, ask_store, toy_plan, toy_sweep

from bitsweep.errors import InputError
from bitsweep.execution.here import check_data, check_machine, this_machine
from bitsweep.plan import Plan
from bitsweep.run import RunOptions, run_sweep
from bitsweep.sweep import Resources
from bitsweep.testing import toy_declarations


def plan_with(folder: Path, *overrides: str) -> Plan:
    """Of the whole sweep file."""
    return Plan(sweep=read(WHOLE, folder, *overrides), declarations=DECLARATIONS)


def test_data_that_was_not_fetched_is_named_with_what_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITSWEEP_DATA", str(tmp_path))
    plan = plan_with(tmp_path, 'task.data="cifar100"')
    options = RunOptions(store=str(tmp_path / "s.db"), mlflow=None, executor="local")

    with pytest.raises(InputError, match="'cifar100' is not here: `bitsweep data fetch cifar100`"):
        run_sweep(plan, options, observe=lambda progress: None)
    assert ask_store(tmp_path, "SELECT COUNT(*) FROM attempts", name="s.db") == [(0,)]


def test_data_that_is_shipped_or_of_others_passes(tmp_path: Path) -> None:
    check_data(plan_with(tmp_path))
    check_data(toy_plan(toy_sweep(FIXED)))


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(cpus_per_worker=1000), "wants 1000 CPU cores on one node"),
        (Resources(memory_gib_per_worker=1e6), "bytes of memory on one node"),
        (Resources(custom_per_worker={"licence": 1.0}), "1 licence on one node"),
        (Resources(gpus_per_worker=1.0), "1 GPUs on one node: the largest node has 0 GPUs"),
    ],
)
def test_what_this_machine_has_not_is_refused(resources: Resources, expected: str) -> None:
    declarations = replace(toy_declarations(), num_gpus=lambda: 0)
    sweep = toy_sweep(FIXED, resources=resources)

    with pytest.raises(InputError, match=expected):
        check_machine(Plan(sweep=sweep, declarations=declarations))


def test_gpus_that_nobody_counts_are_left_to_the_trainer() -> None:
    check_machine(toy_plan(toy_sweep(FIXED, resources=Resources(gpus_per_worker=1.0))))


def test_the_trainers_count_the_gpus() -> None:
    import torch

    assert this_machine(DECLARATIONS)["GPU"] == torch.cuda.device_count()
