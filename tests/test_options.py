"""IPv4 options on their way through the node: against a model, and case by case."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import frames
import pytest
from frames import ICMP, SYN, TCP, UDP, icmp, ipv4, packet, tcp, udp
from golden_compare import with_checksums
from hypothesis import example, given
from hypothesis import strategies as st
from models.options import Malformed, Router, SourceRoute
from strategies import BRIDGE_IP, BRIDGE_MAC, GATEWAY_MAC, NODE_IP, NODE_MAC, PODS, SECOND
from test_node import START, Wire

import kubenet_fastpath as kf
from kubenet_fastpath import Reason, Verdict

A, A_MAC = PODS["pod1"]
AWAY, LONELY = "10.244.2.10", "192.0.2.9"
CLOCK = struct.pack("!I", START // 1_000_000 % 86_400_000)
QUIET = {"kube_proxy": False, "masquerade": kf.Masquerade.NONE}


def octets(ip: str) -> bytes:
    return IPv4Address(ip).packed


def with_options(
    options: bytes, dst: str = AWAY, ttl: int = 64, l4: bytes | None = None, proto: int = UDP
) -> bytes:
    return packet(BRIDGE_MAC, A_MAC, ipv4(A, dst, proto, l4 or udp(1, 2), ttl=ttl, options=options))


def options_of(frame: bytes) -> bytes:
    return frame[34 : 14 + (frame[14] & 15) * 4]


def route_to(slots: int, pointer: int = 4) -> bytes:
    """Record route with so many free slots, and a no-operation to fill the word."""
    return bytes([7, 3 + 4 * slots, pointer]) + bytes(4 * slots) + b"\1"


def test_a_route_is_recorded_by_where_it_leaves() -> None:
    wire = Wire(**QUIET)
    out = wire.send("pod1", with_options(route_to(2)))["eth0"][0]
    assert options_of(out) == bytes([7, 11, 8]) + octets(NODE_IP) + bytes(4) + b"\1"
    assert out == with_checksums(out)
    back = packet(NODE_MAC, GATEWAY_MAC, ipv4(AWAY, A, UDP, udp(3, 4), options=route_to(1)))
    assert options_of(wire.send("eth0", back)["pod1"][0]) == bytes([7, 7, 8]) + octets(BRIDGE_IP) + b"\1"


def test_a_full_route_stays_as_it_is() -> None:
    frame = with_options(route_to(1, pointer=8))
    assert options_of(Wire(**QUIET).send("pod1", frame)["eth0"][0]) == route_to(1, pointer=8)


def test_bridged_options_are_nobodys_business() -> None:
    b, b_mac = PODS["pod2"]
    for options in (route_to(2), b"\x83\x07\x04\x0a\xf0\x00\x09\x01", b"\x07\x02\x00\x01"):
        frame = packet(b_mac, A_MAC, ipv4(A, b, UDP, udp(1, 2), options=options))
        assert Wire(**QUIET).send("pod1", frame)["pod2"] == [frame]


@pytest.mark.parametrize("kind", [131, 137])
@pytest.mark.parametrize("dst", [AWAY, NODE_IP, LONELY])
def test_source_routes_are_not_followed(kind: int, dst: str) -> None:
    wire = Wire(**QUIET)
    assert wire.send("pod1", with_options(bytes([kind, 7, 4]) + octets("10.240.0.9") + b"\0", dst)) == {}
    assert (wire.verdict, wire.reason) == (Verdict.DROP, Reason.SOURCE_ROUTE)


def test_a_malformed_option_is_a_parameter_problem() -> None:
    wire = Wire(**QUIET)
    sent = with_options(b"\1\7\x0b\3" + bytes(8))
    (out,) = wire.send("pod1", sent)["pod1"]
    assert wire.reason is Reason.IP_INHDR
    assert out == with_checksums(out)
    assert (out[34], out[35], out[38]) == (12, 0, 23)
    assert out[42:] == sent[14:]


def test_an_error_quotes_what_was_recorded_and_goes_on_recording() -> None:
    (out,) = Wire(**QUIET).send("pod1", with_options(route_to(3), ttl=1))["pod1"]
    own = bytes([7, 15, 12]) + octets(BRIDGE_IP) * 2 + bytes(4) + b"\0"
    assert options_of(out) == own
    quoted = out[34 + len(own) + 8 :]
    sent = with_options(route_to(3), ttl=1)[14:]
    recorded = bytes([7, 15, 8]) + octets(BRIDGE_IP) + bytes(8) + b"\1"
    assert quoted == sent[:20] + recorded + sent[20 + len(recorded) :]  # under the old checksum


def test_an_echo_records_the_way_there_and_back() -> None:
    ping = with_options(route_to(3), dst=BRIDGE_IP, proto=ICMP, l4=icmp(8))
    (out,) = Wire(**QUIET).send("pod1", ping)["pod1"]
    assert options_of(out) == bytes([7, 15, 12]) + octets(BRIDGE_IP) * 2 + bytes(4) + b"\0"
    assert out == with_checksums(out)
    stamps = bytes([68, 20, 5, 1]) + bytes(16)
    ping = with_options(stamps, dst=BRIDGE_IP, proto=ICMP, l4=icmp(8))
    (out,) = Wire(**QUIET).send("pod1", ping)["pod1"]
    assert options_of(out) == bytes([68, 20, 21, 1]) + (octets(BRIDGE_IP) + CLOCK) * 2


@pytest.mark.parametrize(("checked", "told"), [(True, True), (False, False)])
def test_a_sum_over_a_header_that_was_written_into(checked: bool, told: bool) -> None:
    """REJECT looks at a checksum itself unless conntrack has, header and all (nf_ip_checksum)."""
    port = kf.ServicePort(port=80, node_port=30080)
    wire = Wire(
        services=(kf.Service(name="d/none", cluster_ip="10.0.0.50", ports=(port,)),),
        conntrack_checksum=checked,
    )
    for options, answered in ((route_to(3), told), (b"\x94\4\0\0", True), (b"", True)):
        l3 = ipv4(AWAY, NODE_IP, TCP, tcp(40000, 30080, SYN), options=options)
        assert (set(wire.send("eth0", packet(NODE_MAC, GATEWAY_MAC, l3))) == {"eth0"}) is answered
        assert wire.reason is Reason.NO_ENDPOINTS


def test_an_answer_without_room_is_not_sent() -> None:
    stamps = bytes([68, 15, 5, 1]) + bytes(11) + b"\0"
    wire = Wire(**QUIET)
    assert wire.send("pod1", with_options(stamps, dst=BRIDGE_IP, proto=ICMP, l4=icmp(8))) == {}
    assert wire.verdict is Verdict.LOCAL


def test_an_error_goes_back_along_the_source_route_that_was_read() -> None:
    """The problem is behind it; the packet came by 10.240.0.9 and would have gone on to 192.0.2.9."""
    wire = Wire(**QUIET)
    route = bytes([131, 11, 8]) + octets("10.240.0.9") + octets(LONELY)
    bad = with_options(route + bytes([7, 2]) + bytes(3))
    wire.send("pod1", bad)
    arp = wire.send("pod1", bad)
    assert arp == {}  # 10.240.0.9 is asked for once
    answer = frames.arp(2, "00:0d:3a:00:00:09", "10.240.0.9", NODE_MAC, NODE_IP, dst=NODE_MAC)
    first, _ = wire.send("eth0", answer)["eth0"]
    assert first[30:34] == octets("10.240.0.9")
    assert options_of(first) == bytes([131, 7, 4]) + octets(A) + b"\0"
    assert (first[42], first[46]) == (12, 20 + len(route) + 1)
    assert first == with_checksums(first)


def test_a_source_route_that_leads_from_the_sender_goes_to_the_sender() -> None:
    route = bytes([131, 7, 8]) + octets(A)
    (out,) = Wire(**QUIET).send("pod1", with_options(route + bytes([7, 2]) + bytes(3)))["pod1"]
    assert (out[30:34], options_of(out)) == (octets(A), b"")


def test_options_are_read_again_when_the_next_hop_does_not_answer() -> None:
    """By then its first slot has the address that the packet would have left by; the next one is filled."""
    wire = Wire(**QUIET)
    sent = with_options(route_to(3), dst="10.240.0.77")
    wire.send("pod1", sent)
    (out,) = wire.wait(4.0)["pod1"]
    quoted = out[14 + (out[14] & 15) * 4 + 8 :]
    assert quoted[20:36] == bytes([7, 15, 12]) + octets(NODE_IP) + octets(BRIDGE_IP) + bytes(4) + b"\1"
    assert options_of(out) == bytes([7, 15, 16]) + octets(NODE_IP) + octets(BRIDGE_IP) * 2 + b"\0"


SIZES = st.sampled_from((0, 1, 2, 3, 4, 7, 8, 11, 12, 15, 19, 20, 39, 40, 255))
ADDRESSES = st.sampled_from(
    (NODE_IP, BRIDGE_IP, AWAY, "224.0.0.1", "127.0.0.1", "10.244.1.255", "0.0.0.0")
).map(octets)


@st.composite
def one_option(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from((0, 1, 7, 7, 68, 68, 68, 131, 137, 148, 134, 130, 94)))
    if kind < 2:
        return bytes([kind])
    size = draw(st.sampled_from((3, 4, 7, 8, 11, 12, 15, 20)))
    body = bytearray(draw(st.binary(min_size=size - 2, max_size=size - 2)))
    start = 4 if kind == 7 else 5
    body[0] = (
        draw(
            st.sampled_from(
                (start, start, start, start + 4, start + 8, size, size + 1, size - 3, size - 7, 3, 255)
            )
        )
        & 255
    )
    if kind == 68 and size > 3:
        body[1] = draw(st.sampled_from((0, 1, 3, 3, 2, 0xF0, 0xF1, 0xE1, 0xF3)))
        for at in range(2, size - 5, 8):
            body[at : at + 4] = draw(ADDRESSES)
    stated = draw(SIZES) if draw(st.integers(0, 9)) == 0 else size
    return bytes([kind, stated]) + body


@example([route_to(1)[:-1], route_to(1)[:-1]])
@example([bytes([7, 8, 6]) + bytes(5)])
@example([bytes([68, 8, 9, 0xE0]) + bytes(4)])
@example([bytes([68, 8, 9, 0xF0]) + bytes(4)])
@example([bytes([131, 7, 4]) + octets("10.240.0.9"), bytes([137, 7, 4]) + octets("10.240.0.9")])
@example([bytes([68, 12, 5, 3]) + octets(AWAY) + bytes(4)])
@example([bytes([68, 12, 5, 3]) + octets(NODE_IP) + bytes(4)])
@example([bytes([68, 12, 5, 3]) + octets("224.0.0.1") + bytes(4)])
@example([b"\1", b"\0", b"\7"])
@given(st.lists(one_option(), min_size=1, max_size=4))
def test_against_the_model(parts: list[bytes]) -> None:
    options = b"".join(parts)[:40]
    options += bytes(-len(options) % 4)
    wire = Wire(**QUIET)
    mine = {octets(ip) for ip in (NODE_IP, BRIDGE_IP, "224.0.0.1", "127.0.0.1", "10.244.1.255", "0.0.0.0")}
    router = Router(
        octets(BRIDGE_IP), octets(NODE_IP), CLOCK, lambda ip: ip in mine or ip[0] in (127, *range(224, 240))
    )
    out = wire.send("pod1", with_options(options))
    try:
        expected, pointer = router.read(options), None
    except SourceRoute:
        expected, pointer = None, None
    except Malformed as problem:
        expected, pointer = None, problem.args[0]
    if expected is not None:
        (frame,) = out["eth0"]
        assert options_of(frame) == expected
        assert frame == with_checksums(frame)
    elif pointer is None:
        assert (out, wire.reason) == ({}, Reason.SOURCE_ROUTE)
    else:
        assert wire.reason is Reason.IP_INHDR
        for frame in out.get("pod1", []):  # none if there is no room for the answer's own address
            header = 14 + (frame[14] & 15) * 4
            assert (frame[header], frame[header + 4]) == (12, pointer)


def test_time_moves_the_stamps() -> None:
    wire = Wire(**QUIET)
    wire.now += 90_000 * SECOND
    out = wire.send("pod1", with_options(bytes([68, 8, 5, 0]) + bytes(4)))["eth0"][0]
    assert struct.unpack("!I", options_of(out)[4:]) == (wire.now // 1_000_000 % 86_400_000,)
