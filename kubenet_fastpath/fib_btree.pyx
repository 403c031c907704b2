"""Drawing the B+-tree engine of IPv6 from the RIB, whole or where a prefix has changed.

An update finds the window that tells the changed prefix apart, sweeps over what that covers there (`fib_sweep`) and
writes the NODEs anew that hold it, each of which replaces the old one by one store in its parent. What stays within one
leaf, as nearly all updates do, gets a copy of the NODE in which that leaf alone differs. Where a NODE becomes
too large the whole tree is written anew, evenly filled; where a tree becomes too large for the levels of its window
everything is. Before the first store it is certain that there will be a last one.

Drawing and redrawing know the same nodes, and are one file for that.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .arena cimport (
    KF_BTREE, KF_CHILD, KF_MISS, LINE, NO_PIECE, UNITS, arena_begin, arena_block, arena_has_room, arena_memory,
    arena_piece, arena_retire, arena_settle, arena_t, arena_take, arena_trim, kf_block_free, kf_is_child, kf_lpm,
    kf_slot_load, publish_word,
)
from .fib_sweep cimport (
    drawing_begin, drawing_t, emit, range_t, ranges_reserve, ranges_t, store_slot, sweep, update_t,
)
from .rib cimport kf_key, kf_key_mask, kf_key_slice, rib_count, rib_inside, rib_longer, rib_t

cdef extern from "csrc/btree.h" nogil:
    enum:
        KF_WINDOWS
        KF_LEVELS_MAX
        KF_CHILDREN
        KF_LEAVES
        KF_INNER_LINES
    uint32_t kf_leaf_ranges(int width)
    uint32_t kf_tree_at(int width, uint32_t v)
    uint32_t kf_below_scalar(const char* line, uint32_t key, uint32_t n)
    const char* kf_leaf_slot(const char* arena, int width, uint32_t at, uint32_t below)
    const char* kf_tree_slot(const char* arena, int width, uint32_t at, int levels, uint32_t key)

cdef enum:
    ROOT_BITS = 16
    ROOT_SLOTS = 1 << ROOT_BITS
    WINDOW_BITS = 32
    NARROW_STEP = 4             # lines between trees that narrow slots can name
    NARROW_TREES = 0x7FFF
    FILL_LEAVES = 15            # of a NODE that is drawn with others: with its line 16, and room for two more
    FILL_CHILDREN = 14          # of an INNER
    UPDATE_PREFIXES = 2048      # an update that decides more draws everything again
    UPDATE_RANGES = 4 * UPDATE_PREFIXES + 1024
    FIRST_LINES = 4096
    SPARE_LINES = 1024          # to spare for updates, and
    SPARE_SHARE = 8             # 1/8 of those in use
    LINES_LIMIT = 1 << 25       # 2 GiB

cdef uint32_t LAST = 0xFFFFFFFF     # value of a window

cdef struct spot_t:             # a NODE in its tree
    uint32_t* place             # what leads to it in an INNER; NULL: it is the tree
    uint32_t piece
    uint32_t first, last        # its values


cdef uint8_t* levels_of(const drawing_t* d) noexcept nogil:
    """By window."""
    return <uint8_t*>arena_memory(d.a)


cdef uint32_t* line_at(const drawing_t* d, uint32_t piece) noexcept nogil:
    return <uint32_t*>arena_piece(d.a, piece, UNITS + 1)


cdef uint32_t class_of(int width, uint32_t lines) noexcept nogil:
    return UNITS + ((lines + NARROW_STEP - 1) // NARROW_STEP * NARROW_STEP if width == 2 else lines)


cdef uint32_t take(drawing_t* d, uint32_t lines) noexcept nogil:
    """A piece in which all is 0xFF."""
    cdef uint32_t size = class_of(d.width, lines), piece = arena_take(d.a, size)
    if piece == NO_PIECE:
        d.is_full = True
        return NO_PIECE
    memset(line_at(d, piece), 0xFF, <uint64_t>(size - UNITS) * LINE)
    return piece


cdef uint32_t leaves_of(int width, uint32_t n) noexcept nogil:
    """Leaves for n ranges."""
    return (n + kf_leaf_ranges(width) - 1) // kf_leaf_ranges(width)


cdef uint64_t filled(int width, int level) noexcept nogil:
    """Ranges below an INNER of a level, or in a NODE (0), when it is drawn with others."""
    cdef uint64_t ranges = FILL_LEAVES * kf_leaf_ranges(width)
    cdef int i
    for i in range(level):
        ranges *= FILL_CHILDREN
    return ranges


cdef void draw_leaf(const drawing_t* d, uint32_t* last, const range_t* part, uint32_t n) noexcept nogil:
    """Draw ranges into a line in which all is 0xFF."""
    cdef uint32_t i
    for i in range(n):
        if i + 1 < n:
            last[i] = part[i + 1].first - 1
        store_slot(<char*>kf_leaf_slot(<char*>last, d.width, 0, i), d.width, part[i].slot)


cdef uint32_t new_node(drawing_t* d, const range_t* part, uint32_t n) noexcept nogil:
    """Draw ranges as a NODE with its leaves; its piece, or NO_PIECE."""
    cdef uint32_t leaves = leaves_of(d.width, n), most = kf_leaf_ranges(d.width), leaf, at, piece
    cdef uint32_t* line
    if leaves > <uint32_t>KF_LEAVES:
        d.is_tall = True
        return NO_PIECE
    piece = take(d, 1 + leaves)
    if piece == NO_PIECE:
        return NO_PIECE
    line = line_at(d, piece)
    for leaf in range(leaves):
        at = leaf * most
        if leaf + 1 < leaves:
            line[leaf] = part[at + most].first - 1
        draw_leaf(d, line_at(d, piece + 1 + leaf), &part[at], min(most, n - at))
    return piece


cdef uint32_t new_level(drawing_t* d, const range_t* part, uint32_t n, int level) noexcept nogil:
    """Draw ranges as an INNER of a level with all below, or as a NODE (0); its piece, or NO_PIECE."""
    cdef uint64_t share
    cdef uint32_t children, i, at, end, piece, child
    cdef uint32_t* node
    if level == 0:
        return new_node(d, part, n)
    share = filled(d.width, level - 1)
    children = <uint32_t>((n + share - 1) // share)
    if children > <uint32_t>KF_CHILDREN:
        d.is_tall = True
        return NO_PIECE
    piece = take(d, KF_INNER_LINES)
    if piece == NO_PIECE:
        return NO_PIECE
    node = line_at(d, piece)
    at = 0
    for i in range(children):
        end = <uint32_t>(<uint64_t>n * (i + 1) // children)
        child = new_level(d, &part[at], end - at, level - 1)
        if child == NO_PIECE:
            return NO_PIECE
        if i + 1 < children:
            node[i] = part[end].first - 1
        node[KF_CHILDREN + i] = child * LINE
        at = end
    return piece


cdef uint32_t tree_slot(drawing_t* d, uint32_t piece) noexcept nogil:
    """The slot that leads to a tree."""
    if d.width == 4:
        return KF_CHILD | piece
    if piece // NARROW_STEP >= NARROW_TREES:
        d.is_full = True
        return KF_MISS
    return <uint32_t>0xFFFF8000 | piece // NARROW_STEP


cdef uint32_t new_tree(drawing_t* d, const range_t* part, uint32_t n, int window) noexcept nogil:
    cdef uint32_t piece = new_level(d, part, n, levels_of(d)[window])
    if piece == NO_PIECE:
        d.tall_window = window
        return KF_MISS
    return tree_slot(d, piece)


cdef uint32_t child_slot(drawing_t* d, kf_key key, int depth, uint32_t slice, uint32_t at,
                         const update_t* update) noexcept nogil:
    """The slot that leads to a new tree behind `depth` bits."""
    cdef uint32_t end
    if d.is_full or d.is_tall:
        return KF_MISS
    end = sweep(d, key, depth, depth, WINDOW_BITS, at, NULL)
    if d.is_full or d.is_tall:
        return KF_MISS
    return new_tree(d, &d.range[at], end - at, (depth - ROOT_BITS) // WINDOW_BITS)


cdef uint32_t* root_slot(const drawing_t* d) noexcept nogil:
    return <uint32_t*>(<char*>d.a.block + d.a.block.root)


cdef void draw_root(drawing_t* d, uint32_t n, uint32_t last, bint again) noexcept nogil:
    """Store ranges that end with slice `last` into the root, and retire what was there before."""
    cdef uint32_t* slot = root_slot(d)
    cdef uint32_t i, slice, old
    for i in range(n):
        for slice in range(d.range[i].first, d.range[i + 1].first if i + 1 < n else last + 1):
            old = slot[slice]
            publish_word(&slot[slice], d.range[i].slot)
            if again and kf_is_child(d.width, old):
                retire_tree(d, old, 0)


cdef bint btree_build(ranges_t* k, arena_t* a, const rib_t* r, int width, uint32_t pool_size) noexcept nogil:
    """Draw everything into a new block; False without memory, or where narrow slots cannot name all."""
    cdef drawing_t d
    cdef uint64_t lines = FIRST_LINES + r.count
    cdef uint8_t levels[4]
    cdef kf_lpm* b
    cdef uint32_t end
    cdef int window
    memset(levels, 0, sizeof(levels))
    if not ranges_reserve(k, 2 * <uint64_t>r.count + UPDATE_RANGES):
        return False
    while lines <= LINES_LIMIT:
        b = arena_block(6, KF_BTREE, width, pool_size, ROOT_SLOTS * sizeof(uint32_t), lines)
        if b == NULL:
            return False
        b.pooled = width == 2 and pool_size != 0
        arena_begin(a, b, lines)
        drawing_begin(&d, k, a, r, child_slot)
        memset(line_at(&d, arena_take(a, UNITS + NARROW_STEP)), 0, NARROW_STEP * LINE)
        for window in range(KF_WINDOWS):
            levels_of(&d)[window] = levels[window]
        end = sweep(&d, 0, 0, 0, ROOT_BITS, 0, NULL)
        if not d.is_full and not d.is_tall:
            draw_root(&d, end, ROOT_SLOTS - 1, False)
            if arena_trim(a, SPARE_LINES + a.block.arena_size // SPARE_SHARE):
                return True
            lines = LINES_LIMIT
        kf_block_free(a.block)
        a.block = NULL
        if d.is_tall:
            levels[d.tall_window] += 1
            if levels[d.tall_window] > KF_LEVELS_MAX:
                return False
            continue
        if width == 2 and lines // NARROW_STEP > NARROW_TREES:
            return False
        lines *= 2
    return False


cdef uint32_t node_leaves(const uint32_t* line) noexcept nogil:
    """How many leaves a NODE has."""
    cdef uint32_t n = 0
    while n < <uint32_t>KF_CHILDREN and line[n] != LAST:
        n += 1
    return n + 1


cdef uint32_t read_leaf(const drawing_t* d, const uint32_t* end, uint32_t first, uint32_t last, uint32_t at) noexcept nogil:
    """The ranges of a leaf with these values, put into d.range from `at`; their end."""
    cdef uint32_t i = 0, most = kf_leaf_ranges(d.width)
    while True:
        d.range[at].first = first
        d.range[at].slot = kf_slot_load(kf_leaf_slot(<const char*>end, d.width, 0, i), d.width)
        at += 1
        if i + 1 == most or end[i] >= last:
            return at
        first = end[i] + 1
        i += 1


cdef uint32_t read_node(const drawing_t* d, uint32_t piece, uint32_t first, uint32_t last, uint32_t at) noexcept nogil:
    """The ranges of a NODE with these values, put into d.range from `at`; their end."""
    cdef const uint32_t* line = line_at(d, piece)
    cdef uint32_t leaf, leaves = node_leaves(line), leaf_last
    for leaf in range(leaves):
        leaf_last = last if leaf + 1 == leaves else line[leaf]
        at = read_leaf(d, line_at(d, piece + 1 + leaf), first, leaf_last, at)
        first = leaf_last + 1
    return at


cdef uint32_t read_level(const drawing_t* d, uint32_t piece, int level, uint32_t first, uint32_t last,
                         uint32_t at) noexcept nogil:
    """The ranges of an INNER of a level or a NODE (0) with these values, put into d.range from `at`; their end."""
    cdef const uint32_t* node = line_at(d, piece)
    cdef uint32_t i
    if level == 0:
        return read_node(d, piece, first, last, at)
    for i in range(<uint32_t>KF_CHILDREN):
        at = read_level(d, node[KF_CHILDREN + i] // LINE, level - 1, first, last if node[i] == LAST else node[i], at)
        if node[i] == LAST:
            break
        first = node[i] + 1
    return at


cdef uint64_t most_ranges(const drawing_t* d, uint32_t piece, int level) noexcept nogil:
    """Ranges of an INNER of a level or a NODE (0), or more."""
    cdef const uint32_t* node = line_at(d, piece)
    cdef uint64_t n = 0
    cdef uint32_t i
    if level == 0:
        return node_leaves(node) * kf_leaf_ranges(d.width)
    for i in range(<uint32_t>KF_CHILDREN):
        n += most_ranges(d, node[KF_CHILDREN + i] // LINE, level - 1)
        if node[i] == LAST:
            break
    return n


cdef void retire_level(drawing_t* d, uint32_t piece, int level) noexcept nogil:
    """Retire an INNER of a level with all below, or a NODE (0); no trees to which it leads."""
    cdef const uint32_t* node = line_at(d, piece)
    cdef uint32_t i
    if level == 0:
        arena_retire(d.a, piece, class_of(d.width, 1 + node_leaves(node)))
        return
    for i in range(<uint32_t>KF_CHILDREN):
        retire_level(d, node[KF_CHILDREN + i] // LINE, level - 1)
        if node[i] == LAST:
            break
    arena_retire(d.a, piece, class_of(d.width, KF_INNER_LINES))


cdef void retire_trees(drawing_t* d, uint32_t piece, int level, int window) noexcept nogil:
    """Retire all trees to which an INNER of a level or a NODE (0) of a window leads."""
    cdef const uint32_t* node = line_at(d, piece)
    cdef uint32_t i, leaf, slot
    if level:
        for i in range(<uint32_t>KF_CHILDREN):
            retire_trees(d, node[KF_CHILDREN + i] // LINE, level - 1, window)
            if node[i] == LAST:
                break
        return
    for leaf in range(node_leaves(node)):
        for i in range(kf_leaf_ranges(d.width)):        # those that are not used are misses
            slot = kf_slot_load(kf_leaf_slot(<const char*>line_at(d, piece + 1 + leaf), d.width, 0, i), d.width)
            if kf_is_child(d.width, slot):
                retire_tree(d, slot, window + 1)


cdef void retire_tree(drawing_t* d, uint32_t slot, int window) noexcept nogil:
    """Retire the tree of a window to which a slot leads, and the trees to which that leads."""
    cdef uint32_t piece = kf_tree_at(d.width, slot) // LINE
    cdef int level = levels_of(d)[window]
    retire_trees(d, piece, level, window)
    retire_level(d, piece, level)


cdef spot_t find_node(const drawing_t* d, uint32_t piece, int level, uint32_t value) noexcept nogil:
    """The NODE that has a value."""
    cdef spot_t spot
    cdef uint32_t* node
    cdef uint32_t i
    spot.place, spot.piece, spot.first, spot.last = NULL, piece, 0, LAST
    for level in range(level, 0, -1):
        node = line_at(d, spot.piece)
        i = kf_below_scalar(<const char*>node, value, KF_CHILDREN)
        if i:
            spot.first = node[i - 1] + 1
        if node[i] != LAST:
            spot.last = node[i]
        spot.place = &node[KF_CHILDREN + i]
        spot.piece = spot.place[0] // LINE
    return spot


cdef uint32_t splice(drawing_t* d, uint32_t n, uint32_t end, const spot_t* spot, const update_t* u) noexcept nogil:
    """The new ranges of a spot: the old ones lie from n, the update's before n; put from `end`, their end."""
    cdef uint32_t at = end, i = n
    while i < end and d.range[i].first < u.first:
        d.range[at] = d.range[i]
        at += 1
        i += 1
    for i in range(n):
        if i + 1 < n and d.range[i + 1].first <= spot.first:
            continue
        if d.range[i].first > spot.last:
            break
        at = emit(d, end, at, max(d.range[i].first, spot.first), d.range[i].slot)
    if u.last >= spot.last:
        return at
    i = n
    while i + 1 < end and d.range[i + 1].first <= u.last + 1:
        i += 1
    at = emit(d, end, at, u.last + 1, d.range[i].slot)
    for i in range(i + 1, end):
        at = emit(d, end, at, d.range[i].first, d.range[i].slot)
    return at


cdef void retire_ranges(drawing_t* d, uint32_t n, uint32_t end, int window, const update_t* u) noexcept nogil:
    """Retire the trees to which the old ranges led that the update has replaced."""
    cdef uint32_t i
    for i in range(n, end):     # the range of a child is one value
        if u.first <= d.range[i].first and d.range[i].first <= u.last and kf_is_child(d.width, d.range[i].slot):
            retire_tree(d, d.range[i].slot, window + 1)


cdef bint nodes_fit(drawing_t* d, uint32_t tree, int level, uint32_t n, const update_t* u) noexcept nogil:
    """Whether the NODEs that an update touches take what it says, and there is room for all of them at once."""
    cdef spot_t spot
    cdef uint32_t value = u.first, end, leaves
    cdef uint64_t lines = 0
    while True:
        spot = find_node(d, tree, level, value)
        end = read_node(d, spot.piece, spot.first, spot.last, n)
        leaves = leaves_of(d.width, splice(d, n, end, &spot, u) - end)
        lines += class_of(d.width, 1 + leaves) - UNITS
        if leaves > <uint32_t>KF_LEAVES or not arena_has_room(d.a, lines, KF_MISS):
            return False
        if spot.last >= u.last:
            return True
        value = spot.last + 1


cdef bint replace_node(drawing_t* d, const spot_t* spot, uint32_t piece, char* parent, int parent_width) noexcept nogil:
    """Lead readers to a new NODE, and retire the old one; False, and nothing has changed, where no slot can name it."""
    cdef uint32_t slot
    if spot.place != NULL:
        publish_word(spot.place, piece * LINE)
    else:
        slot = tree_slot(d, piece)
        if d.is_full:
            return False
        store_slot(parent, parent_width, slot)
    retire_level(d, spot.piece, 0)
    return True


cdef bint redraw_leaf(drawing_t* d, uint32_t tree, char* parent, int parent_width, int window, uint32_t n,
                      const update_t* u) noexcept nogil:
    """Replace the leaf that an update touches; False, and nothing has changed, where it is not one or does not take it."""
    cdef spot_t spot = find_node(d, tree, levels_of(d)[window], u.first)
    cdef uint32_t* line = line_at(d, spot.piece)
    cdef uint32_t leaf = kf_below_scalar(<const char*>line, u.first, KF_CHILDREN), size, piece, end, count
    if leaf:
        spot.first = line[leaf - 1] + 1
    if leaf < <uint32_t>KF_CHILDREN and line[leaf] != LAST:
        spot.last = line[leaf]
    if u.last > spot.last:
        return False
    end = read_leaf(d, line_at(d, spot.piece + 1 + leaf), spot.first, spot.last, n)
    count = splice(d, n, end, &spot, u) - end
    size = class_of(d.width, 1 + node_leaves(line))
    if count > kf_leaf_ranges(d.width):
        return False
    piece = arena_take(d.a, size)
    if piece == NO_PIECE:
        return False
    memcpy(line_at(d, piece), line, <uint64_t>(size - UNITS) * LINE)
    line = line_at(d, piece + 1 + leaf)
    memset(line, 0xFF, LINE)
    draw_leaf(d, line, &d.range[end], count)
    if not replace_node(d, &spot, piece, parent, parent_width):
        return False
    retire_ranges(d, n, end, window, u)
    return True


cdef bint redraw_nodes(drawing_t* d, uint32_t tree, char* parent, int parent_width, int window, uint32_t n,
                       const update_t* u) noexcept nogil:
    """Replace the NODEs that an update touches, which fit. One alone may not; then False, and nothing has changed."""
    cdef spot_t spot
    cdef uint32_t value = u.first, end, piece
    cdef int level = levels_of(d)[window]
    while True:
        spot = find_node(d, tree, level, value)
        end = read_node(d, spot.piece, spot.first, spot.last, n)
        piece = new_node(d, &d.range[end], splice(d, n, end, &spot, u) - end)
        if piece == NO_PIECE or not replace_node(d, &spot, piece, parent, parent_width):
            return False
        retire_ranges(d, n, end, window, u)
        if spot.last >= u.last:
            return True
        value = spot.last + 1


cdef bint redraw_tree(ranges_t* k, drawing_t* d, uint32_t tree, char* parent, int parent_width, int window, uint32_t n,
                      const update_t* u) noexcept nogil:
    """Replace the tree that an update touches; False, and nothing has changed, where it does not fit."""
    cdef spot_t all
    cdef uint32_t end, slot
    cdef int level = levels_of(d)[window]
    if not ranges_reserve(k, 2 * (most_ranges(d, tree, level) + n) + 16):
        return False
    d.range = k.range
    all.first, all.last = 0, LAST
    end = read_level(d, tree, level, 0, LAST, n)
    slot = new_tree(d, &d.range[end], splice(d, n, end, &all, u) - end, window)
    if d.is_full or d.is_tall:
        return False
    store_slot(parent, parent_width, slot)
    retire_ranges(d, n, end, window, u)
    retire_level(d, tree, level)
    return True


cdef bint btree_draw(ranges_t* k, arena_t* a, const rib_t* r, kf_key key, int len) noexcept nogil:
    """Draw what a prefix decides, after the RIB has changed there; False: everything has to be drawn again."""
    cdef drawing_t d
    cdef update_t u
    cdef char* place
    cdef char* parent = NULL
    cdef uint32_t slot, tree = 0, n
    cdef int window = -1, limit, place_width = 4, parent_width = 4
    arena_settle(a)
    if not ranges_reserve(k, UPDATE_RANGES):
        return False
    drawing_begin(&d, k, a, r, child_slot)
    u.reference, u.depth, u.bits = 0, 0, ROOT_BITS
    while True:
        limit = u.depth + u.bits
        if len <= limit:
            break
        u.first = kf_key_slice(key, u.depth, u.bits)
        if window < 0:
            place = <char*>&root_slot(&d)[u.first]
        else:
            place = <char*>kf_tree_slot(arena_memory(a), d.width, tree * LINE, levels_of(&d)[window], u.first)
        slot = kf_slot_load(place, place_width)
        if not kf_is_child(d.width, slot) or not rib_longer(r, key, limit):
            len = limit         # the value begins or ceases to lead to a tree
            key = key & kf_key_mask(len)
            break
        parent, parent_width, tree = place, place_width, kf_tree_at(d.width, slot) // LINE
        place_width = d.width
        window += 1
        u.depth, u.bits = limit, WINDOW_BITS
    u.first = kf_key_slice(key, u.depth, u.bits)
    u.last = <uint32_t>(u.first + (<uint64_t>1 << (limit - len)) - 1)
    if rib_count(r, rib_inside(r, key, len), UPDATE_PREFIXES + 1) > UPDATE_PREFIXES:
        return False
    n = sweep(&d, key, len, u.depth, u.bits, 0, NULL)
    if d.is_full or d.is_tall:
        return False
    if window < 0:
        draw_root(&d, n, u.last, True)
        return True
    if redraw_leaf(&d, tree, parent, parent_width, window, n, &u):
        return True
    if d.is_full:
        return False
    if (find_node(&d, tree, levels_of(&d)[window], u.first).last >= u.last
            or nodes_fit(&d, tree, levels_of(&d)[window], n, &u)):
        if redraw_nodes(&d, tree, parent, parent_width, window, n, &u):
            return True
        if not d.is_tall:
            return False
        d.is_tall = False
    return redraw_tree(k, &d, tree, parent, parent_width, window, n, &u)
