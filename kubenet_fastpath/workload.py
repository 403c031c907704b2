"""A realistic mix of connections, seeded, and what a cluster holds while it carries them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .batch import PacketBatch
from .cluster import Cluster
from .delivery import Outcome
from .traffic import UDP, Flow, answer, question
from .traffic_class import TrafficClass

__all__ = ["Load", "Session", "carry", "flow_sessions", "mixed_sessions"]

SECOND = 1_000_000_000
SECONDS = 20  #: in which all connections begin
FIRST_PORT, PORTS = 32768, 28232  #: net.ipv4.ip_local_port_range: 32768 to 60999
MAX_CONNECTIONS = 4000


@dataclass(frozen=True, kw_only=True)
class Session:
    """One connection: when it begins, and how many questions it asks, one a second."""

    flow: Flow
    sport: int
    second: int
    offset_ns: int
    questions: int


@dataclass(kw_only=True)
class Load:
    """What a cluster held at the most, and what became of the packets.

    Attributes
    ----------
    connections : dict of str to int
        Node -> entries of its connection table at the fullest.
    snat_ports : dict of str to int
        Node -> outbound ports of the load balancer in use at the most.
    packets : int
        Carried, both ways.
    failed : dict of str to int
        Class -> connections whose first packet was not answered, and which were given up.
    exhausted : int
        Packets that found no outbound port.
    """

    connections: dict[str, int] = field(default_factory=dict)
    snat_ports: dict[str, int] = field(default_factory=dict)
    sessions: int = 0
    packets: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    exhausted: int = 0


def mixed_sessions(classes: Sequence[TrafficClass], nodes: int, seed: int = 1) -> list[Session]:
    """Connections of all classes in the shares that they have, 200 a node and 4,000 at the most.

    The same for every addressing mode: places are names, ports and times are the seed's.
    """
    if not classes:
        return []
    draw = random.Random(seed)
    count = min(MAX_CONNECTIONS, 200 * nodes)
    kinds = draw.choices(classes, [row.share for row in classes], k=count)
    return [_session(draw.choice(kind.flows), draw) for kind in kinds]


def flow_sessions(flows: Sequence[Flow], seed: int = 1) -> list[Session]:
    """As many connections of each flow as it says, 4,000 at the most."""
    draw = random.Random(seed)
    total = sum(flow.connections for flow in flows)
    share = min(1.0, MAX_CONNECTIONS / max(total, 1))
    return [_session(flow, draw) for flow in flows for _ in range(max(1, int(flow.connections * share)))]


def _session(flow: Flow, draw: random.Random) -> Session:
    return Session(
        flow=flow,
        sport=FIRST_PORT + draw.randrange(PORTS),
        second=draw.randrange(SECONDS),
        offset_ns=draw.randrange(4) * SECOND // 16 + draw.randrange(100_000),  # few bursts: each is a batch
        questions=draw.randrange(1, 3) if flow.proto == UDP else draw.randrange(3, 9),
    )


def carry(cluster: Cluster, sessions: Sequence[Session], begin: int) -> Load:
    """Carry the sessions: each second the questions that are due, then the answers to those that arrived.

    Parameters
    ----------
    cluster : Cluster
        Its clocks are at `begin` or before.
    sessions : sequence of Session
    begin : int
        ns of virtual time.
    """
    load = Load(sessions=len(sessions), connections=dict.fromkeys(cluster.nodes, 0))
    last = max((s.second + s.questions for s in sessions), default=0)
    dead: set[int] = set()
    for second in range(last):
        due = [
            (k, s)
            for k, s in enumerate(sessions)
            if s.second <= second < s.second + s.questions and k not in dead
        ]
        answered = _ask(cluster, [s for _, s in due], second, begin + second * SECOND, load)
        for at, (k, session) in enumerate(due):
            if at not in answered and session.second == second:
                dead.add(k)
                load.failed[session.flow.label] = load.failed.get(session.flow.label, 0) + 1
        for name, node in cluster.nodes.items():
            load.connections[name] = max(load.connections[name], len(node.connections))
    snat = cluster.fabric.snat
    if snat is not None:
        members = [nic.name for nic in cluster.fabric.nics if nic.balanced]
        load.snat_ports = dict(zip(members, snat.peak, strict=True))
        load.exhausted = snat.exhausted
    return load


def _ask(cluster: Cluster, due: list[Session], second: int, now: int, load: Load) -> set[int]:
    """One packet of each session, and the answers; returns which sessions had one."""
    if not due:
        return set()
    frames = [
        question(
            s.flow,
            cluster,
            s.sport,
            established=second > s.second,
            closing=second == s.second + s.questions - 1 > s.second,
        )
        for s in due
    ]
    at = np.array([cluster.places[s.flow.src].index for s in due], np.int64)
    times = np.array([now + s.offset_ns for s in due], np.int64)
    delivery = cluster.send(PacketBatch.from_frames(frames, time=times), at)
    rows = np.flatnonzero(delivery.arrived_own)
    load.packets += len(due) + len(rows)
    if not len(rows):
        return set()
    places = delivery.arrived_at[rows]
    backs = [
        answer(delivery.arrived[int(row)], delivery.places[place], cluster)
        for row, place in zip(rows, places, strict=True)
    ]
    home = cluster.send(PacketBatch.from_frames(backs, time=now + SECOND // 2), places)
    return set(delivery.arrived_from[rows[home.outcome == Outcome.DELIVERED]].tolist())
