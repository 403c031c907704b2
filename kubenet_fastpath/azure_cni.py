"""What a user says about a node with direct VNet addressing: Azure CNI in transparent mode, three kinds of address.

There is no bridge: each pod is behind a veth of its own, to which its address is routed, and the host answers ARP there
for whatever it routes elsewhere (Azure/azure-container-networking, network/transparent_endpointclient_linux.go).
"""

from __future__ import annotations

from dataclasses import dataclass

from .address import ipv4_prefix
from .errors import ConfigError
from .node_config import Masquerade, NodeConfig, check_pods6


@dataclass(frozen=True, kw_only=True)
class AzureCni(NodeConfig):
    """What the three have in common; see `NodeConfig` for the fields."""

    proxy_arp: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if ipv4_prefix(self.pod_range)[1] > 30:
            raise ConfigError(f"{self.pod_range} has no room for pods")

    @property
    def pod_range(self) -> str:
        """Where pods' addresses come from."""
        return self.node_subnet

    @property
    def pod_range6(self) -> str | None:
        """Where pods' IPv6 addresses come from; None: there are none."""
        return self.node_subnet6 if self.dual_stack else None

    @property
    def platform_source(self) -> str | None:
        """From where Azure's DNS and metadata service are asked with the node's address; None: no such rules."""
        return None

    @property
    def exclusive(self) -> bool:
        """Whether all addresses of `pod_range` are this node's."""
        return False


@dataclass(frozen=True, kw_only=True)
class AzureCniNodeSubnet(AzureCni):
    """Azure CNI, node subnet: pods have addresses of the node's own subnet.

    Parameters
    ----------
    node_ip, gateway, ...
        As for every node: see `NodeConfig`.
    cluster_cidr : str, optional
        By which kube-proxy tells who is outside; the node's subnet if omitted.

    Notes
    -----
    ip-masq-agent leaves the VNet alone: `non_masquerade` are its CIDRs, the node's subnet if omitted.

    Examples
    --------
    >>> AzureCniNodeSubnet(node_ip="10.240.0.4/16", gateway="10.240.0.1").pod_range
    '10.240.0.0/16'
    """

    cluster_cidr: str | None = None

    @property
    def cluster(self) -> str:
        """By which kube-proxy tells who is outside."""
        return self.cluster_cidr or self.node_subnet


@dataclass(frozen=True, kw_only=True)
class AzureCniPodSubnet(AzureCni):
    """Azure CNI, pod subnet: pods have addresses of a VNet subnet of their own.

    Parameters
    ----------
    node_ip, gateway, ...
        As for every node: see `NodeConfig`; the node itself masquerades nothing by default.
    pod_subnet : str
        The pods' subnet; nodes share it.
    platform_snat : bool
        Pods ask Azure's DNS (168.63.129.16, port 53) and metadata service (169.254.169.254, TCP port 80) with the
        node's address (CNS's SWIFT-POSTROUTING).

    Examples
    --------
    >>> AzureCniPodSubnet(node_ip="10.240.0.4/16", gateway="10.240.0.1", pod_subnet="10.241.0.0/16").masquerade.name
    'NONE'
    """

    pod_subnet: str
    masquerade: Masquerade = Masquerade.NONE
    platform_snat: bool = True

    @property
    def platform_source(self) -> str | None:
        """The pods' subnet."""
        return self.pod_subnet if self.platform_snat else None

    @property
    def pod_range(self) -> str:
        """The pods' subnet."""
        return self.pod_subnet

    @property
    def cluster(self) -> str:
        """The pods' subnet."""
        return self.pod_subnet


@dataclass(frozen=True, kw_only=True)
class AzureCniOverlay(AzureCni):
    """Azure CNI Overlay: pods have addresses of a private CIDR, a part of it for each node, which the fabric routes.

    Parameters
    ----------
    node_ip, gateway, ...
        As for every node: see `NodeConfig`.
    pod_cidr : str
        This node's pods, e.g. `10.244.1.0/24`.
    cluster_cidr : str
        All pods. Destinations outside it are masqueraded unless `non_masquerade` says otherwise.
    pod_cidr6, cluster_cidr6 : str, optional
        The same for IPv6, on a node that has it.

    Examples
    --------
    >>> AzureCniOverlay(node_ip="10.240.0.4/16", gateway="10.240.0.1", pod_cidr="10.244.1.0/24",
    ...                 cluster_cidr="10.244.0.0/16").direct
    ('10.244.0.0/16',)
    """

    pod_cidr: str
    cluster_cidr: str
    pod_cidr6: str | None = None
    cluster_cidr6: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pods6(self, self.pod_cidr6, self.cluster_cidr6)
        pods, pods_len = ipv4_prefix(self.pod_cidr)
        cluster, cluster_len = ipv4_prefix(self.cluster_cidr)
        if pods_len < cluster_len or (pods ^ cluster) >> (32 - cluster_len):
            raise ConfigError(f"pod_cidr {self.pod_cidr} is not inside cluster_cidr {self.cluster_cidr}")
        if not (self._node()[0] ^ cluster) >> (32 - cluster_len):
            raise ConfigError(f"node_ip {self.node_ip} is inside cluster_cidr {self.cluster_cidr}")

    @property
    def pod_range(self) -> str:
        """This node's pods."""
        return self.pod_cidr

    @property
    def exclusive(self) -> bool:
        """Always: the range is this node's alone."""
        return True

    @property
    def cluster(self) -> str:
        """All pods."""
        return self.cluster_cidr

    @property
    def direct(self) -> tuple[str, ...]:
        """Destinations that are not masqueraded: pods."""
        return self._direct((self.cluster_cidr,))

    @property
    def pod_range6(self) -> str | None:
        """This node's IPv6 pods."""
        return self.pod_cidr6

    @property
    def cluster6(self) -> str | None:
        """All IPv6 pods."""
        return self.cluster_cidr6

    @property
    def direct6(self) -> tuple[str, ...]:
        """IPv6 destinations that are not masqueraded: pods."""
        if self.non_masquerade is not None or self.cluster_cidr6 is None:
            return super().direct6
        return (self.cluster_cidr6,)
