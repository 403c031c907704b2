"""Tracking and finding columns of tuples: hashed and their lines fetched a vector ahead, then one by one."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from .connection cimport CT_DROP, CT_INVALID, IPS_CONFIRMED, NO_CONN, conn_t, ctinfo_t, segment_t, tuple_equal, tuple_t
from .flowtable cimport (
    CONFIRM_OK, ct_confirm, ct_conn, ct_find, ct_hash, ct_prefetch, ct_prefetch_conn, kf_bucket, kf_first, kf_home,
    kf_match, kf_prefetch, kf_tag,
)
from .frame cimport (
    ICMP_ID, ICMP_LEN, ICMP_MAX_TYPE, IP_LEN, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_TCP, TCP_ACK, TCP_ACKFLAG,
    TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQ, TCP_WINDOW, UDP_LEN, UDP_LENGTH, store16, store32,
)
from .tracker cimport ct_track_hashed, is_icmp_error

cdef enum:
    VECTOR = 64            # tuples hashed, and their lines fetched, before the first of them is looked up
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
    """Three passes over a vector: hash and fetch the buckets; fetch the rows that their tags name; compare.

    What the first row named is not goes through the table's own search: a tag is alike in one of 20 misses.
    """
    cdef Py_ssize_t base = 0
    cdef int k, m, direction = 0
    cdef tuple_t[VECTOR] tuple
    cdef uint64_t[VECTOR] hash
    cdef const kf_bucket* bucket[VECTOR]
    cdef uint32_t[VECTOR] candidate
    cdef uint32_t ref, match
    cdef const kf_bucket* b
    cdef const conn_t* row
    cdef int64_t now
    while base < c.n:
        m = <int>min(<Py_ssize_t>VECTOR, c.n - base)
        for k in range(m):
            tuple[k].src, tuple[k].dst = c.src[base + k], c.dst[base + k]
            tuple[k].sport, tuple[k].dport = c.sport[base + k], c.dport[base + k]
            tuple[k].proto, tuple[k].family, tuple[k].zone = c.proto[base + k], 4, c.zone
            hash[k] = ct_hash(t, &tuple[k])
            bucket[k] = kf_home(&t.index, hash[k])
            kf_prefetch(bucket[k])
        for k in range(m):
            b = bucket[k]
            match = kf_match(b, kf_tag(hash[k]))
            ref = b.ref[kf_first(match | LAST_SLOT)]
            candidate[k] = ref if match else (NO_CANDIDATE if b.passed else NOWHERE)
            kf_prefetch(&t.row[ref >> 1])
        for k in range(m):
            ref = candidate[k]
            if ref == NOWHERE:
                conn[base + k], reply[base + k] = NO_CONN, 0
                continue
            now = c.now[0 if c.one_time else base + k]
            if ref != NO_CANDIDATE:
                row = &t.row[ref >> 1]
                if row.expires > now and tuple_equal(&row.reply if ref & 1 else &row.original, &tuple[k]):
                    conn[base + k], reply[base + k] = ref >> 1, ref & 1
                    continue
            direction = 0
            conn[base + k] = ct_find(t, &tuple[k], hash[k], now, &direction)
            reply[base + k] = direction
        base += VECTOR


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
    return info


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
