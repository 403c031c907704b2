"""Events of a `ConnectionTable`, beside the table as it is before and after each packet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtEvent, CtStatus, TcpState

SECOND = 10**9
KINDS = (np.uint32, np.uint32, np.uint16, np.uint16, np.uint8)
SEEN = int(CtStatus.SEEN_REPLY | CtStatus.ASSURED)


def columns(rows: list[tuple[int, ...]]) -> list[Any]:
    return [np.array([row[i] for row in rows], kind) for i, kind in enumerate(KINDS)]


packets = st.lists(
    st.tuples(
        st.integers(0, 3),  # flow
        st.booleans(),  # an answer
        st.sampled_from([6, 6, 17]),
        st.sampled_from([2, 18, 16, 17, 4]),  # TCP flags
        st.sampled_from([0, 1, 3, 40, 500]),  # seconds since the one before
    ),
    max_size=40,
)


def held(table: kf.ConnectionTable) -> dict[tuple[int, ...], tuple[int, int, int]]:
    return {
        (r["src"], r["dst"], r["sport"], r["dport"], r["proto"], r["created"]): (
            int(r["index"]),
            int(r["status"]) & SEEN,
            int(r["state"]),
        )
        for r in table.to_records()
    }


@given(packets)
def test_events_are_what_changed(script: list[tuple[int, bool, int, int, int]]) -> None:
    table, plain = kf.ConnectionTable(capacity=3), kf.ConnectionTable(capacity=3)
    table.watch()
    now = 0
    for flow, answer, proto, flags, later in script:
        now += later * SECOND
        row = (10 + flow, 20, 1000, 80, proto)
        row = (row[1], row[0], row[3], row[2], row[4]) if answer else row
        before = held(table)
        for one in (table, plain):
            one.track(*columns([row]), now, flags=np.array([flags], np.uint8))
        after = held(table)
        events = table.events()
        assert (events["time"] == now).all()
        kinds: dict[CtEvent, list[int]] = {
            kind: events["index"][events["kind"] == kind].tolist() for kind in CtEvent
        }
        assert kinds[CtEvent.NEW] == [after[key][0] for key in after if key not in before]
        assert sorted(kinds[CtEvent.DESTROY]) == sorted(before[key][0] for key in before if key not in after)
        changed = [after[key][0] for key in after if key in before and after[key] != before[key]]
        assert kinds[CtEvent.UPDATE] == changed
    assert (table.to_records() == plain.to_records()).all()
    assert table.counters == plain.counters
    assert table.flush() == len(table.events()) == len(plain)
    assert table.events_lost == 0


def test_a_full_ring_counts_what_it_loses_and_nobody_watches_at_first() -> None:
    table = kf.ConnectionTable()
    rows = [(10 + i, 20, 1000, 80, 17) for i in range(5)]
    table.track(*columns(rows[:1]), 0)
    assert len(table.events()) == 0
    table.watch(2)
    table.track(*columns(rows), 0)
    assert table.events()["src"].tolist() == [11, 12]
    assert table.events_lost == 2
    table.flush()
    assert (table.events()["kind"] == CtEvent.DESTROY).all()
    table.watch(0)
    table.track(*columns(rows), 0)
    assert (len(table.events()), table.events_lost) == (0, 0)


@pytest.mark.parametrize("capacity", [-1, (1 << 24) + 1, 1 << 32])
def test_refused(capacity: int) -> None:
    table = kf.ConnectionTable()
    table.watch(3)
    table.track(*columns([(1, 2, 3, 4, 17)]), 0)
    with pytest.raises(ValueError, match=f"capacity must be 0.*: {capacity}"):
        table.watch(capacity)
    assert len(table.events()) == 1


def test_a_handshake_as_conntrack_prints_it() -> None:
    table = kf.ConnectionTable()
    table.watch()
    there, back = (0x0A090001, 0x0A090002, 4001, 80, 6), (0x0A090002, 0x0A090001, 80, 4001, 6)
    for row, flags in ((there, 2), (back, 18), (there, 16), (there, 4)):
        table.track(*columns([row]), 0, flags=np.array([flags], np.uint8))
    table.flush()
    events = table.events()
    assert events["state"].tolist() == [
        TcpState.SYN_SENT, TcpState.SYN_RECV, TcpState.ESTABLISHED, TcpState.CLOSE, TcpState.CLOSE
    ]  # fmt: skip
    one, two = (
        "src=10.9.0.1 dst=10.9.0.2 sport=4001 dport=80",
        "src=10.9.0.2 dst=10.9.0.1 sport=80 dport=4001",
    )
    assert table.events_text(events).splitlines() == [
        f"    [NEW] tcp      6 120 SYN_SENT {one} [UNREPLIED] {two}",
        f" [UPDATE] tcp      6 60 SYN_RECV {one} {two}",
        f" [UPDATE] tcp      6 432000 ESTABLISHED {one} {two} [ASSURED]",
        f" [UPDATE] tcp      6 10 CLOSE {one} {two} [ASSURED]",
        f"[DESTROY] tcp      6 10 CLOSE {one} packets=3 bytes=120 {two} packets=1 bytes=40 [ASSURED]",
    ]


#: What conntrack 1.4.7 printed of a running kernel 6.18, up to [USERSPACE].
UDP = """\
    [NEW] udp      17 30 src=10.9.0.1 dst=10.9.0.2 sport=4000 dport=53 [UNREPLIED] src=10.9.0.2 dst=10.9.0.1 sport=53 \
dport=4000
 [UPDATE] udp      17 30 src=10.9.0.1 dst=10.9.0.2 sport=4000 dport=53 src=10.9.0.2 dst=10.9.0.1 sport=53 dport=4000
[DESTROY] udp      17 28 src=10.9.0.1 dst=10.9.0.2 sport=4000 dport=53 packets=1 bytes=29 src=10.9.0.2 dst=10.9.0.1 \
sport=53 dport=4000 packets=1 bytes=30
"""


def test_a_question_as_the_tool_printed_it() -> None:
    table = kf.ConnectionTable()
    table.watch()
    there, back = (0x0A090001, 0x0A090002, 4000, 53, 17), (0x0A090002, 0x0A090001, 53, 4000, 17)
    table.track(*columns([there]), 0, length=np.array([29], np.uint16))
    table.track(*columns([back]), 0, length=np.array([30], np.uint16))
    table.expire(2 * SECOND)  # two seconds later
    table.flush()
    assert table.events_text(table.events()) == UDP
    table.track(*columns([there]), 0)
    table.expire(31 * SECOND)
    assert "[DESTROY] udp      17 src=" in table.events_text(table.events())


def test_a_dual_stack_node_that_is_watched() -> None:
    """Addresses of IPv6 are those that the connection had, also when the pool has given their numbers away."""
    from frames import UDP, eth6, ipv6, udp
    from test_dual_stack import BRIDGE_MAC, FAR, OUTSIDE, START, Wire, kubenet

    wire = Wire(kubenet())
    table = wire.node.connections
    table.watch()
    wire.from_a(FAR, udp(1000, 53))
    wire.from_a(OUTSIDE, udp(1001, 53))
    wire.now = START + 40 * SECOND
    table.expire(wire.now)
    pod = wire.a.pod.ip6
    for i in range(10):  # so many addresses that the pool looks for those that nobody needs
        frames = [
            eth6(
                BRIDGE_MAC,
                str(wire.a.pod.mac),
                ipv6(str(pod), f"2001:db8:1::{i:x}:{k:x}", UDP, udp(1000, 53)),
            )
            for k in range(2000)
        ]
        wire.node.forward(kf.PacketBatch.from_frames(frames, wire.a, wire.now))
        table.flush()
    assert len(table.events()) == 0
    events = table.events(family=6)
    assert len(events) == 4 + 2 * 20_000
    lines = table.events_text(events[:4]).splitlines()
    assert lines[:2] + sorted(lines[2:]) == [
        f"    [NEW] udp      17 30 src={pod} dst={FAR} sport=1000 dport=53 [UNREPLIED] "
        f"src={FAR} dst={pod} sport=53 dport=1000",
        f"    [NEW] udp      17 30 src={pod} dst={OUTSIDE} sport=1001 dport=53 [UNREPLIED] "
        f"src={OUTSIDE} dst=fd00:10::4 sport=53 dport=1001",
        f"[DESTROY] udp      17 src={pod} dst={OUTSIDE} sport=1001 dport=53 packets=1 bytes=52 [UNREPLIED] "
        f"src={OUTSIDE} dst=fd00:10::4 sport=53 dport=1001 packets=0 bytes=0",
        f"[DESTROY] udp      17 src={pod} dst={FAR} sport=1000 dport=53 packets=1 bytes=52 [UNREPLIED] "
        f"src={FAR} dst={pod} sport=53 dport=1000 packets=0 bytes=0",
    ]
    assert len(table.events(family=6)) == 0
    with pytest.raises(ValueError, match="family must be 4 or 6, not 5"):
        table.events(family=5)


def test_the_other_familys_events_stay_in_their_order() -> None:
    from frames import udp
    from test_dual_stack import FAR, START, Wire, kubenet

    wire = Wire(kubenet())
    table = wire.node.connections
    table.watch(5)
    four = [(0x0A000001 + i, 2, 3, 4, 17) for i in range(3)]
    table.track(*columns(four[:1]), START)
    for port in (1000, 1001):
        wire.from_a(FAR, udp(port, 53))
    table.track(*columns(four[1:]), START)
    assert table.events_lost == 0
    assert table.events()["src"].tolist() == [row[0] for row in four]
    table.track(*columns([(9, 9, 9, 9, 17)]), START)
    assert table.events(family=6)["sport"].tolist() == [1000, 1001]
    assert table.events()["src"].tolist() == [9]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_watched_node_tells_of_every_answer(workers: int) -> None:
    """Watched, packets of known flows do not take the fast path, nor do workers share them: each change is an event."""
    from frames import udp
    from test_dual_stack import FAR, START, Wire, kubenet

    wire = Wire(kubenet())
    wire.node = kf.Node(kubenet(), workers=workers)
    wire.a, wire.b = wire.node.attach(kf.Pod("a")), wire.node.attach(kf.Pod("b"))
    table = wire.node.connections
    for after in (0, 1):
        wire.now = START + after
        wire.from_a(FAR, udp(1000, 53))
        wire.to_node(FAR, str(wire.a.pod.ip6), udp(53, 1000))
    table.watch()
    for seconds in (1, 3, 4):
        wire.now = START + seconds * SECOND
        wire.from_a(FAR, udp(1000, 53))
        wire.to_node(FAR, str(wire.a.pod.ip6), udp(53, 1000))
    assert table.events_text(table.events(family=6)).count("[ASSURED]") == 1
