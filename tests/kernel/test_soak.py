"""Random histories of frames through this project's node and through the running kernel's, side by side.

    pytest tests/kernel --histories 1000 --hypothesis-seed 1

Each history has a node of its own in fresh network namespaces. After every frame all ports' output must agree byte for
byte; at the end, the connections (state, status, tuples, packets, bytes, time-outs) and the bridge's forwarding
database. What the kernel drew at random (a service's endpoint, a port) is read from its output, and our node draws the
same; the IP id of packets that a node makes itself may differ.

A history whose node has timers within reach is run again if it fails: a difference that does not come back each time
was a deadline which two clocks saw on different sides. How many runs these were is said at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from kernel.histories import CHANGES, Change, Step, Wait, histories
from kernel.namespaces import why_not
from kernel.nodes import MODES, node_of
from kernel.pair import run
from kernel.trial import hold

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

ALL = "net.ipv4.conf.all."
CONNTRACK = "net.netfilter.nf_conntrack_"
sysctls = st.fixed_dictionaries(
    {},
    optional={
        f"{ALL}rp_filter": st.sampled_from([2, 1, 0]),
        f"{ALL}send_redirects": st.sampled_from([1, 0]),
        f"{CONNTRACK}tcp_be_liberal": st.sampled_from([0, 1]),
        f"{CONNTRACK}tcp_loose": st.sampled_from([1, 0]),
        f"{CONNTRACK}checksum": st.sampled_from([1, 0]),
        "net.ipv4.icmp_ratelimit": st.sampled_from([0, 1000]),
    },
)
variants = st.fixed_dictionaries(
    {
        "port_mapper": st.sampled_from(["portmap", "portmap", "kubelet"]),
        "random_fully": st.booleans(),
        "hairpin": st.sampled_from(["promisc", "promisc", "promisc", "veth", "none"]),
        "masq": st.sampled_from(["agent", "agent", "agent", "kubenet", "none"]),
        "bridge_nf": st.sampled_from([1, 1, 1, 1, 0]),
        "quick": st.booleans(),
        "arp": st.sampled_from(["known", "known", "known", "prompt", "asked", "asked"]),
        "sysctls": sysctls,
    }
)


def _settled(variant: dict[str, Any]) -> dict[str, Any]:
    """`default` and `all` of a sysctl as one."""
    given = dict(variant["sysctls"])
    for name in ("rp_filter", "send_redirects"):
        if f"{ALL}{name}" in given:
            given[f"net.ipv4.conf.default.{name}"] = given[f"{ALL}{name}"]
    return variant | {"sysctls": given}


def _tries(variant: dict[str, Any], history: list[Step]) -> int:
    """A difference of a node whose timers run is one if it is there each time."""
    waits = any(
        isinstance(s, Wait) or (isinstance(s, Change) and CHANGES[s.which][0] == "flap") for s in history
    )
    return 4 if variant["quick"] or variant["arp"] != "known" or waits else 1


@pytest.mark.parametrize("mode", MODES)
def test_histories(
    mode: str, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    def both(variant: dict[str, Any], history: list[Step], count: Callable[[int], None]) -> None:
        run(node_of(mode, **_settled(variant)), history, count, prompt=variant["arp"] == "prompt")

    hold(both, _tries, variants, histories, pytestconfig, record_property)
