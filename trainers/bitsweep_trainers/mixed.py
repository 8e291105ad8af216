"""Layer-wise allocations of a trained Bit-Mixer: greedy search under a budget of mean bits.

The search sees training images that the network never saw; what it finds is then measured on the
trial's splits, beside the same bits in a shuffled order of layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Allocation, tied
from bitsweep.cost import LayerBits
from bitsweep.measurement import Allocator, Measurement, Protocol, Split
from bitsweep.trial import Trial
from bitsweep_trainers.answers import answers_of
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.judging import judged
from bitsweep_trainers.layers import quantized_layers
from bitsweep_trainers.methods.base import Chosen
from bitsweep_trainers.methods.declared.bit_mixer import allocation_layer_bits
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.baselines import greedy_path
from bitsweep_trainers.policy.measured import counts, split_of
from bitsweep_trainers.transitions import allocate

BUDGET_STEP_BITS = 0.5
EVALUATION_BATCH = 500


def budgets(widths: Sequence[int]) -> list[float]:
    """Mean bits strictly between the smallest and the largest width, half a bit apart.

    >>> budgets([2, 3, 4])
    [2.5, 3.0, 3.5]
    """
    count_ = round((widths[-1] - widths[0]) / BUDGET_STEP_BITS)
    return [widths[0] + BUDGET_STEP_BITS * one for one in range(1, count_)]


def within(path: Sequence[Sequence[int]], budget_bits: float) -> Sequence[int]:
    """The first allocation of a descending path whose mean over layers fits the budget.

    >>> within([(4, 4), (4, 2), (2, 2)], 3.5)
    (4, 2)
    """
    return next(one for one in path if sum(one) <= budget_bits * len(one))


@torch.no_grad()
def logits_at(network: nn.Module, images: Tensor, bits: Sequence[int]) -> Tensor:
    """Run normalised images (N, C, H, W), in evaluation, with these bits in the body's layers."""
    allocate(network, bits)
    network.eval()
    return torch.cat([network(one) for one in torch.split(images, EVALUATION_BATCH)])


def search_greedily(
    network: nn.Module, trial: Trial, data: Arrays
) -> dict[float, tuple[int, ...]]:
    """For each budget the bits of the body's layers, found on the held-out images.

    From the largest width down, always the step of one layer that loses least per bit.
    """
    images = normalise(data.held_images, data.mean, data.std)
    widths = [one.weight for one in trial.bits]
    num_layers = len(quantized_layers(network.get_submodule("body")))
    costs = torch.tensor([widths] * num_layers, dtype=torch.float64)

    def loss_of(actions: tuple[int, ...]) -> float:
        logits = logits_at(network, images, [widths[one] for one in actions])
        return float(cross_entropy(logits, data.held_labels))

    path = greedy_path(costs, loss_of, is_upward=False)
    bits = [tuple(widths[one] for one in actions) for actions in path]
    return {one: tuple(within(bits, one)) for one in budgets(widths)}


def mixed_measurements(network: nn.Module, trial: Trial, data: Arrays) -> tuple[Measurement, ...]:
    """What greedy search found, each allocation once, and its bits in a shuffled order."""
    draws = torch.Generator().manual_seed(trial.seed)
    measured = []
    for bits in dict.fromkeys(search_greedily(network, trial, data).values()):
        order = torch.randperm(len(bits), generator=draws).tolist()
        rivals: list[tuple[Allocator, Sequence[int]]] = [
            ("greedy", bits),
            ("shuffled", [bits[one] for one in order]),
        ]
        for split in trial.splits:
            measured += [
                _measure(network, trial, data, split=split, bits=some, allocator=allocator)
                for allocator, some in rivals
            ]
    unique = {one.key: one for one in measured}  # two budgets may shuffle to the same bits
    return tuple(unique.values())


def _measure(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    *,
    split: Split,
    bits: Sequence[int],
    allocator: Allocator,
) -> Measurement:
    images, labels = split_of(data, split)
    allocation = Allocation(layers=tuple(tied(one) for one in bits))
    logits = logits_at(network, normalise(images, data.mean, data.std), bits)
    hits, loss_sum = counts(logits, labels, where=allocation.label)
    return Measurement(
        split=split,
        allocation=allocation,
        allocator=allocator,
        total=len(labels),
        correct=int(hits.sum()),
        sums={"loss": loss_sum},
        layer_bits=mixed_layer_bits(trial, bits),
        answers=answers_of(hits, split),
    )


def measure_listed(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    *,
    split: Split,
    widths: Sequence[int],
    protocol: Protocol,
) -> Measurement:
    """Run the trained network at a listed allocation, one width per layer of the body."""
    allocate(network, widths)
    allocation = Allocation(layers=tuple(tied(one) for one in widths))
    return judged(
        network,
        data,
        split=split,
        chosen=Chosen(allocation=allocation, allocator="random"),
        layer_bits=mixed_layer_bits(trial, widths),
        protocol=protocol,
    )


def mixed_layer_bits(trial: Trial, bits: Sequence[int]) -> tuple[LayerBits, ...]:
    """The bits of every layer, ends included, at these bits of the body's layers."""
    data = data_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    return allocation_layer_bits(layers, [tied(one) for one in bits], trial.bits)
