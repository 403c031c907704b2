"""Pickles of tables that were damaged: ValueError, or a table that stands every call; its answers may be nonsense.

A pickle may run any code, so bytes are not unpickled: they change the arrays and numbers that a table is made of.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from frames import UDP, fragments, ipv4, packet, udp

import kubenet_fastpath as kf
from kubenet_fastpath.fragment_table import FragmentTable

from ..choices import Choices

LONGEST = 256
LINES = False
START, SECOND = 10**18, 10**9
ODD = (0, 1, 2, 3, -1, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**18)
EXAMPLES = [
    bytes([table, 0, where, op, 255, 1]) for table in range(4) for where in range(0, 40, 3) for op in (0, 1)
]
FLOWS = (
    np.array([1, 1, 2, 3, 1, 2, 4], np.uint32),
    np.array([2, 2, 1, 4, 2, 1, 5], np.uint32),
    np.array([1000, 1000, 80, 7, 1001, 53, 9], np.uint16),
    np.array([80, 80, 1000, 8 << 8, 53, 1001, 99], np.uint16),
    np.array([6, 6, 6, 1, 17, 17, 132], np.uint8),
)
MACS = np.array([0x0A580AF40102 + i for i in range(6)], np.uint64)
_whole = ipv4("10.244.1.2", "10.244.1.3", UDP, udp(1000, 53, bytes(60)), flags=0)
PIECES = [packet("0a:58:0a:f4:01:02", "0a:58:0a:f4:01:03", part) for part in fragments(_whole, 16)]


def use_connections(table: kf.ConnectionTable, now: int) -> None:
    """Calls of all kinds."""
    flags = np.array([2, 16, 18, 0, 0, 0, 0], np.uint8)
    seq = np.arange(7, dtype=np.uint32)
    table.track(*FLOWS, now, flags=flags, seq=seq, ack=seq, window=np.full(7, 9, np.uint16))
    table.lookup(*FLOWS, now)
    assert len(table.to_records(now)) <= len(table.to_records())
    table.to_text(now, extended=True)
    table.delete(src=1)
    table.expire(now + SECOND)
    table.track(*(column + 1 for column in FLOWS), now + 1000 * SECOND)
    table.expire(now + 10**7 * SECOND)
    table.flush()
    table.track(*FLOWS, now + 10**7 * SECOND)


def use_fdb(table: kf.ForwardingDatabase, now: int) -> None:
    """Calls of all kinds."""
    table.learn(MACS[:3], 4, now)
    table.switch(MACS, MACS[::-1].copy(), np.arange(6, dtype=np.uint16), now)
    table.items()
    table.to_records()
    table.show()
    table.age(now + 400 * SECOND)
    table.flush(4)
    table.flush_learned()
    table.learn(MACS, 5, now + 500 * SECOND)


def use_fragments(table: FragmentTable, now: int) -> None:
    """Calls of all kinds."""
    table.add(PIECES[2], now)
    table.add(PIECES[0], now, port=3, user=1)
    assert table.held >= 0
    assert table.memory >= 0
    table.expire(now + SECOND)
    for frame in PIECES:
        table.add(frame, now + SECOND)
    table.expire(now + 100 * SECOND)


def _given() -> tuple[tuple[Any, Any], ...]:
    connections = kf.ConnectionTable(capacity=12, seed=3)
    connections.track(*FLOWS, START)
    connections.delete(dst=4)
    busy = kf.ConnectionTable(capacity=300, seed=3)
    for i in range(30):
        columns = (FLOWS[0] + 7 * i, *FLOWS[1:])
        busy.track(*(column.astype(kind.dtype) for column, kind in zip(columns, FLOWS, strict=True)), START)
    fdb = kf.ForwardingDatabase(seed=1, now=START)
    fdb.learn(MACS[:4], 2, START)
    fdb.add_local("0a:58:0a:f4:01:09")
    table = FragmentTable(seed=1)
    for number, frame in enumerate(PIECES[:-1]):
        if number != 2:
            table.add(frame, START + number, port=1)
    table.add(PIECES[1], START, user=5)
    return (connections, use_connections), (busy, use_connections), (fdb, use_fdb), (table, use_fragments)


GIVEN = _given()


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of all numbers and arrays of a pickle's parts; tuples have become lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (list, dict)):
            yield from places(value)
        elif isinstance(value, (int, float, np.ndarray)) or value is None:
            yield tree, key


def thawed(tree: Any) -> Any:
    """A copy with lists for tuples and arrays that can be written."""
    if isinstance(tree, (tuple, list)):
        return [thawed(value) for value in tree]
    if isinstance(tree, dict):
        return {key: thawed(value) for key, value in tree.items()}
    return tree.copy() if isinstance(tree, np.ndarray) else copy.copy(tree)


def run(data: bytes) -> None:
    choices = Choices(data)
    table, use = choices.one(GIVEN)
    now = START + choices.number() * SECOND
    function, *parts = table.__reduce_ex__(5)
    parts = thawed(parts)
    where = list(places(parts))
    while choices:
        container, key = where[choices.number() % len(where)]
        value = container[key]
        if not isinstance(value, np.ndarray):
            container[key] = choices.one(ODD) if choices.number() else choices.number(8)
            continue
        octets = value.reshape(-1).view(np.uint8)
        operation, at = choices.number() % 4, choices.number(2)
        if operation == 3 or not len(octets):
            container[key] = value[: at % (len(value) + 1)].copy()
            continue
        at %= len(octets)
        change = choices.take((1, 2, 4)[operation])
        octets[at : at + len(change)] = np.frombuffer(change, np.uint8)[: len(octets) - at]
    try:
        made = function(*parts[0])
        if len(parts) > 1 and parts[1] is not None:
            made.__setstate__(parts[1])
        assert made.nbytes if hasattr(made, "nbytes") else True
    except (ValueError, OverflowError, TypeError, MemoryError, kf.FastpathError):
        return
    use(made, now)
    use(pickle.loads(pickle.dumps(made, protocol=5)), now)
