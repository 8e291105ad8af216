"""What an arm's trials may take from another trial, and the forms an allocation is taken in."""

from collections.abc import Sequence
from math import ceil
from random import Random
from typing import Literal

from bitsweep.bits import Allocation, Bits
from bitsweep.cost import Layer

Take = Literal["allocation", "checkpoint"]
Form = Literal["kept", "shuffled", "uniform"]


def taken(allocation: Allocation, form: Form, *, layers: Sequence[Layer], seed: int) -> Allocation:
    """An allocation in another form; `layers` are those of the model, the ends included.

    shuffled: the same pairs of bits on other layers of the body, drawn from the seed; a different
    allocation wherever there is one. Layers differ in size, so its mean bits are others. uniform:
    one pair everywhere, with at least as many mean bits, weighted by weights (activations: by
    MACs). Equal bits in every layer are the uniform allocation in any form.

    >>> from bitsweep.bits import parse_allocation
    >>> one = Layer(name="a", kind="conv", place="body", macs=10, weights=30)
    >>> two = Layer(name="b", kind="conv", place="body", macs=10, weights=10)
    >>> learned = parse_allocation("w=[2,3] a=[4,4]")
    >>> taken(learned, "shuffled", layers=(one, two), seed=0).label
    'w=[3,2] a=[4,4]'
    >>> taken(learned, "uniform", layers=(one, two), seed=0).label
    'w3a4'
    """
    body = [layer for layer in layers if layer.place == "body"]
    bits = by_layer(allocation, len(body))
    if form == "shuffled":
        bits = _shuffled(bits, Random(f"{seed}/shuffled"))
    if form == "uniform":
        weight = _mean([one.weight for one in bits], [layer.weights for layer in body])
        activation = _mean([one.activation for one in bits], [layer.macs for layer in body])
        return Allocation.uniform(Bits(weight=weight, activation=activation))
    return Allocation.of(bits)


def by_layer(allocation: Allocation, num_layers: int) -> tuple[Bits, ...]:
    """The bits of each layer of a body; ValueError for another body's or a policy."""
    if len(allocation.layers) == 1:
        return allocation.layers * num_layers
    if len(allocation.layers) != num_layers:
        raise ValueError(f"{allocation.label} is not for a body of {num_layers} layers")
    return allocation.layers


def _shuffled(bits: tuple[Bits, ...], random: Random) -> tuple[Bits, ...]:
    """Another order of the bits, where they have one."""
    order = list(bits)
    while len(set(bits)) > 1 and tuple(order) == bits:
        random.shuffle(order)
    return tuple(order)


def _mean(bits: Sequence[int], counts: Sequence[int]) -> int:
    """The mean, rounded up; exact, since all are whole numbers."""
    total = sum(one * count for one, count in zip(bits, counts, strict=True))
    return ceil(total / sum(counts)) if total % sum(counts) else total // sum(counts)
