"""From a configuration to what a node consists of: interfaces, routes, neighbours, rules.

The one module that knows one addressing mode from another; a node is built from its plan alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from .address import ipv4, ipv4_prefix, mac
from .config import Hairpin, Kubenet, Masquerade, Neighbour, Pod, Route
from .errors import ConfigError
from .service import PROTOCOLS, HostPort, PortMapper

LOOPBACK = 0xFFFF  #: device index of local routes


class InterfaceKind(IntEnum):
    """context.interface_kind_t."""

    ROUTED = 1
    BRIDGE = 2
    BRIDGE_PORT = 3


class RouteType(IntEnum):
    """The kernel's RTN_*."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A network device of the node; addresses are (ip, mask) in host order."""

    name: str
    kind: InterfaceKind
    mac: int
    mtu: int
    addresses: tuple[tuple[int, int], ...] = ()
    bridge: str | None = None
    promiscuous: bool = False
    hairpin: bool = False
    proxy_arp: bool = False
    rp_filter: int = 0
    send_redirects: bool = True
    route_localnet: bool = False
    group_fwd_mask: int = 0


@dataclass(frozen=True, kw_only=True)
class NextHop:
    """What a route leads to; `dev` is a name, None for the node itself and for routes to nowhere."""

    type: RouteType
    dev: str | None = None
    gateway: int = 0
    source: int = 0


@dataclass(frozen=True, kw_only=True)
class SourceNat:
    """MASQUERADE for what leaves, but not to `direct` (network, mask) nor to the node itself."""

    direct: tuple[tuple[int, int], ...]
    random: bool
    ports: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class PodRange:
    """Where pods' addresses come from."""

    network: int
    prefix_len: int
    gateway: int


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """Everything that a node is made of before its first pod."""

    interfaces: tuple[Interface, ...]
    routes: tuple[tuple[int, int, NextHop], ...]
    neighbours: tuple[Neighbour, ...]
    pods: PodRange
    source_nat: SourceNat | None
    cluster: tuple[int, int]  # network and mask of all pods, by which kube-proxy tells who is outside
    service_random: bool
    dedup: tuple[int, int, int] | None
    bridge_nf: bool
    drop_invalid: bool
    pod_port: Interface
    pod_neighbour_dev: str | None
    announce: bool


def mask_of(prefix_len: int) -> int:
    """Network mask of a prefix length.

    >>> hex(mask_of(24))
    '0xffffff00'
    """
    return -1 << 32 - prefix_len & 0xFFFFFFFF


def cni_mac(address: int, prefix: int = 0x0A58) -> int:
    """MAC that CNI's hwaddr makes of an IPv4 address: 0a:58 and its four bytes."""
    return prefix << 32 | address


def _setting(value: int | Mapping[str, int], name: str) -> int:
    """A sysctl of one interface: the larger of `all` and its own (or `default`) value, as the kernel takes it."""
    if not isinstance(value, Mapping):
        return int(value)
    return max(int(value.get("all", 0)), int(value.get(name, value.get("default", 0))))


def _local_routes(interfaces: tuple[Interface, ...]) -> dict[tuple[int, int], NextHop]:
    """The local table (fib_add_ifaddr): own addresses, broadcast addresses, loopback."""
    local = {
        (ipv4("127.0.0.0"), 8): NextHop(type=RouteType.LOCAL),
        (ipv4("127.255.255.255"), 32): NextHop(type=RouteType.BROADCAST),
        (ipv4("255.255.255.255"), 32): NextHop(type=RouteType.BROADCAST),
    }
    for interface in interfaces:
        for ip, mask in interface.addresses:
            if mask < 0xFFFFFFFE:
                local[ip | ~mask & 0xFFFFFFFF, 32] = NextHop(type=RouteType.BROADCAST, dev=interface.name)
            local[ip, 32] = NextHop(type=RouteType.LOCAL)
    return local


def _table(
    interfaces: tuple[Interface, ...], main: tuple[Route, ...]
) -> tuple[tuple[int, int, NextHop], ...]:
    """The local and the main table as one: what the local table covers, the main one cannot say."""
    table = _local_routes(interfaces)
    hidden = [(network, length) for network, length in table]
    for route in main:
        network, length = ipv4_prefix(route.prefix)
        if any(length >= n and not (network ^ net) >> 32 - n for net, n in hidden):
            continue
        table[network, length] = NextHop(
            type=RouteType[route.kind.upper()],
            dev=route.dev,
            gateway=ipv4(route.via) if route.via else 0,
            source=ipv4(route.src) if route.src else 0,
        )
    names = {interface.name for interface in interfaces}
    for hop in table.values():
        if hop.dev is not None and hop.dev not in names:
            raise ConfigError(f"a route leads to {hop.dev}, which is none of {', '.join(sorted(names))}")
    return tuple((network, length, hop) for (network, length), hop in table.items())


def plan_kubenet(config: Kubenet) -> NodePlan:
    """The node that kubenet makes (KN NET_CONFIG_TEMPLATE, AgentBaker's 10-containerd-net.conflist)."""
    node, subnet_len = ipv4(config.node_address), ipv4_prefix(config.node_subnet)[1]
    pods, pods_len = ipv4_prefix(config.pod_cidr)
    cluster, cluster_len = ipv4_prefix(config.cluster_cidr)
    bridge = ipv4(config.bridge_address)
    promiscuous = config.hairpin is Hairpin.PROMISC

    def sysctls(name: str) -> dict[str, int | bool]:
        redirects = config.send_redirects
        if isinstance(redirects, Mapping):  # IN_DEV_TX_REDIRECTS is an OR of all and the interface
            redirects = bool(
                redirects.get("all", False) or redirects.get(name, redirects.get("default", True))
            )
        return {
            "rp_filter": _setting(config.rp_filter, name),
            "send_redirects": bool(redirects),
            "route_localnet": config.route_localnet,
        }

    interfaces = (
        Interface(
            name="eth0",
            kind=InterfaceKind.ROUTED,
            mac=mac(config.node_mac),
            mtu=config.mtu,
            addresses=((node, mask_of(subnet_len)),),
            **sysctls("eth0"),  # type: ignore[arg-type]
        ),
        Interface(
            name="cbr0",
            kind=InterfaceKind.BRIDGE,
            mac=mac(config.bridge_mac) if config.bridge_mac else cni_mac(bridge),
            mtu=config.mtu,
            addresses=((bridge, mask_of(pods_len)),),
            promiscuous=promiscuous,
            group_fwd_mask=config.group_fwd_mask,
            **sysctls("cbr0"),  # type: ignore[arg-type]
        ),
    )
    main = config.routes or (
        Route(prefix="0.0.0.0/0", dev="eth0", via=config.gateway),
        Route(prefix=config.node_subnet, dev="eth0", src=config.node_address),
        Route(prefix=config.pod_cidr, dev="cbr0", src=config.bridge_address),
    )
    neighbours = config.neighbours
    if config.permanent_neighbours and config.gateway_mac is not None:
        neighbours += (Neighbour(ip=config.gateway, mac=config.gateway_mac, dev="eth0"),)
    source_nat = None
    if config.masquerade is not Masquerade.NONE:
        direct = tuple((net, mask_of(n)) for net, n in map(ipv4_prefix, config.direct))
        source_nat = SourceNat(direct=direct, random=config.random_fully, ports=config.to_ports)
    dedup = promiscuous if config.dedup is None else config.dedup
    return NodePlan(
        interfaces=interfaces,
        routes=_table(interfaces, tuple(r for r in main if isinstance(r, Route))),
        neighbours=neighbours,
        pods=PodRange(network=pods, prefix_len=pods_len, gateway=bridge),
        source_nat=source_nat,
        cluster=(cluster, mask_of(cluster_len)),
        service_random=config.service_random_fully,
        dedup=(bridge, pods, mask_of(pods_len)) if dedup else None,
        bridge_nf=config.bridge_nf_call_iptables,
        drop_invalid=config.kube_proxy,
        pod_port=Interface(
            name="",
            kind=InterfaceKind.BRIDGE_PORT,
            mac=0,
            mtu=config.mtu,
            bridge="cbr0",
            hairpin=config.hairpin is Hairpin.VETH,
        ),
        pod_neighbour_dev="cbr0" if config.permanent_neighbours else None,
        announce=config.arp_notify,
    )


def pod_macs(pod: Pod, address: int) -> tuple[int, int]:
    """MACs of a pod's eth0 and of the host's end of its veth pair."""
    return (
        mac(pod.mac) if pod.mac is not None else cni_mac(address),
        mac(pod.host_mac) if pod.host_mac is not None else cni_mac(address, 0x0E58),
    )


HostPortRow = tuple[int, int, int, int, int, int, int, bool]


def plan_host_port(row: HostPort, pod: int, pods: PodRange, mapper: PortMapper) -> HostPortRow:
    """A host port as `ServiceTable.replace_host_ports` takes it.

    portmap masquerades whoever has an address of the pod's subnet, and 127.0.0.1; kubelet only the pod itself, and
    looks at no host address.
    """
    portmap = mapper is PortMapper.PORTMAP
    mask = mask_of(pods.prefix_len) if portmap else 0xFFFFFFFF
    host = ipv4(row.host_ip) if portmap and row.host_ip is not None else 0
    return host, PROTOCOLS[row.protocol], row.port, pod, row.pod_port, pod & mask, mask, portmap
