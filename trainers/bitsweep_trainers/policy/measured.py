"""Allocations per layer and per image, measured on a trained super-network.

The means over images are exact in the BitOps: `weight` is the mean of the bits, and `activation`
such that their product is the mean of the products.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitsweep.bits import Allocation, Bits, tied
from bitsweep.cost import Layer, LayerBits, spread
from bitsweep.errors import Diverged
from bitsweep.measurement import Allocator, Measurement, Protocol, Split
from bitsweep.trial import Trial
from bitsweep_trainers.answers import answers_of
from bitsweep_trainers.data.cache import data_of
from bitsweep_trainers.data.load import Arrays
from bitsweep_trainers.judging import judged
from bitsweep_trainers.methods.base import Chosen
from bitsweep_trainers.methods.declared.abn import (
    LAMBDAS,
    allocation_layer_bits,
    body_of,
    decisions_of,
)
from bitsweep_trainers.models.declared import MODELS
from bitsweep_trainers.policy.agent import Agent
from bitsweep_trainers.policy.anchor import Policy
from bitsweep_trainers.policy.environment import (
    Environment,
    Reward,
    RoutedNetwork,
    run_batches,
    sample_costs,
)
from bitsweep_trainers.policy.kept import kept_policy
from bitsweep_trainers.policy.learn import PolicyPlan, learn
from bitsweep_trainers.policy.raw import RawSamples, decoded
from bitsweep_trainers.policy.rounding import bits_of
from bitsweep_trainers.policy.rules import (
    NUM_SHUFFLES,
    Ruled,
    StaticLosses,
    apply_all,
    oracle_of,
    rivals_at,
    static_rewards,
)
from bitsweep_trainers.random_streams import stream
from bitsweep_trainers.supernet import allocate

EVALUATION_BATCH = 500
DISTINCT = "distinct allocations"
COMMONEST = "images at the commonest allocation"
CHANGED = "decisions that 8 bits change"


def layers_of(trial: Trial) -> tuple[Layer, ...]:
    """The declared layers of the trial's model on its data."""
    data = data_of(trial)
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
    """Images (N, C, H, W), as they are in the data, and labels (N,) of a split."""
    is_test = split == "test"
    images = data.test_images if is_test else data.validation_images
    labels = data.test_labels if is_test else data.validation_labels
    return decoded(images), labels


def counts(logits: Tensor, labels: Tensor, *, where: str) -> tuple[Tensor, float]:
    """(which answers are right (N,), sum of cross-entropies); Diverged if that is not finite."""
    loss_sum = float(cross_entropy(logits, labels, reduction="sum"))
    if not torch.isfinite(torch.tensor(loss_sum)):
        raise Diverged(f"the loss is {loss_sum} at {where}")
    return logits.argmax(1) == labels, loss_sum


def measure_allocation(
    network: nn.Module,
    trial: Trial,
    data: Arrays,
    *,
    split: Split,
    widths: Sequence[int],
    allocator: Allocator = "fixed",
    protocol: Protocol = "running",
) -> Measurement:
    """Run a trained super-network at one width per decision; nothing is trained again."""
    allocate(network, widths)
    allocation = Allocation(layers=by_body_layer(trial, [tied(one) for one in widths]))
    actions = torch.tensor([[widths_of(trial).index(one) for one in widths]])
    return judged(
        network,
        data,
        split=split,
        chosen=Chosen(allocation=allocation, allocator=allocator),
        layer_bits=mean_layer_bits(trial, actions),
        protocol=protocol,
    )


def plan_of(trial: Trial) -> PolicyPlan:
    """How a trial wants its policy learned."""
    parameters = trial.parameters
    rewards: dict[str, Reward] = {one: one for one in get_args(Reward)}
    return PolicyPlan(
        algorithm="reinforce" if parameters["policy"] == "reinforce" else "double_dqn",
        reward=rewards[str(parameters["policy_reward"])],
        epochs=int(parameters["policy_epochs"]),
        updates=int(parameters["policy_updates"]),
        learning_rate=float(parameters["policy_learning_rate"]),
        selection_lambdas=LAMBDAS[str(parameters["policy_lambdas"])],
    )


def environment_of(network: nn.Module, trial: Trial) -> RoutedNetwork:
    """A trained network as the decision process of its trial, on normalised images."""
    return RoutedNetwork(network, layers_of(trial), widths_of(trial))


def raw_environment_of(network: nn.Module, trial: Trial, data: Arrays) -> RawSamples:
    """The same on images as they are in the data."""
    return RawSamples(environment_of(network, trial), data.mean, data.std)


def held_of(data: Arrays) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), as they are in the data, and labels (N,) held out for the policy."""
    return decoded(data.held_images), data.held_labels


def learn_policy(
    network: nn.Module, trial: Trial, data: Arrays, save: Callable[[], None]
) -> Policy:
    """The policy that the network keeps; learned on the held-out images if it keeps none.

    `save` is called after each of the two stages, so that neither is done twice. The first, the
    rewards of static allocations, is part of learning for an anchored policy alone; of another
    one they serve the rivals, and are measured with them.
    """
    kept, plan = kept_policy(network), plan_of(trial)
    environment = raw_environment_of(network, trial, data)
    if trial.parameters["policy_anchor"] and not kept.known:
        kept.known = static_rewards(environment, *held_of(data))
        save()
    policy = kept.restored(environment, encoder=plan.encoder, hidden=plan.hidden)
    if policy is None:
        draws = stream(trial.seed, "policy")
        known = kept.known if trial.parameters["policy_anchor"] else None
        policy = learn(environment, *held_of(data), plan, draws, known=known)
        kept.keep(policy)
        save()
    policy.agent.to(data.held_images.device)
    return policy


def policy_measurements(network: nn.Module, trial: Trial, data: Arrays) -> tuple[Measurement, ...]:
    """Measure the learned policy and its rivals on the trial's splits, at each of its lambdas.

    Draws depend on the trial's seed, lambda and split alone; the weights stay as they are. What
    is not learned yet is learned first.
    """
    policy = learn_policy(network, trial, data, lambda: None)
    environment, kept = raw_environment_of(network, trial, data), kept_policy(network)
    images, labels = held_of(data)
    known = kept.known = kept.known or static_rewards(environment, images, labels)
    losses = StaticLosses(environment=environment, images=images, labels=labels)
    shown = {split: split_of(data, split) for split in trial.splits}
    oracles = {
        split: oracle_of(environment, *one, stream(trial.seed, f"oracle {split}"))
        for split, one in shown.items()
    }
    measured: list[Measurement] = []
    for price in plan_of(trial).selection_lambdas:
        rivals = rivals_at(
            losses,
            price=price,
            known=known,
            budget=mean_cost(environment, policy, images, price=price),
            generator=stream(trial.seed, f"evolution {price}"),
        )
        for split, (wanted, answers) in shown.items():
            ruled = apply_all(
                environment,
                policy,
                rivals,
                wanted,
                answers,
                price=price,
                oracle=oracles[split],
                generator=stream(trial.seed, f"rules {price} {split}"),
            )
            measured += (
                measured_rule(trial, one, policy.agent, answers, split=split) for one in ruled
            )
    return tuple(measured)


def mean_cost(environment: Environment, policy: Policy, images: Tensor, *, price: float) -> float:
    """Mean BitOps of the body that a policy spends on images at one lambda."""
    choose = policy.choice(price)
    rollout = run_batches(environment, images, lambda _: choose, EVALUATION_BATCH)
    return float(sample_costs(environment.costs, rollout.actions).mean())


def measured_rule(
    trial: Trial, ruled: Ruled, agent: Agent, labels: Tensor, *, split: Split
) -> Measurement:
    """What a rule did on a split; in `sums`, how many images ran each layer at each width.

    And, of the learned one, how many allocations it gave and how it compares to its shuffles.
    """
    policy = f"{ruled.allocator}@{ruled.price:g}"
    hits, loss_sum = counts(ruled.logits, labels, where=policy)
    is_learned = ruled.agent_bitops > 0
    bits = mean_layer_bits(trial, ruled.actions)
    if ruled.allocator == "cascade":
        bits = rerun_layer_bits(trial, ruled.actions)
    return Measurement(
        split=split,
        allocation=Allocation(layers=(), policy=policy),
        allocator=ruled.allocator,
        lambda_=ruled.price,
        total=len(labels),
        correct=int(hits.sum()),
        sums={
            "loss": loss_sum,
            **dict(image_counts(trial, ruled.actions)),
            **dict(choice_counts(ruled, labels)),
        },
        layer_bits=(*bits, agent_layer_bits(agent)) if is_learned else bits,
        agent=agent_layer(agent) if is_learned else None,
        sample_costs=spread(ruled.bitops.tolist()),
        answers=answers_of(hits, split),
    )


def choice_counts(ruled: Ruled, labels: Tensor) -> Iterator[tuple[str, float]]:
    """How varied the allocations are and, of the learned ones, what they are worth.

    "images +3/10 above shuffled": right less the share of the permutations that were right, in
    tenths.
    """
    _, sizes = torch.unique(ruled.actions, dim=0, return_counts=True)
    yield DISTINCT, float(len(sizes))
    yield COMMONEST, float(sizes.max())
    if ruled.changed is not None:
        yield CHANGED, float(ruled.changed)
    if ruled.shuffled_hits is None:
        return
    right = (ruled.logits.argmax(1) == labels).long()
    above = NUM_SHUFFLES * right - ruled.shuffled_hits
    for one, count in zip(*torch.unique(above, return_counts=True), strict=True):
        yield f"images {int(one):+d}/{NUM_SHUFFLES} above shuffled", float(count)


def agent_layer_bits(agent: Agent) -> LayerBits:
    """The bits that the agent runs at and is charged with."""
    return LayerBits(weight=bits_of(agent), activation=bits_of(agent))


def agent_layer(agent: Agent) -> Layer:
    """The agent as the costs see it: MACs of one image, weights and biases of its linear maps."""
    linears = [one for one in agent.modules() if isinstance(one, nn.Linear)]
    norms = [one for one in agent.modules() if isinstance(one, nn.LayerNorm)]
    return Layer(
        name="agent",
        kind="linear",
        place="agent",
        macs=agent.macs,
        weights=sum(one.weight.numel() for one in linears),
        biases=sum(one.bias.numel() for one in linears),
        norm_channels=sum(one.normalized_shape[0] for one in norms),
    )


def image_counts(trial: Trial, actions: Tensor) -> Iterator[tuple[str, float]]:
    """("images of body.conv1 at w2a2", how many) for every decision and width."""
    body = [one.name for one in body_of(layers_of(trial))]
    for decision, group in enumerate(decisions_of(body)):
        for index, bits in enumerate(trial.bits):
            count = float((actions[:, decision] == index).sum())
            yield f"images of {body[group[0]]} at {bits.label}", count


def rerun_layer_bits(trial: Trial, actions: Tensor) -> tuple[LayerBits, ...]:
    """The bits of a cascade: the lowest width for all and, where it was not kept, the last one.

    Products add up over the two runs; the mean bits are those of the run that gave the answer.
    """
    widths = widths_of(trial)
    again = float((actions[:, 0] > 0).double().mean())
    mean = (1 - again) * widths[0] + again * widths[-1]
    product = widths[0] ** 2 + again * widths[-1] ** 2
    layers = layers_of(trial)
    body = [(mean, product / mean)] * len(body_of(layers))
    return allocation_layer_bits(layers, body, trial.parameters, trial.bits)
