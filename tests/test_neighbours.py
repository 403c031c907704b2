"""The table of neighbours by itself: what it refuses, and that a refusal leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest

from kubenet_fastpath.address_pool import AddressPool
from kubenet_fastpath.errors import AddressError
from kubenet_fastpath.neighbour import NeighbourTable

MAC = "02:00:00:00:00:01"


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> tuple[NeighbourTable, AddressPool, list[str]]:
    if request.param == 4:
        return NeighbourTable(limit=2), AddressPool(), [f"10.0.0.{k}" for k in range(9)]
    pool = AddressPool()
    return NeighbourTable(limit=2, pool=pool), pool, [f"fd00::{k}" for k in range(9)]


@pytest.mark.parametrize(
    ("dev", "mac", "error", "said"),
    [
        (-1, MAC, OverflowError, "0..65534: -1"),
        (65535, MAC, OverflowError, "0..65534: 65535"),
        (70000, MAC, OverflowError, "0..65534: 70000"),
        (1.5, MAC, TypeError, "float"),
        (1, "02:00", AddressError, "02:00"),
    ],
)
def test_a_refused_entry_leaves_no_trace(
    family: tuple[NeighbourTable, AddressPool, list[str]],
    dev: Any,
    mac: str,
    error: type[Exception],
    said: str,
) -> None:
    table, pool, addresses = family
    table.add(1, addresses[1], MAC)
    before = table.to_records().tolist(), len(pool)
    with pytest.raises(error, match=said):
        table.add(dev, addresses[2], mac)
    if mac == MAC:
        for change in (lambda: table.remove(dev, addresses[1]), lambda: table.flush(dev)):
            with pytest.raises(error, match=said):
                change()
    assert (table.to_records().tolist(), len(pool)) == before


def test_who_asks_for_an_address_that_is_not_there_does_not_enter_it(
    family: tuple[NeighbourTable, AddressPool, list[str]],
) -> None:
    table, pool, addresses = family
    table.add(1, addresses[1], MAC)
    before = len(pool)
    for dev, address in ((1, addresses[2]), (2, addresses[1])):
        with pytest.raises(KeyError, match=f"no neighbour {address} on interface {dev}"):
            table.remove(dev, address)
    assert len(pool) == before
    table.remove(1, addresses[1])
    assert len(table) == 0


def test_rows_that_are_free_are_nobodys(family: tuple[NeighbourTable, AddressPool, list[str]]) -> None:
    table, _, addresses = family
    for k in range(1, 5):
        table.add(k, addresses[k], MAC)
    table.flush(2)
    table.remove(4, addresses[4])
    for k in (5, 6, 7):
        table.add(k, addresses[k], MAC)
    assert sorted(row[0] for row in table.to_records().tolist()) == [1, 3, 5, 6, 7]
