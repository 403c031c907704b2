"""Connections as `conntrack -L` prints them: written, read back, refused by the number of the line."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4_text
from kubenet_fastpath.connection import CtInfo, CtStatus, SctpState, TcpState

SECOND = 10**9
#: What conntrack-tools 1.4.7 printed of entries made by `conntrack -I` in a network namespace of Linux 6.18.
PRINTED = """\
tcp      6 99 SYN_SENT src=10.0.0.1 dst=10.0.0.2 sport=1002 dport=80 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1002 mark=0 use=1
udp      17 99 src=10.0.0.1 dst=10.0.0.3 sport=1000 dport=53 [UNREPLIED] src=10.0.0.3 dst=192.0.2.1 sport=53 dport=7000 mark=0 use=1
udp      17 99 src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 mark=0 zone=7 use=1
udp      17 99 src=10.0.0.1 dst=10.0.0.4 sport=1000 dport=53 [UNREPLIED] src=192.0.2.9 dst=10.0.0.1 sport=53 dport=1000 mark=0 use=1
udplite  136 99 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 mark=0 use=1
icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=77 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=77 mark=0 use=1
tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1001 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1001 [ASSURED] mark=5 use=1
unknown  99 99 src=10.0.0.1 dst=10.0.0.2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 mark=0 use=1
udp      17 99 src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 mark=0 use=1
gre      47 99 src=10.0.0.1 dst=10.0.0.2 srckey=0x1 dstkey=0x2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 srckey=0x2 dstkey=0x1 mark=0 use=1
"""  # noqa: E501
GOOD = PRINTED.splitlines()[1]


def test_what_the_tool_printed_is_what_we_print() -> None:
    table = kf.ConnectionTable.from_text(PRINTED, now=5 * SECOND)
    assert table.to_text(5 * SECOND, accounting=False) == PRINTED
    extended = "".join(f"ipv4     2 {line}\n" for line in PRINTED.splitlines())
    assert table.to_text(5 * SECOND, extended=True, accounting=False) == extended
    assert kf.ConnectionTable.from_text(extended).to_text(0, accounting=False) == PRINTED


def test_translation_is_told_by_the_tuples() -> None:
    table = kf.ConnectionTable.from_text(PRINTED)
    rows = {
        (int(r["proto"]), ipv4_text(r["dst"]), int(r["zone"])): CtStatus(int(r["status"]))
        for r in table.to_records(0)
    }
    assert CtStatus.SRC_NAT in rows[17, "10.0.0.3", 0]
    assert CtStatus.DST_NAT in rows[17, "10.0.0.4", 0]
    assert not rows[17, "10.0.0.2", 7] & (CtStatus.SRC_NAT | CtStatus.DST_NAT)


def test_loaded_connections_are_found_and_expire() -> None:
    table = kf.ConnectionTable.from_text(PRINTED, now=SECOND)
    u32, u16 = (lambda x: np.array([x], np.uint32)), (lambda x: np.array([x], np.uint16))
    key = u32(0x0A000003), u32(0xC0000201), u16(53), u16(7000), np.array([17], np.uint8)
    _, reply = table.lookup(*key, now=2 * SECOND)
    assert reply.tolist() == [True]
    _, info = table.track(*key, now=2 * SECOND)
    assert info.tolist() == [CtInfo.ESTABLISHED_REPLY]
    assert table.lookup(*key, now=200 * SECOND)[0][0] == kf.ConnectionTable.MISS
    assert len(table.to_text(101 * SECOND).splitlines()) == 1


def test_a_loaded_connection_has_nobodys_windows() -> None:
    """It lies where a connection lay before whose windows were known."""
    table = kf.ConnectionTable(capacity=1)
    u32, u16, u8 = (lambda x, kind=kind: np.array([x], kind) for kind in (np.uint32, np.uint16, np.uint8))
    there = u32(1), u32(2), u16(3), u16(80), u8(6)
    for seq, flags, who in ((100, 2, there), (900, 18, (there[1], there[0], there[3], there[2], there[4]))):
        table.track(*who, 0, seq=u32(seq), ack=u32(101), window=u16(1000), flags=u8(flags))
    assert table.delete(proto=6) == 1
    table.load_text(PRINTED.splitlines()[6])
    key = u32(0x0A000001), u32(0x0A000002), u16(1001), u16(80), u8(6)
    _, info = table.track(*key, SECOND, seq=u32(3_000_000_000), ack=u32(2_000_000_000), window=u16(1000))
    assert info.tolist() == [CtInfo.ESTABLISHED]


def test_a_node_goes_on_with_loaded_connections() -> None:
    """A masqueraded flow that the text tells of is translated with the port that it had."""
    from strategies import make_node
    from test_fastpath import PAIRS, START, Event, batch_of

    node = make_node()
    node.connections.load_text(
        "udp 17 30 src=10.244.1.2 dst=198.51.100.7 sport=1024 dport=53 "
        "src=198.51.100.7 dst=10.240.0.4 sport=53 dport=7777 [ASSURED] mark=0 use=1",
        START,
    )
    out, _ = PAIRS["masqueraded"]
    left = node.forward(batch_of(node, [Event(out.port, out.udp())])).packets("eth0").frames()[0]
    assert int.from_bytes(left[34:36], "big") == 7777


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        GOOD.replace("udp ", "tcp "),
        GOOD.replace("17", "6"),
        GOOD.replace("sport=1000", "sport=65536"),
        GOOD.replace("sport=1000", "sport=-1"),
        GOOD.replace("sport=1000 ", ""),
        GOOD.replace("sport=1000", "sport=1000 sport=1"),
        GOOD.replace("10.0.0.1", "10.0.0.256"),
        GOOD.replace("use=1", ""),
        GOOD.replace(" 99 ", " -1 "),
        GOOD.replace("[UNREPLIED] ", "[SOMEHOW] "),
        GOOD + " more=1",
        "ipv6     10 " + GOOD,
        GOOD.split("[")[0],
        GOOD.replace("mark=0", "mark=4294967296"),
        GOOD.replace("[UNREPLIED]", "[UNREPLIED] [UNREPLIED]"),
        GOOD.replace("mark=0", "[ASSURED] [ASSURED] mark=0"),
        GOOD.replace("src=10.0.0.1", "src=fd00::1"),
        "ipv4     2 " + GOOD.replace("10.0.0.1 ", "fd00::1 "),
    ],
)
def test_a_line_that_is_none_is_named(wrong: str) -> None:
    table = kf.ConnectionTable()
    with pytest.raises(ValueError, match="line 4 is no connection"):
        table.load_text("\n" + PRINTED.splitlines()[0] + "\n\n" + wrong)
    assert len(table) == 0


def test_a_tuple_twice_is_refused() -> None:
    table = kf.ConnectionTable()
    twice = PRINTED + GOOD
    with pytest.raises(ValueError, match="line 11 has a tuple of an earlier one"):
        table.load_text(twice)
    reverse = re.sub(r"dst=10.0.0.3", "dst=10.0.0.9", GOOD)
    with pytest.raises(ValueError, match="line 2 has a tuple of an earlier one"):
        table.load_text(GOOD + "\n" + reverse.replace("src=10.0.0.3", "src=10.0.0.3"))
    assert len(table) == 0
    table.load_text(GOOD)
    with pytest.raises(ValueError, match="line 2 has a tuple of a connection that is there already"):
        table.load_text(PRINTED.splitlines()[0] + "\n" + GOOD)
    assert len(table) == 1


def test_no_room_changes_nothing() -> None:
    table = kf.ConnectionTable(capacity=4)
    with pytest.raises(kf.TableFull, match="10 connections do not fit"):
        table.load_text(PRINTED)
    assert len(table) == 0


def test_statistics() -> None:
    """As `conntrack -S` of 1.4.7 prints a table in which nothing has happened."""
    assert kf.ConnectionTable().statistics_text() == (
        "cpu=0   \tfound=0 invalid=0 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0 "
        "clash_resolve=0 chaintoolong=0 \n"
    )
    assert "insert=10 " in kf.ConnectionTable.from_text(PRINTED).statistics_text()


octets = st.integers(1, 0xDFFFFFFF).map(ipv4_text)
numbers = st.integers(0, 65535)


@st.composite
def lines(draw: st.DrawFn) -> str:
    proto = draw(st.sampled_from([6, 17, 1, 47, 132, 136, 99]))
    name = {6: "tcp", 17: "udp", 1: "icmp", 47: "gre", 132: "sctp", 136: "udplite"}.get(proto, "unknown")
    state = {6: [s.name for s in TcpState], 132: [s.name for s in SctpState]}.get(proto)

    def side() -> str:
        words = [f"src={draw(octets)} dst={draw(octets)}"]
        if proto in (6, 17, 132, 136):
            words.append(f"sport={draw(numbers)} dport={draw(numbers)}")
        elif proto == 1:
            words.append(f"type={draw(st.sampled_from([0, 8, 13, 14]))} code=0 id={draw(numbers)}")
        elif proto == 47:
            words.append(f"srckey=0x{draw(numbers):x} dstkey=0x{draw(numbers):x}")
        return " ".join([*words, f"packets={draw(numbers)} bytes={draw(numbers)}"])

    words = [
        f"{name:<8} {proto} {draw(st.integers(1, 432000))}",
        *([draw(st.sampled_from(state))] if state else []),
        side(),
    ]
    words += [
        *draw(st.sampled_from([[], ["[UNREPLIED]"]])),
        side(),
        *draw(st.sampled_from([[], ["[ASSURED]"]])),
    ]
    words.append(f"mark={draw(st.integers(0, 2**32 - 1))}")
    zone = draw(st.sampled_from([0, 0, 1, 65535]))
    return " ".join([*words, *([f"zone={zone}"] if zone else []), "use=1"])


def tuples_of(line: str) -> set[tuple[str, ...]]:
    """The two tuples of a line, with the protocol and zone."""
    words = [
        word for word in line.split() if word.partition("=")[0] not in ("packets", "bytes", "mark", "use")
    ]
    zone = [word for word in words if word.startswith("zone=")]
    at = [i for i, word in enumerate(words) if word.startswith("src=")]
    end = [i for i, word in enumerate(words) if word.startswith("dst=")]
    size = next((j for j, word in enumerate(words[at[0] :]) if word.startswith(("[", "src=")) and j), 2)
    assert len(at) == len(end) == 2
    return {(words[1], *zone, *words[i : i + size]) for i in at}


@given(st.lists(lines(), max_size=12))
def test_there_and_back(listed: list[str]) -> None:
    met: set[tuple[str, ...]] = set()
    kept = []
    for line in listed:
        if not tuples_of(line) & met:
            kept.append(f"{line}\n")
            met |= tuples_of(line)
    assert kf.ConnectionTable.from_text("".join(kept)).to_text(0) == "".join(kept)


#: What conntrack 1.4.7 prints of IPv6, `-f ipv6 -o extended`.
SIX = """\
ipv6     10 tcp      6 431999 ESTABLISHED src=fd00::1 dst=2001:db8::7 sport=1001 dport=80 packets=3 bytes=200 \
src=2001:db8::7 dst=fd00:10::4 sport=80 dport=1001 packets=2 bytes=150 [ASSURED] mark=0 use=1
ipv6     10 icmpv6   58 29 src=fd00::1 dst=fd00::2 type=128 code=0 id=77 packets=1 bytes=64 [UNREPLIED] \
src=fd00::2 dst=fd00::1 type=129 code=0 id=77 packets=0 bytes=0 mark=0 use=1
"""


@pytest.mark.parametrize("extended", [False, True])
def test_both_families_there_and_back(extended: bool) -> None:
    from test_dual_stack import kubenet

    node = kf.Node(kubenet())
    table = node.connections
    text = SIX if extended else re.sub(r"(?m)^ipv6     10 ", "", SIX)
    table.load_text(PRINTED + text)
    assert table.to_text(0, family=6, extended=extended) == text
    assert table.to_text(0, accounting=False) == PRINTED
    with pytest.raises(ValueError, match="line 1 has a tuple of a connection that is there already"):
        table.load_text(text)
    named = json.loads(table.to_json(0))
    assert len(named) == 12
    assert {name: named[-2][name] for name in ("src", "dst", "reply_dst", "dport", "state", "flags", "timeout")} == {
        "src": "fd00::1", "dst": "2001:db8::7", "reply_dst": "fd00:10::4", "dport": 80, "state": "ESTABLISHED",
        "flags": ["SEEN_REPLY", "ASSURED", "CONFIRMED", "SRC_NAT", "SRC_NAT_DONE", "DST_NAT_DONE"], "timeout": 431999,
    }  # fmt: skip
    assert table.delete(proto=58) == 0  # fields choose among connections of IPv4


def test_ipv6_needs_addresses() -> None:
    table = kf.ConnectionTable()
    with pytest.raises(ValueError, match="line 11 is of IPv6"):
        table.load_text(PRINTED + SIX)
    assert len(table) == 0


def test_statistics_are_read_back() -> None:
    table = kf.ConnectionTable.from_text(PRINTED)
    text = table.statistics_text()
    assert table.statistics_of(text) == {
        name: table.counters.get(name, 0) for name in table.statistics_of(text)
    }
    both = text + text.replace("cpu=0", "cpu=1").replace("insert=10", "insert=5")
    assert table.statistics_of(both)["insert"] == 15
    for wrong in (
        "cpu=x found=0",
        text.replace("drop=0", "drop=-1"),
        text.replace("found=0", ""),
        text.rstrip() + " more=1",
    ):
        with pytest.raises(ValueError, match="line 2 is none of `conntrack -S`"):
            table.statistics_of("\n" + wrong)
