"""The rows behind `ForwardingDatabase`, with the semantics of Linux's net/bridge/br_fdb.c (6.1; limit: 6.7).

A keyed table of (VLAN, MAC) -> port, which is all that a lookup reads, over a slab of entries; both grow, neither
shrinks. Rows of removed entries form a chain and are used again.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, qsort
from libc.string cimport memcpy

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_splitmix(uint64_t* state)

cdef extern from "csrc/pair.h" nogil:
    int kf_pair_init(kf_index* x)
    void kf_index_free(kf_index* x)
    uint64_t kf_index_bytes(const kf_index* x)
    int kf_pair_room(kf_index* x, uint64_t hash, const uint64_t* secret)
    void kf_pair_insert(kf_index* x, uint64_t key, uint64_t hash, uint16_t value, uint32_t ref)
    void kf_pair_erase(kf_index* x, uint64_t key, uint64_t hash)
    const uint32_t* kf_pair_home_refs(const kf_index* x, uint64_t hash)

cdef extern from "csrc/pair_find.h" nogil:
    enum:
        KF_PAIR_VECTOR          # keys a call
    ctypedef struct kf_pair_finding:
        pass
    ctypedef struct kf_pair_quest:
        const kf_index* index
        uint64_t* secret
        const uint64_t* mac
        const uint16_t* vlan
        bint each               # a VLAN for each key
        int32_t all             # what stands for FDB_NO_PORT
        int32_t* out
    void kf_pair_find_many(const kf_pair_quest* q, int isa, kf_pair_finding* f, int m)

cdef extern from "stdlib.h" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    BLOCK = 64                          # packets hashed ahead of the pass in order
    FIRST_ROWS = 64
cdef int64_t GC_FIRST = 100_000_000     # ns; br_stp_enable_bridge: HZ / 10
cdef int64_t GC_APART = 10_000_000      # ns; br_fdb_cleanup: at least 10 ms between two runs


cdef bint fdb_init(fdb_t* f, int64_t ageing, uint32_t limit, uint64_t seed, int64_t now) noexcept nogil:
    """An empty table, from zeroed memory; False without memory."""
    f.secret[0], f.secret[1] = kf_splitmix(&seed), kf_splitmix(&seed)
    f.ageing, f.limit, f.gc_due = ageing, limit, later(now, GC_FIRST)
    return kf_pair_init(&f.index) == 0


cdef void fdb_free(fdb_t* f) noexcept nogil:
    kf_index_free(&f.index)
    free(f.entry)
    free(f.due)


cdef int64_t later(int64_t t, int64_t delay) noexcept nogil:
    """t + delay, at most the end of time."""
    return t + delay if t <= INT64_MAX - delay else INT64_MAX


cdef int earlier_first(const void* a, const void* b) noexcept nogil:
    cdef int64_t x = (<const int64_t*>a)[0], y = (<const int64_t*>b)[0]
    return (x > y) - (x < y)


cdef bint fdb_grow_slab(fdb_t* f) noexcept nogil:
    cdef uint64_t capacity = max(2 * <uint64_t>f.capacity, <uint64_t>FIRST_ROWS)
    cdef fdb_entry_t* entry
    cdef int64_t* due
    if capacity > FDB_ROWS_MAX:
        return False
    entry = <fdb_entry_t*>aligned_alloc(64, capacity * sizeof(fdb_entry_t))
    due = <int64_t*>aligned_alloc(64, capacity * sizeof(int64_t))
    if entry == NULL or due == NULL:
        free(entry)
        free(due)
        return False
    if f.rows:
        memcpy(entry, f.entry, f.rows * sizeof(fdb_entry_t))
    free(f.entry)
    free(f.due)
    f.entry, f.due, f.capacity = entry, due, <uint32_t>capacity
    return True


cdef inline uint16_t answer(uint16_t port, uint8_t flags) noexcept nogil:
    """What a line says of an entry."""
    return FDB_NO_PORT if flags & FDB_IS_LOCAL else port


cdef void fdb_set(fdb_t* f, fdb_entry_t* e, uint16_t port, uint8_t flags) noexcept nogil:
    """Give an entry another port or other flags."""
    cdef kf_place place = kf_pair_find(&f.index, e.key, fdb_hash(f, e.key))
    f.n_learned += not flags & FDB_STATIC
    f.n_learned -= not e.flags & FDB_STATIC
    place.line.value[place.slot] = answer(port, flags)
    e.port, e.flags = port, flags
    f.changes += 1


cdef fdb_entry_t* fdb_new(fdb_t* f, uint64_t key, uint64_t hash, uint16_t port, uint8_t flags,
                          int64_t now) noexcept nogil:
    """A new entry for a key that has none; NULL without memory."""
    cdef uint32_t row
    cdef fdb_entry_t* e
    if f.count == f.rows and f.rows == f.capacity and not fdb_grow_slab(f):
        return NULL
    if kf_pair_room(&f.index, hash, f.secret) != 0:
        return NULL
    if f.count < f.rows:
        row = f.free_row
        f.free_row = f.entry[row].next_free
    else:
        row = f.rows
        f.rows += 1
    f.count += 1
    f.n_learned += not flags & FDB_STATIC
    kf_pair_insert(&f.index, key, hash, answer(port, flags), row)
    e = &f.entry[row]
    e.key, e.updated, e.moves, e.port, e.flags = key, now, 0, port, flags
    return e


cdef void fdb_remove(fdb_t* f, fdb_entry_t* e) noexcept nogil:
    cdef uint32_t row = <uint32_t>(e - f.entry)
    kf_pair_erase(&f.index, e.key, fdb_hash(f, e.key))
    f.count -= 1
    f.changes += 1
    f.n_learned -= not e.flags & FDB_STATIC
    e.key = FDB_FREE
    e.next_free = f.free_row
    f.free_row = row


cdef void fdb_learn_rare(fdb_t* f, uint64_t key, uint64_t hash, fdb_entry_t* e,
                         uint16_t port, int64_t now) noexcept nogil:
    """What is left of br_fdb_update when it is no refresh: e is the entry of the key, or NULL."""
    cdef uint64_t mac = fdb_mac(key)
    if f.ageing == 0:
        return
    if e != NULL:
        if e.flags & FDB_IS_LOCAL:
            f.counters.own_address += 1
            return
        e.updated = now
        if e.port != port and not e.flags & FDB_STICKY:
            fdb_set(f, e, port, e.flags)
            e.moves += 1
            f.counters.moved += 1
    elif mac >> 40 & 1 or mac == 0:
        f.counters.bad_source += 1
    elif (f.limit and f.n_learned >= f.limit) or fdb_new(f, key, hash, port, 0, now) == NULL:
        f.counters.full += 1
    else:
        f.counters.learned += 1


cdef uint32_t fdb_flush(fdb_t* f, int32_t port, bint everything) noexcept nogil:
    """Remove the learned entries of a port or of FDB_ANY_PORT, or all its entries; say how many."""
    cdef uint32_t row, n = f.count
    cdef fdb_entry_t* e
    for row in range(f.rows):
        e = &f.entry[row]
        if (e.key != FDB_FREE and (port == FDB_ANY_PORT or e.port == port)
                and (everything or not e.flags & FDB_STATIC)):
            fdb_remove(f, e)
    f.counters.flushed += n - f.count
    return n - f.count


cdef void fdb_export(const fdb_t* f, fdb_record_t* record) noexcept nogil:
    """Write `count` records, in no order that means anything."""
    cdef uint32_t row
    cdef const fdb_entry_t* e
    for row in range(f.rows):
        e = &f.entry[row]
        if e.key != FDB_FREE:
            record.mac, record.vlan = fdb_mac(e.key), <uint16_t>(e.key >> 48)
            record.port = -1 if e.port == FDB_NO_PORT else <int32_t>e.port
            record.static = e.flags & FDB_STATIC != 0
            record.local = e.flags & FDB_IS_LOCAL != 0
            record.sticky = e.flags & FDB_STICKY != 0
            record.moves, record.updated = e.moves, e.updated
            record += 1


cdef bint fdb_import(fdb_t* f, const fdb_record_t* record, Py_ssize_t n) noexcept nogil:
    """Fill an empty table with exported records; False without memory."""
    cdef Py_ssize_t i
    cdef uint64_t key
    cdef uint8_t flags
    cdef fdb_entry_t* e
    for i in range(n):
        key = fdb_key(record[i].mac, record[i].vlan)
        flags = (record[i].static * FDB_STATIC | record[i].local * FDB_IS_LOCAL
                 | record[i].sticky * FDB_STICKY)
        e = fdb_new(f, key, fdb_hash(f, key), <uint16_t>record[i].port, flags, record[i].updated)
        if e == NULL:
            return False
        e.moves = record[i].moves
    return True


cdef size_t fdb_nbytes(const fdb_t* f) noexcept nogil:
    return kf_index_bytes(&f.index) + f.capacity * (sizeof(fdb_entry_t) + sizeof(int64_t))


cdef void fdb_collect(fdb_t* f, int64_t now) noexcept nogil:
    """Run, in order, each garbage collection whose time is not after `now`.

    A run at t deletes what expires by t; the next one comes when the next entry expires, at least 10 ms
    and at most the ageing time later. No frame is learned between these runs, so their times follow from
    the sorted expiries alone and one sweep deletes for all of them: the cost is O(rows + d log d) for d
    entries that expire, however long the gap.
    """
    cdef int64_t t = f.gc_due, after = INT64_MAX, expiry, due, next_run
    cdef uint64_t step = <uint64_t>max(f.ageing, GC_APART), gap
    cdef uint32_t row, n = 0, i = 0
    cdef fdb_entry_t* e
    for row in range(f.rows):
        e = &f.entry[row]
        if e.key == FDB_FREE or e.flags & FDB_STATIC:
            continue
        expiry = later(e.updated, f.ageing)
        if expiry <= now:
            f.due[n] = expiry
            n += 1
        else:
            after = min(after, expiry)
    if n:
        qsort(f.due, n, sizeof(int64_t), earlier_first)
    while True:
        due = f.due[i] if i < n else now
        gap = <uint64_t>due - <uint64_t>t if due > t else 0     # which may be more than an int64
        if gap > step:                          # nothing to delete: runs at every step until then
            t = <int64_t>(<uint64_t>t + gap // step * step)
        while i < n and f.due[i] <= t:
            i += 1
        due = f.due[i] if i < n else after
        next_run = max(later(t, GC_APART), min(later(t, f.ageing), due))
        if next_run > now or next_run == t:
            break
        t = next_run
    f.gc_due = next_run
    if i == 0:
        return
    for row in range(f.rows):
        e = &f.entry[row]
        if e.key != FDB_FREE and not e.flags & FDB_STATIC and later(e.updated, f.ageing) <= t:
            fdb_remove(f, e)
            f.counters.aged += 1


cdef void hash_block(const fdb_t* f, const uint64_t* mac, const uint16_t* vlan, Py_ssize_t vlan_step,
                     Py_ssize_t n, bint rows, uint64_t* key, uint64_t* hash) noexcept nogil:
    """Keys and hashes of n addresses; asks for the lines that they will read, and for the rows of their entries."""
    cdef Py_ssize_t i
    cdef kf_place place
    for i in range(n):
        key[i] = fdb_key(mac[i], vlan[i * vlan_step])
        hash[i] = fdb_hash(f, key[i])
        fdb_prefetch(f, hash[i])
        if rows:
            kf_prefetch(kf_pair_home_refs(&f.index, hash[i]))
    if rows:
        for i in range(n):
            place = kf_pair_find(&f.index, key[i], hash[i])
            if place.line:
                kf_prefetch(&f.entry[place.ref[0]])


cdef void fdb_lookup_batch(const fdb_t* f, int isa, const uint64_t* mac, const uint16_t* vlan, bint each_vlan,
                           Py_ssize_t n, int32_t* out) noexcept nogil:
    """Ports of n addresses, a vector at a time (csrc/pair_find.h)."""
    cdef kf_pair_finding finding
    cdef kf_pair_quest quest
    cdef Py_ssize_t at = 0
    quest.index, quest.each, quest.all = &f.index, each_vlan, FDB_LOCAL
    quest.secret[0], quest.secret[1] = f.secret[0], f.secret[1]
    while at < n:
        quest.mac, quest.out = mac + at, out + at
        quest.vlan = vlan + at if each_vlan else vlan
        kf_pair_find_many(&quest, isa, &finding, <int>min(<Py_ssize_t>KF_PAIR_VECTOR, n - at))
        at += KF_PAIR_VECTOR


cdef void fdb_learn_batch(fdb_t* f, const uint64_t* src, const uint64_t* dst, const uint16_t* port,
                      Py_ssize_t port_step, const uint16_t* vlan, Py_ssize_t vlan_step,
                      const int64_t* now, Py_ssize_t now_step, Py_ssize_t n, int32_t* out) noexcept nogil:
    """Age, learn src and, when dst is not NULL, look dst up: packet after packet."""
    cdef uint64_t src_key[BLOCK]
    cdef uint64_t src_hash[BLOCK]
    cdef uint64_t dst_key[BLOCK]
    cdef uint64_t dst_hash[BLOCK]
    cdef Py_ssize_t at = 0, i, size
    while at < n:
        size = min(<Py_ssize_t>BLOCK, n - at)
        hash_block(f, src + at, vlan + at * vlan_step, vlan_step, size, True, src_key, src_hash)
        if dst != NULL:
            hash_block(f, dst + at, vlan + at * vlan_step, vlan_step, size, False, dst_key,
                       dst_hash)
        for i in range(size):
            fdb_age(f, now[(at + i) * now_step])
            fdb_learn_hashed(f, src_key[i], src_hash[i], port[(at + i) * port_step], now[(at + i) * now_step])
            if dst != NULL:
                out[at + i] = fdb_lookup_hashed(f, dst_key[i], dst_hash[i])
        at += size


