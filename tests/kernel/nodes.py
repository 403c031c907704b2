"""Nodes for histories: the recorded ones in every addressing mode, with services and host ports of any kind.

A node is a golden case's `node` object. Services may have, beyond what recorded ones have, `external_ips`,
`balancer_ips`, `ranges`, `external_policy`, `internal_policy` (`Local`) and `affinity` with any protocol; nodes a
`port_mapper` (`kubelet`, `portmap`) and the modes `overlay` and `podsubnet`.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

CASES = Path(__file__).parents[1] / "golden" / "cases"
MODES = ("kubenet", "azcni", "overlay", "podsubnet")
BALANCER = ("20.1.2.3", "20.1.2.4")  # addresses of a load balancer, which leaves them as they are

# A route to nobody by every gateway of `histories.CHANGES`. When the last route by one goes, the kernel makes the
# cached routes of packets that wait for it blackhole_netdev's, which is init_net's: that a neighbour has failed is then
# told there, which is right for a node and not for one in a namespace.
ANCHORS = tuple(f"203.0.113.{n}/32 via 10.240.0.{n} dev eth0" for n in (1, 5, 9))

_TIMEOUTS = (
    {f"tcp_timeout_{state}": 1 for state in ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait")}
    | {"tcp_timeout_close": 1, "tcp_timeout_established": 3, "tcp_timeout_max_retrans": 2}
    | {"tcp_timeout_unacknowledged": 2, "udp_timeout": 1, "udp_timeout_stream": 3, "icmp_timeout": 1}
    | {"generic_timeout": 1, "gre_timeout": 1, "gre_timeout_stream": 3, "sctp_timeout_cookie_wait": 1}
)  # fmt: skip
QUICK = {f"net.netfilter.nf_conntrack_{name}": seconds for name, seconds in _TIMEOUTS.items()} | {
    "net.ipv4.ipfrag_time": 1,
    "net.ipv4.neigh.default.retrans_time_ms": 200,
    "net.ipv4.neigh.default.delay_first_probe_time": 1,
    "net.ipv4.neigh.default.base_reachable_time_ms": 20,
}


def recorded(mode: str) -> tuple[dict[str, Any], str]:
    """The node of a recorded case, and its rules; proxy ARP answers at once."""
    case = json.loads((CASES / f"route.{mode}.noroute.json").read_text())
    return case["node"] | {"proxy_delay_ms": 0}, (CASES / case["rules"]).read_text()


def _services(pods: list[str], remote: str) -> list[dict[str, Any]]:
    """Every kind of service; names say what is special."""
    a, b, c, _ = pods

    def row(
        name: str, ip: str, eps: list[str], proto: str = "tcp", port: int = 80, **more: Any
    ) -> dict[str, Any]:
        return {"name": f"d/{name}", "ip": ip, "proto": proto, "port": port, "eps": eps} | more

    three = [f"{b}:8080", f"{c}:8080", f"{remote}:8080"]
    talk = [f"{a}:5000", f"{b}:5000", f"{remote}:5000"]
    return [
        row("api", "10.0.0.1", ["10.240.0.100:6443"], port=443),
        row("dns", "10.0.0.10", [f"{remote}:53", f"{c}:53"], "udp", 53),
        row("dns-tcp", "10.0.0.10", [f"{remote}:53", f"{c}:53"], port=53),
        row("local", "10.0.0.20", [f"{b}:8080"], nodeport=30080),
        row("self", "10.0.0.30", [f"{a}:8080"], nodeport=30083),
        row("three", "10.0.0.40", three, nodeport=30081, external_ips=[BALANCER[0]]),
        row("none", "10.0.0.50", [], nodeport=30085, external_ips=[BALANCER[1]], ),
        row("none-udp", "10.0.0.51", [], "udp", 5000, nodeport=30085),
        row("extlocal", "10.0.0.60", [f"{a}:8080", f"{c}:8080", f"{remote}:8080"], nodeport=30082,
            external_policy="Local", external_ips=["20.1.2.5"]),
        row("extnone", "10.0.0.61", [f"{remote}:8080"], nodeport=30086, external_policy="Local",
            external_ips=["20.1.2.6"]),
        row("intlocal", "10.0.0.62", [f"{b}:8080", f"{c}:8080", f"{remote}:8080"], internal_policy="Local",
            nodeport=30087),
        row("intnone", "10.0.0.63", [f"{remote}:8080"], internal_policy="Local"),
        row("udp", "10.0.0.70", talk, "udp", 5000, nodeport=30090, external_ips=[BALANCER[0]]),
        row("aff", "10.0.0.80", [f"{a}:8080", *three], affinity=10800, nodeport=30088),
        row("aff-udp", "10.0.0.81", talk, "udp", 5000, affinity=10800, nodeport=30091, external_policy="Local"),
        row("ranges", "10.0.0.85", [f"{b}:8080", f"{remote}:8080"], nodeport=30092, balancer_ips=["20.1.2.7"],
            ranges=["10.240.0.0/29"]),
        row("remote", "10.0.0.90", [f"{remote}:8080"], nodeport=30084),
    ]  # fmt: skip


def _readdressed(node: dict[str, Any], pods: list[str], cidr: str) -> None:
    """An Azure CNI node whose pods have other addresses."""
    old = [pod["ip"] for pod in node["pods"]]
    new = dict(zip(old, pods, strict=True))
    node["routes"] = [route for route in node["routes"] if route.split("/")[0] not in new]
    node["neigh"] = [n | {"ip": new.get(n["ip"], n["ip"])} for n in node["neigh"]]
    for pod in node["pods"]:
        pod["ip"] = new[pod["ip"]]
        node["routes"].append(f"{pod['ip']}/32 dev {pod['host_if']}")
    node["cluster_cidr"], node["nonmasq"] = cidr, [cidr]


def node_of(mode: str, **given: Any) -> dict[str, Any]:
    """A node in a mode of `MODES`, with what is given otherwise than the recorded ones.

    Parameters
    ----------
    mode : str
    **given
        `port_mapper`: `kubelet` or `portmap`. `random_fully`: masquerading has it. Of kubenet's alone: `hairpin`
        (`promisc`, `veth`, `none`), `masq` (`agent`, `kubenet`, `none`), `bridge_nf`. `sysctls`: names from
        `net.ipv4.conf.all`, values of `net.netfilter` and others, whole. `quick`: everything that times out does so
        within 3 s. `arp`: `known`, or the node has to ask, and is answered at once (`prompt`) or by steps (`asked`).
    """
    node = copy.deepcopy(recorded("kubenet" if mode == "kubenet" else "azcni")[0])
    kubenet, hairpin = mode == "kubenet", given.get("hairpin") or "promisc"
    node["mode"], node["random_fully"] = mode, given.get("random_fully", False)
    node["port_mapper"] = given.get("port_mapper", "portmap") if kubenet else "portmap"
    if kubenet:
        node["hairpin"], node["ebtables_dedup"] = hairpin, hairpin == "promisc"
        node["cbr0"]["promisc"] = hairpin == "promisc"
        node["masq"] = given.get("masq", "agent")
        node["sysctls"]["net.bridge.bridge-nf-call-iptables"] = given.get("bridge_nf", 1)
    if mode == "overlay":
        _readdressed(node, [f"10.244.1.{i}" for i in (2, 3, 4, 5)], "10.244.0.0/16")
        node["pod_cidr"] = "10.244.1.0/24"
    elif mode == "podsubnet":
        _readdressed(node, [f"10.241.0.{i}" for i in (11, 12, 13, 14)], "10.241.0.0/16")
        node["masq"] = "none"
    pods = [pod["ip"] for pod in node["pods"]]
    remote = {"azcni": "10.240.0.50", "podsubnet": "10.241.0.50"}.get(mode, "10.244.2.10")
    node["far"] = remote
    node["services"] = _services(pods, remote)
    node["hostports"] = [
        {"name": "pod1_d", "proto": "tcp", "hostport": 8080, "ip": pods[0], "port": 80},
        {"name": "pod3_d", "proto": "udp", "hostport": 5353, "ip": pods[2], "port": 53},
    ]
    node["routes"] = [*node["routes"], *ANCHORS]
    node["sysctls"] |= given.get("sysctls", {})
    if given.get("quick"):
        node["sysctls"] |= QUICK
        node["ageing_s"] = 2  # not when a neighbour is asked again
    if given.get("arp", "known") != "known":
        node["neigh"], node["asks"], node["random_fully"] = [], True, False
        for service in node[
            "services"
        ]:  # which of several was drawn would show nowhere while the packet waits
            service["eps"] = service["eps"][:1]
    return node


def six_view(node: dict[str, Any]) -> dict[str, Any]:
    """A dual-stack node as ip6tables and its own IPv6 see it: a node with IPv6 addresses alone."""
    six = node["six"]
    pods = [pod | {"ip": pod["ip6"]} for pod in node["pods"]]
    fields = ("services", "cluster_cidr", "nonmasq", "far", "hostports")
    view = node | {name: six[name] for name in fields} | {"pods": pods, "to_ports": None}
    view["eth0"] = node["eth0"] | {"ip": six["eth0"]}
    if "cbr0" in node:
        view["cbr0"] = node["cbr0"] | {"ip": six["cbr0"]}
    return view


def dual_stack(node: dict[str, Any], *, bridge_nf: bool = True) -> dict[str, Any]:
    """The same node with IPv6 beside (kubenet and overlay have that)."""
    kubenet = node["mode"] == "kubenet"
    pods = "fd12:3456:789a:0:1::"
    six: dict[str, Any] = {
        "eth0": "fd00:10::4/64",
        "pod_cidr": f"{pods}/80",
        "cluster_cidr": "fd12:3456:789a::/64",
        "nonmasq": ["fd12:3456:789a::/64"],
        "far": "fd12:3456:789a:0:2::10",
        "routes": ["default via fd00:10::1 dev eth0", "fd00:10::/64 dev eth0", "unreachable 2001:db8:bad:1::/64",
                   "prohibit 2001:db8:bad:2::/64", "blackhole 2001:db8:bad:3::/64"],
        "neigh": [{"ip": f"fd00:10::{n:x}", "mac": f"00:0d:3a:00:00:{n:02x}", "dev": "eth0"} for n in (5, 9, 0x64)],
    }  # fmt: skip
    six["neigh"].append({"ip": "fd00:10::1", "mac": "12:34:56:78:9a:bc", "dev": "eth0"})
    if kubenet:
        six["cbr0"] = f"{pods}1/80"
        six["routes"].append(f"{pods}/80 dev cbr0")
    for number, pod in enumerate(node["pods"], 2):
        pod["ip6"] = f"{pods}{number:x}"
        device = "cbr0" if kubenet else pod["host_if"]
        six["neigh"].append({"ip": pod["ip6"], "mac": pod["mac"], "dev": device})
        if not kubenet:
            six["routes"].append(f"{pod['ip6']}/128 dev {device}")
    addresses = [pod["ip6"] for pod in node["pods"]]
    six["services"] = [
        service | {
            "name": f"{service['name']}6",
            "ip": "fd00:20::" + service["ip"].rpartition(".")[2],
            "external_ips": ["2001:db8:20::" + ip.rpartition(".")[2] for ip in service.get("external_ips", ())],
            "balancer_ips": ["2001:db8:20::" + ip.rpartition(".")[2] for ip in service.get("balancer_ips", ())],
            "ranges": ["fd00:10::/125"] if service.get("ranges") else [],
        }
        for service in _services([f"[{a}]" for a in addresses], f"[{six['far']}]")
    ]  # fmt: skip
    of = {pod["ip"]: pod["ip6"] for pod in node["pods"]}
    six["hostports"] = [row | {"ip": of[row["ip"]]} for row in node["hostports"]]
    six["services"][0]["eps"] = ["[fd00:10::64]:6443"]
    sysctls = node["sysctls"] | {"net.bridge.bridge-nf-call-ip6tables": int(bridge_nf)}
    return node | {"six": six, "sysctls": sysctls}


def doors(node: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Where services and host ports are reached: (address, protocol, port)."""
    own = [node["eth0"]["ip"].split("/")[0]]
    if "cbr0" in node:
        own.append(node["cbr0"]["ip"].split("/")[0])
    found = []
    for service in node["services"]:
        found += [
            (ip, service["proto"], service["port"])
            for ip in (service["ip"], *service.get("external_ips", []), *service.get("balancer_ips", []))
        ]
        if service.get("nodeport"):
            found += [(ip, service["proto"], service["nodeport"]) for ip in own]
    return found + [(ip, row["proto"], row["hostport"]) for row in node["hostports"] for ip in own]
