"""Both state tables while they grow through many segments of their index, shrink and grow again."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import kubenet_fastpath as kf

MISS = kf.ConnectionTable.MISS
FLOWS = 60_000  # their 120,000 tuples fill some fifty segments
STEP = 257
ALL = (1 << 64) - 1


def flows(numbers: Any) -> list[Any]:
    """UDP tuples, a different one for each number."""
    n = np.asarray(numbers, np.uint32)
    return [
        np.uint32(0x0AF40000) + n % 5000,
        np.uint32(0x08000000) + n // 7,
        (1024 + n % 50_000).astype(np.uint16),
        np.full(len(n), 53, np.uint16),
        np.full(len(n), 17, np.uint8),
    ]


def answers(columns: list[Any]) -> list[Any]:
    src, dst, sport, dport, proto = columns
    return [dst, src, dport, sport, proto]


def mum(a: int, b: int) -> int:
    product = a * b
    return (product ^ product >> 64) & ALL


def secret(seed: int) -> tuple[int, int]:
    """SplitMix64's first two values."""
    found = []
    for n in (1, 2):
        z = (seed + n * 0x9E3779B97F4A7C15) & ALL
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & ALL
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & ALL
        found.append(z ^ z >> 31)
    return found[0], found[1]


def hashes(columns: list[Any], seed: int) -> list[int]:
    """What the table makes of IPv4 tuples in zone 0 (csrc/hash.h)."""
    first, second = secret(seed)
    found = []
    for src, dst, sport, dport, proto in zip(*(c.tolist() for c in columns), strict=True):
        a, b = dst << 32 | src, 4 << 40 | proto << 32 | dport << 16 | sport
        found.append(mum(mum(a ^ first, b ^ second) ^ second, a ^ b ^ 0x9E3779B97F4A7C15))
    return found


def check(table: kf.ConnectionTable, rows: dict[int, int]) -> None:
    """All flows of `rows` are found by both tuples where it says, and no others."""
    numbers = np.arange(FLOWS)
    want = np.array([rows.get(n, MISS) for n in numbers.tolist()], np.uint32)
    for columns, reply in ((flows(numbers), False), (answers(flows(numbers)), True)):
        conn, is_reply = table.lookup(*columns, 0)
        np.testing.assert_array_equal(conn, want)
        np.testing.assert_array_equal(is_reply, (want != MISS) & reply)


@pytest.mark.parametrize("reserve", [False, True])
def test_connections(reserve: bool) -> None:
    draw = np.random.default_rng(1)
    timeouts = kf.Timeouts(udp_s=1000)
    table = kf.ConnectionTable(capacity=FLOWS, seed=3, timeouts=timeouts, reserve=reserve)
    rows: dict[int, int] = {}
    for begin in range(0, FLOWS, STEP):
        numbers = np.arange(begin, min(begin + STEP, FLOWS))
        conn, _ = table.track(*flows(numbers), 0)
        rows.update(zip(numbers.tolist(), conn.tolist(), strict=True))
        if begin % 11 == 0:
            check(table, rows)
    assert len(table) == len(rows) == FLOWS
    assert len(set(rows.values())) == FLOWS
    for _ in range(3):
        gone = draw.choice(sorted(rows), len(rows) // 2, replace=False).tolist()
        assert table.delete([rows.pop(number) for number in gone]) == len(gone)
        check(table, rows)
        conn, _ = table.track(*flows(gone), 0)
        rows.update(zip(gone, conn.tolist(), strict=True))
        check(table, rows)
    copy = pickle.loads(pickle.dumps(table))
    check(copy, rows)
    assert copy.to_records().tolist() == table.to_records().tolist()
    assert table.flush() == FLOWS
    check(table, {})


@pytest.mark.parametrize("reserve", [False, True])
@pytest.mark.parametrize("many", [10 * 2**16, 1150 * 2**9, 1180 * 2**9, 1240 * 2**9])
def test_a_table_takes_no_more_than_it_says(many: int, reserve: bool) -> None:
    """As full as with 10 million flows: the segments of the index have divided not long ago; and about when they do."""
    table = kf.ConnectionTable(capacity=many, seed=3, reserve=reserve)
    taken = table.nbytes
    numbers = np.arange(many, dtype=np.uint32)
    ports = (numbers % 60_000).astype(np.uint16)
    columns = (numbers // 16, numbers, ports, ports, np.full(many, 17, np.uint8))
    _, _, leaves = table.masquerade(*columns, 0, address=9)
    assert len(table) == many
    assert table.nbytes - (2 << 20) <= 192 * many  # of a small table the latest block, not yet full, is much
    assert (table.nbytes - taken < 3 << 20) == reserve  # the directory, segments of a small table, a block
    assert (leaves["sport"] == ports).all()


def test_sources_are_found_while_chains_divide() -> None:
    """`delete` and a new flow walk the chains by source: a flow that is lost there would make them fail."""
    table = kf.ConnectionTable(capacity=4000, seed=9)
    for begin in range(0, 4000, 100):
        numbers = np.arange(begin, begin + 100)
        table.track(*flows(numbers), 0)
        assert table.delete(src=int(flows(numbers)[0][7])) >= 1
    assert table.flush() == 4000 - 40


def test_stations() -> None:
    draw = np.random.default_rng(2)
    macs = np.unique(draw.integers(0, 1 << 40, 50_000, np.uint64) | np.uint64(2 << 40))
    ports = draw.integers(0, 64, len(macs), np.uint16)
    fdb = kf.ForwardingDatabase(seed=5)
    for begin in range(0, len(macs), STEP):
        part = slice(begin, begin + STEP)
        fdb.learn(macs[part], ports[part], now=0)
        np.testing.assert_array_equal(fdb.lookup(macs[: begin + STEP]), ports[: begin + STEP])
    np.testing.assert_array_equal(fdb.lookup(macs + np.uint64(1 << 41)), np.full(len(macs), -1))
    assert fdb.flush(7) == (ports == 7).sum()
    np.testing.assert_array_equal(fdb.lookup(macs), np.where(ports == 7, -1, ports.astype(np.int32)))
    fdb.learn(macs, 9, now=1)
    np.testing.assert_array_equal(fdb.lookup(macs), np.full(len(macs), 9))


def test_segments_of_very_different_depth() -> None:
    """Flows chosen by who knows the seed crowd one part of the index first; then come all others."""
    seed, n = 3, np.arange(FLOWS)
    crowded = np.array([h >> 32 & 15 == 5 for h in hashes(flows(n), seed)])
    assert 0.05 < crowded.mean() < 0.07
    table = kf.ConnectionTable(capacity=2 * FLOWS, seed=seed)
    rows: dict[int, int] = {}
    for numbers in (n[crowded], n[~crowded]):
        conn, _ = table.track(*flows(numbers), 0)
        rows.update(zip(numbers.tolist(), conn.tolist(), strict=True))
        check(table, rows)
    assert len(table) == FLOWS


def test_a_flood_of_one_hash_harms_only_who_gave_his_seed_away() -> None:
    """Tuples that agree in bucket, tag and directory place under seed 3 do not under another one."""
    some = flows(np.arange(FLOWS))
    mine, other = (np.array(hashes(some, seed), np.uint64) for seed in (3, 4))
    bucket = mine & np.uint64(0xFF)
    same = bucket == bucket[0]
    assert same.sum() > 150
    assert len(np.unique(other[same] & np.uint64(0xFF))) > 100
    flood = [column[same] for column in some]
    sizes = []
    for seed in (3, 4):
        table = kf.ConnectionTable(capacity=FLOWS, seed=seed)
        conn, _ = table.track(*flood, 0)
        assert (table.lookup(*flood, 0)[0] == conn).all()
        sizes.append(table.nbytes)
    assert sizes[0] <= 2 * sizes[1]
