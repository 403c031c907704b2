"""The kernel's own name for why it dropped a packet: `enum skb_drop_reason`, as `perf trace -e skb:kfree_skb` shows it.

Linux 6.18, include/net/dropreason-core.h. What a rule drops is NETFILTER_DROP whatever the rule; where the kernel gives
no reason, it is NOT_SPECIFIED.
"""

from .verdict import Reason

__all__ = ["drop_reason"]

NETFILTER = (
    Reason.CT_INVALID,
    Reason.CT_CLASH,
    Reason.CT_FULL,
    Reason.NAT_FAILED,
    Reason.DEDUP,
    Reason.MASQUERADE_MOVED,
    Reason.NO_ENDPOINTS,
    Reason.NO_LOCAL_ENDPOINTS,
    Reason.LOCALNET,
    Reason.SOURCE_RANGE,
    Reason.WIRESERVER,
)

NAMES = {
    Reason.SOURCE_MAC: "MAC_INVALID_SOURCE",
    Reason.PAUSE: "MAC_IEEE_MAC_CONTROL",
    Reason.NO_PORT: "NO_TX_TARGET",
    Reason.OTHERHOST: "OTHERHOST",
    Reason.PKT_TOO_SMALL: "PKT_TOO_SMALL",
    Reason.IP_INHDR: "IP_INHDR",
    Reason.IP_CSUM: "IP_CSUM",
    Reason.UNHANDLED_PROTO: "UNHANDLED_PROTO",
    Reason.MARTIAN_SOURCE: "IP_INVALID_SOURCE",
    Reason.MARTIAN_DESTINATION: "IP_INVALID_DEST",
    Reason.IP_RPFILTER: "IP_RPFILTER",
    Reason.IP_INNOROUTES: "IP_INNOROUTES",
    Reason.TTL: "IP_INHDR",  # ip_forward, too_many_hops
    Reason.PKT_TOO_BIG: "PKT_TOO_BIG",
    Reason.NEIGH_FAILED: "NEIGH_FAILED",
    Reason.NEIGH_QUEUEFULL: "NEIGH_QUEUEFULL",
    Reason.NEIGH_CREATEFAIL: "NEIGH_CREATEFAIL",
    Reason.FRAG_TIMEOUT: "FRAG_REASM_TIMEOUT",
    Reason.UNICAST_IN_L2_MULTICAST: "UNICAST_IN_L2_MULTICAST",
    Reason.NOMEM: "NOMEM",
} | dict.fromkeys(NETFILTER, "NETFILTER_DROP")


def drop_reason(reason: Reason) -> str:
    """Name of the kernel's drop reason, without SKB_DROP_REASON_; empty for a packet that lived.

    >>> drop_reason(Reason.CT_INVALID), drop_reason(Reason.BLACKHOLE), drop_reason(Reason.ROUTE)
    ('NETFILTER_DROP', 'NOT_SPECIFIED', '')
    """
    return NAMES.get(reason, "NOT_SPECIFIED") if reason >= Reason.PKT_TOO_SMALL else ""
