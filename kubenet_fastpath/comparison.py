"""The same traffic through every addressing mode: what a receiver sees, by which way, what it costs and consumes.

Longer than its neighbours: a result is its figures with the sentences and the JSON that are made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from statistics import median
from time import thread_time_ns
from typing import Any

import numpy as np

from .batch import PacketBatch
from .cluster import Cluster
from .consumption import Consumption, Share, consumption_of
from .crossing import GAP, Crossing, cross
from .errors import ConfigError, FastpathError
from .node import Node
from .node_config import Masquerade
from .recorder import stopwatch_cost
from .result import Result
from .stage_cost import PARTS, stage_ns
from .topology import Addressing, Topology
from .traffic import Flow, answer, question
from .traffic_class import built_in_flows, traffic_classes
from .workload import SECOND, carry, flow_sessions, mixed_sessions

__all__ = ["Comparison", "Cost", "compare", "to_json"]

START = 10**18  #: ns; virtual time begins here
SPORT = 12_000  #: and up, all below the ports of the mix
#: Of what is measured, in turn: were one used again for the same endpoint, its connection would get another by NAT.
MEASURED = range(13_000, 61_000)
SOON = 60 * SECOND  #: from one part of the comparison to the next
NEW = 64  #: connections that a round of first packets begins
MAX_ROUNDS = 300  #: each has source ports of its own


@dataclass(frozen=True, kw_only=True)
class Cost:
    """ns of CPU time in all nodes on the way for one packet, a round each.

    Attributes
    ----------
    established : list of float
        A packet of a connection that has seen answers.
    first : list of float
        The packet that begins a connection.
    established_at, first_at : dict of str to list of float
        The same by node.
    first_in : dict of str to list of float
        The first packet's by part of its way (`stage_cost.PARTS`), in rounds of their own: notes and a stopwatch are
        on. What these cost is taken off.
    """

    established: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    established_at: dict[str, list[float]] = field(default_factory=dict)
    first_at: dict[str, list[float]] = field(default_factory=dict)
    first_in: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    flows : tuple of Flow
    crossings : dict
        Addressing -> flow's label -> Crossing.
    cost : dict
        Addressing -> flow's label -> Cost.
    consumption : dict
        Addressing -> Consumption, at the fullest moment of a mix of connections and before any measurement.
    left_alone : dict
        Addressing -> destinations that ip-masq-agent does not masquerade; None where it is not there.
    impossible : dict
        Addressing -> why the topology cannot have it; then it is in none of the others.
    mixed : bool
        The connections that took up what `consumption` says were a mix of all classes, not those of the flows.
    """

    flows: tuple[Flow, ...]
    crossings: dict[Addressing, dict[str, Crossing]]
    cost: dict[Addressing, dict[str, Cost]]
    consumption: dict[Addressing, Consumption]
    left_alone: dict[Addressing, tuple[str, ...] | None]
    impossible: dict[Addressing, str]
    mixed: bool

    def ns_per_packet(self, addressing: Addressing, label: str, *, first: bool = False) -> float | None:
        """Median over the rounds; None where the flow was not carried, or nothing was measured."""
        cost = self.cost[addressing].get(label)
        return None if cost is None else median(cost.first if first else cost.established)

    def ns_by_part(self, addressing: Addressing, label: str) -> dict[str, float] | None:
        """The first packet's ns by part of its way, in all nodes; median over the rounds."""
        cost = self.cost[addressing].get(label)
        return None if cost is None else {part: median(ns) for part, ns in cost.first_in.items()}

    def ratio(self, addressing: Addressing, label: str, *, first: bool = False) -> float | None:
        """Cost with kubenet over that of a mode: the median over the rounds, each of which had both."""
        kubenet, other = self.cost.get(Addressing.KUBENET, {}).get(label), self.cost[addressing].get(label)
        if kubenet is None or other is None:
            return None
        pairs = (kubenet.first, other.first) if first else (kubenet.established, other.established)
        return median(k / o for k, o in zip(*pairs, strict=True))

    def changes(self) -> list[str]:
        """One sentence for each thing that a flow's ends, or who runs the cluster, notice when it leaves kubenet."""
        base = self.crossings.get(Addressing.KUBENET)
        if base is None:
            return []
        found: dict[str, list[str]] = {}
        for addressing, crossings in self.crossings.items():
            for label, crossing in crossings.items():
                for sentence in _differences(label, base[label], crossing):
                    found.setdefault(sentence, []).append(addressing.value)
        said = [f"{sentence} ({', '.join(modes)})" for sentence, modes in found.items()]
        return sorted(said, key=_weight)


def _weight(sentence: str) -> int:
    """Whose address is seen comes first, then whether anything arrives, who translates, and the rest."""
    words = (": the receiver sees", ": delivered", ": dropped", ": translated")
    return next((k for k, word in enumerate(words) if word in sentence), len(words))


def _differences(label: str, old: Crossing, new: Crossing) -> list[str]:
    said = []
    if old.outcome != new.outcome:
        said.append(f"{label}: {_fate(new)}, with kubenet {_fate(old)}")
    elif old.source_is != new.source_is:
        said.append(f"{label}: the receiver sees {new.source_is} address, with kubenet {old.source_is}")
    elif new.source_seen:
        said += _translators(label, old, new)
    if old.ttl and new.ttl and old.ttl != new.ttl:
        said.append(f"{label}: TTL {new.ttl} at the receiver, with kubenet {old.ttl}")
    if old.mtu and new.mtu and old.mtu != new.mtu:
        said.append(f"{label}: MTU {new.mtu}, with kubenet {old.mtu}")
    if old.answered and not new.answered and new.outcome == old.outcome:
        said.append(f"{label}: no answer comes back")
    return said


def _translators(label: str, old: Crossing, new: Crossing) -> list[str]:
    """Who translates what, where both ends see the same kind of address."""
    before, after = (
        [f"{t.by} on {t.where}" if t.where != "load balancer" else t.where for t in c.translations]
        for c in (old, new)
    )
    return (
        [] if before == after else [f"{label}: translated by {_list(after)}, with kubenet by {_list(before)}"]
    )


def _list(words: list[str]) -> str:
    return " and ".join(dict.fromkeys(words)) or "nobody"


def _fate(crossing: Crossing) -> str:
    if crossing.outcome in ("DELIVERED", "LOCAL"):
        return "delivered"
    return f"{crossing.outcome.lower()} ({crossing.reason}: {crossing.because})"


def compare(
    topology: Topology,
    flows: Sequence[Flow] | None = None,
    *,
    addressing: Sequence[Addressing] = tuple(Addressing),
    rounds: int = 5,
    packets: int = 4096,
    connections: int = 64,
    seed: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Carry the same flows through a cluster with each addressing mode.

    Parameters
    ----------
    topology : Topology
    flows : sequence of Flow, optional
        One of each class that the topology has places for, and a mix of all classes for what is taken up, if omitted.
    addressing : sequence of Addressing
    rounds : int
        Measurements of each class; all modes take turns in each. 0 measures nothing.
    packets, connections : int
        Packets of a measurement, from 1 on, and the connections that they belong to, 1 to 48,000.
    seed : int
        Of the mix.
    progress : callable, optional
        Called with what is done, how much of it, of how much.

    Returns
    -------
    Comparison

    Raises
    ------
    AddressError, ConfigError
        For a topology that no mode can have, a flow between places that it does not have, two flows of one label, or a
        number out of range.
    """
    if not 0 <= rounds <= MAX_ROUNDS:
        raise ConfigError(f"rounds {rounds} is not in 0..{MAX_ROUNDS}")
    if packets < 1:
        raise ConfigError(f"packets {packets} starts at 1")
    if not 1 <= connections <= len(MEASURED):
        raise ConfigError(f"connections {connections} is not in 1..{len(MEASURED)}")
    labels = Counter(flow.label for flow in flows or ())
    for label, count in labels.items():
        if count > 1:
            raise ConfigError(f"{count} flows have the label {label!r}, by which they are told apart")
    say = progress or (lambda what, done, total: None)
    nodes, mixed = len(topology.nodes), flows is None
    if flows is None:
        flows = built_in_flows(topology)
        sessions = mixed_sessions(traffic_classes(topology), nodes, seed)
    else:
        flows = tuple(flows)
        sessions = flow_sessions(flows, seed)
    clusters: dict[Addressing, Cluster] = {}
    impossible: dict[Addressing, str] = {}
    for mode in addressing:
        try:
            clusters[mode] = Cluster.from_topology(topology, mode)
        except FastpathError as error:
            impossible[mode] = str(error)
    if not clusters:
        raise ConfigError(
            f"no addressing mode can have this cluster: {'; '.join(sorted(set(impossible.values())))}"
        )
    crossings: dict[Addressing, dict[str, Crossing]] = {}
    consumption: dict[Addressing, Consumption] = {}
    now = START + 2 * SOON
    for done, (mode, cluster) in enumerate(clusters.items()):
        say("addressing modes", done, len(clusters))
        consumption[mode] = consumption_of(topology, mode, cluster, carry(cluster, sessions, START))
        crossings[mode] = {
            flow.label: cross(cluster, flow, SPORT + k, now + k * GAP) for k, flow in enumerate(flows)
        }
    say("addressing modes", len(clusters), len(clusters))
    cost: dict[Addressing, dict[str, Cost]] = {mode: {} for mode in clusters}
    now += GAP * len(flows) + SOON
    ports = cycle(MEASURED)
    for number, flow in enumerate(flows):
        say("classes measured", number, len(flows))
        measured = {
            mode: c
            for mode, c in clusters.items()
            if crossings[mode][flow.label].answered and crossings[mode][flow.label].outcome == "DELIVERED"
        }
        if rounds and measured:
            _measure(measured, flow, now + number * GAP, rounds, packets, connections, ports, cost)
    return Comparison(
        flows=tuple(flows),
        crossings=crossings,
        cost=cost,
        consumption=consumption,
        left_alone={mode: _left_alone(cluster) for mode, cluster in clusters.items()},
        impossible=impossible,
        mixed=mixed,
    )


def _left_alone(cluster: Cluster) -> tuple[str, ...] | None:
    config = next(iter(cluster.nodes.values())).config
    return None if config.masquerade is Masquerade.NONE else config.direct


def _measure(
    clusters: dict[Addressing, Cluster],
    flow: Flow,
    now: int,
    rounds: int,
    packets: int,
    connections: int,
    unused: Iterator[int],
    cost: dict[Addressing, dict[str, Cost]],
) -> None:
    """Time packets: every mode once in each round, so that what disturbs one disturbs all."""
    made: dict[Addressing, PacketBatch] = {}
    ports = list(islice(unused, connections))
    for mode, cluster in clusters.items():
        opened = PacketBatch.from_frames([question(flow, cluster, port) for port in ports], time=now)
        delivery = cluster.send(opened, flow.src)
        rows = np.flatnonzero(delivery.arrived_own)
        places = delivery.arrived_at[rows]
        backs = [
            answer(delivery.arrived[int(row)], delivery.places[place], cluster)
            for row, place in zip(rows, places, strict=True)
        ]
        cluster.send(PacketBatch.from_frames(backs, time=now + GAP // 3), places)
        frames = [question(flow, cluster, port, established=True) for port in ports]
        made[mode] = PacketBatch.from_frames(
            [frames[k % connections] for k in range(packets)], time=now + GAP // 2
        )
        cost[mode][flow.label] = Cost()
    for number in range(rounds + 1):
        for mode, cluster in clusters.items():
            spent = _spent(cluster, made[mode], flow)
            if number:  # the first round warms the caches
                found = cost[mode][flow.label]
                _note(spent, packets, found.established, found.established_at)
    for number in range(rounds + 1):
        ports = list(islice(unused, NEW))
        for mode, cluster in clusters.items():
            begun = PacketBatch.from_frames(
                [question(flow, cluster, port) for port in ports], time=now + GAP * 2 // 3
            )
            spent = _spent(cluster, begun, flow)
            if number:
                _note(spent, NEW, cost[mode][flow.label].first, cost[mode][flow.label].first_at)
    reading = stopwatch_cost()
    for _ in range(rounds):
        ports = list(islice(unused, NEW))
        for mode, cluster in clusters.items():
            begun = PacketBatch.from_frames(
                [question(flow, cluster, port) for port in ports], time=now + GAP * 2 // 3
            )
            for part, ns in _spent_by_part(cluster, begun, flow, reading).items():
                cost[mode][flow.label].first_in.setdefault(part, []).append(ns)


def _spent_by_part(cluster: Cluster, batch: PacketBatch, flow: Flow, reading: int) -> dict[str, float]:
    """ns a packet in each part of its way, in all nodes that it went through."""
    total = dict.fromkeys(PARTS, 0.0)

    def forward(node: Node, part: PacketBatch) -> Result:
        result, notes = node.record(part, timed=True)
        for name, ns in stage_ns(notes, len(batch), reading).items():
            total[name] += ns
        return result

    cluster.send(batch, flow.src, forward=forward)
    return total


def _spent(cluster: Cluster, batch: PacketBatch, flow: Flow) -> dict[str, int]:
    """ns of CPU time in each node that the batch went through."""
    names = {id(node): name for name, node in cluster.nodes.items()}
    spent: dict[str, int] = {}

    def forward(node: Node, part: PacketBatch) -> Result:
        begin = thread_time_ns()
        result = node.forward(part)
        end = thread_time_ns()
        spent[names[id(node)]] = spent.get(names[id(node)], 0) + end - begin
        return result

    cluster.send(batch, flow.src, forward=forward)
    return spent


def _note(spent: dict[str, int], packets: int, rounds: list[float], at: dict[str, list[float]]) -> None:
    rounds.append(sum(spent.values()) / packets)
    for name, ns in spent.items():
        at.setdefault(name, []).append(ns / packets)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain dictionaries."""
    modes = {}
    for mode, crossings in comparison.crossings.items():
        modes[mode.value] = {
            "flows": {
                label: asdict(crossing)
                | {
                    "ns_per_packet": comparison.ns_per_packet(mode, label),
                    "kubenet_over_this": comparison.ratio(mode, label),
                    "ns_first_packet": comparison.ns_per_packet(mode, label, first=True),
                    "kubenet_over_this_first_packet": comparison.ratio(mode, label, first=True),
                    "ns_first_packet_by_stage": comparison.ns_by_part(mode, label),
                    "rounds": asdict(comparison.cost[mode][label])
                    if label in comparison.cost[mode]
                    else None,
                }
                for label, crossing in crossings.items()
            },
            "consumption": _with_headroom(asdict(comparison.consumption[mode])),
            "non_masquerade": comparison.left_alone[mode],
        }
    return {
        "flows": [asdict(flow) for flow in comparison.flows],
        "addressing": modes,
        "impossible": {mode.value: why for mode, why in comparison.impossible.items()},
        "changes": comparison.changes(),
    }


def _with_headroom(data: Any) -> Any:
    """Each share of a limit, with what is left of it, of 1."""
    if not isinstance(data, dict):
        return data
    if set(data) == {"used", "limit"}:
        return data | {"headroom": Share(**data).headroom}
    return {key: _with_headroom(value) for key, value in data.items()}
