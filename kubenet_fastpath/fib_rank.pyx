"""Drawing the rank engine of IPv4 from the RIB, whole or where a prefix has changed.

A sweep (`fib_sweep`) gives the ranges of the root, or of a node. An update draws again what the changed prefix covers:
of the root its entries, below it the whole node, which replaces the old one in the root. Nodes outside the changed
prefix stay as they are.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from .arena cimport (
    KF_CHILD, KF_MISS, KF_RANK, LINE, NO_PIECE, UNIT, UNITS, arena_begin, arena_block, arena_has_room, arena_memory,
    arena_piece, arena_retire, arena_settle, arena_t, arena_take, arena_trim, kf_block_free, kf_is_child, kf_lpm,
    kf_slot_load, publish_entry,
)
from .fib_sweep cimport (
    drawing_begin, drawing_t, emit, range_t, ranges_reserve, ranges_t, store_slot, sweep, update_t,
)
from .rib cimport kf_key, kf_key_mask, kf_key_slice, rib_count, rib_inside, rib_longer, rib_t

cdef extern from "csrc/rank.h" nogil:
    enum:
        KF_NODE_LINE
        KF_NODE_LINES
    uint32_t KF_NODE_AT
    uint32_t kf_node_kind(uint32_t reference)
    uint32_t kf_line_ranges(int width)
    uint32_t kf_line_leaves(int width)
    uint32_t kf_reference(int width, uint32_t v)
    const char* kf_entry_leaf(const char* arena, int width, const uint64_t* entry, uint32_t place)
    char* kf_node_leaf(const char* arena, int width, uint32_t reference, uint32_t slice)
    int __builtin_popcount(unsigned int x)

cdef enum:
    PLACES = 32                 # slices of an entry
    PLACE_BITS = 5
    ROOT_BITS = 24
    ENTRIES = (1 << ROOT_BITS) // PLACES    # of the root
    NODE_BITS = 16              # of a node's slice: 8, and zeros
    LAST = 0xFFFF               # slice of a node
    NARROW_STEP = 4             # lines between nodes that narrow slots can name
    NARROW_NODES = 0x7FFF
    UPDATE_PREFIXES = 2048      # an update that decides more draws everything again
    RANGES_MAX = 256            # of a node
    UPDATE_RANGES = 2 * RANGES_MAX + 4 * UPDATE_PREFIXES + 256
    PREFIX_LINES = 9            # a prefix makes at most 7 LINEs, and its part of other nodes
    UPDATE_LINES = 512          # and besides: one node, and what is cut into units
    ENTRY_LINES = 3             # a run of leaves
    FIRST_LINES = 4096
    SPARE_SHARE = 8             # lines to spare for updates: 1/8 of those in use, and some
    LINES_LIMIT = 1 << 25       # 2 GiB


cdef uint64_t* root_entry(const drawing_t* d, uint32_t slice) noexcept nogil:
    return <uint64_t*>(<char*>d.a.block + d.a.block.root) + (slice >> PLACE_BITS)


cdef uint32_t slot_of(const drawing_t* d, uint32_t slice) noexcept nogil:
    """What the root says of a slice."""
    return kf_slot_load(kf_entry_leaf(arena_memory(d.a), d.width, root_entry(d, slice), slice & (PLACES - 1)), d.width)


cdef uint32_t child_slot(drawing_t* d, kf_key key, int depth, uint32_t slice, uint32_t at,
                         const update_t* update) noexcept nogil:
    """The slot that leads to the node of a slice: the one that is there, or a new one."""
    cdef uint32_t end
    if update != NULL and (slice < update.first or slice > update.last):
        return slot_of(d, slice)
    end = sweep(d, key, depth, depth, NODE_BITS, at, NULL)
    return new_node(d, &d.range[at], end - at)


cdef uint32_t groups_of(int width, uint32_t n) noexcept nogil:
    """LINEs for n ranges."""
    return (n + kf_line_ranges(width) - 1) // kf_line_ranges(width)


cdef uint32_t kind_of(int width, uint32_t n) noexcept nogil:
    """The kind of node for n ranges."""
    return KF_NODE_LINE if width == 4 and groups_of(width, n) == 1 else <uint32_t>KF_NODE_LINES


cdef uint32_t line_of(uint32_t kind, uint32_t group) noexcept nogil:
    """Where a LINE is in its node."""
    return 0 if kind == KF_NODE_LINE else 1 + group


cdef uint32_t class_of(int width, uint32_t kind, uint32_t n) noexcept nogil:
    """Size of a node of n ranges: one of few, so that what one node leaves suits the next."""
    cdef uint32_t lines = line_of(kind, groups_of(width, n) - 1) + 1, step = NARROW_STEP if width == 2 else 1
    while 8 * step < lines:
        step *= 2
    return UNITS + (lines + step - 1) // step * step


cdef uint32_t new_node(drawing_t* d, const range_t* part, uint32_t n) noexcept nogil:
    """Draw the ranges of a node; the slot that leads to it."""
    cdef uint32_t kind = kind_of(d.width, n), group, most = kf_line_ranges(d.width), end
    cdef uint32_t size = class_of(d.width, kind, n), piece = arena_take(d.a, size)
    cdef char* node
    if piece == NO_PIECE or (d.width == 2 and piece // NARROW_STEP >= NARROW_NODES):
        d.is_full = True
        return KF_MISS
    node = <char*>arena_piece(d.a, piece, size)
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
        store_slot(line + kf_line_leaves(d.width) + i * d.width, d.width, part[i].slot)


cdef uint32_t read_node(const drawing_t* d, uint32_t reference, range_t* part) noexcept nogil:
    """The ranges of a node; how many."""
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
        store_slot(run + i * d.width, d.width, part[i].slot)
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


cdef bint rank_build(ranges_t* k, arena_t* a, const rib_t* r, int width, uint32_t pool_size) noexcept nogil:
    """Draw everything into a new block; False without memory, or where narrow slots cannot name all."""
    cdef drawing_t d
    cdef uint64_t lines = FIRST_LINES + r.count
    cdef kf_lpm* b
    cdef uint32_t end
    if not ranges_reserve(k, 2 * <uint64_t>r.count + UPDATE_RANGES):
        return False
    while lines <= LINES_LIMIT:
        b = arena_block(4, KF_RANK, width, pool_size, ENTRIES * sizeof(uint64_t), lines)
        if b == NULL:
            return False
        b.pooled = width == 2 and pool_size != 0
        arena_begin(a, b, lines)
        drawing_begin(&d, k, a, r, child_slot)
        arena_take(a, UNITS + NARROW_STEP)      # no node is at line 0, so a reference is never 0
        end = sweep(&d, 0, 0, 0, ROOT_BITS, 0, NULL)
        draw_entries(&d, root_entry(&d, 0), 0, ENTRIES, k.range, end)
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
            retire_node(d, kf_reference(d.width, slot))


cdef void retire_node(drawing_t* d, uint32_t reference) noexcept nogil:
    cdef range_t part[RANGES_MAX]
    cdef uint32_t n = read_node(d, reference, part)
    arena_retire(d.a, reference & KF_NODE_AT, class_of(d.width, kf_node_kind(reference), n))


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


cdef void redraw_entries(drawing_t* d, const update_t* u, kf_key key, int len) noexcept nogil:
    """Draw the entries of the root again in which a prefix lies."""
    cdef uint32_t first = u.first & ~<uint32_t>(PLACES - 1), begin, end, at = 0
    cdef uint64_t* entry = root_entry(d, first)
    cdef uint64_t old
    len = min(len, ROOT_BITS - PLACE_BITS)
    end = sweep(d, key & kf_key_mask(len), len, 0, ROOT_BITS, 0, u)
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


cdef bint rank_draw(ranges_t* k, arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil:
    """Draw what a prefix decides, after the RIB has changed there; False: everything has to be drawn again."""
    cdef drawing_t d
    cdef update_t u
    cdef char* parent = NULL
    cdef uint32_t slice = kf_key_slice(key, 0, ROOT_BITS), slot, prefixes, n, end
    cdef uint64_t entries
    arena_settle(a)
    if not ranges_reserve(k, UPDATE_RANGES):
        return False
    drawing_begin(&d, k, a, r, child_slot)
    u.reference, u.depth, u.bits = 0, 0, ROOT_BITS
    if len > ROOT_BITS:
        slot = slot_of(&d, slice)
        if not kf_is_child(d.width, slot) or not rib_longer(r, key, ROOT_BITS):
            len = ROOT_BITS     # the slice begins or ceases to lead to a node
            key = key & kf_key_mask(len)
        else:
            u.reference, u.depth, u.bits = kf_reference(d.width, slot), ROOT_BITS, NODE_BITS
            parent = <char*>kf_entry_leaf(arena_memory(a), d.width, root_entry(&d, slice), slice & (PLACES - 1))
    u.first = kf_key_slice(key, u.depth, u.bits)
    u.last = u.first + (<uint32_t>1 << (u.depth + u.bits - len)) - 1
    entries = (u.last >> PLACE_BITS) - (u.first >> PLACE_BITS) + 1
    prefixes = rib_count(r, rib_inside(r, key, len), UPDATE_PREFIXES + 1)
    if prefixes > UPDATE_PREFIXES or not arena_has_room(
            a, UPDATE_LINES + prefixes * PREFIX_LINES + entries * ENTRY_LINES, KF_MISS):
        return False
    if u.reference == 0:
        redraw_entries(&d, &u, key, len)
        return not d.is_full
    n = read_node(&d, u.reference, d.range)
    end = sweep(&d, key, len, u.depth, u.bits, n, &u)
    slot = new_node(&d, &d.range[end], splice(&d, n, end, &u) - end)
    if d.is_full:
        return False
    store_slot(parent, d.width, slot)
    retire_node(&d, u.reference)
    return True
