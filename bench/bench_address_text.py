"""Address texts a second: `parse_addresses` and `lookup_text` beside what Python users have today.

    pytest bench/bench_address_text.py

Columns of numpy's `S`, 262,144 random addresses of full length; peers that go text by text take 4,096 of them. Each
figure's `extra_info` has millions of texts a second. CPU time of the one thread.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kubenet_fastpath as kf
from kubenet_fastpath import isa
from kubenet_fastpath.address_text import address_texts, parse_addresses

pytestmark = pytest.mark.benchmark(timer=time.thread_time)
COUNT, FEW = 1 << 18, 1 << 12


def column(family: int) -> tuple[Any, Any]:
    """Addresses, and their texts."""
    draw = np.random.default_rng([2028, family])
    shape = COUNT if family == 4 else (COUNT, 16)
    octets = draw.integers(0, 1 << (32 if family == 4 else 8), shape, np.uint64)
    addresses = octets.astype(np.uint32 if family == 4 else np.uint8)
    return addresses, address_texts(addresses)


def by_ipaddress(texts: list[str], family: int) -> Any:
    read = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    return [int(read(text)) for text in texts]


def by_inet_pton(texts: list[str], family: int) -> Any:
    number = socket.AF_INET if family == 4 else socket.AF_INET6
    return [int.from_bytes(socket.inet_pton(number, text), "big") for text in texts]


def by_numpy(texts: Any) -> Any:
    """Split and multiply, as one would without a parser; it checks nothing."""
    parts = np.char.partition(texts, b".")
    value = np.zeros(len(texts), np.uint32)
    for _ in range(3):
        value = value << np.uint32(8) | parts[:, 0].astype(np.uint32)
        parts = np.char.partition(parts[:, 2], b".")
    return value << np.uint32(8) | parts[:, 0].astype(np.uint32)


def run(benchmark: Any, act: Callable[[], Any], count: int) -> Any:
    benchmark.group = "address texts"
    result = benchmark.pedantic(act, rounds=15, warmup_rounds=2)
    if benchmark.stats is not None:  # None under --benchmark-disable
        median = benchmark.stats.stats.median
        benchmark.extra_info |= {
            "ns_per_key": round(1e9 * median / count, 2),
            "million_per_s": round(count / median / 1e6, 2),
            "batch_size": count,
        }
    return result


@pytest.mark.parametrize("variant", isa.available())
@pytest.mark.parametrize("family", [4, 6])
def test_parse(benchmark: Any, family: int, variant: str) -> None:
    addresses, texts = column(family)
    parsed, ok = run(benchmark, lambda: parse_addresses(texts, family, isa=variant), COUNT)
    assert ok.all()
    np.testing.assert_array_equal(parsed, addresses)


@pytest.mark.parametrize("family", [4, 6])
def test_lookup_text(benchmark: Any, family: int) -> None:
    addresses, texts = column(family)
    half = {4: "0.0.0.0/1", 6: "::/1"}[family]
    table = kf.RouteTable({half: 1}, family=family)
    out = np.empty(COUNT, np.uint32)
    hops, ok = run(benchmark, lambda: table.lookup_text(texts, out), COUNT)
    assert ok.all()
    np.testing.assert_array_equal(hops, table.lookup(addresses))


@pytest.mark.parametrize("family", [4, 6])
def test_write(benchmark: Any, family: int) -> None:
    addresses, texts = column(family)
    np.testing.assert_array_equal(run(benchmark, lambda: address_texts(addresses), COUNT), texts)


@pytest.mark.parametrize("peer", [by_ipaddress, by_inet_pton])
@pytest.mark.parametrize("family", [4, 6])
def test_peers(benchmark: Any, family: int, peer: Callable[[list[str], int], Any]) -> None:
    addresses, texts = column(family)
    few = [text.decode() for text in texts[:FEW].tolist()]
    numbers = run(benchmark, lambda: peer(few, family), FEW)
    want = (
        addresses[:FEW].tolist()
        if family == 4
        else [int.from_bytes(row.tobytes(), "big") for row in addresses[:FEW]]
    )
    assert numbers == want


def test_numpy(benchmark: Any) -> None:
    addresses, texts = column(4)
    np.testing.assert_array_equal(run(benchmark, lambda: by_numpy(texts[:FEW]), FEW), addresses[:FEW])
