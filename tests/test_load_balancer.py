"""The load balancer's ports: whose they are, how many, how long; beside a model that only counts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.load_balancer import FIRST_PORT, SnatPorts, default_ports

SECOND = 10**9
TCP, UDP = 6, 17
FEW = kf.LoadBalancer(addresses=("20.0.0.1",), outbound_ports=8, idle_timeout_s=240)
FLOWS = st.tuples(
    st.sampled_from([TCP, UDP]),
    st.just(0x0AE00004),
    st.integers(1, 14),
    st.sampled_from([1, 2]),
    st.sampled_from([53, 80]),
)


def far_end(flow: tuple[int, ...]) -> tuple[int, ...]:
    """TCP shares a port between far ends of address and port, UDP of address."""
    return (flow[0], flow[3], flow[4] if flow[0] == TCP else 0)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 1), FLOWS, st.sampled_from([0, 1, 120, 239, 240, 241])), max_size=60)
)
def test_ports_beside_a_model(steps: list[tuple[int, tuple[int, int, int, int, int], int]]) -> None:
    snat = SnatPorts(FEW, 2)
    last: dict[tuple, int] = {}  # node, flow -> time of its latest packet
    where: dict[tuple, tuple[int, int]] = {}
    now = 0
    for node, (proto, src, sport, dst, dport), wait in steps:
        now += wait * SECOND
        flow = (proto, src + node, sport, dst, dport)
        alive = {key for key, time in last.items() if now < time + 240 * SECOND}
        rivals = {where[key] for key in alive if key[0] == node and far_end(key[1]) == far_end(flow)}
        got = snat.translate(node, flow, now)
        if (node, flow) in alive:
            assert got == where[node, flow]
        elif len(rivals) == 8:
            assert got is None
            continue
        else:
            assert got is not None
            assert got not in rivals
            assert FIRST_PORT + 8 * node <= got[1] < FIRST_PORT + 8 * node + 8
        assert got is not None
        last[node, flow], where[node, flow] = now, got
        assert snat.answer((proto, dst, dport, *got), now) == (node, src + node, sport)


def test_an_answer_that_nobody_asked_for() -> None:
    snat = SnatPorts(FEW, 1)
    address, port = snat.translate(0, (TCP, 1, 1000, 2, 80), 0) or (0, 0)
    assert snat.answer((TCP, 2, 81, address, port), 0) is None
    assert snat.answer((TCP, 3, 80, address, port), 0) is None
    assert snat.answer((TCP, 2, 80, address, port), 240 * SECOND) is None


def test_exhaustion_is_counted() -> None:
    snat = SnatPorts(FEW, 1)
    got = [snat.translate(0, (UDP, 1, 1000 + k, 2, 53), 0) for k in range(9)]
    assert got.count(None) == 1
    assert (snat.exhausted, snat.peak, snat.used(0)) == (1, [8], 8)


@pytest.mark.parametrize(
    ("nodes", "ports"),
    [
        (1, 1024),
        (50, 1024),
        (51, 512),
        (100, 512),
        (101, 256),
        (200, 256),
        (201, 128),
        (400, 128),
        (401, 64),
        (800, 64),
        (801, 32),
        (1000, 32),
    ],
)
def test_the_default_goes_by_the_size_of_the_pool(nodes: int, ports: int) -> None:
    assert default_ports(nodes) == ports


@pytest.mark.parametrize(
    "fields",
    [
        {"addresses": ()},
        {"outbound_ports": 9},
        {"idle_timeout_s": 239},
        {"idle_timeout_s": 7201},
        {"outbound_ports": -8},
    ],
)
def test_what_it_refuses(fields: dict) -> None:
    with pytest.raises(kf.ConfigError):
        kf.LoadBalancer(**({"addresses": ("20.0.0.1",)} | fields))


def test_addresses_have_so_many_ports() -> None:
    balancer = kf.LoadBalancer(addresses=("20.0.0.1",), outbound_ports=6400)
    assert balancer.ports_of_a_node(10) == 6400
    with pytest.raises(kf.ConfigError, match="10 nodes at most"):
        balancer.ports_of_a_node(11)
    with pytest.raises(kf.ConfigError, match="no default"):
        default_ports(1001)
