"""A cluster in the words of `kubectl get -o json`, with what az says of it, and the topology that they describe.

Longer than its neighbours: it knows the fields of five kinds of objects, and what each is when it is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .address import ipv4_prefix, ipv4_text
from .aks_limit import overlap
from .azure_dump import addressing_of, networks_of, outbound_of, pod_subnet_of, routes_of
from .dump import CIDR, Dump, around, inside, is_prefix
from .errors import ConfigError
from .service import HostPort, TrafficPolicy
from .topology import Addressing, PodSite, ServiceSite, Topology, is_address
from .vnet import VnetHost

__all__ = ["dumped_topology"]

MASQ_AGENTS = ("ip-masq-agent", "azure-ip-masq-agent-config", "azure-ip-masq-agent-config-reconciled")
LINK_LOCAL = "169.254.0.0/16"  #: left alone by ip-masq-agent, unless masqLinkLocal
TOPOLOGY_MODE = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")


@dataclass
class _Node:
    name: str
    address: str
    cidr: str | None
    cpus: int
    max_pods: int
    dual_stack: bool


def _name(item: dict[str, Any]) -> str:
    return f"{item['metadata']['name']}.{item['metadata'].get('namespace', 'default')}"


def dumped_topology(found: Dump, name: str) -> Topology:
    """The topology that dumps describe; `name` is what errors call them.

    Raises
    ------
    AddressError, ConfigError
        For dumps without a node, or that contradict themselves.
    KeyError, TypeError, AttributeError
        For objects that are not as kubectl and az write them.
    """
    nodes = list(_nodes(found))
    if not nodes:
        raise ConfigError(
            f"{name} has no nodes: dump them with kubectl get nodes,pods,services,endpointslices -A -o json"
        )
    addresses = [node.address for node in nodes]
    on_nodes = {node.name: node.address for node in nodes}
    pods, by_ip = _pods(found, set(on_nodes))
    space, subnet, peers = networks_of(found, addresses)
    profile = found.aks.get("networkProfile") or {}
    proxy = _kube_proxy(found)
    mode = addressing_of(found, profile, all(node.cidr for node in nodes))
    private = mode in (None, Addressing.KUBENET, Addressing.OVERLAY)
    cidrs = [node.cidr or _part_of_pods(pods, node.name) if private else node.cidr for node in nodes]
    whole = private and all(cidrs)
    pod_cidr = _pod_cidr(found, profile, proxy, [cidr for cidr in cidrs if cidr] if private else [])
    pod_subnet = pod_subnet_of(found, pods) if mode is Addressing.POD_SUBNET else None
    spaces = [*space]
    for needed in (pod_subnet or "10.241.0.0/16",):
        if not inside(needed, spaces):
            spaces.append(needed)
    if mode is not None:
        ranges = {
            node.name: cidr if private else pod_subnet if mode is Addressing.POD_SUBNET else subnet
            for node, cidr in zip(nodes, cidrs, strict=True)
        }
        pods = _within(found, pods, ranges)
    host = _host(space[0], set(addresses) | set(by_ip))
    found.notes.append(f"vnet-host {host.ip} is made up: it stands for whatever else is in the VNet")
    frontends, ports, idle = outbound_of(found, profile)
    return Topology(
        nodes=tuple(on_nodes.items()),
        hosts=(host,),
        node_subnet=subnet,
        pod_cidr=pod_cidr,
        pod_cidrs=tuple(cidr for cidr in cidrs if cidr) if whole else (),
        pod_subnet=pod_subnet or "10.241.0.0/16",
        address_space=tuple(spaces),
        peers=tuple(peer for peer in peers if not any(overlap(peer, own) for own in spaces)),
        pods=tuple(pods),
        services=tuple(_services(found, by_ip | {ip: node for node, ip in on_nodes.items()})),
        routes=tuple(routes_of(found)),
        frontends=frontends,
        outbound_ports=ports,
        idle_timeout_s=idle,
        conntrack_max=_conntrack_max(nodes, proxy),
        max_pods=max(node.max_pods for node in nodes) or 30,
        addressing=mode,
        non_masquerade=_non_masquerade(found),
        dual_stack=any(node.dual_stack for node in nodes),
    )


def _nodes(found: Dump) -> Iterable[_Node]:
    for item in found.objects["Node"]:
        labels = item["metadata"].get("labels") or {}
        if labels.get("kubernetes.io/os", "linux") != "linux":
            found.skipped["Node that is not Linux"] += 1
            continue
        addresses = [a["address"] for a in item["status"]["addresses"] if a["type"] == "InternalIP"]
        address = next(filter(is_address, addresses), None)
        if address is None:
            found.skipped["Node without an IPv4 InternalIP"] += 1
            continue
        spec, capacity = item.get("spec", {}), item["status"].get("capacity", {})
        cidrs = [spec.get("podCIDR"), *(spec.get("podCIDRs") or ())]
        yield _Node(
            name=item["metadata"]["name"],
            address=address,
            cidr=next((cidr for cidr in cidrs if cidr and CIDR.fullmatch(cidr)), None),
            cpus=int(str(capacity.get("cpu", 0))) if str(capacity.get("cpu", 0)).isdecimal() else 0,
            max_pods=int(capacity.get("pods", 0)),
            dual_stack=any(":" in cidr for cidr in cidrs if cidr),
        )


def _pod_cidr(found: Dump, profile: dict[str, Any], proxy: dict[str, str], parts: list[str]) -> str:
    said = [
        profile.get("podCidr"),
        *(profile.get("podCidrs") or ()),
        *proxy.get("clusterCIDR", "").split(","),
    ]
    told: str | None = next((cidr for cidr in said if cidr and CIDR.fullmatch(cidr)), None)
    if told is not None:
        return told
    if parts:
        return around(parts)
    found.notes.append("no pod CIDR: 10.244.0.0/16 where a mode needs one")
    return "10.244.0.0/16"


def _within(found: Dump, pods: list[PodSite], ranges: dict[str, str | None]) -> list[PodSite]:
    """The pods, without an address where theirs is not of their node's range; then they get another."""
    kept = []
    for pod in pods:
        prefix = ranges[pod.node]
        out = prefix is not None and pod.ip is not None and not inside(f"{pod.ip}/32", (prefix,))
        kept.append(replace(pod, ip=None) if out else pod)
    strangers = sum(a.ip != b.ip for a, b in zip(pods, kept, strict=True))
    if strangers:
        found.notes.append(
            f"{strangers:,} pods have addresses that are not of their node's range: they get others"
        )
    return kept


def _part_of_pods(pods: list[PodSite], node: str) -> str | None:
    """With Azure CNI Overlay no Node says its part of the pods' CIDR; its pods do: a /24."""
    ips = [pod.ip for pod in pods if pod.node == node and pod.ip]
    if not ips:
        return None
    prefix = f"{ips[0].rpartition('.')[0]}.0/24"
    return prefix if all(inside(f"{ip}/32", (prefix,)) for ip in ips) else None


def _kube_proxy(found: Dump) -> dict[str, str]:
    """Fields of kube-proxy's own ConfigMap, by their names alone: `clusterCIDR`, `mode`, `maxPerCore`, `min`."""
    fields: dict[str, str] = {}
    for item in found.objects["ConfigMap"]:
        if item["metadata"]["name"] == "kube-proxy":
            for text in (item.get("data") or {}).values():
                for key, value in FIELD.findall(text):
                    if value not in ("null", '""'):
                        fields.setdefault(key, value.strip("\"'"))
    if fields.get("mode", "iptables") != "iptables":
        found.notes.append(
            f"kube-proxy's mode {fields['mode']} is not modelled: services are as mode iptables has them"
        )
    return fields


FIELD = re.compile(r"^ *(clusterCIDR|mode|maxPerCore|min): *(\S+)", re.MULTILINE)


def _conntrack_max(nodes: list[_Node], proxy: dict[str, str]) -> tuple[int, ...]:
    """As kube-proxy sets nf_conntrack_max: 32768 for each core, 131072 at the least; empty if cores are not told."""
    each, least = (
        int(proxy[key]) if proxy.get(key, "").isdecimal() else default
        for key, default in (("maxPerCore", 32768), ("min", 131072))
    )
    return tuple(max(each * node.cpus, least, 1) for node in nodes) if all(n.cpus for n in nodes) else ()


def _host(space: str, taken: set[str]) -> VnetHost:
    """A host at the end of an address space."""
    network, length = ipv4_prefix(space)
    for address in range(network + (1 << 32 - length) - 2, network, -1):
        if (ip := ipv4_text(address)) not in taken:
            return VnetHost(name="vnet-host", ip=ip)
    raise ConfigError(f"address space {space} has no address left for a host beside the nodes and pods")


def _pods(found: Dump, nodes: set[str]) -> tuple[list[PodSite], dict[str, str]]:
    pods, by_ip = [], {}
    for item in found.objects["Pod"]:
        spec, status = item["spec"], item.get("status", {})
        ips = [status.get("podIP"), *(row.get("ip") for row in status.get("podIPs") or ())]
        ip = next(filter(is_address, ips), None)
        if spec.get("hostNetwork"):
            found.skipped["Pod with hostNetwork"] += 1
        elif status.get("phase") != "Running":
            found.skipped["Pod that does not run"] += 1
        elif ip is None:
            found.skipped["Pod without an IPv4 address"] += 1
        elif spec.get("nodeName") not in nodes:
            found.skipped["Pod on a node that is not there"] += 1
        else:
            ports = tuple(
                HostPort(
                    port=row["hostPort"],
                    pod_port=row["containerPort"],
                    protocol=row.get("protocol", "TCP").lower(),
                    host_ip=row.get("hostIP") if row.get("hostIP") not in (None, "", "0.0.0.0") else None,
                )
                for container in spec.get("containers", ())
                for row in container.get("ports", ())
                if row.get("hostPort")
            )
            pods.append(PodSite(name=_name(item), node=spec["nodeName"], host_ports=ports, ip=ip))
            by_ip[ip] = _name(item)
    return pods, by_ip


def _services(found: Dump, by_ip: dict[str, str]) -> Iterable[ServiceSite]:
    slices: dict[str, list[dict[str, Any]]] = {}
    for item in found.objects["EndpointSlice"]:
        labels = item["metadata"].get("labels") or {}
        owner = labels.get("kubernetes.io/service-name")
        if owner is None or item.get("addressType") != "IPv4":
            found.skipped["EndpointSlice of no service, or not IPv4"] += 1
            continue
        slices.setdefault(f"{item['metadata'].get('namespace', 'default')}/{owner}", []).append(item)
    for item in found.objects["Service"]:
        spec = item["spec"]
        cluster_ip = next(filter(is_address, [spec.get("clusterIP"), *(spec.get("clusterIPs") or ())]), None)
        if cluster_ip is None:
            headless = spec.get("clusterIP") == "None"
            kind = "Service that is headless" if headless else "Service without an IPv4 cluster IP"
            found.skipped[kind] += 1
            continue
        annotations = item["metadata"].get("annotations") or {}
        if "auto" in (str(annotations.get(key, "")).lower() for key in TOPOLOGY_MODE):
            found.skipped["Service's topology-mode"] += 1
        name = f"{item['metadata'].get('namespace', 'default')}/{item['metadata']['name']}"
        ingress = (item.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
        affinity = None
        if spec.get("sessionAffinity") == "ClientIP":
            affinity = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get(
                "timeoutSeconds", 10800
            )
        for port in spec.get("ports") or ():
            yield ServiceSite(
                name=name,
                cluster_ip=cluster_ip,
                port=port["port"],
                endpoints=tuple(_endpoints(slices.get(name, ()), port, by_ip, terminating=False)),
                terminating=tuple(_endpoints(slices.get(name, ()), port, by_ip, terminating=True)),
                protocol=port.get("protocol", "TCP").lower(),
                node_port=port.get("nodePort"),
                external_ips=tuple(spec.get("externalIPs") or ()),
                # one whose mode is Proxy is kube-proxy's business no more
                load_balancer_ips=tuple(
                    row["ip"] for row in ingress if row.get("ip") and row.get("ipMode") != "Proxy"
                ),
                source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()),
                external_traffic_policy=TrafficPolicy(spec.get("externalTrafficPolicy") or "Cluster"),
                internal_traffic_policy=TrafficPolicy(spec.get("internalTrafficPolicy") or "Cluster"),
                affinity_s=affinity,
            )


def _endpoints(
    slices: Iterable[dict[str, Any]],
    port: dict[str, Any],
    by_ip: dict[str, str],
    *,
    terminating: bool,
) -> Iterable[tuple[str, int]]:
    """The ready ones, or those that terminate but still serve."""
    for part in slices:
        numbers = [
            row["port"]
            for row in part.get("ports") or ()
            if (row.get("name") or "") == (port.get("name") or "") and row.get("port")
        ]
        for endpoint in part.get("endpoints") or ():
            said = endpoint.get("conditions") or {}
            ready = said.get("ready") is not False
            if terminating and not (not ready and said.get("serving") and said.get("terminating")):
                continue
            if not terminating and not ready:
                continue
            for address in endpoint[
                "addresses"
            ]:  # the API server's, a node's for pods of the host's network, a pod's
                yield from ((by_ip.get(address, address), number) for number in numbers)


def _non_masquerade(found: Dump) -> tuple[str, ...] | None:
    """What the masquerade agents' ConfigMaps leave alone; None without one."""
    cidrs: list[str] = []
    seen = link_local = False
    for item in found.objects["ConfigMap"]:
        if item["metadata"]["name"] not in MASQ_AGENTS:
            if item["metadata"]["name"] != "kube-proxy":
                found.skipped["ConfigMap of another kind"] += 1
            continue
        seen = True
        for text in (item.get("data") or {}).values():
            text = re.sub(r"(^|\s)#.*", "", text)  # YAML's comments; JSON has none
            cidrs += [cidr for cidr in CIDR.findall(text) if is_prefix(cidr) and cidr not in cidrs]
            link_local |= not re.search(r"masqLinkLocal\"?\s*:\s*true", text)
    if seen and link_local and LINK_LOCAL not in cidrs:
        cidrs.append(LINK_LOCAL)
    return tuple(cidrs) if seen else None
