"""What a node can have more of, or a batch: each an axis with the traces that show what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4, ipv4_text, mac

from .frames import DST_MAC, SRC_MAC, put
from .part import Settings
from .route_tables import synthetic_routes
from .traces import TRACE, Flows, NewFlows, Path, Site, Trace
from .traffic import REMOTE, Addressing

BATCH = 256
FLOWS = 1 << 14  # of axes that are about something else
FEW = 32  # one of each pod
APART = 5_000_000  # a flow's number that no other flow of the node is near
ESTABLISHED, FULL, FIRST, HOT = "established", "all stages", "first packets", "first packets to few"
UNCHECKED = "nf_conntrack_checksum=0"
AMONG = "established, among 1,000 of them"
STATIONS, STATIONS_AMONG = "bridged, no IP", "among 1,000 of them"
Curves = dict[str, Any]


class Slow:
    """A trace whose packets go through all stages."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self.packets, self.restore, self.check = trace, trace.packets, trace.restore, trace.check

    def run(self) -> None:
        """The trace without the fast path."""
        pipeline = self._trace.node._pipeline
        before, pipeline.fast_path = pipeline.fast_path, False
        self._trace.run()
        pipeline.fast_path = before


def _curves(flows: Flows, settings: Settings, batch: int = BATCH) -> Curves:
    """The three that every axis has."""
    packets = settings.size(TRACE)
    trace = flows.trace(batch, packets=packets)
    return {ESTABLISHED: trace, FULL: Slow(trace), FIRST: NewFlows(flows, batch, packets)}


def routes(x: int, settings: Settings) -> Curves:
    """So many routes beside the node's own, to which the packets go."""
    site = Site.make()
    random = np.random.default_rng(x)
    full = synthetic_routes(4, 0.01 if settings.tiny else 1.0)
    own = np.isin(full.networks >> 24, [0, 10, 127]) | (full.networks >> 24 >= 224)
    networks, lens = full.networks[~own], full.prefix_lens[~own].astype(np.int64)
    more = max(0, x - len(lens))  # the rest are hosts, in networks that the table has
    hosts = random.choice(networks, 2 * more) | random.integers(1, 255, 2 * more, np.uint32)
    networks = np.append(networks, np.unique(hosts)[:more])
    lens = np.append(lens, np.full(more, 32))
    rows = random.choice(len(lens), min(x, len(lens)), replace=False)
    hop = site.node.routes["0.0.0.0/0"]
    site.node.routes.update_many(
        networks[rows], lens[rows].astype(np.uint8), np.full(len(rows), hop, np.uint32)
    )
    spread = random.choice(rows, FLOWS)
    dst = networks[spread] | (random.integers(0, 1 << 32, FLOWS) >> lens[spread]).astype(np.uint32)
    flows = Flows.make(Path.INTERNET, settings.size(FLOWS), site=site, dst=dst)
    few = Flows.make(Path.SERVICE, FEW, site=site, dst=dst[:FEW])
    return _curves(flows, settings) | {HOT: NewFlows(few, BATCH, settings.size(TRACE), first=APART)}


def macs(x: int, settings: Settings) -> Curves:
    """So many stations behind the pods' ports; frames between them that are not of IP."""
    site, random = Site.make(), np.random.default_rng(x)
    stations = np.uint64(mac("0a:59:00:00:00:00")) + random.permutation(x).astype(np.uint64)
    ports = np.array([port.index for port in site.clients], np.uint16)[np.arange(x) % len(site.clients)]
    site.node.fdb.learn(stations, ports, now=1)
    packets = settings.size(TRACE)

    def between(among: int) -> Trace:
        src = random.integers(0, among, packets)
        dst = (src + 1 + random.integers(0, max(1, among - 1), packets)) % among
        dst = np.where(ports[dst] == ports[src], (dst + 1) % among, dst)
        frames = np.zeros((packets, 60), np.uint8)
        put(frames, DST_MAC, stations[dst])
        put(frames, SRC_MAC, stations[src])
        frames[:, 12:14] = 0x88, 0xB5  # local experimental
        return Trace(site.node, site.clock, BATCH, kf.PacketBatch.from_array(frames, port=ports[src]))

    return {STATIONS: between(x), STATIONS_AMONG: between(min(x, 1000))}


def flows(x: int, settings: Settings) -> Curves:
    """So many connections."""
    known = Flows.make(Path.OTHER_NODE, settings.size(x))
    hot = known.trace(BATCH, packets=settings.size(TRACE), among=min(1000, len(known.sent[1])))
    return _curves(known, settings) | {AMONG: hot}


def services(x: int, settings: Settings) -> Curves:
    """So many services, to which the packets go; endpoints on another node."""
    x = settings.size(x)
    site, first = Site.make(), ipv4("10.1.0.1")
    endpoint = ipv4_text(REMOTE[Addressing.KUBENET] + 10)
    made = [
        kf.Service(
            name=f"d/s{i}",
            cluster_ip=ipv4_text(first + i),
            ports=(kf.ServicePort(port=53, protocol="udp", endpoints=(f"{endpoint}:{10_000 + i}",)),),
        )
        for i in range(x)
    ]
    site.node.set_services([*site.services(), *made])
    count = settings.size(FLOWS)
    other = Flows.make(Path.OTHER_NODE, count, site=site)
    found: Curves = {}
    if x:
        random = np.random.default_rng(x)
        known = Flows.make(Path.SERVICE, count, site=site, dst=first + random.integers(0, x, TRACE))
        few = Flows.make(Path.SERVICE, FEW, site=site, dst=first + np.arange(min(FEW, x)))
        found = _curves(known, settings) | {HOT: NewFlows(few, BATCH, settings.size(TRACE), first=APART)}
    return found | {"first packets, to no service": NewFlows(other, BATCH, settings.size(TRACE))}


def cidrs(x: int, settings: Settings) -> Curves:
    """So many destinations that are not masqueraded; the packets go to others."""
    direct = tuple(f"100.64.{i}.0/24" for i in range(x))
    return _curves(Flows.make(Path.INTERNET, settings.size(FLOWS), non_masquerade=direct), settings)


def host_ports(x: int, settings: Settings) -> Curves:
    """So many host ports, to which packets from the VNet go."""
    site = Site.make()
    site.node.detach(site.server)
    pods = -(-x // 64) if x else 0
    for pod in range(pods):
        mine = range(pod * 64, min(x, pod * 64 + 64))
        rows = tuple(kf.HostPort(port=10_000 + i, pod_port=53, protocol="udp") for i in mine)
        site.node.attach(kf.Pod(f"doors{pod}", host_ports=rows))
    count = settings.size(FLOWS)
    other = Flows.make(Path.INTERNET, count, site=site)
    found: Curves = {}
    if x:
        random = np.random.default_rng(x)
        known = Flows.make(Path.NODE_PORT, count, site=site, dst=10_000 + random.integers(0, x, TRACE))
        found = _curves(known, settings)
    return found | {"first packets, to the internet": NewFlows(other, BATCH, settings.size(TRACE))}


def sizes(x: int, settings: Settings) -> Curves:
    """Frames of so many bytes, with conntrack's check of checksums and without, out of memory and of the cache."""
    found: Curves = {}
    for name, check in ((ESTABLISHED, True), (UNCHECKED, False)):
        known = Flows.make(Path.INTERNET, 1000, size=x, mtu=9216, conntrack_checksum=check)
        found[name] = known.trace(BATCH, packets=settings.size(min(TRACE, (1 << 25) // x)))
        found[f"{name}, frames in the cache"] = known.trace(BATCH, packets=settings.size((1 << 19) // x))
    return found


def batches(x: int, settings: Settings) -> Curves:
    """So many packets a call."""
    known = Flows.make(Path.INTERNET, 1000)
    packets = settings.size(min(TRACE, 1 << 11 if x == 1 else x << 11))
    trace = known.trace(x, packets=packets)
    return {ESTABLISHED: trace, FULL: Slow(trace), FIRST: NewFlows(known, x, packets)}


def shares(x: int, settings: Settings) -> Curves:
    """So many per cent of the packets are first ones."""
    found: Curves = {}
    for name, count in (("1,000 flows there", 1000), ("1,000,000 flows there", settings.size(1_000_000))):
        known = Flows.make(Path.INTERNET, count)
        found[name] = NewFlows(known, BATCH, settings.size(TRACE), share=x / 100)
    return found


class Gather:
    """Random cache lines of an array, by numpy's `take`: one word of each, indices known beforehand."""

    packets = 1 << 18

    def __init__(self, size: int) -> None:
        self._words = np.empty(size // 8)  # numpy asks for huge pages, as our tables do
        self._words[:] = 1
        self._order = np.random.default_rng(2028).integers(0, size // 64, self.packets) * 8
        self._out = np.empty(self.packets)

    def restore(self) -> None:
        """Nothing changes."""

    def run(self) -> None:
        """All of them."""
        np.take(self._words, self._order, out=self._out, mode="clip")

    def check(self) -> None:
        """Every line was there."""
        self.run()
        assert (self._out == 1).all()


def lines(x: int, settings: Settings) -> Curves:
    """So many KiB of memory, of which random lines are read: what the caches are to all the others."""
    return {"a random cache line": Gather(x << 10)}


@dataclass(frozen=True)
class Axis:
    """What grows, by which steps, and the traces of a step."""

    label: str
    points: tuple[int, ...]
    make: Callable[[int, Settings], Curves]
    scales: tuple[str, str] = ("log", "linear")
    rounds: int = 7


def decades(first: int, last: int) -> tuple[int, ...]:
    return tuple(10**i for i in range(first, last + 1))


AXES: dict[str, Axis] = {
    "routes": Axis("routes", decades(1, 6), routes),
    "macs": Axis("stations", decades(1, 6), macs),
    "flows": Axis("flows", (*decades(0, 3), 4000, 16_000, 65_536, 262_144, *decades(6, 7)), flows, rounds=5),
    "services": Axis("services", (0, *decades(0, 4)), services),
    "cidrs": Axis("CIDRs that are not masqueraded", (1, 4, 16, 32, 64), cidrs, ("linear", "linear")),
    "hostports": Axis("host ports", (0, 1, 10, 100, 1000), host_ports),
    "sizes": Axis(
        "bytes a frame", (60, 124, 252, 508, 1020, 1514, 2044, 4092, 9000), sizes, ("linear", "linear")
    ),
    "batches": Axis("packets a batch", tuple(4**i for i in range(9)), batches, ("log", "log")),
    "shares": Axis("% first packets", (0, 1, 5, 10, 25, 50, 75, 100), shares, ("linear", "linear")),
    "lines": Axis("KiB of random lines", tuple(4 << 2 * i for i in range(10)), lines),
}
