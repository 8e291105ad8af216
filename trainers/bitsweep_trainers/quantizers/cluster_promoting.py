"""The quantizer of CPQ with DropBits (arXiv 2109.02100) as a module: scales, masks, bit-length.

The formulas live in `quantizers.categorical`, the distribution of the masks in `hard_concrete`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, log1p
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitsweep.bits import FULL_PRECISION_BITS
from bitsweep.space import Parameters
from bitsweep_trainers.packed.inputs import HoledInput, StepInput
from bitsweep_trainers.packed.weights import Affine, CodedWeights, Codes, FloatWeights, Weights
from bitsweep_trainers.quantizers.categorical import Ste, quantize
from bitsweep_trainers.quantizers.categorical_compiled import kernels_of
from bitsweep_trainers.quantizers.grid import Grid, GridKind, Sharing, make_grid
from bitsweep_trainers.quantizers.hard_concrete import (
    coin,
    deterministic_gate,
    draw_uniform,
    hard_concrete,
    live_probability,
)

AlphaInit = Literal["mse", "max", "percentile"]
LOWEST_RATIO, HIGHEST_RATIO = 0.05, 2.0
SMALLEST_ALPHA = 1e-6
INIT_SAMPLES = 1 << 17
INIT_CANDIDATES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """How the points of a grid are dropped while training.

    learns_length: what is dropped in the end stays dropped, also in evaluation.
    """

    sharing: Sharing
    nest: bool
    kind: Literal["hard_concrete", "bernoulli"]
    keep_probability: float
    tau: float
    is_learned: bool
    learns_length: bool = False

    def draw(self, keep_logits: Tensor, uniform: Tensor) -> Tensor:
        """z of one step from U, both (..., num_masks), as the logits are."""
        if self.kind == "bernoulli":
            z = coin(keep_logits, uniform)
        else:
            z = hard_concrete(keep_logits, uniform, self.tau)
        return torch.cumprod(z, dim=-1) if self.nest else z

    def expected_levels(self, keep_logits: Tensor) -> Tensor:
        """R, (...): how many masks are on, in expectation; with nested levels E[length] - 2."""
        live = live_probability(keep_logits, self.tau)
        return (torch.cumprod(live, dim=-1) if self.nest else live).sum(dim=-1)

    def kept(self, keep_logits: Tensor) -> Tensor:
        """1 for each mask that evaluation keeps, 0 for the others, (..., num_masks)."""
        kept = (deterministic_gate(keep_logits) > 0).to(keep_logits.dtype)
        return torch.cumprod(kept, dim=-1) if self.nest else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How sigma follows: its start over alpha, whether it learns, whether it scales with alpha."""

    ratio: float
    is_learned: bool
    is_tied: bool


def masks_of(parameters: Parameters, tensor: Literal["weight", "activation"]) -> Masks | None:
    """The masks that a trial's parameters ask for; inert ones are absent from them.

    Activations have some only where their lengths are learned, always one per level.
    """
    is_weight = tensor == "weight"
    if parameters["sharing"] == "off" or not (is_weight or parameters.get("learn_activations")):
        return None
    sharing = parameters["sharing"] if is_weight else "bitwise"
    return Masks(
        sharing=cast(Sharing, sharing),  # resolved: checked against its choices
        nest=bool(parameters.get("nest", False)),
        kind="hard_concrete" if parameters["mask"] == "hard_concrete" else "bernoulli",
        keep_probability=float(parameters["keep_probability"]),
        tau=float(parameters.get("tau", 1.0)),
        is_learned=bool(parameters.get("learn_keep_probability", False)),
        learns_length=parameters.get("task") == "hetero",
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
    softplus(raw_sigma), kept within [0.05, 2] alpha. `drawn` holds z of one training step,
    (num_masks,); without it, and always in evaluation, nothing is masked and the output is plain
    rounding.

    Where the length is learned, evaluation rounds to the points that are kept as the masks stand;
    `frozen` (1: kept) holds them for good, in training too. What is kept is read from the masks as
    they are learned: an average of them lags behind and would tell other lengths.
    """

    not_averaged = ("keep_logits",)

    def __init__(
        self,
        *,
        bits: int,
        kind: GridKind,
        ste: Ste,
        noise: Noise,
        masks: Masks | None,
        backend: str = "eager",
    ) -> None:
        super().__init__()
        self.bits, self.kind, self.ste, self.noise = bits, kind, ste, noise
        self.masks = masks
        self.kernels = kernels_of(backend)
        self.raw_alpha = nn.Parameter(torch.zeros(()))
        self.raw_sigma = nn.Parameter(torch.zeros(()), requires_grad=noise.is_learned)
        count = 0 if masks is None else self.grid.num_masks
        self.keep_logits = None if masks is None or count == 0 else _keep_logits(masks, count)
        self.drawn: Tensor | None = None
        self.frozen: tuple[int, ...] | None = None

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

    @torch.no_grad()
    def kept_masks(self) -> Tensor | None:
        """1 for each mask that evaluation keeps, (num_masks,); None where lengths are given."""
        if self.masks is None or self.keep_logits is None or not self.masks.learns_length:
            return None
        if self.frozen is not None:
            return self.keep_logits.new_tensor(self.frozen)
        return self.masks.kept(self.keep_logits)

    def kept_runs(self) -> tuple[tuple[int, int], ...]:
        """The points that evaluation rounds to, as low..high of neighbours."""
        kept = self.kept_masks()
        return self.grid.kept(None if kept is None else kept.tolist())

    @property
    def length(self) -> int:
        """The bits of the widest kept point; holes below it are codes without use."""
        kept = self.kept_masks()
        if kept is None:
            return self.bits
        top = max((index + 1 for index, one in enumerate(kept.tolist()) if one), default=0)
        if self.masks is not None and self.masks.sharing == "endpoints":
            return 1 + (top + 1).bit_length()  # j_max = top + 1 needs the sign and its own digits
        return 2 + top

    def freeze(self, levels: int | None = None) -> None:
        """Keep for good what is kept as the masks stand, or the lowest levels; nothing learns."""
        kept = self.kept_masks()
        if kept is not None and self.keep_logits is not None:
            if levels is not None:
                kept = torch.arange(len(kept)) < levels
            self.frozen = tuple(int(one) for one in kept.tolist())
            self.keep_logits.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x_hat, of the shape of x."""
        if self.bits >= FULL_PRECISION_BITS:
            return x
        alpha, sigma = self.scales()
        draws = self.training and self.frozen is None
        z = self.drawn if draws else self.kept_masks()
        return quantize(x, alpha, sigma, z, grid=self.grid, ste=self.ste, kernels=self.kernels)

    @torch.no_grad()
    def evaluated(self, x: Tensor) -> Tensor:
        """x_hat as evaluation has it, also while training; below 32 bits alone."""
        alpha, sigma = self.scales()
        return quantize(x, alpha, sigma, self.kept_masks(), grid=self.grid, ste=self.ste)

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
        """What a packed file keeps of weights: codes of their length; masks serve the training."""
        if self.bits >= FULL_PRECISION_BITS:
            return FloatWeights(plain=weights)
        alpha, _ = self.scales()
        codes = (self.evaluated(weights) / alpha).round()
        low = make_grid(self.kind, self.length).low
        return CodedWeights(
            codes=Codes.of(codes, bits=self.length, low=low), grid=Affine(scale=alpha)
        )

    @torch.no_grad()
    def pack_input(self, widths: Sequence[int]) -> StepInput | HoledInput | None:
        """What a packed file keeps of an input's grid: the points that evaluation keeps."""
        if self.bits >= FULL_PRECISION_BITS:
            return None
        step, runs = self.scales()[0], self.kept_runs()
        if len(runs) == 1:
            return StepInput(step=step, low=runs[0][0], high=runs[0][1])
        lows, highs = zip(*runs, strict=True)
        return HoledInput(step=step, lows=lows, highs=highs)

    def get_extra_state(self) -> dict[str, Any]:  # as torch has it
        """What a checkpoint keeps besides the parameters."""
        return {"kind": self.kind} | ({} if self.frozen is None else {"frozen": self.frozen})

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse of `get_extra_state`."""
        self.kind = cast(GridKind, state["kind"])  # written by get_extra_state
        if "frozen" in state and self.keep_logits is not None:
            self.frozen = tuple(state["frozen"])
            self.keep_logits.requires_grad_(False)

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


def quantizers(network: nn.Module) -> list[ClusterPromoting]:
    """The CPQ quantizers of a network, in `modules()` order."""
    return [one for one in network.modules() if isinstance(one, ClusterPromoting)]


def draw_masks(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the masks of all quantizers for one step: U at once, in the order of the layers."""
    masked = [one for one in quantizers(network) if one.keep_logits is not None]
    counts = [len(logits) for _, logits in map(_masks_and_logits, masked)]
    uniform = draw_uniform(sum(counts), generator)
    parts = dict(zip(masked, torch.split(uniform, counts), strict=True))
    for masks, alike, logits in _together(masked):
        u = torch.stack([parts[one] for one in alike]).to(logits.device, non_blocking=True)
        for one, z in zip(alike, masks.draw(logits, u).unbind(), strict=True):
            one.drawn = z


def expected_levels(some: Sequence[ClusterPromoting]) -> Tensor:
    """R of each of some masked quantizers, (len(some),); see `Masks.expected_levels`."""
    found: dict[ClusterPromoting, Tensor] = {}
    for masks, alike, logits in _together(some):
        found |= zip(alike, masks.expected_levels(logits).unbind(), strict=True)
    return torch.stack([found[one] for one in some])


@torch.no_grad()
def kept_levels(some: Sequence[ClusterPromoting]) -> Tensor:
    """How many masks of each of some masked quantizers would be read out now, (len(some),)."""
    found: dict[ClusterPromoting, Tensor] = {}
    for masks, alike, logits in _together(some):
        found |= zip(alike, masks.kept(logits).sum(dim=-1).unbind(), strict=True)
    return torch.stack([found[one] for one in some])


def _together(
    some: Sequence[ClusterPromoting],
) -> Iterator[tuple[Masks, list[ClusterPromoting], Tensor]]:
    """Masked quantizers that draw alike, with their logits (quantizers, masks).

    Layer by layer, the few numbers of a mask cost a hundred times what they compute.
    """
    groups: dict[tuple[Masks, int], list[ClusterPromoting]] = {}
    for one in some:
        masks, logits = _masks_and_logits(one)
        groups.setdefault((masks, len(logits)), []).append(one)
    for (masks, _), alike in groups.items():
        yield masks, alike, torch.stack([_masks_and_logits(one)[1] for one in alike])


def _masks_and_logits(one: ClusterPromoting) -> tuple[Masks, nn.Parameter]:
    assert one.masks is not None and one.keep_logits is not None  # asked of masked ones
    return one.masks, one.keep_logits
