"""`ConnectionTable` and `ForwardingDatabase` asked with a `PacketBatch`, beside the same asked with columns."""

from __future__ import annotations

import struct
from typing import Any

import frames
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import isa
from kubenet_fastpath.address_pool import AddressPool
from kubenet_fastpath.connection import CtInfo

SECOND = 10**9
MISS = kf.ConnectionTable.MISS
A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")

ends = st.tuples(st.sampled_from(HOSTS), st.sampled_from(HOSTS))
ports = st.tuples(st.integers(1, 2), st.integers(1, 2))
udp = st.builds(lambda e, p, size: (*e, 17, frames.udp(*p, bytes(size))), ends, ports, st.integers(0, 40))
tcp = st.builds(
    lambda e, p, flags, seq, ack, size: (*e, 6, frames.tcp(*p, flags, seq, ack, bytes(size))),
    ends,
    ports,
    st.sampled_from([2, 18, 16, 17, 4]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 9),
)
echo = st.builds(lambda e, kind: (*e, 1, frames.icmp(kind)), ends, st.sampled_from([0, 8, 13, 14, 9, 99]))
other = st.builds(lambda e: (*e, 253, b"what"), ends)
packets = st.lists(st.one_of(udp, tcp, tcp, echo, other), max_size=90)


def batch_of(script: list[tuple[str, str, int, bytes]], step: int = SECOND) -> kf.PacketBatch:
    made = [frames.packet(A, B, frames.ipv4(src, dst, proto, l4)) for src, dst, proto, l4 in script]
    return kf.PacketBatch.from_frames(made, time=np.arange(len(made), dtype=np.int64) * step)


def columns_of(batch: kf.PacketBatch) -> tuple[list[Any], dict[str, Any]]:
    h = batch.headers()
    echoes = h["proto"] == 1
    sport = np.where(echoes, h["icmp_id"], h["sport"])
    # what is no query has the same bytes there
    for i in np.flatnonzero(echoes).tolist():
        (sport[i],) = struct.unpack_from("!H", batch[i], 38)
    dport = np.where(echoes, h["icmp_type"].astype(np.uint16) << 8 | h["icmp_code"], h["dport"])
    tuples = [h["src"], h["dst"], sport.astype(np.uint16), dport.astype(np.uint16), h["proto"]]
    numbers = {
        "length": h["ip_len"],
        "flags": h["tcp_flags"],
        "seq": h["tcp_seq"],
        "ack": h["tcp_ack"],
        "window": h["tcp_window"],
    }
    return [np.ascontiguousarray(c) for c in tuples], {k: np.ascontiguousarray(v) for k, v in numbers.items()}


@given(packets, st.sampled_from(isa.available()), st.integers(0, 3))
def test_frames_are_tracked_and_found_as_their_columns(
    script: list[tuple[str, str, int, bytes]], variant: str, zone: int
) -> None:
    batch = batch_of(script)
    tuples, numbers = columns_of(batch)
    framed, plain = (kf.ConnectionTable(capacity=60, seed=1, isa=variant) for _ in range(2))
    got = framed.track(batch, zone=zone)
    want = plain.track(*tuples, batch.time, zone=zone, **numbers)
    assert [c.tolist() for c in got] == [c.tolist() for c in want]
    assert framed.to_records().tolist() == plain.to_records().tolist()
    assert framed.counters == plain.counters
    for now in (None, len(batch) * SECOND, batch.time):
        found = framed.lookup(batch, now=now, zone=zone)
        same = plain.lookup(*tuples, batch.time if now is None else now, zone=zone)
        assert [c.tolist() for c in found] == [c.tolist() for c in same]
    assert (framed.lookup(batch, zone=zone + 1)[0] == MISS).all()


@given(st.lists(st.one_of(udp, echo, other), max_size=90))
def test_frames_are_translated_as_their_columns(script: list[tuple[str, str, int, bytes]]) -> None:
    batch = batch_of(script, step=SECOND // 10)
    before = batch.copy()
    tuples, numbers = columns_of(batch)
    framed, plain = kf.ConnectionTable(seed=1), kf.ConnectionTable(seed=1)
    got = framed.masquerade(batch, address=0x0AF00004, ports=(1024, 1030))
    want = plain.masquerade(
        *tuples, batch.time, address=0x0AF00004, ports=(1024, 1030), length=numbers["length"]
    )
    assert [c.tolist() for c in got] == [c.tolist() for c in want]
    assert framed.to_records().tolist() == plain.to_records().tolist()
    assert batch == before


UDP = frames.ipv4(*HOSTS[:2], 17, frames.udp(1, 2))
WITHOUT = {
    "arp": frames.arp(1, A, HOSTS[0], B, HOSTS[1]),
    "tagged": frames.packet(A, B, UDP, tags=(5,)),
    "first fragment": frames.packet(A, B, frames.ipv4(*HOSTS[:2], 17, frames.udp(1, 2), flags=0x2000)),
    "last fragment": frames.packet(A, B, frames.ipv4(*HOSTS[:2], 17, frames.udp(1, 2), flags=3)),
    "no Ethernet": b"\x02" * 13,
    "no IP": frames.eth(A, B, UDP[:19]),
    "version 5": frames.eth(A, B, b"\x55" + UDP[1:]),
    "short header": frames.eth(A, B, b"\x44" + UDP[1:]),
    "longer than the frame": frames.eth(A, B, UDP[:-1]),
    "shorter than its header": frames.eth(A, B, UDP[:2] + b"\0\x13" + UDP[4:]),
    "IPv6": frames.eth6(A, B, frames.ipv6("fd00::1", "fd00::2", 17, frames.udp(1, 2))),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_a_frame_without_a_tuple_is_untracked(what: str) -> None:
    table = kf.ConnectionTable(seed=1)
    table.track(kf.PacketBatch.from_frames([frames.packet(A, B, UDP)]))
    before = table.counters
    batch = kf.PacketBatch.from_frames([WITHOUT[what]] * 3)
    conn, info = table.track(batch)
    assert (conn.tolist(), info.tolist()) == ([MISS] * 3, [CtInfo.UNTRACKED] * 3)
    conn, reply = table.lookup(batch)
    assert (conn.tolist(), reply.tolist()) == ([MISS] * 3, [False] * 3)
    conn, info, leaves = table.masquerade(batch, address=9)
    assert (conn.tolist(), info.tolist(), leaves.tolist()) == (
        [MISS] * 3,
        [CtInfo.UNTRACKED] * 3,
        [(0,) * 7] * 3,
    )
    assert (len(table), table.counters) == (1, before)


def test_what_columns_cannot_say() -> None:
    """Wrong checksums, ICMP errors, packets that the capture cut off."""
    table = kf.ConnectionTable(seed=1)
    good = frames.packet(A, B, UDP)
    error = frames.packet(A, B, frames.ipv4("10.9.9.9", HOSTS[0], 1, frames.icmp(3, 3, data=UDP[:28])))
    long = frames.packet(A, B, frames.ipv4(*HOSTS[:2], 6, frames.tcp(5, 6, 2, data=bytes(900))))
    batch = kf.PacketBatch.from_frames(
        [good, good[:-1] + b"!", error, long[:114], long[:114], good[:41]],
        wire_length=[len(good), len(good), len(error), len(long), 113 + 1, len(good)],
    )
    conn, info = table.track(batch)
    assert info.tolist() == [
        CtInfo.NEW, CtInfo.INVALID, CtInfo.RELATED_REPLY, CtInfo.NEW, CtInfo.UNTRACKED, CtInfo.INVALID,
    ]  # fmt: skip
    assert conn.tolist() == [0, MISS, 0, 1, MISS, MISS]
    assert table.to_records()["bytes"].tolist() == [len(UDP), len(long) - 14]
    assert table.masquerade(batch[2:3], address=9)[2][["src", "dst"]].tolist() == [(0x0A090909, 0x0A000001)]


@pytest.mark.parametrize("variant", isa.available())
def test_ipv6_where_the_table_has_addresses(variant: str) -> None:
    pool = AddressPool()
    table = kf.ConnectionTable(seed=1, addresses=pool, isa=variant)
    there = frames.ipv6("fd00::1", "fd00::2", 17, frames.udp(1, 2), extensions=((60, bytes([0]) + bytes(6)),))
    back = frames.ipv6("fd00::2", "fd00::1", 17, frames.udp(2, 1))
    stranger = frames.ipv6("fd00::3", "fd00::2", 17, frames.udp(1, 2))
    piece = frames.fragments6(frames.ipv6("fd00::1", "fd00::2", 17, frames.udp(1, 2, bytes(64))), 32, 1)[0]
    batch = kf.PacketBatch.from_frames([frames.eth6(A, B, l3) for l3 in (there, back, stranger, piece)])
    size = len(pool)
    assert table.lookup(batch)[0].tolist() == [MISS] * 4
    assert len(pool) == size
    conn, info = table.track(batch[:2])
    assert (conn.tolist(), info.tolist()) == ([0, 0], [CtInfo.NEW, CtInfo.ESTABLISHED_REPLY])
    conn, reply = table.lookup(batch)
    assert (conn.tolist(), reply.tolist()) == ([0, 0, MISS, MISS], [False, True, False, False])
    assert table.track(batch[3:])[1].tolist() == [CtInfo.UNTRACKED]


def test_answers_go_where_they_are_to_go() -> None:
    table = kf.ConnectionTable(seed=1)
    batch = batch_of([(*HOSTS[:2], 17, frames.udp(1, 2)), (*HOSTS[1::-1], 17, frames.udp(2, 1))])
    table.track(batch[:1])
    out = np.full(2, 9, np.uint32), np.ones(2, np.bool_)
    assert table.lookup(batch, out=out) is out
    assert (out[0].tolist(), out[1].tolist()) == ([0, 0], [False, True])
    tuples, _ = columns_of(batch)
    out[0][:] = 9
    assert table.lookup(*tuples, 0, out=out) is out
    assert (out[0].tolist(), out[1].tolist()) == ([0, 0], [False, True])
    for wrong in ((out[0], out[1][:1]), (out[0][:1], out[1]), (out[1], out[0])):
        with pytest.raises(ValueError, match=r"out\[[01]\]"):
            table.lookup(batch, out=wrong)  # type: ignore[arg-type]
    assert out[0].tolist() == [0, 0]


def test_wrong_calls_change_nothing() -> None:
    table, fdb = kf.ConnectionTable(seed=1), kf.ForwardingDatabase(seed=1)
    batch = batch_of([(*HOSTS[:2], 17, frames.udp(1, 2))])
    u8 = np.zeros(1, np.uint8)
    with pytest.raises(TypeError, match="itself"):
        table.track(batch, flags=u8)
    with pytest.raises(TypeError, match="itself"):
        table.masquerade(batch, address=9, length=np.zeros(1, np.uint16))
    for wrong in ((batch, None, np.zeros(1, np.uint16)), (np.zeros(1, np.uint32),), (None,)):
        with pytest.raises(TypeError, match="or a PacketBatch"):
            table.track(*wrong)
    with pytest.raises(ValueError, match="zone"):
        table.track(batch, zone=1 << 16)
    with pytest.raises(TypeError, match="dst must be omitted"):
        fdb.switch(batch, np.zeros(1, np.uint64))
    with pytest.raises(TypeError, match="port is missing"):
        fdb.learn(np.ones(1, np.uint64))
    batch.port[:] = 0xFFFF
    with pytest.raises(ValueError, match="port"):
        fdb.learn(batch)
    batch.port[:] = 0
    batch.offset = batch.offset + 1  # as nobody should
    for verb in (table.track, table.lookup, fdb.learn, fdb.lookup, fdb.switch):
        with pytest.raises(ValueError, match="outside the"):
            verb(batch)
    assert (len(table), len(fdb)) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=40),
    st.sampled_from([1, 15]),
    st.sampled_from(isa.available()),
)
def test_frames_are_switched_as_their_columns(
    script: list[tuple[int, int, int, bool]], times: int, variant: str
) -> None:
    macs = ("02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c", "01:00:5e:00:00:01")
    script = script * times  # longer than what is read at a time
    made = [
        frames.mac(macs[d]) + frames.mac(macs[s]) + (b"\x12" if short else bytes(48))
        for s, d, _, short in script
    ]
    time = np.arange(len(made), dtype=np.int64) * 7 * SECOND
    batch = kf.PacketBatch.from_frames(made, port=[port for *_, port, _ in script], time=time)
    src, dst = (
        np.array([int(frames.mac(macs[row[i]]).hex(), 16) for row in script], np.uint64) for i in (0, 1)
    )
    short = np.array([row[3] for row in script], np.bool_)
    src[short] = dst[short] = 0
    framed, plain = (kf.ForwardingDatabase(seed=1, limit=2, isa=variant) for _ in range(2))
    assert framed.switch(batch).tolist() == plain.switch(src, dst, batch.port, time).tolist()
    assert framed.to_records().tolist() == plain.to_records().tolist()
    assert framed.lookup(batch).tolist() == plain.lookup(dst).tolist()
    vlan = (np.arange(len(made)) % 2).astype(np.uint16)
    framed.learn(batch, port=7, now=int(1e12), vlan=vlan)
    plain.learn(src, 7, int(1e12), vlan)
    assert framed.to_records().tolist() == plain.to_records().tolist()
    assert framed.lookup(batch, vlan).tolist() == plain.lookup(dst, vlan).tolist()
    assert framed.counters == plain.counters
