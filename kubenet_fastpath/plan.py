"""From a configuration to what a node consists of.

The one module that knows one addressing mode from another; a node is built from its plan alone. Longer than its
neighbours for that: each mode differs from the others in every table, for both families.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .address import ipv4, ipv4_prefix, ipv6, ipv6_prefix, is_ipv6, mac
from .azure_cni import AzureCni
from .config import Hairpin, Kubenet, Masquerade, Neighbour, NodeConfig, Pod, Route
from .errors import ConfigError
from .node_plan import (
    HostPortRow,
    Interface,
    InterfaceKind,
    Ip6Plan,
    NextHop,
    NodePlan,
    PodRange,
    RouteType,
    SnatRule,
    SourceNat,
)
from .service import PROTOCOLS, HostPort, PortMapper, address_number

MARK_MASQ = 0x4000  #: KUBE-MARK-MASQ
MARK_HOST_PORT = 0x2000  #: portmap's own, where it has no externalSetMarkChain
AZURE_HOST_MAC = 0xAAAAAAAAAAAA

AZURE_DNS, AZURE_METADATA = 0xA83F8110, 0xA9FEA9FE  #: 168.63.129.16 (WireServer, too), 169.254.169.254
WIRESERVER_PORTS = (80, 32526)


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


def _rows(
    table: dict[tuple[int, int], NextHop], interfaces: tuple[Interface, ...]
) -> tuple[tuple[int, int, NextHop], ...]:
    """A table's rows; ConfigError for one to an interface that the node does not have."""
    names = {interface.name for interface in interfaces}
    for hop in table.values():
        if hop.dev is not None and hop.dev not in names:
            raise ConfigError(f"a route leads to {hop.dev}, which is none of {', '.join(sorted(names))}")
    return tuple((network, length, hop) for (network, length), hop in table.items())


def link_local(lladdr: int) -> int:
    """The link-local address of an interface: its MAC as EUI-64 (addrconf_ifid_eui48).

    >>> hex(link_local(0x0A580AF40101))
    '0xfe8000000000000008580afffef40101'
    """
    identifier = (lladdr >> 24 ^ 0x020000) << 40 | 0xFFFE << 24 | lladdr & 0xFFFFFF
    return 0xFE80 << 112 | identifier


def _table6(
    interfaces: tuple[Interface, ...], main: tuple[Route, ...]
) -> tuple[tuple[int, int, NextHop], ...]:
    """The IPv6 tables as one: own and subnet-router anycast addresses, and the main table."""
    table = {}
    for route in main:
        table[ipv6_prefix(route.prefix)] = NextHop(
            family=6,
            type=RouteType[route.kind.upper()],
            dev=route.dev,
            gateway=ipv6(route.via) if route.via else 0,
            source=ipv6(route.src) if route.src else 0,
        )
    table[1, 128] = NextHop(family=6, type=RouteType.LOCAL)
    for interface in interfaces:
        for ip, length in interface.addresses6:
            if length < 127:
                table[ip >> 128 - length << 128 - length, 128] = NextHop(family=6, type=RouteType.ANYCAST)
    for interface in interfaces:
        for ip, _ in interface.addresses6:
            table[ip, 128] = NextHop(family=6, type=RouteType.LOCAL)
    return _rows(table, interfaces)


def _plan6(
    config: NodeConfig,
    interfaces: tuple[Interface, ...],
    pods: str | None,
    *on_link: Route,
    gateway: int = 0,
    exclusive: bool = True,
) -> Ip6Plan | None:
    if config.gateway6 is None or pods is None:
        return None
    network, length = ipv6_prefix(pods)
    main = config.routes
    if main is None or not any(is_ipv6(route.prefix) for route in main if isinstance(route, Route)):
        main = (
            Route(prefix="::/0", dev="eth0", via=config.gateway6),
            Route(prefix=config.node_subnet6, dev="eth0"),
            *on_link,
        )
    taken = {ipv6(config.gateway6), *(ip for interface in interfaces for ip, _ in interface.addresses6)}
    if not exclusive:
        taken |= {network + 1, network + 2, network + 3}
    neighbours = tuple(n for n in config.neighbours if is_ipv6(n.ip))
    if config.permanent_neighbours and config.gateway_mac is not None:
        neighbours += (Neighbour(ip=config.gateway6, mac=config.gateway_mac, dev="eth0"),)
    dedup = isinstance(config, Kubenet) and (
        config.hairpin is Hairpin.PROMISC if config.dedup is None else config.dedup
    )
    return Ip6Plan(
        routes=_table6(interfaces, tuple(r for r in main if isinstance(r, Route) and is_ipv6(r.prefix))),
        neighbours=neighbours,
        pods=PodRange(
            network=network,
            prefix_len=length,
            gateway=gateway or network,
            reserved=tuple(
                sorted(
                    ip for ip in taken if ip not in (gateway, network) and not (ip ^ network) >> 128 - length
                )
            ),
            exclusive=exclusive,
        ),
        direct=tuple(map(ipv6_prefix, config.direct6)),
        cluster=ipv6_prefix(config.cluster6 or pods),
        dedup=(gateway, network, length) if dedup else None,
        bridge_nf=isinstance(config, Kubenet) and config.bridge_nf_call_ip6tables,
    )


def _table(
    interfaces: tuple[Interface, ...], main: tuple[Route, ...]
) -> tuple[tuple[int, int, NextHop], ...]:
    """The local and the main table as one: what the local table covers, the main one cannot say."""
    table = _local_routes(interfaces)
    hidden = [(network, length) for network, length in table]
    for route in main:
        if is_ipv6(route.prefix):
            continue
        network, length = ipv4_prefix(route.prefix)
        if any(length >= n and not (network ^ net) >> 32 - n for net, n in hidden):
            continue
        table[network, length] = NextHop(
            type=RouteType[route.kind.upper()],
            dev=route.dev,
            gateway=ipv4(route.via) if route.via else 0,
            source=ipv4(route.src) if route.src else 0,
        )
    return _rows(table, interfaces)


def _sysctls(config: NodeConfig, name: str) -> dict[str, int | bool]:
    redirects = config.send_redirects
    if isinstance(redirects, Mapping):  # IN_DEV_TX_REDIRECTS is an OR of all and the interface
        redirects = bool(redirects.get("all", False) or redirects.get(name, redirects.get("default", True)))
    return {
        "rp_filter": _setting(config.rp_filter, name),
        "send_redirects": bool(redirects),
        "route_localnet": config.route_localnet,
    }


def _eth0(config: NodeConfig) -> Interface:
    return Interface(
        name="eth0",
        kind=InterfaceKind.ROUTED,
        mac=mac(config.node_mac),
        mtu=config.mtu,
        addresses=((ipv4(config.node_address), mask_of(ipv4_prefix(config.node_subnet)[1])),),
        addresses6=(config._node6()[::2],) if config.dual_stack else (),
        **_sysctls(config, "eth0"),  # type: ignore[arg-type]
    )


def _main_table(config: NodeConfig, *pods: Route) -> tuple[Route, ...]:
    main = config.routes or (
        Route(prefix="0.0.0.0/0", dev="eth0", via=config.gateway),
        Route(prefix=config.node_subnet, dev="eth0", src=config.node_address),
        *pods,
    )
    return tuple(route for route in main if isinstance(route, Route))


def _neighbours(config: NodeConfig) -> tuple[Neighbour, ...]:
    own = tuple(n for n in config.neighbours if not is_ipv6(n.ip))
    if not config.permanent_neighbours or config.gateway_mac is None:
        return own
    return (*own, Neighbour(ip=config.gateway, mac=config.gateway_mac, dev="eth0"))


def _source_nat(config: NodeConfig) -> SourceNat | None:
    if config.masquerade is Masquerade.NONE:
        return None
    direct = tuple((net, mask_of(n)) for net, n in map(ipv4_prefix, config.direct))
    return SourceNat(direct=direct, random=config.random_fully, ports=config.to_ports)


def _platform_snat(config: AzureCni) -> tuple[SnatRule, ...]:
    """CNS's SWIFT-POSTROUTING: Azure's DNS and metadata service know the node, not its pods (ACN cns/restserver)."""
    if config.platform_source is None:
        return ()
    network, length = ipv4_prefix(config.platform_source)
    services = ((AZURE_DNS, "udp", 53), (AZURE_DNS, "tcp", 53), (AZURE_METADATA, "tcp", 80))
    to = ipv4(config.node_address)
    return tuple(SnatRule(network, mask_of(length), dst, PROTOCOLS[p], port, to) for dst, p, port in services)


def _forward_drops(config: NodeConfig) -> tuple[tuple[int, int, int], ...]:
    """AgentBaker's rules at the top of FORWARD: pods do not reach WireServer."""
    ports = WIRESERVER_PORTS if config.guard_wireserver else ()
    return tuple((AZURE_DNS, PROTOCOLS["tcp"], port) for port in ports)


def _cluster(config: NodeConfig) -> tuple[int, int]:
    network, length = ipv4_prefix(config.cluster)
    return network, mask_of(length)


def plan_kubenet(config: Kubenet) -> NodePlan:
    """The node that kubenet makes (KN NET_CONFIG_TEMPLATE, AgentBaker's 10-containerd-net.conflist)."""
    pods, pods_len = ipv4_prefix(config.pod_cidr)
    bridge = ipv4(config.bridge_address)
    promiscuous = config.hairpin is Hairpin.PROMISC
    cbr0 = Interface(
        name="cbr0",
        kind=InterfaceKind.BRIDGE,
        mac=mac(config.bridge_mac) if config.bridge_mac else cni_mac(bridge),
        mtu=config.mtu,
        addresses=((bridge, mask_of(pods_len)),),
        addresses6=((ipv6(config.bridge_address6), ipv6_prefix(config.pod_cidr6)[1]),)
        if config.pod_cidr6
        else (),
        promiscuous=promiscuous,
        group_fwd_mask=config.group_fwd_mask,
        **_sysctls(config, "cbr0"),  # type: ignore[arg-type]
    )
    interfaces = (_eth0(config), cbr0)
    on_link = Route(prefix=config.pod_cidr, dev="cbr0", src=config.bridge_address)
    dedup = promiscuous if config.dedup is None else config.dedup
    on_link6 = Route(prefix=config.pod_cidr6, dev="cbr0") if config.pod_cidr6 else on_link
    gateway6 = ipv6(config.bridge_address6) if config.pod_cidr6 else 0
    return NodePlan(
        ip6=_plan6(config, interfaces, config.pod_cidr6, on_link6, gateway=gateway6),
        interfaces=interfaces,
        routes=_table(interfaces, _main_table(config, on_link)),
        neighbours=_neighbours(config),
        pods=PodRange(network=pods, prefix_len=pods_len, gateway=bridge),
        source_nat=_source_nat(config),
        cluster=_cluster(config),
        service_random=config.service_random_fully,
        dedup=(bridge, pods, mask_of(pods_len)) if dedup else None,
        bridge_nf=config.bridge_nf_call_iptables,
        multicast_snooping=config.multicast_snooping,
        drop_invalid=config.kube_proxy,
        ageing_s=config.ageing_s,
        pod_port=Interface(
            name="",
            kind=InterfaceKind.BRIDGE_PORT,
            mac=0,
            mtu=config.mtu,
            bridge="cbr0",
            hairpin=config.hairpin is Hairpin.VETH,
        ),
        pod_host_mac=None,
        permanent_neighbours=config.permanent_neighbours,
        announce=config.arp_notify,
        host_port_mark=MARK_MASQ,
        forward_drops=_forward_drops(config),
    )


def plan_azure_cni(config: AzureCni) -> NodePlan:
    """The node that Azure CNI makes in transparent mode: no bridge, a route and a veth for each pod.

    Of a VNet subnet Azure keeps the first addresses for itself; the node's own is taken, too.
    """
    network, length = ipv4_prefix(config.pod_range)
    interfaces = (_eth0(config),)
    reserved = {ipv4(config.node_address), ipv4(config.gateway)}
    if not config.exclusive:
        reserved |= {network + 1, network + 2, network + 3}
    last = network + (1 << 32 - length) - 2
    inside = sorted(address for address in reserved if network < address <= last)
    return NodePlan(
        ip6=_plan6(config, interfaces, config.pod_range6, exclusive=config.exclusive),
        interfaces=interfaces,
        routes=_table(interfaces, _main_table(config)),
        neighbours=_neighbours(config),
        pods=PodRange(
            network=network,
            prefix_len=length,
            gateway=network,
            reserved=tuple(inside),
            exclusive=config.exclusive,
        ),
        source_nat=_source_nat(config),
        cluster=_cluster(config),
        service_random=config.service_random_fully,
        dedup=None,
        bridge_nf=False,
        drop_invalid=config.kube_proxy,
        ageing_s=config.ageing_s,
        pod_port=Interface(
            name="", kind=InterfaceKind.ROUTED, mac=0, mtu=config.mtu, proxy_arp=config.proxy_arp
        ),
        pod_host_mac=AZURE_HOST_MAC,
        permanent_neighbours=config.permanent_neighbours,
        announce=False,
        host_port_mark=MARK_HOST_PORT,
        snat=_platform_snat(config),
        forward_drops=_forward_drops(config),
    )


def plan_node(config: NodeConfig) -> NodePlan:
    """The plan of any configuration.

    Raises
    ------
    TypeError
        For what is none.
    """
    if isinstance(config, Kubenet):
        return plan_kubenet(config)
    if isinstance(config, AzureCni):
        return plan_azure_cni(config)
    raise TypeError(f"a node takes Kubenet or one of AzureCni..., not {type(config).__name__}")


def plan_routes(
    interfaces: tuple[Interface, ...], main: tuple[Route, ...], family: int = 4
) -> tuple[tuple[int, int, NextHop], ...]:
    """A node's table with another main table than that of its configuration.

    Raises
    ------
    ConfigError
        For a route of the other family, or to an interface that the node does not have.
    """
    for route in main:
        if is_ipv6(route.prefix) is not (family == 6):
            raise ConfigError(
                f"route {route.prefix} is not of IPv{family}: each family has a table of its own"
            )
    return _table(interfaces, main) if family == 4 else _table6(interfaces, main)


def plan_pod_port(config: NodeConfig, plan: NodePlan, name: str) -> Interface:
    """The interface on the host that a pod of this name is behind."""
    if not plan.routed:
        return plan.pod_port
    return replace(plan.pod_port, name=name, **_sysctls(config, name))  # type: ignore[arg-type]


def pod_macs(pod: Pod, address: int, host: int | None) -> tuple[int, int]:
    """MACs of a pod's eth0 and of the host's end of its veth pair; `host` is what the latter is by default."""
    default = cni_mac(address, 0x0E58) if host is None else host
    return (
        mac(pod.mac) if pod.mac is not None else cni_mac(address),
        mac(pod.host_mac) if pod.host_mac is not None else default,
    )


def plan_host_port(row: HostPort, pod: str, plan: NodePlan, mapper: PortMapper) -> HostPortRow | None:
    """A host port's row for one of its pod's addresses, None: it is only at an address of the other family.

    Addresses are integers still. portmap masquerades whoever has an address of the pod's subnet, and 127.0.0.1 (which
    no packet that comes in has); kubelet only the pod itself, and it looks at no host address.
    """
    portmap = mapper is PortMapper.PORTMAP
    host = row.host_ip if portmap else None
    family, bits = (6, 128) if is_ipv6(pod) else (4, 32)
    if host is not None and is_ipv6(host) != is_ipv6(pod):
        return None
    length = bits
    if portmap and not plan.routed:
        length = (plan.pods if family == 4 or plan.ip6 is None else plan.ip6.pods).prefix_len
    address = address_number(pod)
    return HostPortRow(
        family=family,
        ip=0 if host is None else address_number(host),
        proto=PROTOCOLS[row.protocol],
        port=row.port,
        pod=address,
        pod_port=row.pod_port,
        network=address >> bits - length << bits - length,
        length=length,
        mark=plan.host_port_mark if portmap else MARK_MASQ,
    )
