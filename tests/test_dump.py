"""Clusters as kubectl and az really print them: objects with all their fields, of one family or two, in any packing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_topology_file import AKS, VNET, items, node, objects, pod, written

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4_text
from kubenet_fastpath.comparison import compare
from kubenet_fastpath.redaction import redacted
from kubenet_fastpath.topology import Addressing, PodSite, ServiceSite, Topology
from kubenet_fastpath.topology_file import read_topology, topology_json
from kubenet_fastpath.traffic import Flow

ONE, TWO = "aks-nodepool1-31718369-vmss000000", "aks-nodepool1-31718369-vmss000001"

#: As `kubectl get node -o json` has it on AKS, shortened where values repeat.
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
        "creationTimestamp": "2024-05-14T09:12:05Z",
        "labels": {
            "agentpool": "nodepool1",
            "kubernetes.azure.com/cluster": "MC_shop_prod_westeurope",
            "kubernetes.azure.com/mode": "system",
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": "westeurope-1",
        },
        "name": ONE,
        "resourceVersion": "1234567",
        "uid": "8a6b3f0e-7f0a-4a45-9a50-0e8a0d1f7a11",
    },
    "spec": {
        "podCIDR": "fd12:3456:789a::/64",
        "podCIDRs": ["fd12:3456:789a::/64", "10.244.0.0/24"],
        "providerID": "azure:///subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/mc/...",
    },
    "status": {
        "addresses": [
            {"address": "fd00:db8:deca::4", "type": "InternalIP"},
            {"address": "10.224.0.4", "type": "InternalIP"},
            {"address": ONE, "type": "Hostname"},
        ],
        "allocatable": {"cpu": "3860m", "memory": "12899672Ki", "pods": "110"},
        "capacity": {"cpu": "8", "ephemeral-storage": "129886128Ki", "memory": "16393244Ki", "pods": "110"},
        "conditions": [{"reason": "KubeletReady", "status": "True", "type": "Ready"}],
        "nodeInfo": {"kernelVersion": "5.15.0-1061-azure", "kubeProxyVersion": "v1.28.9"},
    },
}
#: kubernetes.io/docs/concepts/services-networking/endpoint-slices, its example, with a Service to it.
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "example", "namespace": "default", "annotations": {}},
    "spec": {
        "clusterIP": "fd00:10:96::1f",
        "clusterIPs": ["fd00:10:96::1f", "10.0.171.239"],
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 31437,
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv6", "IPv4"],
        "ipFamilyPolicy": "PreferDualStack",
        "ports": [{"name": "http", "nodePort": 30061, "port": 80, "protocol": "TCP", "targetPort": "web"}],
        "selector": {"app": "example"},
        "sessionAffinity": "None",
        "type": "LoadBalancer",
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.3.127", "ipMode": "VIP"}]}},
}


def slice_of(service: str, family: str, *endpoints: dict[str, Any], **port: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{service}-",
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
            },
            "name": f"{service}-abc",
            "namespace": "default",
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"} | port],
    }


def endpoint(address: str, on: str | None = None) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": on,
        "zone": "westeurope-1",
    }


def dual_stack() -> list[dict[str, Any]]:
    two = node(TWO, "10.224.0.5", "10.244.1.0/24")
    web = pod("web", ONE, "fd12:3456:789a::9")
    web["status"]["podIPs"] = [{"ip": "fd12:3456:789a::9"}, {"ip": "10.244.0.9"}]
    only = pod("only-v6", ONE, "fd12:3456:789a::a")
    done = pod("migrate-28591", TWO, "10.244.1.30")
    done["status"] |= {"phase": "Succeeded"}
    return [
        NODE,
        two,
        web,
        only,
        done,
        pod("cart", TWO, "10.244.1.7"),
        pod("ingress", TWO, "10.224.0.5", hostNetwork=True),
        SERVICE,
        slice_of("example", "IPv6", endpoint("fd12:3456:789a::9", ONE)),
        slice_of("example", "IPv4", endpoint("10.244.0.9", ONE)),
        {
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {
                "clusterIP": "10.0.0.1",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 443}],
            },
        },
        slice_of("kubernetes", "IPv4", endpoint("20.73.8.11"), name="https", port=443),
        {
            "kind": "Service",
            "metadata": {"name": "ingress", "namespace": "default"},
            "spec": {"clusterIP": "10.0.0.77", "ports": [{"port": 80, "protocol": "TCP"}]},
        },
        slice_of("ingress", "IPv4", endpoint("10.224.0.5", TWO), name="", port=80),
        {
            "kind": "Service",
            "metadata": {"name": "peers", "namespace": "default"},
            "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 7000}]},
        },
    ]


def test_both_families_are_read_for_the_one_that_is_here(tmp_path: Path) -> None:
    found = read_topology(written(tmp_path, dump=items(*dual_stack()), aks=AKS, vnet=VNET))
    topology = found.topology
    assert topology.nodes == ((ONE, "10.224.0.4"), (TWO, "10.224.0.5"))
    assert topology.pod_cidrs == ("10.244.0.0/24", "10.244.1.0/24")
    assert topology.dual_stack
    taken = compare(topology, [], rounds=0, addressing=[Addressing.KUBENET]).consumption[Addressing.KUBENET]
    assert taken.routes.used == 4
    assert {p.name: p.ip for p in topology.pods} == {"web.shop": "10.244.0.9", "cart.shop": "10.244.1.7"}
    services = {service.name: service for service in topology.services}
    assert set(services) == {"default/example", "default/kubernetes", "default/ingress"}
    assert services["default/example"].cluster_ip == "10.0.171.239"
    assert services["default/example"].endpoints == (("web.shop", 8080),)
    assert services["default/kubernetes"].endpoints == (("20.73.8.11", 443),)
    assert services["default/ingress"].endpoints == ((TWO, 80),)
    assert found.skipped == {
        "Pod with hostNetwork": 1,
        "Pod that does not run": 1,
        "Pod without an IPv4 address": 1,
        "Service that is headless": 1,
        "EndpointSlice of no service, or not IPv4": 1,
    }


def test_endpoints_that_are_no_pods_are_reached(tmp_path: Path) -> None:
    topology = read_topology(written(tmp_path, dump=items(*dual_stack()), aks=AKS, vnet=VNET)).topology
    flows = [
        Flow(label="api", src="cart.shop", dst="service:default/kubernetes", port=443),
        Flow(label="ingress", src="web.shop", dst="service:default/ingress", port=80),
    ]
    found = compare(topology, flows, rounds=0)
    for crossings in found.crossings.values():
        assert (crossings["api"].place, crossings["api"].answered) == ("internet", True)
        assert crossings["ingress"].place == TWO


def test_the_number_of_cores_says_what_conntrack_holds(tmp_path: Path) -> None:
    topology = read_topology(written(tmp_path, dump=items(*dual_stack()))).topology
    assert topology.conntrack_max == (262144, 131072)
    proxy = {
        "kind": "ConfigMap",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
        "data": {  # as kubeadm writes it
            "config.conf": (
                "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nbindAddress: 0.0.0.0\n"
                "clusterCIDR: 10.244.0.0/15\nconntrack:\n  maxPerCore: 65536\n  min: 200000\n"
                "  tcpCloseWaitTimeout: null\nkind: KubeProxyConfiguration\nmode: ipvs\n"
            ),
            "kubeconfig.conf": "apiVersion: v1\nkind: Config\n",
        },
    }
    found = read_topology(written(tmp_path, dump=items(*dual_stack(), proxy)))
    assert found.topology.conntrack_max == (524288, 262144)
    assert found.topology.pod_cidr == "10.244.0.0/15"
    assert any("mode ipvs is not modelled" in note for note in found.notes)
    cluster = kf.Cluster.from_topology(found.topology, Addressing.KUBENET)
    assert cluster.nodes[ONE].config.conntrack_max == 524288
    assert "ConfigMap of another kind" not in found.skipped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # github.com/kubernetes-sigs/ip-masq-agent, its example
            "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\nresyncInterval: 60s\n",
            ("10.0.0.0/8", "169.254.0.0/16"),
        ),
        (
            "nonMasqueradeCIDRs:\n- 10.224.0.0/12 # the VNet\n# - 10.99.0.0/16\nmasqLinkLocal: true\n",
            ("10.224.0.0/12",),
        ),
        ('{"nonMasqueradeCIDRs": ["10.244.0.0/16"], "masqLinkLocal": true}', ("10.244.0.0/16",)),
        ("nonMasqueradeCIDRs: []\nmasqLinkLocal: false\n", ("169.254.0.0/16",)),
    ],
)
def test_what_ip_masq_agent_leaves_alone(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    agent = {
        "kind": "ConfigMap",
        "metadata": {"name": "ip-masq-agent", "namespace": "kube-system"},
        "data": {"config": text},
    }
    topology = read_topology(written(tmp_path, dump=items(*dual_stack(), agent), aks=AKS)).topology
    assert topology.non_masquerade == expected
    cluster = kf.Cluster.from_topology(topology, Addressing.KUBENET)
    assert cluster.nodes[ONE].config.direct == expected


def test_any_packing_of_the_documents(tmp_path: Path) -> None:
    whole = dual_stack()
    plain = read_topology(written(tmp_path, dump=items(*whole))).topology
    one_by_one = tmp_path / "one_by_one.json"
    one_by_one.write_text("\n".join(json.dumps(part, indent=1) for part in whole) + "\n")
    assert read_topology([one_by_one]).topology == plain
    marked = tmp_path / "marked.json"
    marked.write_text(json.dumps(items(*whole)), encoding="utf-8-sig")  # as PowerShell redirects
    assert read_topology([marked]).topology == plain
    yaml = pytest.importorskip("yaml")
    documents = tmp_path / "documents.yaml"
    documents.write_text("---\n" + yaml.safe_dump_all(whole) + "---\n")
    assert read_topology([documents]).topology == plain


def test_nodes_of_windows_are_not_here(tmp_path: Path) -> None:
    win = node("akswin000000", "10.224.0.9", "10.244.9.0/24")
    win["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    found = read_topology(
        written(tmp_path, dump=items(*dual_stack(), win, pod("iis", "akswin000000", "10.244.9.5")))
    )
    assert len(found.topology.nodes) == 2
    assert found.skipped["Node that is not Linux"] == found.skipped["Pod on a node that is not there"] == 1


def test_the_load_balancer_of_az_aks_show(tmp_path: Path) -> None:
    profile = {
        "allocatedOutboundPorts": 4000,
        "effectiveOutboundIPs": [{"id": "/subscriptions/.../a"}, {"id": "/subscriptions/.../b"}],
        "idleTimeoutInMinutes": 4,
        "managedOutboundIPs": {"count": 2, "countIpv6": None},
    }
    aks = {
        "networkProfile": AKS["networkProfile"]
        | {"outboundType": "loadBalancer", "loadBalancerProfile": profile}
    }
    topology = read_topology(written(tmp_path, dump=items(*dual_stack()), aks=aks)).topology
    assert (len(topology.frontends), topology.outbound_ports, topology.idle_timeout_s) == (2, 4000, 240)
    cluster = kf.Cluster.from_topology(topology, Addressing.KUBENET)
    assert cluster.fabric.snat is not None
    assert cluster.fabric.snat.ports == 4000
    aks = {"networkProfile": AKS["networkProfile"] | {"outboundType": "userAssignedNATGateway"}}
    found = read_topology(written(tmp_path, dump=items(*dual_stack()), aks=aks))
    assert any(note.startswith("outboundType userAssignedNATGateway") for note in found.notes)


def test_peered_networks(tmp_path: Path) -> None:
    peering = {"peeringState": "Connected", "remoteAddressSpace": {"addressPrefixes": ["10.100.0.0/16"]}}
    vnet = VNET | {"virtualNetworkPeerings": [peering]}
    topology = read_topology(written(tmp_path, dump=items(*dual_stack()), aks=AKS, vnet=vnet)).topology
    assert topology.peers == ("10.100.0.0/16",)
    cluster = kf.Cluster.from_topology(topology, Addressing.KUBENET)
    assert str(cluster.fabric.route_of(0, 0x0A640005)) == "10.100.0.0/16 VNetPeering"


def test_pods_of_a_subnet_of_their_own(tmp_path: Path) -> None:
    name = "/subscriptions/0/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/pods"
    aks = {
        "networkProfile": {"networkPlugin": "azure", "networkPluginMode": None},
        "agentPoolProfiles": [{"podSubnetId": name}],
    }
    subnets = [*VNET["subnets"], {"id": name.upper(), "addressPrefixes": ["10.226.0.0/20"]}]  # type: ignore[misc]
    bare = [
        node(ONE, "10.224.0.4", "") | {"spec": {}},
        node(TWO, "10.224.0.5", "") | {"spec": {}},
        pod("web", ONE, "10.226.0.9"),
        pod("cart", TWO, "10.226.1.9"),
        pod("stray", TWO, "10.99.0.9"),
    ]
    found = read_topology(written(tmp_path, dump=items(*bare), aks=aks, vnet=VNET | {"subnets": subnets}))
    assert (found.topology.addressing, found.topology.pod_subnet) == (Addressing.POD_SUBNET, "10.226.0.0/20")
    assert any(note.startswith("1 pods have addresses") for note in found.notes)
    cluster = kf.Cluster.from_topology(found.topology, Addressing.POD_SUBNET)
    assert ipv4_text(cluster.places["cart.shop"].address) == "10.226.1.9"
    unknown = read_topology(written(tmp_path, dump=items(*bare[:4]), aks=aks, vnet=VNET))
    assert unknown.topology.pod_subnet == "10.226.0.0/23"
    assert any("pods' subnet is not among" in note for note in unknown.notes)


def test_overlay_nodes_do_not_say_their_part_of_the_pods(tmp_path: Path) -> None:
    aks = {
        "networkProfile": {
            "networkPlugin": "azure",
            "networkPluginMode": "overlay",
            "podCidr": "10.244.0.0/16",
            "networkDataplane": "cilium",
        }
    }
    bare = [node(ONE, "10.224.0.4", "") | {"spec": {}}, node(TWO, "10.224.0.5", "") | {"spec": {}}]
    pods = [pod("web", ONE, "10.244.3.9"), pod("cart", TWO, "10.244.1.9"), pod("db", TWO, "10.244.1.200")]
    found = read_topology(written(tmp_path, dump=items(*bare, *pods), aks=aks, vnet=VNET))
    assert found.topology.pod_cidrs == ("10.244.3.0/24", "10.244.1.0/24")
    assert any("Cilium's own datapath is not modelled" in note for note in found.notes)
    cluster = kf.Cluster.from_topology(found.topology, Addressing.OVERLAY)
    assert ipv4_text(cluster.places["db.shop"].address) == "10.244.1.200"


def of_many(nodes: int) -> list[dict[str, Any]]:
    """Nodes with a pod each, as a dump has them."""
    found = []
    for k in range(nodes):
        name = f"aks-pool-{k:04}"
        part = f"10.{244 + k // 256}.{k % 256}"
        found += [
            node(name, f"10.224.{k // 250}.{k % 250 + 4}", f"{part}.0/24"),
            pod(f"p{k}", name, f"{part}.2"),
        ]
    return found


@pytest.fixture(scope="module")
def four_hundred(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    aks = AKS | {"networkProfile": AKS["networkProfile"] | {"podCidr": "10.244.0.0/14"}}  # type: ignore[operator]
    paths = written(tmp_path_factory.mktemp("many"), dump=items(*of_many(400)), aks=aks, vnet=VNET)
    return read_topology(paths).topology


def test_a_dump_of_400_nodes(four_hundred: Topology) -> None:
    cluster = kf.Cluster.from_topology(four_hundred, Addressing.KUBENET)
    assert len(cluster.nodes) == len(cluster.vnet.routes) == 400
    flow = Flow(label="far", src="p0.shop", dst="p399.shop", port=80)
    found = compare(four_hundred, [flow], rounds=0, addressing=[Addressing.KUBENET])
    crossing = found.crossings[Addressing.KUBENET]["far"]
    assert (crossing.place, crossing.ttl, crossing.answered) == ("p399.shop", 62, True)
    taken = found.consumption[Addressing.KUBENET]
    assert (taken.routes.used, taken.routes.limit, taken.routes.headroom) == (400, 400, 0)
    assert {share.limit for share in taken.snat_ports.values()} == {128}


def test_the_401st_node_or_route_is_one_too_many(tmp_path: Path) -> None:
    aks = AKS | {"networkProfile": AKS["networkProfile"] | {"podCidr": "10.244.0.0/14"}}  # type: ignore[operator]
    paths = written(tmp_path, dump=items(*of_many(401)), aks=aks, vnet=VNET)
    with pytest.raises(kf.ConfigError, match="401 nodes with Kubenet: AKS takes 400 at most"):
        kf.Cluster.from_files(*paths)
    assert len(kf.Cluster.from_files(*paths, addressing="overlay").nodes) == 401
    rows = [
        {"addressPrefix": f"10.{50 + k // 256}.{k % 256}.0/24", "nextHopType": "None"} for k in range(401 - 2)
    ]
    paths = written(tmp_path, dump=items(*objects()), vnet=VNET, routes={"routes": rows})
    with pytest.raises(kf.ConfigError, match="401 routes: a route table has 400 at most"):
        kf.Cluster.from_files(*paths)
    paths = written(tmp_path, dump=items(*objects()), vnet=VNET, routes={"routes": rows[1:]})
    assert len(kf.Cluster.from_files(*paths).vnet.routes) == 400


def test_redaction_is_consistent(tmp_path: Path) -> None:
    """Who is an endpoint of what, on which node, by which address: the same under other names, everywhere."""
    peering = {"remoteAddressSpace": {"addressPrefixes": ["10.100.0.0/16"]}}
    vnet = VNET | {"virtualNetworkPeerings": [peering]}
    topology = read_topology(written(tmp_path, dump=items(*dual_stack()), aks=AKS, vnet=vnet)).topology
    shared = redacted(topology)
    text = json.dumps(topology_json(shared))
    for secret in (
        "aks-",
        "web",
        "cart",
        "shop",
        "example",
        "20.73.8.11",
        "192.0.3",
        "10.0.171",
        "10.244.0.9",
    ):
        assert secret not in text
    names = {old.name: new.name for old, new in zip(topology.pods, shared.pods, strict=True)}
    names |= {old: new for (old, _), (new, _) in zip(topology.nodes, shared.nodes, strict=True)}
    for old, new in zip(topology.services, shared.services, strict=True):
        assert [(names.get(to, "20.2.0.1"), port) for to, port in old.endpoints] == list(new.endpoints)
        assert (old.port, old.node_port, old.external_traffic_policy) == (
            new.port,
            new.node_port,
            new.external_traffic_policy,
        )
    assert shared.conntrack_max == topology.conntrack_max
    assert len(shared.peers) == 1
    path = tmp_path / "shared.json"
    path.write_text(text)
    assert read_topology([path]).topology == shared
    assert redacted(shared) == shared


def test_addresses_of_clients_and_host_ports_are_redacted() -> None:
    """A host port's own address becomes its node's other one, or none; who may use a load balancer is left out."""
    ports = tuple(
        kf.HostPort(port=80 + k, pod_port=80, host_ip=ip) for k, ip in enumerate(("10.7.0.4", "10.9.9.9"))
    )
    topology = Topology(
        nodes=(("n", "10.7.0.4"),),
        node_subnet="10.7.0.0/16",
        pods=(PodSite(name="p", node="n", host_ports=ports),),
        services=(
            ServiceSite(
                name="ns/s",
                cluster_ip="10.0.0.9",
                port=80,
                load_balancer_ips=("203.0.113.9",),
                source_ranges=("198.51.100.0/24",),
            ),
        ),
    )
    shared = redacted(topology)
    text = json.dumps(topology_json(shared))
    for secret in ("10.7.", "10.9.9.9", "198.51.100", "203.0.113"):
        assert secret not in text
    assert [port.host_ip for port in shared.pods[0].host_ports] == [shared.nodes[0][1], None]
