"""What became of a packet: one verdict and one reason each, numbers never reused."""

from enum import IntEnum


class Verdict(IntEnum):
    """What the node did with a packet."""

    DROP = 0  #: gone; the reason is the kernel's drop reason
    BRIDGED = 1  #: left by the one bridge port that owns its destination MAC
    FLOODED = 2  #: left by every other bridge port
    ROUTED = 3  #: forwarded by its IP address
    LOCAL = 4  #: taken by the node's own stack
    HELD = 5  #: waits: for a neighbour's MAC, or for the other fragments


class Reason(IntEnum):
    """Why. Below 64 the packet lived; above, the name is that of the kernel's `enum skb_drop_reason`
    where it has one."""

    # ways a packet lived
    FDB = 0  #: bridged to a learned or static MAC
    UNKNOWN_UNICAST = 1
    BROADCAST = 2
    MULTICAST = 3
    ROUTE = 4  #: routed with its own addresses
    MASQUERADE = 5  #: routed, source translated
    NAT_REPLY = 6  #: routed, translated back
    ARP = 7  #: for the node's ARP
    LOCAL_DELIVERY = 8  #: for an address of the node
    NEIGHBOUR = 9  #: held until its next hop's MAC is known
    FRAGMENT = 10  #: held until the datagram is whole
    SERVICE = 11  #: routed, destination translated to an endpoint or a host port's pod

    # ways a packet died
    PKT_TOO_SMALL = 64  #: shorter than an Ethernet header
    TRUNCATED = 65  #: the capture holds less than the wire carried
    SOURCE_MAC = 66  #: source MAC is multicast or zero
    PAUSE = 67  #: 01:80:c2:00:00:01
    LINK_LOCAL = 68  #: another 01:80:c2:00:00:0x, for the host alone
    SAME_PORT = 69  #: the destination is behind the ingress port and it is no hairpin port
    NO_PORT = 70  #: nowhere to flood to
    OTHERHOST = 71  #: destination MAC is not ours
    IP_INHDR = 72  #: IPv4 header malformed
    IP_CSUM = 73  #: IPv4 header checksum
    UNHANDLED_PROTO = 74  #: an EtherType that nobody here handles
    CT_INVALID = 75  #: ctstate INVALID, dropped in FORWARD by kube-proxy
    CT_CLASH = 76  #: no unique tuple was found
    CT_FULL = 77  #: nf_conntrack_max and nothing to evict
    NAT_FAILED = 78  #: no address to masquerade with, or an ICMP error that cannot be translated
    MARTIAN_SOURCE = 79
    MARTIAN_DESTINATION = 80
    IP_RPFILTER = 81
    IP_INNOROUTES = 82  #: no route, or an unreachable one
    BLACKHOLE = 83
    PROHIBIT = 84
    TTL = 85  #: would have reached zero
    PKT_TOO_BIG = 86  #: larger than the next hop's MTU, DF set
    DEDUP = 87  #: the routed duplicate that ebtables removes
    NEIGH_FAILED = 88
    NEIGH_QUEUEFULL = 89
    ARP_INVALID = 90
    NO_MULTICAST_ROUTE = 91
    DIRECTED_BROADCAST = 92
    FRAG_REASM = 93  #: fragments overlap, exceed 65535 bytes or make no sense
    FRAG_TIMEOUT = 94
    NO_SUCH_PORT = 95  #: ingress port is not attached
    UNICAST_IN_L2_MULTICAST = 96  #: a broadcast frame with another host's address in it
    MASQUERADE_MOVED = 97  #: a masqueraded connection left by another interface and was ended
    NO_DEVICE = 98  #: the interface is gone
    NOMEM = 99
    NEIGH_CREATEFAIL = 100  #: the neighbour table is full
    NO_ENDPOINTS = 101  #: the service has no endpoints; the sender was told
    NO_LOCAL_ENDPOINTS = 102  #: the service may use this node's endpoints only, and there are none
    LOCALNET = 103  #: to 127.0.0.0/8 from elsewhere (KUBE-FIREWALL)
    MULTICAST_INVALID = 104  #: a broken IGMP message, or one group too many for the bridge
    SOURCE_ROUTE = 105  #: a source route, which the node does not follow (accept_source_route)
    SOURCE_RANGE = 106  #: from outside loadBalancerSourceRanges (KUBE-PROXY-FIREWALL)
    WIRESERVER = 107  #: to Azure's WireServer, which AKS keeps from pods
