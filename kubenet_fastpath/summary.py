"""What a replay did, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .result import Result
from .verdict import Reason, Verdict

__all__ = ["PATHS", "Summary", "Traffic"]

#: Of a packet that lived, the way it took; of any other the verdict says it.
WAYS = {Reason.ROUTE: "routed", Reason.MASQUERADE: "masqueraded", Reason.NAT_REPLY: "nat_reply"}
PATHS = ("bridged", "flooded", "routed", "masqueraded", "nat_reply", "local", "held", "dropped")


@dataclass
class Traffic:
    """Packets, and their bytes on the wire."""

    packets: int = 0
    bytes: int = 0

    def add(self, packets: Any, size: Any) -> None:
        self.packets += int(packets)
        self.bytes += int(size)


@dataclass
class Summary:
    """What a replay did.

    Attributes
    ----------
    capture, pod_cidr, why, node_ip, bridge_ip, cluster_cidr
        What was replayed, and how its parts were handed out.
    pods : tuple of str
        Addresses of the pods.
    notes : list of str
        What to know before reading on.
    packets : Traffic
        All that went in.
    paths : dict of str to Traffic
        What became of them, one path each: `PATHS`.
    drops : dict of str to Traffic
        The dropped ones by `Reason`.
    outputs : dict of str to Traffic
        What left by each port, copies of flooded frames and generated ones among it.
    generated : int
        Packets that the node made itself: ARP, ICMP, RST.
    connections : int
        Connections made; `connections_open` were left at the end.
    nat_ports : dict of str to int
        Ports of the node's address that masquerading used, by protocol; ids of ICMP.
    redirected : int
        Answers that went to the node's address, because that is what their senders saw.
    seconds : float
        From the first packet to the last, in the capture's time.
    forward_ns : int
        Wall-clock time in `Node.forward`, nothing else.
    """

    capture: str
    pod_cidr: str
    why: str
    node_ip: str
    bridge_ip: str
    cluster_cidr: str
    pods: tuple[str, ...]
    notes: list[str]
    packets: Traffic = field(default_factory=Traffic)
    paths: dict[str, Traffic] = field(default_factory=lambda: {path: Traffic() for path in PATHS})
    drops: dict[str, Traffic] = field(default_factory=dict)
    outputs: dict[str, Traffic] = field(default_factory=dict)
    generated: int = 0
    connections: int = 0
    connections_open: int = 0
    nat_ports: dict[str, int] = field(default_factory=dict)
    redirected: int = 0
    seconds: float = 0.0
    forward_ns: int = 0

    def count(self, result: Result, length: NDArray[np.uint32]) -> None:
        """Add what became of a batch whose packets had these lengths on the wire."""
        kinds = result.verdict.astype(np.intp) << 8 | result.reason
        packets, sizes = np.bincount(kinds), np.bincount(kinds, weights=length)
        self.packets.packets += len(kinds)
        self.packets.bytes += int(length.sum(dtype=np.int64))
        for kind in np.flatnonzero(packets).tolist():
            verdict, reason = Verdict(kind >> 8), Reason(kind & 0xFF)
            if verdict is Verdict.DROP:
                path = "dropped"
                self.drops.setdefault(reason.name, Traffic()).add(packets[kind], sizes[kind])
            else:
                path = WAYS.get(reason, "routed") if verdict is Verdict.ROUTED else verdict.name.lower()
            self.paths[path].add(packets[kind], sizes[kind])

    @property
    def ns_per_packet(self) -> float:
        return self.forward_ns / self.packets.packets if self.packets.packets else 0.0

    @property
    def packets_per_s(self) -> float:
        return self.packets.packets * 1e9 / self.forward_ns if self.forward_ns else 0.0
