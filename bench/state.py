"""What the two state tables cost, beside DPDK's rte_hash over the same keys.

    python -m bench.state [--full] [--sizes 1K 64K] [--json]

Lookups: tuples of IPv4 flows, both directions stored, as ready 16-byte records against rte_hash with the same keys, and
from five columns; MAC addresses against 8-byte keys. 262,144 keys a measurement, in calls of 256 and of 65,536 from
Python, with arguments that are made ready before, and rte_hash also as C calls it; chosen uniformly or by Zipf's law,
all of them held or none. Then what changes the connection table: new masqueraded flows, in the table alone and through
a node; expiry, growth from empty, a flood of SYNs at a full table. ns of a thread's CPU time, medians; results checked.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtInfo

from .dpdk import Hash
from .route_peers import Absent
from .traces import frame, make_node

KEYS = 1 << 18
CALLS = (256, 1 << 16)
SIZES = {"1K": 1 << 10, "64K": 1 << 16, "1M": 1 << 20}
LARGE = {"10M": 10 << 20}
ZIPF = 1.05
FOREVER = 10**18  # ns
SECOND = 10**9
MISS = kf.ConnectionTable.MISS
TUPLE = kf.ConnectionTable.TUPLE


@dataclass
class Figure:
    """One line of the table: ns a key."""

    table: str
    entries: str
    keys: str
    calls: int
    ours: float
    peer: float | None
    peer_in_c: float | None  # no call from Python among its own, whatever `calls`
    columns: float | None = None  # the same tuples as columns


def cpu(act: Callable[[], Any], rounds: int) -> float:
    """Seconds of the thread, median of some rounds behind one that warms up."""
    act()
    spent = []
    for _ in range(rounds):
        began = time.thread_time()
        act()
        spent.append(time.thread_time() - began)
    return median(spent)


def by_turns(acts: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The same of several, which take turns: each once for its caches, which the others have filled, then timed."""
    spent: list[list[float]] = [[] for _ in acts]
    for _ in range(rounds):
        for act, mine in zip(acts, spent, strict=True):
            act()
            began = time.thread_time()
            act()
            mine.append(time.thread_time() - began)
    return [median(mine) for mine in spent]


def choose(entries: int, pattern: str, random: np.random.Generator) -> NDArray[np.int64]:
    if pattern == "uniform":
        return random.integers(0, entries, KEYS)
    share = 1 / np.arange(1, entries + 1) ** ZIPF
    rank = np.searchsorted(np.cumsum(share) / share.sum(), random.random(KEYS))
    return random.permutation(entries)[np.minimum(rank, entries - 1)]


def flows(count: int, *, apart: bool = False) -> NDArray[Any]:
    """UDP flows from pods to many servers, as tuples; `apart`: no two from the same address and port."""
    i = np.arange(count, dtype=np.uint32)
    made = np.zeros(count, TUPLE)
    made["src"], made["dst"] = 0x0AF40000 + i % 60_000, 0x08000000 + i // 3
    made["sport"], made["dport"] = 1024 + i % 60_000, 53
    made["proto"], made["family"] = 17, 4
    if apart:
        made["src"] = 0x0AF40000 + i // 60_000
    return made


def inverse(tuples: NDArray[Any]) -> NDArray[Any]:
    made = tuples.copy()
    made["src"], made["dst"] = tuples["dst"], tuples["src"]
    made["sport"], made["dport"] = tuples["dport"], tuples["sport"]
    return made


def columns(tuples: NDArray[Any]) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(tuples[name]) for name in ("src", "dst", "sport", "dport", "proto")]


def octets(keys: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), -1)


def peer_of(keys: NDArray[np.uint8], absent: list[str]) -> Hash | None:
    try:
        return Hash(keys)
    except Absent as reason:
        if str(reason) not in absent:
            absent.append(str(reason))
        return None


def cuts(size: int) -> list[slice]:
    return [slice(at, at + size) for at in range(0, KEYS, size)]


def in_calls(act: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[[], None]:
    def run() -> None:
        for arguments in calls:
            act(*arguments)

    return run


def compare(ours: list[Callable[[], None]], peer: Hash | None, keys: NDArray[np.uint8], rounds: int,
            size: int) -> tuple[list[float], float | None, float | None, NDArray[np.uint32]]:  # fmt: skip
    """ns a key of each of ours, of the peer and of the peer in C; the peer's answers."""
    found = np.full(KEYS, MISS, np.uint32)
    acts = list(ours)
    if peer is not None:
        acts.append(in_calls(peer.call, [peer.arguments(keys[cut], found[cut]) for cut in cuts(size)]))
        acts.append(in_calls(peer.call, [peer.arguments(keys, found)]))
    spent: list[float | None] = [1e9 * seconds / KEYS for seconds in by_turns(acts, rounds)]
    mine = [one for one in spent[: len(ours)] if one is not None]
    theirs, in_c = spent[len(ours) :] if peer else (None, None)
    return mine, theirs, in_c, found


def connections(name: str, entries: int, rounds: int, absent: list[str]) -> list[Figure]:
    random = np.random.default_rng(entries)
    forward = flows(entries // 2)
    both = np.concatenate([forward, inverse(forward)])
    table = kf.ConnectionTable(capacity=entries, seed=1, reserve=True)
    rows = [table.track(*columns(forward[at : at + 4096]), 0)[0] for at in range(0, len(forward), 4096)]
    row_of = np.tile(np.concatenate(rows), 2)
    peer = peer_of(octets(both), absent)
    found, conn, again = [], np.empty(KEYS, np.uint32), np.empty(KEYS, np.uint32)
    reply = np.empty(KEYS, np.bool_)
    for pattern in ("uniform", "Zipf", "misses"):
        chosen = choose(entries, "uniform" if pattern == "misses" else pattern, random)
        wanted = both[chosen]
        if pattern == "misses":
            wanted["dport"] ^= 0x8000
        arrays, keys = columns(wanted), octets(wanted)
        for size in CALLS:
            parts = [(wanted[cut], (conn[cut], reply[cut])) for cut in cuts(size)]
            columns_of = [([a[cut] for a in arrays], (again[cut], reply[cut])) for cut in cuts(size)]

            def ready(parts: Any = parts) -> None:
                for keys, out in parts:
                    table.lookup_tuples(keys, 0, out=out)

            def apart(columns_of: Any = columns_of) -> None:
                for (src, dst, sport, dport, proto), out in columns_of:
                    table.lookup(src, dst, sport, dport, proto, 0, out=out)

            ours, theirs, in_c, numbers = compare([ready, apart], peer, keys, rounds, size)
            want = np.full(KEYS, MISS, np.uint32) if pattern == "misses" else row_of[chosen]
            np.testing.assert_array_equal(conn, want)
            np.testing.assert_array_equal(again, want)
            if peer:
                np.testing.assert_array_equal(numbers, MISS if pattern == "misses" else chosen)
            found.append(Figure("connections", name, pattern, size, ours[0], theirs, in_c, ours[1]))
    if peer:
        peer.close()
    return found


def stations(name: str, entries: int, rounds: int, absent: list[str]) -> list[Figure]:
    random = np.random.default_rng(entries)
    macs = np.uint64(0x0A5800000000) + random.permutation(entries).astype(np.uint64)
    ports = (np.arange(entries) % 1000).astype(np.uint16)
    fdb = kf.ForwardingDatabase(seed=1)
    fdb.learn(macs, ports, now=0)
    peer = peer_of(octets(macs), absent)
    found, out = [], np.empty(KEYS, np.int32)
    for pattern in ("uniform", "Zipf", "misses"):
        chosen = choose(entries, "uniform" if pattern == "misses" else pattern, random)
        wanted = macs[chosen] | np.uint64((pattern == "misses") << 40)
        for size in CALLS:
            parts = [(wanted[cut], out[cut]) for cut in cuts(size)]

            def lookup(parts: Any = parts) -> None:
                for keys, ports in parts:
                    fdb.lookup(keys, out=ports)

            ours, theirs, in_c, numbers = compare([lookup], peer, octets(wanted), rounds, size)
            np.testing.assert_array_equal(out, -1 if pattern == "misses" else ports[chosen])
            if peer:
                np.testing.assert_array_equal(numbers, MISS if pattern == "misses" else chosen)
            found.append(Figure("MAC addresses", name, pattern, size, ours[0], theirs, in_c))
    if peer:
        peer.close()
    return found


def frames_of(count: int, first: int, pods: list[kf.Port]) -> kf.PacketBatch:
    """First packets of UDP flows from pods to the internet: each another flow, and while ports last another source."""
    i = np.arange(first, first + count, dtype=np.uint32)
    turn = i % len(pods)
    models = [
        np.frombuffer(
            frame("0a:58:0a:f4:01:01", str(p.pod.mac), str(p.pod.ip), "198.18.0.0", 1024, 53), np.uint8
        )
        for p in pods
        if p.pod
    ]
    data = np.stack(models)[turn]
    data[:, 30:34] = (0xC6120000 + i * 7919 % 65536).astype(">u4").view(np.uint8).reshape(-1, 4)
    data[:, 34:36] = (1024 + i // len(pods) % 60_000).astype(">u2").view(np.uint8).reshape(-1, 2)
    data[:, 24:26] = 0
    data[:, 40:42] = 0  # no UDP checksum
    words = np.ascontiguousarray(data[:, 14:34]).view(">u2").astype(np.uint32).sum(axis=1)
    words = (words & 0xFFFF) + (words >> 16)
    data[:, 24:26] = (~words & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    ports = np.array([p.index for p in pods], np.uint16)
    return kf.PacketBatch.from_array(data, port=ports[turn])


def new_flows(count: int, rounds: int) -> dict[str, float]:
    """A node with `count` masqueraded flows: one more, and a packet of one that is there, in batches of 256."""
    per_round = 1 << 14
    node, pods = make_node(conntrack_max=count + rounds * per_round)
    for at in range(0, count + rounds * per_round, per_round):
        node.forward(frames_of(per_round, at, pods))
    first_beyond = int(node.connections.to_records()["created"].size) - rounds * per_round
    node.connections.delete(
        np.arange(first_beyond, first_beyond + rounds * per_round)
    )  # so their memory is there
    assert len(node.connections) == count
    spent: dict[str, list[float]] = {"new": [], "established": []}
    at = count
    for _ in range(rounds):
        for kind in spent:
            whole = frames_of(per_round, at if kind == "new" else at - per_round, pods)
            parts = [whole[i : i + 256] for i in range(0, per_round, 256)]
            began = time.thread_time()
            for part in parts:
                result = node.forward(part)
            spent[kind].append(time.thread_time() - began)
            assert (result.reason == kf.Reason.MASQUERADE).all()
            at += per_round if kind == "new" else 0
    assert len(node.connections) == at
    return {kind: 1e9 * median(times) / per_round for kind, times in spent.items()}


def translated_flows(count: int, rounds: int) -> dict[str, float]:
    """A table with `count` masqueraded UDP flows: further ones, 256 a call, for which as many end; then all expire.

    Each comes from an address and port of its own, so that none has its translation from an earlier one. Bytes are all
    that the table has taken: a full table's, before the first flow.
    """
    per_round, address = 1 << 16, 0x0AF00004
    table = kf.ConnectionTable(capacity=count + per_round, seed=1, reserve=True)
    tuples = flows(count + (rounds + 1) * per_round, apart=True)
    for at in range(0, count, 4096):
        table.masquerade(*columns(tuples[at : min(at + 4096, count)]), SECOND, address=address)
    spent: list[float] = []
    for turn in range(rounds + 1):  # the first one takes the rows' memory
        part = tuples[count + turn * per_round :][:per_round]
        calls = [columns(part[at : at + 256]) for at in range(0, per_round, 256)]
        began = time.thread_time()
        for src, dst, sport, dport, proto in calls:
            _, info, leaves = table.masquerade(src, dst, sport, dport, proto, 0, address=address)
        spent.append(time.thread_time() - began)
        assert (info == CtInfo.NEW).all()
        assert (leaves["src"] == address).all()
        assert len(table) == count + per_round
        size = table.nbytes / len(table)
        if turn < rounds:
            assert table.expire(30 * SECOND) == per_round
    assert len(table.to_records()) == count + per_round
    began = time.thread_time()
    assert table.expire(FOREVER) == count + per_round
    expiry = (time.thread_time() - began) / (count + per_round)
    return {"new": 1e9 * median(spent[1:]) / per_round, "expiry": 1e9 * expiry, "bytes a flow": size}


def resident() -> int:
    """Bytes of the process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def growth(count: int) -> dict[str, float]:
    """From empty, 256 flows a call; then all of them expire."""
    tuples = flows(count)
    before = resident()
    table = kf.ConnectionTable(capacity=count, seed=1, reserve=True)
    spent = []
    for at in range(0, count, 256):
        part = columns(tuples[at : at + 256])
        began = time.thread_time_ns()
        table.track(*part, 0)
        spent.append(time.thread_time_ns() - began)
    assert len(table) == count
    size, grown = table.nbytes / count, (resident() - before) / count
    began = time.thread_time_ns()
    assert table.expire(FOREVER) == count
    return {
        "flows": count,
        "ns a flow": sum(spent) / count,
        "slowest call of 256, us": max(spent) / 1e3,
        "bytes a flow": size,
        "by which the process has grown": grown,
        "expiry, ns a flow": (time.thread_time_ns() - began) / count,
    }


def flood(capacity: int) -> dict[str, float]:
    """SYNs of ever new flows: while there is room, and at a full table; established flows go on."""
    table = kf.ConnectionTable(capacity=capacity, seed=1, reserve=True)
    tuples = flows(3 * capacity)
    tuples["proto"] = 6
    known, rest = tuples[:1000], tuples[1000:]
    ack, syn = np.full(256, 16, np.uint8), np.full(256, 2, np.uint8)
    for at in range(0, 1000, 250):
        part = known[at : at + 250]
        for who, flags in ((part, 2), (inverse(part), 18), (part, 16)):
            table.track(*columns(who), 0, flags=np.full(250, flags, np.uint8))
    spent: dict[str, list[float]] = {"room": [], "full": []}
    for at in range(0, len(rest) - 256, 256):
        part = columns(rest[at : at + 256])
        state = "full" if len(table) == capacity else "room"
        began = time.thread_time()
        table.track(*part, 1, flags=syn)
        spent[state].append(time.thread_time() - began)
    _, info = table.track(*columns(known[:256]), 2, flags=ack)
    assert (info == CtInfo.ESTABLISHED).all()
    assert table.counters["early_drop"] > capacity / 2
    room, full = (1e9 * median(spent[state]) / 256 for state in ("room", "full"))
    return {"SYN with room, ns": room, "SYN at a full table, ns": full, "ratio": full / room}


def show(figures: list[Figure], others: dict[str, dict[str, float]], absent: list[str]) -> None:
    row = "{:<14} {:>7} {:<8} {:>7}  {:>7} {:>9} {:>6} {:>7} {:>6} {:>8}"
    print(
        row.format(
            "table", "entries", "keys", "a call", "ours", "rte_hash", "ratio", "in C", "ratio", "columns"
        )
    )
    for f in figures:
        peers = [f"{p:.1f}|{p / f.ours:.2f}" if p else "-|-" for p in (f.peer, f.peer_in_c)]
        columns = f"{f.columns:.1f}" if f.columns else ""
        words = [word for peer in peers for word in peer.split("|")]
        print(row.format(f.table, f.entries, f.keys, f"{f.calls:,}", f"{f.ours:.1f}", *words, columns))
    for name, values in others.items():
        print(f"{name}: " + "; ".join(f"{what} {value:,.4g}" for what, value in values.items()))
    for reason in absent:
        print(f"absent: {reason}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="10 million entries too: takes 4 GB")
    parser.add_argument(
        "--sizes", nargs="*", choices=SIZES | LARGE, help="lookups among so many entries, nothing else"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    absent: list[str] = []
    figures: list[Figure] = []
    chosen = args.sizes or (SIZES | LARGE if args.full else SIZES)
    for name in chosen:
        figures += connections(name, (SIZES | LARGE)[name], args.rounds, absent)
    for name in chosen:
        if name in SIZES:
            figures += stations(name, SIZES[name], args.rounds, absent)
    others = (
        {}
        if args.sizes
        else {
            "masqueraded UDP flow in a table with 1M of them, ns": translated_flows(1 << 20, args.rounds),
            "masqueraded flow through a node with 1M of them, ns a packet": new_flows(1 << 20, args.rounds),
            "growth from empty": growth(10 << 20 if args.full else 1 << 20),
            "flood of SYNs at 65,536 connections": flood(1 << 16),
        }
    )
    if args.json:
        print(json.dumps({"lookups": [asdict(f) for f in figures], "changes": others, "absent": absent}))
    else:
        show(figures, others, absent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
