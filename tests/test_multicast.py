"""The bridge listens to IGMP: against a model, and message by message."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from frames import UDP, eth, ipv4, udp
from golden_compare import with_checksums
from hypothesis import given, settings
from hypothesis import strategies as st
from models.multicast import Snooper
from strategies import PODS, SECOND
from test_node import START, Wire

import kubenet_fastpath as kf
from kubenet_fastpath import Reason

IGMP, PIM = 2, 103
QUERY, REPORT_V1, REPORT_V2, LEAVE, REPORT_V3 = 0x11, 0x12, 0x16, 0x17, 0x22
GROUPS = ("239.1.1.1", "239.1.1.2", "232.0.0.9", "224.0.0.251")
ALL_HOSTS, ALL_ROUTERS, IGMPV3_ROUTERS = "224.0.0.1", "224.0.0.2", "224.0.0.22"
NAMES = tuple(PODS)


class Link(Wire):
    """A node of which a frame says when it comes."""

    def send(self, port: str, frame: bytes, at: float = 0.0) -> dict[str, list[bytes]]:
        self.now = START + round(at * 1000) * (SECOND // 1000)
        return super().send(port, frame)


def checksum(data: bytes) -> int:
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def igmp(kind: int, code: int, word: bytes, more: bytes = b"", wrong: int = 0) -> bytes:
    head = struct.pack("!BBH", kind, code, 0) + word + more
    return head[:2] + struct.pack("!H", checksum(head) ^ wrong) + head[4:]


def about(group: str) -> bytes:
    return IPv4Address(group).packed


def to_group(
    port: str, dst: str, proto: int, l4: bytes, src: str | None = None, tags: tuple[int, ...] = ()
) -> tuple[str, bytes]:
    """A frame to a group, and where it comes in."""
    ip, mac = PODS[port]
    low = IPv4Address(dst).packed
    group_mac = bytes([1, 0, 0x5E, low[1] & 127, low[2], low[3]]).hex(":")
    options = b"\x94\x04\0\0" if proto == IGMP else b""
    l3 = ipv4(src or ip, dst, proto, l4, ttl=1, options=options)
    return port, with_checksums(eth(group_mac, mac, l3, tags=tags))


def query(port: str, group: str = "0.0.0.0", tenths: int = 1, src: str | None = None, more: bytes = b""):
    dst = ALL_HOSTS if group == "0.0.0.0" else group
    return to_group(port, dst, IGMP, igmp(QUERY, tenths, about(group), more), src)


def report(port: str, group: str, kind: int = REPORT_V2):
    return to_group(port, group, IGMP, igmp(kind, 0, about(group)))


def data(port: str, group: str):
    return to_group(port, group, UDP, udp(5353, 5353))


def report_v3(port: str, *records: tuple[int, str, int], count: int | None = None):
    body = b"".join(struct.pack("!BBH", kind, 0, n) + about(g) + bytes(4 * n) for kind, g, n in records)
    word = struct.pack("!HH", 0, len(records) if count is None else count)
    return to_group(port, IGMPV3_ROUTERS, IGMP, igmp(REPORT_V3, 0, word, body))


@pytest.fixture(params=[True, False], ids=["br_netfilter", "plain"])
def wire(request: pytest.FixtureRequest) -> Link:
    return Link(bridge_nf_call_iptables=request.param, kube_proxy=False)


def others(*ports: str) -> set[str]:
    return set(NAMES) - set(ports)


def test_without_a_querier_everything_is_flooded(wire: Link) -> None:
    assert set(wire.send(*report("pod2", GROUPS[0]))) == others("pod2")
    assert set(wire.send(*data("pod1", GROUPS[0]))) == others("pod1")


def test_with_a_querier_members_and_routers_get_it(wire: Link) -> None:
    assert set(wire.send(*query("pod3"), at=0.0)) == others("pod3")
    assert set(wire.send(*data("pod1", GROUPS[0]), at=0.1)) == others("pod1")  # nobody had time to answer
    assert set(wire.send(*report("pod2", GROUPS[0]), at=0.2)) == {"pod3"}
    assert set(wire.send(*data("pod1", GROUPS[0]), at=0.3)) == {"pod2", "pod3"}
    assert set(wire.send(*data("pod1", GROUPS[1]), at=0.3)) == {"pod3"}
    assert set(wire.send(*data("pod1", "224.0.0.251"), at=0.3)) == others("pod1")
    assert set(wire.send(*data("pod2", GROUPS[0]), at=254.0)) == {"pod3"}
    assert set(wire.send(*data("pod1", GROUPS[0]), at=256.0)) == others("pod1")


def test_a_leave_counts_when_nobody_will_ask() -> None:
    wire = Link(kube_proxy=False)
    leave = to_group("pod2", ALL_ROUTERS, IGMP, igmp(LEAVE, 0, about(GROUPS[0])))
    for spared, at in ((False, 0.0), (True, 1000.0)):
        if spared:
            wire.send(*query("pod3"), at=at)
        wire.send(*report("pod2", GROUPS[0]), at=at + 1)
        wire.send(*leave, at=at + 2)
        wire.send(*query("pod3"), at=at + 3.5)
        assert ("pod2" in wire.send(*data("pod1", GROUPS[0]), at=at + 3.999)) is True
        assert ("pod2" in wire.send(*data("pod1", GROUPS[0]), at=at + 4.0)) is spared


def test_a_question_about_a_group_ends_it_after_twice_its_time() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    wire.send(*report("pod2", GROUPS[0]), at=1.0)
    wire.send(*query("pod3", GROUPS[0], tenths=10), at=2.0)
    assert "pod2" in wire.send(*data("pod1", GROUPS[0]), at=3.999)
    assert "pod2" not in wire.send(*data("pod1", GROUPS[0]), at=4.0)


def test_the_lowest_address_is_the_querier() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod2"), at=0.0)
    wire.send(*query("pod3"), at=200.0)  # a higher one: neither querier nor router
    assert set(wire.send(*data("pod1", GROUPS[0]), at=201.0)) == {"pod2"}
    wire.send(*query("pod2", tenths=100), at=202.0)  # the same one again: no waiting, and it lasts
    assert set(wire.send(*data("pod1", GROUPS[0]), at=203.0)) == {"pod2"}
    assert set(wire.send(*data("pod1", GROUPS[0]), at=456.999)) == {"pod2"}
    assert set(wire.send(*data("pod1", GROUPS[0]), at=457.0)) == others("pod1")


def test_nobody_joined_and_the_router_spoke() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    assert wire.send(*data("pod3", GROUPS[0]), at=1.0) == {}
    assert wire.reason is Reason.NO_PORT


def test_snooping_may_be_off() -> None:
    wire = Link(multicast_snooping=False)
    wire.send(*query("pod3"), at=0.0)
    assert set(wire.send(*data("pod1", GROUPS[0]), at=1.0)) == others("pod1")


def test_a_port_that_is_gone_is_in_no_group() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    wire.send(*report("pod2", GROUPS[0]), at=1.0)
    wire.node.detach("pod2")
    wire.node.attach(kf.Pod("pod2", ip=PODS["pod2"][0], mac=PODS["pod2"][1]))
    assert set(wire.send(*data("pod1", GROUPS[0]), at=2.0)) == {"pod3"}
    wire.node.detach("pod3")
    wire.node.attach(kf.Pod("pod3", ip=PODS["pod3"][0], mac=PODS["pod3"][1]))
    assert wire.send(*data("pod1", GROUPS[0]), at=3.0) == {}


@pytest.mark.parametrize(
    "frame",
    [
        to_group("pod1", GROUPS[0], IGMP, igmp(REPORT_V2, 0, about(GROUPS[0]), wrong=1)),
        to_group("pod1", GROUPS[0], IGMP, igmp(REPORT_V2, 0, about(GROUPS[0]))[:7]),
        to_group("pod1", ALL_ROUTERS, IGMP, igmp(QUERY, 1, about("0.0.0.0"))),
        to_group("pod1", ALL_HOSTS, IGMP, igmp(QUERY, 1, about("0.0.0.0"), b"\0\0\0")),
        report_v3("pod1", (4, GROUPS[0], 0), count=2),
    ],
    ids=["checksum", "short", "general query to another group", "between v2 and v3", "record missing"],
)
def test_a_broken_message_is_dropped(wire: Link, frame: tuple[str, bytes]) -> None:
    assert wire.send(*frame) == {}
    assert wire.reason is Reason.MULTICAST_INVALID


@pytest.mark.parametrize(
    ("kind", "sources", "member"), [(4, 0, True), (2, 0, True), (1, 1, True), (7, 0, False)]
)
def test_reports_of_version_3_are_joins(kind: int, sources: int, member: bool) -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    assert set(wire.send(*report_v3("pod2", (kind, GROUPS[0], sources)), at=1.0)) == others("pod2")
    assert ("pod2" in wire.send(*data("pod1", GROUPS[0]), at=1.5)) is member


def test_pim_shows_a_router() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    wire.send(*to_group("pod2", "224.0.0.13", PIM, b"\x20\0\0\0"), at=1.0)
    assert set(wire.send(*data("pod1", GROUPS[0]), at=2.0)) == {"pod2", "pod3"}


def test_a_priority_tag_hides_nothing() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    wire.send(*to_group("pod2", GROUPS[0], IGMP, igmp(REPORT_V2, 0, about(GROUPS[0])), tags=(5,)), at=1.0)
    assert set(wire.send(*data("pod1", GROUPS[0]), at=2.0)) == {"pod2", "pod3"}


def test_one_group_too_many_ends_snooping() -> None:
    wire = Link(kube_proxy=False)
    wire.send(*query("pod3"), at=0.0)
    names = [str(IPv4Address("239.2.0.0") + k) for k in range(4097)]
    for name in names[:-1]:
        wire.send(*report("pod2", name), at=1.0)
    assert set(wire.send(*data("pod1", "239.3.0.1"), at=1.0)) == {"pod3"}
    assert wire.send(*report("pod2", names[-1]), at=1.0) == {}
    assert wire.reason is Reason.MULTICAST_INVALID
    assert set(wire.send(*data("pod1", "239.3.0.1"), at=1.0)) == others("pod1")


def test_memberships_that_ended_make_room() -> None:
    wire = Link(kube_proxy=False)
    for round_ in range(3):
        now = 300.0 * round_
        wire.send(*query("pod3"), at=now)
        for k in range(2000):
            wire.send(*report("pod2", str(IPv4Address("239.2.0.0") + 5000 * round_ + k)), at=now + 1)
        assert set(wire.send(*data("pod1", "239.3.255.1"), at=now + 2)) == {"pod3"}


MESSAGES = st.tuples(
    st.sampled_from(("query", "group query", "report", "report", "leave", "v3", "data", "data", "data")),
    st.sampled_from(NAMES),
    st.sampled_from((GROUPS[0], GROUPS[0], GROUPS[0], *GROUPS)),
    st.sampled_from((0, 1, 20, 128, 255)),  # Max Resp Time
    st.sampled_from(("", "0.0.0.0", "10.244.1.1")),  # a querier's address; its own
    st.sampled_from((0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 2.0, 3.9, 4.0, 255.0, 260.0)),  # time that has passed
    st.integers(0, 3),
)


def response(version_3: bool, code: int) -> int:
    if version_3 and code == 0:
        return 4
    if version_3 and code >= 128:
        return ((code & 15 | 16) << ((code >> 4 & 7) + 3)) * 100
    return code * 100


@settings(max_examples=300)
@given(st.booleans(), st.lists(MESSAGES, max_size=40))
def test_against_the_model(heard: bool, messages: list[tuple[str, str, str, int, str, float, int]]) -> None:
    wire, model, now = Link(kube_proxy=False, bridge_nf_call_iptables=False), Snooper(), 0
    if heard:
        wire.send(*query("pod3"), at=now / 1000)
        model.general_query(PODS["pod3"][0], 100, "pod3", now)
        now = 200
    for kind, port, group, code, src, passed, variant in messages:
        now += round(passed * 1000)
        version_3 = bool(variant & 1)
        more = bytes(4) if version_3 else b""
        seen = "flood"
        if kind in ("query", "group query"):
            target = group if kind == "group query" else "0.0.0.0"
            frame = query(port, target, code, src or None, more)
            delay = response(version_3, code)
            if not version_3 and code == 0:
                target, delay = "0.0.0.0", 10_000
            if target == "0.0.0.0":
                model.general_query(src or PODS[port][0], delay, port, now)
            else:
                model.group_query(target, delay, now)
        elif kind == "report":
            frame, seen = report(port, group, REPORT_V1 if version_3 else REPORT_V2), "report"
            model.join(group, port, now)
        elif kind == "leave":
            frame = to_group(port, ALL_ROUTERS, IGMP, igmp(LEAVE, 0, about(group)))
            model.leave(group, port, now)
        elif kind == "v3":
            frame = report_v3(port, (3 if variant < 2 else 4, group, variant & 1))
            if variant == 0:
                model.leave(group, port, now)
            else:
                model.join(group, port, now)
        else:
            frame, seen = data(port, group), "data"
        expected = model.receivers(seen, group, now)
        wanted = set(NAMES) if expected is None else expected
        assert set(wire.send(*frame, at=now / 1000)) == wanted - {port}
