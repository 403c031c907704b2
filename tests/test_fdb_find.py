"""Bulk lookups of `ForwardingDatabase` by every variant, against a dict, in tables that are made hard to search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_growth import ALL, mum, secret

import kubenet_fastpath as kf
from kubenet_fastpath import isa

SEED = 5
VARIANTS = isa.available()
SIZES = (0, 1, 3, 7, 8, 9, 63, 64, 65, 127, 128, 129, 511, 512, 513, 577, 1030)
UNKNOWN, LOCAL = kf.ForwardingDatabase.UNKNOWN, kf.ForwardingDatabase.LOCAL


def pair_hash(key: int) -> int:
    """What the table makes of VLAN << 48 | MAC (csrc/hash.h)."""
    first, second = secret(SEED)
    return mum(mum(key ^ first, second | 1), 0x9E3779B97F4A7C15 ^ first) & ALL


def macs_of(kind: str) -> np.ndarray:
    """Unicast addresses; the crowded ones share 4 lines of each segment, so that they fill chains of lines."""
    if kind != "crowded":
        return np.arange(1, int(kind) + 1, dtype=np.uint64) * np.uint64(0x100003)
    some = (np.arange(1, 60_001, dtype=np.uint64) * np.uint64(0x100003)).tolist()
    return np.array([mac for mac in some if pair_hash(mac) & 0xFC == 0], np.uint64)[:700]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["5", "3000", "30000", "crowded"])
def test_every_variant_finds_what_is_there(variant: str, kind: str) -> None:
    draw = np.random.default_rng(4)
    macs = macs_of(kind)
    ports = draw.integers(0, 0xFFFF, len(macs), np.uint16)
    fdb = kf.ForwardingDatabase(seed=SEED, isa=variant)
    assert fdb.isa == variant
    fdb.learn(macs, ports, now=0)
    want = dict(zip(macs.tolist(), ports.tolist(), strict=True))
    own = int(macs[0])
    fdb.add_local(own)
    want[own] = LOCAL
    gone = macs[1:3]
    for mac in gone.tolist():
        del fdb[mac]
        del want[mac]
    pool = np.concatenate([macs, macs + np.uint64(1), np.array([0, (1 << 48) - 1, 1 << 40], np.uint64)])
    for n in SIZES:
        wanted = draw.choice(pool, n)
        expected = [want.get(mac, UNKNOWN) for mac in wanted.tolist()]
        assert fdb.lookup(wanted).tolist() == expected
        vlans = draw.integers(0, 2, n, np.uint16)
        assert fdb.lookup(wanted, vlans).tolist() == [
            UNKNOWN if vlan else port for vlan, port in zip(vlans.tolist(), expected, strict=True)
        ]


edge_macs = st.sampled_from([0, 1, 2, 1 << 40, (1 << 48) - 1, (1 << 48) - 2, 0xFE_FF_FF_FF_FF_FF])
edge_vlans = st.sampled_from([0, 1, 0xFFF, 0xFFFF])
addresses = st.tuples(edge_macs, edge_vlans)


@given(st.lists(addresses, max_size=20), st.lists(addresses, max_size=40), st.sampled_from(VARIANTS))
def test_edges_of_addresses(known: list[tuple[int, int]], asked: list[tuple[int, int]], variant: str) -> None:
    fdb = kf.ForwardingDatabase(seed=SEED, isa=variant)
    want = {}
    for port, (mac, vlan) in enumerate(known):
        fdb.learn(np.array([mac], np.uint64), port, now=0, vlan=vlan)
        if mac and not mac >> 40 & 1:
            want[mac, vlan] = port
    macs = np.array([mac for mac, _ in asked], np.uint64)
    vlans = np.array([vlan for _, vlan in asked], np.uint16)
    expected = [want.get(address, UNKNOWN) for address in asked]
    assert fdb.lookup(macs, vlans).tolist() == expected
    for (mac, vlan), port in zip(asked, expected, strict=True):
        assert fdb.lookup(np.array([mac], np.uint64), vlan).tolist() == [port]
        assert fdb.get((mac, vlan), UNKNOWN) == port


def test_churn_leaves_no_decay() -> None:
    """Entries come and go many times over in lines that overflow; the table neither loses nor grows."""
    macs = macs_of("crowded")
    fdb = kf.ForwardingDatabase(seed=SEED)
    fdb.learn(macs, 1, now=0)
    size = fdb.nbytes
    draw = np.random.default_rng(8)
    for turn in range(60):
        half = draw.choice(macs, len(macs) // 2, replace=False)
        fdb.learn(half, 2, now=turn)
        assert fdb.flush_learned(2) == len(half)
        there = ~np.isin(macs, half)
        np.testing.assert_array_equal(fdb.lookup(macs), np.where(there, 1, UNKNOWN))
        fdb.learn(half, 1, now=turn)
    np.testing.assert_array_equal(fdb.lookup(macs), np.full(len(macs), 1))
    assert fdb.nbytes <= size


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="isa must be one of"):
        kf.ForwardingDatabase(isa="mmx")
