"""IPv6 fragments through a dual-stack node: what `tests/kernel/test_dual_stack.py` has seen the running kernel do.

Sources: net/ipv6/netfilter/nf_conntrack_reasm.c, net/ipv6/ip6_output.c (ip6_fragment), net/ipv6/reassembly.c.
"""

from __future__ import annotations

import pickle
import struct
from itertools import pairwise
from typing import Any

import pytest
from frames import ICMP6, TCP, UDP, eth6, fragment6, fragments6, ipv6, packed6, tcp, udp
from test_dual_stack import (
    BRIDGE_MAC,
    FABRIC,
    FAR,
    FOUR,
    NODE,
    NODE_MAC,
    OUTSIDE,
    PODS,
    PODS4,
    SIX,
    Wire,
    kubenet,
)

import kubenet_fastpath as kf

SECOND = 10**9


@pytest.fixture
def wire() -> Wire:
    return Wire(kf.AzureCniOverlay(**(FOUR | PODS4 | SIX | PODS)))


def send(
    wire: Wire, parts: list[bytes], dst_mac: str | None = None
) -> list[tuple[str, str, list[tuple[str, bytes]]]]:
    router = BRIDGE_MAC if isinstance(wire.node.config, kf.Kubenet) else str(wire.a.pod.host_mac)
    return [wire.send(wire.a, eth6(dst_mac or router, str(wire.a.pod.mac), part)) for part in parts]


def payloads(frames: list[tuple[str, bytes]]) -> list[bytes]:
    return [frame[62:] for _, frame in frames]


def place(frame: bytes) -> tuple[int, bool]:
    word = int.from_bytes(frame[56:58], "big")
    return word & 0xFFF8, bool(word & 1)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("size", [100, 2900])
def test_a_datagram_is_one_to_conntrack_and_leaves_in_pieces(wire: Wire, size: int, order: int) -> None:
    l4 = udp(1000, 53, bytes(range(100)) * (size // 100))
    parts = fragments6(ipv6(str(wire.a.pod.ip6), OUTSIDE, UDP, l4), 48 if size == 100 else 1440, 77)
    *held, last = send(wire, parts[::order])
    assert {(verdict, reason) for verdict, reason, _ in held} == {("HELD", "FRAGMENT")}
    assert last[0:2] == ("ROUTED", "MASQUERADE")
    out = last[2]
    assert [place(frame) for _, frame in out] == [
        (int.from_bytes(part[42:44], "big") & 0xFFF8, bool(part[43] & 1)) for part in parts
    ]
    whole = ipv6("fd00:10::4", OUTSIDE, UDP, b"".join(payloads(out)), hops=63)
    assert b"".join(payloads(out)) == whole[40:]  # the checksum is that of the translated datagram
    assert len({frame[58:62] for _, frame in out}) == 1
    (row,) = wire.node.connections.to_records(family=6)
    assert (row["packets"], row["bytes"]) == (1, 48 + size)


def test_pieces_of_any_size_stay_as_they_were(wire: Wire) -> None:
    l3 = ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(2000)))
    cuts = [0, 8, 656, 672, 2008]
    parts = [fragment6(l3[:40], UDP, l3[40 + a : 40 + b], a, b < 2008, 9) for a, b in pairwise(cuts)]
    out = send(wire, parts)[-1][2]
    assert [place(frame)[0] for _, frame in out] == cuts[:-1]


def test_what_came_smaller_than_1280_need_not_leave_so() -> None:
    """ip6_fragment: `mtu < IPV6_MIN_MTU`. A flooded copy is cut anew."""
    wire = Wire(kubenet())
    stranger = "02:00:00:00:77:77"
    wire.node.attach(kf.Pod("c"))
    parts = fragments6(ipv6(str(wire.a.pod.ip6), str(wire.b.pod.ip6), UDP, udp(1, 2, bytes(1992))), 800, 9)
    flooded = send(wire, parts, stranger)[-1]
    assert flooded[0] == "FLOODED"
    assert {tuple(place(f)[0] for p, f in flooded[2] if p == pod) for pod in "bc"} == {(0, 1232)}


def test_the_last_port_gets_the_frame_itself() -> None:
    """br_flood: clones for all but the port that joined first, if the host does not need it; clones are cut anew."""
    wire = Wire(kubenet(hairpin=kf.Hairpin.NONE))
    wire.node.attach(kf.Pod("c"))
    parts = fragments6(ipv6(str(wire.a.pod.ip6), str(wire.b.pod.ip6), UDP, udp(1, 2, bytes(1992))), 800, 9)
    flooded = send(wire, parts, "02:00:00:00:77:77")[-1]
    places = {pod: tuple(place(f)[0] for p, f in flooded[2] if p == pod) for pod in "bc"}
    assert places == {"b": (0, 800, 1600), "c": (0, 1232)}


def test_overlap_ends_the_datagram_but_a_wrong_end_alone_does_not(wire: Wire) -> None:
    l3 = ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92)))
    first, second, last = fragments6(l3, 40, 9)
    assert len(last) == 68
    across = fragment6(l3[:40], UDP, l3[80:120], 32, True, 9)
    assert [out[1] for out in send(wire, [first, across, second, last])] == [
        "FRAGMENT", "FRAG_REASM", "FRAGMENT", "FRAGMENT",
    ]  # fmt: skip
    first, second, last = (part[:44] + b"\0\0\0\x0a" + part[48:] for part in (first, second, last))
    beyond = fragment6(l3[:40], UDP, bytes(8), 96, True, 10)
    fates = [out[1] for out in send(wire, [last, beyond, last, second, first])]
    assert fates == ["FRAGMENT", "FRAG_REASM", "FRAG_REASM", "FRAGMENT", "ROUTE"]


def test_duplicates_are_dropped_alone(wire: Wire) -> None:
    parts = fragments6(ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92))), 40, 9)
    assert [out[1] for out in send(wire, [parts[0], parts[0], *parts[1:]])] == [
        "FRAGMENT", "FRAG_REASM", "FRAGMENT", "ROUTE",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "left"),
    [((2, 3, 2), 3), ((0, 3, 0), None), ((2, 1, 2), 2), ((0, 0, 0), 0), ((0, 2, 0), None)],
)
def test_congestion(wire: Wire, classes: tuple[int, ...], left: int | None) -> None:
    """ip_frag_ecn_table (RFC 3168 5.3)."""
    parts = fragments6(ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92))), 40, 9)
    marked = [bytes([p[0], p[1] | ecn << 4]) + p[2:] for p, ecn in zip(parts, classes, strict=True)]
    out = send(wire, marked)[-1][2]
    assert [frame[15] >> 4 & 3 for _, frame in out] == ([] if left is None else [left] * 3)


def test_destination_options_in_front_stay_in_front(wire: Wire) -> None:
    """ip6_find_1stfragopt takes them for headers that every fragment has, without a routing header, too."""
    options = bytes([44, 0, 1, 4, 0, 0, 0, 0])
    parts = [
        p[:4] + struct.pack("!HB", len(p) - 32, 60) + p[7:40] + options + p[40:]
        for p in fragments6(ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92))), 40, 9)
    ]
    out = send(wire, parts)[-1][2]
    assert [(frame[20], frame[54]) for _, frame in out] == [(60, 44)] * 3
    assert (
        b"".join(frame[70:] for _, frame in out)
        == ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92)))[40:]
    )


def test_fragments_that_are_none_of_conntracks_are_refused_by_the_node(wire: Wire) -> None:
    l3 = ipv6(str(wire.a.pod.ip6), NODE, UDP, udp(1, 2, bytes(93)))
    ((_, _, out),) = send(wire, [fragment6(l3[:40], UDP, l3[40:], 0, True, 9)])  # not a multiple of 8
    assert out[0][1][54:62] == bytes([4, 0]) + out[0][1][56:58] + bytes([0, 0, 0, 4])
    l3 = ipv6(str(wire.a.pod.ip6), NODE, TCP, tcp(1, 2, 2))
    ((_, _, out),) = send(wire, [fragment6(l3[:40], TCP, l3[40:48], 0, True, 9)])  # without all of its header
    assert out[0][1][54:62] == bytes([4, 3]) + out[0][1][56:58] + bytes(4)


def test_a_large_echo_is_answered_in_fragments(wire: Wire) -> None:
    echo = struct.pack("!BBHHH", 128, 0, 0, 7, 1) + bytes(2000)
    pod = str(wire.a.pod.ip6)
    out = send(wire, fragments6(ipv6(pod, NODE, ICMP6, echo), 1440, 9))[-1][2]
    assert [place(frame) for _, frame in out] == [(0, True), (1448, False)]
    assert b"".join(payloads(out)) == ipv6(NODE, pod, ICMP6, b"\x81" + echo[1:])[40:]


@pytest.mark.parametrize(("first", "bridged"), [(True, False), (True, True), (False, False)])
def test_time_out(first: bool, bridged: bool) -> None:
    """Whoever the datagram is for, its sender is told, if the first fragment came (ip6frag_expire_frag_queue)."""
    wire = Wire(kubenet(fragment6_timeout_s=2))
    pod = str(wire.a.pod.ip6)
    dst, dst_mac = (str(wire.b.pod.ip6), str(wire.b.pod.mac)) if bridged else (FAR, BRIDGE_MAC)
    parts = fragments6(ipv6(pod, dst, UDP, udp(1, 2, bytes(92))), 40, 9)
    send(wire, [parts[0] if first else parts[1]], dst_mac)
    assert wire.node.fragments6.next_due == wire.now + 2 * SECOND
    assert len(wire.node.advance(wire.now + 2 * SECOND - 1)) == 0
    frames = wire.node.advance(wire.now + 2 * SECOND).packets(None)
    assert [bytes(frame[54:56]) for frame in frames] == ([b"\3\1"] if first else [])
    assert all(bytes(frame[62:]) == parts[0] for frame in frames)
    assert wire.node.counters["held_now"] == 0


def test_the_table_is_not_pickled(wire: Wire) -> None:
    send(wire, fragments6(ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92))), 40, 9)[:1])
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(wire.node.fragments6)


def test_an_error_empties_its_peers_bucket_where_there_is_no_limit() -> None:
    """inet_peer_xrlim_allow(peer, 0) leaves no token, and redirects about that peer want one a second."""

    def told(*, after_an_error: bool) -> list[int]:
        wire = Wire(kf.AzureCniOverlay(**(FOUR | PODS4 | SIX | PODS), icmp_ratelimit_ms=0))
        stranger: dict[str, Any] = {"proto": 253}
        if after_an_error:
            wire.from_a(FAR, b"12345678", hops=1, **stranger)
        _, _, out = wire.from_a(str(wire.a.pod.ip6), b"12345678", **stranger)
        return [frame[54] for _, frame in out if frame[20] == ICMP6]

    assert told(after_an_error=False) == [137]
    assert told(after_an_error=True) == []


def test_addresses_of_fragments_outlive_a_sweep(wire: Wire) -> None:
    parts = fragments6(ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1, 2, bytes(92))), 40, 9)
    send(wire, parts[:1])
    for number in range(5):
        frames = [
            eth6(
                NODE_MAC,
                FABRIC,
                ipv6("2001:db8:1::7", f"2001:db8:{number + 2:x}::{i:x}", 253, bytes(8), hops=1),
            )
            for i in range(1, 8000)
        ]
        wire.node.forward(kf.PacketBatch.from_frames(frames, wire.node.ports["eth0"], wire.now))
    assert send(wire, parts[1:])[-1][1] == "ROUTE"


def test_too_big_for_the_bridge_and_for_a_port_alone() -> None:
    """br_nf_dev_queue_xmit has ip6_fragment cut what a port does not take by the bridge's MTU, not the port's: beyond
    that the sender is told; below, a fragment leaves if it happens to fit, and the one that is whole does not."""
    wire = Wire(kubenet(hairpin=kf.Hairpin.NONE))
    wire.node.set_mtu("cbr0", 1400)
    wire.node.set_mtu("b", 1300)
    pod, to = str(wire.a.pod.ip6), (str(wire.b.pod.ip6), str(wire.b.pod.mac))

    def out(size: int) -> list[tuple[str, bytes]]:
        return send(wire, [ipv6(pod, to[0], UDP, udp(1, 2, bytes(size - 48)))], to[1])[0][2]

    assert [port for port, _ in out(1300)] == ["b"]
    assert out(1350) == []
    ((port, left),) = out(1396)  # 1,352 bytes of payload, and 4
    assert (port, place(left), len(left)) == ("b", (1352, False), 14 + 40 + 8 + 4)
    ((port, told),) = out(1401)
    assert (port, told[54:56], int.from_bytes(told[58:62], "big")) == ("a", b"\2\0", 1400)


def test_nobody_speaks_from_loopback_to_a_link() -> None:
    """ipv6_chk_addr: ::1 is lo's alone. A bridged fragment to it is gathered before anybody looks where it goes."""
    wire = Wire(kubenet(fragment6_timeout_s=2))
    parts = fragments6(ipv6(str(wire.a.pod.ip6), "::1", UDP, udp(1, 2, bytes(92))), 40, 9)
    send(wire, parts[:1])
    (frame,) = wire.node.advance(wire.now + 2 * SECOND).packets(None)
    assert bytes(frame[22:38]) == packed6("fd12:3456:789a:0:1::1")


@pytest.mark.parametrize(
    ("proto", "body", "told"),
    [
        (UDP, b"", None),  # nobody speaks about what is too short
        (TCP, b"\0" * 8, None),
        (253, b"", b"\4\1" + struct.pack("!I", 40)),  # unknown, as the fragment header says
        (
            44,
            struct.pack("!BBHI", UDP, 0, 0, 7),
            b"\4\0" + struct.pack("!I", 48),
        ),  # a fragment header once more
    ],
)
def test_a_fragment_that_is_whole_is_what_it_holds(
    wire: Wire, proto: int, body: bytes, told: bytes | None
) -> None:
    """ipv6_frag_rcv: without offset and more, what is behind the header is delivered, cut off or not (RFC 6946)."""
    atomic = struct.pack("!BBHI", proto, 0, 0, 68) + body
    _, reason, out = wire.from_a(NODE, atomic, proto=44)
    errors = [frame[54:56] + frame[58:62] for _, frame in out if frame[20] == ICMP6 and frame[54] < 128]
    assert (reason, errors) == ("LOCAL_DELIVERY", [told] if told else [])
