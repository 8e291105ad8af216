"""Fakes of our own seams for tests and benchmarks: a toy trainer with its declarations."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import sleep

from bitsweep.bits import Allocation, Bits, parse_allocation, tied
from bitsweep.cost import Layer, LayerBits
from bitsweep.declaration import DataDeclaration, Declarations, MethodDeclaration, ModelDeclaration
from bitsweep.errors import Diverged
from bitsweep.measurement import Evaluation, Measurement
from bitsweep.space import Parameter, Parameters
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial, digest

TOY_TRAINER = "bitsweep.testing:toy_train"
TOTAL = 1000


def toy_train(trial: Trial, workspace: Workspace) -> Iterator[Evaluation]:
    """A trainer without a network: accuracy falls with |x - 0.5| and rises with epoch and bits.

    The parameter `act` makes it misbehave: raise, diverge (also at odd seeds alone), hang, be slow
    (a second an epoch), or die (the first time, after measuring and before its state is saved;
    together: each time that several are trained).
    """
    first = 1 + _saved_epoch(workspace.state_path)
    for epoch in range(first, trial.epochs + 1):
        yield _evaluate(trial, workspace, epoch)
        _save(workspace.state_path, epoch)


def toy_train_group(
    trials: Sequence[Trial], workspaces: Sequence[Workspace]
) -> Iterator[tuple[Evaluation | Diverged | None, ...]]:
    """The same for several trials at once: each measures what it would measure alone."""
    saved = [_saved_epoch(one.state_path) for one in workspaces]
    left = set(range(len(trials)))
    for epoch in range(min(saved) + 1, trials[0].epochs + 1):
        if epoch == 2 and len(trials) > 1 and trials[0].parameters.get("act") == "die_together":
            os._exit(1)
        found: list[Evaluation | Diverged | None] = [None] * len(trials)
        for index in sorted(left):
            if epoch <= saved[index]:
                continue
            try:
                found[index] = _evaluate(trials[index], workspaces[index], epoch)
            except Diverged as error:
                found[index] = error
                left.remove(index)
        yield tuple(found)
        for index in sorted(left):
            if found[index] is not None:
                _save(workspaces[index].state_path, epoch)


def _evaluate(trial: Trial, workspace: Workspace, epoch: int) -> Evaluation:
    _misbehave(trial, workspace.folder, epoch)
    if epoch == trial.epochs:
        workspace.final_checkpoint.write_text(trial.id, encoding="utf-8")
    return Evaluation(
        epoch=epoch,
        seconds=0.001 * epoch,
        examples=TOTAL * epoch,
        measurements=tuple(
            _measure(trial, label, split, epoch)
            for label in range(len(trial.bits))
            for split in trial.splits
            if split == "validation" or epoch == trial.epochs
        ),
    )


def _save(path: Path, epoch: int) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps({"epoch": epoch}), encoding="utf-8")
    partial.replace(path)


def _saved_epoch(path: Path) -> int:
    return int(json.loads(path.read_text(encoding="utf-8"))["epoch"]) if path.exists() else 0


def _misbehave(trial: Trial, folder: Path, epoch: int) -> None:
    act = trial.parameters.get("act", "well")
    if act == "raise" and epoch == 2:
        raise RuntimeError("the toy was told to fail")
    is_odd = act in {"diverge_odd", "diverge_odd_then_die"} and trial.seed % 2 == 1
    if epoch == 2 and (act == "diverge" or is_odd):
        raise Diverged("loss is nan at epoch 2")
    marker = folder / "died"
    if (act, epoch) in {("die", 2), ("diverge_odd_then_die", 3)} and not marker.exists():
        marker.touch()
        os._exit(1)
    if act == "slow":
        sleep(1.0)
    if act == "hang" and epoch == 2:
        while True:
            pass


def _bits(trial: Trial, index: int, epoch: int) -> Bits:
    """The bits of the one body layer: given, or learned to 3 at even seeds and 2 at odd ones."""
    if trial.allocation is not None:
        return parse_allocation(trial.allocation).layers[0]
    if trial.learns_bits and epoch > 1:
        return Bits(weight=3 - trial.seed % 2, activation=trial.bits[0].activation)
    return trial.bits[index]


def _measure(trial: Trial, index: int, split: str, epoch: int) -> Measurement:
    bits = _bits(trial, index, epoch)
    distance = abs(float(trial.parameters.get("x", 0.5)) - 0.5)
    noise = int(sha256(f"{trial.id}{split}{epoch}".encode()).hexdigest()[:4], 16) % 10
    branches = int(trial.parameters.get("branches", 1))
    gain = 20 * min(bits.weight, 8) + 10 * epoch + 15 * (branches - 1)
    correct = round(700 + gain - 400 * distance) + noise
    right = min(correct, TOTAL)
    layers = _toy_bits(toy_layers((1, 8, 8), 2), bits, trial.parameters, trial.bits)
    return Measurement(
        split="test" if split == "test" else "validation",
        allocation=Allocation.uniform(bits),
        allocator="learned" if trial.learns_bits else "fixed",
        total=TOTAL,
        correct=right,
        sums={"loss": float(TOTAL - correct)},
        layer_bits=layers,
        answers=_answers(right) if split == "test" else None,
    )


def _answers(right: int) -> bytes:
    """The first samples are the easy ones."""
    return (((1 << right) - 1) << (TOTAL - right)).to_bytes(TOTAL // 8)


def toy_layers(shape: tuple[int, ...], classes: int) -> tuple[Layer, ...]:
    """Three layers, one of each place."""
    return (
        Layer(name="stem", kind="conv", place="first", macs=64, weights=9),
        Layer(name="body", kind="conv", place="body", macs=640, weights=90, norm_channels=4),
        Layer(name="head", kind="linear", place="last", macs=10, weights=10, biases=classes),
    )


def toy_declarations() -> Declarations:
    """A method per width (`toy`), one for all widths (`toy_all`), and a full-precision start.

    `toy_branches` becomes better and larger with each branch; `toy_learned` learns its bits;
    `toy_gap` cannot be where something is shared and x lies in the middle. Seeds of `toy` and of
    the start can be trained together.
    """
    x = Parameter(
        name="x", kind="float", low=0.0, high=1.0, default=0.5, meaning="where", source="toy"
    )
    act = Parameter(
        name="act",
        kind="choice",
        choices=(
            "well",
            "raise",
            "diverge",
            "diverge_odd",
            "diverge_odd_then_die",
            "die",
            "die_together",
            "hang",
            "slow",
        ),
        default="well",
        meaning="how it behaves",
        source="toy",
    )
    sharing = Parameter(
        name="sharing",
        kind="choice",
        choices=("off", "bitwise"),
        default="off",
        meaning="what is shared",
        source="toy",
    )
    keep = Parameter(
        name="keep",
        kind="float",
        low=0.0,
        high=1.0,
        default=0.9,
        meaning="only where something is shared",
        source="toy",
        when={"sharing": ("bitwise",)},
    )
    branches = Parameter(
        name="branches", kind="int", low=1, high=4, default=1, meaning="how many", source="toy"
    )
    methods = {
        "toy_branches": _toy_method("toy_branches", "one", (2, 3, 4, 8), (x, act, branches)),
        "toy": replace(
            _toy_method("toy", "one", (2, 3, 4, 8), (x, act, sharing, keep)),
            takes_allocations=True,
            groups_seeds=True,
        ),
        "toy_gap": replace(
            _toy_method("toy_gap", "one", (2, 3, 4, 8), (x, act, sharing)), check=_check_gap
        ),
        "toy_all": _toy_method("toy_all", "all", (2, 3, 4, 8), (x, act)),
        "toy_learned": replace(
            _toy_method("toy_learned", "one", (2, 3, 4, 8), (x, act)),
            learned_from=lambda given: tied(4),
            bit_prices=("x",),
        ),
        "toy_fp32": replace(_toy_method("toy_fp32", "one", (32,), (act,)), groups_seeds=True),
    }
    data = DataDeclaration(
        name="toy-data",
        title="no data",
        source="toy",
        sha256=digest("toy-data"),
        shape=(1, 8, 8),
        classes=2,
        sizes={"train": TOTAL, "validation": TOTAL, "test": TOTAL},
        split_rule="none",
    )
    model = ModelDeclaration(
        name="toy-net", title="no network", source="toy", numerics=1, layers=toy_layers
    )
    return Declarations(methods=methods, models={"toy-net": model}, data={"toy-data": data})


def _check_gap(parameters: Parameters, bits: tuple[Bits, ...]) -> None:
    if parameters["sharing"] == "bitwise" and 0.2 < float(parameters["x"]) < 0.6:
        raise ValueError(f"sharing = bitwise has no x between 0.2 and 0.6, got {parameters['x']}")


def _toy_method(
    name: str, serves: str, weight_bits: tuple[int, ...], parameters: tuple[Parameter, ...]
) -> MethodDeclaration:
    return MethodDeclaration(
        name=name,
        title=name,
        source="toy",
        serves="all" if serves == "all" else "one",
        weight_bits=weight_bits,
        numerics=1,
        parameters=parameters,
        layer_bits=_toy_bits,
    )


def _toy_bits(
    layers: Sequence[Layer], bits: Bits, parameters: Parameters, widths: tuple[Bits, ...]
) -> tuple[LayerBits, ...]:
    branches = int(parameters.get("branches", 1))
    one = LayerBits(weight=bits.weight * branches, activation=bits.activation)
    return tuple(one for _ in layers)
