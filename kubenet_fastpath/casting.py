"""Who plays whom when a capture is replayed: the hosts of one prefix are the pods of a kubenet node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4, ipv4_prefix, ipv4_text, prefix_text
from .config import Kubenet, Route
from .errors import ConfigError
from .node import MAX_PORTS
from .plan import mask_of

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
NOBODY = "10.244.1.0/24"  #: the pods' prefix when no host has an IPv4 address
SUBNETS = ("10.240.0.0/16", "10.224.0.0/16", "172.31.0.0/16", "192.168.0.0/16", "100.127.0.0/16", "198.18.0.0/16")
ETH_IP, ETH_ARP = 0x0800, 0x0806
MTU = 1500


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
        """Addresses that got unicast packets from their own prefix of this length: on the same link, so somebody is
        there, whether it speaks or not.
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
    kubenet gives a node a /24, so the /24 with most speakers is taken, among private addresses if any speak. If no /24
    has two speakers, it is the /16 with most, narrowed to those. Of equals, the one that sent more packets.
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


@dataclass(frozen=True)
class Cast:
    """The parts and who plays them.

    Attributes
    ----------
    config : Kubenet
        The node.
    why : str
        How the pods' prefix was found, in words.
    pods : tuple of str
        Addresses of the pods, ascending.
    macs : dict of int to int
        MACs of the capture that are one pod's alone, and its address.
    routers : frozenset of int
        MACs of the capture that speak with addresses outside the pods' prefix.
    notes : tuple of str
        What a reader of the result should know.
    """

    config: Kubenet
    why: str
    pods: tuple[str, ...]
    macs: dict[int, int]
    routers: frozenset[int]
    notes: tuple[str, ...] = ()


def cast_node(
    census: Census, pod_cidr: str | None = None, cluster_cidr: str | None = None, node_ip: str | None = None
) -> Cast:
    """Hand out the parts.

    Parameters
    ----------
    census : Census
        Of the whole capture.
    pod_cidr : str, optional
        The pods' prefix; `find_pods` says it if omitted.
    cluster_cidr : str, optional
        Where the other nodes' pods are; the /16 around `pod_cidr` if omitted.
    node_ip : str, optional
        Address of eth0, with its subnet's prefix length or /16; one in a /16 that the capture does not mention if
        omitted.

    Raises
    ------
    AddressError, ConfigError
        For what is no address or prefix, a cast that contradicts itself, or more speakers than a bridge has ports.

    Notes
    -----
    A pod is every address of the prefix that speaks IPv4 or ARP, or hears from one that does. cbr0 has the first
    address, or, if that one speaks, the first that is free. The network's address and the broadcast address are no
    pod's: frames from them arrive at eth0.
    """
    notes = []
    pod_cidr, why = (pod_cidr, "as you said") if pod_cidr else find_pods(census)
    net, length = ipv4_prefix(pod_cidr)
    if length > 30:
        raise ConfigError(f"pod CIDR {pod_cidr} has no room for a bridge and a pod: give a shorter prefix")
    hosts, bridge = _hosts(census, net, length)
    if bridge != net + 1:
        notes.append(f"{ipv4_text(net + 1)} speaks, so it is a pod and cbr0 is {ipv4_text(bridge)}")
    if census.longest > MTU:
        notes.append(f"packets of up to {census.longest} bytes: taken for the MTU (segmentation offload, or jumbo frames)")
    if census.tagged:
        notes.append(f"{census.tagged} frames have a VLAN tag: cbr0 bridges them, but nothing routes them")
    mac, spoke = census.macs()
    is_pod = np.isin(spoke, hosts)
    node = node_ip or _free_node(census, net)
    config = Kubenet(
        node_ip=node,
        pod_cidr=pod_cidr,
        cluster_cidr=cluster_cidr or prefix_text(net & mask_of(min(16, length)), min(16, length)),
        gateway=_gateway(node),
        bridge_ip=ipv4_text(bridge),
        mtu=max(MTU, census.longest),
        routes=_routes(node, pod_cidr),
    )
    return Cast(
        config=config,
        why=why,
        pods=tuple(map(ipv4_text, hosts)),
        macs=_owners(mac[is_pod], spoke[is_pod]),
        routers=frozenset(mac[(spoke & np.uint32(mask_of(length))) != net].tolist()),
        notes=tuple(notes),
    )


def _hosts(census: Census, net: int, length: int) -> tuple[list[int], int]:
    """The pods' addresses, ascending, and that of cbr0."""
    prefix, last = prefix_text(net, length), net | ~mask_of(length) & 0xFFFFFFFF
    speak = census.hosts()[0]
    listen = census.listeners(length)
    both = np.union1d(speak, listen[listen != net + 1])
    hosts = both[(both > net) & (both < last)].tolist()
    if len(hosts) >= MAX_PORTS:
        raise ConfigError(
            f"{len(hosts)} hosts are in {prefix} and a bridge has room for {MAX_PORTS - 1} pods: "
            "name a longer prefix with --pod-cidr"
        )
    taken = set(hosts)
    bridge = next((address for address in range(net + 1, last) if address not in taken), 0)
    if not bridge:
        raise ConfigError(f"all addresses of {prefix} are taken and none is left for cbr0: give a shorter prefix")
    return hosts, bridge


def _owners(mac: NDArray[np.uint64], spoke: NDArray[np.uint32]) -> dict[int, int]:
    """MACs that one address alone speaks with; others are a router's, or made up by the capture."""
    one, at, count = np.unique(mac, return_index=True, return_counts=True)
    alone = (count == 1) & (one != 0)
    return dict(zip(one[alone].tolist(), spoke[at[alone]].tolist(), strict=True))


def _free_node(census: Census, pods: int) -> str:
    for subnet in SUBNETS:
        net = ipv4_prefix(subnet)[0]
        if census.unused(subnet) and (net ^ pods) >> 16:
            return f"{ipv4_text(net + 4)}/16"
    raise ConfigError(f"the capture mentions addresses in all of {', '.join(SUBNETS)}: say --node-ip")


def _gateway(node_ip: str) -> str:
    """The first address of eth0's subnet, as in any VNet."""
    address, _, length = node_ip.partition("/")
    bits = int(length) if length.isascii() and length.isdecimal() and int(length) <= 32 else 16
    first = (ipv4(address) & mask_of(bits)) + 1
    return ipv4_text(first + (first == ipv4(address)))


def _routes(node_ip: str, pod_cidr: str) -> tuple[Route, ...]:
    """The node's routes, but with its whole subnet behind the gateway.

    A VNet answers every ARP request with one MAC, that of its fabric; so it comes to the same, and no packet waits for
    an answer that a capture cannot hold.
    """
    gateway = _gateway(node_ip)
    return (
        Route(prefix="0.0.0.0/0", dev="eth0", via=gateway),
        Route(prefix=f"{gateway}/32", dev="eth0"),
        Route(prefix=pod_cidr, dev="cbr0"),
    )
