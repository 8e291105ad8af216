"""How long the command line takes to answer: `bitsweep --help` and `bitsweep validate`.

python benchmarks/startup.py [--repeats 9]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
BITSWEEP = Path(sys.executable).with_name("bitsweep")
COMMANDS = {
    "help_seconds": ["--help"],
    "validate_seconds": ["validate", str(ROOT / "sweeps" / "quickstart.toml")],
}
LIMITS = {"help_seconds": 0.4, "validate_seconds": 0.6}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one command in a fresh process."""
    begin = perf_counter()
    subprocess.run([str(BITSWEEP), *arguments], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - begin


def main() -> None:
    """Run the commands in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            taken[name].append(seconds(arguments))
    figures = {name: median(values) for name, values in taken.items()}
    for name, value in figures.items():
        print(f"{name}: {value:.3f} (limit {LIMITS[name]})", flush=True)
    holds = all(figures[name] < limit for name, limit in LIMITS.items())
    print(
        json.dumps({"benchmark": "startup", "figures": figures, "limits": LIMITS, "holds": holds})
    )


if __name__ == "__main__":
    main()
