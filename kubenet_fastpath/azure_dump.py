"""What `az aks show`, `az network vnet show` and `az network route-table show` tell of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .dump import Dump, around, inside, is_prefix
from .topology import Addressing, PodSite
from .vnet import HopKind, UserRoute

__all__ = ["addressing_of", "networks_of", "outbound_of", "pod_subnet_of", "routes_of"]

MADE_UP = "20.1.2."  #: public addresses of a load balancer; az aks show has their resource ids alone
PLUGINS: dict[tuple[str | None, str | None], Addressing] = {
    ("kubenet", None): Addressing.KUBENET,
    ("azure", "overlay"): Addressing.OVERLAY,
}


def addressing_of(found: Dump, profile: dict[str, Any], whole: bool) -> Addressing | None:
    """What az aks show says, or else what nodes with pod CIDRs look like."""
    plugin = (profile.get("networkPlugin"), profile.get("networkPluginMode") or None)
    mode = PLUGINS.get(plugin)
    if plugin[0] == "azure" and mode is None:
        pools = found.aks.get("agentPoolProfiles") or []
        dynamic = any(pool.get("podSubnetId") or pool.get("podSubnetID") for pool in pools)
        mode = Addressing.POD_SUBNET if dynamic else Addressing.NODE_SUBNET
    if profile.get("networkDataplane") == "cilium":
        found.notes.append("Cilium's own datapath is not modelled: nodes are those of Azure CNI without it")
    if mode is None:
        mode = Addressing.KUBENET if whole else None
        found.notes.append(
            f"no az aks show: taken for {mode.value if mode else 'no addressing mode in particular'}"
        )
    return mode


def pod_subnet_of(found: Dump, pods: list[PodSite]) -> str | None:
    """The pods' subnet: which one the node pools say, or else the least prefix around the pods."""
    pools = found.aks.get("agentPoolProfiles") or []
    ids = {str(pool.get("podSubnetId") or pool.get("podSubnetID")).lower() for pool in pools}
    for subnet in found.vnet.get("subnets") or ():
        prefix = _prefix_of(subnet)
        if prefix and str(subnet.get("id")).lower() in ids:
            return prefix
    ips = [f"{pod.ip}/32" for pod in pods if pod.ip]
    if not ips:
        return None
    least = around(ips)
    found.notes.append(
        f"the pods' subnet is not among those of az network vnet show: {least} is taken for it"
    )
    return least


def outbound_of(found: Dump, profile: dict[str, Any]) -> tuple[tuple[str, ...], int, float]:
    """The load balancer's addresses, which are made up, ports of a node, and idle timeout in seconds."""
    kind = profile.get("outboundType") or "loadBalancer"
    if kind != "loadBalancer":
        found.notes.append(f"outboundType {kind}: a load balancer with one address stands for it")
        return (f"{MADE_UP}3",), 0, 1800
    balancer = profile.get("loadBalancerProfile") or {}
    count = len(balancer.get("effectiveOutboundIPs") or balancer.get("effectiveOutboundIps") or ()) or int(
        (balancer.get("managedOutboundIPs") or balancer.get("managedOutboundIps") or {}).get("count") or 1
    )
    idle = float(balancer.get("idleTimeoutInMinutes") or 30) * 60
    addresses = tuple(f"{MADE_UP}{k + 3}" for k in range(min(count, 250)))
    return addresses, int(balancer.get("allocatedOutboundPorts") or 0), idle


def routes_of(found: Dump) -> Iterable[UserRoute]:
    for row in found.routes:
        hop = HopKind(row["nextHopType"])
        if not is_prefix(row["addressPrefix"]):
            found.skipped["Route to a service tag, or not IPv4"] += 1
            continue
        address = row.get("nextHopIpAddress") if hop is HopKind.APPLIANCE else None
        yield UserRoute(prefix=row["addressPrefix"], hop=hop, address=address, name=row.get("name", ""))


def _prefix_of(subnet: dict[str, Any]) -> str | None:
    prefixes = [subnet.get("addressPrefix"), *(subnet.get("addressPrefixes") or ())]
    return next((prefix for prefix in prefixes if prefix and is_prefix(prefix)), None)


def networks_of(found: Dump, nodes: list[str]) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """The VNet's address space, the nodes' subnet, and the address spaces of peered VNets."""
    if not found.vnet:
        subnet_text = around([f"{address}/32" for address in nodes], 16)
        found.notes.append(
            f"no az network vnet show: {subnet_text} is taken for the nodes' subnet, and for the VNet"
        )
        return (subnet_text,), subnet_text, ()
    space = tuple(filter(is_prefix, found.vnet["addressSpace"]["addressPrefixes"]))
    peers: list[str] = []
    for peering in found.vnet.get("virtualNetworkPeerings") or ():
        remote = peering.get("remoteAddressSpace") or peering.get("remoteVirtualNetworkAddressSpace") or {}
        peers += [p for p in remote.get("addressPrefixes") or () if is_prefix(p) and p not in peers]
    for subnet in found.vnet.get("subnets") or ():
        prefix = _prefix_of(subnet)
        if prefix and all(inside(f"{address}/32", (prefix,)) for address in nodes):
            return space, prefix, tuple(peers)
    found.notes.append("no subnet of the VNet holds all nodes: the least prefix around them is taken for it")
    return space, around([f"{address}/32" for address in nodes], 16), tuple(peers)
