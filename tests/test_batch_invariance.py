"""A batch means its packets one by one: any split of a history gives the same frames, verdicts, counters and tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import Event, histories, make_node, make_services

import kubenet_fastpath as kf
from kubenet_fastpath.fragment_table import FragmentFate

START = 10**18


def batch_of(node: kf.Node, events: list[Event]) -> kf.PacketBatch:
    """All events as one batch."""
    port = np.array([node.ports[event.port].index for event in events], np.uint16)
    time = START + np.cumsum([event.gap for event in events], dtype=np.int64)
    kept = [event.frame[: len(event.frame) - event.cut] for event in events]
    return kf.PacketBatch.from_frames(kept, port, time, [len(event.frame) for event in events])


def run(events: list[Event], cuts: list[int], **changes: object) -> dict[str, object]:
    return seen(make_node(**changes), events, cuts)


def seen(node: kf.Node, events: list[Event], cuts: list[int]) -> dict[str, object]:
    """Everything that can be seen of a node after a history, which came in pieces."""
    batch = batch_of(node, events)
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    verdicts: list[int] = []
    reasons: list[int] = []
    out: dict[str, list[tuple[bytes, int, int, int]]] = {name: [] for name in node.ports}
    for begin, end in pairwise(edges):
        result = node.forward(batch[begin:end])
        verdicts += result.verdict.tolist()
        reasons += result.reason.tolist()
        for name in node.ports:
            left = result.packets(name)
            causes = [source + begin if source >= 0 else -1 for source in result.source(name).tolist()]
            out[name] += zip(
                left.frames(), left.wire_length.tolist(), left.time.tolist(), causes, strict=True
            )
    return {
        "verdicts": verdicts,
        "reasons": reasons,
        "out": out,
        "counters": dict(node.counters),
        "connections": node.connections.to_records(node.now).tolist(),
        "connection counters": node.connections.counters,
        "fdb": node.fdb.to_records().tolist(),
        "neighbours": node.neighbours.to_records().tolist(),
        "fragments": len(node.fragments),
    }


@given(histories(), st.lists(st.integers(0, 40), max_size=4), st.booleans(), st.booleans())
def test_any_split_gives_the_same(events: list[Event], cuts: list[int], asks: bool, serves: bool) -> None:
    changes = {
        "permanent_neighbours": not asks,
        "arp_notify": not asks,
        "services": make_services() if serves else (),
        "hairpin": kf.Hairpin.VETH if serves and asks else kf.Hairpin.PROMISC,
    }
    whole, split = run(events, [], **changes), run(events, cuts, **changes)
    for what in whole:
        assert whole[what] == split[what], what


@given(histories(), st.booleans())
def test_no_packet_is_lost(events: list[Event], serves: bool) -> None:
    node = make_node(permanent_neighbours=False, services=make_services() if serves else ())
    batch = batch_of(node, events)
    result = node.forward(batch)
    verdicts = [kf.Verdict(v) for v in result.verdict]
    reasons = [kf.Reason(r) for r in result.reason]
    assert len(verdicts) == len(events)
    assert all((v is kf.Verdict.DROP) == (r >= 64) for v, r in zip(verdicts, reasons, strict=True))
    counters = node.counters
    assert sum(counters[v.name.lower()] for v in kf.Verdict) == len(events)
    lone = {kf.Verdict.BRIDGED, kf.Verdict.FLOODED, kf.Verdict.ROUTED}
    left = set(result.outputs["source"].tolist())
    assert {i for i, v in enumerate(verdicts) if v in lone} <= left
    arrived, ended = node.fragments.arrived, node.fragments.ended
    assert arrived[FragmentFate.HELD] == node.fragments.held + sum(ended.values())
    assert counters["reason.fragment"] == arrived[FragmentFate.HELD]
    assert counters["held_now"] == node.fragments.held + node.neighbours.held


@given(st.lists(st.binary(max_size=90), max_size=12), st.sampled_from(["pod1", "eth0"]))
def test_arbitrary_bytes_never_break_conservation(noise: list[bytes], port: str) -> None:
    node = make_node()
    result = node.forward(kf.PacketBatch.from_frames(noise, node.ports[port], START))
    assert len(result) == len(noise) == sum(node.counters[v.name.lower()] for v in kf.Verdict)
