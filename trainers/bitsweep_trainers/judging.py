"""A network as it stands -> what it gives on a split: counts, sums, which answers are right."""

from functools import partial
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.cost import LayerBits
from bitsweep.errors import Diverged
from bitsweep.measurement import Measurement, Protocol, Split
from bitsweep_trainers.answers import answers_of
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.divergence import first_not_finite
from bitsweep_trainers.losses import complex_cosines, normalised_errors, task_loss
from bitsweep_trainers.methods.base import Chosen

EVALUATION_BATCH = 500


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


def judged(
    network: nn.Module,
    data: Arrays,
    *,
    split: Split,
    chosen: Chosen,
    layer_bits: tuple[LayerBits, ...],
    protocol: Protocol = "running",
) -> Measurement:
    """Run the network over a split as it stands; raise Diverged when its loss is not finite."""
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
        protocol=protocol,
        total=len(labels),
        correct=correct,
        sums=sums,
        layer_bits=layer_bits,
        answers=answers,
    )
