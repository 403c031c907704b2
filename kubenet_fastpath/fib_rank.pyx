"""Drawing the rank engine from the RIB, whole or where a prefix has changed.

A sweep over the prefixes inside a part of a node gives its ranges: runs of slices with the same slot. Where a prefix is
longer than the node tells, the slot leads to a child, drawn by a sweep of its own. An update finds the node that
tells the changed prefix apart and draws again what that covers there: of a RANK its entries, of a LINE or LINES the
whole node, which replaces the old one in its parent. Children outside the changed prefix stay as they are.
"""

from libc.stdint cimport int16_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from .arena cimport (
    KF_CHILD, KF_MISS, KF_RANK, LINE, NO_PIECE, UNIT, UNITS, arena_begin, arena_block, arena_encode, arena_has_room,
    arena_memory, arena_piece, arena_retire, arena_settle, arena_t, arena_take, arena_trim, kf_block_free, kf_lpm,
    publish_entry, publish_slot, publish_word,
)
from .rib cimport (
    RIB_NONE, kf_key, kf_key_mask, kf_key_slice, rib_count, rib_inside, rib_longer, rib_longest,
    rib_node_t, rib_t, rib_walk_below, rib_walk_t,
)

cdef extern from "csrc/rank.h" nogil:
    enum:
        KF_NODE_RANK
        KF_NODE_LINE
        KF_NODE_LINES
        KF_TOP_ENDS
        KF_NODE_ENTRIES
    uint32_t KF_NODE_AT
    uint32_t kf_node_kind(uint32_t reference)
    uint32_t kf_line_ranges(int width)
    uint32_t kf_line_leaves(int width)
    bint kf_is_child(int width, uint32_t v)
    uint32_t kf_reference(int width, uint32_t v)
    uint32_t kf_slot_load(const char* p, int width)
    const char* kf_entry_leaf(const char* arena, int width, const uint64_t* entry, uint32_t place)
    char* kf_node_leaf(const char* arena, int width, uint32_t reference, uint32_t slice)
    int __builtin_popcount(unsigned int x)

cdef enum:
    PLACES = 32                 # slices of an entry
    PLACE_BITS = 5
    LAST = 0xFFFF               # slice of a node
    FAST_NODES = 12             # of a small table of IPv6: with the root 0.5 MB
    SMALL = 4096                # prefixes
    RANK_CLASS = UNITS + KF_NODE_ENTRIES * 8 // LINE
    NARROW_STEP = 4             # lines between nodes that narrow slots can name
    NARROW_NODES = 0x7FFF
    UPDATE_PREFIXES = 2048      # an update that decides more draws everything again
    RANGES_MAX = 512            # of a node other than a RANK: 32 LINEs of 16
    UPDATE_RANGES = 2 * RANGES_MAX + 4 * UPDATE_PREFIXES + 256
    PREFIX_LINES = 9            # a prefix makes at most 7 LINEs, and its part of other nodes
    UPDATE_LINES = 512          # and besides: one node as LINES or RANK, and what is cut into units
    ENTRY_LINES = 3             # a run of leaves
    FIRST_LINES = 4096
    SPARE_SHARE = 8             # lines to spare for updates: 1/8 of those in use, and some
    LINES_LIMIT = 1 << 25       # 2 GiB

cdef struct drawing_t:          # what the functions of one drawing share
    arena_t* a
    const rib_t* r
    range_t* range
    int width
    uint32_t fast               # nodes that become RANKs, whatever they have: lookups like them best
    bint is_full                # there was no room: the drawing is worthless

cdef struct node_t:             # a node of the trie
    uint32_t reference          # 0: the root
    int depth                   # bits before its slice
    int bits                    # of its slice

cdef struct update_t:           # children of these slices are drawn again, others stay
    node_t node
    uint32_t first
    uint32_t last


cdef void rank_free(rank_t* k) noexcept nogil:
    free(k.range)


cdef bint reserve(rank_t* k, uint64_t ranges) noexcept nogil:
    cdef range_t* grown
    if ranges > k.capacity:
        grown = <range_t*>realloc(k.range, ranges * sizeof(range_t))
        if grown == NULL:
            return False
        k.range, k.capacity = grown, ranges
    return True


cdef void begin(drawing_t* d, rank_t* k, arena_t* a, const rib_t* r) noexcept nogil:
    d.a, d.r, d.range, d.width, d.is_full = a, r, k.range, a.block.width, False
    d.fast = 0


cdef uint64_t* root_entry(const drawing_t* d, uint32_t slice) noexcept nogil:
    return <uint64_t*>(<char*>d.a.block + d.a.block.root) + (slice >> PLACE_BITS)


cdef uint32_t* root_slot(const drawing_t* d) noexcept nogil:
    """The root of IPv6."""
    return <uint32_t*>(<char*>d.a.block + d.a.block.root)


cdef char* leaf_of(const drawing_t* d, const node_t* node, uint32_t slice) noexcept nogil:
    cdef const char* arena = arena_memory(d.a)
    if node.reference == 0 and d.r.bits == 128:
        return <char*>(root_slot(d) + slice)
    if node.reference == 0:
        return <char*>kf_entry_leaf(arena, d.width, root_entry(d, slice), slice & (PLACES - 1))
    return kf_node_leaf(arena, d.width, node.reference, slice)


cdef uint32_t slot_of(const drawing_t* d, const node_t* node, uint32_t slice) noexcept nogil:
    return kf_slot_load(leaf_of(d, node, slice), d.width)


cdef void store(char* leaf, int width, uint32_t slot) noexcept nogil:
    if width == 2:
        publish_slot(<int16_t*>leaf, <int16_t>slot)
    else:
        publish_word(<uint32_t*>leaf, slot)


cdef uint32_t hop_slot(drawing_t* d, uint32_t node) noexcept nogil:
    """The slot of the next hop of a RIB node, or of RIB_NONE."""
    cdef uint32_t hop = KF_MISS if node == RIB_NONE else d.r.node[node].hop
    if not arena_has_room(d.a, 0, hop):
        d.is_full = True
        return KF_MISS
    return arena_encode(d.a, hop)


cdef uint32_t emit(drawing_t* d, uint32_t begin, uint32_t at, uint32_t first, uint32_t slot) noexcept nogil:
    """Add a range, unless it goes on with the slot of the one before; the end of the ranges."""
    if at > begin and d.range[at - 1].slot == slot:
        return at
    d.range[at].first, d.range[at].slot = first, slot
    return at + 1


cdef uint32_t sweep(drawing_t* d, kf_key key, int len, int depth, int bits, uint32_t at,
                    const update_t* update) noexcept nogil:
    """The ranges of a prefix's slices, put into d.range from `at`; their end."""
    cdef rib_walk_t walk
    cdef const rib_node_t* n
    cdef uint32_t end[26]       # of the prefixes around the cursor
    cdef uint32_t slot[26]
    cdef uint32_t begin = at, cursor = kf_key_slice(key, depth, bits), top = rib_inside(d.r, key, len), s
    cdef int limit = depth + bits, around = 0
    cdef bint deeper
    end[0], slot[0] = cursor + (<uint32_t>1 << (limit - len)), hop_slot(d, rib_longest(d.r, key, len))
    walk.depth = 0
    if top != RIB_NONE and d.r.node[top].len == len and len < limit:
        rib_walk_below(&walk, &d.r.node[top])
    elif top != RIB_NONE:
        walk.node[0], walk.depth = top, 1
    while walk.depth:
        walk.depth -= 1
        top = walk.node[walk.depth]
        n = &d.r.node[top]
        deeper = n.len > limit or (n.len == limit and (n.child[0] | n.child[1]) != 0)
        if not deeper:
            rib_walk_below(&walk, n)
            if not n.held:
                continue
        s = kf_key_slice(n.net, depth, bits)
        while end[around] <= s:
            if end[around] > cursor:
                at = emit(d, begin, at, cursor, slot[around])
                cursor = end[around]
            around -= 1
        if s > cursor:
            at = emit(d, begin, at, cursor, slot[around])
            cursor = s
        if deeper:
            at = emit(d, begin, at, s, child_slot(d, n.net & kf_key_mask(limit), limit, s, at, update))
            cursor = s + 1
        else:
            around += 1
            end[around], slot[around] = s + (<uint32_t>1 << (limit - n.len)), hop_slot(d, top)
    while around >= 0:
        if end[around] > cursor:
            at = emit(d, begin, at, cursor, slot[around])
            cursor = end[around]
        around -= 1
    return at


cdef uint32_t child_slot(drawing_t* d, kf_key key, int depth, uint32_t slice, uint32_t at,
                         const update_t* update) noexcept nogil:
    """The slot that leads to the node of a slice: the one that is there, or a new one."""
    cdef uint32_t end
    if update != NULL and (slice < update.first or slice > update.last):
        return slot_of(d, &update.node, slice)
    end = sweep(d, key, depth, depth, 16, at, NULL)
    return new_node(d, &d.range[at], end - at)


cdef uint32_t groups_of(int width, uint32_t n) noexcept nogil:
    """LINEs for n ranges."""
    return (n + kf_line_ranges(width) - 1) // kf_line_ranges(width)


cdef uint32_t kind_of(int width, uint32_t n) noexcept nogil:
    """The kind of node for n ranges."""
    cdef uint32_t groups = groups_of(width, n)
    if width == 4 and groups == 1:
        return KF_NODE_LINE
    return KF_NODE_LINES if groups <= <uint32_t>KF_TOP_ENDS else <uint32_t>KF_NODE_RANK


cdef uint32_t line_of(uint32_t kind, uint32_t group) noexcept nogil:
    """Where a LINE is in its node."""
    return 0 if kind == KF_NODE_LINE else 1 + group


cdef uint32_t class_of(int width, uint32_t kind, uint32_t n) noexcept nogil:
    """Size of a node of n ranges, other than a RANK: one of few, so that what one node leaves suits the next."""
    cdef uint32_t lines = line_of(kind, groups_of(width, n) - 1) + 1, step = NARROW_STEP if width == 2 else 1
    while 8 * step < lines:
        step *= 2
    return UNITS + (lines + step - 1) // step * step


cdef uint32_t new_node(drawing_t* d, const range_t* part, uint32_t n) noexcept nogil:
    """Draw the ranges of a node; the slot that leads to it."""
    cdef uint32_t kind = kind_of(d.width, n), size, piece, group, most = kf_line_ranges(d.width), end
    cdef char* node
    if d.fast:
        kind = KF_NODE_RANK
        d.fast -= 1
    size = RANK_CLASS if kind == KF_NODE_RANK else class_of(d.width, kind, n)
    piece = arena_take(d.a, size)
    if piece == NO_PIECE or (d.width == 2 and piece // NARROW_STEP >= NARROW_NODES):
        d.is_full = True
        return KF_MISS
    node = <char*>arena_piece(d.a, piece, size)
    if kind == KF_NODE_RANK:
        memset(node, 0, KF_NODE_ENTRIES * sizeof(uint64_t))
        draw_entries(d, <uint64_t*>node, 0, KF_NODE_ENTRIES, part, n)
        return KF_CHILD | kind << 28 | piece
    memset(node, 0xFF, <uint64_t>(size - UNITS) * LINE)
    for group in range(groups_of(d.width, n)):
        end = LAST if (group + 1) * most >= n else part[(group + 1) * most].first - 1
        draw_line(d, node + line_of(kind, group) * LINE, &part[group * most], min(most, n - group * most), end)
        if kind == KF_NODE_LINES:
            (<uint16_t*>node)[group] = <uint16_t>end
    if d.width == 2:
        return <uint32_t>0xFFFF8000 | piece // NARROW_STEP
    return KF_CHILD | kind << 28 | piece


cdef void draw_line(const drawing_t* d, char* line, const range_t* part, uint32_t n, uint32_t end) noexcept nogil:
    """Draw the ranges of a LINE, of which the last ends with slice `end`."""
    cdef uint16_t* last = <uint16_t*>line
    cdef uint32_t i
    for i in range(n):
        last[i] = <uint16_t>(end if i == n - 1 else part[i + 1].first - 1)
        store(line + kf_line_leaves(d.width) + i * d.width, d.width, part[i].slot)


cdef uint32_t read_node(const drawing_t* d, uint32_t reference, range_t* part) noexcept nogil:
    """The ranges of a node other than a RANK; how many."""
    cdef uint32_t kind = kf_node_kind(reference), group = 0, n = 0, first = 0, i, most = kf_line_ranges(d.width)
    cdef const char* node = arena_memory(d.a) + <uint64_t>(reference & KF_NODE_AT) * LINE
    cdef const char* line
    cdef const uint16_t* last
    while True:
        line = node + line_of(kind, group) * LINE
        last = <const uint16_t*>line
        for i in range(most):
            part[n].first, part[n].slot = first, kf_slot_load(line + kf_line_leaves(d.width) + i * d.width, d.width)
            n += 1
            if last[i] == LAST:
                return n
            first = <uint32_t>last[i] + 1
        group += 1


cdef uint64_t new_entry(drawing_t* d, const range_t* part, uint32_t n, uint32_t first) noexcept nogil:
    """The entry of 32 slices, which the ranges cover; it has a run of leaves unless they are alike."""
    cdef uint32_t i, bits = 0, piece, size = (n * d.width + UNIT - 1) // UNIT
    cdef char* run
    if n == 1:
        return <uint64_t>part[0].slot << 32
    piece = arena_take(d.a, size)
    if piece == NO_PIECE:
        d.is_full = True
        return <uint64_t>KF_MISS << 32
    run = <char*>arena_piece(d.a, piece, size)
    for i in range(n):
        bits |= <uint32_t>1 << (max(part[i].first, first) - first)
        store(run + i * d.width, d.width, part[i].slot)
    return <uint64_t>(piece * (UNIT // d.width)) << 32 | bits


cdef void draw_entries(drawing_t* d, uint64_t* entry, uint32_t first, uint32_t entries, const range_t* part,
                       uint32_t n) noexcept nogil:
    """Store the entries of slices from `first`, where the ranges begin."""
    cdef uint32_t e, i = 0, end, next
    for e in range(entries):
        end = first + PLACES
        next = i + 1
        while next < n and part[next].first < end:
            next += 1
        publish_entry(&entry[e], new_entry(d, &part[i], next - i, first))
        i = next - 1            # goes on, or ends where the next begins
        if next < n and part[next].first == end:
            i = next
        first = end


cdef bint rank_build(rank_t* k, arena_t* a, const rib_t* r, int width, uint32_t pool_size) noexcept nogil:
    """Draw everything into a new block; False without memory, or where narrow slots cannot name all."""
    cdef drawing_t d
    cdef bint is_ipv4 = r.bits == 32
    cdef int bits = 24 if is_ipv4 else 16
    cdef uint64_t lines = FIRST_LINES + r.count, root = (<uint64_t>1 << bits) * sizeof(uint32_t)
    cdef kf_lpm* b
    cdef uint32_t end
    if is_ipv4:
        root = (<uint64_t>1 << bits) // PLACES * sizeof(uint64_t)
    if not reserve(k, 2 * <uint64_t>r.count + UPDATE_RANGES):
        return False
    while lines <= LINES_LIMIT:
        b = arena_block(4 if is_ipv4 else 6, KF_RANK, width, pool_size, root, lines)
        if b == NULL:
            return False
        b.pooled = width == 2 and pool_size != 0
        arena_begin(a, b, lines)
        begin(&d, k, a, r)
        d.fast = FAST_NODES if not is_ipv4 and r.count <= SMALL else 0
        arena_take(a, UNITS + NARROW_STEP)      # no node is at line 0, so a reference is never 0
        end = sweep(&d, 0, 0, 0, bits, 0, NULL)
        if is_ipv4:
            draw_entries(&d, root_entry(&d, 0), 0, (<uint32_t>1 << bits) // PLACES, k.range, end)
        else:
            draw_slots(&d, k.range, end, LAST, False)
        if not d.is_full and arena_has_room(a, UPDATE_LINES, KF_MISS):
            if arena_trim(a, UPDATE_LINES * 2 + a.block.arena_size // SPARE_SHARE):
                return True
            lines = LINES_LIMIT
        kf_block_free(a.block)
        a.block = NULL
        if width == 2 and lines // NARROW_STEP > NARROW_NODES:
            return False
        lines *= 2
    return False


cdef uint32_t run_units(const drawing_t* d, uint64_t entry) noexcept nogil:
    return (<uint32_t>__builtin_popcount(<uint32_t>entry) * d.width + UNIT - 1) // UNIT


cdef void retire_run(drawing_t* d, uint64_t entry) noexcept nogil:
    if <uint32_t>entry:
        arena_retire(d.a, <uint32_t>(entry >> 32) // (UNIT // d.width), run_units(d, entry))


cdef void retire_leaves(drawing_t* d, uint64_t entry, uint32_t first, uint32_t last) noexcept nogil:
    """Retire the nodes to which places first..last of an entry lead."""
    cdef uint32_t place, slot
    if <uint32_t>entry == 0:
        return
    for place in range(first, <uint32_t>(last + 1)):
        slot = kf_slot_load(kf_entry_leaf(arena_memory(d.a), d.width, &entry, place), d.width)
        if kf_is_child(d.width, slot):
            retire_node(d, kf_reference(d.width, slot), 0, LAST)


cdef void retire_node(drawing_t* d, uint32_t reference, uint32_t first, uint32_t last) noexcept nogil:
    """Retire a node, and the nodes to which slices first..last of it lead."""
    cdef uint32_t kind = kf_node_kind(reference), piece = reference & KF_NODE_AT, i, n
    cdef const uint64_t* entry = <const uint64_t*>(arena_memory(d.a) + <uint64_t>piece * LINE)
    cdef range_t part[RANGES_MAX]
    if kind == KF_NODE_RANK:
        for i in range(<uint32_t>KF_NODE_ENTRIES):
            retire_leaves(d, entry[i], 0, PLACES - 1)
            retire_run(d, entry[i])
        arena_retire(d.a, piece, RANK_CLASS)
        return
    n = read_node(d, reference, part)
    for i in range(n):          # the range of a child is one slice
        if first <= part[i].first and part[i].first <= last and kf_is_child(d.width, part[i].slot):
            retire_node(d, kf_reference(d.width, part[i].slot), 0, LAST)
    arena_retire(d.a, piece, class_of(d.width, kind, n))


cdef uint32_t splice(drawing_t* d, uint32_t n, uint32_t end, const update_t* u) noexcept nogil:
    """Of a node's n ranges, and of those behind them that the update gives its slices, make the node's new ones.

    They lie from `end`; their end.
    """
    cdef uint32_t at = end, i = 0
    while i < n and d.range[i].first < u.first:
        d.range[at] = d.range[i]
        at += 1
        i += 1
    for i in range(n, end):
        at = emit(d, end, at, d.range[i].first, d.range[i].slot)
    i = 0
    while i + 1 < n and d.range[i + 1].first <= u.last + 1:
        i += 1
    if u.last < LAST:
        at = emit(d, end, at, u.last + 1, d.range[i].slot)
        for i in range(i + 1, n):
            at = emit(d, end, at, d.range[i].first, d.range[i].slot)
    return at


cdef void draw_slots(drawing_t* d, const range_t* part, uint32_t n, uint32_t last, bint again) noexcept nogil:
    """Store ranges that end with slice `last` into the root of IPv6, and retire what was there before."""
    cdef uint32_t* slot = root_slot(d)
    cdef uint32_t i, slice, old
    for i in range(n):
        for slice in range(part[i].first, part[i + 1].first if i + 1 < n else last + 1):
            old = slot[slice]
            publish_word(&slot[slice], part[i].slot)
            if again and kf_is_child(d.width, old):
                retire_node(d, old, 0, LAST)


cdef void redraw_entries(drawing_t* d, const update_t* u, kf_key key, int len) noexcept nogil:
    """Draw the entries of a RANK or of the root again in which a prefix lies."""
    cdef int limit = u.node.depth + u.node.bits
    cdef uint32_t first = u.first & ~<uint32_t>(PLACES - 1), begin, end, at = 0
    cdef uint64_t* entry = root_entry(d, first)
    cdef uint64_t old
    if u.node.reference:
        entry = <uint64_t*>(arena_memory(d.a) + <uint64_t>(u.node.reference & KF_NODE_AT) * LINE) + (first >> PLACE_BITS)
    len = min(len, limit - PLACE_BITS)
    end = sweep(d, key & kf_key_mask(len), len, u.node.depth, u.node.bits, 0, u)
    while first <= u.last and not d.is_full:
        begin = at
        while at + 1 < end and d.range[at + 1].first < first + PLACES:
            at += 1
        old = entry[0]
        draw_entries(d, entry, first, 1, &d.range[begin], at + 1 - begin)
        if not d.is_full:
            retire_leaves(d, old, max(u.first, first) - first, min(u.last, first + PLACES - 1) - first)
            retire_run(d, old)
        first += PLACES
        entry += 1
        if at + 1 < end and d.range[at + 1].first == first:
            at += 1


cdef bint rank_draw(rank_t* k, arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil:
    """Draw what a prefix decides, after the RIB has changed there; False: everything has to be drawn again."""
    cdef drawing_t d
    cdef update_t u
    cdef char* parent = NULL
    cdef char* leaf
    cdef uint32_t slot, prefixes, n, end
    cdef uint64_t entries
    cdef int limit
    arena_settle(a)
    if not reserve(k, UPDATE_RANGES):
        return False
    begin(&d, k, a, r)
    u.node.reference, u.node.depth, u.node.bits = 0, 0, 24 if r.bits == 32 else 16
    while True:
        limit = u.node.depth + u.node.bits
        if len <= limit:
            break
        leaf = leaf_of(&d, &u.node, kf_key_slice(key, u.node.depth, u.node.bits))
        slot = kf_slot_load(leaf, d.width)
        if not kf_is_child(d.width, slot) or not rib_longer(r, key, limit):
            len = limit         # the slice begins or ceases to lead to a child
            key = key & kf_key_mask(len)
            break
        parent = leaf
        u.node.reference, u.node.depth, u.node.bits = kf_reference(d.width, slot), limit, 16
    u.first = kf_key_slice(key, u.node.depth, u.node.bits)
    u.last = u.first + (<uint32_t>1 << (limit - len)) - 1
    entries = (u.last >> PLACE_BITS) - (u.first >> PLACE_BITS) + 1
    prefixes = rib_count(r, rib_inside(r, key, len), UPDATE_PREFIXES + 1)
    if prefixes > UPDATE_PREFIXES or not arena_has_room(
            a, UPDATE_LINES + prefixes * PREFIX_LINES + entries * ENTRY_LINES, KF_MISS):
        return False
    if u.node.reference == 0 and r.bits == 128:
        end = sweep(&d, key, len, 0, u.node.bits, 0, &u)
        if not d.is_full:
            draw_slots(&d, d.range, end, u.last, True)
        return not d.is_full
    if u.node.reference == 0 or kf_node_kind(u.node.reference) == KF_NODE_RANK:
        redraw_entries(&d, &u, key, len)
        return not d.is_full
    n = read_node(&d, u.node.reference, d.range)
    end = sweep(&d, key, len, u.node.depth, u.node.bits, n, &u)
    slot = new_node(&d, &d.range[end], splice(&d, n, end, &u) - end)
    if d.is_full:
        return False
    store(parent, d.width, slot)
    retire_node(&d, u.node.reference, u.first, u.last)
    return True
