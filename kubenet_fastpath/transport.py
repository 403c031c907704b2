"""Frames on their way through nodes and fabric, in virtual time: windows as long as the fabric's latency.

What nodes do within one window cannot meet before the next, so each node forwards its frames of a window as one batch,
and the order is still that of time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from time import thread_time_ns

import numpy as np
from numpy.typing import NDArray

from .batch import PacketBatch
from .carriage import Carriage
from .delivery import Delivery, Outcome, Place
from .fabric import INTERNET, NOWHERE, PLATFORM, Fabric
from .journey import Frames, Journey
from .lineage import Held, continues, fingerprint
from .node import Node
from .result import Result
from .verdict import Verdict

__all__ = ["Transport"]

ETH0 = 0
INTERNET_PLACE, PLATFORM_PLACE = 0, 1  #: the first two places
CARRIED = 255  #: in STEP's verdict: the fabric
STEP_NS, ASLEEP_NS = (
    1_000_000_000,
    10_000_000_000,
)  #: of a silent cluster; nothing but time-outs happens behind it


class Transport:
    """Carries frames between the nodes of a cluster.

    Parameters
    ----------
    nodes : list of Node
        In the order of the fabric's first NICs.
    fabric : Fabric
    latency_ns : int
        Of the fabric, one way.

    Attributes
    ----------
    places : list of Place
        The cluster adds to it; the first two are `internet` and `platform`.
    nic_places : list of int
        For each NIC of the fabric its place.
    pod_places : dict
        Number of a node and port -> place.
    forward_ns : int
        CPU time of this thread in the nodes' pipelines.
    """

    def __init__(self, nodes: list[Node], fabric: Fabric, latency_ns: int) -> None:
        self.latency_ns = latency_ns
        self.forward_ns = 0
        self.places: list[Place] = []
        self.nic_places: list[int] = []
        self.pod_places: dict[tuple[int, int], int] = {}
        self._nodes = nodes
        self._fabric = fabric
        self._forward: Callable[[Node, PacketBatch], Result] = Node.forward
        self._held: dict[int, Held] = {}
        self._awake: set[int] = set()  # nodes that a packet has been through lately
        self._nic_place = np.empty(0, np.int32)  # the lists as arrays, made anew when a run begins
        self._lladdr = np.empty(0, np.uint64)

    def send(self, frames: Frames, forward: Callable[[Node, PacketBatch], Result]) -> Delivery:
        """Carry frames, in order of time, to wherever they go; all nodes are through with what came before."""
        self._look()
        n = len(frames.batch)
        if n:
            self.sleep(int(frames.batch.time[0]))
        self._forward = forward
        try:
            return self._run(Journey(n), [frames])
        finally:
            self._forward = Node.forward

    def advance(self, now: int) -> Delivery:
        """Let time pass on every node."""
        self._look()
        self.sleep(now)
        return self._advance(now, range(len(self._nodes)))

    def _look(self) -> None:
        """The places that there are now."""
        if len(self._lladdr) != len(self.places):
            self._lladdr = np.array([place.mac for place in self.places], np.uint64)
            self._nic_place = np.array(self.nic_places, np.int32)

    def _advance(self, now: int, nodes: Iterable[int]) -> Delivery:
        log = Journey(0)
        made = [self._collect(index, self._nodes[index].advance(now)) for index in nodes]
        return self._run(log, [self._leave(frames, log) for frames in made if len(frames.batch)])

    def _leave(self, frames: Frames, log: Journey) -> Frames:
        """What left nodes reaches pods at once; the rest is for the fabric."""
        by_eth0 = frames.batch.port == ETH0
        self._arrive_at_pods(frames.take(~by_eth0), log)
        frames = frames.take(by_eth0)
        frames.node = np.full(len(frames.node), -1, np.int32)
        return frames

    def sleep(self, until: int) -> None:
        """Let what nodes ask when a neighbour has been silent for long find its answer: 5 s of DELAY, 3 of PROBE."""
        awake = [now for index in self._awake if (now := self._nodes[index].now) is not None]
        begin = max(awake, default=until)
        for now in range(begin + STEP_NS, min(until, begin + ASLEEP_NS), STEP_NS):
            self._advance(now, sorted(self._awake))
        if until > begin + ASLEEP_NS:
            self._awake.clear()

    def _run(self, log: Journey, pending: list[Frames]) -> Delivery:
        pending = [frames for frames in pending if len(frames.batch)]
        while pending:
            begin = min(int(frames.batch.time.min()) for frames in pending)
            now, later = [], []
            for frames in pending:
                due = frames.batch.time < begin + self.latency_ns
                if due.any():
                    now.append(frames.take(due))
                if not due.all():
                    later.append(frames.take(~due))
            frames = Frames.join(now)
            at_node = frames.node >= 0
            into_fabric = [frames.take(~at_node)] if not at_node.all() else []
            if at_node.any():
                into_fabric.append(self._leave(self._through_nodes(frames.take(at_node), log), log))
            pending = later
            if into_fabric:
                waiting = self._through_fabric(Frames.join(into_fabric), begin, log)
                if len(waiting.batch):
                    pending.append(waiting)
        self._held.clear()  # what still waits is nobody's in the next run
        return log.delivery(tuple(self.places))

    def _through_nodes(self, frames: Frames, log: Journey) -> Frames:
        order = np.lexsort((np.arange(len(frames.node)), frames.batch.time, frames.node))
        frames = frames.take(order)
        before = fingerprint(frames.batch.headers())
        ttl = before["ttl"]
        verdict = np.empty(len(frames.node), np.uint8)
        reason = np.empty(len(frames.node), np.uint8)
        times = frames.batch.time
        bounds = np.flatnonzero(np.diff(frames.node, prepend=-2)).tolist() + [len(frames.node)]
        parts = []
        for first, last in itertools.pairwise(bounds):
            index = int(frames.node[first])
            rows = np.arange(first, last)
            self._awake.add(index)
            node, part = self._nodes[index], frames.batch[rows]
            begin = thread_time_ns()
            result = self._forward(node, part)
            self.forward_ns += thread_time_ns() - begin
            verdict[rows], reason[rows] = result.verdict, result.reason
            parts.append(self._collect(index, result, frames.origin[rows], frames.own[rows], before[rows]))
        log.step(frames.origin, frames.node, times, verdict, reason, ttl, frames.own)
        node_place = self._nic_place[frames.node]
        for ended, outcome in (
            (verdict == Verdict.DROP, Outcome.DROPPED),
            (verdict == Verdict.LOCAL, Outcome.LOCAL),
            (verdict == Verdict.HELD, Outcome.HELD),
        ):
            mine = ended & frames.own
            log.end(frames.origin[mine], outcome, reason[mine], node_place[mine])
        return Frames.join(parts)

    def _collect(
        self,
        index: int,
        result: Result,
        origin: NDArray[np.int32] | None = None,
        own: NDArray[np.bool_] | None = None,
        before: NDArray[np.void] | None = None,
    ) -> Frames:
        """What left a node, with the sent frame that each goes back to."""
        out = result.packets(None)
        source = result.outputs["source"]
        n = len(out)
        origins, mine = np.full(n, -1, np.int32), np.zeros(n, np.bool_)
        caused = source >= 0
        held = self._held.setdefault(index, Held())
        if origin is not None and own is not None and before is not None:
            waits = result.verdict == Verdict.HELD
            held.add(before[waits], origin[waits], own[waits])
            if n:
                after = fingerprint(out.headers())
                origins[caused] = origin[source[caused]]
                mine[caused] = continues(before[source[caused]], after[caused]) & own[source[caused]]
                held.release(after, mine, origins)
        elif n:
            held.release(fingerprint(out.headers()), mine, origins)
        sender = np.full(n, index, np.int32)
        return Frames(out, np.full(n, index, np.int32), sender, origins, mine)

    def _arrive_at_pods(self, frames: Frames, log: Journey) -> None:
        keys = zip(frames.node.tolist(), frames.batch.port.tolist(), strict=True)
        places = np.array([self.pod_places.get(key, -1) for key in keys], np.int32)
        to = frames.batch.headers()["eth_dst"]
        lladdr = self._lladdr[places]
        others = (
            (to != lladdr) & (to >> np.uint64(40) & np.uint64(1) == 0) & frames.own
        )  # flooded: its card drops it
        frames.own = frames.own & ~others
        latest = log.latest(frames)
        log.end(
            frames.origin[others],
            Outcome.DROPPED,
            np.full(int(others.sum()), Carriage.NO_PLACE),
            places[others],
        )
        log.arrive(frames, places, latest)

    def _through_fabric(self, frames: Frames, begin: int, log: Journey) -> Frames:
        np.maximum(frames.batch.time, begin, out=frames.batch.time)  # timers of a node that had been asleep
        frames = frames.take(np.argsort(frames.batch.time, kind="stable"))
        frames.batch = frames.batch.copy()
        ttl = frames.batch.headers()["ttl"]
        receiver, how = self._fabric.carry(frames.batch, frames.sender)
        n = len(how)
        fabric = np.full(n, -1, np.int32)
        verdict = np.full(n, CARRIED, np.uint8)
        log.step(frames.origin, fabric, frames.batch.time, verdict, how, ttl, frames.own)
        lost = (receiver == NOWHERE) & frames.own
        log.end(frames.origin[lost], Outcome.DROPPED, how[lost], fabric[lost])
        frames.batch.time += self.latency_ns
        nodes = len(self._nodes)
        place = np.full(n, -1, np.int32)
        host = receiver >= nodes
        place[host] = self._nic_place[receiver[host]]
        place[receiver == INTERNET] = INTERNET_PLACE
        place[receiver == PLATFORM] = PLATFORM_PLACE
        there = np.flatnonzero(place >= 0)
        log.arrive(frames.take(there), place[there], how[there])
        rest = frames.take((receiver >= 0) & ~host)
        rest.node = receiver[(receiver >= 0) & ~host]
        rest.batch.port = np.full(len(rest.node), ETH0, np.uint16)
        return rest
