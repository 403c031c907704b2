"""Classes of traffic that a cluster has the places for: what each looks like, and how much of it a cluster sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from .address import ipv4, ipv4_prefix
from .topology import ServiceSite, Topology
from .traffic import INTERNET_HOST, TCP, UDP, Flow

__all__ = ["TrafficClass", "built_in_flows", "traffic_classes"]

AZURE_DNS = "168.63.129.16"
ENOUGH = 256  #: flows of a class, from places all over the cluster
#: Of a hundred connections, how many are of a class: name resolution first, then services, as clusters have it.
SHARES = {
    "pod to cluster DNS": 30,
    "pod to service, endpoint on same node": 13,
    "pod to service, endpoint on other node": 16,
    "pod to service, endpoints on several nodes": 10,
    "pod to itself by service": 1,
    "pod to pod, same node": 3,
    "pod to pod, other node": 5,
    "pod to node": 0,  # no process of a node speaks
    "pod to VNet host": 7,
    "pod to peered VNet": 3,
    "pod to Azure DNS": 3,
    "pod to internet": 10,
    "pod to internet, UDP": 2,
    "VNet host to node port (Cluster)": 2,
    "VNet host to node port (Local)": 1,
    "internet to service (Cluster)": 4,
    "internet to service (Local)": 3,
    "VNet host to pod": 1,
}
MANY = "pod to service, endpoints on several nodes"  #: which one is drawn: in a mix only


@dataclass(frozen=True, kw_only=True)
class TrafficClass:
    """Flows that differ in nothing but their places; the first stands for all."""

    label: str
    share: int
    flows: tuple[Flow, ...]


def traffic_classes(topology: Topology) -> tuple[TrafficClass, ...]:
    """The classes that a topology has the places for, each with flows from all over it; first one of the first node."""
    home = {pod.name for pod in topology.pods if pod.node == topology.nodes[0][0]}
    found: dict[str, list[Flow]] = {}
    for flow in _flows(topology):
        row = found.setdefault(flow.label, [])
        if flow.src in home and row and row[0].src not in home:
            row.insert(0, flow)
        elif len(row) < ENOUGH:
            row.append(flow)
    return tuple(
        TrafficClass(label=label, share=SHARES[label], flows=tuple(found[label]))
        for label in sorted(found, key=list(ORDER).index)
    )


def built_in_flows(topology: Topology) -> tuple[Flow, ...]:
    """One flow of each class that a cluster has the places for."""
    return tuple(row.flows[0] for row in traffic_classes(topology) if row.label != MANY)


ORDER = (
    "pod to pod, same node",
    "pod to pod, other node",
    "pod to node",
    "pod to VNet host",
    "pod to peered VNet",
    "pod to Azure DNS",
    "pod to internet",
    "pod to internet, UDP",
    "pod to cluster DNS",
    "pod to service, endpoint on same node",
    "pod to service, endpoint on other node",
    MANY,
    "pod to itself by service",
    "VNet host to node port (Cluster)",
    "VNet host to node port (Local)",
    "internet to service (Cluster)",
    "internet to service (Local)",
    "VNet host to pod",
)
assert set(ORDER) == set(SHARES)


def _flows(topology: Topology) -> Iterator[Flow]:
    """All kinds, node by node; those of the first node come first."""
    on: dict[str, list[str]] = {name: [] for name, _ in topology.nodes}
    for pod in topology.pods:
        on[pod.node].append(pod.name)
    nodes = list(on)
    peers = list(map(ipv4_prefix, topology.peers))
    hosts: list[str] = []
    peered: list[str] = []
    for host in topology.hosts:
        away = any(not (ipv4(host.ip) ^ network) >> 32 - length for network, length in peers)
        (peered if away else hosts).append(host.name)
    for k, node in enumerate(nodes):
        here, there = on[node], on[nodes[(k + 1) % len(nodes)]] if len(nodes) > 1 else []
        for i, name in enumerate(here):
            if i + 1 < len(here):
                yield Flow(label="pod to pod, same node", src=name, dst=here[i + 1], port=8080)
            if there:
                yield Flow(label="pod to pod, other node", src=name, dst=there[i % len(there)], port=8080)
            if len(nodes) > 1:
                to = f"node:{nodes[(k + 1) % len(nodes)]}"
                yield Flow(label="pod to node", src=name, dst=to, port=10250)
            yield from _outside(name, hosts, peered)
    yield from _services(topology, on, hosts)
    for sender in hosts:
        for pods in on.values():
            yield from (Flow(label="VNet host to pod", src=sender, dst=name, port=8080) for name in pods)


def _outside(pod: str, hosts: list[str], peered: list[str]) -> Iterator[Flow]:
    for label, names in (("pod to VNet host", hosts), ("pod to peered VNet", peered)):
        yield from (Flow(label=label, src=pod, dst=name, port=1433) for name in names[:1])
    yield Flow(label="pod to Azure DNS", src=pod, dst=AZURE_DNS, port=53, proto=UDP)
    yield Flow(label="pod to internet", src=pod, dst=INTERNET_HOST, port=443)
    yield Flow(label="pod to internet, UDP", src=pod, dst=INTERNET_HOST, port=443, proto=UDP)


def _services(topology: Topology, on: dict[str, list[str]], hosts: list[str]) -> Iterator[Flow]:
    node_of = {pod.name: pod.node for pod in topology.pods} | {name: name for name, _ in topology.nodes}
    for service in sorted(topology.services, key=lambda s: len({node_of.get(n, n) for n, _ in s.endpoints})):
        if service.protocol == "sctp" or not service.endpoints:
            continue
        backends = {name for name, _ in service.endpoints}
        made = Flow(
            label="",
            src="",
            dst=f"service:{service.name}",
            port=service.port,
            proto=UDP if service.protocol == "udp" else TCP,
        )
        yield from _inside(service, made, on, node_of)
        if len(backends) == 1 and backends <= set(node_of) - set(on):
            yield replace(made, label="pod to itself by service", src=next(iter(backends)))
        policy = service.external_traffic_policy.value
        if service.node_port is not None and hosts:
            for node in on:
                label = f"VNet host to node port ({policy})"
                if policy == "Cluster" or node in {node_of.get(name) for name in backends}:
                    yield replace(made, label=label, src=hosts[0], dst=f"node:{node}", port=service.node_port)
        if service.outside:
            label = f"internet to service ({policy})"
            yield replace(made, label=label, src="internet", dst=f"external:{service.name}")


def _inside(
    service: ServiceSite, made: Flow, on: dict[str, list[str]], node_of: dict[str, str]
) -> Iterable[Flow]:
    """A service's clients: pods that are none of its endpoints."""
    backends = {name for name, _ in service.endpoints}
    at = {node_of.get(name, name) for name in backends}
    for node, pods in on.items():
        where = "same" if node in at else "other"
        label = MANY if len(at) > 1 else f"pod to service, endpoint on {where} node"
        if service.port == 53 and node not in at:
            label = "pod to cluster DNS"
        yield from (replace(made, label=label, src=pod) for pod in pods if pod not in backends)
