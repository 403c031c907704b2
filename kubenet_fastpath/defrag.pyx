"""A table of datagrams that wait for their fragments, as Linux's ip_defrag and nf_ct_frag6_gather keep it for conntrack."""

from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free

from .frame cimport EXT_FRAGMENT, IP_DST, IP_ID, IP_PROTO, IP_SRC, load16, load32
from .reassembly cimport (
    FATE_BAD_END, FATE_DUPLICATE, FATE_HELD, FATE_MISFIT, FATE_NO_MEMORY, FATE_TIMEOUT, FATE_TOO_FAR, fragment_read,
    reassembly_add, reassembly_clear, reassembly_complete, reassembly_finish, reassembly_free, reassembly_head,
)

cdef extern from "csrc/chain.h" nogil:
    int kf_chains_init(kf_chains* c, uint64_t chains)
    void kf_chains_free(kf_chains* c)
    kf_link* kf_chain(const kf_chains* c, uint64_t hash)
    void kf_chains_insert(kf_chains* c, kf_link* entry, uint64_t hash)
    void kf_chains_erase(kf_chains* c, kf_link* entry)

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)
    uint64_t kf_hash128(uint64_t a, uint64_t b, const uint64_t* secret)
    uint64_t kf_splitmix(uint64_t* state)

cdef enum:
    QUEUE_SIZE = 200            # sizeof(struct ipq)
    CHAINS = 64                 # to begin with


cdef queue_t* find(const defrag_t* t, uint64_t hash, uint32_t src, uint32_t dst, uint32_t id, uint8_t proto,
                   uint64_t user) noexcept nogil:
    cdef queue_t* q = <queue_t*>kf_chain(&t.queues, hash)
    while q != NULL:
        if (q.link.hash == hash and q.src == src and q.dst == dst and q.id == id and q.proto == proto
                and q.user == user):
            break
        q = <queue_t*>q.link.next
    return q


cdef source_t* source_of(defrag_t* t, uint32_t address) noexcept nogil:
    """The counter of a source, with one queue more on it; NULL without memory."""
    cdef uint64_t hash = kf_hash64(address, t.secret)
    cdef source_t* s = <source_t*>kf_chain(&t.sources, hash)
    while s != NULL and s.address != address:
        s = <source_t*>s.link.next
    if s == NULL:
        s = <source_t*>calloc(1, sizeof(source_t))
        if s == NULL:
            return NULL
        s.address = address
        kf_chains_insert(&t.sources, &s.link, hash)
    s.queues += 1
    return s


cdef void schedule(defrag_t* t, queue_t* q, int64_t due) noexcept nogil:
    """Put a queue in the order of `due`, behind its equals; while time runs forward that place is the end."""
    cdef queue_t* before = t.newest
    while before != NULL and before.due > due:
        before = before.older
    q.due = due
    q.older = before
    q.newer = t.oldest if before == NULL else before.newer
    if before == NULL:
        t.oldest = q
    else:
        before.newer = q
    if q.newer == NULL:
        t.newest = q
    else:
        q.newer.older = q


cdef void unschedule(defrag_t* t, queue_t* q) noexcept nogil:
    if q.older == NULL:
        t.oldest = q.newer
    else:
        q.older.newer = q.newer
    if q.newer == NULL:
        t.newest = q.older
    else:
        q.newer.older = q.older


cdef inline uint64_t key_hash(const defrag_t* t, uint32_t src, uint32_t dst, uint32_t id, uint8_t proto,
                              uint64_t user) noexcept nogil:
    return kf_hash128(<uint64_t>src << 32 | dst, kf_hash64(user << 40 ^ <uint64_t>id << 8 ^ proto, t.secret),
                      t.secret)


cdef queue_t* create(defrag_t* t, uint64_t hash, uint32_t src, uint32_t dst, uint32_t id, uint8_t proto,
                     uint64_t user, int64_t due) noexcept nogil:
    cdef queue_t* q = <queue_t*>calloc(1, sizeof(queue_t))
    if q == NULL:
        return NULL
    q.source = source_of(t, src)
    if q.source == NULL:
        free(q)
        return NULL
    q.src, q.dst, q.id, q.proto, q.user = src, dst, id, proto, user
    kf_chains_insert(&t.queues, &q.link, hash)
    schedule(t, q, due)
    t.memory += QUEUE_SIZE
    return q


cdef inline void lose(defrag_t* t, uint32_t pieces, fragment_fate_t fate) noexcept nogil:
    t.held -= pieces
    t.ended[<int>fate] += pieces


cdef void destroy(defrag_t* t, queue_t* q) noexcept nogil:
    t.memory -= QUEUE_SIZE + q.body.memory
    reassembly_free(&q.body)
    kf_chains_erase(&t.queues, &q.link)
    unschedule(t, q)
    q.source.queues -= 1
    if q.source.queues == 0:
        kf_chains_erase(&t.sources, &q.source.link)
        free(q.source)
    free(q)


cdef void count_distance(defrag_t* t, queue_t* q, int64_t now) noexcept nogil:
    """Start a queue anew if its source sent too many other fragments meanwhile, for the ID may be in its next
    round (ip_frag_too_far, ip_frag_reinit; the sizes seen so far stay, as there)."""
    cdef uint32_t before = q.rid
    if t.max_distance == 0:
        return
    q.source.rid += 1
    q.rid = q.source.rid
    if q.body.pieces == 0 or q.rid - before <= t.max_distance:
        return
    lose(t, q.body.pieces, FATE_TOO_FAR)
    t.memory -= q.body.memory
    reassembly_clear(&q.body)
    unschedule(t, q)
    schedule(t, q, now + t.timeout)


cdef fragment_fate_t add_to_queue(defrag_t* t, queue_t* q, const fragment_t* g, uint16_t port,
                                  datagram_t* out) noexcept nogil:
    cdef uint32_t held = q.body.pieces, memory = q.body.memory
    cdef fragment_fate_t fate = reassembly_add(&q.body, g, port)
    t.memory += q.body.memory - memory
    if fate == FATE_HELD and reassembly_complete(&q.body):
        fate = reassembly_finish(&q.body, &t.desk, out)
    if fate == FATE_HELD:
        t.held += 1
    elif fate != FATE_DUPLICATE and not (fate == FATE_BAD_END and g.six):
        lose(t, held, fate)
        destroy(t, q)
    return fate


cdef fragment_fate_t add(defrag_t* t, const fragment_t* g, uint32_t src, uint32_t dst, uint32_t id, uint8_t proto,
                         uint64_t user, uint16_t port, int64_t now, datagram_t* out) noexcept nogil:
    cdef uint64_t hash = key_hash(t, src, dst, id, proto, user)
    cdef fragment_fate_t fate = FATE_NO_MEMORY
    cdef queue_t* q
    if t.high_threshold and t.memory <= t.high_threshold:
        q = find(t, hash, src, dst, id, proto, user)
        if q == NULL:
            q = create(t, hash, src, dst, id, proto, user, now + t.timeout)
        if q != NULL:
            count_distance(t, q, now)
            fate = add_to_queue(t, q, g, port, out)
    t.arrived[<int>fate] += 1
    return fate


cdef fragment_fate_t defrag_add(defrag_t* t, const uint8_t* frame, uint32_t l3, uint32_t end, uint64_t user,
                                uint16_t port, int64_t now, datagram_t* out) noexcept nogil:
    cdef const uint8_t* ip = frame + l3
    cdef fragment_t g
    fragment_read(&g, frame, l3, end)
    return add(t, &g, load32(ip + IP_SRC), load32(ip + IP_DST), load16(ip + IP_ID), ip[IP_PROTO], user, port, now, out)


cdef fragment_fate_t defrag_add6(defrag_t* t, const fragment_t* g, uint32_t src, uint32_t dst, uint32_t id, uint64_t user,
                                 uint16_t port, int64_t now, datagram_t* out) noexcept nogil:
    cdef queue_t* q
    if g.more and g.end & 7:            # a datagram that has one of these will not be whole
        q = find(t, key_hash(t, src, dst, id, EXT_FRAGMENT, user), src, dst, id, EXT_FRAGMENT, user)
        if q != NULL:
            lose(t, q.body.pieces, FATE_BAD_END)
            destroy(t, q)
        return FATE_MISFIT
    return add(t, g, src, dst, id, EXT_FRAGMENT, user, port, now, out)


cdef bint defrag_expire(defrag_t* t, int64_t now, expired_t* out) noexcept nogil:
    cdef queue_t* q = t.oldest
    if q == NULL or q.due > now:
        return False
    out.l3 = 0
    out.end = reassembly_head(&q.body, &t.desk, &out.l3)
    out.frame = t.desk.frame if out.end else NULL
    out.fragments, out.port, out.user, out.due = q.body.pieces, q.body.port, q.user, q.due
    lose(t, q.body.pieces, FATE_TIMEOUT)
    destroy(t, q)
    return True


cdef int64_t defrag_next_due(const defrag_t* t) noexcept nogil:
    return INT64_MAX if t.oldest == NULL else t.oldest.due


cdef defrag_t* defrag_new(uint64_t seed) noexcept nogil:
    cdef defrag_t* t = <defrag_t*>calloc(1, sizeof(defrag_t))
    if t == NULL:
        return NULL
    t.timeout, t.high_threshold, t.max_distance = 30_000_000_000, 4 << 20, 64
    t.secret[0] = kf_splitmix(&seed)
    t.secret[1] = kf_splitmix(&seed)
    if kf_chains_init(&t.queues, CHAINS) or kf_chains_init(&t.sources, CHAINS):
        defrag_free(t)
        return NULL
    return t


cdef void defrag_free(defrag_t* t) noexcept nogil:
    if t == NULL:
        return
    while t.oldest != NULL:
        destroy(t, t.oldest)
    kf_chains_free(&t.queues)
    kf_chains_free(&t.sources)
    free(t.desk.frame)
    free(t.desk.payload)
    free(t)


cdef queue_t* defrag_restore(defrag_t* t, uint32_t src, uint32_t dst, uint32_t id, uint8_t proto,
                             uint64_t user, int64_t due) noexcept nogil:
    return create(t, key_hash(t, src, dst, id, proto, user), src, dst, id, proto, user, due)
