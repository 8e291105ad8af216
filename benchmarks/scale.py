"""Whether the thousandth trial costs what the first did: replayed curves, no training.

Trials of 10 evaluations x 4 allocations go through the same search, recorder and story function
as any sweep, with the local executor: once by random search, once by TPE over 10 arms; and a tenth
as many through Ray, where the trainer is the toy of the tests. Prints milliseconds a trial in
tenths of the run (and of the driver's processor time, which other work on the machine touches
less), their growth, rows per second and the driver's memory. The rows a second are those of the
recorder, from an evaluation to its commit; `all` is the whole run's rate. Ray's start counts for
the first tenth.

    python benchmarks/scale.py [--trials 10000] [--way random|tpe|ray]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time

from bitsweep import run as story
from bitsweep.bits import Allocation, tied
from bitsweep.cost import LayerBits
from bitsweep.execution.local import LocalExecutor
from bitsweep.execution.progress import Progress
from bitsweep.execution.recorder import Recorder
from bitsweep.measurement import Evaluation, Measurement
from bitsweep.plan import Plan
from bitsweep.run import ExecutorName, RunOptions
from bitsweep.space import Range
from bitsweep.sweep import Arm, Objective, Resources, Sampler, Search, Sweep, Task
from bitsweep.testing import TOY_TRAINER, toy_declarations
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial

WIDTHS = tuple(tied(bits) for bits in (2, 3, 4, 8))
EPOCHS = 10
LIMITS = {
    "random_last_tenth_over_first": 1.2,
    "tpe_last_tenth_over_first": 1.2,
    "ray_last_tenth_over_first": 1.2,
    "random_driver_mib": 1536.0,
    "tpe_driver_mib": 1536.0,
    "ray_driver_mib": 1536.0,
}
FLOORS = {"random_recorded_rows_per_second": 3000.0}


@dataclass(frozen=True)
class Way:
    """How trials are proposed and run; `share` of --trials of them."""

    sampler: Sampler
    arms: int
    executor: ExecutorName
    share: float = 1.0


WAYS = {
    "random": Way(sampler="random", arms=1, executor="local"),
    "tpe": Way(sampler="tpe", arms=10, executor="local"),
    "ray": Way(sampler="random", arms=1, executor="ray", share=0.1),
}


class Timed(Recorder):
    """The recorder, with the seconds that it took to record: one commit for each evaluation."""

    seconds = 0.0

    def record(self, trial_id: str, evaluation: Evaluation) -> bool:
        begin = perf_counter()
        try:
            return super().record(trial_id, evaluation)
        finally:
            Timed.seconds += perf_counter() - begin


def replay(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """A trainer that only looks its curve up: no work of its own."""
    x = float(trial.parameters["x"])
    for epoch in range(1, trial.epochs + 1):
        yield Evaluation(
            epoch=epoch,
            seconds=0.1 * epoch,
            examples=100 * epoch,
            measurements=tuple(
                Measurement(
                    split="validation",
                    allocation=Allocation.uniform(bits),
                    correct=round(500 + 10 * bits.weight + 5 * epoch - 200 * (x - 0.5) ** 2),
                    total=1000,
                    sums={"loss": 1000.0 / epoch},
                    layer_bits=tuple(
                        LayerBits(weight=bits.weight, activation=bits.activation) for _ in range(3)
                    ),
                )
                for bits in trial.bits
            ),
        )


def sweep_of(way: Way, trials: int) -> Sweep:
    """One question over as many configurations as there are trials."""
    arms = tuple(
        Arm(
            name=f"arm{index}",
            method="toy_all",
            parameters={},
            space={"x": Range(low=0.0, high=1.0 - 0.01 * index)},  # arms alike share their trials
        )
        for index in range(way.arms)
    )
    return Sweep(
        name="scale",
        question="what does the last trial cost?",
        reproduces="",
        expects="",
        cost="",
        task=Task(
            data="toy-data", model="toy-net", epochs=EPOCHS, bits=WIDTHS, trainer=TOY_TRAINER
        ),
        arms=arms,
        objectives=(Objective(),),
        search=Search(sampler=way.sampler, configurations_per_arm=trials // len(arms)),
        resources=Resources(),
    )


def run(name: str, trials: int) -> dict[str, float]:
    """One sweep in an empty store: seconds of each tenth, rows a second, memory."""
    way = WAYS[name]
    begins: list[tuple[float, float]] = []
    ends: list[float] = []
    worked: list[float] = []

    def observe(progress: Progress) -> None:
        if not begins:
            begins.append((perf_counter(), process_time()))
        if progress.event.startswith("finished"):
            ends.append(perf_counter())
            worked.append(process_time())

    story.LocalExecutor = partial(LocalExecutor, trainer=replay)  # type: ignore[attr-defined, assignment]
    story.Recorder = Timed  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="bitsweep-scale-") as folder:
        options = RunOptions(
            store=str(Path(folder) / "store.db"), mlflow=None, executor=way.executor
        )
        plan = Plan(sweep=sweep_of(way, trials), declarations=toy_declarations())
        report = story.run_sweep(plan, options, observe=observe)
    ((begin, begin_of_work),) = begins
    spans, of_work = tenths(ends, begin), tenths(worked, begin_of_work)
    for index, (span, work) in enumerate(zip(spans, of_work, strict=True)):
        told = f"tenth {index + 1}: {span:7.2f} ms a trial, {work:6.2f} ms of processor time"
        print(f"{name}: {told}", file=sys.stderr)
    memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = report.measurements_written
    return {
        f"{name}_trials": float(report.trials_run),
        f"{name}_ms_per_trial": fmean(spans),
        f"{name}_last_tenth_over_first": spans[-1] / spans[0],
        f"{name}_last_tenth_over_first_of_work": of_work[-1] / of_work[0],
        f"{name}_all_rows_per_second": rows / (ends[-1] - begin),
        f"{name}_recorded_rows_per_second": rows / Timed.seconds,
        f"{name}_driver_mib": memory_kib / 1024,
    }


def tenths(ends: list[float], begin: float) -> list[float]:
    """Milliseconds a trial in each tenth of the trials, from when each ended in seconds."""
    size = max(1, len(ends) // 10)
    marks = [begin, *ends[size - 1 :: size]]
    return [1e3 * (after - before) / size for before, after in pairwise(marks)]


def main() -> None:
    """Measure each sampler in a process of its own and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--way", choices=list(WAYS), help="measure this one here")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.way:
        print(json.dumps(run(given.way, round(given.trials * WAYS[given.way].share))))
        return
    figures: dict[str, float] = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--trials", str(given.trials)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures |= json.loads(done.stdout.strip().splitlines()[-1])
    for name, value in figures.items():
        print(f"{name:42} {value:12.2f}")
    holds = all(figures[name] <= limit for name, limit in LIMITS.items())
    holds = holds and all(figures[name] >= floor for name, floor in FLOORS.items())
    limits = LIMITS | FLOORS
    print(json.dumps({"benchmark": "scale", "figures": figures, "limits": limits, "holds": holds}))


if __name__ == "__main__":
    main()
