"""Bit-Mixer (arXiv 2103.17267): layers whose bits change at run time, trained in three stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.errors import InputError
from bitsweep.measurement import Measurement
from bitsweep.trial import Trial
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.distillation import student_loss
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    float_groups,
    quantize_ends,
    quantized,
    quantized_layers,
    replace_layers,
    step_group,
)
from bitsweep_trainers.losses import training_loss
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.declared.bit_mixer import held_share
from bitsweep_trainers.mixed import measure_listed, mixed_measurements
from bitsweep_trainers.quantizers.nested import NestedStep, Truncation
from bitsweep_trainers.sampled import sampled_measurements
from bitsweep_trainers.switchable import SwitchableStep, calibrate_widths
from bitsweep_trainers.teacher import Teacher
from bitsweep_trainers.transitions import add_transitional_norms, allocate


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The three stages as shares of a training; the third takes what the others leave."""

    activation_share: float
    uniform_share: float

    def quantizes_weights(self, progress: float) -> bool:
        """False in the first stage; progress is the share of the training that is done."""
        return progress >= self.activation_share

    def own_bits_probability(self, progress: float) -> float:
        """How probably a layer draws its own bits: 0 in two stages, then rising towards 1.

        >>> stages = Stages(activation_share=0.25, uniform_share=0.25)
        >>> [stages.own_bits_probability(done) for done in (0.0, 0.5, 0.75, 1.0)]
        [0.0, 0.0, 0.5, 1.0]
        """
        begin = self.activation_share + self.uniform_share
        return max(0.0, (progress - begin) / (1.0 - begin)) if begin < 1 else 0.0


class Progress(nn.Module):
    """Counts the steps of a training; a buffer, so that a restarted one goes on where it was.

    A step whose batch is computed in parts advances once a part; its share is that of its first.
    The count is read back once: to read it at each step would make the host wait for a GPU.
    """

    steps_done: Tensor

    def __init__(self, num_steps: int, *, parts: int = 1) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.parts = parts
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self._count: int | None = None
        self.register_load_state_dict_post_hook(_forget_count)  # type: ignore[no-untyped-call]

    @property
    def count(self) -> int:
        """Steps, or parts of steps, that are done."""
        if self._count is None:
            self._count = int(self.steps_done)
        return self._count

    @property
    def share(self) -> float:
        """The share of the training that is done."""
        return min(1.0, self.count // self.parts / self.num_steps)

    @property
    def is_between_steps(self) -> bool:
        """True when all parts of the last step's batch are done."""
        return self.count % self.parts == 0

    def advance(self) -> None:
        """Count one step, or one part of it."""
        self._count = self.count + 1
        self.steps_done += 1


def _forget_count(progress: nn.Module, _: object) -> None:
    assert isinstance(progress, Progress)
    progress._count = None


def progress_of(trial: Trial, num_steps: int) -> Progress:
    """The counter of a trial's training."""
    return Progress(num_steps, parts=trial.recipe.micro_batches(trial.batch_size))


def num_steps_of(trial: Trial) -> int:
    """Steps of a whole training: epochs times whole batches."""
    num_images = round((1 - held_share(trial.parameters)) * data_of(trial).sizes["train"])
    return max(1, trial.epochs * max(1, num_images // trial.batch_size))


def draw_widths(
    widths: Sequence[int], num_layers: int, *, probability: float, generator: torch.Generator
) -> list[int]:
    """Bits of each layer: one draw for all, replaced with `probability` by the layer's own."""
    drawn = torch.randint(len(widths), (num_layers + 1,), generator=generator)
    is_own = torch.rand(num_layers, generator=generator) < probability
    return [widths[int(one)] for one in torch.where(is_own, drawn[1:], drawn[0])]


def _body_layer(source: Computing, *, trial: Trial) -> Quantized:
    widths = [one.weight for one in trial.bits]
    asked = trial.parameters.get("truncation", "round")  # a single width cuts nothing
    truncation: Truncation = next(one for one in get_args(Truncation) if one == asked)
    return quantized(
        source,
        weight_quantizer=NestedStep(
            top_bits=widths[-1],
            truncation=truncation,
            drop_lowest=bool(trial.parameters["drop_lowest"]),
            backend=trial.backend,
        ),
        input_quantizer=SwitchableStep(widths, backend=trial.backend),
    )


def _convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    teacher = None
    if "teacher" in trial.parameters:
        if trial.start is None:
            raise InputError("bit_mixer: teacher = fp32 is the start network: add task.start")
        teacher = Teacher(network)
    quantize_ends(network, backend=trial.backend)
    replace_layers(network.get_submodule("body"), partial(_body_layer, trial=trial))
    add_transitional_norms(network, [one.weight for one in trial.bits])
    network.add_module("progress", progress_of(trial, num_steps_of(trial)))
    network.teacher = teacher  # type: ignore[assignment]  # no module: it has no part in the state
    return network


def nested_steps(network: nn.Module) -> list[NestedStep]:
    """The weight quantizers of the body."""
    return [one for one in network.modules() if isinstance(one, NestedStep)]


def _calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    for _, layer in quantized_layers(network.get_submodule("body")):
        assert isinstance(layer.weight_quantizer, NestedStep)
        layer.weight_quantizer.initialise(layer.weight)
    calibrate_widths(network, images, trial.bits, select=_select)


def _parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    parameters = trial.parameters
    learning_rate = float(parameters["learning_rate"])
    step_rate = learning_rate * float(parameters["step_learning_rate_ratio"])
    return (
        *float_groups(
            network,
            learning_rate=learning_rate,
            weight_decay=float(parameters["weight_decay"]),
        ),
        step_group(network, learning_rate=step_rate),
        ParameterGroup(
            name="weight_steps",
            parameters=[one.step for one in nested_steps(network)],
            learning_rate=step_rate,
        ),
    )


def _backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """The loss of one drawn allocation: cross-entropy, softened by the teacher if there is one."""
    parameters = trial.parameters
    stages = Stages(
        activation_share=float(parameters["activation_share"]),
        uniform_share=float(parameters.get("uniform_share", 0.0)),
    )
    progress = network.get_submodule("progress")
    assert isinstance(progress, Progress)
    quantizers = nested_steps(network)
    widths = draw_widths(
        [one.weight for one in trial.bits],
        len(quantizers),
        probability=stages.own_bits_probability(progress.share),
        generator=generator,
    )
    allocate(network, widths)
    if not stages.quantizes_weights(progress.share):
        for quantizer in quantizers:
            quantizer.bits = FULL_PRECISION_BITS
    progress.advance()
    loss = _loss(network, trial, images, labels)
    torch.autograd.backward(loss)
    return loss.detach()


def _loss(network: nn.Module, trial: Trial, images: Tensor, labels: Tensor) -> Tensor:
    if "teacher" not in trial.parameters:
        return training_loss(network(images), labels, trial.recipe)
    teacher: object = network.teacher
    assert isinstance(teacher, Teacher)
    return student_loss(
        network(images),
        teacher.logits(images),
        labels,
        weight=float(trial.parameters["distillation_weight"]),
        temperature=float(trial.parameters["distillation_temperature"]),
    )


def _finish(network: nn.Module, trial: Trial, data: Arrays) -> tuple[Measurement, ...]:
    found = mixed_measurements(network, trial, data) if held_share(trial.parameters) else ()
    listed = sampled_measurements(
        network,
        trial,
        data,
        num_decisions=len(nested_steps(network)),
        allocate=allocate,
        measure=partial(measure_listed, network, trial, data),
    )
    return (*found, *listed)


def _select(network: nn.Module, bits: Bits) -> None:
    allocate(network, [bits.weight] * len(nested_steps(network)))


BIT_MIXER = Method(
    convert=_convert,
    calibrate=_calibrate,
    parameter_groups=_parameter_groups,
    backward=_backward,
    select=_select,
    finish=_finish,
)
