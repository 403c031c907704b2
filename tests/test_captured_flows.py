"""The flows of a capture, beside a count packet by packet; and what becomes of them in every mode."""

from __future__ import annotations

import json
from pathlib import Path

import frames
import pytest
from frames import ACK, SYN, TCP, UDP, packet, tcp, udp
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import cli
from kubenet_fastpath.captured_flows import captured_flows
from kubenet_fastpath.comparison import compare
from kubenet_fastpath.topology import Addressing

SAMPLE = Path(kf.__file__).with_name("data") / "sample.pcap"
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
PODS = ("10.244.1.5", "10.244.1.6")
ENDS = st.sampled_from([*PODS, "203.0.113.10"])
PACKETS = st.tuples(
    ENDS,
    ENDS,
    st.sampled_from([80, 1000, 1001]),
    st.sampled_from([80, 443]),
    st.sampled_from(["udp", "syn", "ack"]),
)


def written(path: Path, rows: list[tuple[str, str, int, int, str]]) -> Path:
    made = []
    for src, dst, sport, dport, kind in rows:
        l4 = udp(sport, dport) if kind == "udp" else tcp(sport, dport, SYN if kind == "syn" else ACK)
        made.append(packet(MACS[1], MACS[0], frames.ipv4(src, dst, UDP if kind == "udp" else TCP, l4)))
    kf.write_pcap(path, kf.PacketBatch.from_frames(made, time=range(len(made))))
    return path


def model(rows: list[tuple[str, str, int, int, str]]) -> dict[str, tuple[int, int]]:
    """Client, server, port and protocol -> packets and connections, of those that a pod began."""
    connections: dict[frozenset, list] = {}
    for src, dst, sport, dport, kind in rows:
        ends, proto = ((src, sport), (dst, dport)), "udp" if kind == "udp" else "tcp"
        key = frozenset({proto, (0, *min(ends)), (1, *max(ends))})
        known = connections.setdefault(key, [*ends, proto, 0, False])
        known[3] += 1
        if kind == "syn" and ends != tuple(known[:2]):
            known[4] = True
    found: dict[str, tuple[int, int]] = {}
    for a, b, proto, packets, turned in connections.values():
        client, server = (b, a) if turned else (a, b)
        if client[0] in PODS:
            name = f"{client[0]} -> {server[0]}:{server[1]}/{proto}"
            before = found.get(name, (0, 0))
            found[name] = before[0] + packets, before[1] + 1
    return found


MID_STREAM = [(PODS[1], PODS[0], 80, 1000, "ack"), (PODS[0], PODS[1], 1000, 80, "syn")]
ANSWERED = [(PODS[0], "203.0.113.10", 1000, 80, "syn"), ("203.0.113.10", PODS[0], 80, 1000, "ack")]


@settings(deadline=None)
@example(rows=MID_STREAM, size=1)
@example(rows=ANSWERED, size=5)
@given(rows=st.lists(PACKETS, min_size=1, max_size=16), size=st.integers(1, 5))
def test_flows_beside_a_model(
    rows: list[tuple[str, str, int, int, str]], size: int, tmp_path_factory
) -> None:
    rows = [row for row in rows if row[0] != row[1]]
    path = written(tmp_path_factory.mktemp("flows") / "it.pcap", [(PODS[0], PODS[1], 9, 9, "udp"), *rows])
    expected = model([(PODS[0], PODS[1], 9, 9, "udp"), *rows])
    found = captured_flows(path, pod_cidr="10.244.1.0/24", batch_packets=size, most=99)
    counted = {f.label.rsplit(",", 1)[0]: (int(f.label.split()[-2]), f.connections) for f in found.flows}
    assert counted == expected
    assert [flow.label for flow in captured_flows(path, pod_cidr="10.244.1.0/24", most=1).flows] == [
        found.flows[0].label
    ]


def test_hosts_are_what_their_addresses_make_them(tmp_path: Path) -> None:
    rows = [(PODS[0], end, 1000, 80, "syn") for end in (PODS[1], "10.244.9.9", "192.168.7.7", "203.0.113.10")]
    found = captured_flows(written(tmp_path / "it.pcap", rows), pod_cidr="10.244.1.0/24")
    nodes = {pod.name: pod.node for pod in found.topology.pods}
    assert nodes == {PODS[0]: "node0", PODS[1]: "node0", "10.244.9.9": "node1"}
    assert [host.name for host in found.topology.hosts] == ["192.168.7.7"]
    crossings = compare(found.topology, found.flows, rounds=0).crossings[Addressing.KUBENET]
    ends = {label.split()[2].split(":")[0]: crossing.place for label, crossing in crossings.items()}
    assert ends == {
        PODS[1]: PODS[1],
        "10.244.9.9": "10.244.9.9",
        "192.168.7.7": "192.168.7.7",
        "203.0.113.10": "internet",
    }


def test_the_sample_through_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--traffic", str(SAMPLE), "--rounds", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert all(
        crossing["answered"] for mode in said["addressing"].values() for crossing in mode["flows"].values()
    )
    assert cli.main(["compare", "--traffic", str(SAMPLE), "--rounds", "0"]) == 0
    out = capsys.readouterr().out
    assert "begun by nobody's pod" in out
    assert "as many of each flow as it has" in out


@pytest.mark.parametrize(
    "words", [["--traffic", "no-such.pcap"], ["--traffic", str(SAMPLE), "x.json"],
              ["--traffic", str(SAMPLE), "--pod-cidr", "10.9.0.0/24"], ["--traffic", str(SAMPLE), "--redact", "x"]]
)  # fmt: skip
def test_what_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
