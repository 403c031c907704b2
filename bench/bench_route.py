"""What a lookup in RouteTable costs, by table, pattern of addresses and call size; `route.py` sets it beside others.

    pytest bench/bench_route.py --benchmark-columns=min,median,iqr

CPU time of the one thread; 1,048,576 addresses a round into a given array. `ns_per_key` in the saved JSON is the
median round by the number of addresses, `working_set` the bytes of the lookup arrays.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest

import kubenet_fastpath as kf

from .route_keys import KEYS, PATTERNS, make_keys
from .route_peers import flatten, sortable
from .route_tables import Routes, full_routes, node_routes

CHECKED = 1 << 14  # addresses whose next hops are compared with a search over the table as ranges


@cache
def table_of(size: str, family: int) -> tuple[Routes, kf.RouteTable]:
    routes = full_routes(family) if size == "full" else node_routes(family)
    return routes, kf.RouteTable.from_arrays(routes.networks, routes.prefix_lens, routes.hops)


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("batch_size", [256, KEYS])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", ["full", "node"])
def test_lookup(benchmark, size, family, pattern, batch_size):
    routes, table = table_of(size, family)
    keys = make_keys(routes, pattern)
    out = np.empty(KEYS, np.uint32)
    parts = [(keys[i : i + batch_size], out[i : i + batch_size]) for i in range(0, KEYS, batch_size)]

    def run() -> None:
        for part, place in parts:
            table.lookup(part, place)

    benchmark.group = f"IPv{family}, {size} table, calls of {batch_size}"
    benchmark.pedantic(run, rounds=11, warmup_rounds=1)
    first, hops = flatten(routes)
    row = np.searchsorted(first, sortable(keys[:CHECKED]), side="right") - 1
    assert (out[:CHECKED] == hops[row]).all()
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info |= {
            "ns_per_key": round(1e9 * benchmark.stats.stats.median / KEYS, 2),
            "batch_size": batch_size,
            "routes": len(routes),
            "engine": table.engine,
            "isa": table.isa,
            "working_set": table.nbytes,
        }
