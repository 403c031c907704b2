"""What a packet costs a node, by class of traffic, number of flows and batch size; established flows and new ones.

    python -m bench.node [--flows N ...] [--rounds N] [--json]

64-byte UDP frames in memory, 65,536 a round in random order over the flows, 32 pods; all classes and sizes of one
number of flows take turns, round by round; a figure is the median round in CPU time of the one thread that forwards.
What leaves is checked before. A new flow's packet is the first one of its connection, in a node with as many flows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from .progress import Line
from .traces import BATCHES, Addressing, Flows, NewFlows, Path
from .turns import by_turns, figures

#: Classes by name: where they go, whether answers are meant, and in which mode.
CLASSES = {
    "pod to pod on the node (bridged)": (Path.SAME_NODE, False, Addressing.KUBENET),
    "pod to another node's pod (routed)": (Path.OTHER_NODE, False, Addressing.KUBENET),
    "pod to the internet (masqueraded)": (Path.INTERNET, False, Addressing.KUBENET),
    "its answers": (Path.INTERNET, True, Addressing.KUBENET),
    "pod to a cluster IP, endpoint on another node": (Path.SERVICE, False, Addressing.KUBENET),
    "Azure CNI: pod to a host of the VNet": (Path.VNET_HOST, False, Addressing.NODE_SUBNET),
}
FLOWS = (1, 1000, 65536, 1_000_000)
NEW = 1 << 14  # first packets a round


def measure(flows: tuple[int, ...], rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """ns a packet by class, then by flows, then by batch size; `new` are first packets."""
    found: dict[str, Any] = {name: {} for name in CLASSES}
    for count in flows:
        things: dict[tuple[str, str], Any] = {}
        for name, (path, reply, addressing) in CLASSES.items():
            say(f"{count:,} flows: {name}")
            known = Flows.make(path, count, addressing)
            for size in BATCHES:
                things[name, str(size)] = known.trace(size, reply=reply)
            if not reply:
                things[name, "new"] = NewFlows(known, 256, NEW)
        for thing in things.values():
            thing.check()
        for (name, size), figure in figures(by_turns(things, rounds, say, f"{count:,} flows")).items():
            found[name].setdefault(str(count), {})[size] = figure.ns
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flows", type=int, nargs="+", default=FLOWS)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    say = Line()
    found = measure(tuple(given.flows), given.rounds, say)
    say()
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print("ns a packet, 64-byte UDP, one core; batches of 256 / of 65,536 / first packets, 256 a batch")
    print(f"{'':46}" + "".join(f"{f'{n:,} flows':>20}" for n in given.flows))
    for name, row in found.items():
        cells = (" / ".join(f"{ns:.1f}" for ns in row[str(n)].values()) for n in given.flows)
        print(f"{name:46}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
