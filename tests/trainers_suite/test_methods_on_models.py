"""Every method on every kind of layer: it trains a step and is measured, or is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.trainers_suite.trials import trial_of
from torch import Tensor

from bitsweep.bits import tied
from bitsweep.checks import Problem, check_sweep
from bitsweep.declaration import DataDeclaration, Learning, MethodDeclaration
from bitsweep.sweep import Arm, Objective, Start, Sweep, Task
from bitsweep.trainer import load_declarations
from bitsweep_trainers import evaluate, loop
from bitsweep_trainers.data.augment import NO_AUGMENTATION, normalise
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.declared import TRAINERS
from bitsweep_trainers.methods.declared import METHODS as DECLARED
from bitsweep_trainers.methods.table import METHODS
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS

METHOD_NAMES = sorted(METHODS)
CASES = {
    "mobilenet-v2": ("image", (3, 32, 32), 4),
    "resnet18-small": ("image", (3, 8, 8), 4),
    "vgg7": ("image", (3, 8, 8), 4),
    "signal-cnn": ("series", (1, 64), 4),
    "channel-autoencoder": ("vectors", (16,), 16),
}
TRAIN, EVALUATED = 8, 6
# Layers of every kind stand in the others.
LARGE = ("resnet18-small", "vgg7")
# Dozens of passes over millions of weights.
SLOW = {("alq", "mobilenet-v2")}


def declared_data(model: str) -> DataDeclaration:
    """Data of the shape of a case."""
    _, shape, classes = CASES[model]
    return DataDeclaration(
        name="made",
        title="made",
        source="made",
        sha256="0" * 64,
        shape=shape,
        classes=classes,
        sizes={"train": TRAIN, "validation": EVALUATED, "test": EVALUATED},
        split_rule="none",
        kind=MODELS[model].data_kind,
    )


def made_data(model: str) -> Arrays:
    """Random samples of the case's kind."""
    trainer, shape, classes = CASES[model]
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[Tensor, Tensor]:
        if trainer == "image":
            images = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
            return images, torch.arange(count) % classes
        values = torch.randn(count, *shape, generator=generator)
        return values, values if trainer == "vectors" else torch.arange(count) % classes

    train, validation, test = part(TRAIN), part(EVALUATED), part(EVALUATED)
    channels = 1 if trainer == "vectors" else shape[0]
    return Arrays(
        train_images=train[0],
        train_labels=train[1],
        validation_images=validation[0],
        validation_labels=validation[1],
        test_images=test[0],
        test_labels=test[1],
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def problem_of(model: str, method: str) -> str | None:
    """What `bitsweep validate` says of this method on this model, if it refuses it."""
    loaded = load_declarations()
    declarations = replace(loaded, data={**loaded.data, "made": declared_data(model)})
    start = Start(method="fp32", epochs=1)
    sweep = Sweep(
        name="one",
        question="?",
        reproduces="",
        expects="",
        cost="",
        task=Task(
            data="made",
            model=model,
            epochs=1,
            bits=(tied(4),),
            batch_size=TRAIN,
            trainer=CASES[model][0],
            start=start,
        ),
        arms=(Arm(name="a", method=method),),
        objectives=(Objective(metric=TRAINERS[CASES[model][0]].metrics[0].name),),
    )
    try:
        check_sweep(sweep, declarations)
    except Problem as problem:
        return str(problem)
    return None


def can_do(method: MethodDeclaration, model: str) -> bool:
    """By what method and model declare."""
    data = declared_data(model)
    layers = MODELS[model].layers(data.shape, data.classes)
    learning: Learning = TRAINERS[CASES[model][0]].learning
    is_signed = any(one.has_signed_input for one in layers)
    return (
        {one.kind for one in layers} <= set(method.layer_kinds)
        and learning in method.learning
        and (method.takes_signed_inputs or not is_signed)
    )


def _cases() -> list[Any]:  # pytest's parameter sets
    return [
        pytest.param(
            method,
            model,
            marks=[pytest.mark.real] if model in LARGE or (method, model) in SLOW else [],
        )
        for method in METHOD_NAMES
        for model in CASES
    ]


@pytest.mark.parametrize(("method_name", "model"), _cases())
def test_a_method_does_a_model_or_is_refused_in_one_line(
    method_name: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = problem_of(model, method_name)
    if not can_do(DECLARED[method_name], model):
        assert message is not None and method_name in message and "\n" not in message
        return
    assert message is None
    widths = (2, 4) if DECLARED[method_name].serves == "all" else (4,)
    step_and_measure(method_name, model, widths, monkeypatch)


# Models of images; the others have layers that branches cannot do.
IMAGE_MODELS = [model for model, case in CASES.items() if case[0] == "image"]


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_mbquant_serves_an_odd_width_on_every_model_of_images(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_and_measure("mbquant", model, (2, 3, 4), monkeypatch)


def step_and_measure(
    method_name: str, model: str, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convert, calibrate, train a step, measure every width: the counts are those of the data."""
    torch.set_num_threads(1)
    data, declared = made_data(model), declared_data(model)
    start = "0" * 64 if DECLARED[method_name].needs_start else None
    trial = trial_of(method_name, *widths, model=model, start=start, batch_size=TRAIN)
    for module in _users_of_data():
        monkeypatch.setattr(module, "data_of", lambda _trial: declared)
    method = METHODS[method_name]
    plain = build(model, declared.shape, declared.classes, loop.stream(0, "model"))
    network = method.convert(plain, trial, loop.stream(0, "convert"))
    network.train()
    images = normalise(data.train_images, data.mean, data.std)
    method.calibrate(network, trial, images)
    made = loop.prepare(network, method, trial=trial, data=data, augmentation=NO_AUGMENTATION)
    loss = float(method.backward(network, trial, images, data.train_labels, made.noise))
    for optimizer in made.optimizers:
        optimizer.step()
    measured = [
        evaluate.measure(network, trial, data, split="validation", bits=bits)
        for bits in trial.bits
    ]

    assert loss == loss and [one.total for one in measured] == [EVALUATED] * len(trial.bits)
    layers = MODELS[model].layers(declared.shape, declared.classes)
    assert all(len(one.layer_bits) == len(layers) for one in measured)


@pytest.mark.parametrize("model", ["mobilenet-v2", "resnet18-small", "resnet50"])
def test_mbquant_runs_odd_bits_where_a_block_of_torchvision_passes_its_input_on(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsweep_trainers.methods import mbquant

    torch.set_num_threads(1)
    declared = declared_data("mobilenet-v2")
    monkeypatch.setattr(mbquant, "data_of", lambda _trial: declared)
    trial = trial_of("mbquant", 2, 3, model=model)
    plain = build(model, declared.shape, declared.classes, loop.stream(0, "model"))
    network = METHODS["mbquant"].convert(plain, trial, loop.stream(0, "convert")).train()
    images = torch.randn(4, *declared.shape, generator=torch.Generator().manual_seed(0))
    METHODS["mbquant"].select(network, tied(3))
    logits = network(images)

    assert logits.shape == (4, declared.classes) and bool(logits.isfinite().all())


def _users_of_data() -> list[object]:
    from bitsweep_trainers import batches
    from bitsweep_trainers.methods import abn, bit_mixer, mbquant

    return [evaluate, batches, abn, bit_mixer, mbquant]
