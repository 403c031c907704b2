"""IPv6 addresses by number, so that a tuple, a neighbour and an endpoint take 32 bits in either family.

A handle is to IPv6 what the address itself is to IPv4: equal handles are equal addresses, 0 is the unspecified one. It
means nothing outside its pool.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from .frame cimport store32

cdef enum:
    POOL_NONE = 0xFFFFFFFF      # no handle: without memory, or the address is not there

cdef struct prefix_t:           # in network order: of IPv4 the first four bytes
    uint8_t ip[16]
    uint8_t length

cdef struct address_pool_t:
    uint64_t* word              # two a row, as in memory; a free row has the next free one in its first
    uint8_t* kept               # KEPT_*
    uint32_t* slot              # open addressing, half full at most: a handle, 0: free
    uint32_t mask
    uint32_t rows               # ever used; row 0 is ::
    uint32_t room
    uint32_t free               # head of the list, 0: none
    uint32_t used
    uint32_t sweep_at           # used rows from which on it is worth looking for those that nobody needs
    uint64_t secret[2]

cdef bint pool_init(address_pool_t* pool, uint64_t seed) noexcept nogil
cdef void pool_free(address_pool_t* pool) noexcept nogil
# The handle of 16 bytes, made if need be.
cdef uint32_t pool_intern(address_pool_t* pool, const uint8_t* address) noexcept nogil
cdef uint32_t pool_find(const address_pool_t* pool, const uint8_t* address) noexcept nogil
# Handles that are in use are kept one by one, then the others go; those that are pinned stay for ever.
cdef void pool_pin(address_pool_t* pool, uint32_t handle) noexcept nogil
cdef void pool_keep(address_pool_t* pool, uint32_t handle) noexcept nogil
cdef void pool_sweep(address_pool_t* pool) noexcept nogil


cdef inline void pool_read(const address_pool_t* pool, uint32_t handle, uint8_t* address) noexcept nogil:
    """Copy the 16 bytes of a handle; of one that is none ::."""
    memcpy(address, pool.word + 2 * <size_t>(handle if handle < pool.rows else 0), 16)


cdef inline void address_read(const address_pool_t* pool, uint32_t number, uint8_t family, uint8_t* address) noexcept nogil:
    """Copy the 4 or 16 bytes of an address as tables have it: itself, or its handle."""
    if family == 4:
        store32(address, number)
    else:
        pool_read(pool, number, address)


cdef inline bint in_prefix(const uint8_t* address, const prefix_t* prefix) noexcept nogil:
    """Whether an address in network order is inside a prefix of its family."""
    cdef uint32_t whole = prefix.length // 8, rest = prefix.length % 8
    return memcmp(address, prefix.ip, whole) == 0 and (
        rest == 0 or (address[whole] ^ prefix.ip[whole]) >> (8 - rest) == 0)


@cython.final
cdef class AddressPool:
    cdef address_pool_t pool
