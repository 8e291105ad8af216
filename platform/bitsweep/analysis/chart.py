"""Figures as data: panels of curves, a heat map or bars; who draws them decides nothing.

One palette for all: the same method has the same colour and marker in every figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

# Okabe and Ito 2008, without their yellow, which white paper swallows.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FULL_PRECISION_COLOUR = "#000000"
Marker = Literal["circle", "square", "triangle", "diamond", "cross"]
_MARKERS: tuple[Marker, ...] = ("circle", "square", "triangle", "diamond", "cross")
Dash = Literal["solid", "dashed", "dotted"]
_DASHES: tuple[Dash, ...] = ("solid", "dashed", "dotted")
# The place decides: six colours and five markers give thirty pairs without a repetition.
_METHODS = (
    "lsq",
    "cpq_dropbits",
    "mbquant",
    "abn",
    "ptq",
    "dorefa",
    "pact",
    "lsq_plus",
    "adabits",
    "any_precision",
    "bit_mixer",
    "adaqat",
    "alq",
    "splitquant",
)
Kind = Literal[
    "pareto",
    "size",
    "bits",
    "curves",
    "layers",
    "epochs",
    "choices",
    "costs",
    "trade",
    "importance",
    "slices",
    "parallel",
    "contour",
]
Scale = Literal["linear", "log2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a series looks; `is_thin` is for single seeds behind their mean."""

    colour: str
    marker: Marker | None
    dash: Dash = "solid"
    is_thin: bool = False
    has_line: bool = True


def method_look(method: str) -> tuple[str, Marker]:
    """The colour and marker of a method; a method that is not ours gets one by its name."""
    if method == "fp32":
        return FULL_PRECISION_COLOUR, "diamond"
    if method in _METHODS:
        place = _METHODS.index(method)
    else:
        place = int(sha256(method.encode()).hexdigest(), 16)
    return look_of_place(place)


def look_of_place(place: int) -> tuple[str, Marker]:
    """The colour and marker of the place-th of many alike: thirty pairs without a repetition."""
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def arm_looks(arms: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """A style per arm (name, method): arms of one method differ in their dashes alone."""
    seen: dict[str, int] = {}
    looks = {}
    for name, method in arms:
        place = seen.get(method, 0)
        seen[method] = place + 1
        colour, marker = method_look(method)
        looks[name] = Style(colour=colour, marker=marker, dash=_DASHES[place % len(_DASHES)])
    return looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points, joined or not; `spread` is the sample sd of y; without a name it has no legend."""

    name: str | None
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    spread: tuple[float | None, ...] = ()
    is_staircase: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A panel of series over two axes; `y_low` cuts off what lies below, which the title says.

    `x_ticks` name the places 0, 1, ... of an axis that is no scale, `y_ticks` given places.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_scale: Scale = "linear"
    y_low: float | None = None
    x_ticks: tuple[str, ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A panel of numbers in rows and columns; None where there is none."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    label: str

    @property
    def is_share(self) -> bool:
        """Parts of 100 rather than bits: another scale of colours."""
        return self.label.startswith("%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A panel of horizontal bars, the longest on top."""

    title: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    label: str
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A number over two parameters: rows of z belong to y, columns to x.

    Ticks name the places 0, 1, ... of a parameter that is a choice. Points are what was tried.
    """

    title: str
    x_label: str
    y_label: str
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[tuple[float, ...], ...]
    points: tuple[tuple[float, float, float], ...]
    x_ticks: tuple[str, ...] = ()
    y_ticks: tuple[str, ...] = ()
    x_is_log: bool = False
    y_is_log: bool = False


Panel = Curves | Heat | Bars | Surface


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What of a sweep a chart shows; None leaves it to the chart.

    `x` and `y` are parameters of a contour, `price` a lambda of a policy.
    """

    arm: str | None = None
    at: str | None = None
    x: str | None = None
    y: str | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure: its title, its panels side by side, and what must be said under it."""

    title: str
    panels: tuple[Panel, ...]
    note: str
