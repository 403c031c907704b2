"""`ConnectionTable.masquerade`: NAT over columns, beside what a search by hand says of its results."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.connection import CtInfo, CtStatus

NODE = 0x0AF00004
SECOND = 10**9
MISS = kf.ConnectionTable.MISS
KINDS = (np.uint32, np.uint32, np.uint16, np.uint16, np.uint8)
NAMES = ("src", "dst", "sport", "dport", "proto")


def columns(rows: list[tuple[int, ...]]) -> list[Any]:
    return [np.array([row[i] for row in rows], kind) for i, kind in enumerate(KINDS)]


def of(leaves: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row) for row in leaves[list(NAMES)].tolist()]


def inverse(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [(dst, src, dport, sport, proto) for src, dst, sport, dport, proto in rows]


flows = st.lists(
    st.tuples(
        st.integers(0x0AF40100, 0x0AF40103),
        st.integers(0x08080808, 0x08080809),
        st.sampled_from([80, 511, 700, 1024, 40000, 40001]),
        st.sampled_from([53, 443]),
        st.sampled_from([6, 17, 17, 50]),
    ),
    min_size=1,
    max_size=60,
)


def klass(port: int) -> range:
    return range(1, 512) if port < 512 else range(600, 1024) if port < 1024 else range(1024, 65536)


@given(flows, st.integers(0, 3))
def test_answers_can_be_told_apart_and_come_back(rows: list[tuple[int, ...]], seed: int) -> None:
    rows = [
        (src, dst, *((0, 0) if proto == 50 else (sport, dport)), proto)
        for src, dst, sport, dport, proto in rows
    ]
    table = kf.ConnectionTable(seed=seed)
    conn, _, leaves = table.masquerade(*columns(rows), 0, address=NODE)
    sent = dict(zip(rows, of(leaves), strict=True))
    assert len(set(sent.values())) == len(sent) or any(proto == 50 for *_, proto in rows)
    taken: set[tuple[int, ...]] = set()
    for row, out in sent.items():
        if row[-1] == 50 and conn[rows.index(row)] == MISS:
            continue  # no ports, and the address is another's
        assert out[0] == NODE
        assert out[1] == row[1]
        assert out[3:] == row[3:]
        wanted = (NODE, *row[1:])
        assert out[2] == row[2] if wanted not in taken else out[2] in klass(row[2])
        taken.add(out)
    good = [i for i in range(len(rows)) if conn[i] != MISS]
    back, answer, home = table.masquerade(*columns(inverse([of(leaves)[i] for i in good])), 1, address=NODE)
    assert back.tolist() == conn[good].tolist()
    assert (answer == CtInfo.ESTABLISHED_REPLY).all()
    assert of(home) == inverse([rows[i] for i in good])
    assert all(
        r["status"] & CtStatus.SRC_NAT and r["status"] & CtStatus.DST_NAT_DONE for r in table.to_records()
    )


@given(flows, st.integers(1, 59))
def test_a_batch_is_its_packets_and_a_pickle_goes_on(rows: list[tuple[int, ...]], cut: int) -> None:
    whole, parts = kf.ConnectionTable(seed=5), kf.ConnectionTable(seed=5)
    ours = whole.masquerade(*columns(rows), 0, address=NODE, random=True)
    first = parts.masquerade(*columns(rows[:cut]), 0, address=NODE, random=True)
    parts = pickle.loads(pickle.dumps(parts))
    rest = parts.masquerade(*columns(rows[cut:]), 0, address=NODE, random=True)
    for mine, one, two in zip(ours, first, rest, strict=True):
        assert mine.tolist() == one.tolist() + two.tolist()
    assert (whole.to_records() == parts.to_records()).all()


def test_ports_run_out() -> None:
    table = kf.ConnectionTable()
    rows = [(0x0AF40100 + i, 0x08080808, 5000, 53, 17) for i in range(12)]
    conn, info, leaves = table.masquerade(*columns(rows), 0, address=NODE, ports=(2000, 2009))
    assert (conn != MISS).sum() == 10
    assert set(leaves["sport"][conn != MISS].tolist()) == set(range(2000, 2010))
    assert (info[conn == MISS] == CtInfo.DROP).all()
    assert of(leaves[conn == MISS]) == [rows[i] for i in (10, 11)]
    assert table.counters["insert_failed"] == 2 == table.counters["drop"]
    _, again, _ = table.masquerade(*columns(rows[10:]), 31 * SECOND, address=NODE, ports=(2000, 2009))
    assert (again == CtInfo.NEW).all()  # the others have expired


def test_a_range_of_addresses_keeps_a_pair_of_hosts() -> None:
    table = kf.ConnectionTable()
    rows = [(0x0AF40100 + i % 50, 0x08080808, 5000 + i, 53, 17) for i in range(500)]
    _, _, leaves = table.masquerade(*columns(rows), 0, address=(NODE, NODE + 7))
    of_host: dict[int, set[int]] = {}
    for row, src in zip(rows, leaves["src"].tolist(), strict=True):
        of_host.setdefault(row[0], set()).add(src)
    assert all(len(seen) == 1 for seen in of_host.values())
    assert set().union(*of_host.values()) == set(range(NODE, NODE + 8))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"address": 0}, "address must be above 0"),
        ({"address": 1 << 32}, "address must be above 0"),
        ({"address": (9, 8)}, "the first not behind the last"),
        ({"address": NODE, "ports": (9, 8)}, "ports must be within"),
        ({"address": NODE, "ports": (0, 65536)}, "ports must be within"),
        ({"address": [1, 2, 3]}, "address must be two integers"),
        ({"address": [9, 8]}, "the first not behind the last"),
        ({"address": NODE, "ports": 5}, "ports must be two integers"),
        ({"address": NODE, "zone": 65536}, "zone must be"),
        ({"address": NODE, "length": np.zeros(2, np.uint16)}, "length has 2 rows"),
    ],
)
def test_refused_calls_change_nothing(wrong: dict[str, Any], says: str) -> None:
    table = kf.ConnectionTable()
    before = pickle.dumps(table)
    with pytest.raises((ValueError, TypeError), match=says):
        table.masquerade(*columns([(1, 2, 3, 4, 17)]), 0, **wrong)
    assert pickle.dumps(table) == before
