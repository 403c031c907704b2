"""Notes of what packets met, and their way out to numpy."""

import numpy as np

from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

#: One stage of one packet; `fate` is -1 where it passed, else verdict << 8 | reason. `took`: ns since the note before,
#: without what notes cost, if a stopwatch was asked for.
NOTE = np.dtype([
    ("time", "i8"), ("source", "i4"), ("fate", "i4"), ("conn", "u4"), ("value", "u4"), ("mark", "u4"),
    ("eth_type", "u4"), ("dev", "u2"), ("stage", "u1"), ("info", "u1"), ("ours", "u1"), ("length", "u1"),
    ("macs", "u1", 12), ("head", "u1", HEAD), ("fill", "u1", 2),
    ("took", "u4"),
])
assert NOTE.itemsize == sizeof(note_t)


cdef int64_t stopwatch() noexcept nogil:
    """ns of a clock that only runs forward."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <int64_t>1_000_000_000 + now.tv_nsec


def stopwatch_cost(int tries=1000):
    """ns that lie between two readings of the stopwatch with nothing between them: the least of several."""
    cdef int64_t before, least = 1_000_000_000
    cdef int k
    for k in range(tries):
        before = stopwatch()
        least = min(least, stopwatch() - before)
    return least


cdef void recorder_start(recorder_t* recorder, bint timed) noexcept nogil:
    """Forget all notes."""
    recorder.n, recorder.timed = 0, timed
    recorder.left = stopwatch() if timed else 0


cdef note_t* recorder_next(recorder_t* recorder) noexcept nogil:
    """A row to fill in; NULL without memory: then the note is lost."""
    cdef note_t* grown
    cdef size_t capacity
    if recorder.n == recorder.capacity:
        capacity = 2 * recorder.capacity + 64
        grown = <note_t*>realloc(recorder.note, capacity * sizeof(note_t))
        if grown == NULL:
            return NULL
        recorder.note, recorder.capacity = grown, capacity
    recorder.n += 1
    memset(&recorder.note[recorder.n - 1], 0, sizeof(note_t))
    return &recorder.note[recorder.n - 1]


cdef object recorder_rows(const recorder_t* recorder):
    """The notes so far, as an array of NOTE that is a copy."""
    rows = np.empty(recorder.n, NOTE)
    cdef unsigned char[::1] raw
    if recorder.n:
        raw = rows.view(np.uint8)
        memcpy(&raw[0], recorder.note, recorder.n * sizeof(note_t))
    return rows
