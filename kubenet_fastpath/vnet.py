"""A virtual network as its users say it: address space, routes, peers, hosts; and which route wins.

Longest prefix first; of equal prefixes a user-defined route beats BGP's, and that the system's. Routes of BGP inside
the VNet or a peer are not taken, however long (learn.microsoft.com, virtual-networks-udr-overview).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .address import ipv4, ipv4_prefix, ipv4_text
from .errors import ConfigError

__all__ = ["MAX_USER_ROUTES", "HopKind", "RouteSource", "UserRoute", "Vnet", "VnetHost", "VnetRoute"]

MAX_USER_ROUTES = 400  #: of one route table
RESERVED = 5  #: addresses of each subnet: the first four and the last
PRIVATE = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
)  #: not routed unless somebody says so
PLATFORM = (
    "168.63.129.16/32",
    "169.254.169.254/32",
)  #: Azure's DNS and health probes, and metadata: no route hides them


class HopKind(Enum):
    """Next-hop type of a route."""

    VNET_LOCAL = "VnetLocal"
    PEERING = "VNetPeering"
    APPLIANCE = "VirtualAppliance"
    GATEWAY = "VirtualNetworkGateway"
    INTERNET = "Internet"
    NONE = "None"
    PLATFORM = "Platform"  #: 168.63.129.16 and 169.254.169.254; in no table that Azure shows


class RouteSource(Enum):
    """Who says so; a lower number wins among equal prefixes."""

    USER = 0
    BGP = 1
    SYSTEM = 2


@dataclass(frozen=True, kw_only=True)
class UserRoute:
    """A row of a route table.

    Parameters
    ----------
    prefix : str
    hop : HopKind
        `VNET_LOCAL`, `APPLIANCE`, `GATEWAY`, `INTERNET` or `NONE`.
    address : str, optional
        Of the appliance, and of nothing else.
    name : str

    Raises
    ------
    AddressError, ConfigError
        For an appliance without an address, an address without one, or a type that users cannot say.
    """

    prefix: str
    hop: HopKind
    address: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        ipv4_prefix(self.prefix)
        if self.hop in (HopKind.PEERING, HopKind.PLATFORM):
            raise ConfigError(
                f"route {self.prefix} has next hop {self.hop.value}, which only the system makes"
            )
        if (self.address is not None) != (self.hop is HopKind.APPLIANCE):
            raise ConfigError(
                f"route {self.prefix} to {self.hop.value} has address {self.address}: an appliance alone has one"
            )
        if self.address is not None:
            ipv4(self.address)


@dataclass(frozen=True, kw_only=True)
class VnetRoute:
    """An effective route: what `az network nic show-effective-route-table` lists."""

    network: int
    prefix_len: int
    hop: HopKind
    source: RouteSource
    address: int = 0

    def __str__(self) -> str:
        via = f" {ipv4_text(self.address)}" if self.hop is HopKind.APPLIANCE else ""
        return f"{ipv4_text(self.network)}/{self.prefix_len} {self.hop.value}{via}"


@dataclass(frozen=True, kw_only=True)
class VnetHost:
    """A machine of the VNet, or of a peer, that is no node: it receives, and sends what it is told to.

    Parameters
    ----------
    name : str
    ip : str
    mac : str, optional
        `00:0d:3a` and the last three bytes of its address if omitted.
    ip_forwarding : bool
        Its NIC may send from and receive for others' addresses.
    """

    name: str
    ip: str
    mac: str | None = None
    ip_forwarding: bool = False

    def __post_init__(self) -> None:
        ipv4(self.ip)


@dataclass(frozen=True, kw_only=True)
class Vnet:
    """A virtual network.

    Parameters
    ----------
    address_space : tuple of str
        Prefixes of the VNet.
    routes : tuple of UserRoute
        The route table; 400 routes at most.
    associated : tuple of str, optional
        Subnets that use the route table; the whole VNet if omitted.
    peers : tuple of str
        Prefixes of peered VNets.
    bgp : tuple of str
        Prefixes that a gateway has learned.
    hosts : tuple of VnetHost

    Raises
    ------
    AddressError, ConfigError
        For more routes than a table has, one prefix twice, a subnet or host outside, or peers that overlap.

    Examples
    --------
    >>> vnet = Vnet(address_space=("10.224.0.0/12",),
    ...             routes=(UserRoute(prefix="10.244.1.0/24", hop=HopKind.APPLIANCE, address="10.224.0.5"),))
    >>> [str(route) for route in vnet.effective_routes()][:2]
    ['168.63.129.16/32 Platform', '169.254.169.254/32 Platform']
    """

    address_space: tuple[str, ...]
    routes: tuple[UserRoute, ...] = ()
    associated: tuple[str, ...] | None = None
    peers: tuple[str, ...] = ()
    bgp: tuple[str, ...] = ()
    hosts: tuple[VnetHost, ...] = ()

    def __post_init__(self) -> None:
        if not self.address_space:
            raise ConfigError("a VNet needs an address space")
        if len(self.routes) > MAX_USER_ROUTES:
            raise ConfigError(f"{len(self.routes)} routes: a route table has {MAX_USER_ROUTES} at most")
        seen: set[tuple[int, int]] = set()
        for route in self.routes:
            prefix = ipv4_prefix(route.prefix)
            if prefix in seen:
                raise ConfigError(f"the route table has {route.prefix} twice")
            seen.add(prefix)
        own, peers = (tuple(map(ipv4_prefix, space)) for space in (self.address_space, self.peers))
        for text, (network, length) in zip(self.peers, peers, strict=True):
            if any(not (network ^ net) >> 32 - min(length, n) for net, n in own):
                raise ConfigError(f"peer {text} overlaps the VNet {', '.join(self.address_space)}")
        for text in self.associated or ():
            if not _inside(*ipv4_prefix(text), own):
                raise ConfigError(f"subnet {text} is not inside the VNet {', '.join(self.address_space)}")
        for prefix_text in self.bgp:
            ipv4_prefix(prefix_text)
        names = [host.name for host in self.hosts]
        if len(set(names)) < len(names):
            raise ConfigError(f"two hosts have one name: {', '.join(sorted(names))}")
        for host in self.hosts:
            if not _inside(ipv4(host.ip), 32, own + peers):
                raise ConfigError(
                    f"host {host.name} has {host.ip}, which is neither in the VNet nor in a peer"
                )

    def effective_routes(self, *, table: bool = True) -> list[VnetRoute]:
        """The routes that count for a NIC, one a prefix, longest prefix first.

        Parameters
        ----------
        table : bool
            The NIC's subnet uses the route table.
        """
        own, peers = (tuple(map(ipv4_prefix, space)) for space in (self.address_space, self.peers))
        rows = [VnetRoute(network=0, prefix_len=0, hop=HopKind.INTERNET, source=RouteSource.SYSTEM)]
        for prefixes, hop in (
            (tuple(map(ipv4_prefix, PRIVATE)), HopKind.NONE),
            (own, HopKind.VNET_LOCAL),
            (peers, HopKind.PEERING),
        ):
            rows += [
                VnetRoute(network=n, prefix_len=m, hop=hop, source=RouteSource.SYSTEM) for n, m in prefixes
            ]
        for network, length in map(ipv4_prefix, self.bgp):
            if not _inside(network, length, own + peers):
                rows.append(
                    VnetRoute(network=network, prefix_len=length, hop=HopKind.GATEWAY, source=RouteSource.BGP)
                )
        for route in self.routes if table else ():
            network, length = ipv4_prefix(route.prefix)
            address = ipv4(route.address) if route.address is not None else 0
            rows.append(
                VnetRoute(
                    network=network,
                    prefix_len=length,
                    hop=route.hop,
                    source=RouteSource.USER,
                    address=address,
                )
            )
        best: dict[tuple[int, int], VnetRoute] = {}
        for row in rows:  # later ones of the same source: the VNet's own prefixes beat PRIVATE's
            known = best.get((row.network, row.prefix_len))
            if known is None or row.source.value <= known.source.value:
                best[row.network, row.prefix_len] = row
        for network, length in map(ipv4_prefix, PLATFORM):
            best[network, length] = VnetRoute(
                network=network, prefix_len=length, hop=HopKind.PLATFORM, source=RouteSource.SYSTEM
            )
        return sorted(best.values(), key=lambda row: (-row.prefix_len, row.network))


def _inside(network: int, length: int, prefixes: tuple[tuple[int, int], ...]) -> bool:
    return any(length >= n and not (network ^ net) >> 32 - n for net, n in prefixes)
