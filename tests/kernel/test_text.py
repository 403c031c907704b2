"""`conntrack -L` and `-S` of the running kernel, beside ours."""

from __future__ import annotations

import os
import subprocess

import pytest

import kubenet_fastpath as kf
from kernel.namespaces import why_not

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
BETWEEN = "-s 10.0.0.1 -d 10.0.0.2"
ENTRIES = [
    *(
        f"-p tcp {BETWEEN} --sport {1000 + i} --dport 80 --state {s} -t 300"
        for i, s in enumerate(
            [
                "SYN_SENT",
                "SYN_RECV",
                "ESTABLISHED",
                "FIN_WAIT",
                "CLOSE_WAIT",
                "LAST_ACK",
                "TIME_WAIT",
                "CLOSE",
            ]
        )
    ),
    f"-p tcp {BETWEEN} --sport 9 --dport 80 --state ESTABLISHED -t 432000 -u ASSURED,SEEN_REPLY -m 5",
    f"-p udp {BETWEEN} --sport 1000 --dport 53 -t 100",
    f"-p udp {BETWEEN} --sport 1000 --dport 53 -t 100 -w 7",
    "-p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1000 --dport 53 -t 100 --src-nat 192.0.2.1:7000",
    "-p udp -s 10.0.0.1 -d 10.0.0.4 --sport 1000 --dport 53 -t 100 --dst-nat 192.0.2.9",
    f"-p icmp {BETWEEN} --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 30",
    f"-p gre {BETWEEN} --srckey 1 --dstkey 2 -t 100",
    f"-p udplite {BETWEEN} --sport 1 --dport 2 -t 100",
    f"-p 99 {BETWEEN} -t 100",
]


@pytest.mark.parametrize("accounting", [False, True])
def test_what_the_tool_prints(accounting: bool) -> None:
    name = f"kfp-{os.getpid()}-text"

    def tool(*words: str) -> str:
        return subprocess.run(
            ["ip", "netns", "exec", name, *words], check=True, capture_output=True, text=True
        ).stdout

    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        tool("sysctl", "-qw", f"net.netfilter.nf_conntrack_acct={int(accounting)}")
        for entry in ENTRIES:
            tool("conntrack", "-I", *entry.split())
        printed, extended, statistics = (
            tool("conntrack", "-L"),
            tool("conntrack", "-L", "-o", "extended"),
            tool("conntrack", "-S"),
        )
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
    assert len(printed.splitlines()) == len(ENTRIES)
    table = kf.ConnectionTable.from_text(printed)
    assert table.to_text(0, accounting=accounting) == printed
    table = kf.ConnectionTable.from_text(extended)
    assert table.to_text(0, extended=True, accounting=accounting) == extended
    names = [word.partition("=")[0] for word in statistics.splitlines()[0].split()]
    assert [word.partition("=")[0] for word in table.statistics_text().split()] == names
