"""Random histories of frames through this project's node and through the running kernel's, side by side.

    pytest tests/kernel --histories 1000 --hypothesis-seed 1

Each history has a node of its own in fresh network namespaces. After every frame all ports' output must agree byte for
byte; at the end, the connections (state, status, tuples, packets, bytes) and the bridge's forwarding database. What the
kernel drew at random (a service's endpoint, a port) is read from its output, and our node draws the same; the IP id of
packets that a node makes itself may differ.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from golden_node import GoldenNode, service_of
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from kernel.agreement import Frames, agree, by_port, connections, ours, text, told
from kernel.choices import Choices
from kernel.histories import Scale, Step, World, histories
from kernel.namespaces import KernelNode, why_not
from kernel.nodes import MODES, node_of
from kernel.rules import restore, stale

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

LATE_S = 0.1

_numbers = itertools.count(1)
variants = st.fixed_dictionaries(
    {
        "port_mapper": st.sampled_from(["portmap", "portmap", "kubelet"]),
        "random_fully": st.booleans(),
        "hairpin": st.sampled_from(["promisc", "promisc", "promisc", "veth", "none"]),
    }
)


class Pair:
    """A node of the kernel's and one of ours, and what each has seen."""

    def __init__(self, node: dict[str, Any], count: Callable[[int], None]) -> None:
        self.node, self.count = node, count
        self.kernel = KernelNode(node, restore(node))
        self.mine = GoldenNode(node)
        self.worlds = World(node), World(node)
        self.choices = Choices(node, 1)
        self.redirected: set[bytes | None] = set()
        self.began = time.monotonic()

    def _heard(self, frames: Frames) -> Frames:
        """Without further redirects to whom one was sent: they hang on ticks of 20 ms."""
        return [(port, frame) for port, frame in frames if told(frame) not in self.redirected]

    def scale(self, step: Scale) -> None:
        """Change a service's endpoints, as kube-proxy does it and as `Node.set_services` does."""
        original = self.node["services"][step.service % len(self.node["services"])]
        before = self.choices.services
        after = [service for service in before if service["name"] != original["name"]]
        if step.kept is not None:
            kept = [e for e, keep in zip(original["eps"], step.kept, strict=False) if keep]
            after.append(original | {"eps": kept})
        self.kernel.restore(restore(self.node | {"services": after}))
        for options in stale(before, after):
            self.kernel.end(*options)
        self.mine.node.set_services(map(service_of, after))
        self.choices.services = after

    def seed(self, frame: bytes, out: Frames) -> int | None:
        """What our node has to begin its draws with, None: whatever."""
        return self.choices.seed(frame, out, self.kernel)

    def inject(self, step: Step, port: str, theirs: bytes, own: bytes) -> None:
        note(f"{step}\n  into {port}: {text(theirs)}")
        self.count(1)
        passed = 1000 * (time.monotonic() - self.began)
        out = self._heard(self.kernel.inject(port, theirs))
        seed = self.seed(theirs, out)
        if seed is not None:
            self.mine.node.reseed(seed)
        got = self._heard(self.mine.inject(port, own, passed))
        for world, frame in zip(self.worlds, (theirs, own), strict=True):
            world.sent.append((port, frame))
        if not agree(out, got, theirs):
            time.sleep(LATE_S)  # on a busy machine another thread may have the rest in hand
            out += self._heard(self.kernel.collect())
        if not agree(out, got, theirs):
            lines = [
                f"{who} {p}: {text(f)}"
                for who, frames in (("kernel", out), ("ours  ", got))
                for p, f in frames
            ]
            raise AssertionError("\n".join([f"after {step} into {port}:", text(theirs), *lines]))
        self.redirected |= {told(frame) for _, frame in out} - {None}
        want, have = by_port(out), by_port(got)
        for p in want:
            self.worlds[0].seen += [(p, frame) for frame in want[p]]
            self.worlds[1].seen += [(p, frame) for frame in have[p]]

    def step(self, step: Step) -> None:
        if isinstance(step, Scale):
            note(str(step))
            self.scale(step)
        number = next(_numbers) & 0xFFFF or 1
        rendered = [world.render(step, number) for world in self.worlds]
        for (port, theirs), (_, own) in zip(*rendered, strict=True):
            self.inject(step, port, theirs, own)

    def check(self) -> None:
        """Compare what the tables hold."""
        have, want = ours(self.mine.conntrack()), connections(self.kernel.conntrack())
        assert have == want, f"connections: ours {have}\nkernel {want}"
        if self.node["mode"] == "kubenet":
            have, want = self.mine.fdb(), self.kernel.fdb()
            assert have == want, f"FDB: ours {have}\nkernel {want}"


def run(mode: str, variant: dict[str, Any], history: list[Step], count: Callable[[int], None]) -> None:
    """One history through both."""
    pair = Pair(node_of(mode, **variant), count)
    try:
        for step in history:
            pair.step(step)
        pair.check()
    finally:
        pair.kernel.close()


@pytest.mark.parametrize("mode", MODES)
def test_histories(
    mode: str, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    frames = itertools.count()
    compared = 0

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
        next(frames)
        run(mode, variant, history, count)

    try:
        check()
    finally:
        record_property("histories", (next(frames), compared))
