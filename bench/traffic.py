"""Nodes of every addressing mode with 32 pods, and the classes of traffic that they carry.

All are in one VNet, 10.240.0.0/12: nodes in 10.240.0.0/16, other hosts in 10.247.0.0/16, pods where their mode puts
them. Two services answer on UDP port 53: one on another node, one in a pod of this node that asks nobody; a third one
has a node port and all pods for endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4, ipv4_text, mac
from kubenet_fastpath.node_config import NodeConfig
from kubenet_fastpath.topology import Addressing

from .frames import DST, DST_MAC, FRAME, Frames, answers, field, put, udp_frames

__all__ = ["PODS", "Addressing", "Clock", "Path", "Site"]

PODS = 32  # that ask
PORTS = 60_000  # source ports of a client
HOSTS = 200  # of each kind that is asked
NODE_IP, GATEWAY, VNET = "10.240.0.4", "10.240.0.1", "10.240.0.0/12"
GATEWAY_MAC = "12:34:56:78:9a:bc"
DNS = 53
SERVICE_IP, LOCAL_SERVICE_IP, DOOR_IP, NODE_PORT = "10.0.0.10", "10.0.0.20", "10.0.0.30", 30053
VNET_HOSTS, INTERNET_HOSTS = ipv4("10.247.0.0"), ipv4("198.51.100.0")
#: The first address of other nodes' pods; theirs are the next ones.
REMOTE = {
    Addressing.KUBENET: ipv4("10.244.2.0"),
    Addressing.NODE_SUBNET: ipv4("10.240.4.0"),
    Addressing.POD_SUBNET: ipv4("10.241.4.0"),
    Addressing.OVERLAY: ipv4("10.244.2.0"),
}


class Path(Enum):
    """Where the packets go that begin a flow."""

    SAME_NODE = "same node"
    OTHER_NODE = "other node"
    VNET_HOST = "VNet host"
    INTERNET = "internet"
    SERVICE_LOCAL = "service, endpoint on this node"
    SERVICE = "service, endpoint elsewhere"
    NODE_PORT = "node port"


def _config(addressing: Addressing, **settings: Any) -> NodeConfig:
    common = {"node_ip": NODE_IP, "gateway": GATEWAY, "gateway_mac": GATEWAY_MAC} | settings
    cluster = {"pod_cidr": "10.244.1.0/24", "cluster_cidr": "10.244.0.0/16"}
    if addressing is Addressing.KUBENET:
        return kf.Kubenet(**(cluster | common))
    if addressing is Addressing.OVERLAY:
        return kf.AzureCniOverlay(**(cluster | common))
    if addressing is Addressing.POD_SUBNET:
        return kf.AzureCniPodSubnet(**({"pod_subnet": "10.241.0.0/16"} | common))
    beside = (ipv4_text(REMOTE[addressing] + i) for i in range(1, HOSTS + 1))  # on eth0's own link
    known = tuple(kf.Neighbour(ip=address, mac=GATEWAY_MAC, dev="eth0") for address in beside)
    return kf.AzureCniNodeSubnet(**({"non_masquerade": (VNET,), "neighbours": known} | common))


def _service(name: str, address: str, endpoints: list[str], **more: Any) -> kf.Service:
    where = tuple(f"{endpoint}:{DNS}" for endpoint in endpoints)
    port = kf.ServicePort(name="dns", port=DNS, protocol="udp", endpoints=where, **more)
    return kf.Service(name=f"bench/{name}", cluster_ip=address, ports=(port,))


@dataclass
class Clock:
    """A node's virtual time, which all its traces share; ns."""

    now: int = 10**9

    def tick(self) -> int:
        """A millisecond later."""
        self.now += 10**6
        return self.now


@dataclass(frozen=True)
class Site:
    """A node, the pods that ask, the one that answers, and their time."""

    addressing: Addressing
    node: kf.Node
    clients: list[kf.Port]
    server: kf.Port
    clock: Clock

    @classmethod
    def make(cls, addressing: Addressing = Addressing.KUBENET, **settings: Any) -> Site:
        """A node with its pods and the three services; `settings` go into its configuration."""
        node = kf.Node(_config(addressing, **settings))
        clients = [node.attach(kf.Pod(f"pod{i}")) for i in range(PODS)]
        server = node.attach(kf.Pod("server"))
        site = cls(addressing, node, clients, server, Clock())
        if node.config.kube_proxy:
            node.set_services([*node.services, *site.services()])
        return site

    def services(self) -> list[kf.Service]:
        """The three services."""
        pods = [ipv4_text(address) for address in self.addresses.tolist()]
        return [
            _service("far", SERVICE_IP, [ipv4_text(REMOTE[self.addressing] + 10)]),
            _service("near", LOCAL_SERVICE_IP, [_pod(self.server).ip or ""]),
            _service("door", DOOR_IP, pods, node_port=NODE_PORT),
        ]

    @property
    def addresses(self) -> NDArray[np.uint32]:
        """Of the pods that ask."""
        return np.array([ipv4(_pod(port).ip or "") for port in self.clients], np.uint32)

    def frames(
        self, path: Path, number: NDArray[Any], size: int = FRAME, dst: NDArray[Any] | None = None
    ) -> tuple[Frames, NDArray[np.uint16]]:
        """The first packet of each of these flows, and the port that it comes in by.

        Parameters
        ----------
        path : Path
        number : (N,) array of int
            Which flows; those below ten million differ in addresses or ports.
        size : int
            Bytes of a frame.
        dst : array of int, optional
            Addresses (for a node port: ports) that are asked in turn, instead of the class's own.
        """
        number = np.asarray(number, np.int64)
        chosen = None if dst is None else np.asarray(dst, np.int64)[number % len(dst)]
        if path is Path.NODE_PORT:
            client = VNET_HOSTS + 1 + number % HOSTS
            sport = 1024 + number // HOSTS % PORTS
            macs = mac(self.node.config.node_mac), mac(GATEWAY_MAC)
            door = NODE_PORT if chosen is None else chosen
            return udp_frames(*macs, client, ipv4(NODE_IP), sport, door, size), np.zeros(
                len(number), np.uint16
            )
        turn = number % PODS
        to = self._destinations(path, number) if chosen is None else chosen
        macs_of = np.array([mac(_pod(port).mac or "") for port in self.clients], np.uint64)
        indices = np.array([port.index for port in self.clients], np.uint16)
        sport = 1024 + number // PODS % PORTS
        link = self._link(to, indices[turn])
        sent = udp_frames(link, macs_of[turn], self.addresses[turn], to, sport, DNS, size)
        return sent, indices[turn]

    def _destinations(self, path: Path, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Whom these flows of pods ask."""
        round_ = number // (PODS * PORTS)
        host = 1 + (number + round_) % HOSTS
        if path is Path.SAME_NODE:
            return self.addresses[(number + 1 + round_) % PODS].astype(np.int64)
        first = {
            Path.OTHER_NODE: REMOTE[self.addressing],
            Path.VNET_HOST: VNET_HOSTS,
            Path.INTERNET: INTERNET_HOSTS,
        }
        if path in first:
            return first[path] + host
        return np.full(len(number), ipv4(LOCAL_SERVICE_IP if path is Path.SERVICE_LOCAL else SERVICE_IP))

    def _link(self, dst: NDArray[np.int64], port: NDArray[np.uint16]) -> NDArray[np.uint64]:
        """The MAC to which a pod sends what is for an address: with kubenet other pods of the node are on its link."""
        pods = [*self.clients, self.server]
        if self.addressing is not Addressing.KUBENET:
            hosts = np.zeros(1 + max(p.index for p in pods), np.uint64)
            hosts[[p.index for p in pods]] = [mac(_pod(p).host_mac or "") for p in pods]
            return hosts[port]
        bridge = next(interface.mac for interface in self.node.plan.interfaces if interface.name == "cbr0")
        addresses = np.array([ipv4(_pod(p).ip or "") for p in pods])
        macs = np.array([mac(_pod(p).mac or "") for p in pods], np.uint64)
        order = np.argsort(addresses)
        place = np.minimum(np.searchsorted(addresses[order], dst), len(pods) - 1)
        return np.where(addresses[order][place] == dst, macs[order][place], np.uint64(bridge))

    def answers(self, sent: Frames, port: NDArray[Any]) -> Frames:
        """What comes back for frames that left by these ports."""
        back = answers(sent)
        near = port != 0  # from pods, which know whom they send to by his address
        put_back = back[near]
        put(put_back, DST_MAC, self._link(field(put_back, DST).astype(np.int64), port[near]))
        back[near] = put_back
        return back


def _pod(port: kf.Port) -> kf.Pod:
    assert port.pod is not None
    return port.pod
