"""Memory of one batch, and the list of frames that leave."""

from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

cdef enum:
    CHUNK = 1 << 16


cdef uint8_t* scratch(node_t* node, size_t n) noexcept nogil:
    """n bytes that live until the batch's results are taken; NULL without memory."""
    cdef chunk_t* chunk = node.chunks
    cdef size_t size
    cdef uint8_t* p
    n = (n + 15) & ~<size_t>15
    if chunk == NULL or chunk.size - chunk.used < n:
        size = n if n > CHUNK else CHUNK
        chunk = <chunk_t*>malloc(sizeof(chunk_t) + size)
        if chunk == NULL:
            return NULL
        chunk.next, chunk.size, chunk.used = node.chunks, size, 0
        node.chunks = chunk
    p = <uint8_t*>(chunk + 1) + chunk.used
    chunk.used += n
    return p


cdef void release_scratch(node_t* node) noexcept nogil:
    cdef chunk_t* chunk
    while node.chunks != NULL:
        chunk = node.chunks
        node.chunks = chunk.next
        free(chunk)
    node.n_out = 0


cdef bint unshare(node_t* node, packet_t* p) noexcept nogil:
    """Give the packet bytes of its own. False without memory."""
    cdef uint8_t* copy
    copy = scratch(node, p.length)
    if copy == NULL:
        return False
    memcpy(copy, p.frame, p.length)
    p.frame, p.shared = copy, False
    return True


cdef bint emit(node_t* node, const packet_t* p, uint16_t port) noexcept nogil:
    """Let the frame leave by a port. False without memory."""
    cdef out_t* out
    cdef interface_t* dev
    cdef size_t capacity
    if node.n_out == node.out_capacity:
        capacity = 2 * node.out_capacity + 64
        out = <out_t*>realloc(node.out, capacity * sizeof(out_t))
        if out == NULL:
            return False
        node.out, node.out_capacity = out, capacity
    out = &node.out[node.n_out]
    node.n_out += 1
    out.frame, out.port, out.time, out.source = <int64_t>p.frame, port, p.now, p.source
    out.wire_length = p.length
    out.length = p.length - p.missing
    dev = &node.interface[port]
    dev.tx_packets += 1
    dev.tx_bytes += p.length
    return True
