"""What quantization costs a training step: LSQ at 4 bits over FP32, ResNet-20, batch 128, CPU.

Each ratio compares steps of equal memory format and precision. The settings take turns in blocks,
so that what else the machine does falls on all of them; each figure is the median of its blocks.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

from bitsweep.bits import FULL_PRECISION, Bits, tied
from bitsweep.space import resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build

MODEL, DATA = "resnet20", "cifar10"
BATCH_SIZE = 128
LIMITS = {"lsq4_over_fp32": 1.35}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Step = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to train; `compare` names the FP32 setting of the same memory format."""

    method: str
    bits: Bits
    backend: str
    memory_format: str

    @property
    def name(self) -> str:
        """The key of its figures."""
        return f"{self.method}_{self.backend}_{self.memory_format}"

    @property
    def compare(self) -> str:
        """The name of the FP32 setting it is measured against."""
        return f"fp32_eager_{self.memory_format}"


def settings() -> list[Setting]:
    """FP32 and LSQ, eager and compiled, in both memory formats."""
    kinds = [("fp32", FULL_PRECISION, "eager")]
    kinds += [("lsq", tied(4), backend) for backend in ("eager", "compiled")]
    return [
        Setting(method=method, bits=bits, backend=backend, memory_format=memory_format)
        for memory_format in FORMATS
        for method, bits, backend in kinds
    ]


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
        bits=(setting.bits,),
        parameters=resolve(declared.parameters, {}),
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


def measure(*, threads: int, blocks: int, repeats: int) -> dict[str, float]:
    """All figures: milliseconds, ratios over FP32, seconds to compile."""
    chosen = settings()
    steps = {one.name: prepare(one, threads=threads) for one in chosen}
    first = {name: seconds_of(step) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(blocks):
        for name, step in steps.items():
            times[name].append(seconds_of(step, repeats))
    figures: dict[str, float] = {}
    for one in chosen:
        seconds = median(times[one.name])
        figures[f"{one.name}_ms"] = 1000 * seconds
        line = f"{one.name:28} {1000 * seconds:8.1f} ms"
        if one.method != "fp32":
            pairs = zip(times[one.name], times[one.compare], strict=True)
            ratio = median(quantized / plain for quantized, plain in pairs)
            figures[f"{one.name}_over_fp32"] = ratio
            line += f"  {ratio:.3f} x FP32"
        if one.backend == "compiled":
            figures[f"{one.name}_compile_seconds"] = first[one.name] - seconds
            line += f"  compiled in {first[one.name] - seconds:.1f} s"
        print(line, flush=True)
    return figures


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    figures = measure(threads=given.threads, blocks=given.blocks, repeats=given.repeats)
    ratios = [value for key, value in figures.items() if key.endswith("_over_fp32")]
    figures["lsq4_over_fp32"] = max(ratios)  # the limit judges the slowest setting
    holds = all(figures[key] <= limit for key, limit in LIMITS.items())
    print(
        json.dumps(
            {"benchmark": "training_step", "figures": figures, "limits": LIMITS, "holds": holds}
        )
    )


if __name__ == "__main__":
    main()
