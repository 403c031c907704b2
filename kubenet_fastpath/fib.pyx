"""Routes as a Python object: the RIB (`rib`) is the truth, the arrays of `fib_engine` are drawn from it.

One class, and half of it documentation: a class cannot be spread over modules.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from os import fsdecode
from pickle import PickleBuffer

import numpy as np

cimport numpy as cnp

from .errors import AddressError, TableFileError, TableFull

from .address_text cimport TextColumn
from .arena cimport KF_BTREE, KF_DENSE16, KF_DENSE24, KF_RANK
from .fib_engine cimport (
    ENGINE_ANY, FIB_BEYOND, FIB_DRAWN, fib_adopt, fib_draw, fib_expect, fib_free, fib_init, fib_lookup_ipv4,
    fib_lookup_ipv6, fib_nbytes, fib_prefetch, fib_redraw, kf_lpm_isa,
)
from .isa cimport isa_number
from .prefix cimport (
    addresses_of, bits_of, given_columns, hop_given, key_columns, key_of, order_of, prefix_columns, prefix_of, text_of,
)
from .route_text cimport read_prefixes
from .ranges cimport range_prefixes
from .rib cimport (
    RIB_NONE, kf_key_hi, kf_key_lo, kf_key_of, rib_count, rib_covering, rib_expect, rib_find, rib_free, rib_init,
    rib_insert, rib_inside, rib_longest, rib_next, rib_remove, rib_reserve, rib_walk, rib_walk_t,
)
from .table_file cimport aligned, checked_image, columns_of, image_memory, map_image, seal_image, write_image

from .isa import available

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from *:
    """
    #define kf_add(place, value) __atomic_add_fetch((place), (value), __ATOMIC_ACQ_REL)
    #define kf_load(place) __atomic_load_n((place), __ATOMIC_ACQUIRE)
    """
    int kf_add(int* place, int value) nogil
    int kf_load(int* place) nogil

cnp.import_array()

cdef enum:
    REDRAW_SHARE = 8            # an update of more than 1/8 of the prefixes draws everything again
    SORTED = 256                # an update of so many is made in order of prefixes, which the cache likes
    ALL_BLOCK = 4096            # addresses after which updates get their turn
    TEXT_BLOCK = 2048           # texts that are parsed before their addresses are looked up
    BRIEF = 512                 # addresses that are looked up before the GIL could be taken again
    KEYS_IPV4 = 0               # how addresses lie in memory: uint32,
    KEYS_HALVES = 1             # pairs of uint64,
    KEYS_OCTETS = 2             # 16 octets,
    KEYS_OTHER = 3              # or otherwise

cdef object HOPS = <uint32_t>FIB_MISS
cdef dict ENGINES = {KF_DENSE16: "16-8-8", KF_DENSE24: "24-8", KF_RANK: "rank", KF_BTREE: "b+tree"}


cdef void restore(rib_t* r, kf_key net, int len, uint32_t before) noexcept nogil:
    """Give a prefix the hop that it had before, RIB_NONE for none. There is room: it has just been changed."""
    if before == RIB_NONE:
        rib_remove(r, net, len)
    else:
        rib_insert(r, net, len, before)


cdef int fill_rib(rib_t* r, const uint64_t[:, ::1] net, const uint8_t[::1] len, const uint32_t[::1] hop) except -1:
    cdef Py_ssize_t i, n = net.shape[0]
    if not rib_reserve(r, n):
        raise MemoryError
    for i in range(n):
        rib_insert(r, kf_key_of(net[i, 0], net[i, 1]), len[i], hop[i])
    return 0


cdef void take_columns(const rib_t* r, uint64_t[:, ::1] net, uint8_t[::1] len, uint32_t[::1] hop) noexcept:
    """All prefixes in order, for which there is just room."""
    cdef rib_walk_t walk
    cdef uint32_t i
    cdef Py_ssize_t k
    rib_walk(&walk, 0)
    for k in range(net.shape[0]):
        i = rib_next(&walk, r)
        net[k, 0], net[k, 1] = kf_key_hi(r.node[i].net), kf_key_lo(r.node[i].net)
        len[k], hop[k] = r.node[i].len, r.node[i].hop


cdef object new_columns(Py_ssize_t n):
    """For the keys, lengths and hops of so many prefixes."""
    return np.empty((n, 2), np.uint64), np.empty(n, np.uint8), np.empty(n, np.uint32)


cdef struct match_t:            # a prefix as it was when the RIB was read
    kf_key net
    uint32_t hop
    uint8_t len


cdef match_t match_of(const rib_t* r, uint32_t i) noexcept:
    cdef match_t m
    m.net, m.hop, m.len = r.node[i].net, r.node[i].hop, r.node[i].len
    return m


cdef object text_match(const match_t* m, int family):
    return text_of(m.net, m.len, family), m.hop


cdef object hops_given(hops, Py_ssize_t n):
    """The column as (N,) uint32; refuses what is none."""
    column = np.asarray(hops)
    if column.ndim != 1 or column.dtype.kind != "u" or column.dtype.itemsize != 4:
        raise ValueError(f"hops must be (N,) uint32: {column.shape} {column.dtype}")
    if len(column) != n:
        raise ValueError(f"hops must have shape ({n},): ({len(column)},)")
    column = np.array(column, np.uint32, order="C")     # a copy, as of networks and lengths
    if (column == HOPS).any():
        hop_given(HOPS)
    return column


cdef object family_given(addresses, family):
    """The family, or the one that a column looks like."""
    column = np.asarray(addresses)
    return family or (4 if column.ndim == 1 and column.dtype.names is None else 6)


cdef object engine_given(engine):
    for number, name in ENGINES.items():
        if engine == name:
            return number
    if engine is not None:
        raise ValueError(f"engine must be one of {', '.join(ENGINES.values())}: {engine!r}")
    return ENGINE_ANY


cdef object checked_out(out, Py_ssize_t n):
    """The array for n next hops: a new one, or the caller's."""
    if out is None:
        return np.empty(n, np.uint32)
    if not (isinstance(out, np.ndarray) and cnp.PyArray_TYPE(out) == cnp.NPY_UINT32 and cnp.PyArray_ISCARRAY(out)
            and cnp.PyArray_NDIM(out) == 1):
        raise ValueError(f"out must be a writable, contiguous (N,) ndarray of uint32: {out!r}")
    if cnp.PyArray_DIM(out, 0) != n:
        raise ValueError(f"out must have shape ({n},): {out.shape}")
    return out


cdef int kind_of(object addresses, int family) noexcept:
    """How addresses lie in memory, KEYS_OTHER where a lookup cannot read them there."""
    if not cnp.PyArray_Check(addresses) or not cnp.PyArray_ISCARRAY_RO(addresses):
        return KEYS_OTHER
    cdef int dimensions = cnp.PyArray_NDIM(addresses), dtype = cnp.PyArray_TYPE(addresses)
    if family == 4:
        return KEYS_IPV4 if dimensions == 1 and dtype == cnp.NPY_UINT32 else KEYS_OTHER
    if dimensions == 2 and dtype == cnp.NPY_UINT8 and cnp.PyArray_DIM(addresses, 1) == 16:
        return KEYS_OCTETS
    if dimensions == 2 and dtype == cnp.NPY_UINT64 and cnp.PyArray_DIM(addresses, 1) == 2:
        return KEYS_HALVES
    return KEYS_OTHER


cdef object keys_given(object addresses, int family):
    """Addresses as a lookup can read them; refuses what are none."""
    keys = key_columns(addresses, family, "addresses")
    return (keys[:, 0] >> np.uint64(32)).astype(np.uint32) if family == 4 else keys


cdef void lookup_keys(const kf_lpm* block, int isa, int kind, const char* key, size_t n, uint32_t* hop) noexcept nogil:
    if kind == KEYS_IPV4:
        fib_lookup_ipv4(block, isa, <const uint32_t*>key, n, hop)
    else:
        fib_lookup_ipv6(block, isa, kind == KEYS_OCTETS, key, n, hop)


cdef class RouteTable:
    """Routes of one family: longest-prefix match from destination to next hop.

    To the control plane the table is a mapping from prefixes to next hops, any integer below 2**32 - 1 whose
    meaning is the caller's. A prefix is text (`"10.244.1.0/24"`, `"fd00::/8"`; an address alone is a host prefix),
    a pair `(network, length)` or an `ipaddress` network; bits set behind the length are refused. Iteration is in
    order of network, then length, and gives text. To the data plane it is `lookup`.

    Parameters
    ----------
    routes : mapping of prefix to int, optional
        What the table holds at first.
    family : int
        4 or 6.
    engine : str, optional
        `"16-8-8"`, `"24-8"` or `"rank"` for IPv4, `"b+tree"` for IPv6, instead of the one that suits the size.
    isa : str, optional
        `"scalar"`, `"avx2"` or `"avx512"`, instead of the best that the CPU has.

    Attributes
    ----------
    family : int
        4 or 6.
    engine : str
        What draws the lookup arrays: a trie of 16, 8 and 8 bits for up to about a thousand IPv4 routes, of 24 and 8
        bits for more, the compact `rank` where next hops are not all below 2**15 and
        more than 24,000 are different, or where more than 32,767 /24s have longer prefixes; `b+tree` for IPv6.
    isa : str
        The instructions that lookups use.

    Raises
    ------
    AddressError, ValueError
        For what is no prefix, hop, family, engine or variant of this CPU.
    TypeError
        For routes that are no mapping; for a prefix or hop of another type.
    TableFull
        `engine` was given and cannot hold the table.

    Notes
    -----
    A single change touches the slots that it decides and no others: after a removal they hold the next hop
    of the covering prefix, or `MISS`. Changes hold the GIL, `lookup` releases it; while another thread changes the
    table, each address is answered from before or after each single change, in one call some from before and
    some from after. Whoever changes much at once (`update_many` of more than an eighth of the table) draws new
    arrays, and a call sees either the old or the new ones.

    Examples
    --------
    >>> routes = RouteTable({"0.0.0.0/0": 1, "10.244.0.0/16": 2, "10.244.1.0/24": 3})
    >>> routes.lookup(np.array([0x0AF40107, 0x0AF40207, 0x08080808], np.uint32))
    array([3, 2, 1], dtype=uint32)
    >>> del routes["10.244.1.0/24"]
    >>> routes.longest_match("10.244.1.7")
    ('10.244.0.0/16', 2)
    """

    MISS = HOPS     #: what `lookup` gives for an address that no prefix covers

    def __cinit__(self, routes=None, *, family=4, engine=None, isa=None):
        cdef fib_status status
        self.fib = &self.arrays
        self.isa_number = isa_number(isa)
        self.family = family
        if not rib_init(&self.rib, bits_of(family)):
            raise MemoryError
        status = fib_init(self.fib, &self.rib, engine_given(engine))
        if status == FIB_BEYOND:
            raise ValueError(f"engine is for the other family: {engine!r}")
        if status != FIB_DRAWN:
            raise MemoryError

    def __init__(self, routes=None, *, family=4, engine=None, isa=None):
        if routes is None:
            return
        if not hasattr(routes, "items"):
            raise TypeError(f"routes must be a mapping of prefix to next hop, not {type(routes).__name__}")
        pairs = list(routes.items())
        hops = np.array([hop_given(hop) for _, hop in pairs], np.uint32)
        self.update_many(*prefix_columns([prefix for prefix, _ in pairs], self.family), hops)

    def __dealloc__(self):
        fib_free(&self.arrays)
        rib_free(&self.rib)

    @classmethod
    def from_arrays(cls, networks, prefix_lens, hops, *, mask_host_bits=False, family=None, engine=None, isa=None):
        """Make a table from columns.

        Parameters
        ----------
        networks : (N,) ndarray of uint32, or (N, 16) ndarray of uint8, (N, 2) of uint64 or (N,) of pairs of uint64
            IPv4 networks in host order; or IPv6 networks as octets, or as upper and lower half in host order.
        prefix_lens : (N,) ndarray of uint8
            0..32 or 0..128.
        hops : (N,) ndarray of uint32
            Next hops, below 2**32 - 1. Of equal prefixes the last wins.
        mask_host_bits : bool
            Clear bits that are set behind the prefix length, instead of refusing them.
        family : int, optional
            4 or 6; by the type of `networks` when omitted.
        engine, isa : str, optional
            As of the class.

        Raises
        ------
        AddressError, ValueError
            For what is no prefix; for a hop that is `MISS`; for a wrong shape or type.
        TableFull
            `engine` was given and cannot hold the table.
        """
        table = cls(family=family_given(networks, family), engine=engine, isa=isa)
        table.update_many(networks, prefix_lens, hops, mask_host_bits=mask_host_bits)
        return table

    @classmethod
    def from_ranges(cls, first, last, hops, *, family=None, engine=None, isa=None):
        """Make a table from ranges of addresses, as registries and geolocation files give them.

        Each becomes the fewest prefixes that cover it and nothing else, at most 62 (IPv4) or 254.

        Parameters
        ----------
        first, last : ndarray
            First and last address of each range, in a form of `from_arrays`' networks.
        hops : (N,) ndarray of uint32
            Next hops, below 2**32 - 1.
        family, engine, isa
            As in `from_arrays`.

        Raises
        ------
        AddressError, ValueError
            For a range whose last address is before its first; for ranges that overlap; for what `from_arrays`
            refuses.
        TableFull
            `engine` was given and cannot hold the table.
        """
        family = family_given(first, family)
        hops = hops_given(hops, len(first))
        keys, prefix_lens, owners = range_prefixes(key_columns(first, family, "first"),
                                                   key_columns(last, family, "last"), family)
        return cls.from_arrays(addresses_of(keys, family), prefix_lens, hops[owners], family=family, engine=engine,
                               isa=isa)

    @classmethod
    def from_text(cls, source, *, mask_host_bits=False, skip_other_family=False, family=4, engine=None, isa=None):
        """Make a table from lines `PREFIX` or `PREFIX HOP`, by spaces or a comma; `#` begins a comment.

        Parameters
        ----------
        source : str, bytes-like or iterable of str or bytes
            The text (not its file's name), or its lines: an open file will do. A line without a hop gets the number of prefixes
            before it. Of equal prefixes the last wins. An address alone is a host prefix.
        mask_host_bits : bool
            Clear bits that are set behind the prefix length, instead of refusing them.
        skip_other_family : bool
            Leave out prefixes of the other family, instead of refusing them.
        family, engine, isa
            As of the class.

        Raises
        ------
        AddressError, ValueError
            For a line that is not of this form, by its number.
        TypeError
            For a line that is neither str nor bytes.
        TableFull
            `engine` was given and cannot hold the table.

        Notes
        -----
        Some 100 ns a line, without the GIL.
        """
        table = cls(family=family, engine=engine, isa=isa)
        keys, prefix_lens, hops = read_prefixes(source, family, mask_host_bits, skip_other_family)
        table.update_many(addresses_of(keys, family), prefix_lens, hops)
        return table

    @property
    def engine(self):
        return ENGINES[self.fib.arena.block.engine]

    @property
    def isa(self):
        return available()[kf_lpm_isa(self.fib.arena.block, self.isa_number)]

    @property
    def nbytes(self):
        """Bytes of the lookup arrays; the RIB has up to 128 for each prefix besides, and 2 MiB if it is large."""
        return fib_nbytes(self.fib)

    def __len__(self):
        return self.fib.arena.block.prefixes if self.frozen else self.rib.count

    def __contains__(self, prefix):
        return self.get(prefix) is not None

    def __iter__(self):
        return iter(self.keys())

    def __getitem__(self, prefix):
        hop = self.get(prefix)
        if hop is None:
            raise KeyError(prefix)
        return hop

    def __setitem__(self, prefix, hop):
        cdef kf_key net
        cdef int length = prefix_of(prefix, self.family, False, &net)
        cdef uint32_t number = hop_given(hop)
        cdef rib_t* rib = self.rib_mine()
        if not rib_reserve(rib, 1):
            raise MemoryError
        self.expect(net)
        self.check(self.draw(net, length, rib_insert(rib, net, length, number)))

    def __delitem__(self, prefix):
        cdef kf_key net
        cdef int length = prefix_of(prefix, self.family, False, &net)
        cdef rib_t* rib = self.rib_mine()
        cdef uint32_t before
        self.expect(net)
        before = rib_remove(rib, net, length)
        if before == RIB_NONE:
            raise KeyError(prefix)
        self.check(self.draw(net, length, before))

    def __repr__(self):
        return f"<RouteTable: {len(self)} IPv{self.family} prefixes, {self.engine}>"

    def get(self, prefix, default=None):
        """Return the next hop of exactly this prefix, or the default where the table does not hold it."""
        cdef kf_key net
        cdef int length = prefix_of(prefix, self.family, False, &net)
        cdef rib_t* rib = self.rib_ready()
        cdef uint32_t i = rib_find(rib, net, length)
        return default if i == RIB_NONE else rib.node[i].hop

    def keys(self):
        """Return the list of the prefixes as text, in order of network, then length."""
        return [prefix for prefix, _ in self.items()]

    def values(self):
        """Return the list of the next hops, in the order of `keys`."""
        return self.to_arrays()[2].tolist()

    def items(self):
        """Return the list of (prefix, hop), in order of network, then length."""
        self.rib_ready()
        return self.matches(0)

    cdef object matches(self, uint32_t top):
        """What is at and below a node, read at once: other threads may change the table while texts are made."""
        cdef rib_walk_t walk
        cdef uint32_t n = rib_count(&self.rib, top, RIB_NONE), k
        cdef match_t* match = <match_t*>malloc((<size_t>n + 1) * sizeof(match_t))
        if match == NULL:
            raise MemoryError
        rib_walk(&walk, top)
        for k in range(n):
            match[k] = match_of(&self.rib, rib_next(&walk, &self.rib))
        try:
            return [text_match(&match[k], self.family) for k in range(n)]
        finally:
            free(match)

    cdef rib_t* rib_ready(self) except NULL:
        """The RIB, for who reads it; of a frozen table it is made of the image now."""
        cdef const uint64_t[:, ::1] net
        cdef const uint8_t[::1] length
        cdef const uint32_t[::1] hop
        if self.frozen:
            networks, prefix_lens, hops = columns_of(self.image)
            try:
                keys, lengths = given_columns(networks, prefix_lens, self.family, False)
                net, length, hop = keys, lengths, hops_given(hops, len(keys))
            except (AddressError, ValueError) as error:
                raise TableFileError(f"a saved table whose prefixes are damaged: {error}") from None
            if self.frozen:     # no other thread was quicker
                fill_rib(&self.rib, net, length, hop)
                self.frozen = False
        return &self.rib

    cdef rib_t* rib_mine(self) except NULL:
        """The RIB, for who changes it: waits for those who walk it without the GIL. None can begin before this
        thread has given up the GIL."""
        self.rib_ready()
        while kf_load(&self.reading):
            sched_yield()
        return &self.rib

    cdef int check(self, fib_status status) except -1:
        """Raise what a status means. Nothing else that changes the table runs Python code, which other threads may
        interrupt."""
        if status == FIB_DRAWN:
            return 0
        if status == FIB_BEYOND:
            raise TableFull(f"the engine {self.engine} cannot hold this table: too many long prefixes or different "
                            f"next hops")
        raise MemoryError

    cdef void expect(self, kf_key net) noexcept:
        """Ask for what a change will need first of the RIB, and after that of the arrays."""
        if self.family == 4:
            fib_prefetch(self.fib, <uint32_t>(kf_key_hi(net) >> 32))
        else:
            rib_expect(&self.rib, net)
            fib_expect(self.fib, kf_key_hi(net))

    cdef fib_status draw(self, kf_key net, int len, uint32_t before) noexcept:
        """Draw a prefix that had another next hop before, or RIB_NONE; on failure it has that again."""
        cdef fib_status status = fib_draw(self.fib, &self.rib, net, len)
        if status != FIB_DRAWN:
            restore(&self.rib, net, len, before)
        return status

    cdef void undo(self, const uint64_t[:, ::1] net, const uint8_t[::1] len, const uint32_t[::1] before,
                   Py_ssize_t n, bint drawn) noexcept:
        """Give the first n prefixes back what they had before, in the arrays too if they are drawn."""
        cdef kf_key key
        while n:
            n -= 1
            key = kf_key_of(net[n, 0], net[n, 1])
            restore(&self.rib, key, len[n], before[n])
            if drawn:
                fib_draw(self.fib, &self.rib, key, len[n])

    def update_many(self, networks, prefix_lens, hops, *, mask_host_bits=False):
        """Add prefixes or replace their next hops, many at once.

        Parameters
        ----------
        networks, prefix_lens, hops, mask_host_bits
            As in `from_arrays`.

        Raises
        ------
        AddressError, ValueError, TableFull
            As `from_arrays`. Nothing has changed then.
        """
        keys, lengths = given_columns(networks, prefix_lens, self.family, mask_host_bits)
        hops = hops_given(hops, len(keys))
        if len(keys) >= SORTED:
            order = order_of(keys, lengths)
            keys, lengths, hops = keys[order], lengths[order], hops[order]
        cdef const uint64_t[:, ::1] net = keys
        cdef const uint8_t[::1] length = lengths
        cdef const uint32_t[::1] hop = hops
        cdef Py_ssize_t i = 0, n = net.shape[0]
        cdef uint32_t[::1] before = np.empty(n, np.uint32)
        cdef fib_status status = FIB_DRAWN
        cdef kf_key key
        cdef rib_t* rib = self.rib_mine()
        cdef bint one_by_one = n * REDRAW_SHARE <= rib.count
        if not rib_reserve(rib, n):
            raise MemoryError
        while i < n and status == FIB_DRAWN:
            key = kf_key_of(net[i, 0], net[i, 1])
            before[i] = rib_insert(rib, key, length[i], hop[i])
            if one_by_one and before[i] != hop[i]:
                status = self.draw(key, length[i], before[i])
            i += status == FIB_DRAWN
        if not one_by_one:
            status = fib_redraw(self.fib, rib)
        if status != FIB_DRAWN:
            self.undo(net, length, before, i, one_by_one)
        self.check(status)

    def remove_many(self, networks, prefix_lens, *, mask_host_bits=False):
        """Remove prefixes, many at once.

        Parameters
        ----------
        networks, prefix_lens, mask_host_bits
            As in `from_arrays`.

        Raises
        ------
        KeyError
            A prefix is not in the table, or is given twice. Nothing has changed then.
        AddressError, ValueError
            As `from_arrays`. Nothing has changed then.
        """
        keys, lengths = given_columns(networks, prefix_lens, self.family, mask_host_bits)
        order = order_of(keys, lengths)
        keys, lengths = keys[order], lengths[order]
        cdef const uint64_t[:, ::1] net = keys
        cdef const uint8_t[::1] length = lengths
        cdef Py_ssize_t i, n = net.shape[0]
        cdef uint32_t[::1] before = np.empty(n, np.uint32)
        cdef fib_status status = FIB_DRAWN
        cdef kf_key key
        cdef rib_t* rib = self.rib_mine()
        cdef bint one_by_one = n * REDRAW_SHARE <= rib.count
        for i in range(n):
            key = kf_key_of(net[i, 0], net[i, 1])
            if rib_find(rib, key, length[i]) == RIB_NONE or (
                    i and length[i] == length[i - 1] and key == kf_key_of(net[i - 1, 0], net[i - 1, 1])):
                raise KeyError(text_of(key, length[i], self.family))
        i = 0
        while i < n and status == FIB_DRAWN:
            key = kf_key_of(net[i, 0], net[i, 1])
            before[i] = rib_remove(rib, key, length[i])
            if one_by_one:
                status = self.draw(key, length[i], before[i])
            i += status == FIB_DRAWN
        if not one_by_one:
            status = fib_redraw(self.fib, rib)
        if status != FIB_DRAWN:
            self.undo(net, length, before, i, one_by_one)
        self.check(status)

    def lookup(self, addresses, out=None):
        """Return the next hop of the longest prefix that covers each address.

        Parameters
        ----------
        addresses : ndarray
            IPv4: (N,) uint32, the number of the address, in either byte order (`np.dtype(">u4")` for columns cut out of
            packets). IPv6: (N, 16) uint8, octets in network order; or (N, 2) uint64, or (N,) structured with
            two fields of uint64: the upper and the lower half.
        out : (N,) ndarray of uint32, optional
            Receives the result, and may be an IPv4 `addresses` itself, or overlap it; allocated when omitted.

        Returns
        -------
        (N,) ndarray of uint32
            Next hops, `MISS` where no prefix covers the address.

        Raises
        ------
        ValueError
            For a wrong shape or type.

        Notes
        -----
        The GIL is released for more than a few hundred addresses. Arrays that are contiguous, aligned and in
        the machine's byte order (or octets) are read where they are, others are copied first.
        """
        cdef int kind = kind_of(addresses, self.family)
        if kind == KEYS_OTHER:
            addresses = keys_given(addresses, self.family)
            kind = kind_of(addresses, self.family)
        cdef Py_ssize_t n = cnp.PyArray_DIM(addresses, 0)
        out = checked_out(out, n)
        cdef const char* key = <const char*>cnp.PyArray_DATA(addresses)
        cdef uint32_t* hop = <uint32_t*>cnp.PyArray_DATA(out)
        if (key < <const char*>(hop + n) and <const char*>hop < key + cnp.PyArray_NBYTES(addresses)
                and (self.family == 6 or key != <const char*>hop)):
            addresses = addresses.copy()
            key = <const char*>cnp.PyArray_DATA(addresses)
        cdef const kf_lpm* block = self.fib.arena.block     # one for the whole call
        cdef int epoch
        if n <= BRIEF:
            lookup_keys(block, self.isa_number, kind, key, n, hop)
            return out
        epoch = fib_enter(self.fib)
        with nogil:
            lookup_keys(block, self.isa_number, kind, key, n, hop)
        fib_leave(self.fib, epoch)
        return out

    def lookup_text(self, texts, out=None):
        """Return the next hop for each address in a column of texts.

        Parameters
        ----------
        texts : ndarray of `S`, `U` or objects; object with `__arrow_c_stream__` or `__arrow_c_array__`; iterable
            Addresses as str or bytes, None for a null: also columns of pyarrow, polars and pandas.
        out : (N,) ndarray of uint32, optional
            Receives the result; allocated when omitted.

        Returns
        -------
        hops : (N,) ndarray of uint32
            `MISS` where no prefix covers the address, or there is none.
        ok : (N,) ndarray of bool
            Whether the text is an address of the table's family, exactly as `ipaddress` judges (but no scopes).

        Raises
        ------
        TypeError, ValueError
            For what is no column of texts; for a wrong `out`.

        Notes
        -----
        Blocks of 2,048 texts are parsed and looked up in turn, so that addresses stay in the cache; the GIL is
        released.
        """
        cdef TextColumn column = TextColumn(texts)
        cdef Py_ssize_t n = column.size, at = 0, size, i
        out = checked_out(out, n)
        ok = np.empty(n, np.bool_)
        if n == 0:
            return out, ok
        cdef uint8_t[::1] good = ok.view(np.uint8)
        cdef uint32_t* hop = <uint32_t*>cnp.PyArray_DATA(out)
        cdef int family = self.family, isa = self.isa_number
        cdef uint64_t keys[2 * TEXT_BLOCK]
        cdef const kf_lpm* block = self.fib.arena.block     # one for the whole call
        cdef int epoch = fib_enter(self.fib)
        with nogil:
            while at < n:
                size = min(n - at, <Py_ssize_t>TEXT_BLOCK)
                i = column.parse(family, isa, at, size, <char*>keys, &good[at])
                lookup_keys(block, isa, KEYS_IPV4 if family == 4 else KEYS_OCTETS, <const char*>keys, size, hop + at)
                if i:
                    for i in range(at, at + size):
                        if not good[i]:
                            hop[i] = FIB_MISS
                at += size
        fib_leave(self.fib, epoch)
        return out, ok

    def lookup_all(self, addresses):
        """Return the next hops of all prefixes that cover each address.

        Parameters
        ----------
        addresses : ndarray
            As in `lookup`.

        Returns
        -------
        offsets : (N + 1,) ndarray of int64
            The hops of address i are `hops[offsets[i]:offsets[i + 1]]`.
        hops : (M,) ndarray of uint32
            Of the shortest prefix first.

        Raises
        ------
        ValueError
            For a wrong shape or type.

        Notes
        -----
        It walks the RIB, without the GIL: up to 1 us an address on a full table. Changes by other threads
        happen between blocks of 4,096 addresses.
        """
        cdef uint64_t[:, ::1] keys = key_columns(addresses, self.family, "addresses")
        cdef Py_ssize_t n = keys.shape[0], first = 0, end, i
        offsets = np.zeros(n + 1, np.int64)
        cdef int64_t[::1] offset = offsets
        cdef uint32_t[::1] found = np.empty(min(n, <Py_ssize_t>ALL_BLOCK) * (bits_of(self.family) + 1), np.uint32)
        cdef int64_t total = 0, begin
        parts = []
        while first < n:
            end = min(n, first + ALL_BLOCK)
            self.rib_ready()
            begin = total
            kf_add(&self.reading, 1)
            with nogil:
                for i in range(first, end):
                    total += rib_covering(&self.rib, kf_key_of(keys[i, 0], keys[i, 1]), &found[total - begin])
                    offset[i + 1] = total
                kf_add(&self.reading, -1)
            parts.append(np.array(found[:total - begin]))
            first = end
        return offsets, np.concatenate(parts) if parts else np.empty(0, np.uint32)

    def longest_match(self, address):
        """Return (prefix, hop) of the longest prefix that covers an address (text or int), or None."""
        cdef kf_key key
        key_of(address, self.family, &key)
        cdef rib_t* rib = self.rib_ready()
        cdef uint32_t i = rib_longest(rib, key, rib.bits)
        cdef match_t match
        if i == RIB_NONE:
            return None
        match = match_of(rib, i)
        return text_match(&match, self.family)

    def covering(self, prefix):
        """Return the list of (prefix, hop) of all that cover this prefix, itself too, shortest first."""
        cdef kf_key net
        cdef int length = prefix_of(prefix, self.family, False, &net)
        cdef rib_t* rib = self.rib_ready()
        cdef uint32_t i = rib_longest(rib, net, length)
        cdef match_t match[129]
        cdef int n = 0, k
        while i != RIB_NONE:
            match[n] = match_of(rib, i)
            n += 1
            i = rib_longest(rib, net, rib.node[i].len - 1) if rib.node[i].len else <uint32_t>RIB_NONE
        return [text_match(&match[k], self.family) for k in range(n - 1, -1, -1)]

    def covered(self, prefix):
        """Return the list of (prefix, hop) of all that this prefix covers, itself too, in order."""
        cdef kf_key net
        cdef int length = prefix_of(prefix, self.family, False, &net)
        cdef rib_t* rib = self.rib_ready()
        return self.matches(rib_inside(rib, net, length))

    def to_arrays(self):
        """Return the columns of all prefixes in order of network, then length, as `from_arrays` takes them.

        Returns
        -------
        networks : (N,) ndarray of uint32, or (N, 16) ndarray of uint8
        prefix_lens : (N,) ndarray of uint8
        hops : (N,) ndarray of uint32
        """
        cdef rib_t* rib = self.rib_ready()
        cdef uint64_t[:, ::1] net
        cdef uint8_t[::1] length
        cdef uint32_t[::1] hop
        while True:
            keys, prefix_lens, hops = new_columns(rib.count)
            net, length, hop = keys, prefix_lens, hops
            if net.shape[0] == rib.count:       # no other thread has changed that meanwhile
                break
        take_columns(rib, net, length, hop)
        return addresses_of(keys, self.family), prefix_lens, hops

    def to_bytes(self):
        """Return the table as one position-independent image, as `save` writes it."""
        return bytes(self.image_now())

    def save(self, path):
        """Write the table to a file that `open` maps.

        The file takes the place of an older one in one step: who has that open keeps what it held.

        Parameters
        ----------
        path : str or path-like
            A link is followed; a pipe or a device is written to.

        Raises
        ------
        OSError
            The file cannot be written; an older one is as it was.
        """
        write_image(path, self.image_now())

    @classmethod
    def open(cls, path):
        """Map a file that `save` has written.

        Processes that open the same file share its memory. The table can be changed: the first change draws arrays of
        its own, and the file stays as it is.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            The file cannot be read.
        TableFileError
            It is cut, damaged, of another version, or no table at all.

        Notes
        -----
        The whole file is checked once, some 11 ms for a full table, except the list of its prefixes: what is wrong
        there raises TableFileError when that is asked for first. Who writes into the file afterwards, other than by
        `save`, takes the checks' ground away; a lookup behind where it was cut off ends the process (SIGBUS).
        """
        try:
            return cls.from_buffer(map_image(path))
        except TableFileError as error:
            raise TableFileError(f"{fsdecode(path)}: {error}") from None

    @classmethod
    def from_buffer(cls, image):
        """Make a table of the bytes of a saved one, without copying them if they begin at a multiple of 64.

        Parameters
        ----------
        image : bytes-like
            As `to_bytes` gives it; it must not change as long as the table lives.

        Raises
        ------
        TableFileError
            As `open`.
        """
        cdef const uint8_t[::1] view = aligned(image)
        cdef kf_lpm* block = checked_image(view)
        cdef RouteTable table = cls(family=block.family)
        table.image, table.frozen = view, True
        fib_adopt(table.fib, block)
        return table

    cdef object image_now(self):
        if self.fib.arena.borrowed:
            return memoryview(self.image)
        cdef rib_t* rib = self.rib_ready()
        cdef uint8_t[::1] image
        cdef uint64_t[:, ::1] net
        cdef uint8_t[::1] length
        cdef uint32_t[::1] hop
        cdef uint64_t size
        while True:
            size = self.fib.arena.block.size
            keys, prefix_lens, hops = new_columns(rib.count)
            net, length, hop = keys, prefix_lens, hops
            memory = image_memory(self.fib.arena.block, net.shape[0])
            image = memory
            if net.shape[0] == rib.count and size == self.fib.arena.block.size:     # as it was, and stays so far
                break
        memcpy(&image[0], self.fib.arena.block, size)
        take_columns(rib, net, length, hop)
        return seal_image(memory, (addresses_of(keys, self.family), prefix_lens, hops))

    def copy(self):
        """Return a table of its own with the same routes."""
        return RouteTable.from_arrays(*self.to_arrays(), family=self.family)

    def __reduce_ex__(self, protocol):
        image = self.image_now()
        return RouteTable.from_buffer, (PickleBuffer(image) if protocol >= 5 else bytes(image),)
