"""Parts that are programs of their own: the tables' benchmarks, each in a process of its own and by its `--json`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .absent import Absent
from .part import Data, Part, Say, Settings
from .report import Table, ns

CLONE = Path(__file__).resolve().parents[1]
#: Of the full tables' peers, those that the documents show beside RouteTable: how their names begin.
SHOWN = (
    "RouteTable",
    "DPDK rte_fib DIR24-8 2B AVX-512",
    "DPDK rte_fib6 TRIE 4B AVX-512",
    "DPDK rte_lpm",
    "numba",
    "numpy, DIR-24-8 by take",
    "numpy, searchsorted",
    "pytricia",
)


def run(module: str, *options: str) -> Any:
    """What a program of this package prints as JSON.

    Raises
    ------
    Absent
        When it fails, with its last words.
    """
    command = [sys.executable, "-m", f"bench.{module}", "--json", *options]
    done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"bench.{module}: {(done.stderr.strip() or 'it failed').splitlines()[-1]}")
    return json.loads(done.stdout)


ROUTE_SLICES = {
    "full": ("--table", "full"),
    "node": ("--table", "node"),
    "full6": ("--table", "full", "--family", "6"),
}


def measure_route(slice_: str, settings: Settings, say: Say) -> Data:
    """`bench.route` with one of its tables."""
    options = [*ROUTE_SLICES[slice_], *(("--quick",) if settings.quick or settings.tiny else ())]
    if settings.routes and slice_ != "node":
        options += ["--routes", str(settings.routes)]
    say(f"python -m bench.route {' '.join(options)}")
    (report,) = run("route", *options)
    return {"absent": report.pop("absent"), "report": report}


def _route(slice_: str, report: dict[str, Any]) -> Table:
    patterns = tuple(report["rows"][0]["ns_per_key"])
    rows = []
    for row in report["rows"]:
        if row["name"].startswith(SHOWN):
            name = f"`RouteTable`{row['name'][10:]}" if row["name"].startswith("RouteTable") else row["name"]
            both = [row[name] for name in ("ns_per_key", "ns_found") if name in row]
            figures = (" / ".join(ns(found[pattern]) for found in both) for pattern in patterns)
            megabytes = (row["nbytes"] or 0) / 1e6
            memory = f"{megabytes:,.0f}" if megabytes >= 1 else f"{megabytes:.2g}" if megabytes else ""
            rows.append((name, *figures, memory))
    m = report["measured"]
    note = (
        f"Built in {1e3 * m['build_s']:,.1f} ms; {m['bulk_changes_per_s'] / 1e6:.1f} million changes a second in bulk, "
        f"one takes {m['insert_us']} us to insert and {m['delete_us']} us to delete."
    )
    if "two_readers" in m:
        note += f" A call costs {m['call_overhead_ns']:,.0f} ns beside the addresses; two threads do "
        note += f"{m['two_readers']} times the work of one."
    title = f"{report['table']}, {report['routes']:,} prefixes: ns an address, warm / as found"
    return Table(f"route.{slice_}", title, (f"{report['routes']:,} prefixes", *patterns, "MB"), rows, (note,))


def route_tables(data: Data) -> list[Table]:
    """A table for each table."""
    return [_route(slice_, found["report"]) for slice_, found in data.items()]


def measure_state(slice_: str, settings: Settings, say: Say) -> Data:
    """`bench.state`; with ten million entries as well, or without."""
    options = ("--full",) if slice_ == "full" else ()
    rounds = ("--rounds", str(settings.rounds(9)))
    say(f"python -m bench.state {' '.join((*options, *rounds))}")
    return dict(run("state", *options, *rounds))


def state_tables(data: Data) -> list[Table]:
    """Lookups beside rte_hash; the better of the two ways in which ours take keys is the records'."""
    found = data.get("full") or data["usual"]
    rows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for figure in found["lookups"]:
        for who, ns_ in (("ours", figure["ours"]), ("rte_hash", figure["peer"])):
            cells = rows.setdefault((f"{figure['table']}, {figure['keys']}", who), {})
            cells.setdefault(figure["entries"], []).append(ns(ns_) if ns_ else "-")
    sizes = list(dict.fromkeys(figure["entries"] for figure in found["lookups"]))
    shown = [
        (f"{name}: {who}", *(" / ".join(cells.get(size, ["-"])) for size in sizes))
        for (name, who), cells in rows.items()
    ]
    notes = tuple(
        f"{name[0].upper()}{name[1:]}: "
        + "; ".join(f"{what} {value:,.4g}" for what, value in values.items())
        + "."
        for name, values in found["changes"].items()
    )
    return [Table("state.lookups", "ns a key, calls of 256 / of 65,536", ("keys", *sizes), shown, notes)]


def measure_cluster(slice_: str, settings: Settings, say: Say) -> Data:
    """`bench.cluster` with so many nodes."""
    nodes = str(min(int(slice_), 20)) if settings.tiny else slice_
    say(f"python -m bench.cluster --nodes {nodes}")
    return dict(run("cluster", "--nodes", nodes)[nodes])


def cluster_tables(data: Data) -> list[Table]:
    """Seconds and memory by mode."""
    rows = [
        (f"{int(nodes):,}", mode, f"{row['seconds']:.2f}", f"{row['bytes'] / 1e6:,.0f}")
        for nodes, modes in data.items()
        for mode, row in modes.items()
    ]
    return [Table("cluster.build", "clusters of 30 pods a node", ("nodes", "addressing", "s", "MB"), rows)]


def measure_workers(slice_: str, settings: Settings, say: Say) -> Data:
    """`bench.workers` with so many flows."""
    options = ["--flows", str(settings.size(int(slice_))), "--rounds", str(settings.rounds(15))]
    if settings.tiny:
        options += ["--only", "bridged"]
    say(f"python -m bench.workers {' '.join(options)}")
    return {"rows": run("workers", *options)}


def workers_tables(data: Data) -> list[Table]:
    """One worker and two, class by class; `-` where the machine never had two cores."""
    rows: dict[str, list[str]] = {}
    for found in data.values():
        for row in found["rows"]:
            cells = ["-"] * 4
            if row["whole"]:
                cells = [ns(row["one"]), ns(row["many"])]
                cells += [f"{row[what]:.2f}" if what in row else "-" for what in ("ratio", "processes")]
            rows.setdefault(row["class"], []).extend(cells)
    head = [
        cell for count in data for cell in (f"{int(count):,} flows: 1", "2", "times", "2 processes, times")
    ]
    title = "wall time, ns a packet, batches of 65,536, with one worker and with two; beside, two processes of one each"
    return [Table("workers.times", title, ("path", *head), [(name, *cells) for name, cells in rows.items()])]


def program(name: str, about: str, slices: tuple[str, ...], measure: Callable[[str, Settings, Say], Data],
            tables: Callable[[Data], list[Table]], quick: tuple[str, ...] | None = None) -> Part:  # fmt: skip
    """A part of this kind."""
    return Part(name, about, slices, measure, tables, quick=quick)


ROUTE = program("route", "RouteTable beside DPDK, numba, numpy, Python's trees", tuple(ROUTE_SLICES), measure_route,
                route_tables)  # fmt: skip
STATE = program("state", "connections and MACs beside rte_hash", ("usual", "full"), measure_state, state_tables,
                quick=("usual",))  # fmt: skip
CLUSTER = program("cluster", "clusters built, by addressing mode", ("100", "1000"), measure_cluster, cluster_tables,
                  quick=("100",))  # fmt: skip
WORKERS = program("workers", "one worker and two, wall time", ("1000", "65536", "1000000"), measure_workers,
                  workers_tables, quick=("1000",))  # fmt: skip
