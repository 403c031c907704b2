"""What a recorder notes is what the pipeline does: in every recorded case, and in words where the way is known."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import frames
import golden_compare
import numpy as np
import pytest
from clusters import START, make, sent
from frames import SYN, TCP, UDP, tcp, udp
from golden_node import GoldenNode, NotYet
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BRIDGE_MAC, PODS, make_node

import kubenet_fastpath as kf
from kubenet_fastpath import Reason, Verdict, cli
from kubenet_fastpath.address import ipv4_text, mac_text
from kubenet_fastpath.drop_reason import drop_reason
from kubenet_fastpath.explain_command import SAMPLE
from kubenet_fastpath.explanation import (
    BRIDGE,
    CONNTRACK,
    EMIT,
    RECEIVE,
    STAGES,
    VERDICT,
    Explanation,
    explain,
)
from kubenet_fastpath.explanation import explained as explained_with_result
from kubenet_fastpath.recorder import NOTE
from kubenet_fastpath.replay import replayed
from kubenet_fastpath.stage_cost import PARTS, stage_ns

CASES = sorted((Path(__file__).parent / "golden" / "cases").glob("*.json"))
A, A_MAC = PODS["pod1"]


class Recorded:
    """A node whose `forward` is `record`, and holds the notes against the result."""

    def __init__(self, node: kf.Node) -> None:
        self._node = node
        self.noted = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._node, name)

    def forward(self, batch: kf.PacketBatch) -> kf.Result:
        result, notes = self._node.record(batch)
        ends = notes[notes["stage"] == VERDICT]
        assert (ends["fate"] == result.verdict.astype(int) << 8 | result.reason).all()
        left = notes[notes["stage"] == EMIT]
        assert np.array_equal(left["value"], result.outputs["port"])
        assert np.array_equal(left["source"], result.outputs["source"])
        assert np.array_equal(left["time"], result.outputs["time"])
        self.noted += len(notes)
        return result


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_notes_agree_with_the_result_in_every_recorded_case(file: Path) -> None:
    case = json.loads(file.read_text())
    try:
        plain, noted = GoldenNode(case["node"]), GoldenNode(case["node"])
    except NotYet as missing:
        pytest.skip(str(missing))
    noted.node = Recorded(noted.node)  # type: ignore[assignment]
    expected = golden_compare.replay(case, plain.inject, plain.advance)
    assert golden_compare.replay(case, noted.inject, noted.advance) == expected
    assert noted.conntrack() == plain.conntrack()
    assert noted.fdb() == plain.fdb()
    assert noted.node.noted > 0  # type: ignore[attr-defined]


class Explained(Recorded):
    """A node whose `forward` is `explained`, and holds each explanation against the result."""

    def forward(self, batch: kf.PacketBatch) -> kf.Result:
        result, found = explained_with_result(self._node, batch)
        assert len(found) == len(result.verdict)
        names = {port.index: port.name for port in self._node.ports.values()}
        left = result.packets(None)
        for k, explanation in enumerate(found):
            verdict, reason = Verdict(result.verdict[k]), Reason(result.reason[k])
            assert (explanation.verdict, explanation.reason) == (verdict.name, reason.name)
            assert explanation.drop_reason == drop_reason(reason)
            mine = np.flatnonzero(result.outputs["source"] == k)
            assert [port for port, _ in explanation.outputs] == [
                names[int(port)] for port in result.outputs["port"][mine]
            ]
            heads = left.headers()[mine]
            for (_, said), head in zip(explanation.outputs, heads, strict=True):
                assert said.startswith(f"{mac_text(head['eth_src'])} > {mac_text(head['eth_dst'])}")
                if head["eth_type"] == 0x0800 and head["ip_version"] == 4:
                    assert f" ttl {head['ttl']}" in said
                    assert f" > {ipv4_text(head['dst'])}" in said
            own = [stage for stage in explanation.stages if not stage.generated]
            for before, behind in itertools.pairwise([stage for stage in own if stage.header]):
                assert behind.before == before.header
            fates = [stage.fate for stage in own if stage.fate]
            if verdict is Verdict.DROP:
                assert f"DROP, {reason.name}" in fates
            if verdict in (Verdict.ROUTED, Verdict.BRIDGED) and len(explanation.outputs) == 1:
                last = [stage for stage in own if "the host's copy" not in stage.entry][-1]
                assert explanation.outputs[0][1].endswith(last.header)
            self.noted += len(explanation.stages)
        return result


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_explanations_agree_with_the_result_in_every_recorded_case(file: Path) -> None:
    case = json.loads(file.read_text())
    try:
        plain, told = GoldenNode(case["node"]), GoldenNode(case["node"])
    except NotYet as missing:
        pytest.skip(str(missing))
    told.node = Explained(told.node)  # type: ignore[assignment]
    expected = golden_compare.replay(case, plain.inject, plain.advance)
    assert golden_compare.replay(case, told.inject, told.advance) == expected
    assert told.conntrack() == plain.conntrack()
    assert told.fdb() == plain.fdb()
    assert told.node.noted > 0  # type: ignore[attr-defined]


def from_a(dst: str, l4: bytes, proto: int = UDP, mac: str = BRIDGE_MAC, **ip: object) -> kf.PacketBatch:
    frame = frames.packet(mac, A_MAC, frames.ipv4(A, dst, proto, l4, **ip))
    return kf.PacketBatch.from_frames([frame], time=START)


def explained(batch: kf.PacketBatch, node: kf.Node | None = None) -> Explanation:
    node = make_node() if node is None else node
    batch.port[:] = node.ports["pod1"].index
    return explain(node, batch)[0]


def names(explanation: Explanation) -> list[str]:
    return [stage.name for stage in explanation.stages]


def test_a_masqueraded_packet() -> None:
    found = explained(from_a("198.51.100.7", udp(4000, 53)))
    assert names(found) == [
        "receive", "conntrack", "bridge", "route", "forward", "source NAT", "confirm", "postrouting", "neighbour",
    ]  # fmt: skip
    stage = {s.name: s for s in found.stages}
    assert stage["conntrack"].entry == "ctstate NEW"
    assert stage["route"].entry.startswith("0.0.0.0/0 via ")
    assert " ttl 64" in stage["route"].header
    assert " ttl 63" in stage["forward"].header
    assert stage["source NAT"].header.startswith(
        f"udp {make_node().config.node_address}:4000 > 198.51.100.7:53"
    )
    assert "SNAT" in stage["confirm"].state
    assert (found.verdict, found.reason, found.drop_reason) == ("ROUTED", "MASQUERADE", "")
    assert [port for port, _ in found.outputs] == ["eth0"]


def test_a_bridged_packet() -> None:
    found = explained(from_a(PODS["pod2"][0], udp(4000, 53), mac=PODS["pod2"][1]))
    assert names(found) == ["receive", "conntrack", "bridge", "forward", "confirm"]
    assert found.stages[2].entry.endswith("dev pod2")
    assert [port for port, _ in found.outputs] == ["pod2"]


def test_a_packet_that_dies_and_what_its_sender_is_told() -> None:
    found = explained(from_a("198.51.100.7", udp(4000, 53), ttl=1))
    assert (found.verdict, found.reason, found.drop_reason) == ("DROP", "TTL", "IP_INHDR")
    made = [stage for stage in found.stages if stage.generated]
    assert made[0].name == "output"
    assert "icmp" in made[0].header
    assert "type 11 code 0" in made[0].header
    assert [port for port, _ in found.outputs] == ["pod1"]
    assert "(SKB_DROP_REASON_IP_INHDR)" in found.text()


def test_a_rule_that_drops_is_named() -> None:
    found = explained(from_a("198.51.100.7", tcp(1, 2, 0), TCP))
    assert found.drop_reason == "NETFILTER_DROP"
    assert found.stages[-1].name == "forward"
    assert found.stages[-1].fate == "DROP, CT_INVALID"


def test_a_service_and_the_hosts_copy() -> None:
    cluster = make("kubenet")
    node = cluster.nodes["node0"]
    batch = kf.PacketBatch.from_frames(
        [sent(cluster, "pod00", "10.0.0.50", TCP, tcp(4000 + k, 80, SYN)) for k in range(8)],
        port=node.ports["pod00"],
        time=START,
    )
    found = explain(node, batch)
    bridged = next(e for e in found if e.verdict == "BRIDGED")
    routed = next(e for e in found if e.verdict == "ROUTED")
    for explanation in (bridged, routed):
        service = next(stage for stage in explanation.stages if stage.name == "service")
        assert service.entry.startswith("service default/web 10.0.0.50:80 -> ")
    assert bridged.stages[-1].entry.endswith("(the host's copy: it has no connection)")
    assert not any("copy" in stage.entry for stage in routed.stages)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=120), max_size=6), st.booleans())
def test_any_bytes_are_explained(payloads: list[bytes], headed: bool) -> None:
    head = bytes.fromhex((BRIDGE_MAC + A_MAC).replace(":", "")) + b"\x08\x00" if headed else b""
    node = make_node()
    batch = kf.PacketBatch.from_frames([head + p for p in payloads], port=node.ports["pod1"], time=START)
    for explanation in explain(node, batch):
        assert explanation.text().count("verdict") == 1


def test_nothing_is_noted_when_nobody_asks() -> None:
    node = make_node()
    node.record(from_a("198.51.100.7", udp(1, 2)))
    node.forward(from_a("198.51.100.7", udp(1, 2)))
    assert len(node.record(kf.PacketBatch.from_frames([]))[1]) == 0


def test_a_stopwatch_changes_nothing_but_what_it_notes() -> None:
    plain, timed = make_node(), make_node()
    for frame in (udp(1, 2), udp(1, 2), udp(3, 4)):
        result, notes = plain.record(from_a("198.51.100.7", frame))
        same, found = timed.record(from_a("198.51.100.7", frame), timed=True)
        assert same.outputs.tobytes() == result.outputs.tobytes()
        assert not notes["took"].any()
        found["took"] = 0
        assert np.array_equal(notes, found)
    assert not plain.record(from_a("198.51.100.7", udp(5, 6)))[1]["took"].any()


def test_a_stage_has_the_time_up_to_its_notes() -> None:
    notes = np.zeros(6, NOTE)
    notes["stage"] = [RECEIVE, CONNTRACK, BRIDGE, RECEIVE, BRIDGE, VERDICT]
    notes["took"] = [120, 30, 25, 20, 15, 60]
    found = stage_ns(notes, 2, 20)
    assert list(found) == list(PARTS)
    assert {part: ns for part, ns in found.items() if ns} == {
        "receive": 50,  # 100 of the first, nothing of the second
        "conntrack": 5,
        "bridge": 2.5,  # what is less than a reading is nothing
        "send": 20,
    }


def test_every_stage_is_in_one_part() -> None:
    assert sorted(stage for stages in PARTS.values() for stage in stages) == list(range(len(STAGES)))


def test_a_call_that_is_refused_leaves_the_recorder_off() -> None:
    node = make_node()
    with pytest.raises(TypeError):
        node.record("packets")  # type: ignore[arg-type]
    assert len(node.record(kf.PacketBatch.from_frames([]))[1]) == 0


def test_every_drop_has_the_kernels_name_and_nothing_else_has() -> None:
    assert all(bool(drop_reason(reason)) == (reason >= 64) for reason in Reason)
    assert len(STAGES) == VERDICT + 1


@pytest.mark.parametrize("addressing", ["kubenet", "node-subnet", "pod-subnet", "overlay"])
def test_explain_through_the_cluster(addressing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "web -> db:5432", "--addressing", addressing, "--answer", "--json"]) == 0
    there, back = json.loads(capsys.readouterr().out)
    assert there["end"].endswith("at db")
    assert back["end"].endswith("at web")
    nodes = [
        hop["node"] for hop in back["hops"] if "node" in hop
    ]  # where the pod is on the link, ARP comes before
    assert (
        nodes == ["node1", "node1", "node0"] if addressing == "node-subnet" else nodes == ["node1", "node0"]
    )
    assert cli.main(["explain", "web -> db:5432", "--addressing", addressing]) == 0
    assert "delivered" in capsys.readouterr().out


def test_explain_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--frame", "14", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["reason"]) == ("ROUTED", "MASQUERADE")
    assert cli.main(["explain", "--frame", "275"]) == 0
    assert "frame 275 of sample.pcap" in capsys.readouterr().out


def test_a_frame_of_a_capture_is_explained_as_replay_forwards_it() -> None:
    for number in range(1, 276, 9):
        node, batch = replayed(SAMPLE, number, batch_packets=50)
        assert sum(node.counters[v.name.lower()] for v in kf.Verdict) == number - 1
        assert len(node.forward(batch)) == 1
    node, batch = replayed(SAMPLE)
    assert len(batch) == 0
    assert sum(node.counters[v.name.lower()] for v in kf.Verdict) == 275


@pytest.mark.parametrize(
    "words",
    [[], ["web"], ["web -> db:0"], ["nobody -> db:1"], ["web -> node:none:1"], ["web -> db:1", "--frame", "1"],
     ["--frame", "0"], ["--frame", "276"], ["--capture", "x.pcap"], ["node0 -> db:1"],
     ["vm -> web:1", "--answer"]],
)  # fmt: skip
def test_explain_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("table", ["routes", "fdb", "conntrack", "services", "counters"])
def test_show(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", table]) == 0
    text = capsys.readouterr().out
    assert cli.main(["show", table, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    if table != "services":
        assert len(text.splitlines()) == len(data)


def test_show_has_the_forms_that_people_know(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["show", "routes"])
    routes = capsys.readouterr().out.splitlines()
    assert "default via 10.240.0.1 dev eth0" in routes
    assert "10.244.1.0/24 dev cbr0 scope link" in routes
    # as `ip -4 route show table all` prints an address of an interface
    assert "local 10.240.0.4 dev eth0 table local proto kernel scope host src 10.240.0.4" in routes
    assert "broadcast 10.244.1.255 dev cbr0 table local proto kernel scope link src 10.244.1.1" in routes
    cli.main(["show", "services", "--node", "node0"])
    services = capsys.readouterr().out.splitlines()
    assert services[0].split() == ["NAMESPACE", "NAME", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "ENDPOINTS"]
    assert services[3].split() == [
        "default",
        "web",
        "10.0.0.50",
        "20.1.2.4",
        "443:30443/TCP",
        "10.244.1.2:8443",
    ]
    cli.main(["show", "fdb"])
    assert "0a:58:0a:f4:01:02 dev 10.244.1.2 master cbr0" in capsys.readouterr().out
    cli.main(["show", "counters", "--json"])
    counters = json.loads(capsys.readouterr().out)
    assert sum(counters[v.name.lower()] for v in kf.Verdict if v.name.lower() in counters) == 275


@pytest.mark.parametrize("table", ["routes", "fdb", "conntrack", "services", "counters"])
def test_show_of_a_clusters_node(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", table, "--node", "node1", "--addressing", "overlay"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data) == len(text.splitlines()) - (table == "services")
    assert (table == "fdb") == (not data)  # a routed node has no bridge


@pytest.mark.parametrize(
    "words",
    [["--node", "none"], ["x.pcap", "--node", "node0"], ["--node", "node0", "--pod-cidr", "10.0.0.0/8"],
     ["--cluster", "no.json"]],
)  # fmt: skip
def test_show_of_a_cluster_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "routes", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_fabrics_route_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "web -> db:5432"]) == 0
    assert "VNet: USER_ROUTE 10.244.1.0/24 VirtualAppliance 10.224.0.5 (a user-" in capsys.readouterr().out
    assert cli.main(["explain", "vm -> web:80"]) == 0
    assert "VNet: NO_ROUTE 10.0.0.0/8 None (" in capsys.readouterr().out
    assert cli.main(["explain", "web -> db:5432", "--addressing", "overlay"]) == 0
    assert "VNet: OVERLAY 10.244.1.0/24 (" in capsys.readouterr().out


def test_show_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "routes", "no-such.pcap"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
