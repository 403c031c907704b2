"""What all addressing modes' configurations have in common: frozen, typed, checked.

Longer than its neighbours: half of it describes the fields, the other half refuses what they cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from .address import ipv4, ipv4_prefix, ipv4_text, ipv6, ipv6_prefix, ipv6_text, is_ipv6, mac, prefix_text
from .errors import AddressError, ConfigError
from .service import PortMapper, Service
from .timeouts import Timeouts


class Masquerade(Enum):
    """Who installs the masquerade rules."""

    AGENT = "ip-masq-agent"
    KUBENET = "kubenet"
    NONE = "none"


def check_address(text: str) -> None:
    """Raise AddressError for what is no address of either family."""
    _ = ipv6(text) if is_ipv6(text) else ipv4(text)


def check_prefix(text: str) -> None:
    """Raise AddressError for what is no prefix of either family."""
    _ = ipv6_prefix(text) if is_ipv6(text) else ipv4_prefix(text)


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A permanent neighbour: `ip neigh replace IP lladdr MAC nud permanent dev DEV`."""

    ip: str
    mac: str
    dev: str

    def __post_init__(self) -> None:
        check_address(self.ip)
        mac(self.mac)


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route of the main table, of either family.

    `kind` is `unicast`, `unreachable`, `prohibit`, `blackhole` or `throw`; a unicast route has a device, and a gateway
    unless its prefix is on the link.
    """

    prefix: str
    dev: str | None = None
    via: str | None = None
    src: str | None = None
    kind: str = "unicast"

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        for address in (self.via, self.src):
            if address is not None:
                check_address(address)
                if is_ipv6(address) is not is_ipv6(self.prefix):
                    raise ConfigError(f"a route has one family of addresses: {self}")
        if self.kind not in ("unicast", "unreachable", "prohibit", "blackhole", "throw"):
            raise ConfigError(
                f"route kind {self.kind!r} is none of unicast, unreachable, prohibit, blackhole, throw"
            )
        if (self.kind == "unicast") != (self.dev is not None):
            raise ConfigError(f"a unicast route needs a dev and others have none: {self}")

    @classmethod
    def parse(cls, line: str) -> Route:
        """Read one line in the form of `ip route`; `default` is 0.0.0.0/0, or ::/0 if its gateway is of IPv6.

        Raises
        ------
        ConfigError
            For a line that is none, or has words that are not understood.

        Examples
        --------
        >>> Route.parse("default via 10.240.0.1 dev eth0")
        Route(prefix='0.0.0.0/0', dev='eth0', via='10.240.0.1', src=None, kind='unicast')
        """
        words = line.split()
        kind = (
            words.pop(0)
            if words and words[0] in ("unreachable", "prohibit", "blackhole", "throw")
            else "unicast"
        )
        if not words:
            raise ConfigError(f"no route in {line!r}")
        prefix = words[0]
        if prefix == "default":
            prefix = "::/0" if is_ipv6(line) else "0.0.0.0/0"
        options = dict(zip(words[1::2], words[2::2], strict=False))
        unknown = set(options) - {"via", "dev", "src", "scope", "proto", "metric"}
        if unknown or len(words) % 2 == 0:
            raise ConfigError(f"route {line!r} has words that are not understood")
        return cls(
            prefix=prefix if "/" in prefix else f"{prefix}/128" if is_ipv6(prefix) else f"{prefix}/32",
            dev=options.get("dev"),
            via=options.get("via"),
            src=options.get("src"),
            kind=kind,
        )


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """What all addressing modes have in common: the node in its VNet, its rules, sysctls and tables.

    Parameters
    ----------
    node_ip : str
        Address of eth0, with the subnet's prefix length or /16.
    gateway : str
        The VNet's gateway in eth0's subnet.
    node_ip6, gateway6 : str, optional
        The same for IPv6, with the subnet's prefix length or /64: the node is dual-stack then. The gateway is in eth0's
        subnet or link-local.
    node_mac, gateway_mac : str
        MACs of eth0 and of whatever answers for the gateway (None: ask by ARP).
    mtu : int
        Of eth0 and the pods, bytes of an IP packet.
    masquerade : Masquerade
        Who installs the masquerade rules.
    non_masquerade : tuple of str, optional
        Destinations that pods reach with their own address; what the addressing mode routes itself if omitted.
    random_fully : bool
        The masquerade rules have `--random-fully`.
    to_ports : (int, int), optional
        The masquerade rules have `--to-ports`.
    kube_proxy : bool
        Its rules are installed: services, and packets that conntrack calls INVALID are dropped in FORWARD.
    services : tuple of Service
        What kube-proxy knows at the start; `Node.set_services` changes it.
    zone : str, optional
        The node's `topology.kubernetes.io/zone`, for services that are `topology_aware`.
    service_random_fully : bool
        kube-proxy masquerades with `--random-fully`; true where iptables has it.
    guard_wireserver : bool
        FORWARD drops what goes to Azure's WireServer, TCP ports 80 and 32526 of 168.63.129.16, as on AKS.
    port_mapper : PortMapper
        Whose rules the pods' host ports get.
    rp_filter : int or mapping
        0 off, 1 strict, 2 loose; or by interface name, with "all".
    send_redirects : bool or mapping
        Likewise.
    routes : tuple, optional
        Both families' main table without the pods, as `Route` or lines of `ip route`; the node's usual ones if omitted.
    neighbours : tuple of Neighbour
        Permanent ones.
    proxy_delay_ms : int
        net.ipv4.neigh.default.proxy_delay: what the node answers by proxy, it answers after a random time below this,
        unless it was asked by unicast.
    permanent_neighbours : bool
        Pods' and the gateway's MACs are known from the start; otherwise the node asks by ARP as a kernel does.
    neighbours_max : int
        net.ipv4.neigh.default.gc_thresh3; AKS sets 16384.
    neighbour_retrans_s, neighbour_delay_s, neighbour_reachable_s : float
        net.ipv4.neigh.default.retrans_time_ms, delay_first_probe_time, base_reachable_time_ms.
    fragment_timeout_s : float
        net.ipv4.ipfrag_time: how long fragments wait for the rest of their datagram.
    fragment6_timeout_s : float
        net.netfilter.nf_conntrack_frag6_timeout: the same of IPv6.
    ageing_s : float
        After which the bridge forgets a MAC.
    seed : int
        Secret of the hash tables and source of all random choices.

    Raises
    ------
    AddressError, ConfigError
        For an address that is none, or values that contradict each other.
    """

    node_ip: str
    gateway: str
    node_ip6: str | None = None
    gateway6: str | None = None
    node_mac: str = "00:0d:3a:00:00:04"
    gateway_mac: str | None = "12:34:56:78:9a:bc"
    mtu: int = 1500
    masquerade: Masquerade = Masquerade.AGENT
    non_masquerade: tuple[str, ...] | None = None
    random_fully: bool = False
    to_ports: tuple[int, int] | None = None
    kube_proxy: bool = True
    services: tuple[Service, ...] = ()
    zone: str | None = None
    service_random_fully: bool = True
    guard_wireserver: bool = True
    port_mapper: PortMapper = PortMapper.PORTMAP
    rp_filter: int | Mapping[str, int] = 0
    send_redirects: bool | Mapping[str, bool] = True
    route_localnet: bool = True
    neighbours: tuple[Neighbour, ...] = ()
    routes: tuple[Route | str, ...] | None = None
    permanent_neighbours: bool = True
    icmp_ratelimit_ms: int = 1000
    icmp_msgs_per_s: int = 1000
    icmp_msgs_burst: int = 50
    timeouts: Timeouts = field(default_factory=Timeouts)
    tcp_loose: bool = True
    tcp_be_liberal: bool = False
    conntrack_checksum: bool = True
    conntrack_max: int = 262144
    ageing_s: float = 300
    neighbours_max: int = 1024
    neighbour_retrans_s: float = 1
    neighbour_delay_s: float = 5
    neighbour_reachable_s: float = 30
    fragment_timeout_s: float = 30
    fragment6_timeout_s: float = 60
    proxy_delay_ms: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        _, node_net, node_len = self._node()
        if (ipv4(self.gateway) ^ node_net) >> (32 - node_len) if node_len else False:
            raise ConfigError(
                f"gateway {self.gateway} is not in eth0's subnet {prefix_text(node_net, node_len)}"
            )
        for text in (self.node_mac, self.gateway_mac):
            if text is not None and mac(text) >> 40 & 1:
                raise ConfigError(f"MAC {text} is a multicast address")
        self._check6()
        for cidr in self.non_masquerade or ():
            check_prefix(cidr)
        for cidr in (*self.direct, self.cluster):
            ipv4_prefix(cidr)
        if len(self.direct) > 64 or len(self.direct6) > 64:
            raise ConfigError(f"non_masquerade has {len(self.direct)} CIDRs; ip-masq-agent takes 64 at most")
        if not 68 <= self.mtu <= 65535:
            raise ConfigError(f"mtu {self.mtu} is not in 68..65535")
        if self.to_ports is not None and not 1 <= self.to_ports[0] <= self.to_ports[1] <= 65535:
            raise ConfigError(f"to_ports {self.to_ports} is no range of ports")
        if self.services and not self.kube_proxy:
            raise ConfigError(f"{len(self.services)} services need kube_proxy")
        if self.conntrack_max < 1 or self.neighbours_max < 1:
            raise ConfigError(
                f"conntrack_max {self.conntrack_max} and neighbours_max {self.neighbours_max} start at 1"
            )
        for name in (
            "neighbour_retrans_s",
            "neighbour_delay_s",
            "neighbour_reachable_s",
            "fragment_timeout_s",
            "fragment6_timeout_s",
        ):
            if not 0 < getattr(self, name) <= 86_400:
                raise ConfigError(f"{name} is not in 0..86400: {getattr(self, name)}")
        if not 0 <= self.proxy_delay_ms <= 3_600_000:
            raise ConfigError(f"proxy_delay_ms {self.proxy_delay_ms} is not in 0..3600000")
        for mapping in (self.rp_filter, self.send_redirects):
            values = mapping.values() if isinstance(mapping, Mapping) else (mapping,)
            if any(int(v) not in (0, 1, 2) for v in values):
                raise ConfigError(f"a sysctl is 0, 1 or (rp_filter) 2: {mapping}")
        for name in ("rp_filter", "send_redirects"):
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if self.routes is not None:
            parsed = tuple(Route.parse(r) if isinstance(r, str) else r for r in self.routes)
            object.__setattr__(self, "routes", parsed)

    def _node(self) -> tuple[int, int, int]:
        text, _, length = self.node_ip.partition("/")
        address = ipv4(text)
        if length and not (length.isascii() and length.isdecimal() and int(length) <= 32):
            raise AddressError(f"node_ip {self.node_ip!r} has no prefix length")
        bits = int(length) if length else 16
        return address, address & -1 << 32 - bits & 0xFFFFFFFF, bits

    def _check6(self) -> None:
        if (self.node_ip6 is None) != (self.gateway6 is None):
            raise ConfigError("node_ip6 and gateway6 go together")
        if self.node_ip6 is None or self.gateway6 is None:
            return
        if self.mtu < 1280:
            raise ConfigError(f"mtu {self.mtu} is below 1280, the least that IPv6 takes")
        address, network, length = self._node6()
        gateway = ipv6(self.gateway6)
        if gateway >> 118 != 0x3FA and (gateway ^ network) >> 128 - length:
            raise ConfigError(
                f"gateway6 {self.gateway6} is neither link-local nor in eth0's subnet {self.node_subnet6}"
            )
        if address >> 118 == 0x3FA or address >> 120 == 0xFF or address < 2:
            raise ConfigError(f"node_ip6 {self.node_ip6} is no global unicast address")
        if self.cluster6 is not None:
            ipv6_prefix(self.cluster6)

    def _node6(self) -> tuple[int, int, int]:
        text, _, length = (self.node_ip6 or "").partition("/")
        address = ipv6(text)
        if length and not (length.isascii() and length.isdecimal() and int(length) <= 128):
            raise AddressError(f"node_ip6 {self.node_ip6!r} has no prefix length")
        bits = int(length) if length else 64
        return address, address >> 128 - bits << 128 - bits, bits

    @property
    def dual_stack(self) -> bool:
        """Whether the node has IPv6."""
        return self.node_ip6 is not None

    @property
    def node_address6(self) -> str:
        """IPv6 address of eth0, without its prefix length."""
        return ipv6_text(self._node6()[0])

    @property
    def node_subnet6(self) -> str:
        """The IPv6 subnet of eth0."""
        _, network, bits = self._node6()
        return f"{ipv6_text(network)}/{bits}"

    @property
    def cluster6(self) -> str | None:
        """The IPv6 pods of the cluster."""
        return self.node_subnet6 if self.dual_stack else None

    @property
    def direct6(self) -> tuple[str, ...]:
        """IPv6 destinations that are not masqueraded."""
        if self.non_masquerade is not None:
            return tuple(cidr for cidr in self.non_masquerade if is_ipv6(cidr))
        return tuple(cidr for cidr in (self.cluster6, self.node_subnet6) if cidr) if self.dual_stack else ()

    def _direct(self, usual: tuple[str, ...]) -> tuple[str, ...]:
        if self.non_masquerade is None:
            return usual
        return tuple(cidr for cidr in self.non_masquerade if not is_ipv6(cidr))

    @property
    def node_address(self) -> str:
        """Address of eth0, without its prefix length."""
        return ipv4_text(self._node()[0])

    @property
    def node_subnet(self) -> str:
        """The subnet of eth0."""
        return prefix_text(*self._node()[1:])

    @property
    def cluster(self) -> str:
        """The pods of the cluster, by which kube-proxy tells who is outside."""
        return self.node_subnet

    @property
    def direct(self) -> tuple[str, ...]:
        """Destinations that are not masqueraded."""
        return self._direct((self.cluster, self.node_subnet))


def check_pods6(config: NodeConfig, pods: str | None, cluster: str | None) -> None:
    """Raise ConfigError unless a node's IPv6 pods go with its other addresses."""
    if config.dual_stack != (pods is not None) or config.dual_stack != (cluster is not None):
        raise ConfigError("node_ip6, pod_cidr6 and cluster_cidr6 go together")
    if pods is None or cluster is None:
        return
    network, length = ipv6_prefix(pods)
    outer, outer_length = ipv6_prefix(cluster)
    if length > 126:
        raise ConfigError(f"pod_cidr6 {pods} has no room for pods")
    if length < outer_length or (network ^ outer) >> 128 - outer_length:
        raise ConfigError(f"pod_cidr6 {pods} is not inside cluster_cidr6 {cluster}")
    if not (config._node6()[0] ^ outer) >> 128 - outer_length:
        raise ConfigError(f"node_ip6 {config.node_ip6} is inside cluster_cidr6 {cluster}")
