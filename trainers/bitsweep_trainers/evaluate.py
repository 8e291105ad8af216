"""A network at some bits -> a measurement: what it gives on a split, the bits of layers."""

from torch import nn

from bitsweep.bits import Allocation, Bits
from bitsweep.cost import LayerBits
from bitsweep.errors import Diverged
from bitsweep.measurement import Measurement, Split
from bitsweep.taking import by_layer
from bitsweep.trial import Trial
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.judging import judged
from bitsweep_trainers.methods.base import Chosen
from bitsweep_trainers.methods.declared import METHODS as DECLARED_METHODS
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.declared import MODELS


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


def measure(
    network: nn.Module, trial: Trial, data: Arrays, *, split: Split, bits: Bits
) -> Measurement:
    """Run the network at these bits over a split; raise Diverged when its loss is not finite."""
    method_of(trial.method).select(network, bits)
    return judged(
        network,
        data,
        split=split,
        chosen=Chosen(allocation=Allocation.uniform(bits)),
        layer_bits=layer_bits(trial, bits),
    )


def measure_chosen(
    network: nn.Module, trial: Trial, data: Arrays, *, split: Split, chosen: Chosen
) -> Measurement:
    """Run the network over a split at the allocation it has; Diverged as in `measure`."""
    return judged(
        network,
        data,
        split=split,
        chosen=chosen,
        layer_bits=allocated_layer_bits(trial, chosen.allocation),
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
