"""CPQ with DropBits (arXiv 2109.02100) at fixed bits: quantizers, initialisation, training step.

The formulas live in `quantizers.categorical`, the distribution of the masks in `hard_concrete`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, log1p
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import FULL_PRECISION_BITS, Bits
from bitsweep.space import Parameters
from bitsweep.trial import Trial
from bitsweep_trainers.layers import (
    Computing,
    Quantized,
    calibrate_steps,
    float_groups,
    quantize_ends,
    quantized,
    quantized_layers,
    replace_layers,
    step_group,
)
from bitsweep_trainers.methods.base import Method, ParameterGroup
from bitsweep_trainers.methods.fp32 import cross_entropy_backward
from bitsweep_trainers.packed.inputs import StepInput
from bitsweep_trainers.packed.weights import Affine, CodedWeights, Codes, FloatWeights, Weights
from bitsweep_trainers.quantizers.categorical import Ste, quantize
from bitsweep_trainers.quantizers.grid import Grid, GridKind, Sharing, make_grid
from bitsweep_trainers.quantizers.hard_concrete import coin, draw_uniform, hard_concrete

AlphaInit = Literal["mse", "max", "percentile"]
LOWEST_RATIO, HIGHEST_RATIO = 0.05, 2.0
SMALLEST_ALPHA = 1e-6
INIT_SAMPLES = 1 << 17
INIT_CANDIDATES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """How the points of a weight grid are dropped while training."""

    sharing: Sharing
    nest: bool
    kind: Literal["hard_concrete", "bernoulli"]
    keep_probability: float
    tau: float
    is_learned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How sigma follows: its start over alpha, whether it learns, whether it scales with alpha."""

    ratio: float
    is_learned: bool
    is_tied: bool


def masks_of(parameters: Parameters) -> Masks | None:
    """The masks that a trial's parameters ask for; inert ones are absent from them."""
    if parameters["sharing"] == "off":
        return None
    return Masks(
        sharing=cast(Sharing, parameters["sharing"]),  # resolved: checked against its choices
        nest=bool(parameters.get("nest", False)),
        kind="hard_concrete" if parameters["mask"] == "hard_concrete" else "bernoulli",
        keep_probability=float(parameters["keep_probability"]),
        tau=float(parameters.get("tau", 1.0)),
        is_learned=bool(parameters.get("learn_keep_probability", False)),
    )


def noise_of(parameters: Parameters) -> Noise:
    """The noise that a trial's parameters ask for; they are absent where sigma has no effect."""
    return Noise(
        ratio=float(parameters.get("sigma_ratio", 1.0)),
        is_learned=bool(parameters.get("learn_sigma", False)),
        is_tied=bool(parameters.get("sigma_tied", True)),
    )


def _softplus_inverse(value: float) -> float:
    """The number whose softplus is `value` > 0."""
    return value + log1p(-exp(-value)) if value > 1e-3 else log(value)


class ClusterPromoting(nn.Module):
    """Quantize a tensor to its most probable grid point; 32 bits pass it through.

    alpha = softplus(raw_alpha); sigma = alpha softplus(raw_sigma) when tied, else
    softplus(raw_sigma), kept within [0.05, 2] alpha. `uniform` holds the draw of one training
    step; without it, and always in evaluation, nothing is masked and the output is plain rounding.
    """

    def __init__(
        self, *, bits: int, kind: GridKind, ste: Ste, noise: Noise, masks: Masks | None
    ) -> None:
        super().__init__()
        self.bits, self.kind, self.ste, self.noise = bits, kind, ste, noise
        self.masks = masks
        self.raw_alpha = nn.Parameter(torch.zeros(()))
        self.raw_sigma = nn.Parameter(torch.zeros(()), requires_grad=noise.is_learned)
        count = 0 if masks is None else self.grid.num_masks
        self.keep_logits = None if masks is None or count == 0 else _keep_logits(masks, count)
        self.uniform: Tensor | None = None

    @property
    def grid(self) -> Grid:
        """The points, and which of them share a mask."""
        return make_grid(self.kind, self.bits, "off" if self.masks is None else self.masks.sharing)

    def scales(self) -> tuple[Tensor, Tensor]:
        """alpha and sigma, both > 0; the bound of sigma lets its gradient through."""
        alpha = functional.softplus(self.raw_alpha) + SMALLEST_ALPHA
        sigma = functional.softplus(self.raw_sigma)
        sigma = sigma * alpha if self.noise.is_tied else sigma
        with torch.no_grad():
            low, high = LOWEST_RATIO * alpha, HIGHEST_RATIO * alpha
            excess = sigma - torch.minimum(torch.maximum(sigma, low), high)
        return alpha, sigma - excess

    def drawn_masks(self) -> Tensor | None:
        """z of this step, (num_masks,), or None: nothing is masked."""
        if self.uniform is None or self.masks is None or self.keep_logits is None:
            return None
        if self.masks.kind == "bernoulli":
            z = coin(self.keep_logits, self.uniform)
        else:
            z = hard_concrete(self.keep_logits, self.uniform, self.masks.tau)
        return torch.cumprod(z, dim=0) if self.masks.nest else z

    def forward(self, x: Tensor) -> Tensor:
        """x_hat, of the shape of x."""
        if self.bits >= FULL_PRECISION_BITS:
            return x
        alpha, sigma = self.scales()
        z = self.drawn_masks() if self.training else None
        return quantize(x, alpha, sigma, z, grid=self.grid, ste=self.ste)

    @torch.no_grad()
    def initialise(self, x: Tensor, how: AlphaInit) -> None:
        """Set alpha and sigma from values to be quantized; an input with negatives is signed."""
        if self.bits >= FULL_PRECISION_BITS:
            return
        if self.kind == "unsigned" and bool((x < 0).any()):
            self.kind = "full"
        alpha = max(initial_alpha(x, self.grid, how), 2 * SMALLEST_ALPHA)
        sigma = self.noise.ratio * (1.0 if self.noise.is_tied else alpha)
        self.raw_alpha.fill_(_softplus_inverse(alpha - SMALLEST_ALPHA))
        self.raw_sigma.fill_(_softplus_inverse(sigma))

    @torch.no_grad()
    def pack_weights(self, weights: Tensor, widths: Sequence[int]) -> Weights:
        """What a packed file keeps of weights; the masks only serve the training."""
        if self.bits >= FULL_PRECISION_BITS:
            return FloatWeights(plain=weights)
        alpha, grid = self.scales()[0], self.grid
        codes = (weights / alpha).round().clamp(grid.low, grid.high)
        return CodedWeights(
            codes=Codes.of(codes, bits=self.bits, low=grid.low), grid=Affine(scale=alpha)
        )

    @torch.no_grad()
    def pack_input(self, widths: Sequence[int]) -> StepInput | None:
        """What a packed file keeps of an input's grid."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        return StepInput(step=self.scales()[0], low=self.grid.low, high=self.grid.high)

    def get_extra_state(self) -> dict[str, str]:
        """What a checkpoint keeps besides the parameters."""
        return {"kind": self.kind}

    def set_extra_state(self, state: dict[str, str]) -> None:
        """The inverse of `get_extra_state`."""
        self.kind = cast(GridKind, state["kind"])  # written by get_extra_state

    def extra_repr(self) -> str:
        """Bits and grid, for print(network)."""
        return f"bits={self.bits}, kind={self.kind!r}, ste={self.ste!r}"


def _keep_logits(masks: Masks, count: int) -> nn.Parameter:
    keep = torch.full((count,), masks.keep_probability)
    return nn.Parameter(torch.logit(keep), requires_grad=masks.is_learned)


def initial_alpha(x: Tensor, grid: Grid, how: AlphaInit) -> float:
    """The step size for values x: of least squared error, or from the range of x."""
    sample = x.flatten()[:: 1 + x.numel() // INIT_SAMPLES].float()
    lowest = max(-grid.low, 1)
    widest = max(sample.max().item() / grid.high, -sample.min().item() / lowest)
    if how == "max":
        return widest
    if how == "percentile":
        return torch.quantile(sample.abs(), 0.999).item() / grid.high
    candidates = [widest * (k + 1) / INIT_CANDIDATES for k in range(INIT_CANDIDATES)]
    return min(candidates, key=lambda alpha: _squared_error(sample, alpha, grid))


def _squared_error(sample: Tensor, alpha: float, grid: Grid) -> float:
    rounded = (sample / alpha).round_().clamp_(grid.low, grid.high).mul_(alpha)
    return (rounded - sample).square_().sum().item()


def convert(network: nn.Module, trial: Trial, generator: torch.Generator) -> nn.Module:
    """Body layers get CPQ quantizers (weights with DropBits), the ends become 8-bit LSQ layers."""
    (bits,) = trial.bits
    parameters = trial.parameters
    noise = noise_of(parameters)
    # The choices below are checked when a trial's parameters are resolved.
    weight_kind = cast(GridKind, parameters["grid"])
    weight_ste = cast(Ste, parameters["ste"])
    input_ste = cast(Ste, parameters.get("ste_act", "plain"))

    def make(layer: Computing) -> Quantized:
        weights = ClusterPromoting(
            bits=bits.weight,
            kind=weight_kind,
            ste=weight_ste,
            noise=noise,
            masks=masks_of(parameters),
        )
        inputs = ClusterPromoting(
            bits=bits.activation, kind="unsigned", ste=input_ste, noise=noise, masks=None
        )
        return quantized(layer, weight_quantizer=weights, input_quantizer=inputs)

    quantize_ends(network, backend=trial.backend)
    replace_layers(network.get_submodule("body"), make)
    return network


def quantizers(network: nn.Module) -> list[ClusterPromoting]:
    """The CPQ quantizers of a network, in `modules()` order."""
    return [one for one in network.modules() if isinstance(one, ClusterPromoting)]


@torch.no_grad()
def calibrate(network: nn.Module, trial: Trial, images: Tensor) -> None:
    """Step sizes: weights from the weights, inputs in one pass as the earlier layers quantize."""
    how = cast(AlphaInit, trial.parameters["alpha_init"])  # checked when resolved

    def initialise_input(quantizer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(quantizer, ClusterPromoting)
        quantizer.initialise(inputs[0], how)

    handles = []
    for _, layer in quantized_layers(network):
        if isinstance(layer.weight_quantizer, ClusterPromoting):
            layer.weight_quantizer.initialise(layer.weight, how)
        if isinstance(layer.input_quantizer, ClusterPromoting):
            handles.append(layer.input_quantizer.register_forward_pre_hook(initialise_input))
    calibrate_steps(network, images)
    for handle in handles:
        handle.remove()


def parameter_groups(network: nn.Module, trial: Trial) -> Sequence[ParameterGroup]:
    """Weights and norms by SGD; scales by Adam, so that their rate does not depend on N; Pi apart.

    Groups without a parameter are left out.
    """
    rate = float(trial.parameters["learning_rate"])
    decay = float(trial.parameters["weight_decay"])
    found = [one for one in quantizers(network) if one.bits < FULL_PRECISION_BITS]
    scales = [parameter for one in found for parameter in (one.raw_alpha, one.raw_sigma)]
    logits = [one.keep_logits for one in found if one.keep_logits is not None]
    groups = (
        *float_groups(network, learning_rate=rate, weight_decay=decay),
        step_group(network, learning_rate=rate),
        ParameterGroup(
            name="scales",
            parameters=[one for one in scales if one.requires_grad],
            learning_rate=rate * float(trial.parameters["quantizer_learning_rate_ratio"]),
            optimizer="adam",
        ),
        ParameterGroup(
            name="keep_logits",
            parameters=[one for one in logits if one.requires_grad],
            learning_rate=float(trial.parameters.get("keep_learning_rate", 0.0)),
            optimizer="adam",
            clip_norm=1.0,
        ),
    )
    return tuple(group for group in groups if group.parameters)


def draw_masks(network: nn.Module, generator: torch.Generator) -> None:
    """Draw U for every masked layer, all at once, in the order of the layers."""
    masked = [(one, one.keep_logits) for one in quantizers(network) if one.keep_logits is not None]
    uniform = draw_uniform(sum(len(logits) for _, logits in masked), generator)
    parts = torch.split(uniform, [len(logits) for _, logits in masked])
    for (one, logits), part in zip(masked, parts, strict=True):
        one.uniform = part.to(logits.device, non_blocking=True)


def backward(
    network: nn.Module, trial: Trial, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of one batch under one draw of the masks."""
    draw_masks(network, generator)
    loss = cross_entropy_backward(network, trial, images, labels, generator)
    for one in quantizers(network):
        one.uniform = None
    return loss


def select(network: nn.Module, bits: Bits) -> None:
    """Nothing to set: a network has one width; ValueError for another one."""
    for path, layer in quantized_layers(network.get_submodule("body")):
        made_for = Bits(
            weight=cast(int, layer.weight_quantizer.bits),  # ClusterPromoting: see `convert`
            activation=cast(int, layer.input_quantizer.bits),
        )
        if made_for != bits:
            raise ValueError(f"{path} was made for {made_for.label}, not for {bits.label}")


CPQ_DROPBITS = Method(
    convert=convert,
    calibrate=calibrate,
    parameter_groups=parameter_groups,
    backward=backward,
    select=select,
)
