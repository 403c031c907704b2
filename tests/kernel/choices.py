"""What the kernel drew at random for a packet, read from what came out, and the seed that makes a node of ours draw it.

A new connection may take two draws: one of a service's endpoints (kube-proxy's `statistic` rules) and the place where
the search for a free port or echo id begins (nf_nat_l4proto_unique_tuple). A search that begins at the port that the
kernel has found ends there.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple, Protocol

import numpy as np

from kernel.answers6 import fragment_header, transport
from kernel.rules import confined, endpoints, host, is_local, suffix

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmpv6", SCTP: "sctp"}
QUERIES = {ICMP: (0x0800, 0x0D00, 0x0F00, 0x1100), ICMP6: (0x8000, 0x8B00)}
GOLDEN = 0x9E3779B97F4A7C15
TRIES = 1 << 19


class Kernel(Protocol):
    def run(self, *command: str, given: str | None = None) -> str: ...
    def recent(self, name: str) -> str: ...


class Flow(NamedTuple):
    """A packet's protocol, addresses, ports (of ICMP: identifier, type and code); None where a fragment has none."""

    proto: int
    src: str
    dst: str
    sport: int | None
    dport: int | None


def flow_of(frame: bytes) -> Flow | None:
    """What an untagged frame says."""
    if frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
        return _flow6_of(frame)
    if frame[12:14] != b"\x08\x00" or len(frame) < 34:
        return None
    at = 14 + (frame[14] & 15) * 4
    proto, first = frame[23], not int.from_bytes(frame[20:22], "big") & 0x1FFF
    ports: tuple[int | None, int | None] = (None, None)
    if proto in (TCP, UDP, SCTP) and first and len(frame) >= at + 4:
        ports = struct.unpack_from("!HH", frame, at)
    elif proto == ICMP and first and len(frame) >= at + 6:
        ports = (int.from_bytes(frame[at + 4 : at + 6], "big"), int.from_bytes(frame[at : at + 2], "big"))
    return Flow(proto, str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34])), *ports)


def _flow6_of(frame: bytes) -> Flow | None:
    ends = str(IPv6Address(frame[22:38])), str(IPv6Address(frame[38:54]))
    found = transport(frame)
    if found is None:
        at = fragment_header(frame)
        return Flow(frame[20] if at is None else frame[at], *ends, None, None)
    proto, at = found
    ports: tuple[int | None, int | None] = (None, None)
    if proto in (TCP, UDP, SCTP) and len(frame) >= at + 4:
        ports = struct.unpack_from("!HH", frame, at)
    elif proto == ICMP6 and len(frame) >= at + 6:
        ports = (int.from_bytes(frame[at + 4 : at + 6], "big"), int.from_bytes(frame[at : at + 2], "big"))
    return Flow(proto, *ends, *ports)


def quoted(frame: bytes) -> Flow | None:
    """What the packet says that an ICMP error is about."""
    if frame[12:14] == b"\x86\xdd" and len(frame) > 62:
        return flow_of(frame[:14] + frame[62:]) if frame[20] == ICMP6 and 0 < frame[54] < 5 else None
    at = 14 + (frame[14] & 15) * 4 if len(frame) > 34 else 0
    if frame[12:14] != b"\x08\x00" or frame[23] != ICMP or frame[at] not in (3, 4, 5, 11, 12):
        return None
    return flow_of(frame[:14] + frame[at + 8 :])


def told_mtu(frame: bytes) -> int | None:
    """The MTU that an ICMP error says a packet was too big for."""
    if frame[12:14] == b"\x86\xdd" and len(frame) > 62:
        return int.from_bytes(frame[58:62], "big") if frame[20] == ICMP6 and frame[54] == 2 else None
    at = 14 + (frame[14] & 15) * 4 if len(frame) > 34 else 0
    if frame[12:14] != b"\x08\x00" or frame[23] != ICMP or frame[at : at + 2] != b"\3\4":
        return None
    return int.from_bytes(frame[at + 6 : at + 8], "big")


def _mixed(z: np.ndarray) -> np.ndarray:
    """splitmix64's output for a state."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _inverse(multiplier: int) -> np.uint64:
    return np.uint64(pow(multiplier, -1, 1 << 64))


def _state(z: np.ndarray) -> np.ndarray:
    """The state that splitmix64 makes an output of: each step undone."""
    z = z ^ (z >> np.uint64(31)) ^ (z >> np.uint64(62))
    z = z * _inverse(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(27)) ^ (z >> np.uint64(54))
    z = z * _inverse(0xBF58476D1CE4E5B9)
    return z ^ (z >> np.uint64(30)) ^ (z >> np.uint64(60))


def seed_for(which: int, of: int, place: int | None, rng: np.random.Generator) -> int:
    """A seed whose first draw is endpoint `which` `of` so many, and whose first and second are this place of a search.

    Not every new connection draws an endpoint: a client that a service knows comes to its own.
    """
    n = TRIES if place is not None and of > 1 else 1
    high = rng.integers(-(-(which << 32) // of), -(-(which + 1 << 32) // of), n, dtype=np.uint64)
    low = rng.integers(0, 1 << 32, n, dtype=np.uint64)
    if place is not None:
        low = low & np.uint64(0xFFFF0000) | np.uint64(place)
    first = _state(high << np.uint64(32) | low)
    if n > 1:
        fits = _mixed(first + np.uint64(GOLDEN)) & np.uint64(0xFFFF) == np.uint64(place or 0)
        first = first[fits]
    return (int(first[0]) - GOLDEN) % (1 << 64)


def endpoint(ip: str, port: int | None) -> str:
    """`ip:port` as services have it."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class Choices:
    """What the kernel's node drew, packet by packet; `services` are those that the rules know at the moment."""

    def __init__(self, node: dict[str, Any], seed: int) -> None:
        self.node = node
        self.services: list[dict[str, Any]] = node["services"]
        self.own = {node["eth0"]["ip"].split("/")[0]} | (
            {node["cbr0"]["ip"].split("/")[0]} if "cbr0" in node else set()
        )
        self.mtus = {"eth0": node["mtu"]} | {pod["port"]: node["mtu"] for pod in node["pods"]}
        self._rng = np.random.default_rng(seed)
        self._held: dict[tuple[str, str], str] = {}  # endpoints that services with affinity gave to clients
        self._first: dict[tuple[bytes, bytes], tuple[int | None, int | None]] = {}
        self._waiting: list[tuple[Flow, list[str]]] = []  # what nothing came of yet: the latest alone

    def change(self, services: list[dict[str, Any]]) -> None:
        """The rules know these services from now on; what they remembered of clients may be gone."""
        self.services = services
        self._held.clear()

    def _endpoints(self, flow: Flow) -> tuple[dict[str, Any], list[str]] | None:
        """The service that a packet goes to, and the endpoints that it may come to."""
        for service in self.services:
            if service["proto"] != NAMES.get(flow.proto):
                continue
            inside = flow.dst == service["ip"] and flow.dport == service["port"]
            addresses = (*service.get("external_ips", ()), *service.get("balancer_ips", ()))
            outside = flow.dst in addresses and flow.dport == service["port"]
            outside |= flow.dst in self.own and flow.dport == service.get("nodeport")
            if inside or outside:
                local = confined(service, outside=outside)
                if outside and ip_address(flow.src) in ip_network(self.node["cluster_cidr"]):
                    local = False
                return service, endpoints(self.node, service, local=local)
        return None

    def _came_to(self, flow: Flow, out: list[tuple[str, bytes]], chosen: list[str]) -> str | None:
        for _, frame in out:
            for made in (flow_of(frame), quoted(frame)):
                if made is not None and made.proto == flow.proto and endpoint(made.dst, made.dport) in chosen:
                    return endpoint(made.dst, made.dport)
        return None

    def seed(self, sent: bytes, out: list[tuple[str, bytes]], kernel: Kernel) -> int | None:
        """The seed for the packet that `sent` was to the kernel, which answered with `out`; None: nothing was drawn."""
        flow = flow_of(sent)
        if flow is None:
            return self._released(out)
        if flow.proto not in NAMES:
            return None
        flow = self._whole(sent, flow)
        if flow.sport is None or flow.dport not in QUERIES.get(flow.proto, (flow.dport,)):
            return None
        found = self._endpoints(flow)
        service, chosen = found or ({}, [])
        target = self._came_to(flow, out, chosen) if len(chosen) > 1 else None
        place = self._place(flow, out, chosen)
        if not out:
            self._waiting = [*self._waiting[-7:], (flow, chosen)]
        if target is None and place is None and self._may_be_hidden(flow, out, chosen):
            listed = self._listed(flow, kernel)
            if listed is not None:
                target = endpoint(listed.src, listed.sport)
                place = listed.dport if listed.dport != flow.sport else None
            elif service.get("affinity"):
                target = self._latest(service, flow, chosen, kernel)
            elif narrow := self._too_big(out, chosen):
                target = narrow
            else:  # a pod that came to itself, where it is not let through, under whatever address
                own = {flow.src} | {
                    pod["ip"]
                    for pod in self.node["pods"]
                    if bytes.fromhex(pod["mac"].replace(":", "")) == sent[6:12]
                }
                target = next((e for e in chosen if host(e) in own), None)
                if flow.src == "::" or flow.src.startswith("fe80"):  # does not leave the link that it came by
                    near = len(own) > 1
                    others = (e for e in chosen if is_local(self.node, service, e) != near)
                    target = next(others, next((e for e in chosen if host(e) not in own), None))
                    return self._drawn(target, chosen, service, flow, place)
                if target is None or any(quoted(frame) for _, frame in out):
                    # of a bridge's pods there would be a frame, so what an error is about went elsewhere
                    target = next((e for e in chosen if not is_local(self.node, service, e)), target)
        return self._drawn(target, chosen, service, flow, place)

    def _too_big(self, out: list[tuple[str, bytes]], chosen: list[str]) -> str | None:
        """An endpoint behind a link of the MTU that the packet was too big for, if it was."""
        told = {told_mtu(frame) for _, frame in out} - {None}
        return next((e for e in chosen if self._mtu(host(e)) in told), None)

    def _mtu(self, ip: str) -> int:
        """The MTU of the link to an endpoint."""
        port = next((pod["port"] for pod in self.node["pods"] if pod["ip"] == ip), "eth0")
        if port == "eth0" or "cbr0" not in self.node:
            return int(self.mtus[port])
        return int(self.mtus.get("cbr0", min(self.mtus[pod["port"]] for pod in self.node["pods"])))

    def _drawn(
        self, target: str | None, chosen: list[str], service: dict[str, Any], flow: Flow, place: int | None
    ) -> int:
        """The seed for this endpoint and this place; who has affinity is noted."""
        which = chosen.index(target) if target in chosen else 0
        if target in chosen and service.get("affinity"):
            client = service["name"], flow.src
            if self._held.get(client) == target:  # known: our node has to know it, too, and not to draw it
                which = (which + 1) % len(chosen)
            self._held[client] = target
        return seed_for(which, max(len(chosen), 1), place, self._rng)

    def _released(self, out: list[tuple[str, bytes]]) -> int | None:
        """The seed for what leaves because somebody said its MAC: a bridged packet gets its port only then."""
        for flow, chosen in self._waiting:
            for _, frame in out:
                made = flow_of(frame)
                if made is None or made.proto != flow.proto or made.sport in (None, flow.sport):
                    continue
                if endpoint(made.dst, made.dport) in chosen or made[2:] == (flow.dst, made.sport, flow.dport):
                    return seed_for(0, 1, self._start(flow, made.sport or 0), self._rng)
        return None

    def _whole(self, sent: bytes, flow: Flow) -> Flow:
        """The ports of a datagram, whichever of its fragments this is, once the one that has them was there."""
        if sent[12:14] == b"\x86\xdd":
            at = fragment_header(sent)
            if at is None:
                return flow
            key = sent[at + 4 : at + 8], sent[22:54]
        elif not int.from_bytes(sent[20:22], "big") & 0x3FFF:
            return flow
        else:
            key = sent[18:20], sent[23:24] + sent[26:34]
        if flow.sport is not None:
            self._first[key] = flow.sport, flow.dport
        sport, dport = self._first.get(key, (None, None))
        return flow._replace(sport=sport, dport=dport)

    def _place(self, flow: Flow, out: list[tuple[str, bytes]], chosen: list[str]) -> int | None:
        """Where the search ended; None if the packet kept its port."""
        for _, frame in out:
            made = flow_of(frame)
            if made is None or made.proto != flow.proto or made.sport is None or made.sport == flow.sport:
                continue
            if flow.proto in QUERIES and made.dport != flow.dport:  # who asks for a MAC, and what errors say
                continue
            if made.dport == flow.dport or endpoint(made.dst, made.dport) in chosen or made.dst != flow.dst:
                return self._start(flow, made.sport)
        return None

    def _start(self, flow: Flow, port: int) -> int:
        """The place of a port in its range."""
        asked = flow.sport or 0
        if flow.proto in QUERIES:
            return port
        return (port - (1 if asked < 512 else 600 if asked < 1024 else 1024)) & 0xFFFF

    def _may_be_hidden(self, flow: Flow, out: list[tuple[str, bytes]], chosen: list[str]) -> bool:
        """Whether a connection may be there that no frame shows: the id of a query of nodes stays what it was."""
        if flow.proto == ICMP6 and flow.dport == QUERIES[ICMP6][1]:
            return True
        shown = any(
            made is not None
            and made.proto == flow.proto
            and (flow.proto not in QUERIES or made.dport == flow.dport)  # not who asks for a MAC
            for made in (flow_of(frame) for _, frame in out)
        )
        return not shown and bool(chosen or self.node["masq"] != "none")

    def _listed(self, flow: Flow, kernel: Kernel) -> Flow | None:
        """The connection's answer, as the kernel lists it."""
        family = "ipv6" if ":" in flow.src else "ipv4"
        ask = ["-f", family, "-p", NAMES[flow.proto], "--orig-src", flow.src, "--orig-dst", flow.dst]
        for line in kernel.run("conntrack", "-L", *ask).splitlines():
            sides = re.findall(
                r"src=(\S+) dst=(\S+) (?:type=\d+ code=\d+ id=(\d+)|sport=(\d+) dport=(\d+))", line
            )
            if len(sides) != 2:
                continue
            source = sides[0][2] or sides[0][3]
            if int(source) == flow.sport and (flow.proto in QUERIES or int(sides[0][4]) == flow.dport):
                src, dst, ident, sport, dport = sides[1]
                port = (
                    self._start(flow, int(ident or dport))
                    if int(ident or dport) != flow.sport
                    else flow.sport
                )
                return Flow(flow.proto, src, dst, int(ident or sport), port)
        return None

    def _latest(self, service: dict[str, Any], flow: Flow, chosen: list[str], kernel: Kernel) -> str | None:
        """The endpoint that remembers a client best: `recent --set` counts even if the packet is dropped later."""
        best: tuple[int, str | None] = (-1, None)
        for each in chosen:
            listing = kernel.recent(f"KUBE-SEP-{suffix(service['name'] + service['proto'] + each)}")
            for match in re.finditer(r"src=(\S+) .*?last_seen: (\d+)", listing):
                if str(ip_address(match[1])) == flow.src:
                    best = max(best, (int(match[2]), each))
        return best[1]
