"""The bridge's forwarding database as a Python object. Its rows and rules are in `fdb_table`."""

from array import array
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint64_t
from operator import index
from os import urandom

import numpy as np

cimport numpy as cnp

from .address import mac as parse_mac, mac_text
from .batch import PacketBatch
from .errors import AddressError
from .isa import available

from .fdb_table cimport (
    FDB_ANY_PORT, FDB_IS_LOCAL, FDB_NO_PORT, FDB_ROWS_MAX, FDB_STATIC, FDB_STICKY, fdb_export, fdb_find,
    fdb_free, fdb_import, fdb_init, fdb_learn_batch, fdb_lookup_batch, fdb_mac, fdb_nbytes, fdb_new,
    fdb_record_t, fdb_remove, fdb_set,
)

from .frame cimport ETH_DST, ETH_LEN, ETH_SRC, load_mac
from .isa cimport isa_number
from .rows cimport frames_of, frames_t
from .vector cimport vector, vector_data, vector_length, vector_new, vector_size

cnp.import_array()

cdef int64_t NANO = 1_000_000_000
cdef enum:
    CHUNK = 256             # frames whose addresses are read before the first of them is used

AGEING_MAX_S = (2**32 - 1) // 100       # IFLA_BR_AGEING_TIME: 32 bits of USER_HZ

RECORD = np.dtype([("mac", "u8"), ("vlan", "u2"), ("port", "i4"), ("static", "?"), ("local", "?"),
                   ("sticky", "?"), ("moves", "u4"), ("updated", "i8")])
# The same bytes as fdb_record_t: Cython's buffers know no bool.
RECORD_BYTES = np.dtype([(name, "u1" if kind == "|b1" else kind) for name, kind in RECORD.descr])


cdef object bounded(value, low, high, str name):
    number = index(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be in {low}..{high}: {number}")
    return number


cdef int check_length(Py_ssize_t given, Py_ssize_t n, str name) except -1:
    if given != n:
        raise ValueError(f"{name} must have one value for each of the {n} packets: {given}")
    return 0


cdef object column(value, Py_ssize_t n, str typecode, low, high, str name):
    """The array of one value a packet, or one value for all packets as an array of one."""
    if not isinstance(value, np.ndarray):
        return array(typecode, (bounded(value, low, high, name),))
    check_length(len(value), n, name)
    return value


cdef object given(value, str name):
    if value is None:
        raise TypeError(f"{name} is missing: only a PacketBatch has it itself")
    return value


cdef int check_ports(const uint16_t[::1] ports) except -1:
    for i in range(ports.shape[0]):
        if ports[i] == FDB_NO_PORT:
            bounded(ports[i], 0, FDB_NO_PORT - 1, "port")
    return 0


cdef int check_macs(const uint64_t* mac, Py_ssize_t n) except -1:
    cdef uint64_t seen = 0, worst = 0
    cdef Py_ssize_t i
    for i in range(n):
        seen |= mac[i]
    if seen >> 48:
        for i in range(n):
            worst = max(worst, mac[i])
        parse_mac(worst)        # raises, and names it
    return 0


cdef void read_macs(const frames_t* f, Py_ssize_t at, Py_ssize_t n, int where, uint64_t* mac) noexcept nogil:
    """Addresses of n frames; of those that are too short 0, which is nobody's."""
    cdef Py_ssize_t i
    for i in range(n):
        mac[i] = load_mac(f.data + f.offset[at + i] + where) if f.length[at + i] >= ETH_LEN else 0


cdef uint64_t key_of(key) except? 0xFFFFFFFFFFFFFFFF:
    address, vlan = key if isinstance(key, tuple) else (key, 0)
    return fdb_key(parse_mac(address), bounded(vlan, 0, 0xFFFF, "vlan"))


cdef class ForwardingDatabase:
    """The forwarding database of a bridge: (VLAN, MAC) -> port, learned from frames or set by hand.

    It does what Linux's bridge does. A source address is learned at the port it came from and moves at once
    when it shows up at another. A lookup never tests an age: expired entries go when the garbage collection
    runs, 100 ms after `now` for the first time, then whenever the next entry expires, at least 10 ms and at
    most the ageing time later. Multicast and zero addresses are never learned, and neither are the bridge's
    own (`add_local`). Static entries do not age; they move with their station unless they are sticky.

    To the control plane the table is a mapping over all its entries, from a MAC (text or int; VLAN 0) or from
    `(mac, vlan)` to a port; `LOCAL` is the port of a local entry. Assigning makes a static entry. Iteration
    is in order of VLAN and MAC and gives text for VLAN 0, `(text, vlan)` else.

    Parameters
    ----------
    ageing_s : float
        Seconds that a learned entry lives without a frame (BR_DEFAULT_AGEING_TIME); 0: nothing is learned.
    limit : int
        Most learned entries at a time (fdb_max_learned), 0: no limit, as in the kernel. Frames from further
        addresses are counted in `counters["full"]`. Static and local entries do not count.
    seed : int, optional
        Where the secret of the hash comes from, else the operating system. No result depends on it.
    now : int
        Time of creation in ns.
    isa : str, optional
        The variant of `lookup`: "scalar", "avx2" or "avx512"; the best one that this machine has, unless told otherwise
        (`kubenet_fastpath.isa`). All find the same.

    Notes
    -----
    Nothing here reads a clock. Batch calls release the GIL, and calls on one object must not overlap. An
    entry costs 48 bytes and 27 to 53 in the index, which grows a segment at a time; of an entry a lookup reads but one
    cache line.

    Examples
    --------
    >>> fdb = ForwardingDatabase()
    >>> fdb["0a:58:0a:f4:01:07"] = 7
    >>> fdb.learn(np.array([0x0A580AF40108], np.uint64), 8, now=0)
    >>> fdb.lookup(np.array([0x0A580AF40107, 0x0A580AF40108, 0x0A580AF40109], np.uint64))
    array([ 7,  8, -1], dtype=int32)
    >>> list(fdb)
    ['0a:58:0a:f4:01:07', '0a:58:0a:f4:01:08']
    """

    UNKNOWN = FDB_UNKNOWN   #: the port of an address that the table does not hold: flood
    LOCAL = FDB_LOCAL       #: the port of an address of the bridge or of its ports: up to the host

    def __cinit__(self, ageing_s=300, limit=0, seed=None, *, now=0, isa=None):
        self.table = &self.rows
        self.isa_number = isa_number(isa)
        if not 0 <= ageing_s <= AGEING_MAX_S:
            raise ValueError(f"ageing_s must be in 0..{AGEING_MAX_S}: {ageing_s}")
        self.seed, self.created = seed, bounded(now, 0, INT64_MAX, "now")
        secret = int.from_bytes(urandom(8), "little") if seed is None else index(seed) & 0xFFFFFFFFFFFFFFFF
        if not fdb_init(self.table, round(ageing_s * NANO), bounded(limit, 0, FDB_ROWS_MAX, "limit"), secret,
                        self.created):
            raise MemoryError

    def __dealloc__(self):
        fdb_free(&self.rows)

    @property
    def ageing_s(self):
        """Seconds that a learned entry lives without a frame."""
        return self.table.ageing / <double>NANO

    @property
    def isa(self):
        """The variant of `lookup`."""
        return available()[self.isa_number]

    @property
    def limit(self):
        """Most learned entries at a time; 0: no limit."""
        return self.table.limit

    @property
    def n_learned(self):
        """Learned entries now; the others are static or local."""
        return self.table.n_learned

    @property
    def gc_due(self):
        """Time in ns at which the garbage collection runs next."""
        return self.table.gc_due

    @property
    def nbytes(self):
        """Bytes of the table's arrays."""
        return fdb_nbytes(self.table)

    @property
    def counters(self):
        """What has happened since creation: dict of str to int.

        `learned` new entries, `moved` stations, `aged` and `flushed` entries; and frames from which nothing
        was learned: `own_address` (source is local), `bad_source` (multicast or zero), `full` (limit).
        """
        return self.table.counters

    def __len__(self):
        return self.table.count

    def __contains__(self, key):
        return self.get(key) is not None

    def __iter__(self):
        return iter(self.keys())

    def __getitem__(self, key):
        if key not in self:
            raise KeyError(key)
        return self.get(key)

    def __setitem__(self, key, port):
        self.put(key, index(port), FDB_STATIC)

    def __delitem__(self, key):
        cdef uint64_t wanted = key_of(key)
        cdef fdb_entry_t* e = fdb_find(self.table, wanted, fdb_hash(self.table, wanted))
        if e == NULL:
            raise KeyError(key)
        fdb_remove(self.table, e)

    def __repr__(self):
        return f"<ForwardingDatabase: {len(self)} entries, {self.n_learned} of them learned>"

    def get(self, key, default=None):
        """Return the port of an entry, `LOCAL` for a local one, or the default where there is none."""
        cdef uint64_t wanted = key_of(key)
        port = fdb_lookup_hashed(self.table, wanted, fdb_hash(self.table, wanted))
        return default if port == FDB_UNKNOWN else port

    def keys(self):
        """Return the list of the keys, in order of VLAN and MAC."""
        return [key for key, _ in self.items()]

    def items(self):
        """Return the list of (key, port), in order of VLAN and MAC."""
        rows = [(mac_text(mac), vlan, FDB_LOCAL if local else port)
                for mac, vlan, port, _, local, *_ in self.to_records().tolist()]
        return [((mac, vlan) if vlan else mac, port) for mac, vlan, port in rows]

    cdef int put(self, key, port, unsigned flags) except -1:
        """Make the entry of a key what port and flags say, whatever it was."""
        cdef fdb_t* f = self.table
        cdef uint64_t wanted = key_of(key), hash = fdb_hash(f, wanted), mac = fdb_mac(wanted)
        cdef uint16_t number = FDB_NO_PORT if port is None else bounded(port, 0, FDB_NO_PORT - 1, "port")
        cdef fdb_entry_t* e = fdb_find(f, wanted, hash)
        if mac >> 40 & 1 or mac == 0:
            raise AddressError(f"multicast and zero addresses have no entry: {mac_text(mac)}")
        if e == NULL:
            if fdb_new(f, wanted, hash, number, flags, self.created) == NULL:
                raise MemoryError
        else:
            fdb_set(f, e, number, flags)
        return 0

    def add_static(self, mac, port, vlan=0, *, sticky=False):
        """Add an entry that does not age, or make one of the entry that is there.

        A sticky one stays at its port when frames from its address arrive at another.

        Raises
        ------
        AddressError, ValueError
            For a MAC that is none, multicast or zero, a port or VLAN out of range. Nothing has changed then.
        """
        self.put((mac, vlan), index(port), FDB_STATIC | (FDB_STICKY if sticky else 0))

    def add_local(self, mac, port=None, vlan=0):
        """Add an address of the bridge itself, or of one of its ports: frames to it go up to the host.

        With a port, it is that port's own address, and goes when the port is flushed. An entry of another
        kind is replaced. Where the address is local already, the first entry stays, as in the kernel.
        Refuses what `add_static` refuses.
        """
        if self.get((mac, vlan)) != FDB_LOCAL:
            self.put((mac, vlan), port, FDB_STATIC | FDB_IS_LOCAL)

    def lookup(self, mac, vlan=0, *, out=None):
        """Return the port of each address. Expiry is not tested, and nothing changes.

        Parameters
        ----------
        mac : (N,) ndarray of uint64, or PacketBatch
            Destination addresses, first octet highest, below 2**48; or frames, which are read where they lie. A frame of
            less than 14 bytes has none: `UNKNOWN`.
        vlan : int or (N,) ndarray of uint16
        out : (N,) ndarray of int32, optional
            Receives the result; allocated when omitted.

        Returns
        -------
        (N,) ndarray of int32
            A port, `UNKNOWN` (-1) or `LOCAL` (-2).

        Raises
        ------
        AddressError, ValueError
            For a number that is no MAC address, a wrong shape or type.
        """
        if isinstance(mac, PacketBatch):
            return self.frames_lookup(mac, vlan, out)
        mac = vector(mac, cnp.NPY_UINT64, False, "mac")
        cdef Py_ssize_t n = vector_size(mac)
        cdef const uint64_t* macs = <const uint64_t*>vector_data(mac)
        cdef uint16_t one = 0
        cdef const uint16_t* vlans = &one
        cdef bint each = not isinstance(vlan, int)
        if each:
            vlan = vector(vlan, cnp.NPY_UINT16, False, "vlan")
            vector_length(vlan, n, "vlan")
            vlans = <const uint16_t*>vector_data(vlan)
        else:
            one = bounded(vlan, 0, 0xFFFF, "vlan")
        out = vector_new(n, cnp.NPY_INT32) if out is None else vector(out, cnp.NPY_INT32, True, "out")
        vector_length(out, n, "out")
        cdef int32_t* ports = <int32_t*>vector_data(out)
        check_macs(macs, n)
        with nogil:
            fdb_lookup_batch(self.table, self.isa_number, macs, vlans, each, n, ports)
        return out

    cdef object frames_lookup(self, batch, vlan, out):
        cdef frames_t f
        cdef uint64_t mac[CHUNK]
        cdef Py_ssize_t at = 0, size
        held = frames_of(batch, &f)
        cdef const uint16_t[::1] vlans = column(vlan, f.n, "H", 0, 0xFFFF, "vlan")
        cdef bint each = vlans.shape[0] == f.n
        out = vector_new(f.n, cnp.NPY_INT32) if out is None else vector(out, cnp.NPY_INT32, True, "out")
        vector_length(out, f.n, "out")
        cdef int32_t* ports = <int32_t*>vector_data(out)
        with nogil:
            while at < f.n:
                size = min(<Py_ssize_t>CHUNK, f.n - at)
                read_macs(&f, at, size, ETH_DST, mac)
                fdb_lookup_batch(self.table, self.isa_number, mac, &vlans[at if each else 0], each, size, ports + at)
                at += size
        return out

    def learn(self, mac, port=None, now=None, vlan=0):
        """Learn, refresh or move source addresses, in packet order.

        Before each packet the garbage collections run that are due by its time.

        Parameters
        ----------
        mac : (N,) ndarray of uint64, or PacketBatch
            Source addresses, first octet highest, below 2**48; or frames. One of less than 14 bytes teaches nothing.
        port : int or (N,) ndarray of uint16
            Ingress ports, below 65535. A batch's own, unless they are given.
        now : int or (N,) ndarray of int64
            Times of the packets in ns. A batch's own, unless they are given.
        vlan : int or (N,) ndarray of uint16

        Raises
        ------
        AddressError, ValueError
            For a number that is no MAC address or port, a wrong shape or type. Nothing has changed then.
        """
        if isinstance(mac, PacketBatch):
            self.frames_in_order(mac, port, now, vlan, None)
        else:
            self.in_order(given(mac, "mac"), None, given(port, "port"), given(now, "now"), vlan, None)

    def switch(self, src, dst=None, port=None, now=None, vlan=0, *, out=None):
        """Learn the source of each frame as `learn` does, then look its destination up, in packet order.

        Parameters
        ----------
        src, dst : (N,) ndarray of uint64
            Addresses, first octet highest, below 2**48; or `src` alone, a `PacketBatch`.
        port, now, vlan
            As in `learn`.
        out : (N,) ndarray of int32, optional

        Returns
        -------
        (N,) ndarray of int32
            The port behind which each destination is, be it the ingress port; `UNKNOWN` (-1), as for every
            multicast address, or `LOCAL` (-2).

        Notes
        -----
        Refuses what `learn` refuses. A frame from a multicast or zero address teaches nothing and is looked
        up all the same; Linux drops it.
        """
        if isinstance(src, PacketBatch):
            if dst is not None:
                raise TypeError("dst must be omitted: a PacketBatch has both addresses of its frames")
            out = np.empty(len(src), np.int32) if out is None else out
            self.frames_in_order(src, port, now, vlan, out)
            return out
        out = np.empty(len(given(src, "src")), np.int32) if out is None else out
        self.in_order(src, given(dst, "dst"), given(port, "port"), given(now, "now"), vlan, out)
        return out

    cdef object frames_in_order(self, batch, port, now, vlan, out):
        """Learn a batch and, unless `out` is None, look its destinations up."""
        cdef frames_t f
        cdef uint64_t src[CHUNK]
        cdef uint64_t dst[CHUNK]
        cdef Py_ssize_t at = 0, size
        held = frames_of(batch, &f)
        cdef Py_ssize_t n = f.n
        cdef const uint16_t[::1] vlans = column(vlan, n, "H", 0, 0xFFFF, "vlan")
        cdef const uint16_t[::1] ports = column(batch.port if port is None else port, n, "H", 0, FDB_NO_PORT - 1, "port")
        cdef const int64_t[::1] times = column(batch.time if now is None else now, n, "q", -INT64_MAX, INT64_MAX, "now")
        cdef bint each_vlan = vlans.shape[0] == n, each_port = ports.shape[0] == n, each_time = times.shape[0] == n
        cdef int32_t[::1] found = out
        if out is not None:
            check_length(found.shape[0], n, "out")
        check_ports(ports)
        with nogil:
            while at < n:
                size = min(<Py_ssize_t>CHUNK, n - at)
                read_macs(&f, at, size, ETH_SRC, src)
                if found is not None:
                    read_macs(&f, at, size, ETH_DST, dst)
                fdb_learn_batch(self.table, src, dst if found is not None else NULL, &ports[at if each_port else 0], each_port,
                                &vlans[at if each_vlan else 0], each_vlan, &times[at if each_time else 0], each_time, size,
                                &found[at] if found is not None else NULL)
                at += size

    cdef object in_order(self, const uint64_t[::1] src, const uint64_t[::1] dst, port, now, vlan, out):
        cdef Py_ssize_t n = src.shape[0]
        cdef const uint16_t[::1] vlans = column(vlan, n, "H", 0, 0xFFFF, "vlan")
        cdef const uint16_t[::1] ports = column(port, n, "H", 0, FDB_NO_PORT - 1, "port")
        cdef const int64_t[::1] times = column(now, n, "q", -INT64_MAX, INT64_MAX, "now")
        cdef int32_t[::1] found = out
        cdef const uint64_t* wanted = NULL
        cdef int32_t* result = NULL
        if n:
            check_macs(&src[0], n)
        if dst is not None:
            check_length(dst.shape[0], n, "dst")
            check_length(found.shape[0], n, "out")
            if n:
                check_macs(&dst[0], n)
        check_ports(ports)
        if n:
            if dst is not None:
                wanted, result = &dst[0], &found[0]
            with nogil:
                fdb_learn_batch(self.table, &src[0], wanted, &ports[0], ports.shape[0] == n,
                                &vlans[0], vlans.shape[0] == n, &times[0], times.shape[0] == n, n, result)

    def age(self, int64_t now):
        """Run every garbage collection that is due by `now` (ns) and return how many entries went."""
        cdef uint64_t before = self.table.counters.aged
        with nogil:
            fdb_age(self.table, now)
        return self.table.counters.aged - before

    def flush(self, port):
        """Remove all entries of a port, static and local too, as when it leaves the bridge; say how many."""
        return fdb_flush(self.table, bounded(port, 0, FDB_NO_PORT - 1, "port"), True)

    def flush_learned(self, port=None):
        """Remove the learned entries of a port, as when its link goes down, or of all; return how many."""
        only = FDB_ANY_PORT if port is None else bounded(port, 0, FDB_NO_PORT - 1, "port")
        return fdb_flush(self.table, only, False)

    def to_records(self):
        """Return the entries as a structured array, in order of VLAN and MAC.

        Returns
        -------
        (N,) ndarray
            Fields `mac` (uint64), `vlan` (uint16), `port` (int32; -1 where a local address is the bridge's),
            `static`, `local`, `sticky` (bool; local entries are static too, learned ones are neither),
            `moves` (uint32, times the station changed its port) and `updated` (int64, ns of the latest frame
            from the address; the table's creation for an entry set by hand).
        """
        records = np.empty(self.table.count, RECORD)
        cdef fdb_record_t[::1] rows = records.view(RECORD_BYTES)
        if self.table.count:
            fdb_export(self.table, &rows[0])
        return records[np.lexsort((records["mac"], records["vlan"]))]

    def show(self, names=None, bridge="cbr0"):
        """Return the text of `bridge fdb show br BRIDGE`, in order of VLAN and MAC.

        `names` maps ports to device names; a port without one is called `port<N>`.
        """
        text = ""
        for mac, vlan, port, static, local, sticky, *_ in self.to_records().tolist():
            device = bridge if port < 0 else (names or {}).get(port, f"port{port}")
            text += f"{mac_text(mac)} dev {device} " + (f"vlan {vlan} " if vlan else "")
            text += ("sticky " if sticky else "") + f"master {bridge}"
            text += (" permanent" if local else " static" if static else "") + "\n"
        return text

    def __reduce__(self):
        cdef fdb_t* f = self.table
        return restore, ((self.ageing_s, f.limit, self.seed), (self.created, f.ageing, f.gc_due),
                         self.counters, self.to_records())


def restore(arguments, times, counters, records):
    """Make the table that a pickle describes. ValueError: it is damaged."""
    keys = records["mac"] | records["vlan"].astype(np.uint64) << 48
    flags = (records["static"], records["local"], records["sticky"])
    if (not (0 <= times[1] <= AGEING_MAX_S * NANO and 0 <= times[2]) or (records["mac"] >> 48).any()
            or (records["mac"] == 0).any() or (records["mac"] >> 40 & 1).any()      # they have no entries
            or (records["local"] > records["static"]).any() or (records["port"][~records["local"]] < 0).any()
            or (records["vlan"] > 4095).any() or (records["port"] < -1).any() or (records["port"] >= 0xFFFF).any()
            or len(np.unique(keys)) < len(keys) or any((flag.view(np.uint8) > 1).any() for flag in flags)):
        raise ValueError("the state of the ForwardingDatabase is damaged")
    cdef ForwardingDatabase fdb = ForwardingDatabase(*arguments, now=times[0])
    cdef fdb_t* f = fdb.table
    cdef const fdb_record_t[::1] rows = records.view(RECORD_BYTES)
    f.ageing, f.gc_due, f.counters = times[1], times[2], counters
    if len(rows) and not fdb_import(f, &rows[0], len(rows)):
        raise MemoryError
    return fdb
