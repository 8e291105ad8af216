"""A trained network as one file, and the file as a network again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitsweep.bits import FULL_PRECISION_BITS, Allocation
from bitsweep.cost import DEFAULT_CONVENTION, Convention, size_bits
from bitsweep.errors import BitsweepError, InputError
from bitsweep.trial import Trial, parse_trial, trial_document
from bitsweep_trainers.branch_network import branch_network, widen_stem
from bitsweep_trainers.branch_norm import BranchNorm
from bitsweep_trainers.branches import BranchLayer
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.evaluate import allocated_layer_bits, layer_bits
from bitsweep_trainers.methods.mbquant import branch_plan
from bitsweep_trainers.models.build import build
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.packed import container
from bitsweep_trainers.packed.network import (
    PackedBranches,
    PackedBranchNorm,
    PackedLayer,
    PackedNetwork,
    PackedNorm,
)
from bitsweep_trainers.packed.pack import Computing, Norm, parts_of
from bitsweep_trainers.packed.records import (
    PART_KINDS,
    BranchNormRecord,
    BranchRecord,
    Encoder,
    LayerRecord,
    NormRecord,
    Part,
    decode,
)
from bitsweep_trainers.packed.routing import (
    NAME,
    PackedRoutes,
    RoutedPolicy,
    decoded_policy,
    encoded_policy,
    policy_bits,
    policy_of,
)
from bitsweep_trainers.policy.kept import kept_policy
from bitsweep_trainers.policy.measured import plan_of


def claimed_bits(trial: Trial, allocation: Allocation | None = None) -> int:
    """The size that the trial's method declares, in bits: that of the widest network.

    allocation: the bits of each layer where they are given or learned per layer.
    """
    data, convention = data_of(trial), convention_of(trial)
    layers = MODELS[trial.model].layers(data.shape, data.classes)
    if allocation is not None:
        return size_bits(layers, allocated_layer_bits(trial, allocation), convention)
    return max(size_bits(layers, layer_bits(trial, one), convention) for one in trial.bits)


def convention_of(trial: Trial) -> Convention:
    """How the size is counted: ends at 8 bits, unless the trial keeps them in floating point."""
    has_float_ends = layer_bits(trial, trial.bits[-1])[-1].weight == FULL_PRECISION_BITS
    return Convention.WHOLE_ENDS32 if has_float_ends else DEFAULT_CONVENTION


def save(
    network: nn.Module,
    trial: Trial,
    path: Path,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    allocation: Allocation | None = None,
) -> container.Written:
    """Write a trained network; InputError for a quantizer without a packed form, OSError.

    allocation: what a network is set to whose layers have bits of their own.
    """
    data, encoder = data_of(trial), Encoder()
    parts = parts_of(network, trial.bits, allocation=allocation)
    document: dict[str, Any] = {
        "trial": trial_document(trial),
        "trial_id": trial.id,
        "widths": [one.label for one in trial.bits] if allocation is None else [],
        **({} if allocation is None else {"allocation": allocation.label}),
        "data": {
            "name": data.name,
            "shape": list(data.shape),
            "classes": data.classes,
            "mean": list(mean),
            "std": list(std),
        },
        "claimed_bits": claimed_bits(trial, allocation),
        "convention": str(convention_of(trial)),
        # A list: the order of the layers is part of what is said.
        "parts": [{"path": name, **encoder.encode(one, name)} for name, one in parts.items()],
    }
    if (policy := policy_of(network, trial)) is not None:
        known, prices = kept_policy(network).known, plan_of(trial).selection_lambdas
        document[NAME] = encoded_policy(policy, known, prices, encoder)
    written = container.write(path, document, encoder.tensors)
    apart = policy_bits(encoder.tensors)
    return replace(written, payload_bits=written.payload_bits - apart, policy_bits=apart)


def load(path: Path | str, *, device: torch.device | str = "cpu") -> PackedNetwork:
    """The network of a packed file, at its largest width; InputError for a file that is none.

    Nothing in the file is executed.
    """
    header, tensors = container.read(Path(path))
    with _described(path):
        network = _network(header, tensors)
    return network.to(device)


def load_routed(path: Path | str) -> RoutedPolicy:
    """A super-network with the policy that it was exported with; InputError without one."""
    header, tensors = container.read(Path(path))
    if NAME not in header:
        raise InputError(f"{path} holds no policy: only an ABN trial that learned one exports it")
    with _described(path):
        trial, network = parse_trial(header["trial"]), _network(header, tensors)
        shape = tuple(int(one) for one in header["data"]["shape"])
        layers = MODELS[trial.model].layers(shape, int(header["data"]["classes"]))
        costs = PackedRoutes(network, layers).costs
        return RoutedPolicy(network, decoded_policy(header[NAME], tensors, costs), layers)


@contextmanager
def _described(path: Path | str) -> Iterator[None]:
    """Whatever is wrong with a header that passed its checksum is one line."""
    try:
        yield
    except BitsweepError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path} does not describe a network: {error}") from error


def _network(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> PackedNetwork:
    trial = parse_trial(header["trial"])
    rows = [dict(one) for one in header["parts"]]
    parts: dict[str, Part] = {str(one.pop("path")): decode(one, tensors) for one in rows}
    if not all(isinstance(one, tuple(PART_KINDS.values())) for one in parts.values()):
        raise ValueError("a part is neither a layer nor a batch norm")
    plain = _shell(trial, header, parts)
    for name, module in list(plain.named_modules()):
        if isinstance(module, Computing | Norm | BranchLayer | BranchNorm):
            plain.set_submodule(name, _module(name, module, parts.pop(name, None)))
    if parts:
        raise ValueError(f"the model {trial.model} has no {', '.join(parts)}")
    return PackedNetwork(plain, header)


def _shell(trial: Trial, header: Mapping[str, Any], parts: Mapping[str, Part]) -> nn.Module:
    """The model with modules to be replaced; its body in branches where the file has some."""
    generator = torch.Generator()
    shape = tuple(int(one) for one in header["data"]["shape"])
    network: nn.Module = build(trial.model, shape, int(header["data"]["classes"]), generator)
    if any(isinstance(one, BranchRecord) for one in parts.values()):
        layers = MODELS[trial.model].layers(shape, int(header["data"]["classes"]))
        plan = branch_plan(trial)
        if plan.switches["stem"] == "wide":
            widen_stem(network, plan, generator)
        network = branch_network(network, layers, plan, generator)
    return network


def _module(name: str, source: nn.Module, part: Part | None) -> nn.Module:
    """What stands in the place of a module; a norm without a record was folded into its layer."""
    if isinstance(part, LayerRecord) and isinstance(source, Computing):
        return PackedLayer(part, source)
    if isinstance(part, NormRecord) and isinstance(source, Norm):
        return PackedNorm(part)
    if isinstance(part, BranchRecord) and isinstance(source, BranchLayer):
        return PackedBranches(part, source)
    if isinstance(part, BranchNormRecord) and isinstance(source, BranchNorm):
        return PackedBranchNorm(part, source)
    if part is None and isinstance(source, Norm):
        return nn.Identity()
    raise ValueError(f"{name} is a {type(source).__name__}, its record is {type(part).__name__}")
