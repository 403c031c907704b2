"""What lookups cost in a connection table that lives long, or whose tuples somebody chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
from test_growth import flows, hashes

import kubenet_fastpath as kf

SECOND = 10**9
HELD, STEP = 30_000, 2_000  # connections held, and those that come and go in a second
OPERATIONS = 10**7


def numbered(first: int, count: int) -> list[Any]:
    """UDP tuples of connections by number, however many there are."""
    n = np.arange(first, first + count, dtype=np.uint64)
    return [
        (n * np.uint64(2654435761) >> np.uint64(3)).astype(np.uint32),
        n.astype(np.uint32),
        (n % np.uint64(60_000)).astype(np.uint16),
        np.full(count, 53, np.uint16),
        np.full(count, 17, np.uint8),
    ]


def costs(table: kf.ConnectionTable, columns: list[Any]) -> np.ndarray:
    """Lines and rows of a lookup, in the mean."""
    return np.array([found.mean() for found in table.probes(*columns)])


def test_ten_million_operations_leave_no_decay() -> None:
    table = kf.ConnectionTable(capacity=1 << 16, seed=3, timeouts=kf.Timeouts(udp_s=HELD // STEP))
    turns = OPERATIONS // 2 // STEP
    young = np.zeros(0)
    for turn in range(turns):
        table.track(*numbered(turn * STEP, STEP), turn * SECOND)
        table.expire(turn * SECOND)
        if turn + 1 in (3 * HELD // STEP, turns):
            assert len(table) == HELD
            held = costs(table, numbered((turn + 1) * STEP - HELD, HELD))
            absent = costs(table, numbered(1 << 31, HELD))
            if not len(young):
                young, size = np.concatenate([held, absent]), table.nbytes
    assert table.counters["insert"] == OPERATIONS // 2
    assert table.counters["expired"] == OPERATIONS // 2 - HELD
    old = np.concatenate([held, absent])
    assert (old <= young + 0.02).all(), (young, old)
    assert table.nbytes == size
    conn, _ = table.lookup(*numbered(turns * STEP - HELD, HELD), turns * SECOND - SECOND)
    assert len(np.unique(conn)) == HELD


def test_chosen_tuples_crowd_one_place_of_the_table_whose_seed_was_known() -> None:
    """Of 200,000 tuples those that begin their search in one line under seed 3: else they cost as others do."""
    some = flows(np.arange(200_000))
    crowded = (np.array(hashes(some, 3), np.uint64) & np.uint64(0xFF)) == 7
    chosen, usual = [column[crowded] for column in some], [column[: crowded.sum()] for column in some]
    found = {}
    for seed in range(3, 9):
        for name, columns in (("chosen", chosen), ("usual", usual)):
            table = kf.ConnectionTable(capacity=1 << 16, seed=seed)
            table.track(*columns, 0)
            found[seed, name] = costs(table, columns)
    assert (found[3, "chosen"] > 2 * found[3, "usual"]).all()
    for seed in range(4, 9):
        assert (found[seed, "chosen"] <= 1.1 * found[3, "usual"]).all()


def test_a_flood_of_chosen_tuples_costs_at_most_twice_the_mean() -> None:
    """Tuples as near to each other as can be, among ordinary ones, in a table as full as its segments become."""
    numbers = np.arange(1 << 15, dtype=np.uint32)
    one, u16 = np.ones_like(numbers), np.uint16
    floods = (
        [one, one, numbers.astype(u16), one.astype(u16), (17 * one).astype(np.uint8)],  # a scan of ports
        [numbers, one, one.astype(u16), one.astype(u16), (17 * one).astype(np.uint8)],  # of addresses
        [numbers << 16, one, one.astype(u16), one.astype(u16), (17 * one).astype(np.uint8)],
        [numbers, numbers, numbers.astype(u16), numbers.astype(u16), (17 * one).astype(np.uint8)],
    )
    lines, worst = [], []
    for flood in (numbered(1 << 20, 1 << 15), *floods):  # the first is ordinary, too
        table = kf.ConnectionTable(capacity=1 << 17, seed=5)
        table.track(*numbered(0, 1 << 15), 0)
        table.track(*flood, 0)
        assert len(table) == 1 << 16
        lines.append(costs(table, flood))
        worst.append(table.probes(*flood)[0].max())
    for chosen in lines[1:]:
        assert (chosen <= 1.1 * lines[0]).all()
    assert max(worst[1:]) <= 2 * worst[0]
