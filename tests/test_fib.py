"""`RouteTable` against a dict and a scan."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from models.fib import Routes, mask, text

import kubenet_fastpath as kf

MISS = kf.RouteTable.MISS
LENGTHS = (0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32)
BASES = (0, 0x0AF40000, 0x0AF40100, 0x0AF401FF, 0x0AF40200, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

prefixes = st.builds(lambda base, n: (base & mask(n), n), st.sampled_from(BASES), st.sampled_from(LENGTHS))
hops = st.integers(0, 5) | st.sampled_from([0xFFFF, 0x10000, MISS - 1])
tables = st.dictionaries(prefixes, hops, max_size=12)


@st.composite
def edges(draw: st.DrawFn) -> int:
    """Addresses at the edges of prefixes: one before, first, last, one behind."""
    network, length = draw(prefixes)
    last = network | ~mask(length) & 0xFFFFFFFF
    return (draw(st.sampled_from([network, last])) + draw(st.sampled_from([-1, 0, 1]))) & 0xFFFFFFFF


def arrays(routes: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    networks, lengths, hop = zip(*routes, strict=True) if routes else ((), (), ())
    return np.array(networks, np.uint32), np.array(lengths, np.uint8), np.array(hop, np.uint32)


def filled(model: dict[tuple[int, int], int]) -> kf.RouteTable:
    return kf.RouteTable.from_arrays(*arrays([(net, n, hop) for (net, n), hop in model.items()]))


class RouteMachine(RuleBasedStateMachine):
    """Table and model side by side; every look must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.model = kf.RouteTable(), Routes()

    @rule(prefix=prefixes, hop=hops)
    def put(self, prefix: tuple[int, int], hop: int) -> None:
        self.table[prefix] = hop
        self.model[prefix] = hop

    @rule(prefix=prefixes)
    def drop(self, prefix: tuple[int, int]) -> None:
        if prefix in self.model:
            del self.table[text(prefix)]
            del self.model[prefix]
        else:
            with pytest.raises(KeyError):
                del self.table[text(prefix)]

    @rule(rows=st.lists(st.tuples(prefixes, hops), max_size=8))
    def put_many(self, rows: list[tuple[tuple[int, int], int]]) -> None:
        self.table.update_many(*arrays([(net, n, hop) for (net, n), hop in rows]))
        self.model.update(dict(rows))

    @rule(chosen=st.lists(prefixes, max_size=4, unique=True))
    def drop_many(self, chosen: list[tuple[int, int]]) -> None:
        networks, lengths, _ = arrays([(net, n, 0) for net, n in chosen])
        if all(prefix in self.model for prefix in chosen):
            self.table.remove_many(networks, lengths)
            for prefix in chosen:
                del self.model[prefix]
        else:
            with pytest.raises(KeyError):
                self.table.remove_many(networks, lengths)

    @rule(addresses=st.lists(edges(), max_size=20))
    def look(self, addresses: list[int]) -> None:
        found = [self.model.longest(address) for address in addresses]
        keys = np.array(addresses, np.uint32)
        want = [MISS if match is None else match[1] for match in found]
        assert self.table.lookup(keys).tolist() == want
        out = np.empty(len(keys), np.uint32)
        assert self.table.lookup(keys, out=out) is out
        assert out.tolist() == want
        for address, match in zip(addresses, found, strict=True):
            assert self.table.longest_match(address) == (match and (text(match[0]), match[1]))

    @rule(prefix=prefixes)
    def relatives(self, prefix: tuple[int, int]) -> None:
        assert self.table.covering(prefix) == self.model.covering(prefix)
        assert self.table.covered(prefix) == self.model.covered(prefix)
        assert (prefix in self.table) == (prefix in self.model)
        assert self.table.get(text(prefix)) == self.model.get(prefix)

    @rule()
    def keep(self) -> None:
        self.table = pickle.loads(pickle.dumps(self.table, protocol=5))

    @invariant()
    def in_order(self) -> None:
        assert self.table.items() == [(text(p), self.model[p]) for p in sorted(self.model)]
        assert len(self.table) == len(self.model)


TestRoutes = RouteMachine.TestCase


@given(tables, st.randoms(use_true_random=False), st.lists(edges(), min_size=1, max_size=20))
def test_the_order_of_inserts_does_not_matter(model: dict, random: object, addresses: list[int]) -> None:
    rows = list(model.items())
    random.shuffle(rows)
    one_by_one = kf.RouteTable()
    for prefix, hop in rows:
        one_by_one[prefix] = hop
    keys = np.array(addresses, np.uint32)
    assert one_by_one.lookup(keys).tolist() == filled(model).lookup(keys).tolist()


@given(tables, prefixes, hops, st.lists(edges(), min_size=1, max_size=20))
def test_delete_undoes_insert(model: dict, prefix: tuple[int, int], hop: int, addresses: list[int]) -> None:
    model.pop(prefix, None)
    table, keys = filled(model), np.array(addresses, np.uint32)
    before = table.lookup(keys).tolist()
    table[prefix] = hop
    del table[prefix]
    assert table.lookup(keys).tolist() == before


def test_the_last_of_equal_prefixes_wins() -> None:
    table = kf.RouteTable.from_arrays(*arrays([(0x0A000000, 8, 1), (0x0A000000, 8, 2)]))
    assert table.items() == [("10.0.0.0/8", 2)]


@pytest.mark.parametrize(
    ("prefix", "hop", "error"),
    [
        ("10.0.0.1/8", 1, ValueError),
        ("10.0.0.0/33", 1, ValueError),
        ("10.0.0/8", 1, ValueError),
        ("10.0.0.0/8", MISS, ValueError),
        ("10.0.0.0/8", -1, ValueError),
        ("10.0.0.0/8", 1.5, TypeError),
    ],
)
def test_a_refused_call_changes_nothing(prefix: str, hop: object, error: type[Exception]) -> None:
    table = kf.RouteTable({"10.0.0.0/8": 7})
    with pytest.raises(error):
        table[prefix] = hop
    with pytest.raises(ValueError, match=r"11\.0\.0\.1/8"):
        table.update_many(*arrays([(0x0B000000, 8, 1), (0x0B000001, 8, 2)]))
    with pytest.raises((ValueError, TypeError)):
        table.lookup(np.zeros(3, np.uint32), out=np.zeros(2, np.uint32))
    assert table.items() == [("10.0.0.0/8", 7)]


def test_host_bits_are_masked_on_request() -> None:
    table = kf.RouteTable.from_text("10.1.2.3/8 5\n# a comment\n0.0.0.0/0 6", mask_host_bits=True)
    assert table.items() == [("0.0.0.0/0", 6), ("10.0.0.0/8", 5)]


@pytest.mark.parametrize("routes", [[("10.0.0.0/8", 1)], "10.0.0.0/8", 5])
def test_routes_are_a_mapping(routes: object) -> None:
    with pytest.raises(TypeError, match=f"mapping of prefix to next hop, not {type(routes).__name__}"):
        kf.RouteTable(routes)  # type: ignore[arg-type]


def test_a_table_of_a_table() -> None:
    table = kf.RouteTable({"10.0.0.0/8": 1, "0.0.0.0/0": 2})
    again = kf.RouteTable(table)
    assert dict(again) == dict(table) == dict(zip(table.keys(), table.values(), strict=True))
    assert kf.RouteTable({}).values() == []


@pytest.mark.parametrize(
    ("prefix", "error"),
    [
        (("10.0.0.0", 2**40), kf.AddressError),
        (("10.0.0.0", -1), kf.AddressError),
        (("10.0.0.0", 8, 1), kf.AddressError),
        ((), kf.AddressError),
        (("10.0.0.0", 8.0), TypeError),
        ("10.0.0.0/8\ud800", kf.AddressError),
    ],
)
def test_what_is_no_prefix(prefix: object, error: type[Exception]) -> None:
    table = kf.RouteTable()
    with pytest.raises(error):
        table[prefix] = 1  # type: ignore[index]
    with pytest.raises(error):
        table.get(prefix)  # type: ignore[call-overload]
    assert len(table) == 0


@contextmanager
def interrupted(table: kf.RouteTable) -> Iterator[None]:
    """Whenever Python looks for garbage, and so might let another thread run, the table loses some prefixes and in the
    end gets others, with other arrays."""
    prefixes = list(table)
    threshold = gc.get_threshold()

    def change(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and prefixes:
            for _ in range(min(70, len(prefixes))):
                del table[prefixes.pop()]
            if not prefixes:
                networks = np.arange(1000, dtype=np.uint32) << np.uint32(8)
                table.update_many(networks, np.full(1000, 24, np.uint8), np.full(1000, 7, np.uint32))

    gc.callbacks.append(change)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(change)


def saved(image: bytes) -> int:
    """How many prefixes an image has, whose arrays must be those of its prefixes."""
    table = kf.RouteTable.from_buffer(image)
    columns = table.to_arrays()
    np.testing.assert_array_equal(
        table.lookup(columns[0]), kf.RouteTable.from_arrays(*columns).lookup(columns[0])
    )
    return len(table)


def test_a_listing_is_of_one_moment() -> None:
    routes = {f"10.{i}.0.0/16": i for i in range(200)} | {"10.0.0.0/8": 1000}
    for look in (
        lambda table: len(table.to_arrays()[2]),
        lambda table: len(table.items()),
        lambda table: len(table.covered("10.0.0.0/8")),
        lambda table: saved(table.to_bytes()),
        lambda table: saved(table.__reduce_ex__(5)[1][0]),
    ):
        table = kf.RouteTable(routes)
        with interrupted(table):
            found = look(table)
        assert found in (201, 131, 61, 0, 1000)


def test_covering_is_of_one_moment() -> None:
    nested = {f"10.0.0.0/{length}": length for length in range(8, 33)}
    table = kf.RouteTable(nested)
    with interrupted(table):
        found = table.covering("10.0.0.0/32")
    assert found in (list(nested.items()), [])
