"""Neighbours: who owns a next hop's address, found by ARP or NDP and kept by Linux's state machine.

Source: net/core/neighbour.c (neigh_event_send, neigh_update, neigh_timer_handler) and net/ipv4/arp.c, with the
defaults of arp_tbl. `reachable_time` is its base, of which the kernel draws 50 to 150 % anew every five minutes.
"""

from operator import index

import numpy as np

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from .address import ipv4, ipv4_text, ipv6, ipv6_text, mac as parse_mac, mac_text
from .address_pool cimport POOL_NONE, pool_find

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)
    uint64_t kf_splitmix(uint64_t* state)

cdef extern from "csrc/bucket.h" nogil:
    ctypedef struct kf_bucket:
        uint32_t passed
        uint32_t* ref
    enum: KF_SLOTS
    uint8_t kf_tag(uint64_t hash)
    uint32_t kf_match(const kf_bucket* b, uint8_t tag)
    int kf_first(uint32_t mask)
    kf_bucket* kf_probe(const kf_index* x, uint64_t hash, uint64_t n)
    ctypedef uint64_t (*kf_hash_of)(const void* table, uint32_t ref) noexcept nogil
    ctypedef void (*kf_ask_for)(const void* table, uint32_t ref) noexcept nogil
    int kf_index_room(kf_index* x, uint64_t hash, const void* table, kf_hash_of hash_of, kf_ask_for ask)
    int kf_index_init(kf_index* x, uint64_t references)
    void kf_index_free(kf_index* x)
    void kf_index_insert(kf_index* x, uint64_t hash, uint32_t ref)
    int kf_index_erase(kf_index* x, uint64_t hash, uint32_t ref)

cdef enum:
    NO_DEV = 0xFFFF
    UCAST_PROBES = 3            # probes start here for a new entry, so that 3 broadcasts remain
    MCAST_PROBES = 3
    SKB_OVERHEAD = 768          # truesize of a small frame, less its bytes (struct sk_buff and shared info)
    QUEUE_BYTES = 212_992       # unres_qlen_bytes: SK_WMEM_MAX

cdef int64_t SECOND = 1_000_000_000
cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF
cdef int64_t AT_ONCE = -0x7FFFFFFFFFFFFFFF

STATES = {NUD_NONE: "NONE", NUD_INCOMPLETE: "INCOMPLETE", NUD_REACHABLE: "REACHABLE", NUD_STALE: "STALE",
          NUD_DELAY: "DELAY", NUD_PROBE: "PROBE", NUD_FAILED: "FAILED", NUD_PERMANENT: "PERMANENT"}


cdef uint64_t neigh_hash(const neigh_table_t* t, uint16_t dev, uint32_t ip) noexcept nogil:
    return kf_hash64(<uint64_t>dev << 32 | ip, t.secret)


cdef uint32_t neigh_find(const neigh_table_t* t, uint16_t dev, uint32_t ip) noexcept nogil:
    """The row of (interface, address), or NO_NEIGHBOUR."""
    cdef uint64_t hash = neigh_hash(t, dev, ip), n = 0
    cdef kf_bucket* b
    cdef uint32_t m, ref
    while True:
        b = kf_probe(&t.index, hash, n)
        m = kf_match(b, kf_tag(hash))
        while m:
            ref = b.ref[kf_first(m)]
            if t.row[ref].ip == ip and t.row[ref].dev == dev:
                return ref
            m &= m - 1
        n += 1
        if b.passed == 0 or n > t.index.mask:
            return NO_NEIGHBOUR


cdef uint64_t hash_of(const void* table, uint32_t row) noexcept nogil:
    cdef const neighbour_t* n = &(<const neigh_table_t*>table).row[row]
    return neigh_hash(<const neigh_table_t*>table, n.dev, n.ip)


cdef void ask_for(const void* table, uint32_t row) noexcept nogil:
    pass                        # the table is small


cdef bint grow(neigh_table_t* t, uint64_t hash) noexcept nogil:
    """Room for one more row of this hash; False without memory."""
    cdef uint32_t capacity
    cdef neighbour_t* row
    if t.n_rows == t.capacity:
        capacity = 2 * t.capacity
        row = <neighbour_t*>realloc(t.row, capacity * sizeof(neighbour_t))
        if row == NULL:
            return False
        t.row, t.capacity = row, capacity
    return kf_index_room(&t.index, hash, t, hash_of, ask_for) == 0


cdef void set_timer(neigh_table_t* t, neighbour_t* n, int64_t when) noexcept nogil:
    cdef uint32_t i
    cdef bint was_first = n.timer != 0 and n.timer == t.due
    n.timer = when
    if when != 0 and when < t.due:
        t.due = when
    elif was_first:
        t.due = NEVER
        for i in range(t.n_rows):
            if t.row[i].dev != NO_DEV and t.row[i].timer != 0:
                t.due = min(t.due, t.row[i].timer)


cdef void add_timer(neigh_table_t* t, neighbour_t* n, int64_t when) noexcept nogil:
    """Start it: an answer counts as use (neigh_add_timer)."""
    n.used = max(n.used, n.confirmed)
    set_timer(t, n, when)


cdef inline void set_state(neigh_table_t* t, neighbour_t* n, nud_t state, int64_t now) noexcept nogil:
    t.changes += n.state & NUD_VALID != 0
    n.state, n.updated = state, now


cdef void forget(neigh_table_t* t, uint32_t index) noexcept nogil:
    cdef neighbour_t* n = &t.row[index]
    t.changes += 1
    while n.first != NULL:
        free(neigh_take(t, index))
    set_timer(t, n, 0)
    kf_index_erase(&t.index, neigh_hash(t, n.dev, n.ip), index)
    t.dynamic -= n.state != NUD_PERMANENT
    n.dev, n.state, n.ip, t.free = NO_DEV, NUD_NONE, t.free, index


cdef void collect(neigh_table_t* t, int64_t now) noexcept nogil:
    """Make room in a full table (neigh_forced_gc): failed rows go, and what has not changed for 5 s."""
    cdef uint32_t i
    cdef neighbour_t* n
    for i in range(t.n_rows):
        n = &t.row[i]
        if n.dev != NO_DEV and n.state != NUD_PERMANENT and n.first == NULL and (
                n.state == NUD_FAILED or now - n.updated > 5 * SECOND):
            forget(t, i)


cdef uint32_t neigh_create(neigh_table_t* t, uint16_t dev, uint32_t ip, int64_t now) noexcept nogil:
    """A row for (interface, address), new or found; NO_NEIGHBOUR if the table is full, or without memory."""
    cdef uint32_t i = neigh_find(t, dev, ip)
    if i != NO_NEIGHBOUR:
        return i
    if t.dynamic >= t.limit:
        collect(t, now)
    if t.dynamic >= t.limit or not grow(t, neigh_hash(t, dev, ip)):
        return NO_NEIGHBOUR
    if t.free != NO_NEIGHBOUR:
        i = t.free
        t.free = t.row[i].ip
    else:
        i = t.n_rows
        t.n_rows += 1
    memset(&t.row[i], 0, sizeof(neighbour_t))
    t.row[i].dev, t.row[i].ip, t.row[i].updated = dev, ip, now
    t.dynamic += 1
    kf_index_insert(&t.index, neigh_hash(t, dev, ip), i)
    return i


cdef resolve_t neigh_resolve(neigh_table_t* t, uint32_t index, int64_t now) noexcept nogil:
    """What a packet for this neighbour has to do (neigh_event_send)."""
    cdef neighbour_t* n = &t.row[index]
    if n.state & NUD_CONNECTED and n.primed:
        return NEIGH_SEND
    n.used = now
    if n.state & NUD_VALID:
        n.primed = True
        if n.state == NUD_STALE:
            set_state(t, n, NUD_DELAY, now)
            add_timer(t, n, now + t.delay)
        return NEIGH_SEND
    if n.state == NUD_INCOMPLETE:
        return NEIGH_HOLD
    set_state(t, n, NUD_INCOMPLETE, now)
    n.probes = UCAST_PROBES + 1
    add_timer(t, n, now + t.retrans)
    return NEIGH_ASK


cdef held_t* neigh_crowded(neigh_table_t* t, uint32_t index, uint32_t length) noexcept nogil:
    """The oldest waiting packet, taken out, if one more of `length` bytes does not fit; NULL when it does."""
    if t.row[index].held_bytes + length + SKB_OVERHEAD <= QUEUE_BYTES:
        return NULL
    t.discarded += t.row[index].first != NULL
    return neigh_take(t, index)


cdef bint neigh_hold(neigh_table_t* t, uint32_t index, const void* record, uint32_t record_size,
                     const uint8_t* frame, uint32_t length) noexcept nogil:
    """Queue a packet behind its neighbour. False without memory."""
    cdef neighbour_t* n = &t.row[index]
    cdef held_t* h = <held_t*>malloc(sizeof(held_t) + record_size + length)
    if h == NULL:
        return False
    h.next, h.record_size, h.length = NULL, record_size, length
    memcpy(h + 1, record, record_size)
    memcpy(<uint8_t*>(h + 1) + record_size, frame, length)
    if n.first == NULL:
        n.first = h
    else:
        n.last.next = h
    n.last = h
    n.held_bytes += length + SKB_OVERHEAD
    t.held += 1
    return True


cdef held_t* neigh_take(neigh_table_t* t, uint32_t index) noexcept nogil:
    """The oldest waiting packet, to be freed by the caller, or NULL."""
    cdef neighbour_t* n = &t.row[index]
    cdef held_t* h = n.first
    if h != NULL:
        n.first = h.next
        n.held_bytes -= h.length + SKB_OVERHEAD
        t.held -= 1
    return h


cdef bint neigh_update(neigh_table_t* t, uint32_t index, uint64_t mac, nud_t state, bint override, bint weak,
                       int64_t now) noexcept nogil:
    """Take note of what ARP or NDP said (neigh_update). True: the MAC is known from now on, release the queue.

    `weak`: another MAC that may not override makes a confirmed one doubtful. A MAC of more than 48 bits: nothing was said of it.
    """
    cdef neighbour_t* n = &t.row[index]
    cdef uint8_t old = n.state
    cdef uint8_t new = state
    if old == NUD_PERMANENT:
        return False
    if mac >> 48:
        if not old & NUD_VALID:
            return False
        mac = n.mac
    if new & NUD_CONNECTED:
        n.confirmed = now
    if old & NUD_VALID:
        if mac != n.mac and not override:
            if not (weak and old & NUD_CONNECTED):
                return False
            mac, new = n.mac, NUD_STALE
        elif mac == n.mac and new == NUD_STALE:
            new = old
    if new != old or mac != n.mac:
        n.updated = now
        t.changes += 1
    if new != old:
        n.state = new
        if new == NUD_REACHABLE:
            add_timer(t, n, now + t.reachable)
        else:
            set_timer(t, n, 0)
    if mac != n.mac:
        n.mac = mac
        if not new & NUD_CONNECTED:
            n.confirmed = now - 2 * t.reachable
    return new != old and not old & NUD_VALID


cdef event_t neigh_timer(neigh_table_t* t, int64_t now, uint32_t* index, int64_t* when) noexcept nogil:
    """Run the earliest timer that is due (neigh_timer_handler); call again until NEIGH_NOTHING.

    `when` receives the timer's own time.
    """
    cdef uint32_t i
    cdef neighbour_t* n
    cdef int64_t time
    while t.due <= now:
        for i in range(t.n_rows):
            n = &t.row[i]
            if n.dev != NO_DEV and n.timer == t.due:
                break
        else:
            t.due = NEVER
            break
        time = n.timer
        index[0], when[0] = i, time
        if n.state == NUD_REACHABLE:
            if time < n.confirmed + t.reachable:
                set_timer(t, n, n.confirmed + t.reachable)
            elif n.used != 0 and time <= n.used + t.delay:
                set_state(t, n, NUD_DELAY, time)
                set_timer(t, n, time + t.delay)
            else:
                set_state(t, n, NUD_STALE, time)
                set_timer(t, n, 0)
        elif n.state == NUD_DELAY:
            if time <= n.confirmed + t.delay:
                set_state(t, n, NUD_REACHABLE, time)
                set_timer(t, n, n.confirmed + t.reachable)
            else:
                set_state(t, n, NUD_PROBE, time)
                n.probes = 1
                set_timer(t, n, time + t.retrans)
                return NEIGH_PROBE
        elif n.state & (NUD_PROBE | NUD_INCOMPLETE):
            if n.probes >= UCAST_PROBES + (0 if n.state == NUD_PROBE else MCAST_PROBES):
                set_state(t, n, NUD_FAILED, time)
                set_timer(t, n, 0)
                return NEIGH_UNREACHABLE
            n.probes += 1
            set_timer(t, n, time + t.retrans)
            return NEIGH_PROBE
        else:
            set_timer(t, n, 0)
            if n.first != NULL:
                return NEIGH_KNOWN
    return NEIGH_NOTHING


cdef uint16_t device_of(dev) except? NO_DEV:
    """An interface's index; the highest is that of rows that are free."""
    if not 0 <= index(dev) < NO_DEV:
        raise OverflowError(f"dev must be an interface index in 0..{NO_DEV - 1}: {dev}")
    return dev


cdef class NeighbourTable:
    """Next hop -> MAC for every interface of a node.

    Parameters
    ----------
    seed : int
        Secret of the hash.
    pool : AddressPool, optional
        The table is of IPv6 addresses, which this one numbers.
    limit : int
        Most neighbours that are not permanent (gc_thresh3). When it is reached, those that failed or have not
        changed for 5 s make room; a packet for one more is dropped as NEIGH_CREATEFAIL.
    retrans_s, delay_s, reachable_s : float
        Between two requests (retrans_time_ms); from the first packet to a stale neighbour until it is asked
        (delay_first_probe_time); how long an answer holds (base_reachable_time_ms).

    Raises
    ------
    ValueError
        For a limit below 1 or a time that is not above 0.
    """

    def __cinit__(self, seed=0, limit=1024, AddressPool pool=None, *, retrans_s=1, delay_s=5, reachable_s=30):
        cdef uint64_t state = seed & 0xFFFFFFFFFFFFFFFF
        self.table.secret[0] = kf_splitmix(&state)
        self.table.secret[1] = kf_splitmix(&state)
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        if not (retrans_s > 0 and delay_s > 0 and reachable_s > 0):
            raise ValueError(f"times must be above 0, not {retrans_s}, {delay_s}, {reachable_s}")
        self.table.retrans, self.table.delay = round(retrans_s * SECOND), round(delay_s * SECOND)
        self.table.reachable = round(reachable_s * SECOND)
        self.pool = pool
        self.table.family = 4 if pool is None else 6
        self.table.due, self.table.free, self.table.limit = NEVER, NO_NEIGHBOUR, limit
        self.table.capacity = 64
        self.table.row = <neighbour_t*>calloc(self.table.capacity, sizeof(neighbour_t))
        if self.table.row == NULL or kf_index_init(&self.table.index, 64) < 0:
            raise MemoryError("no memory for the neighbour table")

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.table.n_rows):
            while self.table.row[i].first != NULL:
                free(neigh_take(&self.table, i))
        free(self.table.row)
        kf_index_free(&self.table.index)

    def __len__(self):
        cdef uint32_t i
        return sum(1 for i in range(self.table.n_rows) if self.table.row[i].dev != NO_DEV)

    def number(self, address):
        """An address as the table has it: itself, or its handle."""
        return ipv4(address) if self.pool is None else self.pool.pin(ipv6(address))

    def add(self, dev, address, mac):
        """Set a permanent neighbour, as `ip neigh replace ... nud permanent` does.

        Packets that wait for it leave when the node's time goes on.

        Parameters
        ----------
        dev : int
            Interface index.
        address, mac : str or int
            What to resolve, and to what.

        Raises
        ------
        AddressError
            For an address or MAC that is none. Nothing has changed then.
        TypeError, OverflowError
            For an interface that is no integer, or not in 0..65534. Nothing has changed then.
        """
        cdef uint16_t device = device_of(dev)
        cdef uint64_t lladdr = parse_mac(mac)
        cdef uint32_t ip = self.number(address)
        cdef uint32_t limit = self.table.limit
        self.table.limit = NO_NEIGHBOUR                 # permanent entries do not count
        cdef uint32_t i = neigh_create(&self.table, device, ip, 0)
        self.table.limit = limit
        if i == NO_NEIGHBOUR:
            raise MemoryError("no memory for a neighbour")
        self.table.dynamic -= self.table.row[i].state != NUD_PERMANENT
        self.table.row[i].mac, self.table.row[i].state = lladdr, NUD_PERMANENT
        self.table.changes += 1
        set_timer(&self.table, &self.table.row[i], 0 if self.table.row[i].first == NULL else AT_ONCE)

    def remove(self, dev, address):
        """Forget a neighbour and the packets that wait for it; KeyError when it is not there."""
        cdef uint16_t device = device_of(dev)
        cdef uint32_t i = NO_NEIGHBOUR, ip
        cdef bytes octets
        if self.pool is None:
            ip = ipv4(address)
        else:                                           # one that the pool does not have is not put into it
            octets = ipv6(address).to_bytes(16, "big")
            ip = pool_find(&self.pool.pool, octets)
        if self.pool is None or ip != POOL_NONE:
            i = neigh_find(&self.table, device, ip)
        if i == NO_NEIGHBOUR:
            raise KeyError(f"no neighbour {address} on interface {dev}")
        forget(&self.table, i)

    def flush(self, dev):
        """Forget all neighbours of an interface."""
        cdef uint16_t device = device_of(dev)
        cdef uint32_t i
        for i in range(self.table.n_rows):
            if self.table.row[i].dev == device:
                forget(&self.table, i)

    @property
    def held(self):
        """Packets that wait for a MAC."""
        return self.table.held

    def to_records(self):
        """The table as a structured array: dev, ip (host order; of IPv6 a handle), mac, state (NUD_*), updated (ns)."""
        cdef uint32_t i
        rows = [(self.table.row[i].dev, self.table.row[i].ip, self.table.row[i].mac, self.table.row[i].state,
                 self.table.row[i].updated)
                for i in range(self.table.n_rows) if self.table.row[i].dev != NO_DEV]
        return np.array(rows, dtype=[("dev", "u2"), ("ip", "u4"), ("mac", "u8"), ("state", "u1"),
                                     ("updated", "i8")])

    def to_text(self, names=None):
        """The table as `ip neigh show` prints it; `names` maps interface indices to names."""
        lines = []
        for row in sorted(self.to_records().tolist()):
            dev, ip, lladdr, state, _ = row
            known = f" lladdr {mac_text(lladdr)}" if state & NUD_VALID else ""
            text = ipv4_text(ip) if self.pool is None else ipv6_text(self.pool[ip])
            lines.append(f"{text} dev {(names or {}).get(dev, dev)}{known} {STATES[state]}")
        return "\n".join(lines)
