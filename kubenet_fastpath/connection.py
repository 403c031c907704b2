"""What a `ConnectionTable` says of packets and connections, in the kernel's numbers."""

from enum import IntEnum, IntFlag

__all__ = ["CtEvent", "CtInfo", "CtStatus", "SctpState", "TcpState"]


class CtInfo(IntEnum):
    """What a packet is to its connection (`enum ip_conntrack_info`; iptables' `--ctstate`)."""

    ESTABLISHED = 0  #: the other side has answered before
    RELATED = 1  #: an ICMP error about it
    NEW = 2  #: nobody has answered yet
    ESTABLISHED_REPLY = 3  #: an answer
    RELATED_REPLY = 4  #: an ICMP error about an answer
    INVALID = 7  #: belongs to no connection and can begin none
    UNTRACKED = 9  #: neighbour discovery or MLD, which conntrack leaves alone
    DROP = 8  #: the table is full, or the packet's tuples are taken


class CtEvent(IntEnum):
    """What happened to a connection (ctnetlink)."""

    NEW = 1
    UPDATE = 2
    DESTROY = 3


class CtStatus(IntFlag):
    """Bits of a connection's status (`enum ip_conntrack_status`)."""

    SEEN_REPLY = 1 << 1
    ASSURED = 1 << 2
    CONFIRMED = 1 << 3
    SRC_NAT = 1 << 4
    DST_NAT = 1 << 5
    SRC_NAT_DONE = 1 << 7
    DST_NAT_DONE = 1 << 8
    DYING = 1 << 9
    FIXED_TIMEOUT = 1 << 10
    NAT_CLASH = 1 << 12


class TcpState(IntEnum):
    """State of a TCP connection, as the node in the middle sees it."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9  #: both ends sent a SYN


class SctpState(IntEnum):
    """State of an SCTP association."""

    NONE = 0
    CLOSED = 1
    COOKIE_WAIT = 2
    COOKIE_ECHOED = 3
    ESTABLISHED = 4
    SHUTDOWN_SENT = 5
    SHUTDOWN_RECD = 6
    SHUTDOWN_ACK_SENT = 7
    HEARTBEAT_SENT = 8
