"""A network at some bits -> a measurement: counts and sums over a split, the bits of layers."""

from functools import partial
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Allocation, Bits
from bitsweep.cost import LayerBits
from bitsweep.errors import Diverged
from bitsweep.measurement import Measurement, Split
from bitsweep.taking import by_layer
from bitsweep.trial import Trial
from bitsweep_trainers.answers import answers_of
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.divergence import first_not_finite
from bitsweep_trainers.losses import complex_cosines, normalised_errors, task_loss
from bitsweep_trainers.methods.base import Chosen
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.declared import MODELS

EVALUATION_BATCH = 500


def layer_bits(trial: Trial, bits: Bits) -> tuple[LayerBits, ...]:
    """The bits of each layer of the trial's model at one of its widths, as its method declares."""
    data = data_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    declared = DECLARED_METHODS[trial.method]
    return declared.layer_bits(layers, bits, trial.parameters, trial.bits)


def allocated_layer_bits(trial: Trial, allocation: Allocation) -> tuple[LayerBits, ...]:
    """The bits of each layer of the trial's model at bits per body layer.

    Each layer costs what the method declares of it at its own bits.
    """
    data = data_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    bits = iter(by_layer(allocation, sum(layer.place == "body" for layer in layers)))
    own = [next(bits) if layer.place == "body" else trial.bits[0] for layer in layers]
    return tuple(layer_bits(trial, one)[index] for index, one in enumerate(own))


@torch.inference_mode()
def regress(
    network: nn.Module, vectors: Tensor, targets: Tensor, *, data: Arrays
) -> dict[str, float]:
    """Sums over vectors of the loss and of what they are judged by, in evaluation mode."""
    network.eval()
    sums = {"loss": 0.0, "cosine_similarity": 0.0, "normalised_error": 0.0}
    for begin in range(0, len(targets), EVALUATION_BATCH):
        batch = slice(begin, begin + EVALUATION_BATCH)
        outputs, wanted = network(normalise(vectors[batch], data.mean, data.std)), targets[batch]
        sums["loss"] += float(task_loss(outputs, wanted, reduction="sum"))
        sums["cosine_similarity"] += float(complex_cosines(outputs, wanted).sum())
        sums["normalised_error"] += float(normalised_errors(outputs, wanted).sum())
    return sums


@torch.inference_mode()
def count(
    network: nn.Module, images: Tensor, labels: Tensor, *, data: Arrays
) -> tuple[Tensor, float]:
    """(which answers are right (N,), sum of cross-entropies) over uint8 images; in eval mode."""
    network.eval()
    hits, loss_sum = [], 0.0
    for begin in range(0, len(labels), EVALUATION_BATCH):
        batch = slice(begin, begin + EVALUATION_BATCH)
        logits = network(normalise(images[batch], data.mean, data.std))
        hits.append(logits.argmax(1) == labels[batch])
        loss_sum += float(cross_entropy(logits, labels[batch], reduction="sum"))
    return torch.cat(hits), loss_sum


def measure(
    network: nn.Module, trial: Trial, data: Arrays, *, split: Split, bits: Bits
) -> Measurement:
    """Run the network at these bits over a split; raise Diverged when its loss is not finite."""
    method_of(trial.method).select(network, bits)
    return _measured(
        network,
        trial,
        data,
        split=split,
        chosen=Chosen(allocation=Allocation.uniform(bits)),
        layer_bits=layer_bits(trial, bits),
    )


def measure_chosen(
    network: nn.Module, trial: Trial, data: Arrays, *, split: Split, chosen: Chosen
) -> Measurement:
    """Run the network over a split at the allocation it has; Diverged as in `measure`."""
    return _measured(
        network,
        trial,
        data,
        split=split,
        chosen=chosen,
        layer_bits=allocated_layer_bits(trial, chosen.allocation),
    )


def _measured(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    *,
    split: Split,
    chosen: Chosen,
    layer_bits: tuple[LayerBits, ...],
) -> Measurement:
    is_test = split == "test"
    images = data.test_images if is_test else data.validation_images
    labels = data.test_labels if is_test else data.validation_labels
    correct: int | None = None
    answers: bytes | None = None
    judge = regress if labels.is_floating_point() else count
    if labels.is_floating_point():
        sums = regress(network, images, labels, data=data)
    else:
        hits, loss_sum = count(network, images, labels, data=data)
        correct, answers = int(hits.sum()), answers_of(hits, split)
        sums = {"loss": loss_sum}
    if not isfinite(sums["loss"]):
        label = chosen.allocation.label
        where = first_not_finite(network, partial(judge, network, images, labels, data=data))
        raise Diverged(f"the {split} loss is {sums['loss']} at {label}, first in {where}")
    return Measurement(
        split=split,
        allocation=chosen.allocation,
        allocator=chosen.allocator,
        lambda_=chosen.lambda_,
        total=len(labels),
        correct=correct,
        sums=sums,
        layer_bits=layer_bits,
        answers=answers,
    )


def measure_all(
    network: nn.Module, trial: Trial, data: Arrays, *, is_last: bool, epoch: int = 0
) -> tuple[Measurement, ...]:
    """Validation at every width of the trial; after the last epoch test too, if asked for.

    Where bits are a result or given per layer, at that one allocation instead. Then also what the
    method measures besides. Raise Diverged, which names the epoch.
    """
    try:
        return _all_measured(network, trial, data, is_last=is_last)
    except Diverged as error:
        raise Diverged(f"{error}, measured after epoch {epoch}") from error


def _all_measured(
    network: nn.Module, trial: Trial, data: Arrays, *, is_last: bool
) -> tuple[Measurement, ...]:
    splits = [one for one in trial.splits if one == "validation" or is_last]
    chosen = method_of(trial.method).chosen(network, trial)
    if chosen is None:
        measured = tuple(
            measure(network, trial, data, split=split, bits=bits)
            for split in splits
            for bits in trial.bits
        )
    else:
        measured = tuple(
            measure_chosen(network, trial, data, split=split, chosen=chosen) for split in splits
        )
    if is_last:
        measured += method_of(trial.method).finish(network, trial, data)
    return measured
