"""Services and host ports: against kube-proxy's chains walked one by one, and case by case.

One file, for the chains are the model of services and of host ports alike.
"""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address

import numpy as np
import pytest
from frames import SYN, TCP, UDP, arp, fields, ipv4, packet, tcp, udp
from hypothesis import given
from hypothesis import strategies as st
from models.kubeproxy import KubeProxy, Packet
from strategies import BRIDGE_IP, BRIDGE_MAC, GATEWAY_MAC, NODE_IP, NODE_MAC, PODS, SECOND
from test_node import Wire

import kubenet_fastpath as kf
from kubenet_fastpath import Endpoint, HostPort, Reason, Service, ServicePort, TrafficPolicy, Verdict
from kubenet_fastpath.connection import CtStatus
from kubenet_fastpath.service_plan import plan_services, stale_flows

A, B, B_MAC = PODS["pod1"][0], PODS["pod2"][0], PODS["pod2"][1]
C, CLIENT, VNET_HOST = "10.244.2.10", "198.51.100.7", "10.240.0.9"
VIP, OTHER_VIP, EXTERNAL, BALANCED = "10.0.0.50", "10.0.0.51", "192.0.2.10", "192.0.2.20"
LOCAL = TrafficPolicy.LOCAL


def service(
    *endpoints: str, name: str = "d/web", ip: str = VIP, node_port: int | None = 30080, **more: object
):
    port = {key: more.pop(key) for key in ("protocol", "port") if key in more}
    one = ServicePort(**({"port": 80, "endpoints": endpoints, "node_port": node_port} | port))
    return Service(name=name, cluster_ip=ip, ports=(one,), **more)


def node_with(
    *services: Service, host_ports: dict[str, tuple[HostPort, ...]] | None = None, **changes: object
):
    wire = Wire(services=services, **changes)
    for name, rows in (host_ports or {}).items():
        ip, mac = PODS[name]
        wire.node.detach(name)
        wire.node.attach(kf.Pod(name, ip=ip, mac=mac, host_ports=rows))
    return wire


def to(src: str, dst: str, sport: int, dport: int, proto: int = TCP, ttl: int = 64) -> tuple[str, bytes]:
    """A connection's first packet, and where it comes in."""
    l4 = tcp(sport, dport, SYN) if proto == TCP else udp(sport, dport)
    l3 = ipv4(src, dst, proto, l4, ttl=ttl)
    for name, (ip, mac) in PODS.items():
        if ip == src:
            return name, packet(BRIDGE_MAC, mac, l3)
    return "eth0", packet(NODE_MAC, GATEWAY_MAC, l3)


def test_bridged_dnat_and_back() -> None:  # T23, T26, G2, G4
    wire = node_with(service(f"{B}:8080"))
    out = wire.send(*to(A, VIP, 40000, 80))
    assert set(out) == {"pod2"}
    found = fields(out["pod2"][0])
    assert (found["eth_src"], found["eth_dst"], found["ttl"]) == (PODS["pod1"][1], B_MAC, 64)
    assert (found["src"], found["dst"], found["dport"]) == (A, B, 8080)
    answer = packet(PODS["pod1"][1], B_MAC, ipv4(B, A, TCP, tcp(8080, 40000, SYN | 16)))
    found = fields(wire.send("pod2", answer)["pod1"][0])
    assert (found["eth_src"], found["src"], found["sport"], found["ttl"]) == (B_MAC, VIP, 80, 64)


def test_two_first_packets_that_wait_make_one_connection() -> None:
    """Both wait unconfirmed for the endpoint's MAC; whichever is confirmed second finds the other's connection."""
    web = service(f"{B}:8080", protocol="udp")
    wire = node_with(web, permanent_neighbours=False, arp_notify=False)
    for _ in range(2):
        wire.send(*to(A, VIP, 40000, 80, UDP))
        assert (wire.verdict, wire.reason) == (Verdict.HELD, Reason.NEIGHBOUR)
    out = wire.send("pod2", arp(2, B_MAC, B, BRIDGE_MAC, BRIDGE_IP))
    assert [fields(frame)["dport"] for frame in out["pod2"]] == [8080, 8080]
    assert len(wire.node.connections) == 1
    assert len(wire.node.connections.to_text(wire.node.now).splitlines()) == 1
    assert wire.node.connections.counters["clash_resolve"] == 1


@pytest.mark.parametrize(("hairpin", "told"), [(kf.Hairpin.PROMISC, True), (kf.Hairpin.VETH, False)])
def test_the_copy_of_what_waited_reaches_the_host(hairpin: kf.Hairpin, told: bool) -> None:
    """A promiscuous bridge hands up a copy, where TTL runs out, when the endpoint's MAC is known and not before."""
    wire = node_with(service(f"{B}:8080"), permanent_neighbours=False, arp_notify=False, hairpin=hairpin)
    wire.send(*to(A, VIP, 40000, 80, ttl=1))
    assert wire.verdict is Verdict.HELD
    wire.node.neighbours.add(int(wire.node.neighbours.to_records()["dev"].max()), A, PODS["pod1"][1])
    out = wire.send("pod2", arp(2, B_MAC, B, BRIDGE_MAC, BRIDGE_IP))
    left = {port: [fields(f) for f in frames if f[12:14] == b"\x08\x00"] for port, frames in out.items()}
    assert [found["ttl"] for found in left["pod2"] if found["dst"] == B] == [1]
    errors = [found | {"id": 0} for found in left["pod1"] if found["dst"] == A]
    assert [found["type"] for found in errors] == [11] * told
    at_once = node_with(service(f"{B}:8080"), hairpin=hairpin).send(*to(A, VIP, 40000, 80, ttl=1))
    assert errors == [
        fields(frame) | {"id": 0} for frame in at_once.get("pod1", []) if fields(frame)["dst"] == A
    ]


def test_routed_to_another_node() -> None:  # T27, G3
    wire = node_with(service(f"{C}:8080"))
    out = wire.send(*to(A, VIP, 40000, 80))
    found = fields(out["eth0"][0])
    assert (found["src"], found["dst"], found["dport"], found["ttl"]) == (A, C, 8080, 63)
    assert (wire.verdict, wire.reason) == (Verdict.ROUTED, Reason.SERVICE)


def test_hairpin_by_a_reflecting_port() -> None:  # T32
    wire = node_with(service(f"{B}:8080"), hairpin=kf.Hairpin.VETH)
    found = fields(wire.send(*to(B, VIP, 40000, 80))["pod2"][0])
    assert (found["src"], found["dst"], found["eth_src"], found["ttl"]) == (BRIDGE_IP, B, B_MAC, 64)


def test_hairpin_dies_on_a_promiscuous_bridge() -> None:  # T31
    wire = node_with(service(f"{B}:8080"))
    assert wire.send(*to(B, VIP, 40000, 80)) == {}
    assert wire.verdict is Verdict.DROP
    assert len(wire.node.connections) == 0


@pytest.mark.parametrize("proto", ["tcp", "udp"])
@pytest.mark.parametrize(("src", "dst", "dport", "speaker"), [
    (A, VIP, 80, BRIDGE_IP), (CLIENT, VIP, 80, NODE_IP), (CLIENT, NODE_IP, 30080, NODE_IP),
    (CLIENT, EXTERNAL, 80, NODE_IP),
])  # fmt: skip
def test_no_endpoints_is_a_reject(proto: str, src: str, dst: str, dport: int, speaker: str) -> None:  # T33
    wire = node_with(service(protocol=proto, external_ips=(EXTERNAL,)))
    port, frame = to(src, dst, 40000, dport, TCP if proto == "tcp" else UDP)
    out = wire.send(port, frame)
    assert set(out) == {port}
    found = fields(out[port][0])
    assert (found["src"], found["dst"], found["type"], found["code"]) == (speaker, src, 3, 3)
    quoted_ttl = out[port][0][14 + 28 + 8]
    assert quoted_ttl == (64 if dst == NODE_IP else 63)
    assert (wire.verdict, wire.reason) == (Verdict.DROP, Reason.NO_ENDPOINTS)
    assert len(wire.node.connections) == 0


def test_no_local_endpoints_is_silence() -> None:  # T40, T41
    wire = node_with(service(f"{C}:8080", external_traffic_policy=LOCAL))
    assert wire.send(*to(CLIENT, NODE_IP, 40000, 30080)) == {}
    assert wire.reason is Reason.NO_LOCAL_ENDPOINTS
    assert (
        fields(wire.send(*to(A, NODE_IP, 40000, 30080))["eth0"][0])["dst"] == C
    )  # a pod may use all of them
    wire.node.set_services([service(f"{B}:8080", external_traffic_policy=LOCAL)])
    found = fields(wire.send(*to(CLIENT, NODE_IP, 40001, 30080))["pod2"][0])
    assert (found["src"], found["dst"]) == (CLIENT, B)
    wire.node.set_services([service(f"{C}:8080", internal_traffic_policy=LOCAL)])
    assert wire.send(*to(A, VIP, 40002, 80)) == {}
    assert wire.reason is Reason.NO_LOCAL_ENDPOINTS


@pytest.mark.parametrize(("endpoint", "port", "source"), [(B, "pod2", BRIDGE_IP), (C, "eth0", NODE_IP)])
@pytest.mark.parametrize("fully", [True, False])
def test_node_port(endpoint: str, port: str, source: str, fully: bool) -> None:  # T37, T38, T39
    wire = node_with(service(f"{endpoint}:8080"), service_random_fully=fully)
    found = fields(wire.send(*to(CLIENT, NODE_IP, 40000, 30080))[port][0])
    assert (found["src"], found["dst"], found["dport"], found["ttl"]) == (source, endpoint, 8080, 63)
    assert (found["sport"] == 40000) != fully
    answer = ipv4(endpoint, source, TCP, tcp(8080, found["sport"], SYN | 16))
    mac, back = (NODE_MAC, GATEWAY_MAC) if port == "eth0" else (BRIDGE_MAC, B_MAC)
    found = fields(wire.send(port, packet(mac, back, answer))["eth0"][0])
    assert (found["src"], found["sport"], found["dst"], found["dport"]) == (NODE_IP, 30080, CLIENT, 40000)


@pytest.mark.parametrize(
    ("ranges", "src", "passes"),
    [
        (("198.51.100.0/24",), CLIENT, True),
        (("198.51.100.0/24",), VNET_HOST, False),
        (("198.51.100.0/24",), A, False),
        (("192.0.2.0/28", "10.244.1.99/24"), A, True),  # host bits are let pass, as Kubernetes does
        (("198.51.100.0/24",), BALANCED, False),
        (("10.240.0.0/16",), BALANCED, True),  # the node is in it, and speaks with the address that it calls
        ((), VNET_HOST, True),
    ],
)
def test_source_ranges(ranges: tuple[str, ...], src: str, passes: bool) -> None:
    wire = node_with(
        service(f"{B}:8080", load_balancer_ips=(BALANCED,), external_ips=(EXTERNAL,), source_ranges=ranges)
    )
    out = wire.send(*to(src, BALANCED, 40000, 80))
    assert (set(out) == {"pod2"}) == passes
    assert passes or (wire.reason, out) == (Reason.SOURCE_RANGE, {})
    assert set(wire.send(*to(src, EXTERNAL, 40001, 80))) == {"pod2"}  # no load balancer's
    assert set(wire.send(*to(src, NODE_IP, 40002, 30080))) == {"pod2"}
    wire.node.set_services([service(load_balancer_ips=(BALANCED,), source_ranges=ranges)])
    wire.send(*to(src, BALANCED, 40003, 80))
    assert wire.reason is Reason.NO_ENDPOINTS  # then there is no KUBE-FW


def test_source_ranges_at_an_address_of_the_node() -> None:
    """What KUBE-FW does not let in goes on to KUBE-NODEPORTS, and KUBE-PROXY-FIREWALL is in INPUT too."""
    same = service(
        f"{B}:8080", node_port=80, load_balancer_ips=(NODE_IP,), source_ranges=("198.51.100.0/24",)
    )
    wire = node_with(same)
    assert set(wire.send(*to(VNET_HOST, NODE_IP, 40000, 80))) == {"pod2"}
    apart = service(f"{B}:8080", load_balancer_ips=(NODE_IP,), source_ranges=("198.51.100.0/24",))
    wire = node_with(apart)
    assert wire.send(*to(VNET_HOST, NODE_IP, 40000, 80)) == {}
    assert wire.reason is Reason.SOURCE_RANGE


def _targets(
    *given: Endpoint, policy: TrafficPolicy = TrafficPolicy.CLUSTER, zone: str | None = "z1"
) -> set[str]:
    one = Service(
        name="d/s", cluster_ip=VIP, topology_aware=True, internal_traffic_policy=policy,
        ports=(ServicePort(port=80, endpoints=given),),
    )  # fmt: skip
    (chain,) = plan_services([one], lambda e: bool(e.local), (), zone).chains
    chosen = chain.targets if policy is TrafficPolicy.CLUSTER else chain.local
    return {str(IPv4Address(target.ip)) for target in chosen}


def test_endpoints_by_zone_and_by_readiness() -> None:
    """pkg/proxy/topology.go, CategorizeEndpoints."""
    near, far = Endpoint("1.1.1.1", 1, True, zones=("z1",)), Endpoint("2.2.2.2", 1, False, zones=("z2", "z3"))
    bare = Endpoint("3.3.3.3", 1, False)
    leaving = Endpoint("4.4.4.4", 1, True, terminating=True, zones=("z1",))
    gone = Endpoint("5.5.5.5", 1, False, terminating=True, zones=("z2",))
    assert _targets(near, far) == {near.ip}
    assert _targets(near, far, zone="z3") == {far.ip}
    assert _targets(near, far, zone="z4") == _targets(near, far, zone=None) == {near.ip, far.ip}
    assert _targets(near, far, bare) == {near.ip, far.ip, bare.ip}  # one without a hint spoils them all
    assert _targets(near, far, gone, leaving) == {near.ip}
    assert _targets(leaving, gone) == {leaving.ip, gone.ip}  # hints do not count where none is ready
    assert _targets(far, leaving, policy=LOCAL) == {leaving.ip}
    assert _targets(near, leaving, policy=LOCAL) == {near.ip}
    assert _targets(far, policy=LOCAL) == set()


def test_flows_to_an_endpoint_that_terminates_are_stale() -> None:
    ready = service(Endpoint(B, 53), Endpoint(C, 53), protocol="udp", node_port=None)
    leaving = service(Endpoint(B, 53), Endpoint(C, 53, terminating=True), protocol="udp", node_port=None)
    assert [flow.dst_nat for flow in stale_flows([ready], [leaving])] == [int(IPv4Address(C))]
    assert stale_flows([leaving], [leaving]) == []
    none = service(Endpoint(C, 53, terminating=True), protocol="udp", node_port=None)
    assert [flow.dst_nat for flow in stale_flows([none], [ready])] == [None]


def test_a_health_check_port_is_nobody_elses() -> None:
    one = service(f"{B}:8080", external_traffic_policy=LOCAL, health_check_node_port=32000)
    wire = node_with(one)
    wire.send(*to(CLIENT, NODE_IP, 40000, 32000))
    assert wire.verdict is Verdict.LOCAL
    with pytest.raises(kf.ConfigError, match="both claim node port 32000"):
        wire.node.set_services([one, service(name="d/other", ip=OTHER_VIP, node_port=32000)])


def test_which_refusals_a_hook_asks_for() -> None:
    owned = Service(name="d/own", cluster_ip=NODE_IP, ports=(ServicePort(port=8443),))
    wire = node_with(service(protocol="udp"), owned)
    wire.send(*to(CLIENT, NODE_IP, 40000, 8443))  # INPUT has no rules of cluster IPs
    assert wire.verdict is Verdict.LOCAL
    broadcast = ipv4(VNET_HOST, "10.240.255.255", UDP, udp(40000, 30080))
    wire.send("eth0", packet("ff:ff:ff:ff:ff:ff", GATEWAY_MAC, broadcast))
    assert wire.verdict is Verdict.LOCAL  # no address of the node
    wire.send(*to(CLIENT, NODE_IP, 40000, 30080, UDP))
    assert wire.reason is Reason.NO_ENDPOINTS


def test_the_marked_pass_the_refusals() -> None:  # KUBE-FORWARD --mark 0x4000 -j ACCEPT comes first
    lone = service(name="d/lone", ip=OTHER_VIP, node_port=None)
    wire = node_with(service(f"{OTHER_VIP}:80"), lone)
    out = wire.send(*to(CLIENT, NODE_IP, 40000, 30080))
    assert fields(out["eth0"][0])["dst"] == OTHER_VIP
    assert set(wire.send(*to(A, VIP, 40000, 80))) == {"pod1"}
    assert wire.reason is Reason.NO_ENDPOINTS


def test_a_bridged_packet_is_rejected_too() -> None:
    wire = node_with(service())
    frame = packet(B_MAC, PODS["pod1"][1], ipv4(A, VIP, TCP, tcp(40000, 80, SYN)))
    out = wire.send("pod1", frame)
    found = fields(out["pod1"][0])
    assert (set(out), found["src"], found["type"], found["code"]) == ({"pod1"}, BRIDGE_IP, 3, 3)
    assert out["pod1"][0][14 + 28 :] == frame[14:]


@pytest.mark.parametrize("kube_proxy", [True, False])
def test_loopback_is_not_for_others(kube_proxy: bool) -> None:
    wire = node_with(kube_proxy=kube_proxy)
    wire.send(*to(A, "127.0.0.1", 40000, 80))
    assert wire.reason is (Reason.LOCALNET if kube_proxy else Reason.LOCAL_DELIVERY)


def test_what_is_stale_of_a_service_that_is_gone() -> None:
    vip, b, outside = (int(IPv4Address(ip)) for ip in (VIP, B, EXTERNAL))
    lone = service(protocol="udp", external_ips=(EXTERNAL,))
    served = service(f"{B}:53", protocol="udp", external_ips=(EXTERNAL,))
    assert stale_flows([lone], []) == [(vip, None, None, 4)]
    assert stale_flows([served], []) == [(vip, None, None, 4)]  # what came to other addresses stays
    assert (
        stale_flows([served], [served])
        == stale_flows([], [lone])
        == stale_flows([service(f"{B}:1")], [])
        == []
    )
    through = [(vip, None, b, 4), (outside, None, b, 4), (None, 30080, b, 4)]
    assert set(stale_flows([served], [lone])) == set(through)
    first = [(vip, None, None, 4), (outside, None, None, 4), (None, 30080, None, 4)]
    assert set(stale_flows([lone], [served])) == set(first)


def test_a_cluster_ip_may_be_confined_to_the_node() -> None:
    remote = [f"10.244.2.{i}:8080" for i in range(2, 9)]
    wire = node_with(service(*remote, f"{B}:8080", internal_traffic_policy=LOCAL))
    for sport in range(40000, 40020):
        assert set(wire.send(*to(A, VIP, sport, 80))) == {"pod2"}
    went = {next(iter(wire.send(*to(CLIENT, NODE_IP, sport, 30080)))) for sport in range(40000, 40040)}
    assert went == {"pod2", "eth0"}


def test_host_port() -> None:  # T42, T43
    rows = (
        HostPort(port=8080, pod_port=80),
        HostPort(port=5353, pod_port=53, protocol="udp", host_ip=BRIDGE_IP),
    )
    wire = node_with(host_ports={"pod2": rows})
    found = fields(wire.send(*to(CLIENT, NODE_IP, 40000, 8080))["pod2"][0])
    assert (found["src"], found["dst"], found["dport"], found["ttl"]) == (CLIENT, B, 80, 63)
    found = fields(wire.send(*to(A, NODE_IP, 40000, 8080))["pod2"][0])
    assert (found["src"], found["dst"]) == (BRIDGE_IP, B)  # portmap: the pod's whole subnet is masqueraded
    assert wire.send(*to(CLIENT, NODE_IP, 40000, 5353, UDP))["eth0"]  # refused: another address of the node
    assert wire.verdict is Verdict.LOCAL
    assert fields(wire.send(*to(CLIENT, BRIDGE_IP, 40000, 5353, UDP))["pod2"][0])["dport"] == 53
    kubelet = node_with(host_ports={"pod2": rows}, port_mapper=kf.PortMapper.KUBELET)
    assert fields(kubelet.send(*to(A, NODE_IP, 40000, 8080))["pod2"][0])["src"] == A
    wire.node.detach("pod2")
    wire.send(*to(CLIENT, NODE_IP, 40001, 8080))
    assert wire.verdict is Verdict.LOCAL


def test_host_ports_that_are_taken_are_refused() -> None:
    wire = node_with(host_ports={"pod2": (HostPort(port=8080, pod_port=80),)})
    before = (dict(wire.node.ports), wire.node.neighbours.to_records().tolist())
    for rows in (
        (HostPort(port=8080, pod_port=1),),
        (HostPort(port=8080, pod_port=1, host_ip=NODE_IP),),
        (HostPort(port=9, pod_port=1), HostPort(port=9, pod_port=2)),
    ):
        with pytest.raises(kf.ConfigError, match="host port"):
            wire.node.attach(kf.Pod("late", ip="10.244.1.9", host_ports=rows))
        assert before == (dict(wire.node.ports), wire.node.neighbours.to_records().tolist())
    port = wire.node.attach(
        kf.Pod("late", ip="10.244.1.9", host_ports=(HostPort(port=8080, pod_port=1, protocol="udp"),))
    )
    assert port.pod is not None
    assert port.pod.host_ports[0].protocol == "udp"


def test_only_a_new_connection_is_translated() -> None:  # T81
    wire = node_with(service(f"{B}:8080"))
    wire.send(*to(A, VIP, 40000, 80, UDP))  # another protocol: no service
    assert wire.reason is Reason.MASQUERADE
    wire.send(*to(A, VIP, 40000, 80))
    wire.node.set_services([service(f"{C}:8080")])
    port, frame = to(A, VIP, 40000, 80)
    assert fields(wire.send(port, frame)["pod2"][0])["dst"] == B  # TCP keeps its endpoint
    assert fields(wire.send(*to(A, VIP, 40001, 80))["eth0"][0])["dst"] == C


def test_udp_connections_end_with_their_endpoint() -> None:
    both = service(f"{B}:53", f"{C}:53", protocol="udp", port=53)
    wire = node_with(both, service(f"{B}:53", name="d/tcp", ip=OTHER_VIP, node_port=None))
    for sport in range(40000, 40032):
        wire.send(*to(A, VIP, sport, 53, UDP))
    wire.send(*to(CLIENT, NODE_IP, 40000, 30080, UDP))
    wire.send(*to(A, OTHER_VIP, 40000, 80))
    wire.send(*to(A, B, 1, 2, UDP))

    def endpoints() -> set[tuple[int, int, int]]:
        rows = wire.node.connections.to_records()
        return {(int(r["dst"]), int(r["reply_src"]), int(r["proto"])) for r in rows}

    vip, b, c, own = (int(IPv4Address(ip)) for ip in (VIP, B, C, NODE_IP))
    assert {(vip, b, 17), (vip, c, 17)} < endpoints()
    wire.node.set_services([service(f"{C}:53", protocol="udp", port=53)])
    left = endpoints()
    assert (vip, b, 17) not in left
    assert (own, b, 17) not in left
    assert {(vip, c, 17), (b, b, 17), (int(IPv4Address(OTHER_VIP)), b, 6)} <= left
    wire.node.set_services([])
    assert not any(proto == 17 and dst == vip for dst, _, proto in endpoints())


def test_a_first_endpoint_ends_what_went_nowhere() -> None:
    wire = node_with()
    wire.send(*to(A, VIP, 40000, 53, UDP))
    wire.send(*to(CLIENT, NODE_IP, 40000, 30080, UDP))
    assert len(wire.node.connections) == 2
    wire.node.set_services([service(f"{B}:53", protocol="udp", port=53)])
    assert len(wire.node.connections) == 0


def test_affinity_is_kept_for_its_time() -> None:  # T35
    endpoints = [f"10.244.1.{i}:8080" for i in (2, 3, 4)] + [f"10.244.2.{i}:8080" for i in range(2, 30)]
    wire = node_with(service(*endpoints, affinity_s=100))

    def chosen(sport: int, src: str = CLIENT) -> int:
        wire.send(*to(src, NODE_IP, sport, 30080))
        rows = wire.node.connections.to_records()
        return int(rows[(rows["sport"] == sport) & (rows["src"] == int(IPv4Address(src)))]["reply_src"][0])

    first = chosen(1)
    assert {chosen(sport) for sport in range(2, 40)} == {first}
    wire.now += 100 * SECOND
    assert chosen(50) == first  # exactly at the end, and the time begins anew
    wire.now += 60 * SECOND
    wire.node.set_services(
        [service(*endpoints, affinity_s=100), service(name="d/more", ip=OTHER_VIP, node_port=1)]
    )
    wire.now += 40 * SECOND
    assert chosen(51) == first
    seen = set()
    for sport in range(60, 90):
        wire.now += 100 * SECOND + 1
        seen.add(chosen(sport))
    assert len(seen) > 5


def test_the_hundred_and_first_client_pushes_the_first_one_out() -> None:  # T36
    wire = node_with(service(f"{B}:8080", f"{C}:8080", affinity_s=1000))
    one = service(f"{B}:8080", affinity_s=1000)
    wire.node.set_services([one])
    for host in range(101):  # all of them to B, whose list keeps the last hundred
        wire.send(*to(f"203.0.113.{host}", NODE_IP, 1, 30080))
    wire.node.set_services([service(f"{B}:8080", f"{C}:8080", affinity_s=1000)])
    went = {}
    for host in range(1, 101):
        wire.send(*to(f"203.0.113.{host}", NODE_IP, 2, 30080))
        went[host] = bool(wire.result.packets("pod2").frames())
    assert all(went.values())
    forgotten = []
    for attempt in range(30):
        fresh = node_with(one, seed=attempt)
        for host in range(101):
            fresh.send(*to(f"203.0.113.{host}", NODE_IP, 1, 30080))
        fresh.node.set_services([service(f"{B}:8080", f"{C}:8080", affinity_s=1000)])
        fresh.send(*to("203.0.113.0", NODE_IP, 2, 30080))
        forgotten.append(not fresh.result.packets("pod2").frames())
    assert any(forgotten)
    assert not all(forgotten)


def test_endpoints_are_drawn_evenly_from_the_seed() -> None:
    endpoints = [f"10.244.2.{i}:80" for i in range(2, 7)]

    def run(seed: int) -> list[int]:
        node = node_with(service(*endpoints), seed=seed).node
        made = [to(A, VIP, 1024 + sport, 80)[1] for sport in range(5000)]
        node.forward(kf.PacketBatch.from_frames(made, node.ports["pod1"], 10**18))
        return np.sort(node.connections.to_records(), order="sport")["reply_src"].tolist()

    first = run(1)
    assert run(1) == first != run(2)
    counts = np.bincount(np.array(first) & 255, minlength=7)[2:]
    assert counts.sum() == 5000
    assert (abs(counts - 1000) < 150).all()  # 5 sigma


def test_ten_thousand_services() -> None:
    many = [
        service(
            f"10.244.{2 + i // 250}.{2 + i % 250}:8080",
            name=f"d/s{i}",
            ip=str(IPv4Address("10.1.0.1") + i),
            node_port=None,
        )
        for i in range(10_000)
    ]
    node = node_with(*many).node
    made = [to(A, s.cluster_ip, 40000, 80)[1] for s in many]
    result = node.forward(kf.PacketBatch.from_frames(made, node.ports["pod1"], 10**18))
    assert (result.reason == Reason.SERVICE).all()
    rows = {int(r["dst"]): int(r["reply_src"]) for r in node.connections.to_records()}
    wanted = {int(IPv4Address(s.cluster_ip)): int(IPv4Address(s.ports[0].targets[0].ip)) for s in many}
    assert rows == wanted


def test_what_a_wrong_call_changes() -> None:
    wire = node_with(service(f"{B}:8080"))
    taken = [
        [service(f"{C}:1"), service(f"{C}:1", name="d/two", node_port=None)],
        [service(f"{C}:1"), service(f"{C}:1", name="d/two", ip=OTHER_VIP)],
        [service(f"{C}:1", external_ips=(VIP,))],
    ]
    for services in taken:
        with pytest.raises(kf.ConfigError, match="both claim"):
            wire.node.set_services(services)
        assert wire.node.services == (service(f"{B}:8080"),)
        assert set(wire.send(*to(A, VIP, 40000, 80))) == {"pod2"}
    with pytest.raises(kf.ConfigError, match="kube_proxy"):
        Wire(kube_proxy=False).node.set_services([service()])
    with pytest.raises(kf.ConfigError, match="kube_proxy"):
        Wire(kube_proxy=False, services=(service(),))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ServicePort(port=0), "service port 0 is not in 1..65535"),
    (lambda: ServicePort(port=1, node_port=65536), "node_port 65536"),
    (lambda: ServicePort(port=1, protocol="icmp"), "protocol 'icmp' is none of tcp, udp, sctp"),
    (lambda: ServicePort(port=1, endpoints=("10.0.0.1",)), "endpoint '10.0.0.1' is no ip:port"),
    (lambda: Endpoint("10.0.0.1", 0), "endpoint port 0"),
    (lambda: Endpoint("10.0.0", 1), "10.0.0"),
    (lambda: service(ip="0.0.0.0"), "0.0.0.0"),
    (lambda: service(affinity_s=0), "affinity_s 0"),
    (lambda: Service(name="d/x", cluster_ip=VIP, ports=(ServicePort(port=1), ServicePort(port=2))), "same name"),
    (lambda: HostPort(port=0, pod_port=1), "host port 0"),
    (lambda: HostPort(port=1, pod_port=1, protocol="x"), "protocol 'x'"),
    (lambda: HostPort(port=1, pod_port=1, host_ip="x"), "x"),
    (lambda: service(source_ranges=("10.0.0.0/33",)), "10.0.0.0/33"),
    (lambda: service(load_balancer_ips=("0.0.0.0",)), "0.0.0.0"),
    (lambda: service(health_check_node_port=0), "health_check_node_port 0"),
])  # fmt: skip
def test_wrong_values_are_named(make: object, message: str) -> None:
    with pytest.raises((kf.ConfigError, kf.AddressError), match=message):
        make()


endpoint_texts = st.sampled_from(
    [f"{ip}:8080" for ip, _ in PODS.values()] + [f"{B}:9090", f"{C}:8080", "10.244.2.11:8080"]
)
endpoints = st.builds(
    lambda text, terminating, zones: dataclasses.replace(Endpoint.parse(text), terminating=terminating, zones=zones),
    endpoint_texts, st.sampled_from([False, False, True]), st.sampled_from([("z1",), ("z1", "z2"), ("z2",), ()]),
)  # fmt: skip
RANGES = (
    ("198.51.100.0/24",),
    ("10.244.0.0/16", "10.240.0.9/32"),
    ("10.240.0.0/16", "10.244.1.2/32"),
    ("0.0.0.0/0",),
)
policies = st.sampled_from([TrafficPolicy.CLUSTER, TrafficPolicy.CLUSTER, LOCAL])


@st.composite
def service_sets(draw: st.DrawFn) -> list[Service]:
    """Services that claim nothing twice, crowded into few addresses and ports."""
    made: list[Service] = []
    claimed: set[tuple[str, str, int]] = set()
    for number in range(draw(st.integers(0, 4))):
        vip, proto = draw(st.sampled_from([VIP, OTHER_VIP])), draw(st.sampled_from(["tcp", "tcp", "udp"]))
        port, node_port = draw(st.sampled_from([80, 80, 53])), draw(st.sampled_from([None, 30080, 30081, 80]))
        outside, balanced = draw(
            st.sampled_from([((), ()), ((EXTERNAL,), ()), ((), (EXTERNAL,)), ((), (BALANCED,))])
        )
        claims = {(ip, proto, port) for ip in (vip, *outside, *balanced)}
        if node_port is not None:
            claims.add(("", proto, node_port))
        if claims & claimed:
            continue
        claimed |= claims
        one = ServicePort(
            port=port,
            protocol=proto,
            node_port=node_port,
            endpoints=tuple(draw(st.lists(endpoints, max_size=6, unique_by=lambda e: (e.ip, e.port)))),
        )
        made.append(
            Service(
                name=f"d/s{number}",
                cluster_ip=vip,
                ports=(one,),
                external_ips=outside,
                load_balancer_ips=balanced,
                source_ranges=draw(st.sampled_from([(), *RANGES])),
                topology_aware=draw(st.booleans()),
                external_traffic_policy=draw(policies),
                internal_traffic_policy=draw(policies),
                affinity_s=draw(st.sampled_from([None, None, 10])),
            )
        )
    return made


AIMS = [(dst, port) for dst in (VIP, VIP, OTHER_VIP, EXTERNAL, BALANCED) for port in (80, 80, 53)] + [
    (dst, port) for dst in (NODE_IP, BRIDGE_IP) for port in (30080, 30081, 80, 53, 8080)
]
packets = st.builds(
    lambda src, proto, aim: Packet(src, aim[0], proto, aim[1]),
    st.sampled_from([A, B, CLIENT, VNET_HOST, "10.244.2.11", BALANCED]),
    st.sampled_from(["tcp", "tcp", "udp"]),
    st.sampled_from(AIMS),
)
HOST_PORTS = {
    "pod1": (HostPort(port=8080, pod_port=81),),
    "pod3": (
        HostPort(port=30080, pod_port=82),
        HostPort(port=53, pod_port=83, protocol="udp", host_ip=BRIDGE_IP),
    ),
}


sent = st.tuples(packets, st.sampled_from([0, 1, 9, 11]))


@given(service_sets(), st.lists(sent | sent | sent | service_sets(), min_size=8, max_size=40))
def test_against_the_chains_walked_one_by_one(first: list[Service], steps: list[object]) -> None:
    wire = node_with(host_ports=HOST_PORTS, hairpin=kf.Hairpin.VETH, masquerade=kf.Masquerade.NONE, zone="z1")
    model = KubeProxy("10.244.0.0/16", {NODE_IP, BRIDGE_IP}, "10.244.1.0/24", now=wire.now)
    model.node_ip, model.zone = NODE_IP, "z1"
    model.host_ports = [(PODS[name][0], row) for name, rows in HOST_PORTS.items() for row in rows]
    for sport, step in enumerate([first, *steps], 20000):
        if isinstance(step, list):
            wire.node.set_services(step)
            model.replace(step)
            continue
        new, gap = step
        wire.now += gap * SECOND
        model.now = wire.now
        allowed = model.nat(new)
        wire.send(*to(new.src, new.dst, sport, new.dport, TCP if new.proto == "tcp" else UDP))
        rows = wire.node.connections.to_records()
        rows = rows[(rows["sport"] == sport) & (rows["dport"] == new.dport)]
        if not len(rows):
            assert {o.to for o in allowed} == {None}
            if wire.verdict is Verdict.LOCAL:  # a closed port's reset has ended the connection
                assert model.filtered(new) is None
                continue
            wanted = {"REJECT": Reason.NO_ENDPOINTS, "DROP": Reason.NO_LOCAL_ENDPOINTS}
            assert wire.reason is (wanted | {"FIREWALL": Reason.SOURCE_RANGE})[str(model.filtered(new))]
            continue
        row = rows[0]
        came = (str(IPv4Address(int(row["reply_src"]))), int(row["reply_sport"]))
        masqueraded = bool(row["status"] & CtStatus.SRC_NAT)
        matching = [
            o for o in allowed if (o.to or (new.dst, new.dport)) == came and o.masqueraded == masqueraded
        ]
        assert matching, (new, came, masqueraded, allowed)
        if matching[0].to is None:
            assert model.filtered(new) is None
        model.took(matching[0], new.src)


def test_a_service_is_a_value() -> None:
    one = service(f"{B}:8080")
    assert one == dataclasses.replace(one)
    assert len({one, service(f"{B}:8080")}) == 1
