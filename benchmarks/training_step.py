"""What quantization costs a training step: every method over FP32, ResNet-20, batch 128, CPU.

Each ratio compares steps of one model, batch, memory format and precision; FP32 has no kernels of
ours, so it is the same under both backends. The settings take turns in blocks, so that what else
the machine does falls on all of them; each figure is the median of its blocks. Beside wall time
stands the processor time of the process, which other processes hardly change. Peak memory is read
in a process of its own for each setting.

    python benchmarks/training_step.py [--only cpq] [--blocks 5] [--repeats 3] [--threads 2]
        [--device cuda]

On a GPU the steps of a block are waited for together, peak memory is the device's, and MBQuant is
also held against its plain loop, one branch after the other, which launches ten times the kernels.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION, Bits, tied
from bitsweep.space import Value, resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.branch_network import active_rows, logits_row_by_row
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.mbquant import widths_loss
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build

MODEL, DATA = "resnet20", "cifar10"
BATCH_SIZE = 128
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# name: the largest ratio to `against`; issue 4. A method holds its bar with either backend.
LIMITS = {
    "lsq4": ("fp32", 1.25),
    "lsq4_channels_last": ("fp32_channels_last", 1.35),
    "dorefa4": ("fp32", 1.25),
    "pact4": ("fp32", 1.25),
    "cpq4": ("fp32", 1.7),
    "cpq4_estimated_inputs": ("fp32", 1.7),
    "cpq4_masked_inputs": ("fp32", 1.7),
    "adabits248": ("lsq4", 3.3),
    "mbquant2468": ("fp32", 13.0),
    "abn_k2": ("lsq4", 4.4),
}
# On a GPU: MBQuant over its plain loop, at least eight times as fast.
LOOP, LOOP_LIMIT = "mbquant2468_loop", 1 / 8
COMPILED = "_compiled"
CPQ_FLATNESS = 1.15
CPQ_VARIANTS: dict[str, dict[str, Value]] = {
    "": {},
    "_estimated_inputs": {"ste_act": "max"},
    "_masked_inputs": {"ste_act": "max", "task": "hetero", "learn_activations": True},
}
CPQ_WIDTHS = {
    "": (2, 3, 4, 6, 8),
    "_estimated_inputs": (2, 3, 4, 6, 8),
    "_masked_inputs": (2, 3, 4, 6, 8),
}
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


def settings(*, has_loop: bool = False) -> list[Setting]:
    """FP32 first; every method with both backends, the widths of CPQ with the compiled one.

    CPQ has DropBits on the weights; `estimated_inputs` gives the inputs its estimator as well
    instead of the plain gradient, and `masked_inputs` also masks (which only learned lengths ask
    for; they begin at 3 to 6 bits).
    """
    chosen = [Setting(name="fp32", method="fp32", bits=(FULL_PRECISION,))]
    last = Setting(name="lsq4_channels_last", method="lsq", bits=(tied(4),))
    chosen += [
        replace(one, memory_format="channels_last")
        for one in (replace(chosen[0], name="fp32_channels_last"), last)
    ]
    quantized = [
        Setting(name=f"{method}4", method=method, bits=(tied(4),))
        for method in ("lsq", "dorefa", "pact")
    ]
    quantized += [
        Setting(name="adabits248", method="adabits", bits=tuple(map(tied, (2, 4, 8)))),
        Setting(name="mbquant2468", method="mbquant", bits=tuple(map(tied, (2, 4, 6, 8)))),
        Setting(
            name="abn_k2",
            method="abn",
            bits=tuple(map(tied, (2, 4, 8))),
            parameters={"random_networks": 2},
        ),
    ]
    for variant, parameters in CPQ_VARIANTS.items():
        for bits in CPQ_WIDTHS[variant]:
            quantized.append(
                Setting(
                    name=f"cpq{bits}{variant}",
                    method="cpq_dropbits",
                    bits=(tied(bits),),
                    parameters=parameters,
                )
            )
    for one in quantized:
        if one.bits != (tied(4),) and one.method == "cpq_dropbits":
            continue  # the eager kernels take time that grows with the width: not worth minutes
        chosen.append(one)
    if has_loop:
        (mbquant,) = (one for one in quantized if one.method == "mbquant")
        chosen.append(replace(mbquant, name=LOOP))
    return chosen + [
        replace(one, name=one.name + COMPILED, backend="compiled") for one in quantized
    ]


def one_by_one(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, draws: torch.Generator
) -> Tensor:
    """MBQuant's backward pass with one branch after the other, as it runs on a CPU."""
    rows = active_rows(network)
    rows.activate(rows.all_widths)
    logits = logits_row_by_row(network, images).chunk(len(rows.all_widths))
    loss = widths_loss(logits, labels, trial)
    torch.autograd.backward(loss)
    return loss.detach()


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


def prepare(setting: Setting, *, threads: int, device: torch.device) -> Step:
    """A function that does one training step on random images."""
    trial, data = trial_of(setting, threads=threads), DATA_SETS[DATA]
    method, draws = method_of(setting.method), loop.stream(0, "benchmark")
    layout = FORMATS[setting.memory_format]
    network = method.convert(build(MODEL, data.shape, data.classes, draws), trial, draws)
    network.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs
    network.train()
    images = torch.randn(BATCH_SIZE, *data.shape, generator=draws)
    images = images.to(device).contiguous(memory_format=layout)
    labels = torch.randint(data.classes, (BATCH_SIZE,), generator=draws).to(device)
    method.calibrate(network, trial, images)
    optimizers = loop.optimizers_of(method.parameter_groups(network, trial))
    # All of a step's work, and the network stays as it was calibrated: at 8 bits CPQ's estimator
    # on inputs throws one that was never trained out of range at the first step.
    loop.set_learning_rates(optimizers, 0.0)
    backward = one_by_one if setting.name == LOOP else method.backward

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        backward(network, trial, images, labels, draws)
        for optimizer in optimizers:
            optimizer.step()

    return step


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a step, by the clock and of this process's processors."""

    wall: float
    processor: float


def times_of(step: Step, repeats: int = 1) -> Times:
    """Means of a step over some repeats, all of whose work has ended."""
    _wait_for_device()
    wall, processor = perf_counter(), process_time()
    for _ in range(repeats):
        step()
    _wait_for_device()
    return Times((perf_counter() - wall) / repeats, (process_time() - processor) / repeats)


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types here
        torch.cuda.synchronize()


def resident_mib(line: str) -> float:
    """A line of this process's memory, VmRSS or its peak VmHWM, in MiB.

    getrusage is of no use here: a child begins with the peak of its parent.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (found,) = (one.split()[1] for one in status if one.startswith(f"{line}:"))
    return float(found) / 1024


def peak_mib(setting: Setting, *, threads: int, device: torch.device) -> float:
    """Peak memory of two steps above what the process had before them, in MiB; run it alone."""
    before = resident_mib("VmRSS")
    times_of(prepare(setting, threads=threads, device=device), 2)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_mib("VmHWM") - before


def peak_mib_alone(name: str, *, threads: int, device: torch.device) -> float:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--peak-of", name, "--threads", str(threads)]
    command += ["--device", device.type]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def measure(
    chosen: list[Setting], *, threads: int, device: torch.device, blocks: int, repeats: int
) -> dict[str, float]:
    """All figures: milliseconds, ratios, seconds to compile, peak memory."""
    steps, first = {}, {}
    for one in chosen:
        began = perf_counter()
        steps[one.name] = prepare(one, threads=threads, device=device)
        steps[one.name]()
        first[one.name] = perf_counter() - began
        times_of(steps[one.name])  # what a first step leaves to the second
    times: dict[str, list[Times]] = {name: [] for name in steps}
    for _ in range(blocks):
        for name, step in steps.items():
            times[name].append(times_of(step, repeats))
    steps.clear()
    figures: dict[str, float] = {}
    for one in chosen:
        peak = peak_mib_alone(one.name, threads=threads, device=device)
        print(_line(one, times, first, figures, peak=peak), flush=True)
    return figures | _best(figures) | _flatness(figures)


def _line(
    one: Setting,
    times: Mapping[str, list[Times]],
    first: Mapping[str, float],
    figures: dict[str, float],
    *,
    peak: float,
) -> str:
    """What is printed of a setting; its figures are added."""
    name = one.name
    figures[f"{name}_ms"] = 1000 * median(each.wall for each in times[name])
    figures[f"{name}_peak_mib"] = peak
    line = f"{name:32} {figures[f'{name}_ms']:8.1f} ms  {figures[f'{name}_peak_mib']:6.0f} MiB"
    plain = "fp32" if one.memory_format == "contiguous" else f"fp32_{one.memory_format}"
    against, limit = LIMITS.get(name.removesuffix(COMPILED), (plain, inf))
    if one.backend == "compiled" and against + COMPILED in times:
        against += COMPILED  # LSQ, in the same backend
    others = (LOOP,) if name.removesuffix(COMPILED) == LOOP.removesuffix("_loop") else ()
    for other in dict.fromkeys((against, "fp32", *others)):
        if other == name or other not in times:
            continue
        ratio, cpu_ratio = _ratios(times[name], times[other])
        figures[f"{name}_over_{other}"] = ratio
        figures[f"{name}_over_{other}_processor"] = cpu_ratio
        line += f"  {ratio:6.3f} x {other} ({cpu_ratio:.3f} by processor time)"
        if other == against and limit < inf:
            line += f" (bar {limit:g})"
    if one.backend == "compiled" and name.removesuffix(COMPILED) in first:
        built = first[name] - first[name.removesuffix(COMPILED)]
        figures[f"{name}_compile_seconds"] = built
        line += f"  first step {built:+.1f} s"
    return line


def _ratios(times: list[Times], others: list[Times]) -> tuple[float, float]:
    """Medians over blocks, by the clock and by processor time."""
    pairs = list(zip(times, others, strict=True))
    return median(a.wall / b.wall for a, b in pairs), median(
        a.processor / b.processor for a, b in pairs
    )


def _best(figures: Mapping[str, float]) -> dict[str, float]:
    """The ratio of each bar with the backend that serves it best."""
    found = {}
    for name, (against, _) in LIMITS.items():
        ratios = [
            figures[key]
            for key in (
                f"{name}_over_{against}",
                f"{name}{COMPILED}_over_{against}{COMPILED}",
                f"{name}{COMPILED}_over_{against}",
            )
            if key in figures
        ]
        if ratios:
            found[f"best_{name}_over_{against}"] = min(ratios)
    of_loop = [value for key, value in figures.items() if key.endswith(f"_over_{LOOP}")]
    return found | ({f"best_over_{LOOP}": min(of_loop)} if of_loop else {})


def _flatness(figures: Mapping[str, float]) -> dict[str, float]:
    """Slowest over fastest width of each CPQ, with the backend that serves it best."""
    found: dict[str, float] = {}
    for variant in CPQ_VARIANTS:
        for backend in ("", COMPILED):
            keys = [f"cpq{bits}{variant}{backend}_ms" for bits in CPQ_WIDTHS[variant]]
            if all(key in figures for key in keys):
                widths = [figures[key] for key in keys]
                key = f"cpq{variant}_slowest_width_over_fastest"
                found[key] = min(found.get(key, inf), max(widths) / min(widths))
    return found


def limits(*, has_loop: bool = False) -> dict[str, float]:
    """The bars by the names of their figures."""
    named = {f"best_{name}_over_{against}": bar for name, (against, bar) in LIMITS.items()}
    flat = {f"cpq{one}_slowest_width_over_fastest": CPQ_FLATNESS for one in CPQ_VARIANTS}
    return named | flat | ({f"best_over_{LOOP}": LOOP_LIMIT} if has_loop else {})


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", default="", help="names begin so; and FP32")
    parser.add_argument("--peak-of", help="print the peak memory of one setting and end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    has_loop = given.device.type == "cuda"
    every = settings(has_loop=has_loop)
    if given.peak_of:
        (setting,) = (one for one in every if one.name == given.peak_of)
        print(peak_mib(setting, threads=given.threads, device=given.device))
        return
    chosen = [one for one in every if one.name.startswith(("fp32", given.only))]
    figures = measure(
        chosen,
        threads=given.threads,
        device=given.device,
        blocks=given.blocks,
        repeats=given.repeats,
    )
    bars = limits(has_loop=has_loop)
    holds = all(figures.get(key, inf) <= limit for key, limit in bars.items())
    document = {"benchmark": "training_step", "figures": figures, "limits": bars, "holds": holds}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
