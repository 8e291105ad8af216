"""What networks of shared weights keep per bit-width, and how all widths learn in one step.

Batch norms, clipping levels and steps; the quantizers of the shared weights stand elsewhere.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import sqrt

import torch
from torch import Tensor, nn

from bitsweep.bits import Bits
from bitsweep_trainers.layers import calibrate_steps, quantized_layers, select_body
from bitsweep_trainers.packed.inputs import PeakInput, SwitchedInput
from bitsweep_trainers.packed.pack import Place, folded
from bitsweep_trainers.packed.records import NormRecord
from bitsweep_trainers.quantizers.learned_step import (
    SMALLEST_STEP,
    LearnedStep,
    kernels_of,
    learned_step,
)

Norm = nn.BatchNorm1d | nn.BatchNorm2d
SHARED = "shared"


class SwitchableNorm(nn.Module):
    """One batch norm per width, all begun as copies of the given one; `bits` says which runs."""

    def __init__(self, norm: Norm, widths: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({str(bits): deepcopy(norm) for bits in widths})
        self.bits = widths[-1]

    def forward(self, values: Tensor) -> Tensor:
        """(N, C, ...) of the same shape."""
        output: Tensor = self.norms[str(self.bits)](values)
        return output

    def pack_part(self, place: Place) -> NormRecord:
        """What a packed file keeps: each width's, chosen by the bits of the layer before it."""
        copies = {bits: folded(norm) for bits, norm in self.norms.items()}
        return NormRecord(keyed_by=(place.layer_before,), copies=copies)


class SwitchableClip(nn.Module):
    """Clip inputs to [0, alpha] and round them; one alpha per width, or one for all.

    The gradient of alpha is the calibrated one of SAT: q(x/alpha) - x/alpha below alpha, 1 above.
    It is LSQ's with s = alpha / (2^b - 1), unscaled, so LSQ's kernels do it.

    >>> clip = SwitchableClip([2], is_shared=False)
    >>> with torch.no_grad(): _ = clip.alpha.fill_(3.0)
    >>> clip(torch.tensor([-0.5, 0.4, 1.2, 9.0])).tolist()
    [0.0, 0.0, 1.0, 3.0]
    """

    def __init__(self, widths: Sequence[int], *, is_shared: bool, backend: str = "eager") -> None:
        super().__init__()
        self.is_shared = is_shared
        names = [SHARED] if is_shared else [str(bits) for bits in widths]
        self.alphas = nn.ParameterDict({name: nn.Parameter(torch.ones(())) for name in names})
        self.bits = widths[-1]
        self.kernels = kernels_of(backend)

    @property
    def alpha(self) -> Tensor:
        """The clipping level at the current bits."""
        alpha: Tensor = self.alphas[SHARED if self.is_shared else str(self.bits)]
        return alpha

    @torch.no_grad()
    def initialise(self, values: Tensor) -> None:
        """Set the current alpha to (2^b - 1) s with LSQ's first step s = 2 mean|x| / sqrt(Qp)."""
        self.alpha.copy_(2 * values.abs().mean() * sqrt(2**self.bits - 1))
        self.alpha.clamp_(min=SMALLEST_STEP)

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, ...) of the same shape and memory format."""
        high = 2**self.bits - 1
        return learned_step(values, self.alpha / high, low=0, high=high, kernels=self.kernels)

    def pack_input(self, widths: Sequence[int]) -> SwitchedInput:
        """What a packed file keeps of an input's grids."""
        alphas = {name: alpha.detach() for name, alpha in self.alphas.items()}
        return SwitchedInput(
            widths={
                str(bits): PeakInput(peak=alphas[SHARED if self.is_shared else str(bits)])
                for bits in widths
            }
        )


class SwitchableStep(nn.Module):
    """LSQ of inputs with one step per width; `bits` says which runs."""

    def __init__(self, widths: Sequence[int], *, backend: str = "eager") -> None:
        super().__init__()
        self.steps = nn.ModuleDict(
            {
                str(bits): LearnedStep(bits=bits, role="activation", backend=backend)
                for bits in widths
            }
        )
        self.bits = widths[-1]

    @property
    def current(self) -> LearnedStep:
        """The quantizer of the current bits."""
        step = self.steps[str(self.bits)]
        assert isinstance(step, LearnedStep)
        return step

    def initialise(self, values: Tensor) -> None:
        """Set the current step from the values to be quantized."""
        self.current.initialise(values)

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, ...) of the same shape and memory format."""
        output: Tensor = self.current(values)
        return output

    def pack_input(self, widths: Sequence[int]) -> SwitchedInput:
        """What a packed file keeps of an input's grids."""
        found = {name: one.pack_input(widths) for name, one in self.steps.items()}  # type: ignore[operator]  # LearnedSteps: see __init__
        return SwitchedInput(widths=found)


def switch_norms(part: nn.Module, widths: Sequence[int]) -> None:
    """Give each batch norm within a module a copy per width."""
    for path, module in list(part.named_modules()):
        if isinstance(module, Norm):
            part.set_submodule(path, SwitchableNorm(module, widths))


def select_switchable(network: nn.Module, bits: Bits) -> None:
    """Make the body run at these bits, batch norms included; lossless, both ways."""
    select_body(network, bits)
    for module in network.modules():
        if isinstance(module, SwitchableNorm):
            module.bits = bits.weight


def calibrate_widths(
    network: nn.Module,
    images: Tensor,
    widths: Sequence[Bits],
    *,
    select: Callable[[nn.Module, Bits], None],
) -> None:
    """Initialise steps and clipping levels of the inputs at each width, by one pass a width.

    Each input is that of a network whose earlier layers are quantized, as in training. The ends'
    steps are those of the last width; the network is left at the first.
    """
    handles = [
        layer.input_quantizer.register_forward_pre_hook(_initialise)
        for _, layer in quantized_layers(network.get_submodule("body"))
        if isinstance(layer.input_quantizer, SwitchableClip | SwitchableStep)
    ]
    for bits in widths:
        select(network, bits)
        calibrate_steps(network, images)
    for handle in handles:
        handle.remove()
    select(network, widths[0])


def _initialise(quantizer: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(quantizer, SwitchableClip | SwitchableStep)
    quantizer.initialise(inputs[0])


def joint_backward(
    network: nn.Module,
    images: Tensor,
    widths: Sequence[Bits],
    *,
    loss: Callable[[Tensor, Sequence[Tensor]], Tensor],
) -> Tensor:
    """Add the gradients of the sum of all widths' losses on one batch; return that sum.

    loss(logits, logits of the widths before it, detached). The stem, the same at all widths, runs
    once, forward and backward.
    """
    features = network.get_submodule("stem")(images)
    entry = features.detach().requires_grad_()
    total = torch.zeros((), device=images.device)
    seen: list[Tensor] = []
    for bits in widths:
        select_switchable(network, bits)
        logits = network.get_submodule("head")(network.get_submodule("body")(entry))
        one = loss(logits, seen)
        torch.autograd.backward(one)
        seen.append(logits.detach())
        total += one.detach()
    torch.autograd.backward(features, entry.grad)
    return total
