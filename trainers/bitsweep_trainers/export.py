"""From a trial's checkpoint to a file for inference, which is read back and compared at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bitsweep.bits import Allocation, Bits, labels
from bitsweep.errors import InputError
from bitsweep.exporter import Exported, ExportForm, SameLayers, SameLogits
from bitsweep.trial import Trial, parse_trial
from bitsweep_trainers import loop
from bitsweep_trainers.checkpoint import fitting, read_checkpoint
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays, load_of
from bitsweep_trainers.image import check, make_repeatable
from bitsweep_trainers.judging import EVALUATION_BATCH
from bitsweep_trainers.methods.table import method_of
from bitsweep_trainers.models.build import build
from bitsweep_trainers.packed import file
from bitsweep_trainers.packed.network import PackedNetwork
from bitsweep_trainers.packed.onnx_graph import onnx_logits, write_onnx
from bitsweep_trainers.packed.onnx_layers import same_layers
from bitsweep_trainers.packed.routing import RoutedPolicy, policy_of
from bitsweep_trainers.packed.sameness import apart, largest, largest_difference
from bitsweep_trainers.policy.environment import Choose
from bitsweep_trainers.policy.measured import environment_of

# Of the largest logit: float32 sums agree far better, a code that differs moves far more.
EQUAL_WITHIN = 1e-4
# Of validation, for a graph's layers one by one: some 1e5 to 1e7 values each.
LAYER_SAMPLES = 128


def export(
    trial: Trial, checkpoint: Path, output: Path, *, form: ExportForm, bits: Bits | None
) -> Exported:
    """Write a trial's network, read it back and compare both on the samples of validation.

    Runs on the CPU. A network whose bits were learned or given per layer leaves at these.
    InputError for a checkpoint of another trial and for what a form cannot hold.
    """
    _check_bits(trial, form, bits)
    check(trial)
    make_repeatable(trial, torch.device("cpu"))
    data, network = load_of(trial), trained_network(trial, checkpoint)
    chosen = method_of(trial.method).chosen(network, trial)
    allocation = None if chosen is None else chosen.allocation
    payload_bits: int | None = None
    padding_bits = header_bytes = policy_bits = 0
    routed: tuple[SameLogits, ...] = ()
    layers: SameLayers | None = None
    if form == "packed":
        written = file.save(
            network, trial, output, mean=data.mean, std=data.std, allocation=allocation
        )
        widths, found = trial.bits, _packed_outputs(file.load(output))
        payload_bits, padding_bits = written.payload_bits, written.padding_bits
        header_bytes, policy_bits = written.header_bytes, written.policy_bits
        if policy_bits:
            routed = _routed_alike(network, trial, data, file.load_routed(output))
    else:
        widths = (bits or trial.bits[-1],)
        drawn = _onnx_source(network, trial, output, data=data, allocation=allocation)
        if allocation is None:
            drawn.set_bits(widths[0])
        layers = _layers_alike(network, trial, data, drawn, output, widths, allocation)
        found = partial(_onnx_outputs, output)
    return Exported(
        payload_bits=payload_bits,
        padding_bits=padding_bits,
        header_bytes=header_bytes,
        file_bytes=output.stat().st_size,
        claimed_bits=file.claimed_bits(trial, allocation),
        widths=(*_all_compared(network, trial, data, found, widths, allocation), *routed),
        policy_bits=policy_bits,
        convention=file.convention_of(trial),
        layers=layers,
    )


def _check_bits(trial: Trial, form: ExportForm, bits: Bits | None) -> None:
    if bits is None:
        return
    if form == "packed":
        raise InputError("a packed file holds all widths: --bits belongs to --format onnx")
    if trial.has_learned_bits:
        message = "its layers have the bits that were learned or given: leave --bits out"
        raise InputError(f"trial {trial.short_id} serves no width: {message}")
    if bits not in trial.bits:
        raise InputError(
            f"trial {trial.short_id} serves {labels(trial.bits)}, not {bits.label}: --bits"
        )


def trained_network(trial: Trial, checkpoint: Path) -> nn.Module:
    """The network of a checkpoint in evaluation mode.

    InputError for that of another trial, or for a file that is damaged.
    """
    again = f"`bitsweep run FILE --trial {trial.short_id}` trains it again and keeps it"
    remedy = f"remove it, and {again}"
    document = read_checkpoint(checkpoint, holds=("trial", "network"), remedy=remedy)
    with fitting(checkpoint, remedy=remedy):
        came = parse_trial(document["trial"])
    if came.id != trial.id:
        raise InputError(f"{checkpoint} is of trial {came.short_id}, not of {trial.short_id}")
    declared, method = data_of(trial), method_of(trial.method)
    draws = loop.stream(trial.seed, "model")
    network: nn.Module = build(trial.model, declared.shape, declared.classes, draws)
    network = method.convert(network, trial, loop.stream(trial.seed, "convert"))
    with fitting(checkpoint, remedy=remedy):
        network.load_state_dict(document["network"])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


# Bits (None: the file's own), normalised samples -> outputs.
Outputs = Callable[[Bits | None, Tensor], Tensor]


def _packed_outputs(network: PackedNetwork) -> Outputs:
    def outputs(bits: Bits | None, samples: Tensor) -> Tensor:
        if bits is not None:
            network.set_bits(bits)
        return network(samples)  # type: ignore[no-any-return]  # a module's call is untyped

    return outputs


def _onnx_source(
    network: nn.Module,
    trial: Trial,
    output: Path,
    *,
    data: Arrays,
    allocation: Allocation | None,
) -> PackedNetwork:
    """The packed network that a graph is drawn from, so that both formats say the same."""
    scratch = output.with_name(f"{output.name}.packed")
    try:
        file.save(network, trial, scratch, mean=data.mean, std=data.std, allocation=allocation)
        return file.load(scratch)
    finally:
        scratch.unlink(missing_ok=True)


def _onnx_outputs(output: Path, bits: Bits | None, samples: Tensor) -> Tensor:
    return onnx_logits(output, samples)


def _layers_alike(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    drawn: PackedNetwork,
    output: Path,
    widths: Sequence[Bits],
    allocation: Allocation | None,
) -> SameLayers:
    """Write the graph and compare it with its source by layers, and that with the network."""
    write_onnx(drawn, output)
    few = replace(
        data,
        validation_images=data.validation_images[:LAYER_SAMPLES],
        validation_labels=data.validation_labels[:LAYER_SAMPLES],
    )
    samples = normalise(few.validation_images, data.mean, data.std)
    (source,) = _all_compared(network, trial, few, _packed_outputs(drawn), widths, allocation)
    return replace(same_layers(drawn, output, samples), num_source_apart=source.num_apart)


def _all_compared(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    found: Outputs,
    widths: Sequence[Bits],
    allocation: Allocation | None,
) -> tuple[SameLogits, ...]:
    """At each width, or at the one allocation that the network is set to."""
    if allocation is not None:
        return (_compared(network, data, partial(found, None), label=allocation.label),)
    compared = []
    for bits in widths:
        method_of(trial.method).select(network, bits)
        compared.append(_compared(network, data, partial(found, bits), label=bits.label))
    return tuple(compared)


def _routed_alike(
    network: nn.Module, trial: Trial, data: Arrays, routed: RoutedPolicy
) -> tuple[SameLogits, ...]:
    """The learned policy of network and file, each with its own agent, at each of its lambdas."""
    environment, policy = environment_of(network, trial), policy_of(network, trial)
    assert policy is not None
    compared = []
    for price in routed.lambdas:
        choose = policy.choice(price)

        def own(samples: Tensor, choose: Choose = choose) -> Tensor:
            return environment.run(samples, choose).logits

        def other(samples: Tensor, price: float = price) -> Tensor:
            return routed.run(samples, price).logits

        label = Allocation(layers=(), policy=f"learned@{price:g}").label
        compared.append(_compared(own, data, other, label=label))
    return tuple(compared)


@torch.inference_mode()
def _compared(
    network: Callable[[Tensor], Tensor],
    data: Arrays,
    found: Callable[[Tensor], Tensor],
    *,
    label: str,
) -> SameLogits:
    """Trained network against file, over the whole validation split."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, len(data.validation_labels), EVALUATION_BATCH):
        batch = data.validation_images[begin : begin + EVALUATION_BATCH]
        samples = normalise(batch, data.mean, data.std)
        pairs.append((network(samples), found(samples)))
    own, other = (torch.cat(one) for one in _transposed(pairs))
    limit, labels = largest(own), data.validation_labels
    is_apart = apart(own, other, bound=EQUAL_WITHIN * limit)
    answers = None if labels.is_floating_point() else other.argmax(1)
    return SameLogits(
        bits=label,
        images=len(own),
        largest_difference=largest_difference(own, other),
        largest_logit=limit,
        num_apart=int(is_apart.any(1).sum()),
        num_agreeing=None if answers is None else int((own.argmax(1) == answers).sum()),
        num_correct=None if answers is None else int((answers == labels).sum()),
    )


def _transposed(
    pairs: Sequence[tuple[Tensor, Tensor]],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return tuple(one for one, _ in pairs), tuple(other for _, other in pairs)
