"""One packet's way through a kubenet node, case by case (T.. are the vectors of the semantics specification).

One file, in the order of the specification.
"""

from __future__ import annotations

import struct

import frames
import numpy as np
import pytest
from frames import ACK, ICMP, SYN, TCP, UDP, arp, eth, fields, icmp, ipv4, packet, tcp, udp
from strategies import (
    BRIDGE_IP,
    BRIDGE_MAC,
    GATEWAY_MAC,
    NODE_IP,
    NODE_MAC,
    PODS,
    SECOND,
    VIPS,
    make_node,
    make_services,
)

import kubenet_fastpath as kf
from kubenet_fastpath import Reason, Verdict

A, A_MAC = PODS["pod1"]
B, B_MAC = PODS["pod2"]
C = "10.244.2.10"
INTERNET = "198.51.100.7"
GRE = 47
START = 10**18


class Wire:
    """A node with a clock: frames go in one at a time, frames come out by port."""

    def __init__(self, **changes: object) -> None:
        self.node = make_node(**changes)
        self.now = START

    def send(self, port: str, frame: bytes) -> dict[str, list[bytes]]:
        batch = kf.PacketBatch.from_frames([frame], self.node.ports[port], self.now)
        self.result = self.node.forward(batch)
        self.verdict, self.reason = Verdict(self.result.verdict[0]), Reason(self.result.reason[0])
        return self._out()

    def wait(self, seconds: float) -> dict[str, list[bytes]]:
        self.now += round(seconds * SECOND)
        self.result = self.node.advance(self.now)
        return self._out()

    def _out(self) -> dict[str, list[bytes]]:
        out = {name: self.result.packets(name).frames() for name in self.node.ports}
        return {name: left for name, left in out.items() if left}


@pytest.fixture
def wire() -> Wire:
    return Wire()


def from_a(dst: str, proto: int, payload: bytes, mac: str = BRIDGE_MAC, **ip: object) -> bytes:
    return packet(mac, A_MAC, ipv4(A, dst, proto, payload, **ip))


def from_outside(src: str, dst: str, proto: int, payload: bytes, **ip: object) -> bytes:
    return packet(NODE_MAC, GATEWAY_MAC, ipv4(src, dst, proto, payload, **ip))


@pytest.mark.parametrize("ttl", [64, 1])
def test_a_bridged_packet_stays_as_it_is(wire: Wire, ttl: int) -> None:  # T01, T02
    frame = from_a(B, TCP, tcp(1000, 80, SYN), B_MAC, ttl=ttl)
    assert wire.send("pod1", frame) == {"pod2": [frame]}
    assert (wire.verdict, wire.reason) == (Verdict.BRIDGED, Reason.FDB)
    assert len(wire.node.connections) == 1
    assert wire.result.out_port.tolist() == [wire.node.ports["pod2"].index]


def test_br_netfilter_checks_the_header(wire: Wire) -> None:  # T03
    frame = bytearray(from_a(B, UDP, udp(1, 2), B_MAC))
    frame[24] ^= 1
    assert wire.send("pod1", bytes(frame)) == {}
    assert wire.reason is Reason.IP_CSUM
    off = Wire(bridge_nf_call_iptables=False)
    assert off.send("pod1", bytes(frame)) == {"pod2": [bytes(frame)]}


def test_an_unknown_mac_is_flooded_but_not_back() -> None:  # T04
    wire = Wire(arp_notify=False)
    frame = from_a(B, UDP, udp(1, 2), B_MAC)
    assert wire.send("pod1", frame) == {"pod2": [frame], "pod3": [frame]}
    assert (wire.verdict, wire.reason) == (Verdict.FLOODED, Reason.UNKNOWN_UNICAST)
    assert wire.result.out_port.tolist() == [-1]
    assert wire.result.source("pod3").tolist() == [0]


def test_a_frame_does_not_leave_where_it_came_in(wire: Wire) -> None:  # T05
    wire.send("pod1", eth("ff:ff:ff:ff:ff:ff", B_MAC, bytes(46), 0x88B5))
    assert wire.send("pod1", from_a(B, UDP, udp(1, 2), B_MAC)) == {}
    assert wire.reason is Reason.SAME_PORT


def test_to_another_nodes_pod(wire: Wire) -> None:  # T06
    out = wire.send("pod1", from_a(C, UDP, udp(1, 2)))
    links, ips = {"eth_dst": GATEWAY_MAC, "eth_src": NODE_MAC}, {"src": A, "dst": C, "ttl": 63, "proto": UDP}
    assert fields(out["eth0"][0]) == links | ips | {"sport": 1, "dport": 2}
    assert (wire.verdict, wire.reason) == (Verdict.ROUTED, Reason.ROUTE)


def test_from_another_nodes_pod(wire: Wire) -> None:  # T07
    out = wire.send("eth0", from_outside(C, A, UDP, udp(1, 2), ttl=63))
    found = fields(out["pod1"][0])
    assert (found["eth_src"], found["eth_dst"], found["ttl"]) == (BRIDGE_MAC, A_MAC, 62)


@pytest.mark.parametrize(("port", "speaker", "to"), [("pod1", BRIDGE_IP, A), ("eth0", NODE_IP, C)])
def test_ttl_runs_out(wire: Wire, port: str, speaker: str, to: str) -> None:  # T08, T09
    frame = from_a(C, UDP, udp(1, 2), ttl=1) if port == "pod1" else from_outside(C, A, UDP, udp(1, 2), ttl=1)
    out = wire.send(port, frame)
    found = fields(out[port][0])
    assert (found["src"], found["dst"], found["type"], found["code"]) == (speaker, to, 11, 0)
    assert out[port][0][14 + 28 :] == frame[14:]
    assert wire.reason is Reason.TTL
    assert len(wire.node.connections) == 0


def test_masqueraded_and_back(wire: Wire) -> None:  # T10, T11
    out = wire.send("pod1", from_a(INTERNET, UDP, udp(40000, 53)))
    found = fields(out["eth0"][0])
    assert (found["src"], found["sport"], found["ttl"]) == (NODE_IP, 40000, 63)
    assert wire.reason is Reason.MASQUERADE
    out = wire.send("eth0", from_outside(INTERNET, NODE_IP, UDP, udp(53, 40000), ttl=57))
    found = fields(out["pod1"][0])
    assert (found["dst"], found["dport"], found["ttl"], found["eth_src"]) == (A, 40000, 56, BRIDGE_MAC)
    assert wire.reason is Reason.NAT_REPLY


@pytest.mark.parametrize(
    ("port", "low", "high"), [(40000, 1024, 65535), (80, 1, 511), (600, 600, 1023), (555, 600, 1023)]
)
def test_a_taken_port_is_replaced_within_its_class(
    wire: Wire, port: int, low: int, high: int
) -> None:  # T12, T14, T15
    wire.send("pod1", from_a(INTERNET, UDP, udp(port, 53)))
    out = wire.send("pod2", packet(BRIDGE_MAC, B_MAC, ipv4(B, INTERNET, UDP, udp(port, 53))))
    assert low <= fields(out["eth0"][0])["sport"] <= high
    assert fields(out["eth0"][0])["sport"] != port
    mapped = fields(out["eth0"][0])["sport"]
    out = wire.send("pod2", packet(BRIDGE_MAC, B_MAC, ipv4(B, "203.0.113.9", UDP, udp(port, 53))))
    assert fields(out["eth0"][0])["sport"] == mapped  # find_appropriate_src
    third, third_mac = PODS["pod3"]
    out = wire.send("pod3", packet(BRIDGE_MAC, third_mac, ipv4(third, "192.0.2.1", UDP, udp(port, 53))))
    assert fields(out["eth0"][0])["sport"] == port  # T13: another destination, another tuple


def test_echo_ids_are_mapped_too(wire: Wire) -> None:  # T19
    wire.send("pod1", from_a(INTERNET, ICMP, icmp(8, ident=0x4242)))
    out = wire.send("pod2", packet(BRIDGE_MAC, B_MAC, ipv4(B, INTERNET, ICMP, icmp(8, ident=0x4242))))
    l4 = out["eth0"][0][34:]
    assert l4[4:6] != b"\x42\x42"
    assert frames.with_checksums(out["eth0"][0]) == out["eth0"][0]


def test_the_vnet_is_reached_with_the_pods_own_address(wire: Wire) -> None:  # T21, T22
    peer, peer_mac = "10.240.0.9", "00:0d:3a:00:00:09"
    out = wire.send("pod1", from_a(peer, UDP, udp(1, 2)))
    assert out == {"eth0": [arp(1, NODE_MAC, NODE_IP, "00:00:00:00:00:00", peer)]}
    assert (wire.verdict, wire.reason) == (Verdict.HELD, Reason.NEIGHBOUR)
    out = wire.send("eth0", arp(2, peer_mac, peer, NODE_MAC, NODE_IP, dst=NODE_MAC))
    assert (fields(out["eth0"][0])["src"], fields(out["eth0"][0])["eth_dst"]) == (A, peer_mac)
    out = wire.send("pod1", from_a("10.230.0.9", UDP, udp(1, 2)))
    assert fields(out["eth0"][0])["src"] == NODE_IP


def test_the_gateway_answers_echo(wire: Wire) -> None:  # T45
    out = wire.send("pod1", from_a(BRIDGE_IP, ICMP, icmp(8)))
    found = fields(out["pod1"][0])
    assert (found["src"], found["dst"], found["ttl"], found["type"], found["eth_src"]) == (
        BRIDGE_IP,
        A,
        64,
        0,
        BRIDGE_MAC,
    )
    assert (wire.verdict, wire.reason) == (Verdict.LOCAL, Reason.LOCAL_DELIVERY)


def test_closed_ports_answer(wire: Wire) -> None:  # T44
    out = wire.send("pod1", from_a(NODE_IP, UDP, udp(1, 9999)))
    found = fields(out["pod1"][0])
    assert (found["src"], found["type"], found["code"]) == (NODE_IP, 3, 3)
    out = wire.send("pod1", from_a(NODE_IP, TCP, tcp(1, 81, SYN, seq=9)))
    rst = out["pod1"][0][34:]
    assert (rst[13], rst[8:12]) == (4 | ACK, (10).to_bytes(4, "big"))


def test_arp_for_the_nodes_addresses(wire: Wire) -> None:  # T71
    for address in (BRIDGE_IP, NODE_IP):
        request = arp(1, A_MAC, A, "00:00:00:00:00:00", address)
        out = wire.send("pod1", request)
        assert out["pod2"] == out["pod3"] == [request]
        assert out["pod1"] == [arp(2, BRIDGE_MAC, address, A_MAC, A, dst=A_MAC)]
    request = arp(1, A_MAC, A, "00:00:00:00:00:00", B)
    assert set(wire.send("pod1", request)) == {"pod2", "pod3"}
    reply = arp(2, B_MAC, B, A_MAC, A, dst=A_MAC)
    assert wire.send("pod2", reply) == {"pod1": [reply]}


def test_an_unanswered_neighbour(wire: Wire) -> None:  # T46
    wire.node.detach("pod3")
    asked = arp(1, BRIDGE_MAC, BRIDGE_IP, "00:00:00:00:00:00", "10.244.1.99")
    out = wire.send("eth0", from_outside(C, "10.244.1.99", UDP, udp(1, 2)))
    assert out == {"pod1": [asked], "pod2": [asked]}
    assert wire.verdict is Verdict.HELD
    assert wire.node.counters["held_now"] == 1
    assert wire.wait(1) == wire.wait(1) == {"pod1": [asked], "pod2": [asked]}
    out = wire.wait(1)
    found = fields(out["eth0"][0])
    assert (found["src"], found["dst"], found["type"], found["code"]) == (NODE_IP, C, 3, 1)
    assert wire.result.source("eth0").tolist() == [-1]
    assert wire.node.counters["held_now"] == 0
    assert wire.node.counters["reason.neigh_failed"] == 1


def test_a_reply_releases_what_waited() -> None:
    wire = Wire(permanent_neighbours=False, arp_notify=False)
    first = from_outside(C, A, UDP, udp(1, 2), ttl=60)
    assert wire.send("eth0", first)["pod1"] == [arp(1, BRIDGE_MAC, BRIDGE_IP, "00:00:00:00:00:00", A)]
    out = wire.send("pod1", arp(2, A_MAC, A, BRIDGE_MAC, BRIDGE_IP, dst=BRIDGE_MAC))
    assert fields(out["pod1"][0])["ttl"] == 59
    assert wire.result.source("pod1").tolist() == [0]


def test_a_mac_that_is_entered_releases_what_waited() -> None:
    wire = Wire(permanent_neighbours=False, arp_notify=False)
    wire.send("eth0", from_outside(C, A, UDP, udp(1, 2), ttl=60))
    wire.send("eth0", from_outside(C, B, UDP, udp(1, 2), ttl=60))
    wire.node.neighbours.add(wire.node.neighbours.to_records()["dev"][1], A, A_MAC)
    out = wire.wait(0.001)
    found = fields(out["pod1"][0])
    assert (len(out["pod1"]), found["dst"], found["ttl"], found["eth_dst"]) == (1, A, 59, A_MAC)
    assert wire.node.counters["held_now"] == 1
    assert wire.wait(1) == {name: [arp(1, BRIDGE_MAC, BRIDGE_IP, "00:00:00:00:00:00", B)] for name in PODS}


@pytest.mark.parametrize(("head", "passes"), [(0, True), (1, True), (5, False), (8, True), (None, False)])
def test_a_version_of_gre_without_a_translation(wire: Wire, head: int | None, passes: bool) -> None:
    """gre_manip_pkt knows 0 and 1, of which 1 has a call id, here 0."""
    sent = bytes(8) if head is not None else bytes(4)
    out = wire.send("pod1", from_a(INTERNET, GRE, sent))
    assert (set(out), wire.reason) == (
        ({"eth0"}, Reason.MASQUERADE) if head is not None else (set(), Reason.NAT_FAILED)
    )
    if head is None:
        return
    out = wire.send("eth0", from_outside(INTERNET, NODE_IP, GRE, struct.pack("!HHI", head, 0x880B, 0)))
    assert (set(out) == {"pod1"}) is passes
    if head == 5:
        assert (wire.verdict, wire.reason) == (Verdict.DROP, Reason.NAT_FAILED)


def test_no_route(wire: Wire) -> None:  # T47
    lone = Wire(routes=("10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0"))
    answers = [lone.send("pod1", from_a(INTERNET, UDP, udp(1, 2))) for _ in range(3)]
    assert [fields(out["pod1"][0])["code"] for out in answers[:2]] == [0, 0]
    assert answers[2] == {}  # ip_error and icmp_send take a token each
    assert lone.reason is Reason.IP_INNOROUTES


def test_errors_without_a_limit_empty_the_bucket_of_unreachables() -> None:
    usual = ("default via 10.240.0.1 dev eth0", "10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0")
    wire = Wire(routes=(*usual, "unreachable 198.51.100.0/24"), icmp_ratelimit_ms=0)
    lost = from_a(INTERNET, UDP, udp(1, 2))
    assert [bool(wire.send("pod1", lost)) for _ in range(6)] == [True] * 5 + [False]
    wire.wait(10)
    for _ in range(3):
        assert fields(wire.send("pod1", from_a(BRIDGE_IP, UDP, udp(1, 2)))["pod1"][0])["code"] == 3
        assert wire.send("pod1", lost) == {}
    wire.wait(1)
    assert wire.send("pod1", lost) != {}


@pytest.mark.parametrize(("kind", "code"), [("blackhole", None), ("prohibit", 13), ("unreachable", 1)])
def test_routes_to_nowhere(kind: str, code: int | None) -> None:  # T48
    usual = ("default via 10.240.0.1 dev eth0", "10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0")
    wire = Wire(routes=(*usual, f"{kind} 198.51.100.0/24"))
    out = wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))
    assert (fields(out["pod1"][0])["code"] if out else None) == code


def test_senders_without_number_are_remembered_in_bounds() -> None:
    usual = ("default via 10.240.0.1 dev eth0", "10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0")
    node = make_node(routes=(*usual, "unreachable 198.51.100.0/24"), kube_proxy=False)
    n, frame = 200_000, from_outside("20.0.0.0", INTERNET, UDP, udp(1, 2))
    rows = np.tile(np.frombuffer(frame, np.uint8), (n, 1))
    sources = (0x14000000 + np.arange(n)).astype(">u4")
    rows[:, 26:30] = sources.view(np.uint8).reshape(-1, 4)
    words = rows[:, 14:34].copy().view(">u2").astype(np.uint32)
    words[:, 5] = 0
    total = words.sum(1)
    total = (total >> 16) + (total & 0xFFFF)
    rows[:, 24:26] = (~(total + (total >> 16))).astype(">u2").view(np.uint8).reshape(-1, 2)
    batch = kf.PacketBatch.from_frames(list(map(bytes, rows)), node.ports["eth0"], START)
    result = node.forward(batch)
    assert set(result.reason.tolist()) == {Reason.IP_INNOROUTES}
    peers, room = node._pipeline.peers()
    assert peers <= room <= 1 << 17


@pytest.mark.parametrize("source", ["127.0.0.1", "224.0.0.5", NODE_IP, "0.0.0.0"])
def test_martian_sources(source: str) -> None:  # T49
    wire = Wire(route_localnet=False)
    assert wire.send("pod1", packet(BRIDGE_MAC, A_MAC, ipv4(source, C, UDP, udp(1, 2)))) == {}
    assert wire.reason is Reason.MARTIAN_SOURCE


@pytest.mark.parametrize(("source", "dst"), [("0.1.2.3", C), (A, "0.1.2.3")])
def test_addresses_that_begin_with_0_are_addresses(
    source: str, dst: str
) -> None:  # ipv4_is_zeronet since Linux 5.3
    wire = Wire(rp_filter=0)
    assert "eth0" in wire.send("pod1", packet(BRIDGE_MAC, A_MAC, ipv4(source, dst, UDP, udp(1, 2))))
    assert wire.send("pod1", packet(BRIDGE_MAC, A_MAC, ipv4(source, "0.0.0.0", UDP, udp(1, 2)))) == {}
    assert wire.reason is Reason.MARTIAN_DESTINATION


@pytest.mark.parametrize(("mode", "passes"), [(0, True), (1, False), (2, True)])
def test_rp_filter(mode: int, passes: bool) -> None:  # T50
    wire = Wire(rp_filter=mode)
    out = wire.send("pod1", packet(BRIDGE_MAC, A_MAC, ipv4("10.244.9.7", INTERNET, UDP, udp(1, 2))))
    assert bool(out) == passes


def test_errors_about_a_masqueraded_flow_reach_the_pod(wire: Wire) -> None:  # T56, T57, T58
    sent = wire.send("pod1", from_a(INTERNET, UDP, udp(40000, 53)))["eth0"][0]
    error = from_outside("203.0.113.1", NODE_IP, ICMP, icmp(11, ident=0, seq=0, data=sent[14:]))
    out = wire.send("eth0", error)
    assert (fields(out["pod1"][0])["src"], fields(out["pod1"][0])["dst"]) == ("203.0.113.1", A)
    assert out["pod1"][0][14 + 28 + 12 : 14 + 28 + 16] == bytes([10, 244, 1, 2])
    bent = bytearray(error)
    bent[36] ^= 1
    assert wire.send("eth0", bytes(bent)) == {}
    stranger = ipv4(NODE_IP, INTERNET, UDP, udp(5, 5))
    assert wire.send("eth0", from_outside("203.0.113.1", NODE_IP, ICMP, icmp(11, data=stranger))) == {}


def test_a_station_moves_and_ages(wire: Wire) -> None:  # T72, T73
    frame = from_a(B, UDP, udp(1, 2), B_MAC)
    wire.send("pod3", eth("ff:ff:ff:ff:ff:ff", B_MAC, bytes(46), 0x88B5))
    assert wire.send("pod1", frame) == {"pod3": [frame]}
    wire.wait(301)
    assert set(wire.send("pod1", frame)) == {"pod2", "pod3"}


@pytest.mark.parametrize(
    ("last", "reason"),
    [(0, Reason.MULTICAST), (1, Reason.PAUSE), (2, Reason.LINK_LOCAL), (14, Reason.LINK_LOCAL)],
)
def test_reserved_multicast(wire: Wire, last: int, reason: Reason) -> None:  # T74
    wire.send("pod1", eth(f"01:80:c2:00:00:{last:02x}", A_MAC, bytes(46), 0x88B5))
    assert wire.reason is reason


@pytest.mark.parametrize("source", ["01:00:5e:00:00:05", "00:00:00:00:00:00"])
def test_impossible_source_macs(wire: Wire, source: str) -> None:  # T75
    assert wire.send("pod1", eth("ff:ff:ff:ff:ff:ff", source, bytes(46), 0x88B5)) == {}
    assert wire.reason is Reason.SOURCE_MAC
    assert source not in wire.node.fdb


def test_fragments_wait_and_leave_together(wire: Wire) -> None:  # T53
    whole = from_a(INTERNET, UDP, udp(40000, 53, bytes(2000)), flags=0)[14:]
    first, second = (packet(BRIDGE_MAC, A_MAC, piece) for piece in frames.fragments(whole, 1480))
    assert wire.send("pod1", second) == {}
    assert (wire.verdict, wire.reason) == (Verdict.HELD, Reason.FRAGMENT)
    out = wire.send("pod1", first)["eth0"]
    assert [len(frame) for frame in out] == [14 + 1500, 14 + 20 + 2008 - 1480]
    assert all(fields(frame)["src"] == NODE_IP for frame in out)
    assert len(wire.node.connections) == 1


@pytest.mark.parametrize("size", [100, 1472])
def test_the_router_forgets_in_what_fragments_a_bridged_datagram_came(wire: Wire, size: int) -> None:
    """ip_rcv clears IPCB: what fits leaves whole; only larger ones keep their pieces."""
    whole = from_a(INTERNET, UDP, udp(40000, 53, bytes(size)), flags=0)[14:]
    for piece in frames.fragments(whole, 48):
        out = wire.send("pod1", packet(BRIDGE_MAC, A_MAC, piece))
    assert [len(frame) - 14 for frame in out["eth0"]] == [len(whole)]


@pytest.mark.parametrize("kind", range(20))
def test_who_asks_is_told_of_errors_and_who_reports_one_is_not(wire: Wire, kind: int) -> None:
    out = wire.send("pod1", from_a(INTERNET, ICMP, icmp(kind), ttl=1))
    assert ("pod1" in out) == (kind in {0, 8, 13, 14, 15, 16, 17, 18})


def test_tcp_by_broadcast_is_not_answered(wire: Wire) -> None:
    l3 = ipv4(A, BRIDGE_IP, TCP, tcp(1, 9, SYN))
    assert "pod1" in wire.send("pod1", packet(BRIDGE_MAC, A_MAC, l3))
    assert "pod1" not in wire.send("pod1", packet("ff:ff:ff:ff:ff:ff", A_MAC, l3))


def test_too_big(wire: Wire) -> None:  # T51, T52
    small = Wire(mtu=1400)
    out = small.send("pod1", from_a(INTERNET, UDP, udp(1, 2, bytes(1472))))
    found = fields(out["pod1"][0])
    assert (found["src"], found["type"], found["code"], out["pod1"][0][40:42]) == (
        BRIDGE_IP,
        3,
        4,
        b"\x05\x78",
    )
    out = small.send("pod1", from_a(INTERNET, UDP, udp(1, 2, bytes(1472)), flags=0))
    assert [len(frame) - 14 for frame in out["eth0"]] == [1396, 124]


def test_a_truncated_packet_goes_its_way_without_what_is_missing(wire: Wire) -> None:
    frame = from_a(INTERNET, TCP, tcp(40000, 80, SYN, data=bytes(900)))
    batch = kf.PacketBatch.from_frames([frame[:96]], wire.node.ports["pod1"], START, [len(frame)])
    result = wire.node.forward(batch)
    left = result.packets("eth0")
    assert (left.length.tolist(), left.wire_length.tolist()) == ([96], [len(frame)])
    assert fields(left.frames()[0])["src"] == NODE_IP


def test_untagged_only_routes_and_priority_tags(wire: Wire) -> None:
    l3 = ipv4(A, C, UDP, udp(1, 2))
    assert set(wire.send("pod1", packet(BRIDGE_MAC, A_MAC, l3, tags=(0x2000,)))) == {"eth0"}
    assert wire.send("pod1", packet(BRIDGE_MAC, A_MAC, l3, tags=(5,))) == {}
    assert wire.reason is Reason.OTHERHOST


def test_counters_add_up(wire: Wire) -> None:
    for _ in range(3):
        wire.send("pod1", from_a(INTERNET, UDP, udp(40000, 53)))
    wire.send("pod1", b"short")
    counters = wire.node.counters
    assert (counters["routed"], counters["reason.masquerade"], counters["drop"]) == (3, 3, 1)
    assert (counters["pod1.rx_packets"], counters["eth0.tx_packets"]) == (4, 3)
    with pytest.raises(KeyError):
        counters["nothing"]


def test_host_local_hands_out_addresses_in_turn() -> None:
    node = kf.Node(
        kf.Kubenet(
            node_ip=NODE_IP, pod_cidr="10.244.1.0/29", cluster_cidr="10.244.0.0/16", gateway="10.240.0.1"
        )
    )
    names = [node.attach(kf.Pod(f"p{i}")).pod.ip for i in range(5)]
    assert names == [f"10.244.1.{i}" for i in range(2, 7)]
    with pytest.raises(kf.TableFull, match="no IP addresses"):
        node.attach(kf.Pod("late"))
    node.detach("p1")
    node.detach("p3")
    assert node.attach(kf.Pod("again")).pod.ip == "10.244.1.3"


def test_detach_forgets_the_pod(wire: Wire) -> None:
    wire.send("pod2", packet(A_MAC, B_MAC, ipv4(B, A, UDP, udp(1, 2))))
    old = wire.node.ports["pod2"]
    wire.node.detach(old)
    assert "pod2" not in wire.node.ports
    assert B_MAC not in wire.node.fdb
    result = wire.node.forward(kf.PacketBatch.from_frames([bytes(60)], old, wire.now))
    assert Reason(result.reason[0]) is Reason.NO_SUCH_PORT


@pytest.mark.parametrize(
    ("pod", "error"),
    [
        (kf.Pod("pod1"), kf.ConfigError),
        (kf.Pod("cbr0"), kf.ConfigError),
        (kf.Pod("new", ip=A), kf.ConfigError),
        (kf.Pod("new", ip=BRIDGE_IP), kf.ConfigError),
        (kf.Pod("new", ip="10.244.2.7"), kf.ConfigError),
    ],
)
def test_a_refused_pod_changes_nothing(wire: Wire, pod: kf.Pod, error: type[Exception]) -> None:
    before = (dict(wire.node.ports), len(wire.node.fdb), len(wire.node.neighbours))
    with pytest.raises(error):
        wire.node.attach(pod)
    assert (dict(wire.node.ports), len(wire.node.fdb), len(wire.node.neighbours)) == before
    with pytest.raises(KeyError):
        wire.node.detach("nobody")


@pytest.mark.parametrize(
    "change",
    [
        {"node_ip": "10.240.0"},
        {"node_ip": "10.244.3.4/24", "gateway": "10.244.3.1"},
        {"pod_cidr": "10.245.1.0/24"},
        {"pod_cidr": "10.244.1.1/24"},
        {"gateway": "10.9.9.9"},
        {"node_mac": "01:00:5e:00:00:01"},
        {"mtu": 20},
        {"to_ports": (9, 3)},
        {"bridge_ip": "10.1.1.1"},
        {"routes": ("default dev nowhere",)},
        {"routes": ("default via",)},
        {"rp_filter": 7},
        {"non_masquerade": ("10.0.0.0/8",) * 65},
        {"hairpin": kf.Hairpin.NONE, "dedup": True},
    ],
)
def test_contradictions_are_refused(change: dict[str, object]) -> None:
    with pytest.raises((kf.ConfigError, kf.AddressError)):
        make_node(**change)


def test_wrong_calls_to_forward(wire: Wire) -> None:
    with pytest.raises(TypeError, match="PacketBatch"):
        wire.node.forward([bytes(60)])
    data = np.zeros(60, np.uint8)
    data.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        wire.node.forward(kf.PacketBatch(data, [0], [60]))
    with pytest.raises(KeyError, match="no port"):
        wire.node.advance(START).packets("nobody")


def test_time_does_not_run_backwards(wire: Wire) -> None:
    wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))
    wire.now -= 50 * SECOND
    wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))
    assert wire.node.now == START


def test_a_full_neighbour_queue_loses_its_oldest(wire: Wire) -> None:
    big = udp(1, 2, bytes(1400))
    for _ in range(120):  # of some 2 KB each, as the kernel counts; 212992 fit
        wire.send("eth0", from_outside(C, "10.244.1.99", UDP, big))
        assert wire.verdict is Verdict.HELD
    counters = wire.node.counters
    assert counters["held_now"] + counters["reason.neigh_queuefull"] == 120
    assert counters["reason.neigh_queuefull"] > 0


def test_a_full_neighbour_table_refuses_and_recovers() -> None:
    wire = Wire(neighbours_max=5)
    for i in range(100, 107):
        wire.send("eth0", from_outside(C, f"10.244.1.{i}", UDP, udp(1, 2)))
        assert wire.reason is (Reason.NEIGHBOUR if i < 105 else Reason.NEIGH_CREATEFAIL)
    wire.wait(4)  # they have failed by then
    wire.send("eth0", from_outside(C, "10.244.1.120", UDP, udp(1, 2)))
    assert wire.reason is Reason.NEIGHBOUR
    assert len(wire.node.neighbours) == len(PODS) + 2  # the gateway, and the one that is asked for


def test_an_error_that_asks_for_the_neighbour_that_failed_ends_the_telling() -> None:
    """Whoever is told is who did not answer (neigh_invalidate): after the first error nobody else is told."""
    lost = "10.240.0.66"
    routes = (f"default via {lost} dev eth0", "10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0")
    wire = Wire(gateway_mac=None, gateway=lost, routes=routes, send_redirects=False)
    for number in range(3):
        wire.send("eth0", from_outside(lost, INTERNET, UDP, udp(number, 2)))
        assert (wire.verdict, wire.reason) == (Verdict.HELD, Reason.NEIGHBOUR)
    before = wire.node.counters["generated"]
    assert len(wire.wait(3)["eth0"]) == 3  # he is asked twice more, and once anew for the error
    assert wire.node.counters["generated"] == before + 3 + 1
    assert wire.node.counters["held_now"] == 0


def test_the_first_of_two_arp_replies_counts_for_a_second(wire: Wire) -> None:
    peer, first, second = "10.240.0.9", "00:0d:3a:00:00:09", "00:0d:3a:00:00:66"
    wire.send("pod1", from_a(peer, UDP, udp(1, 2)))
    wire.send("eth0", arp(2, first, peer, NODE_MAC, NODE_IP, dst=NODE_MAC))
    for seconds, mac in ((0, first), (1, first), (0.1, second)):  # locktime
        wire.wait(seconds)
        wire.send("eth0", arp(2, second, peer, NODE_MAC, NODE_IP, dst=NODE_MAC))
        out = wire.send("pod1", from_a(peer, UDP, udp(1, 2)))
        assert fields(out["eth0"][0])["eth_dst"] == mac


def test_a_pod_whose_entries_the_user_removed_can_leave() -> None:
    node = make_node()
    node.neighbours.flush(node._device("cbr0"))
    node.detach("pod1")
    assert "pod1" not in node.ports


class _Held:
    """A lock that says whether somebody holds it."""

    def __init__(self) -> None:
        self.held = False

    def __enter__(self) -> None:
        assert not self.held
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False


class _Watched:
    """A pipeline that notes whether the node's lock is held by whoever calls it."""

    def __init__(self, node: object) -> None:
        self.node, self.inner, self.calls = node, node._pipeline, dict[str, bool]()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        self.calls[name] = self.calls.get(name, True) and self.node._lock.held  # type: ignore[attr-defined]
        return getattr(self.inner, name)


def test_what_changes_a_node_holds_its_lock() -> None:
    """Another thread may be in `forward`, without the GIL, and has the tables' memory in hand."""
    node = kf.Node(
        kf.Kubenet(
            node_ip="10.240.0.4",
            gateway="10.240.0.1",
            pod_cidr="10.244.1.0/24",
            cluster_cidr="10.244.0.0/16",
            node_ip6="fd00:10::4/64",
            gateway6="fd00:10::1",
            pod_cidr6="fd12:3456:789a:0:1::/80",
            cluster_cidr6="fd12:3456:789a::/64",
        )
    )
    node._lock = _Held()  # type: ignore[assignment]
    watched = node._pipeline = _Watched(node)  # type: ignore[assignment]
    numbered = list[bool]()
    number = node._number

    def watch(address: str) -> int:
        numbered.append(node._lock.held)  # type: ignore[attr-defined]
        return number(address)

    node._number = watch  # type: ignore[method-assign]
    port = kf.ServicePort(port=80, endpoints=("[fd12:3456:789a:0:1::7]:80",))
    node.set_services([kf.Service(name="d/six", cluster_ip="fd00:20::1", ports=(port,))])
    assert numbered
    assert all(numbered)
    empty = kf.PacketBatch.from_frames([])
    node.forward(empty)
    node.record(empty)
    node.advance(START)
    node.attach(kf.Pod("web"))
    node.set_mtu("web", 1400)
    node.set_up("web", False)
    node.set_routes([])
    node.detach("web")
    node.reseed(7)
    assert {"forward", "start_notes", "take_notes", "advance", "set_interface", "set_hops"} <= set(
        watched.calls
    )
    assert all(watched.calls.values()), watched.calls


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_a_seed_is_a_word(number: int) -> None:
    node = make_node()
    with pytest.raises(OverflowError, match=f"seed must be 0 to 2.*, not {number}"):
        node.reseed(number)


def test_a_time_beyond_64_bits_is_none() -> None:
    node = make_node()
    node.advance(START)
    with pytest.raises(OverflowError, match=f"now must be a time .*, not {1 << 63}"):
        node.advance(1 << 63)
    assert node.now == START


def test_a_bridged_packet_from_no_address_is_refused_without_a_word() -> None:
    wire = Wire(services=make_services())
    for src, told in ((A, 1), ("0.0.0.0", 0)):
        refused = packet("02:00:00:00:77:77", A_MAC, ipv4(src, VIPS[2], UDP, udp(1, 53)))
        out = wire.send("pod1", refused)
        assert (wire.verdict, wire.reason) == (Verdict.DROP, Reason.NO_ENDPOINTS)
        assert list(out) == ["pod1"] * told
