"""Field offsets, protocol numbers, and reading and writing fields of a frame in place."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "csrc/bytes.h" nogil:
    uint16_t load16 "kf_load16"(const uint8_t* p)
    uint32_t load32 "kf_load32"(const uint8_t* p)
    uint64_t load_mac "kf_load_mac"(const uint8_t* p)
    void store16 "kf_store16"(uint8_t* p, uint16_t v)
    void store32 "kf_store32"(uint8_t* p, uint32_t v)
    void store64 "kf_store64"(uint8_t* p, uint64_t v)
    void store_mac "kf_store_mac"(uint8_t* p, uint64_t mac)

cdef extern from "csrc/checksum.h" nogil:
    uint16_t csum_fold "kf_csum_fold"(uint64_t partial)
    uint64_t csum_partial "kf_csum_partial"(const uint8_t* p, size_t n, uint64_t partial)
    uint16_t csum "kf_csum"(const uint8_t* p, size_t n)
    uint64_t csum_pseudo "kf_csum_pseudo"(uint32_t src, uint32_t dst, uint8_t proto, uint32_t l4_len)
    uint16_t csum_replace32 "kf_csum_replace32"(uint16_t check, uint32_t old, uint32_t new)
    uint16_t csum_replace16 "kf_csum_replace16"(uint16_t check, uint16_t old, uint16_t new)
    uint16_t csum_ttl "kf_csum_ttl"(uint16_t check)

cdef enum:                  # lengths in bytes
    ETH_LEN = 14
    VLAN_LEN = 4
    IP_LEN = 20
    TCP_LEN = 20
    UDP_LEN = 8
    ICMP_LEN = 8
    ARP_LEN = 28
    IP6_LEN = 40
    FRAGMENT_LEN = 8        # the fragment header

cdef enum:                  # EtherTypes
    ETH_IP = 0x0800
    ETH_ARP = 0x0806
    ETH_VLAN = 0x8100
    ETH_QINQ = 0x88A8
    ETH_IP6 = 0x86DD

cdef enum:                  # Ethernet, from the first byte
    ETH_DST = 0
    ETH_SRC = 6
    ETH_TYPE = 12

cdef enum:                  # IPv4, from its first byte
    IP_TOS = 1
    IP_TOTAL = 2
    IP_ID = 4
    IP_FRAG = 6
    IP_TTL = 8
    IP_PROTO = 9
    IP_CHECK = 10
    IP_SRC = 12
    IP_DST = 16
    IP_DF = 0x4000
    IP_MF = 0x2000
    IP_OFFSET = 0x1FFF      # in units of 8 bytes

cdef enum:                  # IPv6, from its first byte
    IP6_PAYLOAD = 4
    IP6_NEXT = 6
    IP6_HOPS = 7
    IP6_SRC = 8
    IP6_DST = 24

cdef enum:                  # IPv6 extension headers, among the protocols
    EXT_HOP = 0
    EXT_ROUTING = 43
    EXT_FRAGMENT = 44
    EXT_AUTH = 51
    EXT_NONE = 59
    EXT_DESTINATION = 60

cdef enum:                  # IP protocols
    PROTO_ICMP = 1
    PROTO_IGMP = 2
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_GRE = 47
    PROTO_ICMP6 = 58
    PROTO_SCTP = 132
    PROTO_UDPLITE = 136

cdef enum:                  # L4, from the first byte behind the IPv4 header
    L4_SPORT = 0
    L4_DPORT = 2
    UDP_LENGTH = 4
    UDP_CHECK = 6
    TCP_SEQ = 4
    TCP_ACK = 8
    TCP_OFFSET = 12
    TCP_FLAGS = 13
    TCP_WINDOW = 14
    TCP_CHECK = 16
    ICMP_TYPE = 0
    ICMP_CODE = 1
    ICMP_CHECK = 2
    ICMP_REST = 4
    ICMP_ID = 4

cdef enum:                  # TCP flags
    TCP_FIN = 1
    TCP_SYN = 2
    TCP_RST = 4
    TCP_PSH = 8
    TCP_ACKFLAG = 16
    TCP_URG = 32

cdef enum:                  # ICMP types
    ICMP_ECHOREPLY = 0
    ICMP_UNREACH = 3
    ICMP_QUENCH = 4
    ICMP_REDIRECT = 5
    ICMP_ECHO = 8
    ICMP_TIME_EXCEEDED = 11
    ICMP_PARAMETER = 12
    ICMP_TIMESTAMP = 13
    ICMP_TIMESTAMPREPLY = 14
    ICMP_MAX_TYPE = 18      # NR_ICMP_TYPES

cdef enum:                  # ICMPv6 types
    ICMP6_UNREACH = 1
    ICMP6_TOO_BIG = 2
    ICMP6_TIME_EXCEEDED = 3
    ICMP6_PARAMETER = 4
    ICMP6_ECHO = 128        # errors are below
    ICMP6_ECHOREPLY = 129
    ICMP6_MLD_QUERY = 130
    ICMP6_SOLICIT_ROUTER = 133
    ICMP6_ROUTER = 134
    ICMP6_SOLICIT = 135
    ICMP6_ADVERTISE = 136
    ICMP6_REDIRECT = 137
    ICMP6_INFO_QUERY = 139
    ICMP6_INFO_REPLY = 140
    ICMP6_MLD2_REPORT = 143

cdef enum:                  # ARP, from its first byte
    ARP_OP = 6
    ARP_SHA = 8
    ARP_SPA = 14
    ARP_THA = 18
    ARP_TPA = 24
    ARP_REQUEST = 1
    ARP_REPLY = 2

cdef inline bint ipv4_valid(const uint8_t* l3, uint32_t n) noexcept nogil:
    """Whether n bytes begin with an IPv4 packet that the kernel accepts (ip_rcv_core, br_validate_ipv4)."""
    cdef uint32_t header, total
    if n < IP_LEN or l3[0] >> 4 != 4:
        return False
    header = (l3[0] & 15) * 4
    if header < IP_LEN or n < header or csum(l3, header) != 0:
        return False
    total = load16(l3 + IP_TOTAL)
    return header <= total <= n


cdef inline uint64_t csum_addresses(const uint8_t* l3) noexcept nogil:
    """Sum of both addresses of an IPv6 header."""
    return csum_partial(l3 + IP6_SRC, 32, 0)
