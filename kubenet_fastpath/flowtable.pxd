"""C interface of the flow table: rows of connections, found by either of their tuples."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .address_pool cimport address_pool_t
from .connection cimport (
    IPS_CONFIRMED, IPS_DYING, NO_CONN, conn_t, tcp_side_t, tuple_equal, tuple_head, tuple_t, tuple_tail,
)
from .frame cimport PROTO_GRE, PROTO_ICMP, PROTO_ICMP6, PROTO_SCTP, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE
from .tcp cimport tcp_policy_t

cdef extern from "csrc/bucket.h" nogil:
    ctypedef struct kf_bucket:
        uint16_t passed
        uint32_t ref[12]
    ctypedef struct kf_index:
        uint64_t mask       # of the buckets in a segment
        uint64_t used
    uint8_t kf_tag(uint64_t hash)
    bint kf_passed(const kf_bucket* b, uint64_t hash)
    kf_bucket* kf_home(const kf_index* x, uint64_t hash)
    kf_bucket* kf_probe(const kf_index* x, uint64_t hash, uint64_t n)
    uint32_t kf_match(const kf_bucket* b, uint8_t tag)
    int kf_first(uint32_t mask)
    void kf_prefetch(const void* p)
    void kf_prefetch_insert(const kf_index* x, uint64_t hash)
    uint64_t kf_index_bytes(const kf_index* x)

cdef extern from "csrc/connection.h" nogil:     # how the index names a tuple of a row
    uint32_t kf_ref(uint32_t conn, uint32_t direction)
    uint32_t kf_ref_conn(uint32_t ref)
    uint32_t kf_ref_direction(uint32_t ref)
    conn_t* kf_ref_row(const conn_t* row, uint32_t ref)
    const tuple_t* kf_ref_tuple(const conn_t* row, uint32_t ref)

cdef extern from "csrc/tally.h" nogil:
    void kf_add(uint32_t* at, uint32_t n)

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)
    uint64_t kf_hash128(uint64_t a, uint64_t b, const uint64_t* secret)

cdef extern from "csrc/tally.h" nogil:
    ctypedef struct kf_counted:
        uint32_t src            # that answers are sent to
        uint32_t dst
        uint16_t port           # of dst
        uint8_t proto
        uint8_t family
        uint32_t count          # connections, each of which has a port of its own; 0: nobody's place
    ctypedef struct kf_tally:
        kf_counted* place       # mask + 1 of them; NULL: nobody counts
        uint64_t mask
        uint64_t used
        uint64_t lost

cdef enum confirm_t:        # what ct_confirm says
    CONFIRM_OK = 0
    CONFIRM_CLASH = 1       # a tuple is taken: the packet is dropped, the connection is gone
    CONFIRM_FULL = 2        # no memory for the index: likewise

cdef enum:                  # places in ct_t.timeout
    EXPIRY_GENERIC
    EXPIRY_ICMP
    EXPIRY_UDP
    EXPIRY_UDP_STREAM
    EXPIRY_UDPLITE
    EXPIRY_UDPLITE_STREAM
    EXPIRY_GRE
    EXPIRY_GRE_STREAM
    EXPIRY_SCTP             # by state; that of none is never used
    EXPIRY_COUNT = EXPIRY_SCTP + 9

cdef struct ct_counters_t:  # `conntrack -S`, and what else can be counted
    uint64_t found          # a search for a free mapping met a taken one
    uint64_t invalid
    uint64_t error          # ICMP packets among the invalid ones that err, or are broken
    uint64_t insert         # confirmed
    uint64_t insert_failed
    uint64_t drop           # packets dropped for lack of a connection
    uint64_t early_drop     # connections evicted for new ones
    uint64_t clash_resolve
    uint64_t expired        # connections reclaimed after their timeout

cdef enum event_t:          # what a connection lived through (ctnetlink's NEW, UPDATE and DESTROY)
    EVENT_NEW = 1
    EVENT_UPDATE = 2
    EVENT_DESTROY = 3

cdef struct event_row_t:
    int64_t time            # ns
    uint32_t conn
    uint8_t kind            # EVENT_*
    conn_t row              # as it was then
    uint8_t address[4][16]  # of IPv6, whose handles may be another's by the time that somebody asks

cdef struct events_t:       # of who watches; nobody: all 0
    event_row_t* event      # NULL: nobody watches
    uint32_t room
    uint32_t used
    uint64_t lost           # for which there was no room
    int64_t now             # ns, of the latest packet or sweep

cdef struct vacancy_t:      # of the latest new connection, until anything is entered: it need not be looked for again
    uint32_t conn           # whose original tuple is nobody's; NO_CONN: nothing is known
    bint reply_absent       # and `reply` neither
    uint64_t hash           # of the original tuple
    uint64_t reply_hash
    tuple_t reply

cdef enum:
    CENSUS_STATES = 16      # places in ct_t.census for each kind of protocol
    CENSUS_KINDS = 8

cdef struct ct_t:
    conn_t* row             # `room` of them, and one before that never lives; untouched ones take no memory
    tcp_side_t* side        # two a row, for TCP and SCTP
    uint32_t room           # nf_conntrack_max
    bint reserved           # the memory of all of them has been taken
    uint32_t used           # rows that ever held a connection
    uint32_t free           # head of the list of free rows below `used`, NO_CONN: none
    uint32_t count          # connections held, unconfirmed and expired ones included
    uint32_t cursor         # where the sweep goes on
    uint32_t linked         # connections in by-source chains
    uint32_t heads          # of the by-source chains, at least as many as connections linked
    uint32_t source_mask    # the least power of two that is not below `heads`, less one
    uint32_t* source        # index + 1 of each chain's latest, 0: empty
    kf_index index          # confirmed connections, both tuples of each: kf_ref
    vacancy_t vacancy
    events_t events
    kf_tally ports          # of source translations, by source and destination
    uint32_t[CENSUS_KINDS * CENSUS_STATES] census   # connections confirmed, by protocol and state: census_place
    uint64_t secret[2]
    address_pool_t* pool    # whose handles IPv6 tuples have, NULL: there are none
    bint checksum           # nf_conntrack_checksum
    tcp_policy_t tcp
    int64_t timeout[EXPIRY_COUNT]   # ns
    ct_counters_t counters

cdef bint ct_init(ct_t* t, uint32_t room, uint64_t seed) noexcept nogil
cdef bint ct_reserve(ct_t* t) noexcept nogil
cdef uint64_t ct_bytes(const ct_t* t) noexcept nogil
cdef void ct_release(ct_t* t) noexcept nogil
cdef bint ct_restore(ct_t* t, const uint8_t* rows, const uint8_t* sides, uint32_t used,
                     uint32_t heads) noexcept nogil
cdef uint32_t ct_new(ct_t* t, const tuple_t* original, const tuple_t* reply, uint64_t hash,
                     int64_t now) noexcept nogil
cdef bint ct_watch(ct_t* t, uint32_t room) noexcept nogil
cdef void ct_note(ct_t* t, uint32_t conn, event_t kind) noexcept nogil
cdef void ct_discard(ct_t* t, uint32_t conn) noexcept nogil
cdef void ct_kill(ct_t* t, uint32_t conn) noexcept nogil
cdef void ct_expire_row(ct_t* t, uint32_t conn) noexcept nogil
cdef uint32_t ct_expire(ct_t* t, uint32_t rows, int64_t now) noexcept nogil
cdef confirm_t ct_confirm(ct_t* t, uint32_t* conn, int64_t now) noexcept nogil
cdef bint ct_taken(ct_t* t, const tuple_t* reply, uint32_t ignored, int64_t now) noexcept nogil
cdef bint ct_count_ports(ct_t* t, bint on) noexcept nogil
cdef uint32_t ct_probes(const ct_t* t, const tuple_t* tuple, uint32_t* rows) noexcept nogil
cdef void ct_source_link(ct_t* t, uint32_t conn) noexcept nogil


cdef inline uint32_t census_place(uint8_t proto, uint8_t state) noexcept nogil:
    """Where connections of this protocol and state are counted; the rarer protocols together."""
    cdef uint32_t kind = 0
    if proto == PROTO_TCP:
        kind = 1
    elif proto == PROTO_UDP:
        kind = 2
    elif proto == PROTO_ICMP:
        kind = 3
    elif proto == PROTO_SCTP:
        kind = 4
    elif proto == PROTO_GRE:
        kind = 5
    elif proto == PROTO_UDPLITE:
        kind = 6
    elif proto == PROTO_ICMP6:
        kind = 7
    return kind * CENSUS_STATES + (state & 15)


cdef inline void ct_restate(ct_t* t, const conn_t* c, uint8_t before) noexcept nogil:
    """A connection may have another state than before. Several workers may say so of theirs at once."""
    if c.state != before and c.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED:
        kf_add(&t.census[census_place(c.original.proto, before)], <uint32_t>-1)
        kf_add(&t.census[census_place(c.original.proto, c.state)], 1)


cdef inline conn_t* ct_conn(ct_t* t, uint32_t index) noexcept nogil:
    return &t.row[index]


cdef inline uint64_t ct_hash(const ct_t* t, const tuple_t* tuple) noexcept nogil:
    # Field by field: what was just written in small pieces cannot be read in large ones without a stall.
    return kf_hash128(tuple_head(tuple.src, tuple.dst),
                      tuple_tail(tuple.sport, tuple.dport, tuple.proto, tuple.family, tuple.zone), t.secret)


cdef inline void ct_prefetch(const ct_t* t, uint64_t hash) noexcept nogil:
    kf_prefetch(kf_home(&t.index, hash))


cdef inline bint ct_prefetch_conn(const ct_t* t, uint64_t hash) noexcept nogil:
    """Fetch the rows that the bucket names for this hash; reads the bucket, so `ct_prefetch` it earlier.

    False: it names none, so this is most likely a connection's first packet.
    """
    cdef bint known
    cdef kf_bucket* b = kf_home(&t.index, hash)
    cdef uint32_t m = kf_match(b, kf_tag(hash))
    cdef conn_t* conn
    known = m != 0
    while m:
        conn = kf_ref_row(t.row, b.ref[kf_first(m)])
        kf_prefetch(conn)
        kf_prefetch(&conn.packets)
        m &= m - 1
    return known


cdef inline uint32_t* ct_source(const ct_t* t, const tuple_t* original) noexcept nogil:
    """Where the chain of this source begins, which others may share (linear hashing: Litwin, VLDB 1980)."""
    cdef uint64_t word = <uint64_t>original.src << 32 | <uint64_t>original.sport << 16 | original.proto
    cdef uint64_t hash = kf_hash64(word, t.secret), place = hash & t.source_mask
    return &t.source[place if place < t.heads else hash & (t.source_mask >> 1)]


cdef inline bint ct_live(const conn_t* conn, int64_t now) noexcept nogil:
    return conn.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED and conn.expires > now


cdef inline uint32_t ct_find(ct_t* t, const tuple_t* tuple, uint64_t hash, int64_t now,
                             int* direction) noexcept nogil:
    """The live connection one of whose tuples this is, and which; an expired one is reclaimed."""
    cdef uint8_t tag = kf_tag(hash)
    cdef uint64_t n = 0
    cdef uint32_t m, ref
    cdef kf_bucket* b
    while True:
        b = kf_probe(&t.index, hash, n)
        m = kf_match(b, tag)
        while m:
            ref = b.ref[kf_first(m)]
            if tuple_equal(kf_ref_tuple(t.row, ref), tuple):
                if kf_ref_row(t.row, ref).expires > now:
                    direction[0] = kf_ref_direction(ref)
                    return kf_ref_conn(ref)
                ct_expire_row(t, kf_ref_conn(ref))
            m &= m - 1
        if not kf_passed(b, hash) or n >= t.index.mask:
            return NO_CONN
        n += 1
