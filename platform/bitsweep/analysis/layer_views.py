"""Bits per layer as figures: over epochs, and as a rule gives them to samples.

The rules of the policy are drawn beside each other: learned, and the same bits shuffled over
samples, which tells whether the policy looks at the sample at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bitsweep.analysis.cell import ordered
from bitsweep.analysis.chart import Curves, Heat, Marker, Series, Style
from bitsweep.analysis.policies import image_counts
from bitsweep.analysis.shown import shown
from bitsweep.bits import is_policy
from bitsweep.errors import InputError
from bitsweep.store.layers import LayerEpoch, RuleRow, layer_epochs, layered_arms, rule_rows
from bitsweep.store.reader import Reader

_BINS = 24
# The learned rule in the colour of its method; its controls told apart by marker as well.
_RULES: Mapping[str, tuple[str, Marker]] = {
    "learned": ("#CC79A7", "diamond"),
    "shuffled": ("#0072B2", "square"),
    "random": ("#7f7f7f", "circle"),
    "greedy": ("#009E73", "triangle"),
    "evolutionary": ("#E69F00", "triangle"),
    "ilp": ("#56B4E9", "circle"),
    "cascade": ("#D55E00", "cross"),
}
_OTHER: tuple[str, Marker] = ("#7f7f7f", "cross")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A rule at one price: part of the samples per layer and bits, and BitOps over samples.

    `spread` is None where the store did not keep the cost of each sample.
    """

    arm: str
    prices: tuple[float, ...]
    price: float
    shares: Heat | None
    spread: Curves | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """The layers of a sweep: bits by epoch of one arm, and the policy's figures if it has one."""

    sweep: str
    arms: tuple[str, ...]
    allocations: tuple[str, ...]
    arm: str
    allocation: str
    bits: Heat
    policy: Policy | None
    trade: Curves | None


def layer_view(
    reader: Reader,
    sweep_name: str,
    *,
    arm: str | None = None,
    allocation: str | None = None,
    price: float | None = None,
) -> LayerView:
    """The figures of an arm at these bits (None: the first); InputError where there is none."""
    sweep = reader.sweep(sweep_name)
    known = layered_arms(reader, sweep.id)
    if not known:
        raise InputError(f"{sweep_name} has no confirmed trial with layers to show yet")
    arms = tuple(dict.fromkeys(name for name, _ in known))
    arm = _known(arm, arms, f"arm of {sweep_name}")
    allocations = ordered({label for name, label in known if name == arm})
    allocation = _known(allocation, allocations, f"bits of {arm}")
    found = layer_epochs(reader, sweep.id, arm=arm, allocation=allocation)
    rules = rule_rows(reader, sweep.id, metric=sweep.metric, split="test")
    mine = [one for one in rules if one.arm == arm]
    if not any(is_policy(one.allocation) or image_counts(one.sums) for one in mine):
        mine = []  # bits that were learned at a price are no choice per sample
    return LayerView(
        sweep=sweep.name,
        arms=arms,
        allocations=allocations,
        arm=arm,
        allocation=allocation,
        bits=bits_heat(found),
        policy=policy_of(arm, mine, price),
        trade=trade_of(mine, metric=sweep.metric) if mine else None,
    )


def _known(wanted: str | None, known: Sequence[str], what: str) -> str:
    if wanted is None:
        return known[0]
    if wanted not in known:
        raise InputError(f"{wanted!r} is no {what}; choose one of: {', '.join(known)}")
    return wanted


def bits_heat(found: Sequence[LayerEpoch]) -> Heat:
    layers = dict(sorted({one.layer: one.name for one in found}.items()))
    epochs = sorted({one.epoch for one in found})
    at = {(one.layer, one.epoch): one.weight_bits for one in found}
    return Heat(
        title="",
        rows=tuple(layers.values()),
        columns=tuple(f"epoch {epoch}" for epoch in epochs),
        values=tuple(tuple(at.get((layer, epoch)) for epoch in epochs) for layer in layers),
        label="weight bits",
    )


def policy_of(arm: str, rules: Sequence[RuleRow], price: float | None) -> Policy | None:
    learned = [one for one in rules if one.allocator == "learned" and one.price is not None]
    prices = tuple(sorted({one.price for one in learned if one.price is not None}))
    if not prices:
        return None
    if price is not None and price not in prices:
        named = ", ".join(f"{one:g}" for one in prices)
        raise InputError(f"{price:g} is no lambda of {arm}; choose one of: {named}")
    at = prices[0] if price is None else price
    rows = [one for one in learned if one.price == at]
    return Policy(arm=arm, prices=prices, price=at, shares=_shares(rows), spread=_spread(rows))


def _shares(rows: Sequence[RuleRow]) -> Heat | None:
    """The part of all samples, over seeds, that ran each layer at each bits."""
    counts: dict[str, dict[str, float]] = {}
    for row in rows:
        for layer, at in image_counts(row.sums).items():
            sums = counts.setdefault(layer, {})
            for bits, count in at.items():
                sums[bits] = sums.get(bits, 0.0) + count
    if not counts:
        return None
    total = sum(row.total for row in rows)
    widths = ordered({bits for one in counts.values() for bits in one})
    return Heat(
        title="",
        rows=tuple(counts),
        columns=widths,
        values=tuple(
            tuple(100.0 * one.get(bits, 0.0) / total for bits in widths) for one in counts.values()
        ),
        label="% of samples",
    )


def _spread(rows: Sequence[RuleRow]) -> Curves | None:
    """BitOps of the body per sample, as steps over equal bins; all seeds together."""
    points = [point for row in rows for point in row.sample_bitops]
    if not points:
        return None
    low, high = min(cost for cost, _ in points), max(cost for cost, _ in points)
    width = (high - low) / _BINS or max(high, 1.0) / _BINS
    counts = [0] * (_BINS + 1)
    for cost, count in points:
        counts[min(int((cost - low) / width), _BINS - 1)] += count
    colour, _ = _RULES["learned"]
    total = sum(counts)
    series = Series(
        name=None,
        x=tuple(low + width * place for place in range(_BINS + 1)),
        y=tuple(100.0 * count / total for count in counts),
        style=Style(colour=colour, marker=None),
        is_staircase=True,
    )
    return Curves(
        title="",
        x_label="BitOps of the body per sample",
        y_label="% of samples",
        series=(series,),
    )


def trade_of(rules: Sequence[RuleRow], *, metric: str) -> Curves:
    """The metric on test against mean BitOps: a point per rule and lambda, mean over seeds."""
    look = shown(metric)
    return Curves(
        title="",
        x_label="mean BitOps of the body",
        y_label=f"{look.title} on test{look.in_brackets}",
        series=tuple(_trades(rules)),
    )


def _trades(rules: Sequence[RuleRow]) -> Iterable[Series]:
    # An oracle reads the labels: an upper bound, which no figure shows as a rule.
    names = sorted({one.allocator for one in rules} - {"oracle"})
    for name in [one for one in _RULES if one in names] + [n for n in names if n not in _RULES]:
        mine = [one for one in rules if one.allocator == name]
        at = {
            key: [one for one in mine if (one.price, one.allocation) == key]
            for key in dict.fromkeys((one.price, one.allocation) for one in mine)
        }
        means = sorted(
            (fmean(one.bitops_body for one in some), fmean(one.value for one in some))
            for some in at.values()
        )
        colour, marker = _RULES.get(name, _OTHER)
        style = Style(
            colour=colour,
            marker=marker,
            dash="solid" if name == "learned" else "dotted",
            has_line=name in ("learned", "shuffled"),
        )
        yield Series(
            name=name,
            x=tuple(cost for cost, _ in means),
            y=tuple(value for _, value in means),
            style=style,
        )
