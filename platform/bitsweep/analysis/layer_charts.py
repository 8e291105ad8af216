"""Bits of layers as charts for papers: learned over epochs, chosen per sample, and their price."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bitsweep.analysis.chart import Chart, Heat, Panel, Pick
from bitsweep.analysis.layer_views import Policy, bits_heat, policy_of, trade_of
from bitsweep.errors import InputError, nearest
from bitsweep.store.layers import RuleRow, layer_epochs, layered_arms, rule_rows
from bitsweep.store.reader import Reader


def epochs_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """Weight bits of each layer after each epoch, a panel per arm whose bits are learned.

    An arm or bits that are picked are drawn even where they never change. Means over confirmed
    seeds. Raises InputError where every arm's bits are fixed, or for what is not there.
    """
    sweep = reader.sweep(sweep_name)
    known = layered_arms(reader, sweep.id)
    _check(pick.arm, [arm for arm, _ in known], f"arm with confirmed layers in {sweep_name}")
    _check(pick.at, [label for _, label in known], f"bits measured in {sweep_name}")
    panels = []
    for arm, label in known:
        if pick.arm in (None, arm) and pick.at in (None, label):
            found = layer_epochs(reader, sweep.id, arm=arm, allocation=label)
            heat = replace(bits_heat(found), title=f"{arm} {label}")
            if (pick.arm and pick.at) or _changes(heat):
                panels.append(heat)
    if not panels:
        raise InputError(
            f"{sweep_name} has no confirmed arm whose bits change over its epochs; --kind layers "
            "shows bits that are fixed, and --arm with --at one arm whatever its bits do"
        )
    note = "Weight bits as factors of the BitOps, branches counted; means over confirmed seeds."
    return Chart(title=sweep.name, panels=tuple(panels), note=note)


def _changes(heat: Heat) -> bool:
    return any(len({one for one in row if one is not None}) > 1 for row in heat.values)


def choices_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """The part of the test samples that ran each layer at each bits, a panel per arm and lambda.

    Raises InputError where no learned policy was measured.
    """
    note = (
        "% of test samples, over all confirmed seeds, that the learned policy ran at these bits."
    )
    panels = [
        replace(one.shares, title=_name(one))
        for one in _policies(reader, sweep_name, pick)
        if one.shares is not None
    ]
    return _chart(sweep_name, panels, note)


def costs_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """How the BitOps of single test samples spread, a panel per arm and lambda."""
    note = "BitOps of the body per test sample under the learned policy, in equal bins; all seeds."
    panels = [
        replace(one.spread, title=_name(one))
        for one in _policies(reader, sweep_name, pick)
        if one.spread is not None
    ]
    return _chart(sweep_name, panels, note)


def trade_chart(reader: Reader, sweep_name: str, pick: Pick) -> Chart:
    """The metric on test against mean BitOps, a point per rule and lambda, a panel per arm.

    The same allocations shuffled over samples stand beside the learned policy.
    """
    sweep = reader.sweep(sweep_name)
    panels = [
        replace(trade_of(rules, metric=sweep.metric), title=arm)
        for arm, rules in _rules(reader, sweep_name, pick)
    ]
    note = "Means over seeds, a point per lambda. Shuffled: the same bits for other samples."
    return _chart(sweep_name, panels, note)


def _chart(sweep_name: str, panels: Sequence[Panel], note: str) -> Chart:
    if not panels:
        raise InputError(f"{sweep_name} has no confirmed policy that chooses bits per sample")
    return Chart(title=sweep_name, panels=tuple(panels), note=note)


def _rules(reader: Reader, sweep_name: str, pick: Pick) -> list[tuple[str, list[RuleRow]]]:
    """By arm what its rules measured on test; InputError for an arm that has none."""
    sweep = reader.sweep(sweep_name)
    rows = rule_rows(reader, sweep.id, metric=sweep.metric, split="test")
    arms = list(dict.fromkeys(one.arm for one in rows if one.price is not None))
    _check(pick.arm, arms, f"arm of {sweep_name} with a policy")
    return [
        (arm, [one for one in rows if one.arm == arm]) for arm in arms if pick.arm in (None, arm)
    ]


def _policies(reader: Reader, sweep_name: str, pick: Pick) -> Iterable[Policy]:
    """The learned policy of each arm at each lambda, or at the one that was picked."""
    for arm, rules in _rules(reader, sweep_name, pick):
        first = policy_of(arm, rules, pick.price)
        if first is not None and pick.price is None:
            yield from (one for at in first.prices if (one := policy_of(arm, rules, at)))
        elif first is not None:
            yield first


def _name(one: Policy) -> str:
    return f"{one.arm}, \u03bb = {one.price:g}"


def _check(wanted: str | None, known: Sequence[str], what: str) -> None:
    if wanted is not None and wanted not in known:
        listed = ", ".join(dict.fromkeys(known)) or "none"
        raise InputError(
            f"{wanted!r} is no {what}{nearest(wanted, list(known))}; there is: {listed}"
        )
