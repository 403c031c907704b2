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

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from kernel.histories import Step, Wait, histories
from kernel.namespaces import why_not
from kernel.nodes import MODES, node_of
from kernel.pair import run

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

TRIES = 4  # of a history with timers; a difference is there each time
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


@pytest.mark.parametrize("mode", MODES)
def test_histories(
    mode: str, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    histories_run = itertools.count()
    compared, unrepeated = 0, list[str]()

    def count(n: int) -> None:
        nonlocal compared
        compared += n

    @settings(
        max_examples=pytestconfig.getoption("--histories") or 8,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        derandomize=pytestconfig.getoption("--hypothesis-seed", None) is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,) if pytestconfig.getoption("--no-shrink") else (Phase.generate, Phase.shrink),
    )
    @given(variant=variants, history=histories)
    def check(variant: dict[str, Any], history: list[Step]) -> None:
        next(histories_run)
        settled, prompt = _settled(variant), variant["arp"] == "prompt"
        timed = variant["quick"] or variant["arp"] != "known" or any(isinstance(s, Wait) for s in history)
        for left in reversed(range(TRIES if timed else 1)):
            try:
                run(node_of(mode, **settled), history, count, prompt=prompt)
                return
            except AssertionError as error:
                if left == 0:
                    raise
                note("once more")
                unrepeated.append(str(error))

    try:
        check()
    finally:
        record_property("histories", (next(histories_run), compared, unrepeated))
