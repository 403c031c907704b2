"""Packets of many flows in random order, established or new ones, which a node forwards again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kubenet_fastpath as kf

from .frames import FRAME, Frames, frame
from .traffic import PODS, Addressing, Clock, Path, Site

__all__ = ["BATCHES", "BRIDGE_MAC", "PODS", "TRACE", "Addressing", "Flows", "NewFlows", "Path", "Site", "Trace",
           "frame", "make_node"]  # fmt: skip

BRIDGE_MAC = "0a:58:0a:f4:01:01"
TRACE = 1 << 16  # packets before the trace repeats
BATCHES = (256, 65536)
PIECE = 1 << 16  # packets of a call that prepares something
Packets = tuple[Frames, NDArray[np.uint16]]  # and the ports that they come in or leave by


def make_node(**settings: Any) -> tuple[kf.Node, list[kf.Port]]:
    """A kubenet node without services, and its 32 pods."""
    site = Site.make(**({"kube_proxy": True} | settings))
    site.node.set_services(settings.get("services", ()))
    return site.node, site.clients


@dataclass
class Flows:
    """Flows of one class that a node has established: what begins them, and what their answers look like."""

    site: Site
    path: Path
    sent: Packets
    answered: Packets
    dst: NDArray[Any] | None = None

    @classmethod
    def make(
        cls,
        path: Path,
        count: int,
        addressing: Addressing = Addressing.KUBENET,
        size: int = FRAME,
        site: Site | None = None,
        dst: NDArray[Any] | None = None,
        **settings: Any,
    ) -> Flows:
        """Flows in a node of their own, or in the one that is given, each answered once; `dst` as for `Site.frames`."""
        site = site or Site.make(addressing, **({"conntrack_max": max(262_144, 2 * count)} | settings))
        sent = site.frames(path, np.arange(count), size, dst)
        clock = site.clock
        parts = []
        for at in range(0, count, PIECE):
            begun = tuple(column[at : at + PIECE] for column in sent)
            left = forward(site.node, begun, clock)
            back = site.answers(*left), left[1]
            forward(site.node, back, clock)
            forward(site.node, begun, clock)  # conntrack calls it a stream from now on
            parts.append(back)
        answered = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
        return cls(site, path, sent, answered, dst)  # type: ignore[arg-type]

    def trace(
        self, batch_size: int, *, reply: bool = False, packets: int = TRACE, among: int | None = None
    ) -> Trace:
        """Packets of these flows in random order.

        Parameters
        ----------
        batch_size : int
        reply : bool
            Answers.
        packets : int
        among : int, optional
            Of the first so many flows only.
        """
        frames, port = self.answered if reply else self.sent
        order = np.random.default_rng(2028).integers(0, among or len(port), packets)
        whole = kf.PacketBatch.from_array(frames[order], port=port[order])
        return Trace(self.site.node, self.site.clock, batch_size, whole, self.path, reply)


def forward(node: kf.Node, packets: Packets, clock: Clock) -> Packets:
    """Send packets through a node that has to let all of them out; what leaves, and by which port, in order."""
    batch = kf.PacketBatch.from_array(packets[0].copy(), port=packets[1], time=clock.tick())
    result = node.forward(batch)
    lost = np.flatnonzero(result.out_port < 0)
    if len(lost):
        raise RuntimeError(
            f"{len(lost):,} of {len(batch):,} packets do not leave: {kf.Reason(result.reason[lost[0]]).name}"
        )
    return batch.data.reshape(packets[0].shape), result.out_port.astype(np.uint16)


class Trace:
    """Packets in batches that can be put back as they were; `restore`, `run` and `packets` are what a round takes.

    Attributes
    ----------
    node : Node
    packets : int
    batches : list of PacketBatch
        Parts of the array `bytes`.
    """

    def __init__(
        self,
        node: kf.Node,
        clock: Clock,
        batch_size: int,
        whole: kf.PacketBatch,
        path: Path | None = None,
        reply: bool = False,
    ) -> None:
        self.node, self.clock, self.path, self.reply, self.packets = node, clock, path, reply, len(whole)
        self.bytes, self.original = whole.data, whole.data.copy()
        self._time = np.zeros(len(whole), np.int64)
        self._port = whole.port
        self.batches = [whole[i : i + batch_size] for i in range(0, len(whole), batch_size)]
        for i, batch in enumerate(self.batches):
            batch.time = self._time[i * batch_size : i * batch_size + len(batch)]

    @classmethod
    def make(cls, path: Path, flows: int, batch_size: int, *, reply: bool = False, **more: Any) -> Trace:
        """A trace of flows of its own; `more` as for `Flows.make`."""
        return Flows.make(path, flows, **more).trace(batch_size, reply=reply)

    @property
    def working_set(self) -> int:
        """Bytes that a round goes through: all frames, and the connection table."""
        return self.bytes.nbytes + self.node.connections.nbytes

    def restore(self) -> None:
        """Put the frames back, and let a millisecond pass."""
        self.bytes[:] = self.original
        self._time[:] = self.clock.tick()

    def run(self) -> kf.Result:
        """Forward the trace; the last batch's result."""
        for batch in self.batches:
            result = self.node.forward(batch)
        return result

    def _pass(self, fast: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]]:
        pipeline = self.node._pipeline
        before, pipeline.fast_path = pipeline.fast_path, fast
        try:
            self.restore()
            results = [self.node.forward(batch) for batch in self.batches]
        finally:
            pipeline.fast_path = before
        reasons, ports = (np.concatenate([getattr(r, n) for r in results]) for n in ("reason", "out_port"))
        assert sum(len(result.outputs) for result in results) == self.packets
        return self.bytes.copy(), reasons, ports

    def check(self) -> None:
        """Every packet leaves by one port, checksums right, byte for byte as the stages say without the fast path."""
        slow, fast = self._pass(False), self._pass(True)
        for one, other in zip(slow, fast, strict=True):
            np.testing.assert_array_equal(one, other)
        assert (fast[2] >= 0).all()
        reasons = {kf.Reason(number).name for number in np.unique(fast[1]).tolist()}
        assert len(reasons) == 1, f"packets of one class left for different reasons: {reasons}"
        after = self.headers()
        assert (after["ip_checksum_ok"] != 0).all()  # -1: it has none
        assert (after["l4_checksum_ok"] != 0).all()

    def headers(self) -> NDArray[Any]:
        """What the frames say now."""
        return np.concatenate([batch.headers() for batch in self.batches])


class NewFlows:
    """First packets, each of a connection of its own, again and again: in between their connections are deleted.

    All flows that the node is to have are made before.

    Parameters
    ----------
    flows : Flows
        What the node has otherwise.
    batch_size, packets : int
    share : float
        Of packets that are first ones; the others are of the node's flows. In random order.
    first : int, optional
        Number of the first new flow; the one behind `flows` if omitted.
    """

    def __init__(
        self,
        flows: Flows,
        batch_size: int,
        packets: int = TRACE,
        share: float = 1.0,
        first: int | None = None,
    ) -> None:
        known = len(flows.sent[1])
        begin = known if first is None else first
        random = np.random.default_rng(2028)
        size = flows.sent[0].shape[1]
        frames, port = flows.site.frames(flows.path, begin + np.arange(packets), size, flows.dst)
        old = random.random(packets) >= share
        chosen = random.integers(0, known, int(old.sum()))
        frames[old], port[old] = flows.sent[0][chosen], flows.sent[1][chosen]
        self.new = packets - int(old.sum())
        self._since = flows.site.clock.now
        self._known = len(flows.site.node.connections)
        whole = kf.PacketBatch.from_array(frames, port=port)
        self._trace = Trace(flows.site.node, flows.site.clock, batch_size, whole, flows.path)
        self.node, self.packets, self.run = self._trace.node, packets, self._trace.run

    def forget(self) -> None:
        """Delete the connections that rounds have made, these packets' and those of others like them."""
        connections = self.node.connections
        if len(connections) > self._known:
            rows = connections.to_records()
            connections.delete(rows["index"][rows["created"] > self._since])
        assert len(connections) == self._known

    def restore(self) -> None:
        """Forget the connections, and put the frames back."""
        self.forget()
        self._trace.restore()

    def check(self) -> None:
        """Every packet leaves, and each new one has its connection."""
        self.restore()
        results = [self.node.forward(batch) for batch in self._trace.batches]
        assert sum(len(result.outputs) for result in results) == self.packets
        assert len(self.node.connections) == self._known + self.new
        after = self._trace.headers()
        assert (after["ip_checksum_ok"] == 1).all()
        assert (after["l4_checksum_ok"] == 1).all()
        self.forget()
