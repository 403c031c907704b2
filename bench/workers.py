"""What several workers make of a node: wall time of one and of N, by class of traffic and number of flows.

    python -m bench.workers [--workers N] [--flows N ...] [--rounds N] [--only WORD ...] [--json]

64-byte UDP frames in memory, batches of 65,536 in random order over the flows; one worker and N take turns in the same
node. Before that every byte, verdict, output row and connection of N is held against those of one.

What the machine itself gives is measured behind: N processes at the same time, each with a worker, a node and frames of
its own, who share nothing but the machine. Virtual ones do not always have the cores that they show; where the
processes never were three quarters of N times as fast as one, there is no figure but `all`, the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

from .node import CLASSES
from .progress import Line
from .traces import Flows, Trace
from .turns import by_turns

BATCH = 65536
FLOWS = (1000, 65536, 1_000_000)
CORES = 0.75  # of N: less, and the machine did not have them
GO, READY = (
    0,
    1,
)  # places of what processes share: the round that may begin, and of each that it is ready for, when it ended


def _trace(name: str, count: int) -> Trace:
    path, reply, addressing = CLASSES[name]
    return Flows.make(path, count, addressing).trace(BATCH, reply=reply)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _live(name: str, count: int, place: int, shared: Any, parent: Connection) -> None:
    """A process of its own: a round for each that it is told to get ready for."""
    os.sched_setaffinity(0, {_cores()[1 + place // 2]})
    trace = _trace(name, count)
    parent.send(0)
    while number := parent.recv():
        for last in (False, True):  # the first one for the caches
            trace.restore()
            shared[place] = number if last else 0
            while last and shared[GO] != number:
                pass
            trace.run()
        shared[place + 1] = time.perf_counter_ns()
        parent.send(0)


class Processes:
    """N processes that forward the same traffic at the same time, this one among them.

    Attributes
    ----------
    ns : float
        Wall time of the latest round from its begin to the end of the last of them, a packet of one of them.
    """

    def __init__(self, name: str, count: int, processes: int, trace: Trace) -> None:
        context = multiprocessing.get_context("spawn")
        self._number, self._trace = 0, trace
        self._shared: Any = context.RawArray("q", READY + 2 * (processes - 1))
        self._others: list[tuple[int, Connection, Any]] = []
        for place in range(READY, len(self._shared), 2):
            here, there = context.Pipe()
            process = context.Process(
                target=_live, args=(name, count, place, self._shared, there), daemon=True
            )
            process.start()
            self._others.append((place, here, process))
        for _, here, _ in self._others:
            here.recv()

    def round(self) -> float:
        """Have one, and its `ns`."""
        self._number += 1
        cores = _cores()
        os.sched_setaffinity(0, cores[:1])  # this thread alone; else two of them may begin on one core
        for _, here, _ in self._others:
            here.send(self._number)
        self._trace.restore()
        self._trace.run()
        self._trace.restore()
        while any(self._shared[place] != self._number for place, _, _ in self._others):
            pass
        began = time.perf_counter_ns()
        self._shared[GO] = self._number
        self._trace.run()
        ended = time.perf_counter_ns()
        for place, here, _ in self._others:
            here.recv()
            ended = max(ended, self._shared[place + 1])
        os.sched_setaffinity(0, cores)
        return (ended - began) / self._trace.packets

    def close(self) -> None:
        """They end."""
        for _, here, process in self._others:
            here.send(0)
            process.join()


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
    found = []
    for count in flows:
        for name in CLASSES:
            if only and not any(word in name for word in only):
                continue
            say(f"{count:,} flows: {name}")
            trace = _trace(name, count)
            one, many = Shared(trace, 1), Shared(trace, workers)
            check(one, many)
            title = f"{count:,} flows: {name}"
            took = by_turns({"many": many, "one": one}, rounds, say, title, time.perf_counter_ns)
            # Processes that wait for their turn would make it slower for the others: they come afterwards.
            processes = Processes(name, count, workers, trace)
            cores = []
            for number in range(rounds):
                turn = by_turns(
                    {"one": one}, 1, say, f"{title}, processes, {number + 1}", time.perf_counter_ns
                )
                cores.append(workers * turn["one"][0] / processes.round())
            processes.close()
            whole = [factor for factor in cores if factor >= CORES * workers]
            row = {"flows": count, "class": name, "all": median(took["one"]) / median(took["many"])}
            row |= {"machine": median(cores), "whole": len(whole), "rounds": rounds}
            if whole:
                row |= {key: median(took[key]) for key in ("one", "many")}
                row |= {"ratio": row["all"], "processes": median(whole)}
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
    n = given.workers
    print(
        f"ns a packet in wall time, batches of {BATCH:,}; the same node with 1 worker and with {n}, and how many"
    )
    print(f"times as fast as one they are, and {n} processes with a node each")
    print(f"{'flows':>9}  {'':46}{'1':>7}{n:>7}{'ratio':>7}{'processes':>11}{'all':>7}{'machine':>9}  rounds")
    for row in found:
        figures = f"{'-':>32}"
        if row["whole"]:
            figures = f"{row['one']:7.1f}{row['many']:7.1f}{row['ratio']:7.2f}{row['processes']:11.2f}"
        print(
            f"{row['flows']:>9,}  {row['class']:46}{figures}{row['all']:7.2f}{row['machine']:9.2f}"
            f"  {row['whole']} of {row['rounds']}"
        )


if __name__ == "__main__":
    main()
