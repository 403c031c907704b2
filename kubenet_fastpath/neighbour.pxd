"""C interface of `NeighbourTable`: next hop -> MAC, as the kernel's neighbour caches (arp_tbl, nd_tbl) keep it."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .address_pool cimport AddressPool

cdef extern from "csrc/bucket.h" nogil:
    ctypedef struct kf_index:
        uint64_t mask

cdef enum:
    NO_NEIGHBOUR = 0xFFFFFFFF

cdef enum nud_t:            # NUD_*
    NUD_NONE = 0x00
    NUD_INCOMPLETE = 0x01
    NUD_REACHABLE = 0x02
    NUD_STALE = 0x04
    NUD_DELAY = 0x08
    NUD_PROBE = 0x10
    NUD_FAILED = 0x20
    NUD_PERMANENT = 0x80
    NUD_CONNECTED = NUD_PERMANENT | NUD_REACHABLE
    NUD_VALID = NUD_CONNECTED | NUD_STALE | NUD_DELAY | NUD_PROBE

cdef enum resolve_t:        # what neigh_resolve says
    NEIGH_SEND = 0          # the MAC is known
    NEIGH_HOLD = 1          # the packet has to wait
    NEIGH_ASK = 2           # it has to wait, and an ARP request is due now

cdef enum event_t:          # what neigh_timer says
    NEIGH_NOTHING = 0
    NEIGH_PROBE = 1         # send an ARP request: to the known MAC if one is set, else to all
    NEIGH_UNREACHABLE = 2   # the neighbour failed: take its packets with neigh_take
    NEIGH_KNOWN = 3         # somebody has entered its MAC: its packets leave

cdef struct held_t:         # a waiting packet: the holder's record, then the frame
    held_t* next
    uint32_t record_size
    uint32_t length

cdef struct neighbour_t:
    uint64_t mac
    int64_t updated         # ns
    int64_t confirmed       # ns
    int64_t used            # ns
    int64_t timer           # ns, 0: none
    held_t* first
    held_t* last
    uint32_t held_bytes     # as the kernel accounts them, skb->truesize
    uint32_t ip             # of IPv6 a handle
    uint16_t dev
    uint8_t state
    uint8_t probes
    bint primed             # a packet has been sent: from then on, as long as it is connected, `used` stays (hh_cache)

cdef struct neigh_table_t:
    kf_index index
    uint64_t secret[2]
    neighbour_t* row
    uint32_t n_rows         # rows ever used; a free one has dev NO_DEV, and the next free one as its ip
    uint32_t capacity
    uint32_t free           # NO_NEIGHBOUR: none
    uint32_t dynamic        # rows that are not permanent
    uint32_t limit          # of these (gc_thresh3)
    int64_t due             # ns, the earliest timer
    int64_t retrans         # ns between two requests (retrans_time_ms)
    int64_t delay           # ns from STALE's first packet to the first probe (delay_first_probe_time)
    int64_t reachable       # ns (base_reachable_time_ms)
    uint64_t discarded      # packets that a full queue pushed out
    uint64_t held           # packets waiting now
    uint8_t family          # 4 or 6
    uint64_t changes        # the MAC of a neighbour, or what a packet for it does, is another

cdef uint32_t neigh_find(const neigh_table_t* t, uint16_t dev, uint32_t ip) noexcept nogil
cdef uint32_t neigh_create(neigh_table_t* t, uint16_t dev, uint32_t ip, int64_t now) noexcept nogil
cdef resolve_t neigh_resolve(neigh_table_t* t, uint32_t index, int64_t now) noexcept nogil
cdef held_t* neigh_crowded(neigh_table_t* t, uint32_t index, uint32_t length) noexcept nogil
cdef bint neigh_hold(neigh_table_t* t, uint32_t index, const void* record, uint32_t record_size,
                     const uint8_t* frame, uint32_t length) noexcept nogil
cdef held_t* neigh_take(neigh_table_t* t, uint32_t index) noexcept nogil
cdef bint neigh_update(neigh_table_t* t, uint32_t index, uint64_t mac, nud_t state, bint override, bint weak,
                       int64_t now) noexcept nogil
cdef event_t neigh_timer(neigh_table_t* t, int64_t now, uint32_t* index, int64_t* when) noexcept nogil


@cython.final
cdef class NeighbourTable:
    cdef neigh_table_t table
    cdef AddressPool pool       # of IPv6
