"""The same cluster under other names and addresses, so that it can be shared."""

from __future__ import annotations

from .address import ipv4, ipv4_prefix, ipv4_text, prefix_text
from .cluster_dump import inside
from .topology import PodSite, ServiceSite, Topology
from .vnet import UserRoute, VnetHost

__all__ = ["redacted"]


def redacted(topology: Topology) -> Topology:
    """The same cluster with other names and addresses: it can be shared.

    Nodes, pods and services are numbered in their order, and have the addresses that Azure's defaults would give them;
    how many there are, who is where, ports and policies stay. Routes stay where they are a default route, and those to
    pods are made anew; a host has an address outside the nodes' subnet.
    """
    size = ipv4_prefix(topology.node_subnet)[1]
    length = min(size, 16) if len(topology.nodes) > 250 else max(16, min(size, 24))
    base = ipv4("10.224.0.0")
    nodes = {name: f"node-{k}" for k, (name, _) in enumerate(topology.nodes, 1)}
    pods = {pod.name: f"pod-{k}" for k, pod in enumerate(topology.pods, 1)}
    services: dict[str, int] = {}  # without source ranges: these would say who the clients are
    outside: dict[str, int] = {}
    for site in topology.services:
        services.setdefault(site.name, len(services) + 1)
        for address in (*site.external_ips, *site.load_balancer_ips):
            outside.setdefault(address, len(outside) + 1)
    return Topology(
        nodes=tuple((nodes[name], ipv4_text(base + 4 + k)) for k, (name, _) in enumerate(topology.nodes)),
        node_subnet=prefix_text(base, length),
        pods=tuple(
            PodSite(name=pods[pod.name], node=nodes[pod.node], host_ports=pod.host_ports)
            for pod in topology.pods
        ),
        services=tuple(
            ServiceSite(
                name=f"default/service-{services[site.name]}",
                cluster_ip=ipv4_text(ipv4("10.0.0.0") + services[site.name]),
                port=site.port,
                endpoints=tuple((pods[name], port) for name, port in site.endpoints),
                protocol=site.protocol,
                node_port=site.node_port,
                terminating=tuple((pods[name], port) for name, port in site.terminating),
                external_ips=tuple(
                    ipv4_text(ipv4("20.1.0.0") + outside[address]) for address in site.external_ips
                ),
                load_balancer_ips=tuple(
                    ipv4_text(ipv4("20.1.0.0") + outside[address]) for address in site.load_balancer_ips
                ),
                external_traffic_policy=site.external_traffic_policy,
                internal_traffic_policy=site.internal_traffic_policy,
                affinity_s=site.affinity_s,
            )
            for site in topology.services
        ),
        hosts=tuple(
            VnetHost(name=f"host-{k}", ip=ipv4_text(ipv4("10.227.0.0") + k))
            for k, _ in enumerate(topology.hosts, 1)
        ),
        routes=tuple(
            UserRoute(
                prefix=route.prefix, hop=route.hop, address=None if route.address is None else "10.227.255.4"
            )
            for route in topology.routes
            if route.prefix == "0.0.0.0/0"
        ),
        max_pods=topology.max_pods,
        addressing=topology.addressing,
        non_masquerade=_left_alone(topology, prefix_text(base, length)),
    )


def _left_alone(topology: Topology, subnet: str) -> tuple[str, ...] | None:
    """What is not masqueraded, as far as it is about nodes, pods and hosts."""
    if topology.non_masquerade is None:
        return None
    hosts = [f"{host.ip}/32" for host in topology.hosts]
    found = []
    for cidr in topology.non_masquerade:
        if inside(topology.node_subnet, (cidr,)):
            found.append("10.224.0.0/12" if all(inside(host, (cidr,)) for host in hosts) else subnet)
        if inside(topology.pod_cidr, (cidr,)):
            found.append("10.244.0.0/16")
    return tuple(dict.fromkeys(found))
