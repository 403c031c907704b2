"""Bulk lookups of `ConnectionTable` by every variant, against a dict, in tables that are made hard to search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_growth import answers, flows, hashes

import kubenet_fastpath as kf
from kubenet_fastpath import isa

SEED = 3
MISS = kf.ConnectionTable.MISS
TUPLE = kf.ConnectionTable.TUPLE
VARIANTS = isa.available()
SECOND = 10**9
SIZES = (0, 1, 3, 7, 8, 9, 15, 16, 63, 64, 65, 255, 256, 257, 511, 512, 513, 577, 1030)


def records(columns: list[Any], family: int = 4, zone: int = 0) -> np.ndarray:
    made = np.zeros(len(columns[0]), TUPLE)
    for name, column in zip(("src", "dst", "sport", "dport", "proto"), columns, strict=True):
        made[name] = column
    made["family"], made["zone"] = family, zone
    return made


class Held:
    """A table, and which row and direction it has for what tuple, until when."""

    def __init__(self, variant: str, numbers: np.ndarray, times: np.ndarray, zone: int = 0) -> None:
        self.table = kf.ConnectionTable(capacity=len(numbers) + 1, seed=SEED, isa=variant)
        assert self.table.isa == variant
        self.want: dict[tuple[int, ...], tuple[int, bool, int]] = {}
        for at in range(0, len(numbers), 256):
            part = slice(at, at + 256)
            conn, _ = self.table.track(*flows(numbers[part]), times[part], zone=zone)
            assert (conn != MISS).all()
            for reply, columns in enumerate((flows(numbers[part]), answers(flows(numbers[part])))):
                for key, row, time in zip(
                    zip(*(c.tolist() for c in columns), strict=True), conn.tolist(), times[part].tolist(), strict=True
                ):  # fmt: skip
                    self.want[key] = (row, bool(reply), time + 30 * SECOND)

    def expect(self, columns: list[Any], now: np.ndarray) -> tuple[list[int], list[bool]]:
        found = [
            self.want.get(key, (MISS, False, 1 << 62))
            for key in zip(*(c.tolist() for c in columns), strict=True)
        ]
        live = [f if f[2] > t else (MISS, False, 0) for f, t in zip(found, now.tolist(), strict=True)]
        return [f[0] for f in live], [f[1] for f in live]

    def forget(self, columns: list[Any], now: np.ndarray) -> None:
        """What has expired and is met is reclaimed with its row."""
        keys = list(zip(*(c.tolist() for c in columns), strict=True))
        met = zip((self.want.get(key) for key in keys), now.tolist(), strict=True)
        gone = {held[0] for held, time in met if held and held[2] <= time}
        self.want = {key: held for key, held in self.want.items() if held[0] not in gone}


def mixed(numbers: np.ndarray, n: int, draw: np.random.Generator) -> list[Any]:
    """Tuples of both directions, of flows that are there and some that are not, in any order."""
    chosen = draw.choice(np.concatenate([numbers, numbers + 1_000_000]), n)
    there, back = flows(chosen), answers(flows(chosen))
    turned = draw.integers(0, 2, n).astype(bool)
    return [np.where(turned, b, a).astype(a.dtype) for a, b in zip(there, back, strict=True)]


def crowd(n: int) -> np.ndarray:
    """Numbers of flows whose original tuples share eight buckets: chains of many buckets."""
    numbers = np.arange(40_000)
    home = np.array(hashes(flows(numbers), SEED), np.uint64) & np.uint64(0xF8)
    return numbers[home == 0][:n]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("numbers", [np.arange(3), np.arange(700), np.arange(20_000), crowd(1200)], ids=len)
def test_every_variant_finds_what_is_there(variant: str, numbers: np.ndarray) -> None:
    draw = np.random.default_rng(len(numbers))
    times = np.arange(len(numbers), dtype=np.int64)
    held = Held(variant, numbers, times)
    for n in SIZES:
        columns = mixed(numbers, n, draw)
        conn, reply = held.expect(columns, np.full(n, SECOND))
        for got in (
            held.table.lookup(*columns, SECOND),
            held.table.lookup_tuples(records(columns), SECOND),
            held.table.lookup(*columns, np.full(n, SECOND)),
        ):
            assert (got[0].tolist(), got[1].tolist()) == (conn, reply)


@pytest.mark.parametrize("numbers", [np.arange(2000), crowd(600)], ids=len)
def test_what_has_expired_is_not_found_and_is_reclaimed(numbers: np.ndarray) -> None:
    draw = np.random.default_rng(5)
    times = draw.integers(35, 56, len(numbers)) * SECOND
    expired = []
    for variant in VARIANTS:
        held = Held(variant, numbers, np.sort(times))
        draw = np.random.default_rng(6)
        for n in (1, 40, 700):
            columns = mixed(numbers, n, draw)
            now = np.sort(draw.integers(60, 90, n)) * SECOND
            want = held.expect(columns, now)
            held.forget(columns, now)
            got = held.table.lookup_tuples(records(columns), now)
            assert (got[0].tolist(), got[1].tolist()) == want
        expired.append(held.table.counters["expired"])
    assert expired[0] > 0
    assert len(set(expired)) == 1


def test_a_table_beyond_the_caches() -> None:
    """Of a large table further rows and buckets are asked for before it is known who needs them."""
    numbers = np.arange(140_000)
    draw = np.random.default_rng(8)
    chosen = draw.integers(0, 2 * len(numbers), 60_000)  # the latter half of them is not there
    turned = draw.integers(0, 2, len(chosen)).astype(bool)
    columns = [
        np.where(turned, b, a).astype(a.dtype)
        for a, b in zip(flows(chosen), answers(flows(chosen)), strict=True)
    ]
    now = np.sort(draw.integers(20, 31, len(chosen))) * SECOND
    want = np.where((chosen < len(numbers)) & (now < 30 * SECOND), chosen, MISS)
    expired = []
    for variant in VARIANTS:
        table = kf.ConnectionTable(capacity=len(numbers), seed=SEED, isa=variant)
        for at in range(0, len(numbers), 4096):
            conn, _ = table.track(*flows(numbers[at : at + 4096]), 0)
            assert (conn == numbers[at : at + 4096]).all()
        lines, rows = table.probes(*columns)
        assert (lines > 1).sum() > 500
        assert (rows > 1).sum() > 300
        for n in (1, 64, 300, len(chosen)):
            part = [c[:n] for c in columns]
            conn, reply = table.lookup(*part, now[:n])
            assert (conn == want[:n]).all()
            assert (reply == (turned[:n] & (want[:n] != MISS))).all()
        expired.append(table.counters["expired"])
    assert expired[0] > 100
    assert len(set(expired)) == 1


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(0, 7), st.sampled_from(VARIANTS))
def test_records_may_lie_anywhere(numbers: list[int], offset: int, variant: str) -> None:
    held = Held(variant, np.arange(30), np.zeros(30, np.int64))
    columns = flows(numbers)
    memory = np.zeros(16 * len(numbers) + 8, np.uint8)
    memory[offset : offset + 16 * len(numbers)] = records(columns).view(np.uint8)
    tuples = memory[offset : offset + 16 * len(numbers)].view(TUPLE)
    conn, _ = held.table.lookup_tuples(tuples, SECOND)
    assert conn.tolist() == [n if n < 30 else MISS for n in numbers]


@pytest.mark.parametrize("variant", VARIANTS)
def test_family_and_zone_count(variant: str) -> None:
    held = Held(variant, np.arange(100), np.zeros(100, np.int64), zone=7)
    columns = flows(np.arange(100))
    assert (held.table.lookup_tuples(records(columns, zone=7), SECOND)[0] == np.arange(100)).all()
    assert (held.table.lookup(*columns, SECOND, zone=7)[0] == np.arange(100)).all()
    for tuples in (records(columns), records(columns, family=10, zone=7), records(columns, zone=8)):
        assert (held.table.lookup_tuples(tuples, SECOND)[0] == MISS).all()
    assert (held.table.lookup(*columns, SECOND)[0] == MISS).all()


def test_wrong_arrays_are_refused() -> None:
    table = kf.ConnectionTable()
    tuples = np.zeros(4, TUPLE)
    with pytest.raises(TypeError, match=r"tuples must be an array of ConnectionTable\.TUPLE, not list"):
        table.lookup_tuples([1], 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tuples must be a \(N,\) array of ConnectionTable\.TUPLE"):
        table.lookup_tuples(np.zeros(4, np.uint64), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        table.lookup_tuples(tuples[::2], 0)
    with pytest.raises(ValueError, match="out has 3 rows, not 4"):
        table.lookup_tuples(tuples, 0, out=np.zeros(3, np.uint32))
    with pytest.raises(ValueError, match="now must be one time"):
        table.lookup_tuples(tuples, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="isa must be one of"):
        kf.ConnectionTable(isa="mmx")
