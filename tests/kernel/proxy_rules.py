"""What kube-proxy 1.28 in iptables mode writes for a set of services, in the order of proxier.go's syncProxyRules."""

from __future__ import annotations

import re
from base64 import b32encode
from hashlib import sha256
from ipaddress import ip_address, ip_network

from models.kubeproxy import KubeProxy

from kubenet_fastpath import Endpoint, Service, ServicePort, TrafficPolicy

#: of a golden case's rules: what belongs to its own services
THEIRS = re.compile(r"^(:KUBE-(SVC|SVL|EXT|SEP)-|-A KUBE-(SVC|SVL|EXT|SEP)-|-A KUBE-(SERVICES|NODEPORTS) .*--dport"
                    r"|-A KUBE-EXTERNAL-SERVICES )")  # fmt: skip


class ProxyRules:
    """Rules of all services of a `KubeProxy`, which says what endpoints a service has to offer."""

    def __init__(self, proxy: KubeProxy) -> None:
        self.proxy = proxy
        self.chains: list[str] = []
        self.nat: list[str] = []
        self.filter: list[str] = []
        for service in proxy.services:
            for port in service.ports:
                self._add(service, port)

    def into(self, rules: str) -> str:
        """A golden case's rules with these services instead of its own."""
        tables: dict[str, list[str]] = {}
        for line in rules.splitlines():
            if line.startswith("*"):
                lines = tables.setdefault(line, [])
            if not THEIRS.match(line) and line:
                lines.append(line)
        made = []
        for name, lines in tables.items():
            ours = self.nat if name == "*nat" else self.filter
            portals = next(
                (line for line in lines if line.startswith("-A KUBE-SERVICES") and "NODEPORTS" in line), None
            )
            last = [portals] if portals else []  # "this must be the last rule in this chain"
            kept = [line for line in lines if line not in (portals, "COMMIT")]
            chains = [f":{chain} - [0:0]" for chain in self.chains] if name == "*nat" else []
            made += [kept[0], *chains, *kept[1:], *ours, *last, "COMMIT"]
        return "\n".join(made) + "\n"

    def _chain(self, kind: str, text: str) -> str:
        name = f"KUBE-{kind}-{b32encode(sha256(text.encode()).digest()).decode()[:16]}"
        if name not in self.chains:
            self.chains.append(name)
        return name

    def _policy_chain(
        self, chain: str, service: Service, seps: list[tuple[str, Endpoint]], proto: str
    ) -> None:
        """writeServiceToEndpointRules"""
        if service.affinity_s:
            for sep, _ in seps:
                self.nat.append(
                    f"-A {chain} -m recent --name {sep} --rcheck --seconds {service.affinity_s} --reap -j {sep}"
                )
        for i, (sep, _) in enumerate(seps):
            left = len(seps) - i
            chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            self.nat.append(f"-A {chain} {chance}-j {sep}")

    def _add(self, service: Service, port: ServicePort) -> None:
        proxy, proto = self.proxy, port.protocol
        cluster, local, any_endpoints = proxy.categorize(service, port)
        internal_local = service.internal_traffic_policy is TrafficPolicy.LOCAL
        external_local = service.external_traffic_policy is TrafficPolicy.LOCAL
        key = f"{service.name}:{port.name}{proto}"
        svc, svl, ext = (self._chain(kind, key) for kind in ("SVC", "SVL", "EXT"))
        meets = f"-p {proto} -m {proto}"
        to_service = f"{meets} -d {service.cluster_ip}/32 --dport {port.port}"
        has_internal = bool(local if internal_local else any_endpoints)
        has_external = bool(local if external_local else any_endpoints)
        internal_chain = svl if internal_local else svc
        refused = "DROP" if any_endpoints else "REJECT"
        if has_internal:
            self.nat.append(f"-A KUBE-SERVICES {to_service} -j {internal_chain}")
        else:
            self.filter.append(f"-A KUBE-SERVICES {to_service} -j {refused}")
        guarded = any_endpoints and service.load_balancer_ips and service.source_ranges
        firewall = self._chain("FW", key) if guarded else ext
        for addresses, chain in ((service.external_ips, ext), (service.load_balancer_ips, firewall)):
            for ip in addresses:
                to_ip = f"{meets} -d {ip}/32 --dport {port.port}"
                if any_endpoints:
                    self.nat.append(f"-A KUBE-SERVICES {to_ip} -j {chain}")
                if chain != ext:
                    self.filter.append(f"-A KUBE-PROXY-FIREWALL {to_ip} -j DROP")
                if not has_external:
                    self.filter.append(f"-A KUBE-EXTERNAL-SERVICES {to_ip} -j {refused}")
        if port.node_port is not None:
            if any_endpoints:
                self.nat.append(f"-A KUBE-NODEPORTS {meets} --dport {port.node_port} -j {ext}")
            if not has_external:
                at_node = f"{meets} -m addrtype --dst-type LOCAL --dport {port.node_port}"
                self.filter.append(f"-A KUBE-EXTERNAL-SERVICES {at_node} -j {refused}")
        if service.health_check_node_port is not None:
            self.filter.append(
                f"-A KUBE-NODEPORTS -p tcp -m tcp --dport {service.health_check_node_port} -j ACCEPT"
            )
        if has_internal:
            self.nat.append(f"-A {internal_chain} ! -s {proxy.cluster} {to_service} -j KUBE-MARK-MASQ")
        if any_endpoints:
            if external_local:
                self.nat += [
                    f"-A {ext} -s {proxy.cluster} -j {svc}",
                    f"-A {ext} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
                    f"-A {ext} -m addrtype --src-type LOCAL -j {svc}",
                ]
            else:
                self.nat.append(f"-A {ext} -j KUBE-MARK-MASQ")
            if has_external:
                self.nat.append(f"-A {ext} -j {svl if external_local else svc}")
        if guarded:
            sources = [str(ip_network(prefix, strict=False)) for prefix in service.source_ranges]
            if any(ip_address(proxy.node_ip) in ip_network(source) for source in sources):
                sources += [f"{ip}/32" for ip in service.load_balancer_ips]
            self.nat += [f"-A {firewall} -s {source} -j {ext}" for source in sources]
        seps = {}
        for endpoint in [*cluster, *local]:
            sep = self._chain("SEP", f"{key}{endpoint.ip}:{endpoint.port}")
            if sep not in seps:
                recent = f"-m recent --name {sep} --set " if service.affinity_s else ""
                self.nat += [
                    f"-A {sep} -s {endpoint.ip}/32 -j KUBE-MARK-MASQ",
                    f"-A {sep} {meets} {recent}-j DNAT --to-destination {endpoint.ip}:{endpoint.port}",
                ]
            seps[sep] = endpoint
        named = {(e.ip, e.port): sep for sep, e in seps.items()}
        for chain, chosen in ((svc, cluster), (svl, local)):
            self._policy_chain(chain, service, [(named[e.ip, e.port], e) for e in chosen], proto)
