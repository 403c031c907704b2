"""What a packet costs a node: by class of traffic, number of flows and batch size; established flows and new ones.

    python bench/node.py [--flows N ...] [--rounds N] [--json]

64-byte UDP frames in memory, 65,536 a round in random order over the flows, 32 pods; all classes and sizes take turns,
round by round; a figure is the median round in CPU time of the one thread that forwards. What leaves is checked before.
A new flow's packet is the first one of a connection that is masqueraded, in a node with as many flows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from statistics import median

from state import new_flows
from traces import TRACE, Path, Trace

BATCHES = (256, 65536)


def measure(flows: list[int], rounds: int) -> dict[str, dict[str, float]]:
    """ns a packet by class, then by flows and batch size."""
    found: dict[str, dict[str, float]] = {path.label: {} for path in Path}
    for n in flows:
        traces = {}
        for path in Path:
            for size in BATCHES:
                if sys.stderr.isatty():
                    print(f"\r\x1b[K{n:,} flows: {path.label}", end="", file=sys.stderr, flush=True)
                traces[path, size] = Trace.make(path, n, size)
                traces[path, size].check()
        took: dict[tuple[Path, int], list[float]] = {key: [] for key in traces}
        for number in range(rounds):
            if sys.stderr.isatty():
                print(
                    f"\r\x1b[K{n:,} flows: round {number + 1} of {rounds}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            for key, trace in traces.items():
                trace.restore()
                began = time.thread_time_ns()
                trace.run()
                took[key].append((time.thread_time_ns() - began) / TRACE)
        for (path, size), times in took.items():
            found[path.label][f"{n} flows, {size}"] = round(median(times), 1)
        del traces
        begun = new_flows(max(n >> 14, 1) << 14, rounds)["new"]
        found.setdefault("internet, new flow", {})[f"{n} flows, 256"] = round(begun, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flows", type=int, nargs="+", default=[1, 1000, 65536, 1_000_000])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.flows, given.rounds)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print("ns a packet, 64-byte UDP, one core; batches of 256 / of 65,536")
    print(f"{'':22}" + "".join(f"{f'{n:,} flows':>17}" for n in given.flows))
    for label, row in found.items():
        cells = [
            " / ".join(f"{row[f'{n} flows, {size}']:.1f}" for size in BATCHES if f"{n} flows, {size}" in row)
            for n in given.flows
        ]
        print(f"{label:22}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()
