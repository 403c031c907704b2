"""Who plays whom when a capture is replayed: the hosts of one prefix are the pods of a kubenet node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .address import ipv4, ipv4_prefix, ipv4_text, prefix_text
from .census import Census, find_pods
from .config import Kubenet, Route
from .errors import ConfigError
from .node import MAX_PORTS
from .plan import mask_of

__all__ = ["Cast", "cast_node"]

#: Where the node may be: the first of these that the capture does not mention.
SUBNETS = (
    "10.240.0.0/16",
    "10.224.0.0/16",
    "172.31.0.0/16",
    "192.168.0.0/16",
    "100.127.0.0/16",
    "198.18.0.0/16",
)
MTU = 1500


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
        Address of eth0, with its subnet's prefix length or /16; one in a /16 that the capture does not
        mention if omitted.

    Raises
    ------
    AddressError, ConfigError
        For what is no address or prefix, a cast that contradicts itself, or more speakers than a bridge has
        ports.

    Notes
    -----
    A pod is every address of the prefix that speaks IPv4 or ARP, or hears from one that does. cbr0 has the
    first address, or, if that one speaks, the first that is free. The network's address and the broadcast
    address are no pod's: frames from them arrive at eth0.
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
        notes.append(
            f"the MTU is {census.longest} bytes, as of the longest packet (jumbo frames, or segmentation offload)"
        )
    if census.tagged:
        notes.append(f"{census.tagged} frames have a VLAN tag: cbr0 bridges them, but nothing routes them")
    mac, spoke = census.macs()
    is_pod = np.isin(spoke, hosts)
    if cluster_cidr is None:
        cluster_cidr = prefix_text(net & mask_of(min(16, length)), min(16, length))
    node = node_ip or _free_node(census, cluster_cidr)
    config = Kubenet(
        node_ip=node,
        pod_cidr=pod_cidr,
        cluster_cidr=cluster_cidr,
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
        raise ConfigError(
            f"all addresses of {prefix} are taken and none is left for cbr0: give a shorter prefix"
        )
    return hosts, bridge


def _owners(mac: NDArray[np.uint64], spoke: NDArray[np.uint32]) -> dict[int, int]:
    """MACs that one address alone speaks with; others are a router's, or made up by the capture."""
    one, at, count = np.unique(mac, return_index=True, return_counts=True)
    alone = (count == 1) & (one != 0)
    return dict(zip(one[alone].tolist(), spoke[at[alone]].tolist(), strict=True))


def _free_node(census: Census, cluster_cidr: str) -> str:
    cluster, length = ipv4_prefix(cluster_cidr)
    for subnet in SUBNETS:
        net = ipv4_prefix(subnet)[0]
        if census.unused(subnet) and (net ^ cluster) & mask_of(min(length, 16)):
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

    A VNet answers every ARP request with one MAC, that of its fabric; so it comes to the same, and no packet
    waits for an answer that a capture cannot hold.
    """
    gateway = _gateway(node_ip)
    return (
        Route(prefix="0.0.0.0/0", dev="eth0", via=gateway),
        Route(prefix=f"{gateway}/32", dev="eth0"),
        Route(prefix=pod_cidr, dev="cbr0"),
    )
