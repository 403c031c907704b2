"""Tracking and finding columns of tuples, or frames: hashed and their lines fetched a vector ahead, then one by one."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .address_pool cimport POOL_NONE, pool_find, pool_intern
from .connection cimport (
    CT_DROP, CT_ESTABLISHED_REPLY, CT_INVALID, CT_RELATED, CT_RELATED_REPLY, CT_UNTRACKED, IPS_CONFIRMED, NO_CONN, conn_t,
    ctinfo_t, segment_t, tuple_invert, tuple_ports, tuple_t,
)
from .extension cimport extension_skip
from .flowtable cimport (
    CONFIRM_OK, ct_confirm, ct_conn, ct_find, ct_hash, ct_prefetch, ct_prefetch_conn, ct_source, kf_index, kf_prefetch,
)
from .frame cimport (
    ETH_IP, ETH_IP6, ETH_LEN, ETH_TYPE, ICMP_ID, ICMP_LEN, ICMP_MAX_TYPE, IP6_DST, IP6_LEN, IP6_NEXT, IP6_PAYLOAD, IP6_SRC,
    IP_DST, IP_FRAG, IP_LEN, IP_MF, IP_OFFSET, IP_PROTO, IP_SRC, IP_TOTAL, L4_DPORT, L4_SPORT, PROTO_ICMP, PROTO_TCP, PROTO_UDP,
    TCP_ACK, TCP_ACKFLAG, TCP_FLAGS, TCP_LEN, TCP_OFFSET, TCP_SEQ, TCP_WINDOW, UDP_LEN, UDP_LENGTH, load16, load32, store16,
    store32,
)
from .nat cimport MANIP_DST, MANIP_SRC, nat_setup, nat_setup_null
from .tracker cimport ct_track, ct_track_hashed, is_icmp_error

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
    TCP_MOST = 60          # bytes of a header of TCP
    FRAMES_AHEAD = 8       # frames fetched ahead


cdef bint segment4(const uint8_t* l3, uint32_t there, uint32_t wire, segment_t* seg) noexcept nogil:
    """An IPv4 packet of which so many bytes are there, and so many, padding included, were on the wire."""
    cdef uint32_t header
    if there < IP_LEN or l3[0] >> 4 != 4:
        return False
    header, seg.ip_len = (l3[0] & 15) * 4, load16(l3 + IP_TOTAL)
    if header < IP_LEN or header > there or header > seg.ip_len or seg.ip_len > wire or load16(l3 + IP_FRAG) & (IP_MF | IP_OFFSET):
        return False
    seg.tuple.src, seg.tuple.dst, seg.tuple.proto, seg.tuple.family = load32(l3 + IP_SRC), load32(l3 + IP_DST), l3[IP_PROTO], 4
    seg.l3, seg.l4 = NULL, l3 + header
    return True


cdef bint segment6(ct_t* t, const uint8_t* l3, uint32_t there, uint32_t wire, bint enter, segment_t* seg) noexcept nogil:
    cdef uint16_t fragment
    cdef int32_t header
    if t.pool == NULL or there < IP6_LEN or l3[0] >> 4 != 6:
        return False
    seg.ip_len = <uint32_t>IP6_LEN + load16(l3 + IP6_PAYLOAD)
    if seg.ip_len > wire:
        return False
    seg.tuple.proto, seg.tuple.family = l3[IP6_NEXT], 6
    header = extension_skip(l3, min(there, seg.ip_len), IP6_LEN, &seg.tuple.proto, &fragment)
    if header < 0 or fragment != 0 or <uint32_t>header > min(there, seg.ip_len):
        return False
    if enter:
        seg.tuple.src, seg.tuple.dst = pool_intern(t.pool, l3 + IP6_SRC), pool_intern(t.pool, l3 + IP6_DST)
    else:
        seg.tuple.src, seg.tuple.dst = pool_find(t.pool, l3 + IP6_SRC), pool_find(t.pool, l3 + IP6_DST)
    seg.l3, seg.l4 = l3, l3 + header
    return seg.tuple.src != POOL_NONE and seg.tuple.dst != POOL_NONE


cdef bint segment_of(ct_t* t, const columns_t* c, Py_ssize_t i, bint enter, segment_t* seg) noexcept nogil:
    """What tracking reads of frame i, but ports; False: it is no IP packet, a fragment, or makes no sense.

    With `enter`, addresses of IPv6 get their numbers; without, those that have none belong to nobody.
    """
    cdef const uint8_t* frame = c.frames.data + c.frames.offset[i]
    cdef uint32_t size = c.frames.length[i], there, header, readable
    cdef uint16_t kind
    if size < ETH_LEN or c.wire[i] < size:
        return False
    kind, there = load16(frame + ETH_TYPE), size - ETH_LEN
    if kind == ETH_IP:
        if not segment4(frame + ETH_LEN, there, c.wire[i] - ETH_LEN, seg):
            return False
    elif kind != ETH_IP6 or c.range != NULL or not segment6(t, frame + ETH_LEN, there, c.wire[i] - ETH_LEN, enter, seg):
        return False
    header = <uint32_t>(seg.l4 - frame) - ETH_LEN
    seg.tuple.zone, seg.l4_len = c.zone, seg.ip_len - header
    seg.verify = there >= seg.ip_len
    if not seg.verify:                  # the capture cut it off: nobody reads on but for header and length
        readable = there - header
        if seg.tuple.proto != PROTO_TCP and seg.tuple.proto != PROTO_UDP or readable < TCP_MOST:
            seg.l4_len = min(seg.l4_len, readable)
    return True


cdef void pack_frames(ct_t* t, const columns_t* c, Py_ssize_t base, int m, kf_tuple* key) noexcept nogil:
    """Tuples of frames; of those that have none one that nobody has."""
    cdef segment_t seg
    cdef Py_ssize_t i
    for i in range(base, base + m):
        if i + FRAMES_AHEAD < c.n:
            kf_prefetch(c.frames.data + c.frames.offset[i + FRAMES_AHEAD] + ETH_LEN)
        memset(&seg.tuple, 0, sizeof(tuple_t))
        if not segment_of(t, c, i, False, &seg) or not tuple_ports(&seg.tuple, seg.l4, seg.l4_len):
            memset(&seg.tuple, 0, sizeof(tuple_t))
        memcpy(&key[i - base], &seg.tuple, sizeof(tuple_t))


cdef void fetch(ct_t* t, const columns_t* c, Py_ssize_t base, int m, tuple_t* tuple, uint64_t* hash) noexcept nogil:
    cdef int k, step
    cdef uint32_t* chain[VECTOR]
    if c.frames.data != NULL:
        pack_frames(t, c, base, m, <kf_tuple*>tuple)
    for k in range(m):
        if c.frames.data == NULL:
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
        if c.frames.data != NULL:
            pack_frames(t, c, base, m, key)
        elif c.tuple == NULL:
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
    return settle(t, c, info, now, conn)


cdef ctinfo_t track_frame(ct_t* t, const columns_t* c, Py_ssize_t i, int64_t now, uint32_t* conn) noexcept nogil:
    """The same for a frame; its tuple is made anew, for an IPv6 address may have got its number meanwhile."""
    cdef segment_t seg
    conn[0] = NO_CONN
    if not segment_of(t, c, i, True, &seg):
        return CT_UNTRACKED
    return settle(t, c, ct_track(t, &seg, now, conn), now, conn)


cdef ctinfo_t settle(ct_t* t, const columns_t* c, ctinfo_t info, int64_t now, uint32_t* conn) noexcept nogil:
    """Translate and enter the connection that a packet began."""
    if conn[0] == NO_CONN or ct_conn(t, conn[0]).status & IPS_CONFIRMED:
        return info
    if c.range != NULL:
        nat_setup_null(t, conn[0], MANIP_DST, now, c.rng)
        nat_setup(t, conn[0], c.range, MANIP_SRC, now, c.rng)
    return info if ct_confirm(t, conn, now) == CONFIRM_OK else CT_DROP


cdef inline void leave(ct_t* t, const columns_t* c, Py_ssize_t i, const tuple_t* tuple, uint8_t info,
                       uint32_t conn) noexcept nogil:
    """Note what packet i is behind translation: what the other direction's packets would answer."""
    c.leaves[i] = tuple[0]
    if conn != NO_CONN and info != CT_RELATED and info != CT_RELATED_REPLY:
        tuple_invert(&c.leaves[i], &ct_conn(t, conn).original if info == CT_ESTABLISHED_REPLY else &ct_conn(t, conn).reply)


cdef void columns_track(ct_t* t, const columns_t* c, uint32_t* conn, uint8_t* info) noexcept nogil:
    cdef Py_ssize_t base = 0, i
    cdef int k, m
    cdef tuple_t[VECTOR] tuple
    cdef uint64_t[VECTOR] hash
    cdef uint8_t[TCP_LEN] l4
    cdef segment_t seg
    cdef bint windowless = t.tcp.windowless
    t.tcp.windowless = c.seq == NULL and c.frames.data == NULL
    seg.l3, seg.l4, seg.verify = NULL, l4, False
    while base < c.n:
        m = <int>min(<Py_ssize_t>VECTOR, c.n - base)
        fetch(t, c, base, m, tuple, hash)
        for k in range(m):
            i = base + k
            if c.frames.data != NULL:
                info[i] = track_frame(t, c, i, c.now[0 if c.one_time else i], &conn[i])
                if c.leaves != NULL:
                    leave(t, c, i, &tuple[k], info[i], conn[i])
                continue
            seg.tuple = tuple[k]
            if c.length:
                seg.ip_len = c.length[i]
            else:
                seg.ip_len = IP_LEN + (TCP_LEN if c.proto[i] == PROTO_TCP else UDP_LEN)
            seg.l4_len = seg.ip_len - IP_LEN if seg.ip_len > IP_LEN else 0
            build_l4(l4, c, i, seg.l4_len)
            info[i] = track(t, c, &seg, hash[k], c.now[0 if c.one_time else i], &conn[i])
            if c.leaves != NULL:
                leave(t, c, i, &tuple[k], info[i], conn[i])
        base += VECTOR
    t.tcp.windowless = windowless
