"""The same cluster under other names and addresses, so that it can be shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .address import ipv4, ipv4_prefix, ipv4_text, prefix_text
from .dump import inside
from .topology import PodSite, Topology
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
    addresses = {
        address: ipv4_text(base + 4 + k) for k, (_, address) in enumerate(topology.nodes)
    }  # of the nodes
    pods = {pod.name: f"pod-{k}" for k, pod in enumerate(topology.pods, 1)}
    services: dict[str, int] = {}  # without source ranges: these would say who the clients are
    outside: dict[str, int] = {}
    elsewhere: dict[str, int] = {}  # endpoints that are neither pods nor nodes
    for site in topology.services:
        services.setdefault(site.name, len(services) + 1)
        for address in (*site.external_ips, *site.load_balancer_ips):
            outside.setdefault(address, len(outside) + 1)
        for name, _ in (*site.endpoints, *site.terminating):
            if name not in pods and name not in nodes:
                elsewhere.setdefault(name, len(elsewhere) + 1)
    places = nodes | pods | {name: ipv4_text(ipv4("20.2.0.0") + k) for name, k in elsewhere.items()}

    def endpoints(rows: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
        return tuple((places[name], port) for name, port in rows)

    return Topology(
        nodes=tuple((nodes[name], addresses[address]) for name, address in topology.nodes),
        node_subnet=prefix_text(base, length),
        pods=tuple(
            PodSite(
                name=pods[pod.name],
                node=nodes[pod.node],
                host_ports=tuple(
                    replace(row, host_ip=addresses.get(row.host_ip or "")) for row in pod.host_ports
                ),
            )
            for pod in topology.pods
        ),
        services=tuple(
            replace(
                site,
                name=f"default/service-{services[site.name]}",
                cluster_ip=ipv4_text(ipv4("10.0.0.0") + services[site.name]),
                endpoints=endpoints(site.endpoints),
                terminating=endpoints(site.terminating),
                external_ips=tuple(ipv4_text(ipv4("20.1.0.0") + outside[ip]) for ip in site.external_ips),
                load_balancer_ips=tuple(
                    ipv4_text(ipv4("20.1.0.0") + outside[ip]) for ip in site.load_balancer_ips
                ),
                source_ranges=(),
            )
            for site in topology.services
        ),
        hosts=tuple(_hosts(topology)),
        peers=tuple(f"10.{PEERS + k}.0.0/16" for k, _ in enumerate(topology.peers)),
        routes=tuple(
            UserRoute(
                prefix=route.prefix, hop=route.hop, address=None if route.address is None else "10.227.255.4"
            )
            for route in topology.routes
            if route.prefix == "0.0.0.0/0"
        ),
        frontends=tuple(ipv4_text(ipv4("20.3.0.0") + k + 1) for k, _ in enumerate(topology.frontends)),
        outbound_ports=topology.outbound_ports,
        idle_timeout_s=topology.idle_timeout_s,
        conntrack_max=topology.conntrack_max,
        max_pods=topology.max_pods,
        addressing=topology.addressing,
        dual_stack=topology.dual_stack,
        non_masquerade=_left_alone(topology, prefix_text(base, length)),
    )


PEERS = 100  #: 10.100.0.0/16 and on


def _hosts(topology: Topology) -> Iterator[VnetHost]:
    """Hosts of the VNet, outside the nodes' subnet, and of peers, in these."""
    for k, host in enumerate(topology.hosts, 1):
        at = [n for n, peer in enumerate(topology.peers) if inside(f"{host.ip}/32", (peer,))]
        network = f"10.{PEERS + at[0]}.0.0" if at else "10.227.0.0"
        yield VnetHost(name=f"host-{k}", ip=ipv4_text(ipv4(network) + k))


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
