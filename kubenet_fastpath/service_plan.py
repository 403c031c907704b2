"""From services and host ports to the rows of a `ServiceTable`, as kube-proxy 1.28 writes its chains.

Source: kubernetes pkg/proxy/iptables/proxier.go (syncProxyRules), pkg/proxy/conntrack (deletion of stale UDP flows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .address import ipv4_prefix, ipv6_prefix, is_ipv6
from .errors import ConfigError
from .service import PROTOCOLS, Endpoint, Service, ServicePort, TrafficPolicy, address_number

NO_LOCAL_ENDPOINTS, NO_ENDPOINTS, SOURCE_RANGE, FORWARD_DROP = 0, 1, 2, 3  #: service_table.refusal_t
CLUSTER_IP, EXTERNAL_IP, NODE_PORT = 1, 2, 3  #: service_table.door_kind_t
SECOND = 1_000_000_000

AffinityKey = tuple[str, str, int, int, int]  #: service, port name, protocol, address, port


class Target(NamedTuple):
    """An endpoint's row; `key` names its list of clients, None without affinity."""

    ip: int
    port: int
    key: AffinityKey | None


@dataclass(frozen=True)
class Chain:
    """A service port's row: endpoints, those of this node, policies, affinity in ns (0: none), source ranges."""

    ip: int
    port: int
    proto: int
    targets: tuple[Target, ...]
    local: tuple[Target, ...]
    external_local: bool
    internal_local: bool
    affinity: int
    ranges: tuple[tuple[int, int], ...]  # network, length
    family: int = 4


class Door(NamedTuple):
    """An address and port that lead to a row; address 0 is every address of the node. The row's ranges guard some."""

    kind: int
    ip: int
    proto: int
    port: int
    row: int
    guarded: bool


class Refusal(NamedTuple):
    """An address and port that a packet has no business to have still: `why` it has, and so what it gets."""

    kind: int
    ip: int
    proto: int
    port: int
    why: int
    family: int = 4


@dataclass(frozen=True)
class ServicePlan:
    """All rows that a set of services makes."""

    chains: tuple[Chain, ...] = ()
    doors: tuple[Door, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class StaleFlow(NamedTuple):
    """UDP connections to be deleted: to this address or port (None: any), translated to this one (None: any)."""

    dst: int | None
    dport: int | None
    dst_nat: int | None
    family: int = 4


Numbering = Callable[[str], int]  #: an address's number in the tables: of IPv6 a handle


def _addresses(service: Service, number: Numbering) -> Iterator[tuple[int, int]]:
    yield CLUSTER_IP, number(service.cluster_ip)
    for ip in service.outside:
        yield EXTERNAL_IP, number(ip)


def _serving(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The ready ones; where there is none, those that terminate."""
    known = list(endpoints)
    return [e for e in known if not e.terminating] or known


def _for_zone(service: Service, endpoints: list[Endpoint], zone: str | None) -> list[Endpoint]:
    """Those that the hints mean for a zone, if the hints are any good (canUseTopology)."""
    hinted = service.topology_aware and all(e.zones for e in endpoints)
    return [e for e in endpoints if hinted and zone in e.zones and not e.terminating] or endpoints


def _ranges(service: Service, node: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """KUBE-FW's sources: of a node among them also the load balancer's addresses, which it has when it calls them."""
    bits, read = (32, ipv4_prefix) if service.family == 4 else (128, ipv6_prefix)
    rows = [read(text, mask_host_bits=True) for text in service.own_ranges]
    own = [address_number(ip) for ip in node if is_ipv6(ip) == (service.family == 6)]
    if any(not (ip ^ network) >> bits - length for ip in own for network, length in rows):
        rows += [(address_number(ip), bits) for ip in service.load_balancer_ips]
    return tuple(rows)


def _chain(
    service: Service,
    port: ServicePort,
    is_local: Callable[[Endpoint], bool],
    node: Iterable[str],
    zone: str | None,
    number: Numbering,
) -> Chain:
    proto, affinity = PROTOCOLS[port.protocol], (service.affinity_s or 0) * SECOND

    def target(endpoint: Endpoint) -> Target:
        ip = number(endpoint.ip)
        key = (service.name, port.name, proto, ip, endpoint.port)
        return Target(ip, endpoint.port, key if affinity else None)

    return Chain(
        ip=number(service.cluster_ip),
        family=service.family,
        port=port.port,
        proto=proto,
        targets=tuple(target(e) for e in _for_zone(service, _serving(port.targets), zone)),
        local=tuple(target(e) for e in _serving(e for e in port.targets if is_local(e))),
        external_local=service.external_traffic_policy is TrafficPolicy.LOCAL,
        internal_local=service.internal_traffic_policy is TrafficPolicy.LOCAL,
        affinity=affinity,
        ranges=_ranges(service, node),
    )


def plan_services(
    services: Iterable[Service],
    is_local: Callable[[Endpoint], bool],
    node: Iterable[str] = (),
    zone: str | None = None,
    number: Numbering = address_number,
) -> ServicePlan:
    """Rows of all services.

    Parameters
    ----------
    services : iterable of Service
    is_local : callable
        Whether an endpoint is on this node.
    node : iterable of str
        The node's addresses, which source ranges may hold.
    zone : str, optional
        Where the node is.
    number : callable, optional
        An address's number in the tables.

    Raises
    ------
    ConfigError
        When two of them claim one address and port, or one node port.
    """
    chains: list[Chain] = []
    doors: list[Door] = []
    refusals: list[Refusal] = []
    owner: dict[tuple[int, int, int, int], str] = {}

    def claim(service: Service, ip: int, proto: int, port: int) -> None:
        key = (service.family, ip, proto, port)
        if key in owner:
            text = next((a for a in (service.cluster_ip, *service.outside) if number(a) == ip), "")
            where = f"{text}:{port}" if ip else f"node port {port}"
            raise ConfigError(f"services {owner[key]} and {service.name} both claim {where}")
        owner[key] = service.name

    for service in services:
        guarded = {number(ip) for ip in service.load_balancer_ips} if service.own_ranges else set()
        if service.health_check_node_port is not None:
            claim(service, 0, PROTOCOLS["tcp"], service.health_check_node_port)
        for port in service.ports:
            chain = _chain(service, port, is_local, node, zone, number)
            row = len(chains)
            chains.append(chain)
            where = [(kind, ip, port.port) for kind, ip in _addresses(service, number)]
            if port.node_port is not None:
                where.append((NODE_PORT, 0, port.node_port))
            for kind, ip, at in where:
                claim(service, ip, chain.proto, at)
                confined = chain.internal_local if kind == CLUSTER_IP else chain.external_local
                usable = chain.local if confined else chain.targets
                # an external door opens for the cluster's own clients while there is any endpoint at all
                if usable or (kind != CLUSTER_IP and chain.targets):
                    doors.append(Door(kind, ip, chain.proto, at, row, ip in guarded))
                if ip in guarded and chain.targets:  # KUBE-PROXY-FIREWALL comes first
                    refusals.append(Refusal(kind, ip, chain.proto, at, SOURCE_RANGE, service.family))
                elif not usable:
                    why = NO_LOCAL_ENDPOINTS if chain.targets else NO_ENDPOINTS
                    refusals.append(Refusal(kind, ip, chain.proto, at, why, service.family))
    return ServicePlan(tuple(chains), tuple(doors), tuple(refusals))


def _udp_ports(services: Iterable[Service]) -> dict[tuple[str, str, int], tuple[Service, ServicePort]]:
    return {(s.name, p.name, s.family): (s, p) for s in services for p in s.ports if p.protocol == "udp"}


def stale_flows(
    before: Iterable[Service], after: Iterable[Service], number: Numbering = address_number
) -> list[StaleFlow]:
    """UDP connections that kube-proxy deletes at a change (`conntrack -D`); those of TCP stay.

    To the cluster IP of a service that is gone; to all addresses of one that has got its first ready endpoint; and to
    an endpoint that is not ready any more, through its service if that is still there: what came to another address
    of a service that is gone stays (deleteStaleEndpointConntrackEntries looks the service up after the change).
    """
    old, new = _udp_ports(before), _udp_ports(after)
    stale: list[StaleFlow] = []
    for key, (service, port) in old.items():
        if key not in new or number(new[key][0].cluster_ip) != number(service.cluster_ip):
            stale.append(StaleFlow(number(service.cluster_ip), None, None, service.family))
        if key not in new:
            continue
        now, now_port = new[key]
        left = {(e.ip, e.port) for e in now_port.ready}
        for endpoint in port.ready:
            if (endpoint.ip, endpoint.port) not in left:
                ip = number(endpoint.ip)
                stale += [
                    StaleFlow(address, None, ip, service.family) for _, address in _addresses(now, number)
                ]
                if now_port.node_port is not None:
                    stale.append(StaleFlow(None, now_port.node_port, ip, service.family))
    for key, (service, port) in new.items():
        if port.ready and not (key in old and old[key][1].ready):
            stale += [
                StaleFlow(address, None, None, service.family) for _, address in _addresses(service, number)
            ]
            if port.node_port is not None:
                stale.append(StaleFlow(None, port.node_port, None, service.family))
    return stale
