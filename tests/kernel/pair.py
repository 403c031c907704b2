"""A node of the kernel's and one of ours, driven by one history and compared after every step.

The kernel has the wall's clock, so ours gets its time from there, too: the one place where tests read a clock. What may
be late is looked for again, for `LATE_S`; what it is then has to be the same.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from golden_node import GoldenNode, service_of
from hypothesis import note

from kernel.agreement import (
    Frames,
    agree,
    by_port,
    connections,
    made_by_timers,
    our_timeouts,
    ours,
    text,
    timeouts,
    told,
    untagged,
)
from kernel.choices import Choices
from kernel.histories import CHANGES, Change, Scale, Step, Wait
from kernel.namespaces import KernelNode
from kernel.rules import restore, stale
from kernel.world import World

LATE_S = 0.25
_numbers = itertools.count(1)


class Pair:
    """Both nodes, and what each has seen.

    Parameters
    ----------
    node : dict
        As in tests/golden/README.md.
    count : callable
        Told how many frames went in.
    prompt : bool
        Whoever is asked for by ARP answers at once.
    """

    def __init__(self, node: dict[str, Any], count: Callable[[int], None], *, prompt: bool = False) -> None:
        self.node, self.count, self.prompt = node, count, prompt
        self.kernel = KernelNode(node, restore(node))
        self.mine = GoldenNode(node)
        self.worlds = World(node), World(node)
        self.choices = Choices(node, 1)
        self.redirected: set[bytes | None] = set()
        self.main = dict(line.partition(" ")[::2] for line in node["routes"] if self._in_main(line))
        self.began = time.monotonic()
        self.timed = "asks" in node or "ageing_s" in node  # timers may run between two frames

    def _in_main(self, line: str) -> bool:
        return line.split()[-1] not in {pod["host_if"] for pod in self.node["pods"]} or "cbr0" in self.node

    def _passed(self) -> float:
        return 1000 * (time.monotonic() - self.began)

    def _heard(self, frames: Frames) -> Frames:
        """Without further redirects to whom one was sent: they hang on ticks of 20 ms."""
        return [(port, frame) for port, frame in frames if told(frame) not in self.redirected]

    def _compare(self, out: Frames, got: Frames, sent: bytes, what: str) -> None:
        """Note what came out of both, which must be the same."""
        unordered = not sent

        def fine() -> bool:
            return (
                agree(made_by_timers(out), made_by_timers(got), sent) if unordered else agree(out, got, sent)
            )

        if not fine():
            self._linger(out, got, fine)
        if not fine():
            lines = [
                f"{who} {p}: {text(f)}"
                for who, frames in (("kernel", out), ("ours  ", got))
                for p, f in frames
            ]
            raise AssertionError("\n".join([f"after {what}:", text(sent), *lines]))
        self.redirected |= {told(frame) for _, frame in out} - {None}
        if unordered:
            out, got = made_by_timers(out), made_by_timers(got)
        want, have = by_port(out), by_port(got)
        for p in want:
            self.worlds[0].seen += [(p, frame) for frame in want[p]]
            self.worlds[1].seen += [(p, frame) for frame in have[p]]
        if self.prompt:
            self._answer(out)

    def _linger(self, out: Frames, got: Frames, fine: Callable[[], bool]) -> None:
        """On a busy machine another thread has the rest in hand, or a timer was late: wait until both are the same.

        Ours goes on, too, and may by then have sent what the kernel does a tick later: so there are several looks.
        """
        end = time.monotonic() + LATE_S
        while not fine() and time.monotonic() < end:
            time.sleep(LATE_S / 16)
            out += self._heard(self.kernel.collect())
            if not fine():
                got += self._heard(self.mine.advance(self._passed()))

    def _answer(self, frames: Frames) -> None:
        """Whoever was asked for by ARP says so."""
        for port, frame in frames:
            if frame[12:14] == b"\x08\x06" and (made := self.worlds[0].arp_answer(port, frame)):
                self.inject("an ARP answer", port, made, made)

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
        self.choices.change(after)
        self._publish_services()

    def _publish_services(self) -> None:
        """Tell our node all services at once: what is not among them loses its UDP connections."""
        self.mine.node.set_services(map(service_of, self.choices.services))

    def change(self, step: Change) -> None:
        """Change the node itself."""
        kind, *words = CHANGES[step.which]
        kubenet, node = "cbr0" in self.node, self.mine.node
        if kind == "route":
            prefix, rest = words
            line = prefix if not rest else f"{prefix} {rest}" if "dev" in rest else f"{rest} {prefix}"
            if not self.kernel.change("route", "replace" if rest else "del", *line.split()):
                return
            # the prefix is a line's first word, or its second, behind a type
            self.main = {k: v for k, v in self.main.items() if prefix not in f"{k} {v}".split()[:2]}
            if rest:
                self.main[line.partition(" ")[0] if "dev" in rest else line] = (
                    line.partition(" ")[2] if "dev" in rest else ""
                )
            self._publish_routes()
        elif kind == "neighbour":
            ip, mac = words
            if self.kernel.change("neigh", "replace", ip, "lladdr", mac, "dev", "eth0", "nud", "permanent"):
                node.neighbours.add(0, ip, mac)
        elif kind == "mtu":
            name, mtu = words
            if name != "cbr0" or kubenet:
                self.kernel.change("link", "set", self._device(name), "mtu", mtu)
                node.set_mtu(name, int(mtu))
                self.choices.mtus[name] = int(mtu)
        elif words[0] == "eth0" or kubenet:
            for state in ("down", "up"):
                self.kernel.change("link", "set", self._device(words[0]), state)
            node.set_up(words[0], False)
            node.set_up(words[0], True)
            self._await_link(self._device(words[0]))
            self.kernel.collect()
            self.mine.advance(self._passed())
            if words[0] == "eth0":
                for line in self._lines():
                    if line.endswith("dev eth0") or "dev eth0 " in line:
                        self.kernel.change("route", "replace", *line.split())
                self._publish_routes()

    def _await_link(self, device: str) -> None:
        """The kernel says a second later at most that a link is up (net/core/link_watch.c)."""
        self.timed, end = True, time.monotonic() + 2
        while (
            " state UP " not in self.kernel.run("ip", "link", "show", "dev", device)
            and time.monotonic() < end
        ):
            time.sleep(LATE_S / 4)
        time.sleep(LATE_S / 4)

    def _device(self, name: str) -> str:
        return next((pod["host_if"] for pod in self.node["pods"] if pod["port"] == name), name)

    def _lines(self) -> list[str]:
        lines = [f"{first} {rest}".strip() for first, rest in self.main.items()]
        return sorted(lines, key=lambda line: " via " in line)

    def _publish_routes(self) -> None:
        self.mine.node.set_routes(self._lines())

    def wait(self, ms: int) -> None:
        """Time passes: what timers send is compared as it comes."""
        self.timed = True
        end = self._passed() + ms
        while (left := end - self._passed()) > 0:
            out = self._heard(self.kernel.watch(left / 1000))
            got = self._heard(self.mine.advance(self._passed()))
            if out or got:
                self._compare(out, got, b"", f"{ms - left:.0f} of {ms} ms")

    def seed(self, frame: bytes, out: Frames) -> int | None:
        """What our node has to begin its draws with, None: whatever."""
        return self.choices.seed(frame, out, self.kernel)

    def inject(self, what: Step | str, port: str, theirs: bytes, own: bytes) -> None:
        note(f"{what}\n  into {port}: {text(theirs)}")
        if self.timed:
            self._catch_up(f"what came before {what}")
        passed = self._passed()
        left = self.kernel.inject(port, theirs)
        if left is None:
            note("  too long for the link")
            return
        self.count(1)
        plain, out = untagged(theirs), self._heard(left)
        seed = self.seed(plain, out)
        if seed is not None:
            self.mine.node.reseed(seed)
        got = self._heard(self.mine.inject(port, own, passed))
        for world, frame in zip(self.worlds, (theirs, own), strict=True):
            world.sent.append((port, frame))
        self._compare(out, got, plain, f"{what} into {port}")
        if (
            plain[12:14] == b"\x08\x00"
            and len(plain) >= 34
            and any(self._goes_back(*o, port, plain) for o in out)
        ):
            self.redirected.add(plain[26:30])  # it may have been told, in a redirect that NAT dropped

    @staticmethod
    def _goes_back(out: str, frame: bytes, port: str, sent: bytes) -> bool:
        """Whether a frame is what was sent, routed back to where it came from."""
        return (
            out == port
            and frame[12:14] == b"\x08\x00"
            and frame[22:24] == bytes([sent[22] - 1 & 255, sent[23]])
        )

    def step(self, step: Step) -> None:
        if isinstance(step, Scale | Change | Wait):
            note(str(step) if not isinstance(step, Change) else f"{step} {CHANGES[step.which]}")
        if isinstance(step, Scale):
            self.scale(step)
        elif isinstance(step, Change):
            self.change(step)
        elif isinstance(step, Wait):
            self.wait(step.ms)
        number = next(_numbers) & 0xFFFF or 1
        rendered = [world.render(step, number) for world in self.worlds]
        for (port, theirs), (_, own) in zip(*rendered, strict=True):
            self.inject(step, port, theirs, own)

    def check(self) -> None:
        """Compare what the tables hold."""
        self._catch_up("all")
        try:
            self._check_tables()
        except AssertionError:
            time.sleep(LATE_S)
            self._catch_up("all, a little later")
            self._check_tables()

    def _catch_up(self, what: str) -> None:
        """See what timers have sent so far."""
        got = self._heard(self.mine.advance(self._passed()))
        out = self._heard(self.kernel.collect())
        if out or got:
            self._compare(out, got, b"", what)

    def _check_tables(self) -> None:
        entries, listing = self.mine.conntrack(), self.kernel.conntrack()
        have, want = ours(entries), connections(listing)
        assert have == want, f"connections: ours {have}\nkernel {want}"
        times = list(zip(our_timeouts(entries), timeouts(listing), have, strict=True))
        far = [entry for entry in times if abs(entry[0] - entry[1]) > 1]
        assert not far, f"time-outs, ours and the kernel's: {far}"
        if self.node["mode"] == "kubenet":
            have_fdb, want_fdb = self.mine.fdb(), self.kernel.fdb()
            assert have_fdb == want_fdb, f"FDB: ours {have_fdb}\nkernel {want_fdb}"


def run(
    node: dict[str, Any], history: list[Step], count: Callable[[int], None], *, prompt: bool = False
) -> None:
    """One history through both."""
    pair = Pair(node, count, prompt=prompt)
    try:
        for step in history:
            pair.step(step)
        pair.check()
    finally:
        pair.kernel.close()
