"""Reassembly of IPv4 fragments in plain Python: every held byte range is looked at for every fragment."""

from dataclasses import dataclass, field

QUEUE_BYTES = 200
MERGED_ECN = {  # RFC 3168 5.3: sets of ECN fields that may meet, and what is added to the first one's
    frozenset({0}): 0,
    **{frozenset({3, *others}): 3 for others in ((), (1,), (2,), (1, 2))},
    **{frozenset(others): 0 for others in ((1,), (2,), (1, 2))},
}


def kernel_bytes(frame_bytes):
    """Memory that Linux charges for a frame: an sk_buff, and the smallest of its buffers."""
    buffers = [640] + [2**k for k in range(10, 20)]
    return 256 + next(size for size in buffers if frame_bytes + 64 + 320 <= size)


def header_checksum(header):
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2) if i != 10)
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return (total ^ 0xFFFF).to_bytes(2, "big")


@dataclass
class Fragment:
    """What one frame says."""

    link: bytes
    header: bytes
    payload: bytes
    port: int
    charge: int

    @classmethod
    def parse(cls, frame, port):
        l3 = 14
        while frame[l3 - 2 : l3] in (b"\x81\x00", b"\x88\xa8"):
            l3 += 4
        ip = frame[l3:]
        ip = ip[: int.from_bytes(ip[2:4], "big")]
        n = 4 * (ip[0] & 15)
        return cls(frame[:l3], ip[:n], ip[n:], port, kernel_bytes(l3 + len(ip)))

    @property
    def word(self):
        return int.from_bytes(self.header[6:8], "big")

    @property
    def offset(self):
        return 8 * (self.word & 0x1FFF)

    @property
    def more(self):
        return bool(self.word & 0x2000)

    @property
    def df(self):
        return bool(self.word & 0x4000)

    @property
    def ecn(self):
        return self.header[1] & 3

    @property
    def end(self):
        return self.offset + len(self.payload)

    @property
    def size(self):
        return len(self.header) + len(self.payload)


@dataclass
class Queue:
    due: int
    number: int  # in the order of making, for queues that are due together
    runs: list = field(default_factory=list)  # lists of fragments; only those that came in order share one
    highest: int = 0
    ended: bool = False
    sizes: list = field(default_factory=list)  # every (size, df) seen, also of fragments forgotten since
    port: int = 0  # of the latest
    seen_at: int = 0  # count of the source's fragments at the latest one of this queue

    @property
    def fragments(self):
        return sorted((f for run in self.runs for f in run), key=lambda f: f.offset)


class FragmentModel:
    def __init__(self, timeout, high_threshold, max_distance):
        self.timeout, self.high_threshold, self.max_distance = timeout, high_threshold, max_distance
        self.queues, self.counts, self.made = {}, {}, 0
        self.arrived, self.ended = {}, {}

    @property
    def held(self):
        return sum(len(q.fragments) for q in self.queues.values())

    @property
    def memory(self):
        return sum(QUEUE_BYTES + sum(f.charge for f in q.fragments) for q in self.queues.values())

    @property
    def next_due(self):
        return min((q.due for q in self.queues.values()), default=None)

    def add(self, frame, now, port, user):
        """Return the fate's name, or (frame, sizes, max_size, df) of the datagram."""
        result = self._add(frame, now, port, user)
        name = result if isinstance(result, str) else "WHOLE"
        self.arrived[name] = self.arrived.get(name, 0) + 1
        return result

    def _add(self, frame, now, port, user):
        if not self.high_threshold or self.memory > self.high_threshold:
            return "NO_MEMORY"
        new = Fragment.parse(frame, port)
        key = (new.header[12:20], new.header[4:6], new.header[9], user)
        if key not in self.queues:
            self.queues[key] = self._queue(now)
        q = self.queues[key]
        self._mind_the_distance(q, new.header[12:16], now)
        fate = self._place(q, new)
        if fate == "DUPLICATE":
            return fate
        fragments = q.fragments
        if fate == "HELD" and q.ended and sum(len(f.payload) for f in fragments) == q.highest:
            fate, datagram = self._finish(q, fragments)
            fragments.remove(new)
        elif fate == "HELD":
            return fate
        self._end(key, fate, len(fragments))
        return datagram if fate == "WHOLE" else fate

    def _queue(self, now):
        self.made += 1
        return Queue(now + self.timeout, self.made)

    def _mind_the_distance(self, q, source, now):
        if not self.max_distance:
            return
        others = [other for key, other in self.queues.items() if key[0][:4] == source and other is not q]
        if not others and not q.seen_at:  # nobody remembers the count: only differences matter
            self.counts[source] = 0
        self.counts[source] += 1
        before, q.seen_at = q.seen_at, self.counts[source]
        if q.runs and q.seen_at - before > self.max_distance:
            self._count_ended("TOO_FAR", len(q.fragments))
            self.made += 1
            q.due, q.number = now + self.timeout, self.made
            q.runs, q.highest, q.ended = [], 0, False

    def _place(self, q, new):
        if not new.more:
            if new.end < q.highest or (q.ended and new.end != q.highest):
                return "BAD_END"
            q.ended, q.highest = True, new.end
        else:
            new.payload = new.payload[: len(new.payload) // 8 * 8]
            if new.end > q.highest and q.ended:
                return "BAD_END"
            q.highest = max(q.highest, new.end)
        if not new.payload:
            return "BAD_END"
        wanted = set(range(new.offset, new.end))
        for run in q.runs:
            have = set(range(run[0].offset, run[-1].end))
            if wanted & have:
                return "DUPLICATE" if wanted <= have else "OVERLAP"
        last = max(q.runs, key=lambda run: run[0].offset, default=None)
        if last and last[-1].end == new.offset:
            last.append(new)
        else:
            q.runs.append([new])
        q.sizes.append((new.size, new.df))
        q.port = new.port
        return "HELD"

    def _finish(self, q, fragments):
        ecn = frozenset(f.ecn for f in fragments)
        first = fragments[0]
        total = len(first.header) + q.highest
        if ecn not in MERGED_ECN:
            return "BAD_ECN", None
        if total > 65535:
            return "TOO_LONG", None
        largest = max(size for size, df in q.sizes)
        df = (largest, True) in q.sizes
        header = bytearray(first.header)
        header[1] |= MERGED_ECN[ecn]
        header[2:4] = total.to_bytes(2, "big")
        header[6:8] = b"\x40\x00" if df else b"\x00\x00"
        header[10:12] = header_checksum(header)
        frame = first.link + bytes(header) + b"".join(f.payload for f in fragments)
        return "WHOLE", (frame, tuple(len(f.payload) for f in fragments), largest, df)

    def _count_ended(self, fate, fragments):
        self.ended[fate] = self.ended.get(fate, 0) + fragments

    def _end(self, key, fate, fragments):
        del self.queues[key]
        self._count_ended(fate, fragments)

    def expire(self, now):
        gone = []
        for key, q in sorted(self.queues.items(), key=lambda item: (item[1].due, item[1].number)):
            if q.due <= now:
                fragments = q.fragments
                first = fragments[0] if fragments and fragments[0].offset == 0 else None
                frame = first and first.link + first.header + first.payload
                gone.append((q.due, key[-1], q.port, len(fragments), frame))
                self._end(key, "TIMEOUT", len(fragments))
        return gone
