"""Routes as a Python object: the RIB (`rib`) is the truth, the arrays of `fib_trie` are drawn from it."""

from libc.stdint cimport uint8_t, uint32_t
from operator import index

import numpy as np

from .address import ipv4, ipv4_prefix, prefix_text
from .errors import AddressError

from .fib_trie cimport fib_draw, fib_free, fib_init, fib_lookup_batch, fib_nbytes, fib_redraw, fib_reserve
from .rib cimport (
    RIB_NONE, prefix_mask, rib_find, rib_free, rib_init, rib_insert, rib_inside, rib_longest, rib_next,
    rib_remove, rib_reserve, rib_walk, rib_walk_t,
)

cdef enum: REDRAW_SHARE = 8     # an update of more than 1/8 of the prefixes draws everything again
cdef object HOPS = <uint32_t>FIB_MISS


cdef object hop_given(hop):
    number = index(hop)
    if not 0 <= number < HOPS:
        raise ValueError(f"a next hop must be in 0..{HOPS - 1}: {number}")
    return number


cdef object prefix_given(prefix):
    """(network, length) of a prefix as text, as (network, length) or as `ipaddress` has it."""
    return ipv4_prefix(prefix_text(*prefix) if isinstance(prefix, tuple) else prefix)


cdef object columns_checked(const uint32_t[::1] net, const uint8_t[::1] len, bint mask_host_bits):
    """The networks, without host bits; refuses columns that are no prefixes."""
    cdef Py_ssize_t i
    cdef uint32_t[::1] masked
    if len.shape[0] != net.shape[0]:
        raise ValueError(f"networks and prefix_lens differ in length: {net.shape[0]}, {len.shape[0]}")
    result = np.array(net)
    masked = result
    for i in range(net.shape[0]):
        if len[i] > 32:
            raise AddressError(f"not a prefix length: {len[i]} at {i}")
        masked[i] &= prefix_mask(len[i])
        if masked[i] != net[i] and not mask_host_bits:
            prefix_text(net[i], len[i])     # raises, and names it
    return result


cdef class RouteTable:
    """IPv4 routes: longest-prefix match from destination to next hop.

    To the control plane the table is a mapping from prefixes to next hops, any integer below 2**32 - 1 whose
    meaning is the caller's. A prefix is text (`"10.244.1.0/24"`; an address alone is a /32), a pair
    `(network, length)` or an `ipaddress.IPv4Network`; bits set behind the length are refused. Iteration is in
    order of network, then length, and gives text. To the data plane it is `lookup`.

    Parameters
    ----------
    routes : mapping of prefix to int, optional
        What the table holds at first.

    Notes
    -----
    A lookup reads one to three slots of the arrays, which `engine` names. A single change touches the slots
    that it decides and no others: after a removal they hold the next hop of the covering prefix, or `MISS`.
    Changes hold the GIL, `lookup` releases it; while another thread changes the table, each address is
    answered from before or after each single change, in one call some from before and some from after.

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

    def __cinit__(self, routes=None):
        self.fib = &self.arrays
        if not rib_init(&self.rib) or not fib_init(self.fib, &self.rib):
            raise MemoryError

    def __init__(self, routes=None):
        if routes:
            prefixes = [prefix_given(prefix) for prefix in routes]
            self.update_many(np.array([net for net, _ in prefixes], np.uint32),
                             np.array([length for _, length in prefixes], np.uint8),
                             np.array([hop_given(hop) for hop in routes.values()], np.uint32))

    def __dealloc__(self):
        fib_free(&self.arrays)
        rib_free(&self.rib)

    @classmethod
    def from_arrays(cls, networks, prefix_lens, hops, *, mask_host_bits=False):
        """Make a table from columns.

        Parameters
        ----------
        networks : (N,) ndarray of uint32
            Networks in host order.
        prefix_lens : (N,) ndarray of uint8
            0..32.
        hops : (N,) ndarray of uint32
            Next hops, below 2**32 - 1. Of equal prefixes the last wins.
        mask_host_bits : bool
            Clear bits that are set behind the prefix length, instead of refusing them.

        Raises
        ------
        AddressError, ValueError
            For what is no prefix; for a hop that is `MISS`; for a wrong shape or type.
        """
        table = cls()
        table.update_many(networks, prefix_lens, hops, mask_host_bits=mask_host_bits)
        return table

    @classmethod
    def from_text(cls, source, *, mask_host_bits=False):
        """Make a table from lines `PREFIX` or `PREFIX HOP`; empty lines and what follows a `#` are skipped.

        Parameters
        ----------
        source : str or iterable of str
            The text, or its lines: an open file will do. A line without a hop gets the number of prefixes
            before it. Of equal prefixes the last wins.
        mask_host_bits : bool
            Clear bits that are set behind the prefix length, instead of refusing them.

        Raises
        ------
        AddressError, ValueError
            For a line that is not of this form, by its number.
        """
        networks, prefix_lens, hops = [], [], []
        for number, line in enumerate(source.splitlines() if isinstance(source, str) else source, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            try:
                if len(words) > 2:
                    raise ValueError(f"not PREFIX or PREFIX HOP: {line.strip()!r}")
                network, length = ipv4_prefix(words[0], mask_host_bits=mask_host_bits)
                hops.append(hop_given(int(words[1]) if len(words) == 2 else len(hops)))
            except ValueError as error:
                raise type(error)(f"line {number}: {error}") from None
            networks.append(network)
            prefix_lens.append(length)
        return cls.from_arrays(np.array(networks, np.uint32), np.array(prefix_lens, np.uint8),
                               np.array(hops, np.uint32))

    @property
    def engine(self):
        """Name of the lookup arrays: bits that each level resolves."""
        return "16-8-8"

    @property
    def nbytes(self):
        """Bytes of the lookup arrays; the RIB has about 32 for each prefix besides."""
        return fib_nbytes(self.fib)

    def __len__(self):
        return self.rib.count

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
        net, length = prefix_given(prefix)
        self.put(net, length, hop_given(hop))

    def __delitem__(self, prefix):
        net, length = prefix_given(prefix)
        if not self.drop(net, length):
            raise KeyError(prefix)

    def __repr__(self):
        return f"<RouteTable: {len(self)} prefixes, {self.engine}>"

    def get(self, prefix, default=None):
        """Return the next hop of exactly this prefix, or the default where the table does not hold it."""
        net, length = prefix_given(prefix)
        cdef uint32_t i = rib_find(&self.rib, net, length)
        return default if i == RIB_NONE else self.rib.node[i].hop

    def keys(self):
        """Return the list of the prefixes as text, in order of network, then length."""
        return [prefix for prefix, _ in self.items()]

    def items(self):
        """Return the list of (prefix, hop), in order of network, then length."""
        return self.matches(0)

    cdef object matches(self, uint32_t top):
        cdef rib_walk_t walk
        cdef uint32_t i
        found = []
        rib_walk(&walk, top)
        while True:
            i = rib_next(&walk, &self.rib)
            if i == RIB_NONE:
                return found
            found.append(self.match(i))

    cdef object match(self, uint32_t i):
        return prefix_text(self.rib.node[i].net, self.rib.node[i].len), self.rib.node[i].hop

    cdef int put(self, uint32_t net, uint8_t len, uint32_t hop) except -1:
        if not rib_reserve(&self.rib, 1) or not fib_reserve(self.fib, &self.rib, hop):
            raise MemoryError
        rib_insert(&self.rib, net, len, hop)
        fib_draw(self.fib, &self.rib, net, len)
        return 0

    cdef bint drop(self, uint32_t net, uint8_t len) except -1:
        if not rib_remove(&self.rib, net, len):
            return False
        fib_draw(self.fib, &self.rib, net, len)
        return True

    def update_many(self, const uint32_t[::1] networks not None, const uint8_t[::1] prefix_lens not None,
                    const uint32_t[::1] hops not None, *, mask_host_bits=False):
        """Add prefixes or replace their next hops.

        Parameters
        ----------
        networks, prefix_lens, hops, mask_host_bits
            As in `from_arrays`.

        Raises
        ------
        AddressError, ValueError
            As `from_arrays`. Nothing has changed then.
        """
        cdef const uint32_t[::1] net = columns_checked(networks, prefix_lens, mask_host_bits)
        cdef Py_ssize_t i, n = net.shape[0]
        if hops.shape[0] != n:
            raise ValueError(f"hops must have shape ({n},): ({hops.shape[0]},)")
        for i in range(n):
            if hops[i] == FIB_MISS:
                hop_given(hops[i])
        if n * REDRAW_SHARE <= self.rib.count:
            for i in range(n):
                self.put(net[i], prefix_lens[i], hops[i])
            return
        if not rib_reserve(&self.rib, n):
            raise MemoryError
        for i in range(n):
            rib_insert(&self.rib, net[i], prefix_lens[i], hops[i])
        if not fib_redraw(self.fib, &self.rib):
            raise MemoryError

    def remove_many(self, const uint32_t[::1] networks not None, const uint8_t[::1] prefix_lens not None, *,
                    mask_host_bits=False):
        """Remove prefixes.

        Parameters
        ----------
        networks, prefix_lens, mask_host_bits
            As in `from_arrays`.

        Raises
        ------
        KeyError
            A prefix is not in the table. Nothing has changed then.
        AddressError, ValueError
            As `from_arrays`. Nothing has changed then.
        """
        cdef const uint32_t[::1] net = columns_checked(networks, prefix_lens, mask_host_bits)
        cdef Py_ssize_t i, n = net.shape[0]
        for i in range(n):
            if rib_find(&self.rib, net[i], prefix_lens[i]) == RIB_NONE:
                raise KeyError(prefix_text(net[i], prefix_lens[i]))
        if n * REDRAW_SHARE <= self.rib.count:
            for i in range(n):
                self.drop(net[i], prefix_lens[i])
            return
        for i in range(n):
            rib_remove(&self.rib, net[i], prefix_lens[i])
        if not fib_redraw(self.fib, &self.rib):
            raise MemoryError

    def lookup(self, const uint32_t[::1] dst not None, out=None):
        """Return the next hop of the longest prefix that covers each address.

        Parameters
        ----------
        dst : (N,) ndarray of uint32
            Addresses in host order.
        out : (N,) ndarray of uint32, optional
            Receives the result, and may be `dst` itself; allocated when omitted.

        Returns
        -------
        (N,) ndarray of uint32
            Next hops, `MISS` where no prefix covers the address.

        Raises
        ------
        ValueError
            For a wrong shape or type.
        """
        cdef Py_ssize_t n = dst.shape[0]
        out = np.empty(n, np.uint32) if out is None else out
        cdef uint32_t[::1] hop = out
        cdef const uint32_t* slot
        cdef int epoch
        if hop.shape[0] != n:
            raise ValueError(f"out must have shape ({n},): ({hop.shape[0]},)")
        if n:
            epoch = fib_enter(self.fib)
            slot = self.fib.block.slot      # one block for the whole call
            with nogil:
                fib_lookup_batch(slot, &dst[0], n, &hop[0])
            fib_leave(self.fib, epoch)
        return out

    def longest_match(self, address):
        """Return (prefix, hop) of the longest prefix that covers an address (text or int), or None."""
        cdef uint32_t i = rib_longest(&self.rib, ipv4(address), 32)
        return None if i == RIB_NONE else self.match(i)

    def covering(self, prefix):
        """Return the list of (prefix, hop) of all that cover this prefix, itself too, shortest first."""
        net, length = prefix_given(prefix)
        found = []
        cdef uint32_t i = rib_longest(&self.rib, net, length)
        while i != RIB_NONE:
            found.append(self.match(i))
            i = rib_longest(&self.rib, net, self.rib.node[i].len - 1) if self.rib.node[i].len else RIB_NONE
        return found[::-1]

    def covered(self, prefix):
        """Return the list of (prefix, hop) of all that this prefix covers, itself too, in order."""
        net, length = prefix_given(prefix)
        return self.matches(rib_inside(&self.rib, net, length))

    def to_arrays(self):
        """Return the columns of all prefixes in order, as `from_arrays` takes them.

        Returns
        -------
        (N,) ndarray of uint32, (N,) ndarray of uint8, (N,) ndarray of uint32
        """
        cdef Py_ssize_t n = self.rib.count, k
        networks, prefix_lens, hops = np.empty(n, np.uint32), np.empty(n, np.uint8), np.empty(n, np.uint32)
        cdef uint32_t[::1] net = networks
        cdef uint8_t[::1] len = prefix_lens
        cdef uint32_t[::1] hop = hops
        cdef rib_walk_t walk
        cdef uint32_t i
        rib_walk(&walk, 0)
        for k in range(n):
            i = rib_next(&walk, &self.rib)
            net[k], len[k], hop[k] = self.rib.node[i].net, self.rib.node[i].len, self.rib.node[i].hop
        return networks, prefix_lens, hops

    def __reduce__(self):
        return RouteTable.from_arrays, self.to_arrays()
