"""A cluster in the words of `kubectl get -o json` and `az ... show`, and the topology that they describe.

Longer than its neighbours: it knows the fields of nine kinds of objects, and what each is when it is not there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .address import ipv4, ipv4_prefix, ipv4_text, prefix_text
from .errors import AddressError, ConfigError
from .service import HostPort, TrafficPolicy
from .topology import Addressing, PodSite, ServiceSite, Topology
from .vnet import HopKind, UserRoute, VnetHost

__all__ = ["DUMPS", "Dump", "dumped_topology"]

DUMPS = ("Node", "Pod", "Service", "EndpointSlice", "ConfigMap")
MASQ_AGENTS = ("ip-masq-agent", "azure-ip-masq-agent-config", "azure-ip-masq-agent-config-reconciled")
CIDR = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}/\d{1,2}")
PLUGINS: dict[tuple[str | None, str | None], Addressing] = {
    ("kubenet", None): Addressing.KUBENET,
    ("azure", "overlay"): Addressing.OVERLAY,
}


@dataclass
class Dump:
    """What dumps held, by kind; `skipped` and `notes` grow while it is read."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in DUMPS})
    aks: dict[str, Any] = field(default_factory=dict)
    vnet: dict[str, Any] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def _is_ipv4(text: Any) -> bool:
    try:
        ipv4(text)
    except (AddressError, TypeError):
        return False
    return True


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
    nodes, cidrs, max_pods = [], [], 0
    for item in found.objects["Node"]:
        addresses = [a["address"] for a in item["status"]["addresses"] if a["type"] == "InternalIP"]
        address = next(filter(_is_ipv4, addresses), None)
        if address is None:
            found.skipped["Node without an IPv4 InternalIP"] += 1
            continue
        nodes.append((item["metadata"]["name"], address))
        cidr = item.get("spec", {}).get("podCIDR")
        cidrs.append(cidr if cidr and CIDR.fullmatch(cidr) else None)
        max_pods = max(max_pods, int(item["status"].get("capacity", {}).get("pods", 0)))
    if not nodes:
        raise ConfigError(
            f"{name} has no nodes: dump them with kubectl get nodes,pods,services,endpointslices -A -o json"
        )
    pods, by_ip = _pods(found, {node for node, _ in nodes})
    whole = all(cidr is not None for cidr in cidrs)
    space, subnet = _networks(found, [address for _, address in nodes])
    profile = found.aks.get("networkProfile") or {}
    plugin = (profile.get("networkPlugin"), profile.get("networkPluginMode"))
    mode = PLUGINS.get(plugin)
    pools = found.aks.get("agentPoolProfiles") or []
    if plugin[0] == "azure" and mode is None:
        dynamic = any(pool.get("podSubnetId") or pool.get("podSubnetID") for pool in pools)
        mode = Addressing.POD_SUBNET if dynamic else Addressing.NODE_SUBNET
    if mode is None:
        mode = Addressing.KUBENET if whole else None
        found.notes.append(
            f"no az aks show: taken for {mode.value if mode else 'no addressing mode in particular'}"
        )
    pod_cidr = profile.get("podCidr") or (_around(list(filter(None, cidrs))) if whole else None)
    if pod_cidr is None:
        pod_cidr = "10.244.0.0/16"
        found.notes.append(f"no pod CIDR: {pod_cidr} where a mode needs one")
    host = _host(space[0], {address for _, address in nodes} | set(by_ip))
    found.notes.append(f"vnet-host {host.ip} is made up: it stands for whatever else is in the VNet")
    return Topology(
        nodes=tuple(nodes),
        hosts=(host,),
        node_subnet=subnet,
        pod_cidr=pod_cidr,
        pod_cidrs=tuple(filter(None, cidrs)) if whole else (),
        address_space=(*space, *(() if inside("10.241.0.0/16", space) else ("10.241.0.0/16",))),
        pods=tuple(pods),
        services=tuple(_services(found, by_ip)),
        routes=tuple(_routes(found)),
        max_pods=max_pods or 30,
        addressing=mode,
        non_masquerade=_non_masquerade(found),
    )


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
        if spec.get("hostNetwork"):
            found.skipped["Pod with hostNetwork"] += 1
        elif status.get("phase") != "Running" or not _is_ipv4(status.get("podIP")):
            found.skipped["Pod that does not run"] += 1
        elif spec.get("nodeName") not in nodes:
            found.skipped["Pod on a node that is not there"] += 1
        else:
            ports = tuple(
                HostPort(
                    port=row["hostPort"],
                    pod_port=row["containerPort"],
                    protocol=row.get("protocol", "TCP").lower(),
                )
                for container in spec.get("containers", ())
                for row in container.get("ports", ())
                if row.get("hostPort")
            )
            pods.append(
                PodSite(name=_name(item), node=spec["nodeName"], host_ports=ports, ip=status["podIP"])
            )
            by_ip[status["podIP"]] = _name(item)
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
        if not _is_ipv4(spec.get("clusterIP")):
            found.skipped["Service without an IPv4 cluster IP"] += 1
            continue
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
                cluster_ip=spec["clusterIP"],
                port=port["port"],
                endpoints=tuple(_endpoints(slices.get(name, ()), port, by_ip, found, False)),
                terminating=tuple(_endpoints(slices.get(name, ()), port, by_ip, found, True)),
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
    found: Dump,
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
            for address in endpoint["addresses"]:
                if address not in by_ip:
                    found.skipped["Endpoint that is no pod of the cluster's own"] += not terminating
                    continue
                yield from ((by_ip[address], number) for number in numbers)


def _routes(found: Dump) -> Iterable[UserRoute]:
    for row in found.routes:
        hop = HopKind(row["nextHopType"])
        if not _is_prefix(row["addressPrefix"]):
            found.skipped["Route to a service tag, or not IPv4"] += 1
            continue
        address = row.get("nextHopIpAddress") if hop is HopKind.APPLIANCE else None
        yield UserRoute(prefix=row["addressPrefix"], hop=hop, address=address, name=row.get("name", ""))


def _is_prefix(text: Any) -> bool:
    try:
        ipv4_prefix(text)
    except (AddressError, TypeError):
        return False
    return True


def _networks(found: Dump, nodes: list[str]) -> tuple[tuple[str, ...], str]:
    """The VNet's address space, and the nodes' subnet."""
    if found.vnet:
        space = tuple(filter(_is_prefix, found.vnet["addressSpace"]["addressPrefixes"]))
        for subnet in found.vnet.get("subnets") or ():
            prefix = subnet.get("addressPrefix") or next(iter(subnet.get("addressPrefixes") or ()), None)
            if prefix and all(inside(f"{address}/32", (prefix,)) for address in nodes):
                return space, prefix
        found.notes.append(
            "no subnet of the VNet holds all nodes: the least prefix around them is taken for it"
        )
    subnet_text = _around([f"{address}/32" for address in nodes], 16)
    if found.vnet:
        return space, subnet_text
    found.notes.append(
        f"no az network vnet show: {subnet_text} is taken for the nodes' subnet, and for the VNet"
    )
    return (subnet_text,), subnet_text


def _around(prefixes: list[str], longest: int = 24) -> str:
    """The longest prefix, up to a length, that holds all of them."""
    pairs = [ipv4_prefix(prefix) for prefix in prefixes]
    length = min(longest, *(n for _, n in pairs)) if pairs else longest
    while any((network ^ pairs[0][0]) >> 32 - length for network, _ in pairs):
        length -= 1
    return prefix_text(pairs[0][0] >> 32 - length << 32 - length, length)


def inside(prefix: str, spaces: Iterable[str]) -> bool:
    """Whether one of the prefixes holds this one."""
    network, length = ipv4_prefix(prefix)
    return any(length >= n and not (network ^ net) >> 32 - n for net, n in map(ipv4_prefix, spaces))


def _non_masquerade(found: Dump) -> tuple[str, ...] | None:
    """What the masquerade agents' ConfigMaps leave alone; None without one."""
    cidrs: list[str] = []
    seen = False
    for item in found.objects["ConfigMap"]:
        if item["metadata"]["name"] not in MASQ_AGENTS:
            found.skipped["ConfigMap of another kind"] += 1
            continue
        seen = True
        for text in (item.get("data") or {}).values():
            cidrs += [cidr for cidr in CIDR.findall(text) if _is_prefix(cidr) and cidr not in cidrs]
    return tuple(cidrs) if seen else None
