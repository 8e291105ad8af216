"""When values of two networks count as the same, and how far apart they are."""

import torch
from torch import Tensor


def apart(own: Tensor, other: Tensor, *, bound: Tensor | float) -> Tensor:
    """Where values differ by more than a bound: booleans of their shape.

    Equal infinities are the same, and so is NaN in both; NaN or infinity against anything else
    is apart, whatever the bound.

    >>> nan, inf = float("nan"), float("inf")
    >>> own = torch.tensor([1.0, nan, inf, nan, inf])
    >>> apart(own, torch.tensor([1.1, nan, inf, 0.0, -inf]), bound=0.5).tolist()
    [False, False, False, True, True]
    """
    is_finite = own.isfinite() & other.isfinite()
    return ~(_equal(own, other) | (is_finite & ((own - other).abs() <= bound)))


def largest_difference(own: Tensor, other: Tensor) -> float | None:
    """The largest difference; None where NaN or infinity stands against something else.

    >>> largest_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
    0.5
    >>> largest_difference(torch.tensor([1.0]), torch.tensor([float("nan")])) is None
    True
    """
    difference = torch.where(_equal(own, other), 0.0, (own - other).abs())
    largest = float(difference.max()) if difference.numel() else 0.0
    return largest if largest < float("inf") else None


def largest(values: Tensor) -> float:
    """The largest absolute value among the finite ones; 0 if there are none."""
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _equal(own: Tensor, other: Tensor) -> Tensor:
    return (own == other) | (own.isnan() & other.isnan())
