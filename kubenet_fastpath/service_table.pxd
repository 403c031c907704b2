"""C interface of `ServiceTable`: address and port -> service port or host port -> endpoints."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .address_pool cimport prefix_t

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)
    uint64_t kf_splitmix(uint64_t* state)

cdef extern from "csrc/bucket.h" nogil:
    void kf_prefetch(const void* p)

cdef enum:
    CLIENTS = 100               # addresses that one list remembers (xt_recent's ip_list_tot)

cdef enum door_kind_t:
    DOOR_FREE = 0
    DOOR_CLUSTER_IP = 1         # KUBE-SERVICES -d clusterIP
    DOOR_EXTERNAL_IP = 2        # KUBE-SERVICES -d externalIP
    DOOR_NODE_PORT = 3          # KUBE-NODEPORTS
    DOOR_HOST_PORT = 4          # CNI-HOSTPORT-DNAT, KUBE-HOSTPORTS

cdef enum:                      # door_t.space: what is asked one after the other
    SPACE_ADDRESS = 0           # an address of its own
    SPACE_NODE_PORT = 1         # any address of the node
    SPACE_HOST_PORT = 2         # likewise, or one of them
    SPACE_IP6 = 4               # added to these: of IPv6, whose addresses are handles

cdef struct clients_t:          # one list of xt_recent, the latest client last
    uint32_t n
    uint32_t ip[CLIENTS]
    int64_t stamp[CLIENTS]      # ns

cdef enum:
    NEAR = 4                    # endpoints that a door holds itself

cdef struct endpoint_t:
    uint32_t ip
    uint16_t port
    uint8_t family

cdef struct host_port_t:        # CNI-DN-*, KUBE-HP-*
    endpoint_t pod
    prefix_t masqueraded        # clients
    uint32_t mark               # theirs

cdef enum refusal_t:            # why a packet that still has this address is refused
    REFUSE_NO_LOCAL_ENDPOINTS = 0   # dropped
    REFUSE_NO_ENDPOINTS = 1         # rejected
    REFUSE_SOURCE_RANGE = 2         # dropped: KUBE-PROXY-FIREWALL
    REFUSE_FORWARD = 3              # dropped: the node's own rule in FORWARD

cdef struct range_t:            # -s of a rule of KUBE-FW
    prefix_t prefix
    bint last                   # of its service's

cdef struct door_t:             # a cache line; a free one has kind 0. Of a service: KUBE-SVC, KUBE-SVL and KUBE-EXT
    uint32_t ip                 # 0: every address of the node
    uint16_t port
    uint8_t proto
    uint8_t kind
    uint8_t space
    uint8_t external_local      # externalTrafficPolicy: Local
    uint8_t internal_local
    uint8_t why                 # of a refusal: refusal_t
    uint32_t affinity           # s, 0: none
    uint32_t first              # of its n endpoints, and behind them the n_local of this node; or the host port's row
    uint32_t n
    uint32_t n_local
    uint32_t ranges             # place of the first source range, and 1; 0: all may come
    endpoint_t near[NEAR]       # the first of the n once more: most services need no other line

cdef struct doors_t:            # open addressing, half full at most
    door_t* row                 # at a multiple of a line
    uint64_t mask
    uint32_t used
    uint64_t[8] seen            # a bit for each hash that is there: of few doors nearly all misses end here
    uint32_t spaces             # a bit for each space that has a door

cdef struct service_table_t:
    doors_t doors
    doors_t refusals            # service ports without an endpoint to go to
    doors_t host_doors
    endpoint_t* endpoint
    uint32_t n_endpoints
    clients_t** clients         # of each endpoint, NULL without affinity; shared by all rows of one endpoint of one port
    host_port_t* host_port
    range_t* range
    uint64_t secret[2]
    uint64_t changes            # how often services or host ports have been replaced

cdef void clients_set(clients_t* clients, uint32_t ip, int64_t now) noexcept nogil
cdef bint clients_check(const clients_t* clients, uint32_t ip, int64_t seconds, int64_t now) noexcept nogil


cdef inline uint32_t one_of(uint64_t* rng, uint32_t n) noexcept nogil:
    """One of n, each as likely."""
    return <uint32_t>((kf_splitmix(rng) >> 32) * n >> 32) if n > 1 else 0


cdef inline void door_prefetch(const service_table_t* t, uint32_t ip, uint8_t proto, uint16_t port) noexcept nogil:
    """Fetch the row that a service at this address and port would be in."""
    kf_prefetch(&t.doors.row[kf_hash64(<uint64_t>ip << 32 | <uint64_t>port << 16 | <uint32_t>proto << 8, t.secret)
                             & t.doors.mask])


cdef inline const door_t* door_find(const service_table_t* t, const doors_t* doors, uint8_t space, uint32_t ip,
                                    uint8_t proto, uint16_t port) noexcept nogil:
    """The door at an address and port, NULL if there is none. One probe on average, however many there are."""
    cdef uint64_t i
    cdef const door_t* door
    if not doors.spaces >> space & 1:
        return NULL
    i = kf_hash64(<uint64_t>ip << 32 | <uint64_t>port << 16 | <uint32_t>proto << 8 | space, t.secret)
    if not doors.seen[i >> 61] >> (i >> 55 & 63) & 1:
        return NULL
    while True:
        door = &doors.row[i & doors.mask]
        if door.kind == DOOR_FREE:
            return NULL
        if door.ip == ip and door.port == port and door.proto == proto and door.space == space:
            return door
        i += 1


@cython.final
cdef class ServiceTable:
    cdef service_table_t table
    cdef dict _clients
    cdef readonly uint32_t services
