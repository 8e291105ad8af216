"""ABN's learned policy in a packed file: what is kept of it, and how a packed network routes.

The agent's linear maps are kept as they decide, as 8-bit codes or in FP32; its layer norms, biases
and scales in floating point. No size claimed for a network holds this: it is counted apart.
"""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from bitsweep.bits import Bits
from bitsweep.cost import Layer
from bitsweep.trial import Trial
from bitsweep_trainers.data.augment import normalise
from bitsweep_trainers.layers import QuantizedLinear
from bitsweep_trainers.methods.declared.abn import decisions_of
from bitsweep_trainers.packed.network import PackedLayer, PackedNetwork, PackedNorm, folded_norm
from bitsweep_trainers.packed.pack import Place
from bitsweep_trainers.packed.records import Encoder, Folded, LayerRecord, decode
from bitsweep_trainers.packed.weights import Codes
from bitsweep_trainers.policy.agent import Agent
from bitsweep_trainers.policy.anchor import Anchor, Policy
from bitsweep_trainers.policy.environment import (
    Choose,
    Rollout,
    Route,
    by_action,
    decision_costs,
    run_batches,
)
from bitsweep_trainers.policy.kept import NAME as KEPT
from bitsweep_trainers.policy.kept import kept_policy
from bitsweep_trainers.policy.measured import environment_of, plan_of
from bitsweep_trainers.policy.rounding import bits_of

NAME = "policy"
ROUTED_BATCH = 500


def policy_of(network: nn.Module, trial: Trial) -> Policy | None:
    """The policy that a trained super-network keeps; None where none was learned."""
    if not hasattr(network, KEPT):
        return None
    plan = plan_of(trial)
    environment = environment_of(network, trial)
    return kept_policy(network).restored(environment, encoder=plan.encoder, hidden=plan.hidden)


def encoded_policy(
    policy: Policy, known: Mapping[tuple[int, ...], float], prices: Sequence[float], to: Encoder
) -> dict[str, Any]:
    """The JSON of a policy, its tensors put into the encoder under names that begin with `NAME`.

    known: mean rewards of static allocations, which an anchored policy chooses its anchor from.
    """
    maps = [
        (p, one) for p, one in policy.agent.named_modules() if isinstance(one, QuantizedLinear)
    ]
    norms = [(p, one) for p, one in policy.agent.named_modules() if isinstance(one, nn.LayerNorm)]
    own = Bits(weight=bits_of(policy.agent), activation=bits_of(policy.agent))
    place = Place(path="", layer_before="", body=(), widths=(own,))
    anchor = None
    if policy.anchor is not None:
        anchor = {"allocations": [list(one) for one in known], "rewards": list(known.values())}
    return {
        "lambdas": list(prices),
        "hidden": len(maps[-2][1].weight),
        "encoder": len(maps[0][1].weight),
        "margin": None if policy.margin == inf else policy.margin,
        "anchor": anchor,
        "maps": {p: to.encode(one.pack_part(place), f"{NAME}.{p}") for p, one in maps},
        "norms": {
            p: to.encode(Folded(scale=one.weight.detach(), shift=one.bias.detach()), f"{NAME}.{p}")
            for p, one in norms
        },
    }


def policy_bits(tensors: Mapping[str, Tensor | Codes]) -> int:
    """Bits of the payload that the policy takes, among the tensors of a file."""
    return sum(
        one.raw.numel() * one.bits if isinstance(one, Codes) else one.numel() * 32
        for name, one in tensors.items()
        if name.startswith(f"{NAME}.")
    )


def decoded_policy(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], costs: Tensor
) -> Policy:
    """The inverse of `encoded_policy`; costs: BitOps of each decision at each width (L, m)."""
    norms = {path: decode(one, tensors) for path, one in document["norms"].items()}
    channels = [len(norms[f"encoders.{index}.0"].scale) for index in range(len(costs))]
    agent = Agent(
        channels,
        costs,
        encoder=int(document["encoder"]),
        hidden=int(document["hidden"]),
        generator=torch.Generator(),
    )
    with torch.no_grad():
        for path, one in norms.items():
            norm = agent.get_submodule(path)
            assert isinstance(norm, nn.LayerNorm)
            norm.weight.copy_(one.scale)
            norm.bias.copy_(one.shift)
    for path, one in document["maps"].items():
        record, source = decode(one, tensors), agent.get_submodule(path)
        if not isinstance(record, LayerRecord) or not isinstance(source, nn.Linear):
            raise ValueError(f"{path} is no linear map of an agent")
        layer = PackedLayer(record, source)
        layer.switch(None)
        agent.set_submodule(path, layer)
    margin = inf if document["margin"] is None else float(document["margin"])
    anchor = None
    if (kept := document["anchor"]) is not None:
        pairs = zip(kept["allocations"], kept["rewards"], strict=True)
        anchor = Anchor.of({tuple(one): float(reward) for one, reward in pairs}, costs)
    return Policy(agent=agent.requires_grad_(False), anchor=anchor, margin=margin)


class PackedRoutes:
    """A packed super-network as a decision process: each sample takes its own way through it."""

    def __init__(self, network: PackedNetwork, layers: Sequence[Layer]) -> None:
        paths = network.body_layers
        decisions = [[paths[one] for one in group] for group in decisions_of(paths)]
        bits = network.widths
        self.widths = tuple(one.weight for one in bits)
        self.costs = decision_costs(layers, decisions, self.widths)
        sizes = {one.name: one.in_channels for one in layers}
        self.channels = tuple(sizes[group[0]] for group in decisions)
        self._route = Route()
        self._network = deepcopy(network.network)
        of_path = {path: index for index, group in enumerate(decisions) for path in group}
        self._put_routes(of_path, bits)

    def _put_routes(self, of_path: Mapping[str, int], bits: Sequence[Bits]) -> None:
        for path, module in list(self._network.named_modules()):
            if isinstance(module, PackedLayer) and path in of_path:
                routed: nn.Module = _RoutedLayer(module, bits, of_path[path], self._route)
            elif isinstance(module, PackedNorm) and set(module.record.keyed_by) & set(of_path):
                decision = of_path[module.record.keyed_by[0]]
                routed = _RoutedNorm(module, bits, decision, self._route)
            else:
                continue
            self._network.set_submodule(path, routed)

    @torch.inference_mode()
    def run(self, images: Tensor, choose: Choose) -> Rollout:
        """Normalised samples (N, C, ...), each at the bits that are chosen for it."""
        return self._route.rollout(self._network, images, choose)


class _RoutedLayer(nn.Module):
    """A packed layer at the bits of each sample's action; its weights are made once."""

    def __init__(
        self, layer: PackedLayer, widths: Sequence[Bits], decision: int, route: Route
    ) -> None:
        super().__init__()
        self.decision, self.route = decision, route
        self.runs = {}
        for index, bits in enumerate(widths):
            one = copy(layer)  # shares the record; has bits and dense weights of its own
            one.switch(bits)
            self.runs[index] = one.forward

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, ...) -> what the layer gives."""
        return by_action(values, self.route.action(self.decision, values), self.runs)


class _RoutedNorm(nn.Module):
    """The folded norm of each sample's action."""

    def __init__(
        self, norm: PackedNorm, widths: Sequence[Bits], decision: int, route: Route
    ) -> None:
        super().__init__()
        self.decision, self.route = decision, route
        self.copies = [norm.record.copies[str(bits.weight)] for bits in widths]
        self.register_buffer("scales", torch.stack([one.scale for one in self.copies]))
        self.register_buffer("shifts", torch.stack([one.shift for one in self.copies]))

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) of the same shape."""
        actions = self.route.action(self.decision, values)
        present = torch.unique(actions).tolist()
        if len(present) == 1:
            return folded_norm(values, self.copies[present[0]])
        ones = [1] * (values.ndim - 2)
        scale = self.get_buffer("scales")[actions].view(*values.shape[:2], *ones)
        shift = self.get_buffer("shifts")[actions].view(*values.shape[:2], *ones)
        return torch.addcmul(shift, values, scale)


class RoutedPolicy:
    """A packed super-network with its learned policy: per-sample bits at a price of BitOps."""

    def __init__(self, network: PackedNetwork, policy: Policy, layers: Sequence[Layer]) -> None:
        self.routes = PackedRoutes(network, layers)
        self.policy = policy
        self.mean, self.std = network.mean, network.std
        self.lambdas = tuple(float(one) for one in network.header[NAME]["lambdas"])

    def run(self, samples: Tensor, price: float) -> Rollout:
        """Normalised samples -> logits (N, classes) and the actions taken, indices of widths."""
        choose = self.policy.choice(price)
        return run_batches(self.routes, samples, lambda _: choose, ROUTED_BATCH)

    def predict(self, samples: Tensor, price: float) -> Rollout:
        """The same for uint8 images, or for series as they are in the data."""
        return self.run(normalise(samples, self.mean, self.std), price)
