"""Memory of one batch, and the list of frames that leave."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from .recorder cimport HEAD, STAGE_EMIT, note_t, recorder_next, stopwatch

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
    node.n_out = node.made = 0


cdef bint unshare(node_t* node, packet_t* p) noexcept nogil:
    """Give the packet bytes of its own. False without memory."""
    cdef uint8_t* copy
    copy = scratch(node, p.length)
    if copy == NULL:
        return False
    memcpy(copy, p.frame, p.length)
    p.frame, p.shared = copy, False
    return True


cdef void write_note(node_t* node, const packet_t* p, uint8_t stage, uint32_t value, int end) noexcept nogil:
    cdef int64_t came = stopwatch() if node.recorder.timed else 0
    cdef note_t* note = recorder_next(node.recorder)
    cdef uint32_t there = p.length - p.missing
    if note == NULL:
        return
    note.time, note.source, note.fate, note.conn, note.value = p.now, p.source, end, p.conn, value
    note.mark, note.eth_type, note.dev, note.stage, note.info, note.ours = p.mark, p.ethertype, p.dev, stage, p.info, p.ours
    if there >= 12:
        memcpy(note.macs, p.frame, 12)
    if there > p.l3:
        note.length = <uint8_t>min(there - p.l3, <uint32_t>HEAD)
        memcpy(note.head, p.frame + p.l3, note.length)
    if node.recorder.timed:
        note.took = <uint32_t>min(came - node.recorder.left, <int64_t>0xFFFFFFFF)
        node.recorder.left = stopwatch()


cdef bint emit(node_t* node, const packet_t* p, uint16_t port) noexcept nogil:
    """Let the frame leave by a port. False without memory."""
    cdef out_t* out
    cdef int64_t at = <int64_t>p.frame - node.batch
    if not out_room(node, 1):
        return False
    record(node, p, STAGE_EMIT, port, -1)
    out = sent(node, port, p.length)
    out.frame, out.time, out.source = at, p.now, p.source
    out.wire_length = p.length
    out.length = p.length - p.missing
    out.generated = <uint64_t>at >= node.batch_size
    if out.generated:
        out.frame = <int64_t>p.frame
        node.made += out.length
    return True


cdef bint out_room(node_t* node, size_t n) noexcept nogil:
    """Room for n more outputs. False without memory."""
    cdef size_t capacity
    cdef out_t* out
    if node.n_out + n > node.out_capacity:
        capacity = 2 * node.out_capacity + n + 64
        out = <out_t*>realloc(NULL if node.out_lent else node.out, capacity * sizeof(out_t))
        if out == NULL:
            return False
        if node.out_lent:
            memcpy(out, node.out, node.n_out * sizeof(out_t))
        node.out, node.out_capacity, node.out_lent = out, capacity, False
    return True
