"""One packet's way through a node in words: each stage, the entry that decided, the header, what it left behind.

The stages are the pipeline's own notes (`recorder`); this module only reads them out. Longer than its neighbours: each
kind of entry that can decide has words of its own, and both families' headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .address import ipv4_text, ipv6_text, mac_text
from .batch import PacketBatch
from .connection import CtInfo, CtStatus
from .drop_reason import drop_reason
from .node import Node
from .node_plan import LOOPBACK, NextHop, RouteType
from .result import Result
from .verdict import Reason, Verdict

__all__ = ["STAGES", "Explanation", "Stage", "explain", "explained", "hop_text"]

#: In the numbers of recorder.pxd.
STAGES = (
    "receive", "reassembly", "conntrack", "service", "destination NAT", "bridge", "route", "input", "forward", "output",
    "source NAT", "confirm", "postrouting", "neighbour", "duplicate filter", "emit", "verdict",
)  # fmt: skip
RECEIVE, REASSEMBLY, CONNTRACK, SERVICE, DESTINATION_NAT, BRIDGE, ROUTE, INPUT, FORWARD, OUTPUT = range(10)
SOURCE_NAT, CONFIRM = 10, 11
POSTROUTING, NEIGHBOUR, DUPLICATE, EMIT, VERDICT = range(12, 17)
NO_CONN = NO_HOP = 0xFFFFFFFF
FLOOD, LOCAL = 0xFFFFFFFF, 0xFFFFFFFE  # of the FDB, as uint32
ETH_IP, ETH_ARP, ETH_IP6 = 0x0800, 0x0806, 0x86DD
COPY = "(the host's copy: it has no connection)"
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
EXTENSIONS = (0, 43, 51, 60)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a packet met in one stage.

    Attributes
    ----------
    name : str
        One of `STAGES`.
    device : str
        Interface that the packet is on.
    entry : str
        The table's row, or the rule, that decided; empty if there is none.
    before, header : str
        The packet in front of the stage, and behind it.
    state : str
        What the stage made or changed; empty if nothing.
    generated : bool
        The packet is one that the node made: an ICMP error, an answer.
    fate : str
        Empty where the packet went on.
    """

    name: str
    device: str
    entry: str
    before: str
    header: str
    state: str
    generated: bool
    fate: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A packet's whole way.

    Attributes
    ----------
    verdict, reason : str
        Names of `Verdict` and `Reason`.
    drop_reason : str
        The kernel's name for why it is gone; empty if it lives.
    stages : tuple of Stage
    outputs : tuple of (str, str)
        Port and header of each frame that left because of it.
    """

    verdict: str
    reason: str
    drop_reason: str
    stages: tuple[Stage, ...]
    outputs: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The way, a line or more a stage."""
        lines = []
        header = ""
        width = max(
            len(name) for name in ("verdict", *(s.device for s in self.stages), *(p for p, _ in self.outputs))
        )
        for stage in self.stages:
            mine = "* " if stage.generated else "  "
            lines.append(f"{mine}{stage.name:<17}{stage.device:<{width}}  {stage.entry}".rstrip())
            if stage.header and stage.header != header:
                lines.append(f"{'':<19}{stage.header}")
                header = stage.header
            if stage.state:
                lines.append(f"{'':<19}+ {stage.state}")
            if stage.fate:
                lines.append(f"{'':<19}! {stage.fate}")
        for port, left in self.outputs:
            lines.append(f"  {'out':<17}{port:<{width}}  {left}")
        end = f"{self.verdict}, {self.reason}"
        lines.append(
            f"  {'verdict':<17}{'':<{width}}  {end}"
            + (f" (SKB_DROP_REASON_{self.drop_reason})" if self.drop_reason else "")
        )
        if any(stage.generated for stage in self.stages):
            lines.append("  * is about a packet that the node made because of this one")
        return "\n".join(lines) + "\n"


def explain(node: Node, batch: PacketBatch) -> list[Explanation]:
    """Forward a batch and say of each of its packets which way it took, and why.

    Parameters
    ----------
    node : Node
        It forwards the batch as `Node.forward` does: its tables and counters move.
    batch : PacketBatch
        Rewritten in place.

    Returns
    -------
    list of Explanation
        One a packet; what timers did in between is nobody's.

    Raises
    ------
    TypeError, ValueError
        As `Node.forward`.

    Notes
    -----
    Which entry decided is noted when it does. What it is called, a connection's ends and a neighbour's address, is read
    after the batch: one that a later packet of the batch changed is shown as that left it.
    """
    return explained(node, batch)[1]


def explained(node: Node, batch: PacketBatch) -> tuple[Result, list[Explanation]]:
    """As `explain`; with the result, as `Node.forward` returns it."""
    result, notes = node.record(batch)
    reader = _Reader(node)
    left = result.packets(None)
    headers = left.headers()
    names = {port.index: port.name for port in node.ports.values()}
    found = []
    for index in range(len(batch)):
        reason = Reason(result.reason[index])
        mine = notes[(notes["source"] == index) & (notes["stage"] < EMIT)]
        outputs = np.flatnonzero(result.outputs["source"] == index)
        found.append(
            Explanation(
                verdict=Verdict(result.verdict[index]).name,
                reason=reason.name,
                drop_reason=drop_reason(reason),
                stages=_ended(list(reader.stages(mine)), Verdict(result.verdict[index]), reason),
                outputs=tuple(
                    (names[int(result.outputs["port"][k])], _frame(bytes(left[int(k)]), headers[k]))
                    for k in outputs
                ),
            )
        )
    return result, found


def _ended(stages: list[Stage], verdict: Verdict, reason: Reason) -> tuple[Stage, ...]:
    """The stages of a packet; where it was dropped between two of them, the one in front says so."""
    fate = f"{verdict.name}, {reason.name}"
    own = [k for k, s in enumerate(stages) if not s.generated and not s.entry.endswith(COPY)]
    if verdict is Verdict.DROP and own and fate not in (stages[k].fate for k in own):
        stages[own[-1]] = replace(stages[own[-1]], fate=fate)
    return tuple(stages)


def _frame(frame: bytes, header: Any) -> str:
    macs = f"{mac_text(header['eth_src'])} > {mac_text(header['eth_dst'])}"
    return f"{macs} {_header(int(header['eth_type']), frame[int(header['l3_offset']) :])}"


def _header(eth_type: int, l3: bytes) -> str:
    """A network header and the ports behind it, on one line."""
    if eth_type == ETH_ARP and len(l3) >= 28:
        op, target, sender = int.from_bytes(l3[6:8], "big"), _ip(l3[24:28]), _ip(l3[14:18])
        return (
            f"arp who-has {target} tell {sender}"
            if op == 1
            else f"arp {sender} is-at {mac_text(int.from_bytes(l3[8:14], 'big'))}"
        )
    if eth_type == ETH_IP6 and len(l3) >= 40 and l3[0] >> 4 == 6:
        return _header6(l3)
    if eth_type != ETH_IP or len(l3) < 20 or l3[0] >> 4 != 4:
        return f"ethertype 0x{eth_type:04x}" if eth_type else ""
    size, fragment = (l3[0] & 15) * 4, int.from_bytes(l3[6:8], "big")
    ends, words = _transport([_ip(l3[12:16]), _ip(l3[16:20])], l3[9], b"" if fragment & 0x1FFF else l3[size:])
    if fragment & 0x3FFF:
        words.append(f"fragment {(fragment & 0x1FFF) * 8}{'+' if fragment & 0x2000 else ''}")
    return " ".join(
        [PROTOCOLS.get(l3[9], f"proto {l3[9]}"), f"{ends[0]} > {ends[1]}", f"ttl {l3[8]}", *words]
    )


def _transport(ends: list[str], proto: int, l4: bytes) -> tuple[list[str], list[str]]:
    """The ends with their ports, and what else is worth saying."""
    words = []
    if proto in (6, 17) and len(l4) >= 4:
        ports = struct.unpack("!HH", l4[:4])
        ends = [
            f"[{end}]:{port}" if ":" in end else f"{end}:{port}"
            for end, port in zip(ends, ports, strict=True)
        ]
    if proto == 6 and len(l4) >= 14:
        names = [
            name for bit, name in enumerate(("FIN", "SYN", "RST", "PSH", "ACK", "URG")) if l4[13] >> bit & 1
        ]
        words.append(",".join(names) or "no flags")
    if proto in (1, 58) and len(l4) >= 2:
        words.append(f"type {l4[0]} code {l4[1]}")
    return ends, words


def _header6(l3: bytes) -> str:
    kind, at = l3[6], 40
    while kind in EXTENSIONS and len(l3) >= at + 2:
        kind, at = l3[at], at + ((l3[at + 1] + 2) * 4 if kind == 51 else (l3[at + 1] + 1) * 8)
    ends, words = _transport([_ip(l3[8:24]), _ip(l3[24:40])], kind, l3[at:])
    if kind == 44 and len(l3) >= at + 4:
        field = int.from_bytes(l3[at + 2 : at + 4], "big")
        words.append(f"fragment {field & 0xFFF8}{'+' if field & 1 else ''}")
        kind = l3[at]
    return " ".join(
        [PROTOCOLS.get(kind, f"proto {kind}"), f"{ends[0]} > {ends[1]}", f"hop limit {l3[7]}", *words]
    )


def _ip(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    return ipv4_text(number) if len(data) == 4 else ipv6_text(number)


class _Reader:
    """Knows the node's tables, to name what a note's numbers mean."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._devices = node.devices()
        records = (node.connections.to_records(node.now, family=family) for family in (4, 6))
        self._connections = {int(row["index"]): row for rows in records for row in rows}
        self._neighbours = {
            (family, int(row["dev"]), int(row["ip"])): row
            for family, table in ((4, node.neighbours), (6, node.neighbours6))
            for row in table.to_records()
        }

    def _address(self, number: int, note: Any) -> str:
        """The address that a note has a number for: of IPv6 a handle."""
        if note["eth_type"] != ETH_IP6:
            return ipv4_text(number)
        return ipv6_text(self._node.addresses[number])

    def _device(self, index: int) -> str:
        return "lo" if index == LOOPBACK else self._devices.get(index, f"port {index}")

    def stages(self, notes: Any) -> Iterator[Stage]:
        """A packet's stages; what the bridge passed up beside what it sent on has lost its connection, and is named."""
        bridged = False
        before = {False: "", True: ""}  # of the packet itself, and of what the node made because of it
        for note in notes:
            copy = bridged and note["info"] == CtInfo.INVALID and not note["ours"]
            stage = self._stage(note)
            stage = replace(stage, before=before[stage.generated] or stage.header)
            before[stage.generated] = stage.header
            yield (replace(stage, entry=f"{stage.entry} {COPY}") if copy else stage)
            bridged |= note["stage"] == BRIDGE and note["info"] != CtInfo.INVALID and note["value"] < LOCAL

    def _stage(self, note: Any) -> Stage:
        stage, fate = int(note["stage"]), int(note["fate"])
        l3 = note["head"].tobytes()[: int(note["length"])]
        said = ""
        if fate >= 0:
            said = f"{Verdict(fate >> 8).name}, {Reason(fate & 0xFF).name}"
        return Stage(
            name=STAGES[stage],
            device=self._device(int(note["dev"])),
            entry=self._entry(stage, note, l3, fate),
            before="",
            header=_header(int(note["eth_type"]), l3),
            state=self._state(stage, note),
            generated=bool(note["ours"]),
            fate=said,
        )

    def _entry(self, stage: int, note: Any, l3: bytes, fate: int) -> str:
        value = int(note["value"])
        if stage == RECEIVE:
            to, sender = (mac_text(int.from_bytes(note["macs"][k : k + 6].tobytes(), "big")) for k in (0, 6))
            return f"from {self._device(value)}, {sender} > {to}"
        if stage == CONNTRACK:
            state = CtInfo(note["info"])
            return f"ctstate {state.name}" + (self._connection(note) if state is not CtInfo.NEW else "")
        if stage == SERVICE:
            return f"{self._service(l3)} -> {self._address(value, note)}"
        if stage == BRIDGE:
            to = mac_text(int.from_bytes(note["macs"][:6].tobytes(), "big"))
            if value == LOCAL:
                return f"fdb {to} is the bridge's own"
            return f"fdb {to} " + (
                "unknown: to every port" if value == FLOOD else f"dev {self._device(value)}"
            )
        if stage in (ROUTE, OUTPUT) and len(l3) >= 20:
            six = note["eth_type"] == ETH_IP6
            return self._route(_ip(l3[24:40] if six else l3[16:20]), value)
        if stage == FORWARD:
            return f"out {self._device(value)}" + (
                ", kube-proxy's rules" if self._node.config.kube_proxy else ""
            )
        if stage == POSTROUTING:
            return f"out {self._device(value)}"
        if stage == NEIGHBOUR:
            family = 6 if note["eth_type"] == ETH_IP6 else 4
            row = self._neighbours.get((family, int(note["dev"]), value))
            lladdr = f" lladdr {mac_text(int(row['mac']))}" if row is not None and fate < 0 else ""
            return f"{self._address(value, note)} dev {self._device(int(note['dev']))}{lladdr}"
        if stage == DUPLICATE:
            return "ebtables: the bridge's MAC with a pod's address"
        return ""

    def _state(self, stage: int, note: Any) -> str:
        if stage == CONFIRM:
            return f"connection{self._connection(note)}"
        mark = int(note["mark"])
        return f"mark 0x{mark:x}" if mark and stage == SERVICE else ""

    def _connection(self, note: Any) -> str:
        row = self._connections.get(int(note["conn"]))
        if row is None:
            return ""

        def end(side: str) -> str:
            address, port = row[side], row[side.replace("src", "sport").replace("dst", "dport")]
            if address.ndim:
                return f"[{_ip(address.tobytes())}]:{port}"
            return f"{ipv4_text(address)}:{port}"

        ends = f" {end('src')} > {end('dst')}, answers {end('reply_src')} > {end('reply_dst')}"
        nat = [
            name
            for bit, name in ((CtStatus.SRC_NAT, "SNAT"), (CtStatus.DST_NAT, "DNAT"))
            if row["status"] & bit
        ]
        return f"{ends} {' '.join(nat)}".rstrip()

    def _service(self, l3: bytes) -> str:
        six = l3[:1] and l3[0] >> 4 == 6
        at = 40 if six else (l3[0] & 15) * 4 if l3 else 0
        if len(l3) < at + 4 or len(l3) < 24:
            return "service"
        dst, port = _ip(l3[24:40] if six else l3[16:20]), struct.unpack_from("!H", l3, at + 2)[0]
        for service in self._node.services:
            for row in service.ports:
                if dst in (service.cluster_ip, *service.outside) and row.port == port:
                    return f"service {service.name} {dst}:{port}"
                if row.node_port == port:
                    return f"service {service.name} node port {port}"
        return f"host port {port}"

    def _route(self, dst: str, index: int) -> str:
        if index == NO_HOP:
            return f"no route to {dst}"
        six = ":" in dst
        found = (self._node.routes6 if six else self._node.routes).longest_match(dst)
        prefix = found[0] if found is not None else f"{dst}/{128 if six else 32}"
        return f"{prefix} {hop_text(self._node.next_hops[index])}"


def hop_text(hop: NextHop) -> str:
    """A next hop as `ip route` has it."""
    words = [] if hop.type is RouteType.UNICAST else [hop.type.name.lower()]
    text = ipv4_text if hop.family == 4 else ipv6_text
    if hop.gateway:
        words.append(f"via {text(hop.gateway)}")
    if hop.dev is not None:
        words.append(f"dev {hop.dev}")
    if hop.source:
        words.append(f"src {text(hop.source)}")
    return " ".join(words)
