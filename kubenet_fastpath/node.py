"""A node: attach pods, forward batches, change services, look at the tables.

Longer than its neighbours, for it is the one door to all tables: each change touches several of them under one lock,
and what may refuse it is asked before the first one changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from .address import ipv4, ipv4_text, ipv6, ipv6_text, is_ipv6, mac_text
from .address_pool import AddressPool
from .batch import PacketBatch
from .config import Pod, Route
from .connection import CtStatus
from .conntrack import ConnectionTable
from .errors import ConfigError, TableFull
from .fdb import ForwardingDatabase
from .fib import RouteTable
from .fragment_table import FragmentTable
from .ipam import HostLocal
from .lock import Lock
from .neighbour import NeighbourTable
from .node_config import NodeConfig
from .node_plan import LOOPBACK, HostPortRow, Interface, InterfaceKind, Ip6Plan, NextHop, RouteType
from .path_mtu import PathMtuTable
from .pipeline import Pipeline
from .plan import link_local, plan_host_port, plan_node, plan_pod_port, plan_routes, pod_macs
from .result import Counters, Port, Result
from .service import PROTOCOLS, Endpoint, PortMapper, Service
from .service_plan import (
    EXTERNAL_IP,
    FORWARD_DROP,
    Refusal,
    ServicePlan,
    StaleFlow,
    plan_services,
    stale_flows,
)
from .service_table import ServiceTable
from .verdict import Reason, Verdict

MAX_PORTS = 1024  #: of a bridge, BR_MAX_PORTS
MAX_INTERFACES = 65_000  #: below LOOPBACK
MAX_WORKERS = 64  #: of a node, KF_CREW_MOST


class Node:
    """A node's datapath.

    Parameters
    ----------
    config : Kubenet, AzureCniNodeSubnet, AzureCniPodSubnet or AzureCniOverlay
        The node. Its plan is made at once; nothing of it changes later but pods, services and routes.
    workers : int, optional
        Threads that share a batch, 1 to 64, the calling one among them. What comes out is the same for any number, in
        every byte, counter and table, and in the same order: a batch means its packets one by one. Packets of known
        flows are shared, from 2,048 of them on; whatever else comes (a connection's first packet, ARP, fragments) goes
        through one thread in between, and so does a batch whose frames do not lie one behind the other. Threads begin
        with the first such batch and end with the node; they watch for the next one for 2 ms, then sleep. Memory: 16
        bytes for each worker and packet of 4,096 a worker (65,536 at most): 256 KiB for two, 1 MiB for four; for TCP
        184 bytes more for each of these packets.

    Attributes
    ----------
    routes : RouteTable
        Prefix -> index into `next_hops`.
    fdb, connections, neighbours, fragments
        The node's tables.
    routes6, neighbours6, fragments6
        The same of IPv6; empty if the node has none.
    path_mtus : PathMtuTable
        What ICMP has told the node itself of paths, of both families.
    addresses : AddressPool
        IPv6 addresses by the numbers that tables have for them.
    services : tuple of Service
        What kube-proxy knows.
    ports : dict of str to Port
        By name; `eth0` is port 0.

    Notes
    -----
    Time comes with the packets and does not run backwards: a packet older than the latest one counts as being of the
    same time. One call at a time: a lock makes others wait. It is the node's, not its tables': while one thread is in a
    call of the node, another one may look up `routes` and `routes6`, and inspect and edit `connections` (`to_records`,
    `events` and the like, which wait for the lock), and is to leave the other tables alone.

    Examples
    --------
    >>> from kubenet_fastpath import Kubenet
    >>> node = Node(Kubenet(node_ip="10.240.0.4", pod_cidr="10.244.1.0/24", cluster_cidr="10.244.0.0/16",
    ...                     gateway="10.240.0.1"))
    >>> node.attach(Pod("web")).name
    'web'
    """

    def __init__(self, config: NodeConfig, *, workers: int = 1) -> None:
        if not isinstance(workers, int):
            raise TypeError(f"workers is a number of threads, not {type(workers).__name__}")
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers must be 1 to {MAX_WORKERS}, not {workers}")
        self.config = config
        self.plan = plan = plan_node(config)
        self.routes = RouteTable()
        self.fdb = ForwardingDatabase(ageing_s=plan.ageing_s, seed=config.seed)
        self.addresses = AddressPool(seed=config.seed)
        self.connections = ConnectionTable(
            capacity=config.conntrack_max,
            timeouts=config.timeouts,
            loose=config.tcp_loose,
            liberal=config.tcp_be_liberal,
            checksum=config.conntrack_checksum,
            seed=config.seed,
            addresses=self.addresses,
        )
        self.routes6 = RouteTable(family=6)
        self.neighbours, self.neighbours6 = (
            NeighbourTable(
                seed=config.seed,
                limit=config.neighbours_max,
                pool=pool,
                retrans_s=config.neighbour_retrans_s,
                delay_s=config.neighbour_delay_s,
                reachable_s=config.neighbour_reachable_s,
            )
            for pool in (None, self.addresses)
        )
        self.fragments = FragmentTable(timeout_s=config.fragment_timeout_s, seed=config.seed)
        self.fragments6 = FragmentTable(
            timeout_s=config.fragment6_timeout_s, max_distance=0, seed=config.seed
        )
        self.path_mtus = PathMtuTable(seed=config.seed)
        self.services: tuple[Service, ...] = ()
        self.next_hops: list[NextHop] = []
        self.ports: dict[str, Port] = {}
        self._lock = self.connections.guard = Lock()
        self._addresses = HostLocal(plan.pods.network, plan.pods.prefix_len, plan.pods.gateway)
        for address in plan.pods.reserved:
            self._addresses.reserve(address)
        self._pods: dict[str, tuple[int, int, int]] = {}  # name -> address, MAC, host MAC
        self._interfaces: dict[int, Interface] = {}  # by index, with their MACs
        self._down: set[int] = set()
        self._own_mtu: set[str] = set()  # bridges whose MTU was set
        #: By family, the routes of no pod: of IPv6 with those to the node itself.
        self._main: dict[int, dict[tuple[int, int], NextHop]] = {4: {}, 6: {}}
        self._silent: list[tuple[int, int]] = []  # MACs and ports to announce with the first packet
        self._devices = {interface.name: index for index, interface in enumerate(plan.interfaces)}
        self._host_ports: dict[str, list[HostPortRow]] = {}
        self._services = ServiceTable(seed=config.seed)
        self._pipeline = Pipeline(
            self.routes,
            self.fdb,
            self.connections,
            self.neighbours,
            self.fragments,
            self._services,
            self.routes6,
            self.neighbours6,
            self.fragments6,
            self.addresses,
            self.path_mtus,
        )
        self._pipeline.workers = workers
        nat = plan.source_nat
        self._pipeline.configure(
            bridge_nf=plan.bridge_nf,
            drop_invalid=plan.drop_invalid,
            verify_checksums=config.conntrack_checksum,
            dedup=plan.dedup,
            masquerade=nat is not None,
            masquerade_flags=(1 if nat and nat.ports else 0) | (2 if nat and nat.random else 0),
            masquerade_ports=nat.ports if nat and nat.ports else (0, 0),
            direct=nat.direct if nat else (),
            cluster=plan.cluster,
            service_flags=2 if plan.service_random else 0,
            icmp_interval_ns=config.icmp_ratelimit_ms * 1_000_000,
            icmp_per_second=config.icmp_msgs_per_s,
            icmp_burst=config.icmp_msgs_burst,
            seed=config.seed,
            multicast_snooping=plan.multicast_snooping,
            snat=plan.snat,
            proxy_delay_ns=config.proxy_delay_ms * 1_000_000,
        )
        self._addresses6: HostLocal | None = None
        if plan.ip6 is not None:
            range6 = plan.ip6.pods
            self._addresses6 = HostLocal(range6.network, range6.prefix_len, range6.gateway, 6)
            for address in range6.reserved:
                self._addresses6.reserve(address)
        self._pods6: dict[str, int] = {}
        for interface in plan.interfaces:
            self._install(self._devices[interface.name], interface, interface.mac)
            if interface.kind is InterfaceKind.ROUTED:
                self.ports[interface.name] = Port(self._devices[interface.name], interface.name)
        for network, prefix_len, hop in plan.routes:
            self._add_route(network, prefix_len, hop)
            self._main[4][network, prefix_len] = hop
        if plan.ip6 is not None:
            self._set_up6(plan.ip6)
        self._publish_hops()
        for neighbour in plan.neighbours:
            self.neighbours.add(self._device(neighbour.dev), neighbour.ip, neighbour.mac)
        self.set_services(config.services)

    def __repr__(self) -> str:
        return f"<Node {self.config.node_address} with {len(self._pods)} pods>"

    def _device(self, name: str) -> int:
        if name in self._pods:
            return self.ports[name].index
        if name not in self._devices:
            raise ConfigError(f"no interface {name!r}; there are {', '.join(self._devices)}")
        return self._devices[name]

    def _set_up6(self, plan: Ip6Plan) -> None:
        for network, prefix_len, hop in plan.routes:
            self._add_route(network, prefix_len, hop)
            self._main[6][network, prefix_len] = hop
        config, nat = self.config, self.plan.source_nat
        self._pipeline.configure6(
            bridge_nf=plan.bridge_nf,
            masquerade=nat is not None,
            direct=[(network.to_bytes(16, "big"), length) for network, length in plan.direct],
            cluster=(plan.cluster[0].to_bytes(16, "big"), plan.cluster[1]),
            icmp_interval_ns=config.icmp_ratelimit_ms * 1_000_000,
            local_hop=self._hop(NextHop(family=6, type=RouteType.LOCAL)),
            anycast_hop=self._hop(NextHop(family=6, type=RouteType.ANYCAST)),
            dedup=plan.dedup
            and (plan.dedup[0].to_bytes(16, "big"), plan.dedup[1].to_bytes(16, "big"), plan.dedup[2]),
        )
        for neighbour in plan.neighbours:
            self.neighbours6.add(self._device(neighbour.dev), neighbour.ip, neighbour.mac)

    def _addresses_of(self, interface: Interface, lladdr: int) -> list[tuple[bytes, int]]:
        """An interface's IPv6 addresses, the link-local one last."""
        if self.plan.ip6 is None or interface.kind is InterfaceKind.BRIDGE_PORT:
            return []
        own = [*interface.addresses6, (link_local(lladdr), 64)]
        return [(address.to_bytes(16, "big"), length) for address, length in own]

    def _install(self, index: int, interface: Interface, lladdr: int) -> None:
        self._interfaces[index] = replace(interface, mac=lladdr)
        self._publish_interface(index)
        if interface.kind is not InterfaceKind.ROUTED:
            self.fdb.add_local(lladdr, index)

    def _publish_interface(self, index: int) -> None:
        interface = self._interfaces[index]
        addresses6 = self._addresses_of(interface, interface.mac)
        link_hop = 0xFFFFFFFF
        if addresses6:
            link_hop = self._hop(NextHop(family=6, type=RouteType.UNICAST, dev=interface.name))
        self._pipeline.set_interface(
            index,
            kind=0 if index in self._down else interface.kind,
            mac=interface.mac,
            mtu=interface.mtu,
            addresses=interface.addresses,
            bridge=self._devices[interface.bridge] if interface.bridge else 0,
            promiscuous=interface.promiscuous,
            hairpin=interface.hairpin,
            proxy_arp=interface.proxy_arp,
            rp_filter=interface.rp_filter,
            send_redirects=interface.send_redirects,
            route_localnet=interface.route_localnet,
            group_fwd_mask=interface.group_fwd_mask,
            addresses6=addresses6,
            link_hop=link_hop,
        )

    def set_routes(self, routes: Iterable[Route | str], *, family: int = 4) -> None:
        """Replace the main table, all but the routes of pods: what `ip route replace` and `ip route del` make of it.

        Parameters
        ----------
        routes : iterable of Route or str
            All that there are of the family from now on, as `Route` or lines of `ip route`.
        family : int
            4, or 6: what `ip -6 route` makes of its table. The other family's stays.

        Raises
        ------
        ConfigError
            For a line that is none or of the other family, a device that the node does not have, or that is down, or
            family 6 where the node has no IPv6. Nothing has changed then.
        ValueError
            For another family.

        Notes
        -----
        Connections stay, but a masqueraded one whose packets leave by another interface now ends with the next of them.
        """
        main = tuple(Route.parse(route) if isinstance(route, str) else route for route in routes)
        if family not in (4, 6):
            raise ValueError(f"family must be 4 or 6, not {family!r}")
        if family == 6 and self.plan.ip6 is None:
            raise ConfigError("the node has no IPv6, and so no routes of it: set_routes(..., family=6)")
        with self._lock:
            interfaces = tuple(self._interfaces[index] for index in self._devices.values())
            wanted = {(net, length): hop for net, length, hop in plan_routes(interfaces, main, family)}
            for hop in wanted.values():
                if hop.dev is not None and self._device(hop.dev) in self._down:
                    raise ConfigError(f"a route leads to {hop.dev}, which is down")
            table, before = self.routes if family == 4 else self.routes6, self._main[family]
            for where in before.keys() - wanted.keys():
                with suppress(KeyError):
                    del table[where]
            for where in sorted(wanted):
                if before.get(where) != wanted[where]:
                    self._add_route(*where, wanted[where])
            self._main[family] = wanted
            self._release_hops({*before.values()} - {*wanted.values()})
            self._publish_hops()

    def set_mtu(self, name: str, mtu: int) -> None:
        """Change the MTU of an interface or of a pod's port: `ip link set NAME mtu MTU`.

        A bridge has the least of its ports', unless its own was set.

        Raises
        ------
        ConfigError
            For a name that the node does not have, or an MTU out of 68..65535. Nothing has changed then.
        TypeError
            For an MTU that is no integer. Nothing has changed then.
        """
        if not isinstance(mtu, SupportsIndex):
            raise TypeError(f"mtu is a number of bytes, not {type(mtu).__name__}")
        if not 68 <= mtu <= 65535:
            raise ConfigError(f"mtu {mtu} is not in 68..65535")
        with self._lock:
            index = self._link(name)
            changed = {index: mtu}
            bridge = self._interfaces[index].bridge
            if bridge is not None and bridge not in self._own_mtu:
                others = (
                    other.mtu
                    for i, other in self._interfaces.items()
                    if other.bridge == bridge and i != index
                )
                changed[self._devices[bridge]] = min((mtu, *others))
            elif self._interfaces[index].kind is InterfaceKind.BRIDGE:
                self._own_mtu.add(name)
            for i, value in changed.items():
                self._interfaces[i] = replace(self._interfaces[i], mtu=value)
                self._publish_interface(i)

    def set_up(self, name: str, up: bool) -> None:
        """Take an interface or a pod's port down, or up again: `ip link set NAME down`.

        With a link that goes down its routes, its neighbours (permanent ones too), what the bridge learned there, its
        multicast groups and the connections that are masqueraded with its address are gone; none of them comes back
        with it. Its IPv4 addresses stay the node's; its IPv6 ones are gone, too, but for the link-local one, which the
        link has again when it is up (addrconf_ifdown, with keep_addr_on_down 0).

        Raises
        ------
        ConfigError
            For a name that the node does not have, or a bridge. Nothing has changed then.
        """
        with self._lock:
            index = self._link(name)
            if self._interfaces[index].kind is InterfaceKind.BRIDGE:
                raise ConfigError(f"{name} is a bridge; take its ports down")
            if up:
                self._down.discard(index)
            elif index not in self._down:
                self._down.add(index)
                self._take_down(index, name)
            self._publish_interface(index)

    def _take_down(self, index: int, name: str) -> None:
        interface = self._interfaces[index]
        own: list[tuple[int, int]] = []
        for address, length in interface.addresses6:
            own += [(address, 128), (address >> 128 - length << 128 - length, 128)]
        for table, family, bits in ((self.routes, 4, 32), (self.routes6, 6, 128)):
            main, pods = self._main[family], self._pods if family == 4 else self._pods6
            gone = [w for w, hop in main.items() if hop.dev == name and hop.type is RouteType.UNICAST]
            gone += own if family == 6 else []
            if self.plan.routed and name in pods:
                gone.append((self._address_of(name, family), bits))
            for where in gone:
                main.pop(where, None)
                with suppress(KeyError):
                    del table[where]
            rows = self.connections.to_records(family=family)
            self.connections.delete(index=rows["index"][rows["masquerade"] == index + 1])
        self._interfaces[index] = replace(interface, addresses6=())
        self.neighbours.flush(index)
        self.neighbours6.flush(index)
        if interface.kind is InterfaceKind.BRIDGE_PORT:
            self.fdb.flush(index)
            self.fdb.add_local(interface.mac, index)

    def _address_of(self, name: str, family: int) -> int:
        return self._pods[name][0] if family == 4 else self._pods6[name]

    def _link(self, name: str) -> int:
        return self.ports[name].index if name in self.ports else self._device(name)

    def _hop(self, hop: NextHop) -> int:
        """The place of a next hop, made if need be."""
        if hop not in self.next_hops:
            unused = NextHop(type=RouteType.NONE)
            if unused in self.next_hops:
                self.next_hops[self.next_hops.index(unused)] = hop
            else:
                self.next_hops.append(hop)
        return self.next_hops.index(hop)

    def _release_hops(self, hops: set[NextHop]) -> None:
        """Make the places of gateways free that no route leads to any more; others are few, and may be a link's."""
        gateways = [self.next_hops.index(hop) for hop in hops if hop.gateway]
        if gateways:
            used = np.concatenate([table.to_arrays()[2] for table in (self.routes, self.routes6)])
            for index in np.setdiff1d(gateways, used).tolist():
                self.next_hops[index] = NextHop(type=RouteType.NONE)

    def _add_route(self, network: int, prefix_len: int, hop: NextHop) -> None:
        routes = self.routes if hop.family == 4 else self.routes6
        routes[network, prefix_len] = self._hop(hop)

    def _number(self, address: str) -> int:
        """An address as the tables have it: of IPv6 a handle."""
        return self.addresses.pin(ipv6(address)) if is_ipv6(address) else ipv4(address)

    def _publish_hops(self) -> None:
        def number(hop: NextHop, address: int) -> int:
            return address if hop.family == 4 else self.addresses.pin(address)

        self._pipeline.set_hops(
            [
                (
                    hop.type,
                    LOOPBACK if hop.dev is None else self._device(hop.dev),
                    number(hop, hop.gateway),
                    number(hop, hop.source),
                )
                for hop in self.next_hops
            ]
        )

    def _is_local(self, endpoint: Endpoint) -> bool:
        if endpoint.local is not None:
            return endpoint.local
        if is_ipv6(endpoint.ip):
            return self._is_local6(ipv6(endpoint.ip))
        address, pods = ipv4(endpoint.ip), self.plan.pods
        own = any(address == ip for interface in self.plan.interfaces for ip, _ in interface.addresses)
        if pods.exclusive and not (address ^ pods.network) >> 32 - pods.prefix_len:
            return True
        return own or any(address == ip for ip, _, _ in self._pods.values())

    def _is_local6(self, address: int) -> bool:
        if self.plan.ip6 is None:
            return False
        pods = self.plan.ip6.pods
        if pods.exclusive and not (address ^ pods.network) >> 128 - pods.prefix_len:
            return True
        own = any(address == ip for interface in self.plan.interfaces for ip, _ in interface.addresses6)
        return own or address in self._pods6.values()

    def set_services(self, services: Iterable[Service]) -> None:
        """Replace the services, as kube-proxy does when the cluster changes.

        Parameters
        ----------
        services : iterable of Service
            All that there are from now on.

        Raises
        ------
        ConfigError
            When two of them claim one address and port, or the node has no kube-proxy. Nothing has changed then.

        Notes
        -----
        Connections of TCP keep their endpoint even if it is gone. Those of UDP are deleted when their endpoint or
        service is gone, and when a service gets its first endpoint. Clients' affinity to endpoints that stay is
        kept. The cost grows with the number of services and endpoints; that of a packet does not.
        """
        wanted = tuple(services)
        if wanted and not self.config.kube_proxy:
            raise ConfigError(f"{len(wanted)} services need kube_proxy")
        with self._lock:  # from here on: addresses of IPv6 get their numbers from the tables' own pool
            plan = self._plan_services(wanted)
            stale = stale_flows(self.services, wanted, self._number)
            self._services.replace(plan)
            self.services = wanted
            self._delete_stale(stale)

    def _localise(self) -> None:
        """Pods came or went: where addresses do not tell whose they are, other endpoints are local now."""
        if self.services and not self.plan.pods.exclusive:
            self._services.replace(self._plan_services(self.services))

    def _plan_services(self, services: Iterable[Service]) -> ServicePlan:
        """Their rows, and behind them what the node forwards to nobody."""
        own = [self.config.node_address]
        if self.config.dual_stack:
            own.append(self.config.node_address6)
        plan = plan_services(services, self._is_local, own, self.config.zone, self._number)
        drops = (Refusal(EXTERNAL_IP, *where, FORWARD_DROP) for where in self.plan.forward_drops)
        return replace(plan, refusals=(*plan.refusals, *drops))

    def _pod_device(self, port: Port) -> int:
        """The interface on whose link a pod is."""
        bridge = self.plan.pod_port.bridge
        return port.index if bridge is None else self._device(bridge)

    def _delete_stale(self, flows: list[StaleFlow]) -> None:
        for family in (4, 6):
            self._delete_stale_of(family, [flow for flow in flows if flow.family == family])

    def _delete_stale_of(self, family: int, flows: list[StaleFlow]) -> None:
        if not flows:
            return
        rows = self.connections.to_records(family=family)
        rows = rows[rows["proto"] == 17]
        if not len(rows):
            return

        def equal(field: str, number: int) -> NDArray[np.bool_]:
            if family == 4:
                return np.asarray(rows[field] == number)
            octets = np.frombuffer(self.addresses[number].to_bytes(16, "big"), np.uint8)
            return np.asarray((rows[field] == octets).all(axis=1))

        translated = (rows["status"] & CtStatus.DST_NAT) != 0
        doomed = np.zeros(len(rows), np.bool_)
        for flow in flows:
            chosen = np.ones(len(rows), np.bool_)
            if flow.dst is not None:
                chosen &= equal("dst", flow.dst)
            if flow.dport is not None:
                chosen &= rows["dport"] == flow.dport
            if flow.dst_nat is not None:
                chosen &= translated & equal("reply_src", flow.dst_nat)
            doomed |= chosen
        self.connections.delete(index=rows["index"][doomed])

    def _plan_host_ports(self, pod: Pod, *addresses: str) -> list[HostPortRow]:
        planned = (
            plan_host_port(row, address, self.plan, self.config.port_mapper)
            for row in pod.host_ports
            for address in addresses
        )
        rows = [row for row in planned if row is not None]
        taken = [row for others in self._host_ports.values() for row in others]
        for number, row in enumerate(rows):
            for other in taken + rows[:number]:
                same = (other.family, other.proto, other.port) == (row.family, row.proto, row.port)
                if same and (row.ip == other.ip or not row.ip or not other.ip):
                    raise ConfigError(f"host port {row.port} of pod {pod.name} is taken")
        return rows

    def _publish_host_ports(self) -> None:
        pin = self.addresses.pin
        self._services.replace_host_ports(
            [
                row if row.family == 4 else row._replace(ip=pin(row.ip), pod=pin(row.pod))
                for rows in self._host_ports.values()
                for row in rows
            ]
        )
        kubelets = self.config.port_mapper is PortMapper.KUBELET and bool(self._host_ports)
        self._pipeline.set_localhost_masquerade(kubelets)

    def attach(self, pod: Pod) -> Port:
        """Plug a pod in.

        Parameters
        ----------
        pod : Pod
            Its name must be new; omitted fields are filled in (see `Pod`).

        Returns
        -------
        Port
            `port.pod` has every field filled in.

        Raises
        ------
        ConfigError
            For a name, address or host port that is taken, or an address outside the range of the node's pods.
            Nothing has changed then.
        TableFull
            When the bridge has no port (1024) or the pods' range no address left. Nothing has changed then.
        """
        with self._lock:
            if pod.name in self.ports or pod.name in self._devices:
                raise ConfigError(f"the node has a port {pod.name!r} already")
            room = MAX_INTERFACES if self.plan.routed else MAX_PORTS
            if len(self._pods) >= room:
                raise TableFull(f"the node has {room} pods, no more fit")
            address = self._addresses.reserve(pod.ip) if pod.ip is not None else self._addresses.allocate()
            address6 = None
            try:
                address6 = self._reserve6(pod)
                ip6 = None if address6 is None else ipv6_text(address6)
                host_ports = self._plan_host_ports(pod, ipv4_text(address), *((ip6,) if ip6 else ()))
            except (ConfigError, TableFull):
                self._addresses.release(address)
                if address6 is not None and self._addresses6 is not None:
                    self._addresses6.release(address6)
                raise
            lladdr, host = pod_macs(pod, address, self.plan.pod_host_mac)
            taken = {port.index for port in self.ports.values()} | set(self._devices.values())
            index = next(i for i in range(len(taken) + 1) if i not in taken)
            filled = replace(
                pod, ip=ipv4_text(address), ip6=ip6, mac=mac_text(lladdr), host_mac=mac_text(host)
            )
            port = Port(index, pod.name, filled)
            self._install(index, plan_pod_port(self.config, self.plan, pod.name), host)
            if self.plan.announce:
                self._silent.append((lladdr, index))
            self.ports = self.ports | {pod.name: port}
            self._pods[pod.name] = (address, lladdr, host)
            if address6 is not None:
                self._attach6(port, address6, lladdr)
            if self.plan.routed:
                self._add_route(address, 32, NextHop(type=RouteType.UNICAST, dev=pod.name))
                self._publish_hops()
            if self.plan.permanent_neighbours:
                self.neighbours.add(self._pod_device(port), address, lladdr)
            self._localise()
            if host_ports:
                self._host_ports[pod.name] = host_ports
                self._publish_host_ports()
                udp = [row for row in host_ports if row.proto == PROTOCOLS["udp"]]
                self._delete_stale([StaleFlow(None, row.port, None, row.family) for row in udp])
            return port

    def _reserve6(self, pod: Pod) -> int | None:
        if self._addresses6 is None:
            if pod.ip6 is not None:
                raise ConfigError(f"pod {pod.name} has an IPv6 address, and the node none")
            return None
        return self._addresses6.allocate() if pod.ip6 is None else self._addresses6.reserve(pod.ip6)

    def _attach6(self, port: Port, address: int, lladdr: int) -> None:
        self._pods6[port.name] = address
        if self.plan.routed:
            self._add_route(address, 128, NextHop(family=6, type=RouteType.UNICAST, dev=port.name))
        if self.plan.permanent_neighbours:
            self.neighbours6.add(self._pod_device(port), address, lladdr)

    def _detach6(self, port: Port) -> None:
        address = self._pods6.pop(port.name, None)
        if address is None or self._addresses6 is None:
            return
        if self.plan.permanent_neighbours:
            with suppress(KeyError):
                self.neighbours6.remove(self._pod_device(port), address)
        if self.plan.routed:
            with suppress(KeyError):
                del self.routes6[address, 128]
            self.neighbours6.flush(port.index)
        self._addresses6.release(address)

    def detach(self, pod: str | Port) -> None:
        """Unplug a pod: its port, what the bridge learned there, its neighbour entry. Its connections time out.

        Raises
        ------
        KeyError
            For a name that is no pod's. Nothing has changed then.
        """
        name = pod if isinstance(pod, str) else pod.name
        with self._lock:
            if name not in self._pods:
                raise KeyError(f"no pod {name!r} on this node")
            address, _, host = self._pods[name]
            port = self.ports[name]
            self._detach6(port)
            if self.plan.permanent_neighbours:
                with suppress(KeyError):  # the user may have been there before
                    self.neighbours.remove(self._pod_device(port), address)
            if self.plan.routed:
                with suppress(KeyError):
                    del self.routes[address, 32]
                for hop in (NextHop(family=family, type=RouteType.UNICAST, dev=name) for family in (4, 6)):
                    if hop in self.next_hops:
                        self.next_hops[self.next_hops.index(hop)] = NextHop(type=RouteType.NONE)
                self._publish_hops()
                self.neighbours.flush(port.index)
            del self._pods[name]
            self.ports = {other: p for other, p in self.ports.items() if other != name}
            self._silent = [entry for entry in self._silent if entry[1] != port.index]
            self._pipeline.remove_interface(port.index)
            del self._interfaces[port.index]
            self._down.discard(port.index)
            self.fdb.flush(port.index)
            if not self.plan.routed and host in self.fdb:
                del self.fdb[host]
            self._addresses.release(address)
            self._localise()
            if self._host_ports.pop(name, None):
                self._publish_host_ports()

    def forward(self, batch: PacketBatch) -> Result:
        """Forward a batch in order, rewriting its frames in place.

        Parameters
        ----------
        batch : PacketBatch
            Each packet has its ingress port and its time. Its bytes must be writable and must not be needed as they
            were: pass `batch.copy()` to keep them.

        Returns
        -------
        Result

        Raises
        ------
        TypeError
            For what is no PacketBatch.
        ValueError
            For read-only bytes. Nothing has changed then.

        Notes
        -----
        The GIL is released. A batch gives what its packets would give one by one. A truncated packet (captured length
        below wire length) is forwarded as the whole one would be, with its checksums believed; the missing bytes read
        as zeros and do not leave. No other thread may write to the batch meanwhile.
        """
        _check_batch(batch)
        with self._lock:
            return self._forward(batch)

    def _forward(self, batch: PacketBatch) -> Result:
        if self._silent and len(batch):
            self._announce(int(batch.time[0]))
        columns = batch.data, batch.offset, batch.length, batch.wire_length, batch.port, batch.time
        return Result(*self._pipeline.forward(*columns), self.ports)

    def record(self, batch: PacketBatch, *, timed: bool = False) -> tuple[Result, NDArray[Any]]:
        """Forward a batch and note what each packet meets in each stage; `explanation.explain` reads the notes out.

        Parameters
        ----------
        batch : PacketBatch
            As for `forward`.
        timed : bool
            Note how long each stage took, too. Every note then costs two readings of a clock.

        Returns
        -------
        result : Result
            What `forward` returns: the pipeline is the same, but for its fast path, which writes no notes.
        notes : (M,) structured ndarray
            `recorder.NOTE`, in order.
        """
        _check_batch(batch)
        with self._lock:  # around all of it: nobody else's packets are noted, nor notes read while written
            self._pipeline.start_notes(timed)
            try:
                result = self._forward(batch)
            finally:
                notes = self._pipeline.take_notes()
        return result, notes

    def reseed(self, seed: int) -> None:
        """Start the random choices anew: endpoints of services, ports and identifiers of translations.

        Parameters
        ----------
        seed : int
            0 to 2**64 - 1. What comes after it is the same whatever was drawn before; the hashes keep their secrets.

        Raises
        ------
        OverflowError
            For another number. Nothing has changed then.
        """
        if not 0 <= seed < 1 << 64:
            raise OverflowError(f"seed must be 0 to 2**64 - 1, not {seed}")
        with self._lock:
            self._pipeline.reseed(seed)

    def devices(self) -> dict[int, str]:
        """Names of the interfaces by their index: the bridge, eth0, pods' ports."""
        names = {index: name for name, index in self._devices.items()}
        return names | {port.index: port.name for port in self.ports.values()}

    def _announce(self, now: int) -> None:
        if self._pipeline.now is not None:
            now = max(now, self._pipeline.now)
        for lladdr, index in self._silent:
            self.fdb.learn(np.array([lladdr], np.uint64), np.array([index], np.uint16), now)
        self._silent.clear()

    def advance(self, now: int) -> Result:
        """Let time pass until `now` (ns) without a packet: ARP retries, failures, ageing.

        Raises
        ------
        OverflowError
            For a time beyond 64 bits. Nothing has changed then.
        """
        if not -(1 << 63) <= now < 1 << 63:
            raise OverflowError(f"now must be a time in ns of 64 bits, not {now}")
        empty = np.empty(0, np.uint8)
        with self._lock:
            outputs, generated = self._pipeline.advance(now)
            return Result(empty, empty, outputs, empty, generated, self.ports)

    @property
    def now(self) -> int | None:
        """The node's time in ns: that of the latest packet or `advance`; None before the first."""
        return self._pipeline.now

    @property
    def counters(self) -> Counters:
        """A snapshot of the node's counters."""
        verdicts, reasons = self._pipeline.verdict_counts(), self._pipeline.reason_counts()
        values = {v.name.lower(): verdicts[v] for v in Verdict}
        values |= {f"reason.{r.name.lower()}": reasons[r] for r in Reason}
        values |= self._pipeline.totals()
        values["held_now"] = (
            self.neighbours.held + self.neighbours6.held + self.fragments.held + self.fragments6.held
        )
        for port in self.ports.values():
            traffic = self._pipeline.traffic(port.index)
            for name, value in zip(
                ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes"), traffic, strict=True
            ):
                values[f"{port.name}.{name}"] = value
        return Counters(values)


def _check_batch(batch: object) -> None:
    if not isinstance(batch, PacketBatch):
        raise TypeError(f"forward takes a PacketBatch, not {type(batch).__name__}")
