"""The frozen super-network as a decision process: each image takes its own way through it.

N images, L decisions, m widths; actions are indices of widths. What chooses stands elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.cost import Layer
from bitsweep_trainers.layers import Quantized, QuantizedLinear, quantized_layers
from bitsweep_trainers.supernet import decision_layers
from bitsweep_trainers.switchable import Norm, SwitchableNorm

Choose = Callable[[int, Tensor, Tensor], Tensor]
Reward = Literal["hit", "prob", "nll", "rel"]
LOWEST_LOG = -5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What N episodes saw and did: features per decision (N, C_t), actions (N, L), logits."""

    features: tuple[Tensor, ...]
    actions: Tensor
    logits: Tensor


class Environment(Protocol):
    """Episodes of L decisions, one per image; deterministic given image and actions.

    widths: the bits of each action, ascending (m,).
    costs: BitOps per image of each action, float64 (L, m), without the ends.
    channels: the number of features of each decision.
    """

    @property
    def widths(self) -> tuple[int, ...]: ...

    @property
    def costs(self) -> Tensor: ...

    @property
    def channels(self) -> tuple[int, ...]: ...

    def run(self, images: Tensor, choose: Choose) -> Rollout:
        """choose(t, features (N, C_t), actions before t (N, t)) -> actions (N,), never labels."""


def decision_costs(
    layers: Sequence[Layer], decisions: Sequence[Sequence[str]], widths: Sequence[int]
) -> Tensor:
    """MACs * b * b of each decision at each width, float64 (L, m); layers are named by path."""
    macs = {one.name: one.macs for one in layers}
    per_decision = [sum(macs[path] for path in group) for group in decisions]
    squares = torch.tensor([bits * bits for bits in widths], dtype=torch.float64)
    return torch.tensor(per_decision, dtype=torch.float64)[:, None] * squares


def sample_costs(costs: Tensor, actions: Tensor) -> Tensor:
    """BitOps of each image: costs (L, m), actions (N, L) -> float64 (N,).

    >>> costs = torch.tensor([[400.0, 1600.0], [1200.0, 4800.0]], dtype=torch.float64)
    >>> sample_costs(costs, torch.tensor([[0, 0], [0, 1]])).tolist()
    [1600.0, 5200.0]
    """
    return costs.gather(1, actions.T.to(costs.device)).sum(0)


def relative_costs(costs: Tensor) -> Tensor:
    """Costs over C_ref, that of the last width in every decision (section 3.1)."""
    return costs / costs[:, -1].sum()


def task_reward(logits: Tensor, labels: Tensor, kind: Reward = "hit") -> Tensor:
    """R of each image: 1 if right, or the label's probability, or its log, at least -5.

    `rel` is `hit` here: what the largest widths got is taken off where the policy learns.
    """
    if kind in ("hit", "rel"):
        return (logits.argmax(1) == labels).double()
    log_p = functional.log_softmax(logits.double(), 1).gather(1, labels[:, None])[:, 0]
    return log_p.exp() if kind == "prob" else log_p.clamp(min=LOWEST_LOG)


def given(actions: Tensor) -> Choose:
    """Choose these actions (N, L), whatever is seen."""

    def choose(t: int, features: Tensor, before: Tensor) -> Tensor:
        return actions[:, t].to(features.device)

    return choose


def pooled(values: Tensor) -> Tensor:
    """(N, C, ...) -> means over pixels or moments (N, C); (N, C) as it is."""
    return values.mean(tuple(range(2, values.ndim))) if values.ndim > 2 else values


class Route:
    """The ways of the images that are running: which actions they took and what they saw."""

    def __init__(self) -> None:
        self.choose: Choose = given(torch.zeros(0, 0, dtype=torch.long))
        self.features: list[Tensor] = []
        self.actions: list[Tensor] = []

    def rollout(self, network: nn.Module, samples: Tensor, choose: Choose) -> Rollout:
        """Send samples (N, C, ...) through a network whose layers ask here for their bits."""
        self.choose, self.features, self.actions = choose, [], []
        logits = network(samples)
        return Rollout(
            features=tuple(self.features), actions=torch.stack(self.actions, 1), logits=logits
        )

    def action(self, decision: int, values: Tensor) -> Tensor:
        """The actions (N,) of a decision; taken when its first layer asks."""
        if decision == len(self.actions):
            features = pooled(values)
            before = torch.stack(self.actions, 1) if self.actions else _nothing(features)
            self.features.append(features)
            self.actions.append(self.choose(decision, features, before))
        return self.actions[decision]


def _nothing(features: Tensor) -> Tensor:
    return torch.zeros(len(features), 0, dtype=torch.long, device=features.device)


def by_action(
    values: Tensor, actions: Tensor, run: Mapping[int, Callable[[Tensor], Tensor]]
) -> Tensor:
    """Run images (N, ...) in groups of equal actions and put the results back in their order."""
    present = torch.unique(actions).tolist()
    if len(present) == 1:
        return run[present[0]](values)
    rows = [torch.nonzero(actions == one)[:, 0] for one in present]
    by_image = _images_first(values)
    output: Tensor | None = None
    for one, where in zip(present, rows, strict=True):
        group = _images_first(run[one](_channels_second(by_image.index_select(0, where))))
        if output is None:
            output = group.new_empty(len(values), *group.shape[1:])
        output.index_copy_(0, where, group)
    assert output is not None
    return _channels_second(output)


def _images_first(values: Tensor) -> Tensor:
    """(N, C, ...) -> (N, ..., C), a view where channels lie last: an image is one piece then."""
    return values.movedim(1, -1)


def _channels_second(values: Tensor) -> Tensor:
    """The inverse view."""
    return values.movedim(-1, 1)


class RoutedLayer(nn.Module):
    """A body layer at the bits of each image's action; its weights are quantized once."""

    def __init__(
        self,
        layer: Quantized,
        *,
        widths: Sequence[int],
        decision: int,
        route: Route,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.decision = decision
        self.route = route
        self.runs = {index: self._at(bits) for index, bits in enumerate(widths)}

    def _at(self, bits: int) -> Callable[[Tensor], Tensor]:
        layer = self.layer
        layer.weight_quantizer.bits = bits  # type: ignore[assignment]  # a plain int
        with torch.no_grad():
            weights = layer.weight_quantizer(layer.weight)

        def run(values: Tensor) -> Tensor:
            layer.input_quantizer.bits = bits  # type: ignore[assignment]
            inputs = layer.input_quantizer(values)
            if isinstance(layer, QuantizedLinear):
                return functional.linear(inputs, weights, layer.bias)
            output: Tensor = layer._conv_forward(inputs, weights, layer.bias)
            return output

        return run

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, ...) -> what the layer gives."""
        return by_action(values, self.route.action(self.decision, values), self.runs)


class RoutedNorm(nn.Module):
    """The batch norm of each image's action in the decision before it, its statistics frozen.

    Where actions differ it is one multiplication and one addition for all images, without groups.
    """

    scales: Tensor
    shifts: Tensor

    def __init__(
        self, norm: SwitchableNorm, *, widths: Sequence[int], decision: int, route: Route
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm.norms[str(bits)] for bits in widths])
        self.decision = decision
        self.route = route
        scales, shifts = zip(*(folded(one) for one in self.norms), strict=True)
        self.register_buffer("scales", torch.stack(scales))  # (m, C)
        self.register_buffer("shifts", torch.stack(shifts))

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) of the same shape."""
        actions = self.route.action(self.decision, values)
        present = torch.unique(actions).tolist()
        if len(present) == 1:
            output: Tensor = self.norms[present[0]](values)
            return output
        ones = [1] * (values.ndim - 2)
        scale = self.scales[actions].view(*values.shape[:2], *ones)
        shift = self.shifts[actions].view(*values.shape[:2], *ones)
        return torch.addcmul(shift, values, scale)


@torch.no_grad()
def folded(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of a batch norm in evaluation mode."""
    assert isinstance(norm, Norm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class RoutedNetwork:
    """A frozen copy of a super-network in evaluation mode; the given one is never touched.

    `layers` are those of its model, for the costs.
    """

    def __init__(self, network: nn.Module, layers: Sequence[Layer], widths: Sequence[int]) -> None:
        decisions = decision_layers(network)
        of_path = {path: index for index, group in enumerate(decisions) for path in group}
        sizes = {path: num_features(one) for path, one in quantized_layers(network)}
        self.widths = tuple(widths)
        self.costs = decision_costs(layers, decisions, widths)
        self.channels = tuple(sizes[group[0]] for group in decisions)
        self._route = Route()
        self._network = deepcopy(network).eval().requires_grad_(False)
        self._put_routes(of_path)

    def _put_routes(self, of_path: Mapping[str, int]) -> None:
        decision = 0
        for path, module in list(self._network.named_modules()):
            if path in of_path:
                assert isinstance(module, Quantized)
                decision = of_path[path]
                routed: nn.Module = RoutedLayer(
                    module, widths=self.widths, decision=decision, route=self._route
                )
            elif isinstance(module, SwitchableNorm):
                routed = RoutedNorm(
                    module, widths=self.widths, decision=decision, route=self._route
                )
            else:
                continue
            self._network.set_submodule(path, routed)

    @torch.no_grad()
    def run(self, images: Tensor, choose: Choose) -> Rollout:
        """Normalised images (N, C, H, W), each at the bits that are chosen for it."""
        return self._route.rollout(self._network, images, choose)


def num_features(layer: Quantized) -> int:
    """Channels of a layer's input."""
    return layer.in_features if isinstance(layer, QuantizedLinear) else layer.in_channels


def run_batches(
    environment: Environment, images: Tensor, choose_for: Callable[[slice], Choose], size: int
) -> Rollout:
    """Run many images batch by batch; choose_for(the batch's rows) gives what chooses there."""
    rollouts = []
    for begin in range(0, len(images), size):
        rows = slice(begin, begin + size)
        rollouts.append(environment.run(images[rows], choose_for(rows)))
    return joined(rollouts)


def joined(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of several batches as one, in order."""
    columns = zip(*(one.features for one in rollouts), strict=True)
    return Rollout(
        features=tuple(torch.cat(list(column)) for column in columns),
        actions=torch.cat([one.actions for one in rollouts]),
        logits=torch.cat([one.logits for one in rollouts]),
    )
