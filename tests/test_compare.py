"""The same flows through every addressing mode: what changes is what Kubernetes people expect to change."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import kubenet_fastpath as kf
from kubenet_fastpath import cli
from kubenet_fastpath.comparison import Comparison, compare, to_json
from kubenet_fastpath.comparison_page import comparison_page
from kubenet_fastpath.comparison_report import comparison_tables
from kubenet_fastpath.topology import Addressing, PodSite, ServiceSite, Topology, sample_topology
from kubenet_fastpath.traffic import Flow, built_in_flows

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
    ],
)
def test_where_is_translated(found: Comparison, label: str, places: list[list[str]]) -> None:
    assert [[t.where for t in found.crossings[mode][label].translations] for mode in Addressing] == places


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
    [  # conntrack, fdb, routes, neighbours: by the stages of the semantics specification, section 2
        ("pod to pod, same node", [(1, 1, 0, 0), (1, 0, 1, 1), (1, 0, 1, 1), (1, 0, 1, 1)]),
        ("pod to pod, other node", [(2, 2, 2, 2), (2, 0, 2, 2), (2, 0, 2, 2), (2, 0, 2, 2)]),
        ("pod to VNet host", [(1, 1, 1, 1), (1, 0, 1, 1), (1, 0, 1, 1), (1, 0, 1, 1)]),
    ],
)
def test_looks_into_tables(found: Comparison, label: str, looks: list[tuple[int, ...]]) -> None:
    assert [tuple(found.crossings[mode][label].lookups.values()) for mode in Addressing] == looks


def test_the_way(found: Comparison) -> None:
    ways = [found.crossings[mode]["pod to pod, other node"].path[1] for mode in Addressing]
    assert ways == ["USER_ROUTE", "VNET", "VNET", "OVERLAY"]


def test_what_it_takes_up(found: Comparison) -> None:
    addresses = [found.consumption[mode].vnet_addresses for mode in Addressing]
    reserved = [found.consumption[mode].vnet_addresses_reserved for mode in Addressing]
    assert (addresses, reserved) == ([3, 12, 12, 3], [4, 4 + 4 * 30, 4 + 3 * 16, 4])
    assert [found.consumption[mode].routes for mode in Addressing] == [3, 0, 0, 0]
    assert all(found.consumption[mode].snat_ports_peak == 2 for mode in Addressing)


def test_costs_are_of_what_was_answered(found: Comparison) -> None:
    for mode, crossings in found.crossings.items():
        assert set(found.cost[mode]) == {label for label, crossing in crossings.items() if crossing.answered}
        assert all(len(rounds) == 2 for rounds in found.cost[mode].values())


def test_changes_name_what_differs_and_nothing_else(found: Comparison) -> None:
    changes = found.changes()
    assert any(s.startswith("pod to VNet host: the receiver sees the pod's own") for s in changes)
    assert not any(s.startswith("pod to pod, other node") for s in changes)
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
    assert {flow.label for flow in built_in_flows(lone)} == {"pod to internet", "pod to internet, UDP"}


class Page(HTMLParser):
    VOID = ("meta", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.rects = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}
        assert tag != "script"
        self.rects += tag == "rect"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_says_what_the_tables_say(found: Comparison) -> None:
    page = Page()
    page.feed(comparison_page(found))
    assert page.open == []
    text = set(page.text)
    for table in comparison_tables(found):
        if not isinstance(table, str):
            assert {str(cell) for row in table.rows for cell in row} <= text
    assert set(found.changes()) <= text
    assert page.rects == 4 + sum(map(len, found.cost.values()))


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    target = tmp_path / "page.html"
    assert cli.main(["compare", "--rounds", "0", "--json", "--html", str(target)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(json.dumps(to_json(compare(sample_topology(), rounds=0))))
    assert target.read_text().startswith("<!doctype html>")
    assert cli.main(["compare", "--rounds", "0"]) == 0
    out = capsys.readouterr().out
    assert "pod to VNet host: the receiver sees the pod's own address, with kubenet node0's eth0" in out


@pytest.mark.parametrize(
    "words", [["--rounds", "-1"], ["--html", "."], ["--html", "no/such/folder/page.html"]]
)
def test_the_command_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
