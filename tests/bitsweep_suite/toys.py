"""Small sweeps, trials and evaluations of the toy trainer, and a run of them in this process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitsweep.bits import Allocation, Bits, tied
from bitsweep.cost import LayerBits
from bitsweep.execution.progress import Progress
from bitsweep.measurement import Evaluation, Measurement, Split
from bitsweep.plan import Plan
from bitsweep.run import RunOptions, RunReport, run_sweep
from bitsweep.space import Choice, Range
from bitsweep.sweep import Arm, Confirm, Objective, Search, Start, Sweep, Task
from bitsweep.testing import TOTAL, TOY_TRAINER, toy_declarations, toy_layers
from bitsweep.trial import Trial

LAYERS = toy_layers((1, 8, 8), 2)
SEARCHED = Arm(name="a", method="toy", space={"x": Range(low=0.0, high=1.0)})
CONDITIONAL = Arm(
    name="a",
    method="toy",
    space={
        "sharing": Choice(values=("off", "bitwise")),
        "keep": Range(low=0.0, high=1.0, when={"sharing": ("bitwise",)}),
    },
)
FIXED = Arm(name="fixed", method="toy", parameters={"x": 0.25})


def acting(act: str, *, name: str = "bad") -> Arm:
    """An arm without a space whose trials misbehave."""
    return Arm(name=name, method="toy", parameters={"act": act})


def toy_task(**changes: Any) -> Task:  # the fields of Task
    """Four epochs at 2 and 3 bits, without a start."""
    task = Task(
        data="toy-data",
        model="toy-net",
        epochs=4,
        bits=(tied(2), tied(3)),
        trainer=TOY_TRAINER,
    )
    return replace(task, **changes)


STARTED = toy_task(start=Start(method="toy_fp32", epochs=2))


def toy_sweep(*arms: Arm, **changes: Any) -> Sweep:  # the fields of Sweep
    """A sweep over the arms: three configurations each, confirmed on two seeds."""
    sweep = Sweep(
        name="toy",
        question="?",
        reproduces="",
        expects="",
        cost="",
        task=toy_task(),
        arms=arms or (SEARCHED,),
        objectives=(Objective(),),
        search=Search(configurations_per_arm=3),
        confirm=Confirm(seeds=(0, 1)),
        text="name = 'toy'",
    )
    return replace(sweep, **changes)


def toy_plan(sweep: Sweep) -> Plan:
    """The sweep with what the toys declare."""
    return Plan(sweep=sweep, declarations=toy_declarations())


def toy_trial(**changes: Any) -> Trial:  # the fields of Trial
    """A trial at 2 bits."""
    trial = Trial(
        trainer=TOY_TRAINER,
        method="toy",
        model="toy-net",
        data="toy-data",
        data_sha256="0" * 64,
        split_rule="none",
        bits=(tied(2),),
        parameters={"x": 0.5},
        epochs=4,
        batch_size=128,
        seed=0,
        numerics={"method": 1, "model": 1, "loop": 1},
    )
    return replace(trial, **changes)


def layer_bits(bits: Bits) -> tuple[LayerBits, ...]:
    """Every toy layer at the same bits."""
    return tuple(LayerBits(weight=bits.weight, activation=bits.activation) for _ in LAYERS)


def measurement(
    correct: int | None = 700,
    *,
    split: Split = "validation",
    bits: Bits | None = None,
    **changes: Any,
) -> Measurement:
    """So many correct of a thousand at these bits (default: 2)."""
    width = bits or tied(2)
    one = Measurement(
        split=split,
        allocation=Allocation.uniform(width),
        total=TOTAL,
        correct=correct,
        sums={"loss": float(TOTAL - (correct or 0))},
        layer_bits=layer_bits(width),
    )
    return replace(one, **changes)


def evaluation(epoch: int = 1, *measurements: Measurement) -> Evaluation:
    """The measurements, or a plain one, after this epoch."""
    return Evaluation(
        epoch=epoch,
        seconds=0.5 * epoch,
        examples=TOTAL * epoch,
        measurements=measurements or (measurement(),),
    )


def run_toy(
    sweep: Sweep,
    folder: Path,
    *,
    mlflow: str | None = None,
    retries_failed: bool = False,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> RunReport:
    """Run a sweep in this process, with its store in the folder."""
    options = RunOptions(
        store=str(folder / "store.db"),
        mlflow=mlflow,
        executor="local",
        retries_failed=retries_failed,
    )
    return run_sweep(toy_plan(sweep), options, observe=observe)


def ask_store(folder: Path, sql: str, *, name: str = "store.db") -> list[tuple[Any, ...]]:
    """Rows of a query to the folder's store."""
    from bitsweep.store.database import open_to_read
    from bitsweep.store.reader import Reader

    reader = Reader(open_to_read(str(folder / name)))
    try:
        return reader.query(sql)[1]
    finally:
        reader.close()


def counts(rows: Sequence[tuple[Any, ...]]) -> Mapping[Any, Any]:
    """Rows of two columns as a mapping."""
    return {row[0]: row[1] for row in rows}
