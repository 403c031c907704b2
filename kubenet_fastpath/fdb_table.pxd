"""The bridge's (VLAN, MAC) -> port as a C struct. `fdb.pxd` says what of it users call."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)

cdef extern from "csrc/pair.h" nogil:
    ctypedef struct kf_index:
        pass
    ctypedef struct kf_pairs:
        uint16_t* value         # the port, FDB_NO_PORT for a local entry
    ctypedef struct kf_place:
        kf_pairs* line           # NULL: the key is not there
        uint32_t* ref           # the row of its entry
        int slot
    kf_place kf_pair_find(const kf_index* x, uint64_t key, uint64_t hash)
    kf_pairs* kf_pair_home(const kf_index* x, uint64_t hash)
    void kf_prefetch(const void* p)

cdef enum:
    FDB_UNKNOWN = -1        # no entry: flood
    FDB_LOCAL = -2          # the bridge's own address or a port's: up to the host
    FDB_NO_PORT = 0xFFFF    # fdb_entry_t.port of an address of the bridge itself; in a line, of any local entry
    FDB_ANY_PORT = -1
    FDB_ROWS_MAX = 1 << 30
    FDB_NO_ROW = 0xFFFFFFFF

cdef enum: FDB_FREE = 0xFFFFFFFFFFFFFFFFULL    # fdb_entry_t.key of a row that is not in use

cdef enum:                  # fdb_entry_t.flags
    FDB_STATIC = 1          # never ages (BR_FDB_STATIC)
    FDB_IS_LOCAL = 2        # BR_FDB_LOCAL, always with FDB_STATIC
    FDB_STICKY = 4          # never moves (BR_FDB_STICKY)

cdef struct fdb_entry_t:
    uint64_t key            # fdb_key(), or FDB_FREE
    int64_t updated         # ns, the latest frame from this address
    uint32_t moves          # times the address changed its port
    uint32_t next_free
    uint16_t port
    uint8_t flags

cdef packed struct fdb_record_t:    # an entry for export; flags apart, bytes that are 0 or 1
    uint64_t mac
    uint16_t vlan
    int32_t port            # -1: an address of the bridge itself
    uint8_t static
    uint8_t local
    uint8_t sticky
    uint32_t moves
    int64_t updated

cdef struct fdb_counters_t:
    uint64_t learned
    uint64_t moved
    uint64_t aged
    uint64_t flushed
    uint64_t own_address    # frames that came with a local address as their source
    uint64_t bad_source     # frames that came from a multicast or zero address
    uint64_t full           # frames from an unknown address while `limit` entries were learned

cdef enum: FDB_LATELY = 64

cdef struct fdb_lately_t:   # an entry that was found lately
    uint64_t key            # 0: none
    uint64_t changes        # of the table then: it is the same as long as these are
    uint32_t row
    uint16_t value          # what its line says

cdef struct fdb_t:          # the table; opaque to its users
    kf_index index          # of csrc/pair.h: key -> port, and the row
    fdb_entry_t* entry      # a slab of `capacity` rows, of which `rows` have ever been used
    int64_t* due            # scratch of the garbage collection, one item a row
    uint32_t capacity
    uint32_t rows
    uint32_t free_row       # head of the chain of free rows below `rows`
    uint32_t count          # entries
    uint32_t n_learned      # entries that are not static
    uint32_t limit          # of n_learned; 0: none
    int64_t ageing          # ns; 0: nothing is learned
    int64_t gc_due          # ns, when the garbage collection runs next
    uint64_t changes        # an entry went, moved, or was set anew: what was known of it may be wrong
    uint64_t secret[2]
    fdb_counters_t counters
    fdb_lately_t lately[FDB_LATELY]     # by the last bits of the key

cdef bint fdb_init(fdb_t* f, int64_t ageing, uint32_t limit, uint64_t seed, int64_t now) noexcept nogil
cdef void fdb_free(fdb_t* f) noexcept nogil
cdef fdb_entry_t* fdb_new(fdb_t* f, uint64_t key, uint64_t hash, uint16_t port, uint8_t flags,
                          int64_t now) noexcept nogil
cdef void fdb_remove(fdb_t* f, fdb_entry_t* e) noexcept nogil
cdef uint32_t fdb_flush(fdb_t* f, int32_t port, bint everything) noexcept nogil
cdef void fdb_export(const fdb_t* f, fdb_record_t* record) noexcept nogil
cdef bint fdb_import(fdb_t* f, const fdb_record_t* record, Py_ssize_t n) noexcept nogil
cdef size_t fdb_nbytes(const fdb_t* f) noexcept nogil
cdef void fdb_set(fdb_t* f, fdb_entry_t* e, uint16_t port, uint8_t flags) noexcept nogil
cdef void fdb_lookup_batch(const fdb_t* f, int isa, const uint64_t* mac, const uint16_t* vlan, bint each_vlan,
                           Py_ssize_t n, int32_t* out) noexcept nogil
cdef void fdb_learn_batch(fdb_t* f, const uint64_t* src, const uint64_t* dst, const uint16_t* port,
                          Py_ssize_t port_step, const uint16_t* vlan, Py_ssize_t vlan_step,
                          const int64_t* now, Py_ssize_t now_step, Py_ssize_t n, int32_t* out) noexcept nogil
cdef void fdb_learn_rare(fdb_t* f, uint64_t key, uint64_t hash, fdb_entry_t* e,
                         uint16_t port, int64_t now) noexcept nogil
cdef void fdb_collect(fdb_t* f, int64_t now) noexcept nogil


cdef inline uint64_t fdb_key(uint64_t mac, uint16_t vlan) noexcept nogil:
    return <uint64_t>vlan << 48 | mac


cdef inline uint64_t fdb_mac(uint64_t key) noexcept nogil:
    return key & 0xFFFFFFFFFFFFULL


cdef inline uint64_t fdb_hash(const fdb_t* f, uint64_t key) noexcept nogil:
    return kf_hash64(key, f.secret)


cdef inline void fdb_prefetch(const fdb_t* f, uint64_t hash) noexcept nogil:
    """Ask for the first line that a lookup of this hash reads."""
    kf_prefetch(kf_pair_home(&f.index, hash))


cdef inline fdb_entry_t* fdb_find(const fdb_t* f, uint64_t key, uint64_t hash) noexcept nogil:
    cdef kf_place place = kf_pair_find(&f.index, key, hash)
    return &f.entry[place.ref[0]] if place.line else NULL


cdef inline int32_t fdb_lookup_hashed(const fdb_t* f, uint64_t key, uint64_t hash) noexcept nogil:
    cdef kf_place place = kf_pair_find(&f.index, key, hash)
    cdef uint16_t port
    if place.line == NULL:
        return FDB_UNKNOWN
    port = place.line.value[place.slot]
    if port == FDB_NO_PORT:
        return FDB_LOCAL
    return port


cdef inline const fdb_lately_t* fdb_known(fdb_t* f, uint64_t key) noexcept nogil:
    """The entry of a key, NULL: it has none. Hosts send more than one frame: without a hash, mostly."""
    cdef fdb_lately_t* lately = &f.lately[key % FDB_LATELY]
    cdef kf_place place
    if lately.key == key and lately.changes == f.changes and key:
        return lately
    place = kf_pair_find(&f.index, key, fdb_hash(f, key))
    if place.line == NULL:
        return NULL
    lately.key, lately.changes = key, f.changes
    lately.row, lately.value = place.ref[0], place.line.value[place.slot]
    return lately


cdef inline int32_t fdb_lookup(fdb_t* f, uint64_t mac, uint16_t vlan) noexcept nogil:
    """Port of an address, FDB_LOCAL or FDB_UNKNOWN. Expiry is not tested, as in the kernel: call fdb_age."""
    cdef const fdb_lately_t* known = fdb_known(f, fdb_key(mac, vlan))
    if known == NULL:
        return FDB_UNKNOWN
    return FDB_LOCAL if known.value == FDB_NO_PORT else <int32_t>known.value


cdef inline void fdb_learn_hashed(fdb_t* f, uint64_t key, uint64_t hash,
                                  uint16_t port, int64_t now) noexcept nogil:
    cdef kf_place place = kf_pair_find(&f.index, key, hash)
    cdef fdb_entry_t* e = &f.entry[place.ref[0]] if place.line else NULL
    if e != NULL and place.line.value[place.slot] == port and f.ageing != 0:
        e.updated = now
    else:
        fdb_learn_rare(f, key, hash, e, port, now)


cdef inline void fdb_learn(fdb_t* f, uint64_t mac, uint16_t vlan, uint16_t port, int64_t now) noexcept nogil:
    """Learn, refresh or move the source of a frame (br_fdb_update)."""
    cdef uint64_t key = fdb_key(mac, vlan)
    cdef const fdb_lately_t* known = fdb_known(f, key)
    if known != NULL and known.value == port and f.ageing != 0:
        f.entry[known.row].updated = now
    else:
        fdb_learn_hashed(f, key, fdb_hash(f, key), port, now)


cdef inline uint32_t fdb_row(const fdb_t* f, uint64_t mac, uint16_t port) noexcept nogil:
    """Where a frame from this address by this port is noted, if that changes nothing else; FDB_NO_ROW: not so.

    It holds until `changes` does not.
    """
    cdef uint64_t key = fdb_key(mac, 0)
    cdef const fdb_entry_t* e = fdb_find(f, key, fdb_hash(f, key))
    if e == NULL or e.port != port or e.flags & FDB_IS_LOCAL or f.ageing == 0:
        return FDB_NO_ROW
    return <uint32_t>(e - f.entry)


cdef inline void fdb_refresh(fdb_t* f, uint32_t row, int64_t now) noexcept nogil:
    f.entry[row].updated = now


cdef inline void fdb_age(fdb_t* f, int64_t now) noexcept nogil:
    """Run every garbage collection that is due by `now` (br_fdb_cleanup)."""
    if now >= f.gc_due:
        fdb_collect(f, now)
