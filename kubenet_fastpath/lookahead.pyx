"""The fast path's first look at a burst of frames, and what it asks the memory for: nothing changes but what is near.

Four passes. The first reads each frame once: is it plain, what is its tuple, are its checksums right. It asks for the hash's
bucket. The second asks for the connection that the bucket names; of a new one for what its first packet will touch. The
third is for bursts with first packets alone: whom theirs are chained to, what services answer from; and the fourth for frames that are not of IP on a bridge with many stations.
A burst's working set has to fit into an L1 or its L2 neighbour: 64 packets, some ten lines each.
"""

from .conntrack cimport ct_hash, ct_source, conn_t, ct_t, tuple_invert, tuple_t
from .context cimport node_t
from .fastpath cimport BURST, NOBODY, batch_t, fastpath_t, is_flow, kf_glance, tuple_of
from .fdb_table cimport (
    fdb_entry_t, fdb_find, fdb_hash, fdb_key, fdb_prefetch, fdb_t, kf_index as kf_pair_index,
)
from .flowtable cimport (
    kf_bucket, kf_first, kf_home, kf_match, kf_passed, kf_prefetch, kf_prefetch_insert, kf_probe, kf_ref_direction,
    kf_ref_row, kf_tag,
)
from .frame cimport ETH_DST, ETH_LEN, ETH_SRC, load_mac
from .service_table cimport NEAR, SPACE_ADDRESS, door_find, door_prefetch, door_t, endpoint_t, one_of

cdef extern from "csrc/glance.h" nogil:
    void kf_look(kf_glance* g, const uint8_t* base, const int64_t* offset, const uint32_t* length, size_t n,
                 bint verify, int isa)

cdef extern from "csrc/pair.h" nogil:
    const uint32_t* kf_pair_home_refs(const kf_pair_index* x, uint64_t hash)

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash128(uint64_t a, uint64_t b, const uint64_t* secret)

cdef enum:
    MANY_STATIONS = 16384       # of fewer, the FDB is in an L2
    MANY_NEW = 8                # first packets in a burst: there may be more than it seemed


cdef bint apart(const batch_t* b, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Whether each frame begins behind the one before it."""
    cdef Py_ssize_t i
    cdef const int64_t* offset = b.offset + first
    cdef const uint32_t* length = b.length + first
    cdef uint64_t signs = 0     # the first bit is set when one lies before the end of the other
    for i in range(1, n):
        signs |= <uint64_t>offset[i] - <uint64_t>offset[i - 1] - length[i - 1]
    return not signs >> 63


cdef uint32_t* look_ahead_new(node_t* node, const kf_glance* g, Py_ssize_t k) noexcept nogil:
    """Ask for what a connection's first packet will touch; the chain of its source."""
    cdef ct_t* t = node.conntrack
    cdef tuple_t tuple = tuple_of(g, k), reply
    cdef uint32_t* chain
    chain = ct_source(t, &tuple)
    kf_prefetch(chain)
    tuple_invert(&reply, &tuple)
    if node.mask and (tuple.dst ^ node.cluster.ip) & node.cluster.mask:
        reply.dst = node.mask
    kf_prefetch_insert(&t.index, ct_hash(t, &reply))
    if node.services.doors.used != 0:
        door_prefetch(node.services, tuple.dst, tuple.proto, tuple.dport)
    return chain


cdef void look_behind_doors(fastpath_t* f, node_t* node, Py_ssize_t size) noexcept nogil:
    """Ask for where the answers of new connections to services will be looked for: with several endpoints, the one that
    will be drawn if nothing but these draws before."""
    cdef ct_t* t = node.conntrack
    cdef uint64_t rng = node.rng
    cdef Py_ssize_t i
    cdef tuple_t tuple, reply
    cdef const door_t* door
    cdef const endpoint_t* endpoint
    for i in range(size):
        if f.chain[i] == NULL:
            continue
        tuple = tuple_of(&f.glance, i)
        door = door_find(node.services, &node.services.doors, SPACE_ADDRESS, tuple.dst, tuple.proto, tuple.dport)
        if door == NULL or door.affinity or door.internal_local or door.n == 0:
            continue
        endpoint = &node.services.endpoint[door.first]
        if door.n <= NEAR:
            endpoint = &door.near[0]
        endpoint += one_of(&rng, door.n)
        tuple_invert(&reply, &tuple)
        reply.src, reply.sport = endpoint.ip, endpoint.port
        kf_prefetch_insert(&t.index, ct_hash(t, &reply))


cdef uint32_t look_up(const ct_t* t, const kf_glance* g, Py_ssize_t k, uint64_t hash) noexcept nogil:
    """What ct_find would find, or what has expired and it would reclaim; changes nothing. NOBODY: there is none."""
    cdef uint8_t tag = kf_tag(hash)
    cdef uint64_t n = 0
    cdef uint32_t m, ref
    cdef kf_bucket* b
    while True:
        b = kf_probe(&t.index, hash, n)
        m = kf_match(b, tag)
        while m:
            ref = b.ref[kf_first(m)]
            if is_flow(kf_ref_row(t.row, ref), kf_ref_direction(ref), g, k):
                return ref
            m &= m - 1
        if not kf_passed(b, hash) or n >= t.index.mask:
            return NOBODY
        n += 1


cdef void look_further(fastpath_t* f, node_t* node, Py_ssize_t size, bint many) noexcept nogil:
    """There are first packets in the burst: ask for the connections that theirs will be chained to. One table after the
    other for all of them, since a request waits for the address to be translated, and several do so together.

    `many`: those are looked for, too, whose tag was met by chance or that may lie further on.
    """
    cdef ct_t* t = node.conntrack
    cdef uint32_t next
    cdef Py_ssize_t i
    if many:
        for i in range(size):
            if f.glance.kind[i] and f.chain[i] == NULL and (f.ref[i] == NOBODY or not is_flow(
                    kf_ref_row(t.row, f.ref[i]), kf_ref_direction(f.ref[i]), &f.glance, i)):
                f.ref[i] = look_up(t, &f.glance, i, f.hash[i])
                if f.ref[i] == NOBODY:
                    f.chain[i] = look_ahead_new(node, &f.glance, i)
    for i in range(size):
        if f.chain[i] != NULL:
            next = f.chain[i][0]
            if next:
                kf_prefetch(&t.row[next - 1])
                kf_prefetch(&t.row[next - 1].packets)
    if node.services.doors.used != 0:
        look_behind_doors(f, node, size)
    if node.mask:               # how a source was mapped is looked for all along its chain
        for i in range(size):
            if f.chain[i] != NULL and f.chain[i][0]:
                next = t.row[f.chain[i][0] - 1].by_source_next
                if next:
                    kf_prefetch(&t.row[next - 1])
                    kf_prefetch(&t.row[next - 1].packets)


cdef void look_at_stations(fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t first,
                           Py_ssize_t size) noexcept nogil:
    """Ask for what the bridge will touch of the FDB for frames that are strange: nearly all that it does for them."""
    cdef const fdb_t* fdb = node.fdb
    cdef const uint8_t* frame
    cdef const fdb_entry_t* entry
    cdef uint64_t[BURST] key
    cdef uint64_t hash, dst
    cdef Py_ssize_t i
    for i in range(size):
        key[i] = 0
        if f.glance.kind[i] or b.length[first + i] < ETH_LEN:
            continue
        frame = b.base + b.offset[first + i]
        key[i] = fdb_key(load_mac(frame + ETH_SRC), 0)
        f.hash[i] = fdb_hash(fdb, key[i])
        fdb_prefetch(fdb, f.hash[i])
        kf_prefetch(kf_pair_home_refs(&fdb.index, f.hash[i]))
        dst = load_mac(frame + ETH_DST)
        if not dst >> 40 & 1:
            fdb_prefetch(fdb, fdb_hash(fdb, fdb_key(dst, 0)))
    for i in range(size):
        if key[i]:
            entry = fdb_find(fdb, key[i], f.hash[i])
            if entry != NULL:
                kf_prefetch(entry)


cdef Py_ssize_t fastpath_look(fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t first,
                              Py_ssize_t n) noexcept nogil:
    """Look at the next frames, at most BURST of the n, and ask for what their turn will need; how many."""
    cdef ct_t* t = node.conntrack
    cdef bint verify = node.verify_checksums and t.checksum
    cdef Py_ssize_t i, size = min(n - first, <Py_ssize_t>BURST)
    cdef const int64_t* offset = b.offset + first
    cdef kf_glance* g = &f.glance
    cdef kf_bucket* bucket
    cdef conn_t* c
    cdef uint32_t m, new = 0, strange = 0
    if not f.reads and not apart(b, first, size):
        size = 1
    if first == 0:
        for i in range(size):
            kf_prefetch(b.base + offset[i])
    kf_look(g, b.base, offset, b.length + first, <size_t>size, verify, f.isa)
    for i in range(size):
        f.hash[i] = kf_hash128(g.head[i], g.tail[i], t.secret)
        f.bucket[i] = kf_home(&t.index, f.hash[i])
        kf_prefetch(f.bucket[i])
    n = min(size, n - first - size)
    for i in range(n):
        kf_prefetch(b.base + offset[size + i])
    for i in range(size):
        f.chain[i], f.ref[i] = NULL, NOBODY
        if not g.kind[i]:
            strange += 1
            continue
        bucket = f.bucket[i]
        m = kf_match(bucket, kf_tag(f.hash[i]))
        if m:
            f.ref[i] = bucket.ref[kf_first(m)]
            c = kf_ref_row(t.row, f.ref[i])
            kf_prefetch(c)
            if not f.reads:
                kf_prefetch(&c.packets)
        elif not f.reads and not kf_passed(bucket, f.hash[i]):
            f.chain[i] = look_ahead_new(node, g, i)
            new += 1
    if strange and not f.reads and node.fdb.count >= MANY_STATIONS:
        look_at_stations(f, node, b, first, size)
    if new:
        look_further(f, node, size, new >= MANY_NEW)
    return size
