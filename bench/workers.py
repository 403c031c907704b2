"""What several workers make of a node: wall time of one and of N, by class of traffic and number of flows.

    python -m bench.workers [--workers N] [--flows N ...] [--rounds N] [--only WORD ...] [--json]

64-byte UDP frames in memory, batches of 65,536 in random order over the flows; one worker and N take turns in the same
node. Before that every byte, verdict, output row and connection of N is held against those of one.

Virtual machines do not always have the cores that they show. So each round begins and ends with a look at the machine
itself: how much faster N threads hash N blocks than one does. The figures are medians of the rounds in which that was
nine tenths of N at least; `all` has the ratio of the medians of all rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from .node import CLASSES
from .progress import Line
from .traces import Flows, Trace
from .turns import by_turns

BATCH = 65536
FLOWS = (1000, 65536, 1_000_000)
BLOCK = bytes(1 << 21)


class Machine:
    """How much faster N threads are than one at what each does by itself."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._begun: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for _ in range(threads - 1):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while self._begun.get():
            self._done.put(hashlib.sha256(BLOCK).digest())

    def speedup(self) -> float:
        began = time.perf_counter_ns()
        hashlib.sha256(BLOCK)
        alone = time.perf_counter_ns() - began
        began = time.perf_counter_ns()
        for _ in range(self.threads - 1):
            self._begun.put(True)
        hashlib.sha256(BLOCK)
        for _ in range(self.threads - 1):
            self._done.get()
        return self.threads * alone / (time.perf_counter_ns() - began)


class Shared:
    """A trace that so many workers forward."""

    def __init__(self, trace: Trace, workers: int) -> None:
        self.trace, self.workers = trace, workers
        self.packets, self.run = trace.packets, trace.run

    def restore(self) -> None:
        pipeline = self.trace.node._pipeline
        if pipeline.workers != self.workers:
            pipeline.workers = self.workers
        self.trace.restore()

    def outcome(self) -> list[Any]:
        """What comes out of the second of two passes, what its packets add to the connections, and what these are."""
        self.restore()
        self.trace.run()
        before = self.trace.node.connections.to_records()
        self.restore()
        results = [self.trace.node.forward(batch) for batch in self.trace.batches]
        rows = self.trace.node.connections.to_records()
        now = self.trace.node.now
        added = [rows[name] - before[name] for name in ("packets", "bytes", "reply_packets", "reply_bytes")]
        met = added[0] + added[2] > 0
        rest = [
            rows[name] for name in ("index", "src", "dst", "reply_src", "reply_dst", "reply_dport", "status")
        ]
        columns = [np.concatenate([getattr(r, name) for r in results]) for name in ("verdict", "reason")]
        outputs = np.concatenate([result.outputs for result in results])
        outputs["time"] -= now
        return [self.trace.bytes.copy(), *columns, outputs, *added, *rest, (rows["expires"] - now)[met]]


def check(one: Shared, many: Shared) -> None:
    """The same comes out, and nearly all of it by several threads."""
    one.trace.check()
    alone, together = one.outcome(), many.outcome()
    for left, right in zip(alone, together, strict=True):
        np.testing.assert_array_equal(left, right)
    shared, _ = many.trace.node._pipeline.stretches()
    assert shared >= 1.9 * many.packets, "most packets went through one thread"


def measure(
    workers: int, flows: tuple[int, ...], rounds: int, only: list[str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    machine = Machine(workers)
    found = []
    for count in flows:
        for name, (path, reply, addressing) in CLASSES.items():
            if only and not any(word in name for word in only):
                continue
            say(f"{count:,} flows: {name}")
            trace = Flows.make(path, count, addressing).trace(BATCH, reply=reply)
            things = {1: Shared(trace, 1), workers: Shared(trace, workers)}
            check(things[1], things[workers])
            took: dict[int, list[float]] = {key: [] for key in things}
            cores = []
            for number in range(rounds):
                before = machine.speedup()
                title = f"{count:,} flows: {name}, {number + 1} of {rounds}"
                for key, (ns,) in by_turns(things, 1, say, title, time.perf_counter_ns).items():
                    took[key].append(ns)
                cores.append(min(before, machine.speedup()))
            whole = [i for i, factor in enumerate(cores) if factor >= 0.9 * workers]
            row = {"flows": count, "class": name, "all": median(took[1]) / median(took[workers])}
            row |= {"machine": median(cores), "whole": len(whole), "rounds": rounds}
            if whole:
                row |= {
                    "one": median(took[1][i] for i in whole),
                    "many": median(took[workers][i] for i in whole),
                }
                row["ratio"] = row["one"] / row["many"]
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--flows", type=int, nargs="+", default=FLOWS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", default=[], help="classes whose names have one of these words")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    say = Line()
    found = measure(given.workers, tuple(given.flows), given.rounds, given.only, say)
    say()
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"ns a packet in wall time, batches of {BATCH:,}; the same node with 1 worker and with {given.workers}"
    )
    print(f"{'flows':>9}  {'':46}{'1':>7}{given.workers:>7}{'ratio':>7}{'all':>7}{'machine':>9}  rounds")
    for row in found:
        figures = f"{row['one']:7.1f}{row['many']:7.1f}{row['ratio']:7.2f}" if row["whole"] else f"{'-':>21}"
        print(
            f"{row['flows']:>9,}  {row['class']:46}{figures}{row['all']:7.2f}{row['machine']:9.2f}"
            f"  {row['whole']} of {row['rounds']}"
        )


if __name__ == "__main__":
    main()
