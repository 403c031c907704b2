"""A node of this project behind the line protocol of golden/README.md: one JSON object a line in, one out.

    python tests/golden_node.py            # then: {"op": "setup", "node": {...}} ...

`GoldenNode` is the same for tests in this process.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Collection
from typing import Any

import kubenet_fastpath as kf
from kubenet_fastpath.azure_cni import AzureCni
from kubenet_fastpath.connection import CtStatus, TcpState

MS = 1_000_000
START = 10**18  # ns, the virtual time 0: any will do
UPLINK = "vnet"
HAIRPIN = {"promisc": kf.Hairpin.PROMISC, "veth": kf.Hairpin.VETH, "none": kf.Hairpin.NONE}
MASQUERADE = {"agent": kf.Masquerade.AGENT, "kubenet": kf.Masquerade.KUBENET, "none": kf.Masquerade.NONE}
TIMEOUTS = {
    "udp_timeout": "udp_s",
    "udp_timeout_stream": "udp_stream_s",
    "icmp_timeout": "icmp_s",
    "generic_timeout": "generic_s",
    "gre_timeout": "gre_s",
    "gre_timeout_stream": "gre_stream_s",
    "sctp_timeout_cookie_wait": "sctp_cookie_wait_s",
}
AZURE: dict[str, type[AzureCni]] = {
    "azcni": kf.AzureCniNodeSubnet,
    "overlay": kf.AzureCniOverlay,
    "podsubnet": kf.AzureCniPodSubnet,
}
PROTOCOLS = {1: "icmp", 58: "icmpv6", 6: "tcp", 17: "udp", 47: "gre", 132: "sctp", 136: "udplite"}


class NotYet(Exception):
    """The case asks for something that no node of this version is."""


def sysctls_of(node: dict[str, Any], name: str) -> dict[str, int]:
    """Values of net.ipv4.conf.*.NAME by interface; a pod's is named as its port."""
    found = {}
    ports = {pod["host_if"]: pod["port"] for pod in node["pods"]}
    for key, value in node["sysctls"].items():
        parts = key.split(".")
        if parts[:3] == ["net", "ipv4", "conf"] and parts[4:] == [name]:
            found[ports.get(parts[3], parts[3])] = value
    return found


def timeouts_of(node: dict[str, Any]) -> kf.Timeouts:
    values = {}
    for key, value in node["sysctls"].items():
        name = key.removeprefix("net.netfilter.nf_conntrack_")
        if name in TIMEOUTS:
            values[TIMEOUTS[name]] = value
        elif name.startswith("tcp_timeout_"):
            values[f"tcp_{name.removeprefix('tcp_timeout_')}_s"] = value
    return kf.Timeouts(**values)


def times_of(node: dict[str, Any]) -> dict[str, float]:
    """Times of neighbours and fragments, where the case sets them."""
    neighbour = "net.ipv4.neigh.default."
    names = {
        f"{neighbour}retrans_time_ms": ("neighbour_retrans_s", 1000),
        f"{neighbour}delay_first_probe_time": ("neighbour_delay_s", 1),
        f"{neighbour}base_reachable_time_ms": ("neighbour_reachable_s", 1000),
        "net.ipv4.ipfrag_time": ("fragment_timeout_s", 1),
        "net.netfilter.nf_conntrack_frag6_timeout": ("fragment6_timeout_s", 1),
    }
    return {
        field: node["sysctls"][key] / unit for key, (field, unit) in names.items() if key in node["sysctls"]
    }


def commands_of(node: dict[str, Any]) -> tuple[dict[str, Any], list[kf.Neighbour]]:
    """Knobs and neighbours that the case's shell commands set."""
    knobs: dict[str, Any] = {}
    neighbours = []
    for command in node["cmds"]:
        words = command.split()
        if words[:3] == ["ip", "neigh", "replace"]:
            neighbours.append(kf.Neighbour(ip=words[3], mac=words[5], dev=words[-1]))
        elif words[-2] == "group_fwd_mask":
            knobs["group_fwd_mask"] = int(words[-1], 0)
        elif words[-2] == "mtu":
            knobs["mtu"] = int(words[-1])
    return knobs, neighbours


def policy_of(name: str | None) -> kf.TrafficPolicy:
    return kf.TrafficPolicy(name or "Cluster")


def service_of(entry: dict[str, Any]) -> kf.Service:
    """A service as the case's `node` object describes it."""
    local = entry.get("etp_local")
    endpoints = []
    for text in entry["eps"]:
        ip, _, port = text.rpartition(":")
        ip = ip.strip("[]")
        endpoints.append(kf.Endpoint(ip, int(port), None if local is None else text in local))
    port = kf.ServicePort(
        port=entry["port"],
        protocol=entry["proto"],
        endpoints=tuple(endpoints),
        node_port=entry.get("nodeport"),
    )
    return kf.Service(
        name=entry["name"],
        cluster_ip=entry["ip"],
        ports=(port,),
        external_ips=tuple(entry.get("external_ips", ())),
        load_balancer_ips=tuple(entry.get("balancer_ips", ())),
        source_ranges=tuple(entry.get("ranges", ())),
        external_traffic_policy=policy_of(
            entry.get("external_policy", "Cluster" if local is None else "Local")
        ),
        internal_traffic_policy=policy_of(entry.get("internal_policy")),
        affinity_s=entry.get("affinity"),
    )


def bridge_of(node: dict[str, Any]) -> dict[str, Any]:
    """What only a kubenet node has."""
    return {
        "pod_cidr": str(ipaddress.ip_interface(node["cbr0"]["ip"]).network),
        "bridge_ip": node["cbr0"]["ip"].split("/")[0],
        "bridge_mac": node["cbr0"]["mac"],
        "hairpin": HAIRPIN[node["hairpin"]],
        "dedup": node["ebtables_dedup"],
        "bridge_nf_call_iptables": bool(node["sysctls"]["net.bridge.bridge-nf-call-iptables"]),
        "permanent_neighbours": False,
        "arp_notify": False,
        "ageing_s": node.get("ageing_s", 300),
    }


def config_of(node: dict[str, Any]) -> kf.Kubenet | AzureCni:
    """The configuration that a case's `node` object describes."""
    if node["mode"] not in ("kubenet", *AZURE):
        raise NotYet(f"mode {node['mode']}")
    kubenet = node["mode"] == "kubenet"
    own: Collection[str] = (
        () if kubenet else {pod["host_if"] for pod in node["pods"]}
    )  # `attach` makes what belongs to these
    sysctls = node["sysctls"]
    knobs, neighbours = commands_of(node)
    gateways = [route.split()[2] for route in node["routes"] if route.startswith("default via")]
    fields = {
        "node_ip": node["eth0"]["ip"],
        "node_mac": node["eth0"]["mac"],
        "gateway": gateways[0]
        if gateways
        else str(next(ipaddress.ip_interface(node["eth0"]["ip"]).network.hosts())),
        "gateway_mac": None,
        "cluster_cidr": node["cluster_cidr"],
        "mtu": node["mtu"],
        "masquerade": MASQUERADE[node["masq"]],
        "non_masquerade": tuple(node["nonmasq"]),
        "random_fully": node["random_fully"] and node["masq"] != "kubenet",
        "to_ports": tuple(map(int, node["to_ports"].split("-"))) if node["to_ports"] else None,
        "kube_proxy": node["kubeproxy"],
        "rp_filter": sysctls_of(node, "rp_filter"),
        "send_redirects": sysctls_of(node, "send_redirects"),
        "route_localnet": bool(sysctls_of(node, "route_localnet").get("all", 0)),
        "neighbours": (
            *(
                kf.Neighbour(ip=n["ip"], mac=n["mac"], dev=n["dev"])
                for n in node["neigh"]
                if n["dev"] not in own
            ),
            *neighbours,
        ),
        "routes": tuple(route for route in node["routes"] if route.split()[-1] not in own),
        "icmp_ratelimit_ms": sysctls["net.ipv4.icmp_ratelimit"],
        "icmp_msgs_per_s": sysctls["net.ipv4.icmp_msgs_per_sec"],
        "icmp_msgs_burst": sysctls["net.ipv4.icmp_msgs_burst"],
        "timeouts": timeouts_of(node),
        **times_of(node),
        "tcp_loose": bool(sysctls["net.netfilter.nf_conntrack_tcp_loose"]),
        "tcp_be_liberal": bool(sysctls["net.netfilter.nf_conntrack_tcp_be_liberal"]),
        "conntrack_checksum": bool(sysctls["net.netfilter.nf_conntrack_checksum"]),
        "services": tuple(map(service_of, node["services"])) if node["kubeproxy"] else (),
        "service_random_fully": node["random_fully"],
        "port_mapper": kf.PortMapper(node.get("port_mapper", "kubelet")),
        "zone": node.get("zone"),
        "guard_wireserver": any("168.63.129.16" in rule for rule in node["extra_rules"]),
        "seed": 2028,
    }
    six = node.get("six")
    if six:
        fields |= six_of(six, own)
        fields["non_masquerade"] += tuple(six["nonmasq"])
        for name in ("routes", "neighbours", "services"):
            fields[name] = (*fields[name], *fields.pop(f"{name}6"))
    if kubenet:
        bridge = bridge_of(node)
        bridge["bridge_nf_call_ip6tables"] = bool(node["sysctls"]["net.bridge.bridge-nf-call-ip6tables"])
        return kf.Kubenet(**(fields | bridge | knobs))
    fields |= {"proxy_arp": node["proxy_arp"], "proxy_delay_ms": node.get("proxy_delay_ms", 800)} | knobs
    fields["permanent_neighbours"] = not node.get("asks", False)
    mode = node["mode"]
    if "pod_subnet" in node:  # a node subnet's node otherwise
        del fields["cluster_cidr"]
        mode, fields["pod_subnet"] = "podsubnet", node["pod_subnet"]
    elif mode == "podsubnet":
        fields["pod_subnet"] = fields.pop("cluster_cidr")
    elif mode == "overlay":
        fields["pod_cidr"] = node["pod_cidr"]
    return AZURE[mode](**fields)


def six_of(six: dict[str, Any], own: Collection[str]) -> dict[str, Any]:
    """What a dual-stack node's `six` object adds to a configuration."""
    gateways = [route.split()[2] for route in six["routes"] if route.startswith("default via")]
    return {
        "node_ip6": six["eth0"],
        "gateway6": gateways[0],
        "pod_cidr6": six["pod_cidr"],
        "cluster_cidr6": six["cluster_cidr"],
        "routes6": tuple(route for route in six["routes"] if route.split()[-1] not in own),
        "neighbours6": tuple(
            kf.Neighbour(ip=n["ip"], mac=n["mac"], dev=n["dev"]) for n in six["neigh"] if n["dev"] not in own
        ),
        "services6": tuple(map(service_of, six["services"])),
    }


class GoldenNode:
    """The node of one case, driven in the case's virtual time.

    Raises
    ------
    NotYet
        For a mode that this version does not have.
    """

    def __init__(self, node: dict[str, Any]) -> None:
        self.node = kf.Node(config_of(node))
        self.devices = {"eth0": "eth0", "cbr0": "cbr0"}
        for pod in node["pods"]:
            host_ports = tuple(
                kf.HostPort(port=h["hostport"], pod_port=h["port"], protocol=h["proto"])
                for h in node["hostports"]
                if h["ip"] == pod["ip"]
            )
            self.node.attach(
                kf.Pod(
                    pod["port"],
                    ip=pod["ip"],
                    ip6=pod.get("ip6"),
                    mac=pod["mac"],
                    host_mac=pod["host_mac"],
                    host_ports=host_ports,
                )
            )
            self.devices[pod["port"]] = pod["host_if"]
        self.node.advance(START)

    def _frames(self, result: kf.Result) -> list[tuple[str, bytes]]:
        names = {port.index: UPLINK if name == "eth0" else name for name, port in self.node.ports.items()}
        queues = {index: iter(result.packets(index)) for index in names}
        return [(names[port], bytes(next(queues[port]))) for port in result.outputs["port"].tolist()]

    def inject(self, port: str, frame: bytes, t_ms: float) -> list[tuple[str, bytes]]:
        """Frames that come out when `frame` goes in."""
        ingress = self.node.ports["eth0" if port == UPLINK else port]
        batch = kf.PacketBatch.from_frames([frame], ingress, START + round(t_ms * MS))
        return self._frames(self.node.forward(batch))

    def advance(self, t_ms: float) -> list[tuple[str, bytes]]:
        """Frames that come out while time passes."""
        return self._frames(self.node.advance(START + round(t_ms * MS)))

    def conntrack(self, family: int = 4) -> list[dict[str, Any]]:
        """Live connections in the form of the cases."""
        entries = []

        def address(value: Any) -> str:
            return str(ipaddress.ip_address(int(value) if family == 4 else value.tobytes()))

        for row in self.node.connections.to_records(self.node.now, family=family):
            proto = int(row["proto"])
            entry: dict[str, Any] = {
                "proto": PROTOCOLS.get(proto, "unknown"),
                "status": [],
                "mark": int(row["mark"]),
            }
            status = CtStatus(int(row["status"]))
            if CtStatus.SEEN_REPLY not in status:
                entry["status"].append("UNREPLIED")
            if CtStatus.ASSURED in status:
                entry["status"].append("ASSURED")
            if proto == 6:
                entry["state"] = TcpState(int(row["state"])).name
            for side, prefix in (("orig", ""), ("reply", "reply_")):
                values: dict[str, Any] = {
                    "src": address(row[prefix + "src"]),
                    "dst": address(row[prefix + "dst"]),
                }
                if proto in (1, 58):
                    kind = int(row[prefix + "dport"])
                    values |= {"type": kind >> 8, "code": kind & 255, "id": int(row[prefix + "sport"])}
                elif proto in PROTOCOLS:
                    values |= {"sport": int(row[prefix + "sport"]), "dport": int(row[prefix + "dport"])}
                values |= {
                    "packets": int(row["reply_packets" if prefix else "packets"]),
                    "bytes": int(row["reply_bytes" if prefix else "bytes"]),
                }
                entry[side] = values
            entry["timeout"] = int(row["timeout"])
            entries.append(entry)
        return entries

    def fdb(self) -> set[tuple[str, str, str]]:
        """(MAC, device, state) of every entry."""
        names = {port.index: self.devices[name] for name, port in self.node.ports.items()} | {1: "cbr0"}
        return {
            (
                int(row["mac"]).to_bytes(6, "big").hex(":"),
                names[int(row["port"])],
                "permanent" if row["local"] else "learned",
            )
            for row in self.node.fdb.to_records()
        }


def main() -> None:
    """Answer questions on standard input until it ends."""
    node: GoldenNode | None = None
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        if question["op"] == "setup":
            try:
                node = GoldenNode(question["node"])
            except NotYet:
                node = None
        elif question["op"] == "state":
            answer["conntrack"] = node.conntrack() if node else None
        else:
            frames: list[tuple[str, bytes]] = []
            if node and question["op"] == "frame":
                frames = node.inject(question["port"], bytes.fromhex(question["hex"]), question["t_ms"])
            elif node:
                frames = node.advance(question["t_ms"])
            answer["out"] = [{"port": port, "hex": frame.hex()} for port, frame in frames]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
