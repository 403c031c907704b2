"""Why a packet ended where it did, in words: the nodes' reasons, and the fabric's."""

from .carriage import Carriage
from .verdict import Reason

__all__ = ["BECAUSE", "CARRIED", "reason_text"]

BECAUSE = {
    Reason.PKT_TOO_SMALL: "shorter than an Ethernet header",
    Reason.TRUNCATED: "the capture cut off what the node would have to read",
    Reason.SOURCE_MAC: "the source MAC is a group's, or zero",
    Reason.PAUSE: "an Ethernet pause frame",
    Reason.LINK_LOCAL: "a link-local group MAC, for the bridge alone",
    Reason.SAME_PORT: "its receiver is where it came from",
    Reason.NO_PORT: "nowhere to go on the bridge",
    Reason.OTHERHOST: "not for this node: another's MAC or VLAN",
    Reason.IP_INHDR: "malformed IPv4 header",
    Reason.IP_CSUM: "wrong IPv4 header checksum",
    Reason.UNHANDLED_PROTO: "an EtherType that the node does not speak",
    Reason.CT_INVALID: "conntrack says INVALID: kube-proxy's rule drops it",
    Reason.SOURCE_RANGE: "not from the sources that the load balancer's service lets in",
    Reason.WIRESERVER: "to Azure's WireServer, which is kept from pods",
    Reason.CT_CLASH: "another connection has its addresses and ports",
    Reason.CT_FULL: "the conntrack table is full",
    Reason.NAT_FAILED: "could not be translated",
    Reason.MARTIAN_SOURCE: "a source address that cannot be",
    Reason.MARTIAN_DESTINATION: "a destination address that cannot be",
    Reason.IP_RPFILTER: "no route back to its source",
    Reason.IP_INNOROUTES: "no route",
    Reason.BLACKHOLE: "a blackhole route",
    Reason.PROHIBIT: "a prohibiting route",
    Reason.TTL: "TTL ran out",
    Reason.PKT_TOO_BIG: "larger than the MTU, and must not be cut",
    Reason.DEDUP: "the routed duplicate of a bridged packet",
    Reason.NEIGH_FAILED: "nobody answered ARP for the next hop",
    Reason.NEIGH_QUEUEFULL: "too many waited for the same MAC",
    Reason.ARP_INVALID: "ARP that makes no sense",
    Reason.NO_MULTICAST_ROUTE: "multicast is not routed",
    Reason.DIRECTED_BROADCAST: "a broadcast is not routed",
    Reason.FRAG_REASM: "fragments that do not fit together",
    Reason.FRAG_TIMEOUT: "the other fragments never came",
    Reason.NO_SUCH_PORT: "the port is not attached",
    Reason.UNICAST_IN_L2_MULTICAST: "another host's address in a broadcast frame",
    Reason.MASQUERADE_MOVED: "its masqueraded connection left by another interface before",
    Reason.NO_DEVICE: "the interface is gone",
    Reason.NOMEM: "no memory",
    Reason.NEIGH_CREATEFAIL: "the neighbour table is full",
    Reason.NO_ENDPOINTS: "the service has no endpoints",
    Reason.NO_LOCAL_ENDPOINTS: "the service's policy is Local, and the node has none of its endpoints",
    Reason.LOCALNET: "to 127.0.0.0/8 from elsewhere",
    Reason.MULTICAST_INVALID: "a broken IGMP message, or one group too many for the bridge",
    Reason.SOURCE_ROUTE: "a source route, which the node does not follow",
}

CARRIED = {
    Carriage.VNET: "the VNet's system route leads to the NIC that has the address",
    Carriage.USER_ROUTE: "a user-defined route leads to a virtual appliance, the other node",
    Carriage.OVERLAY: "the fabric routes the pods' CIDR to the node, without encapsulation and without a route table",
    Carriage.PEERING: "the route to a peered VNet",
    Carriage.INTERNET: "through the load balancer, with its address",
    Carriage.LB_REPLY: "an answer through the load balancer",
    Carriage.LB_RULE: "a rule of the load balancer",
    Carriage.PLATFORM: "Azure's own service",
    Carriage.ARP: "the fabric answers ARP itself",
    Carriage.GATEWAY: "the route to a gateway",
    Carriage.NO_OWNER: "no NIC has the address",
    Carriage.NO_ROUTE: "the VNet has no route there: its next hop is None",
    Carriage.SOURCE: "the NIC may send from its own addresses alone: its IP forwarding is off",
    Carriage.NOT_FORWARDING: "the NIC there may receive for its own addresses alone: its IP forwarding is off",
    Carriage.GROUP: "a VNet carries no broadcast or multicast",
    Carriage.PROTOCOL: "a VNet carries neither GRE nor IP in IP",
    Carriage.NO_OUTBOUND: "nothing translates on the way to the internet",
    Carriage.SNAT_PORTS: "the node has no outbound port of the load balancer left",
    Carriage.SNAT_PROTOCOL: "the load balancer translates TCP and UDP alone",
    Carriage.SNAT_FRAGMENT: "the load balancer translates no fragments",
    Carriage.NO_RULE: "no rule of the load balancer leads anywhere",
    Carriage.MTU: "larger than the VNet carries",
    Carriage.NO_PLACE: "nobody is there to receive it",
}


def reason_text(name: str) -> str:
    """What a `Reason` or a `Carriage` of that name means; empty for a way that packets live on.

    >>> reason_text("TTL"), reason_text("NO_OWNER"), reason_text("ROUTE")
    ('TTL ran out', 'no NIC has the address', '')
    """
    if name in Carriage.__members__:
        return CARRIED[Carriage[name]]
    return BECAUSE.get(Reason[name], "")
