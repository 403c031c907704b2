"""A cluster before anybody has chosen an addressing mode; each mode makes its own nodes of it.

Longer than its neighbours: each field is described and checked here, and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .address import ipv4, ipv4_prefix, ipv4_text, mac_text, prefix_text
from .aks_limit import BATCH, MAX_KUBENET_NODES, check_max_pods, check_range, check_room, overlap
from .azure_cni import AzureCniNodeSubnet, AzureCniOverlay, AzureCniPodSubnet
from .config import Kubenet, Pod
from .errors import AddressError, ConfigError
from .load_balancer import LoadBalancer
from .node_config import NodeConfig
from .service import Endpoint, HostPort, Service, ServicePort, TrafficPolicy
from .vnet import UserRoute, Vnet, VnetHost

__all__ = ["Addressing", "PodSite", "ServiceSite", "Topology", "is_address", "sample_topology"]

NODE_MAC = 0x000D3A000000


class Addressing(Enum):
    """Where pods' addresses come from."""

    KUBENET = "kubenet"
    NODE_SUBNET = "node-subnet"
    POD_SUBNET = "pod-subnet"
    OVERLAY = "overlay"


@dataclass(frozen=True, kw_only=True)
class PodSite:
    """A pod and the node that it is on; its address is the addressing mode's, `ip` in the one that it really has."""

    name: str
    node: str
    host_ports: tuple[HostPort, ...] = ()
    ip: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSite:
    """A service port and its endpoints, as (pod's name, port); those of one name are ports of one service.

    An endpoint that is no pod is a node, by its name, or any address: the API server, a host outside.

    `terminating` are endpoints that are not ready any more but still serve. For the rest see `Service`.
    """

    name: str
    cluster_ip: str
    port: int
    endpoints: tuple[tuple[str, int], ...] = ()
    terminating: tuple[tuple[str, int], ...] = ()
    protocol: str = "tcp"
    node_port: int | None = None
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    internal_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    affinity_s: int | None = None

    @property
    def outside(self) -> tuple[str, ...]:
        """All its addresses but the cluster IP."""
        return (*self.external_ips, *self.load_balancer_ips)


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Nodes, pods and services, and the networks that each addressing mode would take.

    Parameters
    ----------
    nodes : tuple of (str, str)
        Names and addresses of eth0.
    node_subnet : str
        The nodes', in the VNet; node-subnet mode takes pods' addresses from it.
    pod_cidr : str
        Private CIDR of kubenet and overlay; each node gets a part of `node_prefix_len`.
    pod_subnet : str
        The pods' in the VNet, for the mode of that name.
    address_space, peers : tuple of str
        Of the VNet, and of those that it is peered with.
    pods, services, hosts, routes, frontends
        What is in it; `frontends` are the load balancer's outbound addresses.
    outbound_ports, idle_timeout_s
        Of the load balancer, see `LoadBalancer`.
    conntrack_max : tuple of int
        nf_conntrack_max, one a node; each node's default if empty.
    max_pods : int
        Of a node: as many addresses node-subnet mode reserves.
    addressing : Addressing, optional
        What the cluster has today: there pods have the addresses that they say.
    pod_cidrs : tuple of str
        The nodes' parts of `pod_cidr`, one a node; in turn if empty.
    non_masquerade : tuple of str, optional
        What ip-masq-agent leaves alone, in the mode that the cluster has today.
    dual_stack : bool
        Pods have IPv6 addresses, too: a kubenet node takes two routes then.

    Raises
    ------
    AddressError, ConfigError
        When a pod is on no node, or an endpoint is no pod; the rest is checked when a cluster is made of it.
    """

    nodes: tuple[tuple[str, str], ...]
    node_subnet: str = "10.224.0.0/16"
    pod_cidr: str = "10.244.0.0/16"
    pod_subnet: str = "10.241.0.0/16"
    address_space: tuple[str, ...] = ("10.224.0.0/12", "10.241.0.0/16")
    node_prefix_len: int = 24
    pods: tuple[PodSite, ...] = ()
    services: tuple[ServiceSite, ...] = ()
    hosts: tuple[VnetHost, ...] = ()
    routes: tuple[UserRoute, ...] = ()
    frontends: tuple[str, ...] = ("20.1.2.3",)
    outbound_ports: int = 0
    idle_timeout_s: float = 1800
    conntrack_max: tuple[int, ...] = ()
    peers: tuple[str, ...] = ()
    max_pods: int = 30
    addressing: Addressing | None = None
    pod_cidrs: tuple[str, ...] = ()
    non_masquerade: tuple[str, ...] | None = None
    dual_stack: bool = False

    def __post_init__(self) -> None:
        names = {name for name, _ in self.nodes}
        if not names:
            raise ConfigError("a cluster needs a node: nodes is empty")
        for what, values in (("pod CIDRs", self.pod_cidrs), ("conntrack_max", self.conntrack_max)):
            if values and len(values) != len(self.nodes):
                raise ConfigError(f"{len(self.nodes)} nodes have {len(values)} {what}")
        for pod in self.pods:
            if pod.node not in names:
                raise ConfigError(f"pod {pod.name} is on {pod.node}, which is no node")
        known = {pod.name for pod in self.pods} | names
        for service in self.services:
            for name, _ in (*service.endpoints, *service.terminating):
                if name not in known and not is_address(name):
                    raise ConfigError(
                        f"service {service.name} has endpoint {name}, which is no pod, node or address"
                    )

    def check(self, addressing: Addressing) -> None:
        """Refuse a mode whose subnets are too small for the nodes and the pods that they may have.

        Raises
        ------
        AddressError, ConfigError
            With the network, its value, and what it lacks.
        """
        nodes = len(self.nodes)
        check_max_pods(self.max_pods)
        for name, count in Counter(pod.node for pod in self.pods).items():
            if count > self.max_pods:
                raise ConfigError(f"node {name} has {count} pods, and max_pods is {self.max_pods}")
        if addressing is Addressing.KUBENET and self.dual_stack and 2 * nodes > MAX_KUBENET_NODES:
            raise ConfigError(
                f"{nodes} nodes with kubenet and two families: AKS takes {MAX_KUBENET_NODES // 2} at most, "
                "for each has two routes"
            )
        check_range("pod_cidr", self.pod_cidr)
        if addressing is Addressing.NODE_SUBNET:
            wanted = nodes * (1 + self.max_pods)
            what = f"{nodes:,} nodes with {self.max_pods} pods each"
            check_room("node_subnet", self.node_subnet, wanted, what)
        elif addressing is Addressing.POD_SUBNET:
            check_room("pod_subnet", self.pod_subnet, BATCH * nodes, f"{nodes:,} nodes with {BATCH} each")
            if overlap(self.pod_subnet, self.node_subnet):
                raise ConfigError(
                    f"pod_subnet {self.pod_subnet} overlaps node_subnet {self.node_subnet}: it is one of its own"
                )

    def node_config(self, addressing: Addressing, index: int) -> NodeConfig:
        """One node's configuration."""
        address = self.nodes[index][1]
        subnet, length = ipv4_prefix(self.node_subnet)
        fields: dict[str, Any] = {
            "node_ip": f"{address}/{length}",
            "gateway": ipv4_text(subnet + 1),
            "node_mac": mac_text(NODE_MAC + ipv4(address) % (1 << 24)),
            "seed": index,
        }
        if self.conntrack_max:
            fields["conntrack_max"] = self.conntrack_max[index]
        direct = self.non_masquerade if addressing is self.addressing else None
        if addressing is Addressing.POD_SUBNET:
            return AzureCniPodSubnet(pod_subnet=self.pod_subnet, **fields)
        if addressing is Addressing.NODE_SUBNET:
            return AzureCniNodeSubnet(non_masquerade=direct or self.address_space, **fields)
        kind: type[Kubenet] | type[AzureCniOverlay] = (
            Kubenet if addressing is Addressing.KUBENET else AzureCniOverlay
        )
        return kind(
            pod_cidr=self._part_of(index), cluster_cidr=self.pod_cidr, non_masquerade=direct, **fields
        )

    def _part_of(self, index: int) -> str:
        """One node's part of the pod CIDR."""
        if self.pod_cidrs:
            return self.pod_cidrs[index]
        network, bits = ipv4_prefix(self.pod_cidr)
        part = network + (index << 32 - self.node_prefix_len)
        if bits > self.node_prefix_len or (part ^ network) >> 32 - bits:
            raise ConfigError(f"pod_cidr {self.pod_cidr} has no /{self.node_prefix_len} for node {index + 1}")
        return prefix_text(part, self.node_prefix_len)

    def pod(self, site: PodSite, addressing: Addressing) -> Pod:
        """A pod as `Node.attach` takes it: with its own address in the mode that the cluster really has."""
        ip = site.ip if addressing is self.addressing else None
        return Pod(site.name, ip=ip, host_ports=site.host_ports)

    def services_at(self, address: Mapping[str, str]) -> list[Service]:
        """The services, where each pod has the address that `address` gives by its name."""
        places = dict(self.nodes) | dict(address)
        sites: dict[str, list[ServiceSite]] = {}
        for site in self.services:
            sites.setdefault(site.name, []).append(site)
        found = []
        for name, rows in sites.items():
            ports = tuple(
                ServicePort(
                    name=f"{row.port}-{row.protocol}",
                    port=row.port,
                    endpoints=(
                        *(Endpoint(places.get(to, to), port) for to, port in row.endpoints),
                        *(
                            Endpoint(places.get(to, to), port, terminating=True)
                            for to, port in row.terminating
                        ),
                    ),
                    protocol=row.protocol,
                    node_port=row.node_port,
                )
                for row in rows
            )
            found.append(
                Service(
                    name=name,
                    cluster_ip=rows[0].cluster_ip,
                    ports=ports,
                    external_ips=rows[0].external_ips,
                    load_balancer_ips=rows[0].load_balancer_ips,
                    source_ranges=rows[0].source_ranges,
                    external_traffic_policy=rows[0].external_traffic_policy,
                    internal_traffic_policy=rows[0].internal_traffic_policy,
                    affinity_s=rows[0].affinity_s,
                )
            )
        return found

    def vnet(self) -> Vnet:
        """The VNet, whose route table the nodes' subnet has."""
        return Vnet(
            address_space=self.address_space,
            routes=self.routes,
            associated=(self.node_subnet,),
            hosts=self.hosts,
            peers=self.peers,
        )

    def balancer(self) -> LoadBalancer | None:
        """The load balancer, if there is a frontend."""
        if not self.frontends:
            return None
        return LoadBalancer(
            addresses=self.frontends, outbound_ports=self.outbound_ports, idle_timeout_s=self.idle_timeout_s
        )


def is_address(text: object) -> bool:
    """Whether something is the text of an IPv4 address."""
    if not isinstance(text, str):
        return False
    try:
        ipv4(text)
    except AddressError:
        return False
    return True


def sample_topology() -> Topology:
    """Three nodes with eleven pods, five services, hosts in the VNet and in a peer: what `compare` has for itself."""
    nodes = tuple((f"node{i}", f"10.224.0.{i + 4}") for i in range(3))
    names = (
        ("web", "api", "batch"),
        ("web-2", "db", "queue"),
        ("cache", "search", "jobs", "coredns", "coredns-2"),
    )
    pods = tuple(
        PodSite(name=name, node=node) for (node, _), group in zip(nodes, names, strict=True) for name in group
    )
    return Topology(
        nodes=nodes,
        pods=pods,
        services=(
            ServiceSite(name="default/api", cluster_ip="10.0.0.20", port=80, endpoints=(("api", 8080),)),
            ServiceSite(name="default/db", cluster_ip="10.0.0.30", port=5432, endpoints=(("db", 5432),)),
            ServiceSite(
                name="default/web",
                cluster_ip="10.0.0.50",
                port=443,
                endpoints=(("web-2", 8443),),
                node_port=30443,
                external_ips=("20.1.2.4",),
            ),
            ServiceSite(
                name="default/web-local",
                cluster_ip="10.0.0.51",
                port=443,
                endpoints=(("web", 8443), ("web-2", 8443), ("cache", 8443)),
                node_port=30444,
                external_ips=("20.1.2.5",),
                external_traffic_policy=TrafficPolicy.LOCAL,
            ),
            ServiceSite(
                name="kube-system/kube-dns",
                cluster_ip="10.0.0.10",
                port=53,
                protocol="udp",
                endpoints=(("coredns", 53), ("coredns-2", 53)),
            ),
        ),
        hosts=(VnetHost(name="vm", ip="10.225.0.10"), VnetHost(name="peer-vm", ip="10.100.0.10")),
        peers=("10.100.0.0/16",),
    )
