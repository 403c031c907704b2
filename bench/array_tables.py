"""A kubenet node's tables as plain arrays, for pipelines that a numba or numpy user would write.

Everything that the arrays hold is read out of a node, so that such a pipeline has the same connections, addresses and
routes and must give the same frames. It knows established flows alone; who opens a connection is our node's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kubenet_fastpath as kf
from kubenet_fastpath.node_plan import InterfaceKind

from .route_peers import draw_dir24
from .route_tables import Routes

FIRST, SECOND = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
NONE = -1
#: Columns of `Probed.slots` and `Tables.rows`.
LOW, HIGH, VALUE = range(3)
SRC, DST, SPORT, DPORT, PACKETS, BYTES, SEEN = range(7)


def hashed(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Of a key of two words."""
    mixed = (low ^ high * np.uint64(FIRST)) * np.uint64(SECOND)
    return mixed ^ mixed >> np.uint64(32)


@dataclass
class Probed:
    """A hash table of two-word keys, open addressing, at most half full; a cache line has two slots.

    Attributes
    ----------
    slots : (2**k, 4) ndarray of int64
        Key, key, value (`NONE` where there is no key), nothing.
    low, high : (2**k,) ndarray of uint64
    value : (2**k,) ndarray of int64
        The columns of `slots`.
    """

    slots: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.low, self.high = (self.slots[:, column].view(np.uint64) for column in (LOW, HIGH))
        self.value = self.slots[:, VALUE]

    @classmethod
    def make(cls, low: Any, high: Any, values: Any) -> Probed:
        """Of different keys."""
        low, high = np.asarray(low, np.uint64), np.asarray(high, np.uint64)
        values = np.asarray(values, np.int64)
        size = 1 << max(4, int(2 * len(low) - 1).bit_length())
        table = cls(np.full((size, 4), NONE, np.int64))
        left, slot = np.arange(len(low)), (hashed(low, high) & np.uint64(size - 1)).astype(np.int64)
        while len(left):
            free = np.flatnonzero(table.value[slot] == NONE)
            _, first = np.unique(slot[free], return_index=True)
            placed = free[first]
            where, rows = slot[placed], left[placed]
            table.low[where], table.high[where], table.value[where] = low[rows], high[rows], values[rows]
            stay = np.ones(len(left), np.bool_)
            stay[placed] = False
            left, slot = left[stay], (slot[stay] + 1) & (size - 1)
        return table

    def find(self, low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The slot of each key; of one that is not there an empty one."""
        mask = len(self.value) - 1
        slot = (hashed(low, high) & np.uint64(mask)).astype(np.int64)
        wrong = np.flatnonzero(
            ((self.low[slot] != low) | (self.high[slot] != high)) & (self.value[slot] != NONE)
        )
        while len(wrong):
            slot[wrong] = at = (slot[wrong] + 1) & mask
            differs = (self.low[at] != low[wrong]) | (self.high[at] != high[wrong])
            wrong = wrong[differs & (self.value[at] != NONE)]
        return slot


@dataclass
class Tables:
    """What a packet is looked up in.

    Attributes
    ----------
    stations, neighbours, flows : Probed
        (MAC, 0) -> port; (address, interface) -> MAC; (source, destination) and (ports, protocol) -> row.
    rows : (N, 8) ndarray of int64
        A cache line of each flow: source, destination, source port and destination port that its packets leave with,
        packets, bytes, when the latest one came (ns), nothing.
    heard : ndarray of int64
        When the bridge heard of a station, slot by slot; ns.
    table, groups : ndarray of uint16
        DIR-24-8.
    hops : (H, 2) ndarray of int64
        Device and gateway of a next hop; gateway 0: the destination itself.
    device_mac : ndarray of uint64
    bridged : ndarray of bool
        Whether a port is the bridge's.
    bridge : int
        Index of cbr0.
    """

    stations: Probed
    neighbours: Probed
    flows: Probed
    rows: NDArray[np.int64]
    heard: NDArray[np.int64]
    table: NDArray[np.uint16]
    groups: NDArray[np.uint16]
    hops: NDArray[np.int64]
    device_mac: NDArray[np.uint64]
    bridged: NDArray[np.bool_]
    bridge: int

    @classmethod
    def of(cls, node: kf.Node) -> Tables:
        """A kubenet node's."""
        devices = {interface.name: (i, interface) for i, interface in enumerate(node.plan.interfaces)}
        bridge = devices["cbr0"][0]
        ports = [port for port in node.ports.values() if port.pod is not None]
        width = 1 + max([bridge, *(port.index for port in node.ports.values())])
        macs, bridged = np.zeros(width, np.uint64), np.zeros(width, np.bool_)
        bridged[[port.index for port in ports]] = True
        for index, interface in devices.values():
            macs[index] = interface.mac
            bridged[index] = interface.kind is not InterfaceKind.ROUTED
        fdb = node.fdb.to_records()
        stations = Probed.make(fdb["mac"], np.zeros(len(fdb)), np.where(fdb["port"] < 0, bridge, fdb["port"]))
        near = node.neighbours.to_records()
        networks, lens, hops = node.routes.to_arrays()
        reached = [(devices[h.dev][0] if h.dev in devices else 0, h.gateway) for h in node.next_hops]
        table, groups = draw_dir24(Routes(4, "node", networks, lens, hops))
        flows, rows = _flows(node.connections.to_records())
        return cls(
            stations,
            Probed.make(near["ip"], near["dev"], near["mac"]),
            flows,
            rows,
            np.zeros(len(stations.value), np.int64),
            table,
            groups,
            np.array(reached),
            macs,
            bridged,
            bridge,
        )


def tuple_words(src: Any, dst: Any, sport: Any, dport: Any, proto: Any) -> tuple[Any, Any]:
    """A flow's key."""
    words = [np.asarray(column, np.uint64) for column in (src, dst, sport, dport, proto)]
    low = words[0] << np.uint64(32) | words[1]
    return low, words[2] << np.uint64(24) | words[3] << np.uint64(8) | words[4]


def _flows(rows: NDArray[Any]) -> tuple[Probed, NDArray[np.int64]]:
    """Both directions of connections: row 2 * i is what began, 2 * i + 1 its answers."""
    begun = [rows[name] for name in ("src", "dst", "sport", "dport")]
    back = [rows["reply_" + name] for name in ("src", "dst", "sport", "dport")]
    made = np.zeros((2 * len(rows), 8), np.int64)
    made[0::2, :PACKETS] = np.stack([back[DST], back[SRC], back[DPORT], back[SPORT]], axis=1)
    made[1::2, :PACKETS] = np.stack([begun[DST], begun[SRC], begun[DPORT], begun[SPORT]], axis=1)
    keys = [tuple_words(*columns, rows["proto"]) for columns in (begun, back)]
    low, high = (np.stack(words, axis=1).ravel() for words in zip(*keys, strict=True))
    return Probed.make(low, high, np.arange(2 * len(rows))), made
