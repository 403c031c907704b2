"""Why the curves of `growth` bend: what happens, and the figures of the same run that show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .growth_axes import AMONG, ESTABLISHED, FIRST, FULL, HOT, STATIONS, STATIONS_AMONG, UNCHECKED
from .report import ns

Curve = dict[str, list[float]]
Row = tuple[str, str, str]
LINES_OF_A_FLOW = 3


def _ends(curve: Curve) -> tuple[float, float]:
    """Medians of the first point and of the last one."""
    points = sorted(curve, key=int)
    return curve[points[0]][0], curve[points[-1]][0]


def _most(curve: Curve) -> str:
    return f"{max(map(int, curve)):,}"


def _span(curve: Curve) -> str:
    """From the first point to the last one."""
    first, last = _ends(curve)
    return f"{ns(first)} to {ns(last)}"


def flows(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    known, hot = found[ESTABLISHED], found[AMONG]
    first, last = _ends(known)
    told = f"{_span(known)} ns; of {_most(known)} flows 1,000 alone take {ns(_ends(hot)[1])}"
    if "lines" in data:
        near, far = _ends(next(iter(data["lines"].values())))
        lines = LINES_OF_A_FLOW * (far - near)
        told += f"; {LINES_OF_A_FLOW} random lines take {ns(lines)} longer out of memory than out of L1"
        told += f", the curve rises by {ns(last - first)}"
    return (
        "flows",
        "a packet touches three cache lines of its flow: 1 MiB of L2 has room for some 5,000 flows, L3's share for "
        "20,000; beyond, they come from memory, asked for a burst ahead. It is what is touched that counts, not what "
        "the table holds",
        told,
    )


def routes(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    return (
        "routes",
        "an established flow's route is not looked up again. First packets look theirs up, and so does every packet "
        "without the fast path: up to some 1,000 routes in a table that L2 holds, from 10,000 on in one of 32 MiB, of "
        "which few destinations need little",
        f"established {_span(found[ESTABLISHED])} ns, all stages {_span(found[FULL])}, first packets "
        f"{_span(found[FIRST])}, to 32 destinations {_span(found[HOT])}",
    )


def macs(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    return (
        "stations",
        "what is not IP goes through the bridge frame by frame, which learns one MAC and looks up another: four lines, "
        "which from 16,384 stations on are asked for ahead. At 80 to 100 bytes a station L2 has room for 10,000, L3's "
        "share for 50,000",
        f"{_span(found[STATIONS])} ns; of {_most(found[STATIONS])} stations 1,000 alone take "
        f"{ns(_ends(found[STATIONS_AMONG])[1])}",
    )


def services(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    return (
        "services",
        "no knee: a service is one cache line, ten thousand are a table of 2 MiB, and the line of a first packet is "
        "asked for ahead",
        f"first packets {_span(found[FIRST])} ns, to 32 services {_span(found[HOT])}, established "
        f"{_span(found[ESTABLISHED])}",
    )


def cidrs(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    first, last = _ends(found[FIRST])
    count = max(map(int, found[FIRST])) - min(map(int, found[FIRST]))
    return (
        "non-masquerade CIDRs",
        "a first packet is held against each, as ip-masq-agent's chain does; there are 64 at most",
        f"first packets {_span(found[FIRST])} ns: {(last - first) / count:.2f} a CIDR; established "
        f"{_span(found[ESTABLISHED])}",
    )


def hostports(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    return (
        "host ports",
        "a first packet looks its port up in a hash",
        f"first packets {_span(found[FIRST])} ns, established {_span(found[ESTABLISHED])}",
    )


def sizes(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    points = sorted(map(int, found[ESTABLISHED]))
    first, last = points[0], points[-1]

    def slope(curve: Curve) -> float:
        return (curve[str(last)][0] - curve[str(first)][0]) / (last - first)

    cached, free = found[f"{ESTABLISHED}, frames in the cache"], found[UNCHECKED]
    return (
        "bytes a frame",
        "conntrack checks every checksum, so each byte is read: that is the slope. Without it headers alone are read; "
        "small frames lie behind each other and the hardware fetches them ahead, large ones' headers come one by one",
        f"{1e3 * slope(found[ESTABLISHED]):.0f} ns a KB out of memory, {1e3 * slope(cached):.0f} out of the cache; "
        f"without the check {_span(free)} ns, {_span(found[f'{UNCHECKED}, frames in the cache'])} out of the cache",
    )


def batches(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    curve = found[ESTABLISHED]
    alone, many = _ends(curve)
    call = alone - many
    guess = "; ".join(
        f"at {int(n):,} {ns(many + call / int(n))}, measured {ns(curve[n][0])}"
        for n in ("16", "256")
        if n in curve
    )
    return (
        "packets a batch",
        "a call costs what it costs whatever it carries: Python, columns checked, results made; a + b / n",
        f"b = {ns(call)} ns: {guess}",
    )


def shares(found: dict[str, Curve], data: dict[str, Any]) -> Row:
    curve = next(iter(found.values()))
    none, all_ = _ends(curve)
    middle = curve["50"][0] if "50" in curve else none
    return (
        "share of first packets",
        "no knee: each packet pays for itself, so the cost is the mixture of the two",
        f"half of them: {ns((none + all_) / 2)} ns expected, {ns(middle)} measured",
    )


EXPLAINED: dict[str, Callable[[dict[str, Curve], dict[str, Any]], Row]] = {
    "routes": routes,
    "macs": macs,
    "flows": flows,
    "services": services,
    "cidrs": cidrs,
    "hostports": hostports,
    "sizes": sizes,
    "batches": batches,
    "shares": shares,
}


def reasons(data: dict[str, Any]) -> list[Row]:
    """Rows of axis, what happens, and figures; of the axes that were measured."""
    return [EXPLAINED[slice_](found, data) for slice_, found in data.items() if slice_ in EXPLAINED]
