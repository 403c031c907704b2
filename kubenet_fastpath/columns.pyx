"""Tracking and finding columns of tuples: hashed and their lines fetched a vector ahead, then one by one."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from .connection cimport (
    CT_DROP, CT_INVALID, IPS_CONFIRMED, NO_CONN, conn_t, ctinfo_t, segment_t, tuple_head, tuple_is, tuple_t, tuple_tail,
)
from .flowtable cimport (
    CONFIRM_OK, ct_confirm, ct_conn, ct_find, ct_hash, ct_prefetch, ct_prefetch_conn, kf_bucket, kf_first, kf_hash128,
    kf_home, kf_match, kf_prefetch, kf_probe, kf_tag,
)
from .frame cimport (
    ICMP_ID, ICMP_LEN, ICMP_MAX_TYPE, IP_LEN, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_TCP, TCP_ACK, TCP_ACKFLAG,
    TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQ, TCP_WINDOW, UDP_LEN, UDP_LENGTH, store16, store32,
)
from .tracker cimport ct_track_hashed, is_icmp_error

cdef enum:
    VECTOR = 64            # tuples hashed, and their lines fetched, before the first of them is looked up
    FIND_VECTOR = 256      # the same of a lookup, which has but little to do with each
    LAST_SLOT = 1 << 11    # of a bucket

cdef uint32_t NO_CANDIDATE = <uint32_t>0xFFFFFFFF   # the bucket names none, but has been passed
cdef uint32_t NOWHERE = <uint32_t>0xFFFFFFFE        # and has not


cdef void fetch(const ct_t* t, const columns_t* c, Py_ssize_t base, int m, tuple_t* tuple,
                uint64_t* hash) noexcept nogil:
    cdef int k
    for k in range(m):
        tuple[k].src, tuple[k].dst = c.src[base + k], c.dst[base + k]
        tuple[k].sport, tuple[k].dport = c.sport[base + k], c.dport[base + k]
        tuple[k].proto, tuple[k].family, tuple[k].zone = c.proto[base + k], 4, c.zone
        hash[k] = ct_hash(t, &tuple[k])
        ct_prefetch(t, hash[k])
    for k in range(m):
        ct_prefetch_conn(t, hash[k])


cdef void columns_find(ct_t* t, const columns_t* c, uint32_t* conn, uint8_t* reply) noexcept nogil:
    """Passes over a vector: hash, and ask for the buckets; ask for the rows that their tags name; compare.

    One in 20 keys shares its tag with another, or has gone on to a further bucket. These are put off, and their memory is
    asked for in passes of their own: one row waited for costs as much as ten that were asked for.
    """
    cdef Py_ssize_t base = 0, i
    cdef int k, m, direction = 0
    cdef uint32_t j, n
    cdef tuple_t tuple
    cdef uint64_t[FIND_VECTOR] head
    cdef uint64_t[FIND_VECTOR] tail
    cdef uint64_t[FIND_VECTOR] hash
    cdef const kf_bucket* bucket[FIND_VECTOR]
    cdef uint32_t[FIND_VECTOR] candidate
    cdef uint8_t[FIND_VECTOR] late
    cdef uint32_t ref, match
    cdef const kf_bucket* b
    cdef const conn_t* row
    cdef int64_t now
    while base < c.n:
        m = <int>min(<Py_ssize_t>FIND_VECTOR, c.n - base)
        n = 0
        for k in range(m):
            i = base + k
            head[k] = tuple_head(c.src[i], c.dst[i])
            tail[k] = tuple_tail(c.sport[i], c.dport[i], c.proto[i], 4, c.zone)
            hash[k] = kf_hash128(head[k], tail[k], t.secret)
            bucket[k] = kf_home(&t.index, hash[k])
            kf_prefetch(bucket[k])
        for k in range(m):
            b = bucket[k]
            match = kf_match(b, kf_tag(hash[k]))
            ref = b.ref[kf_first(match | LAST_SLOT)]
            candidate[k] = ref if match else (NO_CANDIDATE if b.passed else NOWHERE)
            kf_prefetch(<const void*>&t.row[ref >> 1] if match else <const void*>b)
        for k in range(m):
            ref, i = candidate[k], base + k
            if ref < NOWHERE:
                now = c.now[0 if c.one_time else i]
                row = &t.row[ref >> 1]
                if row.expires > now and tuple_is(&row.original + (ref & 1), head[k], tail[k]):
                    conn[i], reply[i] = ref >> 1, ref & 1
                    continue
            conn[i], reply[i] = NO_CONN, 0
            late[n] = <uint8_t>k
            n += ref != NOWHERE
            if ref == NO_CANDIDATE:
                kf_prefetch(kf_probe(&t.index, hash[k], 1))
        for j in range(n):
            k = late[j]
            b = bucket[k]
            match = kf_match(b, kf_tag(hash[k]))
            match &= match - 1
            if not match and b.passed:
                b = kf_probe(&t.index, hash[k], 1)
                match = kf_match(b, kf_tag(hash[k]))
            if match:
                kf_prefetch(&t.row[b.ref[kf_first(match)] >> 1])
        for j in range(n):
            k, i = late[j], base + late[j]
            now = c.now[0 if c.one_time else i]
            direction = 0
            tuple.src, tuple.dst, tuple.sport, tuple.dport = c.src[i], c.dst[i], c.sport[i], c.dport[i]
            tuple.proto, tuple.family, tuple.zone = c.proto[i], 4, c.zone
            conn[i] = ct_find(t, &tuple, hash[k], now, &direction)
            reply[i] = direction
        base += FIND_VECTOR


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


cdef ctinfo_t track(ct_t* t, const segment_t* seg, uint64_t hash, int64_t now, uint32_t* conn) noexcept nogil:
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
    seg.l4, seg.verify = l4, False
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
            info[i] = track(t, &seg, hash[k], c.now[0 if c.one_time else i], &conn[i])
        base += VECTOR
    t.tcp.windowless = windowless
