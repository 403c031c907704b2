"""The VNet between NICs: who gets a frame that one of them sent.

The fabric looks at IPv4 addresses alone; it delivers with its own source MAC and the receiver's, and leaves TTL alone.
There are no broadcasts: every ARP request is answered with one MAC. Longer than its neighbours: a carried batch goes
through all of it, check, route, load balancer and source NAT, on the same arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4_prefix, ipv4_text, mac, prefix_text
from .batch import PacketBatch
from .carriage import Carriage
from .errors import ConfigError
from .fib import RouteTable
from .load_balancer import LoadBalancer, LoadBalancerRule, SnatPorts
from .plan import mask_of
from .readdress import redirect
from .vnet import HopKind, Vnet, VnetRoute

__all__ = ["FABRIC_MAC", "INTERNET", "NOWHERE", "PLATFORM", "Fabric", "Nic"]

FABRIC_MAC = mac("12:34:56:78:9a:bc")
INTERNET = -1  #: in place of a NIC: the world behind the load balancer
PLATFORM = -2  #: Azure's own services
NOWHERE = -3
ETH_IP, ETH_ARP = 0x0800, 0x0806
ICMP, IPIP, TCP, UDP, GRE = 1, 4, 6, 17, 47
CARRIED = {
    HopKind.VNET_LOCAL: Carriage.VNET,
    HopKind.PEERING: Carriage.PEERING,
    HopKind.APPLIANCE: Carriage.USER_ROUTE,
    HopKind.GATEWAY: Carriage.GATEWAY,
    HopKind.INTERNET: Carriage.INTERNET,
    HopKind.PLATFORM: Carriage.PLATFORM,
    HopKind.NONE: Carriage.NO_ROUTE,
}


@dataclass(frozen=True, kw_only=True)
class Nic:
    """A network interface in the VNet.

    Parameters
    ----------
    name : str
    mac : int
    address : int
        Its primary one.
    prefixes : tuple of (int, int)
        What else is its own: pods' addresses of the VNet.
    overlay : (int, int), optional
        Prefix that the fabric routes to it, from NICs that have one, too.
    ip_forwarding : bool
    balanced : bool
        It is in the load balancer's pool.
    """

    name: str
    mac: int
    address: int
    prefixes: tuple[tuple[int, int], ...] = ()
    overlay: tuple[int, int] | None = None
    ip_forwarding: bool = False
    balanced: bool = False

    @property
    def owned(self) -> tuple[tuple[int, int], ...]:
        """Prefixes that it may send from and receives for."""
        own = ((self.address, 32), *self.prefixes)
        return own if self.overlay is None else (*own, self.overlay)


class Fabric:
    """A VNet with NICs in it, and its load balancer.

    Parameters
    ----------
    vnet : Vnet
    nics : list of Nic
        Their places in the list are their numbers.
    balancer : LoadBalancer, optional
        Without one nothing leaves for the internet.

    Raises
    ------
    ConfigError
        When two NICs claim one address, or the load balancer has too few ports for its pool.
    """

    def __init__(self, vnet: Vnet, nics: list[Nic], balancer: LoadBalancer | None = None) -> None:
        self.vnet = vnet
        self.nics = nics
        self.balancer = balancer
        pool = [index for index, nic in enumerate(nics) if nic.balanced]
        self.snat = SnatPorts(balancer, len(pool)) if balancer is not None and pool else None
        self._pool = pool
        self._member = {nic: k for k, nic in enumerate(pool)}
        self.set_rules(balancer.rules if balancer is not None else ())
        self._mac = np.array([nic.mac for nic in nics] or [0], np.uint64)
        self._forwarding = np.array([nic.ip_forwarding for nic in nics] or [False], np.bool_)
        self._in_overlay = np.array([nic.overlay is not None for nic in nics] or [False], np.bool_)
        self._owners = _owners(nics)
        self._overlay = RouteTable()
        for index, nic in enumerate(nics):
            if nic.overlay is not None:
                self._overlay[nic.overlay] = index
        self._routes = [_table(vnet.effective_routes(table=table)) for table in (False, True)]
        self._has_table = np.array([_associated(vnet, nic.address) for nic in nics] or [False], np.bool_)

    def set_rules(self, rules: tuple[LoadBalancerRule, ...]) -> None:
        """Replace the load balancer's inbound rules."""
        self._rules = {
            rule.key: [k for k in self._pool if rule.nodes is None or self.nics[k].name in rule.nodes]
            for rule in rules
        }
        self._frontends = np.array(sorted({address for address, _, _ in self._rules}), np.uint32)

    def claim(self, nic: int, address: int) -> None:
        """Give one more address to a NIC.

        Raises
        ------
        ConfigError
            When another NIC has it. Nothing has changed then.
        """
        other = self.owner(address)
        if other is not None:
            raise ConfigError(f"{prefix_text(address, 32)} belongs to {self.nics[other].name}")
        self._owners[address, 32] = nic

    def route_of(self, nic: int, dst: int) -> VnetRoute:
        """The effective route of a NIC for an address."""
        table, rows = self._routes[int(self._has_table[nic])]
        return rows[int(table.lookup(np.array([dst], np.uint32))[0])]

    def overlay_of(self, dst: int) -> str | None:
        """The node's part of the pods' CIDR that the fabric routes an address by; None: no node's."""
        found = self._overlay.longest_match(ipv4_text(dst))
        return None if found is None else found[0]

    def disclaim(self, address: int) -> None:
        """Take an address away again."""
        del self._owners[address, 32]

    def owner(self, address: int) -> int | None:
        """The NIC that an address belongs to, None: nobody's."""
        hop = int(self._owners.lookup(np.array([address], np.uint32))[0])
        return None if hop == self._owners.MISS else hop

    def carry(
        self, batch: PacketBatch, sender: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Carry frames, rewriting their bytes in place: MACs, and what the load balancer translates.

        Parameters
        ----------
        batch : PacketBatch
            In the order of time; frames do not share bytes.
        sender : (N,) ndarray of int32
            The NIC that sent each frame, or `INTERNET` or `PLATFORM`.

        Returns
        -------
        receiver : (N,) ndarray of int32
            A NIC, `INTERNET`, `PLATFORM`, or `NOWHERE` for frames that are lost.
        carriage : (N,) ndarray of uint8
            `Carriage` of each.
        """
        h = batch.headers()
        n = len(batch)
        receiver = np.full(n, NOWHERE, np.int32)
        how = np.full(n, Carriage.PROTOCOL, np.uint8)
        arp = (h["eth_type"] == ETH_ARP) & (sender >= 0)
        self._answer_arp(batch, h, arp, sender, receiver, how)
        group = (h["eth_dst"] >> np.uint64(40) & np.uint64(1) != 0) & ~arp
        how[group] = Carriage.GROUP
        ip = (h["eth_type"] == ETH_IP) & (h["ip_version"] == 4) & ~group
        ip &= ~np.isin(h["proto"], (IPIP, GRE))
        inside = ip & (sender >= 0)
        self._check_source(h, inside, sender, how)
        self._route(h, inside, sender, receiver, how)
        self._platform(h, ip & (sender == PLATFORM), receiver, how)
        self._balance(batch, h, ip, sender, receiver, how)
        self._set_macs(batch, receiver >= 0, receiver)
        return receiver, how

    def _answer_arp(self, batch: PacketBatch, h: Any, arp: Any, sender: Any, receiver: Any, how: Any) -> None:
        """Turn each request into its answer: whoever is asked for, the fabric's MAC is what the NIC learns."""
        asks = np.flatnonzero(arp & (h["arp_op"] == 1) & (h["dst"] != h["src"]))
        for i in asks.tolist():
            at = int(batch.offset[i]) + int(h["l3_offset"][i])
            body = batch.data[at : at + 28]
            asker, target = body[8:18].copy(), body[24:28].copy()
            body[7] = 2
            body[8:14] = _mac_bytes(FABRIC_MAC)
            body[14:18] = target
            body[18:28] = asker
        receiver[asks] = sender[asks]
        how[arp] = Carriage.GROUP  # announcements, and answers that nobody asked for
        how[asks] = Carriage.ARP

    def _check_source(self, h: Any, inside: Any, sender: Any, how: Any) -> None:
        rows = np.flatnonzero(inside)
        own = self._owners.lookup(np.ascontiguousarray(h["src"][rows], np.uint32)) == sender[rows]
        own |= np.isin(h["src"][rows], self._frontends)  # floating IP: nodes answer with the rule's address
        wrong = rows[~own & ~self._forwarding[sender[rows]]]
        inside[wrong] = False
        how[wrong] = Carriage.SOURCE

    def _route(self, h: Any, inside: Any, sender: Any, receiver: Any, how: Any) -> None:
        rows = np.flatnonzero(inside)
        if not len(rows):
            return
        dst = np.ascontiguousarray(h["dst"][rows], np.uint32)
        hop = np.zeros(len(rows), np.uint32)
        with_table = self._has_table[sender[rows]]
        appliance = np.zeros(len(rows), np.uint32)
        carried = np.zeros(len(rows), np.uint8)
        for table, which in ((0, ~with_table), (1, with_table)):
            routes, effective = self._routes[table]
            hop[which] = routes.lookup(np.ascontiguousarray(dst[which]))
            carried[which] = np.array([CARRIED[r.hop] for r in effective], np.uint8)[hop[which]]
            appliance[which] = np.array([r.address for r in effective], np.uint32)[hop[which]]
        overlay = self._overlay.lookup(dst)
        routed = (
            (overlay != self._overlay.MISS)
            & (carried != Carriage.USER_ROUTE)
            & self._in_overlay[sender[rows]]
        )
        local = np.isin(carried, (Carriage.VNET, Carriage.PEERING)) & ~routed
        by_user = carried == Carriage.USER_ROUTE
        towards = np.where(by_user, appliance, dst)
        owner = self._owners.lookup(np.ascontiguousarray(towards)).astype(np.int64)
        owner[owner == self._owners.MISS] = NOWHERE
        carried[routed] = Carriage.OVERLAY
        owner[routed] = overlay[routed]
        lost = (local | by_user) & (owner < 0)
        carried[lost] = Carriage.NO_OWNER
        at = np.where(owner >= 0, owner, 0)
        foreign = by_user & (owner >= 0) & ~self._forwarding[at]
        foreign &= self._owners.lookup(dst).astype(np.int64) != owner
        carried[foreign] = Carriage.NOT_FORWARDING
        arrives = (local | by_user | routed) & (carried < Carriage.NO_OWNER)
        receiver[rows[arrives]] = owner[arrives]
        receiver[rows[carried == Carriage.PLATFORM]] = PLATFORM
        how[rows] = carried

    def _platform(self, h: Any, back: Any, receiver: Any, how: Any) -> None:
        rows = np.flatnonzero(back)
        owner = self._owners.lookup(np.ascontiguousarray(h["dst"][rows], np.uint32)).astype(np.int64)
        found = owner != self._owners.MISS
        receiver[rows[found]] = owner[found]
        how[rows] = np.where(found, Carriage.PLATFORM, Carriage.NO_OWNER)

    def _balance(self, batch: PacketBatch, h: Any, ip: Any, sender: Any, receiver: Any, how: Any) -> None:
        out, back = how == Carriage.INTERNET, ip & (sender == INTERNET)
        rows = np.flatnonzero(out | back)
        moved: list[int] = []
        address: list[int] = []
        port: list[int] = []
        columns = [h[name][rows].tolist() for name in ("proto", "src", "sport", "dst", "dport")]
        whole = ((h["mf"][rows] == 0) & (h["frag_offset"][rows] == 0)).tolist()
        for i, proto, src, sport, dst, dport, all_there in zip(rows.tolist(), *columns, whole, strict=True):
            flow = (proto, src, sport, dst, dport)
            now = int(batch.time[i])
            new = None
            if out[i] and (src, proto, sport) in self._rules:
                receiver[i], how[i] = INTERNET, Carriage.LB_REPLY
            elif out[i]:
                how[i] = self._outbound(int(sender[i]), proto, all_there)
                if how[i] == Carriage.INTERNET and self.snat is not None:
                    new = self.snat.translate(self._member[int(sender[i])], flow, now)
                    how[i] = Carriage.SNAT_PORTS if new is None else Carriage.INTERNET
                    receiver[i] = NOWHERE if new is None else INTERNET
            else:
                how[i] = Carriage.NO_RULE
                found = self.snat.answer(flow, now) if self.snat is not None else None
                if found is not None:
                    owner = self.owner(found[1])
                    receiver[i] = self._pool[found[0]] if owner is None else owner
                    new = found[1:]
                    how[i] = Carriage.LB_REPLY
                elif pool := self._rules.get((dst, proto, dport)):
                    receiver[i] = pool[hash(flow) % len(pool)]
                    how[i] = Carriage.LB_RULE
            if new is not None:
                moved.append(i)
                address.append(new[0])
                port.append(new[1])
        if moved:
            _translate(
                batch, h, np.array(moved), out, np.array(address, np.uint32), np.array(port, np.uint16)
            )

    def _outbound(self, nic: int, proto: int, whole: bool) -> Carriage:
        if self.snat is None or nic not in self._member:
            return Carriage.NO_OUTBOUND
        if not whole:
            return Carriage.SNAT_FRAGMENT
        return Carriage.INTERNET if proto in (TCP, UDP) else Carriage.SNAT_PROTOCOL

    def _set_macs(self, batch: PacketBatch, rows: Any, receiver: Any) -> None:
        at = batch.offset[rows]
        if not len(at):
            return
        column = np.arange(6)
        to = self._mac[receiver[rows]].astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
        batch.data[at[:, None] + column] = to
        batch.data[at[:, None] + (6 + column)] = _mac_bytes(FABRIC_MAC)


def _mac_bytes(address: int) -> NDArray[np.uint8]:
    return np.frombuffer(address.to_bytes(6, "big"), np.uint8)


def _owners(nics: list[Nic]) -> RouteTable:
    network, length, number = [], [], []
    for index, nic in enumerate(nics):
        for net, bits in nic.owned:
            network.append(net)
            length.append(bits)
            number.append(index)
    keys = list(zip(network, length, strict=True))
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        names = [nics[number[k]].name for k, key in enumerate(keys) if key == twice]
        raise ConfigError(f"{' and '.join(names)} both own {prefix_text(*twice)}")
    return RouteTable.from_arrays(
        np.array(network, np.uint32), np.array(length, np.uint8), np.array(number, np.uint32)
    )


def _table(routes: list[VnetRoute]) -> tuple[RouteTable, list[VnetRoute]]:
    table = RouteTable()
    for index, route in enumerate(routes):
        table[route.network, route.prefix_len] = index
    return table, routes


def _associated(vnet: Vnet, address: int) -> bool:
    spaces = (
        map(ipv4_prefix, vnet.address_space) if vnet.associated is None else map(ipv4_prefix, vnet.associated)
    )
    return any(not (address ^ network) & mask_of(length) for network, length in spaces)


def _translate(
    batch: PacketBatch,
    h: Any,
    rows: NDArray[Any],
    out: Any,
    address: NDArray[np.uint32],
    port: NDArray[np.uint16],
) -> None:
    """New sources for frames to the internet, new destinations for answers; checksums by difference (RFC 1624)."""
    leaves = out[rows]
    begin = batch.offset[rows] + h["l3_offset"][rows]
    size = batch.length[rows].astype(np.int64) - h["l3_offset"][rows]
    back = ~leaves
    redirect(batch.data, begin[back], size[back], address[back], port[back])
    rows, begin, address, port = rows[leaves], begin[leaves], address[leaves], port[leaves]
    if not len(rows):
        return
    l4 = batch.offset[rows] + h["l4_offset"][rows]
    tcp = h["proto"][rows] == TCP
    old = h["src"][rows].astype(np.int64)
    new = address.astype(np.int64)
    by_address = sum((~old >> s & 0xFFFF) + (new >> s & 0xFFFF) for s in (0, 16))
    by_port = (~h["sport"][rows].astype(np.int64) & 0xFFFF) + port
    check = l4 + np.where(tcp, 16, 6)
    blank = ~tcp & (_load16(batch.data, check) == 0)
    _adjust(batch.data, begin + 10, by_address)
    _adjust(batch.data, check[~blank], (by_address + by_port)[~blank])
    zero = ~tcp & ~blank & (_load16(batch.data, check) == 0)
    batch.data[check[zero]] = batch.data[check[zero] + 1] = 0xFF
    for k in range(4):
        batch.data[begin + 12 + k] = address >> (24 - 8 * k) & 255
    for k in range(2):
        batch.data[l4 + k] = port >> (8 - 8 * k) & 255


def _load16(data: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.int64]:
    return data[at].astype(np.int64) << 8 | data[at + 1]


def _adjust(data: NDArray[np.uint8], at: NDArray[np.int64], change: NDArray[np.int64]) -> None:
    """HC' = ~(~HC + ~m + m')."""
    total = (~_load16(data, at) & 0xFFFF) + change
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    total = ~total & 0xFFFF
    data[at], data[at + 1] = total >> 8, total & 255
