"""Bits of the layers of one sweep: learned over epochs, and as a policy gives them to samples."""

from collections.abc import Sequence
from typing import Any

from dash import html

from bitsweep.analysis.layer_views import LayerView, Policy
from bitsweep.bits import is_policy
from bitsweep_dashboards.address import Place
from bitsweep_dashboards.drawing import figure_card
from bitsweep_dashboards.pages.parts import (
    explained,
    nothing,
    one_of,
    picker,
    scroll_box,
    sweep_head,
)
from bitsweep_dashboards.views import LayersView

_NAMES_REM, _COLUMN_REM = 7.0, 3.0


def layers_page(view: LayersView, place: Place) -> Any:
    """Pickers of arm and bits, the heat map, and the policy's figures where there is one."""
    head = sweep_head(place, view.sweep.name, view.sweep.question)
    if isinstance(view.layers, str):
        return html.Article([*head, nothing(view.layers)])
    found = view.layers
    bare = place.having("bits").having("lambda")
    arms = [(arm, bare.having("arm", arm), arm == found.arm) for arm in found.arms]
    where = f"{found.arm} at {found.allocation}"
    rules = [one for one in found.allocations if is_policy(one) and one != found.allocation]
    others = [one for one in found.allocations if one not in rules]
    pickers = [picker("arm", arms), one_of("bits", place, "bits", others, found.allocation)]
    heat = figure_card(found.bits, name=f"Weight bits per layer and epoch, {where}")
    # Wide enough for a number in each column; more than fit are scrolled to.
    heat.style = {"minWidth": f"{_NAMES_REM + _COLUMN_REM * len(found.bits.columns):g}rem"}
    return html.Article(
        [
            *head,
            html.Div(pickers, className="pickers"),
            *_rules(rules, place),
            explained(html.H2("Bits per layer over epochs"), "layers"),
            scroll_box(heat, f"Weight bits per layer and epoch, {where}"),
            *_policy(found, place),
        ]
    )


def _rules(rules: Sequence[str], place: Place) -> list[Any]:
    """Pickers of the rules that choose bits per sample, folded: they are many."""
    if not rules:
        return []
    summary = html.Summary(f"{len(rules)} rules that choose bits per sample (policy:RULE@lambda)")
    chips = html.Div(one_of("rule", place, "bits", rules, ""), className="pickers")
    return [html.Details([summary, chips], className="rules")]


def _policy(found: LayerView, place: Place) -> list[Any]:
    parts = []
    if found.policy is not None:
        parts += _policy_figures(found.policy, place)
    if found.trade is not None:
        parts += [
            explained(html.H2("Accuracy against cost, by lambda"), "shuffled"),
            figure_card(found.trade, name=f"Accuracy against BitOps of the rules of {found.arm}"),
        ]
    return parts or [
        html.P(
            f"{found.arm} gives every sample the same bits: there is no policy to show.",
            className="muted note",
        )
    ]


def _policy_figures(policy: Policy, place: Place) -> list[Any]:
    prices = [
        (f"{one:g}", place.having("lambda", f"{one:g}"), one == policy.price)
        for one in policy.prices
    ]
    where = f"{policy.arm}, lambda {policy.price:g}"
    shares = (
        nothing("The store holds no count of allocations per layer for this rule")
        if policy.shares is None
        else figure_card(policy.shares, name=f"Allocation per layer, {where}")
    )
    spread = (
        nothing("The cost of each sample was not kept with these measurements")
        if policy.spread is None
        else figure_card(policy.spread, name=f"BitOps per sample, {where}")
    )
    return [
        html.Div(picker("lambda", prices), className="pickers"),
        explained(html.H2("Allocation per layer"), "shares"),
        shares,
        explained(html.H2("BitOps per sample"), "spread"),
        spread,
    ]
