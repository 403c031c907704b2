"""What a connection through a service costs, by number of services: its first packet, and the ones behind it.

    pytest bench/bench_service.py --benchmark-columns=min,median,iqr

`test_many_beside_few` times rounds with 10 and with 10,000 services by turns and saves the median of their ratios as
`ratio`, which a busy machine moves less than two medians apart.

As in bench_node.py: CPU time of the one thread that forwards, 65,536 packets a round, 32 pods. Each packet is of a
connection of its own, to cluster IPs in random order; endpoints are on another node. `ns_per_packet` in the saved JSON.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np
import pytest
from numpy.typing import NDArray

import kubenet_fastpath as kf

from .traces import BRIDGE_MAC, PODS, TRACE, frame, make_node

ENDPOINTS = 3


def make_services(n: int) -> list[kf.Service]:
    """Services at consecutive addresses, UDP port 53, endpoints on another node."""
    return [
        kf.Service(
            name=f"d/s{i}",
            cluster_ip=str(IPv4Address("10.1.0.1") + i),
            ports=(
                kf.ServicePort(
                    port=53,
                    protocol="udp",
                    endpoints=tuple(f"10.244.2.{2 + (i + k) % 200}:5353" for k in range(ENDPOINTS)),
                ),
            ),
        )
        for i in range(n)
    ]


def make_batch(ports: list[kf.Port], services: int) -> kf.PacketBatch:
    """First packets of as many connections."""
    order = np.random.default_rng(2028).integers(0, services, TRACE).tolist()
    frames, ingress = [], []
    for i, chosen in enumerate(order):
        pod = ports[i % PODS].pod
        assert pod is not None
        vip = str(IPv4Address("10.1.0.1") + chosen)
        frames.append(frame(BRIDGE_MAC, str(pod.mac), str(pod.ip), vip, 1024 + i // PODS, 53))
        ingress.append(ports[i % PODS].index)
    return kf.PacketBatch.from_frames(frames, np.array(ingress, np.uint16))


@dataclass
class First:
    """First packets, again and again."""

    node: kf.Node
    batch: kf.PacketBatch
    original: NDArray[np.uint8]
    now: int = 10**9

    @classmethod
    def make(cls, services: int) -> First:
        node, ports = make_node()
        node.set_services(make_services(services))
        batch = make_batch(ports, services)
        return cls(node, batch, batch.data.copy())

    def restore(self, forget: bool = True) -> None:
        self.batch.data[:] = self.original
        self.now += 10**6
        self.batch.time[:] = self.now
        if forget:
            self.node.connections.flush()

    def run(self) -> kf.Result:
        return self.node.forward(self.batch)


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("new", [True, False], ids=["first_packet", "established"])
@pytest.mark.parametrize("services", [10, 10_000])
def test_service(benchmark, services, new):
    first = First.make(services)
    first.run()
    benchmark.group = f"{'first packet' if new else 'established'}"
    result = benchmark.pedantic(
        first.run, setup=lambda: first.restore(forget=new), rounds=15, warmup_rounds=2
    )
    assert (result.reason == kf.Reason.SERVICE).all()
    assert len(first.node.connections) == TRACE
    if benchmark.stats is not None:  # None under --benchmark-disable
        ns = 1e9 * benchmark.stats.stats.median / TRACE
        benchmark.extra_info |= {"ns_per_packet": round(ns, 1), "services": services}


@pytest.mark.benchmark(timer=time.thread_time)
def test_many_beside_few(benchmark):
    few, many = (First.make(services) for services in (10, 10_000))
    spent: list[float] = []

    def restore() -> None:
        few.restore()
        begin = time.thread_time()
        few.run()
        spent.append(time.thread_time() - begin)
        many.restore()

    benchmark.group = "first packet"
    benchmark.pedantic(many.run, setup=restore, rounds=60, warmup_rounds=2)
    if benchmark.stats is not None:
        ratios = np.array(benchmark.stats.stats.data) / spent[-len(benchmark.stats.stats.data) :]
        ns = 1e9 * benchmark.stats.stats.median / TRACE
        benchmark.extra_info |= {"ns_per_packet": round(ns, 1), "ratio": round(float(np.median(ratios)), 3)}
        print(f"first packet, 10,000 services beside 10: {np.median(ratios):.3f} times")


@pytest.mark.benchmark(timer=time.thread_time)
def test_update(benchmark):
    node, _ = make_node()
    services = make_services(10_000)
    benchmark.pedantic(node.set_services, (services,), rounds=5, warmup_rounds=1)
    assert len(node.services) == 10_000
