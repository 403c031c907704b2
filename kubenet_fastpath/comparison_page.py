"""A comparison as one self-contained HTML page with plots: light and dark, wide and narrow, and on paper.

Longer than its neighbours: one function for each section of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .comparison import Comparison
from .comparison_report import (
    STOPWATCH,
    TAKEN,
    agent_rows,
    cost_cell,
    flow_groups,
    flow_rows,
    flow_title,
    group_name,
    in_short,
    lookups_text,
    merged_changes,
    mix_text,
    part_rows,
    share_text,
)
from .consumption import Consumption, Share
from .crossing import LOOKUPS, Crossing
from .page_style import STYLE
from .stage_cost import PARTS
from .topology import Addressing

__all__ = ["comparison_page"]

TITLE = "kubenet and Azure CNI, side by side"
#: Whose address a receiver sees -> colour of its mark.
MARKS = {"pod's own": "own", "sender's own": "own", "load balancer's": "balancer"}


def comparison_page(comparison: Comparison, said: Sequence[tuple[str, str]] = ()) -> str:
    """The page: UTF-8, no script, nothing loaded from elsewhere.

    Parameters
    ----------
    comparison : Comparison
    said : sequence of (str, str)
        Label and text of what the cluster and the traffic were.
    """
    parts = [
        f"<header><h1>{TITLE}</h1><p>The same flows, packet by packet, through the same cluster with each addressing "
        "mode: what their receivers see, what a packet costs, and what the cluster takes up.</p>",
        _definitions(said),
        "</header>",
        _section("In short", _cards(comparison) + _changes(comparison)),
        _section(
            "Whose address the receiver sees",
            "<p>Of each kind of traffic, the source address and the TTL that arrive, of 64 at the sender. Marked "
            "cells differ from kubenet.</p>" + _matrix(comparison),
        ),
        _section(
            "What a packet costs",
            "<p>Nanoseconds of CPU time in all nodes on the way, median of rounds in which all modes took turns; in "
            "brackets how many times as much kubenet costs.</p>" + _plots(comparison) + _stages(comparison),
        )
        if any(comparison.cost.values())
        else "",
        _section("What it takes up", f"<p>{escape(mix_text(comparison))}</p>{_consumption(comparison)}"),
        _section("Flow by flow, with the reasons", _agents(comparison) + _details(comparison)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{TITLE}</title><style>{STYLE}</style></head><body>{''.join(parts)}"
        "<footer>Made by kubenet-fastpath compare. Virtual time, seeded: run again, everything but the nanoseconds is "
        "the same.</footer></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _definitions(rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in rows)
    return f'<dl class="said">{lines}</dl>'


def _cards(comparison: Comparison) -> str:
    """One card a mode: the figures that a decision turns on."""
    cards = []
    for k, (mode, taken) in enumerate(comparison.consumption.items()):
        figures = [
            (f"{taken.vnet_addresses_reserved.used:,}", "VNet addresses to reserve"),
            (f"{taken.routes.used:,}", "user-defined routes"),
        ]
        if mode is not Addressing.KUBENET and Addressing.KUBENET in comparison.crossings:
            figures.append(
                (str(_changed(comparison, mode)), "kinds of traffic that arrive otherwise than with kubenet")
            )
        lines = "".join(f"<li><b>{escape(n)}</b> {escape(what)}</li>" for n, what in figures)
        cards.append(f'<div class="card k{k % 4}"><h3>{escape(mode.value)}</h3><ul>{lines}</ul></div>')
    for mode, why in comparison.impossible.items():
        cards.append(f'<div class="card"><h3>{escape(mode.value)}</h3><p>cannot be: {escape(why)}.</p></div>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _changed(comparison: Comparison, mode: Addressing) -> int:
    base = comparison.crossings.get(Addressing.KUBENET, {})
    return sum(
        _key(crossing) != _key(base[label])
        for label, crossing in comparison.crossings[mode].items()
        if label in base
    )


def _key(crossing: Crossing) -> tuple[object, ...]:
    return crossing.outcome, crossing.source_is, crossing.ttl, crossing.answered


def _changes(comparison: Comparison) -> str:
    sentences = [*merged_changes(comparison), *in_short(comparison)] or [
        "Nothing that an end of a flow notices."
    ]
    lines = []
    for sentence in sentences:
        head, colon, rest = sentence.partition(": ")
        lines.append(f"<li><b>{escape(head)}</b>{colon}{escape(rest)}</li>")
    return f'<h3>What changes when the cluster leaves kubenet</h3><ul class="changes">{"".join(lines)}</ul>'


def _matrix(comparison: Comparison) -> str:
    names = "".join(f"<th scope=col>{escape(mode.value)}</th>" for mode in comparison.crossings)
    lines = []
    for flow in comparison.flows:
        cells = [crossings[flow.label] for crossings in comparison.crossings.values()]
        base = comparison.crossings.get(Addressing.KUBENET, {}).get(flow.label, cells[0])
        drawn = "".join(_cell(cell, _key(cell) != _key(base)) for cell in cells)
        lines.append(f"<tr><th scope=row>{escape(flow.label)}</th>{drawn}</tr>")
    return (
        f'<div class="wide" tabindex="0"><table class="matrix"><thead><tr><td></td>{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(crossing: Crossing, other: bool) -> str:
    if not crossing.source_seen:
        text, kind, ttl = crossing.outcome.lower(), "lost", crossing.reason
    else:
        text = crossing.source_is.removeprefix("the ")
        kind = MARKS.get(text, "node")
        ttl = f"TTL {crossing.ttl}" + ("" if crossing.answered else ", no answer")
    mark = ' class="other"' if other else ""
    return f'<td{mark}><span class="mark {kind}">{escape(text)}</span><small>{escape(ttl)}</small></td>'


def _plots(comparison: Comparison) -> str:
    """Bars of each class, one a mode, all classes of a kind of packet drawn to one scale."""
    parts = []
    for first, title in (
        (False, "A packet of an established connection"),
        (True, "The first packet of a connection"),
    ):
        costs = {
            flow.label: [
                comparison.ns_per_packet(mode, flow.label, first=first) for mode in comparison.crossings
            ]
            for flow in comparison.flows
        }
        highest = max((cost for row in costs.values() for cost in row if cost is not None), default=0.0)
        panels = []
        for label, row in costs.items():
            if not any(row):
                continue
            bars = []
            for k, (mode, cost) in enumerate(zip(comparison.crossings, row, strict=True)):
                text = cost_cell(comparison, mode, label, first=first)
                width = 0.0 if cost is None else 100 * cost / highest
                bars.append(
                    f'<span>{escape(mode.value)}</span><span class="track"><i class="k{k % 4}" '
                    f'style="width:{width:.1f}%"></i></span><span class="ns">{escape(text)}</span>'
                )
            panels.append(
                f'<figure><figcaption>{escape(label)}</figcaption><div class="bars">{"".join(bars)}</div></figure>'
            )
        parts.append(f'<h3>{title}</h3><div class="plots">{"".join(panels)}</div>')
    return "".join(parts)


def _stages(comparison: Comparison) -> str:
    names = "".join(f"<th scope=col>{escape(part)}</th>" for part in PARTS)
    lines = []
    for label, *cells in part_rows(comparison):
        drawn = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th scope=row>{escape(label)}</th>{drawn}</tr>")
    return (
        "<h3>The first packet, stage by stage</h3>"
        f"<p>Nanoseconds with kubenet / the median of the other modes. {escape(STOPWATCH)}</p>"
        f'<div class="wide" tabindex="0"><table><thead><tr><td></td>{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _consumption(comparison: Comparison) -> str:
    names = "".join(f"<th scope=col>{escape(mode.value)}</th>" for mode in comparison.consumption)
    lines = []
    for label, cell in TAKEN.items():
        cells = "".join(
            f"<td>{escape(cell(c))}{_meter(_share(label, c))}</td>" for c in comparison.consumption.values()
        )
        lines.append(f"<tr><th scope=row>{escape(label)}</th>{cells}</tr>")
    nodes: list[str] = []
    for mode, c in comparison.consumption.items():
        rows = "".join(
            f"<tr><th scope=row>{escape(name)}</th><td>{escape(_of(c.snat_ports, name))}</td>"
            f"<td>{escape(share_text(share))}</td></tr>"
            for name, share in c.connections.items()
        )
        nodes.append(
            f'<details><summary>{escape(mode.value)}, node by node</summary><div class="wide" tabindex="0"><table>'
            "<thead><tr><th scope=col>node</th><th scope=col>outbound (SNAT) ports, peak</th>"
            f"<th scope=col>conntrack entries, peak</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
        )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr><td></td>{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{''.join(nodes)}"
    )


def _of(shares: dict[str, Share], name: str) -> str:
    return share_text(shares[name]) if name in shares else "no load balancer"


def _share(label: str, taken: Consumption) -> Share | None:
    found = {
        "VNet addresses to reserve": taken.vnet_addresses_reserved,
        "user-defined routes": taken.routes,
        "outbound (SNAT) ports, peak": taken.fullest_snat[1],
        "conntrack entries, peak": taken.fullest_connections[1],
    }
    return found.get(label)


def _meter(share: Share | None) -> str:
    if share is None or not share.limit:
        return ""
    width = min(100.0, 100 * share.used / share.limit)
    least = "2px" if share.used else "0px"  # a share that is too small to see is still one
    return f'<span class="track meter"><i style="width:max({least},{width:.2f}%)"></i></span>'


def _agents(comparison: Comparison) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(mode)}</th><td>{escape(cidrs)}</td></tr>"
        for mode, cidrs in agent_rows(comparison)
    )
    return (
        "<p>ip-masq-agent gives the node's address to whatever leaves for other destinations than these:</p>"
        f'<div class="wide" tabindex="0"><table><tbody>{rows}</tbody></table></div>'
    )


def _details(comparison: Comparison) -> str:
    parts = []
    for flow in comparison.flows:
        groups = []
        for group in flow_groups(comparison, flow.label):
            rows = "".join(
                f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>"
                for label, text in flow_rows(comparison, flow.label, group)
            )
            looks = lookups_text(group[0][1])
            if looks != "-":
                rows += f"<dt>looks</dt><dd>{escape(looks)} ({escape(', '.join(LOOKUPS.values()))})</dd>"
            groups.append(f"<h4>{escape(group_name(comparison, group))}</h4><dl>{rows}</dl>")
        parts.append(f"<details><summary>{escape(flow_title(flow))}</summary>{''.join(groups)}</details>")
    return "".join(parts)
