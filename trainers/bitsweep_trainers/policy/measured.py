"""An allocation per layer, measured on a trained super-network; an allocation per image, as bits.

The means over images are exact in the BitOps: `weight` is the mean of the bits, and `activation`
such that their product is the mean of the products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Allocation, Bits, tied
from bitsweep.cost import Layer, LayerBits
from bitsweep.errors import Diverged
from bitsweep.measurement import Measurement, Split
from bitsweep.trial import Trial
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.declared import DATA_SETS
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.methods.declared.abn import (
    allocation_layer_bits,
    body_of,
    decisions_of,
)
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.supernet import allocate

EVALUATION_BATCH = 500


def layers_of(trial: Trial) -> tuple[Layer, ...]:
    """The declared layers of the trial's model on its data."""
    data = DATA_SETS[trial.data]
    return MODELS[trial.model].layers(data.shape, data.classes)


def widths_of(trial: Trial) -> list[int]:
    """The widths of the super-network, ascending."""
    return [one.weight for one in trial.bits]


def by_body_layer(trial: Trial, decided: Sequence[Bits]) -> tuple[Bits, ...]:
    """The bits of each decision -> those of each layer of the body, in order."""
    groups = decisions_of([one.name for one in body_of(layers_of(trial))])
    of_layer = {
        index: bits for group, bits in zip(groups, decided, strict=True) for index in group
    }
    return tuple(of_layer[index] for index in sorted(of_layer))


def mean_layer_bits(trial: Trial, actions: Tensor) -> tuple[LayerBits, ...]:
    """The bits of every layer as means over images; actions: indices of widths (N, L)."""
    bits = torch.tensor(widths_of(trial), dtype=torch.float64)[actions.cpu()]
    means, products = bits.mean(0).tolist(), bits.square().mean(0).tolist()
    layers = layers_of(trial)
    groups = decisions_of([one.name for one in body_of(layers)])
    of_layer = {
        index: (mean, product / mean)
        for group, mean, product in zip(groups, means, products, strict=True)
        for index in group
    }
    body = [of_layer[index] for index in sorted(of_layer)]
    return allocation_layer_bits(layers, body, trial.parameters, trial.bits)


def split_of(data: Arrays, split: Split) -> tuple[Tensor, Tensor]:
    """Normalised images (N, C, H, W) and labels (N,) of a split."""
    is_test = split == "test"
    images = data.test_images if is_test else data.validation_images
    labels = data.test_labels if is_test else data.validation_labels
    return normalise(images, data.mean, data.std), labels


def counts(logits: Tensor, labels: Tensor, *, where: str) -> tuple[int, float]:
    """(correct answers, sum of cross-entropies); raise Diverged when that is not finite."""
    loss_sum = float(cross_entropy(logits, labels, reduction="sum"))
    if not torch.isfinite(torch.tensor(loss_sum)):
        raise Diverged(f"the loss is {loss_sum} at {where}")
    return int((logits.argmax(1) == labels).sum()), loss_sum


@torch.no_grad()
def measure_allocation(
    network: nn.Module, trial: Trial, data: Arrays, *, split: Split, widths: Sequence[int]
) -> Measurement:
    """Run a trained super-network at one width per decision; nothing is trained again."""
    allocate(network, widths)
    network.eval()
    images, labels = split_of(data, split)
    logits = torch.cat([network(one) for one in torch.split(images, EVALUATION_BATCH)])
    allocation = Allocation(layers=by_body_layer(trial, [tied(one) for one in widths]))
    correct, loss_sum = counts(logits, labels, where=allocation.label)
    actions = torch.tensor([[widths_of(trial).index(one) for one in widths]])
    return Measurement(
        split=split,
        allocation=allocation,
        total=len(labels),
        correct=correct,
        sums={"loss": loss_sum},
        layer_bits=mean_layer_bits(trial, actions),
    )
