"""What AKS and Azure allow: nodes, pods of a node, sizes of subnets, address ranges that they keep for themselves.

Sources: learn.microsoft.com, AKS quotas-skus-regions, configure-kubenet, azure-cni-overlay, configure-azure-cni,
virtual-networks-faq (the five addresses of each subnet).
"""

from __future__ import annotations

from collections.abc import Iterable

from .address import ipv4, ipv4_prefix, ipv4_text
from .errors import ConfigError

__all__ = [
    "BATCH",
    "FORBIDDEN",
    "MAX_KUBENET_NODES",
    "MAX_OVERLAY_NODES",
    "MAX_PODS",
    "MIN_MAX_PODS",
    "SURGE",
    "check_max_pods",
    "check_range",
    "check_room",
    "check_subnet_address",
    "overlap",
    "pod_batches",
    "room",
]

MAX_KUBENET_NODES = 400  #: one route each, and a route table has no more
MAX_OVERLAY_NODES = 5000
MAX_PODS = 250  #: of a node, in every addressing mode
MIN_MAX_PODS = 10  #: the least that a node pool may be set to
SURGE = 1  #: nodes that an upgrade adds, AKS's default
BATCH = 16  #: addresses that a node takes from the pods' subnet at a time
LOW = 8  #: free addresses below which it takes the next batch
RESERVED = 5  #: of each subnet: the first four and the last
FORBIDDEN = ("169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24")


def overlap(one: str, other: str) -> bool:
    """Whether two prefixes have an address in common."""
    (a, m), (b, n) = ipv4_prefix(one), ipv4_prefix(other)
    return not (a ^ b) >> 32 - min(m, n)


def check_range(argument: str, prefix: str, *, within: bool = False) -> None:
    """Refuse a range of nodes, pods or services that AKS keeps for itself.

    Parameters
    ----------
    argument : str
        What an error calls it.
    prefix : str
    within : bool
        It may hold a forbidden range, and must only not be inside one: a VNet's address space.

    Raises
    ------
    AddressError, ConfigError
        With the argument, the value and the forbidden range.
    """
    length = ipv4_prefix(prefix)[1]
    for forbidden in FORBIDDEN:
        if overlap(prefix, forbidden) and not (within and length < ipv4_prefix(forbidden)[1]):
            raise ConfigError(
                f"{argument} {prefix} overlaps {forbidden}, which AKS takes for no node, pod or service: "
                f"it allows none of {', '.join(FORBIDDEN)}"
            )


def check_max_pods(max_pods: int) -> None:
    """Refuse a number that no node pool can be set to.

    Raises
    ------
    ConfigError
    """
    if not MIN_MAX_PODS <= max_pods <= MAX_PODS:
        raise ConfigError(
            f"max_pods {max_pods} is not in {MIN_MAX_PODS}..{MAX_PODS}, what AKS lets a node have"
        )


def room(subnet: str) -> int:
    """Addresses of a subnet that can be handed out.

    >>> room("10.224.0.0/24"), room("10.224.0.0/29")
    (251, 3)
    """
    return max(0, (1 << 32 - ipv4_prefix(subnet)[1]) - RESERVED)


def check_room(argument: str, subnet: str, wanted: int, what: str) -> None:
    """Refuse a subnet with fewer addresses than are wanted.

    Raises
    ------
    ConfigError
        With the argument, the subnet, and how many it has.
    """
    if wanted > room(subnet):
        raise ConfigError(
            f"{argument} {subnet} has {room(subnet):,} addresses without the {RESERVED} that Azure reserves, "
            f"and {what} take {wanted:,}"
        )


def check_subnet_address(argument: str, address: str, subnet: str) -> None:
    """Refuse one of the addresses that Azure keeps of each subnet: the first four and the last.

    Raises
    ------
    ConfigError
    """
    network, length = ipv4_prefix(subnet)
    number, last = ipv4(address), network + (1 << 32 - length) - 1
    if length <= 29 and (network <= number < network + RESERVED - 1 or number == last):
        raise ConfigError(
            f"{argument} {address} is one of the {RESERVED} that Azure reserves in {subnet}: "
            f"{ipv4_text(network)} to {ipv4_text(network + RESERVED - 2)}, and {ipv4_text(last)}"
        )


def pod_batches(counts: Iterable[int]) -> int:
    """Addresses of the pods' subnet that nodes with so many pods hold.

    Sixteen at a time for each node, and the next sixteen when fewer than eight are free.

    >>> pod_batches([0, 8, 9])
    64
    """
    return sum(BATCH * max(1, -(-(count + LOW) // BATCH)) for count in counts)
