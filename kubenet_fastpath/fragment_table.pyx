"""`FragmentTable`: reassembly of IPv4 fragments from Python."""

from enum import IntEnum
from typing import NamedTuple

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
import numpy as np

from .defrag cimport (
    datagram_t, defrag_add, defrag_expire, defrag_free, defrag_new, defrag_restore, defrag_t, expired_t,
    fragment_fate_t, queue_t,
)
from .fragment cimport ipv4_offset
from .frame cimport IP_FRAG, IP_MF, IP_OFFSET, IP_TOTAL, ipv4_valid, load16
from .reassembly cimport (
    FATE_BAD_ECN, FATE_BAD_END, FATE_DUPLICATE, FATE_HELD, FATE_NO_MEMORY, FATE_OVERLAP, FATE_TIMEOUT,
    FATE_TOO_FAR, FATE_TOO_LONG, FATE_WHOLE, FATES, piece_after, piece_bytes, piece_t, reassembly_restore,
)


class FragmentFate(IntEnum):
    """What becomes of a fragment when it arrives and, but for `HELD`, of one that was held."""

    HELD = FATE_HELD  #: waits for the rest
    WHOLE = FATE_WHOLE  #: completed its datagram; held: went into one
    DUPLICATE = FATE_DUPLICATE  #: its bytes are held already
    OVERLAP = FATE_OVERLAP  #: some of its bytes are held already; the queue dies
    BAD_END = FATE_BAD_END  #: empty, or contradicts where the datagram ends; the queue dies, but of IPv6
    TOO_LONG = FATE_TOO_LONG  #: the datagram exceeds 65535 bytes; the queue dies
    BAD_ECN = FATE_BAD_ECN  #: ECN fields that must not meet (RFC 3168 5.3); the queue dies
    NO_MEMORY = FATE_NO_MEMORY  #: the table is over its threshold
    TOO_FAR = FATE_TOO_FAR  #: too many other fragments of the source came between
    TIMEOUT = FATE_TIMEOUT  #: the rest did not come in time


class Datagram(NamedTuple):
    """A reassembled packet, and how it came."""

    frame: bytes  #: link and IP header of the first fragment, then all payload
    sizes: tuple  #: bytes of payload of each fragment, by offset
    max_size: int  #: IP bytes of the largest fragment
    df: bool  #: whether that one had the don't-fragment bit


class ExpiredQueue(NamedTuple):
    """What never became a datagram."""

    due: int  #: ns
    user: int
    port: int  #: where its latest fragment came in
    fragments: int  #: how many were lost
    frame: object  #: bytes of the first fragment, None if it never came


# the queues of a table, and their pieces in the same order, as they are pickled
_QUEUE = np.dtype([
    ("due", "i8"), ("user", "u8"), ("src", "u4"), ("dst", "u4"), ("rid", "u4"), ("source_rid", "u4"),
    ("len", "u4"), ("pieces", "u4"), ("id", "u2"), ("port", "u2"), ("max_size", "u2"), ("max_df_size", "u2"),
    ("proto", "u1"), ("ecn", "u1"), ("last_in", "?"),
])
_PIECE = np.dtype([
    ("offset", "u4"), ("length", "u4"), ("l3", "u4"), ("header", "u4"), ("truesize", "u4"), ("append", "?"),
])
_NO_PIECE = (0, 0, 0, 0, 0, False)
_MOST_TRUESIZE = 1 << 18  # of a frame of 64 KiB


cdef class FragmentTable:
    """IPv4 fragments that wait until their datagram is whole.

    Parameters
    ----------
    timeout_s : float, default 30
        Seconds from a datagram's first fragment until its fragments are given up (net.ipv4.ipfrag_time).
    high_threshold : int, default 4 MiB
        Memory in the kernel's accounting above which fragments are refused (net.ipv4.ipfrag_high_thresh).
    max_distance : int, default 64
        Fragments of the same source that may come between two of a datagram (net.ipv4.ipfrag_max_dist);
        0: any number.
    seed : int, default 0
        Secret of the hash; it changes no result.

    Raises
    ------
    ValueError
        If a setting is negative.

    Notes
    -----
    `low_thresh` has had no effect in Linux since 4.17 and is not modelled. Memory is counted as Linux does
    for frames in buffers of their own size; a network driver may use larger ones, and be refused earlier.

    A node has another table for IPv6, `Node.fragments6`, which the node alone fills and which is not pickled.
    """

    def __cinit__(self, *, timeout_s=30, high_threshold=4 << 20, max_distance=64, seed=0):
        if timeout_s < 0 or high_threshold < 0 or not 0 <= max_distance < 1 << 31:
            raise ValueError(f"settings must not be negative: {timeout_s}, {high_threshold}, {max_distance}")
        self.table = defrag_new(seed & (1 << 64) - 1)
        if self.table == NULL:
            raise MemoryError
        self.table.timeout = round(timeout_s * 1_000_000_000)
        self.table.high_threshold = high_threshold
        self.table.max_distance = max_distance

    def __dealloc__(self):
        defrag_free(self.table)

    def __len__(self):
        return self.table.queues.used

    @property
    def held(self):
        """Fragments that wait."""
        return self.table.held

    @property
    def memory(self):
        """Bytes in use, in the kernel's accounting."""
        return self.table.memory

    @property
    def next_due(self):
        """When the next queue is given up, in ns; None while nothing is held."""
        return None if self.table.oldest == NULL else self.table.oldest.due

    @property
    def arrived(self):
        """Fragments that arrived, by what became of them then."""
        return {fate: self.table.arrived[<int>fate] for fate in FragmentFate}

    @property
    def ended(self):
        """Fragments that were held, by how that ended: arrived[HELD] is `held` and the sum of these."""
        return {fate: self.table.ended[<int>fate] for fate in FragmentFate}

    def add(self, const uint8_t[::1] frame not None, int64_t now, *, uint16_t port=0, uint64_t user=0):
        """Take a fragment.

        Parameters
        ----------
        frame : bytes-like
            Ethernet frame, with up to two VLAN tags, around a valid IPv4 fragment.
        now : int
            Time in ns. Queues that are due should have been taken by `expire` before.
        port : int, optional
            Where it came in.
        user : int, optional
            Who reassembles; datagrams of two users never mix.

        Returns
        -------
        Datagram or FragmentFate
            The packet that this fragment completes, or what became of the fragment.

        Raises
        ------
        ValueError
            If the frame holds no valid IPv4 fragment. Nothing has changed then.
        """
        cdef uint32_t n = frame.shape[0], l3 = ipv4_offset(&frame[0], n) if n else 0
        cdef const uint8_t* ip = &frame[0] + l3 if l3 else NULL
        cdef datagram_t out
        cdef fragment_fate_t fate
        if ip == NULL or not ipv4_valid(ip, n - l3) or not load16(ip + IP_FRAG) & (IP_MF | IP_OFFSET):
            raise ValueError("frame holds no valid IPv4 fragment")
        fate = defrag_add(self.table, &frame[0], l3, l3 + load16(ip + IP_TOTAL), user, port, now, &out)
        if fate != FATE_WHOLE:
            return FragmentFate(fate)
        sizes = tuple(out.geometry.payload[i] for i in range(out.geometry.fragments))
        return Datagram(out.frame[:out.end], sizes, out.geometry.max_size, bool(out.geometry.df))

    def expire(self, int64_t now):
        """Give up every queue that is due at `now`, in the order of time.

        Returns
        -------
        list of ExpiredQueue
        """
        cdef expired_t out
        gone = []
        while defrag_expire(self.table, now, &out):
            frame = None if out.frame == NULL else out.frame[:out.end]
            gone.append(ExpiredQueue(out.due, out.user, out.port, out.fragments, frame))
        return gone

    def __reduce__(self):
        cdef queue_t* q = self.table.oldest
        cdef piece_t* piece
        cdef uint32_t run, was
        queues, pieces, data = [], [], []
        while q != NULL:
            if q.body.six:
                raise TypeError("a node's IPv6 fragments are not pickled: they know their addresses by its numbers alone")
            queues.append((
                q.due, q.user, q.src, q.dst, q.rid, q.source.rid, q.body.len, q.body.pieces, q.id,
                q.body.port, q.body.max_size, q.body.max_df_size, q.proto, q.body.ecn, bool(q.body.last_in),
            ))
            piece, run = NULL, 0
            while True:
                was = run
                append = piece != NULL and piece.next != NULL
                piece = piece_after(&q.body, piece, &run)
                if piece == NULL:
                    break
                length = piece.l3 + piece.header + piece.length
                pieces.append((piece.offset, piece.length, piece.l3, piece.header, piece.truesize, append))
                data.append(piece_bytes(piece)[:length])
            q = q.newer
        t = self.table
        state = (
            t.timeout, t.high_threshold, t.max_distance, t.secret[0], t.secret[1],
            [t.arrived[i] for i in range(FATES)], [t.ended[i] for i in range(FATES)],
            np.array(queues, _QUEUE), np.array(pieces, _PIECE), np.frombuffer(b"".join(data), np.uint8),
        )
        return FragmentTable, (), state

    def __setstate__(self, state):
        cdef defrag_t* t = self.table
        cdef queue_t* q
        cdef const uint8_t[::1] data = state[9]
        cdef Py_ssize_t at = 0, size
        if t.queues.used:
            raise ValueError("only a new table takes a state")
        t.timeout, t.high_threshold, t.max_distance, t.secret[0], t.secret[1] = state[:5]
        for i in range(FATES):
            t.arrived[i], t.ended[i] = state[5][i], state[6][i]
        pieces = iter(state[8].tolist())
        for (due, user, src, dst, rid, source_rid, len_, n, id, port, max_size, max_df_size, proto, ecn,
             last_in) in state[7].tolist():
            q = defrag_restore(t, src, dst, id, proto, user, due)
            if q == NULL:
                raise MemoryError
            q.rid, q.source.rid = rid, source_rid
            q.body.len, q.body.port, q.body.ecn, q.body.last_in = len_, port, ecn, last_in
            q.body.max_size, q.body.max_df_size = max_size, max_df_size
            end = 0
            for _ in range(n):
                offset, length, l3, header, truesize, append = next(pieces, _NO_PIECE)
                size = l3 + header + length
                # what reassembly relies on: payload, in order, no byte twice, none behind the end
                if (not 0 < length <= len_ - offset or offset < end or (append and offset != end)
                        or at + size > data.shape[0] or truesize > _MOST_TRUESIZE
                        or (offset == 0 and not (14 <= l3 <= 64 and 20 <= header <= 60 and header % 4 == 0))):
                    raise ValueError("the state of the FragmentTable is damaged")
                end = offset + length
                if reassembly_restore(&q.body, &data[at], l3, header, offset, length, truesize,
                                      append) == NULL:
                    raise MemoryError
                at += size
            t.memory += q.body.memory
            t.held += n
