"""What a node is made of, whatever the addressing mode: interfaces, routes, neighbours, rules. `plan` draws it up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from .node_config import Neighbour

LOOPBACK = 0xFFFF  #: device index of local routes


class InterfaceKind(IntEnum):
    """context.interface_kind_t."""

    ROUTED = 1
    BRIDGE = 2
    BRIDGE_PORT = 3


class RouteType(IntEnum):
    """The kernel's RTN_*."""

    NONE = 0  #: of a next hop that is not in use
    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A network device of the node; addresses are (ip, mask) in host order, IPv6 ones (ip, length)."""

    name: str
    kind: InterfaceKind
    mac: int
    mtu: int
    addresses: tuple[tuple[int, int], ...] = ()
    addresses6: tuple[tuple[int, int], ...] = ()  # without the link-local one
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

    family: int = 4
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


class HostPortRow(NamedTuple):
    """A host port as `ServiceTable.replace_host_ports` takes it, of one family.

    Addresses are as tables have them, `ip` 0 is every one of the node; clients in `network`/`length` get `mark`.
    """

    family: int
    ip: int
    proto: int
    port: int
    pod: int
    pod_port: int
    network: int
    length: int
    mark: int


class SnatRule(NamedTuple):
    """SNAT of what comes from a network and goes to one address and port."""

    network: int
    mask: int
    dst: int
    proto: int
    port: int
    to: int


@dataclass(frozen=True, kw_only=True)
class PodRange:
    """Where pods' addresses come from: `reserved` ones are never handed out.

    `exclusive`: they are all this node's, so that an endpoint among them is local whether attached or not.
    """

    network: int
    prefix_len: int
    gateway: int
    reserved: tuple[int, ...] = ()
    exclusive: bool = True


@dataclass(frozen=True, kw_only=True)
class Ip6Plan:
    """What makes a node dual-stack; prefixes are (network, length)."""

    routes: tuple[tuple[int, int, NextHop], ...]
    neighbours: tuple[Neighbour, ...]
    pods: PodRange
    direct: tuple[tuple[int, int], ...]
    cluster: tuple[int, int]
    dedup: tuple[int, int, int] | None
    bridge_nf: bool


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
    multicast_snooping: bool = True
    drop_invalid: bool
    ageing_s: float
    pod_port: Interface
    pod_host_mac: int | None  # of the veths' ends on the host; None: made of the pod's address
    permanent_neighbours: bool
    announce: bool
    host_port_mark: int
    ip6: Ip6Plan | None = None
    snat: tuple[SnatRule, ...] = ()
    forward_drops: tuple[
        tuple[int, int, int], ...
    ] = ()  # address, protocol, port that nothing is forwarded to

    @property
    def routed(self) -> bool:
        """Whether pods are behind interfaces of their own, to which their addresses are routed."""
        return self.pod_port.bridge is None
