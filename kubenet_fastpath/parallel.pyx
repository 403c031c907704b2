"""The fast path on several cores: a batch still means its packets one by one, for any number of threads.

A stretch of packets is forwarded in phases, which all threads begin together; the tasks of a phase are taken by whoever
is free.

1. By place: a thread takes the next packets, looks at them, judges them by their connection's row, and rewrites them.
   Rows are only read. What a packet adds to a path's counters is summed for each thread. What its connection has to hear
   is written down for the connection's owner.
2. By owner: each connection belongs to one owner, by its row's number, who tells it in the packets' order: of UDP account
   and timeout; of TCP, before that, whether the segment is simply one more, which only the segments before it can say.

The first packet that is not simply one more of a known flow ends the stretch, whoever finds it: it may change anything.
What was done to those behind it is taken back: frames from what is known of them and two checksums kept, TCP's rows from
copies, sums by counting anew. Nothing else has happened, for UDP is told last. Then that packet goes the full path, and
some more go one by one, the more the sooner a stretch ended.

That no UDP connection ends within a stretch is seen to by its times: they span less than the shortest timeout.

Longer than its neighbours: what a phase does and how it is taken back stand side by side, for each line of the one has
its line in the other.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from .connection cimport IPS_ASSURED, IPS_FIXED_TIMEOUT, IPS_SEEN_REPLY, TRACK_REFRESH, conn_t, segment_t, tcp_side_t, track_t
from .context cimport node_t, out_room, out_t
from .fastpath cimport (
    BURST, KF_TCP, KF_UDP, NOBODY, NO_BRIDGE, batch_t, catch_up, fastpath_t, fill, goes_by, is_flow, kf_glance, path_t, rewrite,
)
from .fdb cimport FDB_NO_ROW, fdb_refresh
from .flowtable cimport (
    EXPIRY_UDP, EXPIRY_UDP_STREAM, ct_restate, ct_t, kf_prefetch, kf_ref_conn, kf_ref_direction, kf_ref_row,
)
from .frame cimport (
    ETH_LEN, IP_CHECK, IP_DST, IP_LEN, IP_SRC, IP_TTL, L4_DPORT, L4_SPORT, PROTO_TCP, TCP_CHECK, UDP_CHECK, csum_fold,
    csum_partial, csum_pseudo, load16, load32, store16, store32,
)
from .lookahead cimport fastpath_look, look_up
from .rows cimport outside_at
from .tcp cimport tcp_track
from .tracker cimport ct_account, ct_refresh, udp_timeout

cdef extern from "csrc/crew.h" nogil:
    ctypedef void (*kf_task)(void* job, uint32_t task, uint32_t worker) noexcept nogil
    kf_crew* kf_crew_new(uint32_t workers)
    void kf_crew_free(kf_crew* crew)
    void kf_crew_gather(kf_crew* crew)
    void kf_crew_do(kf_crew* crew, kf_task task, void* job, uint32_t tasks)
    void kf_least(int64_t* place, int64_t number)
    int64_t kf_seen(const int64_t* place)
    void kf_prefetch_write(const void* p)
    uint64_t kf_modulus(uint32_t n)
    uint32_t kf_modulo(uint32_t x, uint64_t m, uint32_t n)

cdef extern from "stdlib.h" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    LENGTH = 4096               # packets of a stretch for each thread: what they touch fits into a second-level cache
    LONGEST = 65536
    SHARE = 512
    LEAST = 2048
    CHECKED = 8192              # frames that a thread holds against the bounds at a time
    AHEAD = 64                  # rows that an owner asks for
    OWNED = 2                   # bits of a row's number: 4 neighbours have one owner, for their TCP sides share lines
    REST = 64                   # packets that go one by one after a stretch that ended early, and
    RESTS = 256                 # how many times as many at most


cdef parallel_t* parallel_new(uint32_t workers) noexcept nogil:
    """For so many threads, the caller's own among them; NULL without memory. They begin with the first batch."""
    cdef parallel_t* p = <parallel_t*>calloc(1, sizeof(parallel_t))
    if p == NULL:
        return NULL
    p.workers, p.modulus = workers, kf_modulus(workers)
    p.crew = kf_crew_new(workers)
    p.worker = <worker_t*>aligned_alloc(64, workers * ((sizeof(worker_t) + 63) & ~<size_t>63))
    if p.worker != NULL:
        memset(p.worker, 0, workers * sizeof(worker_t))
    if p.crew == NULL or p.worker == NULL or not parallel_shape(p, min(LENGTH * workers, LONGEST), SHARE, LEAST, REST):
        parallel_free(p)
        return NULL
    return p


cdef void parallel_free(parallel_t* p) noexcept nogil:
    """Its threads end."""
    cdef uint32_t i
    if p == NULL:
        return
    kf_crew_free(p.crew)
    if p.worker != NULL:
        for i in range(p.workers):
            free(p.worker[i].sum)
            free(p.worker[i].touched)
    free(p.worker)
    free(p.claim)
    free(p.claims)
    free(p.undo)
    free(p.undone)
    free(p)


cdef bint parallel_shape(parallel_t* p, uint32_t length, uint32_t share, uint32_t least, uint32_t rest) noexcept nogil:
    """Have stretches of so many packets, shares, batches from so many on, rests. False without memory: as before."""
    cdef size_t shares = (length + share - 1) // share
    cdef uint32_t stride = (2 * p.workers + 15) & ~<uint32_t>15
    cdef claim_t* claim = <claim_t*>malloc(shares * p.workers * share * sizeof(claim_t))
    cdef uint32_t* claims = <uint32_t*>aligned_alloc(64, shares * stride * sizeof(uint32_t))
    cdef undo_t* undo = <undo_t*>malloc(length * sizeof(undo_t))    # pages come as they are used
    cdef undone_t* undone = <undone_t*>aligned_alloc(64, p.workers * sizeof(undone_t))
    if claim == NULL or claims == NULL or undo == NULL or undone == NULL:
        free(claim)
        free(claims)
        free(undo)
        free(undone)
        return False
    free(p.claim)
    free(p.claims)
    free(p.undo)
    free(p.undone)
    p.claim, p.claims, p.stride, p.undo, p.undone = claim, claims, stride, undo, undone
    p.length, p.share, p.least, p.rest, p.wait = length, share, least, rest, rest
    return True


cdef void check_some(void* job, uint32_t task, uint32_t worker) noexcept nogil:
    cdef parallel_t* p = <parallel_t*>job
    cdef const batch_t* b = p.batch
    cdef Py_ssize_t first = <Py_ssize_t>task * CHECKED, n = min(p.end - first, <Py_ssize_t>CHECKED), i
    cdef uint64_t signs = 0
    i = outside_at(b.size, b.offset + first, b.length + first, n)
    if i < n:
        kf_least(&p.outside, first + i)
    for i in range(max(first, <Py_ssize_t>1), first + n):
        signs |= <uint64_t>b.offset[i] - <uint64_t>b.offset[i - 1] - b.length[i - 1]
    if signs >> 63:
        kf_least(&p.mixed, first)


cdef Py_ssize_t parallel_check(parallel_t* p, const batch_t* b, Py_ssize_t n) noexcept nogil:
    """The first frame of a batch that is not within its bytes; n: all are. To be called once, before its stretches."""
    p.batch, p.end, p.outside, p.mixed = b, n, n, n
    kf_crew_gather(p.crew)
    kf_crew_do(p.crew, check_some, p, <uint32_t>((n + CHECKED - 1) // CHECKED))
    return <Py_ssize_t>p.outside


cdef inline claim_t* claims(const parallel_t* p, uint32_t share, uint32_t owner) noexcept nogil:
    return p.claim + (<size_t>share * p.workers + owner) * p.share


cdef inline uint32_t n_claims(const parallel_t* p, uint32_t share, uint32_t owner, bint tcp) noexcept nogil:
    return p.claims[<size_t>share * p.stride + 2 * owner + tcp]


cdef inline bint sum_right(const uint8_t* l3, uint32_t total) noexcept nogil:
    """Whether a TCP segment's checksum is right."""
    cdef uint32_t l4_len = total - <uint32_t>IP_LEN
    return csum_fold(csum_partial(l3 + IP_LEN, l4_len, csum_pseudo(
        load32(l3 + IP_SRC), load32(l3 + IP_DST), PROTO_TCP, l4_len))) == 0


cdef Py_ssize_t judge(parallel_t* p, worker_t* w, uint32_t share, Py_ssize_t first, Py_ssize_t i,
                      Py_ssize_t end) noexcept nogil:
    """Take the packets of a burst as far as each is simply one more; the number of the first that is not, or `end`."""
    cdef fastpath_t* f = &w.sight
    cdef const batch_t* b = p.batch
    cdef ct_t* t = p.node.conntrack
    cdef const kf_glance* g = &f.glance
    cdef bint verify = p.node.verify_checksums and t.checksum
    cdef claim_t* list = claims(p, share, 0)
    cdef claim_t* claim
    cdef uint32_t* n = p.claims + <size_t>share * p.stride
    cdef conn_t* c
    cdef const path_t* path
    cdef sum_t* sum
    cdef out_t* out
    cdef uint8_t* frame
    cdef uint32_t ref, known, total, length, owner, at
    cdef int64_t now
    cdef bint is_tcp
    cdef Py_ssize_t k
    # What lies in structs the compiler would read anew for every packet: writing a frame may have changed it.
    cdef uint8_t* base = b.base
    cdef const int64_t* offset = b.offset
    cdef const uint32_t* lengths = b.length
    cdef const uint32_t* wire_length = b.wire_length
    cdef const uint16_t* port = b.port
    cdef const int64_t* time = b.time
    cdef uint8_t* verdict = b.verdict
    cdef uint8_t* reason = b.reason
    cdef conn_t* row = t.row
    cdef const path_t* paths = f.path
    cdef sum_t* sums = w.sum
    cdef uint32_t generation = f.generation, workers = p.workers, room = p.share
    cdef uint64_t modulus = p.modulus
    cdef int64_t before = p.now, limit = p.limit, last = time[i - 1] if i > p.start else time[i]
    out = p.out + (i - p.start) - 1
    while i < end:
        k = i - first
        is_tcp = g.kind[k] == KF_TCP
        if not is_tcp and g.kind[k] != KF_UDP or wire_length[i] > lengths[i]:
            return i
        now = time[i]
        if now >= limit or now < last:
            return i
        last = now
        now = max(now, before)
        ref = f.ref[k]
        if ref == NOBODY or not is_flow(kf_ref_row(row, ref), kf_ref_direction(ref), g, k):
            ref = look_up(t, g, k, f.hash[k])
            if ref == NOBODY:
                return i
        c = kf_ref_row(row, ref)
        known = c.path[kf_ref_direction(ref)]
        if c.expires <= now or known >> 16 != generation:
            return i
        known &= 0xFFFF
        path = &paths[known]
        frame = base + offset[i]
        total = g.total[k]
        if not goes_by(path, frame, port[i], total):
            return i
        if is_tcp and verify and not sum_right(frame + ETH_LEN, total):
            return i
        owner = kf_modulo(kf_ref_conn(ref) >> OWNED, modulus, workers)
        at = n[2 * owner + is_tcp]
        n[2 * owner + is_tcp] = at + 1
        claim = list + <size_t>owner * room + (room - 1 - at if is_tcp else at)
        claim.source, claim.ref, claim.total, claim.path = <int32_t>i, ref, <uint16_t>total, <uint16_t>known
        claim.ip_check = load16(frame + ETH_LEN + IP_CHECK)
        claim.l4_check = load16(frame + ETH_LEN + IP_LEN + (TCP_CHECK if is_tcp else UDP_CHECK))
        rewrite(path, c, kf_ref_direction(ref), frame, g.head[k], <uint32_t>g.tail[k], is_tcp)
        length = ETH_LEN + total
        out += 1
        out.port = path.out
        fill(out, offset[i], i, length, now)
        verdict[i], reason[i] = path.verdict, path.reason
        sum = &sums[known]
        if sum.packets == 0:
            w.touched[w.n_touched] = known
            w.n_touched += 1
        sum.packets += 1
        sum.rx_bytes += lengths[i]
        sum.tx_bytes += length
        sum.time = now                          # a thread goes forward, and so does time
        i += 1
    return i


cdef void forward_share(void* job, uint32_t share, uint32_t worker) noexcept nogil:
    """First phase: packets by place."""
    cdef parallel_t* p = <parallel_t*>job
    cdef worker_t* w = &p.worker[worker]
    cdef Py_ssize_t i = p.start + <Py_ssize_t>share * p.share, last = min(i + p.share, p.end), first, end
    memset(p.claims + <size_t>share * p.stride, 0, p.stride * sizeof(uint32_t))
    for first in range(i, min(i + BURST, last)):
        kf_prefetch(p.batch.base + p.batch.offset[first])
    while i < last and i < kf_seen(&p.stop):
        first = i
        end = i + fastpath_look(&w.sight, p.node, p.batch, i, last)
        i = judge(p, w, share, first, i, end)
        if i < end:
            kf_least(&p.stop, i)
            return


cdef inline int64_t now_of(const parallel_t* p, const claim_t* claim) noexcept nogil:
    return max(p.batch.time[claim.source], p.now)


cdef void track_owned(void* job, uint32_t owner, uint32_t worker) noexcept nogil:
    """Second phase, TCP: an owner's segments in their order."""
    cdef parallel_t* p = <parallel_t*>job
    cdef ct_t* t = p.node.conntrack
    cdef undone_t* undone = &p.undone[owner]
    cdef undo_t* undo
    cdef const claim_t* claim
    cdef conn_t* c
    cdef tcp_side_t* side
    cdef segment_t seg
    cdef uint32_t share, j, n, direction
    cdef int64_t now, timeout = 0
    memset(&seg, 0, sizeof(segment_t))
    for share in range(p.shares):
        claim = claims(p, share, owner) + p.share
        n = n_claims(p, share, owner, True)
        for j in range(n):
            claim -= 1
            if j + AHEAD < n:
                kf_prefetch(&kf_ref_row(t.row, (claim - AHEAD).ref).packets)
                kf_prefetch(&t.side[2 * <uint64_t>kf_ref_conn((claim - AHEAD).ref)])
            if claim.source >= kf_seen(&p.stop):
                return
            c, side = kf_ref_row(t.row, claim.ref), &t.side[2 * <uint64_t>kf_ref_conn(claim.ref)]
            direction, now = kf_ref_direction(claim.ref), now_of(p, claim)
            undo = p.undo + undone.first + undone.n
            undone.n += 1
            undo.source, undo.conn, undo.row = claim.source, kf_ref_conn(claim.ref), c[0]
            memcpy(undo.side, side, 2 * sizeof(tcp_side_t))
            seg.l4 = p.batch.base + p.batch.offset[claim.source] + ETH_LEN + IP_LEN
            seg.ip_len, seg.l4_len = claim.total, claim.total - <uint32_t>IP_LEN
            if c.expires <= now or not (direction or c.status & IPS_SEEN_REPLY) or tcp_track(
                    c, side, &seg, direction, False, &t.tcp, now, &timeout) != TRACK_REFRESH:
                ct_restate(t, c, undo.row.state)        # till it is taken back
                kf_least(&p.stop, claim.source)
                return
            ct_restate(t, c, undo.row.state)
            ct_refresh(c, direction, claim.total, now, timeout)
            if direction:
                c.status |= IPS_SEEN_REPLY


cdef void untrack(parallel_t* p) noexcept nogil:
    """Take back what TCP's connections have heard of packets from `stop` on."""
    cdef ct_t* t = p.node.conntrack
    cdef const undo_t* undo
    cdef uint32_t owner, n
    cdef uint8_t state
    for owner in range(p.workers):
        n = p.undone[owner].n
        while n:
            n -= 1
            undo = p.undo + p.undone[owner].first + n
            if undo.source < p.stop:
                break
            state = t.row[undo.conn].state
            t.row[undo.conn] = undo.row
            ct_restate(t, &t.row[undo.conn], state)
            memcpy(&t.side[2 * <size_t>undo.conn], undo.side, 2 * sizeof(tcp_side_t))


cdef void account_owned(void* job, uint32_t owner, uint32_t worker) noexcept nogil:
    """Third phase, UDP: an owner's packets in their order."""
    cdef parallel_t* p = <parallel_t*>job
    cdef ct_t* t = p.node.conntrack
    cdef const claim_t* claim
    cdef const claim_t* ahead = NULL        # the claim whose row is asked for, some packets before it is its turn
    cdef const claim_t* ahead_end = NULL
    cdef conn_t* row = t.row
    cdef conn_t* c
    cdef const int64_t* time = p.batch.time
    cdef int64_t stop = p.stop, before = p.now, now, expires
    cdef uint32_t share = 0, next_share = 0, j = 0, n = 0, asked = 0
    while True:
        while asked < AHEAD:
            while ahead == ahead_end and next_share < p.shares:
                ahead = claims(p, next_share, owner)
                ahead_end = ahead + n_claims(p, next_share, owner, False)
                next_share += 1
            if ahead == ahead_end:
                break
            kf_prefetch_write(kf_ref_row(row, ahead.ref))
            kf_prefetch_write(&kf_ref_row(row, ahead.ref).packets)
            ahead += 1
            asked += 1
        if asked == 0:
            return
        while j == n:
            claim, j, n = claims(p, share, owner), 0, n_claims(p, share, owner, False)
            share += 1
        if claim.source >= stop:
            return
        c = kf_ref_row(row, claim.ref)
        now = max(time[claim.source], before)
        ct_account(c, kf_ref_direction(claim.ref), claim.total)
        expires = now + udp_timeout(t, c, now)
        if c.expires != expires and not c.status & IPS_FIXED_TIMEOUT:       # others read this line
            c.expires = expires
        claim += 1
        j += 1
        asked -= 1


cdef void put_back(const parallel_t* p, const claim_t* claim, bint tcp) noexcept nogil:
    """Make a frame again what it was."""
    cdef const path_t* path = &p.fast.path[claim.path]
    cdef const conn_t* c = kf_ref_row(p.node.conntrack.row, claim.ref)
    cdef uint8_t* frame = p.batch.base + p.batch.offset[claim.source]
    cdef uint8_t* l3 = frame + ETH_LEN
    cdef uint8_t* l4 = l3 + IP_LEN
    memcpy(frame, &path.macs, 8)
    memcpy(frame + 8, &path.macs_end, 4)
    l3[IP_TTL] += path.routed
    store16(l3 + IP_CHECK, claim.ip_check)
    store16(l4 + (TCP_CHECK if tcp else UDP_CHECK), claim.l4_check)
    if kf_ref_direction(claim.ref):
        store32(l3 + IP_SRC, c.reply.src)
        store32(l3 + IP_DST, c.reply.dst)
        store16(l4 + L4_SPORT, c.reply.sport)
        store16(l4 + L4_DPORT, c.reply.dport)
    else:
        store32(l3 + IP_SRC, c.original.src)
        store32(l3 + IP_DST, c.original.dst)
        store16(l4 + L4_SPORT, c.original.sport)
        store16(l4 + L4_DPORT, c.original.dport)


cdef void settle(parallel_t* p, const claim_t* claim, bint tcp) noexcept nogil:
    """After a stop: count a packet anew, or put it back."""
    cdef worker_t* w = &p.worker[0]
    cdef sum_t* sum = &w.sum[claim.path]
    if claim.source >= p.stop:
        put_back(p, claim, tcp)
        return
    if sum.packets == 0:
        w.touched[w.n_touched] = claim.path
        w.n_touched += 1
        sum.time = now_of(p, claim)
    sum.packets += 1
    sum.rx_bytes += p.batch.length[claim.source]
    sum.tx_bytes += ETH_LEN + claim.total
    sum.time = max(sum.time, now_of(p, claim))


cdef void settle_all(parallel_t* p) noexcept nogil:
    cdef const claim_t* claim
    cdef uint32_t i, share, owner
    for i in range(p.workers):
        clear(&p.worker[i])
    for share in range(p.shares):
        for owner in range(p.workers):
            claim = claims(p, share, owner)
            for i in range(n_claims(p, share, owner, False)):
                settle(p, claim + i, False)
            for i in range(n_claims(p, share, owner, True)):
                settle(p, claim + p.share - 1 - i, True)


cdef void clear(worker_t* w) noexcept nogil:
    cdef uint32_t i
    for i in range(w.n_touched):
        memset(&w.sum[w.touched[i]], 0, sizeof(sum_t))
    w.n_touched = 0


cdef void count(const parallel_t* p) noexcept nogil:
    """Add the threads' sums to the node's counters; a source's MAC was seen when the latest of its packets came."""
    cdef node_t* node = p.node
    cdef const path_t* path
    cdef const sum_t* sum
    cdef worker_t* w
    cdef uint32_t i, k
    for k in range(p.workers):
        w = &p.worker[k]
        for i in range(w.n_touched):
            path, sum = &p.fast.path[w.touched[i]], &w.sum[w.touched[i]]
            node.interface[path.port].rx_packets += sum.packets
            node.interface[path.port].rx_bytes += sum.rx_bytes
            node.interface[path.out].tx_packets += sum.packets
            node.interface[path.out].tx_bytes += sum.tx_bytes
            if path.bridge != NO_BRIDGE:
                node.interface[path.bridge].tx_packets += sum.packets
                node.interface[path.bridge].tx_bytes += sum.tx_bytes
            if path.fdb_row != FDB_NO_ROW:
                fdb_refresh(node.fdb, path.fdb_row, INT64_MIN)
            node.local_copies += path.copied * sum.packets
            node.verdicts[path.verdict] += sum.packets
            node.reasons[path.reason] += sum.packets
    for k in range(p.workers):
        w = &p.worker[k]
        for i in range(w.n_touched):
            path, sum = &p.fast.path[w.touched[i]], &w.sum[w.touched[i]]
            if path.fdb_row != FDB_NO_ROW:
                fdb_refresh(node.fdb, path.fdb_row, max(node.fdb.entry[path.fdb_row].updated, sum.time))
        clear(w)


cdef bint equip(parallel_t* p, worker_t* w) noexcept nogil:
    """Let a thread know the paths, and have room to count them. False without memory."""
    cdef uint32_t room = p.fast.mask + 1
    w.sight.path, w.sight.mask, w.sight.generation = p.fast.path, p.fast.mask, p.fast.generation
    w.sight.isa, w.sight.reads = p.fast.isa, True
    if w.room < room:
        free(w.sum)
        free(w.touched)
        w.room = 0
        w.sum = <sum_t*>calloc(room, sizeof(sum_t))
        w.touched = <uint32_t*>malloc(room * sizeof(uint32_t))
        if w.sum == NULL or w.touched == NULL:
            return False
        w.room = room
    return True


cdef bint stretch(parallel_t* p) noexcept nogil:
    """Forward packets from `start` to `end`, or to `stop`. False without memory: nothing has happened."""
    cdef ct_t* t = p.node.conntrack
    cdef node_t* node = p.node
    cdef uint32_t udp = 0, tcp = 0
    cdef int64_t begin, span = min(t.timeout[EXPIRY_UDP], t.timeout[EXPIRY_UDP_STREAM])
    cdef uint32_t i, k
    catch_up(p.fast, node)
    if node.out_capacity - node.n_out < <size_t>(p.end - p.start) and not out_room(node, p.end - p.start):
        return False
    for i in range(p.workers):
        if not equip(p, &p.worker[i]):
            return False
    p.out, p.now, p.stop = node.out + node.n_out, node.now, p.end
    begin = max(p.now, p.batch.time[p.start])
    p.limit = min(p.fast.due, begin + span if begin <= INT64_MAX - span else INT64_MAX)
    p.shares = <uint32_t>((p.end - p.start + p.share - 1) // p.share)
    kf_crew_do(p.crew, forward_share, p, p.shares)
    for k in range(p.workers):
        p.undone[k].first, p.undone[k].n = tcp, 0
        for i in range(p.shares):
            udp += n_claims(p, i, k, False)
            tcp += n_claims(p, i, k, True)
    if tcp:
        kf_crew_do(p.crew, track_owned, p, p.workers)
        if p.stop < p.end:
            untrack(p)
    if udp:
        kf_crew_do(p.crew, account_owned, p, p.workers)
    if p.stop < p.end:
        settle_all(p)
        p.stops += 1
    count(p)
    if p.stop > p.start:
        node.n_out += p.stop - p.start
        node.now = max(node.now, p.batch.time[p.stop - 1])
        p.packets += p.stop - p.start
        p.fast.packets += p.stop - p.start
    return True


cdef Py_ssize_t parallel_run(parallel_t* p, fastpath_t* f, node_t* node, const batch_t* b, Py_ssize_t i,
                             Py_ssize_t n) noexcept nogil:
    """Forward packets i, i + 1 ... of a checked batch; the number of the first that has to go the full path, or n."""
    cdef Py_ssize_t first = i
    if f.off or node.recorder != NULL or node.conntrack.events.event != NULL or p.mixed < n:
        p.wait = n - i
        return i
    p.fast, p.node, p.batch = f, node, b
    while i < n:
        p.start, p.end = i, min(i + p.length, n)
        if not stretch(p):
            break
        i = <Py_ssize_t>p.stop
        if i < p.end:
            break
    p.wait = p.rest if i - first >= p.length else min(2 * p.wait, <Py_ssize_t>RESTS * p.rest)
    return i
