"""C interface of the bridge's multicast database: group -> ports, router ports, the querier."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash128(uint64_t a, uint64_t b, const uint64_t* secret)
    uint64_t kf_splitmix(uint64_t* state)

cdef enum:
    GROUPS_MAX = 4096           # mcast_hash_max

cdef enum snoop_t:              # what a message asks of the bridge
    SNOOP_DATA = 0              # nothing: to the group's ports and the routers' ones, or everywhere without a querier
    SNOOP_ROUTERS = 1           # a report: to the routers' ports
    SNOOP_FLOOD = 2             # a query or leave, or to 224.0.0.x: everywhere
    SNOOP_BAD = 3               # dropped

cdef struct member_t:
    int64_t expires             # ns; it is one while that is ahead
    uint32_t next               # row + 1, 0: the last
    uint16_t port

cdef struct address128_t:       # of IPv4: hi is 0
    uint64_t hi
    uint64_t lo

cdef struct querier_t:
    address128_t ip             # of the one that is listened to
    int64_t until               # ns; it is there while that is ahead
    int64_t since               # ns; until then hosts have had no time to answer it

cdef struct group_t:
    address128_t ip
    uint32_t first              # of its members, row + 1; 0: none, and then it is no group
    bint taken

cdef struct snooped_port_t:
    int64_t router[2]           # ns, of IPv4 and IPv6; a router is behind it while that is ahead
    uint32_t wanted             # the serial number of the latest frame that has to go there

cdef struct multicast_t:
    group_t* group              # open addressing, half full at most
    uint32_t mask
    uint32_t used               # rows taken, groups without a member included
    member_t* member
    uint32_t n_members          # rows that were ever used
    uint32_t room               # rows there is memory for
    uint32_t free               # row + 1
    snooped_port_t* port
    uint32_t n_ports
    uint32_t serial
    bint off                    # mcast_snooping 0, or too many groups came
    querier_t querier[2]        # of IPv4 and IPv6
    uint64_t secret[2]

cdef void multicast_init(multicast_t* m, uint64_t seed) noexcept nogil
cdef void multicast_free(multicast_t* m) noexcept nogil
cdef void multicast_forget(multicast_t* m, uint16_t port) noexcept nogil
cdef bint multicast_join(multicast_t* m, address128_t ip, uint16_t port, int64_t now) noexcept nogil
cdef void multicast_leave(multicast_t* m, address128_t ip, uint16_t port, int64_t now) noexcept nogil
cdef void multicast_router(multicast_t* m, bint six, uint16_t port, int64_t now) noexcept nogil
cdef void multicast_general_query(multicast_t* m, bint six, address128_t src, int64_t delay, uint16_t port,
                                  int64_t now) noexcept nogil
cdef void multicast_group_query(multicast_t* m, address128_t ip, int64_t delay, int64_t now) noexcept nogil
cdef bint multicast_confined(multicast_t* m, address128_t group, bint routers, int64_t now) noexcept nogil
