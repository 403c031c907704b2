"""Nodes in a VNet: frames go from pod to pod, node to node, out and back, in virtual time, through real pipelines.

Longer than its neighbours, for it is the one door to all nodes and the fabric between them; `transport` carries.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .address import ipv4, ipv4_prefix, ipv4_text, mac, prefix_text
from .aks_limit import (
    MAX_KUBENET_NODES,
    MAX_OVERLAY_NODES,
    MAX_PODS,
    check_range,
    check_room,
    check_subnet_address,
    overlap,
)
from .azure_cni import AzureCni, AzureCniOverlay, AzureCniPodSubnet
from .batch import PacketBatch
from .config import Kubenet, Pod
from .delivery import Delivery, Place, PlaceKind
from .errors import ConfigError
from .fabric import FABRIC_MAC, INTERNET, NOWHERE, PLATFORM, Fabric, Nic
from .ipam import HostLocal
from .journey import Frames
from .load_balancer import LoadBalancer, LoadBalancerRule
from .node import Node
from .node_config import NodeConfig
from .result import Result
from .service import Service, ServicePort, TrafficPolicy
from .topology import Addressing, Topology
from .topology_file import read_topology
from .transport import Transport
from .vnet import HopKind, UserRoute, Vnet

__all__ = ["Cluster"]

LATENCY_NS = 250_000
MAX_NODES = {
    Kubenet: MAX_KUBENET_NODES,
    AzureCniOverlay: MAX_OVERLAY_NODES,
}  #: others: by their address space


class Cluster:
    """Nodes, their pods, and the VNet between them.

    Parameters
    ----------
    nodes : mapping of str to NodeConfig
        Any mix of addressing modes, by name.
    vnet : Vnet
        What the nodes' addresses are in. For each `Kubenet` node that it has no route for, the cluster adds the one
        that AKS programs: the pod CIDR, to the node.
    pods : mapping of str to iterable of Pod, optional
        By the name of their node. Pod names are unique in the cluster.
    services : iterable of Service
        Every node knows them.
    balancer : LoadBalancer, optional
        All nodes are its pool. Its rules get one for each external address and port of the services; with
        `externalTrafficPolicy: Local` to the nodes that have endpoints when the services are set.
    latency_ns : int
        Of the fabric, one way.

    Attributes
    ----------
    nodes : dict of str to Node
    places : dict of str to Place
        Pods, hosts and nodes by name, `internet` and `platform`.
    vnet : Vnet
        With the routes that were added.
    fabric : Fabric
        `fabric.snat` has the outbound ports in use.

    Raises
    ------
    AddressError, ConfigError
        For more nodes, pods or routes than AKS takes, names or addresses that are taken, or an address outside.

    Examples
    --------
    >>> nodes = {f"node{i}": Kubenet(node_ip=f"10.224.0.{i + 4}", pod_cidr=f"10.244.{i}.0/24",
    ...                              cluster_cidr="10.244.0.0/16", gateway="10.224.0.1") for i in range(3)}
    >>> cluster = Cluster(nodes, vnet=Vnet(address_space=("10.224.0.0/12",)),
    ...                   pods={"node0": [Pod("web")], "node1": [Pod("db")]})
    >>> cluster.places["db"].node
    'node1'
    >>> len(cluster.vnet.routes)
    3
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeConfig],
        *,
        vnet: Vnet,
        pods: Mapping[str, Iterable[Pod]] | None = None,
        services: Iterable[Service] = (),
        balancer: LoadBalancer | None = None,
        latency_ns: int = LATENCY_NS,
    ) -> None:
        if latency_ns < 1:
            raise ConfigError(f"latency_ns {latency_ns} starts at 1")
        pods = {} if pods is None else pods
        unknown = set(pods) - set(nodes)
        if unknown:
            raise ConfigError(f"pods are on {', '.join(sorted(unknown))}, which is no node")
        _check_nodes(nodes, vnet)
        self.vnet = _with_pod_routes(vnet, nodes)
        self.latency_ns = latency_ns
        self.nodes: dict[str, Node] = {}
        self.places: dict[str, Place] = {}
        self.services: tuple[Service, ...] = ()
        self._order = list(nodes)
        self._numbers = {name: index for index, name in enumerate(self._order)}
        self._ranges: dict[tuple[int, int], HostLocal] = {}
        for name, config in nodes.items():
            self.nodes[name] = Node(config)
        nics = [_nic(name, self.nodes[name]) for name in self._order]
        hosts = self.vnet.hosts
        nics += [
            Nic(
                name=host.name,
                mac=mac(host.mac) if host.mac else 0x000D3A000000 | ipv4(host.ip) & 0xFFFFFF,
                address=ipv4(host.ip),
                ip_forwarding=host.ip_forwarding,
            )
            for host in hosts
        ]
        self.fabric = Fabric(self.vnet, nics, balancer)
        self._transport = Transport([self.nodes[name] for name in self._order], self.fabric, latency_ns)
        self._add_place("internet", PlaceKind.INTERNET)
        self._add_place("platform", PlaceKind.PLATFORM)
        for index, nic in enumerate(nics):
            kind = PlaceKind.NODE if index < len(self._order) else PlaceKind.HOST
            self._transport.nic_places.append(self._add_place(nic.name, kind, nic.address, nic.mac).index)
        for node, group in pods.items():
            for pod in group:
                self.attach(node, pod)
        if services:
            self.set_services(services)

    @classmethod
    def from_topology(cls, topology: Topology, addressing: Addressing) -> Cluster:
        """Make the cluster that a topology is with one of the addressing modes.

        Raises
        ------
        AddressError, ConfigError, TableFull
            For what the mode cannot have.
        """
        topology.check(addressing)
        names = [name for name, _ in topology.nodes]
        configs = {name: topology.node_config(addressing, index) for index, name in enumerate(names)}
        cluster = cls(configs, vnet=topology.vnet(), balancer=topology.balancer())
        for site in topology.pods:
            cluster.attach(site.node, topology.pod(site, addressing))
        address = {site.name: ipv4_text(cluster.places[site.name].address) for site in topology.pods}
        cluster.set_services(topology.services_at(address))
        return cluster

    @classmethod
    def from_files(
        cls, *paths: str | os.PathLike[str], addressing: Addressing | str | None = None
    ) -> Cluster:
        """Make a cluster of what `kubectl get -o json` and `az ... show` say, or a short file of our own.

        Parameters
        ----------
        *paths : path
            As `topology_file.read_topology` takes them; that tells also what was skipped or missing.
        addressing : Addressing or str, optional
            What the cluster has today if omitted, or kubenet if the files do not tell.

        Raises
        ------
        OSError, AddressError, ConfigError, TableFull
            For files that cannot be read, or a cluster that cannot be.
        """
        topology = read_topology(paths).topology
        mode = topology.addressing or Addressing.KUBENET if addressing is None else Addressing(addressing)
        return cls.from_topology(topology, mode)

    def __repr__(self) -> str:
        pods = len(self._transport.pod_places)
        return f"<Cluster of {len(self.nodes)} nodes with {pods} pods>"

    def _add_place(
        self, name: str, kind: PlaceKind, address: int = 0, lladdr: int = 0, node: str | None = None
    ) -> Place:
        if name in self.places:
            raise ConfigError(f"the cluster has a {self.places[name].kind.value} {name!r} already")
        place = Place(
            index=len(self._transport.places), name=name, kind=kind, address=address, mac=lladdr, node=node
        )
        self.places[name] = place
        self._transport.places.append(place)
        return place

    def attach(self, node: str, pod: Pod) -> Place:
        """Put a pod on a node.

        Raises
        ------
        ConfigError, TableFull
            As `Node.attach` does; also for a name that is taken in the cluster, an address that another node has, or
            the 251st pod of a node. Nothing has changed then.
        KeyError
            For a name that is no node's.
        """
        if node not in self.nodes:
            raise KeyError(f"no node {node!r}")
        if pod.name in self.places:
            raise ConfigError(f"the cluster has a {self.places[pod.name].kind.value} {pod.name!r} already")
        target, index = self.nodes[node], self._numbers[node]
        if sum(port.pod is not None for port in target.ports.values()) >= MAX_PODS:
            raise ConfigError(f"node {node} has {MAX_PODS} pods, the most that AKS puts on one")
        shared = not target.plan.pods.exclusive
        if shared:
            pod = self._with_address(index, target, pod)
        try:
            port = target.attach(pod)
        except Exception:
            if shared:
                self._give_back(target, ipv4(pod.ip or ""))
            raise
        assert port.pod is not None
        assert port.pod.ip is not None
        assert port.pod.mac is not None
        place = self._add_place(pod.name, PlaceKind.POD, ipv4(port.pod.ip), mac(port.pod.mac), node)
        self._transport.pod_places[index, port.index] = place.index
        return place

    def _with_address(self, index: int, node: Node, pod: Pod) -> Pod:
        """A pod of a subnet that nodes share: the cluster hands its address out, and the NIC owns it."""
        plan = node.plan.pods
        key = plan.network, plan.prefix_len
        if key not in self._ranges:
            self._ranges[key] = HostLocal(plan.network, plan.prefix_len, plan.gateway)
            for reserved in {*plan.reserved, *(nic.address for nic in self.fabric.nics)}:
                if not (reserved ^ plan.network) >> 32 - plan.prefix_len:
                    self._ranges[key].reserve(reserved)
        ranges = self._ranges[key]
        address = ranges.allocate() if pod.ip is None else ranges.reserve(pod.ip)
        self.fabric.claim(index, address)
        return replace(pod, ip=ipv4_text(address))

    def _give_back(self, node: Node, address: int) -> None:
        self.fabric.disclaim(address)
        self._ranges[node.plan.pods.network, node.plan.pods.prefix_len].release(address)

    def set_services(self, services: Iterable[Service]) -> None:
        """Replace the services on every node, and the load balancer's rules for their external addresses.

        Raises
        ------
        ConfigError
            As `Node.set_services` does; nodes before the refusing one have the new services then. Also for a cluster
            IP in a range that AKS forbids; nothing has changed then.
        """
        wanted = tuple(services)
        for service in wanted:
            check_range(f"service {service.name}: cluster_ip", f"{service.cluster_ip}/32")
        for node in self.nodes.values():
            node.set_services(wanted)
        self.services = wanted
        if self.fabric.balancer is not None:
            where = {place.address: place.node for place in self.places.values() if place.node is not None}
            rules = [
                LoadBalancerRule(
                    address=ip, port=port.port, protocol=port.protocol, nodes=_healthy(service, port, where)
                )
                for service in wanted
                for ip in service.outside
                for port in service.ports
                if port.protocol != "sctp"
            ]
            self.fabric.set_rules((*self.fabric.balancer.rules, *rules))

    def link_addresses(self, place: Place | str, dst: str | int) -> tuple[int, int]:
        """Destination and source MAC of a frame that a place sends to an IPv4 address.

        A pod on a bridge knows its neighbours' MACs; whatever is not on its link goes to its gateway.
        """
        place = self.places[place] if isinstance(place, str) else place
        if place.kind is not PlaceKind.POD or place.node is None:
            return FABRIC_MAC, place.mac or FABRIC_MAC
        node, to = self.nodes[place.node], ipv4(dst)
        if node.plan.routed:
            port = node.ports[place.name]
            assert port.pod is not None
            assert port.pod.host_mac is not None
            return mac(port.pod.host_mac), place.mac
        pods = node.plan.pods
        if not (to ^ pods.network) >> 32 - pods.prefix_len and to != pods.gateway:
            for port in node.ports.values():
                if port.pod is not None and port.pod.ip == ipv4_text(to):
                    return mac(port.pod.mac or 0), place.mac
        return next(i.mac for i in node.plan.interfaces if i.name == node.plan.pod_port.bridge), place.mac

    def send(
        self,
        batch: PacketBatch,
        at: Place | str | ArrayLike,
        *,
        forward: Callable[[Node, PacketBatch], Result] = Node.forward,
    ) -> Delivery:
        """Carry frames to wherever they go.

        Parameters
        ----------
        batch : PacketBatch
            Frames as the sender's network card has them (`link_addresses` tells the MACs), in any order; each starts at
            its time. Its bytes stay as they are, its ports are not looked at.
        at : Place, str or (N,) array of int
            Where each frame is sent: a pod, a host, the internet or the platform.
        forward : callable
            Called for each batch that a node gets; it returns what `Node.forward` does, and may look closer.

        Returns
        -------
        Delivery

        Raises
        ------
        KeyError, IndexError, TypeError, ValueError
            For a place that is none, or a node, or a batch that is none. Nothing has changed then.

        Notes
        -----
        Frames that nodes send on come back only by the fabric; nobody answers but nodes and the fabric. To answer as a
        pod or host would, send what arrived back, turned around. Nodes' clocks end at the latest frame: `advance` lets
        what they still wait for happen.
        """
        if not isinstance(batch, PacketBatch):
            raise TypeError(f"send takes a PacketBatch, not {type(batch).__name__}")
        places = self._sources(at, len(batch))
        node = np.full(len(batch), -1, np.int32)
        sender = np.full(len(batch), NOWHERE, np.int32)
        port = np.zeros(len(batch), np.uint16)
        for index in np.unique(places).tolist():
            place, rows = self._transport.places[index], places == index
            if place.kind is PlaceKind.POD and place.node is not None:
                node[rows] = self._numbers[place.node]
                port[rows] = self.nodes[place.node].ports[place.name].index
            elif place.kind is PlaceKind.HOST:
                sender[rows] = self._transport.nic_places.index(index)
            else:
                sender[rows] = INTERNET if place.kind is PlaceKind.INTERNET else PLATFORM
        frames = batch.copy()
        frames.port = port
        rows = np.argsort(frames.time, kind="stable")
        n = len(batch)
        start = Frames(frames, node, sender, np.arange(n, dtype=np.int32), np.ones(n, np.bool_)).take(rows)
        return self._transport.send(start, forward)

    def advance(self, now: int) -> Delivery:
        """Let time pass until `now` (ns): ARP retries, failures, ageing; what nodes send then is carried."""
        return self._transport.advance(now)

    @property
    def forward_ns(self) -> int:
        """CPU time of this thread in the nodes' pipelines so far, and nothing else."""
        return self._transport.forward_ns

    def _sources(self, at: Place | str | ArrayLike, n: int) -> NDArray[np.int64]:
        if isinstance(at, str):
            if at not in self.places:
                raise KeyError(f"no place {at!r} in the cluster")
            at = self.places[at].index
        elif isinstance(at, Place):
            at = at.index
        places = np.asarray(at)
        if places.dtype.kind not in "iu" and places.size:
            raise TypeError(f"at takes places or their indices, not {places.dtype}")
        if places.ndim > 1 or (places.ndim == 1 and len(places) != n):
            raise ValueError(f"at has shape {places.shape}, the batch has {n} packets")
        places = np.broadcast_to(places.astype(np.int64), (n,))
        if n and not (int(places.min()) >= 0 and int(places.max()) < len(self._transport.places)):
            raise IndexError(f"place {places.max()} is not below {len(self._transport.places)}")
        for index in np.unique(places).tolist():
            if self._transport.places[index].kind is PlaceKind.NODE:
                raise ValueError(
                    f"{self._transport.places[index].name} is a node, and no process of a node sends"
                )
        return places


def _healthy(service: Service, port: ServicePort, where: Mapping[int, str]) -> tuple[str, ...] | None:
    """Where kube-proxy's health check says that there are endpoints; None: every node will do."""
    if service.external_traffic_policy is TrafficPolicy.CLUSTER:
        return None
    nodes = (where.get(ipv4(endpoint.ip)) for endpoint in port.ready)
    return tuple(dict.fromkeys(node for node in nodes if node is not None))


def _nic(name: str, node: Node) -> Nic:
    config = node.config
    overlay = ipv4_prefix(config.pod_cidr) if isinstance(config, AzureCniOverlay) else None
    return Nic(
        name=name,
        mac=mac(config.node_mac),
        address=ipv4(config.node_address),
        overlay=overlay,
        ip_forwarding=isinstance(config, Kubenet),
        balanced=True,
    )


def _check_nodes(nodes: Mapping[str, NodeConfig], vnet: Vnet) -> None:
    for kind, most in MAX_NODES.items():
        count = sum(isinstance(config, kind) for config in nodes.values())
        if count > most:
            raise ConfigError(f"{count} nodes with {kind.__name__}: AKS takes {most} at most")
    for space in vnet.address_space:
        check_range("address_space", space, within=True)
    spaces = tuple(map(ipv4_prefix, vnet.address_space))
    for subnet, size in Counter(config.node_subnet for config in nodes.values()).items():
        check_room("the nodes' subnet", subnet, size, f"{size:,} nodes")
    checked: set[tuple[str, str]] = set()
    for name, config in nodes.items():
        address = ipv4(config.node_address)
        if all((address ^ network) >> 32 - length for network, length in spaces):
            raise ConfigError(
                f"node {name} has {config.node_address}, outside the VNet {', '.join(vnet.address_space)}"
            )
        check_subnet_address(f"node {name}: node_ip", config.node_address, config.node_subnet)
        if (config.node_subnet, config.cluster) not in checked:
            checked.add((config.node_subnet, config.cluster))
            _check_networks(name, config, vnet)


def _check_networks(name: str, config: NodeConfig, vnet: Vnet) -> None:
    """The networks of a node, which many nodes share."""
    check_range(f"node {name}: subnet", config.node_subnet)
    if isinstance(config, Kubenet | AzureCniOverlay):
        check_range(f"node {name}: cluster_cidr", config.cluster_cidr)
        if overlap(config.cluster_cidr, config.node_subnet):
            raise ConfigError(
                f"node {name}: cluster_cidr {config.cluster_cidr} overlaps the nodes' subnet {config.node_subnet}"
            )
    elif isinstance(config, AzureCniPodSubnet):
        check_range(f"node {name}: pod_subnet", config.pod_subnet)
    if isinstance(config, AzureCni) and not isinstance(config, AzureCniOverlay):
        network, bits = ipv4_prefix(config.pod_range)
        if all(bits < n or (network ^ net) >> 32 - n for net, n in map(ipv4_prefix, vnet.address_space)):
            raise ConfigError(
                f"node {name}: its pods' subnet {config.pod_range} is not inside the VNet "
                f"{', '.join(vnet.address_space)}"
            )


def _with_pod_routes(vnet: Vnet, nodes: Mapping[str, NodeConfig]) -> Vnet:
    """The routes that AKS writes into a kubenet cluster's route table."""
    known = {ipv4_prefix(route.prefix) for route in vnet.routes}
    made = [
        UserRoute(
            prefix=prefix_text(*ipv4_prefix(c.pod_cidr)),
            hop=HopKind.APPLIANCE,
            address=c.node_address,
            name=name,
        )
        for name, c in nodes.items()
        if isinstance(c, Kubenet) and ipv4_prefix(c.pod_cidr) not in known
    ]
    return replace(vnet, routes=(*vnet.routes, *made)) if made else vnet
