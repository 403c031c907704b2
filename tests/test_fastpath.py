"""The fast path does what the full path does: of two nodes one has none, and a history cannot tell them apart.

One file, for all its cases are driven by one pair of nodes and the events that it knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import frames
import numpy as np
import pytest
from frames import ACK, FIN, RST, SYN
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    BRIDGE_MAC,
    GATEWAY_MAC,
    NODE_IP,
    NODE_MAC,
    PODS,
    SECOND,
    Event,
    damaged,
    gaps,
    histories,
    make_node,
    make_services,
)
from test_batch_invariance import START, batch_of, seen

import kubenet_fastpath as kf

POD1, POD2, POD3 = (PODS[name] for name in ("pod1", "pod2", "pod3"))
VNET_MAC = "00:0d:3a:00:00:09"
VNET, OTHER, OUT = "10.240.0.9", "10.244.2.10", "198.51.100.7"


@dataclass(frozen=True)
class Way:
    """Where a frame comes in, and between which addresses."""

    port: str
    macs: tuple[str, str]  # destination, source
    src: str
    dst: str
    reply: bool = False

    def frame(self, proto: int, payload: bytes, ttl: int = 64) -> bytes:
        return frames.packet(*self.macs, frames.ipv4(self.src, self.dst, proto, payload, ttl=ttl))

    def udp(self, sport: int = 1024, dport: int = 53, ttl: int = 64, data: bytes = b"data") -> bytes:
        ports = (dport, sport) if self.reply else (sport, dport)
        return self.frame(frames.UDP, frames.udp(*ports, data), ttl)

    def tcp(self, flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
        ports = (53, 1024) if self.reply else (1024, 53)
        return self.frame(frames.TCP, frames.tcp(*ports, flags, seq, ack, data))


#: Each way out and the way of its answers.
PAIRS = {
    "bridged": (
        Way("pod1", (POD2[1], POD1[1]), POD1[0], POD2[0]),
        Way("pod2", (POD1[1], POD2[1]), POD2[0], POD1[0], True),
    ),
    "routed": (
        Way("pod1", (BRIDGE_MAC, POD1[1]), POD1[0], OTHER),
        Way("eth0", (NODE_MAC, GATEWAY_MAC), OTHER, POD1[0], True),
    ),
    "masqueraded": (
        Way("pod1", (BRIDGE_MAC, POD1[1]), POD1[0], OUT),
        Way("eth0", (NODE_MAC, GATEWAY_MAC), OUT, NODE_IP, True),
    ),
    "vnet": (
        Way("pod2", (BRIDGE_MAC, POD2[1]), POD2[0], VNET),
        Way("eth0", (NODE_MAC, VNET_MAC), VNET, POD2[0], True),
    ),
    "service": (
        Way("pod3", (BRIDGE_MAC, POD3[1]), POD3[0], "10.0.0.50"),
        Way("pod1", (POD3[1], POD1[1]), POD1[0], POD3[0], True),
    ),
    "service, 2nd": (
        Way("pod3", (BRIDGE_MAC, POD3[1]), POD3[0], "10.0.0.50"),
        Way("pod2", (POD3[1], POD2[1]), POD2[0], POD3[0], True),
    ),
}
WAYS = [way for pair in PAIRS.values() for way in pair]


#: Answers of those whose MAC the node may have to ask for.
ARPS = [
    ("eth0", frames.arp(2, GATEWAY_MAC, "10.240.0.1", NODE_MAC, NODE_IP, NODE_MAC)),
    ("eth0", frames.arp(2, VNET_MAC, VNET, NODE_MAC, NODE_IP, NODE_MAC)),
    *(
        (name, frames.arp(2, mac, ip, BRIDGE_MAC, "10.244.1.1", BRIDGE_MAC))
        for name, (ip, mac) in PODS.items()
    ),
]


def changed(node: kf.Node, action: str) -> None:
    """Something that the control plane or a user may do to a node between two packets."""
    match action:
        case "route":
            node.routes["198.51.100.0/24"] = node.routes["0.0.0.0/0"]
        case "blackhole":
            node.next_hops.append(kf.node_plan.NextHop(type=kf.node_plan.RouteType.BLACKHOLE))
            node._publish_hops()
            node.routes["198.51.100.7/32"] = len(node.next_hops) - 1
        case "withdraw":
            for prefix in ("198.51.100.0/24", "198.51.100.7/32"):
                if prefix in node.routes:
                    del node.routes[prefix]
        case "flush":
            node.fdb.flush_learned()
        case "static":
            node.fdb.add_static(POD1[1], node.ports["pod2"].index)
        case "detach" if "pod3" in node.ports:
            node.detach("pod3")
        case "attach" if "pod3" not in node.ports:
            node.attach(kf.Pod("pod3", ip=POD3[0], mac=POD3[1]))
        case "services":
            node.set_services(make_services())
        case "no services":
            node.set_services(())
        case "hop":
            default = node.routes["0.0.0.0/0"]
            node.next_hops[default] = replace(node.next_hops[default], gateway=kf.address.ipv4(VNET))
            node._publish_hops()
        case "gateway":
            node.neighbours.add(node._device("eth0"), "10.240.0.1", "12:34:56:78:9a:bd")
        case "forget":
            for row in node.neighbours.to_records().tolist():
                node.neighbours.remove(row[0], int(row[1]))
        case "clear":
            node.connections.flush()


ACTIONS = [
    "route",
    "blackhole",
    "withdraw",
    "flush",
    "static",
    "detach",
    "attach",
    "services",
    "no services",
    "gateway",
    "hop",
    "forget",
    "clear",
]


@st.composite
def bursts(draw: st.DrawFn) -> list[Event]:
    """Few flows with many packets each, so that most are established; now and then one that is not like the others."""
    events = []
    for _ in range(draw(st.integers(1, 8))):
        out, back = draw(st.sampled_from(list(PAIRS.values())))
        gap = draw(gaps)
        kind = draw(st.sampled_from(["udp", "udp", "udp", "tcp", "handshake", "moved", "wrong port", "arp"]))
        if kind == "arp":
            events += [
                Event(port, frame) for port, frame in draw(st.sampled_from([ARPS, ARPS, ARPS[:2], ARPS[2:]]))
            ]
            continue
        if kind == "handshake":
            made = [
                (out, out.tcp(SYN, 100, 0)),
                (back, back.tcp(SYN | ACK, 500, 101)),
                (out, out.tcp(ACK, 101, 501)),
            ]
        elif kind == "tcp":
            way = draw(st.sampled_from([out, back]))
            flags = draw(st.sampled_from([ACK, ACK, ACK | 8, FIN | ACK, RST, SYN, RST | ACK]))
            seq, ack = (501, 101) if way.reply else (101, 501)
            made = [
                (
                    way,
                    way.tcp(
                        flags,
                        seq + draw(st.sampled_from([0, 0, 4, 70000])),
                        ack,
                        draw(st.sampled_from([b"", b"data"])),
                    ),
                )
            ]
        else:
            way = draw(st.sampled_from([out, out, back]))
            data = draw(st.sampled_from([b"data", b"", b"x", bytes(1400), bytes(1472), bytes(1473)]))
            made = [
                (
                    way,
                    way.udp(
                        draw(st.sampled_from([1024, 1025])),
                        ttl=draw(st.sampled_from([64, 64, 64, 2, 1])),
                        data=data,
                    ),
                )
            ]
        for way, frame in made * draw(st.integers(1, 4)):
            port = draw(st.sampled_from([way.port, "pod2", "eth0"])) if kind == "wrong port" else way.port
            if kind == "moved":
                frame = (
                    frame[:6]
                    + frames.mac(draw(st.sampled_from([POD1[1], POD2[1], "02:00:00:00:00:99"])))
                    + frame[12:]
                )
            if draw(st.integers(0, 7)) == 0:
                frame = draw(damaged(frame))
            events.append(Event(port, frame, gap, min(draw(st.sampled_from([0] * 9 + [1])), len(frame))))
            gap = 0
    return events


def twins(**changes: object) -> tuple[kf.Node, kf.Node]:
    """Two equal nodes, the second without the fast path."""
    fast, full = make_node(**changes), make_node(**changes)
    full._pipeline.fast_path = False
    return fast, full


def traffic(node: kf.Node) -> list[tuple[int, int, int, int]]:
    return [node._pipeline.traffic(index) for index in node.devices()]


def same(fast: kf.Node, full: kf.Node, events: list[Event], cuts: list[int]) -> None:
    present = [event for event in events if event.port in fast.ports]
    got, want = seen(fast, present, cuts), seen(full, present, [])
    for what in want:
        assert got[what] == want[what], what
    assert traffic(fast) == traffic(full)


@settings(deadline=None)
@given(
    st.lists(st.tuples(bursts(), st.sampled_from([*ACTIONS, "", "", "", ""])), min_size=1, max_size=4),
    st.lists(st.integers(0, 40), max_size=2),
    st.booleans(),
    st.booleans(),
)
def test_it_does_what_the_full_path_does(
    rounds: list[tuple[list[Event], str]], cuts: list[int], asks: bool, serves: bool
) -> None:
    fast, full = twins(
        permanent_neighbours=not asks, arp_notify=not asks, services=make_services() if serves else ()
    )
    for events, action in rounds:
        same(fast, full, events, cuts)
        changed(fast, action)
        changed(full, action)
    assert full._pipeline.paths()[3] == 0


@given(histories(), st.booleans())
def test_strange_histories_too(events: list[Event], serves: bool) -> None:
    fast, full = twins(services=make_services() if serves else ())
    same(fast, full, events, [])


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_which_packets_go_by_it(name: str, proto: str) -> None:
    """From the second packet that each direction sends of an established flow on, all of them."""
    out, back = PAIRS[name]
    if proto == "udp":
        begin, there, here = [(out, out.udp()), (back, back.udp())], out.udp(), back.udp()
    else:
        begin = [
            (out, out.tcp(SYN, 100, 0)),
            (back, back.tcp(SYN | ACK, 500, 101)),
            (out, out.tcp(ACK, 101, 501)),
        ]
        there, here = out.tcp(ACK, 101, 501), back.tcp(ACK, 501, 101)
    for seed in range(99):  # until the service's flow goes to the endpoint whose answers these are
        node = make_node(services=make_services(), seed=seed)
        first = [Event(way.port, frame) for way, frame in begin]
        seen(node, [first[0], *(Event(port, frame) for port, frame in ARPS), *first], [])
        if "[UNREPLIED]" not in node.connections.to_text(node.now):
            break
    seen(node, [Event(back.port, here), Event(out.port, there)] * 2, [])
    before = node._pipeline.paths()[3]
    after = seen(node, [Event(back.port, here), Event(out.port, there)] * 50, [])
    assert node._pipeline.paths()[3] == before + 100
    assert set(after["verdicts"]) <= {kf.Verdict.BRIDGED, kf.Verdict.ROUTED}


def test_paths_are_shared() -> None:
    node = make_node()
    out, _ = PAIRS["masqueraded"]
    seen(node, [Event(out.port, out.udp(sport)) for sport in range(1024, 1124)] * 2, [])
    assert node._pipeline.paths()[0] == 1


def test_many_paths() -> None:
    """The table of paths grows; what it knew is learned anew."""
    fast, full = twins()
    macs = [f"02:00:00:00:{i >> 8:02x}:{i & 255:02x}" for i in range(300)]
    out, _ = PAIRS["masqueraded"]
    flows = [out.udp(1024 + i)[:6] + frames.mac(mac) + out.udp(1024 + i)[12:] for i, mac in enumerate(macs)]
    for _ in range(6):
        same(fast, full, [Event("pod1", frame) for frame in flows], [])
    known, room, _, packets = fast._pipeline.paths()
    assert known == 300 < room
    assert packets >= 300


def test_frames_that_overlap() -> None:
    """The later one means what the earlier one has left of it."""
    out, _ = PAIRS["masqueraded"]
    one = np.frombuffer(out.udp(), np.uint8)
    results = []
    for fast in (True, False):
        node = make_node()
        node._pipeline.fast_path = fast
        port = node.ports["pod1"]
        for _ in range(3):
            node.forward(kf.PacketBatch.from_frames([one.tobytes()], port, START))
        data = np.concatenate([one, one, np.zeros(20, np.uint8)])
        n = len(one)
        offset = [0, n, 0, n, 7, 0]
        result = node.forward(kf.PacketBatch(data, offset, [n, n, n, n, n, 2 * n], port=port, time=START))
        results.append(
            (data.tobytes(), result.verdict.tolist(), result.reason.tolist(), result.outputs.tolist())
        )
    assert results[0] == results[1]


def test_a_frame_inside_another() -> None:
    """What is forwarded first changes bytes of the other one's payload, whose checksum is wrong then."""
    out, _ = PAIRS["masqueraded"]
    inner = out.udp(1024)
    outer = out.udp(1025, data=inner)
    results = []
    for fast in (True, False):
        node = make_node()
        node._pipeline.fast_path = fast
        port = node.ports["pod1"]
        for frame in (inner, outer) * 3:
            node.forward(kf.PacketBatch.from_frames([frame], port, START))
        data = np.frombuffer(bytearray(outer), np.uint8)
        batch = kf.PacketBatch(data, [42, 0], [len(inner), len(outer)], port=port, time=START)
        result = node.forward(batch)
        results.append((data.tobytes(), result.reason.tolist(), result.outputs.tolist()))
    assert results[0] == results[1]
    assert results[0][1] == [kf.Reason.MASQUERADE, kf.Reason.CT_INVALID]


def test_a_flow_expires() -> None:
    fast, full = warm()
    for gap in (29, 30, 31, 119, 120, 121):
        for way in WAYS:
            same(fast, full, [Event(way.port, way.udp(), gap * SECOND)] * 2, [1])


def test_a_capture_that_lost_padding() -> None:
    """The packet is whole, but not the frame: what came in by the port counts as it was on the wire."""
    fast, full = warm()
    for way in WAYS:
        same(fast, full, [Event(way.port, way.udp() + bytes(20), cut=20)] * 2, [1])


def test_a_generation_number_comes_again() -> None:
    """What was known when it was last in use is not taken for new, though another flow has the same path again."""
    fast, full = twins()
    way = PAIRS["masqueraded"][0]
    elsewhere = replace(way, dst="203.0.113.9")
    same(fast, full, [Event(way.port, way.udp())] * 3, [1, 2])
    generation = fast._pipeline.paths()[2]
    hop = fast.routes["0.0.0.0/0"]
    while fast._pipeline.paths()[2] != generation - 1:
        for node in (fast, full):
            node.routes["192.0.2.0/24"] = hop
            node.forward(batch_of(node, [Event(elsewhere.port, elsewhere.udp(1030))]))
    for node in (fast, full):
        changed(node, "blackhole")  # what the first flow goes to
    same(fast, full, [Event(elsewhere.port, elsewhere.udp())] * 3, [1, 2])
    assert fast._pipeline.paths()[2] == generation
    same(fast, full, [Event(way.port, way.udp())] * 3, [1, 2])


def test_recorded_packets_go_the_full_path() -> None:
    node = make_node()
    out, _ = PAIRS["routed"]
    seen(node, [Event(out.port, out.udp())] * 4, [1, 2, 3])
    before = node._pipeline.paths()[3]
    assert before == 2
    _, notes = node.record(batch_of(node, [Event(out.port, out.udp())]))
    assert node._pipeline.paths()[3] == before
    assert len(notes) > 5


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("offset", -1, "outside"),
        ("offset", 1 << 40, "outside"),
        ("length", 1000, "outside"),
        ("length", 0xFFFFFFFF, "outside"),
    ],
)
def test_columns_changed_behind_the_batch(column: str, value: int, message: str) -> None:
    node = make_node()
    batch = batch_of(node, [Event("pod1", PAIRS["routed"][0].udp())] * 3)
    getattr(batch, column)[1] = value
    with pytest.raises(ValueError, match=message):
        node.forward(batch)
    assert sum(node.counters[verdict.name.lower()] for verdict in kf.Verdict) == 0


def test_columns_replaced_behind_the_batch() -> None:
    node = make_node()
    batch = batch_of(node, [Event("pod1", PAIRS["routed"][0].udp())] * 3)
    batch.time = batch.time[:2]
    with pytest.raises(ValueError, match="time has 2 rows, not 3"):
        node.forward(batch)
    batch.time = np.zeros(3)
    with pytest.raises(ValueError, match="time must be"):
        node.forward(batch)


def test_a_copied_table_knows_no_paths() -> None:
    """Connections that come from another node's table are found, their paths are not believed."""
    fast, full = twins()
    out, _ = PAIRS["masqueraded"]
    events = [Event(out.port, out.udp())] * 4
    same(fast, full, events, [])
    state = fast.connections.__reduce_ex__(5)
    copy = state[0](*state[1])
    if len(state) > 2 and state[2] is not None:
        copy.__setstate__(state[2])
    assert len(copy) == 1
    assert copy.to_records(START).tolist() == full.connections.to_records(START).tolist()


def test_time_runs_on_the_fast_path() -> None:
    """A flow whose packets keep coming does not expire, and its MAC does not age."""
    fast, full = twins()
    out, _ = PAIRS["routed"]
    same(fast, full, [Event(out.port, out.udp(), 20 * SECOND)] * 40, list(range(40)))
    assert fast._pipeline.paths()[3] >= 30
    assert len(fast.connections) == 1


def warm(services: bool = True, **changes: object) -> tuple[kf.Node, kf.Node]:
    """Twins that have seen packets of every pair, so that the fast one knows all its paths."""
    fast, full = twins(services=make_services() if services else (), **changes)
    same(fast, full, [Event(port, frame) for port, frame in ARPS], [])
    for _ in range(3):
        same(fast, full, [Event(way.port, way.udp()) for way in WAYS], [])
    return fast, full


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_changes_is_seen(action: str, asks: bool) -> None:
    fast, full = warm(permanent_neighbours=not asks, arp_notify=not asks)
    changed(fast, action)
    changed(full, action)
    for _ in range(2):
        same(fast, full, [Event(way.port, way.udp()) for way in WAYS], [])


@pytest.mark.parametrize(
    ("port", "frame"),
    [
        ("pod2", frames.packet(BRIDGE_MAC, POD1[1], frames.ipv4(POD1[0], OUT, frames.UDP, frames.udp(9, 9)))),
        ("eth0", frames.arp(2, "12:34:56:78:9a:bd", "10.240.0.1", NODE_MAC, NODE_IP, NODE_MAC)),
        ("pod1", frames.arp(2, POD1[1], POD2[0], BRIDGE_MAC, "10.244.1.1", BRIDGE_MAC)),
    ],
    ids=["a MAC at another port", "the gateway has another MAC", "a pod's address is another's"],
)
def test_whoever_moves_is_followed(port: str, frame: bytes) -> None:
    fast, full = warm(permanent_neighbours=False)
    same(fast, full, [Event(port, frame)], [])
    for _ in range(2):
        same(fast, full, [Event(way.port, way.udp()) for way in WAYS], [])


def test_neighbours_grow_old() -> None:
    """REACHABLE, STALE, DELAY, PROBE, FAILED: of each state and of each way between two the packets tell."""
    fast, full = warm(permanent_neighbours=False)
    step = 2 * SECOND
    out = [PAIRS["masqueraded"][0], PAIRS["routed"][1], PAIRS["bridged"][0]]
    events = []
    for _ in range(20):
        events += [Event(way.port, way.udp(), step // 3) for _ in range(6) for way in out]
        events += [Event(port, frame) for port, frame in ARPS]
    same(fast, full, events, list(range(0, len(events), 2)))
    assert fast._pipeline.paths()[3] > 60


def ones_complement(frame: bytes) -> int:
    """The checksum of a UDP datagram in a frame without IP options."""
    return int.from_bytes(frame[40:42], "big")


def test_a_translated_checksum_that_would_be_zero() -> None:
    fast, full = warm()
    out, _ = PAIRS["masqueraded"]
    result = full.forward(batch_of(full, [Event(out.port, out.udp(data=b"\0\0"))]))
    check = ones_complement(result.packets("eth0").frames()[0])
    frame = out.udp(data=check.to_bytes(2, "big"))
    fast.forward(batch_of(fast, [Event(out.port, out.udp(data=b"\0\0"))]))
    result = fast.forward(batch_of(fast, [Event(out.port, frame)]))
    assert ones_complement(result.packets("eth0").frames()[0]) == 0xFFFF
    full.forward(batch_of(full, [Event(out.port, frame)]))
    same(fast, full, [Event(out.port, frame)] * 2, [])


def test_a_datagram_without_checksum() -> None:
    fast, full = warm()
    for way in WAYS:
        bare = way.udp()[:40] + b"\0\0" + way.udp()[42:]
        same(fast, full, [Event(way.port, bare)] * 2, [])


def test_a_service_that_loses_its_endpoints() -> None:
    """A flow that nobody has answered is new to the filter with every packet."""
    fast, full = warm()
    none = [
        kf.Service(
            name=s.name,
            cluster_ip=s.cluster_ip,
            ports=tuple(
                kf.ServicePort(
                    name=p.name, port=p.port, protocol=p.protocol, node_port=p.node_port, endpoints=()
                )
                for p in s.ports
            ),
        )
        for s in make_services()
    ]
    way = PAIRS["service"][0]
    lonely = [Event(way.port, way.udp(sport)) for sport in (2000, 2001)]
    for _ in range(3):
        same(fast, full, lonely, [])
    fast.set_services(none)
    full.set_services(none)
    for _ in range(2):
        same(fast, full, lonely + [Event(w.port, w.udp()) for w in WAYS], [])


@pytest.mark.parametrize("size", [0, 1, 2, 17, 36, 37, 38, 100, 1000, 1472])
@pytest.mark.parametrize("isa", kf.isa.available())
def test_a_wrong_bit_is_seen(isa: str, size: int) -> None:
    """Every variant sees every bit of header and datagram; what is behind the packet does not count."""
    fast, full = warm(services=False)
    fast._pipeline.isa = isa
    assert fast._pipeline.isa == isa
    out, _ = PAIRS["masqueraded"]
    frame = out.udp(data=bytes(range(256)) * (size // 256) + bytes(range(size % 256)))
    places = sorted({*range(min(len(frame), 60)), *range(60, len(frame), 97), len(frame) - 1})
    events = [
        Event(out.port, frame[:at] + bytes([frame[at] ^ 1 << at % 8]) + frame[at + 1 :]) for at in places
    ]
    events += [Event(out.port, frame + tail) for tail in (b"x", bytes(7), b"\xff" * 40)]
    before = fast._pipeline.paths()[3]
    same(fast, full, [Event(out.port, frame)] * 16 + events, [])
    assert fast._pipeline.paths()[3] >= before + 18


@pytest.mark.parametrize("isa", kf.isa.available())
def test_variants_agree(isa: str) -> None:
    @given(st.lists(bursts(), min_size=1, max_size=3), st.integers(0, 70))
    def agree(rounds: list[list[Event]], copies: int) -> None:
        fast, full = twins()
        fast._pipeline.isa = isa
        way = PAIRS["routed"][0]
        for events in rounds:
            same(fast, full, [Event(way.port, way.udp())] * copies + events * 2, [])

    agree()


def test_no_such_variant() -> None:
    with pytest.raises(ValueError, match="isa must be one of"):
        make_node()._pipeline.isa = "mmx"


@pytest.mark.parametrize("ttl", [255, 3, 2, 1, 0])
def test_time_to_live(ttl: int) -> None:
    fast, full = warm()
    for _ in range(2):
        same(fast, full, [Event(way.port, way.udp(ttl=ttl)) for way in WAYS], [])


@pytest.mark.parametrize("size", [1471, 1472, 1473, 3000])
def test_sizes_around_the_mtu(size: int) -> None:
    fast, full = warm()
    for _ in range(2):
        same(fast, full, [Event(way.port, way.udp(data=bytes(size))) for way in WAYS], [])


def test_redirects_are_said_again() -> None:
    """Whether a redirect is due depends on time, so such a flow has no path."""
    fast, full = warm()
    out = Way("eth0", (NODE_MAC, VNET_MAC), VNET, OUT)
    for gap in (0, SECOND // 100, SECOND, 9 * SECOND, 25 * SECOND):
        same(fast, full, [Event(out.port, out.udp(), gap)] * 12, list(range(12)))


def test_a_flood_that_meets_one_port_is_no_path() -> None:
    out, back = PAIRS["masqueraded"]
    fast, full = warm()
    for node in (fast, full):
        node.detach("pod2")
        node.detach("pod3")
    same(fast, full, [Event(out.port, out.udp())] * 2, [])
    for node in (fast, full):
        node.fdb.flush_learned()
    for _ in range(3):
        same(fast, full, [Event(back.port, back.udp())], [])
    for node in (fast, full):
        node.fdb.add_local(POD1[1])
    same(fast, full, [Event(back.port, back.udp())], [])


@pytest.mark.parametrize("kube_proxy", [True, False])
def test_the_hosts_copy_of_a_frame(kube_proxy: bool) -> None:
    """A frame to the bridge's MAC whose destination becomes a pod beside is bridged, and the host gets a copy."""
    nodes = []
    for fast in (True, False):
        node = make_node(kube_proxy=kube_proxy)
        node.detach("pod1")
        node.attach(
            kf.Pod(
                "pod1",
                ip=POD1[0],
                mac=POD1[1],
                host_ports=(kf.HostPort(port=5353, pod_port=53, protocol="udp"),),
            )
        )
        node._pipeline.fast_path = fast
        nodes.append(node)
    way = Way("pod3", (BRIDGE_MAC, POD3[1]), POD3[0], NODE_IP)
    for size in (4, 1472, 1473):
        for ttl in (64, 2, 1):
            same(*nodes, [Event(way.port, way.udp(dport=5353, ttl=ttl, data=bytes(size)))] * 3, [1, 2])
    assert nodes[0].counters["local_copies"] > 0


def test_a_reset_ends_a_flow() -> None:
    fast, full = warm()
    out, back = PAIRS["masqueraded"]
    begin = [
        (out, out.tcp(SYN, 100, 0)),
        (back, back.tcp(SYN | ACK, 500, 101)),
        (out, out.tcp(ACK, 101, 501)),
    ]
    data = [(out, out.tcp(ACK, 101, 501)), (back, back.tcp(ACK, 501, 101))] * 3
    end = [
        (out, out.tcp(RST | ACK, 101, 501)),
        (back, back.tcp(ACK, 501, 101)),
        (out, out.tcp(ACK, 101, 501)),
    ]
    again = [(out, out.tcp(SYN, 9000, 0)), (back, back.tcp(SYN | ACK, 7000, 9001))]
    events = [Event(way.port, frame) for way, frame in begin + data + end + again]
    same(fast, full, events, list(range(len(events))))
    same(fast, full, events, [])


def test_an_address_that_becomes_a_service() -> None:
    """An unanswered flow to where there was none is refused from then on, for nobody stands behind it."""
    fast, full = warm(services=False)
    out = replace(PAIRS["routed"][0], dst="10.0.0.52")
    for _ in range(3):
        same(fast, full, [Event(out.port, out.udp())], [])
    assert fast._pipeline.paths()[3] > 0
    changed(fast, "services")
    changed(full, "services")
    result = fast.forward(batch_of(fast, [Event(out.port, out.udp())]))
    assert result.reason.tolist() == [kf.Reason.NO_ENDPOINTS]
    full.forward(batch_of(full, [Event(out.port, out.udp())]))
    same(fast, full, [Event(out.port, out.udp())] * 2, [])


def test_an_answer_by_proxy_is_a_timer() -> None:
    """What a pod is told by proxy arp, a random time later, leaves between the packets of its flow, not behind them."""
    results = []
    for fast in (True, False):
        node = kf.Node(
            kf.AzureCniNodeSubnet(node_ip=NODE_IP, gateway="10.240.0.1", gateway_mac=GATEWAY_MAC, seed=7)
        )
        node._pipeline.fast_path = fast
        port = node.attach(kf.Pod("pod1", ip="10.240.0.30", mac=POD1[1]))
        host = port.pod.host_mac if port.pod else None
        assert host is not None
        sent = frames.packet(
            host, POD1[1], frames.ipv4("10.240.0.30", OUT, frames.UDP, frames.udp(1024, 53, b"data"))
        )
        asks = frames.arp(1, POD1[1], "10.240.0.30", "00:00:00:00:00:00", VNET, "ff:ff:ff:ff:ff:ff")
        seen(node, [Event("pod1", sent)] * 3, [])
        after = seen(node, [Event("pod1", asks), *[Event("pod1", sent, SECOND // 100)] * 100], [])
        results.append(after)
        assert node._pipeline.totals()["generated"] >= 1
        assert (node._pipeline.paths()[3] > 90) == fast
    for what in results[0]:
        assert results[0][what] == results[1][what], what
