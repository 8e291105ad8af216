"""The super-network of ABN (arXiv 2204.09992): layers of the body run at bits of their own.

Conversion, allocations and their sampling, the gradients of one step, batch-norm statistics; what
chooses bits per image stands in `policy`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    quantize_ends,
    quantized,
    quantized_layers,
    replace_layers,
)
from bitsweep_trainers.methods.declared.abn import decisions_of
from bitsweep_trainers.packed.weights import LatentWeights, Weights
from bitsweep_trainers.quantizers.learned_step import SMALLEST_STEP, LearnedStep
from bitsweep_trainers.quantizers.nested import NestedStep
from bitsweep_trainers.switchable import Norm, SwitchableNorm, SwitchableStep, switch_norms

WeightSource = Literal["latent", "nested"]
StepStart = Literal["lsq", "three_sigma"]
Allocate = Callable[[nn.Module, Sequence[int]], None]


def three_sigma_step(weights: Tensor, bits: int) -> Tensor:
    """max(|mean - 3 sd|, |mean + 3 sd|) / 2^(b-1), from the group's later code.

    >>> round(three_sigma_step(torch.tensor([-1.0, 1.0]), 3).item(), 4)
    1.0607
    """
    reach = weights.mean().abs() + 3 * weights.std()
    return (reach / float(2 ** (bits - 1))).clamp(min=SMALLEST_STEP)


class SwitchableWeights(nn.Module):
    """LSQ of weights with one step per width; `bits` says which runs."""

    def __init__(
        self, widths: Sequence[int], *, start: StepStart = "lsq", backend: str = "eager"
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleDict(
            {str(bits): LearnedStep(bits=bits, role="weight", backend=backend) for bits in widths}
        )
        self.start = start
        self.bits = widths[-1]

    @torch.no_grad()
    def initialise(self, weights: Tensor) -> None:
        """Set the steps of all widths from the weights."""
        for one in self.steps.values():
            assert isinstance(one, LearnedStep)
            if self.start == "lsq":
                one.initialise(weights)
            else:
                one.step.copy_(three_sigma_step(weights, one.bits))

    def forward(self, weights: Tensor) -> Tensor:
        """w_hat, of the shape and memory format of the weights."""
        output: Tensor = self.steps[str(self.bits)](weights)
        return output

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights: all of them where several widths round them."""
        steps = {name: one for name, one in self.steps.items() if isinstance(one, LearnedStep)}
        if len(steps) == 1:
            return next(iter(steps.values())).pack_weights(weights, widths)
        used = {name: one.used_step() for name, one in steps.items()}
        return LatentWeights(latent=weights, steps=used)


def super_network(
    network: nn.Module,
    widths: Sequence[int],
    *,
    weight_source: WeightSource = "latent",
    start: StepStart = "lsq",
    has_own_norms: bool = True,
    backend: str = "eager",
) -> nn.Module:
    """Give the body of a plain network a step per width, and norms per width; the ends 8 bits."""
    quantize_ends(network, backend=backend)
    body = network.get_submodule("body")
    make = partial(
        _body_layer, widths=widths, weight_source=weight_source, start=start, backend=backend
    )
    replace_layers(body, make)
    if has_own_norms:
        switch_norms(body, widths)
    return network


def _body_layer(
    source: Computing,
    *,
    widths: Sequence[int],
    weight_source: WeightSource,
    start: StepStart,
    backend: str,
) -> Quantized:
    weights: nn.Module
    if weight_source == "latent":
        weights = SwitchableWeights(widths, start=start, backend=backend)
    else:
        weights = NestedStep(
            top_bits=widths[-1], truncation="floor", drop_lowest=False, backend=backend
        )
    return quantized(
        source, weight_quantizer=weights, input_quantizer=SwitchableStep(widths, backend=backend)
    )


def initialise_weight_steps(network: nn.Module) -> None:
    """Set the steps of the body's weights, at every width."""
    for _, layer in quantized_layers(network.get_submodule("body")):
        assert isinstance(layer.weight_quantizer, SwitchableWeights | NestedStep)
        layer.weight_quantizer.initialise(layer.weight)


def decision_layers(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The paths of the body's layers, grouped by decision: those of a group have equal bits."""
    paths = [f"body.{path}" for path, _ in quantized_layers(network.get_submodule("body"))]
    return tuple(tuple(paths[one] for one in group) for group in decisions_of(paths))


def allocate(network: nn.Module, widths: Sequence[int]) -> None:
    """Run each decision of the body at bits of its own, norms included; lossless, both ways.

    One width per group of `decision_layers`. A norm follows its layer in `modules()` order.
    """
    groups = decision_layers(network)
    if len(widths) != len(groups):
        raise ValueError(f"expected bits for {len(groups)} decisions, got {list(widths)}")
    bits_of = {path: bits for group, bits in zip(groups, widths, strict=True) for path in group}
    current = widths[0]
    for path, module in network.get_submodule("body").named_modules():
        if isinstance(module, Quantized):
            current = bits_of[f"body.{path}"]
            module.weight_quantizer.bits = current  # type: ignore[assignment]  # a plain int
            module.input_quantizer.bits = current  # type: ignore[assignment]
        elif isinstance(module, SwitchableNorm):
            module.bits = current


def layerwise_probability(progress: float, *, uniform_share: float, rising_share: float) -> float:
    """How probably a drawn network is layer-wise: 0 at first, then rising linearly to 1.

    >>> [
    ...     layerwise_probability(done, uniform_share=0.25, rising_share=0.5)
    ...     for done in (0.0, 0.25, 0.5, 0.75, 1.0)
    ... ]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if progress < uniform_share:
        return 0.0
    return min(1.0, (progress - uniform_share) / rising_share) if rising_share > 0 else 1.0


def tilted_weights(widths: Sequence[int], t: float | Tensor) -> Tensor:
    """softmax(t (b - mean B)): the probabilities of the widths, float64 (m,); (N, m) for t (N,).

    >>> [round(one, 4) for one in tilted_weights([2, 3, 4], 1.0).tolist()]
    [0.09, 0.2447, 0.6652]
    """
    bits = torch.tensor(widths, dtype=torch.float64)
    ts = torch.as_tensor(t, dtype=torch.float64)
    return torch.softmax(ts[..., None] * (bits - bits.mean()), -1)


def draw_allocation(
    widths: Sequence[int], num_decisions: int, *, tilt: float, generator: torch.Generator
) -> tuple[int, ...]:
    """A layer-wise allocation, stratified by cost: t uniform in -/+ tilt, then a layer at a time.

    Layers that draw with equal probabilities would hardly ever come near either extreme.
    """
    t = tilt * (2 * torch.rand((), generator=generator).item() - 1)
    chosen = torch.multinomial(
        tilted_weights(widths, t), num_decisions, replacement=True, generator=generator
    )
    return tuple(widths[int(one)] for one in chosen)


def draw_uniform(
    widths: Sequence[int], num_decisions: int, *, generator: torch.Generator
) -> tuple[int, ...]:
    """One of the widths in every layer."""
    chosen = int(torch.randint(len(widths), (), generator=generator))
    return (widths[chosen],) * num_decisions


def accumulate(
    network: nn.Module,
    images: Tensor,
    allocations: Sequence[Sequence[int]],
    *,
    loss: Callable[[Tensor, Sequence[Tensor]], Tensor],
) -> Tensor:
    """Add the gradients of the sum of all allocations' losses on one batch; return that sum.

    loss(logits, logits of the allocations before it, detached). The stem, the same in all of them,
    runs once, forward and backward.
    """
    features = network.get_submodule("stem")(images)
    entry = features.detach().requires_grad_()
    total = torch.zeros((), device=images.device)
    seen: list[Tensor] = []
    for allocation in allocations:
        allocate(network, allocation)
        logits = network.get_submodule("head")(network.get_submodule("body")(entry))
        one = loss(logits, seen)
        torch.autograd.backward(one)
        seen.append(logits.detach())
        total += one.detach()
    torch.autograd.backward(features, entry.grad)
    return total


def norms_of(network: nn.Module) -> list[Norm]:
    """Every batch norm, of all widths."""
    return [one for one in network.modules() if isinstance(one, Norm)]


@torch.no_grad()
def estimate_norms(
    network: nn.Module,
    batches: Iterable[Tensor],
    allocations: Sequence[Sequence[int]],
    *,
    allocate: Allocate = allocate,
) -> None:
    """Replace the statistics of the norms that run by their means over allocations and batches.

    Normalised images without augmentation, (N, C, H, W) each, iterated once per allocation;
    weights stay. The network is left in evaluation mode at the last allocation.
    """
    norms = norms_of(network)
    momenta = [one.momentum for one in norms]
    for norm in norms:
        norm.momentum = None  # a cumulative mean
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.zero_()
    network.train()
    for allocation in allocations:
        allocate(network, allocation)
        for images in batches:
            network(images)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@contextmanager
def re_estimated(
    network: nn.Module,
    batches: Iterable[Tensor],
    allocations: Sequence[Sequence[int]],
    *,
    allocate: Allocate = allocate,
) -> Iterator[None]:
    """Within the block, norms have statistics of just these allocations; then their own again."""
    norms = norms_of(network)
    kept = [{name: one.clone() for name, one in norm.named_buffers()} for norm in norms]
    estimate_norms(network, batches, allocations, allocate=allocate)
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, one in norm.named_buffers():
                one.copy_(buffers[name])
