"""A dual-stack node, packet by packet; `tests/kernel/test_dual_stack.py` holds the same against the running kernel."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import pytest
from frames import (
    ACK,
    ICMP6,
    SYN,
    TCP,
    UDP,
    discovery,
    eth6,
    group_mac,
    ipv6,
    packed6,
    solicited_node,
    tcp,
    udp,
)
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtStatus
from kubenet_fastpath.explanation import explain
from kubenet_fastpath.neighbour import STATES

START = 10**18
FABRIC, NODE_MAC, BRIDGE_MAC = "12:34:56:78:9a:bc", "00:0d:3a:00:00:04", "0a:58:0a:f4:01:01"
NODE, BRIDGE, FAR, OUTSIDE = "fd00:10::4", "fd12:3456:789a:0:1::1", "fd12:3456:789a:0:2::5", "2001:db8::7"
SIX: dict[str, Any] = {"node_ip6": f"{NODE}/64", "gateway6": "fe80::1234:5678:9abc"}
PODS: dict[str, Any] = {"pod_cidr6": "fd12:3456:789a:0:1::/80", "cluster_cidr6": "fd12:3456:789a::/64"}
FOUR: dict[str, Any] = {"node_ip": "10.240.0.4", "gateway": "10.240.0.1"}
PODS4: dict[str, Any] = {"pod_cidr": "10.244.1.0/24", "cluster_cidr": "10.244.0.0/16"}


def kubenet(**more: Any) -> kf.Kubenet:
    return kf.Kubenet(**(FOUR | PODS4 | SIX | PODS | more))


class Wire:
    """A node with two pods, driven a frame at a time."""

    def __init__(self, config: kf.NodeConfig) -> None:
        self.node = kf.Node(config)
        self.a, self.b = self.node.attach(kf.Pod("a")), self.node.attach(kf.Pod("b"))
        self.now = START

    def send(self, port: Any, frame: bytes) -> tuple[str, str, list[tuple[str, bytes]]]:
        result = self.node.forward(kf.PacketBatch.from_frames([frame], port, self.now))
        names = {port.index: name for name, port in self.node.ports.items()}
        out = [
            (names[int(p)], bytes(f))
            for p, f in zip(result.outputs["port"], result.packets(None), strict=True)
        ]
        return kf.Verdict(result.verdict[0]).name, kf.Reason(result.reason[0]).name, out

    def from_a(
        self, dst: str, l4: bytes, proto: int = UDP, **more: Any
    ) -> tuple[str, str, list[tuple[str, bytes]]]:
        pod = self.a.pod
        router = BRIDGE_MAC if isinstance(self.node.config, kf.Kubenet) else str(pod.host_mac)
        return self.send(self.a, eth6(router, str(pod.mac), ipv6(str(pod.ip6), dst, proto, l4, **more)))

    def to_node(self, src: str, dst: str, l4: bytes, proto: int = UDP, **more: Any) -> Any:
        return self.send(self.node.ports["eth0"], eth6(NODE_MAC, FABRIC, ipv6(src, dst, proto, l4, **more)))


@pytest.fixture
def wire() -> Wire:
    return Wire(kubenet())


def test_pods_have_addresses(wire: Wire) -> None:
    assert (wire.a.pod.ip6, wire.b.pod.ip6) == ("fd12:3456:789a:0:1::2", "fd12:3456:789a:0:1::3")
    assert wire.node.routes6["fd12:3456:789a:0:1::/80"] is not None
    wire.node.detach("a")
    assert wire.node.attach(kf.Pod("c", ip6="fd12:3456:789a:0:1::2")).pod.ip6 == "fd12:3456:789a:0:1::2"


def test_routed_as_it_is(wire: Wire) -> None:
    verdict, reason, out = wire.from_a(FAR, udp(1000, 53))
    assert (verdict, reason) == ("ROUTED", "ROUTE")
    want = eth6(FABRIC, NODE_MAC, ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1000, 53), hops=63))
    assert out == [("eth0", want)]


def test_masqueraded_and_back(wire: Wire) -> None:
    verdict, reason, out = wire.from_a(OUTSIDE, tcp(1000, 80, SYN), TCP)
    assert (verdict, reason) == ("ROUTED", "MASQUERADE")
    assert out == [("eth0", eth6(FABRIC, NODE_MAC, ipv6(NODE, OUTSIDE, TCP, tcp(1000, 80, SYN), hops=63)))]
    verdict, reason, out = wire.to_node(OUTSIDE, NODE, tcp(80, 1000, SYN | ACK, ack=1), TCP)
    assert (verdict, reason) == ("ROUTED", "NAT_REPLY")
    back = ipv6(OUTSIDE, str(wire.a.pod.ip6), TCP, tcp(80, 1000, SYN | ACK, ack=1), hops=63)
    assert out == [("a", eth6(str(wire.a.pod.mac), BRIDGE_MAC, back))]
    text = wire.node.connections.to_text(START, family=6, extended=True)
    assert text.startswith(f"ipv6     10 tcp      6 60 SYN_RECV src={wire.a.pod.ip6} dst={OUTSIDE} ")
    assert len(wire.node.connections) == 1
    assert len(wire.node.connections.to_records(START)) == 0
    (row,) = pickle.loads(pickle.dumps(wire.node.connections)).to_records(START, family=6)
    assert kf.address.ipv6_text(int.from_bytes(bytes(row["reply_dst"]), "big")) == NODE


def test_hop_limit_and_its_error(wire: Wire) -> None:
    verdict, reason, out = wire.from_a(FAR, udp(1000, 53), hops=1)
    assert (verdict, reason) == ("DROP", "TTL")
    quoted = ipv6(str(wire.a.pod.ip6), FAR, UDP, udp(1000, 53), hops=1)
    error = ipv6(BRIDGE, str(wire.a.pod.ip6), ICMP6, bytes([3, 0, 0, 0, 0, 0, 0, 0]) + quoted)
    assert out == [("a", eth6(str(wire.a.pod.mac), BRIDGE_MAC, error))]


def test_a_neighbour_of_eth0_is_told(wire: Wire) -> None:
    """By its link-local address, which is on the link that the packet came by: the first interface is one, too."""
    verdict, reason, out = wire.to_node("fe80::77", str(wire.a.pod.ip6), bytes(8), 253)
    assert (verdict, reason) == ("DROP", "MARTIAN_SOURCE")
    ((port, asked),) = out
    assert (port, asked[54], asked[62:78]) == ("eth0", 135, packed6("fe80::77"))


def test_too_big_is_told_with_the_mtu() -> None:
    wire = Wire(kubenet(mtu=1400))
    verdict, reason, out = wire.from_a(FAR, udp(1000, 53, bytes(1400)))
    assert (verdict, reason) == ("DROP", "PKT_TOO_BIG")
    ((port, frame),) = out
    assert (port, frame[54:56], struct.unpack_from("!I", frame, 58)[0]) == ("a", b"\2\0", 1400)
    assert len(frame) == 14 + 1280


def test_an_identifier_is_taken_where_it_comes_in(wire: Wire) -> None:
    """Somebody has the node's address: PREROUTING finds its answers meet another's and takes another identifier."""
    ping = struct.pack("!BBHHH", 128, 0, 0, 5, 1)
    assert wire.from_a(OUTSIDE, ping, ICMP6)[1] == "MASQUERADE"
    spoofed = ipv6(NODE, OUTSIDE, ICMP6, ping)
    wire.send(wire.b, eth6(BRIDGE_MAC, str(wire.b.pod.mac), spoofed))
    first, second = wire.node.connections.to_records(START, family=6)
    assert bool(second["status"] & CtStatus.DST_NAT)
    assert second["reply_sport"] != 5
    assert not first["status"] & CtStatus.DST_NAT


def test_an_error_that_quotes_headers_that_are_cut_off() -> None:
    """ipv6_get_l4proto goes by what the headers say, and of some protocols nothing else is needed."""
    wire = Wire(kubenet())
    extension = ((0, bytes([0, 5, 2, 0, 0, 0, 0])),)
    _, _, ((_, sent),) = wire.from_a(OUTSIDE, bytes(8), 253, extensions=extension)
    for quoted, verdict in ((44, "ROUTED"), (41, "LOCAL")):
        error = bytes([3, 0, 0, 0, 0, 0, 0, 0]) + sent[14 : 14 + quoted]
        assert wire.to_node("2001:db8::1", NODE, error, ICMP6)[0] == verdict


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("prohibit 2001:db8::/32", b"\1\1"),
        ("unreachable 2001:db8::/32", b"\1\0"),
        ("blackhole 2001:db8::/32", None),
    ],
)
def test_no_way(route: str, told: bytes | None) -> None:
    main = ("default via fe80::1234:5678:9abc dev eth0", "fd12:3456:789a:0:1::/80 dev cbr0", route)
    wire = Wire(kubenet(routes=(*main, "default via 10.240.0.1 dev eth0", "10.244.1.0/24 dev cbr0")))
    verdict, _, out = wire.from_a(OUTSIDE, udp(1, 2))
    assert verdict == "DROP"
    assert [frame[54:56] for _, frame in out] == ([] if told is None else [told])


def test_solicitation_is_answered_and_untracked(wire: Wire) -> None:
    """T83: who asks for the gateway gets the bridge's MAC."""
    group, pod = solicited_node(BRIDGE), wire.a.pod
    ask = ipv6(str(pod.ip6), group, ICMP6, discovery(135, 0, BRIDGE, str(pod.mac)), hops=255)
    verdict, _, out = wire.send(wire.a, eth6(group_mac(group), str(pod.mac), ask))
    answer = ipv6(BRIDGE, str(pod.ip6), ICMP6, discovery(136, 0xE0000000, BRIDGE, BRIDGE_MAC), hops=255)
    assert verdict == "FLOODED"
    assert ("a", eth6(str(pod.mac), BRIDGE_MAC, answer)) in out
    assert len(wire.node.connections) == 0


def test_neighbour_is_asked_for_and_learned() -> None:
    wire = Wire(kubenet(permanent_neighbours=False, gateway6="fd00:10::1"))
    verdict, reason, out = wire.from_a(OUTSIDE, udp(1000, 53))
    assert (verdict, reason) == ("HELD", "NEIGHBOUR")
    group = solicited_node("fd00:10::1")
    ask = ipv6(NODE, group, ICMP6, discovery(135, 0, "fd00:10::1", NODE_MAC), hops=255)
    assert out == [("eth0", eth6(group_mac(group), NODE_MAC, ask))]
    _, _, out = wire.to_node(
        "fd00:10::1", NODE, discovery(136, 0x60000000, "fd00:10::1", FABRIC), ICMP6, hops=255
    )
    assert out == [("eth0", eth6(FABRIC, NODE_MAC, ipv6(NODE, OUTSIDE, UDP, udp(1000, 53), hops=63)))]
    assert (
        wire.node.neighbours6.to_text({0: "eth0"}).splitlines()[0]
        == f"fd00:10::1 dev eth0 lladdr {FABRIC} REACHABLE"
    )


def test_neighbour_that_does_not_answer() -> None:
    wire = Wire(kubenet(permanent_neighbours=False, gateway6="fd00:10::1"))
    wire.node.neighbours6.add(1, str(wire.a.pod.ip6), str(wire.a.pod.mac))
    wire.from_a(OUTSIDE, udp(1000, 53))
    result = wire.node.advance(START + 4 * 10**9)
    frames = [bytes(frame) for frame in result.packets(None)]
    assert [frame[54] for frame in frames] == [135, 135, 1]
    assert frames[-1][54:56] == b"\1\3"
    assert wire.node.counters["generated_dropped"] == 1


def test_service_and_its_refusal() -> None:
    port = kf.ServicePort(port=80, endpoints=(f"[{FAR}]:8080",), node_port=30080)
    lone = kf.ServicePort(port=81)
    services = (
        kf.Service(name="d/web", cluster_ip="fd00:20::1", ports=(port,)),
        kf.Service(name="d/none", cluster_ip="fd00:20::2", ports=(lone,)),
        kf.Service(
            name="d/web",
            cluster_ip="10.0.0.1",
            ports=(kf.ServicePort(port=80, endpoints=("10.244.2.5:80",)),),
        ),
    )
    wire = Wire(kubenet(services=services))
    verdict, reason, out = wire.from_a("fd00:20::1", tcp(1000, 80, SYN), TCP)
    assert (verdict, reason) == ("ROUTED", "SERVICE")
    want = ipv6(str(wire.a.pod.ip6), FAR, TCP, tcp(1000, 8080, SYN), hops=63)
    assert out[-1] == ("eth0", eth6(FABRIC, NODE_MAC, want))
    # what the bridge has routed comes from where it goes, to the kernel: so it tells the pod of the gateway
    assert [(port, frame[54]) for port, frame in out[:-1]] == [("a", 137)]
    _, _, out = wire.to_node(FAR, str(wire.a.pod.ip6), tcp(8080, 1000, SYN | ACK, ack=1), TCP)
    back = ipv6("fd00:20::1", str(wire.a.pod.ip6), TCP, tcp(80, 1000, SYN | ACK, ack=1), hops=63)
    assert out == [("a", eth6(str(wire.a.pod.mac), BRIDGE_MAC, back))]
    verdict, reason, out = wire.from_a("fd00:20::2", tcp(1000, 81, SYN), TCP)
    assert reason == "NO_ENDPOINTS"
    assert [frame[54:56] for _, frame in out] == [b"\1\4"]


@pytest.mark.parametrize(
    ("ranges", "src", "passes"),
    [
        (("2001:db8::/64",), OUTSIDE, True),
        (("2001:db8::/126", "2001:db8::5/126"), OUTSIDE, True),  # host bits are let pass, as Kubernetes does
        (("2001:db8::/126",), OUTSIDE, False),
        (("2001:db8::4/127",), OUTSIDE, False),
        (
            ("fd00:10::/64",),
            "2001:db8:20::1",
            True,
        ),  # the node is in it, and speaks with the address that it calls
        (("198.51.100.0/24",), OUTSIDE, True),  # of the other family: no range
        (("198.51.100.0/24", "fd00:10::/64"), OUTSIDE, False),
    ],
)
def test_source_ranges(ranges: tuple[str, ...], src: str, passes: bool) -> None:
    balanced = "2001:db8:20::1"
    port = kf.ServicePort(port=80, endpoints=(f"[{FAR}]:8080",), node_port=30080)
    web = kf.Service(
        name="d/web",
        cluster_ip="fd00:20::1",
        ports=(port,),
        load_balancer_ips=(balanced,),
        source_ranges=ranges,
    )
    wire = Wire(kubenet(services=(web,)))
    verdict, reason, _ = wire.to_node(src, balanced, tcp(1000, 80, SYN), TCP)
    assert (verdict, reason) == (("ROUTED", "MASQUERADE") if passes else ("DROP", "SOURCE_RANGE"))
    assert wire.to_node(src, NODE, tcp(1001, 30080, SYN), TCP)[:2] == ("ROUTED", "MASQUERADE")


def test_host_port() -> None:
    rows = (
        kf.HostPort(port=8080, pod_port=80),
        kf.HostPort(port=5353, pod_port=53, protocol="udp", host_ip=BRIDGE),
        kf.HostPort(port=5353, pod_port=54, protocol="udp", host_ip="10.244.1.1"),
        kf.HostPort(port=5353, pod_port=55, protocol="tcp", host_ip="10.244.1.1"),
    )
    wire = Wire(kubenet())
    wire.to_node(OUTSIDE, NODE, udp(999, 8080))
    port = wire.node.attach(kf.Pod("c", host_ports=rows))
    pod = str(port.pod.ip6)

    def reached(src: str, dst: str, segment: bytes, proto: int = UDP) -> bytes | None:
        """The segment that comes to the pod, behind its source."""
        frames = [
            f for name, f in wire.to_node(src, dst, segment, proto)[2] if name == "c" and f[20] == proto
        ]
        return frames[0][22:38] + frames[0][54:58] if frames else None

    def said(src: str, sport: int, dport: int) -> bytes:
        return packed6(src) + struct.pack("!HH", sport, dport)

    assert reached(OUTSIDE, NODE, tcp(1000, 8080, SYN), TCP) == said(OUTSIDE, 1000, 80)
    assert reached(OUTSIDE, BRIDGE, tcp(1001, 8080, SYN), TCP) == said(OUTSIDE, 1001, 80)
    assert reached(OUTSIDE, BRIDGE, udp(1000, 5353)) == said(OUTSIDE, 1000, 53)
    assert reached(OUTSIDE, NODE, udp(1000, 5353)) is None  # another address of the node
    assert reached(OUTSIDE, BRIDGE, tcp(1000, 5353, SYN), TCP) is None  # IPv4's alone
    # portmap masquerades the pod's whole subnet, with the address of where it goes; kubelet the pod alone
    wire.send(
        wire.a, eth6(BRIDGE_MAC, str(wire.a.pod.mac), ipv6(str(wire.a.pod.ip6), NODE, TCP, tcp(7, 8080, SYN)))
    )
    rows6 = wire.node.connections.to_records(family=6)
    (own,) = rows6[(rows6["sport"] == 7) & (rows6["proto"] == TCP)]
    assert (bytes(own["reply_src"]), bytes(own["reply_dst"])) == (packed6(pod), packed6(BRIDGE))
    with pytest.raises(kf.ConfigError, match="host port 8080 of pod d is taken"):
        wire.node.attach(kf.Pod("d", host_ports=(kf.HostPort(port=8080, pod_port=1, host_ip=NODE),)))
    assert wire.node.attach(kf.Pod("d", ip6=None)).pod.ip6 is not None
    kubelet = Wire(kubenet(port_mapper=kf.PortMapper.KUBELET))
    kubelet.node.attach(kf.Pod("c", host_ports=rows[:2]))
    a = kubelet.a.pod
    kubelet.send(kubelet.a, eth6(BRIDGE_MAC, str(a.mac), ipv6(str(a.ip6), NODE, TCP, tcp(7, 8080, SYN))))
    (own,) = kubelet.node.connections.to_records(family=6)
    assert bytes(own["reply_dst"]) == packed6(str(a.ip6))
    wire.node.detach("c")
    assert wire.to_node(OUTSIDE, NODE, tcp(2000, 8080, SYN), TCP)[0] == "LOCAL"


def test_a_host_port_ends_older_udp_flows_of_both_families() -> None:
    wire = Wire(kubenet())
    wire.to_node(OUTSIDE, NODE, udp(999, 8080))
    wire.to_node(OUTSIDE, NODE, udp(999, 8081))
    assert len(wire.node.connections) == 2
    wire.node.attach(kf.Pod("c", host_ports=(kf.HostPort(port=8080, pod_port=80, protocol="udp"),)))
    assert wire.node.connections.to_records(family=6)["dport"].tolist() == [8081]


def test_udp_flows_of_a_service_that_is_gone() -> None:
    port = kf.ServicePort(port=53, protocol="udp", endpoints=(f"[{FAR}]:53",))
    wire = Wire(kubenet(services=(kf.Service(name="d/dns", cluster_ip="fd00:20::a", ports=(port,)),)))
    wire.from_a("fd00:20::a", udp(1000, 53))
    wire.from_a(OUTSIDE, udp(1000, 53))
    assert len(wire.node.connections) == 2
    wire.node.set_services(())
    assert len(wire.node.connections) == 1


def test_no_redirect_leaves_for_the_node_itself(wire: Wire) -> None:
    """IPv6 asks no route about a source, so a packet may say that the node sent it; its redirect ends in lo."""
    verdict, _, out = wire.to_node(NODE, "fd00:10::77", udp(1000, 9))
    assert verdict in ("ROUTED", "HELD")
    assert [frame[54] for _, frame in out] == [135]
    assert wire.node.neighbours6.to_records()["ip"].tolist()


def test_the_node_itself(wire: Wire) -> None:
    echo = struct.pack("!BBHHH", 128, 0, 0, 7, 1) + b"ping"
    verdict, _, out = wire.from_a(BRIDGE, echo, ICMP6)
    pod = wire.a.pod
    reply = ipv6(BRIDGE, str(pod.ip6), ICMP6, b"\x81" + echo[1:])
    assert (verdict, out) == ("LOCAL", [("a", eth6(str(pod.mac), BRIDGE_MAC, reply))])
    _, _, out = wire.from_a(NODE, udp(1000, 9))
    assert out[0][1][54:56] == b"\1\4"
    _, _, out = wire.from_a(NODE, tcp(1000, 9, SYN), TCP)
    assert out[0][1][54 + 13] == 0x14
    _, _, out = wire.from_a(NODE, b"12345678", 253)
    assert out[0][1][54:56] == b"\4\1"


def test_transparent_mode() -> None:
    wire = Wire(kf.AzureCniOverlay(**(FOUR | PODS4 | SIX | PODS)))
    verdict, _, out = wire.from_a(str(wire.b.pod.ip6), udp(1, 2))
    want = ipv6(str(wire.a.pod.ip6), str(wire.b.pod.ip6), UDP, udp(1, 2), hops=63)
    assert (verdict, out) == ("ROUTED", [("b", eth6(str(wire.b.pod.mac), "aa:aa:aa:aa:aa:aa", want))])
    wire.node.detach("b")
    assert wire.from_a(str(wire.b.pod.ip6), udp(1, 2))[0] != "LOCAL"


def test_a_node_without_ipv6_bridges_alone() -> None:
    wire = Wire(kf.Kubenet(**(FOUR | PODS4)))
    assert wire.a.pod.ip6 is None
    frame = eth6(BRIDGE_MAC, str(wire.a.pod.mac), ipv6("fd00::1", OUTSIDE, UDP, udp(1, 2)))
    assert wire.send(wire.a, frame) == ("DROP", "UNHANDLED_PROTO", [])


def test_explained(wire: Wire) -> None:
    pod = wire.a.pod
    frame = eth6(BRIDGE_MAC, str(pod.mac), ipv6(str(pod.ip6), OUTSIDE, UDP, udp(1000, 53)))
    (found,) = explain(wire.node, kf.PacketBatch.from_frames([frame], wire.a, START))
    text = found.text()
    assert f"udp [{pod.ip6}]:1000 > [{OUTSIDE}]:53 hop limit 64" in text
    assert "::/0 via fe80::1234:5678:9abc dev eth0" in text
    assert f"answers [{OUTSIDE}]:53 > [{NODE}]:1000 SNAT" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gateway6": None}, "node_ip6 and gateway6 go together"),
        ({"pod_cidr6": None}, "node_ip6, pod_cidr6 and cluster_cidr6 go together"),
        ({"mtu": 1279}, "mtu 1279 is below 1280"),
        ({"gateway6": "fd00:11::1"}, "neither link-local nor in eth0's subnet fd00:10::/64"),
        ({"node_ip6": "fe80::1/64"}, "no global unicast address"),
        ({"cluster_cidr6": "fd13::/64"}, "pod_cidr6 fd12:3456:789a:0:1::/80 is not inside"),
        ({"pod_cidr6": "fd12:3456:789a::1/127"}, "not an IPv6 prefix"),
        ({"routes": ("fd00::/8 via 10.0.0.1 dev eth0",)}, "one family"),
    ],
)
def test_wrong_configurations(change: dict[str, Any], words: str) -> None:
    with pytest.raises((kf.ConfigError, kf.AddressError), match=words):
        kubenet(**change)


def test_wrong_pods_and_services(wire: Wire) -> None:
    before = dict(wire.node.ports)
    with pytest.raises(kf.ConfigError, match="taken"):
        wire.node.attach(kf.Pod("c", ip6=wire.a.pod.ip6))
    with pytest.raises(kf.ConfigError, match="outside"):
        wire.node.attach(kf.Pod("c", ip6="fd00::1"))
    with pytest.raises(kf.ConfigError, match="the node none"):
        kf.Node(kf.Kubenet(**(FOUR | PODS4))).attach(kf.Pod("c", ip6="fd00::1"))
    assert wire.node.ports == before
    assert wire.node.attach(kf.Pod("c")).pod.ip6 == "fd12:3456:789a:0:1::4"
    with pytest.raises(kf.ConfigError, match="both families"):
        kf.Service(
            name="d/x", cluster_ip="fd00::1", ports=(kf.ServicePort(port=1, endpoints=("10.0.0.1:1",)),)
        )


@given(st.lists(st.binary(min_size=0, max_size=90), max_size=20), st.booleans())
def test_any_bytes_end_in_one_verdict(tails: list[bytes], bridged: bool) -> None:
    wire = Wire(kubenet(bridge_nf_call_ip6tables=bridged))
    pod = wire.a.pod
    for tail in tails:
        head = bytes.fromhex(f"{BRIDGE_MAC}{pod.mac}86dd".replace(":", ""))
        wire.send(wire.a, head + b"\x60" + tail)
        wire.send(
            wire.node.ports["eth0"], head[:0] + bytes.fromhex(NODE_MAC.replace(":", "")) + head[6:] + tail
        )
    counters = wire.node.counters
    names = [verdict.name.lower() for verdict in kf.Verdict]
    assert sum(counters[name] for name in names) == 2 * len(tails)


def test_states_are_named() -> None:
    assert STATES[0x80] == "PERMANENT"


def test_a_refused_bridged_packet_from_a_link_local_address_says_nothing_whatever_came_before() -> None:
    """Nobody knows on which link its sender is (IP6CB is blank): no interface is asked, least of all the last one's."""
    port = kf.ServicePort(port=53, protocol="udp")
    wire = Wire(kubenet(services=(kf.Service(name="d/none", cluster_ip="fd00:20::9", ports=(port,)),)))
    frame = eth6("02:00:00:00:77:77", str(wire.a.pod.mac), ipv6("fe80::77", "fd00:20::9", UDP, udp(1, 53)))
    wire.to_node(OUTSIDE, NODE, udp(1, 2))
    assert wire.send(wire.a, frame) == ("DROP", "NO_ENDPOINTS", [])


@pytest.mark.parametrize(
    ("l4", "proto", "kind"),
    [(udp(5, 9), UDP, 1), (b"\x80\0\0\0\0\1\0\1", ICMP6, 129)],
    ids=["closed", "echo"],
)
def test_the_gateway_is_answered_from_link_local_to_link_local_address(
    l4: bytes, proto: int, kind: int
) -> None:
    """On eth0's link, whose index is 0."""
    wire = Wire(kubenet())
    _, _, ((port, answer),) = wire.to_node(SIX["gateway6"], "fe80::20d:3aff:fe00:4", l4, proto)
    assert (port, answer[20], answer[54]) == ("eth0", ICMP6, kind)
    assert answer[22:38].hex() == "fe80000000000000020d3afffe000004"


def test_pods_of_the_nodes_subnet_leave_azures_addresses_alone() -> None:
    """The gateway's, the node's own, and the first ones, which Azure keeps of each subnet."""
    config = kf.AzureCniNodeSubnet(**FOUR, node_ip6="fd00:10::5/64", gateway6="fd00:10::6")
    node = kf.Node(config)
    assert [node.attach(kf.Pod(name)).pod.ip6 for name in "ab"] == ["fd00:10::4", "fd00:10::7"]
    with pytest.raises(kf.ConfigError, match="fd00:10::1 is taken"):
        node.attach(kf.Pod("c", ip6="fd00:10::1"))


def test_a_sender_on_the_first_interfaces_link_is_told(wire: Wire) -> None:
    solicitation = wire.to_node("fe80::77", OUTSIDE, udp(1, 2), hops=1)[2]
    assert [(port, frame[54], frame[62:78]) for port, frame in solicitation] == [
        ("eth0", 135, bytes.fromhex("fe800000000000000000000000000077"))
    ]
