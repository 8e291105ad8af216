"""What a file keeps of the grids that a layer's inputs are rounded to, one record a formula."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol

import torch
from torch import Tensor

from bitsweep.bits import FULL_PRECISION_BITS

SMALLEST_STEP = 1e-8


class Rounding(NamedTuple):
    """value = (clamp(round((x - offset) / step) + zero, low, high) - zero) step + offset."""

    step: float
    zero: int
    low: int
    high: int
    offset: float = 0.0


class SeveralGrids(ValueError):
    """One grid does not serve all values of an input."""


class Input(Protocol):
    """How a layer rounds its input."""

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """Values (N, C, ...) -> the nearest points of the grid at a width."""

    def rounding(self, bits: int, /) -> Rounding | None:
        """The grid as numbers; None where values pass as they are. Raise SeveralGrids for many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """Codes low..high times a step, around an offset if there is one."""

    step: Tensor
    low: int
    high: int
    offset: Tensor | None = None

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """round(clamp((x - offset) / s, low, high)) s + offset."""
        centred = values if self.offset is None else values - self.offset
        points = torch.div(centred, self.step).clamp(self.low, self.high).round() * self.step
        return points if self.offset is None else points + self.offset

    def rounding(self, bits: int, /) -> Rounding:
        """The grid as numbers."""
        offset = 0.0 if self.offset is None else float(self.offset)
        return Rounding(float(self.step), 0, self.low, self.high, offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoledInput:
    """Codes times a step, some of them left out: lows[i]..highs[i], in ascending order."""

    step: Tensor
    lows: tuple[int, ...]
    highs: tuple[int, ...]

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """The nearest kept point; midway between two runs the lower one's.

        >>> holed = HoledInput(step=torch.tensor(0.5), lows=(0, 6), highs=(2, 7))
        >>> holed.rounded(torch.tensor([0.6, 2.0, 2.1, 9.0]), 3).tolist()
        [0.5, 1.0, 3.0, 3.5]
        """
        codes = torch.div(values, self.step).round()
        nearest = codes.clamp(self.lows[0], self.highs[0])
        for last, low, high in zip(self.highs, self.lows[1:], self.highs[1:], strict=False):
            above = values > self.step * ((last + low) / 2)
            nearest = torch.where(above, codes.clamp(low, high), nearest)
        return nearest * self.step

    def rounding(self, bits: int, /) -> Rounding:
        """SeveralGrids: a grid has no holes."""
        raise SeveralGrids("some of its codes are left out")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroPointInput:
    """Codes 0..high around a zero-point, as of a range that was calibrated."""

    scale: Tensor
    zero: Tensor
    high: int

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """(clamp(round(x / s) + z, 0, high) - z) s."""
        codes = (torch.round(values / self.scale) + self.zero).clamp(0, self.high)
        return (codes - self.zero) * self.scale

    def rounding(self, bits: int, /) -> Rounding:
        """The grid as numbers."""
        return Rounding(float(self.scale), int(self.zero), 0, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitInput:
    """2^b levels over [0, 1]; nothing is kept."""

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """round(clamp(x, 0, 1) n) / n; at 32 bits as they are."""
        if bits >= FULL_PRECISION_BITS:
            return values
        n = 2**bits - 1
        rounded: Tensor = torch.round(values.clamp(0, 1) * n) / n
        return rounded

    def rounding(self, bits: int, /) -> Rounding | None:
        """The grid as numbers; None at 32 bits, which round nothing."""
        if bits >= FULL_PRECISION_BITS:
            return None
        return Rounding(1 / (2**bits - 1), 0, 0, 2**bits - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipInput:
    """2^b levels over [0, alpha], by PACT's formula."""

    alpha: Tensor

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """alpha round(x n / alpha) / n within the range, alpha above it."""
        n = 2**bits - 1
        inside = self.alpha * (torch.round(values.clamp(min=0) / self.alpha * n) / n)
        return torch.where(values >= self.alpha, self.alpha, inside)

    def rounding(self, bits: int, /) -> Rounding:
        """The grid as numbers."""
        n = 2**bits - 1
        return Rounding(float(self.alpha) / n, 0, 0, n)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakInput:
    """2^b levels over [0, peak], by LSQ's formula with the step peak / (2^b - 1)."""

    peak: Tensor

    def _step(self, bits: int) -> Tensor:
        step: Tensor = self.peak / (2**bits - 1)
        return step.clamp(min=SMALLEST_STEP)

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """round(clamp(x / s, 0, 2^b - 1)) s."""
        step = self._step(bits)
        return torch.div(values, step).clamp(0, 2**bits - 1).round() * step

    def rounding(self, bits: int, /) -> Rounding:
        """The grid as numbers."""
        return Rounding(float(self._step(bits)), 0, 0, 2**bits - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThirdsInput:
    """Grids of their own for thirds of the channels."""

    parts: tuple[ZeroPointInput, ...]

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """Each third on its grid."""
        thirds = values.tensor_split(len(self.parts), dim=1)
        rounded = [
            part.rounded(third, bits)
            for part, third in zip(self.parts, thirds, strict=True)
            if third.shape[1]
        ]
        return torch.cat(rounded, 1)

    def rounding(self, bits: int, /) -> NoReturn:
        """Raise SeveralGrids."""
        raise SeveralGrids


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedInput:
    """A grid for each width."""

    widths: Mapping[str, StepInput | PeakInput]

    def rounded(self, values: Tensor, bits: int, /) -> Tensor:
        """On the grid of the width."""
        return self.widths[str(bits)].rounded(values, bits)

    def rounding(self, bits: int, /) -> Rounding:
        """The grid of the width as numbers."""
        return self.widths[str(bits)].rounding(bits)


INPUT_KINDS = {
    "step_input": StepInput,
    "holed_input": HoledInput,
    "zero_point_input": ZeroPointInput,
    "unit_input": UnitInput,
    "clip_input": ClipInput,
    "peak_input": PeakInput,
    "thirds_input": ThirdsInput,
    "switched_input": SwitchedInput,
}
