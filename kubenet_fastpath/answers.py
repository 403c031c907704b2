"""Where the world outside sends its answers: to the address and port that it saw the question come from.

A capture of pods holds answers to the pods' own addresses. A node that masquerades shows the world its own
address, so in a replay the same answers go there. Which port it chose is known once the question has been
forwarded; so a second node, the scout, runs ahead in parts that end where an answer needs that. Longer than its
neighbours: the two, cuts and answers, share what they know of each connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch import PacketBatch
from .node import Node
from .readdress import redirect

__all__ = ["Answers"]

FORGOTTEN = 3_000_000_000  # ns; no connection times out sooner (timeouts.Timeouts: SCTP, 3 s)
REMEMBERED = 1 << 20  # flows, and fragmented datagrams
ICMP, TCP, UDP = 1, 6, 17
SYN, ACK = 2, 16
ICMP_ERRORS = (3, 4, 5, 11, 12)
REQUEST = {8: 8, 0: 8, 13: 13, 14: 13, 15: 15, 16: 15, 17: 17, 18: 17}  # ICMP type -> the request's type
REPLIES = (0, 14, 16, 18)
ASKED_OUTSIDE = 0x100
UNNUMBERED = 0xFFFF  # ICMP without an id, from a pod
UNKNOWN = 0xFFFE  # and from outside, if it quotes nothing that a pod sent: no question has this

Flow = tuple[int, int]  # pod << 32 | outside, protocol << 32 | pod's port << 16 | outside port


class Answers:
    """Finds and re-addresses the answers of one capture, batch by batch.

    Parameters
    ----------
    scout : Node
        Made and wired like the node that will forward the packets; it is used up here.

    Attributes
    ----------
    redirected : int
        Answers that were sent elsewhere than the capture has them.
    """

    def __init__(self, scout: Node) -> None:
        self.redirected = 0
        self._scout = scout
        self._seen: dict[Flow, tuple[int, int, int]] = {}  # -> address, port, time of the latest packet
        self._datagrams: dict[tuple[int, int, int, int], tuple[int, int]] = {}  # of fragments -> ports

    def redirect(
        self, batch: PacketBatch, headers: NDArray[Any], asks: NDArray[np.bool_], answers: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Send a batch's answers where they belong, in place.

        Parameters
        ----------
        batch : PacketBatch
            With the node's link layer; bytes of its own.
        headers : (N,) structured ndarray
            The batch's headers.
        asks, answers : (N,) ndarray of bool
            Packets from pods to the outside, and back.

        Returns
        -------
        (N,) ndarray of uint8
            The scout's verdicts; those of the other node must be the same.

        Notes
        -----
        A packet goes where the latest packet of its flow that left the node came from; where none has left,
        to the pod's own address, since then it was the outside that began. An ICMP error is part of the flow
        that it quotes. Fragments are part of their first fragment's flow, if that came before or in the same
        batch.
        """
        run = _Run(self, batch, headers, np.flatnonzero(asks | answers), asks)
        verdicts = np.empty(len(batch), np.uint8)
        start = 0
        for end in chain(run.cuts(), (len(batch),)):
            self.redirected += run.redirect(start, end)
            result = self._scout.forward(batch[start:end].copy())
            verdicts[start:end] = result.verdict
            if run.curious(start, end):
                rows = result.source("eth0")
                run.learn(rows[rows >= 0].astype(np.int64) + start, result.packets("eth0")[rows >= 0])
            start = end
        run.remember()
        return verdicts


class _Run:
    """One batch's packets between pods and the outside, by flow."""

    def __init__(
        self,
        answers: Answers,
        batch: PacketBatch,
        headers: NDArray[Any],
        index: NDArray[np.int64],
        asks: NDArray[Any],
    ) -> None:
        self.table = answers
        self.batch = batch
        self.index = index
        self.asks = asks[index]
        h = headers[index]
        self.l3 = batch.offset[index] + h["l3_offset"]
        self.size = np.minimum(batch.length[index] - h["l3_offset"].astype(np.int64), h["ip_len"])
        self.time = batch.time[index]
        self._identify(h)
        self.order = np.lexsort((self.low, self.high))
        high, low = self.high[self.order], self.low[self.order]
        first = np.ones(len(index), np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self.first = first
        self.flow = np.empty(len(index), np.int64)
        self.flow[self.order] = np.cumsum(first) - 1
        self.keys: list[Flow] = list(zip(high[first].tolist(), low[first].tolist(), strict=True))
        seen = [answers._seen.get(key, (-1, 0, 0)) for key in self.keys]
        told = np.array(seen, np.int64).reshape(-1, 3)
        self.address, self.port, self.latest = told[:, 0].copy(), told[:, 1].copy(), told[:, 2].copy()
        self.before = self.address >= 0
        self.fresh = self._fresh(h)

    def _identify(self, h: NDArray[Any]) -> None:
        """Set the two halves of each packet's flow."""
        asks = self.asks
        pod, outside = np.where(asks, h["src"], h["dst"]), np.where(asks, h["dst"], h["src"])
        here, there = np.where(asks, h["sport"], h["dport"]), np.where(asks, h["dport"], h["sport"])
        proto = h["proto"].copy()
        for i in np.flatnonzero((proto == ICMP) & (h["l4_offset"] > 0)).tolist():
            kind = int(h["icmp_type"][i])
            here[i], there[i] = 0, UNNUMBERED if asks[i] else UNKNOWN
            if kind in REQUEST:
                here[i], there[i] = (
                    h["icmp_id"][i],
                    REQUEST[kind] | (asks[i] == (kind in REPLIES)) * ASKED_OUTSIDE,
                )
            elif kind in ICMP_ERRORS and not asks[i]:
                quoted = self._quoted(i, int(h["l4_offset"][i] - h["l3_offset"][i]) + 8, int(pod[i]))
                if quoted is not None:
                    outside[i], proto[i], here[i], there[i] = quoted
        fragments = np.flatnonzero((h["frag_offset"] > 0) | (h["mf"] > 0)).tolist()
        for begins in (True, False):
            for i in fragments:
                datagram = (int(h["src"][i]), int(h["dst"][i]), int(h["ip_id"][i]), int(proto[i]))
                if begins and h["frag_offset"][i] == 0:
                    self.table._datagrams[datagram] = int(here[i]), int(there[i])
                elif not begins and h["frag_offset"][i] > 0:
                    here[i], there[i] = self.table._datagrams.get(datagram, (0, 0))
        _limit(self.table._datagrams)
        self.outside = outside
        self.high = pod.astype(np.uint64) << np.uint64(32) | outside
        self.low = proto.astype(np.uint64) << np.uint64(32) | here.astype(np.uint64) << np.uint64(16) | there

    def _quoted(self, i: int, at: int, pod: int) -> tuple[int, int, int, int] | None:
        """Outside address, protocol and ports of the packet that an ICMP error quotes, if the pod sent it."""
        start = int(self.l3[i])
        inner = self.batch.data[start + at : start + int(self.size[i])].tobytes()
        l4 = (inner[0] & 15) * 4 if inner else 0
        if len(inner) < 20 or int.from_bytes(inner[12:16], "big") != pod or l4 < 20:
            return None
        proto, here, there = inner[9], 0, 0
        if len(inner) >= l4 + 8 and not int.from_bytes(inner[6:8], "big") & 0x1FFF:
            if proto in (TCP, UDP):
                here, there = (int.from_bytes(inner[k : k + 2], "big") for k in (l4, l4 + 2))
            elif proto == ICMP and inner[l4] in REQUEST:
                here = int.from_bytes(inner[l4 + 4 : l4 + 6], "big")
                there = REQUEST[inner[l4]] | (inner[l4] in REPLIES) * ASKED_OUTSIDE
        return int.from_bytes(inner[16:20], "big"), proto, here, there

    def _fresh(self, h: NDArray[Any]) -> NDArray[np.bool_]:
        """Questions that may begin a connection, so that their answers' address may be another one."""
        time = self.time[self.order]
        previous = np.empty_like(time)
        previous[1:] = time[:-1]
        previous[self.first] = self.latest
        fresh = np.empty(len(time), np.bool_)
        fresh[self.order] = time - previous >= FORGOTTEN
        fresh |= (h["proto"] == TCP) & (h["tcp_flags"] & (SYN | ACK) == SYN)
        return np.asarray(fresh & self.asks, np.bool_)

    def cuts(self) -> Iterator[int]:
        """Where to cut the batch, as indices of packets: in front of answers whose address is not known yet.

        Known addresses grow between one cut and the next.
        """
        order, n = self.order, len(self.order)
        place = np.arange(n)
        group = np.maximum.accumulate(np.where(self.first, place, 0))
        asks, fresh = self.asks[order], self.fresh[order]
        question = np.maximum.accumulate(np.where(asks, place, -1))
        begin = np.maximum.accumulate(np.where(fresh, place, -1))
        due = np.flatnonzero(
            ~asks & (question >= group) & (~self.before[self.flow[order]] | (begin >= group))
        )
        due = due[np.argsort(order[due])]
        rows, questions = order[due], self.index[order[question[due]]]
        begins = np.where(begin[due] >= group[due], self.index[order[begin[due]]], -1)
        start = 0
        for at, flow, asked, began in zip(
            self.index[rows].tolist(),
            self.flow[rows].tolist(),
            questions.tolist(),
            begins.tolist(),
            strict=True,
        ):
            if (began if self.address[flow] >= 0 else asked) >= start:
                start = at
                yield at

    def _rows(self, start: int, end: int) -> slice:
        return slice(*np.searchsorted(self.index, (start, end)).tolist())

    def redirect(self, start: int, end: int) -> int:
        """Re-address the answers of a part whose address is known; returns how many moved."""
        rows = self._rows(start, end)
        flow = self.flow[rows]
        at = np.flatnonzero(~self.asks[rows] & (self.address[flow] >= 0)) + rows.start
        flow = self.flow[at]
        pod = (self.high[at] >> np.uint64(32)).astype(np.int64)
        here = (self.low[at] >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int64)
        moved = (self.address[flow] != pod) | (self.port[flow] != here)
        at, flow = at[moved], flow[moved]
        if len(at):
            address, port = self.address[flow].astype(np.uint32), self.port[flow].astype(np.uint16)
            redirect(self.batch.data, self.l3[at], self.size[at], address, port)
        return len(at)

    def curious(self, start: int, end: int) -> bool:
        """Whether this part holds a question whose outside address is not known."""
        rows = self._rows(start, end)
        return bool((self.asks[rows] & (self.fresh[rows] | (self.address[self.flow[rows]] < 0))).any())

    def learn(self, source: NDArray[np.int64], packets: PacketBatch) -> None:
        """See where questions came from, as they left by eth0; `source` is the index of each."""
        if not len(source) or not len(self.index):
            return
        h = packets.headers()
        row = np.minimum(np.searchsorted(self.index, source), len(self.index) - 1)
        good = (
            (self.index[row] == source)
            & self.asks[row]
            & (h["l4_offset"] > 0)
            & (h["dst"] == self.outside[row])
        )
        h, flow = h[good], self.flow[row[good]]
        self.address[flow] = h["src"]
        self.port[flow] = np.where(h["proto"] == ICMP, h["icmp_id"], h["sport"])

    def remember(self) -> None:
        """Keep what is known for the next batch; the flows that were silent longest are forgotten."""
        seen = self.table._seen
        self.latest[self.flow] = self.time
        rows = zip(self.keys, self.address.tolist(), self.port.tolist(), self.latest.tolist(), strict=True)
        for key, address, port, latest in rows:
            if address >= 0:
                seen.pop(key, None)
                seen[key] = address, port, latest
        _limit(seen)


def _limit(remembered: dict[Any, Any]) -> None:
    while len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
