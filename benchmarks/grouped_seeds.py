"""Seeds as one network against one seed alone: time of a step, memory, and that they agree.

A step of S seeds together and a step of one take turns in blocks, so that what else the machine
does falls on both; figures are medians of blocks. Peak memory is that of a process of its own for
each. Then the first steps from equal states are compared, and with --epochs whole trainings on
--data: each seed's against its own alone, and that against itself from weights that differ in
their last bits, which is what rounding by itself makes of a training.

    python benchmarks/grouped_seeds.py [--device cuda] [--seeds 8] [--method lsq] [--bits 4]
        [--model resnet20] [--threads 1] [--blocks 5] [--repeats 3] [--epochs 3 --data cifar10]

A CPU gains nothing by it, so that there the time is not judged.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from bitsweep.bits import FULL_PRECISION, tied
from bitsweep.space import resolve
from bitsweep.trial import Trial
from bitsweep_trainers import grouped, image, loop
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.data.load import Arrays, load_of
from bitsweep_trainers.evaluate import measure_all
from bitsweep_trainers.loop import Training
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build

BATCH_SIZE = 128
WAYS = ("together", "one")
TIME, STEP, POINTS = "seeds8_over_one", "first_step_difference", "largest_points_apart"
LIMITS = {TIME: 2.5, STEP: 1e-4, POINTS: 0.3}
LAST_BITS = 2.0**-22  # times up to a half: the distance of a float32 from the next
Step = Callable[[], object]


def trial_of(given: argparse.Namespace, seed: int, *, epochs: int = 1) -> Trial:
    """A trial of the method with its defaults."""
    declared, data = DECLARED_METHODS[given.method], DATA_SETS[given.data]
    bits = FULL_PRECISION if given.method == "fp32" else tied(given.bits)
    return Trial(
        trainer="image",
        method=given.method,
        model=given.model,
        data=data.name,
        data_sha256=data.sha256,
        split_rule=data.split_rule,
        bits=(bits,),
        parameters=declared.canonical(resolve(declared.parameters, {}), (bits,)),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=seed,
        numerics={"method": declared.numerics},
        threads=given.threads,
    )


def training_of(trial: Trial, data: Arrays) -> Training:
    """What the trainer would train, from scratch."""
    declared, method = data_of(trial), method_of(trial.method)
    plain = build(trial.model, declared.shape, declared.classes, loop.stream(trial.seed, "model"))
    network = method.convert(plain, trial, loop.stream(trial.seed, "convert"))
    layout = image.memory_format(trial)
    device = data.train_labels.device
    network.to(device=device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs
    image.calibrate(network, trial, data)
    augmentation = image.augmentation_of(trial)
    return loop.prepare(network, method, trial=trial, data=data, augmentation=augmentation)


def random_images(given: argparse.Namespace, count: int) -> Arrays:
    """Images of the data set's shape; the whole of a training's data."""
    declared, draws = DATA_SETS[given.data], torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *declared.shape), generator=draws, dtype=torch.uint8)
    labels = torch.randint(declared.classes, (count,), generator=draws)
    mean, std = (0.5,) * declared.shape[0], (0.25,) * declared.shape[0]
    arrays = Arrays(
        train_images=images,
        train_labels=labels,
        validation_images=images,
        validation_labels=labels,
        test_images=images,
        test_labels=labels,
        mean=mean,
        std=std,
    )
    return image.on_device(arrays, given.device)


def epoch_of(given: argparse.Namespace, way: str, *, steps: int) -> Step:
    """An epoch of so many steps, by the seeds "together" or by "one" of them."""
    data = random_images(given, steps * BATCH_SIZE)
    if way == "one":
        alone = training_of(trial_of(given, 0), data)
        return lambda: loop.train_epoch(alone, 1)
    together = [training_of(trial_of(given, seed), data) for seed in range(given.seeds)]
    return lambda: grouped.train_epoch(together, 1)


def seconds_of(given: argparse.Namespace, step: Step) -> float:
    """Seconds until all of its work has ended."""
    wait(given)
    began = perf_counter()
    step()
    wait(given)
    return perf_counter() - began


def wait(given: argparse.Namespace) -> None:
    """Until the device has nothing left to do."""
    if given.device.type == "cuda":
        torch.cuda.synchronize()


def times(given: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a step, what an epoch costs besides left out, and their ratio by blocks.

    What comes once an epoch (order, stack, unstack) is found from epochs of two lengths.
    """
    epochs = {
        way: [epoch_of(given, way, steps=count) for count in (1, 1 + given.repeats)]
        for way in WAYS
    }
    blocks: list[dict[str, float]] = []
    for block in range(1 + given.blocks):
        took = {}
        for way in WAYS:
            short, long = (seconds_of(given, one) for one in epochs[way])
            took[way] = max(long - short, 1e-9) / given.repeats
        if block:  # the first warms up
            blocks.append(took)
    together, one = (1000 * median(each[name] for each in blocks) for name in WAYS)
    ratio = median(each["together"] / each["one"] for each in blocks)
    print(f"{given.seeds} seeds {together:8.1f} ms, one {one:8.1f} ms: {ratio:.3f} times")
    return {"together_ms": together, "one_ms": one, **_named(given, ratio)}


def _named(given: argparse.Namespace, ratio: float) -> dict[str, float]:
    where = "" if given.device.type == "cuda" else f"_on_{given.device.type}"
    key = f"seeds{given.seeds}_over_one{where}"
    return {key: ratio, f"{key}_by_seed": ratio / given.seeds}


def peak_mib(given: argparse.Namespace) -> float:
    """Peak memory of two steps above what the process had before, in MiB; run it alone.

    What calibrating takes, before the first step, is not counted.
    """
    before = _resident_mib("VmRSS")
    epoch = epoch_of(given, given.peak_of, steps=2)
    if given.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's way to forget a peak
    epoch()
    wait(given)
    if given.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return _resident_mib("VmHWM") - before


def _resident_mib(line: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    (found,) = (one.split()[1] for one in status if one.startswith(f"{line}:"))
    return float(found) / 1024


def peaks(given: argparse.Namespace) -> dict[str, float]:
    """Peak memory of both ways, each in a fresh process."""
    found = {}
    for name in WAYS:
        command = [sys.executable, *sys.argv, "--peak-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{name}_peak_mib"] = float(done.stdout.strip().splitlines()[-1])
    print("peak memory", {name: round(one) for name, one in found.items()}, "MiB")
    return found


def first_step(given: argparse.Namespace) -> dict[str, float]:
    """The largest difference after one step of each seed, together and alone, from equal states.

    Of a weight, a quantizer parameter or a statistic, as a share of the largest entry where that
    is above 1. On a GPU without TF32 as well: if kernels of groups compute otherwise than
    those of one network, that is where it shows.
    """
    found = {STEP: _first_step(given)}
    if given.device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        found[f"{STEP}_without_tf32"] = _first_step(given)
        torch.backends.cudnn.allow_tf32 = True
    print("after the first step at most", {name: f"{one:.2e}" for name, one in found.items()})
    return found


def _first_step(given: argparse.Namespace) -> float:
    data = random_images(given, BATCH_SIZE)
    together, alone = (
        [training_of(trial_of(given, seed), data) for seed in range(given.seeds)] for _ in range(2)
    )
    grouped.train_epoch(together, 1)
    for one in alone:
        loop.train_epoch(one, 1)
    return max(_apart(ours, theirs) for ours, theirs in zip(together, alone, strict=True))


def _apart(ours: Training, theirs: Training) -> float:
    found, wanted = (dict(_tensors(one)) for one in (ours, theirs))
    return max(
        float((found[name] - one).abs().max()) / max(1.0, float(one.abs().max()))
        for name, one in wanted.items()
    )


def _tensors(training: Training) -> Sequence[tuple[str, Tensor]]:
    state = training.network.state_dict().items()
    return [(name, one.double()) for name, one in state if isinstance(one, Tensor)]


def agreement(given: argparse.Namespace) -> dict[str, float]:
    """Points of validation between each seed together and alone, after each of some epochs.

    Beside them what one last bit of every weight makes of a training alone.
    """
    trials = [trial_of(given, seed, epochs=given.epochs) for seed in range(given.seeds)]
    data = load_of(trials[0])
    data = image.on_device(data, given.device)
    if given.images:
        data = replace(
            data,
            train_images=data.train_images[: given.images],
            train_labels=data.train_labels[: given.images],
        )
    ways: dict[str, list[list[float]]] = {}
    for way in ("together", "alone", "alone, other last bits"):
        trainings = [training_of(one, data) for one in trials]
        if way not in ("together", "alone"):
            _disturb(trainings)
        ways[way] = []
        for epoch in range(1, given.epochs + 1):
            if way == "together":
                grouped.train_epoch(trainings, epoch)
            else:
                for one in trainings:
                    loop.train_epoch(one, epoch)
            ways[way].append([_points(one) for one in trainings])
            print(
                f"{way:24} epoch {epoch}: {[round(one, 2) for one in ways[way][-1]]}", flush=True
            )
    alone, by_rounding = ways["alone"], ways["alone, other last bits"]
    return {
        POINTS: _largest(ways["together"], alone),
        f"{POINTS}_at_the_end": _largest(ways["together"][-1:], alone[-1:]),
        f"{POINTS}_by_last_bits": _largest(by_rounding, alone),
        f"{POINTS}_by_last_bits_at_the_end": _largest(by_rounding[-1:], alone[-1:]),
    }


@torch.no_grad()
def _disturb(trainings: Sequence[Training]) -> None:
    """Change every weight by at most its last bit."""
    for training in trainings:
        for one in training.network.parameters():
            one.mul_(1 + LAST_BITS * torch.rand(one.shape).sub_(0.5).to(one.device))


def _points(training: Training) -> float:
    (measured,) = measure_all(
        training.network, training.trial, training.data, is_last=False, epoch=1
    )
    return measured.metric("top1_percent")


def _largest(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """Over seeds and epochs."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--method", default="lsq")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="compare trainings on real data")
    parser.add_argument("--images", type=int, default=0, help="that many for training; 0: all")
    parser.add_argument("--peak-of", help="print the peak memory of one way and end")
    given = parser.parse_args()
    image.make_repeatable(trial_of(given, 0), given.device)
    if given.peak_of:
        print(peak_mib(given))
        return
    figures = times(given) | peaks(given) | first_step(given)
    if given.epochs:
        figures |= agreement(given)
    limits = dict(LIMITS)
    if given.device.type != "cuda":
        del limits[TIME]
    holds = all(figures.get(key, inf) <= limit for key, limit in limits.items())
    document = {
        "benchmark": "grouped_seeds",
        "figures": figures,
        "limits": limits,
        "holds": holds,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
