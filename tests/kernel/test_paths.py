"""What fits through a path, told by links and by ICMP, beside the running kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from frames import ICMP, SYN, TCP, UDP

from kernel.histories import CHANGES, UPLINK, Change, Error, Fresh, Pieces, Step
from kernel.histories6 import Six
from kernel.namespaces import why_not
from kernel.nodes import doors, node_of
from kernel.pair import run
from kernel.test_dual_stack import run as run6

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

SMALL = Change(CHANGES.index(("mtu", "pod2", "1200")))
LARGE = Fresh(
    port=UPLINK, src=0, dst=0, mac=0, proto=TCP, sport=1024, dport=80, flags=SYN, ttl=64, df=True, size=1460,
    spoil=0, door=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Hypothesis is here to note a history's steps."""
    monkeypatch.setattr("kernel.pair.note", print)
    monkeypatch.setattr("kernel.test_dual_stack.note", print)


@pytest.mark.parametrize("mode", ["kubenet", "overlay"])
def test_an_endpoint_that_is_too_small_for_what_comes(mode: str) -> None:
    node = node_of(mode)
    at = doors(node).index(("20.1.2.3", "tcp", 80))  # of three endpoints one is pod2's
    first = replace(LARGE, door=at)
    history: list[Step] = [SMALL, *(replace(first, sport=2000 + n) for n in range(12))]
    run(node, history, lambda frames: None)


def pings(node: dict[str, Any], port: str, mtus: list[int]) -> list[Step]:
    """A node's neighbour says of its answers, again and again, that less gets through."""
    own = 30
    back = 26 if port == UPLINK else ("pod1", "pod2", "pod3", "pod4").index(port)
    ping = replace(LARGE, port=port, proto=ICMP, dst=own, dport=9, door=None, df=False)
    other = replace(LARGE, port="pod4" if port != "pod4" else "pod1", dst=back, door=None, proto=UDP, dport=9)
    history: list[Step] = [ping]
    for n, mtu in enumerate(mtus):
        history.append(Error(back=0, kind=(3, 4), quoted=28, by_router=False, mtu=mtu))
        for size in (0, 500, 1200, 1460):
            history.append(replace(ping, size=size, sport=2000 + n))
        for size in (500, 1200, 1460):
            for df in (True, False):
                history.append(replace(other, size=size, df=df, sport=3000 + n))
        history.append(replace(other, size=1460, df=True, flags=SYN, proto=TCP, sport=4000 + n))
        history.append(replace(ping, size=100, sport=2000 + n))
    return history


@pytest.mark.parametrize("mode", ["kubenet", "azcni"])
@pytest.mark.parametrize("port", [UPLINK, "pod1"])
@pytest.mark.parametrize(
    "mtus",
    [[1400, 1300, 1450, 1300], [1000, 552, 551, 1000], [400, 300, 1400], [0], [1500], [68, 68], [552, 400]],
    ids=str,
)
def test_what_is_told_of_a_path(mode: str, port: str, mtus: list[int]) -> None:
    node = node_of(mode, sysctls={"net.ipv4.icmp_ratelimit": 0})
    run(node, pings(node, port, mtus), lambda frames: None)


@pytest.mark.parametrize("mode", ["kubenet", "overlay"])
@pytest.mark.parametrize("port", [UPLINK, "pod1"])
@pytest.mark.parametrize("mtus", [[1400, 1300, 1450, 1300], [1280], [1279, 0, 1280, 1500]], ids=str)
def test_what_is_told_of_a_path_of_ipv6(mode: str, port: str, mtus: list[int]) -> None:
    back = 24 if port == UPLINK else 0  # of `World6.targets`
    ping = replace(LARGE, port=port, proto=ICMP, dst=28, dport=63, door=None, df=False)
    other = replace(LARGE, port="pod4", dst=back, door=None, proto=UDP, dport=9)
    service = replace(other, proto=TCP, flags=SYN, door=5)  # who is answered by the node, and by others
    history: list[Six | Step] = [Six(ping, 0)]
    for n, mtu in enumerate(mtus):
        history.append(Six(Error(back=0, kind=(3, 4), quoted=48, by_router=False, mtu=mtu), 0))
        history += [Six(replace(ping, size=size, sport=2000 + n), 0) for size in (0, 1250, 1440)]
        history += [Six(replace(other, size=size, sport=3000 + n), 0) for size in (1230, 1250, 1440)]
        history += [Six(Pieces("pod4", back, 1024, 3000 + n, 2900, cut, 0, None), 0) for cut in (1400, 1240)]
        history += [Six(service, 0), Six(replace(ping, size=0, sport=2000 + n), 0)]
    run6(mode, {"bridge_nf": True}, history, lambda frames: None)
