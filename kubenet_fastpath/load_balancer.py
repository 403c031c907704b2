"""The load balancer in front of a cluster: outbound flows share its addresses, inbound rules lead to the nodes.

Sources: learn.microsoft.com, load-balancer-outbound-connections and load-balancer-standard. Each node has its ports
beforehand, as many as the size of the pool allows. TCP may use a port again towards another address and port, UDP
towards another address. Rules have floating IP, as AKS makes them: the address stays, kube-proxy knows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .address import ipv4
from .errors import ConfigError

__all__ = ["LoadBalancer", "LoadBalancerRule", "SnatPorts", "default_ports"]

PORTS_PER_ADDRESS = 64_000
FIRST_PORT = 1024  #: of an address; 64,000 ports end at 65,023
STEP = 8  #: ports are handed out in eights
TCP, UDP = 6, 17
SECOND = 1_000_000_000

Flow = tuple[int, int, int, int, int]  # protocol, source, its port, destination, its port


def default_ports(nodes: int) -> int:
    """Ports that each node gets by default in a pool of so many.

    Raises
    ------
    ConfigError
        Above 1,000 nodes there is no default.

    Examples
    --------
    >>> default_ports(3), default_ports(400), default_ports(1000)
    (1024, 128, 32)
    """
    for size, ports in ((50, 1024), (100, 512), (200, 256), (400, 128), (800, 64), (1000, 32)):
        if nodes <= size:
            return ports
    raise ConfigError(f"a pool of {nodes} nodes has no default number of outbound ports: say outbound_ports")


@dataclass(frozen=True, kw_only=True)
class LoadBalancerRule:
    """Port of a frontend address that leads to the nodes; `nodes`: to these alone, whose health probes succeed."""

    address: str
    port: int
    protocol: str = "tcp"
    nodes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        ipv4(self.address)
        if self.protocol not in ("tcp", "udp"):
            raise ConfigError(f"a rule's protocol is tcp or udp, not {self.protocol!r}")
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"rule port {self.port} is not in 1..65535")

    @property
    def key(self) -> tuple[int, int, int]:
        """Address, protocol number, port."""
        return ipv4(self.address), TCP if self.protocol == "tcp" else UDP, self.port


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """A standard load balancer.

    Parameters
    ----------
    addresses : tuple of str
        Public ones that outbound flows share.
    outbound_ports : int
        For each node, a multiple of 8; 0: the default for the size of the pool.
    idle_timeout_s : float
        After which a flow loses its port; AKS's 30 minutes.
    rules : tuple of LoadBalancerRule

    Raises
    ------
    AddressError, ConfigError
        For no address, ports that are no multiple of 8, or a timeout outside 4 to 120 minutes.
    """

    addresses: tuple[str, ...]
    outbound_ports: int = 0
    idle_timeout_s: float = 1800
    rules: tuple[LoadBalancerRule, ...] = ()

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ConfigError("a load balancer needs an address")
        for address in self.addresses:
            ipv4(address)
        if self.outbound_ports < 0 or self.outbound_ports % STEP:
            raise ConfigError(f"outbound_ports {self.outbound_ports} is no multiple of {STEP}")
        if not 240 <= self.idle_timeout_s <= 7200:
            raise ConfigError(f"idle_timeout_s {self.idle_timeout_s} is not in 240..7200")

    def ports_of_a_node(self, nodes: int) -> int:
        """Ports that each of so many nodes has.

        Raises
        ------
        ConfigError
            When the addresses have fewer.
        """
        ports = self.outbound_ports or default_ports(nodes)
        room = PORTS_PER_ADDRESS * len(self.addresses) // ports
        if nodes > room:
            raise ConfigError(
                f"{nodes} nodes with {ports} outbound ports each need more than the {len(self.addresses)} addresses "
                f"have: {room} nodes at most"
            )
        return ports


@dataclass
class _Lease:
    address: int
    port: int
    until: int


class SnatPorts:
    """The outbound flows of a load balancer and the ports that they hold.

    Parameters
    ----------
    balancer : LoadBalancer
    nodes : int
        Of the pool; each has a block of ports of one address.

    Attributes
    ----------
    exhausted : int
        Flows that found no port.
    peak : list of int
        The most ports that each node used at a time.
    """

    def __init__(self, balancer: LoadBalancer, nodes: int) -> None:
        self.ports = balancer.ports_of_a_node(nodes)
        self.exhausted = 0
        self.peak = [0] * nodes
        self._idle = int(balancer.idle_timeout_s * SECOND)
        self._addresses = [ipv4(address) for address in balancer.addresses]
        self._per_address = PORTS_PER_ADDRESS // self.ports
        self._flows: dict[Flow, _Lease] = {}
        self._back: dict[Flow, tuple[int, Flow]] = {}  # as the answer has it -> node, flow
        self._users: list[dict[tuple[int, int], int]] = [{} for _ in range(nodes)]  # protocol, port -> flows
        self._next = [0] * nodes

    def __len__(self) -> int:
        return len(self._flows)

    def used(self, node: int) -> int:
        """Ports of a node that are in use, TCP's and UDP's counted apart; the larger of the two."""
        count = {TCP: 0, UDP: 0}
        for proto, _ in self._users[node]:
            count[proto] += 1
        return max(count.values())

    def translate(self, node: int, flow: Flow, now: int) -> tuple[int, int] | None:
        """Address and port that a packet leaves with; None when the node has no port left.

        Cost: a look into a dictionary; a new flow tries the node's ports in turn.
        """
        lease = self._flows.get(flow)
        if lease is not None and lease.until <= now:
            self._end(node, flow, lease)
            lease = None
        if lease is None:
            lease = self._begin(node, flow, now)
            if lease is None:
                self.exhausted += 1
                return None
        lease.until = now + self._idle
        return lease.address, lease.port

    def answer(self, flow: Flow, now: int) -> tuple[int, int, int] | None:
        """Node, address and port that an answer from outside goes to; None when nobody asked."""
        found = self._back.get(_reply_key(flow))
        if found is None:
            return None
        node, asked = found
        lease = self._flows[asked]
        if lease.until <= now:
            self._end(node, asked, lease)
            return None
        lease.until = now + self._idle
        return node, asked[1], asked[2]

    def _begin(self, node: int, flow: Flow, now: int) -> _Lease | None:
        lease = self._free_port(node, flow)
        if lease is None and self._sweep(node, now):
            lease = self._free_port(node, flow)
        if lease is None:
            return None
        self._flows[flow] = lease
        self._back[_outside_key(flow, lease)] = node, flow
        users = self._users[node]
        key = flow[0], lease.port
        users[key] = users.get(key, 0) + 1
        self.peak[node] = max(self.peak[node], self.used(node)) if users[key] == 1 else self.peak[node]
        return lease

    def _free_port(self, node: int, flow: Flow) -> _Lease | None:
        address = self._addresses[node // self._per_address]
        first = FIRST_PORT + node % self._per_address * self.ports
        for step in range(self.ports):
            port = first + (self._next[node] + step) % self.ports
            lease = _Lease(address, port, 0)
            if _outside_key(flow, lease) not in self._back:
                self._next[node] = port - first + 1
                return lease
        return None

    def _sweep(self, node: int, now: int) -> int:
        old = [(flow, lease) for flow, lease in self._flows.items() if lease.until <= now]
        for flow, lease in old:
            self._end(self._back[_outside_key(flow, lease)][0], flow, lease)
        return len(old)

    def _end(self, node: int, flow: Flow, lease: _Lease) -> None:
        del self._flows[flow], self._back[_outside_key(flow, lease)]
        users, key = self._users[node], (flow[0], lease.port)
        users[key] -= 1
        if not users[key]:
            del users[key]


def _outside_key(flow: Flow, lease: _Lease) -> Flow:
    """What tells flows of one port apart: the far end, of UDP only its address."""
    proto, _, _, dst, dport = flow
    return proto, lease.address, lease.port, dst, dport if proto == TCP else 0


def _reply_key(flow: Flow) -> Flow:
    proto, src, sport, dst, dport = flow
    return proto, dst, dport, src, sport if proto == TCP else 0
