"""Reassembly of one IPv4 datagram as Linux's ip_frag_queue and ip_frag_reasm do it (net/ipv4/ip_fragment.c).

Fragments are held as runs: pieces that arrived one right behind the other at the end. The kernel tells a
duplicate from an overlap by them, so that a repeated fragment which lies across two runs ends the datagram.
Runs stand in an array by offset: a fragment finds its place by bisection, however hostile the order.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from .frame cimport IP_CHECK, IP_DF, IP_FRAG, IP_MF, IP_OFFSET, IP_TOS, IP_TOTAL, csum, load16, store16

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


cdef fragment_fate_t reassembly_add(reassembly_t* r, const uint8_t* frame, uint32_t l3, uint32_t size,
                                    uint16_t port) noexcept nogil:
    cdef const uint8_t* ip = frame + l3
    cdef uint32_t header = (ip[0] & 15) * 4, at = 0
    cdef uint16_t word = load16(ip + IP_FRAG), fragment_size
    cdef uint32_t offset = <uint32_t>(word & IP_OFFSET) * 8, end = offset + size - header
    cdef fragment_fate_t fate
    cdef piece_t* piece
    # `len` and `last_in` change before the fragment is known to be no duplicate: the kernel's order
    if not word & IP_MF:
        if end < r.len or (r.last_in and end != r.len):
            return FATE_BAD_END
        r.last_in, r.len = True, end
    else:
        end &= ~7u
        if end > r.len:
            if r.last_in:
                return FATE_BAD_END
            r.len = end
    if end == offset:
        return FATE_BAD_END
    fate = find_place(r, offset, end, &at)
    if fate != FATE_HELD:
        return fate
    piece = new_piece(r, l3, header, offset, end - offset, truesize_of(l3 + size))
    if piece == NULL or not insert(r, piece, at, at == r.runs and at > 0 and r.run[at - 1].end == offset):
        free(piece)
        return FATE_NO_MEMORY
    memcpy(piece_bytes(piece), frame, piece.l3 + piece.header)
    memcpy(piece_bytes(piece) + piece.l3 + piece.header, frame + l3 + header, piece.length)
    r.port = port
    r.ecn |= <uint8_t>(1 << (ip[IP_TOS] & 3))
    fragment_size = <uint16_t>(header + piece.length)
    r.max_size = max(r.max_size, fragment_size)
    if word & IP_DF:
        r.max_df_size = max(r.max_df_size, fragment_size)
    return FATE_HELD


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


cdef fragment_fate_t reassembly_finish(const reassembly_t* r, desk_t* desk, datagram_t* out) noexcept nogil:
    cdef piece_t* head = r.run[0].first
    cdef piece_t* piece = NULL
    cdef uint32_t total = head.header + r.len, size = head.l3 + total, n = 0, run = 0
    cdef uint8_t* ip
    if r.ecn & ECN_NOT_ECT and r.ecn != ECN_NOT_ECT:    # the table ip_frag_ecn_table in one line
        return FATE_BAD_ECN
    if total > MAX_DATAGRAM:
        return FATE_TOO_LONG
    if not make_room(desk, size, r.pieces):
        return FATE_NO_MEMORY
    memcpy(desk.frame, piece_bytes(head), head.l3 + head.header)
    ip = desk.frame + head.l3
    while True:
        piece = piece_after(r, piece, &run)
        if piece == NULL:
            break
        memcpy(ip + head.header + piece.offset, piece_bytes(piece) + piece.l3 + piece.header, piece.length)
        desk.payload[n] = <uint16_t>piece.length
        n += 1
    store16(ip + IP_TOTAL, <uint16_t>total)
    # DF only if the largest fragment had it: a small one must not forbid what the sender did himself
    out.geometry.df = r.max_df_size == r.max_size
    store16(ip + IP_FRAG, IP_DF if out.geometry.df else 0)
    if r.ecn & ECN_CE:
        ip[IP_TOS] |= TOS_CE
    store16(ip + IP_CHECK, 0)
    store16(ip + IP_CHECK, csum(ip, head.header))
    out.frame, out.l3, out.end, out.port = desk.frame, head.l3, size, r.port
    out.geometry.payload, out.geometry.fragments, out.geometry.max_size = desk.payload, n, r.max_size
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
