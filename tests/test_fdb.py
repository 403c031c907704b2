"""`ForwardingDatabase` against a dict that ages as the kernel's does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from models.fdb import LOCAL, MS, Entry, Fdb

import kubenet_fastpath as kf

SECOND = 10**9
MACS = [0x0A580AF40101, 0x0A580AF40102, 0x0A580AF40103, 0x020000000001, 0, 0x01005E000001, 0xFFFFFFFFFFFF]
macs = st.sampled_from(MACS)
ports = st.integers(0, 3)
gaps = st.sampled_from(
    [0, 1, 10 * MS - 1, 10 * MS, 100 * MS, 2 * SECOND - 1, 2 * SECOND, 2 * SECOND + 1, 5 * SECOND]
)
frames = st.lists(st.tuples(macs, macs, ports, gaps), max_size=10)


def column(values: list[int], kind: type) -> np.ndarray:
    return np.array(values, kind)


class FdbMachine(RuleBasedStateMachine):
    """Table and model see the same frames at the same times."""

    @initialize(ageing=st.sampled_from([2, 2, 2, 300, 0]), limit=st.sampled_from([0, 0, 2]))
    def start(self, ageing: int, limit: int) -> None:
        self.now = 10**18
        self.table = kf.ForwardingDatabase(ageing, limit, seed=1, now=self.now)
        self.model = Fdb(ageing * SECOND, limit, self.now)

    @rule(batch=frames)
    def switch(self, batch: list[tuple[int, int, int, int]]) -> None:
        times, want = [], []
        for src, dst, port, gap in batch:
            self.now += gap
            times.append(self.now)
            self.model.learn(src, port, self.now)
            want.append(self.model.lookup(dst))
        src, dst, port, _ = zip(*batch, strict=True) if batch else ((), (), (), ())
        got = self.table.switch(
            column(src, np.uint64), column(dst, np.uint64), column(port, np.uint16), column(times, np.int64)
        )
        assert got.tolist() == want

    @rule(mac=macs, port=ports, gap=gaps)
    def learn(self, mac: int, port: int, gap: int) -> None:
        self.now += gap
        self.table.learn(column([mac], np.uint64), port, self.now)
        self.model.learn(mac, port, self.now)

    @rule(gap=gaps)
    def wait(self, gap: int) -> None:
        self.now += gap
        self.table.age(self.now)
        self.model.age(self.now)

    @rule(mac=st.sampled_from(MACS[:4]), port=ports, sticky=st.booleans())
    def set_by_hand(self, mac: int, port: int, sticky: bool) -> None:
        self.table.add_static(mac, port, sticky=sticky)
        entry = self.model.entries.get(mac)
        updated = self.model.created if entry is None else entry.updated
        self.model.entries[mac] = Entry(port, updated, static=True, sticky=sticky)

    @rule(port=ports)
    def unplug(self, port: int) -> None:
        self.table.flush(port)
        self.model.flush(port)

    @rule(mac=macs)
    def forget(self, mac: int) -> None:
        if mac in self.model.entries:
            del self.table[mac]
            del self.model.entries[mac]
        else:
            with pytest.raises(KeyError):
                del self.table[mac]

    @rule()
    def keep(self) -> None:
        self.table = pickle.loads(pickle.dumps(self.table, protocol=5))

    @invariant()
    def alike(self) -> None:
        records = self.table.to_records()
        got = {int(r["mac"]): (int(r["port"]), int(r["updated"]), bool(r["static"])) for r in records}
        assert got == {mac: (e.port, e.updated, e.static) for mac, e in self.model.entries.items()}
        assert self.table.gc_due == self.model.due
        assert self.table.n_learned == len(self.model.learned())


TestFdb = FdbMachine.TestCase


@given(frames, st.integers(0, 10))
def test_a_batch_is_its_frames_one_by_one(batch: list[tuple[int, int, int, int]], cut: int) -> None:
    whole, split = (kf.ForwardingDatabase(2, seed=1, now=0) for _ in range(2))
    times = np.cumsum([gap for *_, gap in batch], dtype=np.int64)
    src, dst, port, _ = zip(*batch, strict=True) if batch else ((), (), (), ())
    columns = column(src, np.uint64), column(dst, np.uint64), column(port, np.uint16), times
    parts = [split.switch(*(c[part] for c in columns)) for part in (slice(0, cut), slice(cut, None))]
    assert whole.switch(*columns).tolist() == np.concatenate(parts).tolist()
    assert whole.to_records().tolist() == split.to_records().tolist()
    assert whole.counters == split.counters


def test_local_addresses_are_the_hosts() -> None:
    fdb = kf.ForwardingDatabase(seed=1)
    fdb.add_local("0a:58:0a:f4:01:01")
    fdb.learn(column([0x0A580AF40101], np.uint64), 2, now=5)
    assert fdb.lookup(column([0x0A580AF40101], np.uint64)).tolist() == [LOCAL]
    assert fdb["0a:58:0a:f4:01:01"] == kf.ForwardingDatabase.LOCAL


def test_expired_entries_are_found_until_the_collection() -> None:
    fdb = kf.ForwardingDatabase(1, seed=1, now=0)
    mac = column([MACS[0]], np.uint64)
    fdb.learn(mac, 2, now=SECOND // 2)
    fdb.age(SECOND + SECOND // 2 - 1)
    assert fdb.lookup(mac).tolist() == [2]
    fdb.age(SECOND + SECOND // 2 + 100 * MS)
    assert fdb.lookup(mac).tolist() == [-1]


@pytest.mark.parametrize(
    "call",
    [
        lambda fdb: fdb.__setitem__("no mac", 1),
        lambda fdb: fdb.__setitem__("0a:58:0a:f4:01:01", -7),
        lambda fdb: fdb.learn(column([1 << 48], np.uint64), 1, 0),
        lambda fdb: fdb.learn(column([2, 4], np.uint64), column([1], np.uint16), 0),
        lambda fdb: fdb.lookup(column([1], np.uint64), out=np.zeros(2, np.int32)),
        lambda fdb: fdb.__delitem__("0a:58:0a:f4:01:09"),
    ],
)
def test_a_refused_call_changes_nothing(call: object) -> None:
    fdb = kf.ForwardingDatabase(seed=1)
    fdb["0a:58:0a:f4:01:02"] = 3
    before = fdb.to_records().tolist()
    with pytest.raises((ValueError, KeyError, TypeError, OverflowError)):
        call(fdb)
    assert fdb.to_records().tolist() == before


@given(st.integers(0, 3), st.integers(0, 700), st.integers(0, 700), st.integers(0, 2000))
def test_collections_long_overdue(ageing: int, first: int, second: int, late: int) -> None:
    """As no call leaves a table behind, but a pickle may say: the entries are far younger than the next collection."""
    fdb, model = kf.ForwardingDatabase(ageing, seed=1, now=0), Fdb(ageing * SECOND, 0, 0)
    function, (arguments, times, counters, records) = fdb.__reduce__()
    rows = np.zeros(2, records.dtype)
    rows["mac"], rows["port"], rows["updated"] = (2, 4), 1, (first * SECOND, second * SECOND + 7 * MS)
    model.entries = {int(row["mac"]): Entry(1, int(row["updated"])) for row in rows}
    made = function(arguments, times, counters, rows)
    now = max(first, second) * SECOND + late * MS
    made.age(now)
    model.age(now)
    assert {int(mac) for mac in made.to_records()["mac"]} == set(model.entries)
    assert made.gc_due == model.due


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("mac", 1 << 48),
        ("mac", 0xFFFFFFFFFFFFFFFF),
        ("mac", 4),
        ("mac", 0),
        ("mac", 0x01005E000001),
        ("vlan", 4096),
        ("port", -2),
        ("port", -1),
        ("port", 0xFFFF),
        ("port", 1 << 16),
    ],
)
def test_a_damaged_pickle_is_refused(column: str, value: int) -> None:
    fdb = kf.ForwardingDatabase(seed=1)
    fdb["0a:58:0a:f4:01:02"], fdb["00:00:00:00:00:04"] = 3, 5
    function, (arguments, times, counters, records) = fdb.__reduce__()
    for wrong in ((times[0], -1, times[2]), (times[0], times[1], -1), (times[0], 1 << 62, times[2])):
        with pytest.raises(ValueError, match="damaged"):
            function(arguments, wrong, counters, records)
    learned_and_local = records.copy()
    learned_and_local["static"], learned_and_local["local"] = False, True
    records[column][records["port"] == 3] = value
    for wrong in (records, learned_and_local):
        with pytest.raises(ValueError, match="damaged"):
            function(arguments, times, counters, wrong)
