"""What a connection through a service costs, by number of services: its first packet, and the ones behind it.

    pytest bench/bench_service.py --benchmark-columns=min,median,iqr

As in bench_node.py: CPU time of the one thread that forwards, 65,536 packets a round, 32 pods. Each packet is of a
connection of its own, to cluster IPs in random order; endpoints are on another node. `ns_per_packet` in the saved JSON.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import numpy as np
import pytest
from traces import BRIDGE_MAC, PODS, TRACE, frame, make_node

import kubenet_fastpath as kf

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


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize("new", [True, False], ids=["first_packet", "established"])
@pytest.mark.parametrize("services", [10, 10_000])
def test_service(benchmark, services, new):
    node, ports = make_node()
    node.set_services(make_services(services))
    batch = make_batch(ports, services)
    original, now = batch.data.copy(), [10**9]
    node.forward(batch)

    def restore() -> None:
        batch.data[:] = original
        now[0] += 10**6
        batch.time[:] = now[0]
        if new:
            node.connections.flush()

    benchmark.group = f"{'first packet' if new else 'established'}"
    result = benchmark.pedantic(lambda: node.forward(batch), setup=restore, rounds=15, warmup_rounds=2)
    assert (result.reason == kf.Reason.SERVICE).all()
    assert len(node.connections) == TRACE
    if benchmark.stats is not None:  # None under --benchmark-disable
        ns = 1e9 * benchmark.stats.stats.median / TRACE
        benchmark.extra_info |= {"ns_per_packet": round(ns, 1), "services": services}


@pytest.mark.benchmark(timer=time.thread_time)
def test_update(benchmark):
    node, _ = make_node()
    services = make_services(10_000)
    benchmark.pedantic(node.set_services, (services,), rounds=5, warmup_rounds=1)
    assert len(node.services) == 10_000
