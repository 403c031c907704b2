"""Random histories of IPv6 frames, with some of IPv4 between, through a dual-stack node of each kind.

    pytest tests/kernel/test_dual_stack.py --histories 300 --hypothesis-seed 1

As test_soak.py: all ports octet by octet after each frame, in the end both families' connections and the FDB.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from golden_node import service_of
from hypothesis import note
from hypothesis import strategies as st

from kernel.agreement import connections, ours
from kernel.choices import Choices
from kernel.histories import Scale, Step, Wait
from kernel.histories6 import Six, World6, both, slowly
from kernel.namespaces import why_not
from kernel.nodes import dual_stack, node_of, six_view
from kernel.pair import Pair
from kernel.rules import restore, stale
from kernel.trial import hold

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

SLOW = {"net.netfilter.nf_conntrack_frag6_timeout": 1, "net.ipv4.ipfrag_time": 1}
TRIES = 3  # of a history; a difference is there each time
_numbers = itertools.count(1)
variants = st.fixed_dictionaries(
    {
        "port_mapper": st.sampled_from(["portmap", "portmap", "kubelet"]),
        "random_fully": st.booleans(),
        "hairpin": st.sampled_from(["promisc", "promisc", "promisc", "veth", "none"]),
        "bridge_nf": st.sampled_from([True, True, False]),
    }
)


class DualPair(Pair):
    """A dual-stack node of the kernel's and one of ours."""

    def __init__(self, node: dict[str, Any], count: Callable[[int], None]) -> None:
        self.view = six_view(node)
        node["six"]["rules"] = restore(self.view)
        super().__init__(node, count)
        self.timed = True  # somebody may be asked for
        self.worlds6 = tuple(World6(node, world) for world in self.worlds)
        self.choices6 = Choices(self.view, 2)
        self.choices6.mtus = self.choices.mtus  # the links are the same

    def scale6(self, step: Scale) -> None:
        original = self.view["services"][step.service % len(self.view["services"])]
        before = self.choices6.services
        after = [service for service in before if service["name"] != original["name"]]
        if step.kept is not None:
            kept = [e for e, keep in zip(original["eps"], step.kept, strict=False) if keep]
            after.append(original | {"eps": kept})
        self.kernel.run("ip6tables-restore", given=restore(self.view | {"services": after}))
        for options in stale(before, after):
            self.kernel.end("-f", "ipv6", *options)
        self.choices6.change(after)
        self._publish_services()

    def _publish_services(self) -> None:
        self.mine.node.set_services(map(service_of, [*self.choices.services, *self.choices6.services]))

    def seed(self, frame: bytes, out: list[tuple[str, bytes]]) -> int | None:
        choices = self.choices6 if frame[12:14] == b"\x86\xdd" else self.choices
        return choices.seed(frame, out, self.kernel)

    def step6(self, six: Six) -> None:
        if isinstance(six.step, Scale):
            note(str(six))
            self.scale6(six.step)
        number = next(_numbers) & 0xFFFF or 1
        rendered = [world.render6(six, number) for world in self.worlds6]
        for (port, theirs), (_, own) in zip(*rendered, strict=True):
            self.inject(six.step, port, theirs, own)

    def check(self) -> None:
        super().check()
        have, want = ours(self.mine.conntrack(6)), connections(self.kernel.conntrack(6))
        assert have == want, f"IPv6 connections: ours {have}\nkernel {want}"


def run(mode: str, variant: dict[str, Any], history: list[Six | Step], count: Callable[[int], None]) -> None:
    """One history through both."""
    own = dict(variant)
    bridge_nf, slow = own.pop("bridge_nf"), any(isinstance(step, Wait) for step in history)
    pair = DualPair(
        dual_stack(node_of(mode, **own, sysctls=SLOW if slow else {}), bridge_nf=bridge_nf), count
    )
    pair.timed |= slow
    try:
        for step in history:
            if isinstance(step, Six):
                pair.step6(step)
            else:
                pair.step(step)
        pair.check()
    finally:
        pair.kernel.close()


@pytest.mark.parametrize("mode", ["kubenet", "overlay"])
def test_dual_stack(
    mode: str, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    def both_nodes(variant: dict[str, Any], history: list[Six | Step], count: Callable[[int], None]) -> None:
        run(mode, variant, history, count)

    drawn = st.one_of(both, both, both, slowly)
    hold(both_nodes, lambda *_: TRIES, variants, drawn, pytestconfig, record_property)
