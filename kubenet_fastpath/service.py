"""What a user says about services and host ports: frozen, typed, checked. `service_plan` turns it into tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .address import ipv4, ipv4_prefix, ipv6, ipv6_prefix, is_ipv6
from .errors import ConfigError

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}  #: Kubernetes' protocols and their numbers


class TrafficPolicy(Enum):
    """Which endpoints a service's traffic may reach (`externalTrafficPolicy`, `internalTrafficPolicy`)."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class PortMapper(Enum):
    """Who installs the rules of host ports."""

    PORTMAP = "portmap"  #: the CNI plugin: all pods of the node are masqueraded on their way to a host port
    KUBELET = "kubelet"  #: dockershim's hostport manager: only a pod that calls itself is


def address_number(text: str) -> int:
    """An address of either family as an integer."""
    return ipv6(text) if is_ipv6(text) else ipv4(text)


def check_port(name: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ConfigError(f"{name} {port} is not in 1..65535")


def check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")


@dataclass(frozen=True)
class Endpoint:
    """Where a service port leads.

    Parameters
    ----------
    ip : str
    port : int
    local : bool, optional
        Whether the pod is on this node; by its address if omitted.
    terminating : bool
        It is not ready any more but still serves (`conditions.serving` and `.terminating`): taken where there is no
        ready one.
    zones : tuple of str
        For clients of which zones the control plane means it (`hints.forZones`).
    """

    ip: str
    port: int
    local: bool | None = None
    terminating: bool = False
    zones: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        address_number(self.ip)
        check_port("endpoint port", self.port)

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `ip:port`, `[ip]:port` if it is of IPv6.

        Raises
        ------
        AddressError, ConfigError
            For a text that is none.

        Examples
        --------
        >>> Endpoint.parse("10.244.1.7:8080")
        Endpoint(ip='10.244.1.7', port=8080, local=None, terminating=False, zones=())
        """
        ip, colon, port = text.rpartition(":")
        if ip.startswith("[") and ip.endswith("]") and is_ipv6(ip):
            ip = ip[1:-1]
        elif is_ipv6(ip):
            colon = ""
        if not colon or not (port.isascii() and port.isdecimal()):
            raise ConfigError(f"endpoint {text!r} is no ip:port")
        return cls(ip, int(port))


@dataclass(frozen=True, kw_only=True)
class ServicePort:
    """One port of a service.

    Parameters
    ----------
    port : int
        At the service's addresses.
    endpoints : tuple of Endpoint or str
        The ready ones, as `Endpoint` or `ip:port`, and those that still serve while they terminate. What is not ready
        of a service with `publishNotReadyAddresses` is ready to kube-proxy.
    protocol : str
        `tcp`, `udp` or `sctp`.
    node_port : int, optional
        At every address of the node.
    name : str
        Needed when a service has several ports.
    """

    port: int
    endpoints: tuple[Endpoint | str, ...] = ()
    protocol: str = "tcp"
    node_port: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        check_port("service port", self.port)
        if self.node_port is not None:
            check_port("node_port", self.node_port)
        parsed = tuple(Endpoint.parse(e) if isinstance(e, str) else e for e in self.endpoints)
        object.__setattr__(self, "endpoints", parsed)

    @property
    def targets(self) -> tuple[Endpoint, ...]:
        """`endpoints`, all of them parsed."""
        return tuple(e for e in self.endpoints if isinstance(e, Endpoint))

    @property
    def ready(self) -> tuple[Endpoint, ...]:
        """Those of `targets` that are ready."""
        return tuple(e for e in self.targets if not e.terminating)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service as kube-proxy sees it.

    Parameters
    ----------
    name : str
        `namespace/name`.
    cluster_ip : str
    ports : tuple of ServicePort
    external_ips : tuple of str
        `externalIPs`; also a load balancer's addresses that anybody may use.
    load_balancer_ips : tuple of str
        Addresses that `status.loadBalancer` has.
    source_ranges : tuple of str
        Prefixes that alone may use these (`loadBalancerSourceRanges`); all if empty. Whoever else comes by them is
        dropped without a word. An address of the node in a range lets the load balancer's own addresses in, too.
        Prefixes of the other family do not count (`MapCIDRsByIPFamily`).
    external_traffic_policy, internal_traffic_policy : TrafficPolicy
        With `LOCAL`, only endpoints of this node are reached from outside, or by the cluster IP; clients from
        outside keep their address then.
    affinity_s : int, optional
        A client comes to the same endpoint again within so many seconds (`sessionAffinity: ClientIP`; 10800 is
        Kubernetes' default). As with the kernel's `recent` match, an endpoint remembers its last 100 clients.
    health_check_node_port : int, optional
        Where kube-proxy tells load balancers whether there are endpoints on this node. No process of the node speaks
        here, so packets to it meet a closed port; it is nobody else's.
    topology_aware : bool
        `service.kubernetes.io/topology-mode: Auto`: with hints on all ready endpoints, one of them for the node's zone
        (`NodeConfig.zone`), only endpoints for that zone are taken, but for what a `LOCAL` policy picks.

    Raises
    ------
    AddressError, ConfigError
        For values that are none, or contradict each other.

    Examples
    --------
    >>> web = Service(name="default/web", cluster_ip="10.0.0.50",
    ...               ports=(ServicePort(port=80, endpoints=("10.244.1.7:8080",), node_port=30080),))
    >>> web.ports[0].targets[0].port
    8080
    """

    name: str
    cluster_ip: str
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    internal_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    affinity_s: int | None = None
    health_check_node_port: int | None = None
    topology_aware: bool = False

    def __post_init__(self) -> None:
        for ip in (self.cluster_ip, *self.outside):
            if address_number(ip) == 0:
                raise ConfigError(f"service {self.name} has the address {ip}")
        endpoints = (endpoint.ip for port in self.ports for endpoint in port.targets)
        if len({is_ipv6(ip) for ip in (self.cluster_ip, *self.outside, *endpoints)}) > 1:
            raise ConfigError(
                f"service {self.name} has addresses of both families: kube-proxy sees one service of each"
            )
        for prefix in self.source_ranges:
            (ipv6_prefix if is_ipv6(prefix) else ipv4_prefix)(prefix, mask_host_bits=True)
        if self.health_check_node_port is not None:
            check_port("health_check_node_port", self.health_check_node_port)
        if self.affinity_s is not None and not 1 <= self.affinity_s <= 86400:
            raise ConfigError(f"affinity_s {self.affinity_s} of service {self.name} is not in 1..86400")
        names = [port.name for port in self.ports]
        if len(set(names)) < len(names):
            raise ConfigError(f"service {self.name} has ports of the same name: {names}")

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if is_ipv6(self.cluster_ip) else 4

    @property
    def own_ranges(self) -> tuple[str, ...]:
        """Those of `source_ranges` that are of the service's family."""
        return tuple(prefix for prefix in self.source_ranges if is_ipv6(prefix) == (self.family == 6))

    @property
    def outside(self) -> tuple[str, ...]:
        """All its addresses but the cluster IP."""
        return (*self.external_ips, *self.load_balancer_ips)


@dataclass(frozen=True, kw_only=True)
class HostPort:
    """A port of the node that leads to a pod's.

    Parameters
    ----------
    port : int
        At the node's addresses.
    pod_port : int
    protocol : str
        `tcp`, `udp` or `sctp`.
    host_ip : str, optional
        Only at this address of the node, and so for its family alone.
    """

    port: int
    pod_port: int
    protocol: str = "tcp"
    host_ip: str | None = None

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        check_port("host port", self.port)
        check_port("pod_port", self.pod_port)
        if self.host_ip is not None:
            address_number(self.host_ip)
