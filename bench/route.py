"""RouteTable beside its peers: ns a key, memory, building, updates, one line each.

    python -m bench.route [--routes FILE] [--family 6] [--quick] [--json]

All tables are in one process and take turns, round by round, so that what else runs on the machine meets them alike.
In its turn each is measured twice: in its first lookup, when the caches are as the other tables left them (as found),
and after `--warm` lookups, when they hold what they can of its own (warm). A table by which packets are routed between
other work is found; one that is asked without end, with a machine's caches to itself, is warm. The larger a table, the
more they differ. No turn follows one of the same table.
A figure is the median round, in CPU time of the one thread, by the number of addresses. A round of a compiled peer is
1,048,576 addresses, of a Python tree 16,384. Before it is measured, each peer's next hops are compared with
RouteTable's, address by address; a difference ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kubenet_fastpath as kf

from . import dpdk, route_peers
from .progress import Line
from .route_keys import KEYS, PATTERNS, make_keys
from .route_peers import Absent, Peer
from .route_tables import Routes, full_routes, node_routes

BATCH = 256
UPDATES = 4096
CALLS = 8  # of each thread that measures how two share a table
WARM = 3  # lookups before the one that is measured warm, if nobody says otherwise


class Ours:
    """RouteTable, all addresses a call or 256."""

    def __init__(self, table: kf.RouteTable, name: str, batch: int | None = None) -> None:
        self.table, self.name, self._batch = table, name, batch
        self.nbytes = table.nbytes
        self._out = np.empty(0, np.uint32)

    def prepare(self, keys: NDArray[Any]) -> Any:
        self._out = np.empty(len(keys), np.uint32)
        size = self._batch or len(keys)
        return [(keys[i : i + size], self._out[i : i + size]) for i in range(0, len(keys), size)]

    def lookup(self, keys: Any) -> int:
        lookup = self.table.lookup
        for part, out in keys:
            lookup(part, out)
        return len(self._out)

    def hops(self) -> NDArray[np.uint32]:
        return self._out


@dataclass
class Row:
    """What was measured of one peer: ns a key by pattern, warm and as found."""

    name: str
    ns_per_key: dict[str, float] = field(default_factory=dict)
    ns_found: dict[str, float] = field(default_factory=dict)
    nbytes: int | None = None
    build_s: float | None = None


@dataclass
class Report:
    """What was measured of one table."""

    table: str
    routes: int
    rows: list[Row]
    absent: list[str]
    measured: dict[str, float]


def build(table: Routes, engine: str | None = None, isa: str | None = None) -> kf.RouteTable:
    columns = table.networks, table.prefix_lens, table.hops
    return kf.RouteTable.from_arrays(*columns, family=table.family, engine=engine, isa=isa)


def dpdk_peers(routes: Routes, family: int, slow: bool, absent: list[str]) -> list[tuple[Peer, float]]:
    """DPDK's tables that are there, each by all its lookup functions, with the time that they took to build."""
    kinds = (
        [(dpdk.FIB, 2), (dpdk.FIB, 4)] if family == 4 else [(dpdk.FIB6, 2), (dpdk.FIB6, 4), (dpdk.LPM6, 4)]
    )
    if family == 4 and (slow or len(routes) < 10_000):  # rte_lpm looks through all its rules at each addition
        kinds.append((dpdk.LPM, 4))
    peers: list[tuple[Peer, float]] = []
    for kind, hop_bytes in kinds:
        try:
            dpdk.library()
            began = time.thread_time()
            table = dpdk.Table(routes, kind, hop_bytes)
            took = time.thread_time() - began
        except Absent as error:
            if str(error) not in absent:
                absent.append(str(error))
            continue
        for vector in (True, False) if kind in (dpdk.FIB, dpdk.FIB6) else (False,):
            try:
                peers += [(dpdk.Dpdk(table, vector, batch), took) for batch in (dpdk.BATCH, KEYS)]
            except Absent as error:
                absent.append(str(error))
    return peers


def compared(name: str, pattern: str, got: NDArray[Any], want: NDArray[Any], keys: NDArray[Any]) -> None:
    """End the run where a peer and RouteTable differ: one of them is wrong."""
    different = np.flatnonzero(got != want[: len(got)])
    if len(different):
        i = different[0]
        key = keys[i] if keys.ndim == 1 else keys[i].tobytes().hex(":", 2)
        raise SystemExit(
            f"{name} and RouteTable differ in {len(different):,} of {len(got):,} {pattern} addresses; the first is "
            f"{key}: {got[i]} instead of {want[i]}"
        )


def lookups(
    peers: list[Peer], routes: Routes, rounds: int, warm: int, say: Line
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Median ns a key of each peer by pattern, warm and as found; the others are compared with the first one."""
    figures: list[tuple[dict[str, float], dict[str, float]]] = [({}, {}) for _ in peers]
    places: dict[int, list[int]] = {}
    for i, peer in enumerate(peers):
        places.setdefault(id(getattr(peer, "table", peer)), []).append(i)
    when = {i: place / len(same) for same in places.values() for place, i in enumerate(same)}
    turns = sorted(when, key=lambda i: (when[i], i))  # those of one table as far apart as may be
    for pattern in PATTERNS:
        keys = make_keys(routes, pattern)
        prepared, want = [], np.empty(0, np.uint32)
        for peer in peers:
            say(f"{routes.name}: {pattern}: comparing {peer.name}")
            prepared.append(peer.prepare(keys))
            peer.lookup(prepared[-1])
            got = peer.hops()
            want = want if len(want) else got.copy()
            compared(peer.name, pattern, got, want, keys)
        took: list[list[list[float]]] = [[] for _ in peers]
        for number in range(rounds):
            say(f"{routes.name}: {pattern}: round {number + 1} of {rounds}")
            for i in turns:
                took[i].append([])
                for _ in range(warm + 1):
                    began = time.thread_time_ns()
                    count = peers[i].lookup(prepared[i])
                    took[i][-1].append((time.thread_time_ns() - began) / count)
        for (usual, found), times in zip(figures, took, strict=True):
            usual[pattern] = round(median(turn[-1] for turn in times), 2)
            found[pattern] = round(median(turn[0] for turn in times), 2)
    return figures


def timed(act: Callable[[], Any], rounds: int) -> float:
    """Median seconds of this thread."""
    times = []
    for _ in range(rounds):
        began = time.thread_time_ns()
        act()
        times.append(time.thread_time_ns() - began)
    return median(times) / 1e9


def changes(table: kf.RouteTable, routes: Routes, rounds: int) -> dict[str, float]:
    """Updates a second in bulk, and one at a time: removed, put back."""
    random = np.random.default_rng(4)
    rows = random.choice(len(routes), min(UPDATES, len(routes)), replace=False)
    columns = routes.networks[rows], routes.prefix_lens[rows]
    hops = routes.hops[rows]

    def bulk() -> None:
        table.remove_many(*columns)
        table.update_many(*columns, hops)

    some = rows[:1024]
    sample = Routes(routes.family, "", routes.networks[some], routes.prefix_lens[some], routes.hops[some])
    single = []
    for prefix, hop in zip(sample.texts(), sample.hops.tolist(), strict=True):
        began = time.perf_counter_ns()  # the thread's own clock takes as long to read as a change takes
        del table[prefix]
        between = time.perf_counter_ns()
        table[prefix] = hop
        single.append((between - began, time.perf_counter_ns() - between))
    return {
        "bulk_changes_per_s": round(2 * len(rows) / timed(bulk, rounds)),
        "delete_us": round(median(pair[0] for pair in single) / 1e3, 2),
        "insert_us": round(median(pair[1] for pair in single) / 1e3, 2),
    }


def scaling(table: kf.RouteTable, keys: NDArray[Any], rounds: int) -> float:
    """How many times as much two threads look up in the time that one takes; wall clock, for that is what is asked.

    Each has a core and an array for its results of its own, and begins when both can. It is the median of pairs of
    runs: on a machine of two cores, whatever else runs takes one of them from a pair that it meets, whose figure is
    then near 1.
    """
    outs = [np.zeros(len(keys), np.uint32) for _ in range(2)]
    cores = sorted(os.sched_getaffinity(0))

    def run(threads: int) -> float:
        ready = threading.Barrier(threads)
        times = [(0.0, 0.0)] * threads

        def reader(i: int) -> None:
            os.sched_setaffinity(0, {cores[i % len(cores)]})  # of this thread alone
            table.lookup(keys, outs[i])
            ready.wait()
            began = time.perf_counter()
            for _ in range(CALLS):
                table.lookup(keys, outs[i])
            times[i] = began, time.perf_counter()

        workers = [threading.Thread(target=reader, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return max(end for _, end in times) - min(began for began, _ in times)

    return round(median(2 * run(1) / run(2) for _ in range(2 * rounds + 1)), 2)


def overhead(table: kf.RouteTable, routes: Routes, rounds: int) -> float:
    """ns of a call beyond its addresses: one of 256 against 256 of a long one."""
    keys = make_keys(routes, "hot")[: BATCH * 256]
    out = np.empty(len(keys), np.uint32)
    parts = [(keys[i : i + BATCH], out[i : i + BATCH]) for i in range(0, len(keys), BATCH)]

    def short() -> None:
        for part, place in parts:
            table.lookup(part, place)

    long = timed(lambda: table.lookup(keys, out), 4 * rounds)
    return round(1e9 * max(timed(short, 4 * rounds) - long, 0.0) / len(parts), 1)


def measure(routes: Routes, args: argparse.Namespace, say: Line) -> Report:
    """Everything of one table."""
    absent: list[str] = []
    say(f"{routes.name}: building")
    build_s = timed(lambda: build(routes), 3)
    table = build(routes)
    title = f"RouteTable ({table.engine}, {table.isa})"
    peers: list[Peer] = [Ours(table, title), Ours(table, f"{title}, 256 a call", BATCH)]
    took: list[float | None] = [build_s, build_s]
    if args.engines:
        engines = ("16-8-8", "24-8", "rank") if routes.family == 4 else ("b+tree",)
        for engine in engines:
            for isa in ("scalar", "avx2", "avx512"):
                try:
                    other = build(routes, engine, isa)
                except (kf.FastpathError, ValueError) as error:
                    absent.append(f"RouteTable ({engine}, {isa}): {error}")
                    continue
                if (other.engine, other.isa) != (table.engine, table.isa):
                    peers.append(Ours(other, f"RouteTable ({other.engine}, {other.isa})"))
                    took.append(None)
    say(f"{routes.name}: building DPDK's")
    for peer, seconds in dpdk_peers(routes, routes.family, args.slow, absent):
        peers.append(peer)
        took.append(seconds)
    makers = (*route_peers.NUMBA, *route_peers.NUMPY, *(() if args.quick else route_peers.PYTHON))
    for maker in makers:
        say(f"{routes.name}: building {maker.__name__}")
        try:
            began = time.thread_time()
            peers.append(maker(routes))
            took.append(time.thread_time() - began)
        except Absent as error:
            absent.append(str(error))
    rows: dict[str, Row] = {}
    for peer, seconds, figures in zip(
        peers, took, lookups(peers, routes, args.rounds, args.warm, say), strict=True
    ):
        known = rows.setdefault(peer.name, Row(peer.name, *figures, peer.nbytes, seconds))
        for kept, new in zip((known.ns_per_key, known.ns_found), figures, strict=True):
            for pattern, ns in new.items():  # a peer that takes calls of two sizes is shown by its better one
                kept[pattern] = min(ns, kept[pattern])
    say(f"{routes.name}: updates, threads")
    measured = {
        "build_s": round(build_s, 4),
        **changes(table, routes, args.rounds),
        "call_overhead_ns": overhead(table, routes, args.rounds),
        "two_readers": scaling(table, make_keys(routes, "in-prefix"), args.rounds),
    }
    say()
    return Report(routes.name, len(routes), list(rows.values()), list(dict.fromkeys(absent)), measured)


def aligned(rows: list[list[str]]) -> str:
    """Rows as a table; the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def show(report: Report) -> None:
    """Print one table's figures."""
    print(f"\n{report.table}: {report.routes:,} routes")
    for title, name in (("warm", "ns_per_key"), ("as found, other tables in the caches", "ns_found")):
        ours = getattr(report.rows[0], name)
        rows = [[f"{title}: ns a key (times ours)", *PATTERNS, "MB", "build s"]]
        for i, row in enumerate(report.rows):
            figures = getattr(row, name)
            times = {p: f" ({ns / ours[p]:,.2f})" if i else " " * 7 for p, ns in figures.items()}
            cells = [f"{ns:,.2f}{times[p]}" for p, ns in figures.items()]
            memory = "" if row.nbytes is None else f"{row.nbytes / 1e6:,.1f}"
            rows.append([row.name, *cells, memory, "" if row.build_s is None else f"{row.build_s:,.2f}"])
        print(aligned(rows))
    for reason in report.absent:
        print(f"absent: {reason}")
    m = report.measured
    print(
        f"RouteTable: built in {1e3 * m['build_s']:,.1f} ms; {m['bulk_changes_per_s']:,.0f} changes a second in bulk "
        f"({UPDATES:,} a call); insert {m['insert_us']} us, delete {m['delete_us']} us; a call costs "
        f"{m['call_overhead_ns']:,.0f} ns; two threads do {m['two_readers']} times the work of one"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="RouteTable beside its peers.")
    parser.add_argument(
        "--routes", type=Path, metavar="FILE", help="prefixes of a full table, one a line, .gz or not"
    )
    parser.add_argument("--family", type=int, choices=(4, 6), default=4)
    parser.add_argument("--table", choices=("full", "node", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--warm", type=int, default=WARM, metavar="N", help="lookups before the one that is measured warm"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the synthetic table, 5 rounds, no Python trees"
    )
    parser.add_argument("--engines", action="store_true", help="RouteTable's other engines and variants, too")
    parser.add_argument(
        "--slow", action="store_true", help="rte_lpm with the full table, which takes minutes to build"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.rounds = 5 if args.quick else args.rounds
    say = Line()
    try:
        tables: list[Callable[[], Routes]] = []
        if args.table != "node":
            tables.append(lambda: full_routes(args.family, args.routes, 0.1 if args.quick else 1.0))
        if args.table != "full":
            tables.append(lambda: node_routes(args.family))
        reports = []
        for table in tables:
            reports.append(measure(table(), args, say))
            if not args.json:
                show(reports[-1])
    except (OSError, ValueError) as error:
        print(f"route: error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
