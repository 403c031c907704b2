"""Direct VNet addressing: no bridge, a routed veth with proxy ARP for each pod; three ways to get addresses."""

from __future__ import annotations

from ipaddress import IPv4Address

import frames
import pytest
from frames import SYN, TCP, UDP, arp, fields, ipv4, packet, tcp, udp
from golden_compare import with_checksums
from hypothesis import given
from hypothesis import strategies as st
from strategies import SECOND, Event, histories
from test_batch_invariance import START, batch_of, seen
from test_node import Wire

import kubenet_fastpath as kf
from kubenet_fastpath import HostPort, Reason, Service, ServicePort, TrafficPolicy, Verdict

HOST_MAC = "aa:aa:aa:aa:aa:aa"
NODE_IP, NODE_MAC, GATEWAY_MAC = "10.240.0.4", "00:0d:3a:00:00:04", "12:34:56:78:9a:bc"
INTERNET = "198.51.100.7"
PODS = {f"pod{i}": (f"10.240.0.{10 + i}", f"0a:58:0a:f0:00:{10 + i:02x}") for i in range(1, 4)}
(A, A_MAC), (B, B_MAC), _ = PODS.values()
BASE = {"node_ip": f"{NODE_IP}/16", "gateway": "10.240.0.1", "node_mac": NODE_MAC, "seed": 5}


class Direct(Wire):
    """A wire of such a node."""

    def __init__(
        self, config: object = None, pods: dict[str, tuple[str, str]] | None = None, **changes: object
    ) -> None:
        self.node = kf.Node((config or kf.AzureCniNodeSubnet)(**(BASE | changes)))
        self.now = START
        for name, (ip, mac) in (PODS if pods is None else pods).items():
            self.node.attach(kf.Pod(name, ip=ip, mac=mac))


def test_same_node_is_routed() -> None:  # T77
    wire = Direct()
    out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(A, B, UDP, udp(1, 2))))
    found = fields(out["pod2"][0])
    assert (found["eth_src"], found["eth_dst"], found["src"], found["ttl"]) == (HOST_MAC, B_MAC, A, 63)
    assert (wire.verdict, wire.reason) == (Verdict.ROUTED, Reason.ROUTE)
    assert len(wire.node.fdb) == 0


def test_a_frame_for_another_mac_goes_nowhere() -> None:
    wire = Direct()
    assert wire.send("pod1", packet(B_MAC, A_MAC, ipv4(A, B, UDP, udp(1, 2)))) == {}
    assert wire.reason is Reason.OTHERHOST


@pytest.mark.parametrize(("target", "answered"), [
    ("169.254.1.1", True), (INTERNET, True), (NODE_IP, True), (B, True), (A, False),
])  # fmt: skip
def test_the_host_answers_for_what_it_routes_elsewhere(target: str, answered: bool) -> None:  # T78
    wire = Direct(proxy_delay_ms=0)
    out = wire.send("pod1", arp(1, A_MAC, A, "00:00:00:00:00:00", target))
    want = {"pod1": [arp(2, HOST_MAC, target, A_MAC, A, A_MAC)]}
    assert out == (want if answered else {})
    assert wire.send("eth0", arp(1, GATEWAY_MAC, "10.240.0.1", "00:00:00:00:00:00", A)) == {}


def test_proxies_take_their_time() -> None:
    """neigh/default/proxy_delay 0.8 s, proxy_qlen 64: pneigh_enqueue."""
    late = set()
    for seed in range(40):
        wire = Direct(seed=seed)
        asks = arp(1, A_MAC, A, "00:00:00:00:00:00", INTERNET)
        reply = arp(2, HOST_MAC, INTERNET, A_MAC, A, A_MAC)
        assert wire.send("pod1", asks) == {}
        assert (wire.verdict, wire.reason) == (Verdict.LOCAL, Reason.ARP)
        result = wire.node.advance(START + 799_999_999)
        assert result.packets("pod1").frames() == [reply]
        assert result.source("pod1").tolist() == [-1]
        late.add(int(result.outputs["time"][0]) - START)
        assert len(wire.node.advance(START + 10**12).outputs) == 0
    assert len(late) == 40
    assert min(late) < 200_000_000
    assert max(late) > 600_000_000


def test_what_proxies_answer_at_once_or_never() -> None:
    wire = Direct()
    for target in (NODE_IP, INTERNET):
        asked = arp(
            1, A_MAC, A, "00:00:00:00:00:00", target, HOST_MAC if target == INTERNET else "ff:ff:ff:ff:ff:ff"
        )
        assert wire.send("pod1", asked) == {"pod1": [arp(2, HOST_MAC, target, A_MAC, A, A_MAC)]}
    targets = [f"198.51.100.{i}" for i in range(1, 70)]
    for target in targets:
        wire.send("pod1", arp(1, A_MAC, A, "00:00:00:00:00:00", target))
    wire.send("pod2", arp(1, B_MAC, B, "00:00:00:00:00:00", INTERNET))  # a queue of its own
    result = wire.node.advance(START + SECOND)
    answered = {str(IPv4Address(bytes(frame)[28:32])) for frame in result.packets("pod1").frames()}
    assert answered == set(targets[:65])
    assert len(result.packets("pod2")) == 1
    wire.send("pod1", arp(1, A_MAC, A, "00:00:00:00:00:00", INTERNET))
    wire.send("pod2", arp(1, B_MAC, B, "00:00:00:00:00:00", INTERNET))
    wire.node.detach("pod1")
    result = wire.node.advance(START + 5 * SECOND)
    assert [len(result.packets(port)) for port in ("eth0", "pod2")] == [0, 1]


@pytest.mark.parametrize(
    ("dst", "proto", "port", "translated"),
    [
        ("168.63.129.16", UDP, 53, True),
        ("168.63.129.16", TCP, 53, True),
        ("168.63.129.16", UDP, 80, False),
        ("169.254.169.254", TCP, 80, True),
        ("169.254.169.254", UDP, 80, False),
        ("169.254.169.254", TCP, 443, False),
        ("169.254.169.253", TCP, 80, False),
    ],
)
@pytest.mark.parametrize("on", [True, False])
def test_platform_services_see_the_node(
    dst: str, proto: int, port: int, translated: bool, on: bool
) -> None:  # T80
    pod = "10.241.0.11"
    wire = Direct(kf.AzureCniPodSubnet, {"pod1": (pod, A_MAC)}, pod_subnet="10.241.0.0/16", platform_snat=on)
    l4 = tcp(40000, port, SYN) if proto == TCP else udp(40000, port)
    found = fields(wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(pod, dst, proto, l4)))["eth0"][0])
    assert (found["src"], found["sport"]) == (NODE_IP if on and translated else pod, 40000)
    if on and translated:
        answer = tcp(port, 40000, SYN | 16) if proto == TCP else udp(port, 40000)
        back = packet(NODE_MAC, GATEWAY_MAC, ipv4(dst, NODE_IP, proto, answer))
        assert fields(wire.send("eth0", back)["pod1"][0])["dst"] == pod
    other = packet(NODE_MAC, GATEWAY_MAC, ipv4("10.242.0.9", dst, proto, l4))  # not from the pods' subnet
    assert fields(wire.send("eth0", other)["eth0"][0])["src"] == "10.242.0.9"


@pytest.mark.parametrize(
    ("proto", "port", "dropped"), [(TCP, 80, True), (TCP, 32526, True), (TCP, 53, False), (UDP, 80, False)]
)
@pytest.mark.parametrize("guard", [True, False])
def test_wireserver_is_kept_from_pods(proto: int, port: int, dropped: bool, guard: bool) -> None:  # T76
    wire = Direct(guard_wireserver=guard)
    l4 = tcp(40000, port, SYN) if proto == TCP else udp(40000, port)
    out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(A, "168.63.129.16", proto, l4)))
    if guard and dropped:
        assert (out, wire.verdict, wire.reason) == ({}, Verdict.DROP, Reason.WIRESERVER)
        assert len(wire.node.connections) == 0
    else:
        assert fields(out["eth0"][0])["src"] == NODE_IP
    service = Service(
        name="d/wire", cluster_ip="10.0.0.9", ports=(ServicePort(port=1, endpoints=("168.63.129.16:80",)),)
    )
    wire.node.set_services([service])  # outsiders' packets are marked, and marked ones are let pass later
    out = wire.send("eth0", packet(NODE_MAC, GATEWAY_MAC, ipv4(INTERNET, "10.0.0.9", TCP, tcp(1, 1, SYN))))
    assert bool(out) != guard


@pytest.mark.parametrize(("config", "more", "pod", "source"), [
    (kf.AzureCniNodeSubnet, {}, "10.240.0.11", NODE_IP),
    (kf.AzureCniPodSubnet, {"pod_subnet": "10.241.0.0/16"}, "10.241.0.11", "10.241.0.11"),
    (kf.AzureCniOverlay, {"pod_cidr": "10.244.1.0/24", "cluster_cidr": "10.244.0.0/16"}, "10.244.1.11", NODE_IP),
])  # fmt: skip
def test_who_is_masqueraded(config: object, more: dict[str, str], pod: str, source: str) -> None:  # T79, T80
    wire = Direct(config, {"pod1": (pod, A_MAC)}, **more)
    out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(pod, INTERNET, UDP, udp(40000, 53))))
    found = fields(out["eth0"][0])
    assert (found["src"], found["sport"], found["eth_dst"], found["ttl"]) == (source, 40000, GATEWAY_MAC, 63)
    back = packet(NODE_MAC, GATEWAY_MAC, ipv4(INTERNET, source, UDP, udp(53, 40000)))
    found = fields(wire.send("eth0", back)["pod1"][0])
    assert (found["dst"], found["eth_src"], found["eth_dst"]) == (pod, HOST_MAC, A_MAC)
    peer = {"10.240.0.11": "10.240.0.99", "10.241.0.11": "10.241.0.99", "10.244.1.11": "10.244.2.9"}[pod]
    out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(pod, peer, UDP, udp(1, 2))))
    if pod != "10.240.0.11":  # there the neighbour is asked for first
        assert fields(out["eth0"][0])["src"] == pod


def test_addresses_are_the_subnets_but_azures_own() -> None:
    node = kf.Node(kf.AzureCniNodeSubnet(node_ip="10.240.0.4/29", gateway="10.240.0.1"))
    assert [node.attach(kf.Pod(name)).pod.ip for name in "ab"] == ["10.240.0.5", "10.240.0.6"]
    with pytest.raises(kf.TableFull):
        node.attach(kf.Pod("c"))
    for taken in (NODE_IP, "10.240.0.1", "10.240.0.5", "10.240.0.9"):
        with pytest.raises(kf.ConfigError):
            node.attach(kf.Pod("c", ip=taken))
    assert len(node.routes) == len(kf.Node(node.config).routes) + 2


def test_a_pod_goes_and_another_comes() -> None:
    wire = Direct()
    before = (dict(wire.node.routes), list(wire.node.next_hops), wire.node.neighbours.to_records().tolist())
    for turn in range(5):
        late = wire.node.attach(kf.Pod("late", ip=f"10.240.1.{turn}", mac="0a:58:00:00:00:77"))
        out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(A, f"10.240.1.{turn}", UDP, udp(1, 2))))
        assert fields(out["late"][0])["eth_dst"] == "0a:58:00:00:00:77"
        wire.node.detach(late)
        assert dict(wire.node.routes) == before[0]
        assert len(wire.node.next_hops) <= len(before[1]) + 1
        assert wire.node.neighbours.to_records().tolist() == before[2]
    out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(A, "10.240.1.0", UDP, udp(1, 3))))
    assert set(out) == {"eth0"}  # the subnet's route is left: the node asks there
    with pytest.raises(KeyError):
        wire.node.detach("late")


def test_a_service_by_its_own_endpoint() -> None:
    one = ServicePort(port=80, endpoints=(f"{A}:8080",))
    wire = Direct(
        services=(Service(name="d/self", cluster_ip="10.0.0.30", ports=(one,)),), service_random_fully=False
    )
    out = wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(A, "10.0.0.30", TCP, tcp(40000, 80, SYN))))
    found = fields(out["pod1"][0])
    assert (found["src"], found["dst"], found["sport"], found["ttl"]) == (NODE_IP, A, 40000, 63)


def test_an_endpoint_is_local_when_its_pod_is_attached() -> None:
    one = ServicePort(port=80, node_port=30080, endpoints=("10.240.0.20:8080",))
    web = Service(
        name="d/w", cluster_ip="10.0.0.30", ports=(one,), external_traffic_policy=TrafficPolicy.LOCAL
    )
    wire = Direct(services=(web,))
    knock = packet(NODE_MAC, GATEWAY_MAC, ipv4(INTERNET, NODE_IP, TCP, tcp(40000, 30080, SYN)))
    assert wire.send("eth0", knock) == {}
    assert wire.reason is Reason.NO_LOCAL_ENDPOINTS
    port = wire.node.attach(kf.Pod("web", ip="10.240.0.20"))
    found = fields(wire.send("eth0", knock)["web"][0])
    assert (found["src"], found["dst"]) == (INTERNET, "10.240.0.20")
    wire.node.detach(port)
    knock = packet(NODE_MAC, GATEWAY_MAC, ipv4(INTERNET, NODE_IP, TCP, tcp(40001, 30080, SYN)))
    assert wire.send("eth0", knock) == {}


@pytest.mark.parametrize(
    ("src", "port", "masqueraded"), [(INTERNET, "eth0", False), (A, "pod1", False), (B, "pod2", True)]
)
def test_a_host_port_masquerades_its_own_pod_alone(src: str, port: str, masqueraded: bool) -> None:
    wire = Direct()
    wire.node.detach("pod2")
    wire.node.attach(kf.Pod("pod2", ip=B, mac=B_MAC, host_ports=(HostPort(port=8080, pod_port=80),)))
    to, mac = (NODE_MAC, GATEWAY_MAC) if port == "eth0" else (HOST_MAC, dict(PODS.values())[src])
    out = wire.send(port, packet(to, mac, ipv4(src, NODE_IP, TCP, tcp(40000, 8080, SYN))))
    found = fields(out["pod2"][0])
    assert (found["dst"], found["dport"], found["sport"]) == (B, 80, 40000)  # portmap's rule keeps the port
    assert found["src"] == (NODE_IP if masqueraded else src)


@pytest.mark.parametrize(("config", "changes", "message"), [
    (kf.AzureCniOverlay, {"pod_cidr": "10.245.1.0/24", "cluster_cidr": "10.244.0.0/16"}, "not inside cluster_cidr"),
    (kf.AzureCniOverlay, {"pod_cidr": "10.240.1.0/24", "cluster_cidr": "10.240.0.0/16"}, "inside cluster_cidr"),
    (kf.AzureCniPodSubnet, {"pod_subnet": "10.241.0.0/31"}, "no room"),
    (kf.AzureCniNodeSubnet, {"gateway": "10.250.0.1"}, "gateway"),
    (kf.AzureCniNodeSubnet, {"cluster_cidr": "10.240.0.0/33"}, "10.240.0.0/33"),
])  # fmt: skip
def test_contradictions_are_refused(config: object, changes: dict[str, str], message: str) -> None:
    with pytest.raises((kf.ConfigError, kf.AddressError), match=message):
        config(**(BASE | changes))
    with pytest.raises(TypeError, match="a node takes"):
        kf.Node("kubenet")


def direct(event: Event) -> Event:
    """The same frame for this node's addresses: 10.244.1.x are pods here, 10.240.0.1x."""
    frame = bytearray(event.frame)
    for i in range(len(frame) - 3):
        if frame[i : i + 3] == bytes((10, 244, 1)) and frame[i + 3] in (2, 3, 4):
            frame[i : i + 4] = bytes((10, 240, 0, frame[i + 3] + 9))
    if frame[:6] == frames.mac("0a:58:0a:f4:01:01"):
        frame[:6] = frames.mac(HOST_MAC)
    return Event(event.port, with_checksums(bytes(frame)), event.gap, event.cut)


@given(histories(), st.lists(st.integers(0, 40), max_size=4), st.booleans())
def test_any_split_gives_the_same(events: list[Event], cuts: list[int], asks: bool) -> None:
    changed = [direct(event) for event in events]
    runs = [Direct(permanent_neighbours=not asks).node for _ in range(2)]
    whole, split = (seen(node, changed, at) for node, at in zip(runs, ([], cuts), strict=True))
    for what in whole:
        assert whole[what] == split[what], what
    result = runs[0].forward(batch_of(runs[0], changed))
    assert len(result) == len(changed)


def test_a_pod_that_goes_is_no_neighbour_any_more() -> None:
    wire = Direct(permanent_neighbours=False)
    empty = wire.node.neighbours.to_records().tolist()
    late = wire.node.attach(kf.Pod("late", ip="10.240.1.9", mac="0a:58:00:00:00:77"))
    wire.send("late", arp(1, "0a:58:00:00:00:77", "10.240.1.9", "00:00:00:00:00:00", NODE_IP))
    assert len(wire.node.neighbours) == len(empty) + 1
    wire.node.detach(late)
    assert wire.node.neighbours.to_records().tolist() == empty


def test_a_foreign_source_does_not_reach_a_group_either() -> None:
    """ip_mc_validate_source: the way back to B is another interface, and the pod's has no address."""
    wire = Direct(rp_filter={"all": 2, "default": 2})
    wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(B, "224.0.0.1", UDP, udp(1, 2))))
    assert wire.reason is Reason.IP_RPFILTER
    assert len(wire.node.connections) == 0
    wire.send("pod1", packet(HOST_MAC, A_MAC, ipv4(A, "224.0.0.1", UDP, udp(1, 2))))
    assert wire.reason is not Reason.IP_RPFILTER
