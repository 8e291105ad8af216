"""What breaks a sweep and what it costs: every fault at a random moment, then the command again.

Each fault strikes the real thing while at least two trials run: processes killed with kill -9,
nodes of a real Ray cluster, a PostgreSQL and an MLflow server, a full disk. Then the sweep is
started again, and what the trainers say they measured is held against the store. The trainers are
toys that keep a ledger of their own; all else is what a user runs. Run as root for the disk.

--against tune kills the driver of twelve trials instead: ours, and one written by hand with Tune,
OptunaSearch and MLflowLoggerCallback, which goes on with Tuner.restore.

    python benchmarks/faults.py [--repeats 5] [--only NAME] [--seed 0] [--list] [--against tune]
"""

import argparse
import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.against import ours, tune
from tests.faults.catalog import BY_NAME, FAULTS, strike
from tests.faults.scene import Fault, Grounds

LIMITS = {"lost": 0, "doubled": 0, "wrong": 0, "run_again": 0, "not_completed": 0}
HEAD = (
    f"{'fault':22} {'seed':>5} {'lost':>5} {'doubled':>8} {'wrong':>6} {'run again':>10} "
    f"{'completed':>10} {'seconds':>8}  moment"
)


def row(fault: Fault, seed: int, grounds: Grounds) -> dict[str, float]:
    """Strike once, print the line, return its counts."""
    try:
        result, seconds = strike(fault, seed=seed, grounds=grounds)
    except Exception as error:  # a scenario that breaks is a line of the table, not its end
        traceback.print_exc(file=sys.stderr)
        print(f"{fault.name:22} {seed:>5} {type(error).__name__}: {str(error)[:500]}", flush=True)
        return {"not_completed": 1}
    found = result.verdict
    completed = f"{found.trials} trials" if found.is_complete else "NO"
    rest = f"; {result.note}" if result.note else ""
    print(
        f"{fault.name:22} {seed:>5} {found.lost:>5} {found.doubled:>8} {found.wrong:>6} "
        f"{found.again:>10} {completed:>10} {seconds:>8.1f}  {result.moment}{rest}",
        flush=True,
    )
    return {
        "lost": found.lost,
        "doubled": found.doubled,
        "wrong": found.wrong,
        "run_again": found.again,
        "not_completed": int(not found.is_complete),
    }


def run_all(faults: list[Fault], *, repeats: int, seed: int) -> dict[str, float]:
    """Every fault so many times; the sums."""
    totals = dict.fromkeys(LIMITS, 0.0)
    grounds = Grounds()
    print(HEAD, flush=True)
    try:
        for fault in faults:
            for repeat in range(repeats):
                for name, count in row(fault, seed + repeat, grounds).items():
                    totals[name] += count
    finally:
        grounds.close()
    return totals


def compare(*, repeats: int, seed: int) -> dict[str, float]:
    """Kill both kinds of driver so many times; print each line."""
    figures = {"ours_not_exact": 0.0, "by_hand_not_exact": 0.0, "repeats": float(repeats)}
    print(
        f"{'of 12 trials':14} {'seed':>5} {'executions':>11} {'MLflow runs':>12} "
        f"{'left RUNNING':>13} {'in the store':>13}",
        flush=True,
    )
    grounds = Grounds()
    try:
        for one in range(seed, seed + repeats):
            for name, count in (("bitsweep", ours(one, grounds)), ("by hand", tune(one))):
                in_store = "-" if count.in_store is None else count.in_store
                print(
                    f"{name:14} {one:>5} {count.executions:>11} {count.runs:>12} "
                    f"{count.left_running:>13} {in_store:>13}",
                    flush=True,
                )
                if name == "bitsweep":
                    figures["ours_not_exact"] += not count.is_exact
                else:
                    figures["by_hand_not_exact"] += not replace(count, in_store=12).is_exact
    finally:
        grounds.close()
    return figures


def main() -> None:
    """Run what was asked for and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(BY_NAME), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    parser.add_argument("--against", choices=["tune"], help="kill both drivers of twelve trials")
    options = parser.parse_args()
    if options.against:
        limits = {"ours_not_exact": 0}
        found = compare(repeats=options.repeats, seed=options.seed)
        holds = found["ours_not_exact"] == 0
        name = "faults_against_tune"
        print(json.dumps({"benchmark": name, "figures": found, "limits": limits, "holds": holds}))
        return
    if options.list:
        for one in FAULTS:
            print(f"{one.name:22} {one.means}")
        return
    chosen = [BY_NAME[name] for name in options.only] if options.only else list(FAULTS)
    figures = run_all(chosen, repeats=options.repeats, seed=options.seed)
    figures["faults"], figures["repeats"] = len(chosen), options.repeats
    is_whole = len(chosen) == len(FAULTS)
    holds = is_whole and all(figures[name] <= limit for name, limit in LIMITS.items())
    document = {"benchmark": "faults", "figures": figures, "limits": LIMITS, "holds": holds}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
