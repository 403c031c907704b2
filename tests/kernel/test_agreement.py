"""Two nodes that drew otherwise agree, whichever order their timers ran in; and nothing else does."""

from __future__ import annotations

import struct

import pytest
from frames import ICMP6, UDP, eth6, fragments6, ipv6, udp

from kernel.agreement import Frames, agree, made_by_timers

POD, HOST, NODE = "fd00:10::2", "fd00:10::5", "fd00:10::1"
MACS = "02:00:00:00:00:02", "02:00:00:00:00:01"


def told(ident: int, size: int) -> Frames:
    """What timers tell a sender of a datagram's fragments."""
    parts = fragments6(ipv6(POD, HOST, UDP, udp(1, 2, bytes(2 * size))), size, ident)
    errors = (ipv6(NODE, POD, ICMP6, struct.pack("!BBHI", 1, 3, 0, 0) + part) for part in parts)
    return [("pod1", eth6(*MACS, error)) for error in errors]


@pytest.mark.parametrize("theirs", [1, 0x6400, 0xE1399D9A])
def test_fragments_that_errors_quote(theirs: int) -> None:
    for mine in range(1, 200):
        kernel, ours = told(theirs, 1240), told(mine, 1240)[::-1]
        assert agree(made_by_timers(kernel), made_by_timers(ours), b"")
    assert not agree(made_by_timers(told(theirs, 1240)), made_by_timers(told(1, 1232)), b"")
