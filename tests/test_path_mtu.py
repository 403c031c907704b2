"""What ICMP told of paths: the table against its model, its bound, and what a node makes of it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from frames import ICMP, ICMP6, UDP, icmp, ipv4, ipv6, udp
from hypothesis import given, settings
from hypothesis import strategies as st
from models.path_mtu import EXPIRES, Paths
from strategies import NODE_IP
from test_dual_stack import FAR, NODE, OUTSIDE, kubenet
from test_dual_stack import Wire as Wire6
from test_node import INTERNET, A, Wire, from_a, from_outside

from kubenet_fastpath import Reason
from kubenet_fastpath.path_mtu import PathMtuTable

MOST = 2048 * 8
LINKS = {0: 1500, 1: 1400, 2: 700}


@pytest.fixture
def wire() -> Wire:
    return Wire()


moments = st.sampled_from([0, 0, 0, 1, EXPIRES // 2 - 1, EXPIRES // 2, EXPIRES - 1, EXPIRES, EXPIRES + 1])
mtus = st.sampled_from([0, 68, 551, 552, 553, 700, 1279, 1280, 1399, 1400, 1499, 1500, 9000])
hops = st.sampled_from([0, 0, 0, 0, 1, 2])
told = st.tuples(st.just("tell"), hops, st.sampled_from([0, 0, 0, 1, 2, 3]), mtus, st.sampled_from([4, 4, 6]))
link = st.tuples(st.just("link"), hops, mtus)
gone = st.tuples(st.just("gone"), hops)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.one_of(told, told, told, told, link, gone), moments), min_size=4, max_size=30))
def test_the_table_is_its_model(steps: list[tuple[tuple[str, int, int, int, int], int]]) -> None:
    table, model, links, now = PathMtuTable(seed=1), Paths(), dict(LINKS), 0
    for (what, hop, *rest), passed in steps:
        now += passed
        if what == "tell":
            ip, mtu, family = rest
            ip += 16 * family
            said = table.tell(hop, ip, links[hop], mtu, now, family=family)
            assert said == model.tell(hop, ip, links[hop], mtu, now, family=family)
        elif what == "link":
            table.set_link(hop, links[hop], rest[0])
            model.set_link(hop, links[hop], rest[0])
            links[hop] = rest[0]
        else:
            table.forget(hop)
            model.forget(hop)
        for of, carried in links.items():
            for ip in (*range(64, 68), *range(96, 100)):
                for forwarded in (False, True):
                    assert table.mtu(of, ip, carried, now, forwarded=forwarded) == model.mtu(
                        of, ip, carried, now, forwarded=forwarded
                    )
        rows = {(int(r["hop"]), int(r["ip"])): r for r in table.to_records() if r["expires"] > now}
        assert {key: (int(r["mtu"]), bool(r["locked"]), int(r["expires"])) for key, r in rows.items()} == {
            key: (path.mtu, path.locked, path.expires) for key, path in model.known.items() if path.expires > now
        }  # fmt: skip


def test_a_full_table_forgets_who_was_told_of_longest_ago() -> None:
    table = PathMtuTable(seed=7)
    assert len(table) == 0
    for n in range(3 * MOST):
        table.tell(n & 1, n, 1500, 1000, n)
        if n < 64:
            assert len(table) == n + 1  # it grows while that helps
    rows = table.to_records()
    assert 0.9 * MOST < len(rows) <= MOST
    kept = rows["ip"].astype(np.int64)
    assert set(range(3 * MOST - 1000, 3 * MOST)) <= set(kept.tolist())
    assert kept.mean() > 2.4 * MOST  # at random it were less


def test_those_that_have_expired_give_their_place() -> None:
    table = PathMtuTable(seed=7)
    for n in range(MOST):
        table.tell(0, n, 1500, 1000, 0)
    for n in range(100):
        table.tell(0, MOST + n, 1500, 1000, EXPIRES)
        assert table.mtu(0, MOST + n, 1500, EXPIRES) == 1000
    assert table.mtu(0, 5, 1500, EXPIRES) == 1500
    table = PathMtuTable(seed=7)
    for n in range(1000):
        table.tell(0, n, 1500, 1000, n * EXPIRES)
    assert len(table) <= 64  # and the table stays as small as it began


def tell(
    wire: Wire, mtu: int, *, kind: int = 0, cut: int = 0, src: str = NODE_IP, dst: str = INTERNET
) -> None:
    """A router says to the node that an answer of its own was too big."""
    quote = ipv4(src, dst, ICMP, icmp(kind, 0, 9, 1, bytes(20)))
    error = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quote[: len(quote) - cut]
    wire.send("eth0", from_outside("198.51.100.1", NODE_IP, ICMP, error))


def ping(wire: Wire, size: int) -> list[int]:
    """Lengths of the IP packets in which the node answers."""
    out = wire.send("eth0", from_outside(INTERNET, NODE_IP, ICMP, icmp(8, 0, 5, 1, bytes(size))))
    return [len(frame) - 14 for frame in out["eth0"]]


def test_the_nodes_own_packets_keep_to_what_was_told(wire: Wire) -> None:
    assert ping(wire, 1400) == [1428]
    tell(wire, 1300)
    assert ping(wire, 1400) == [1300, 148]
    assert "eth0" in wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2, bytes(1400)), flags=0x4000))
    wire.wait(599)
    assert ping(wire, 1400) == [1300, 148]
    wire.wait(1)
    assert ping(wire, 1400) == [1428]


def test_of_a_path_that_is_locked_nothing_larger_is_forwarded(wire: Wire) -> None:
    big, large = (from_a(INTERNET, UDP, udp(1, 2, bytes(1400)), flags=df) for df in (0x4000, 0))
    back = from_outside(INTERNET, NODE_IP, UDP, udp(2, 1))
    for frame in (big, large, big, big):
        assert len(wire.send("pod1", frame)["eth0"]) == 1
    wire.send("eth0", back)
    for _ in range(3):  # a known flow, which goes the short way
        wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2), flags=0x4000))
    tell(wire, 400)
    (error,) = wire.send("pod1", big)["pod1"]
    assert (error[34], error[35], error[40:42]) == (3, 4, (552).to_bytes(2, "big"))
    assert wire.reason == Reason.PKT_TOO_BIG
    assert [len(f) - 14 for f in wire.send("pod1", large)["eth0"]] == [548, 548, 372]
    for _ in range(3):  # what fits does not teach the short way that all fits
        assert len(wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2), flags=0x4000))["eth0"]) == 1
    assert "eth0" not in wire.send("pod1", big)
    assert "eth0" in wire.send("pod1", from_a("203.0.113.9", UDP, udp(1, 2, bytes(1400)), flags=0x4000))
    wire.wait(601)
    assert "eth0" in wire.send("pod1", big)


def test_errors_quote_what_gets_through(wire: Wire) -> None:
    closed = from_outside(INTERNET, NODE_IP, UDP, udp(1, 2, bytes(1400)))
    assert len(wire.send("eth0", closed)["eth0"][0]) == 14 + 576
    tell(wire, 0)
    assert len(wire.send("eth0", closed)["eth0"][0]) == 14 + 552


@pytest.mark.parametrize(
    "more",
    [{"kind": 8}, {"cut": 20}, {"cut": 28}, {"src": A}, {"dst": "224.0.0.9"}, {"dst": NODE_IP}, {"dst": "0.0.0.0"}],
    ids=str,
)  # fmt: skip
def test_what_nothing_comes_of(wire: Wire, more: dict[str, Any]) -> None:
    tell(wire, 400, **more)
    learned = more == {"cut": 20}  # 8 bytes of the answer are enough
    assert len(wire.node.path_mtus) == learned


def test_what_a_link_or_a_route_does_to_paths(wire: Wire) -> None:
    tell(wire, 1300)
    wire.node.set_mtu("eth0", 1200)
    assert wire.node.path_mtus.to_records()["mtu"].tolist() == [1200]
    wire.node.set_mtu("eth0", 1500)
    assert wire.node.path_mtus.to_records()["mtu"].tolist() == [1500]
    routes = ["10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0"]
    wire.node.set_routes(
        [*routes, "default via 10.240.0.1 dev eth0", "198.18.0.0/15 via 10.240.0.1 dev eth0"]
    )
    assert len(wire.node.path_mtus) == 1
    wire.node.set_routes([*routes, "default via 10.240.0.9 dev eth0"])
    assert len(wire.node.path_mtus) == 0
    tell(wire, 1300)
    wire.node.set_up("eth0", False)
    assert len(wire.node.path_mtus) == 0


def tell6(wire: Wire6, mtu: int, dst: str, kind: int = 129) -> None:
    quote = ipv6(NODE, dst, ICMP6, struct.pack("!BBHHH", kind, 0, 0, 9, 1))
    wire.to_node("2001:db8::1", NODE, struct.pack("!BBHI", 2, 0, 0, mtu) + quote, ICMP6)


def test_packets_of_ipv6_are_forwarded_by_what_was_told() -> None:
    wire = Wire6(kubenet())
    big = udp(1, 2, bytes(1400))
    assert wire.from_a(FAR, big)[0] == "ROUTED"
    tell6(wire, 1279, FAR)
    assert wire.from_a(FAR, big)[0] == "ROUTED"
    tell6(wire, 1300, FAR)
    verdict, reason, ((port, error),) = wire.from_a(FAR, big)
    assert (verdict, reason, port) == ("DROP", "PKT_TOO_BIG", "a")
    assert (error[54], error[58:62]) == (2, (1300).to_bytes(4, "big"))
    assert wire.from_a(FAR, udp(1, 2, bytes(1252)))[0] == "ROUTED"
    assert wire.from_a(OUTSIDE, big)[0] == "ROUTED"
    wire.now += 600 * 10**9
    assert wire.from_a(FAR, big)[0] == "ROUTED"
