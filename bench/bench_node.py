"""What a packet costs a kubenet node, by class, number of flows and batch size; of established flows and new ones.

    pytest bench/bench_node.py --benchmark-columns=min,median,iqr

CPU time of the one thread that forwards, for machines are shared. 64-byte UDP frames in memory; 65,536 packets a round
in random order over the flows, 32 pods; frames are put back outside the measured part. `ns_per_packet` in the saved
JSON is the median round by the number of packets, `working_set` the bytes of the frames and of the connection table.
"""

from __future__ import annotations

import time

import pytest

from .traces import BATCHES, Flows, NewFlows, Path


def measure(benchmark, thing, **known):
    thing.check()
    result = benchmark.pedantic(thing.run, setup=thing.restore, rounds=15, warmup_rounds=2)
    assert (result.out_port >= 0).all()
    if benchmark.stats is not None:  # None under --benchmark-disable
        ns = 1e9 * benchmark.stats.stats.median / thing.packets
        benchmark.extra_info |= {"ns_per_packet": round(ns, 1)} | known


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("flows", [1, 1000, 65536])
@pytest.mark.parametrize("reply", [False, True], ids=["out", "reply"])
@pytest.mark.parametrize("path", list(Path), ids=lambda path: path.name.lower())
def test_established(benchmark, path, reply, flows, batch_size):
    trace = Flows.make(path, flows).trace(batch_size, reply=reply)
    benchmark.group = f"{path.name.lower()}, batches of {batch_size}"
    measure(benchmark, trace, batch_size=batch_size, flows=flows, working_set=trace.working_set)


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("path", list(Path), ids=lambda path: path.name.lower())
def test_new(benchmark, path):
    benchmark.group = "first packets, batches of 256"
    measure(benchmark, NewFlows(Flows.make(path, 1000), 256, 1 << 14), batch_size=256, flows=1000)
