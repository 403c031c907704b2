"""A kubenet node beside a numba and a numpy pipeline and DPDK's lookups, class by class; and what has to be beaten.

64-byte UDP frames in memory, 65,536 a round in random order over established flows, 32 pods, batches of 1, 256 and
65,536; what leaves is compared between all of them before. First packets, each of a connection of its own, in batches
of 256 in a node with as many flows. All take turns, class by class, on one thread; a figure is the median round.
"""

from __future__ import annotations

from typing import Any

from .node_peers import PEERS, peers_of
from .part import Data, Part, Say, Settings
from .plots import Lines, Plot
from .report import Table, ns
from .traces import BATCHES, TRACE, Addressing, Flows, NewFlows, Path
from .turns import by_turns, figures

#: Classes by name: where they go, whether answers are meant, and in which mode.
CLASSES = {
    "pod to pod on the node (bridged)": (Path.SAME_NODE, False, Addressing.KUBENET),
    "pod to another node's pod (routed)": (Path.OTHER_NODE, False, Addressing.KUBENET),
    "pod to the internet (masqueraded)": (Path.INTERNET, False, Addressing.KUBENET),
    "its answers": (Path.INTERNET, True, Addressing.KUBENET),
    "pod to a cluster IP, endpoint on another node": (Path.SERVICE, False, Addressing.KUBENET),
    "Azure CNI: pod to a host of the VNet": (Path.VNET_HOST, False, Addressing.NODE_SUBNET),
}
MASQUERADED = "pod to the internet (masqueraded)"
EVERYBODY = {"ours": "kubenet_fastpath"} | PEERS
FLOWS = (1, 1000, 65536, 1_000_000)
ALONE, NEW = "1", "new"
NEW_PACKETS, ALONE_PACKETS = 1 << 14, 1 << 12  # a round
#: ns a packet that have to be undercut, by flows and for new ones: half of what the best of VPP and eBPF took on such a
#: machine for less than all of this. Translated classes have those of masquerading. For new flows there is one figure a
#: class, without a number of flows that are there already; we hold it against all of them, which asks more.
ROUTED = {"1": 28, "1000": 30, "65536": 60, "1000000": 80, NEW: 150}
TRANSLATED = {"1": 38, "1000": 42, "65536": 85, "1000000": 115, NEW: 250}
DIRECT = {"1": 24, "1000": 26, "65536": 55, "1000000": 75, NEW: 150}
TARGETS = dict(zip(CLASSES, (ROUTED, ROUTED, TRANSLATED, TRANSLATED, TRANSLATED, DIRECT), strict=True))
ALONE_TARGET = 1500


def measure(slice_: str, settings: Settings, say: Say) -> Data:
    """ns a packet by class and who, then by batch size, in a node with so many flows."""
    count = settings.size(int(slice_))
    packets = settings.size(TRACE, 2048)
    found: Data = {}
    absent: list[str] = []
    for name, (path, reply, addressing) in CLASSES.items():
        say(f"{name}: getting ready")
        known = Flows.make(path, count, addressing)
        traces = {str(size): known.trace(size, reply=reply, packets=packets) for size in BATCHES}
        things: dict[tuple[str, str], Any] = {("ours", size): trace for size, trace in traces.items()}
        things["ours", ALONE] = known.trace(1, reply=reply, packets=settings.size(ALONE_PACKETS))
        if not reply:
            things["ours", NEW] = NewFlows(known, BATCHES[0], settings.size(NEW_PACKETS))
        for thing in things.values():
            thing.check()
        if addressing is Addressing.KUBENET:
            things |= peers_of(traces, absent)
        took = by_turns(things, settings.rounds(11), say, name)
        for (who, size), figure in figures(took).items():
            found.setdefault(name, {}).setdefault(who, {})[size] = figure.row()
        for thing in things.values():
            getattr(thing, "close", lambda: None)()
    return found | {"absent": list(dict.fromkeys(absent))}


def _flows(slice_: str) -> str:
    return f"{int(slice_):,} flow{'s' if slice_ != '1' else ''}"


def _pair(row: dict[str, list[float]] | None) -> str:
    """Of batches of 256 and of 65,536."""
    return " / ".join(ns(row[size][0]) for size in map(str, BATCHES) if size in row) if row else "-"


def costs(data: Data) -> Table:
    """Ours, class by class."""
    rows = [(name, *(_pair(data[s][name]["ours"]) for s in data)) for name in CLASSES]
    new = [name for name in CLASSES if NEW in data[next(iter(data))][name]["ours"]]
    rows += [(f"new: {name}", *(ns(data[s][name]["ours"][NEW][0]) for s in data)) for name in new]
    title = "ns a packet, batches of 256 / of 65,536; new: a connection's first packet, batches of 256"
    return Table("node.costs", title, ("path", *map(_flows, data)), rows)


def beside(data: Data) -> list[Table]:
    """Ours and the others': all classes, and masquerading by itself."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for name in CLASSES:
        for who, label in EVERYBODY.items():
            if any(who in data[s][name] for s in data):
                rows.setdefault(name, []).append((label, *(_pair(data[s][name].get(who)) for s in data)))
    title = "the same frames through others, ns a packet, batches of 256 / of 65,536"
    heads = tuple(map(_flows, data))
    every = [(f"{name}: {row[0]}", *row[1:]) for name, found in rows.items() for row in found]
    return [
        Table("node.masqueraded", f"masqueraded: {title}", ("masqueraded", *heads), rows[MASQUERADED]),
        Table("node.peers", title, ("who", *heads), every),
    ]


def targets(data: Data) -> Table:
    """What had to be undercut, and whether it was: batches of 256."""
    rows = []
    for name, goals in TARGETS.items():
        for slice_ in data:
            ours = data[slice_][name]["ours"]
            for label, figure, goal in (
                (_flows(slice_), ours["256"][0], goals[slice_]),
                (f"new, {_flows(slice_)} there", ours.get(NEW, [None])[0], goals[NEW]),
            ):
                if figure is not None:
                    met = "met" if figure <= goal else "missed"
                    rows.append((name, label, ns(figure), f"{goal}", f"{goal / figure:.2f}", met))
        alone = max(data[slice_][name]["ours"][ALONE][0] for slice_ in data)
        met = "met" if alone <= ALONE_TARGET else "missed"
        rows.append(
            (
                name,
                "a batch of one, any of these",
                ns(alone),
                f"{ALONE_TARGET:,}",
                f"{ALONE_TARGET / alone:.2f}",
                met,
            )
        )
    head = ("class", "flows", "ours, ns", "target", "target / ours", "")
    return Table("node.targets", "targets, batches of 256", head, rows)


def tables(data: Data) -> list[Table]:
    """All of them."""
    return [costs(data), *beside(data), targets(data)]


def plots(data: Data) -> list[Plot]:
    """ns a packet over flows, by class and beside the others."""

    def curve(name: str, who: str, *sizes: str) -> list[tuple[float, float]]:
        rows = {int(s): data[s][name][who] for s in data if who in data[s][name]}
        return [(count, min(row[size][0] for size in sizes if size in row)) for count, row in rows.items()]

    ours = {name: curve(name, "ours", "256") for name in CLASSES}
    others = {label: curve(MASQUERADED, who, *map(str, BATCHES)) for who, label in EVERYBODY.items()}
    return [
        Plot("node", (
            Lines("Established flows, batches of 256", "flows", "ns a packet", ours),
            Lines("Masqueraded, the same frames through others", "flows", "ns a packet, better batch size",
                  {name: points for name, points in others.items() if points}),
        ))
    ]  # fmt: skip


PART = Part("node", "a node beside numba, numpy and DPDK, and targets", tuple(map(str, FLOWS)), measure, tables, plots,
            quick=("1", "1000", "65536"))  # fmt: skip
