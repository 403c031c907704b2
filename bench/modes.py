"""The question of the project: what kubenet costs a packet beside direct VNet addressing, class by class.

Kubenet, node subnet, pod subnet and overlay carry the same classes of traffic, and their answers, by turns: 64-byte UDP
frames of established flows in random order, in batches of 1, 32, 256 and 65,536. Every trace is checked before: each
packet leaves by one port, byte for byte as without the fast path.
"""

from __future__ import annotations

from statistics import geometric_mean, median
from typing import Any

from .part import Data, Part, Say, Settings
from .plots import Bars, Lines, Plot
from .report import Table, ns
from .traces import TRACE, Addressing, Flows, Path
from .turns import Figure, by_turns

FLOWS = (1, 1000, 65536, 1_000_000)
#: Packets a round by batch size: where a call is most of it, a few thousand tell as much.
BATCHES = {1: 1 << 11, 32: 1 << 14, 256: TRACE, 65536: TRACE}
DIRECT = (Addressing.NODE_SUBNET, Addressing.POD_SUBNET, Addressing.OVERLAY)
WAYS = {False: "out", True: "reply"}


def measure(slice_: str, settings: Settings, say: Say) -> Data:
    """ns a packet and kubenet's ratio to each mode, by class, way, batch size and mode."""
    count = settings.size(int(slice_))
    found: Data = {}
    for path in Path:
        things: dict[tuple[bool, int, Addressing], Any] = {}
        for addressing in Addressing:
            say(f"{path.value}: {addressing.value} gets ready")
            flows = Flows.make(path, count, addressing)
            for reply in WAYS:
                flows.trace(256, reply=reply, packets=settings.size(TRACE, 256)).check()
                for size, packets in BATCHES.items():
                    trace = flows.trace(size, reply=reply, packets=settings.size(packets))
                    things[reply, size, addressing] = trace
        took = by_turns(things, settings.rounds(9), say, path.value)
        for reply, way in WAYS.items():
            for size in BATCHES:
                times = {a: took[reply, size, a] for a in Addressing}
                row: dict[str, Any] = {a.value: Figure.of(t).row() for a, t in times.items()}
                for direct in DIRECT:
                    pairs = zip(times[Addressing.KUBENET], times[direct], strict=True)
                    row[f"/ {direct.value}"] = Figure.of([one / other for one, other in pairs]).row()
                found.setdefault(path.value, {}).setdefault(way, {})[str(size)] = row
    return found


def _label(path: str, way: str) -> str:
    return path if way == "out" else f"{path}, reply"


def classes(data: Data, slices: tuple[str, ...]) -> Table:
    """ns a packet of each mode, batches of 256, with two numbers of flows."""
    rows = []
    for path in Path:
        for way in WAYS.values():
            cells = [
                " / ".join(ns(data[s][path.value][way]["256"][a.value][0]) for s in slices)
                for a in Addressing
            ]
            ratios = [data[s][path.value][way]["256"][f"/ {d.value}"][0] for s in slices for d in DIRECT]
            rows.append((_label(path.value, way), *cells, f"{median(ratios):.2f}"))
    counts = " / ".join(f"{int(s):,}" for s in slices)
    head = ("class", *(a.value for a in Addressing), "kubenet / direct")
    return Table("modes.classes", f"ns a packet, batches of 256, {counts} flows", head, rows)


def grid(data: Data) -> Table:
    """Over all classes: kubenet's ns, and its ratio to the direct modes, by flows and batch size."""
    rows = []
    for slice_ in data:
        for size in map(str, BATCHES):
            cells = [way[size] for path in data[slice_].values() for way in path.values()]
            means = [geometric_mean(c[a.value][0] for c in cells) for a in Addressing]
            ratios = [geometric_mean(c[f"/ {d.value}"][0] for c in cells) for d in DIRECT]
            worst = [f"{min(c[f'/ {d.value}'][0] for c in cells):.2f}-{max(c[f'/ {d.value}'][0] for c in cells):.2f}"
                     for d in DIRECT]  # fmt: skip
            middle = [f"{ratio:.2f} ({span})" for ratio, span in zip(ratios, worst, strict=True)]
            rows.append((f"{int(slice_):,}", f"{int(size):,}", *map(ns, means), *middle))
    head = ("flows", "batch", *(a.value for a in Addressing), *(f"kubenet / {d.value}" for d in DIRECT))
    return Table("modes.grid", "geometric mean of all classes and their answers, ns a packet; least and greatest ratio",
                 head, rows)  # fmt: skip


def _shown(data: Data) -> tuple[str, ...]:
    """A thousand flows, and as many as there are."""
    return tuple(dict.fromkeys(s for s in ("1000", list(data)[-1]) if s in data))


def tables(data: Data) -> list[Table]:
    """What the README shows, and all batch sizes."""
    return [classes(data, _shown(data)), grid(data)]


def plots(data: Data) -> list[Plot]:
    """Bars class by class, curves over batch sizes and flows."""
    names = [_label(path.value, way) for path in Path for way in WAYS.values()]
    bars = tuple(
        Bars(f"{int(s):,} flows, batches of 256", "ns a packet", names, {
            a.value: [data[s][p.value][w]["256"][a.value][0] for p in Path for w in WAYS.values()] for a in Addressing
        })
        for s in _shown(data)
    )  # fmt: skip
    last = _shown(data)[0]
    internet = data[last]["internet"]["out"]
    sizes = {a.value: [(size, internet[str(size)][a.value][0]) for size in BATCHES] for a in Addressing}
    counts = {
        a.value: [(int(s), data[s]["internet"]["out"]["256"][a.value][0]) for s in data] for a in Addressing
    }
    curves = (
        Lines(f"Internet, {int(last):,} flows", "packets a batch", "ns a packet", sizes),
        Lines("Internet, batches of 256", "flows", "ns a packet", counts),
    )
    return [Plot("modes", bars, columns=1), Plot("modes-sizes", curves)]


PART = Part("modes", "kubenet beside direct addressing, by class", tuple(map(str, FLOWS)), measure, tables, plots,
            quick=("1", "1000"))  # fmt: skip
