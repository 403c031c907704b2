"""The kubenet path by others: a numba and a numpy pipeline, and the lookups alone by DPDK's tables.

The pipelines get the frames of a trace and the tables that our node has by then, and have to give the frames and ports
that it gives. DPDK has no such pipeline; what is timed are the four lookups that each packet needs, of keys that lie
ready in memory: two MACs, one connection, one route. No frame is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import dpdk, numba_node, numpy_node
from .absent import Absent
from .array_tables import Tables, tuple_words
from .frames import DPORT, DST, SPORT, SRC, field
from .route_tables import Routes
from .traces import Path, Trace

Forward = Callable[..., Any]
PEERS = {"numba": "numba", "numpy": "numpy", "dpdk": "DPDK, its four lookups alone"}
MODELLED = frozenset(Path) - {Path.SERVICE_LOCAL}  # which stays on the bridge though it is translated


class Pipeline:
    """One of the two over a trace's frames.

    Parameters
    ----------
    forward : callable
        `numpy_node.forward` or `numba_node.forward`.
    trace : Trace
        Of a kubenet node. Not changed.
    tables : Tables
        Of the trace's node.
    """

    def __init__(self, forward: Forward, trace: Trace, tables: Tables) -> None:
        self.packets, self._forward = trace.packets, forward
        self._trace, self.tables, self._now = trace, tables, 0
        self._frames = trace.original.reshape(trace.packets, -1).copy()
        cuts = np.cumsum([0, *(len(batch) for batch in trace.batches)])
        self._parts = [
            (self._frames[begin:end], batch.port)
            for begin, end, batch in zip(cuts, cuts[1:], trace.batches, strict=False)
        ]

    def restore(self) -> None:
        """Put the frames back."""
        self._frames.reshape(-1)[:] = self._trace.original
        self._now += 1

    def run(self) -> Any:
        """All packets; the last batch's ports."""
        for frames, port in self._parts:
            out = self._forward(self.tables, frames, port, self._now)
        return out

    def check(self) -> None:
        """The same frames by the same ports as our node sends."""
        self._trace.restore()
        ours = [self._trace.node.forward(batch).out_port for batch in self._trace.batches]
        self.restore()
        theirs = [self._forward(self.tables, frames, port, self._now) for frames, port in self._parts]
        np.testing.assert_array_equal(np.concatenate(theirs), np.concatenate(ours))
        np.testing.assert_array_equal(self._frames.reshape(-1), self._trace.bytes)


def octets(keys: Any) -> Any:
    return np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), -1)


class Lookups:
    """DPDK's tables with what is in ours: rte_hash for MACs and connections, rte_fib for routes."""

    def __init__(self, trace: Trace) -> None:
        self.packets = trace.packets
        tables = Tables.of(trace.node)
        frames = trace.original.reshape(trace.packets, -1)
        stations = np.flatnonzero(tables.stations.value >= 0)
        flows = np.flatnonzero(tables.flows.value >= 0)
        known = np.stack([tables.flows.low[flows], tables.flows.high[flows]], axis=1)
        self._macs, self._flows = dpdk.Hash(octets(tables.stations.low[stations])), dpdk.Hash(octets(known))
        networks, lens, hops = trace.node.routes.to_arrays()
        self._fib = dpdk.Dpdk(
            dpdk.Table(Routes(4, "node", networks, lens, hops), dpdk.FIB, 2), True, dpdk.BATCH
        )
        fields = [field(frames, where) for where in (SRC, DST, SPORT, DPORT)]
        self._tuples = octets(np.stack(tuple_words(*fields, np.uint64(17)), axis=1))
        self._stations = [
            octets(
                np.pad(frames[:, at : at + 6], ((0, 0), (2, 0))).copy().view(">u8")[:, 0].astype(np.uint64)
            )
            for at in (0, 6)
        ]
        self._route = self._fib.prepare(fields[1].astype(np.uint32))
        self._found = [np.empty(self.packets, np.uint32) for _ in range(3)]

    def restore(self) -> None:
        """Nothing changes."""

    def run(self) -> None:
        """All four lookups of all packets, table by table."""
        for keys, found in zip(self._stations, self._found, strict=False):
            self._macs.lookup(keys, found)
        self._flows.lookup(self._tuples, self._found[2])
        self._fib.lookup(self._route)

    def check(self) -> None:
        """Every key is found."""
        self.run()
        assert (np.concatenate(self._found) != 0xFFFFFFFF).all()

    def close(self) -> None:
        """Give the hashes' memory back."""
        self._macs.close()
        self._flows.close()


def peers_of(traces: dict[str, Trace], absent: list[str]) -> dict[tuple[str, str], Any]:
    """Who can take part beside our node, by name and batch size, checked; who cannot is added to `absent`."""
    found: dict[tuple[str, str], Any] = {}
    some = next(iter(traces.values()))
    if some.path not in MODELLED:
        return found
    tables = Tables.of(some.node)
    for name, forward in (("numba", numba_node.forward), ("numpy", numpy_node.forward)):
        try:
            for size, trace in traces.items():
                found[name, size] = Pipeline(forward, trace, tables)
                found[name, size].check()
        except Absent as reason:
            absent.append(str(reason))
    if some.reply or some.path is Path.NODE_PORT:  # comes in by eth0, where no MAC is looked up
        return found
    try:
        lookups = Lookups(some)
        lookups.check()
        found["dpdk", max(traces, key=int)] = lookups
    except Absent as reason:
        absent.append(str(reason))
    return found
