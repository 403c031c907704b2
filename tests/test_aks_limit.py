"""What AKS and Azure do not allow is refused by the argument's name and its value, before anything is built."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from clusters import make
from hypothesis import given
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4_text
from kubenet_fastpath.aks_limit import (
    FORBIDDEN,
    check_range,
    check_subnet_address,
    overlap,
    pod_batches,
    room,
)
from kubenet_fastpath.topology import Addressing, PodSite, Topology, sample_topology
from kubenet_fastpath.traffic import Flow, question

KUBENET, NODE, POD, OVERLAY = Addressing


def prefixes(least: int = 0) -> st.SearchStrategy[str]:
    return st.builds(
        lambda address, length: str(ip_network((address, length), strict=False)),
        st.integers(0, 2**32 - 1),
        st.integers(least, 32),
    )


@given(prefixes(), prefixes())
def test_overlap_beside_ipaddress(one: str, other: str) -> None:
    assert overlap(one, other) == ip_network(one).overlaps(ip_network(other))


@given(prefixes() | st.sampled_from(FORBIDDEN), st.booleans())
def test_forbidden_ranges_beside_ipaddress(prefix: str, within: bool) -> None:
    mine = ip_network(prefix)
    bad = any(
        mine.subnet_of(ip_network(text)) if within else mine.overlaps(ip_network(text))  # type: ignore[arg-type]
        for text in FORBIDDEN
    )
    if bad:
        with pytest.raises(kf.ConfigError, match=f"what {prefix} overlaps"):
            check_range("what", prefix, within=within)
    else:
        check_range("what", prefix, within=within)


@given(prefixes(16), st.data())
def test_reserved_addresses_beside_ipaddress(subnet: str, data: st.DataObject) -> None:
    network = ip_network(subnet)
    index = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, -2, -1]).filter(lambda k: k < network.num_addresses))
    if index < -network.num_addresses:
        return
    address = network[index]
    kept = network.prefixlen <= 29 and address in {*(network[k] for k in range(4)), network[-1]}
    assert room(subnet) == max(0, network.num_addresses - 5)
    if kept:
        with pytest.raises(kf.ConfigError, match=f"it {address} is one of the 5"):
            check_subnet_address("it", str(address), subnet)
    else:
        check_subnet_address("it", str(address), subnet)


@given(st.lists(st.integers(0, 250), max_size=5))
def test_batches_of_addresses_beside_the_rule(counts: list[int]) -> None:
    """Specification, section 7.5: 16 at a time, and more when fewer than 8 are free."""

    def held(count: int) -> int:
        size = 16
        while size - count < 8:
            size += 16
        return size

    assert pod_batches(counts) == sum(map(held, counts))


def sized(count: int, **fields: Any) -> Topology:
    topology = Topology(
        nodes=tuple((f"n{k}", ipv4_text(0x0AE00004 + k)) for k in range(count)),
        pods=(PodSite(name="p", node="n0"),),
    )
    return replace(topology, **fields)


@pytest.mark.parametrize(
    ("topology", "mode", "words"),
    [
        # specification, section 7.5: a /24 with 30 pods a node has 8 nodes; with kubenet and overlay 251
        (sized(9, node_subnet="10.224.0.0/24"), NODE, "node_subnet 10.224.0.0/24 has 251 addresses .* take 279"),
        (sized(252, node_subnet="10.224.0.0/24", max_pods=10), OVERLAY, "subnet 10.224.0.0/24 has 251 .* take 252"),
        (sized(16, pod_subnet="10.241.0.0/24"), POD, "pod_subnet 10.241.0.0/24 has 251 addresses .* take 256"),
        (sized(1, pod_subnet="10.224.0.0/16"), POD, "pod_subnet 10.224.0.0/16 overlaps node_subnet"),
        (sized(201, dual_stack=True), KUBENET, "201 nodes with kubenet and two families: AKS takes 200 at most"),
        (
            sized(1, max_pods=10, pods=tuple(PodSite(name=f"p{k}", node="n0") for k in range(11))),
            OVERLAY,
            "node n0 has 11 pods, and max_pods is 10",
        ),
        (sized(1, max_pods=9), KUBENET, "max_pods 9 is not in 10..250"),
        (sized(1, max_pods=251), OVERLAY, "max_pods 251 is not in 10..250"),
        (sized(1, pod_cidr="172.30.0.0/16"), KUBENET, "pod_cidr 172.30.0.0/16 overlaps 172.30.0.0/16"),
        (sized(1, pod_cidr="192.0.0.0/16"), OVERLAY, "pod_cidr 192.0.0.0/16 overlaps 192.0.2.0/24"),
        (sized(3, pod_cidr="10.244.0.0/23"), KUBENET, "pod_cidr 10.244.0.0/23 has no /24 for node 3"),
        (sized(1, nodes=(("n0", "10.224.0.3"),)), OVERLAY, "node n0: node_ip 10.224.0.3 is one of the 5"),
        (sized(1, nodes=(("n0", "10.224.255.255"),)), POD, "node n0: node_ip 10.224.255.255 is one of the 5"),
        (sized(401, pod_cidr="10.128.0.0/10"), KUBENET, "401 nodes with Kubenet: AKS takes 400 at most"),
        (
            sized(1, nodes=(("n0", "172.31.0.4"),), node_subnet="172.31.0.0/16", address_space=("172.16.0.0/12",)),
            OVERLAY,
            "node n0: subnet 172.31.0.0/16 overlaps 172.31.0.0/16",
        ),
        (
            sized(1, nodes=(("n0", "172.31.0.4"),), node_subnet="172.31.0.0/16", address_space=("172.31.0.0/16",)),
            OVERLAY,
            "address_space 172.31.0.0/16 overlaps",
        ),
        (
            sized(1, pod_subnet="10.250.0.0/24", address_space=("10.224.0.0/12",)),
            POD,
            "pods' subnet 10.250.0.0/24 is not inside the VNet",
        ),
    ],
)  # fmt: skip
def test_what_no_cluster_can_be(topology: Topology, mode: Addressing, words: str) -> None:
    with pytest.raises(kf.ConfigError, match=words):
        kf.Cluster.from_topology(topology, mode)


@pytest.mark.parametrize(
    ("topology", "mode"),
    [
        (sized(8, node_subnet="10.224.0.0/24"), NODE),
        (sized(251, node_subnet="10.224.0.0/24", max_pods=10), OVERLAY),
        (sized(15, pod_subnet="10.241.0.0/24"), POD),
        (sized(400, pod_cidr="10.128.0.0/10"), KUBENET),
        (sized(1, max_pods=250), KUBENET),
        (sized(200, dual_stack=True), KUBENET),
        (sized(201, dual_stack=True), OVERLAY),
        (sized(1, max_pods=10), NODE),
        (sized(1, address_space=("10.0.0.0/8", "172.16.0.0/12"), pod_cidr="192.168.0.0/16"), OVERLAY),
    ],
)
def test_what_a_cluster_may_just_be(topology: Topology, mode: Addressing) -> None:
    assert len(kf.Cluster.from_topology(topology, mode).nodes) == len(topology.nodes)


def test_the_pods_of_overlay_do_not_lie_in_the_nodes_subnet() -> None:
    wide = kf.AzureCniOverlay(
        node_ip="11.0.0.4/7", gateway="11.0.0.1", pod_cidr="10.244.0.0/24", cluster_cidr="10.244.0.0/16"
    )
    with pytest.raises(
        kf.ConfigError, match=r"cluster_cidr 10.244.0.0/16 overlaps the nodes' subnet 10.0.0.0/7"
    ):
        kf.Cluster({"n": wide}, vnet=kf.Vnet(address_space=("10.0.0.0/7",)))


def test_a_service_in_a_forbidden_range_changes_nothing() -> None:
    cluster = make("kubenet")
    before = cluster.services
    port = kf.ServicePort(port=80, endpoints=("10.192.0.3:80",))
    bad = kf.Service(name="ns/bad", cluster_ip="172.30.7.7", ports=(port,))
    with pytest.raises(
        kf.ConfigError, match=r"service ns/bad: cluster_ip 172.30.7.7/32 overlaps 172.30.0.0/16"
    ):
        cluster.set_services([*before, bad])
    assert cluster.services == before
    assert all(node.services == before for node in cluster.nodes.values())


def test_the_load_balancer_leads_to_nodes_that_have_endpoints() -> None:
    """With externalTrafficPolicy Local the health probes of all others fail."""
    topology = sample_topology()
    local = next(s for s in topology.services if s.name == "default/web-local")
    for pods in ((("web", 8443),), (("cache", 8443),), (("web", 8443), ("cache", 8443)), ()):
        cluster = kf.Cluster.from_topology(
            replace(topology, services=(replace(local, endpoints=pods),)), OVERLAY
        )
        flow = Flow(label="", src="internet", dst="external:default/web-local", port=443)
        frames = [question(flow, cluster, 20_000 + k) for k in range(64)]
        delivery = cluster.send(kf.PacketBatch.from_frames(frames, time=10**18), "internet")
        got = {delivery.places[k].name for k in delivery.arrived_at[delivery.arrived_own]}
        assert got == {name for name, _ in pods}
        assert (delivery.outcome == (kf.Outcome.DELIVERED if pods else kf.Outcome.DROPPED)).all()
