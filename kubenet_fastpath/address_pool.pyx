"""A pool of IPv6 addresses: interned, swept when it has grown (Linux has 16 bytes in every tuple instead).

What needs an address keeps its handle; the holder of the pool tells between two batches which handles are needed, and the
rest is given back. So memory follows the connections, however many addresses a flood of packets makes up.
"""

cimport cython
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

import numpy as np

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash128(uint64_t a, uint64_t b, const uint64_t* secret)
    uint64_t kf_splitmix(uint64_t* state)

cdef enum:
    FIRST_ROWS = 64
    FIRST_SWEEP = 1 << 14
    KEPT_PINNED = 1
    KEPT_MARKED = 2


cdef bint pool_init(address_pool_t* pool, uint64_t seed) noexcept nogil:
    """A pool that has :: alone; False without memory."""
    memset(pool, 0, sizeof(address_pool_t))
    pool.secret[0] = kf_splitmix(&seed)
    pool.secret[1] = kf_splitmix(&seed)
    pool.rows = pool.used = 1
    pool.room, pool.mask, pool.sweep_at = FIRST_ROWS, 2 * FIRST_ROWS - 1, FIRST_SWEEP
    pool.word = <uint64_t*>calloc(2 * FIRST_ROWS, sizeof(uint64_t))
    pool.kept = <uint8_t*>calloc(FIRST_ROWS, 1)
    pool.slot = <uint32_t*>calloc(2 * FIRST_ROWS, sizeof(uint32_t))
    return pool.word != NULL and pool.kept != NULL and pool.slot != NULL


cdef void pool_free(address_pool_t* pool) noexcept nogil:
    free(pool.word)
    free(pool.kept)
    free(pool.slot)
    memset(pool, 0, sizeof(address_pool_t))


cdef inline uint32_t* place(const address_pool_t* pool, uint64_t a, uint64_t b) noexcept nogil:
    """The slot that has this address, or the free one that would."""
    cdef uint64_t i = kf_hash128(a, b, pool.secret)
    cdef uint32_t handle
    while True:
        handle = pool.slot[i & pool.mask]
        if handle == 0 or (pool.word[2 * <size_t>handle] == a and pool.word[2 * <size_t>handle + 1] == b):
            return &pool.slot[i & pool.mask]
        i += 1


cdef bint grow(address_pool_t* pool) noexcept nogil:
    """Room for twice as many rows. False without memory."""
    cdef size_t room = 2 * <size_t>pool.room
    cdef uint64_t* word
    cdef uint8_t* kept
    cdef uint32_t* slot
    cdef uint32_t handle, old_mask = pool.mask
    cdef uint32_t* old
    if room > <size_t>1 << 31:
        return False
    word = <uint64_t*>realloc(pool.word, 2 * room * sizeof(uint64_t))
    if word == NULL:
        return False
    pool.word = word
    kept = <uint8_t*>realloc(pool.kept, room)
    if kept == NULL:
        return False
    pool.kept = kept
    slot = <uint32_t*>calloc(2 * room, sizeof(uint32_t))
    if slot == NULL:
        return False
    memset(pool.kept + pool.room, 0, room - pool.room)
    old, pool.slot = pool.slot, slot
    pool.room, pool.mask = <uint32_t>room, <uint32_t>(2 * room - 1)
    for handle in range(old_mask + 1):
        if old[handle]:
            place(pool, pool.word[2 * <size_t>old[handle]], pool.word[2 * <size_t>old[handle] + 1])[0] = old[handle]
    free(old)
    return True


cdef uint32_t pool_intern(address_pool_t* pool, const uint8_t* address) noexcept nogil:
    cdef uint64_t[2] word
    cdef uint32_t* slot
    cdef uint32_t handle
    memcpy(word, address, 16)
    if word[0] | word[1] == 0:
        return 0
    slot = place(pool, word[0], word[1])
    if slot[0]:
        return slot[0]
    if pool.free:
        handle = pool.free
        pool.free = <uint32_t>pool.word[2 * <size_t>handle]
    else:
        if pool.rows == pool.room:
            if not grow(pool):
                return POOL_NONE
            slot = place(pool, word[0], word[1])
        handle = pool.rows
        pool.rows += 1
    memcpy(pool.word + 2 * <size_t>handle, word, 16)
    pool.kept[handle] = 0
    slot[0] = handle
    pool.used += 1
    return handle


cdef uint32_t pool_find(const address_pool_t* pool, const uint8_t* address) noexcept nogil:
    cdef uint64_t[2] word
    cdef uint32_t handle
    memcpy(word, address, 16)
    if word[0] | word[1] == 0:
        return 0
    handle = place(pool, word[0], word[1])[0]
    return handle if handle else <uint32_t>POOL_NONE


cdef void pool_pin(address_pool_t* pool, uint32_t handle) noexcept nogil:
    if handle < pool.rows:
        pool.kept[handle] |= KEPT_PINNED


cdef void pool_keep(address_pool_t* pool, uint32_t handle) noexcept nogil:
    if handle < pool.rows:
        pool.kept[handle] |= KEPT_MARKED


cdef void pool_sweep(address_pool_t* pool) noexcept nogil:
    """Give back every row that has been neither pinned nor kept since the last time."""
    cdef uint32_t handle
    memset(pool.slot, 0, (<size_t>pool.mask + 1) * sizeof(uint32_t))
    pool.free, pool.used = 0, 1
    for handle in range(1, pool.rows):
        if pool.kept[handle]:
            place(pool, pool.word[2 * <size_t>handle], pool.word[2 * <size_t>handle + 1])[0] = handle
            pool.kept[handle] &= KEPT_PINNED
            pool.used += 1
        else:
            pool.word[2 * <size_t>handle], pool.free = pool.free, handle
    pool.sweep_at = max(2 * pool.used, <uint32_t>FIRST_SWEEP)


@cython.final
cdef class AddressPool:
    """IPv6 addresses by number; the tables of one node share one.

    Parameters
    ----------
    seed : int
        Keys the hash.

    Notes
    -----
    A packet's addresses are given back once no table has them any more. Those of services, pods and neighbours that a
    caller has named stay for ever, 28 bytes each.

    Examples
    --------
    >>> pool = AddressPool()
    >>> pool.pin(0xFD << 120 | 1), pool.pin(0), pool.pin(0xFD << 120 | 1)
    (1, 0, 1)
    >>> hex(pool[1])
    '0xfd000000000000000000000000000001'
    """

    def __cinit__(self, seed=0):
        if not pool_init(&self.pool, <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF)):
            raise MemoryError("no memory for addresses")

    def __dealloc__(self):
        pool_free(&self.pool)

    def __len__(self):
        """Addresses held, :: included."""
        return self.pool.used

    def __getitem__(self, uint32_t handle):
        """The address of a handle, as an integer below 2**128."""
        cdef uint8_t[16] address
        if handle >= self.pool.rows:
            raise IndexError(f"handle {handle} is out of range for {self.pool.rows}")
        pool_read(&self.pool, handle, address)
        return int.from_bytes(address[:16], "big")

    def octets(self, handles):
        """Addresses of (N,) handles, all of them valid, as (N, 16) uint8 in network order."""
        return self._words()[np.asarray(handles, np.int64)].view(np.uint8).reshape(-1, 16)

    def _words(self):
        words = np.empty((self.pool.rows, 2), np.uint64)
        cdef uint64_t[:, ::1] out = words
        memcpy(&out[0, 0], self.pool.word, self.pool.rows * 16)
        return words

    def __reduce__(self):
        """The same handles for the same addresses; free ones stay free."""
        cdef uint32_t handle
        held = np.zeros(self.pool.rows, np.uint8)
        for handle in range(self.pool.mask + 1):
            if self.pool.slot[handle]:
                held[self.pool.slot[handle]] = 1 | (self.pool.kept[self.pool.slot[handle]] & KEPT_PINNED) << 1
        return _restore, (self._words(), held)

    def pin(self, address):
        """The handle of an address that is never given back.

        Parameters
        ----------
        address : int
            Below 2**128.
        """
        cdef bytes octets = address.to_bytes(16, "big")
        cdef uint32_t handle = pool_intern(&self.pool, octets)
        if handle == POOL_NONE:
            raise MemoryError("no memory for an address")
        pool_pin(&self.pool, handle)
        return handle


def _restore(words, held):
    """Make an `AddressPool` of another one's rows, for pickle."""
    cdef AddressPool self = AddressPool()
    cdef const uint64_t[:, ::1] word = np.ascontiguousarray(words, np.uint64)
    cdef const uint8_t[::1] state = np.ascontiguousarray(held, np.uint8)
    cdef uint32_t handle, gap
    if word.shape[1] != 2 or word.shape[0] != state.shape[0] or word.shape[0] < 1 or word.shape[0] >= POOL_NONE:
        raise ValueError(f"{word.shape[0]} addresses of {state.shape[0]} states")
    for handle in range(1, <uint32_t>word.shape[0]):
        if state[handle] & 1:
            if pool_intern(&self.pool, <const uint8_t*>&word[handle, 0]) != handle:
                raise ValueError(f"address {handle} is there twice")
            if state[handle] & 2:
                pool_pin(&self.pool, handle)
            continue
        if self.pool.rows == self.pool.room and not grow(&self.pool):
            raise MemoryError("no memory for addresses")
        self.pool.word[2 * <size_t>handle] = 0
        self.pool.kept[handle] = 0
        self.pool.rows += 1
    for gap in range(1, <uint32_t>word.shape[0]):
        if not state[gap] & 1:
            self.pool.word[2 * <size_t>gap], self.pool.free = self.pool.free, gap
    return self
