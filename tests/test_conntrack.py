"""`ConnectionTable` against a list of connections, and against the kernel's TCP table row by row."""

from __future__ import annotations

import pickle
import struct

import frames
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from models.conntrack import NAMES, TIMEOUT, Connections, Tuple, inverse, step

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtInfo, CtStatus, TcpState

SECOND = 10**9
START = 10**18
MISS = kf.ConnectionTable.MISS
FLAGS = {"syn": 2, "synack": 18, "fin": 17, "ack": 16, "rst": 4, "none": 0}
TYPES = (np.uint32, np.uint32, np.uint16, np.uint16, np.uint8)

addresses = st.integers(1, 3)
udp = st.tuples(addresses, addresses, st.integers(1, 2), st.integers(1, 2), st.just(17))
echo = st.builds(
    lambda a, b, ident, kind: (a, b, ident, kind << 8, 1), addresses, addresses, st.integers(1, 2),
    st.sampled_from([8, 0, 13, 14, 9, 99]),
)  # fmt: skip
other = st.tuples(addresses, addresses, st.just(0), st.just(0), st.sampled_from([253, 99]))
tuples = st.one_of(udp, udp, echo, other)
EDGES = (2, 10, 30, 120, 180, 600)
gaps = st.sampled_from([0, 0, 1, SECOND, *(s * SECOND + d for s in EDGES for d in (-1, 0, 1))])


def columns(packets: list[Tuple]) -> list[np.ndarray]:
    rows = list(zip(*packets, strict=True)) if packets else [()] * 5
    return [np.array(values, kind) for values, kind in zip(rows, TYPES, strict=True)]


class ConntrackMachine(RuleBasedStateMachine):
    """Table and model see the same packets at the same times."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.model, self.now = kf.ConnectionTable(capacity=1000, seed=3), Connections(), START

    @rule(batch=st.lists(st.tuples(tuples, gaps), max_size=8))
    def track(self, batch: list[tuple[Tuple, int]]) -> None:
        times, want = [], []
        for packet, gap in batch:
            self.now += gap
            times.append(self.now)
            want.append(self.model.track(packet, self.now))
        conn, info = self.table.track(*columns([p for p, _ in batch]), np.array(times, np.int64))
        assert [CtInfo(i).name for i in info] == want
        assert [c == MISS for c in conn] == [w == "INVALID" for w in want]

    @rule(packets=st.lists(tuples, max_size=6), gap=gaps)
    def look(self, packets: list[Tuple], gap: int) -> None:
        self.now += gap
        found = [self.model.find(packet, self.now) for packet in packets]
        conn, reply = self.table.lookup(*columns(packets), self.now)
        assert [c != MISS for c in conn.tolist()] == [f is not None for f in found]
        assert reply.tolist() == [f is not None and f[1] for f in found]

    @rule()
    def flush(self) -> None:
        live = len(self.model.live(self.now))
        assert self.table.flush() >= live
        self.model.held.clear()

    @rule(packet=tuples)
    def delete(self, packet: Tuple) -> None:
        src, dst, sport, dport, proto = packet
        self.table.delete(src=src, dst=dst, sport=sport, dport=dport, proto=proto)
        self.model.held = [c for c in self.model.held if c.original != packet]

    @rule()
    def expire(self) -> None:
        self.table.expire(self.now)
        assert len(self.table) == len(self.model.live(self.now))

    @rule()
    def keep(self) -> None:
        self.table = pickle.loads(pickle.dumps(self.table, protocol=5))

    @invariant()
    def alike(self) -> None:
        got = {}
        for r in self.table.to_records(self.now):
            key = tuple(int(r[name]) for name in ("src", "dst", "sport", "dport", "proto"))
            back = tuple(int(r[f"reply_{name}"]) for name in ("src", "dst", "sport", "dport"))
            assert (*back, key[4]) == inverse(key)
            status = CtStatus(int(r["status"]))
            counted = (int(r["packets"]), int(r["reply_packets"]))
            got[key] = (int(r["expires"]), CtStatus.SEEN_REPLY in status, CtStatus.ASSURED in status, counted)
        want = {
            c.original: (c.expires, c.seen_reply, c.assured, c.packets) for c in self.model.live(self.now)
        }
        assert got == want


TestConntrack = ConntrackMachine.TestCase


@given(st.lists(st.tuples(tuples, gaps), max_size=12), st.integers(0, 12))
def test_a_batch_is_its_packets_one_by_one(batch: list[tuple[Tuple, int]], cut: int) -> None:
    whole, split = (kf.ConnectionTable(capacity=100, seed=3) for _ in range(2))
    times = START + np.cumsum([gap for _, gap in batch], dtype=np.int64)
    cols = [*columns([p for p, _ in batch]), times]
    info = [split.track(*(c[part] for c in cols))[1] for part in (slice(0, cut), slice(cut, None))]
    assert whole.track(*cols)[1].tolist() == np.concatenate(info).tolist()
    assert whole.to_records().tolist() == split.to_records().tolist()
    assert whole.counters == split.counters


CLIENT, SERVER = (1, 2, 1000, 80, 6), (2, 1, 80, 1000, 6)
PATHS = {
    "NO": [],
    "SS": ["orig syn"],
    "S2": ["orig syn", "reply syn"],
    "SR": ["orig syn", "reply synack"],
    "ES": ["orig syn", "reply synack", "orig ack"],
    "FW": ["orig syn", "reply synack", "orig ack", "orig fin"],
    "CW": ["orig syn", "reply synack", "orig ack", "orig fin", "reply ack"],
    "LA": ["orig syn", "reply synack", "orig ack", "orig fin", "reply fin"],
    "TW": ["orig syn", "reply synack", "orig ack", "orig fin", "reply fin", "orig ack"],
    "CL": ["orig syn", "reply synack", "orig ack", "orig rst"],
}


class Flow:
    """One TCP connection, segment by segment, by flags alone."""

    def __init__(self, **settings: object) -> None:
        self.table = kf.ConnectionTable(capacity=10, seed=3, **settings)

    def segment(self, what: str, now: int = START) -> CtInfo:
        direction, kind = what.split()
        packet = CLIENT if direction == "orig" else SERVER
        _, info = self.table.track(*columns([packet]), now, flags=np.array([FLAGS[kind]], np.uint8))
        return CtInfo(info[0])

    def state(self) -> str | None:
        records = self.table.to_records(START)
        return TcpState(int(records[0]["state"])).name if len(records) else None


@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize("direction", ["orig", "reply"])
@pytest.mark.parametrize("state", PATHS)
def test_every_cell_of_the_tcp_table(state: str, direction: str, kind: str) -> None:
    flow = Flow()
    for what in PATHS[state]:
        flow.segment(what)
    before = flow.state()
    assert before == (NAMES[state] if state != "NO" else None)
    if state == "NO":
        direction = "orig"  # whoever speaks first is the origin
    info = flow.segment(f"{direction} {kind}")
    word = step(state, direction, kind)
    if word == "IV":
        assert (info, flow.state()) == (CtInfo.INVALID, before)
    elif word == "IG":
        assert (info is not CtInfo.INVALID, flow.state()) == (True, before)
    elif kind == "syn" and state in ("TW", "CL"):
        assert (info, flow.state()) == (CtInfo.NEW, "SYN_SENT")  # begun anew
    elif kind == "rst" and state == "SS":
        assert flow.state() is None  # nobody had answered: the entry goes
    else:
        assert info is not CtInfo.INVALID
        assert flow.state() == NAMES[word]


@pytest.mark.parametrize("state", [s for s in PATHS if s not in ("NO", "S2")])
def test_every_state_lives_as_long_as_the_kernel_says(state: str) -> None:
    flow = Flow()
    for what in PATHS[state]:
        flow.segment(what)
    record = flow.table.to_records(START)[0]
    assert int(record["expires"]) - START in {
        TIMEOUT[NAMES[state]] * SECOND,
        min(TIMEOUT[NAMES[state]], 300) * SECOND,
    }
    assert len(flow.table.to_records(int(record["expires"]) - 1)) == 1
    assert len(flow.table.to_records(int(record["expires"]))) == 0


def test_a_simultaneous_open_is_established_by_the_second_ack() -> None:
    flow = Flow()
    for what in ("orig syn", "reply syn", "reply synack", "reply ack"):
        flow.segment(what)
    assert flow.state() in ("SYN_RECV", "ESTABLISHED")


@pytest.mark.parametrize(("loose", "info"), [(True, CtInfo.NEW), (False, CtInfo.INVALID)])
def test_connections_are_picked_up_in_the_middle_if_loose(loose: bool, info: CtInfo) -> None:
    assert Flow(loose=loose).segment("orig ack") is info


def test_a_full_table_lets_go_of_what_nobody_answered() -> None:
    table = kf.ConnectionTable(capacity=4, seed=3)
    for port in range(1, 9):
        _, info = table.track(*columns([(1, 2, port, 53, 17)]), START)
        assert CtInfo(info[0]) in (CtInfo.NEW, CtInfo.DROP)
    assert len(table) <= 4
    assert table.counters["early_drop"] + table.counters["drop"] == 4


def test_a_full_table_keeps_what_is_assured() -> None:
    table = kf.ConnectionTable(capacity=2, seed=3)
    for port in (1, 2):
        there, back = (1, 2, port, 53, 17), (2, 1, 53, port, 17)
        for packet, now in ((there, START), (back, START + SECOND), (there, START + 3 * SECOND)):
            table.track(*columns([packet]), now)
    conn, info = table.track(*columns([(1, 2, 3, 53, 17)]), START + 4 * SECOND)
    assert (conn[0], CtInfo(info[0])) == (MISS, CtInfo.DROP)
    assert len(table) == 2
    conn, _ = table.track(*columns([(1, 2, 1, 53, 17)]), START + 4 * SECOND)
    assert conn[0] != MISS


def test_zones_are_apart() -> None:
    table = kf.ConnectionTable(capacity=10, seed=3)
    packet = columns([(1, 2, 3, 4, 17)])
    first, second = table.track(*packet, START)[0], table.track(*packet, START, zone=5)[0]
    assert first.tolist() != second.tolist()
    assert len(table) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.track(*columns([(1, 2, 3, 4, 17)])[:4], np.array([17, 17], np.uint8), START),
        lambda t: t.track(*columns([(1, 2, 3, 4, 17)]), np.array([1, 2], np.int64)),
        lambda t: t.track(*[c.astype(np.int64) for c in columns([(1, 2, 3, 4, 17)])], START),
        lambda t: t.delete(),
        lambda t: t.delete(colour=3),
        lambda t: kf.ConnectionTable(capacity=0),
        lambda t: kf.ConnectionTable(timeouts=kf.Timeouts(udp_s=-1)),
    ],
)
def test_a_refused_call_changes_nothing(call: object) -> None:
    table = kf.ConnectionTable(capacity=10, seed=3)
    table.track(*columns([(1, 2, 9, 9, 17)]), START)
    before = table.to_records().tolist()
    with pytest.raises((ValueError, TypeError)):
        call(table)
    assert table.to_records().tolist() == before


@pytest.mark.parametrize("name", ["free", "count", "heads", "rows", "sides"])
def test_a_damaged_pickle_is_refused(name: str) -> None:
    """Each octet of a pickled table, one after the other: refused, or a table that stands its calls."""
    table = kf.ConnectionTable(capacity=10, seed=3)
    packets = columns([(1, 2, 3, 80, 6), (1, 2, 4, 5, 17), (7, 2, 9, 9, 17)])
    table.track(*packets, START)
    table.delete(src=7)
    function, (state,) = table.__reduce__()
    refused = 0
    whole = (
        state[name]
        if isinstance(state[name], np.ndarray)
        else np.array([state[name]], np.uint32).view(np.uint8)
    )
    for at in range(len(whole)):
        for value in (1, 0x80, 0xFF):
            octets = whole.copy()
            octets[at] ^= value
            changed = octets if name in ("rows", "sides") else int(octets.view(np.uint32)[0])
            try:
                made = function(state | {name: changed})
            except ValueError:
                refused += 1
                continue
            made.track(*packets, START)
            made.to_text(START)
            made.expire(START + 10**15)
            made.flush()
            made.track(*packets, START + 10**15)
            pickle.loads(pickle.dumps(made, protocol=5))
    # sides are numbers, any of which may be
    least = {"free": 12, "count": 12, "heads": 9, "rows": 44, "sides": 0}
    assert refused >= least[name]


@pytest.mark.parametrize(("opener", "answerer"), [(7, 0), (0, 7), (2, 9), (9, 2)])
def test_each_end_scales_its_own_windows(opener: int, answerer: int) -> None:
    """What an end allows the other is its window shifted by its own scale (RFC 7323 2.3)."""
    from frames import ACK, SYN, TCP, eth6, ipv6
    from test_dual_stack import FABRIC, FAR, NODE_MAC, Wire, kubenet

    def segment(
        ends: tuple[int, int], flags: int, seq: int, ack: int, window: int, options: bytes = b""
    ) -> bytes:
        data = b"" if flags & SYN else b"x"
        length = (20 + len(options)) // 4 << 12
        return struct.pack("!HHIIHHHH", *ends, seq, ack, length | flags, window, 0, 0) + options + data

    for far_sends in (False, True):
        for beyond in (False, True):
            wire = Wire(kubenet())
            pod = str(wire.a.pod.ip6)
            there, back = (1000, 80), (80, 1000)

            def out(l4: bytes, wire: Wire = wire) -> str:
                return wire.from_a(FAR, l4, TCP)[0]

            def home(l4: bytes, wire: Wire = wire, pod: str = pod) -> str:
                return wire.send(wire.node.ports["eth0"], eth6(NODE_MAC, FABRIC, ipv6(FAR, pod, TCP, l4)))[0]

            scales = [bytes([3, 3, scale, 1]) for scale in (opener, answerer)]
            assert out(segment(there, SYN, 100, 0, 5000, scales[0])) == "ROUTED"
            assert home(segment(back, SYN | ACK, 900, 101, 5000, scales[1])) == "ROUTED"
            assert out(segment(there, ACK, 101, 901, 1000)) == "ROUTED"
            assert home(segment(back, ACK, 901, 102, 1000)) == "ROUTED"
            assert out(segment(there, ACK, 102, 902, 1000)) == "ROUTED"
            first, scale = (902, opener) if far_sends else (103, answerer)
            most = max(5000 + first - 1, first + (1000 << scale))  # a SYN's window has no scale
            # What goes beyond by less than a window is let through, for its answer will tell.
            seq = most + (2 * max(5000, 1000 << scale) if beyond else -5)
            verdict = (
                home(segment(back, ACK, seq, 103, 10))
                if far_sends
                else out(segment(there, ACK, seq, 902, 10))
            )
            assert verdict == ("DROP" if beyond else "ROUTED"), (far_sends, beyond)


@pytest.mark.parametrize(("by_opener", "state"), [(True, "CLOSE"), (False, "SYN_SENT2")])
def test_a_reset_refuses_no_syn_of_its_own_sender(by_opener: bool, state: str) -> None:
    """After a simultaneous open a RST without ACK is believed wherever it lies, but not of who said SYN last."""
    node = kf.Node(
        kf.Kubenet(
            node_ip="10.240.0.4",
            gateway="10.240.0.1",
            pod_cidr="10.244.1.0/24",
            cluster_cidr="10.244.0.0/16",
        )
    )
    a, b = (node.attach(kf.Pod(name)) for name in "ab")

    def say(sender: kf.Port, receiver: kf.Port, segment: bytes) -> None:
        l3 = frames.ipv4(str(sender.pod.ip), str(receiver.pod.ip), 6, segment)
        frame = frames.packet(str(receiver.pod.mac), str(sender.pod.mac), l3)
        node.forward(kf.PacketBatch.from_frames([frame], sender, 10**18))

    say(a, b, frames.tcp(1024, 8080, frames.SYN, 1000))
    say(b, a, frames.tcp(8080, 1024, frames.SYN, 5000))
    far = 75_000
    if by_opener:
        say(a, b, frames.tcp(1024, 8080, frames.RST, far))
    else:
        say(b, a, frames.tcp(8080, 1024, frames.RST, far))
    assert f" {state} " in node.connections.to_text(10**18)
