"""kube-proxy's iptables chains written out and walked rule by rule, every random choice both ways.

Addresses are text. `KubeProxy.nat` gives all outcomes that the rules allow; the caller says which one came (`took`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from kubenet_fastpath import Endpoint, HostPort, Service, ServicePort, TrafficPolicy

CLIENTS = 100


@dataclass(frozen=True)
class Packet:
    src: str
    dst: str
    proto: str
    dport: int


@dataclass(frozen=True)
class Outcome:
    """Where the connection goes (None: where it wanted to), and what happens to its source."""

    to: tuple[str, int] | None
    masqueraded: bool
    sep: str | None = None


@dataclass
class Rule:
    matches: Callable[[Packet], bool]
    target: str | tuple[str, int]  # a chain, MARK, or an address to translate to
    random: bool = False  # a statistic match: may match or not


@dataclass
class KubeProxy:
    cluster: str
    own: set[str]
    pods: str
    services: list[Service] = field(default_factory=list)
    host_ports: list[tuple[str, HostPort]] = field(default_factory=list)
    recent: dict[str, OrderedDict[str, int]] = field(default_factory=dict)
    now: int = 0
    node_ip: str = ""
    zone: str = ""

    def categorize(self, s: Service, p: ServicePort) -> tuple[list[Endpoint], list[Endpoint], bool]:
        """Endpoints of the cluster, of this node, and whether there are any (topology.go CategorizeEndpoints)."""
        ready = [e for e in p.targets if not e.terminating]
        use_topology = s.topology_aware and bool(self.zone)
        has_endpoint_for_zone = False
        for e in ready:
            if not e.zones:
                use_topology = False
            if self.zone in e.zones:
                has_endpoint_for_zone = True
        use_topology = use_topology and has_endpoint_for_zone
        cluster = [e for e in ready if not use_topology or self.zone in e.zones]
        if not cluster:
            cluster = [e for e in p.targets if e.terminating]
        here = [e for e in p.targets if self.local(e.ip)]
        local = [e for e in here if not e.terminating] or [e for e in here if e.terminating]
        return cluster, local, bool(p.targets)

    def local(self, ip: str) -> bool:
        return ip in self.own or ip_address(ip) in ip_network(self.pods)

    def seps(self) -> set[str]:
        return {
            f"{s.name}:{p.name}:{p.protocol}:{e.ip}:{e.port}"
            for s in self.services
            for p in s.ports
            for e in p.targets
            if s.affinity_s
        }

    def replace(self, services: list[Service]) -> None:
        self.services = services
        self.recent = {name: self.recent.get(name, OrderedDict()) for name in self.seps()}

    def rcheck(self, name: str, src: str, seconds: int) -> bool:
        table, since = self.recent[name], self.now - seconds * 10**9
        if src not in table:
            return False
        met = table[src] >= since
        oldest = next(iter(table))
        if table[oldest] < since:
            del table[oldest]
        return met

    def took(self, outcome: Outcome, src: str) -> None:
        if outcome.sep in self.recent:
            table = self.recent[outcome.sep]
            if src not in table and len(table) == CLIENTS:
                table.popitem(last=False)
            table[src] = self.now
            table.move_to_end(src)

    def inside(self, ip: str) -> bool:
        return ip_address(ip) in ip_network(self.cluster)

    def chains(self) -> dict[str, list[Rule]]:
        """The nat table."""
        made: dict[str, list[Rule]] = {"PREROUTING": [], "KUBE-NODEPORTS": [], "HOSTPORTS": []}
        portals: list[Rule] = []
        for s in self.services:
            for p in s.ports:
                self._service(made, portals, s, p)
        portals.append(Rule(lambda k: k.dst in self.own, "KUBE-NODEPORTS"))
        made["KUBE-SERVICES"] = portals
        for ip, h in self.host_ports:
            subnet = ip_network(f"{ip}/{ip_network(self.pods).prefixlen}", strict=False)
            chain = f"CNI-DN-{ip}-{h.port}-{h.protocol}"
            made["HOSTPORTS"].append(Rule(lambda k, h=h: (k.proto, k.dport) == (h.protocol, h.port), chain))
            made[chain] = [
                Rule(lambda k, h=h, n=subnet: h.host_ip in (None, k.dst) and ip_address(k.src) in n, "MARK"),
                Rule(lambda k, h=h: h.host_ip in (None, k.dst), (ip, h.pod_port)),
            ]
        made["PREROUTING"] = [
            Rule(lambda k: True, "KUBE-SERVICES"),
            Rule(lambda k: k.dst in self.own, "HOSTPORTS"),
        ]
        return made

    def _service(self, made: dict[str, list[Rule]], portals: list[Rule], s: Service, p: object) -> None:
        key = f"{s.name}:{p.name}:{p.protocol}"
        everyone, here, _ = self.categorize(s, p)
        internal_local = s.internal_traffic_policy is TrafficPolicy.LOCAL
        external_local = s.external_traffic_policy is TrafficPolicy.LOCAL

        def to_cluster_ip(k: Packet) -> bool:
            return (k.dst, k.proto, k.dport) == (s.cluster_ip, p.protocol, p.port)

        for name, targets in ((f"SVC-{key}", everyone), (f"SVL-{key}", here)):
            rules = [Rule(lambda k: to_cluster_ip(k) and not self.inside(k.src), "MARK")]
            for e in targets if s.affinity_s else []:
                sep = f"{key}:{e.ip}:{e.port}"
                rules.append(Rule(lambda k, sep=sep: self.rcheck(sep, k.src, s.affinity_s), sep))
            rules += [
                Rule(lambda k: True, f"{key}:{e.ip}:{e.port}", random=i < len(targets) - 1)
                for i, e in enumerate(targets)
            ]
            made[name] = rules
        for e in p.targets:
            made[f"{key}:{e.ip}:{e.port}"] = [
                Rule(lambda k, e=e: k.src == e.ip, "MARK"),
                Rule(lambda k: True, (e.ip, e.port)),
            ]
        if external_local:
            made[f"EXT-{key}"] = [
                Rule(lambda k: self.inside(k.src), f"SVC-{key}"),
                Rule(lambda k: True, f"SVL-{key}"),
            ]
        else:
            made[f"EXT-{key}"] = [Rule(lambda k: True, "MARK"), Rule(lambda k: True, f"SVC-{key}")]
        if here if internal_local else everyone:
            portals.append(Rule(to_cluster_ip, f"SVL-{key}" if internal_local else f"SVC-{key}"))
        for ip in s.external_ips if everyone else ():
            portals.append(
                Rule(lambda k, ip=ip: (k.dst, k.proto, k.dport) == (ip, p.protocol, p.port), f"EXT-{key}")
            )
        for ip in s.load_balancer_ips if everyone else ():
            chain = f"EXT-{key}"
            if s.source_ranges:
                chain = f"FW-{key}"
                made[chain] = [self._source(prefix, f"EXT-{key}") for prefix in s.source_ranges]
                if any(ip_address(self.node_ip) in ip_network(prefix) for prefix in s.source_ranges):
                    made[chain] += [self._source(f"{own}/32", f"EXT-{key}") for own in s.load_balancer_ips]
            portals.append(
                Rule(lambda k, ip=ip: (k.dst, k.proto, k.dport) == (ip, p.protocol, p.port), chain)
            )
        if p.node_port is not None and everyone:
            made["KUBE-NODEPORTS"].append(
                Rule(lambda k: (k.proto, k.dport) == (p.protocol, p.node_port), f"EXT-{key}")
            )

    def _source(self, prefix: str, target: str) -> Rule:
        return Rule(lambda k: ip_address(k.src) in ip_network(prefix), target)

    def nat(self, packet: Packet) -> set[Outcome]:
        chains = self.chains()

        def walk(stack: tuple[tuple[str, int], ...], marked: bool) -> Iterator[Outcome]:
            while stack:
                (name, at), rest = stack[-1], stack[:-1]
                if at == len(chains[name]):
                    stack = rest
                    continue
                rule, onward = chains[name][at], (*rest, (name, at + 1))
                if not rule.matches(packet):
                    stack = onward
                    continue
                if rule.random:
                    yield from walk(onward, marked)
                if rule.target == "MARK":
                    stack, marked = onward, True
                elif isinstance(rule.target, tuple):
                    yield Outcome(rule.target, marked, name)
                    return
                else:
                    stack = (*onward, (rule.target, 0))
            yield Outcome(None, marked)

        return set(walk((("PREROUTING", 0),), False))

    def filtered(self, packet: Packet) -> str | None:
        """What FORWARD or INPUT does to a new packet that was not translated: `FIREWALL`, `REJECT`, `DROP` or None."""
        for s in self.services:
            for p in s.ports:
                met = packet.dst in s.load_balancer_ips and (packet.proto, packet.dport) == (
                    p.protocol,
                    p.port,
                )
                if met and p.targets and s.source_ranges:
                    return "FIREWALL"
        for s in self.services:
            for p in s.ports:
                cluster, here, any_endpoints = self.categorize(s, p)
                target = "DROP" if any_endpoints else "REJECT"
                internal = here if s.internal_traffic_policy is TrafficPolicy.LOCAL else cluster
                outside = here if s.external_traffic_policy is TrafficPolicy.LOCAL else cluster
                if packet.proto != p.protocol:
                    continue
                if not internal and (packet.dst, packet.dport) == (s.cluster_ip, p.port):
                    return target
                if (
                    not outside
                    and packet.dst in (*s.external_ips, *s.load_balancer_ips)
                    and packet.dport == p.port
                ):
                    return target
                if not outside and packet.dst in self.own and packet.dport == p.node_port:
                    return target
        return None
