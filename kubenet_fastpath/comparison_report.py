"""A comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from .comparison import LOOKUPS, Comparison, Consumption, Crossing
from .report import Table
from .topology import Addressing

__all__ = ["comparison_tables"]

WAYS = {
    "VNET": "VNet",
    "USER_ROUTE": "user-defined route",
    "OVERLAY": "overlay",
    "PEERING": "peering",
    "INTERNET": "load balancer",
    "LB_REPLY": "load balancer",
    "LB_RULE": "load balancer",
    "NO_ROUTE": "no route in the VNet",
}


def comparison_tables(comparison: Comparison) -> list[Table | str]:
    """What `kubenet-fastpath compare` prints."""
    modes = tuple(comparison.crossings)
    names = tuple(mode.value for mode in modes)

    def rows(cell: Callable[[Crossing], str]) -> list[tuple[str, ...]]:
        return [
            (f.label, *(cell(comparison.crossings[mode][f.label]) for mode in modes))
            for f in comparison.flows
        ]

    parts: list[Table | str] = [
        Table("whose address the receiver sees, and TTL (64 at the sender)", ("", *names), rows(_seen)),
        Table("what is translated, and where", ("", *names), rows(_translated)),
        Table("the way", ("", *names), rows(_way)),
    ]
    looks = "looks into tables for an established packet, on all nodes: " + ", ".join(LOOKUPS.values())
    parts.append(Table(looks, ("", *names), rows(_looks)))
    if any(comparison.cost[mode] for mode in modes):
        cost = [
            (flow.label, *(_cost(comparison, mode, flow.label) for mode in modes))
            for flow in comparison.flows
        ]
        parts.append(
            Table(
                "ns a packet in all nodes on the way, established (kubenet's cost over it, of the same rounds)",
                ("", *names),
                cost,
            )
        )
    parts.append(
        Table(
            "what it takes up",
            ("", *names),
            [
                (label, *(cell(comparison.consumption[mode]) for mode in modes))
                for label, cell in CONSUMPTION.items()
            ],
        )
    )
    parts += [
        f"{mode.value} cannot have this cluster: {why}\n" for mode, why in comparison.impossible.items()
    ]
    changes = comparison.changes()
    said = [f"- {sentence}" for sentence in changes] or ["- nothing that an end of a flow notices"]
    parts.append("\n".join(["what changes when the cluster leaves kubenet", *said]) + "\n")
    return parts


def _seen(crossing: Crossing) -> str:
    if crossing.outcome != "DELIVERED":
        return f"{crossing.outcome.lower()}: {crossing.reason}"
    answer = "" if crossing.answered else ", no answer"
    return f"{crossing.source_is} {crossing.source_seen.partition(':')[0]}, {crossing.ttl}{answer}"


def _translated(crossing: Crossing) -> str:
    if crossing.outcome != "DELIVERED":
        return "-"
    by_place: dict[str, list[str]] = {}
    for translation in crossing.translations:
        before, after = translation.before.partition(":"), translation.after.partition(":")
        port = f" port {before[2]}->{after[2]}" if before[2] != after[2] else ""
        by_place.setdefault(translation.where, []).append(translation.what + port)
    return "; ".join(f"{where}: {' and '.join(what)}" for where, what in by_place.items()) or "nothing"


def _way(crossing: Crossing) -> str:
    return " > ".join(WAYS.get(word, word) for word in crossing.path)


def _looks(crossing: Crossing) -> str:
    return ", ".join(map(str, crossing.lookups.values())) if crossing.lookups else "-"


def _cost(comparison: Comparison, mode: Addressing, label: str) -> str:
    cost, ratio = comparison.ns_per_packet(mode, label), comparison.ratio(mode, label)
    if cost is None:
        return "-"
    return f"{cost:,.0f}" if mode is Addressing.KUBENET or ratio is None else f"{cost:,.0f} ({ratio:.2f})"


def _of(used: int, limit: int) -> str:
    return f"{used:,} of {limit:,}" if limit else f"{used:,}"


CONSUMPTION: dict[str, Callable[[Consumption], str]] = {
    "VNet addresses, and with room for pods and an upgrade": lambda c: (
        f"{c.vnet_addresses:,}, {c.vnet_addresses_reserved:,}"
    ),
    "user-defined routes": lambda c: _of(c.routes, c.routes_limit),
    "outbound ports, node with most": lambda c: _of(c.snat_ports_peak, c.snat_ports_limit),
    "connections, node with most": lambda c: _of(c.connections_peak, c.connections_limit),
}
