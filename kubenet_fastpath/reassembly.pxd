"""C interface of one datagram's reassembly: its fragments until they are all there."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from .fragment cimport geometry_t

cdef enum fragment_fate_t:      # of a fragment that arrives; and, but for HELD, of one that was held
    FATE_HELD = 0
    FATE_WHOLE = 1              # it completed its datagram; held: went into one
    FATE_DUPLICATE = 2          # its bytes are held already: dropped alone (DUP_FRAG)
    FATE_OVERLAP = 3            # some of its bytes are held already: dropped with its queue
    FATE_BAD_END = 4            # empty, or it contradicts where the datagram ends: dropped, of IPv4 with its queue
    FATE_TOO_LONG = 5           # the datagram has more than 65535 bytes: dropped with its queue
    FATE_BAD_ECN = 6            # ECN fields that RFC 3168 5.3 does not let meet: dropped with its queue
    FATE_NO_MEMORY = 7          # the table is over its threshold: dropped alone
    FATE_TOO_FAR = 8            # only of held ones: too many of the source came between (FRAG_TOO_FAR)
    FATE_TIMEOUT = 9            # only of held ones (FRAG_REASM_TIMEOUT)
    FATE_MISFIT = 10            # of IPv6: no multiple of 8 that more follow: not counted, goes on as it is, and its queue dies

cdef enum:
    FATES = 10

cdef struct fragment_t:         # what reassembly reads of a fragment of either family
    const uint8_t* frame
    uint32_t l3
    uint32_t header             # bytes from there to the payload
    uint32_t length             # of the frame, for accounting
    uint32_t offset             # of the payload in the datagram
    uint32_t end
    bint more
    bint df
    bint six
    uint8_t ecn
    uint8_t next                # of IPv6: place of the byte that names the fragment header, which find_prev_fhdr keeps in 8 bits
    uint16_t size               # IP bytes

cdef struct piece_t:            # a fragment that is held; its bytes follow the struct
    piece_t* next               # in its run
    uint32_t offset             # of its payload in the datagram
    uint32_t length             # bytes of payload
    uint32_t l3                 # offset 0 only: bytes of link header that precede
    uint32_t header             # offset 0 only: bytes of IP header that precede, behind the link header
    uint32_t truesize           # bytes in kernel accounting

cdef struct run_t:              # pieces that arrived one right behind the other
    uint32_t offset
    uint32_t end
    piece_t* first
    piece_t* last

cdef struct reassembly_t:       # all zero: nothing came yet
    run_t* run                  # by offset
    uint32_t runs
    uint32_t room               # runs allocated
    uint32_t pieces
    uint32_t len                # of the payload as far as known
    uint32_t meat               # bytes of payload that are there
    uint32_t memory             # truesize of all pieces
    uint16_t max_size           # IP bytes of the largest fragment; outlives reassembly_clear
    uint16_t max_df_size        # likewise, with DF
    uint16_t port               # ingress of the latest fragment
    uint8_t ecn                 # set of 1 << ECN field
    uint8_t next                # fragment_t.next of the first
    bint six
    bint first_in
    bint last_in

cdef struct datagram_t:         # valid until the next call on the table; the frame may be rewritten in place
    uint8_t* frame              # link and IP header of the first fragment, then all payload
    uint32_t l3
    uint32_t end
    geometry_t geometry
    uint16_t port               # ingress of the fragment that completed it

cdef struct desk_t:             # where datagrams are put together; grows as needed
    uint8_t* frame
    uint32_t frame_room
    uint16_t* payload
    uint32_t payload_room

# Read frame[l3:end], an IPv4 fragment that ipv4_valid accepted.
cdef void fragment_read(fragment_t* g, const uint8_t* frame, uint32_t l3, uint32_t end) noexcept nogil
# Add a fragment; all of a reassembly are of one family. FATE_HELD: it is in, and reassembly_complete may hold;
# FATE_DUPLICATE: nothing came of it; any other fate is that of the whole reassembly, but for IPv6's FATE_BAD_END.
cdef fragment_fate_t reassembly_add(reassembly_t* r, const fragment_t* g, uint16_t port) noexcept nogil
cdef inline bint reassembly_complete(const reassembly_t* r) noexcept nogil:
    return r.first_in and r.last_in and r.meat == r.len
cdef fragment_fate_t reassembly_finish(const reassembly_t* r, desk_t* desk, datagram_t* out) noexcept nogil
# Copy the first fragment, link header included, to the desk. Its length, 0 if it is not there.
cdef uint32_t reassembly_head(const reassembly_t* r, desk_t* desk, uint32_t* l3) noexcept nogil
cdef void reassembly_clear(reassembly_t* r) noexcept nogil          # forget what came
cdef void reassembly_free(reassembly_t* r) noexcept nogil

cdef inline piece_t* piece_after(const reassembly_t* r, const piece_t* piece, uint32_t* run) noexcept nogil:
    """Walk all pieces by offset: begin with NULL and run 0."""
    if piece != NULL and piece.next != NULL:
        return piece.next
    run[0] += piece != NULL
    return r.run[run[0]].first if run[0] < r.runs else NULL
cdef inline uint8_t* piece_bytes(piece_t* piece) noexcept nogil:    # headers, if any, then payload
    return <uint8_t*>piece + sizeof(piece_t)
# Restore a piece that was held: behind the last run if `append`, else as a run of its own at the end.
cdef piece_t* reassembly_restore(reassembly_t* r, const uint8_t* data, uint32_t l3, uint32_t header,
                                 uint32_t offset, uint32_t length, uint32_t truesize,
                                 bint append) noexcept nogil
