"""What a user says about a kubenet node and its pods: frozen, typed, checked. Text in; `plan` turns it into tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .address import ipv4, ipv4_prefix, ipv4_text, ipv6, ipv6_prefix, ipv6_text, mac
from .errors import ConfigError
from .node_config import Masquerade, Neighbour, NodeConfig, Route, check_pods6
from .service import HostPort

__all__ = ["Hairpin", "Kubenet", "Masquerade", "Neighbour", "NodeConfig", "Pod", "Route"]


class Hairpin(Enum):
    """How a pod reaches itself through a service (kubelet `--hairpin-mode`)."""

    PROMISC = "promiscuous-bridge"
    VETH = "hairpin-veth"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class _PodFields:
    ip: str | None = None
    ip6: str | None = None
    mac: str | None = None
    host_mac: str | None = None
    host_ports: tuple[HostPort, ...] = ()


@dataclass(frozen=True)
class Pod(_PodFields):
    """A pod to attach.

    Parameters
    ----------
    name : str
        Name of the pod, and of its port.
    ip : str, optional
        Address in the range of the node's pods; the next free one if omitted.
    ip6 : str, optional
        Likewise of IPv6, on a dual-stack node.
    mac : str, optional
        MAC of the pod's eth0; `0a:58` and the address if omitted, as CNI's hwaddr made it.
    host_mac : str, optional
        MAC of the host's end of the veth pair; if omitted `0e:58` and the address with kubenet, and
        `aa:aa:aa:aa:aa:aa` with Azure CNI.
    host_ports : tuple of HostPort
        Ports of the node that lead to this pod.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ConfigError(f"a pod needs a name without slashes, not {self.name!r}")
        if self.ip is not None:
            ipv4(self.ip)
        if self.ip6 is not None:
            ipv6(self.ip6)
        for text in (self.mac, self.host_mac):
            if text is not None and mac(text) >> 40 & 1:
                raise ConfigError(f"MAC {text} of pod {self.name} is a multicast address")


@dataclass(frozen=True, kw_only=True)
class Kubenet(NodeConfig):
    """An AKS node with kubenet: bridge cbr0, eth0 in the VNet, masquerading, br_netfilter.

    Parameters
    ----------
    node_ip, gateway, ...
        As for every node: see `NodeConfig`.
    pod_cidr : str
        This node's pods, e.g. `10.244.1.0/24`; cbr0 has its first address.
    cluster_cidr : str
        All pods.
    pod_cidr6, cluster_cidr6 : str, optional
        The same for IPv6, on a node that has it, e.g. a /80 of a /64; cbr0 has the first address.
    bridge_ip, bridge_mac : str, optional
        Of cbr0; the first address of the pod CIDR, and `0a:58` and that, if omitted.
    hairpin : Hairpin
        How a pod reaches itself through a service.
    dedup : bool, optional
        ebtables drop the routed duplicate; on for a promiscuous bridge if omitted.
    bridge_nf_call_iptables, bridge_nf_call_ip6tables : bool
        Bridged packets go through iptables, or ip6tables where the node has IPv6.
    group_fwd_mask : int
        Link-local groups that the bridge forwards.
    multicast_snooping : bool
        The bridge listens to IGMP: once there is a querier, a group's frames go to its members' ports alone.
    arp_notify : bool
        A pod announces itself when it is attached, so the bridge knows its MAC (CNI sets the sysctl).

    Raises
    ------
    AddressError, ConfigError
        For an address that is none, or values that contradict each other.

    Examples
    --------
    >>> Kubenet(node_ip="10.240.0.4", pod_cidr="10.244.1.0/24", cluster_cidr="10.244.0.0/16",
    ...         gateway="10.240.0.1").bridge_address
    '10.244.1.1'
    """

    pod_cidr: str
    cluster_cidr: str
    pod_cidr6: str | None = None
    cluster_cidr6: str | None = None
    bridge_ip: str | None = None
    bridge_mac: str | None = None
    hairpin: Hairpin = Hairpin.PROMISC
    dedup: bool | None = None
    bridge_nf_call_iptables: bool = True
    bridge_nf_call_ip6tables: bool = True
    group_fwd_mask: int = 0
    multicast_snooping: bool = True
    arp_notify: bool = True

    def __post_init__(self) -> None:
        node = self._node()[0]
        pods, pods_len = ipv4_prefix(self.pod_cidr)
        cluster, cluster_len = ipv4_prefix(self.cluster_cidr)
        if pods_len > 30:
            raise ConfigError(f"pod_cidr {self.pod_cidr} has no room for a bridge and a pod")
        if pods_len < cluster_len or (pods ^ cluster) >> (32 - cluster_len):
            raise ConfigError(f"pod_cidr {self.pod_cidr} is not inside cluster_cidr {self.cluster_cidr}")
        if not (node ^ cluster) >> (32 - cluster_len):
            raise ConfigError(f"node_ip {self.node_ip} is inside cluster_cidr {self.cluster_cidr}")
        if self.bridge_ip is not None and (ipv4(self.bridge_ip) ^ pods) >> (32 - pods_len):
            raise ConfigError(f"bridge_ip {self.bridge_ip} is not inside pod_cidr {self.pod_cidr}")
        if self.bridge_mac is not None and mac(self.bridge_mac) >> 40 & 1:
            raise ConfigError(f"MAC {self.bridge_mac} is a multicast address")
        if self.dedup and self.hairpin is not Hairpin.PROMISC:
            raise ConfigError(f"dedup goes with hairpin PROMISC, not {self.hairpin}")
        super().__post_init__()
        check_pods6(self, self.pod_cidr6, self.cluster_cidr6)

    @property
    def cluster6(self) -> str | None:
        """All IPv6 pods."""
        return self.cluster_cidr6

    @property
    def bridge_address6(self) -> str:
        """IPv6 address of cbr0."""
        return ipv6_text(ipv6_prefix(self.pod_cidr6 or "")[0] + 1)

    @property
    def bridge_address(self) -> str:
        """Address of cbr0."""
        return self.bridge_ip or ipv4_text(ipv4_prefix(self.pod_cidr)[0] + 1)

    @property
    def cluster(self) -> str:
        """All pods."""
        return self.cluster_cidr
