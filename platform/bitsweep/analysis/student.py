"""Student's t distribution for whole degrees of freedom, in closed form.

A table needs nothing else of scipy, which takes half a second to load.
"""

from math import atan2, cos, pi, sin, sqrt

_STEPS = 200


def within(t: float, *, freedom: int) -> float:
    """P(|T| <= t) for t >= 0; ValueError below one degree of freedom.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4: a finite sum over powers of cos(theta),
    tan(theta) = t / sqrt(freedom).

    >>> round(within(2.776445, freedom=4), 6)
    0.95
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom are 1 or more, got {freedom}")
    theta = atan2(t, sqrt(freedom))
    is_odd = freedom % 2 == 1
    term = cos(theta) if is_odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if is_odd else 2, freedom - 1, 2):
        term *= cos(theta) ** 2 * (k - 1) / k
        total += term
    if is_odd:
        return 2 / pi * (theta + sin(theta) * total)
    return sin(theta) * total


def two_sided_p(t: float, *, freedom: int) -> float:
    """P(|T| >= |t|)."""
    return max(0.0, 1.0 - within(abs(t), freedom=freedom))


def below(t: float, *, freedom: int) -> float:
    """P(T <= t)."""
    half = two_sided_p(t, freedom=freedom) / 2
    return half if t < 0 else 1.0 - half


def quantile(share: float, *, freedom: int) -> float:
    """The t with P(|T| <= t) = share, for a share from 0 up to below 1, by bisection.

    >>> round(quantile(0.95, freedom=4), 6)
    2.776445
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share lies from 0 up to below 1, got {share}")
    low, high = 0.0, 1.0
    while within(high, freedom=freedom) < share:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if within(middle, freedom=freedom) < share else (low, middle)
    return (low + high) / 2
