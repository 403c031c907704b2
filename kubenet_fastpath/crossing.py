"""One flow's way through a cluster: what its receiver sees, who changed it where, and why.

Nothing here knows addressing modes: it reads what the nodes' pipelines noted, their connection tables, and the rules
and routes that they and the VNet have. Longer than its neighbours, for each thing that is seen has its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .address import ipv4, ipv4_text, prefix_text
from .batch import PacketBatch
from .carriage import Carriage
from .cluster import Cluster
from .delivery import FABRIC, Delivery, Outcome, reason_name
from .explanation import BRIDGE, CONNTRACK, EMIT, INPUT, NEIGHBOUR, ROUTE, SERVICE, VERDICT, hop_text
from .node import Node
from .node_config import Masquerade
from .plan import MARK_HOST_PORT, MARK_MASQ
from .reason_text import reason_text
from .recorder import NOTE
from .result import Result
from .service import PROTOCOLS, TrafficPolicy
from .traffic import Flow, Packet, answer, question, read_packet
from .verdict import Reason, Verdict

__all__ = ["GAP", "LOOKUPS", "Crossing", "Hop", "Translation", "cross"]

GAP = 1_000_000_000  #: ns that a flow takes
OPENING, OPENINGS = 9_000, 16  #: source port below the flow's, and how many
LOOKUPS = {
    CONNTRACK: "conntrack",
    SERVICE: "services",
    BRIDGE: "fdb",
    ROUTE: "routes",
    NEIGHBOUR: "neighbours",
}  #: stage -> its table
SELF = (
    "the endpoint is the sender itself, behind the port that it came from; since Linux 6.9 the copy that a promiscuous "
    "bridge hands to the host has no connection, and kube-proxy drops it"
)


@dataclass(frozen=True, kw_only=True)
class Translation:
    """An address that something on the way changed; `what` is `source` or `destination`, `by` whose rule it was."""

    where: str
    what: str
    before: str
    after: str
    by: str
    because: str


@dataclass(frozen=True, kw_only=True)
class Hop:
    """A node or the fabric on the way: what it did, by which route or rule, why, and the TTL behind it."""

    where: str
    did: str
    entry: str
    because: str
    ttl: int


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What one addressing mode made of a flow.

    Attributes
    ----------
    outcome, reason, because : str
        Of the first packet; the reason's name and what it means.
    place : str
        Where it ended.
    source_seen, destination_seen : str
        Address and port as the receiver has them; empty if nobody received it.
    source_is, source_because : str
        Whose address the source is (`the pod's own`, `node0's eth0`, `the load balancer's` ...), and why.
    ttl, ttl_because
        At the receiver, of 64; 0 if nobody received it.
    mtu, mtu_because
        Least on the way, bytes of an IP packet.
    path : tuple of str
        Nodes, and how the fabric carried it between them.
    hops : tuple of Hop
        The same with reasons.
    translations : tuple of Translation
    answered : bool
        The answer came back to the sender from the address that it had asked.
    lookups : dict of str to int
        Looks into each kind of table for the packet that begins the flow, in all nodes on the way.
    """

    outcome: str
    reason: str
    because: str
    place: str
    source_seen: str
    destination_seen: str
    source_is: str
    source_because: str
    ttl: int
    ttl_because: str
    mtu: int
    mtu_because: str
    path: tuple[str, ...]
    hops: tuple[Hop, ...]
    translations: tuple[Translation, ...]
    answered: bool
    lookups: dict[str, int]


def cross(cluster: Cluster, flow: Flow, sport: int, begin: int) -> Crossing:
    """Ask and answer once; some packets have opened the way before, to each endpoint, so that no ARP is in it.

    Parameters
    ----------
    cluster : Cluster
    flow : Flow
    sport : int
        Packets before have ports that are up to 9,000 less.
    begin : int
        ns of virtual time; it takes `GAP`.
    """
    openings = [question(flow, cluster, sport - OPENING - k) for k in range(OPENINGS)]
    cluster.send(PacketBatch.from_frames(openings, time=begin), flow.src)
    frame = question(flow, cluster, sport)
    notes: list[Any] = []
    delivery = cluster.send(
        PacketBatch.from_frames([frame], time=begin + GAP // 3), flow.src, forward=_recording(notes.append)
    )
    walk = _Walk(cluster, flow, read_packet(frame), delivery, notes)
    seen, answered = walk.seen, False
    row = delivery.arrival(0)
    if row is not None:
        receiver = delivery.places[delivery.arrived_at[row]]
        back = answer(bytes(delivery.arrived[row]), receiver, cluster)
        home = cluster.send(PacketBatch.from_frames([back], time=begin + GAP // 2), receiver)
        answered = _came_home(home, flow, walk.wanted)
    elif seen is not None:
        answered = _came_home(delivery, flow, walk.wanted, own=False)
    return walk.crossing(answered)


def _recording(keep: Callable[[Any], None]) -> Callable[[Node, PacketBatch], Result]:
    def forward(node: Node, batch: PacketBatch) -> Result:
        result, notes = node.record(batch)
        keep(notes)
        return result

    return forward


def _came_home(home: Delivery, flow: Flow, wanted: Packet, *, own: bool = True) -> bool:
    for row in np.flatnonzero(home.arrived_own == own).tolist():
        if home.places[home.arrived_at[row]].name == flow.src:
            got = read_packet(home.arrived[row])
            if (got.src, got.sport, got.dst, got.dport) == (
                wanted.dst,
                wanted.dport,
                wanted.src,
                wanted.sport,
            ):
                return True
    return False


End = tuple[int, int]


def _text(end: End) -> str:
    return f"{ipv4_text(end[0])}:{end[1]}"


class _Walk:
    """Follows a packet's tuple from node to node: connection tables say what changed, notes and rules say why."""

    def __init__(
        self, cluster: Cluster, flow: Flow, wanted: Packet, delivery: Delivery, notes: list[Any]
    ) -> None:
        self.cluster, self.flow, self.wanted, self.delivery = cluster, flow, wanted, delivery
        self.translations: list[Translation] = []
        self.hops: list[Hop] = []
        self.source, self.destination = (wanted.src, wanted.sport), (wanted.dst, wanted.dport)
        self.lookups = dict.fromkeys(LOOKUPS.values(), 0)
        self.kept = ""  # why the first node did not change the source
        self._names = list(cluster.nodes)
        self._notes = list(notes)
        self._local: Packet | None = None
        self.seen = self._arrived()
        self._at = cluster.places[flow.src].node or flow.src
        for step in delivery.path(0):
            if step["node"] == FABRIC:
                self._through_fabric(Carriage(step["reason"]), int(step["ttl"]))
            else:
                self._through_node(step)
        if self.seen is None:
            self.seen = self._local

    def _arrived(self) -> Packet | None:
        row = self.delivery.arrival(0)
        return None if row is None else read_packet(bytes(self.delivery.arrived[row]))

    def _through_node(self, step: Any) -> None:
        name = self._names[step["node"]]
        notes = self._notes.pop(0) if self._notes else np.empty(0, NOTE)
        verdict, reason = Verdict(step["verdict"]), Reason(step["reason"])
        node, dst_before = self.cluster.nodes[name], self.destination
        mine = notes[(notes["source"] == 0) & (notes["ours"] == 0) & (notes["stage"] != VERDICT)]
        for stage in mine["stage"].tolist():
            if stage in LOOKUPS:
                self.lookups[LOOKUPS[stage]] += 1
        mark = int(np.bitwise_or.reduce(mine["mark"])) if len(mine) else 0
        left = mine[(mine["stage"] == EMIT) | (mine["stage"] == INPUT)]
        after = left[0] if len(left) else mine[-1] if len(mine) else None
        if after is not None:
            got = read_packet(bytes(14) + after["head"].tobytes()[: int(after["length"])])
            self._translated(name, node, mark, got)
            if verdict is Verdict.LOCAL:
                self._local = got
        if not self.kept and verdict in (Verdict.BRIDGED, Verdict.ROUTED, Verdict.FLOODED, Verdict.HELD):
            self.kept = _kept(node, self.destination[0])
        entry, because = "", reason_text(reason.name)
        if verdict is Verdict.BRIDGED:
            entry, because = "fdb", "its bridge has the receiver's port: no routing, no hop"
        elif verdict is Verdict.ROUTED:
            found = node.routes.longest_match(ipv4_text(self.destination[0]))
            entry = "" if found is None else f"{found[0]} {hop_text(node.next_hops[found[1]])}"
        elif verdict is Verdict.LOCAL:
            because = f"{ipv4_text(dst_before[0])} is its own address"
        elif reason is Reason.SAME_PORT and self.destination[0] == self.source[0]:
            because = SELF
        elif verdict is Verdict.HELD and self.delivery.outcome[0] != Outcome.HELD:
            because = "it waited for the next hop's MAC"
        ttl = int(step["ttl"]) if after is None else got.ttl
        did = f"{verdict.name} {reason.name}"
        self.hops.append(Hop(where=name, did=did, entry=entry, because=because, ttl=ttl))
        self._at = name

    def _translated(self, name: str, node: Node, mark: int, after: Packet) -> None:
        source, destination = (after.src, after.sport), (after.dst, after.dport)
        if destination != self.destination:
            by, because = self._why_destination(node, destination)
            self._add(name, "destination", self.destination, destination, by, because)
        if source != self.source:
            by, because = self._why_source(node, destination, mark)
            self._add(name, "source", self.source, source, by, because)
        self.source, self.destination = source, destination

    def _add(self, where: str, what: str, before: End, after: End, by: str, because: str) -> None:
        self.translations.append(
            Translation(
                where=where, what=what, before=_text(before), after=_text(after), by=by, because=because
            )
        )

    def _why_destination(self, node: Node, after: End) -> tuple[str, str]:
        to = self._owner(after[0])
        dst, port = ipv4_text(self.destination[0]), self.destination[1]
        for service in self.cluster.services:
            for row in service.ports:
                if PROTOCOLS[row.protocol] != self.wanted.proto:
                    continue
                outside = row.node_port == port or dst in service.outside
                if outside and service.external_traffic_policy is TrafficPolicy.LOCAL:
                    self.kept = (
                        f"externalTrafficPolicy Local of {service.name}: kube-proxy takes endpoints of this node "
                        "alone, so the answer passes here anyway"
                    )
                if row.port == port and dst in (service.cluster_ip, *service.outside):
                    return "kube-proxy", f"{dst} is service {service.name}, {to} the endpoint that it draws"
                if row.node_port == port:
                    return "kube-proxy", f"{port} is a node port of service {service.name}, {to} its endpoint"
        return "portmap", f"{port} is a host port of {to}"

    def _why_source(self, node: Node, destination: End, mark: int) -> tuple[str, str]:
        dst = ipv4_text(destination[0])
        for rule in node.plan.snat:
            if (rule.dst, rule.proto, rule.port) == (destination[0], self.wanted.proto, destination[1]):
                return "Azure CNS", f"{dst} port {destination[1]} answers nodes, not pods of the VNet"
        if mark & MARK_MASQ:
            if destination[0] == self.source[0]:
                return "kube-proxy", "the endpoint is the sender itself, which would not take its own address"
            if self.cluster.places[self.flow.src].node is None:
                why = "it came from outside, and externalTrafficPolicy Cluster has the answer pass here again"
                return "kube-proxy", why
            return "kube-proxy", f"the sender is outside {node.config.cluster}"
        if mark & MARK_HOST_PORT:
            return "portmap", "the answer has to pass here again"
        return "ip-masq-agent", f"{dst} is in no CIDR that it leaves alone"

    def _owner(self, address: int) -> str:
        for place in self.cluster.places.values():
            if place.address == address and place.address:
                return place.name
        return ipv4_text(address)

    def _through_fabric(self, how: Carriage, ttl: int) -> None:
        fabric = self.cluster.fabric
        because, number = reason_text(how.name), self._nic()
        entry = "" if number is None else str(fabric.route_of(number, self.destination[0]))
        if how is Carriage.USER_ROUTE:
            entry += f", which is {self._owner_of_route(number)}"
        elif how is Carriage.OVERLAY:
            entry = fabric.overlay_of(self.destination[0]) or ""
        elif how is Carriage.LB_RULE:
            entry = f"rule for {_text(self.destination)}"
            because = "floating IP: it translates nothing"
        elif how is Carriage.INTERNET and self.seen is not None and number is not None:
            after = self.seen.src, self.seen.sport
            why = f"{self._at} has {fabric.snat.ports:,} outbound ports of it" if fabric.snat else ""
            if after != self.source:
                self._add("load balancer", "source", self.source, after, "its outbound rule", why)
                self.source = after
        self.hops.append(Hop(where="VNet", did=how.name, entry=entry, because=because, ttl=ttl))

    def _nic(self) -> int | None:
        names = [nic.name for nic in self.cluster.fabric.nics]
        return names.index(self._at) if self._at in names else None

    def _owner_of_route(self, number: int | None) -> str:
        if number is None:
            return "?"
        return self._owner(self.cluster.fabric.route_of(number, self.destination[0]).address)

    def crossing(self, answered: bool) -> Crossing:
        """All of it."""
        delivery, seen = self.delivery, self.seen
        reason = reason_name(int(delivery.reason[0]))
        nodes = [hop.where for hop in self.hops if hop.where in self.cluster.nodes]
        mtus = {name: self.cluster.nodes[name].config.mtu for name in nodes}
        changed = [t for t in self.translations if t.what == "source"]
        because = f"{changed[-1].where}, {changed[-1].by}: {changed[-1].because}" if changed else self.kept
        place = delivery.places[delivery.place[0]].name if delivery.place[0] >= 0 else "the VNet"
        last = self.hops[-1] if self.hops and seen is None else None
        lost = "" if last is None else last.because + (f" ({last.entry})" if last.entry else "")
        return Crossing(
            outcome=Outcome(delivery.outcome[0]).name,
            reason=reason,
            because=lost or reason_text(reason),
            place=place,
            source_seen=seen.source if seen else "",
            destination_seen=seen.destination if seen else "",
            source_is=_whose(self.cluster, self.flow, seen.src) if seen else "",
            source_because=because if seen else "",
            ttl=seen.ttl if seen else 0,
            ttl_because=_ttl_because(self.hops) if seen else "",
            mtu=min(mtus.values(), default=1500) if seen else 0,
            mtu_because=_mtu_because(mtus) if seen else "",
            path=tuple(hop.did if hop.where == "VNet" else hop.where for hop in self.hops),
            hops=tuple(self.hops),
            translations=tuple(self.translations) if seen else (),
            answered=answered,
            lookups=self.lookups if seen else {},
        )


def _kept(node: Node, dst: int) -> str:
    """Why a node leaves the source alone; empty where it does not."""
    if node.config.masquerade is Masquerade.NONE:
        return "the nodes masquerade nothing"
    for network, mask in node.plan.source_nat.direct if node.plan.source_nat is not None else ():
        if not (dst ^ network) & mask:
            cidr = prefix_text(network, mask.bit_count())
            return f"{ipv4_text(dst)} is in {cidr}, which ip-masq-agent leaves alone"
    return ""


def _ttl_because(hops: list[Hop]) -> str:
    words = []
    for hop in hops:
        if hop.did.startswith("ROUTED"):
            words.append(f"{hop.where} routes, 1 less")
        elif hop.did.startswith("BRIDGED"):
            words.append(f"{hop.where} bridges, none less")
        elif hop.did.startswith("LOCAL"):
            words.append(f"{hop.where} takes it")
    return "; ".join(words) or "nothing on the way routes it"


def _mtu_because(mtus: dict[str, int]) -> str:
    if not mtus:
        return "no node is on the way"
    same = len(set(mtus.values())) == 1
    said = ", ".join(mtus) if same else ", ".join(f"{name} {mtu}" for name, mtu in mtus.items())
    return f"eth0 and the pods' veths of {said}; the fabric adds no header"


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
