"""The numbers of `verdict.Verdict` and `verdict.Reason` for the kernels; tests/test_verdict.py keeps them equal."""

cdef enum:                  # Verdict
    V_DROP = 0
    V_BRIDGED = 1
    V_FLOODED = 2
    V_ROUTED = 3
    V_LOCAL = 4
    V_HELD = 5

cdef enum:                  # Reason
    R_FDB = 0
    R_UNKNOWN_UNICAST = 1
    R_BROADCAST = 2
    R_MULTICAST = 3
    R_ROUTE = 4
    R_MASQUERADE = 5
    R_NAT_REPLY = 6
    R_ARP = 7
    R_LOCAL_DELIVERY = 8
    R_NEIGHBOUR = 9
    R_FRAGMENT = 10
    R_SERVICE = 11
    R_PKT_TOO_SMALL = 64
    R_TRUNCATED = 65
    R_SOURCE_MAC = 66
    R_PAUSE = 67
    R_LINK_LOCAL = 68
    R_SAME_PORT = 69
    R_NO_PORT = 70
    R_OTHERHOST = 71
    R_IP_INHDR = 72
    R_IP_CSUM = 73
    R_UNHANDLED_PROTO = 74
    R_CT_INVALID = 75
    R_CT_CLASH = 76
    R_CT_FULL = 77
    R_NAT_FAILED = 78
    R_MARTIAN_SOURCE = 79
    R_MARTIAN_DESTINATION = 80
    R_IP_RPFILTER = 81
    R_IP_INNOROUTES = 82
    R_BLACKHOLE = 83
    R_PROHIBIT = 84
    R_TTL = 85
    R_PKT_TOO_BIG = 86
    R_DEDUP = 87
    R_NEIGH_FAILED = 88
    R_NEIGH_QUEUEFULL = 89
    R_ARP_INVALID = 90
    R_NO_MULTICAST_ROUTE = 91
    R_DIRECTED_BROADCAST = 92
    R_FRAG_REASM = 93
    R_FRAG_TIMEOUT = 94
    R_NO_SUCH_PORT = 95
    R_UNICAST_IN_L2_MULTICAST = 96
    R_MASQUERADE_MOVED = 97
    R_NO_DEVICE = 98
    R_NOMEM = 99
    R_NEIGH_CREATEFAIL = 100
    R_NO_ENDPOINTS = 101
    R_NO_LOCAL_ENDPOINTS = 102
    R_LOCALNET = 103
    R_MULTICAST_INVALID = 104
    R_SOURCE_ROUTE = 105
    R_SOURCE_RANGE = 106
    R_WIRESERVER = 107

cdef enum:
    N_VERDICTS = 6
    N_REASONS = 128

# A fate is a verdict and a reason in one int: PASS means that the packet goes on.
cdef enum:
    PASS = -1

cdef inline int fate(int verdict, int reason) noexcept nogil:
    return verdict << 8 | reason

cdef inline int drop(int reason) noexcept nogil:
    return V_DROP << 8 | reason
