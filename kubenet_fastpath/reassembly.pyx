"""Reassembly of one datagram as Linux's ip_frag_queue and ip_frag_reasm do it (net/ipv4/ip_fragment.c), and for IPv6
nf_ct_frag6_queue and nf_ct_frag6_reasm (net/ipv6/netfilter/nf_conntrack_reasm.c).

Fragments are held as runs: pieces that arrived one right behind the other at the end. The kernel tells a
duplicate from an overlap by them, so that a repeated fragment which lies across two runs ends the datagram.
Runs stand in an array by offset: a fragment finds its place by bisection, however hostile the order.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from .frame cimport FRAGMENT_LEN, IP6_LEN, IP6_PAYLOAD, IP_CHECK, IP_DF, IP_FRAG, IP_MF, IP_OFFSET, IP_TOS, IP_TOTAL, csum, load16, store16

cdef enum:
    SKB_SIZE = 256              # struct sk_buff, aligned to cache lines
    SKB_EXTRA = 64 + 320        # headroom, struct skb_shared_info
    SMALL_HEAD = 640            # of the kernel's skb_small_head cache
    ECN_NOT_ECT = 1             # sets of 1 << ECN field
    ECN_CE = 1 << 3
    TOS_CE = 3
    MAX_DATAGRAM = 65535


cdef inline uint32_t truesize_of(uint32_t frame) noexcept nogil:
    """What the kernel charges for a frame: its sk_buff, and the small head or a power of two."""
    cdef uint32_t size = SMALL_HEAD
    if frame + SKB_EXTRA > SMALL_HEAD:
        size = 1024
        while size < frame + SKB_EXTRA:
            size *= 2
    return SKB_SIZE + size


cdef piece_t* new_piece(reassembly_t* r, uint32_t l3, uint32_t header, uint32_t offset, uint32_t length,
                        uint32_t truesize) noexcept nogil:
    cdef uint32_t kept = l3 + header if offset == 0 else 0
    cdef piece_t* piece = <piece_t*>malloc(sizeof(piece_t) + kept + length)
    if piece == NULL:
        return NULL
    memset(piece, 0, sizeof(piece_t))
    piece.offset, piece.length, piece.truesize = offset, length, truesize
    if kept:
        piece.l3, piece.header = l3, header
        r.first_in = True
    return piece


cdef fragment_fate_t find_place(reassembly_t* r, uint32_t offset, uint32_t end, uint32_t* at) noexcept nogil:
    """FATE_HELD: nothing of it is there, and it belongs in front of run `at`."""
    cdef uint32_t low = 0, high = r.runs, middle
    cdef run_t* run
    while low < high:
        middle = (low + high) // 2
        run = r.run + middle
        if end <= run.offset:
            high = middle
        elif offset >= run.end:
            low = middle + 1
        elif offset >= run.offset and end <= run.end:
            return FATE_DUPLICATE
        else:
            return FATE_OVERLAP
    at[0] = low
    return FATE_HELD


cdef bint insert(reassembly_t* r, piece_t* piece, uint32_t at, bint append) noexcept nogil:
    """Put a piece behind the last run, or in front of run `at`. False without memory."""
    cdef uint32_t room
    cdef run_t* run
    if append:
        run = r.run + r.runs - 1
        run.last.next = piece
    else:
        if r.runs == r.room:
            room = 2 * r.room or 4
            run = <run_t*>realloc(r.run, room * sizeof(run_t))
            if run == NULL:
                return False
            r.run, r.room = run, room
        run = r.run + at
        memmove(run + 1, run, (r.runs - at) * sizeof(run_t))
        r.runs += 1
        run.offset = piece.offset
        run.first = piece
    run.last = piece
    run.end = piece.offset + piece.length
    r.pieces += 1
    r.meat += piece.length
    r.memory += piece.truesize
    return True


cdef fragment_fate_t reassembly_add(reassembly_t* r, const fragment_t* g, uint16_t port) noexcept nogil:
    cdef uint32_t at = 0
    cdef fragment_fate_t fate
    cdef piece_t* piece
    r.six = g.six
    # `len` and `last_in` change before the fragment is known to be no duplicate: the kernel's order
    if not g.more:
        if g.end < r.len or (r.last_in and g.end != r.len):
            return FATE_BAD_END
        r.last_in, r.len = True, g.end
    elif g.end > r.len:
        if r.last_in:
            return FATE_BAD_END
        r.len = g.end
    if g.end == g.offset:
        return FATE_BAD_END
    fate = find_place(r, g.offset, g.end, &at)
    if fate != FATE_HELD:
        return fate
    piece = new_piece(r, g.l3, g.header, g.offset, g.end - g.offset, truesize_of(g.length))
    if piece == NULL or not insert(r, piece, at, at == r.runs and at > 0 and r.run[at - 1].end == g.offset):
        free(piece)
        return FATE_NO_MEMORY
    memcpy(piece_bytes(piece), g.frame, piece.l3 + piece.header)
    memcpy(piece_bytes(piece) + piece.l3 + piece.header, g.frame + g.l3 + g.header, piece.length)
    r.port = port
    r.ecn |= <uint8_t>(1 << g.ecn)
    r.max_size = max(r.max_size, g.size)
    if g.df:
        r.max_df_size = max(r.max_df_size, g.size)
    if g.offset == 0:
        r.next = g.next
    return FATE_HELD


cdef void fragment_read(fragment_t* g, const uint8_t* frame, uint32_t l3, uint32_t end) noexcept nogil:
    cdef const uint8_t* ip = frame + l3
    cdef uint16_t word = load16(ip + IP_FRAG)
    g.frame, g.l3, g.header, g.length = frame, l3, (ip[0] & 15) * 4, end
    g.offset, g.more, g.df = <uint32_t>(word & IP_OFFSET) * 8, word & IP_MF != 0, word & IP_DF != 0
    g.end = g.offset + end - l3 - g.header
    if g.more:
        g.end &= ~7u
    g.six, g.next, g.ecn, g.size = False, 0, ip[IP_TOS] & 3, <uint16_t>(g.header + g.end - g.offset)


cdef bint make_room(desk_t* desk, uint32_t size, uint32_t fragments) noexcept nogil:
    cdef void* grown
    if size > desk.frame_room:
        grown = realloc(desk.frame, size)
        if grown == NULL:
            return False
        desk.frame, desk.frame_room = <uint8_t*>grown, size
    if fragments > desk.payload_room:
        grown = realloc(desk.payload, fragments * sizeof(uint16_t))
        if grown == NULL:
            return False
        desk.payload, desk.payload_room = <uint16_t*>grown, fragments
    return True


cdef void lay_out(const reassembly_t* r, desk_t* desk, uint8_t* payload, datagram_t* out) noexcept nogil:
    """Put the pieces side by side, and their sizes."""
    cdef piece_t* piece = NULL
    cdef uint32_t n = 0, run = 0
    while True:
        piece = piece_after(r, piece, &run)
        if piece == NULL:
            break
        memcpy(payload + piece.offset, piece_bytes(piece) + piece.l3 + piece.header, piece.length)
        desk.payload[n] = <uint16_t>piece.length
        n += 1
    out.geometry.payload, out.geometry.fragments, out.geometry.max_size = desk.payload, n, r.max_size


cdef fragment_fate_t reassembly_finish(const reassembly_t* r, desk_t* desk, datagram_t* out) noexcept nogil:
    cdef piece_t* head = r.run[0].first
    cdef uint32_t header = head.header - (FRAGMENT_LEN if r.six else 0), total = header + r.len, size = head.l3 + total
    cdef bint congested = r.ecn & ECN_CE != 0
    cdef uint8_t* ip
    if r.ecn & ECN_NOT_ECT and r.ecn != ECN_NOT_ECT:    # the table ip_frag_ecn_table in one line
        return FATE_BAD_ECN
    if total - (IP6_LEN if r.six else 0) > MAX_DATAGRAM:
        return FATE_TOO_LONG
    if not make_room(desk, size, r.pieces):
        return FATE_NO_MEMORY
    memcpy(desk.frame, piece_bytes(head), head.l3 + header)
    ip = desk.frame + head.l3
    lay_out(r, desk, ip + header, out)
    out.frame, out.l3, out.end, out.port = desk.frame, head.l3, size, r.port
    # DF only if the largest fragment had it: a small one must not forbid what the sender did himself
    out.geometry.df = not r.six and r.max_df_size == r.max_size
    if r.six:
        ip[r.next] = piece_bytes(head)[head.l3 + header]
        store16(ip + IP6_PAYLOAD, <uint16_t>(total - IP6_LEN))
        if congested:
            ip[1] |= TOS_CE << 4
        return FATE_WHOLE
    store16(ip + IP_TOTAL, <uint16_t>total)
    store16(ip + IP_FRAG, IP_DF if out.geometry.df else 0)
    if congested:
        ip[IP_TOS] |= TOS_CE
    store16(ip + IP_CHECK, 0)
    store16(ip + IP_CHECK, csum(ip, head.header))
    return FATE_WHOLE


cdef uint32_t reassembly_head(const reassembly_t* r, desk_t* desk, uint32_t* l3) noexcept nogil:
    cdef piece_t* head
    cdef uint32_t size
    if not r.first_in:
        return 0
    head = r.run[0].first
    size = head.l3 + head.header + head.length
    if not make_room(desk, size, 0):
        return 0
    memcpy(desk.frame, piece_bytes(head), size)
    l3[0] = head.l3
    return size


cdef void reassembly_clear(reassembly_t* r) noexcept nogil:
    cdef uint32_t run
    cdef piece_t* piece
    cdef piece_t* next
    for run in range(r.runs):
        piece = r.run[run].first
        while piece != NULL:
            next = piece.next
            free(piece)
            piece = next
    r.runs = r.pieces = r.len = r.meat = r.memory = 0
    r.first_in = r.last_in = False
    r.ecn = 0


cdef void reassembly_free(reassembly_t* r) noexcept nogil:
    reassembly_clear(r)
    free(r.run)
    r.run = NULL


cdef piece_t* reassembly_restore(reassembly_t* r, const uint8_t* data, uint32_t l3, uint32_t header,
                                 uint32_t offset, uint32_t length, uint32_t truesize,
                                 bint append) noexcept nogil:
    cdef piece_t* piece = new_piece(r, l3, header, offset, length, truesize)
    if piece == NULL or not insert(r, piece, r.runs, append and r.runs > 0):
        free(piece)
        return NULL
    memcpy(piece_bytes(piece), data, piece.l3 + piece.header + length)
    return piece
