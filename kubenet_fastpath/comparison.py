"""The same traffic through every addressing mode: what a receiver sees, by which way, what it costs and consumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from .address import ipv4, ipv4_text
from .batch import PacketBatch
from .carriage import Carriage
from .cluster import Cluster
from .connection import CtStatus
from .delivery import FABRIC, Delivery, Outcome, reason_name
from .errors import ConfigError, FastpathError
from .explanation import BRIDGE, CONNTRACK, NEIGHBOUR, ROUTE
from .node import Node
from .result import Result
from .topology import Addressing, Topology
from .traffic import Flow, Packet, answer, built_in_flows, question, read_packet
from .verdict import Verdict
from .vnet import MAX_USER_ROUTES

__all__ = ["Comparison", "Consumption", "Crossing", "Translation", "compare", "to_json"]

START = 10**18  #: ns; virtual time begins here
GAP = 1_000_000_000  #: ns from one flow to the next
SPORT = 40_000
LOOKUPS = {
    CONNTRACK: "conntrack",
    BRIDGE: "fdb",
    ROUTE: "routes",
    NEIGHBOUR: "neighbours",
}  #: stage -> its table
SURGE = 1  #: nodes that an upgrade adds, AKS's default


@dataclass(frozen=True, kw_only=True)
class Translation:
    """An address that something on the way changed; `what` is `source` or `destination`."""

    where: str
    what: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What one addressing mode made of a flow.

    Attributes
    ----------
    outcome, reason : str
        Of the first packet.
    place : str
        Where it ended.
    source_seen, destination_seen : str
        Address and port as the receiver has them; empty if nobody received it.
    source_is : str
        Whose address the source is: `the pod's`, `the node's`, `the bridge's`, `the load balancer's` ...
    ttl : int
        At the receiver, of 64; 0 if nobody received it.
    mtu : int
        Least on the way, bytes of an IP packet.
    path : tuple of str
        Nodes, and how the fabric carried it between them.
    translations : tuple of Translation
    answered : bool
        The answer came back to the sender from the address that it had asked.
    lookups : dict of str to int
        Looks into each kind of table for one packet of the established flow, in all nodes on the way.
    """

    outcome: str
    reason: str
    place: str
    source_seen: str
    destination_seen: str
    source_is: str
    ttl: int
    mtu: int
    path: tuple[str, ...]
    translations: tuple[Translation, ...]
    answered: bool
    lookups: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """What a cluster takes up, with the limit of each; limit None: there is none that counts."""

    vnet_addresses: int
    vnet_addresses_reserved: int  #: for all pods that may come, and one node more in an upgrade
    routes: int
    routes_limit: int
    snat_ports_peak: int  #: of the node that uses most
    snat_ports_limit: int
    connections_peak: int  #: of the node that has most
    connections_limit: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    flows : tuple of Flow
    crossings : dict
        Addressing -> flow's label -> Crossing.
    cost : dict
        Addressing -> flow's label -> ns of CPU time in all nodes on the way for one established packet, a round each.
    consumption : dict
        Addressing -> Consumption, after all flows and before any measurement.
    impossible : dict
        Addressing -> why the topology cannot have it; then it is in none of the others.
    """

    flows: tuple[Flow, ...]
    crossings: dict[Addressing, dict[str, Crossing]]
    cost: dict[Addressing, dict[str, list[float]]]
    consumption: dict[Addressing, Consumption]
    impossible: dict[Addressing, str]

    def ns_per_packet(self, addressing: Addressing, label: str) -> float | None:
        """Median over the rounds; None where the flow was not carried."""
        rounds = self.cost[addressing].get(label)
        return median(rounds) if rounds else None

    def ratio(self, addressing: Addressing, label: str) -> float | None:
        """Cost with kubenet over that of a mode: the median over the rounds, each of which had both."""
        kubenet, other = self.cost.get(Addressing.KUBENET, {}).get(label), self.cost[addressing].get(label)
        if not kubenet or not other:
            return None
        return median(k / o for k, o in zip(kubenet, other, strict=True))

    def changes(self) -> list[str]:
        """One sentence for each thing that a flow's ends notice when they leave kubenet."""
        base = self.crossings.get(Addressing.KUBENET)
        if base is None:
            return []
        found: dict[str, list[str]] = {}
        for addressing, crossings in self.crossings.items():
            for label, crossing in crossings.items():
                for sentence in _differences(label, base[label], crossing):
                    found.setdefault(sentence, []).append(addressing.value)
        return [f"{sentence} ({', '.join(modes)})" for sentence, modes in found.items()]


def _differences(label: str, old: Crossing, new: Crossing) -> list[str]:
    said = []
    if old.outcome != new.outcome:
        said.append(f"{label}: {_fate(new)}, with kubenet {_fate(old)}")
    elif old.source_is != new.source_is:
        said.append(f"{label}: the receiver sees {new.source_is} address, with kubenet {old.source_is}")
    if old.ttl and new.ttl and old.ttl != new.ttl:
        said.append(f"{label}: TTL {new.ttl} at the receiver, with kubenet {old.ttl}")
    if old.answered and not new.answered and new.outcome == old.outcome:
        said.append(f"{label}: no answer comes back")
    return said


def _fate(crossing: Crossing) -> str:
    return (
        "delivered" if crossing.outcome == "DELIVERED" else f"{crossing.outcome.lower()} ({crossing.reason})"
    )


def compare(
    topology: Topology,
    flows: Sequence[Flow] | None = None,
    *,
    addressing: Sequence[Addressing] = tuple(Addressing),
    rounds: int = 5,
    packets: int = 4096,
    connections: int = 64,
) -> Comparison:
    """Carry the same flows through a cluster with each addressing mode.

    Parameters
    ----------
    topology : Topology
    flows : sequence of Flow, optional
        One of each class that the topology has places for, if omitted.
    addressing : sequence of Addressing
    rounds : int
        Measurements of each class; all modes take turns in each. 0 measures nothing.
    packets, connections : int
        Packets of a measurement, and the connections that they belong to.

    Returns
    -------
    Comparison

    Raises
    ------
    AddressError, ConfigError
        For a topology that no mode can have, or a flow between places that it does not have.
    """
    flows = built_in_flows(topology) if flows is None else tuple(flows)
    clusters: dict[Addressing, Cluster] = {}
    impossible: dict[Addressing, str] = {}
    for mode in addressing:
        try:
            clusters[mode] = Cluster.from_topology(topology, mode)
        except FastpathError as error:
            impossible[mode] = str(error)
    if not clusters:
        raise ConfigError(
            f"no addressing mode can have this cluster: {'; '.join(sorted(set(impossible.values())))}"
        )
    crossings = {
        mode: {flow.label: _cross(cluster, flow, SPORT + k, k) for k, flow in enumerate(flows)}
        for mode, cluster in clusters.items()
    }
    consumption = {mode: _consumption(topology, mode, cluster) for mode, cluster in clusters.items()}
    cost: dict[Addressing, dict[str, list[float]]] = {mode: {} for mode in clusters}
    now = START + GAP * len(flows)
    for number, flow in enumerate(flows):
        measured = {mode: c for mode, c in clusters.items() if crossings[mode][flow.label].answered}
        if rounds and measured:
            _measure(measured, flow, now + number * GAP, rounds, packets, connections, cost)
    return Comparison(
        flows=tuple(flows), crossings=crossings, cost=cost, consumption=consumption, impossible=impossible
    )


def _cross(cluster: Cluster, flow: Flow, sport: int, number: int) -> Crossing:
    """Ask and answer once; a first packet has opened the way before, so that no ARP is in it."""
    begin = START + number * GAP
    for sport_used, at in ((sport - 10_000, begin), (sport, begin + GAP // 3)):
        asked = question(flow, cluster, sport_used)
        delivery = cluster.send(PacketBatch.from_frames([asked], time=at), flow.src)
    row = delivery.arrival(0)
    wanted = read_packet(asked)
    place = delivery.places[delivery.place[0]].name if delivery.place[0] >= 0 else "the VNet"
    if row is None:
        return Crossing(
            outcome=Outcome(delivery.outcome[0]).name,
            reason=reason_name(int(delivery.reason[0])),
            place=place,
            source_seen="",
            destination_seen="",
            source_is="",
            ttl=0,
            mtu=0,
            path=_path(cluster, delivery),
            translations=(),
            answered=False,
            lookups={},
        )
    got = bytes(delivery.arrived[row])
    seen = read_packet(got)
    receiver = delivery.places[delivery.arrived_at[row]]
    back = answer(got, receiver, cluster)
    home = cluster.send(PacketBatch.from_frames([back], time=begin + GAP // 2), receiver)
    return Crossing(
        outcome=Outcome(delivery.outcome[0]).name,
        reason=reason_name(int(delivery.reason[0])),
        place=place,
        source_seen=seen.source,
        destination_seen=seen.destination,
        source_is=_whose(cluster, flow, seen.src),
        ttl=seen.ttl,
        mtu=min(
            (cluster.nodes[n].config.mtu for n in _path(cluster, delivery) if n in cluster.nodes),
            default=1500,
        ),
        path=_path(cluster, delivery),
        translations=_translations(cluster, delivery, wanted, seen),
        answered=_came_home(cluster, flow, home, wanted),
        lookups=_lookups(cluster, flow, sport, begin + GAP * 2 // 3),
    )


def _lookups(cluster: Cluster, flow: Flow, sport: int, time: int) -> dict[str, int]:
    """Send one packet more, and count by the nodes' own notes."""
    count = dict.fromkeys(LOOKUPS.values(), 0)

    def forward(node: Node, batch: PacketBatch) -> Result:
        result, notes = node.record(batch)
        for stage in notes["stage"].tolist():
            if stage in LOOKUPS:
                count[LOOKUPS[stage]] += 1
        return result

    frame = question(flow, cluster, sport, established=True)
    cluster.send(PacketBatch.from_frames([frame], time=time), flow.src, forward=forward)
    return count


def _came_home(cluster: Cluster, flow: Flow, home: Delivery, wanted: Packet) -> bool:
    row = home.arrival(0)
    if row is None or home.places[home.arrived_at[row]].name != flow.src:
        return False
    got = read_packet(home.arrived[row])
    return (got.src, got.sport, got.dst, got.dport) == (wanted.dst, wanted.dport, wanted.src, wanted.sport)


def _path(cluster: Cluster, delivery: Delivery) -> tuple[str, ...]:
    names = list(cluster.nodes)
    words = []
    for step in delivery.path(0):
        if step["node"] == FABRIC:
            words.append(Carriage(step["reason"]).name)
        elif step["verdict"] != Verdict.HELD or delivery.outcome[0] == Outcome.HELD:
            words.append(names[step["node"]])
    return tuple(words)


def _whose(cluster: Cluster, flow: Flow, source: int) -> str:
    sender = cluster.places.get(flow.src)
    if sender is not None and sender.address == source:
        return "the pod's own" if sender.node else "the sender's own"
    for name, node in cluster.nodes.items():
        for interface in node.plan.interfaces:
            if any(source == ip for ip, _ in interface.addresses):
                return f"{name}'s {interface.name}"
    if cluster.fabric.balancer is not None and source in map(ipv4, cluster.fabric.balancer.addresses):
        return "the load balancer's"
    return "the sender's own"


def _translations(
    cluster: Cluster, delivery: Delivery, wanted: Packet, seen: Packet
) -> tuple[Translation, ...]:
    """Follow the tuple from node to node through their connection tables, and through the load balancer."""
    found: list[Translation] = []
    at = (wanted.src, wanted.sport), (wanted.dst, wanted.dport)
    names = list(cluster.nodes)
    for step in delivery.path(0):
        if step["node"] == FABRIC:
            if step["reason"] == Carriage.INTERNET:
                found += _changed("load balancer", at, ((seen.src, seen.sport), at[1]))
            continue
        name = names[step["node"]]
        rows = cluster.nodes[name].connections.to_records()
        rows = rows[
            (rows["src"] == at[0][0])
            & (rows["sport"] == at[0][1])
            & (rows["dst"] == at[1][0])
            & (rows["dport"] == at[1][1])
            & (rows["proto"] == wanted.proto)
        ]
        for row in rows[rows["status"] & (CtStatus.SRC_NAT | CtStatus.DST_NAT) != 0][:1]:
            after = (
                (int(row["reply_dst"]), int(row["reply_dport"])),
                (int(row["reply_src"]), int(row["reply_sport"])),
            )
            found += _changed(name, at, after)
            at = after
    return tuple(found)


Ends = tuple[tuple[int, int], tuple[int, int]]


def _changed(where: str, before: Ends, after: Ends) -> list[Translation]:
    return [
        Translation(where=where, what=what, before=_text(old), after=_text(new))
        for what, old, new in zip(("source", "destination"), before, after, strict=True)
        if old != new
    ]


def _text(end: tuple[int, int]) -> str:
    return f"{ipv4_text(end[0])}:{end[1]}"


def _measure(
    clusters: dict[Addressing, Cluster],
    flow: Flow,
    now: int,
    rounds: int,
    packets: int,
    connections: int,
    cost: dict[Addressing, dict[str, list[float]]],
) -> None:
    """Time established packets: every mode once in each round, so that what disturbs one disturbs all."""
    made: dict[Addressing, PacketBatch] = {}
    for mode, cluster in clusters.items():
        ports = [SPORT + 1000 + k for k in range(connections)]
        opened = PacketBatch.from_frames([question(flow, cluster, port) for port in ports], time=now)
        delivery = cluster.send(opened, flow.src)
        rows = np.flatnonzero(delivery.arrived_own)
        places = delivery.arrived_at[rows]
        backs = [
            answer(delivery.arrived[int(row)], delivery.places[place], cluster)
            for row, place in zip(rows, places, strict=True)
        ]
        cluster.send(PacketBatch.from_frames(backs, time=now + GAP // 3), places)
        frames = [question(flow, cluster, port, established=True) for port in ports]
        made[mode] = PacketBatch.from_frames(
            [frames[k % connections] for k in range(packets)], time=now + GAP // 2
        )
        cost[mode][flow.label] = []
    for number in range(rounds + 1):
        for mode, cluster in clusters.items():
            before = cluster.forward_ns
            cluster.send(made[mode], flow.src)
            if number:  # the first round warms the caches
                cost[mode][flow.label].append((cluster.forward_ns - before) / packets)


def _consumption(topology: Topology, mode: Addressing, cluster: Cluster) -> Consumption:
    nodes, pods = len(cluster.nodes), len(topology.pods)
    direct = mode in (Addressing.NODE_SUBNET, Addressing.POD_SUBNET)
    reserved = nodes + SURGE
    if mode is Addressing.NODE_SUBNET:
        reserved += (nodes + SURGE) * topology.max_pods
    elif mode is Addressing.POD_SUBNET:  # 16 at a time for each node, more when fewer than 8 are free
        counts = [sum(pod.node == name for pod in topology.pods) for name, _ in topology.nodes]
        reserved += sum(16 * max(1, -(-(count + 8) // 16)) for count in counts)
    snat = cluster.fabric.snat
    return Consumption(
        vnet_addresses=nodes + pods * direct,
        vnet_addresses_reserved=reserved,
        routes=len(cluster.vnet.routes),
        routes_limit=MAX_USER_ROUTES,
        snat_ports_peak=max(snat.peak) if snat is not None else 0,
        snat_ports_limit=snat.ports if snat is not None else 0,
        connections_peak=max((len(node.connections) for node in cluster.nodes.values()), default=0),
        connections_limit=max((node.config.conntrack_max for node in cluster.nodes.values()), default=0),
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain dictionaries."""
    modes = {}
    for mode, crossings in comparison.crossings.items():
        modes[mode.value] = {
            "flows": {
                label: asdict(crossing)
                | {
                    "ns_per_packet": comparison.ns_per_packet(mode, label),
                    "kubenet_over_this": comparison.ratio(mode, label),
                }
                for label, crossing in crossings.items()
            },
            "consumption": asdict(comparison.consumption[mode]),
        }
    return {
        "flows": [asdict(flow) for flow in comparison.flows],
        "addressing": modes,
        "impossible": {mode.value: why for mode, why in comparison.impossible.items()},
        "changes": comparison.changes(),
    }
