"""The bridge listens to MLD: message by message, as to IGMP."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import pytest
from frames import UDP, mac, udp
from kernel.groups import ICMPV6, icmpv6, ipv6
from strategies import PODS
from test_multicast import GROUPS as GROUPS4
from test_multicast import Link, data, query, report

from kubenet_fastpath import Reason

QUERY, REPORT, DONE, ROUTER_ADVERT, REPORT_V2 = 130, 131, 132, 151, 143
GROUP, OTHER, LINK_GROUP, ALL_NODES = "ff0e::1:1", "ff05::2", "ff02::1:ff00:7", "ff02::1"
NAMES = tuple(PODS)


def others(*ports: str) -> set[str]:
    return set(NAMES) - set(ports)


def to(port: str, dst: str, header: int, l4: bytes, alert: bool = False, src: str = "") -> tuple[str, bytes]:
    source = src or f"fe80::{NAMES.index(port) + 1}"
    group = b"\x33\x33" + IPv6Address(dst).packed[12:]
    return port, group + mac(PODS[port][1]) + b"\x86\xdd" + ipv6(source, dst, header, l4, alert=alert)


def mld(port: str, kind: int, dst: str, body: bytes, src: str = "", wrong: int = 0, alert: bool = True):
    source = src or f"fe80::{NAMES.index(port) + 1}"
    return to(port, dst, ICMPV6, icmpv6(source, dst, kind, body, wrong), alert, source)


def ask(port: str, group: str = "::", ms: int = 100, more: bytes = b"", **how: object) -> tuple[str, bytes]:
    body = struct.pack("!HH", ms, 0) + IPv6Address(group).packed + more
    return mld(port, QUERY, ALL_NODES if group == "::" else group, body, **how)  # type: ignore[arg-type]


def join(port: str, group: str) -> tuple[str, bytes]:
    return mld(port, REPORT, group, bytes(4) + IPv6Address(group).packed)


def leave(port: str, group: str) -> tuple[str, bytes]:
    return mld(port, DONE, "ff02::2", bytes(4) + IPv6Address(group).packed)


def report_v2(port: str, kind: int, group: str, sources: int = 0, count: int = 1) -> tuple[str, bytes]:
    record = struct.pack("!BBH", kind, 0, sources) + IPv6Address(group).packed + bytes(16 * sources)
    return mld(port, REPORT_V2, "ff02::16", struct.pack("!HH", 0, count) + record)


def stream(port: str, group: str) -> tuple[str, bytes]:
    return to(port, group, UDP, udp(5353, 5353))


def test_without_a_querier_everything_is_flooded() -> None:
    wire = Link()
    assert set(wire.send(*join("pod2", GROUP))) == others("pod2")
    assert set(wire.send(*stream("pod1", GROUP))) == others("pod1")


def test_with_a_querier_members_and_routers_get_it() -> None:
    wire = Link()
    assert set(wire.send(*ask("pod3"), at=0.0)) == others("pod3")
    assert set(wire.send(*stream("pod1", GROUP), at=0.1)) == others("pod1")  # nobody had time to answer
    assert set(wire.send(*join("pod2", GROUP), at=0.2)) == {"pod3"}
    assert set(wire.send(*stream("pod1", GROUP), at=0.3)) == {"pod2", "pod3"}
    assert set(wire.send(*stream("pod1", OTHER), at=0.3)) == {"pod3"}
    assert set(wire.send(*stream("pod1", LINK_GROUP), at=0.3)) == {
        "pod3"
    }  # of the link, and joined by nobody
    assert set(wire.send(*stream("pod1", ALL_NODES), at=0.3)) == others("pod1")
    assert set(wire.send(*stream("pod1", GROUP), at=256.0)) == others("pod1")


def test_the_families_have_their_own_queriers_and_routers() -> None:
    wire = Link()
    wire.send(*ask("pod3"), at=0.0)
    wire.send(*report("pod2", GROUPS4[0]), at=1.0)
    assert set(wire.send(*data("pod1", GROUPS4[0]), at=1.0)) == others("pod1")
    wire.send(*query("pod2"), at=2.0)
    assert set(wire.send(*data("pod1", GROUPS4[0]), at=3.0)) == {"pod2"}
    assert set(wire.send(*stream("pod1", GROUP), at=3.0)) == {"pod3"}


def test_a_leave_counts_when_nobody_will_ask() -> None:
    for spared in (False, True):
        wire = Link()
        if spared:
            wire.send(*ask("pod3"), at=0.0)
        wire.send(*join("pod2", GROUP), at=1.0)
        wire.send(*leave("pod2", GROUP), at=2.0)
        wire.send(*ask("pod3"), at=3.5)
        assert "pod2" in wire.send(*stream("pod1", GROUP), at=3.999)
        assert ("pod2" in wire.send(*stream("pod1", GROUP), at=4.0)) is spared


def test_a_question_about_a_group_ends_it_after_twice_its_time() -> None:
    wire = Link()
    wire.send(*ask("pod3"), at=0.0)
    wire.send(*join("pod2", GROUP), at=1.0)
    wire.send(*ask("pod3", GROUP, ms=0), at=1.5)  # of MLDv1: about nothing
    wire.send(*ask("pod3", GROUP, ms=1000), at=2.0)
    assert "pod2" in wire.send(*stream("pod1", GROUP), at=3.999)
    assert "pod2" not in wire.send(*stream("pod1", GROUP), at=4.0)


def test_a_long_time_of_version_2_is_a_float() -> None:
    wire = Link()
    wire.send(*ask("pod3", ms=0x8000, more=bytes([2, 10, 0, 0])), at=0.0)  # 32.768 s
    assert set(wire.send(*stream("pod1", GROUP), at=32.7)) == others("pod1")
    assert set(wire.send(*stream("pod1", GROUP), at=32.8)) == {"pod3"}


@pytest.mark.parametrize(
    ("kind", "sources", "member"), [(4, 0, True), (2, 0, True), (1, 1, True), (3, 0, False), (7, 0, False)]
)
def test_reports_of_version_2_are_joins(kind: int, sources: int, member: bool) -> None:
    wire = Link()
    wire.send(*ask("pod3"), at=0.0)
    assert set(wire.send(*report_v2("pod2", kind, GROUP, sources), at=1.0)) == others("pod2")
    assert ("pod2" in wire.send(*stream("pod1", GROUP), at=1.5)) is member


def test_a_router_shows_itself() -> None:
    wire = Link()
    wire.send(*ask("pod3"), at=0.0)
    wire.send(*mld("pod2", ROUTER_ADVERT, "ff02::6a", bytes(4)), at=1.0)
    assert set(wire.send(*stream("pod1", GROUP), at=2.0)) == {"pod2", "pod3"}


def test_without_the_router_alert_it_is_data() -> None:
    wire = Link()
    wire.send(*ask("pod3", alert=False), at=0.0)
    assert set(wire.send(*stream("pod1", GROUP), at=1.0)) == others("pod1")


@pytest.mark.parametrize(
    "frame",
    [
        mld("pod1", REPORT, GROUP, bytes(4) + IPv6Address(GROUP).packed, wrong=1),
        ask("pod1", src="2001:db8::1"),
        mld("pod1", QUERY, GROUP, bytes(20)),
        ask("pod1", more=b"\0\0"),
        report_v2("pod1", 4, GROUP, count=2),
        (join("pod1", GROUP)[0], join("pod1", GROUP)[1][:-1]),
        to("pod1", GROUP, 59, b"", alert=True),
        ("pod1", stream("pod1", GROUP)[1][:50]),
    ],
    ids=[
        "checksum",
        "querier of no link",
        "general query to a group",
        "between v1 and v2",
        "record missing",
        "cut off",
        "no next header",
        "no header",
    ],
)
def test_a_broken_message_is_dropped(frame: tuple[str, bytes]) -> None:
    wire = Link()
    assert wire.send(*frame) == {}
    assert wire.reason is Reason.MULTICAST_INVALID
