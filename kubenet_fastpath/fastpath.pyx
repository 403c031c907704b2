"""The fast path: established flows go by what the full path decided for their latest packet, in bursts.

Its packets have been looked at together (see `lookahead`), which changes nothing. Each is taken in its turn, up to the
first that is not known or in any way unusual; the full path takes that one, and what it did is learned from (compare
nf_flow_table_ip.c, and VPP's session entries that keep an adjacency). So a batch means its packets one by one; frames that
overlap are looked at one at a time, for one may have rewritten the other.

What a path cannot hold is done for every packet: connection tracking (accounting, timeout, TCP's window), translation
by the connection's tuples, TTL, and the time stamp of the source's MAC in the FDB. (When a neighbour was used last the
kernel notes too; between two states of it nothing comes of that.)

Longer than its neighbours: how a path is followed and how it is learned have to agree line by line.
"""

from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from .conntrack cimport (
    CT_ESTABLISHED, CT_ESTABLISHED_REPLY, IPS_CONFIRMED, IPS_DYING, NO_CONN, conn_t, ct_conn, ct_find,
    ct_t, ct_track_hashed, ctinfo_t, segment_t, tuple_t,
)
from .context cimport IF_BRIDGE_PORT, interface_t, out_room, out_t, sent
from .defrag cimport defrag_next_due
from .fdb cimport FDB_NO_ROW, fdb_lookup, fdb_refresh, fdb_row
from .flowtable cimport kf_ref, kf_ref_conn, kf_ref_direction, kf_ref_row
from .frame cimport ETH_LEN, ETH_SRC, IP_DST, IP_LEN, IP_SRC, IP_TTL, L4_DPORT, load16, load32, load_mac
from .tracker cimport ct_refresh, udp_timeout
from .verdict cimport V_BRIDGED, V_ROUTED

cdef extern from "stdlib.h" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef extern from "csrc/hash.h" nogil:
    uint64_t kf_hash64(uint64_t word, const uint64_t* secret)

cdef enum:
    FIRST_PATHS = 64
    MOST_PATHS = 1 << 16
    PROBES = 8
    GENERATIONS = 0xFFFF
cdef int64_t RESET = 1_000_000_000      # ns between two givings-up of all paths because there are too many

cdef uint64_t[2] NO_SECRET              # who can choose MACs can only keep paths from being learned
NO_SECRET[0], NO_SECRET[1] = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


cdef bint fastpath_init(fastpath_t* f, int isa) noexcept nogil:
    """No path known, from zeroed memory; False without memory."""
    f.generation, f.isa = 1, isa
    f.candidate.conn = NO_CONN
    return make_paths(f, FIRST_PATHS)


cdef void fastpath_free(fastpath_t* f) noexcept nogil:
    free(f.path)


cdef bint make_paths(fastpath_t* f, uint32_t n) noexcept nogil:
    cdef path_t* path = <path_t*>aligned_alloc(64, n * sizeof(path_t))
    if path == NULL:
        return False
    memset(path, 0, n * sizeof(path_t))
    free(f.path)
    f.path, f.mask = path, n - 1
    return True


cdef void forget_paths(fastpath_t* f, ct_t* t) noexcept nogil:
    """Begin a new generation. When its number begins anew, the connections forget theirs."""
    cdef uint32_t conn
    f.used = 0
    f.generation += 1
    if f.generation > GENERATIONS:
        f.generation = 1
        memset(f.path, 0, (<size_t>f.mask + 1) * sizeof(path_t))
        for conn in range(t.used):
            t.row[conn].path[0] = t.row[conn].path[1] = 0


cdef inline uint64_t changes_of(const node_t* node) noexcept nogil:
    """Grows with everything that may change the way of an established packet."""
    return (node.changes + node.fib.changes + node.neighbours.changes + node.fdb.changes
            + node.services.changes)


cdef void catch_up(fastpath_t* f, node_t* node) noexcept nogil:
    """After anything that is not the fast path has run: new changes, new timers."""
    cdef uint64_t changes = changes_of(node)
    if changes != f.changes:
        f.changes = changes
        forget_paths(f, node.conntrack)
    f.due = min(min(defrag_next_due(node.defrag), defrag_next_due(node.defrag6)),
                min(min(node.neighbours.due, node.neighbours6.due), node.fdb.gc_due))
    if node.n_proxied:
        f.due = min(f.due, node.proxied_due)


cdef uint32_t find(ct_t* t, const fastpath_t* f, Py_ssize_t k, int64_t now) noexcept nogil:
    """What the first look has not found, or not rightly; NOBODY: there is none."""
    cdef tuple_t tuple = tuple_of(&f.glance, k)
    cdef int direction = 0
    cdef uint32_t conn = ct_find(t, &tuple, f.hash[k], now, &direction)
    return NOBODY if conn == NO_CONN else kf_ref(conn, direction)


cdef inline bint track_tcp(node_t* node, const fastpath_t* f, Py_ssize_t k, uint8_t* l3, uint32_t conn) noexcept nogil:
    """Let conntrack judge a TCP segment. False: it is not simply one more; the full path gets what it said."""
    cdef segment_t seg
    cdef uint32_t found
    cdef ctinfo_t info
    seg.tuple = tuple_of(&f.glance, k)
    seg.l3 = NULL
    seg.ip_len, seg.l4, seg.l4_len = f.glance.total[k], l3 + IP_LEN, f.glance.total[k] - <uint32_t>IP_LEN
    seg.verify = node.verify_checksums
    info = ct_track_hashed(node.conntrack, &seg, f.hash[k], node.now, &found)
    if found == conn and (info == CT_ESTABLISHED or info == CT_ESTABLISHED_REPLY):     # a reset's row is still there
        return True
    node.tracked, node.tracked_conn, node.tracked_info = True, found, <uint8_t>info
    return False


cdef inline uint64_t made(const node_t* node) noexcept nogil:
    """Grows when the node sends, releases or loses anything of its own."""
    return node.generated + node.generated_drops + node.released


cdef inline uint64_t sent_by_host(const node_t* node, uint16_t port) noexcept nogil:
    """Frames that the host itself has sent by the bridge that this port belongs to."""
    return node.interface[node.interface[port].bridge].tx_packets if port < node.n_interfaces else 0


cdef void consider(fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t i, uint32_t ref) noexcept nogil:
    """Watch what the full path does with a packet, for those that follow it."""
    cdef candidate_t* c = &f.candidate
    cdef const uint8_t* frame = b.base + b.offset[i]
    c.conn, c.direction = kf_ref_conn(ref), kf_ref_direction(ref)
    c.packets = ct_conn(node.conntrack, c.conn).packets[c.direction]
    c.ttl = frame[ETH_LEN + IP_TTL]
    memcpy(c.macs, frame, 12)
    c.n_out = node.n_out
    c.made, c.copies, c.sent_up = made(node), node.local_copies, sent_by_host(node, b.port[i])
    node.unsettled = False


cdef Py_ssize_t fastpath_run(fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t first, Py_ssize_t i,
                             Py_ssize_t end) noexcept nogil:
    """Take packets i, i + 1 ... in their turn; the number of the first that has to go the full path, or `end`.

    The burst that was looked at begins with `first`. Nothing has happened to the packet that is named.
    """
    cdef ct_t* t = node.conntrack
    cdef const kf_glance* g = &f.glance
    cdef conn_t* c
    cdef const path_t* path
    cdef interface_t* device
    cdef out_t* out
    cdef uint8_t* frame
    cdef uint32_t ref, known, length
    cdef int direction
    cdef Py_ssize_t k
    f.candidate.conn = NO_CONN
    if f.off or node.recorder != NULL or node.conntrack.events.event != NULL:
        return i
    catch_up(f, node)
    if node.out_capacity - node.n_out < <size_t>(end - i) and not out_room(node, end - i):
        return i
    while i < end:
        k = i - first
        if g.kind[k] <= KF_KEYED or b.wire_length[i] > b.length[i]:
            return i
        if b.time[i] > node.now:
            if b.time[i] >= f.due:
                return i
            node.now = b.time[i]
        ref = f.ref[k]
        if ref == NOBODY or not is_flow(kf_ref_row(t.row, ref), kf_ref_direction(ref), g, k):
            if f.chain[k] != NULL:
                return i
            ref = find(t, f, k, node.now)
            if ref == NOBODY:
                return i
        c = kf_ref_row(t.row, ref)
        if c.expires <= node.now:
            return i
        direction = kf_ref_direction(ref)
        known = c.path[direction]
        if known >> 16 != f.generation:
            consider(f, node, b, i, ref)
            return i
        path = &f.path[known & 0xFFFF]
        frame = b.base + b.offset[i]
        if not goes_by(path, frame, b.port[i], g.total[k]):
            consider(f, node, b, i, ref)
            return i
        if g.kind[k] == KF_TCP:
            if not track_tcp(node, f, k, frame + ETH_LEN, kf_ref_conn(ref)):
                return i
        else:
            ct_refresh(c, direction, g.total[k], node.now, udp_timeout(t, c, node.now))
        device = &node.interface[path.port]
        device.rx_packets += 1
        device.rx_bytes += b.length[i]
        if path.fdb_row != FDB_NO_ROW:
            fdb_refresh(node.fdb, path.fdb_row, node.now)
        node.local_copies += path.copied
        rewrite(path, c, direction, frame, g.head[k], <uint32_t>g.tail[k], g.kind[k] == KF_TCP)
        length = ETH_LEN + g.total[k]
        if path.bridge != NO_BRIDGE:
            node.interface[path.bridge].tx_packets += 1
            node.interface[path.bridge].tx_bytes += length
        out = sent(node, path.out, length)
        fill(out, b.offset[i], i, length, node.now)
        b.verdict[i], b.reason[i] = path.verdict, path.reason
        f.packets += 1
        node.verdicts[path.verdict] += 1
        node.reasons[path.reason] += 1
        i += 1
    return i


cdef uint32_t path_number(fastpath_t* f, const path_t* wanted, ct_t* t, int64_t now) noexcept nogil:
    """The path of these contents, made if need be; above the mask: there is no room."""
    cdef uint64_t hash = kf_hash64(wanted.macs ^ <uint64_t>wanted.macs_end << 32, NO_SECRET)
    cdef uint32_t k, n
    hash = kf_hash64(hash ^ wanted.out_macs ^ <uint64_t>wanted.out_macs_end << 32 ^ wanted.reason, NO_SECRET)
    while True:
        for k in range(PROBES):
            n = (<uint32_t>hash + k) & f.mask
            if f.path[n].generation != f.generation:
                f.path[n] = wanted[0]
                f.path[n].generation = f.generation
                f.used += 1
                return n
            if memcmp(&f.path[n], wanted, <size_t>(<const char*>&wanted.generation - <const char*>wanted)) == 0:
                return n
        if f.mask + 1 < MOST_PATHS:
            if not make_paths(f, 2 * (f.mask + 1)):
                return NO_CONN
        elif now - f.reset < RESET:
            return NO_CONN
        else:
            f.reset = now
        forget_paths(f, t)


cdef void fastpath_learn(fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t i) noexcept nogil:
    """Note for a connection where the full path has just sent its packet i, if the next one is sure to go there.

    What has changed meanwhile, by the packet or by another thread, begins a new generation before anybody believes it.
    """
    cdef const candidate_t* seen = &f.candidate
    cdef conn_t* c
    cdef const tuple_t* other
    cdef const out_t* out
    cdef const interface_t* port
    cdef uint8_t* frame = b.base + b.offset[i]
    cdef uint8_t* l3 = frame + ETH_LEN
    cdef path_t path
    cdef uint32_t number
    node.tracked = False
    if seen.conn == NO_CONN:
        return
    c = ct_conn(node.conntrack, seen.conn)
    other = &c.original if seen.direction else &c.reply
    if b.verdict[i] != V_ROUTED and b.verdict[i] != V_BRIDGED or node.unsettled or node.n_out != seen.n_out + 1 or (
            seen.made != made(node) or node.local_copies - seen.copies > 1):
        return
    if c.status & (IPS_CONFIRMED | IPS_DYING) != IPS_CONFIRMED or c.packets[seen.direction] != seen.packets + 1:
        return
    out = &node.out[seen.n_out]
    if out.generated or out.frame != b.offset[i] or out.source != <int32_t>i or out.length != out.wire_length:
        return
    if load32(l3 + IP_SRC) != other.dst or load32(l3 + IP_DST) != other.src or (
            load16(l3 + IP_LEN) != other.dport or load16(l3 + IP_LEN + L4_DPORT) != other.sport):
        return
    memset(&path, 0, sizeof(path_t))
    path.macs, path.macs_end, path.port = begin_of(seen.macs), end_of(seen.macs), b.port[i]
    path.out_macs, path.out_macs_end, path.out = begin_of(frame), end_of(frame), out.port
    path.verdict, path.reason, path.routed = b.verdict[i], b.reason[i], seen.ttl != l3[IP_TTL]
    path.copied = node.local_copies != seen.copies
    if path.copied and (b.verdict[i] != V_BRIDGED or sent_by_host(node, b.port[i]) != seen.sent_up):
        return
    path.bridge, path.fdb_row = NO_BRIDGE, FDB_NO_ROW
    port = &node.interface[b.port[i]]
    if port.kind == IF_BRIDGE_PORT:
        path.fdb_row = fdb_row(node.fdb, load_mac(seen.macs + ETH_SRC), b.port[i])
        if path.fdb_row == FDB_NO_ROW:
            return
    port = &node.interface[out.port]
    path.mtu = <uint16_t>min(port.mtu, <uint32_t>0xFFFF)
    if port.kind == IF_BRIDGE_PORT:
        if fdb_lookup(node.fdb, load_mac(frame), 0) != out.port:
            return
        path.mtu = <uint16_t>min(<uint32_t>path.mtu, node.interface[port.bridge].mtu)
        if b.verdict[i] == V_ROUTED:
            path.bridge = port.bridge
    if out.length - ETH_LEN > path.mtu:
        return
    number = path_number(f, &path, node.conntrack, node.now)
    if number <= f.mask:
        c.path[seen.direction] = f.generation << 16 | number
