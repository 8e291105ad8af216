"""Result stores made for tests: the toy trainer's, filled in a second."""

from dataclasses import replace
from pathlib import Path

from bitsweep.bits import tied
from bitsweep.plan import Plan
from bitsweep.run import RunOptions, run_sweep
from bitsweep.space import Choice, Range
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Arm, Asha, Comparison, Confirm, Objective, Search, Start, Sweep, Task
from bitsweep.testing import TOY_TRAINER, toy_declarations

HOSTILE = '<img src=x onerror=alert(1)><script>alert(2)</script> & "quotes"'


def toy_sweep(name: str = "toy", question: str = "Does the toy work?") -> Sweep:
    """Four arms: one without quantization, two that search and one that fails."""
    space = {"x": Range(low=0, high=1)}
    return Sweep(
        name=name,
        question=question,
        reproduces="",
        expects="",
        cost="",
        task=Task(
            data="toy-data",
            model="toy-net",
            epochs=4,
            bits=(tied(2), tied(3)),
            trainer=TOY_TRAINER,
            start=Start(method="toy_fp32", epochs=2),
        ),
        arms=(
            Arm(name="fp32", method="toy_fp32"),
            Arm(name="a", method="toy", space=space | {"sharing": Choice(values=("off",))}),
            Arm(name="b", method="toy_all", space=space),
            Arm(name="bad", method="toy", parameters={"act": "raise"}),
        ),
        objectives=(Objective(),),
        search=Search(
            configurations_per_arm=4, scheduler=Asha(grace_epochs=1, reduction_factor=2)
        ),
        confirm=Confirm(seeds=(0, 1, 2)),
        comparisons=(Comparison(arm="a", against="b", at=tied(3)),),
    )


def hostile_sweep() -> Sweep:
    """The toy sweep whose question and one of whose arms are named as markup."""
    sweep = toy_sweep(question=HOSTILE)
    renamed = tuple(replace(arm, name=HOSTILE) if arm.name == "b" else arm for arm in sweep.arms)
    compared = (Comparison(arm="a", against=HOSTILE, at=tied(3)),)
    return replace(sweep, arms=renamed, comparisons=compared)


def run_toy(store: Path | str, sweep: Sweep) -> str:
    """Run what is missing of the sweep and return the store's address."""
    plan = Plan(sweep=sweep, declarations=toy_declarations())
    options = RunOptions(store=str(store), mlflow=None, executor="local")
    run_sweep(plan, options, observe=lambda progress: None)
    return str(store)


def with_another_seed(sweep: Sweep) -> Sweep:
    """The same question with one seed more."""
    assert sweep.confirm is not None
    return replace(sweep, confirm=replace(sweep.confirm, seeds=(*sweep.confirm.seeds, 3)))


def reader_of(store: str) -> Reader:
    """A reader as the command line opens it."""
    return Reader(open_to_read(store))
