"""The agent at 8 bits, and what that changes; it stays in FP32 where it changes too much.

Section 3.2: an agent counts at 8 bits only where they change fewer than 0.5 % of its actions,
else at the price of 32. N images, L decisions.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep_trainers.layers import Computing, Quantized, quantized, replace_layers
from bitsweep_trainers.policy.agent import Agent, greedy_choice
from bitsweep_trainers.policy.anchor import Policy
from bitsweep_trainers.policy.baselines import ROLLOUT_BATCH
from bitsweep_trainers.policy.environment import Environment, run_batches
from bitsweep_trainers.quantizers.uniform import RangeRounder, WeightRounder

AGENT_BITS = 8
CHANGED_LIMIT = 0.005
SMALLEST_SPAN = 1e-3  # of a feature that hardly varies: it is not blown up further


def with_rounders(agent: Agent, bits: int = AGENT_BITS) -> Agent:
    """A copy with rounders at its linear maps; their ranges are to be observed or loaded.

    One grid per output of a map and one for its inputs; 32 bits pass everything through.
    """
    rounded = deepcopy(agent)

    def make(source: Computing) -> nn.Module:
        weights = WeightRounder(bits=bits, is_symmetric=True, is_per_channel=True)
        return quantized(source, weight_quantizer=weights, input_quantizer=RangeRounder(bits=bits))

    replace_layers(rounded, make)
    return rounded


def bits_of(agent: Agent) -> int:
    """The bits that its linear maps run at; 32 for one without rounders."""
    maps = [one for one in agent.modules() if isinstance(one, Quantized)]
    bits: object = maps[0].input_quantizer.bits if maps else FULL_PRECISION_BITS
    assert isinstance(bits, int)
    return bits


def at_bits(policy: Policy, bits: int) -> Policy:
    """The same policy, its agent (with rounders) at other bits."""
    agent = deepcopy(policy.agent)
    for one in agent.modules():
        if isinstance(one, RangeRounder | WeightRounder):
            one.bits = bits
    return replace(policy, agent=agent)


def agent_bitops(agent: Agent) -> float:
    """BitOps of the agent per image at its own bits; pools and layer norms have no MACs."""
    return float(agent.macs * bits_of(agent) ** 2)


@torch.no_grad()
def eight_bit_agent(agent: Agent, features: Sequence[Tensor], prices: Sequence[float]) -> Agent:
    """A copy whose linear maps run at 8 bits, ranges taken from these states at these lambdas.

    Nothing is trained; before it is rounded the agent is written in a form that rounding harms
    less (`equalised`). features: per decision (N, C_t).
    """
    rounded = with_rounders(equalised(agent, features, prices))
    rounders = [one for one in rounded.modules() if isinstance(one, RangeRounder)]
    for one in rounders:
        one.is_observing = True
    _visit(rounded, features, prices)
    for one in rounders:
        one.is_observing = False
    return rounded


@torch.no_grad()
def equalised(agent: Agent, features: Sequence[Tensor], prices: Sequence[float]) -> Agent:
    """A copy that decides the same, what it computes spread evenly over one range.

    Inputs of the encoders lie in [-1, 1], those of the later maps below 1 over these states: a
    layer norm's scale and shift, or the map before a ReLU, takes in what the next map gives up.
    The last map loses what it adds to all widths alike, which no decision depends on.
    """
    equal = deepcopy(agent)
    for encoder, seen in zip(_chains(equal.encoders), features, strict=True):
        _centre_inputs(encoder, seen)
    first, _, last = equal.trunk
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    last.weight.sub_(last.weight.mean(0))
    last.bias.sub_(last.bias.mean())
    pairs = zip(_chains(equal.encoders), features, strict=True)
    encoded = torch.stack([encoder(seen).amax(0) for encoder, seen in pairs])
    peaks = encoded.amax(0).clamp(min=SMALLEST_SPAN)
    for encoder in _chains(equal.encoders):
        _divide_outputs(encoder[1], peaks)
    first.weight[:, : len(peaks)] *= peaks
    peaks = _hidden_peaks(equal, features, prices).clamp(min=SMALLEST_SPAN)
    _divide_outputs(first, peaks)
    last.weight.mul_(peaks)
    return equal


def _chains(modules: nn.ModuleList) -> list[nn.Sequential]:
    chains = [one for one in modules if isinstance(one, nn.Sequential)]
    assert len(chains) == len(modules)
    return chains


def _centre_inputs(encoder: nn.Sequential, features: Tensor) -> None:
    """Let the layer norm give [-1, 1] over these features (N, C), and the map undo it."""
    norm, linear = encoder[0], encoder[1]
    assert isinstance(norm, nn.LayerNorm) and isinstance(linear, nn.Linear)
    values = norm(features)
    low, high = values.amin(0), values.amax(0)
    middle, span = (low + high) / 2, ((high - low) / 2).clamp(min=SMALLEST_SPAN)
    linear.bias.add_(linear.weight @ middle)
    linear.weight.mul_(span)
    norm.weight.div_(span)
    norm.bias.sub_(middle).div_(span)


def _divide_outputs(linear: nn.Module, by: Tensor) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight.div_(by[:, None])
    linear.bias.div_(by)


def _hidden_peaks(agent: Agent, features: Sequence[Tensor], prices: Sequence[float]) -> Tensor:
    """The largest value of each hidden unit of the trunk, along the agent's ways (h,)."""
    peaks: list[Tensor] = []
    relu = agent.trunk[1]
    hook = relu.register_forward_hook(lambda _module, _given, out: peaks.append(out.amax(0)))
    _visit(agent, features, prices)
    hook.remove()
    return torch.stack(peaks).amax(0)


def _visit(agent: Agent, features: Sequence[Tensor], prices: Sequence[float]) -> None:
    """Let the agent take its own decisions on these states, at each lambda."""
    for price in prices:
        choose = greedy_choice(agent, price)
        actions = torch.zeros(len(features[0]), 0, dtype=torch.long, device=features[0].device)
        for t, one in enumerate(features):
            actions = torch.cat([actions, choose(t, one, actions)[:, None]], 1)


@torch.no_grad()
def num_changed(environment: Environment, policy: Policy, images: Tensor, *, price: float) -> int:
    """How many of the N L decisions of a policy 8 bits change, against FP32, at one lambda.

    Each goes its own way: what follows from a changed decision counts too.
    """

    def decided(bits: int) -> Tensor:
        choose = at_bits(policy, bits).choice(price)
        return run_batches(environment, images, lambda _: choose, ROLLOUT_BATCH).actions

    return int((decided(AGENT_BITS) != decided(FULL_PRECISION_BITS)).sum())


def changed_share(
    environment: Environment, policy: Policy, images: Tensor, *, prices: Sequence[float]
) -> float:
    """The share of a policy's decisions that 8 bits change, over all of these lambdas."""
    changed = sum(num_changed(environment, policy, images, price=one) for one in prices)
    return changed / (len(prices) * len(images) * len(environment.channels))
