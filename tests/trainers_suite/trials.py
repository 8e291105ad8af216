"""Trials and data made for tests: small, quick and complete."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitsweep.bits import Bits, tied
from bitsweep.space import resolve
from bitsweep.trainer import Workspace
from bitsweep.trial import Trial
from bitsweep_trainers import loop
from bitsweep_trainers.data.augment import NO_AUGMENTATION, normalise
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.data.load import Arrays, load
from bitsweep_trainers.methods.declared import LOOP_NUMERICS
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS

DATA = "fashion-mnist-6k"
BATCH_SIZE = 32


def bits_of(method: str, *widths: int) -> tuple[Bits, ...]:
    """The bits a method is measured at when a task asks for these widths."""
    declared = DECLARED[method]
    asked = {declared.allocation_bits(tied(one), {}) for one in widths or (4,)}
    return tuple(sorted(asked))


def trial_of(method: str, *widths: int, model: str = "small-cnn", **changes: Any) -> Trial:
    """A trial of a method with its defaults; `parameters` and other fields may be changed."""
    declared, data = DECLARED[method], DATA_SETS[DATA]
    bits = bits_of(method, *widths)
    given = changes.pop("parameters", {})
    parameters = declared.canonical(resolve(declared.parameters, given), bits)
    fields: dict[str, Any] = {
        "trainer": "image",
        "method": method,
        "model": model,
        "data": data.name,
        "data_sha256": data.sha256,
        "split_rule": data.split_rule,
        "bits": bits,
        "parameters": dict(parameters),
        "epochs": 2 if declared.trains else 0,
        "batch_size": BATCH_SIZE,
        "seed": 0,
        "numerics": {
            "method": declared.numerics_on.get(model, declared.numerics),
            "model": MODELS[model].numerics,
            "loop": LOOP_NUMERICS,
        },
    }
    return Trial(**(fields | changes))


@cache
def shipped() -> Arrays:
    """The shipped data set."""
    return load(DATA)


def few(train: int = 160, evaluated: int = 100) -> Arrays:
    """The first images of each split; statistics stay those of the whole."""
    data = shipped()
    return replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        validation_images=data.validation_images[:evaluated],
        validation_labels=data.validation_labels[:evaluated],
        test_images=data.test_images[:evaluated],
        test_labels=data.test_labels[:evaluated],
    )


# Models of images that take the shipped data's 28 x 28 and are built in milliseconds.
SMALL_MODELS = sorted(
    {"small-cnn", "lenet5"}
    | {name for name in MODELS if name.removesuffix("-b") in ("resnet8", "resnet20", "resnet32")}
)


def plain_network(model: str = "small-cnn", *, seed: int = 0) -> nn.Module:
    """A network as it is drawn from a seed."""
    data = DATA_SETS[DATA]
    return build(model, data.shape, data.classes, loop.stream(seed, "model"))


def training_of(trial: Trial, data: Arrays) -> loop.Training:
    """A converted and calibrated network, ready for the loop."""
    torch.set_num_threads(1)
    method = method_of(trial.method)
    network = plain_network(trial.model, seed=trial.seed)
    network = method.convert(network, trial, loop.stream(trial.seed, "convert"))
    network.train()
    method.calibrate(network, trial, normalise(data.train_images, data.mean, data.std))
    return loop.prepare(network, method, trial=trial, data=data, augmentation=NO_AUGMENTATION)


def workspace_in(folder: Path, start_checkpoint: Path | None = None) -> Workspace:
    """A workspace in a folder that may not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return Workspace(folder=folder, start_checkpoint=start_checkpoint)
