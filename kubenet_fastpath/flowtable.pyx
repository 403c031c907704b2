"""The flow table: a slab of rows, an index of both tuples of each, and the chains by source that NAT walks.

Rows never move: the slab spans nf_conntrack_max rows of address space, and the system gives memory to those
that are used. A connection is confirmed last, after all hooks; until then no packet finds it. One that has
expired is as good as gone, and its row is reclaimed by whoever meets it, or by the sweep that follows every
new connection by a few rows; so an idle table costs nothing, and a run's result does not depend on how its
packets were cut into batches.

Longer than its neighbours: a row, its index and its chains change together, and each way in has its way back here.
"""

from libc.stdint cimport INT64_MIN
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from .address_pool cimport pool_read
from .connection cimport (
    IPS_ASSURED, IPS_FIXED_TIMEOUT, IPS_NAT_CLASH, IPS_NAT_DONE_MASK, IPS_SRC_NAT, IPS_SRC_NAT_DONE, SECOND,
    kf_tuple_copy, proto_allows_clash,
)

cdef extern from "csrc/bucket.h" nogil:
    int kf_index_init(kf_index* x, uint64_t references)
    void kf_index_free(kf_index* x)
    ctypedef uint64_t (*kf_hash_of)(const void* table, uint32_t ref) noexcept nogil
    ctypedef void (*kf_ask_for)(const void* table, uint32_t ref) noexcept nogil
    int kf_index_reserve(kf_index* x, uint64_t references)
    int kf_index_room(kf_index* x, uint64_t hash, const void* table, kf_hash_of hash_of, kf_ask_for ask)
    void kf_index_insert(kf_index* x, uint64_t hash, uint32_t ref)
    int kf_index_erase(kf_index* x, uint64_t hash, uint32_t ref)

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_splitmix(uint64_t* state)

cdef extern from "csrc/slab.h" nogil:
    void* kf_slab_alloc(size_t size)
    void kf_slab_free(void* p, size_t size)
    void kf_slab_touch(void* p, size_t size)

cdef extern from "csrc/tally.h" nogil:
    int kf_tally_init(kf_tally* t, const uint64_t* secret)
    void kf_tally_add(kf_tally* t, const kf_counted* key)
    void kf_tally_take(kf_tally* t, const kf_counted* key)
    void kf_tally_free(kf_tally* t)

cdef enum:
    FIRST_REFERENCES = 256
    FIRST_HEADS = 256
    SWEEP = 2               # rows looked at for every new connection
    SWEEP_FULL = 64         # and when the table is full
    AHEAD = 16              # rows that the sweep fetches ahead
    FAR_AHEAD = 64          # and asks for
    DIVIDE_AHEAD = 8        # chains that are to be divided soon
    EVICTION_RANGE = 8      # buckets (NF_CT_EVICTION_RANGE)


cdef inline size_t heads_most(const ct_t* t) noexcept nogil:
    return max(<size_t>t.room, <size_t>FIRST_HEADS)


cdef inline size_t row_bytes(const ct_t* t) noexcept nogil:
    return (<size_t>t.room + 1) * sizeof(conn_t)


cdef bint ct_init(ct_t* t, uint32_t room, uint64_t seed) noexcept nogil:
    """An empty table for `room` connections; False without memory."""
    cdef uint64_t state = seed
    memset(t, 0, sizeof(ct_t))
    t.room, t.free, t.vacancy.conn = room, NO_CONN, NO_CONN
    t.secret[0] = kf_splitmix(&state)
    t.secret[1] = kf_splitmix(&state)
    t.heads, t.source_mask = FIRST_HEADS, FIRST_HEADS - 1
    t.row = <conn_t*>kf_slab_alloc(row_bytes(t))
    t.side = <tcp_side_t*>kf_slab_alloc(2 * <size_t>room * sizeof(tcp_side_t))
    t.source = <uint32_t*>kf_slab_alloc(heads_most(t) * sizeof(uint32_t))
    if not t.row or not t.side or not t.source or kf_index_init(&t.index, FIRST_REFERENCES) != 0:
        return False
    t.row[0].expires = INT64_MIN
    t.row += 1
    return True


cdef bint ct_reserve(ct_t* t) noexcept nogil:
    """Take the memory of a full table now; False where there is not enough."""
    kf_slab_touch(t.row - 1, row_bytes(t))
    kf_slab_touch(t.side, 2 * <size_t>t.room * sizeof(tcp_side_t))
    kf_slab_touch(t.source, heads_most(t) * sizeof(uint32_t))
    t.reserved = True
    return kf_index_reserve(&t.index, 2 * <uint64_t>t.room) == 0


cdef uint64_t ct_bytes(const ct_t* t) noexcept nogil:
    """Memory that the table has taken: rows that ever held a connection, or all, and what belongs to them; the index."""
    cdef uint64_t rows = t.room if t.reserved else t.used, heads = heads_most(t) if t.reserved else t.heads
    return (sizeof(ct_t) + (rows + 1) * sizeof(conn_t) + rows * 2 * sizeof(tcp_side_t) + heads * sizeof(uint32_t)
            + kf_index_bytes(&t.index) + t.events.room * sizeof(event_row_t)
            + ((t.ports.mask + 1) * sizeof(kf_counted) if t.ports.place else 0))


cdef void ct_release(ct_t* t) noexcept nogil:
    kf_slab_free(t.row - 1, row_bytes(t))
    kf_slab_free(t.side, 2 * <size_t>t.room * sizeof(tcp_side_t))
    kf_slab_free(t.source, heads_most(t) * sizeof(uint32_t))
    kf_index_free(&t.index)
    kf_tally_free(&t.ports)
    free(t.events.event)
    memset(t, 0, sizeof(ct_t))


cdef bint ct_watch(ct_t* t, uint32_t room) noexcept nogil:
    """Keep up to `room` events from now on, 0: none; False without memory. What was kept is gone."""
    free(t.events.event)
    memset(&t.events, 0, sizeof(events_t))
    if room == 0:
        return True
    t.events.event = <event_row_t*>malloc(room * sizeof(event_row_t))
    t.events.room = room if t.events.event else 0
    return t.events.event != NULL


cdef void ct_note(ct_t* t, uint32_t conn, event_t kind) noexcept nogil:
    """Somebody watches. Without room the event is lost, as a netlink socket loses what nobody fetches."""
    cdef event_row_t* e
    if t.events.used == t.events.room:
        t.events.lost += 1
        return
    e = &t.events.event[t.events.used]
    t.events.used += 1
    e.time, e.conn, e.kind, e.row = t.events.now, conn, kind, t.row[conn]
    if e.row.original.family == 6:
        pool_read(t.pool, e.row.original.src, e.address[0])
        pool_read(t.pool, e.row.original.dst, e.address[1])
        pool_read(t.pool, e.row.reply.src, e.address[2])
        pool_read(t.pool, e.row.reply.dst, e.address[3])


cdef void push(ct_t* t, uint32_t conn) noexcept nogil:
    cdef conn_t* c = &t.row[conn]
    cdef uint32_t* head = ct_source(t, &c.original)
    c.by_source_next, c.by_source_prev = head[0], 0
    if head[0]:
        t.row[head[0] - 1].by_source_prev = conn + 1
    head[0] = conn + 1


cdef void divide_chain(ct_t* t) noexcept nogil:
    """One more head, and what belongs to it from the chain that had it till now; both keep their order."""
    cdef uint32_t next, conn
    if t.heads > t.source_mask:
        t.source_mask = 2 * t.source_mask + 1
    conn = t.source[(t.heads + DIVIDE_AHEAD) & t.source_mask >> 1]
    if conn:
        kf_prefetch(&t.row[conn - 1])
        kf_prefetch(&t.row[conn - 1].packets)
    conn = t.source[t.heads & t.source_mask >> 1]
    t.source[t.heads & t.source_mask >> 1] = 0
    t.heads += 1
    while conn and t.row[conn - 1].by_source_next:
        conn = t.row[conn - 1].by_source_next
    while conn:             # from the oldest to the latest
        next = t.row[conn - 1].by_source_prev
        push(t, conn - 1)
        conn = next


cdef void ct_source_link(ct_t* t, uint32_t conn) noexcept nogil:
    """Put a connection at the head of its source's chain; IPS_SRC_NAT_DONE says that it is in one."""
    t.linked += 1
    while t.heads < t.linked:
        divide_chain(t)
    push(t, conn)


cdef void forget(ct_t* t, uint32_t conn) noexcept nogil:
    """Give a row back. Its contents stay until it is used again, for the packet in hand may need them."""
    cdef conn_t* c = &t.row[conn]
    if c.status & IPS_SRC_NAT_DONE:
        t.linked -= 1
        if c.by_source_prev:
            t.row[c.by_source_prev - 1].by_source_next = c.by_source_next
        else:
            ct_source(t, &c.original)[0] = c.by_source_next
        if c.by_source_next:
            t.row[c.by_source_next - 1].by_source_prev = c.by_source_prev
    c.status |= IPS_DYING
    c.by_source_next = t.free
    t.free = conn
    t.count -= 1


cdef inline kf_counted port_of(const conn_t* c) noexcept nogil:
    cdef kf_counted key
    key.src, key.dst, key.port = c.reply.dst, c.reply.src, c.reply.sport
    key.proto, key.family, key.count = c.reply.proto, c.reply.family, 0
    return key


cdef inline void count_in(ct_t* t, const conn_t* c) noexcept nogil:
    """A connection has been confirmed."""
    cdef kf_counted key
    t.census[census_place(c.original.proto, c.state)] += 1
    if t.ports.place and c.status & IPS_SRC_NAT:
        key = port_of(c)
        kf_tally_add(&t.ports, &key)


cdef inline void count_out(ct_t* t, const conn_t* c) noexcept nogil:
    """A connection ends."""
    cdef kf_counted key
    if not c.status & IPS_CONFIRMED:
        return
    t.census[census_place(c.original.proto, c.state)] -= 1
    if t.ports.place and c.status & IPS_SRC_NAT:
        key = port_of(c)
        kf_tally_take(&t.ports, &key)


cdef bint ct_count_ports(ct_t* t, bint on) noexcept nogil:
    """Count translated sources from now on, those that are there included; or no longer. False without memory."""
    cdef uint32_t conn
    cdef kf_counted key
    cdef conn_t* c
    kf_tally_free(&t.ports)
    if not on:
        return True
    if kf_tally_init(&t.ports, t.secret) != 0:
        return False
    for conn in range(t.used):
        c = &t.row[conn]
        if c.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED and c.status & IPS_SRC_NAT:
            key = port_of(c)
            kf_tally_add(&t.ports, &key)
    return True


cdef void ct_discard(ct_t* t, uint32_t conn) noexcept nogil:
    """End a connection that was never confirmed."""
    if not t.row[conn].status & IPS_DYING:
        forget(t, conn)


cdef void ct_kill(ct_t* t, uint32_t conn) noexcept nogil:
    """End a confirmed connection."""
    cdef conn_t* c = &t.row[conn]
    if c.status & IPS_DYING:
        return
    if t.events.event:
        ct_note(t, conn, EVENT_DESTROY)
    count_out(t, c)
    kf_index_erase(&t.index, ct_hash(t, &c.reply), kf_ref(conn, 1))
    kf_index_erase(&t.index, ct_hash(t, &c.original), kf_ref(conn, 0))     # not there after a NAT clash
    forget(t, conn)


cdef void ct_expire_row(ct_t* t, uint32_t conn) noexcept nogil:
    ct_kill(t, conn)
    t.counters.expired += 1


cdef inline bint is_expired(const conn_t* c, int64_t now) noexcept nogil:
    return c.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED and c.expires <= now


cdef uint32_t ct_expire(ct_t* t, uint32_t rows, int64_t now) noexcept nogil:
    """Look at the next `rows` rows, round and round, and reclaim the expired; how many those were."""
    cdef uint32_t reclaimed = 0, ahead
    cdef conn_t* c
    t.events.now = now
    for _ in range(min(rows, t.used)):
        if t.cursor >= t.used:
            t.cursor = 0
        kf_prefetch(&t.row[min(t.cursor + FAR_AHEAD, t.used)])
        ahead = t.cursor + AHEAD
        if ahead < t.used and is_expired(&t.row[ahead], now):
            c = &t.row[ahead]
            ct_prefetch(t, ct_hash(t, &c.original))
            ct_prefetch(t, ct_hash(t, &c.reply))
            kf_prefetch(ct_source(t, &c.original))
        if is_expired(&t.row[t.cursor], now):
            ct_expire_row(t, t.cursor)
            reclaimed += 1
        t.cursor += 1
    return reclaimed


cdef bint early_drop(ct_t* t, uint64_t hash, int64_t now) noexcept nogil:
    """Make room as the kernel does: evict what is not assured from the first bucket near the new tuple
    that has any."""
    cdef kf_bucket* b
    cdef conn_t* c
    cdef uint32_t m, conn, before = t.count
    cdef uint64_t i
    for i in range(min(<uint64_t>EVICTION_RANGE, t.index.mask + 1)):
        b = &kf_home(&t.index, hash & ~t.index.mask)[(hash + i) & t.index.mask]
        m = ~kf_match(b, 0) & 0xFFF
        while m:
            conn = kf_ref_conn(b.ref[kf_first(m)])
            m &= m - 1
            c = &t.row[conn]
            if c.status & IPS_DYING:
                continue            # both of its references were in this bucket
            if c.expires <= now:
                ct_expire_row(t, conn)
            elif not c.status & IPS_ASSURED:
                ct_kill(t, conn)
                t.counters.early_drop += 1
        if t.count < before:
            return True
    return False


cdef uint32_t ct_new(ct_t* t, const tuple_t* original, const tuple_t* reply, uint64_t hash,
                     int64_t now) noexcept nogil:
    """An unconfirmed connection, or NO_CONN: the table is full of what must not be evicted."""
    cdef uint32_t conn
    cdef conn_t* c
    ct_expire(t, SWEEP, now)
    if t.count >= t.room and not ct_expire(t, SWEEP_FULL, now) and not early_drop(t, hash, now):
        t.counters.drop += 1
        return NO_CONN
    if t.free != NO_CONN:
        conn = t.free
        t.free = t.row[conn].by_source_next
        if t.free != NO_CONN:
            kf_prefetch(&t.row[t.free])         # for the next one
            kf_prefetch(&t.row[t.free].packets)
    else:
        conn = t.used
        t.used += 1
    t.count += 1
    c = &t.row[conn]
    memset(c, 0, sizeof(conn_t))
    kf_tuple_copy(&c.original, original)
    kf_tuple_copy(&c.reply, reply)
    t.vacancy.conn = NO_CONN            # it may have been about the row's last tenant
    return conn


cdef void insert_row(ct_t* t, uint32_t conn, uint64_t hash, uint64_t reply_hash) noexcept nogil:
    # The reply first: should both tuples be equal, a lookup meets it first, as in the kernel.
    kf_index_insert(&t.index, reply_hash, kf_ref(conn, 1))
    if not t.row[conn].status & IPS_NAT_CLASH:
        kf_index_insert(&t.index, hash, kf_ref(conn, 0))
    t.vacancy.conn = NO_CONN


cdef uint64_t hash_of(const void* table, uint32_t ref) noexcept nogil:
    return ct_hash(<const ct_t*>table, kf_ref_tuple((<const ct_t*>table).row, ref))


cdef void ask_for(const void* table, uint32_t ref) noexcept nogil:
    kf_prefetch(kf_ref_row((<const ct_t*>table).row, ref))


cdef inline bint make_room(ct_t* t, uint64_t hash) noexcept nogil:
    """Room for one more reference in the index; False without memory."""
    return kf_index_room(&t.index, hash, t, hash_of, ask_for) == 0


cdef bint ct_restore(ct_t* t, const uint8_t* rows, const uint8_t* sides, uint32_t used,
                     uint32_t heads) noexcept nogil:
    """Fill an empty table with the memory of another one of the same seed and size. False without memory."""
    cdef uint32_t conn
    cdef uint64_t hash, reply_hash
    cdef conn_t* c
    if used:                                    # an empty array may have no address
        memcpy(t.row, rows, used * sizeof(conn_t))
        memcpy(t.side, sides, used * 2 * sizeof(tcp_side_t))
    t.used, t.heads = used, heads
    while t.source_mask < heads - 1:
        t.source_mask = 2 * t.source_mask + 1
    for conn in range(used):
        c = &t.row[conn]
        c.path[0] = c.path[1] = 0               # they are another node's
        if c.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED:
            hash, reply_hash = ct_hash(t, &c.original), ct_hash(t, &c.reply)
            if not (make_room(t, hash) and make_room(t, reply_hash)):
                return False
            insert_row(t, conn, hash, reply_hash)
            count_in(t, c)
        if c.status & (IPS_SRC_NAT_DONE | IPS_DYING) == IPS_SRC_NAT_DONE:
            t.linked += 1
            if c.by_source_prev == 0:
                ct_source(t, &c.original)[0] = conn + 1
    return True


cdef bint adopt(ct_t* t, uint32_t* conn, uint32_t winner) noexcept nogil:
    """Give a packet whose connection lost a race to the winner, if that translates it alike."""
    cdef conn_t* w = &t.row[winner]
    cdef conn_t* c = &t.row[conn[0]]
    if w.status & IPS_NAT_DONE_MASK and not (
            tuple_equal(&w.original, &c.original) and tuple_equal(&w.reply, &c.reply)):
        return False
    w.packets[0] += 1
    w.bytes[0] += c.bytes[0]
    ct_discard(t, conn[0])
    conn[0] = winner
    t.counters.clash_resolve += 1
    return True


cdef confirm_t clash(ct_t* t, uint32_t* conn, uint32_t winner, int64_t now) noexcept nogil:
    """One of the tuples is in the table already (nf_ct_resolve_clash)."""
    cdef conn_t* c = &t.row[conn[0]]
    cdef uint64_t hash = ct_hash(t, &c.reply)
    cdef int direction
    if not proto_allows_clash(t.row[winner].original.proto):
        return CONFIRM_CLASH
    if adopt(t, conn, winner):
        return CONFIRM_OK
    winner = ct_find(t, &c.reply, hash, now, &direction)
    if winner != NO_CONN:
        return CONFIRM_OK if adopt(t, conn, winner) else CONFIRM_CLASH
    # Replies alone shall find it, and not for long.
    c.expires = now + SECOND
    c.status |= IPS_FIXED_TIMEOUT | IPS_NAT_CLASH | IPS_CONFIRMED
    count_in(t, c)
    kf_index_insert(&t.index, hash, kf_ref(conn[0], 1))
    t.vacancy.conn = NO_CONN
    t.counters.clash_resolve += 1
    return CONFIRM_OK


cdef confirm_t ct_confirm(ct_t* t, uint32_t* conn, int64_t now) noexcept nogil:
    """Enter a connection into the table (__nf_conntrack_confirm). The packet may have to adopt another one:
    then *conn is that. Unless CONFIRM_OK, the connection is gone and the packet has to go."""
    cdef conn_t* c = &t.row[conn[0]]
    cdef bint absent = t.vacancy.conn == conn[0]
    cdef bint reply_absent = absent and t.vacancy.reply_absent and tuple_equal(&t.vacancy.reply, &c.reply)
    cdef uint64_t hash = t.vacancy.hash if absent else ct_hash(t, &c.original)
    cdef uint64_t reply_hash = t.vacancy.reply_hash if reply_absent else ct_hash(t, &c.reply)
    cdef uint32_t winner = NO_CONN
    cdef int direction
    cdef confirm_t verdict = CONFIRM_OK
    if c.status & (IPS_CONFIRMED | IPS_DYING):
        return CONFIRM_OK
    if not (make_room(t, hash) and make_room(t, reply_hash)):
        verdict = CONFIRM_FULL
    else:
        if not absent:
            winner = ct_find(t, &c.original, hash, now, &direction)
        if winner == NO_CONN and not reply_absent:
            winner = ct_find(t, &c.reply, reply_hash, now, &direction)
        if winner != NO_CONN:
            verdict = clash(t, conn, winner, now)
        else:
            c.expires += now
            c.created = now
            c.status |= IPS_CONFIRMED
            insert_row(t, conn[0], hash, reply_hash)
            count_in(t, c)
            t.counters.insert += 1
            if t.events.event:
                t.events.now = now
                ct_note(t, conn[0], EVENT_NEW)
    if verdict != CONFIRM_OK:
        ct_discard(t, conn[0])
        conn[0] = NO_CONN
        t.counters.insert_failed += 1
        t.counters.drop += 1
    return verdict


cdef bint ct_taken(ct_t* t, const tuple_t* reply, uint32_t ignored, int64_t now) noexcept nogil:
    """Whether another connection has this tuple (nf_conntrack_tuple_taken). One of the very same flow
    does not count: confirmation settles that."""
    cdef uint64_t hash = ct_hash(t, reply)
    cdef uint8_t tag = kf_tag(hash)
    cdef uint64_t n = 0
    cdef uint32_t m, ref
    cdef bint absent = True
    cdef kf_bucket* b
    cdef conn_t* c
    while True:
        b = kf_probe(&t.index, hash, n)
        m = kf_match(b, tag)
        while m:
            ref = b.ref[kf_first(m)]
            m &= m - 1
            c = kf_ref_row(t.row, ref)
            if kf_ref_conn(ref) == ignored or not tuple_equal(kf_ref_tuple(t.row, ref), reply):
                continue
            absent = False
            if c.expires <= now:
                ct_expire_row(t, kf_ref_conn(ref))
            elif not tuple_equal(&c.original, &t.row[ignored].original):
                t.counters.found += 1
                return True
        if not kf_passed(b, hash) or n >= t.index.mask:
            break
        n += 1
    if absent and ignored == t.vacancy.conn:
        t.vacancy.reply_absent, t.vacancy.reply_hash = True, hash
        t.vacancy.reply = reply[0]
    return False


cdef uint32_t ct_probes(const ct_t* t, const tuple_t* tuple, uint32_t* rows) noexcept nogil:
    """How many lines of the index `ct_find` reads for this tuple; `rows`: and how many rows, compared in vain or not."""
    cdef uint64_t hash = ct_hash(t, tuple), n = 0
    cdef uint32_t m
    cdef kf_bucket* b
    rows[0] = 0
    while True:
        b = kf_probe(&t.index, hash, n)
        n += 1
        m = kf_match(b, kf_tag(hash))
        while m:
            rows[0] += 1
            if tuple_equal(kf_ref_tuple(t.row, b.ref[kf_first(m)]), tuple):
                return <uint32_t>n
            m &= m - 1
        if not kf_passed(b, hash) or n > t.index.mask:
            return <uint32_t>n
