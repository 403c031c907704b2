"""C interface of the table of fragments that wait until their datagram is whole (Linux's ip_defrag, nf_ct_frag6_gather)."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .reassembly cimport FATES, datagram_t, desk_t, fragment_fate_t, fragment_t, reassembly_t

cdef extern from "csrc/chain.h" nogil:
    ctypedef struct kf_link:
        kf_link* next
        uint64_t hash
    ctypedef struct kf_chains:
        uint64_t used

cdef struct source_t:           # counts fragments of one source address, while that source has a queue
    kf_link link
    uint32_t address
    uint32_t queues
    uint32_t rid

cdef struct queue_t:            # the fragments of one datagram
    kf_link link
    queue_t* older              # by `due`
    queue_t* newer
    source_t* source
    int64_t due                 # ns
    uint64_t user
    uint32_t src                # of IPv6 handles
    uint32_t dst
    uint32_t id
    uint8_t proto
    uint32_t rid                # count of the source when the latest fragment came
    reassembly_t body

cdef struct defrag_t:           # opaque but for the settings and the counters
    int64_t timeout             # ns from the first fragment (net.ipv4.ipfrag_time)
    uint64_t high_threshold     # bytes of `memory` above which fragments are refused (ipfrag_high_thresh)
    uint32_t max_distance       # 0: any (ipfrag_max_dist)
    uint64_t memory             # bytes in kernel accounting
    uint64_t held               # fragments
    uint64_t arrived[FATES]     # fragments that arrived, by what became of them then
    uint64_t ended[FATES]       # fragments that were held, by their end: arrived[HELD] == held + sum(ended)
    uint64_t secret[2]
    kf_chains queues
    kf_chains sources
    queue_t* oldest
    queue_t* newest
    desk_t desk

cdef struct expired_t:          # valid until the next call on the table
    const uint8_t* frame        # the first fragment, NULL if it never came: then no ICMP error is owed
    uint32_t l3
    uint32_t end
    uint32_t fragments          # that die
    uint16_t port               # ingress of the latest: where Linux asks whether the destination is local
    uint64_t user
    int64_t due                 # ns

cdef defrag_t* defrag_new(uint64_t seed) noexcept nogil             # NULL without memory
cdef void defrag_free(defrag_t* t) noexcept nogil                   # NULL is fine
# frame[l3:end] is a fragment that ipv4_valid accepted, cut at its total length. What is kept is copied.
# `user` tells apart who reassembles (the bridge's conntrack, the router's): datagrams of two never mix.
# Queues that are due must have been expired before. `out` is filled for FATE_WHOLE alone.
cdef fragment_fate_t defrag_add(defrag_t* t, const uint8_t* frame, uint32_t l3, uint32_t end, uint64_t user,
                                uint16_t port, int64_t now, datagram_t* out) noexcept nogil
# The same of an IPv6 fragment, whose addresses and identification the caller has read.
cdef fragment_fate_t defrag_add6(defrag_t* t, const fragment_t* g, uint32_t src, uint32_t dst, uint32_t id, uint64_t user,
                                 uint16_t port, int64_t now, datagram_t* out) noexcept nogil
# End the oldest queue that is due at `now`; False: none is. Call it until it says so.
cdef bint defrag_expire(defrag_t* t, int64_t now, expired_t* out) noexcept nogil
cdef int64_t defrag_next_due(const defrag_t* t) noexcept nogil      # INT64_MAX: nothing is held
# A new, empty queue, for a table that is being restored; NULL without memory.
cdef queue_t* defrag_restore(defrag_t* t, uint32_t src, uint32_t dst, uint32_t id, uint8_t proto,
                             uint64_t user, int64_t due) noexcept nogil
