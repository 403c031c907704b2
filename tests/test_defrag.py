"""`FragmentTable` against a model that looks at every held byte for every fragment."""

import pickle

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from models.defrag import FragmentModel
from test_fragment import LINKS, ipv4

from kubenet_fastpath.fragment_table import Datagram, FragmentFate, FragmentTable

SECOND = 10**9
OPTIONS = [b"", b"\x01\x01\x01\x00", b"\x94\x04\x00\x00" + b"\x01" * 36]
offsets = st.integers(0, 4) | st.sampled_from([0, 8189, 8190, 8191])  # in units of 8 bytes
lengths = st.sampled_from([0, 1, 7, 8, 8, 8, 9, 15, 16, 16, 24]) | st.sampled_from([65504, 65488])


def piece(offset, payload, *, more=True, df=False, **fields):
    """A frame with one fragment; `offset` in bytes."""
    return ipv4(payload, word=offset // 8 | 0x2000 * more | 0x4000 * df, **fields)


class DefragMachine(RuleBasedStateMachine):
    """Drive the table and the model side by side."""

    @initialize(
        timeout=st.sampled_from([0, 2, 30]),
        threshold=st.sampled_from([4 << 20, 4 << 20, 4 << 20, 4000, 0]),
        distance=st.sampled_from([0, 1, 3, 64]),
        seed=st.integers(0, 2**64 - 1),
    )
    def start(self, timeout, threshold, distance, seed):
        self.now, self.sent = 0, []
        self.table = FragmentTable(
            timeout_s=timeout, high_threshold=threshold, max_distance=distance, seed=seed
        )
        self.model = FragmentModel(timeout * SECOND, threshold, distance)

    def add(self, frame, port, user):
        expected = self.model.add(frame, self.now, port, user)
        got = self.table.add(frame + b"pad", self.now, port=port, user=user)
        if isinstance(got, Datagram):
            assert tuple(got) == expected
        else:
            assert got.name == expected

    @rule(
        offset=offsets,
        length=lengths,
        more=st.booleans(),
        df=st.booleans(),
        tos=st.sampled_from([0, 1, 2, 3, 0xE1, 0xE1, 0xE1]),
        options=st.sampled_from(OPTIONS),
        link=st.sampled_from(LINKS),
        identification=st.integers(0, 2),
        port=st.integers(0, 65535),
        user=st.sampled_from([0, 0, 1, 2**64 - 1]),
    )
    def send(self, offset, length, more, df, tos, options, link, identification, port, user):
        if not (offset or more):
            return
        payload = bytes((identification + i) % 251 for i in range(min(length, 65515 - len(options))))
        fields = {"tos": tos, "options": options, "link": link, "identification": identification}
        frame = piece(8 * offset, payload, more=more, df=df, **fields)
        self.sent.append((frame, port, user))
        self.add(frame, port, user)

    @rule(
        sizes=st.lists(st.integers(1, 3) | st.just(8188), min_size=2, max_size=5),
        data=st.data(),
        tail=st.integers(1, 12),
        options=st.sampled_from(OPTIONS),
        ecn=st.sampled_from([(0,), (1, 2), (1, 2, 3), (3,), (0, 1), (0, 3)]),
    )
    def send_a_datagram(self, sizes, data, tail, options, ecn):
        """Fragments that fit together, in any order, some of them twice."""
        parts, at = [], 0
        for i, size in enumerate(sizes):
            last = i + 1 == len(sizes)
            size = tail if last else min(8 * size, 65504 - at)
            if not size or (last and at > 65504):
                continue
            fields = {"df": data.draw(st.booleans()), "tos": data.draw(st.sampled_from(ecn))}
            fields["options"] = options if not at and size < 60000 else b""
            parts.append(piece(at, bytes((at + j) % 251 for j in range(size)), more=not last, **fields))
            at += size
        indexes = range(len(parts))
        twice = st.lists(st.sampled_from(indexes), max_size=2)
        for i in data.draw(st.permutations(indexes)) + data.draw(twice):
            self.add(parts[i], 5, 0)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data):
        self.add(*self.sent[data.draw(st.integers(0, len(self.sent) - 1))])

    @rule(gap=st.sampled_from([1, SECOND, 2 * SECOND - 1, 2 * SECOND, 30 * SECOND]))
    def wait(self, gap):
        self.now += gap
        assert [tuple(queue) for queue in self.table.expire(self.now)] == self.model.expire(self.now)

    @rule(protocol=st.sampled_from([2, 5]))
    def pickle(self, protocol):
        self.table = pickle.loads(pickle.dumps(self.table, protocol))

    @invariant()
    def all_is_counted(self):
        assert len(self.table) == len(self.model.queues)
        assert self.table.held == self.model.held
        assert self.table.memory == self.model.memory
        assert self.table.next_due == self.model.next_due
        assert {fate.name: n for fate, n in self.table.arrived.items() if n} == self.model.arrived
        ended = {fate.name: n for fate, n in self.table.ended.items() if n}
        assert ended == {name: n for name, n in self.model.ended.items() if n}
        assert self.table.arrived[FragmentFate.HELD] == self.table.held + sum(ended.values())


TestDefrag = DefragMachine.TestCase


def fates(table, *frames):
    return [got if isinstance(got := table.add(frame, 0), Datagram) else got.name for frame in frames]


def test_a_datagram_of_65535_bytes_is_whole_and_one_of_65536_is_not():
    table = FragmentTable()
    first = piece(0, bytes(65504))
    *_, whole = fates(table, first, piece(65504, b"x" * 11, more=False))
    assert len(whole.frame) == 14 + 65535
    assert whole.max_size == 65524
    assert fates(table, first, piece(65504, b"x" * 12, more=False)) == ["HELD", "TOO_LONG"]
    assert table.held == table.memory == len(table) == 0


def test_a_repeated_fragment_is_dropped_alone_and_an_overlap_ends_the_datagram():
    table = FragmentTable()
    a, b = piece(0, b"a" * 8), piece(8, b"b" * 8)
    across = piece(0, b"c" * 16)
    assert fates(table, a, a, b, across) == ["HELD", "DUPLICATE", "HELD", "DUPLICATE"]
    assert table.held == 2
    table = FragmentTable()
    assert fates(table, b, a, across) == ["HELD", "HELD", "OVERLAP"]  # in two runs: wrong way round
    assert table.held == 0
    assert table.ended[FragmentFate.OVERLAP] == 2


def test_a_middle_fragment_may_end_where_the_last_one_did():
    table = FragmentTable()
    last, middle = piece(8, b"b" * 8, more=False), piece(8, b"b" * 8)
    assert fates(table, last, middle) == ["HELD", "DUPLICATE"]
    assert fates(table, piece(8, b"b" * 16)) == ["BAD_END"]


def test_datagrams_do_not_mix():
    table = FragmentTable()
    others = [piece(8, b"b", more=False, **differs) for differs in ({"proto": 6}, {"identification": 8})]
    assert fates(table, piece(0, b"a" * 8), *others) == ["HELD"] * 3
    assert table.add(piece(8, b"b", more=False), 0, user=1) == FragmentFate.HELD
    assert len(table) == 4


@pytest.mark.parametrize(
    ("frame_bytes", "charged"), [(256, 640), (257, 1024), (640, 1024), (641, 2048), (1514, 2048)]
)
def test_memory_is_charged_as_the_kernel_does(frame_bytes, charged):
    table = FragmentTable()
    table.add(piece(0, bytes(frame_bytes - 34)), 0)
    assert table.memory == 200 + 256 + charged


@pytest.mark.parametrize(("threshold", "fate"), [(1095, "NO_MEMORY"), (1096, "HELD")])
def test_a_table_over_its_threshold_refuses_new_fragments_only(threshold, fate):
    table = FragmentTable(high_threshold=threshold)
    other = piece(8, b"b", more=False, identification=1)
    assert fates(table, piece(0, b"a" * 8), other) == ["HELD", fate]
    assert table.expire(30 * SECOND)[0].frame == piece(0, b"a" * 8)
    assert table.memory == 0


def test_a_queue_left_behind_by_its_source_starts_anew():
    table = FragmentTable(max_distance=2)
    table.add(piece(0, b"a" * 8, tos=0), 0)
    for identification in (8, 9):
        table.add(piece(0, b"a" * 8, identification=identification), 0)
    again = [table.add(piece(8, b"b", more=False, tos=1), 5), table.add(piece(0, b"a" * 8, tos=1), 6)]
    assert again[0] == FragmentFate.HELD
    assert isinstance(again[1], Datagram)  # the ECN field of the fragment that was given up counts no more
    assert table.ended[FragmentFate.TOO_FAR] == 1
    table.add(piece(0, b"a" * 8), 7)
    for identification in (18, 19):
        table.add(piece(0, b"a" * 8, identification=identification), 8)
    table.add(piece(8, b"b" * 8), 9)  # and its time begins again
    assert [queue.due for queue in table.expire(1 << 62)] == [30 * SECOND + n for n in (0, 0, 8, 8, 9)]


def test_thousands_of_datagrams_in_hostile_order():
    table = FragmentTable(high_threshold=1 << 30, max_distance=0)
    for identification in range(2000):
        assert table.add(piece(8, b"b" * 8, more=False, identification=identification), identification) == 0
    assert len(table) == 2000
    for identification in reversed(range(2000)):
        assert isinstance(table.add(piece(0, b"a" * 8, identification=identification), 2000), Datagram)
    order = [8 * (i * 2731 % 8000) for i in range(8000)]  # every offset once, nowhere near each other
    *held, whole = [table.add(piece(at, at.to_bytes(8, "big"), more=at < 63992), 0) for at in order]
    assert not any(held)
    assert whole.frame[34:] == b"".join(at.to_bytes(8, "big") for at in range(0, 64000, 8))
    assert whole.sizes == (8,) * 8000


NO_FRAGMENTS = [b"", bytes(60), bytes(12) + b"\x08\x00", ipv4(b"whole"), piece(0, b"a" * 8)[:30]]


@pytest.mark.parametrize("frame", NO_FRAGMENTS)
def test_what_is_no_fragment_is_refused(frame):
    table = FragmentTable()
    with pytest.raises(ValueError, match="no valid IPv4 fragment"):
        table.add(frame, 0)
    assert not any(table.arrived.values())


@pytest.mark.parametrize("settings", [{"timeout_s": -1}, {"high_threshold": -1}, {"max_distance": -1}])
def test_the_constructor_rejects(settings):
    with pytest.raises(ValueError, match="must not be negative"):
        FragmentTable(**settings)


@pytest.mark.parametrize(
    ("which", "field", "value"),
    [(0, "l3", 13), (0, "l3", 2**31), (0, "header", 16), (0, "header", 61), (0, "length", 17), (1, "offset", 4),
     (1, "offset", 2**32 - 8), (1, "length", 0), (1, "length", 9), (1, "truesize", 2**31), (1, "append", True)],
)  # fmt: skip
def test_a_damaged_pickle_is_refused(which, field, value):
    table = FragmentTable(seed=1)
    table.add(piece(0, b"a" * 8), 0)
    table.add(piece(16, b"b" * 8), 0)
    function, arguments, state = table.__reduce__()
    rows = state[8].copy()
    rows[field][which] = value
    for changed in (
        (*state[:8], rows, state[9]),
        (*state[:8], state[8][:1], state[9]),
        (*state[:9], state[9][:-1]),
    ):
        with pytest.raises(ValueError, match="damaged"):
            function(*arguments).__setstate__(changed)
    again = function(*arguments)
    again.__setstate__(state)
    assert again.held == 2
