"""Sets of services: the rules that kube-proxy writes, in the running kernel, beside the same services in our node.

The model that `test_service.py` holds our node against is held against the kernel, too: what the kernel does is among
what the model allows, and where that is one thing alone, our node sends the same octets.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import pytest
from frames import fields
from golden_node import GoldenNode
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from models.kubeproxy import KubeProxy, Packet
from strategies import BRIDGE_IP, NODE_IP
from test_service import packets, service_sets, to

import kubenet_fastpath as kf
from kernel.agreement import agree, text
from kernel.namespaces import KernelNode, why_not
from kernel.nodes import recorded
from kernel.proxy_rules import ProxyRules

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

HISTORIES = 40


def node_of() -> tuple[dict[str, Any], str]:
    """The kubenet node with no routes but the usual, in zone z1, without services of its own."""
    node, rules = recorded("kubenet")
    routes = [route for route in node["routes"] if " dev " in route]
    return node | {"routes": routes, "services": [], "hostports": [], "zone": "z1"}, rules


def outcome(frames: list[tuple[str, bytes]], new: Packet) -> tuple[tuple[str, int] | None, bool] | None:
    """Where a packet went and whether its source was changed, by the frame that it became; None: it did not get out."""
    found = [fields(frame) for _, frame in frames if frame[12:14] == b"\x08\x00"]
    passed = [f for f in found if f["proto"] in (6, 17) and f["dst"] != new.src]
    if not passed:
        return None
    to_where = (str(passed[0]["dst"]), int(str(passed[0]["dport"])))
    return (None if to_where == (new.dst, new.dport) else to_where), passed[0]["src"] != new.src


def run(services: list[kf.Service], sent: list[Packet]) -> None:
    """One set of services, and packets to them, through both."""
    node, rules = node_of()
    model = KubeProxy(node["cluster_cidr"], {NODE_IP, BRIDGE_IP}, "10.244.1.0/24", node_ip=NODE_IP, zone="z1")
    model.replace(services)
    written = ProxyRules(model).into("\n".join(line for line in rules.splitlines() if "KUBE-HP-" not in line))
    note(written)
    kernel, mine = KernelNode(node, written), GoldenNode(node)
    try:
        mine.node.set_services(services)
        ports: dict[int, int] = {}
        began = time.monotonic()
        for sport, new in enumerate(sent, 20000):
            model.now = int(10**9 * (time.monotonic() - began))
            model.recent, kept = {name: OrderedDict() for name in model.recent}, model.recent
            known = model.nat(new)  # but for affinity, by which our node may be bound elsewhere
            model.recent = kept
            allowed = model.nat(new)
            port, frame = to(new.src, new.dst, sport, new.dport, 6 if new.proto == "tcp" else 17)
            port = "vnet" if port == "eth0" else port
            out = kernel.inject(port, frame)
            got = mine.inject(port, frame, model.now / 10**6)
            met = outcome(out, new)
            lines = [
                f"{who} {p}: {text(f)}"
                for who, sent_on in (("kernel", out), ("ours", got))
                for p, f in sent_on
            ]
            said = "\n".join([f"{new} at {model.now}: {met} of {allowed}", *lines, repr(mine.node.counters)])
            hairpin = any(o.to and o.to[0] == new.src for o in allowed)  # lost on a promiscuous bridge
            if met is not None and met[0] is not None:
                matching = [o for o in allowed if o.to == met[0] and o.masqueraded == met[1]]
                assert matching, said
                model.took(matching[0], new.src)
            elif met is None and not hairpin:
                assert {o.to for o in allowed} == {None}, said
            if len(known) == 1:
                assert agree(out, got, frame, ports), said
    finally:
        kernel.close()


def test_sets_of_services(pytestconfig: pytest.Config) -> None:
    @settings(
        max_examples=pytestconfig.getoption("--histories") or HISTORIES,
        deadline=None,
        database=None,
        derandomize=pytestconfig.getoption("--hypothesis-seed", None) is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(service_sets(), st.lists(packets, min_size=10, max_size=25))
    def check(services: list[kf.Service], sent: list[Packet]) -> None:
        run(services, sent)

    check()
