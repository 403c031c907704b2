"""A batch means its packets one by one, however many threads share it: of two nodes one has more, and nothing tells.

The tests of the fast path run here once more, with workers: what they say of it holds for any number of threads.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frames
import golden_compare
import numpy as np
import pytest
import strategies
import test_fastpath
from frames import ACK, FIN, RST, SYN
from golden_node import GoldenNode
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import PODS, SECOND, Event, histories, make_services
from test_batch_invariance import batch_of, seen
from test_fastpath import *  # noqa: F403 - its tests, with the nodes below
from test_fastpath import ACTIONS, ARPS, PAIRS, WAYS, Way, bursts, changed, traffic

import kubenet_fastpath as kf

#: Packets of a stretch, of a share, of the least batch, of the least rest after a stop.
SHAPES = [(1, 1, 1, 1), (5, 2, 1, 1), (16, 3, 2, 1), (64, 8, 4, 3), (8192, 256, 2, 64)]
Shape = tuple[int, int, int, int]


def make_node(workers: int = 2, shape: Shape = (5, 2, 1, 1), **changes: object) -> kf.Node:
    node = strategies.make_node(**changes)
    node._pipeline.workers = workers
    node._pipeline.shape(*shape)
    return node


@pytest.fixture(autouse=True, scope="module")
def _nodes_have_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_fastpath, "make_node", make_node)
        yield


def shared(node: kf.Node) -> int:
    """Packets that several threads have forwarded."""
    return node._pipeline.stretches()[0]


def agree(many: kf.Node, one: kf.Node, events: list[Event], cuts: list[int]) -> None:
    present = [event for event in events if event.port in many.ports]
    got, want = seen(many, present, cuts), seen(one, present, cuts)
    for what in want:
        assert got[what] == want[what], what
    assert traffic(many) == traffic(one)
    assert many._pipeline.now == one._pipeline.now
    assert many.connections.occupancy() == one.connections.occupancy()


def pair(workers: int, shape: Shape, **changes: object) -> tuple[kf.Node, kf.Node]:
    return make_node(workers, shape, **changes), strategies.make_node(**changes)


def warm(workers: int, shape: Shape, **changes: object) -> tuple[kf.Node, kf.Node]:
    """Two nodes that know a UDP flow each way of every pair, and a TCP connection."""
    nodes = pair(workers, shape, services=make_services(), **changes)
    for node in nodes:
        seen(node, [Event(port, frame) for port, frame in ARPS], [])
        for _ in range(3):
            seen(node, [Event(way.port, way.udp()) for way in WAYS], [])
        out, back = PAIRS["masqueraded"]
        opened = [
            (out, out.tcp(SYN, 100, 0)),
            (back, back.tcp(SYN | ACK, 500, 101)),
            (out, out.tcp(ACK, 101, 501)),
        ]
        for _ in range(2):
            seen(node, [Event(way.port, frame) for way, frame in opened], [])
            opened = [(out, out.tcp(ACK, 101, 501)), (back, back.tcp(ACK, 501, 101))]
    return nodes


def test_any_number_gives_the_same() -> None:
    together = []

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(bursts(), st.sampled_from([*ACTIONS, "", "", "", ""])), min_size=1, max_size=4),
        st.lists(st.integers(0, 40), max_size=2),
        st.booleans(),
        st.booleans(),
        st.sampled_from([2, 3, 4]),
        st.sampled_from(SHAPES),
    )
    def histories_of_both(
        rounds: list[tuple[list[Event], str]],
        cuts: list[int],
        asks: bool,
        knows: bool,
        workers: int,
        shape: Shape,
    ) -> None:
        known: dict[str, Any] = {"permanent_neighbours": not asks, "arp_notify": not asks}
        if knows:  # flows from the start
            many, one = warm(workers, shape, **known)
        else:
            many, one = pair(workers, shape, services=make_services(), **known)
        for events, action in rounds:
            agree(many, one, events, cuts)
            changed(many, action)
            changed(one, action)
        together.append(shared(many))

    histories_of_both()
    assert sum(together) > 0


def test_strange_histories() -> None:
    together = []

    @given(histories(), st.booleans(), st.sampled_from(SHAPES))
    def histories_of_both(events: list[Event], serves: bool, shape: Shape) -> None:
        many, one = pair(3, shape, services=make_services() if serves else ())
        for _ in range(4):  # what the first ones establish
            agree(many, one, events, [])
        together.append(shared(many))

    histories_of_both()
    assert sum(together) > 0


TALK = [Event(way.port, way.udp()) for way in WAYS] * 6
#: Flows of which all packets but the first go by the fast path.
CALM = [
    Event(way.port, way.udp()) for name in ("bridged", "routed", "masqueraded") for way in PAIRS[name]
] * 12
OUT, BACK = PAIRS["masqueraded"]
ODD = {
    "new flow": [Event(OUT.port, OUT.udp(2000))],
    "unknown answer": [Event(BACK.port, BACK.udp(2001))],
    "arp": [Event(*ARPS[0])],
    "ttl": [Event(OUT.port, OUT.udp(ttl=1))],
    "moved": [Event("pod2", OUT.udp())],
    "new mac": [Event("pod1", OUT.udp()[:6] + frames.mac("02:00:00:00:00:99") + OUT.udp()[12:])],
    "wrong sum": [Event(OUT.port, OUT.udp()[:-1] + b"!")],
    "cut": [Event(OUT.port, OUT.udp(data=bytes(40)), cut=20)],
    "too big": [Event(OUT.port, OUT.udp(data=bytes(1473)))],
    "tiny": [Event(OUT.port, b"\x00" * 9)],
    "timer": [Event(OUT.port, OUT.udp(), SECOND // 2)],
    "much later": [Event(OUT.port, OUT.udp(), 121 * SECOND)],
    "fin": [Event(OUT.port, OUT.tcp(FIN | ACK, 101, 501)), Event(BACK.port, BACK.tcp(ACK, 501, 102))],
    "reset": [Event(BACK.port, BACK.tcp(RST, 501, 0)), Event(OUT.port, OUT.tcp(ACK, 101, 501))],
    "out of window": [Event(OUT.port, OUT.tcp(ACK, 101 + (1 << 20), 501, b"late"))],
    "wrong tcp sum": [Event(OUT.port, OUT.tcp(ACK, 101, 501, b"data")[:-1] + b"!")],
    "data": [Event(OUT.port, OUT.tcp(ACK | 8, 101, 501, b"data")), Event(BACK.port, BACK.tcp(ACK, 501, 105))],
}
SEGMENTS = [Event(OUT.port, OUT.tcp(ACK, 101, 501)), Event(BACK.port, BACK.tcp(ACK, 501, 101))] * 9


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_packet_is_not_like_the_others(odd: str, shape: Shape) -> None:
    """What was done to those behind it is taken back, and they see what it did."""
    calm = [*TALK, *SEGMENTS, *TALK]
    for at in (0, 1, 7, len(TALK) + 3, len(calm) - 1, len(calm)):
        many, one = warm(2, shape)
        agree(many, one, [*calm[:at], *ODD[odd], *calm[at:]], [])
        agree(many, one, calm, [])
        assert shared(many) > 0


def test_a_segment_that_only_its_owner_can_judge_ends_the_stretch() -> None:
    """The window is known when the segments before it are; by then others are through with all that follow."""
    many, one = warm(3, (64, 4, 2, 1))
    talk = [Event(OUT.port, OUT.udp()), Event(BACK.port, BACK.udp())] * 9
    for _ in range(2):
        agree(many, one, [*talk, *SEGMENTS], [])  # learns their paths
    before = many._pipeline.stretches()
    events = [*talk, *SEGMENTS, *ODD["out of window"], *SEGMENTS[:9], *talk[:9]]
    agree(many, one, events, [])
    packets, stops = (now - then for now, then in zip(many._pipeline.stretches(), before, strict=True))
    assert stops == 1
    assert len(talk) + len(SEGMENTS) <= packets < len(events)


def opened(way: Way, back: Way) -> list[Event]:
    """A handshake and what both ends say then, so that their paths are known."""
    calm = [Event(way.port, way.tcp(ACK, 101, 501)), Event(back.port, back.tcp(ACK, 501, 101))]
    syn, answer = way.tcp(SYN, 100, 0), back.tcp(SYN | ACK, 500, 101)
    return [Event(way.port, syn), Event(back.port, answer), *calm * 3]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("workers", [2, 3])
def test_a_state_that_is_taken_back_is_counted_back(workers: int, turned: bool) -> None:
    """One end closes; the other acknowledges it behind a segment that ends the stretch.."""
    names = ("bridged", "routed") if turned else ("routed", "bridged")
    (one_way, one_back), (way, back) = (PAIRS[name] for name in names)
    talk = [Event(out.port, out.udp()) for out in WAYS] * 2
    states = set()
    for _ in range(8):
        many, one = warm(workers, (64, 4, 2, 1))
        agree(many, one, [*opened(one_way, one_back), *opened(way, back), *talk], [])
        agree(many, one, [Event(way.port, way.tcp(FIN | ACK, 101, 501))], [])
        late = Event(one_way.port, one_way.tcp(ACK, 101 + (1 << 20), 501, b"late"))
        agree(many, one, [*talk, late, Event(back.port, back.tcp(ACK, 501, 102)), *talk], [])
        states |= set(many.connections.occupancy()["states"])
        # by another count of the same
        assert many.connections.occupancy()["states"].get("tcp CLOSE_WAIT", 0) == 1
    assert "tcp CLOSE_WAIT" in states


@pytest.mark.parametrize("workers", [2, 3, 4, 64])
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_all_packets_of_known_flows_are_shared(workers: int, proto: str) -> None:
    many, one = warm(workers, (64, 8, 2, 1))
    calm = CALM if proto == "udp" else SEGMENTS
    agree(many, one, calm, [])  # learns the answers' paths
    before = shared(many)
    agree(many, one, calm * 5, [])
    assert many._pipeline.stretches() == (before + 5 * len(calm), many._pipeline.stretches()[1])


def test_time_goes_on_within_a_batch() -> None:
    """The account, the timeouts and the bridge's time stamps are those of each flow's latest packet."""
    many, one = warm(2, (64, 8, 2, 1))
    agree(many, one, CALM, [])
    gaps = [0, 1, 1000, 0, 10**6] * 99
    steps = [Event(event.port, event.frame, gap) for event, gap in zip(CALM * 2, gaps, strict=False)]
    before = shared(many)
    agree(many, one, steps, [])
    assert shared(many) - before > len(steps) // 2


def test_time_that_runs_backwards() -> None:
    many, one = warm(2, (64, 8, 2, 1))
    for node in (many, one):
        batch = batch_of(node, TALK)
        batch.time[::3] -= 5 * 10**6
        batch.time[::5] += 7 * 10**6
        node.forward(batch)
    agree(many, one, TALK, [])


@pytest.mark.parametrize("seconds", [0, 1, 2])
def test_flows_that_end_within_a_batch(seconds: int) -> None:
    timeouts = kf.Timeouts(udp_s=seconds, udp_stream_s=seconds)
    many, one = warm(2, (64, 8, 2, 1), timeouts=timeouts)
    for gap in (SECOND // 3, SECOND - 1, SECOND, 2 * SECOND):
        agree(many, one, [Event(event.port, event.frame, gap) for event in TALK[:12]], [])


def test_frames_that_share_bytes_are_not_shared() -> None:
    """Nor are batches in which a later frame lies before an earlier one."""
    many, one = warm(2, (64, 8, 2, 1))
    results = []
    before = shared(many)
    for node in (many, one):
        batch = batch_of(node, TALK)
        order = np.random.default_rng(1).integers(0, len(batch), 2 * len(batch))
        result = node.forward(batch[order])
        results.append((batch.data.tobytes(), result.verdict.tolist(), result.outputs.tolist()))
    assert results[0] == results[1]
    assert shared(many) == before


def test_recorded_packets_go_one_by_one() -> None:
    many, _ = warm(2, (64, 8, 2, 1))
    before = shared(many)
    many.record(batch_of(many, TALK))
    assert shared(many) == before


def flows(count: int) -> list[Way]:
    """Ways out of three pods to many hosts."""
    pods = [(name, *PODS[name]) for name in PODS]
    return [
        Way(name, (strategies.BRIDGE_MAC, mac), ip, f"198.51.{i >> 8}.{i & 255}")
        for i in range(count)
        for name, ip, mac in (pods[i % 3],)
    ]


def mixed(rng: np.random.Generator, count: int, strange: int) -> list[Event]:
    """Many packets of many flows in random order, some of them not like the others."""
    known = [way.udp(1024 + i % 7) for i, way in enumerate(flows(500))]
    ports = [way.port for way in flows(500)]
    events = [Event(ports[i], known[i]) for i in rng.integers(0, 500, count).tolist()]
    odd = [event for made in ODD.values() for event in made]
    for at in rng.integers(0, count, strange).tolist():
        chosen = odd[int(rng.integers(0, len(odd)))]
        events[at] = Event(chosen.port, chosen.frame, min(chosen.gap, SECOND), chosen.cut)
    return events


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("strange", [0, 9, 900])
def test_as_it_comes(workers: int, strange: int) -> None:
    """Stretches, shares and rests of the sizes that a user has."""
    many, one = strategies.make_node(services=make_services()), strategies.make_node(services=make_services())
    many._pipeline.workers = workers
    rng = np.random.default_rng(3)
    for size, odd in ((3000, 0), (3000, 0), (20_000, strange), (10_000, 0)):
        agree(many, one, mixed(rng, size, odd), [])
    assert strange == 900 or shared(many) > 3000


def test_nodes_in_several_threads() -> None:
    """Each with workers of its own; the interpreter runs on."""
    events = mixed(np.random.default_rng(4), 6000, 20)
    nodes = [make_node(3, SHAPES[-1]) for _ in range(3)]
    results: list[object] = [None] * len(nodes)

    def work(k: int) -> None:
        for _ in range(3):
            results[k] = seen(nodes[k], events, [2500])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux does")
def test_threads_begin_late_and_end_with_the_node() -> None:
    gc.collect()
    before = threads_of_this_process()
    node = strategies.make_node()
    node._pipeline.workers = 4
    node.forward(batch_of(node, TALK))
    assert threads_of_this_process() == before
    node._pipeline.shape(64, 8, 2, 1)
    node.forward(batch_of(node, TALK))
    assert threads_of_this_process() == before + 3
    node._pipeline.workers = 1
    assert threads_of_this_process() == before
    node._pipeline.workers = 2
    node._pipeline.shape(64, 8, 2, 1)
    node.forward(batch_of(node, TALK))
    del node
    gc.collect()
    assert threads_of_this_process() == before


def test_threads_that_sleep_wake_up() -> None:
    many, one = warm(3, (64, 8, 2, 1))
    for _ in range(3):
        time.sleep(0.01)  # they watch for 2 ms
        agree(many, one, TALK, [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own() -> None:
    many, one = warm(3, (64, 8, 2, 1))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            agree(many, one, TALK, [])
            many._pipeline.workers = 1
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    agree(many, one, TALK, [])


def test_how_many() -> None:
    config = strategies.make_node().config
    assert kf.Node(config)._pipeline.workers == 1
    assert kf.Node(config, workers=2)._pipeline.workers == 2
    for wrong in (0, -1, 65, 1 << 40):
        with pytest.raises(ValueError, match=f"workers must be 1 to 64, not {wrong}"):
            kf.Node(config, workers=wrong)
    with pytest.raises(TypeError, match="workers is a number of threads, not str"):
        kf.Node(config, workers="2")  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["offset", "length"])
def test_a_frame_outside_the_bytes(column: str) -> None:
    many, _ = warm(2, (64, 8, 2, 1))
    before, counters = many.connections.to_records().tolist(), dict(many.counters)
    batch = batch_of(many, TALK)
    getattr(batch, column)[7] = 1 << 30
    getattr(batch, column)[9] = 1 << 30
    with pytest.raises(ValueError, match=r"frame 7 .* is outside"):
        many.forward(batch)
    assert many.connections.to_records().tolist() == before
    assert dict(many.counters) == counters


GOLDEN = sorted((Path(__file__).parent / "golden" / "cases").glob("*.json"))


@pytest.mark.parametrize("case_file", GOLDEN, ids=lambda file: file.stem)
def test_golden_cases(case_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's cases: the same as with one thread, which test_golden holds against them."""
    case = json.loads(case_file.read_text())
    found = []
    for workers in (1, 2):
        node = GoldenNode(case["node"])
        node.node._pipeline.workers = workers
        node.node._pipeline.shape(4, 1, 1, 1)
        found.append((golden_compare.replay(case, node.inject, node.advance), node.conntrack(), node.fdb()))
    assert found[0] == found[1]
