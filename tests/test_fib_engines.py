"""Every engine and every variant of `RouteTable` against a dict of prefixes, for both families."""

from __future__ import annotations

import ipaddress
import pickle
import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import isa

MISS = kf.RouteTable.MISS
ENGINES = [(4, "16-8-8"), (4, "24-8"), (4, "rank"), (6, "b+tree")]
LENGTHS = {
    4: (0, 1, 8, 15, 16, 17, 23, 24, 25, 31, 32),
    6: (0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 80, 95, 96, 112, 127, 128),
}
#: Where the engines' slots change form: bits of a hop that fit into them.
HOPS = (0, 1, 2, 0x7FFE, 0x7FFF, 0x8000, 2**31 - 1, 2**31, 2**32 - 2)

Prefix = tuple[int, int]


class Model:
    """Routes as a dict; the longest match by trying all lengths."""

    def __init__(self, family: int) -> None:
        self.bits = 32 if family == 4 else 128
        self.routes: dict[Prefix, int] = {}

    def mask(self, length: int) -> int:
        return (1 << self.bits) - (1 << (self.bits - length))

    def covering(self, address: int) -> list[int]:
        prefixes = ((address & self.mask(n), n) for n in range(self.bits + 1))
        return [self.routes[prefix] for prefix in prefixes if prefix in self.routes]

    def longest(self, address: int) -> int:
        return (self.covering(address) or [MISS])[-1]

    def edges(self, prefix: Prefix) -> list[int]:
        first, last = prefix[0], prefix[0] | ~self.mask(prefix[1]) & self.mask(self.bits)
        return [address & self.mask(self.bits) for address in (first - 1, first, last, last + 1)]


def columns(family: int, addresses: list[int]) -> Any:
    if family == 4:
        return np.array(addresses, np.uint32)
    octets = b"".join(address.to_bytes(16, "big") for address in addresses)
    return np.frombuffer(octets, np.uint8).reshape(-1, 16)


def forms(family: int, addresses: list[int]) -> list[Any]:
    """The addresses in every form that `lookup` takes."""
    column = columns(family, addresses)
    if family == 4:
        return [column, column.astype(">u4"), np.repeat(column, 2)[::2]]
    halves = column.view(">u8").astype(np.uint64)
    pairs = halves.view([("hi", np.uint64), ("lo", np.uint64)]).reshape(-1)
    return [column, halves, pairs, halves.astype(">u8"), np.repeat(column, 2, axis=0)[::2]]


class History:
    """Random changes of a table and its model; where they crowd is drawn once."""

    def __init__(self, seed: int, family: int, engine: str | None, variant: str) -> None:
        self.random, self.family = random.Random(seed), family
        self.model = Model(family)
        self.table = kf.RouteTable(family=family, engine=engine, isa=variant)
        bits = self.model.bits
        self.bases = [self.random.getrandbits(bits) for _ in range(self.random.choice([1, 1, 3]))]
        self.spread = self.random.choice([2, 8, 40, bits])

    def prefix(self) -> Prefix:
        """Near a base: it differs in the last bits of the prefix, or anywhere."""
        draw, bits = self.random, self.model.bits
        base = draw.choice(self.bases)
        length = draw.choice(LENGTHS[self.family]) if draw.random() < 0.8 else draw.randint(0, bits)
        if draw.random() < 0.8:
            base ^= draw.getrandbits(min(length, draw.choice([0, 0, 1, 3]))) << (bits - length)
        else:
            base ^= 1 << draw.randrange(min(bits, self.spread + 16))
        return base & self.model.mask(length), length

    def arrays(self, prefixes: list[Prefix]) -> tuple[Any, Any]:
        networks, lengths = [p[0] for p in prefixes], np.array([p[1] for p in prefixes], np.uint8)
        return columns(self.family, networks), lengths

    def hop(self) -> int:
        return self.random.choice(HOPS) if self.random.random() < 0.5 else self.random.randint(0, 9)

    def step(self) -> None:
        draw, routes, kind = self.random, self.model.routes, self.random.random()
        if kind < 0.35 or not routes:
            prefix, hop = self.prefix(), self.hop()
            self.table[prefix] = routes[prefix] = hop
        elif kind < 0.6:
            prefix = draw.choice(list(routes))
            del self.table[prefix], routes[prefix]
        elif kind < 0.8:
            prefixes = [self.prefix() for _ in range(draw.choice([3, 30, 400]))]
            hops = [self.hop() for _ in prefixes]
            self.table.update_many(*self.arrays(prefixes), np.array(hops, np.uint32))
            routes.update(zip(prefixes, hops, strict=True))
        elif kind < 0.9:
            prefixes = draw.sample(list(routes), draw.randint(0, len(routes)))
            self.table.remove_many(*self.arrays(prefixes))
            for prefix in prefixes:
                del routes[prefix]
        else:
            self.table = kf.RouteTable.from_buffer(self.table.to_bytes())

    def check(self) -> None:
        routes = self.model.routes
        some = self.random.sample(list(routes), min(len(routes), 60))
        addresses = [address for prefix in some for address in self.model.edges(prefix)]
        addresses += [self.random.getrandbits(self.model.bits) for _ in range(20)]
        want = [self.model.longest(address) for address in addresses]
        for form in forms(self.family, addresses):
            assert self.table.lookup(form).tolist() == want
        times = 1200 // len(addresses) + 1
        assert self.table.lookup(columns(self.family, addresses * times)).tolist() == want * times
        assert len(self.table) == len(routes)
        assert self.table.to_arrays()[2].tolist() == [routes[prefix] for prefix in sorted(routes)]
        offsets, hops = self.table.lookup_all(columns(self.family, addresses))
        for i, address in enumerate(addresses[:30]):
            assert hops[offsets[i] : offsets[i + 1]].tolist() == self.model.covering(address)


@pytest.mark.parametrize("variant", isa.available())
@pytest.mark.parametrize(("family", "engine"), ENGINES)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), steps=st.sampled_from([2, 8, 25]))
def test_histories(family: int, engine: str, variant: str, seed: int, steps: int) -> None:
    history = History(seed, family, engine, variant)
    for _ in range(steps):
        history.step()
        history.check()


@pytest.mark.parametrize(("family", "engine"), ENGINES)
def test_changes_give_what_a_new_table_has(family: int, engine: str) -> None:
    """Many short histories of prefixes that nest and touch, at the lengths where nodes begin and end."""
    model, base = Model(family), 0x0A000000 if family == 4 else 0x20010DB8 << 96
    bits = model.bits
    for seed in range(20 if engine in ("24-8", "rank") and family == 4 else 300):
        draw = random.Random(seed)
        edge = draw.choice((16, 24) if family == 4 else (16, 32, 48, 64, 96))
        lengths = [edge - 1, edge, edge, edge + 1, edge + 2, min(edge + 17, bits), bits]
        table = kf.RouteTable(family=family, engine=engine)
        touched: list[int] = []
        for _ in range(draw.choice([4, 6, 9])):
            if len(table) and draw.random() < 0.3:
                del table[draw.choice(list(table))]
                continue
            length = draw.choice(lengths)
            network = base ^ draw.getrandbits(min(length, 2)) << (bits - length)
            prefix = network & model.mask(length), length
            table[prefix] = draw.randint(0, 9)
            touched += model.edges(prefix)
            keys = columns(family, touched)
            anew = kf.RouteTable.from_arrays(*table.to_arrays(), family=family, engine=engine)
            assert table.lookup(keys).tolist() == anew.lookup(keys).tolist()


def random_table(family: int, count: int) -> tuple[Any, Any, Any]:
    """Columns with the clusters and lengths of real tables: most prefixes in few blocks, /24 and /48 in front."""
    draw = np.random.default_rng(2028)
    bits = 32 if family == 4 else 128
    lengths = draw.choice(
        [16, 19, 20, 22, 23, 24, 24, 24, 24, 28] if family == 4 else [29, 32, 32, 36, 40, 44, 48, 48, 48, 64],
        count,
    )
    blocks = draw.integers(0, 1 << 16, 40, np.uint64)
    top = draw.choice(blocks, count).astype(object)
    middle = (draw.integers(0, 1 << 10, count, np.uint64) ** 2 // 1100).astype(object)
    low = draw.integers(0, 1 << 16, count, np.uint64).astype(object)
    mask = [(1 << bits) - (1 << (bits - int(length))) for length in lengths]
    shift = 16 if family == 4 else 112
    if family == 4:
        networks = [int(t) << 16 | int(v) & 0xFFFF for t, v in zip(top, low, strict=True)]
    else:
        networks = [
            int(t) << shift | int(m) << 96 | int(v) << 80 for t, m, v in zip(top, middle, low, strict=True)
        ]
    networks = [network & m for network, m in zip(networks, mask, strict=True)]
    return (
        columns(family, networks),
        lengths.astype(np.uint8),
        draw.integers(0, 2000, count).astype(np.uint32),
    )


def by_length(family: int, networks: Any, lengths: Any, hops: Any, keys: Any) -> Any:
    """The longest match by numpy: the lengths from short to long, each by binary search."""
    found = np.full(len(keys), MISS, np.uint32)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        if family == 4:
            these, wanted = networks[rows], keys & np.uint32((1 << 32) - (1 << (32 - int(length))))
        else:  # none is longer than 64
            high = np.ascontiguousarray(keys).view(">u8")[:, 0].astype(np.uint64)
            these = np.ascontiguousarray(networks[rows]).view(">u8")[:, 0].astype(np.uint64)
            wanted = high & np.uint64((1 << 64) - (1 << (64 - int(length))))
        order = np.argsort(these, kind="stable")
        at = np.searchsorted(these[order], wanted, side="right") - 1  # of equal prefixes the last
        hit = (at >= 0) & (these[order][at] == wanted)
        found[hit] = hops[rows][order][at[hit]]
    return found


@pytest.mark.parametrize(("family", "count"), [(4, 60_000), (6, 40_000)])
def test_a_large_table(family: int, count: int) -> None:
    networks, lengths, hops = random_table(family, count)
    draw = np.random.default_rng(1)
    rows = draw.integers(0, count, 40_000)
    keys = networks[rows] | (
        draw.integers(0, 256, 40_000).astype(np.uint32)
        if family == 4
        else draw.integers(0, 2, (40_000, 16)).astype(np.uint8)
    )
    want = by_length(family, networks, lengths, hops, keys)
    for number, engine in ENGINES:
        if number != family:
            continue
        for variant in isa.available():
            try:
                table = kf.RouteTable.from_arrays(
                    networks, lengths, hops, family=family, engine=engine, isa=variant
                )
            except kf.TableFull:
                assert engine == "16-8-8"
                continue
            np.testing.assert_array_equal(table.lookup(keys), want)
            for size in (1, 15, 17, 63, 65, 257, 511, 513):
                np.testing.assert_array_equal(table.lookup(keys[:size]), want[:size])
    one_by_one = kf.RouteTable(family=family)
    for start in range(0, count, 4000):
        part = slice(start, start + 4000)
        one_by_one.update_many(networks[part], lengths[part], hops[part])
    np.testing.assert_array_equal(one_by_one.lookup(keys), want)


@pytest.mark.parametrize("variant", isa.available())
@pytest.mark.parametrize("engine", ["16-8-8", "24-8"])
@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.3, 0.9])
def test_keys_unlike_their_neighbours(engine: str, variant: str, share: float) -> None:
    """Vectors put off what takes another way: addresses elsewhere, and host routes."""
    draw = np.random.default_rng(3)
    routes = {f"10.{a}.{b}.0/24": a * 256 + b for a in range(3) for b in range(60)} | {"0.0.0.0/0": 9999}
    routes |= {f"10.0.{i}.{j}/32": 7000 + i for i in range(50) for j in range(3)}
    table = kf.RouteTable(routes, engine=engine, isa=variant)
    other = kf.RouteTable(routes, engine="rank", isa="scalar")
    for count in (1000, 5000, 20_000):
        keys = (0x0A000000 + draw.integers(0, 3 << 16, count)).astype(np.uint32)
        odd = draw.random(count) < share
        keys[odd] = draw.integers(0, 1 << 32, int(odd.sum()), np.uint64).astype(np.uint32)
        want = other.lookup(keys)
        np.testing.assert_array_equal(table.lookup(keys), want)
        np.testing.assert_array_equal(table.lookup(keys, keys), want)


@pytest.mark.parametrize("shift", [-3, 0, 5])
@pytest.mark.parametrize(("family", "engine"), ENGINES)
def test_out_may_overlap_the_addresses(family: int, engine: str, shift: int) -> None:
    networks, lengths, hops = random_table(family, 200)
    table = kf.RouteTable.from_arrays(networks, lengths, hops, family=family, engine=engine)
    keys = np.repeat(networks, 4, axis=0)
    want = table.lookup(keys).tolist()
    memory = np.zeros(keys.nbytes + 128, np.uint8)
    place = memory[64 : 64 + keys.nbytes].view(keys.dtype).reshape(keys.shape)
    place[:] = keys
    out = memory[64 + 4 * shift :][: 4 * len(keys)].view(np.uint32)
    assert table.lookup(place, out).tolist() == want


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("top", [0, 2**31])
@pytest.mark.parametrize("depth", [48, 80, 128])
def test_trees_of_ipv6_grow_and_shrink(depth: int, top: int, step: int) -> None:
    """Prefix by prefix through fuller nodes, trees written anew and more levels, in each window, narrow and wide."""
    base, size, count = 0x20010DB8 << 96, 2 ** (128 - depth), 700
    networks = [base + step * i * size for i in range(count)]
    table = kf.RouteTable({(base, 32): 2000}, family=6)
    keys = columns(6, [*networks, *(network + size for network in networks), base - 1])
    prefixes = list(enumerate(networks))
    random.Random(depth).shuffle(prefixes)
    want = np.full(len(keys), 2000, np.uint32)
    want[-1] = MISS
    for changed, (i, network) in enumerate(prefixes):
        table[network, depth] = top + i
        want[i] = top + i
        if step == 1 and i:
            want[count + i - 1] = top + i
        if changed % 50 == 0:
            for variant in isa.available():
                other = kf.RouteTable.from_arrays(*table.to_arrays(), family=6, isa=variant)
                np.testing.assert_array_equal(other.lookup(keys), want)
            np.testing.assert_array_equal(table.lookup(keys), want)
    table[base, 33] = 2001  # over all nodes of the tree at once, where nothing longer holds
    want[want == 2000] = 2001
    np.testing.assert_array_equal(table.lookup(keys), want)
    assert table.longest_match(str(ipaddress.IPv6Address(networks[7])))[1] == top + 7
    for changed, (i, network) in enumerate(prefixes):
        del table[network, depth]
        want[i] = 2001
        if step == 1 and i:
            want[count + i - 1] = 2001
        if changed % 50 == 0:
            np.testing.assert_array_equal(table.lookup(keys), want)


def test_many_different_hops() -> None:
    hops = (np.arange(40_000, dtype=np.uint64) * 100_003 % (2**32 - 1)).astype(np.uint32)
    networks = np.arange(40_000, dtype=np.uint32) << np.uint32(8)
    table = kf.RouteTable.from_arrays(networks, np.full(40_000, 24, np.uint8), hops)
    assert table.engine == "rank"
    np.testing.assert_array_equal(table.lookup(networks + np.uint32(7)), hops)
    with pytest.raises(kf.TableFull, match="24-8"):
        kf.RouteTable.from_arrays(networks, np.full(40_000, 24, np.uint8), hops, engine="24-8")


@pytest.mark.parametrize("engine", ["16-8-8", "24-8"])
def test_a_full_engine_refuses_and_changes_nothing(engine: str) -> None:
    networks = np.arange(32_760, dtype=np.uint32) << np.uint32(8)
    table = kf.RouteTable(engine=engine)
    networks = networks if engine == "24-8" else networks[:1000]
    lengths = np.full(len(networks), 32, np.uint8)
    table.update_many(networks | np.uint32(5), lengths, np.full(len(networks), 3, np.uint32))
    before = table.to_bytes()
    more = (np.arange(40_000, dtype=np.uint32) << np.uint32(8)) | np.uint32(0x40000009)
    with pytest.raises(kf.TableFull):
        table.update_many(more, np.full(len(more), 32, np.uint8), np.full(len(more), 4, np.uint32))
    assert table.to_bytes() == before


@pytest.mark.parametrize("variant", isa.available())
@pytest.mark.parametrize("hop", [7, 1 << 20])
def test_results_that_go_past_the_caches(variant: str, hop: int) -> None:
    """From 2**18 addresses on, IPv6's results are stored around the caches: wherever `out` begins, they are those of
    short calls, and nothing beside `out` changes."""
    count = (1 << 18) + 13
    routes: dict[Prefix, int] = {(0x20010DB8 << 96 | i << 80, 48): hop + i for i in range(1000)}
    routes |= {(0x20010DB8 << 96 | 5 << 80, 128): 3, (0x20010000 << 96, 20): 4}
    table = kf.RouteTable(routes, family=6, isa=variant)
    draw = np.random.default_rng(5)
    keys = draw.integers(0, 256, (count, 16), np.uint8)
    keys[::2, :4] = 0x20, 0x01, 0x0D, 0xB8
    keys[::2, 4] %= 4
    keys[::64] = columns(6, [0x20010DB8 << 96 | 5 << 80])
    want = np.concatenate([table.lookup(keys[i : i + 4000]) for i in range(0, count, 4000)])
    assert len(np.unique(want)) > 900
    room = np.empty(count + 64, np.uint32)
    for first in (*range(17), 40):
        room[:] = 0xAAAA_5555
        table.lookup(keys, room[first : first + count])
        np.testing.assert_array_equal(room[first : first + count], want)
        assert set(room[:first].tolist() + room[first + count :].tolist()) == {0xAAAA_5555}


@pytest.mark.parametrize(("family", "engine"), [(4, "16-8-8"), (4, "24-8"), (4, "rank"), (6, "b+tree")])
def test_readers_see_before_or_after(family: int, engine: str) -> None:
    """A writer adds and removes prefixes and redraws everything; readers may see any of the hops that were right at
    some time, and never a miss: the default route is always there."""
    shift = 0 if family == 4 else 96
    base = 0x0A000000
    table = kf.RouteTable({(0, 0): 1}, family=family, engine=engine)
    addresses = [(base + i * 37) << shift for i in range(3000)]
    keys = np.repeat(
        columns(family, addresses), 50, axis=0
    )  # long calls: memory goes out of use in their midst
    stop, wrong = threading.Event(), []

    def read() -> None:
        out = np.empty(len(keys), np.uint32)
        while not stop.is_set():
            table.lookup(keys, out)
            if out.min() < 1 or out.max() > 4:
                wrong.append((out.min(), out.max()))
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    draw = random.Random(1)
    bits = 32 if family == 4 else 128
    held: dict[Prefix, int] = {}
    for _ in range(600):
        length = draw.choice([8, 16, 20, 22, 24, 26, 30, 32]) + (
            0 if family == 4 else draw.choice([0, 8, 64, 96])
        )
        network = ((base + draw.randrange(3000) * 37) << shift) & ((1 << bits) - (1 << (bits - length)))
        prefix = network, length
        if prefix in held:
            del table[prefix], held[prefix]
        else:
            table[prefix] = held[prefix] = draw.choice([2, 3, 4])
        if draw.random() < 0.05:
            many = np.array([(base + i) & 0xFFFFFFFF for i in range(0, 4000, 8)], np.uint32)
            networks = many if family == 4 else columns(6, [int(value) << 96 for value in many])
            lengths = np.full(len(many), 32, np.uint8)
            table.update_many(networks, lengths, np.full(len(many), 2, np.uint32))
            table.remove_many(networks, lengths)
            for value in many.tolist():
                held.pop((value << shift, 32), None)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(table) == len(held) + 1


@pytest.mark.parametrize(("family", "engine"), [(4, "16-8-8"), (4, "rank"), (6, "b+tree")])
def test_threads_that_share_out_by_mistake(family: int, engine: str) -> None:
    """Their answers are worth nothing, but the pool of next hops is not left."""
    base, shift = (0x0A000000, 0) if family == 4 else (0x20010DB8 << 96, 72)
    routes = {
        (base + (i << shift + 16), 16 if family == 4 else 40): 2**31 + i * 1_000_003 for i in range(256)
    }
    table = kf.RouteTable(routes, family=family, engine=engine)
    keys = columns(family, [base + (i % 256 << shift + 16) for i in range(4000)])
    keys = np.concatenate([keys] * 25)
    out = np.empty(len(keys), np.uint32)
    threads = [
        threading.Thread(target=lambda: [table.lookup(keys, out) for _ in range(100)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(
        table.lookup(keys[:4000]), np.array([*routes.values()] * 16, np.uint32)[:4000]
    )


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles(protocol: int) -> None:
    networks, lengths, hops = random_table(6, 500)
    table = kf.RouteTable.from_arrays(networks, lengths, hops)
    buffers: list[pickle.PickleBuffer] = []
    keep = {"buffer_callback": buffers.append} if protocol == 5 else {}
    data = pickle.dumps(table, protocol=protocol, **keep)
    again = pickle.loads(data, buffers=buffers)
    assert again.items() == table.items()
    assert (protocol == 5) == (len(data) < 1000)
    again["2001:db8::/32"] = 5
    assert "2001:db8::/32" not in table
    assert again.copy().items() == again.items()
