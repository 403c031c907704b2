"""What a cluster takes up of what is limited: VNet addresses, routes, outbound ports, connections; node by node."""

from __future__ import annotations

from dataclasses import dataclass

from .aks_limit import SURGE, pod_batches, room
from .cluster import Cluster
from .topology import Addressing, Topology
from .vnet import MAX_USER_ROUTES
from .workload import Load

__all__ = ["Consumption", "Share", "consumption_of"]


@dataclass(frozen=True, kw_only=True)
class Share:
    """So much of so many; limit 0: there is none."""

    used: int
    limit: int

    @property
    def headroom(self) -> float:
        """What is left, of 1."""
        return 1 - self.used / self.limit if self.limit else 1.0


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """What a cluster takes up.

    Attributes
    ----------
    vnet_addresses : int
        Of nodes and, where they have such, pods.
    vnet_addresses_reserved : Share
        With room for all pods that nodes may have and one node more in an upgrade, of the subnets that they are in.
    routes : Share
        User-defined ones, of a route table's 400.
    snat_ports : dict of str to Share
        Node -> outbound ports of the load balancer at the most, of what the node has.
    connections : dict of str to Share
        Node -> conntrack entries at the most, of its nf_conntrack_max.
    load : Load
        The traffic in which these were the most.
    """

    vnet_addresses: int
    vnet_addresses_reserved: Share
    routes: Share
    snat_ports: dict[str, Share]
    connections: dict[str, Share]
    load: Load

    @property
    def fullest_snat(self) -> tuple[str, Share]:
        """The node that has least outbound ports left; an empty name without a load balancer."""
        return _fullest(self.snat_ports)

    @property
    def fullest_connections(self) -> tuple[str, Share]:
        """The node whose connection table is fullest."""
        return _fullest(self.connections)


def _fullest(shares: dict[str, Share]) -> tuple[str, Share]:
    return min(shares.items(), key=lambda item: item[1].headroom, default=("", Share(used=0, limit=0)))


def consumption_of(topology: Topology, mode: Addressing, cluster: Cluster, load: Load) -> Consumption:
    """Add up what a cluster has taken after it has carried `load`."""
    nodes, pods = len(cluster.nodes), len(topology.pods)
    direct = mode in (Addressing.NODE_SUBNET, Addressing.POD_SUBNET)
    reserved, space = nodes + SURGE, room(topology.node_subnet)
    if mode is Addressing.NODE_SUBNET:
        reserved += (nodes + SURGE) * topology.max_pods
    elif mode is Addressing.POD_SUBNET:
        count = dict.fromkeys((name for name, _ in topology.nodes), 0)
        for pod in topology.pods:
            count[pod.node] += 1
        reserved += pod_batches(count.values())
        space += room(topology.pod_subnet)
    snat = cluster.fabric.snat
    ports = snat.ports if snat is not None else 0
    return Consumption(
        vnet_addresses=nodes + pods * direct,
        vnet_addresses_reserved=Share(used=reserved, limit=space),
        routes=Share(used=_routes(topology, mode, cluster), limit=MAX_USER_ROUTES),
        snat_ports={name: Share(used=used, limit=ports) for name, used in load.snat_ports.items()},
        connections={
            name: Share(used=used, limit=cluster.nodes[name].config.conntrack_max)
            for name, used in load.connections.items()
        },
        load=load,
    )


def _routes(topology: Topology, mode: Addressing, cluster: Cluster) -> int:
    """The table's, and with kubenet one more for each node that has IPv6 pods."""
    more = len(cluster.nodes) if mode is Addressing.KUBENET and topology.dual_stack else 0
    return len(cluster.vnet.routes) + more
