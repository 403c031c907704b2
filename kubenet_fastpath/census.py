"""Who speaks in a capture, and which of them could be the pods of one node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4_prefix, prefix_text
from .plan import mask_of

__all__ = ["Census", "find_pods", "speakers"]

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
NOBODY = "10.244.1.0/24"  #: the pods' prefix when no host has an IPv4 address
ETH_IP, ETH_ARP = 0x0800, 0x0806


def speakers(headers: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) bool: the frame is IPv4 or ARP and tells which unicast address it comes from."""
    ip = (headers["eth_type"] == ETH_IP) & (headers["ip_version"] == 4)
    src = headers["src"]
    return np.asarray((ip | (headers["eth_type"] == ETH_ARP)) & (src >> 24 != 0) & (src >> 28 < 14), np.bool_)


@dataclass
class Census:
    """Who speaks in a capture, and behind which MAC; counted batch by batch.

    Attributes
    ----------
    packets : int
        Packets counted.
    longest : int
        Bytes of the longest IPv4 packet.
    tagged : int
        Frames with a VLAN tag.
    """

    packets: int = 0
    longest: int = 0
    tagged: int = 0
    _mac: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    _src: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    _count: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _dst: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    _near: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1 << 16, np.bool_))

    def add(self, headers: NDArray[Any]) -> None:
        """Count a batch; `headers` as `PacketBatch.headers` gives them."""
        self.packets += len(headers)
        self.tagged += int(np.count_nonzero(headers["vlan_tags"]))
        spoken = headers[speakers(headers)]
        if not len(spoken):
            return
        ip = spoken[spoken["eth_type"] == ETH_IP]
        self.longest = max(self.longest, int(ip["ip_len"].max(initial=0)))
        self._known[spoken["src"] >> 16] = True
        self._known[spoken["dst"] >> 16] = True
        mac = np.concatenate((self._mac, spoken["eth_src"]))
        src = np.concatenate((self._src, spoken["src"]))
        count = np.concatenate((self._count, np.ones(len(spoken), np.int64)))
        order = np.lexsort((mac, src))
        mac, src, count = mac[order], src[order], count[order]
        first = np.ones(len(src), np.bool_)
        first[1:] = (src[1:] != src[:-1]) | (mac[1:] != mac[:-1])
        self._mac, self._src = mac[first], src[first]
        self._count = np.add.reduceat(count, first.nonzero()[0])
        self._add_listeners(ip[(ip["eth_dst"] >> 40 & 1 == 0) & (ip["dst"] >> 28 < 14)])

    def _add_listeners(self, sent: NDArray[Any]) -> None:
        if not len(sent):
            return
        dst = np.concatenate((self._dst, sent["dst"]))
        apart = np.frexp((sent["src"] ^ sent["dst"]).astype(np.float64))[1]
        near = np.concatenate((self._near, 32 - apart))
        order = np.argsort(dst, kind="stable")
        self._dst, at = np.unique(dst[order], return_index=True)
        self._near = np.maximum.reduceat(near[order], at)

    def hosts(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Addresses that speak, ascending, and the packets that each sent."""
        src, at = np.unique(self._src, return_index=True)
        return src, np.add.reduceat(self._count, at) if len(src) else self._count

    def listeners(self, prefix_len: int) -> NDArray[np.uint32]:
        """Addresses that got unicast packets from within their own prefix of this length.

        Sender and receiver are on one link, so somebody is there, whether it speaks or not.
        """
        return self._dst[self._near >= prefix_len]

    def macs(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """Pairs of a MAC and an address that spoke with it."""
        return self._mac, self._src

    def unused(self, prefix: str) -> bool:
        """Whether no address in a /16 was seen, as source or destination."""
        return not self._known[ipv4_prefix(prefix)[0] >> 16]


def find_pods(census: Census) -> tuple[str, str]:
    """The prefix whose hosts play the pods, and in words how it was found.

    Notes
    -----
    kubenet gives a node a /24, so the /24 with most speakers is taken, among private addresses if any speak.
    If no /24 has two speakers, it is the /16 with most, narrowed to those. Of equals, the one that sent more
    packets.
    """
    src, count = census.hosts()
    if not len(src):
        return NOBODY, "no host has an IPv4 address"
    private = np.zeros(len(src), np.bool_)
    for net, length in map(ipv4_prefix, PRIVATE):
        private |= src & mask_of(length) == net
    kind = "private "
    if private.any():
        src, count = src[private], count[private]
    else:
        kind = ""
    net, hosts = _busiest(src, count, 24)
    length = 24
    if hosts == 1 and len(src) > 1:
        wide, hosts = _busiest(src, count, 16)
        if hosts > 1:
            inside = src[src & mask_of(16) == wide]
            length = 32 - max(8, int(inside[0] ^ inside[-1]).bit_length())
            net = int(inside[0]) & mask_of(length)
    why = f"the {kind}prefix with most speakers, {hosts}"
    return prefix_text(net, length), why if kind else f"no private address speaks; {why}"


def _busiest(src: NDArray[np.uint32], count: NDArray[np.int64], length: int) -> tuple[int, int]:
    """The prefix of a length with most speakers, and how many these are."""
    net, at, hosts = np.unique(src & np.uint32(mask_of(length)), return_index=True, return_counts=True)
    best = np.lexsort((np.add.reduceat(count, at), hosts))[-1]
    return int(net[best]), int(hosts[best])
