"""What routing costs: ABN with bits of its own for each image over uniform bits, ResNet-20, CPU.

The same frozen network on the same batch of 1,000: once at one width, once with the agent deciding
layer by layer, images grouped by action and scattered back. Its decisions are drawn at random
instead of taken from the values it computes, so that every layer meets every width: the worst
case for grouping. Settings take turns in blocks; a ratio is the median over its blocks.
"""

import argparse
import json
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from bitsweep.bits import tied
from bitsweep.space import resolve
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.agent import Agent
from bitsweep_trainers.policy.baselines import shuffled
from bitsweep_trainers.policy.environment import Choose, RoutedNetwork, given
from bitsweep_trainers.policy.learn import stratified_actions
from bitsweep_trainers.supernet import allocate

MODEL, DATA = "resnet20", "cifar10"
WIDTHS = (2, 3, 4)
BATCH_SIZE = 1000
LIMITS = {"routed_over_uniform": 1.6}
Run = Callable[[], Tensor]


def trial_of(*, threads: int) -> Trial:
    """An ABN whose network is timed; it is calibrated, not trained."""
    declared, data = DECLARED_METHODS["abn"], DATA_SETS[DATA]
    return Trial(
        trainer="image",
        method="abn",
        model=MODEL,
        data=DATA,
        data_sha256=data.sha256,
        split_rule=data.split_rule,
        bits=tuple(tied(one) for one in WIDTHS),
        parameters=resolve(declared.parameters, {}),
        epochs=1,
        batch_size=128,
        seed=0,
        numerics={"method": declared.numerics},
        threads=threads,
    )


def runs(*, threads: int) -> dict[str, Run]:
    """By name, what runs the batch once and gives its logits (1000, 10)."""
    trial, data = trial_of(threads=threads), DATA_SETS[DATA]
    draws = loop.stream(0, "benchmark")
    method = method_of("abn")
    network = method.convert(build(MODEL, data.shape, data.classes, draws), trial, draws)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs omit it
    images = torch.randn(BATCH_SIZE, *data.shape, generator=draws)
    images = images.contiguous(memory_format=torch.channels_last)
    network.train()
    method.calibrate(network, trial, images[:128])
    layers = MODELS[MODEL].layers(data.shape, data.classes)
    routed = RoutedNetwork(network, layers, WIDTHS)
    agent = Agent(routed.channels, routed.costs, generator=draws)
    num_decisions = len(routed.channels)
    mixed = stratified_actions(BATCH_SIZE, num_decisions, WIDTHS, 3.0, draws)
    network.eval()
    allocate(network, [WIDTHS[-1]] * num_decisions)

    @torch.no_grad()
    def uniform() -> Tensor:
        logits: Tensor = network(images)
        return logits

    constant = torch.full((BATCH_SIZE, num_decisions), len(WIDTHS) - 1)
    decided = {
        "routed": deciding(agent, mixed),
        "routed_without_agent": given(mixed),
        "routed_shuffled": deciding(agent, shuffled(mixed, draws)),
        "routed_at_one_width": given(constant),
    }
    found: dict[str, Run] = {"uniform": uniform}
    for name, choose in decided.items():
        found[name] = lambda choose=choose: routed.run(images, choose).logits  # type: ignore[misc]
    return found


def deciding(agent: Agent, actions: Tensor) -> Choose:
    """Let the agent value the widths, then take these actions (N, L) all the same."""

    @torch.no_grad()
    def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
        agent(t, features, before, torch.full((len(features),), 0.2))
        return actions[:, t]

    return choose


def seconds_of(run: Run) -> float:
    """Seconds of one pass over the batch."""
    began = perf_counter()
    run()
    return perf_counter() - began


def measure(*, threads: int, blocks: int) -> dict[str, float]:
    """All figures: milliseconds, and ratios over uniform inference of the same block."""
    settings = runs(threads=threads)
    for run in settings.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(blocks):
        for name, run in settings.items():
            times[name].append(seconds_of(run))
    figures: dict[str, float] = {}
    for name, seconds in times.items():
        ratios = [one / plain for one, plain in zip(seconds, times["uniform"], strict=True)]
        figures[f"{name}_ms"] = 1000 * median(seconds)
        figures[f"{name}_over_uniform"] = median(ratios)
        print(f"{name:24} {1000 * median(seconds):9.1f} ms  {median(ratios):.3f} x", flush=True)
    return figures


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5)
    given_ = parser.parse_args()
    torch.set_num_threads(given_.threads)
    figures = measure(threads=given_.threads, blocks=given_.blocks)
    holds = all(figures[name] <= limit for name, limit in LIMITS.items())
    report = {
        "benchmark": "routed_inference",
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "limits": LIMITS,
        "holds": holds,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
