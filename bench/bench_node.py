"""What an established flow costs a kubenet node, by path, number of flows and batch size.

    pytest bench/bench_node.py --benchmark-columns=min,median,iqr

CPU time of the one thread that forwards, for machines are shared. 64-byte UDP frames in memory; 65,536 packets a round
in random order over the flows, 32 pods; frames are put back outside the measured part. `ns_per_packet` in the saved
JSON is the median round by the number of packets, `working_set` the bytes of the frames and of the connection table.
"""

from __future__ import annotations

import time

import pytest
from traces import TRACE, Path, Trace


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("batch_size", [256, 65536])
@pytest.mark.parametrize("flows", [1, 1000, 65536])
@pytest.mark.parametrize("path", list(Path), ids=lambda path: path.name.lower())
def test_established(benchmark, path, flows, batch_size):
    trace = Trace.make(path, flows, batch_size)
    trace.check()
    benchmark.group = f"{path.name.lower()}, batches of {batch_size}"
    result = benchmark.pedantic(trace.run, setup=trace.restore, rounds=15, warmup_rounds=2)
    assert (result.reason == path.reason).all()
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info |= {
            "ns_per_packet": round(1e9 * benchmark.stats.stats.median / TRACE, 1),
            "batch_size": batch_size,
            "flows": flows,
            "working_set": trace.working_set,
        }
