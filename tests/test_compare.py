"""The same flows through every addressing mode: what changes is what Kubernetes people expect to change."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

import kubenet_fastpath as kf
from kubenet_fastpath import ConfigError, cli
from kubenet_fastpath.comparison import Comparison, Cost, compare, to_json
from kubenet_fastpath.comparison_page import comparison_page
from kubenet_fastpath.comparison_report import comparison_tables, part_rows, share_text
from kubenet_fastpath.consumption import Share
from kubenet_fastpath.stage_cost import PARTS
from kubenet_fastpath.topology import Addressing, PodSite, ServiceSite, Topology, sample_topology
from kubenet_fastpath.traffic import Flow
from kubenet_fastpath.traffic_class import built_in_flows, traffic_classes
from kubenet_fastpath.workload import carry, mixed_sessions

KUBENET, NODE, POD, OVERLAY = Addressing


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(sample_topology(), rounds=2, packets=64, connections=4)


def test_every_flow_is_delivered_and_answered_but_these(found: Comparison) -> None:
    not_delivered = {
        (mode, label, crossing.reason)
        for mode, crossings in found.crossings.items()
        for label, crossing in crossings.items()
        if not crossing.answered
    }
    assert not_delivered == {
        (KUBENET, "pod to itself by service", "SAME_PORT"),
        (KUBENET, "VNet host to pod", "NO_ROUTE"),
        (OVERLAY, "VNet host to pod", "NO_ROUTE"),
    }


BOTH = ["node0", "load balancer"]


# T.. of the semantics specification, section 7: who is masqueraded towards whom
@pytest.mark.parametrize(
    ("label", "sources"),
    [
        ("pod to pod, other node", ["the pod's own"] * 4),
        ("pod to VNet host", ["node0's eth0", "the pod's own", "the pod's own", "node0's eth0"]),
        ("pod to node", ["the pod's own", "the pod's own", "the pod's own", "node0's eth0"]),
        ("pod to peered VNet", ["node0's eth0", "node0's eth0", "the pod's own", "node0's eth0"]),
        ("pod to Azure DNS", ["node0's eth0"] * 4),
        ("pod to cluster DNS", ["the pod's own"] * 4),
        ("pod to internet", ["the load balancer's"] * 4),
        ("VNet host to node port (Cluster)", ["node0's eth0"] * 4),
        ("VNet host to node port (Local)", ["the sender's own"] * 4),
    ],
)
def test_whose_address_the_receiver_sees(found: Comparison, label: str, sources: list[str]) -> None:
    assert [found.crossings[mode][label].source_is for mode in Addressing] == sources


@pytest.mark.parametrize(
    ("label", "places"),
    [
        ("pod to pod, other node", [[], [], [], []]),
        ("pod to internet", [BOTH, BOTH, BOTH[1:], BOTH]),
        ("pod to service, endpoint on other node", [["node0"]] * 4),
        ("VNet host to node port (Cluster)", [["node0", "node0"]] * 4),
        ("pod to node", [[], [], [], ["node0"]]),
    ],
)
def test_where_is_translated(found: Comparison, label: str, places: list[list[str]]) -> None:
    assert [[t.where for t in found.crossings[mode][label].translations] for mode in Addressing] == places


AGENT, PROXY, CNS = "ip-masq-agent", "kube-proxy", "Azure CNS"


# specification, sections 3 and 7.3: whose rule translates, and by which of its conditions
@pytest.mark.parametrize(
    ("label", "mode", "by", "because"),
    [
        ("pod to VNet host", KUBENET, [AGENT], "10.225.0.10 is in no CIDR that it leaves alone"),
        ("pod to node", OVERLAY, [AGENT], "10.224.0.5 is in no CIDR"),
        ("pod to Azure DNS", NODE, [AGENT], "168.63.129.16 is in no CIDR"),
        ("pod to Azure DNS", POD, [CNS], "answers nodes, not pods"),
        ("pod to internet", POD, ["its outbound rule"], "node0 has 1,024 outbound ports"),
        (
            "pod to service, endpoint on other node",
            OVERLAY,
            [PROXY],
            "is service default/db, db the endpoint",
        ),
        ("pod to itself by service", NODE, [PROXY, PROXY], "the endpoint is the sender itself"),
        ("VNet host to node port (Cluster)", KUBENET, [PROXY, PROXY], "externalTrafficPolicy Cluster"),
        (
            "VNet host to node port (Local)",
            KUBENET,
            [PROXY],
            "30444 is a node port of service default/web-local",
        ),
    ],
)
def test_each_translation_has_its_reason(
    found: Comparison, label: str, mode: Addressing, by: list[str], because: str
) -> None:
    translations = found.crossings[mode][label].translations
    assert [t.by for t in translations] == by
    assert because in translations[-1].because


@pytest.mark.parametrize(
    ("label", "mode", "because"),
    [
        ("pod to VNet host", NODE, "10.225.0.10 is in 10.224.0.0/12, which ip-masq-agent leaves alone"),
        ("pod to VNet host", POD, "the nodes masquerade nothing"),
        (
            "pod to pod, same node",
            KUBENET,
            "10.244.0.3 is in 10.244.0.0/16, which ip-masq-agent leaves alone",
        ),
        ("internet to service (Local)", KUBENET, "externalTrafficPolicy Local of default/web-local"),
    ],
)
def test_a_source_that_is_kept_has_its_reason(
    found: Comparison, label: str, mode: Addressing, because: str
) -> None:
    assert because in found.crossings[mode][label].source_because


def test_every_crossing_says_why(found: Comparison) -> None:
    for crossings in found.crossings.values():
        for crossing in crossings.values():
            assert all(hop.entry or hop.because for hop in crossing.hops)
            assert all(t.because and t.by for t in crossing.translations)
            if crossing.source_seen:
                assert crossing.source_because
                assert crossing.ttl_because
                assert crossing.mtu_because
                assert crossing.mtu == 1500
                taken = sum(hop.did.startswith("ROUTED") for hop in crossing.hops)
                assert crossing.ttl == 64 - taken
                assert crossing.hops[-1].ttl == crossing.ttl
            else:
                assert crossing.because


def test_routes_of_the_fabric_are_named(found: Comparison) -> None:
    entries = [
        next(h.entry for h in found.crossings[mode]["pod to pod, other node"].hops if h.where == "VNet")
        for mode in Addressing
    ]
    assert entries == [
        "10.244.1.0/24 VirtualAppliance 10.224.0.5, which is node1",
        "10.224.0.0/12 VnetLocal",
        "10.241.0.0/16 VnetLocal",
        "10.244.1.0/24",
    ]
    nowhere = found.crossings[KUBENET]["VNet host to pod"]
    assert nowhere.because == "the VNet has no route there: its next hop is None (10.0.0.0/8 None)"


def test_translations_are_a_chain_to_what_is_seen(found: Comparison) -> None:
    for crossings in found.crossings.values():
        for crossing in crossings.values():
            for what, seen in (("source", crossing.source_seen), ("destination", crossing.destination_seen)):
                chain = [t for t in crossing.translations if t.what == what]
                assert [t.before for t in chain[1:]] == [t.after for t in chain[:-1]]
                assert not chain or chain[-1].after == seen


@pytest.mark.parametrize(
    ("label", "ttl"), [("pod to pod, same node", [64, 63, 63, 63]), ("pod to pod, other node", [62] * 4)]
)
def test_ttl(found: Comparison, label: str, ttl: list[int]) -> None:
    assert [found.crossings[mode][label].ttl for mode in Addressing] == ttl


@pytest.mark.parametrize(
    ("label", "looks"),
    [  # conntrack, services, fdb, routes, neighbours: by the stages of the semantics specification, section 2
        ("pod to pod, same node", [(1, 0, 1, 0, 0), *[(1, 0, 0, 1, 1)] * 3]),
        ("pod to pod, other node", [(2, 0, 2, 2, 2), *[(2, 0, 0, 2, 2)] * 3]),
        ("pod to VNet host", [(1, 0, 1, 1, 1), *[(1, 0, 0, 1, 1)] * 3]),
        ("pod to service, endpoint on same node", [(1, 1, 1, 1, 0), *[(1, 1, 0, 1, 1)] * 3]),
        ("pod to node", [(2, 0, 1, 2, 1), *[(2, 0, 0, 2, 1)] * 3]),
    ],
)
def test_looks_into_tables(found: Comparison, label: str, looks: list[tuple[int, ...]]) -> None:
    assert [tuple(found.crossings[mode][label].lookups.values()) for mode in Addressing] == looks


def test_the_way(found: Comparison) -> None:
    ways = [found.crossings[mode]["pod to pod, other node"].path[1] for mode in Addressing]
    assert ways == ["USER_ROUTE", "VNET", "VNET", "OVERLAY"]


def test_what_it_takes_up(found: Comparison) -> None:
    taken = [found.consumption[mode] for mode in Addressing]
    assert [c.vnet_addresses for c in taken] == [3, 14, 14, 3]
    assert [c.vnet_addresses_reserved.used for c in taken] == [4, 4 + 4 * 30, 4 + 3 * 16, 4]
    assert [c.vnet_addresses_reserved.limit for c in taken] == [65531, 65531, 2 * 65531, 65531]
    assert [(c.routes.used, c.routes.limit) for c in taken] == [(3, 400), *[(0, 400)] * 3]
    for c in taken:
        assert set(c.connections) == set(c.snat_ports) == {"node0", "node1", "node2"}
        assert all(0 < share.used < share.limit == 262144 for share in c.connections.values())
        assert all(0 < share.used < share.limit == 1024 for share in c.snat_ports.values())
        assert c.fullest_connections[1].used == max(share.used for share in c.connections.values())
        assert 0.99 < c.fullest_connections[1].headroom < 1


def test_the_mix_is_realistic_seeded_and_answered(found: Comparison) -> None:
    classes = traffic_classes(sample_topology())
    sessions = mixed_sessions(classes, 3)
    assert sessions == mixed_sessions(classes, 3)
    assert sessions != mixed_sessions(classes, 3, seed=2)
    assert len(sessions) == 600
    count = {row.label: 0 for row in classes}
    for session in sessions:
        count[session.flow.label] += 1
    assert max(count, key=lambda label: count[label]) == "pod to cluster DNS"
    assert len({session.flow.src for session in sessions}) == 13  # all pods, the host, the internet
    failed = {mode: set(found.consumption[mode].load.failed) for mode in Addressing}
    assert failed == {
        KUBENET: {"pod to itself by service", "VNet host to pod"},
        NODE: set(),
        POD: set(),
        OVERLAY: {"VNet host to pod"},
    }


def test_outbound_ports_that_run_out_are_counted() -> None:
    small = replace(sample_topology(), outbound_ports=8)
    found = compare(small, rounds=0, addressing=[KUBENET])
    taken = found.consumption[KUBENET]
    assert taken.load.exhausted > 0
    assert taken.fullest_snat[1].headroom == 0
    text = "\n".join(part for part in comparison_tables(found) if isinstance(part, str))
    assert "Found no outbound port with kubenet" in text


def test_a_load_counts_what_the_tables_hold() -> None:
    cluster = kf.Cluster.from_topology(sample_topology(), OVERLAY)
    classes = [row for row in traffic_classes(sample_topology()) if row.label == "pod to pod, same node"]
    sessions = mixed_sessions(classes, 1)
    load = carry(cluster, sessions, 10**18)
    assert load.failed == {}
    assert sum(load.connections.values()) == len({(s.flow.src, s.sport) for s in sessions})
    assert load.packets == 2 * sum(s.questions for s in sessions)


def test_a_connection_that_nobody_answers_is_given_up() -> None:
    cluster = kf.Cluster.from_topology(sample_topology(), KUBENET)
    classes = [row for row in traffic_classes(sample_topology()) if row.label == "VNet host to pod"]
    sessions = mixed_sessions(classes, 1)
    load = carry(cluster, sessions, 10**18)
    assert load.failed == {"VNet host to pod": len(sessions)}
    assert load.packets == len(sessions) == 200
    assert sum(load.connections.values()) == 0


def test_shares_are_said_with_what_is_left() -> None:
    assert share_text(Share(used=3, limit=400)) == "3 of 400 (99.25 % left)"
    assert share_text(Share(used=1500, limit=0)) == "1,500"


def test_costs_are_of_what_was_answered(found: Comparison) -> None:
    for mode, crossings in found.crossings.items():
        answered = {label for label, c in crossings.items() if c.answered and c.outcome == "DELIVERED"}
        assert set(found.cost[mode]) == answered
        for cost in found.cost[mode].values():
            assert len(cost.established) == len(cost.first) == 2
            assert min(cost.established + cost.first) > 0
            for total, parts in ((cost.established, cost.established_at), (cost.first, cost.first_at)):
                assert [sum(at) for at in zip(*parts.values(), strict=True)] == pytest.approx(total)
            assert all(len(ns) == 2 for ns in cost.first_in.values())
    twice = found.cost[KUBENET]["pod to pod, other node"]
    assert set(twice.established_at) == set(twice.first_at) == {"node0", "node1"}


def test_a_ratio_is_kubenets_cost_over_a_modes_in_one_round(found: Comparison) -> None:
    label = "pod to VNet host"
    cost = {KUBENET: {label: Cost(established=[20, 40, 90], first=[5, 5, 5])}}
    cost[NODE] = {label: Cost(established=[10, 10, 10], first=[10, 20, 10])}
    made = replace(found, cost=cost)
    assert made.ratio(NODE, label) == 4
    assert made.ratio(NODE, label, first=True) == 0.5
    assert made.ns_per_packet(KUBENET, label) == 40
    assert made.ns_per_packet(NODE, label, first=True) == 10


def test_stages_cost_what_they_do_with_and_without_kubenet(found: Comparison) -> None:
    label = "pod to VNet host"
    parts = {part: [0.0, 0.0, 0.0] for part in PARTS}
    cost = {mode: {label: Cost(established=[1], first=[1], first_in=parts)} for mode in found.cost}
    cost[KUBENET] = {label: Cost(established=[1], first=[1], first_in=parts | {"bridge": [20, 40, 90]})}
    cost[OVERLAY] = {label: Cost(established=[1], first=[1], first_in=parts | {"route": [9, 9, 9]})}
    cost[NODE] = {label: Cost(established=[1], first=[1], first_in=parts | {"route": [7, 8, 90]})}
    rows = dict((row[0], row[1:]) for row in part_rows(replace(found, cost=cost)))
    assert dict(zip(PARTS, rows[label], strict=True)) == dict.fromkeys(PARTS, "-") | {
        "bridge": "40 / 0",
        "route": "0 / 8",
    }
    assert set(rows["pod to pod, same node"]) == {"-"}


def test_stages_are_those_that_a_packet_meets(found: Comparison) -> None:
    for mode, costs in found.cost.items():
        for label, cost in costs.items():
            looks = found.crossings[mode][label].lookups
            for part, table in (("services", "services"), ("bridge", "fdb"), ("route", "routes")):
                assert looks[table] or not sum(cost.first_in[part]), (mode, label, part)


def test_changes_name_what_differs_and_nothing_else(found: Comparison) -> None:
    changes = found.changes()
    assert any(s.startswith("pod to VNet host: the receiver sees the pod's own") for s in changes)
    assert not any(s.startswith("pod to pod, other node") for s in changes)
    by = "pod to internet: translated by load balancer, with kubenet by ip-masq-agent on node0 and load balancer"
    assert f"{by} (pod-subnet)" in changes
    assert len(changes) == 10
    alone = replace(found, crossings={KUBENET: found.crossings[KUBENET]})
    assert alone.changes() == []


def test_the_same_twice(found: Comparison) -> None:
    again = compare(sample_topology(), rounds=0)
    assert again.crossings == found.crossings
    assert all(not costs for costs in again.cost.values())


def test_a_flow_of_ones_own() -> None:
    flow = Flow(label="mine", src="web", dst="service:default/db", port=5432)
    found = compare(sample_topology(), [flow], rounds=0, addressing=[OVERLAY])
    assert found.crossings[OVERLAY]["mine"].place == "db"


@pytest.mark.parametrize(
    "flow",
    [
        Flow(label="x", src="nobody", dst="web", port=1),
        Flow(label="x", src="web", dst="service:none", port=1),
        Flow(label="x", src="web", dst="external:default/api", port=1),
        Flow(label="x", src="web", dst="node:none", port=1),
        Flow(label="x", src="web", dst="nowhere", port=1),
    ],
)
def test_a_flow_to_nowhere_is_refused(flow: Flow) -> None:
    with pytest.raises(kf.FastpathError):
        compare(sample_topology(), [flow], rounds=0)


def test_a_topology_checks_its_names() -> None:
    nodes = (("n", "10.224.0.4"),)
    with pytest.raises(kf.ConfigError, match="which is no node"):
        Topology(nodes=nodes, pods=(PodSite(name="p", node="m"),))
    with pytest.raises(kf.ConfigError, match="which is no pod"):
        Topology(
            nodes=nodes,
            services=(ServiceSite(name="s", cluster_ip="10.0.0.1", port=1, endpoints=(("p", 1),)),),
        )
    with pytest.raises(kf.ConfigError, match="has no /24"):
        kf.Cluster.from_topology(Topology(nodes=nodes, pod_cidr="10.244.0.0/25"), KUBENET)


def test_flows_have_the_places_they_need() -> None:
    lone = Topology(nodes=(("n", "10.224.0.4"),), pods=(PodSite(name="p", node="n"),))
    assert [flow.label for flow in built_in_flows(lone)] == [
        "pod to Azure DNS",
        "pod to internet",
        "pod to internet, UDP",
    ]


class Page(HTMLParser):
    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.bars = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}
        assert tag != "script"
        self.bars += tag == "i"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_says_what_the_tables_say(found: Comparison) -> None:
    page = Page()
    text = comparison_page(found, [("cluster", "the <b>one</b>")])
    page.feed(text)
    assert page.open == []
    said = " ".join(page.text)
    assert "the <b>one</b>" in said
    for table in comparison_tables(found):
        if not isinstance(table, str) and "RECEIVER SEES" not in table.title and "looks" not in table.title:
            for row in table.rows:
                cells = [str(cell).strip() for cell in row if "SNAT ports, conntrack" not in str(row[0])]
                assert all(cell in said for cell in cells), row
    for sentence in found.changes():
        assert sentence.partition(": ")[2] in said
        assert sentence.partition(": ")[0] in said
    modes, costs = 4, [cost for row in found.cost.values() for cost in row]
    classes = {label for label in costs}
    assert page.bars == 2 * modes * len(classes) + modes * 4  # both kinds of packet; four meters a mode
    assert "url(" not in text
    assert "http" not in text


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    target = tmp_path / "page.html"
    assert cli.main(["compare", "--rounds", "0", "--json", "--html", str(target)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["what"] for row in said.pop("about")] == ["cluster", "traffic"]
    snat = said["addressing"]["kubenet"]["consumption"]["snat_ports"]["node0"]
    assert snat["headroom"] == 1 - snat["used"] / 1024
    assert said == json.loads(json.dumps(to_json(compare(sample_topology(), rounds=0))))
    assert target.read_text().startswith("<!doctype html>")
    assert cli.main(["compare", "--rounds", "0"]) == 0
    out = capsys.readouterr().out
    assert "pod to VNet host: the receiver sees the pod's own address, with kubenet node0's eth0" in out


@pytest.mark.parametrize(
    "words",
    [["--rounds", "-1"], ["--rounds", "301"], ["--html", "."], ["--html", "no/such/folder/page.html"]],
)
def test_the_command_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rounds": 301}, "rounds 301 is not in 0..300"),
        ({"packets": 0}, "packets 0 starts at 1"),
        ({"connections": 0}, "connections 0 is not in 1..48000"),
        ({"connections": 48001}, "connections 48001 is not in 1..48000"),
        (
            {"flows": [Flow(label="a", src="web", dst="api", port=port) for port in (1, 2)]},
            "2 flows have the label 'a'",
        ),
    ],
)
def test_wrong_calls(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compare(sample_topology(), **given)
