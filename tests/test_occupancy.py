"""How full a connection table says that it is, beside its records; ports in use, beside a count by hand."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtStatus, SctpState, TcpState

SECOND = 10**9
KINDS = (np.uint32, np.uint32, np.uint16, np.uint16, np.uint8)
NAMES = {6: "tcp", 17: "udp", 1: "icmp", 132: "sctp", 47: "gre", 136: "udplite", 58: "icmpv6"}


def columns(rows: list[tuple[int, ...]]) -> list[Any]:
    return [np.array([row[i] for row in rows], kind) for i, kind in enumerate(KINDS)]


def check(table: kf.ConnectionTable) -> None:
    """What is counted is what the records have, connections that have expired but were not met included."""
    states: Counter[str] = Counter()
    ports: Counter[tuple[int, ...]] = Counter()
    for row in table.to_records():
        kind = {6: TcpState, 132: SctpState}.get(int(row["proto"]))
        name = NAMES.get(int(row["proto"]), "other")
        states[f"{name} {kind(row['state']).name}" if kind else name] += 1
        if row["status"] & CtStatus.SRC_NAT:
            ports[
                int(row["reply_dst"]), int(row["reply_src"]), int(row["reply_sport"]), int(row["proto"])
            ] += 1
    assert table.occupancy() == {"count": len(table), "capacity": table.capacity, "states": dict(states)}
    found = table.ports_in_use(ports=(1000, 1999))
    assert {tuple(row)[:4]: row["used"] for row in found.tolist() and found} == dict(ports)
    assert (found["left"] == 1000 - found["used"]).all()
    assert (np.diff(found["used"].astype(int)) <= 0).all()


packets = st.lists(
    st.tuples(
        st.integers(0, 9),  # source
        st.integers(0, 9),  # destination
        st.booleans(),  # an answer
        st.sampled_from([6, 6, 17, 1, 47, 136, 50]),
        st.sampled_from([2, 18, 16, 17, 4]),  # TCP flags
        st.sampled_from([0, 1, 3, 40, 500]),  # seconds since the one before
        st.sampled_from(["track", "masquerade", "masquerade", "masquerade", "delete", "flush"]),
    ),
    max_size=60,
)


@given(packets, st.integers(3, 40), st.integers(0, 60))
def test_what_is_counted_is_what_is_there(script: list[Any], capacity: int, begin: int) -> None:
    """Whenever the counting begins: what is there is counted then."""
    table = kf.ConnectionTable(capacity=capacity, seed=1)
    now = 0
    for turn, (src, dst, answer, proto, flags, later, verb) in enumerate(script):
        if turn == begin:
            table.count_ports()
        now += later * SECOND
        row = (100 + src, 200 + dst, 8 if proto == 1 else 7, 0x0800 if proto == 1 else 80, proto)
        if answer:
            row = (200 + dst, 9, 80, 7, proto)
        if verb == "delete":
            table.delete(src=100 + src)
        elif verb == "flush" and turn % 7 == 0:
            table.flush()
        elif verb == "track":
            table.track(*columns([row]), now, flags=np.array([flags], np.uint8))
        else:
            table.masquerade(*columns([row]), now, address=9)
        if turn >= begin:
            check(table)
    table.count_ports()
    check(table)
    copy = pickle.loads(pickle.dumps(table))
    copy.count_ports()
    check(copy)


def test_many_destinations() -> None:
    """The count grows and shrinks through many sizes, and chains of places that follow each other."""
    table = kf.ConnectionTable(capacity=1 << 16, seed=7)
    table.count_ports()
    draw = np.random.default_rng(1)
    for turn in range(8):
        n = 4000
        cut = [
            draw.integers(1, 1 << 20, n).astype(np.uint32),
            draw.integers(1, 3000, n).astype(np.uint32),
            draw.integers(1, 1 << 16, n).astype(np.uint16),
            np.full(n, 53, np.uint16),
            np.full(n, 17, np.uint8),
        ]
        table.masquerade(*cut, turn * 10 * SECOND, address=(8, 9))
        table.expire(turn * 10 * SECOND)
        check(table)
    assert len(table.ports_in_use()) > 3000
    table.flush()
    check(table)
    assert len(table.ports_in_use()) == 0


def test_ports_that_run_out_are_seen_coming() -> None:
    table = kf.ConnectionTable()
    table.count_ports()
    many = [(100 + i, 200, 5000, 53, 17) for i in range(12)]
    table.masquerade(*columns(many), 0, address=9, ports=(2000, 2009))
    (row,) = table.ports_in_use(ports=(2000, 2009))
    assert row[["src", "dst", "dport", "proto", "used", "left"]].tolist() == (9, 200, 53, 17, 10, 0)
    table.count_ports(False)
    with pytest.raises(RuntimeError, match="call count_ports"):
        table.ports_in_use()


def test_refused() -> None:
    table = kf.ConnectionTable()
    table.count_ports()
    for ports in ((5, 4), (0, 65536), (1,), "no"):
        with pytest.raises((ValueError, TypeError), match="ports must be"):
            table.ports_in_use(ports=ports)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="family must be 4 or 6, not 5"):
        table.ports_in_use(family=5)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_counts_whatever_its_workers_do(workers: int) -> None:
    """TCP connections of both families that are opened, used and closed in large batches."""
    from frames import ACK, FIN, SYN, TCP, eth6, ipv6, tcp
    from test_dual_stack import BRIDGE_MAC, FABRIC, NODE, NODE_MAC, OUTSIDE, START, Wire, kubenet

    wire = Wire(kubenet())
    wire.node = kf.Node(kubenet(), workers=workers)
    wire.a, wire.b = wire.node.attach(kf.Pod("a")), wire.node.attach(kf.Pod("b"))
    table = wire.node.connections
    table.count_ports()
    pod, mac = str(wire.a.pod.ip6), str(wire.a.pod.mac)
    flows = range(1000, 1300)
    for seconds, flags, back in (
        (0, SYN, False),
        (0, SYN | ACK, True),
        (1, ACK, False),
        (2, FIN | ACK, False),
    ):
        frames = [
            eth6(NODE_MAC, FABRIC, ipv6(OUTSIDE, NODE, TCP, tcp(80, port, flags, ack=1)))
            if back
            else eth6(BRIDGE_MAC, mac, ipv6(pod, OUTSIDE, TCP, tcp(port, 80, flags)))
            for port in flows
        ]
        port = wire.node.ports["eth0"] if back else wire.a
        wire.node.forward(kf.PacketBatch.from_frames(frames * 20, port, START + seconds * SECOND))
        states = Counter(f"tcp {TcpState(row['state']).name}" for row in table.to_records(family=6))
        assert table.occupancy()["states"] == dict(states)
    (row,) = table.ports_in_use(family=6)
    assert kf.address.ipv6_text(int.from_bytes(bytes(row["src"]), "big")) == NODE
    assert kf.address.ipv6_text(int.from_bytes(bytes(row["dst"]), "big")) == OUTSIDE
    assert (int(row["dport"]), int(row["used"])) == (80, len(flows))
