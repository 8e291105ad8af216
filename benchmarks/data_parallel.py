"""What a trial over two workers costs beside its training: the time from the 4th end to the 12th.

A trial meets over gloo and makes 5 evaluations of 5 averaged gradients each, of a network of a few
numbers; a sweep of 12 runs through Ray and is recorded in SQLite. The marginal cost is what one
more trial takes: (end of the last trial - end of the 4th) / 8 of one sweep, so that imports, Ray's
start and that of its workers, which are used again, count for none. "alone" is the same trial with
one worker, printed beside. Each sweep has a process and a Ray of its own, and the two take turns;
figures are medians over the blocks.

    python benchmarks/data_parallel.py [--blocks 3] [--few 4] [--many 12]
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from bitsweep.bits import tied
from bitsweep.execution import ray_connection
from bitsweep.execution.progress import Progress
from bitsweep.measurement import Evaluation
from bitsweep.plan import Plan
from bitsweep.run import RunOptions, run_sweep
from bitsweep.space import Range
from bitsweep.sweep import Arm, Objective, Resources, Search, Sweep, Task
from bitsweep.testing import toy_declarations, toy_train
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial

EVALUATIONS = 5
STEPS = 5
WORKERS = {"together": 2, "alone": 1}
LIMITS = {"marginal_s": 1.0}


def train(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """The toy with real collectives between its evaluations."""
    import torch

    from bitsweep_trainers.methods.base import ParameterGroup
    from bitsweep_trainers.parallel import joined

    weights = torch.nn.Parameter(torch.zeros(1000))
    groups = [ParameterGroup(name="weights", parameters=[weights], learning_rate=0.1)]
    with joined(workspace, torch.device("cpu")) as group:
        for evaluation in toy_train(trial, workspace):
            for _ in range(STEPS):
                weights.grad = torch.full_like(weights, 1.0 + group.rank)
                group.mean_gradients(groups, 0.0)
            assert weights.grad is not None  # it was set
            assert float(weights.grad[0]) == (1.0 + group.size) / 2
            yield evaluation


def ends_of(trials: int, *, workers: int) -> list[float]:
    """When each trial of a sweep in an empty folder ended, in seconds from the sweep's start."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # Ray's workers import this file
    ray_connection.connect("local")
    sweep = Sweep(
        name="no-op",
        question="what does a trial over several workers cost?",
        reproduces="",
        expects="",
        cost="",
        task=Task(
            data="toy-data",
            model="toy-net",
            epochs=EVALUATIONS,
            bits=(tied(4),),
            trainer="data_parallel:train",
        ),
        arms=(Arm(name="toy", method="toy", space={"x": Range(low=0.0, high=1.0)}),),
        objectives=(Objective(),),
        search=Search(configurations_per_arm=trials),
        resources=Resources(workers_per_trial=workers, max_concurrent=1),
    )
    with tempfile.TemporaryDirectory(prefix="bitsweep-bench-") as folder:
        begin = perf_counter()
        ends: list[float] = []

        def observe(progress: Progress) -> None:
            if progress.event.startswith("finished"):
                ends.append(perf_counter() - begin)

        report = run_sweep(
            Plan(sweep=sweep, declarations=toy_declarations()),
            RunOptions(store=str(Path(folder) / "bitsweep.db"), mlflow=None),
            observe=observe,
        )
    assert report.trials_run == len(ends) == trials, report.failures
    ray_connection.disconnect()
    return ends


def measured(name: str, trials: int) -> list[float]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--sweep", name, "--many", str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(one) for one in done.stdout.strip().splitlines()[-1].split()]


def main() -> None:
    """Run the blocks and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--few", type=int, default=4)
    parser.add_argument("--many", type=int, default=12)
    parser.add_argument("--sweep", choices=list(WORKERS), help="run one sweep here and print it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options.sweep:
        print(*ends_of(options.many, workers=WORKERS[options.sweep]))
        return
    margins: dict[str, list[float]] = {name: [] for name in WORKERS}
    for block in range(options.blocks):
        for name, found in margins.items():
            ends = measured(name, options.many)
            few, many = ends[options.few - 1], ends[-1]
            found.append((many - few) / (options.many - options.few))
            whole = f"{few:6.2f} s for {options.few}, {many:6.2f} s for {options.many}"
            print(f"block {block + 1}: {name:9}{whole}, {found[-1]:6.3f} s a trial", flush=True)
    figures = {
        "marginal_s": median(margins["together"]),
        "alone_marginal_s": median(margins["alone"]),
    }
    holds = all(figures[name] <= limit for name, limit in LIMITS.items())
    document = {"benchmark": "data_parallel", "figures": figures, "limits": LIMITS}
    print(json.dumps(document | {"holds": holds}))


if __name__ == "__main__":
    main()
