"""The running kernel's node in network namespaces, as the tests build it, with the benchmark's services."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .absent import Absent

TESTS = Path(__file__).resolve().parents[1] / "tests"
if TESTS.is_dir():
    sys.path.insert(0, str(TESTS))
    from golden_node import GoldenNode
    from kernel import rules
    from kernel.namespaces import UPLINK, KernelNode, enter, why_not
    from kernel.nodes import node_of
else:  # bench without the clone around it
    raise ImportError("the kernel's node is built by tests/kernel of the clone, which is not there")

__all__ = ["UPLINK", "VARIANTS", "GoldenNode", "KernelNode", "describe", "enter", "make", "ready"]

#: Nodes by name: the mode, and what is switched off in it.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "kubenet": ("kubenet", ()),
    "node-subnet": ("azcni", ()),
    "pod-subnet": ("podsubnet", ()),
    "overlay": ("overlay", ()),
    "kubenet, no br_netfilter": ("kubenet", ("br_netfilter",)),
    "kubenet, nor ebtables": ("kubenet", ("br_netfilter", "ebtables")),
    "kubenet, nor promiscuous": ("kubenet", ("br_netfilter", "ebtables", "promiscuous")),
}


def ready() -> None:
    """Raise `Absent` where the kernel's node cannot run."""
    missing = why_not()
    if missing:
        raise Absent(f"Linux: {missing}")


def describe(variant: str) -> dict[str, Any]:
    """A node as the golden cases describe it, with four pods and the three services of `traffic`."""
    mode, off = VARIANTS[variant]
    node = node_of(mode, hairpin="none" if "promiscuous" in off else None)
    here, far = f"{node['pods'][1]['ip']}:53", f"{node['far']}:53"
    where = {
        "far": ("10.0.0.10", far, {}),
        "near": ("10.0.0.20", here, {}),
        "door": ("10.0.0.30", here, {"nodeport": 30053}),
    }
    node["services"] = [
        {"name": f"bench/{name}", "ip": ip, "proto": "udp", "port": 53, "eps": [endpoint]} | more
        for name, (ip, endpoint, more) in where.items()
    ]
    node["hostports"] = []
    if "ebtables" in off:
        node["ebtables_dedup"] = False
    if "br_netfilter" in off:
        node["sysctls"] = node["sysctls"] | {"net.bridge.bridge-nf-call-iptables": 0}
    return node


def make(variant: str) -> tuple[dict[str, Any], KernelNode, GoldenNode]:
    """A variant's description, the kernel's node and ours."""
    node = describe(variant)
    return node, KernelNode(node, rules.restore(node)), GoldenNode(node)
