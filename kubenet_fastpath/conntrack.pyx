"""ConnectionTable: Linux's connection tracking as a table for Python.

The kernels are in the floors below, for pipelines that cimport them; here are the batch verbs over columns,
and what looks at a table from outside. Most of its length is what is said of each verb.
"""

import json
from operator import index

from libc.stdlib cimport calloc, free
from libc.string cimport memset

import numpy as np

cimport numpy as cnp
from cpython.object cimport PyObject

from .address_pool cimport POOL_NONE, pool_intern
from .batch import PacketBatch
from .columns cimport columns_find, columns_t, columns_track
from .connection cimport tuple_t
from .errors import ConfigError, TableFull
from .flowtable cimport EXPIRY_SCTP, CENSUS_KINDS, CENSUS_STATES, ct_bytes, ct_count_ports, ct_probes, ct_watch, ct_init, ct_release, ct_reserve
from .isa cimport isa_number
from .isa import available
from .listed import connections_of, statistics_of
from .listing import connections_named, connections_text, events_text, statistics_text
from .lock import Lock
from .nat cimport RANGE_PORTS, RANGE_RANDOM, nat_range_t
from .records cimport events_take, ports_taken, record_insert, record_known, record_t, records_fill
from .records import ADDRESSES, EVENT, EVENT6, PORTS, PORTS6, RECORD, RECORD6, census_name
from .rows cimport frames_of
from .snapshot cimport restore, snapshot
from .tcp cimport TCPT_COUNT
from .timeouts import Timeouts
from .vector cimport vector, vector_data, vector_length, vector_new, vector_size

cnp.import_array()

cdef enum:
    MOST = (1 << 28) - 1    # connections: their tuples are named by 32 bits (kf_ref)
    MOST_EVENTS = 1 << 24
    KEEP_GIL = 512          # so many tuples are found in the time that another thread takes to be woken

COUNTERS = ("found", "invalid", "error", "insert", "insert_failed", "drop", "early_drop", "clash_resolve",
            "expired")
FILTERS = ("src", "dst", "sport", "dport", "reply_src", "reply_dst", "reply_sport", "reply_dport", "proto",
           "zone", "mark")


TUPLE = np.dtype([("src", "u4"), ("dst", "u4"), ("sport", "u2"), ("dport", "u2"), ("proto", "u1"), ("family", "u1"),
                  ("zone", "u2")])      # tuple_t


cdef inline object rows_of(object value, int kind, Py_ssize_t n, str name):
    array = vector(value, kind, False, name)
    if vector_size(array) != n:
        raise ValueError(f"{name} has {vector_size(array)} rows, src has {n}")
    return array


cdef object times_of(columns_t* c, int64_t* time, now):
    """Point c to the times of its rows, or to the one of all; they live as long as what is given back."""
    if isinstance(now, int):
        time[0] = now
        c.now, c.one_time = time, True
        return now
    now = np.asarray(now)
    if now.dtype != np.int64 or now.shape not in ((), (c.n,)):
        raise ValueError(f"now must be one time or ({c.n},) int64 in ns, not {now.shape} {now.dtype}")
    c.one_time = now.ndim == 0
    now = np.ascontiguousarray(now)
    c.now = <const int64_t*>vector_data(now)
    return now


cdef tuple answer_of(object out, Py_ssize_t n):
    """What a lookup of n tuples fills: indices, and whether they are of answers; the tuple given, if it has both."""
    if type(out) is tuple and len(<tuple>out) == 2:
        conn, reply = <object>(<tuple>out)[0], <object>(<tuple>out)[1]
        vector_length(vector(conn, cnp.NPY_UINT32, True, "out[0]"), n, "out[0]")
        vector_length(vector(reply, cnp.NPY_BOOL, True, "out[1]"), n, "out[1]")
        if cnp.PyArray_CheckExact(conn) and cnp.PyArray_CheckExact(reply):
            return <tuple>out
        return vector(conn, cnp.NPY_UINT32, True, "out[0]"), vector(reply, cnp.NPY_BOOL, True, "out[1]")
    conn = vector_new(n, cnp.NPY_UINT32) if out is None else vector(out, cnp.NPY_UINT32, True, "out")
    vector_length(conn, n, "out")
    return conn, vector_new(n, cnp.NPY_BOOL)


cdef int family_of(int family) except -1:
    if family != 4 and family != 6:
        raise ValueError(f"family must be 4 or 6, not {family}")
    return family


cdef tuple pair_of(object pair, str name):
    try:
        first, last = pair
        return index(first), index(last)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two integers, the first and the last: {pair!r}") from None


cdef int tuples_given(object tuples) except -1:
    """What is not simply an array of `TUPLE`: one of an equal type, or a mistake."""
    if not isinstance(tuples, np.ndarray):
        raise TypeError(f"tuples must be an array of ConnectionTable.TUPLE, not {type(tuples).__name__}")
    if tuples.dtype != TUPLE or tuples.ndim != 1:
        raise ValueError(f"tuples must be a (N,) array of ConnectionTable.TUPLE, not {tuples.shape} {tuples.dtype}")
    if not tuples.flags.c_contiguous:
        raise ValueError("tuples must be contiguous: copy it with np.ascontiguousarray")
    return 0


cdef Py_ssize_t numbered(str text, Py_ssize_t i):
    """The number of the line that the i-th connection of a text is in; empty ones count."""
    return [number for number, line in enumerate(text.splitlines(), 1) if line.strip()][i]


cdef class ConnectionTable:
    """Linux's nf_conntrack: TCP, UDP, ICMP queries, SCTP, GRE, UDP-Lite, and all others by address.

    Parameters
    ----------
    capacity : int
        The most connections held at once (nf_conntrack_max), below 2**28. Memory is taken as they come, about
        180 to 192 bytes each. When full, a new connection evicts a few that are not ASSURED, or is refused.
    timeouts : Timeouts, optional
        Seconds a connection lives without a packet.
    seed : int
        Key of the hash, 0 <= seed < 2**64. Results depend on it only when a full table evicts.
    loose : bool
        Take up TCP connections in the middle (nf_conntrack_tcp_loose).
    liberal : bool
        Take TCP segments outside the windows for valid (nf_conntrack_tcp_be_liberal).
    checksum : bool
        Packets with a wrong checksum are INVALID (nf_conntrack_checksum).
    ignore_invalid_rst : bool
        Take resets with a wrong number for valid (nf_conntrack_tcp_ignore_invalid_rst).
    max_retrans : int
        How often an ACK may come again before `tcp_max_retrans_s` limits the timeout.
    reserve : bool
        Take the memory of a full table at once, so that no packet waits while the system finds and clears pages,
        2 MiB at a time.
    addresses : AddressPool, optional
        Numbers the IPv6 addresses of a node whose table this is: the packets of IPv6 come by the node alone.
    isa : str, optional
        The variant of the lookup: "scalar", "avx2" or "avx512"; the best one that this machine has, unless told otherwise
        (`kubenet_fastpath.isa`). All find the same.

    Raises
    ------
    ConfigError
        An argument is out of range.
    ValueError
        A variant that this machine does not run.

    Notes
    -----
    Time is an argument, and every result is a function of the calls made: a batch is its packets one by one.
    An expired connection is as good as gone; its row is reclaimed by whoever meets it, by a sweep of two rows
    for every new connection, and by `expire`. The index grows a segment at a time: no call waits while a table doubles.
    A restored table finds and counts what the saved one would; when full, it may evict others. Calls of `track`, `masquerade`
    and the lookups must not overlap with others. What inspects and edits (`to_records`, `to_text`, `to_json`, `occupancy`,
    `watch`, `events`, `count_ports`, `ports_in_use`, `delete`, `flush`, `expire`, `load_text`) waits for the lock `guard`: a node's
    table has the node's, so these may be called while other threads forward.

    Examples
    --------
    >>> import numpy as np
    >>> table = ConnectionTable()
    >>> u32, u16 = (lambda x: np.array([x], np.uint32)), (lambda x: np.array([x], np.uint16))
    >>> conn, info = table.track(u32(1), u32(2), u16(40000), u16(53), np.array([17], np.uint8), now=0)
    >>> int(conn[0]), int(info[0]), len(table)
    (0, 2, 1)
    """

    MISS = 0xFFFFFFFF   #: instead of a connection's index
    TUPLE = TUPLE       #: a record of `lookup_tuples`

    def __cinit__(self, capacity=262144, *, timeouts=None, seed=0, loose=True, liberal=False, checksum=True,
                  ignore_invalid_rst=False, max_retrans=3, reserve=False, AddressPool addresses=None, isa=None):
        timeouts = Timeouts() if timeouts is None else timeouts
        if not 1 <= capacity <= MOST:
            raise ConfigError(f"capacity must be 1..{MOST}: {capacity}")
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"seed must be below 2**64: {seed}")
        if not 0 <= max_retrans <= 255:
            raise ConfigError(f"max_retrans must be 0..255: {max_retrans}")
        if not isinstance(timeouts, Timeouts):
            raise TypeError(f"timeouts must be Timeouts, not {type(timeouts).__name__}")
        self.isa_number = isa_number(isa)
        self.guard = Lock()
        self.table = <ct_t*>calloc(1, sizeof(ct_t))
        if (not self.table or not ct_init(self.table, capacity, seed)
                or (reserve and not ct_reserve(self.table))):
            raise MemoryError(f"no memory for {capacity} connections")
        self.timeouts, self.seed, self.rng, self.addresses = timeouts, seed, seed, addresses
        self.table.pool = NULL if addresses is None else &addresses.pool
        cdef ct_t* t = self.table
        cdef int i
        t.checksum, t.tcp.loose, t.tcp.liberal = checksum, loose, liberal
        t.tcp.ignore_invalid_rst, t.tcp.max_retrans = ignore_invalid_rst, max_retrans
        ns = timeouts.nanoseconds()
        for i in range(EXPIRY_SCTP):
            t.timeout[i] = ns[i]
        for i in range(1, TCPT_COUNT):
            t.tcp.timeout[i] = ns[EXPIRY_SCTP + i - 1]
        for i in range(1, 9):
            t.timeout[EXPIRY_SCTP + i] = ns[EXPIRY_SCTP + TCPT_COUNT - 1 + i - 1]

    def __dealloc__(self):
        if self.table:
            ct_release(self.table)
            free(self.table)

    def __len__(self):
        """Connections held, those included that have expired and were not met since."""
        return self.table.count

    def __iter__(self):
        """Iterate over `to_records()`."""
        return iter(self.to_records())

    def __repr__(self):
        return f"<ConnectionTable: {len(self)} of {self.capacity} connections>"

    @property
    def capacity(self):
        """The most connections held at once."""
        return self.table.room

    @property
    def isa(self):
        """The variant of the lookup."""
        return available()[self.isa_number]

    @property
    def loose(self):
        """Whether TCP connections are taken up in the middle."""
        return self.table.tcp.loose != 0

    @property
    def liberal(self):
        """Whether TCP windows are left unchecked."""
        return self.table.tcp.liberal != 0

    @property
    def counters(self):
        """Events since the table was made, by the names of `conntrack -S`, and `expired`: a dict of int."""
        cdef uint64_t* value = <uint64_t*>&self.table.counters
        return {name: value[i] for i, name in enumerate(COUNTERS)}

    @property
    def nbytes(self):
        """Bytes of memory that the table has taken: rows that ever held a connection, each 160, or all of them with
        `reserve`; chains by source, 4 each; the index, 14 to 28 each and a block of 2 MiB; events that are kept."""
        return ct_bytes(self.table)

    def track(self, src, dst=None, sport=None, dport=None, proto=None, now=None, *, length=None, flags=None, seq=None, ack=None, window=None,
              int zone=0):
        """Track packets, in order; a new connection is confirmed at once, without translation.

        Parameters
        ----------
        src, dst : (N,) ndarray of uint32
            IPv4 addresses, host order. `src` may be a `PacketBatch` instead: then its frames say what the columns
            would, its times are `now` unless that is given, and only `zone` may be given besides.
        sport, dport : (N,) ndarray of uint16
            Ports. Of an ICMP query the identifier, and type << 8 | code; an ICMP error is INVALID here, for
            there is nothing that it could quote. Protocols without ports: 0.
        proto : (N,) ndarray of uint8
            IP protocol numbers.
        now : int or (N,) ndarray of int64
            Time of the packets in ns.
        length : (N,) ndarray of uint16, optional
            Bytes of the IPv4 packets, for accounting and TCP sequence numbers; 40 for TCP and 28 otherwise
            when omitted. IPv4 headers count as 20 bytes.
        flags : (N,) ndarray of uint8, optional
            TCP flags as in the header (FIN 1, SYN 2, RST 4, ACK 16); ACK alone when omitted.
        seq, ack, window : (N,) ndarray of uint32, uint32, uint16, optional
            TCP numbers. Without `seq` no window is checked, and flags alone decide.
        zone : int
            Conntrack zone of all packets.

        Returns
        -------
        conn : (N,) ndarray of uint32
            Index of each packet's connection, or `MISS`. It names the connection until that ends; then it
            may name another one.
        info : (N,) ndarray of uint8
            `CtInfo` of each packet.

        Raises
        ------
        ValueError, TypeError
            For columns of different lengths or types. Nothing has changed then.

        Notes
        -----
        SCTP needs the chunks of its packets, so its packets are INVALID in columns.

        Frames are read where they lie: of either family (IPv6 in a table with an address pool), TCP with all its numbers,
        ICMP errors with what they quote, wrong L4 checksums found where the packet is whole. What is not IP or is tagged, a
        fragment, and a header that makes no sense are UNTRACKED, and not counted.
        """
        cdef columns_t c
        cdef int64_t time
        held = self.columns(&c, &time, src, dst, sport, dport, proto, now, zone)
        if c.frames.data != NULL and any(given is not None for given in (length, flags, seq, ack, window)):
            raise TypeError("a PacketBatch has its packets' length, flags, seq, ack and window itself")
        if length is not None:
            length = rows_of(length, cnp.NPY_UINT16, c.n, "length")
            c.length = <const uint16_t*>vector_data(length)
        if flags is not None:
            flags = rows_of(flags, cnp.NPY_UINT8, c.n, "flags")
            c.flags = <const uint8_t*>vector_data(flags)
        if seq is not None:
            seq = rows_of(seq, cnp.NPY_UINT32, c.n, "seq")
            c.seq = <const uint32_t*>vector_data(seq)
        if ack is not None:
            ack = rows_of(ack, cnp.NPY_UINT32, c.n, "ack")
            c.ack = <const uint32_t*>vector_data(ack)
        if window is not None:
            window = rows_of(window, cnp.NPY_UINT16, c.n, "window")
            c.window = <const uint16_t*>vector_data(window)
        conn, info = vector_new(c.n, cnp.NPY_UINT32), vector_new(c.n, cnp.NPY_UINT8)
        cdef uint32_t* conn_out = <uint32_t*>vector_data(conn)
        cdef uint8_t* info_out = <uint8_t*>vector_data(info)
        with nogil:
            columns_track(self.table, &c, conn_out, info_out)
        return conn, info

    def masquerade(self, src, dst=None, sport=None, dport=None, proto=None, now=None, *, address, ports=None, bint random=False, length=None,
                   int zone=0):
        """Track packets, in order, and give new connections another source, as MASQUERADE and SNAT do.

        Parameters
        ----------
        src, dst, sport, dport, proto, now, length, zone
            As for `track`; TCP segments in columns come without numbers and with ACK alone, so they are taken up in the
            middle. Frames of a `PacketBatch` are not rewritten (`Node` does that); IPv6 is UNTRACKED.
        address : int
            The IPv4 address that new connections leave with, host order; or (first, last): of this range always the same
            one for a pair of hosts.
        ports : (int, int), optional
            First and last port (or ICMP identifier) that they may leave with. Without it a port is kept if its answers can
            be told from others', and else searched in its class: 1..511, 600..1023, 1024..65535.
        random : bool
            Search from a random port on (`--random`, `--random-fully`) even if the packet's own were free.

        Returns
        -------
        conn : (N,) ndarray of uint32
            Index of each packet's connection, or `MISS`.
        info : (N,) ndarray of uint8
            `CtInfo` of each packet. DROP: all ports are taken, or the table is full.
        leaves : (N,) structured ndarray of `TUPLE`
            Addresses and ports behind translation, of packets and answers; without a connection, as they came; of a frame
            without a tuple, 0.

        Raises
        ------
        ValueError, TypeError
            For columns of different lengths or types, an address or port out of range. Nothing has changed then.

        Notes
        -----
        The port search is the kernel's (nf_nat_l4proto_unique_tuple); its random numbers come from the seed.

        Examples
        --------
        >>> table = ConnectionTable()
        >>> u32, u16 = (lambda x: np.array([x], np.uint32)), (lambda x: np.array([x], np.uint16))
        >>> _, _, leaves = table.masquerade(u32(1), u32(2), u16(40000), u16(53), np.array([17], np.uint8), now=0, address=9)
        >>> leaves[["src", "sport"]].tolist()
        [(9, 40000)]
        """
        cdef columns_t c
        cdef int64_t time
        cdef nat_range_t chosen
        first, last = pair_of(address, "address") if isinstance(address, (tuple, list)) else (address, address)
        low, high = (0, 0) if ports is None else pair_of(ports, "ports")
        if not 0 < first <= last < 1 << 32:
            raise ValueError(f"address must be above 0 and below 2**32, the first not behind the last: {address}")
        if not 0 <= low <= high < 1 << 16:
            raise ValueError(f"ports must be within 0..65535, the first not behind the last: {ports}")
        held = self.columns(&c, &time, src, dst, sport, dport, proto, now, zone)
        if c.frames.data != NULL and length is not None:
            raise TypeError("a PacketBatch has its packets' length itself")
        if length is not None:
            length = rows_of(length, cnp.NPY_UINT16, c.n, "length")
            c.length = <const uint16_t*>vector_data(length)
        conn, info = vector_new(c.n, cnp.NPY_UINT32), vector_new(c.n, cnp.NPY_UINT8)
        leaves = np.empty(c.n, TUPLE)
        chosen.min_ip, chosen.max_ip, chosen.min_port, chosen.max_port = first, last, low, high
        chosen.flags = (RANGE_PORTS if ports is not None else 0) | (RANGE_RANDOM if random else 0)
        c.range, c.rng, c.leaves = &chosen, &self.rng, <tuple_t*>vector_data(leaves)
        cdef uint32_t* conn_out = <uint32_t*>vector_data(conn)
        cdef uint8_t* info_out = <uint8_t*>vector_data(info)
        with nogil:
            columns_track(self.table, &c, conn_out, info_out)
        return conn, info, leaves

    cdef object columns(self, columns_t* c, int64_t* time, src, dst, sport, dport, proto, now, int zone):
        """Point c to the columns of tuples and their times; they live as long as what is given back."""
        memset(c, 0, sizeof(columns_t))
        if not 0 <= zone < 1 << 16:
            raise ValueError(f"zone must be 0..65535: {zone}")
        c.zone = <uint16_t>zone
        if dst is None:
            return self.frames(c, time, src, sport, dport, proto, now)
        src = vector(src, cnp.NPY_UINT32, False, "src")
        c.n = vector_size(src)
        dst = rows_of(dst, cnp.NPY_UINT32, c.n, "dst")
        sport = rows_of(sport, cnp.NPY_UINT16, c.n, "sport")
        dport = rows_of(dport, cnp.NPY_UINT16, c.n, "dport")
        proto = rows_of(proto, cnp.NPY_UINT8, c.n, "proto")
        now = times_of(c, time, now)
        c.src, c.dst = <const uint32_t*>vector_data(src), <const uint32_t*>vector_data(dst)
        c.sport, c.dport = <const uint16_t*>vector_data(sport), <const uint16_t*>vector_data(dport)
        c.proto = <const uint8_t*>vector_data(proto)
        return src, dst, sport, dport, proto, now

    cdef object frames(self, columns_t* c, int64_t* time, batch, sport, dport, proto, now):
        """The same of a batch."""
        if not isinstance(batch, PacketBatch) or sport is not None or dport is not None or proto is not None:
            raise TypeError(f"takes src, dst, sport, dport, proto and now, or a PacketBatch, not {type(batch).__name__} alone")
        held = frames_of(batch, &c.frames)
        c.n = c.frames.n
        wire = vector(batch.wire_length, cnp.NPY_UINT32, False, "wire_length")
        vector_length(wire, c.n, "wire_length")
        c.wire = <const uint32_t*>vector_data(wire)
        return held, wire, times_of(c, time, batch.time if now is None else now)

    def lookup(self, src, dst=None, sport=None, dport=None, proto=None, now=None, *, int zone=0, out=None):
        """Find the connections that packets with these tuples would belong to; nothing is refreshed.

        Parameters
        ----------
        src, dst, sport, dport, proto
            As for `track`; or a `PacketBatch`, whose frames without a tuple (no IP, tagged, a fragment, a header that makes
            no sense, an IPv6 address that the table does not know) find nothing.
        now : int or (N,) ndarray of int64
            Time in ns; connections that have expired by then are not found. A batch's own, unless it is given.
        zone : int
            Conntrack zone of all tuples.
        out : (N,) ndarray of uint32, optional
            Receives the indices; or a tuple of this and a (N,) ndarray of bool, which receives `reply` too and is what is
            returned: then nothing is allocated.

        Returns
        -------
        conn : (N,) ndarray of uint32
            Index of each connection, or `MISS`.
        reply : (N,) ndarray of bool
            True where the tuple is that of the answers.

        Raises
        ------
        ValueError, TypeError
            For columns of different lengths or types.
        """
        cdef columns_t c
        cdef int64_t time
        held = self.columns(&c, &time, src, dst, sport, dport, proto, now, zone)
        answer = answer_of(out, c.n)
        cdef uint32_t* conn_out = <uint32_t*>vector_data(<object>answer[0])
        cdef uint8_t* reply_out = <uint8_t*>vector_data(<object>answer[1])
        if c.n <= KEEP_GIL:
            columns_find(self.table, self.isa_number, &c, conn_out, reply_out)
        else:
            with nogil:
                columns_find(self.table, self.isa_number, &c, conn_out, reply_out)
        return answer

    def lookup_tuples(self, tuples, now, *, out=None):
        """Find the connections of tuples that are ready as records: `lookup` without the packing of columns.

        Parameters
        ----------
        tuples : (N,) structured ndarray of `TUPLE`
            Sixteen bytes each, host order: `src`, `dst`, `sport`, `dport`, `proto`, `family` and `zone`, as `track` takes
            them. A record whose `family` is not 4 finds nothing.
        now : int or (N,) ndarray of int64
            Time in ns; connections that have expired by then are not found.
        out : (N,) ndarray of uint32, optional
            Receives the indices; or a tuple of this and a (N,) ndarray of bool, which receives `reply` too and is what is
            returned: then nothing is allocated.

        Returns
        -------
        conn : (N,) ndarray of uint32
            Index of each connection, or `MISS`.
        reply : (N,) ndarray of bool
            True where the tuple is that of the answers.

        Raises
        ------
        ValueError, TypeError
            For an array of another shape or type, or that is not contiguous. Nothing has changed then.

        Examples
        --------
        >>> table = ConnectionTable()
        >>> tuples = np.zeros(1, ConnectionTable.TUPLE)
        >>> tuples["family"] = 4
        >>> conn, reply = table.lookup_tuples(tuples, now=0)
        >>> conn[0] == ConnectionTable.MISS
        np.True_
        """
        cdef columns_t c
        cdef int64_t time
        if not (cnp.PyArray_CheckExact(tuples) and <PyObject*>cnp.PyArray_DESCR(tuples) is <PyObject*>TUPLE
                and cnp.PyArray_NDIM(tuples) == 1 and cnp.PyArray_ISCARRAY_RO(tuples)):
            tuples_given(tuples)
        memset(&c, 0, sizeof(columns_t))
        c.n, c.tuple = vector_size(tuples), <const tuple_t*>vector_data(tuples)
        times = times_of(&c, &time, now)
        answer = answer_of(out, c.n)
        cdef uint32_t* conn_out = <uint32_t*>vector_data(<object>answer[0])
        cdef uint8_t* reply_out = <uint8_t*>vector_data(<object>answer[1])
        if c.n <= KEEP_GIL:
            columns_find(self.table, self.isa_number, &c, conn_out, reply_out)
        else:
            with nogil:
                columns_find(self.table, self.isa_number, &c, conn_out, reply_out)
        return answer

    def probes(self, src, dst, sport, dport, proto, *, int zone=0):
        """Return what a lookup of these tuples costs in memory, whether they are there or not; nothing changes.

        Parameters
        ----------
        src, dst, sport, dport, proto, zone
            As for `track`.

        Returns
        -------
        lines : (N,) ndarray of uint32
            Cache lines of the index that it reads: 1 if nothing is in the way.
        rows : (N,) ndarray of uint32
            Connections that it compares with the tuple.

        Raises
        ------
        ValueError, TypeError
            For columns of different lengths or types.
        """
        cdef columns_t c
        cdef int64_t time
        cdef tuple_t tuple
        cdef Py_ssize_t i
        held = self.columns(&c, &time, src, dst, sport, dport, proto, 0, zone)
        lines, rows = vector_new(c.n, cnp.NPY_UINT32), vector_new(c.n, cnp.NPY_UINT32)
        cdef uint32_t* line = <uint32_t*>vector_data(lines)
        cdef uint32_t* row = <uint32_t*>vector_data(rows)
        tuple.family, tuple.zone = 4, c.zone
        for i in range(c.n):
            tuple.src, tuple.dst, tuple.sport, tuple.dport = c.src[i], c.dst[i], c.sport[i], c.dport[i]
            tuple.proto = c.proto[i]
            line[i] = ct_probes(self.table, &tuple, row + i)
        return lines, rows

    def to_records(self, now=None, *, int family=4):
        """Return the connections as a structured array, in the order of their index.

        Parameters
        ----------
        now : int, optional
            Time in ns: only connections alive then, `timeout` is the whole seconds left. Without it, all
            that are held, and `timeout` is 0.
        family : int
            4, or 6: then addresses are fields of 16 bytes, network order.

        Returns
        -------
        (N,) structured ndarray of `RECORD`
            `src`, `dst`, `sport`, `dport`, `proto`, `zone` of the first packet (ICMP: `sport` is the
            identifier, `dport` is type << 8 | code), the same with `reply_` for the answers, `state`
            (`TcpState`, `SctpState`), `status` (`CtStatus`), `mark`, `packets` and `bytes` per direction,
            `created` and `expires` in ns, `masquerade` (index of the interface whose address masks the
            source, 0: none), and `index`, the row.
        """
        with self.guard:
            if family_of(family) == 4:
                return self.rows(now, 4)
            rows = self.rows(now, 6)
            wide = np.empty(len(rows), RECORD6)
            for name in RECORD.names:
                wide[name] = self.addresses.octets(rows[name]) if name in ADDRESSES and len(rows) else (
                    rows[name] if name not in ADDRESSES else 0)
            return wide

    cdef object rows(self, now, int family):
        """Records of one family, or both (0); addresses of IPv6 are handles."""
        cdef int64_t time = 0 if now is None else now
        cdef const int64_t* at = NULL
        if now is not None:
            at = &time
        rows = np.empty(self.table.count, RECORD)
        cdef record_t* r = <record_t*><size_t>rows.ctypes.data
        with nogil:
            n = records_fill(self.table, r, at, family)
        return rows[:n]

    def to_text(self, now, *, extended=False, accounting=True, int family=4):
        """Return what `conntrack -L` prints at `now`, in ns; with `extended`, what `-o extended` adds; without
        `accounting`, no packets and bytes; with `family` 6, `-f ipv6`."""
        return connections_text(self.to_records(now, family=family), extended=extended, accounting=accounting)

    def to_json(self, now=None):
        """Return the connections of both families as a JSON array of objects: the fields of `to_records`, addresses as text,
        states and flags by their names."""
        families = [4] if self.addresses is None else [4, 6]
        with self.guard:        # both families of one moment
            records = [self.to_records(now, family=family) for family in families]
        return json.dumps([row for rows in records for row in connections_named(rows)])

    def occupancy(self):
        """Return how full the table is, in constant time: cheap enough for every batch.

        Returns
        -------
        dict
            `count` and `capacity`, as `len`; `states`: connections by protocol and state ("tcp ESTABLISHED", "udp"), those
            that there are. Expired ones that nobody has met since count.

        Examples
        --------
        >>> table = ConnectionTable(capacity=10)
        >>> u32, u16 = (lambda x: np.array([x], np.uint32)), (lambda x: np.array([x], np.uint16))
        >>> _ = table.track(u32(1), u32(2), u16(40000), u16(53), np.array([17], np.uint8), now=0)
        >>> table.occupancy()
        {'count': 1, 'capacity': 10, 'states': {'udp': 1}}
        """
        cdef ct_t* t = self.table
        with self.guard:
            return {"count": t.count, "capacity": t.room, "states": {census_name(i): t.census[i] for i in range(CENSUS_KINDS * CENSUS_STATES) if t.census[i]}}

    def count_ports(self, bint on=True):
        """Count the ports that source translation has in use, for `ports_in_use`, from now on; or no longer.

        Connections that are there are counted at once; each further one looks into one more table when it begins and when
        it ends, in which a source and destination take 32 to 64 bytes.
        """
        with self.guard:
            done = ct_count_ports(self.table, on)
        if not done:
            raise MemoryError("no memory for ports")

    def ports_in_use(self, *, int family=4, ports=(1024, 65535)):
        """Return the ports that source translation has in use, by what they must be told apart by.

        Parameters
        ----------
        family : int
            4, or 6: then addresses are fields of 16 bytes, network order.
        ports : (int, int)
            First and last port that translation takes, for `left`.

        Returns
        -------
        (N,) structured ndarray of `PORTS`, or `PORTS6`
            `src`, the address that connections leave with, `dst` and `dport` (of ICMP type << 8 | code of the answers),
            `proto`; `used` of the ports or identifiers, `left` of them. Most used first. In time that grows with N alone.

        Raises
        ------
        RuntimeError
            Nobody counts: see `count_ports`.
        ValueError
            For another family, or ports that are no range.
        """
        cdef ct_t* t = self.table
        low, high = pair_of(ports, "ports")
        if not 0 <= low <= high < 1 << 16:
            raise ValueError(f"ports must be 0..65535, the first not behind the last: {ports}")
        with self.guard:
            if t.ports.place == NULL:
                raise RuntimeError("nobody counts ports: call count_ports() first")
            return ports_taken(&t.ports, family_of(family), high - low + 1, self.addresses)

    def watch(self, capacity=65536):
        """Keep events from now on, for `events`: as `conntrack -E` has them, which costs nothing before.

        Parameters
        ----------
        capacity : int
            The most that are kept of both families till `events` is called, at most 2**24, 216 bytes each; 0: nobody watches
            any more. Of a node that is watched every packet takes the full path.

        Raises
        ------
        ValueError
            For a capacity out of range. Nothing has changed then.
        """
        if not 0 <= capacity <= MOST_EVENTS:
            raise ValueError(f"capacity must be 0..{MOST_EVENTS}: {capacity}")
        with self.guard:
            done = ct_watch(self.table, capacity)
        if not done:
            raise MemoryError(f"no memory for {capacity} events")

    @property
    def events_lost(self):
        """Events since `watch` for which there was no room."""
        return self.table.events.lost

    def events(self, *, int family=4):
        """Return a family's events since `watch` or the last call, in their order; there is room for others then.

        Parameters
        ----------
        family : int
            4, or 6: then addresses are fields of 16 bytes, network order. The other family's stay.

        Returns
        -------
        (N,) structured ndarray of `EVENT`, or `EVENT6`
            `time` in ns (of the latest packet or sweep by then), `kind` (`CtEvent`): NEW when a connection is
            confirmed, UPDATE when it is answered, ASSURED or in another state, DESTROY when it ends; and the fields of
            `to_records`, as they were; `timeout` is the whole seconds left at `time`.

        Examples
        --------
        >>> table = ConnectionTable()
        >>> table.watch()
        >>> u32, u16 = (lambda x: np.array([x], np.uint32)), (lambda x: np.array([x], np.uint16))
        >>> _ = table.track(u32(1), u32(2), u16(40000), u16(53), np.array([17], np.uint8), now=0)
        >>> print(table.events_text(table.events(), accounting=False), end="")
            [NEW] udp      17 30 src=0.0.0.1 dst=0.0.0.2 sport=40000 dport=53 [UNREPLIED] src=0.0.0.2 dst=0.0.0.1 sport=53 dport=40000
        """
        with self.guard:
            return events_take(self.table, family_of(family))

    @staticmethod
    def events_text(events, *, accounting=True):
        """Return events as `conntrack -E` prints them; with `accounting`, packets and bytes of those that end."""
        return events_text(events, accounting=accounting)

    def statistics_text(self):
        """Return the line of `conntrack -S`."""
        return statistics_text(self.counters)

    @staticmethod
    def statistics_of(text):
        """Return the sums of what `conntrack -S` has printed of each CPU, by name; a line that is none raises `ValueError`."""
        return statistics_of(text)

    def load_text(self, text, now=0):
        """Enter the connections that `conntrack -L` has printed, as `conntrack -I` does.

        Parameters
        ----------
        text : str
            With or without `-o extended`, packets and bytes; of either family, of IPv6 into a table with an address pool.
        now : int
            Time in ns; timeouts begin then.

        Raises
        ------
        ValueError
            A line is none, or of IPv6 and the table has no addresses, or its connection is there already, by either of
            its tuples, in the table or in an earlier
            line: the message has its number. Nothing has changed then.
        TableFull
            There is no room for all of them. Nothing has changed then.

        Notes
        -----
        What the text does not have is unknown: a TCP connection's windows are taken from the next packets, as
        `nf_conntrack_tcp_loose` takes up a connection.
        """
        found = list(connections_of(text))
        cdef Py_ssize_t i, n = len(found)
        cdef int64_t time = now
        cdef record_t* r
        cdef set seen = set()
        rows, families = np.zeros(n, RECORD), np.zeros(n, np.uint8)
        cdef const uint8_t* family = <const uint8_t*><size_t>families.ctypes.data
        with self.guard:
            for i, fields in enumerate(found):
                tuples = {(fields["family"], fields["proto"], fields["zone"], *(fields[side + name] for name in ("src", "dst", "sport", "dport")))
                          for side in ("", "reply_")}
                if tuples & seen:
                    raise ValueError(f"line {numbered(text, i)} has a tuple of an earlier one")
                seen |= tuples
                if fields["family"] == 6:
                    if self.addresses is None:
                        raise ValueError(f"line {numbered(text, i)} is of IPv6, of which this table has no addresses")
                    fields |= {name: self.handle(fields[name]) for name in ADDRESSES}
                rows[i] = tuple(fields.get(name, 0) for name in RECORD.names)
                families[i] = fields["family"]
            r = <record_t*><size_t>rows.ctypes.data
            for i in range(n):
                if record_known(self.table, r + i, family[i], time):
                    raise ValueError(f"line {numbered(text, i)} has a tuple of a connection that is there already")
            if n > self.table.room - self.table.count:
                raise TableFull(f"{n} connections do not fit beside the {self.table.count} of {self.table.room}")
            for i in range(n):
                if not record_insert(self.table, r + i, family[i], time):
                    raise MemoryError(f"no memory for connection {i} of {n}")

    cdef uint32_t handle(self, address) except? 0xFFFFFFFF:
        cdef bytes octets = int(address).to_bytes(16, "big")
        cdef uint32_t found = pool_intern(&self.addresses.pool, <const uint8_t*>octets)
        if found == POOL_NONE:
            raise MemoryError("no memory for an address")
        return found

    @classmethod
    def from_text(cls, text, now=0, **settings):
        """Return a table of the connections that `conntrack -L` has printed; see `load_text`. `settings` are the
        constructor's."""
        table = cls(**settings)
        table.load_text(text, now)
        return table

    def delete(self, index=None, **fields):
        """End connections (`conntrack -D`).

        Parameters
        ----------
        index : int or (N,) array_like of int, optional
            Rows of those to end; all rows when omitted.
        **fields : int
            Of those, only connections of IPv4, and of them the ones whose fields of `to_records` have these values:
            `src`, `dst`, `sport`,
            `dport`, the same with `reply_`, `proto`, `zone`, `mark`.

        Returns
        -------
        int
            How many were ended.

        Raises
        ------
        TypeError
            For an unknown field, or no argument at all (that is `flush`).
        """
        unknown = [name for name in fields if name not in FILTERS]
        if unknown or (index is None and not fields):
            raise TypeError(f"delete() takes index, {', '.join(FILTERS)}; got {unknown or 'nothing'}")
        with self.guard:
            records = self.rows(None, 4 if fields else 0)
            chosen = np.ones(len(records), np.bool_)
            if index is not None:
                chosen &= np.isin(records["index"], index)
            for name, value in fields.items():
                chosen &= records[name] == value
            for row in records["index"][chosen].tolist():
                ct_kill(self.table, row)
            return int(chosen.sum())

    def flush(self):
        """End all connections; return how many that were."""
        cdef uint32_t i, before
        with self.guard:
            before = self.table.count
            with nogil:
                for i in range(self.table.used):
                    if self.table.row[i].status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED:
                        ct_kill(self.table, i)
            return before - self.table.count

    def expire(self, int64_t now):
        """Reclaim the rows of all connections that have expired by `now` (ns); return how many those were."""
        with self.guard:
            with nogil:
                n = ct_expire(self.table, self.table.used, now)
            return n

    def __reduce__(self):
        return _restore, (self.__getstate__(),)

    def __getstate__(self):
        cdef ct_t* t = self.table
        settings = {
            "capacity": t.room, "timeouts": self.timeouts, "seed": self.seed, "loose": self.loose,
            "liberal": self.liberal, "checksum": t.checksum != 0,
            "ignore_invalid_rst": t.tcp.ignore_invalid_rst != 0, "max_retrans": t.tcp.max_retrans,
        }
        return {"settings": settings, "counters": self.counters, "rng": self.rng, "addresses": self.addresses,
                **snapshot(t)}


def _restore(state):
    """Make a `ConnectionTable` from its state, for pickle."""
    cdef ConnectionTable self = ConnectionTable(**state["settings"], addresses=state.get("addresses"))
    cdef uint64_t* value = <uint64_t*>&self.table.counters
    restore(self.table, state)
    self.rng = state["rng"]
    for i, name in enumerate(COUNTERS):
        value[i] = state["counters"][name]
    return self
