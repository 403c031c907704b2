"""Clusters read from kubectl's and az's JSON and from files of our own; and what is made of one to share it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import cli
from kubenet_fastpath.comparison import compare
from kubenet_fastpath.redaction import redacted
from kubenet_fastpath.topology import Addressing, PodSite, ServiceSite, Topology, sample_topology
from kubenet_fastpath.topology_file import TopologyFile, read_topology, topology_json

AKS_NODES = ("aks-nodepool1-33481234-vmss000000", "aks-nodepool1-33481234-vmss000001")


def node(name: str, ip: str, cidr: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.azure.com/cluster": "MC_rg_prod_westeurope"}},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr], "providerID": "azure:///subscriptions/0000/..."},
        "status": {
            "addresses": [{"address": ip, "type": "InternalIP"}, {"address": name, "type": "Hostname"}],
            "capacity": {"cpu": "4", "memory": "16393228Ki", "pods": "110"},
        },
    }


def pod(name: str, node: str, ip: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]} | spec,
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def objects() -> list[dict[str, Any]]:
    """What `kubectl get nodes,pods,services,endpointslices,configmaps,deployments -A -o json` lists."""
    one, two = AKS_NODES
    host_port = [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8081, "protocol": "TCP"}]}]
    pending = pod("later", one, "10.244.0.9")
    pending["status"] = {"phase": "Pending"}
    return [
        node(one, "10.224.0.4", "10.244.0.0/24"),
        node(two, "10.224.0.5", "10.244.1.0/24"),
        pod("web-7d4b9c", one, "10.244.0.5"),
        pod("web-9f2k1x", two, "10.244.1.7", containers=host_port),
        pod("cart-5c8d", one, "10.244.0.6"),
        pod("kube-proxy-x", one, "10.224.0.4", hostNetwork=True),
        pending,
        {
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.0.71.20",
                "ports": [
                    {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"},
                    {
                        "name": "metrics",
                        "port": 9090,
                        "targetPort": 9090,
                        "nodePort": 30090,
                        "protocol": "TCP",
                    },
                ],
                "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "20.61.1.1"}]}},
        },
        {
            "kind": "Service",
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"clusterIP": "None", "ports": [{"port": 5432}]},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {
                "name": "web-abc",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 9091}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "conditions": {"ready": True}, "nodeName": one},
                {"addresses": ["10.244.1.7"], "conditions": {}, "nodeName": two},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": False}, "nodeName": one},
                {"addresses": ["10.9.9.9"], "conditions": {"ready": True}},
            ],
        },
        {
            "kind": "ConfigMap",
            "metadata": {"name": "azure-ip-masq-agent-config", "namespace": "kube-system"},
            "data": {
                "ip-masq-agent": "nonMasqueradeCIDRs:\n  - 10.224.0.0/12\n  - 10.244.0.0/16\nmasqLinkLocal: true\n"
            },
        },
        {"kind": "ConfigMap", "metadata": {"name": "coredns", "namespace": "kube-system"}, "data": {}},
        {"kind": "Deployment", "metadata": {"name": "web"}},
    ]


AKS = {
    "name": "prod",
    "networkProfile": {"networkPlugin": "kubenet", "networkPluginMode": None, "podCidr": "10.244.0.0/16"},
    "agentPoolProfiles": [{"count": 2, "maxPods": 110, "podSubnetId": None}],
}
VNET = {
    "addressSpace": {"addressPrefixes": ["10.224.0.0/12"]},
    "subnets": [{"addressPrefix": "10.225.0.0/24"}, {"addressPrefix": "10.224.0.0/16"}],
}
ROUTES = {
    "name": "aks-agentpool-routetable",
    "routes": [
        {
            "addressPrefix": "10.244.0.0/24",
            "nextHopType": "VirtualAppliance",
            "nextHopIpAddress": "10.224.0.4",
        },
        {"addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.225.0.4"},
        {"addressPrefix": "AzureCloud", "nextHopType": "Internet"},
    ],
}


def written(folder: Path, **files: Any) -> list[Path]:
    paths = []
    for name, data in files.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(data))
    return paths


def items(*what: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(what or objects())}


@pytest.fixture
def everything(tmp_path: Path) -> TopologyFile:
    return read_topology(written(tmp_path, dump=items(), aks=AKS, vnet=VNET, routes=ROUTES))


def test_nodes_and_networks(everything: TopologyFile) -> None:
    topology = everything.topology
    assert topology.nodes == ((AKS_NODES[0], "10.224.0.4"), (AKS_NODES[1], "10.224.0.5"))
    assert topology.pod_cidrs == ("10.244.0.0/24", "10.244.1.0/24")
    assert (topology.node_subnet, topology.pod_cidr) == ("10.224.0.0/16", "10.244.0.0/16")
    assert (topology.addressing, topology.max_pods) == (Addressing.KUBENET, 110)
    assert topology.non_masquerade == ("10.224.0.0/12", "10.244.0.0/16")
    assert [(route.prefix, route.hop.value) for route in topology.routes] == [
        ("10.244.0.0/24", "VirtualAppliance"),
        ("0.0.0.0/0", "VirtualAppliance"),
    ]


def test_pods_and_services(everything: TopologyFile) -> None:
    topology = everything.topology
    assert {p.name: (p.node, p.ip) for p in topology.pods} == {
        "web-7d4b9c.shop": (AKS_NODES[0], "10.244.0.5"),
        "web-9f2k1x.shop": (AKS_NODES[1], "10.244.1.7"),
        "cart-5c8d.shop": (AKS_NODES[0], "10.244.0.6"),
    }
    assert topology.pods[1].host_ports == (kf.HostPort(port=8081, pod_port=80),)
    http, metrics = topology.services
    outside = "10.9.9.9"  # an endpoint that is no pod
    assert http.endpoints == (("web-7d4b9c.shop", 8080), ("web-9f2k1x.shop", 8080), (outside, 8080))
    assert [port for _, port in metrics.endpoints] == [9091, 9091, 9091]
    assert (http.load_balancer_ips, http.affinity_s, http.node_port) == (("20.61.1.1",), 600, 30080)
    assert http.external_traffic_policy is kf.TrafficPolicy.LOCAL


def test_what_is_skipped_is_counted(everything: TopologyFile) -> None:
    assert everything.skipped == {
        "Deployment": 1,
        "Pod with hostNetwork": 1,
        "Pod that does not run": 1,
        "Service that is headless": 1,
        "ConfigMap of another kind": 1,
        "Route to a service tag, or not IPv4": 1,
    }


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    found = read_topology(written(tmp_path, dump=items()))
    assert any("no az aks show" in note for note in found.notes)
    assert any("no az network vnet show" in note for note in found.notes)
    assert found.topology.addressing is Addressing.KUBENET


def test_lists_of_one_kind_and_single_objects(tmp_path: Path) -> None:
    whole = objects()
    nodes = {"kind": "NodeList", "items": [{k: v for k, v in n.items() if k != "kind"} for n in whole[:2]]}
    found = read_topology(written(tmp_path, nodes=nodes, rest=whole[2:], aks=AKS, vnet=VNET, routes=ROUTES))
    assert found.topology == read_topology(written(tmp_path, a=items(), b=AKS, c=VNET, d=ROUTES)).topology


@pytest.mark.parametrize(
    ("plugin", "mode", "subnet", "expected"),
    [
        ("azure", "overlay", None, Addressing.OVERLAY),
        ("azure", None, None, Addressing.NODE_SUBNET),
        ("azure", None, "/subscriptions/.../pods", Addressing.POD_SUBNET),
        ("kubenet", None, None, Addressing.KUBENET),
    ],
)
def test_the_addressing_of_today(
    plugin: str, mode: str | None, subnet: str | None, expected: Addressing, tmp_path: Path
) -> None:
    aks = {
        "networkProfile": {"networkPlugin": plugin, "networkPluginMode": mode},
        "agentPoolProfiles": [{"podSubnetId": subnet}],
    }
    assert read_topology(written(tmp_path, dump=items(), aks=aks)).topology.addressing is expected


def test_the_cluster_carries_what_the_dump_says(tmp_path: Path) -> None:
    paths = written(tmp_path, dump=items(), aks=AKS, vnet=VNET)
    cluster = kf.Cluster.from_files(*paths)
    assert isinstance(cluster.nodes[AKS_NODES[0]].config, kf.Kubenet)
    assert kf.address.ipv4_text(cluster.places["web-9f2k1x.shop"].address) == "10.244.1.7"
    assert len(cluster.vnet.routes) == 2
    (service,) = cluster.services
    assert [port.node_port for port in service.ports] == [30080, 30090]
    other = kf.Cluster.from_files(*paths, addressing="overlay")
    assert isinstance(other.nodes[AKS_NODES[0]].config, kf.AzureCniOverlay)
    found = compare(read_topology(paths).topology, rounds=0)
    assert found.crossings[Addressing.KUBENET]["pod to pod, other node"].answered


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "List", "items": []}, "has no nodes"),
        ({"what": 1}, "nothing of kubectl"),
        ([3], "holds int"),
        ({"nodes": {"n": "10.0.0.4"}, "colour": 1}, "has colour"),
        ({"nodes": {"n": "10.0.0.4"}, "pods": {"p": "m"}}, "which is no node"),
        ({"nodes": {"n": "10.0.0.4"}, "addressing": "flannel"}, "is none of"),
        ({"nodes": {"n": "10.0.0.4"}, "services": {"s": {"port": 1}}}, "not as kubectl"),
        (
            {"nodes": {"n": "10.0.0.4"}, "services": {"s": {"ip": "1.1.1.1", "port": 1, "endpoints": ["p"]}}},
            "pod:port",
        ),
        (items({"kind": "Node", "metadata": {}}), "not as kubectl"),
        (items(None), "not as kubectl"),  # type: ignore[arg-type]
        ({"nodes": {"n": "10.0.0.4"}, "pods\n\x1b[1m": {}}, r"has pods\\n\\x1b\[1m;"),
        ({"nodes": {"n": 7}}, "7 is where a text belongs"),
        ({"nodes": {"n": "10.0.0.4"}, "max_pods": True}, "True is where a number belongs"),
        ({"nodes": {}}, "a cluster needs a node"),
        ({"nodes": {"n": "10.0.0.4"}, "idle_timeout_s": "x"}, "idle_timeout_s 'x' is no number"),
        ({"nodes": {"n": "10.0.0.4"}, "dual_stack": 1}, "dual_stack 1 is neither true nor false"),
        ({"nodes": {"n": "10.0.0.4"}, "conntrack_max": [1, 2]}, "1 nodes have 2 conntrack_max"),
        ({"nodes": {"n": "10.0.0.4"}, "peers": [7]}, "7 is where a text belongs"),
        (
            {"nodes": {"n": "10.0.0.4"}, "pods": {"p": {"node": "n", "colour": 1}}},
            "pod p has colour; a pod has",
        ),
        (
            {"nodes": {"n": "10.0.0.4"}, "services": {"s": {"ip": "1.1.1.1", "port": 1, "affinity_s": ""}}},
            "'' is where a number belongs",
        ),
        ({"nodes": {"n": "10.0.0.4"}, "services": {"s": {"ip": "1.1.1.1", "port": "80"}}}, "'80' is where"),
        (
            {"nodes": {"n": "10.0.0.4"}, "services": {"s": {"ip": "1.1.1.1", "port": -1}}},
            "s: port -1 is not in",
        ),
        (
            {
                "nodes": {"n": "10.0.0.4"},
                "pods": {"p": "n"},
                "services": {"s": {"ip": "1.1.1.1", "port": 1, "endpoints": ["p:65536"]}},
            },
            "port of endpoint p 65536 is not in",
        ),
        (
            {
                "nodes": {"n": "1.1.1.1"},
                "services": {"s": {"ip": "1.1.1.1", "port": 1, "external_traffic_policy": 2}},
            },
            "not as kubectl",
        ),
    ],
)
def test_what_is_refused(data: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(kf.ConfigError, match=words):
        read_topology(written(tmp_path, it=data))


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.yaml").write_text("a: [")
    (tmp_path / "c.json").write_bytes(b'{"nodes": "\xff"}')
    (tmp_path / "d.json").write_text("[" * 100_000)
    with pytest.raises(kf.ConfigError, match="no text in UTF-8: octet 11"):
        read_topology([tmp_path / "c.json"])
    with pytest.raises(kf.ConfigError, match="RecursionError"):
        read_topology([tmp_path / "d.json"])
    with pytest.raises(kf.ConfigError, match="no JSON"):
        read_topology([tmp_path / "a.json"])
    pytest.importorskip("yaml")
    with pytest.raises(kf.ConfigError, match="no YAML"):
        read_topology([tmp_path / "b.yaml"])
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(kf.ConfigError, match="needs PyYAML"):
        read_topology([tmp_path / "b.yaml"])


def test_a_short_file_of_our_own(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "nodes: {node0: 10.224.0.4, node1: 10.224.0.5}\n"
        "pods: {web: node0, db: node1}\n"
        'services: {default/db: {ip: 10.0.0.30, port: 5432, endpoints: ["db:5432"]}}\n'
        "addressing: overlay\n"
    )
    topology = read_topology([path]).topology
    assert topology.addressing is Addressing.OVERLAY
    assert topology.services == (
        ServiceSite(name="default/db", cluster_ip="10.0.0.30", port=5432, endpoints=(("db", 5432),)),
    )
    assert kf.Cluster.from_files(path).places["db"].node == "node1"


NAMES = st.text("abcxyz-.", min_size=1, max_size=8)


@given(
    nodes=st.lists(NAMES, min_size=1, max_size=5, unique=True),
    pods=st.lists(NAMES, max_size=6, unique=True),
    data=st.data(),
)
def test_our_own_form_comes_back(
    nodes: list[str], pods: list[str], data: st.DataObject, tmp_path_factory
) -> None:
    where = [data.draw(st.sampled_from(nodes)) for _ in pods]
    services = ()
    if pods:
        backends = data.draw(st.lists(st.tuples(st.sampled_from(pods), st.integers(1, 65535)), max_size=3))
        services = (ServiceSite(name="ns/s", cluster_ip="10.0.0.9", port=80, endpoints=tuple(backends)),)
    if services and data.draw(st.booleans()):
        services = (
            replace(
                services[0],
                affinity_s=600,
                internal_traffic_policy=kf.TrafficPolicy.LOCAL,
                source_ranges=("198.51.100.0/24",),
                load_balancer_ips=("20.1.2.9",),
                node_port=30080,
                endpoints=(*services[0].endpoints, (nodes[0], 53), ("198.51.100.9", 443)),
            ),
        )
    port = kf.HostPort(port=80, pod_port=8080, protocol="udp", host_ip="10.224.0.4")
    odd = data.draw(st.booleans())
    topology = Topology(
        nodes=tuple((name, f"10.224.0.{k + 4}") for k, name in enumerate(nodes)),
        pods=tuple(
            PodSite(
                name=name,
                node=on,
                ip=f"10.244.0.{k + 9}" if odd else None,
                host_ports=(port,) if odd and k == 1 else (),
            )
            for k, (name, on) in enumerate(zip(pods, where, strict=True))
        ),
        pod_cidrs=tuple(f"10.244.{k}.0/24" for k in range(len(nodes))) if odd else (),
        conntrack_max=(131072,) * len(nodes) if odd else (),
        peers=("10.100.0.0/16",) if odd else (),
        dual_stack=odd,
        outbound_ports=data.draw(st.sampled_from([0, 1024])),
        idle_timeout_s=data.draw(st.sampled_from([240, 1800])),
        frontends=data.draw(st.sampled_from([("20.1.2.3",), ("20.1.2.3", "20.1.2.4")])),
        max_pods=data.draw(st.integers(10, 250)),
        addressing=data.draw(st.sampled_from([None, *Addressing])),
        non_masquerade=data.draw(st.sampled_from([None, ("10.0.0.0/8",)])),
        services=services,
        routes=(kf.UserRoute(prefix="0.0.0.0/0", hop=kf.HopKind.APPLIANCE, address="10.224.0.4"),),
    )
    path = tmp_path_factory.mktemp("own") / "own.json"
    path.write_text(json.dumps(topology_json(topology)))
    assert read_topology([path]).topology == topology


def test_what_is_redacted_tells_nothing_and_behaves_alike(everything: TopologyFile) -> None:
    topology = replace(everything.topology, routes=everything.topology.routes[:1])
    shared = redacted(topology)
    text = json.dumps(topology_json(shared))
    for secret in ("aks", "web", "cart", "shop", "20.61", "10.0.71", "10.244.1.7", "westeurope", "vnet-host"):
        assert secret not in text
    assert redacted(shared) == shared
    before, after = compare(topology, rounds=0), compare(shared, rounds=0)
    for mode, crossings in before.crossings.items():
        for label, crossing in crossings.items():
            twin = after.crossings[mode][label]
            assert (crossing.outcome, crossing.ttl, crossing.answered) == (
                twin.outcome,
                twin.ttl,
                twin.answered,
            )


def test_a_mode_that_cannot_have_the_cluster_is_named() -> None:
    small = replace(sample_topology(), node_subnet="10.224.0.0/28")
    found = compare(small, rounds=0)
    assert set(found.impossible) == {Addressing.NODE_SUBNET}
    assert Addressing.NODE_SUBNET not in found.crossings
    nowhere = replace(small, nodes=(("a", "10.0.0.4"),), pods=(), services=())
    with pytest.raises(kf.ConfigError, match="no addressing mode"):
        compare(nowhere, rounds=0)


def test_the_command_reads_files_and_redacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path) for path in written(tmp_path, dump=items(), aks=AKS, vnet=VNET)]
    target = tmp_path / "shared.json"
    assert cli.main(["compare", *paths, "--rounds", "0", "--redact", str(target)]) == 0
    out = capsys.readouterr().out
    assert "1 Deployment" in out
    assert "cart" not in target.read_text()
    assert cli.main(["compare", str(target), "--rounds", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["flows"]
    words = ["explain", "pod web-7d4b9c.shop -> web-9f2k1x.shop:80"]
    assert cli.main([*words, *(part for path in paths for part in ("--cluster", path))]) == 0
    assert "delivered" in capsys.readouterr().out
    assert cli.main(["compare", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_space_without_room_for_a_host(tmp_path: Path) -> None:
    node = {
        "kind": "Node",
        "metadata": {"name": "n"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.4"}]},
    }
    vnet = {"addressSpace": {"addressPrefixes": ["10.0.0.4/32"]}}
    with pytest.raises(kf.ConfigError, match="has no address left"):
        read_topology(written(tmp_path, dump=items(node), vnet=vnet))
