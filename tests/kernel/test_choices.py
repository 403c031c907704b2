"""The seed for what the kernel drew makes a node draw it: an endpoint, and a port from a random place."""

from __future__ import annotations

import numpy as np
from frames import SYN, TCP, ipv4, packet, tcp
from golden_node import GoldenNode
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.choices import flow_of, seed_for
from kernel.nodes import node_of

NODE = node_of("kubenet", random_fully=True)


def first_to(node: GoldenNode, src: dict[str, str], dst: str, dport: int) -> bytes:
    """What becomes of a connection's first packet from a pod."""
    l3 = ipv4(src["ip"], dst, TCP, tcp(40000, dport, SYN))
    return node.inject(src["port"], packet(NODE["cbr0"]["mac"], src["mac"], l3), 0.0)[0][
        1
    ]  # flooded, perhaps


@settings(max_examples=25)
@given(st.integers(0, 2), st.integers(1024, 65535), st.integers(0, 2**32 - 1))
def test_the_node_draws_what_was_asked_for(which: int, port: int, rng: int) -> None:
    seed = seed_for(which, 3, port - 1024, np.random.default_rng(rng))
    three = next(service for service in NODE["services"] if service["name"] == "d/three")
    sender = NODE["pods"][3]

    node = GoldenNode(NODE)
    node.node.reseed(seed)
    made = flow_of(first_to(node, sender, three["ip"], 80))
    assert made is not None
    assert f"{made.dst}:{made.dport}" == three["eps"][which]

    node = GoldenNode(NODE)
    node.node.reseed(seed)
    made = flow_of(first_to(node, sender, "198.51.100.7", 443))
    assert made is not None
    assert made.sport == port

    node = GoldenNode(NODE)  # both draws, one after the other
    node.node.reseed(seed)
    client = ipv4("198.51.100.7", three["external_ips"][0], TCP, tcp(40000, 80, SYN))
    frame = node.inject("vnet", packet(NODE["eth0"]["mac"], "12:34:56:78:9a:bc", client), 0.0)[0][1]
    made = flow_of(frame)
    assert made is not None
    assert (f"{made.dst}:{made.dport}", made.sport) == (three["eps"][which], port)
