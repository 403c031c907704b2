"""The iptables rules of a node, as kube-proxy 1.28, ip-masq-agent, kubelet and portmap write them.

`restore(node)` is what iptables-restore reads for a golden case's `node` object: for the nodes of the recorded cases it
has their recorded rules, chain by chain. Source: kubernetes pkg/proxy/iptables/proxier.go (syncProxyRules),
pkg/kubelet/dockershim/network/hostport/hostport_manager.go, containernetworking/plugins plugins/meta/portmap.
"""

from __future__ import annotations

import base64
import hashlib
from ipaddress import ip_address, ip_network
from typing import Any

Service = dict[str, Any]
MASQ = "KUBE-MARK-MASQ"


def suffix(text: str) -> str:
    """What tells kube-proxy's chains apart: 16 characters of base32(sha256)."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()


class Table:
    """Chains in the order of their making, each with its rules."""

    def __init__(self, name: str, *built_in: str) -> None:
        self.name = name
        self.chains: dict[str, list[str]] = {chain: [] for chain in built_in}
        self.built_in = built_in

    def add(self, chain: str, *rules: str) -> None:
        self.chains.setdefault(chain, []).extend(rules)

    def text(self) -> str:
        heads = [f":{chain} {'ACCEPT' if chain in self.built_in else '-'} [0:0]" for chain in self.chains]
        rules = [f"-A {chain} {rule}" for chain, rules in self.chains.items() for rule in rules]
        return "\n".join([f"*{self.name}", *heads, *rules, "COMMIT"])


def host(endpoint: str) -> str:
    """The address of `ip:port` or `[ip]:port`."""
    return endpoint.rpartition(":")[0].strip("[]")


def endpoint(ip: str, port: int) -> str:
    """The other way."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def single(ip: str) -> str:
    """The prefix that is one address."""
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


def is_local(node: dict[str, Any], service: Service, endpoint: str) -> bool:
    """Whether an endpoint is on this node."""
    if "etp_local" in service:
        return endpoint in service["etp_local"]
    return host(endpoint) in {pod["ip"] for pod in node["pods"]}


def endpoints(node: dict[str, Any], service: Service, *, local: bool) -> list[str]:
    """All of a service's endpoints, or those on this node."""
    return [e for e in service["eps"] if not local or is_local(node, service, e)]


def confined(service: Service, *, outside: bool) -> bool:
    """Whether its policy keeps a service's traffic, that from outside or the other, on the node."""
    if outside:
        return service.get("external_policy", "etp_local" in service and "Local") == "Local"
    return bool(service.get("internal_policy") == "Local")


def _to_endpoints(nat: Table, service: Service, chain: str, chosen: list[str]) -> None:
    seps = [f"KUBE-SEP-{suffix(service['name'] + service['proto'] + e)}" for e in chosen]
    nat.add(chain)
    if service.get("affinity"):
        nat.add(chain, *(f"-m recent --name {sep} --rcheck --seconds {service['affinity']} --reap --rsource -j {sep}"
                         for sep in seps))  # fmt: skip
    for i, sep in enumerate(seps):
        left = len(seps) - i
        chance = f"-m statistic --mode random --probability {1 / left:.11f} " if left > 1 else ""
        nat.add(chain, f"{chance}-j {sep}")
    for sep, endpoint in zip(seps, chosen, strict=True):
        if sep in nat.chains:
            continue
        proto = f"-p {service['proto']} -m {service['proto']}"
        recent = f" -m recent --name {sep} --set --rsource" if service.get("affinity") else ""
        nat.add(
            sep,
            f"-s {single(host(endpoint))} -j {MASQ}",
            f"{proto}{recent} -j DNAT --to-destination {endpoint}",
        )


def _service(nat: Table, filters: Table, node: dict[str, Any], service: Service) -> None:
    name, proto, cidr = service["name"], service["proto"], node["cluster_cidr"]
    mark = suffix(name + proto)
    cluster_chain, local_chain, outer_chain = f"KUBE-SVC-{mark}", f"KUBE-SVL-{mark}", f"KUBE-EXT-{mark}"
    match = f"-p {proto} -m {proto} --dport {service['port']}"
    every, near = endpoints(node, service, local=False), endpoints(node, service, local=True)
    inner_local, outer_local = confined(service, outside=False), confined(service, outside=True)
    inner, outer = near if inner_local else every, near if outer_local else every
    inner_chain = local_chain if inner_local else cluster_chain
    balanced, ranges = service.get("balancer_ips", []), service.get("ranges", [])
    outside = [*service.get("external_ips", []), *balanced]
    firewall = f"KUBE-FW-{mark}" if every and balanced and ranges else outer_chain
    six = ":" in service["ip"]
    target = f"REJECT --reject-with icmp{'6' if six else ''}-port-unreachable" if not every else "DROP"
    cluster_ip = single(service["ip"])
    if inner:
        nat.add("KUBE-SERVICES", f"-d {cluster_ip} {match} -j {inner_chain}")
        nat.add(inner_chain, f"! -s {cidr} -d {cluster_ip} {match} -j {MASQ}")
    else:
        filters.add("KUBE-SERVICES", f"-d {cluster_ip} {match} -j {target}")
    for ip in outside:
        if every:
            nat.add(
                "KUBE-SERVICES", f"-d {single(ip)} {match} -j {firewall if ip in balanced else outer_chain}"
            )
        if ip in balanced and firewall != outer_chain:
            filters.add("KUBE-PROXY-FIREWALL", f"-d {single(ip)} {match} -j DROP")
        if not outer:
            filters.add("KUBE-EXTERNAL-SERVICES", f"-d {single(ip)} {match} -j {target}")
    if firewall != outer_chain:
        own = ip_address(node["eth0"]["ip"].split("/")[0])
        sources = [*ranges, *(single(ip) for ip in balanced if any(own in ip_network(r) for r in ranges))]
        nat.add(firewall, *(f"-s {source} -j {outer_chain}" for source in sources))
    if service.get("nodeport"):
        match = f"-p {proto} -m {proto} --dport {service['nodeport']}"
        if every:
            nat.add("KUBE-NODEPORTS", f"{match} -j {outer_chain}")
        if not outer:
            filters.add("KUBE-EXTERNAL-SERVICES", f"{match} -m addrtype --dst-type LOCAL -j {target}")
    has_outer = bool(every and (outside or service.get("nodeport")))
    if has_outer and outer_local:
        nat.add(outer_chain, f"-s {cidr} -j {cluster_chain}", f"-m addrtype --src-type LOCAL -j {MASQ}",
                f"-m addrtype --src-type LOCAL -j {cluster_chain}")  # fmt: skip
        if near:
            nat.add(outer_chain, f"-j {local_chain}")
    elif has_outer:
        nat.add(outer_chain, f"-j {MASQ}", f"-j {cluster_chain}")
    if near and (inner_local or (has_outer and outer_local)):
        _to_endpoints(nat, service, local_chain, near)
    if every and (not inner_local or has_outer):
        _to_endpoints(nat, service, cluster_chain, every)


def _host_ports(nat: Table, node: dict[str, Any]) -> None:
    six = ":" in node["cluster_cidr"]
    if node.get("port_mapper", "kubelet") == "kubelet":
        entrance = "-m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS"
        for row in node["hostports"]:
            chain = f"KUBE-HP-{suffix(row['name'] + str(row['hostport']) + row['proto'])}"
            proto = f"-p {row['proto']} -m {row['proto']}"
            nat.add("KUBE-HOSTPORTS", f"{proto} --dport {row['hostport']} -j {chain}")
            nat.add(
                chain,
                f"-s {single(row['ip'])} -j {MASQ}",
                f"{proto} -j DNAT --to-destination {endpoint(row['ip'], row['port'])}",
            )
        nat.add("PREROUTING", entrance)
        nat.add("OUTPUT", entrance)
        nat.add("POSTROUTING", f"-s {'::1/128' if six else '127.0.0.0/8'} -o cbr0 -j MASQUERADE")
        return
    kubenet = node["mode"] == "kubenet"
    length = node["cbr0"]["ip"].partition("/")[2] if kubenet else 128 if six else 32
    set_mark = MASQ if kubenet else "CNI-HOSTPORT-SETMARK"
    entrance = "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"
    nat.add("PREROUTING", entrance)
    nat.add("OUTPUT", entrance)
    if not kubenet:
        nat.add(set_mark, "-j MARK --set-xmark 0x2000/0x2000")
        nat.add("CNI-HOSTPORT-MASQ", "-m mark --mark 0x2000/0x2000 -j MASQUERADE")
        nat.chains["POSTROUTING"].insert(0, "-j CNI-HOSTPORT-MASQ")
    for row in node["hostports"]:
        chain = f"CNI-DN-{suffix(row['name'])}"
        match = f"-p {row['proto']} -m {row['proto']} --dport {row['hostport']}"
        nat.add("CNI-HOSTPORT-DNAT", f"-p {row['proto']} -m multiport --dports {row['hostport']} -j {chain}")
        nat.add(chain, f"-s {row['ip']}/{length} {match} -j {set_mark}")
        if not six:
            nat.add(chain, f"-s 127.0.0.1/32 {match} -j {set_mark}")
        nat.add(chain, f"{match} -j DNAT --to-destination {endpoint(row['ip'], row['port'])}")


def _masquerade(nat: Table, node: dict[str, Any]) -> None:
    away, random = "-m addrtype ! --dst-type LOCAL", " --random-fully" if node["random_fully"] else ""
    if node["masq"] == "kubenet":
        nat.add("POSTROUTING", f"! -d {node['nonmasq'][0]} {away} -j MASQUERADE")
    elif node["masq"] == "agent":
        nat.add("POSTROUTING", f"{away} -j IP-MASQ-AGENT")
        nat.add("IP-MASQ-AGENT", *(f"-d {cidr} {away} -j RETURN" for cidr in node["nonmasq"]))
        if node["to_ports"]:
            ports = f"{away} -j MASQUERADE --to-ports {node['to_ports']}"
            nat.add("IP-MASQ-AGENT", f"-p tcp {ports}", f"-p udp {ports}")
        nat.add("IP-MASQ-AGENT", f"{away} -j MASQUERADE{random}")


def tables(node: dict[str, Any]) -> tuple[Table, Table]:
    """The nat and filter tables of a node."""
    nat = Table("nat", "PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
    filters = Table("filter", "INPUT", "FORWARD", "OUTPUT")
    if node["kubeproxy"]:
        random = " --random-fully" if node["random_fully"] else ""
        nat.add("PREROUTING", "-j KUBE-SERVICES")
        nat.add("OUTPUT", "-j KUBE-SERVICES")
        nat.add("POSTROUTING", "-j KUBE-POSTROUTING")
        nat.add("KUBE-POSTROUTING", "-m mark ! --mark 0x4000/0x4000 -j RETURN", "-j MARK --xor-mark 0x4000",
                f"-j MASQUERADE{random}")  # fmt: skip
        nat.add(MASQ, "-j MARK --or-mark 0x4000")
        for chain in ("KUBE-SERVICES", "KUBE-NODEPORTS"):
            nat.add(chain)
        new = "-m conntrack --ctstate NEW -j"
        filters.add("INPUT", f"{new} KUBE-PROXY-FIREWALL", "-j KUBE-NODEPORTS", f"{new} KUBE-EXTERNAL-SERVICES",
                    "-j KUBE-FIREWALL")  # fmt: skip
        filters.add("FORWARD", f"{new} KUBE-PROXY-FIREWALL", "-j KUBE-FORWARD", f"{new} KUBE-SERVICES",
                    f"{new} KUBE-EXTERNAL-SERVICES")  # fmt: skip
        filters.add("OUTPUT", f"{new} KUBE-PROXY-FIREWALL", f"{new} KUBE-SERVICES", "-j KUBE-FIREWALL")
        filters.add("KUBE-FORWARD", "-m conntrack --ctstate INVALID -j DROP", "-m mark --mark 0x4000/0x4000 -j ACCEPT",
                    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")  # fmt: skip
        if ":" not in node["cluster_cidr"]:
            filters.add("KUBE-FIREWALL", "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate "
                        "RELATED,ESTABLISHED,DNAT -j DROP")  # fmt: skip
        else:
            filters.add("KUBE-FIREWALL")
        for chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"):
            filters.add(chain)
        for service in node["services"]:
            _service(nat, filters, node, service)
        nat.add("KUBE-SERVICES", "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    if node["hostports"]:
        _host_ports(nat, node)
    _masquerade(nat, node)
    return nat, filters


def restore(node: dict[str, Any]) -> str:
    """What iptables-restore reads."""
    return "\n".join([*(table.text() for table in tables(node)), ""])


def stale(before: list[Service], after: list[Service]) -> list[list[str]]:
    """Options of the `conntrack -D` that kube-proxy runs after a change (pkg/proxy/conntrack/cleanup.go)."""
    old, new = ({s["name"]: s for s in which if s["proto"] == "udp"} for which in (before, after))
    options = [["--orig-dst", s["ip"], "-p", "udp"] for name, s in old.items() if name not in new]
    for name, service in new.items():
        addresses = [service["ip"], *service.get("external_ips", []), *service.get("balancer_ips", [])]
        if service["eps"] and not old.get(name, {}).get("eps"):
            options += [["--orig-dst", ip, "-p", "udp"] for ip in addresses]
            if service.get("nodeport"):
                options.append(["-p", "udp", "--dport", str(service["nodeport"])])
        for gone in set(old.get(name, {}).get("eps", ())) - set(service["eps"]):
            target = host(gone)
            options += [["--orig-dst", ip, "--dst-nat", target, "-p", "udp"] for ip in addresses]
            if service.get("nodeport"):
                options.append(["-p", "udp", "--dport", str(service["nodeport"]), "--dst-nat", target])
    return options
