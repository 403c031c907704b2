"""A comparison as tables for a terminal: what changes, flow by flow with reasons, what it costs, what it takes up.

Longer than its neighbours: the page (`comparison_page`) takes its groups and words from here.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from .comparison import Comparison, Cost
from .consumption import Consumption, Share
from .crossing import LOOKUPS, Crossing, Translation
from .report import Table, labelled
from .stage_cost import PARTS
from .topology import Addressing
from .traffic import Flow
from .workload import SECONDS

__all__ = [
    "STOPWATCH",
    "TAKEN",
    "agent_rows",
    "comparison_tables",
    "cost_cell",
    "flow_groups",
    "flow_rows",
    "flow_title",
    "group_name",
    "in_short",
    "lookups_text",
    "merged_changes",
    "mix_text",
    "part_rows",
    "share_text",
]

WAYS = {
    "VNET": "VNet",
    "USER_ROUTE": "route table",
    "OVERLAY": "overlay",
    "PEERING": "peering",
    "INTERNET": "load balancer",
    "LB_REPLY": "load balancer",
    "LB_RULE": "load balancer",
    "PLATFORM": "Azure",
    "NO_ROUTE": "VNet",
}
DID = {"ROUTED": "routes", "BRIDGED": "bridges", "LOCAL": "takes it", "DROP": "drops it", "FLOODED": "floods"}
WHO = """WHO TRANSLATES WHAT, BY WHICH WAY, AND WHY
sees: what arrives at the receiver; kept: why no node changes the source; way: each hop, with the route or rule for it.
Modes in one row do the same, with the first one's addresses as the example.
"""
STOPWATCH = (
    "In rounds of their own, without what the stopwatch takes; a stage is what leads to its note in explain."
)
MEANING = (
    ("pod's own", "the receiver sees the address that the sender has; node0's eth0: the node's, masqueraded"),
    ("64, 63, 62", "TTL at the receiver, of 64 at the sender: each routing node takes one, a bridge none"),
)


def comparison_tables(comparison: Comparison) -> list[Table | str]:
    """What `kubenet-fastpath compare` prints."""
    modes = tuple(comparison.crossings)
    names = tuple(mode.value for mode in modes)
    parts: list[Table | str] = [
        Table(
            "WHAT EACH FLOW'S RECEIVER SEES: whose source address, TTL",
            ("", *names),
            _rows(comparison, _seen),
        ),
        labelled(MEANING),
        Table(
            "WHICH DESTINATIONS ip-masq-agent LEAVES ALONE; all others see the node's address",
            ("", ""),
            agent_rows(comparison),
        ),
        WHO,
    ]
    for flow in comparison.flows:
        rows = []
        for group in flow_groups(comparison, flow.label):
            said = group_name(comparison, group)
            for aspect, text in flow_rows(comparison, flow.label, group):
                rows.append((said, aspect, text))
                said = ""
        parts.append(Table(flow_title(flow), ("", "", ""), rows))
    if any(comparison.cost[mode] for mode in modes):
        for first, what in (
            (False, "a packet of an established connection"),
            (True, "the first packet of one"),
        ):
            cost = [
                (flow.label, *(cost_cell(comparison, mode, flow.label, first=first) for mode in modes))
                for flow in comparison.flows
            ]
            title = f"WHAT IT COSTS: ns of CPU in all nodes on the way for {what} (kubenet's cost over it)"
            parts.append(Table(title, ("", *names), cost))
        parts.append(
            "All modes took turns in each round, on one core; a ratio is of one round, the figure the median of all. "
            "Established packets take\nthe datapath's fast path where it has one; the first packet goes all stages.\n"
        )
        title = "WHAT IT COSTS: ns of the first packet by stage: with kubenet / the median of the other modes"
        parts.append(Table(title, ("", *PARTS), part_rows(comparison)))
        parts.append(f"{STOPWATCH}\n")
    looks = f"looks into tables for the first packet, in all nodes on the way: {', '.join(LOOKUPS.values())}"
    parts.append(Table(f"WHAT IT COSTS: {looks}", ("", *names), _rows(comparison, lookups_text)))
    parts.append(mix_text(comparison))
    parts.append(
        Table("WHAT IT TAKES UP, of what there is (and what is left)", ("", *names), _taken(comparison))
    )
    parts += [
        f"{mode.value} cannot have this cluster: {why}\n" for mode, why in comparison.impossible.items()
    ]
    changes = merged_changes(comparison) or ["nothing that an end of a flow notices"]
    lines = [f"- {sentence}" for sentence in (*changes, *in_short(comparison))]
    parts.append("\n".join(["WHAT CHANGES WHEN THE CLUSTER LEAVES KUBENET", *lines]) + "\n")
    return parts


def flow_title(flow: Flow) -> str:
    """The class, and the places that stand for it."""
    dst = flow.dst.partition(":")[2] if flow.dst.startswith(("service:", "external:", "node:")) else flow.dst
    return f"{flow.label}: {flow.src} to {dst}, {'udp' if flow.proto == 17 else 'tcp'} {flow.port}"


def agent_rows(comparison: Comparison) -> list[tuple[str, str]]:
    """Mode, and the destinations that its ip-masq-agent leaves alone."""
    return [
        (mode.value, "there is none: the node masquerades nothing" if cidrs is None else ", ".join(cidrs))
        for mode, cidrs in comparison.left_alone.items()
    ]


def _rows(comparison: Comparison, cell: Callable[[Crossing], str]) -> list[tuple[str, ...]]:
    return [
        (f.label, *(cell(crossings[f.label]) for crossings in comparison.crossings.values()))
        for f in comparison.flows
    ]


def part_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A flow's ns by part of its way, with kubenet and without."""
    rows = []
    for flow in comparison.flows:
        found = {mode: comparison.ns_by_part(mode, flow.label) for mode in comparison.crossings}
        kubenet = found.pop(Addressing.KUBENET, None)
        others = [ns for ns in found.values() if ns]
        cells = []
        for part in PARTS:
            one = f"{kubenet[part]:,.0f}" if kubenet else "-"
            other = f"{median(ns[part] for ns in others):,.0f}" if others else "-"
            cells.append("-" if one in "-0" and other in "-0" else f"{one} / {other}")
        rows.append((flow.label, *cells))
    return rows


def _seen(crossing: Crossing) -> str:
    if not crossing.source_seen:
        return f"{crossing.outcome.lower()}: {crossing.reason}"
    answer = "" if crossing.answered else ", no answer"
    return f"{crossing.source_is.removeprefix('the ')}, {crossing.ttl}{answer}"


Group = list[tuple[Addressing, Crossing]]


def flow_groups(comparison: Comparison, label: str) -> list[Group]:
    """Modes that do the same with a flow, but for the addresses that they give to pods."""
    groups: list[Group] = []
    for mode, crossings in comparison.crossings.items():
        crossing = crossings[label]
        for group in groups:
            if _shape(group[0][1]) == _shape(crossing):
                group.append((mode, crossing))
                break
        else:
            groups.append([(mode, crossing)])
    return groups


def group_name(comparison: Comparison, group: Group) -> str:
    """The modes of a group, or that it is all of them."""
    if len(group) == len(comparison.crossings) > 1:
        return "all modes"
    return ", ".join(mode.value for mode, _ in group)


def _shape(crossing: Crossing) -> tuple[object, ...]:
    moved = [(t.where, t.what, t.by) for t in crossing.translations]
    return (
        crossing.outcome, crossing.reason, crossing.source_is, crossing.ttl, crossing.mtu, crossing.path, moved,
        crossing.answered,
    )  # fmt: skip


def flow_rows(comparison: Comparison, label: str, group: Group) -> list[tuple[str, str]]:
    """Label and text of each thing that there is to say of a flow, with the reason.

    The first mode's, where modes differ in the pods' addresses alone.
    """
    crossing = group[0][1]
    if not crossing.source_seen:
        said = f"{crossing.outcome.lower()}, {crossing.reason}: {crossing.because}"
        return [("verdict", said), ("way", _long_way(crossing))]
    seen = f"{crossing.source_seen}, {crossing.source_is}; TTL {crossing.ttl}, MTU {crossing.mtu}"
    rows = [("sees", seen)]
    sources = [t for t in crossing.translations if t.what == "source"]
    if not sources and crossing.source_because:
        rows.append(("kept", crossing.source_because))
        rows += _others(group, lambda c: c.source_because)
    for t in crossing.translations:
        rows.append((f"{t.what} NAT", translation_text(t)))
    rows.append(("way", _long_way(crossing)))
    spent = [text for mode, _ in group if (text := _spent(comparison.cost[mode].get(label)))]
    rows += [("ns", f"{mode.value}: {text}") for (mode, _), text in zip(group, spent, strict=False)]
    return rows


def _spent(cost: Cost | None) -> str:
    """ns of each node on the way."""
    if cost is None:
        return ""
    parts = []
    for what, rows in (("established", cost.established_at), ("first packet", cost.first_at)):
        parts.append(f"{what} " + " + ".join(f"{name} {median(ns):,.0f}" for name, ns in rows.items()))
    return "; ".join(parts)


def _others(group: Group, reason: Callable[[Crossing], str]) -> list[tuple[str, str]]:
    """Reasons of modes behind the first that are not the first's."""
    first = reason(group[0][1]).split()[-3:]
    return [("", f"{mode.value}: {reason(c)}") for mode, c in group[1:] if reason(c).split()[-3:] != first]


def translation_text(translation: Translation) -> str:
    """Where, by whom, from what to what, and why."""
    t = translation
    before, after = t.before.partition(":"), t.after.partition(":")
    moved = (
        f"{t.before} becomes {t.after}"
        if before[2] != after[2]
        else f"{before[0]} becomes {after[0]}, same port"
    )
    return f"{t.where}, {t.by}: {moved}; {t.because}"


def _long_way(crossing: Crossing) -> str:
    """Nodes and fabric, with the entries that decided, the TTL behind each node, and where it ended."""
    words = []
    for hop in crossing.hops:
        if hop.where == "VNet":
            words.append(WAYS.get(hop.did, hop.did) + (f" {hop.entry}" if hop.entry else ""))
        else:
            verb = DID.get(hop.did.partition(" ")[0], hop.did)
            words.append(f"{hop.where} {verb}" + (f", TTL {hop.ttl}" if crossing.source_seen else ""))
    if crossing.source_seen:
        answered = "answered" if crossing.answered else "but no answer comes back"
        words.append(f"{crossing.place}: {crossing.outcome.lower()}, {answered}")
    return " > ".join(words)


def lookups_text(crossing: Crossing) -> str:
    """How many looks into each kind of table, in the order of `LOOKUPS`."""
    return ", ".join(map(str, crossing.lookups.values())) if crossing.lookups else "-"


def cost_cell(comparison: Comparison, mode: Addressing, label: str, *, first: bool) -> str:
    """ns, and kubenet's over it."""
    cost = comparison.ns_per_packet(mode, label, first=first)
    ratio = comparison.ratio(mode, label, first=first)
    if cost is None:
        return "-"
    return f"{cost:,.0f}" if mode is Addressing.KUBENET or ratio is None else f"{cost:,.0f} ({ratio:.2f})"


def mix_text(comparison: Comparison) -> str:
    """What the mix was that took up what follows."""
    loads = [c.load for c in comparison.consumption.values()]
    if not loads or not loads[0].sessions:
        return "No mix of connections was carried.\n"
    sessions, packets = max(load.sessions for load in loads), max(load.packets for load in loads)
    said = f"Measured while {sessions:,} connections ({packets:,} packets) began within {SECONDS} s of virtual time"
    if comparison.mixed:
        said += (
            ", between all nodes and pods:\ntheir kinds in the shares that clusters see (name resolution most, then "
            "services), drawn with a seed; the same in every mode.\n"
        )
    else:
        said += ":\nas many of each flow as it has; the same in every mode.\n"
    for mode, c in comparison.consumption.items():
        failed = ", ".join(f"{count:,} {label}" for label, count in c.load.failed.items())
        said += f"Not answered with {mode.value}: {failed}.\n" if failed else ""
        if c.load.exhausted:
            said += f"Found no outbound port with {mode.value}: {c.load.exhausted:,} packets.\n"
    return said


def merged_changes(comparison: Comparison) -> list[str]:
    """`Comparison.changes`, with the flows of which the same is said in one line."""
    flows: dict[str, list[str]] = {}
    for sentence in comparison.changes():
        label, _, rest = sentence.partition(": ")
        flows.setdefault(rest, []).append(label)
    return [f"{'; '.join(labels)}: {rest}" for rest, labels in flows.items()]


def in_short(comparison: Comparison) -> list[str]:
    """What the cluster's owner notices: cost in all, and what is taken up."""
    said = []
    modes = [mode for mode in comparison.crossings if mode is not Addressing.KUBENET]
    if Addressing.KUBENET not in comparison.crossings or not modes:
        return []
    for first, what in ((False, "established connections"), (True, "first packets")):
        words = []
        for mode in modes:
            found = {f.label: comparison.ratio(mode, f.label, first=first) for f in comparison.flows}
            ratios = {label: ratio for label, ratio in found.items() if ratio is not None}
            if ratios:
                most = max(ratios, key=lambda label: ratios[label])
                middle = median(ratios.values())
                words.append(f"{mode.value} {middle:.2f} (most {ratios[most]:.2f}: {most})")
        if words:
            said.append(f"ns of {what}, kubenet's over a mode's, median of the flows: {'; '.join(words)}")
    taken = comparison.consumption
    counts = ", ".join(f"{mode.value} {c.vnet_addresses_reserved.used:,}" for mode, c in taken.items())
    routes = ", ".join(f"{mode.value} {c.routes.used:,}" for mode, c in taken.items())
    return [*said, f"VNet addresses to reserve: {counts}", f"user-defined routes: {routes}"]


def share_text(share: Share) -> str:
    """Used, of how many, and what is left."""
    if not share.limit:
        return f"{share.used:,}"
    return f"{share.used:,} of {share.limit:,} ({100 * share.headroom:.4g} % left)"


def _named(fullest: tuple[str, Share]) -> str:
    return f"{fullest[0]}: {share_text(fullest[1])}" if fullest[0] else "no load balancer"


TAKEN: dict[str, Callable[[Consumption], str]] = {
    "VNet addresses in use": lambda c: f"{c.vnet_addresses:,}",
    "VNet addresses to reserve": lambda c: share_text(c.vnet_addresses_reserved),
    "user-defined routes": lambda c: share_text(c.routes),
    "outbound (SNAT) ports, peak": lambda c: _named(c.fullest_snat),
    "conntrack entries, peak": lambda c: _named(c.fullest_connections),
}
NODES = 8  #: that are listed one by one


def _taken(comparison: Comparison) -> list[tuple[str, ...]]:
    consumption = list(comparison.consumption.values())
    rows = [(label, *(cell(c) for c in consumption)) for label, cell in TAKEN.items()]
    nodes = list(consumption[0].connections) if consumption else []
    for name in nodes[:NODES] if 1 < len(nodes) <= NODES else []:
        rows.append(
            (
                f"  {name}: SNAT ports, conntrack",
                *(f"{_used(c.snat_ports, name)}, {_used(c.connections, name)}" for c in consumption),
            )
        )
    return rows


def _used(shares: dict[str, Share], name: str) -> str:
    return f"{shares[name].used:,}" if name in shares else "-"
