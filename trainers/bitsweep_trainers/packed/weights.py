"""What a file keeps of weights, and how they come back as values: codes, grids, bases.

Each record gives the weights at a width, as one tensor or as several whose layers' outputs are
added up. The formulas repeat those of the quantizers, step by step, so that values are equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from bitsweep.bits import FULL_PRECISION_BITS

Scalar = Tensor | float
Grids = Mapping[str, "Grid"]  # by the decimal name of a width


class Lattice(NamedTuple):
    """value = (code - zero) scale + offset, for each whole code, with whole `zero`."""

    scale: Tensor
    zero: Tensor
    offset: Tensor


class Weights(Protocol):
    """What a layer's weights are kept as."""

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """The weights at a width; several: the layer adds up what each of them gives."""

    def uniform(self, bits: int, /) -> "tuple[Tensor, Grid] | None":
        """Codes as floats and their one grid at a width; None where there is no such grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Whole numbers low + raw, raw uint8 in 0..2^bits - 1 of any shape."""

    raw: Tensor
    bits: int
    low: int = 0

    @classmethod
    def of(cls, codes: Tensor, *, bits: int, low: int = 0) -> "Codes":
        """From whole numbers; ValueError if one of them needs more bits."""
        raw = codes.detach().cpu() - low
        if raw.numel() and (bool((raw < 0).any()) or bool((raw >= 2**bits).any())):
            raise ValueError(f"codes from {low} do not fit into {bits} bits")
        return cls(raw=raw.to(torch.uint8).contiguous(), bits=bits, low=low)

    def floats(self) -> Tensor:
        """The numbers as float32."""
        return self.raw.float() + self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """(code - zero) (scale factor); a scale may be a number for all, or one per channel."""

    scale: Scalar
    zero: Scalar = 0.0
    factor: float = 1.0

    def values(self, codes: Tensor) -> Tensor:
        """The value of each code.

        >>> Affine(scale=0.5, zero=1.0).values(torch.tensor([0.0, 3.0])).tolist()
        [-0.5, 1.0]
        """
        return (codes - self.zero) * (self.scale * self.factor)

    def lattice(self) -> Lattice:
        """The same with a whole zero."""
        scale = torch.as_tensor(self.scale) * self.factor
        zero = torch.as_tensor(self.zero).expand(scale.shape)
        whole = zero.floor()
        return Lattice(scale, whole, -(zero - whole) * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """scale (2 code / levels - 1): codes 0..levels over [-scale, scale]."""

    levels: int
    scale: Scalar = 1.0

    def values(self, codes: Tensor) -> Tensor:
        """The value of each code.

        >>> Unit(levels=3).values(torch.tensor([0.0, 3.0])).tolist()
        [-1.0, 1.0]
        """
        return self.scale * (2 * (codes / self.levels) - 1)

    def lattice(self) -> Lattice:
        """The same as scale, whole zero and offset."""
        scale = torch.as_tensor(self.scale)
        return Lattice(2 * scale / self.levels, torch.zeros_like(scale), -scale)


Grid = Affine | Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatWeights:
    """Weights in floating point."""

    plain: Tensor

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """As they are, at any width."""
        return (self.plain,)

    def uniform(self, bits: int, /) -> None:
        """No codes."""
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedWeights:
    """Codes of one width on one grid."""

    codes: Codes
    grid: Grid

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """The grid's values; the width is that of the codes."""
        return (self.grid.values(self.codes.floats()),)

    def uniform(self, bits: int, /) -> tuple[Tensor, Grid]:
        """The codes of the width and their grid."""
        return self.codes.floats(), self.grid


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedWeights:
    """Codes of the largest width; fewer bits are their high bits, floored or rounded."""

    codes: Codes
    cut: Literal["floor", "round"]
    grids: Grids

    def codes_at(self, bits: int) -> Tensor:
        """The codes of a width, as floats."""
        parts = self.codes.floats() / float(2 ** (self.codes.bits - bits))
        if self.cut == "floor":
            return torch.floor(parts)
        low = self.codes.low // 2 ** (self.codes.bits - bits)
        return torch.round(parts).clamp(low, low + 2**bits - 1)

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """The values of the cut codes on the grid of the width."""
        return (self.grids[str(bits)].values(self.codes_at(bits)),)

    def uniform(self, bits: int, /) -> tuple[Tensor, Grid]:
        """The codes of the width and their grid."""
        return self.codes_at(bits), self.grids[str(bits)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateWeights:
    """Codes of each width for itself."""

    widths: Mapping[str, CodedWeights]

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """Those of the width."""
        return self.widths[str(bits)].values(bits)

    def uniform(self, bits: int, /) -> tuple[Tensor, Grid]:
        """The codes of the width and their grid."""
        return self.widths[str(bits)].uniform(bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentWeights:
    """Weights in floating point and a step for each width: codes are made at the switch."""

    latent: Tensor
    steps: Mapping[str, Tensor]

    def codes_at(self, bits: int) -> Tensor:
        """round(clamp(w / s, -2^(b-1), 2^(b-1) - 1))."""
        half = 2 ** (bits - 1)
        return torch.div(self.latent, self.steps[str(bits)]).clamp(-half, half - 1).round()

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """Codes times the step of the width."""
        return (self.codes_at(bits) * self.steps[str(bits)],)

    def uniform(self, bits: int, /) -> tuple[Tensor, Grid]:
        """The codes of the width and their grid."""
        return self.codes_at(bits), Affine(scale=self.steps[str(bits)])


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLatentWeights:
    """u in [0, 1] in floating point: 2^b - 1 levels are made at the switch, none at 32 bits."""

    latent: Tensor
    scale: Tensor

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """scale (2 q - 1), q = round(u n) / n."""
        n = 2**bits - 1
        is_full = bits >= FULL_PRECISION_BITS
        q = self.latent if is_full else torch.round(self.latent * n) / n
        return (self.scale * (2 * q - 1),)

    def uniform(self, bits: int, /) -> tuple[Tensor, Grid] | None:
        """The codes of the width and their grid; None at 32 bits."""
        n = 2**bits - 1
        if bits >= FULL_PRECISION_BITS:
            return None
        return torch.round(self.latent * n), Unit(levels=n, scale=self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class BasesWeights:
    """Sums of signed coordinates, `counts` of them for each of G channels of M weights.

    coordinates (sum of counts,) and signs (sum of counts M,) lie channel by channel; within a
    channel signs go weight by weight.
    """

    counts: Codes
    coordinates: Tensor
    signs: Codes
    shape: tuple[int, ...]

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """sum_i alpha_i beta_i."""
        counts = self.counts.floats()
        num_bases, num_groups = int(counts.max()), len(counts)
        kept = torch.arange(num_bases) < counts.unsqueeze(1)
        coordinates = torch.zeros(kept.shape)
        coordinates[kept] = self.coordinates.cpu()
        num_weights = torch.Size(self.shape).numel() // num_groups
        is_used = kept.unsqueeze(1).expand(-1, num_weights, -1)
        bases = torch.zeros(is_used.shape)
        bases[is_used] = 2 * self.signs.floats().cpu() - 1
        sums = (bases @ coordinates.unsqueeze(2)).view(self.shape)
        return (sums.to(self.coordinates.device),)

    def uniform(self, bits: int, /) -> None:
        """Sums of bases are no uniform grid."""
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsWeights:
    """Several weights of one layer, whose outputs are added up."""

    parts: tuple[CodedWeights, ...]

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """One tensor a part."""
        return tuple(value for part in self.parts for value in part.values(bits))

    def uniform(self, bits: int, /) -> None:
        """Each part has a grid of its own."""
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedWeights:
    """Parts without their zeros: which part a weight belongs to, and its code on that grid."""

    index: Codes
    codes: Codes
    grids: tuple[Affine, ...]

    def values(self, bits: int, /) -> tuple[Tensor, ...]:
        """One tensor a part, 0 where a weight belongs to another."""
        codes, index = self.codes.floats(), self.index.raw
        return tuple(
            torch.where(index == part, grid.values(codes), 0.0)
            for part, grid in enumerate(self.grids)
        )

    def uniform(self, bits: int, /) -> None:
        """Each part has a grid of its own."""
        return


WEIGHT_KINDS = {
    "affine": Affine,
    "unit": Unit,
    "float": FloatWeights,
    "coded": CodedWeights,
    "nested": NestedWeights,
    "separate": SeparateWeights,
    "latent": LatentWeights,
    "unit_latent": UnitLatentWeights,
    "bases": BasesWeights,
    "parts": PartsWeights,
    "indexed": IndexedWeights,
}
