"""What quantization costs a training step: every method over FP32, ResNet-20, batch 128, CPU.

Each ratio compares steps of one model, batch, memory format, backend and precision. The settings
take turns in blocks, so that what else the machine does falls on all of them; each figure is the
median of its blocks. Peak memory is read in a process of its own for each setting.

    python benchmarks/training_step.py [--only cpq] [--blocks 5] [--repeats 3] [--threads 2]
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import torch

from bitsweep.bits import FULL_PRECISION, Bits, tied
from bitsweep.space import Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build

MODEL, DATA = "resnet20", "cifar10"
BATCH_SIZE = 128
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CPQ_WIDTHS = (2, 3, 4, 6, 8)
# name: the largest ratio to `against`; issue 4.
LIMITS = {
    "lsq4": ("fp32", 1.25),
    "lsq4_compiled": ("fp32", 1.25),
    "lsq4_channels_last": ("fp32_channels_last", 1.35),
    "dorefa4": ("fp32", 1.25),
    "pact4": ("fp32", 1.25),
    "cpq4": ("fp32", 1.7),
    "adabits248": ("lsq4", 3.3),
    "mbquant2468": ("fp32", 13.0),
    "abn_k2": ("lsq4", 4.4),
}
CPQ_FLATNESS = 1.15
Step = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to train; the parameters that are not given have their defaults."""

    name: str
    method: str
    bits: tuple[Bits, ...]
    parameters: Mapping[str, Value] = field(default_factory=dict)
    backend: str = "eager"
    memory_format: str = "contiguous"


def settings() -> list[Setting]:
    """FP32 first; CPQ with DropBits on the weights and the same estimator on activations."""
    widths = {name: tuple(tied(b) for b in name_bits) for name, name_bits in BIT_SETS.items()}
    one = (tied(4),)
    chosen = [
        Setting(name="fp32", method="fp32", bits=(FULL_PRECISION,)),
        Setting(name="lsq4", method="lsq", bits=one),
        Setting(name="lsq4_compiled", method="lsq", bits=one, backend="compiled"),
        Setting(
            name="fp32_channels_last",
            method="fp32",
            bits=(FULL_PRECISION,),
            memory_format="channels_last",
        ),
        Setting(name="lsq4_channels_last", method="lsq", bits=one, memory_format="channels_last"),
        Setting(name="dorefa4", method="dorefa", bits=one),
        Setting(name="pact4", method="pact", bits=one),
        Setting(name="adabits248", method="adabits", bits=widths["248"]),
        Setting(name="mbquant2468", method="mbquant", bits=widths["2468"]),
        Setting(
            name="abn_k2", method="abn", bits=widths["248"], parameters={"random_networks": 2}
        ),
    ]
    for bits in CPQ_WIDTHS:
        chosen.append(Setting(name=f"cpq{bits}", method="cpq_dropbits", bits=(tied(bits),)))
    chosen.append(
        Setting(
            name="cpq4_ste_max_on_activations",
            method="cpq_dropbits",
            bits=one,
            parameters={"ste_act": "max"},
        )
    )
    return chosen


BIT_SETS = {"248": (2, 4, 8), "2468": (2, 4, 6, 8)}


def trial_of(setting: Setting, *, threads: int) -> Trial:
    """The trial whose first step is timed."""
    declared, data = DECLARED_METHODS[setting.method], DATA_SETS[DATA]
    return Trial(
        trainer="image",
        method=setting.method,
        model=MODEL,
        data=DATA,
        data_sha256=data.sha256,
        split_rule=data.split_rule,
        bits=setting.bits,
        parameters=resolve(declared.parameters, setting.parameters),
        epochs=1,
        batch_size=BATCH_SIZE,
        seed=0,
        numerics={"method": declared.numerics},
        threads=threads,
        backend=setting.backend,
    )


def prepare(setting: Setting, *, threads: int) -> Step:
    """A function that does one training step on random images."""
    trial, data = trial_of(setting, threads=threads), DATA_SETS[DATA]
    method, draws = method_of(setting.method), loop.stream(0, "benchmark")
    layout = FORMATS[setting.memory_format]
    network = method.convert(build(MODEL, data.shape, data.classes, draws), trial, draws)
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs omit it
    network.train()
    images = torch.randn(BATCH_SIZE, *data.shape, generator=draws).contiguous(memory_format=layout)
    labels = torch.randint(data.classes, (BATCH_SIZE,), generator=draws)
    method.calibrate(network, trial, images)
    optimizers = loop.optimizers_of(method.parameter_groups(network, trial))

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        method.backward(network, trial, images, labels, draws)
        for optimizer in optimizers:
            optimizer.step()

    return step


def seconds_of(step: Step, repeats: int = 1) -> float:
    """Mean seconds of a step over some repeats."""
    began = perf_counter()
    for _ in range(repeats):
        step()
    return (perf_counter() - began) / repeats


def peak_mib(setting: Setting, *, threads: int) -> float:
    """Peak memory of two steps above what the process had before them, in MiB; run it alone."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds_of(prepare(setting, threads=threads), 2)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def peak_mib_alone(name: str, *, threads: int) -> float:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--peak-of", name, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def measure(chosen: list[Setting], *, threads: int, blocks: int, repeats: int) -> dict[str, float]:
    """All figures: milliseconds, ratios, seconds to compile, peak memory."""
    steps = {one.name: prepare(one, threads=threads) for one in chosen}
    first = {name: seconds_of(step) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(blocks):
        for name, step in steps.items():
            times[name].append(seconds_of(step, repeats))
    figures: dict[str, float] = {}
    for one in chosen:
        name, seconds = one.name, median(times[one.name])
        figures[f"{name}_ms"] = 1000 * seconds
        figures[f"{name}_peak_mib"] = peak_mib_alone(name, threads=threads)
        line = f"{name:28} {1000 * seconds:8.1f} ms  {figures[f'{name}_peak_mib']:6.0f} MiB"
        against, limit = LIMITS.get(name, (_plain(one), float("inf")))
        for other in dict.fromkeys((against, "fp32")):
            if other != name and other in times:
                ratio = _ratio(times[name], times[other])
                figures[f"{name}_over_{other}"] = ratio
                line += f"  {ratio:6.3f} x {other}"
                if other == against and limit < float("inf"):
                    line += f" (bar {limit:g})"
        if one.backend == "compiled":
            figures[f"{name}_compile_seconds"] = first[name] - seconds
            line += f"  compiled in {first[name] - seconds:.1f} s"
        print(line, flush=True)
    widths = [figures[f"cpq{bits}_ms"] for bits in CPQ_WIDTHS if f"cpq{bits}_ms" in figures]
    if widths:
        figures["cpq_slowest_width_over_fastest"] = max(widths) / min(widths)
    return figures


def _plain(setting: Setting) -> str:
    return "fp32" if setting.memory_format == "contiguous" else f"fp32_{setting.memory_format}"


def _ratio(times: list[float], others: list[float]) -> float:
    return median(a / b for a, b in zip(times, others, strict=True))


def limits() -> dict[str, float]:
    """The bars by the names of their figures."""
    named = {f"{name}_over_{against}": limit for name, (against, limit) in LIMITS.items()}
    return named | {"cpq_slowest_width_over_fastest": CPQ_FLATNESS}


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="settings whose name begins so, and FP32")
    parser.add_argument("--peak-of", help="print the peak memory of one setting and end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        (setting,) = (one for one in settings() if one.name == given.peak_of)
        print(peak_mib(setting, threads=given.threads))
        return
    chosen = [one for one in settings() if one.name.startswith(("fp32", given.only))]
    figures = measure(chosen, threads=given.threads, blocks=given.blocks, repeats=given.repeats)
    judged = {key: limit for key, limit in limits().items() if key in figures}
    holds = all(figures[key] <= limit for key, limit in judged.items())
    document = {"benchmark": "training_step", "figures": figures, "limits": judged, "holds": holds}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
