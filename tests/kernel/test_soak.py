"""Random histories of frames through this project's node and through the running kernel's, side by side.

    pytest tests/kernel --histories 1000 --hypothesis-seed 1

Each history has a node of its own in fresh network namespaces. After every frame all ports' output must agree byte for
byte; at the end, the connections (state, status, tuples, packets, bytes) and the bridge's forwarding database. What the
kernel draws at random may differ: the IP id of packets that it makes itself, and ports chosen after a clash.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from golden_compare import wrong_checksums
from golden_node import GoldenNode
from hypothesis import HealthCheck, Phase, given, note, settings

from kernel.histories import Step, World, histories
from kernel.namespaces import KernelNode, why_not

CASES = Path(__file__).parents[1] / "golden" / "cases"
MODES = {"kubenet": "route.kubenet.noroute", "azcni": "route.azcni.noroute"}
REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

LATE_S = 0.1

_numbers = itertools.count(1)


def case_of(mode: str) -> tuple[dict[str, Any], str]:
    case = json.loads((CASES / f"{MODES[mode]}.json").read_text())
    return case["node"] | {"proxy_delay_ms": 0}, (CASES / case["rules"]).read_text()


def text(frame: bytes) -> str:
    return f"{frame[:14].hex()} {frame[14:34].hex()} {frame[34:].hex()}"


def port_class(port: int) -> int:
    """In which of three ranges the search for a free port stays (nf_nat_l4proto_unique_tuple)."""
    return 0 if 1 <= port < 512 else 1 if 600 <= port < 1024 else 2 if port >= 1024 else 3


def agree(
    kernel: list[tuple[str, bytes]], ours: list[tuple[str, bytes]], sent: bytes, ports: dict[int, int]
) -> bool:
    """Whether the same frames left by the same ports, in the same order at each."""
    want, have = by_port(kernel), by_port(ours)
    return want.keys() == have.keys() and all(
        len(want[p]) == len(have[p])
        and all(same(k, o, sent, ports) for k, o in zip(want[p], have[p], strict=True))
        for p in want
    )


def same(kernel: bytes, ours: bytes, sent: bytes, ports: dict[int, int]) -> bool:
    """Whether two frames are one but for what the kernel draws; `ports` learns which port of ours stands for which."""
    if kernel == ours:
        return True
    if len(kernel) != len(ours) or kernel[12:14] != b"\x08\x00" or kernel[:14] != ours[:14]:
        return False
    if wrong_checksums(kernel, ["ip", "l4"]) != wrong_checksums(ours, ["ip", "l4"]):
        return False
    a, b = bytearray(kernel), bytearray(ours)
    if a[18:20] != sent[18:20]:  # made by the node
        a[18:20] = b[18:20]
    at = 14 + (a[14] & 15) * 4
    if a[23] == 1 and a[at] == 14:  # the time of day
        a[at + 2 : at + 4], a[at + 12 : at + 20] = b[at + 2 : at + 4], b[at + 12 : at + 20]
    if a[23] in (6, 17) and a[at : at + 2] != b[at : at + 2] and a[at : at + 2] != sent[at : at + 2]:
        theirs, mine = int.from_bytes(a[at : at + 2], "big"), int.from_bytes(b[at : at + 2], "big")
        if port_class(theirs) != port_class(mine) or ports.setdefault(theirs, mine) != mine:
            return False
        if len(set(ports.values())) != len(ports):
            return False
        a[at : at + 2] = b[at : at + 2]
        check = at + (16 if a[23] == 6 else 6)
        a[check : check + 2] = b[check : check + 2]
    a[24:26] = b[24:26]
    return a == b


def by_port(frames: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    found = defaultdict(list)
    for port, frame in frames:
        found[port].append(frame)
    return dict(found)


def connections(listing: str, ports: dict[int, int]) -> list[tuple[Any, ...]]:
    """`conntrack -L -o extended` in the form of `ours`."""
    found = []
    for line in listing.splitlines():
        words = line.split()
        proto = words[2]
        pairs = [(m[1], m[2]) for m in re.finditer(r"(\w+)=(\S+)", line)]
        sides: list[dict[str, str]] = [{}, {}]
        side = -1
        for name, value in pairs:
            if name == "src":
                side += 1
            if name not in ("mark", "use", "zone", "secctx"):
                sides[side][name] = value
        for which in sides:
            for name in ("src", "dst"):
                if f"{name}key" in which:  # GRE's, in hexadecimal
                    which[f"{name[0]}port"] = str(int(which.pop(f"{name}key"), 16))
            for name in ("sport", "dport"):
                if name in which:
                    which[name] = str(ports.get(int(which[name]), int(which[name])))
        state = words[5] if proto == "tcp" else None
        status = tuple(sorted(re.findall(r"\[(\w+)\]", line)))
        found.append((proto, state, status, *(tuple(sorted(s.items())) for s in sides)))
    return sorted(found, key=str)


def ours(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    found = []
    for entry in entries:
        sides = [tuple(sorted((k, str(v)) for k, v in entry[side].items())) for side in ("orig", "reply")]
        found.append((entry["proto"], entry.get("state"), tuple(sorted(entry["status"])), *sides))
    return sorted(found, key=str)


def told(frame: bytes) -> bytes | None:
    """Whom an ICMP redirect goes to."""
    is_redirect = frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[14 + (frame[14] & 15) * 4] == 5
    return frame[30:34] if is_redirect else None


def run(mode: str, history: list[Step]) -> None:
    """One history through both."""
    node, rules = case_of(mode)
    kernel, mine = KernelNode(node, rules), GoldenNode(node)
    try:
        worlds = World(node), World(node)
        ports: dict[int, int] = {}
        redirected: set[bytes | None] = set()
        began = time.monotonic()
        for step in history:
            number = next(_numbers) & 0xFFFF or 1
            rendered = [world.render(step, number) for world in worlds]
            for (port, theirs), (_, own) in zip(*rendered, strict=True):
                note(f"{step}\n  into {port}: {text(theirs)}")
                passed = 1000 * (time.monotonic() - began)
                out = kernel.inject(port, theirs)
                got = mine.inject(port, own, passed)
                got = [(p, f) for p, f in got if told(f) not in redirected]
                out = [(p, f) for p, f in out if told(f) not in redirected]
                for world, frame in zip(worlds, (theirs, own), strict=True):
                    world.sent.append((port, frame))
                if not agree(out, got, theirs, ports):
                    time.sleep(LATE_S)  # on a busy machine another thread may have the rest in hand
                    out += [(p, f) for p, f in kernel.collect() if told(f) not in redirected]
                if not agree(out, got, theirs, ports):
                    lines = [f"{who} {p}: {text(f)}" for who, frames in (("kernel", out), ("ours  ", got))
                             for p, f in frames]  # fmt: skip
                    raise AssertionError("\n".join([f"after {step} into {port}:", text(theirs), *lines]))
                redirected |= {told(frame) for _, frame in out} - {
                    None
                }  # further ones hang on ticks of 20 ms
                want, have = by_port(out), by_port(got)
                for p in want:
                    worlds[0].seen += [(p, frame) for frame in want[p]]
                    worlds[1].seen += [(p, frame) for frame in have[p]]
        have, want = ours(mine.conntrack()), connections(kernel.conntrack(), ports)
        assert have == want, f"connections: ours {have}\nkernel {want}"
        if mode == "kubenet":
            assert mine.fdb() == kernel.fdb(), f"FDB: ours {mine.fdb()}\nkernel {kernel.fdb()}"
    finally:
        kernel.close()


@pytest.mark.parametrize("mode", MODES)
def test_histories(mode: str, pytestconfig: pytest.Config) -> None:
    count = pytestconfig.getoption("--histories") or 15

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=pytestconfig.getoption("--hypothesis-seed", None) is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(history=histories)
    def check(history: list[Step]) -> None:
        run(mode, history)

    check()
