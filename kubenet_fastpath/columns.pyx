"""Tracking and finding columns of tuples: hashed and their lines fetched a vector ahead, then one by one."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .connection cimport (
    CT_DROP, CT_ESTABLISHED_REPLY, CT_INVALID, IPS_CONFIRMED, NO_CONN, conn_t, ctinfo_t, segment_t, tuple_invert, tuple_t,
)
from .flowtable cimport (
    CONFIRM_OK, ct_confirm, ct_conn, ct_find, ct_hash, ct_prefetch, ct_prefetch_conn, ct_source, kf_index, kf_prefetch,
)
from .frame cimport (
    ICMP_ID, ICMP_LEN, ICMP_MAX_TYPE, IP_LEN, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_TCP, TCP_ACK, TCP_ACKFLAG,
    TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQ, TCP_WINDOW, UDP_LEN, UDP_LENGTH, store16, store32,
)
from .nat cimport MANIP_DST, MANIP_SRC, nat_setup, nat_setup_null
from .tracker cimport ct_track_hashed, is_icmp_error

cdef extern from "csrc/flow_find.h" nogil:
    enum:
        KF_FIND_VECTOR      # tuples a call
    ctypedef struct kf_tuple:
        uint64_t head       # as `tuple_head` makes it
        uint64_t tail
    ctypedef struct kf_finding:
        uint64_t* hash
        uint16_t* late      # `lates` of them, that are still to be searched
        uint32_t lates
    ctypedef struct kf_quest:
        const kf_index* index
        const conn_t* row
        uint64_t* secret
        const kf_tuple* key
        const int64_t* now
        bint each           # one time for each key
        uint32_t* conn
        uint8_t* reply
    ctypedef struct kf_tuple_columns:
        const uint32_t* src
        const uint32_t* dst
        const uint16_t* sport
        const uint16_t* dport
        const uint8_t* proto
        uint16_t zone
    void kf_find(const kf_quest* q, int isa, kf_finding* f, int m)
    void kf_pack(const kf_tuple_columns* c, int isa, size_t base, int m, kf_tuple* key)

cdef enum:
    VECTOR = 64            # tuples hashed, and their lines fetched, before the first of them is tracked

cdef void fetch(const ct_t* t, const columns_t* c, Py_ssize_t base, int m, tuple_t* tuple,
                uint64_t* hash) noexcept nogil:
    cdef int k, step
    cdef uint32_t* chain[VECTOR]
    for k in range(m):
        tuple[k].src, tuple[k].dst = c.src[base + k], c.dst[base + k]
        tuple[k].sport, tuple[k].dport = c.sport[base + k], c.dport[base + k]
        tuple[k].proto, tuple[k].family, tuple[k].zone = c.proto[base + k], 4, c.zone
        hash[k] = ct_hash(t, &tuple[k])
        ct_prefetch(t, hash[k])
    for k in range(m):
        chain[k] = NULL
        if not ct_prefetch_conn(t, hash[k]) and c.range != NULL:
            chain[k] = fetch_new(t, c, &tuple[k])
    if c.range == NULL:
        return
    for step in range(2):               # the latest of the chain, and the one before it: few have more
        for k in range(m):
            if chain[k] != NULL:
                chain[k] = fetch_chained(t, chain[k][0])


cdef inline uint32_t* fetch_chained(const ct_t* t, uint32_t link) noexcept nogil:
    """Ask for a row that a chain by source leads to; where the chain goes on, NULL: nowhere."""
    if not link:
        return NULL
    kf_prefetch(&t.row[link - 1])
    kf_prefetch(&t.row[link - 1].by_source_next)
    return &t.row[link - 1].by_source_next


cdef uint32_t* fetch_new(const ct_t* t, const columns_t* c, const tuple_t* tuple) noexcept nogil:
    """Ask for where the answers of a new flow will be entered, should it keep its port; the chain of its source."""
    cdef tuple_t reply
    cdef uint32_t* chain = ct_source(t, tuple)
    tuple_invert(&reply, tuple)
    reply.dst = c.range.min_ip
    ct_prefetch(t, ct_hash(t, &reply))
    kf_prefetch(chain)
    return chain


cdef void columns_find(ct_t* t, int isa, const columns_t* c, uint32_t* conn, uint8_t* reply) noexcept nogil:
    """Search a vector at a time (csrc/flow_find.h); what needs to look closer, or is found expired, one by one."""
    cdef Py_ssize_t base = 0
    cdef int k, m, direction = 0
    cdef uint32_t j
    cdef kf_tuple[KF_FIND_VECTOR] key
    cdef kf_finding finding
    cdef kf_tuple_columns tuples
    cdef kf_quest quest
    tuples.src, tuples.dst, tuples.sport, tuples.dport, tuples.proto = c.src, c.dst, c.sport, c.dport, c.proto
    tuples.zone = c.zone
    quest.index, quest.row, quest.each = &t.index, t.row, not c.one_time
    quest.secret[0], quest.secret[1] = t.secret[0], t.secret[1]
    while base < c.n:
        m = <int>min(<Py_ssize_t>KF_FIND_VECTOR, c.n - base)
        quest.key = key
        if c.tuple == NULL:
            kf_pack(&tuples, isa, base, m, key)
        elif <size_t>c.tuple & 7:
            memcpy(key, c.tuple + base, m * sizeof(tuple_t))
        else:
            quest.key = <const kf_tuple*>(c.tuple + base)
        quest.now = c.now if c.one_time else c.now + base
        quest.conn, quest.reply = conn + base, reply + base
        kf_find(&quest, isa, &finding, m)
        for j in range(finding.lates):
            k = finding.late[j]
            direction = 0
            conn[base + k] = ct_find(t, <const tuple_t*>&quest.key[k], finding.hash[k],
                                     quest.now[0 if c.one_time else k], &direction)
            reply[base + k] = direction
        base += KF_FIND_VECTOR


cdef void build_l4(uint8_t* l4, const columns_t* c, Py_ssize_t i, uint32_t l4_len) noexcept nogil:
    """As much of an L4 header as tracking reads."""
    memset(l4, 0, TCP_LEN)
    if c.proto[i] == PROTO_ICMP:
        store16(l4, c.dport[i])
        store16(l4 + ICMP_ID, c.sport[i])
        return
    store16(l4 + L4_SPORT, c.sport[i])
    store16(l4 + L4_DPORT, c.dport[i])
    if c.proto[i] == PROTO_TCP:
        store32(l4 + TCP_SEQ, c.seq[i] if c.seq else 0)
        store32(l4 + TCP_ACK, c.ack[i] if c.ack else 0)
        l4[TCP_OFFSET] = (TCP_LEN // 4) << 4
        l4[TCP_FLAGS] = c.flags[i] if c.flags else <uint8_t>TCP_ACKFLAG
        store16(l4 + TCP_WINDOW, c.window[i] if c.window else 0)
    else:
        store16(l4 + UDP_LENGTH, <uint16_t>l4_len)


cdef ctinfo_t track(ct_t* t, const columns_t* c, const segment_t* seg, uint64_t hash, int64_t now,
                    uint32_t* conn) noexcept nogil:
    cdef ctinfo_t info
    cdef uint8_t kind = seg.tuple.dport >> 8
    conn[0] = NO_CONN
    if seg.tuple.proto == PROTO_ICMP and (
            kind > ICMP_MAX_TYPE or is_icmp_error(kind) or seg.l4_len < ICMP_LEN):
        t.counters.error += 1
        return CT_INVALID
    info = ct_track_hashed(t, seg, hash, now, conn)
    if conn[0] == NO_CONN or ct_conn(t, conn[0]).status & IPS_CONFIRMED:
        return info
    if c.range != NULL:
        nat_setup_null(t, conn[0], MANIP_DST, now, c.rng)
        nat_setup(t, conn[0], c.range, MANIP_SRC, now, c.rng)
    return info if ct_confirm(t, conn, now) == CONFIRM_OK else CT_DROP


cdef void columns_track(ct_t* t, const columns_t* c, uint32_t* conn, uint8_t* info) noexcept nogil:
    cdef Py_ssize_t base = 0, i
    cdef int k, m
    cdef tuple_t[VECTOR] tuple
    cdef uint64_t[VECTOR] hash
    cdef uint8_t[TCP_LEN] l4
    cdef segment_t seg
    cdef bint windowless = t.tcp.windowless
    t.tcp.windowless = c.seq == NULL
    seg.l3, seg.l4, seg.verify = NULL, l4, False
    while base < c.n:
        m = <int>min(<Py_ssize_t>VECTOR, c.n - base)
        fetch(t, c, base, m, tuple, hash)
        for k in range(m):
            i = base + k
            seg.tuple = tuple[k]
            if c.length:
                seg.ip_len = c.length[i]
            else:
                seg.ip_len = IP_LEN + (TCP_LEN if c.proto[i] == PROTO_TCP else UDP_LEN)
            seg.l4_len = seg.ip_len - IP_LEN if seg.ip_len > IP_LEN else 0
            build_l4(l4, c, i, seg.l4_len)
            info[i] = track(t, c, &seg, hash[k], c.now[0 if c.one_time else i], &conn[i])
            if c.leaves == NULL:
                continue
            c.leaves[i] = tuple[k]
            if conn[i] != NO_CONN:      # what the other direction's packets would answer
                tuple_invert(&c.leaves[i], &ct_conn(t, conn[i]).original if info[i] == CT_ESTABLISHED_REPLY
                             else &ct_conn(t, conn[i]).reply)
        base += VECTOR
    t.tcp.windowless = windowless
