"""Routes, MTUs and links that change while the node runs."""

from __future__ import annotations

import frames
import pytest
from frames import ACK, SYN, TCP, UDP, fields, tcp, udp
from strategies import NODE_IP, NODE_MAC, PODS
from test_dual_stack import FAR, NODE, OUTSIDE, kubenet
from test_dual_stack import Wire as Wire6
from test_node import A_MAC, B_MAC, INTERNET, A, B, Wire, from_a, from_outside

import kubenet_fastpath as kf
from kubenet_fastpath import ConfigError, Reason
from kubenet_fastpath.node_plan import RouteType

ROUTES = ("default via 10.240.0.1 dev eth0", "10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0")
ROUTES6 = (
    "default via fe80::1234:5678:9abc dev eth0",
    "fd00:10::/64 dev eth0",
    "fd12:3456:789a:0:1::/80 dev cbr0",
)


def test_routes_are_replaced() -> None:
    wire = Wire()
    wire.node.set_routes([*ROUTES, "unreachable 198.51.100.0/24"])
    assert fields(wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))["pod1"][0])["code"] == 1
    assert "eth0" in wire.send("pod1", from_a("203.0.113.1", UDP, udp(1, 2)))
    wire.node.set_routes(ROUTES)
    assert "eth0" in wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))
    wire.node.set_routes(ROUTES[1:])
    assert wire.send("pod1", from_a("203.0.113.1", UDP, udp(1, 3)))["pod1"][0][35] == 0
    assert fields(wire.send("pod1", from_a(B, UDP, udp(1, 2), B_MAC))["pod2"][0])["dst"] == B


def test_routes_of_azures_pods_stay() -> None:
    config = kf.AzureCniNodeSubnet(node_ip="10.240.0.4", gateway="10.240.0.1")
    node = kf.Node(config)
    pod = node.attach(kf.Pod("web"))
    node.set_routes(["default via 10.240.0.1 dev eth0"])
    assert node.routes.longest_match(pod.pod.ip)[0] == f"{pod.pod.ip}/32"


@pytest.mark.parametrize(
    "routes", [["10.0.0.0/8 dev eth7"], ["10.0.0.0/8 dev eth0 mtu"], ["default dev web"]]
)
def test_refused_routes_change_nothing(routes: list[str]) -> None:
    wire = Wire()
    with pytest.raises(ConfigError):
        wire.node.set_routes([*ROUTES, *routes])
    assert "eth0" in wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))


def test_each_family_has_a_table_of_its_own() -> None:
    wire = Wire6(kubenet())
    wire.node.set_routes([*ROUTES6, "prohibit 2001:db8::/32"], family=6)
    assert wire.from_a(OUTSIDE, udp(1, 2))[1] == "PROHIBIT"
    before = wire.node.routes6.items()
    wire.node.set_routes(ROUTES[1:])
    assert wire.node.routes6.items() == before
    wire.node.set_routes(ROUTES6[1:], family=6)
    assert wire.from_a(OUTSIDE, udp(1, 2))[1] == "IP_INNOROUTES"
    assert wire.from_a(FAR, udp(1, 2))[1] == "IP_INNOROUTES"
    assert wire.from_a(str(wire.b.pod.ip6), udp(1, 2))[1] == "DEDUP"  # the pods' network stays, by cbr0
    wire.node.set_routes(ROUTES6, family=6)
    assert wire.from_a(OUTSIDE, udp(1, 3))[:2] == ("ROUTED", "MASQUERADE")
    assert wire.to_node(OUTSIDE, NODE, udp(5, 9))[0] == "LOCAL"  # whose own addresses are no route's


@pytest.mark.parametrize(
    ("routes", "family", "said"),
    [
        ([*ROUTES6, *ROUTES], 6, "route 0.0.0.0/0 is not of IPv6"),
        ([*ROUTES, *ROUTES6], 4, "route ::/0 is not of IPv4"),
        ([*ROUTES6, "2001:db8::/32 dev eth7"], 6, "leads to eth7"),
        (ROUTES6, 5, "family must be 4 or 6, not 5"),
    ],
)
def test_refused_routes_of_ipv6_change_nothing(routes: list[str], family: int, said: str) -> None:
    node = kf.Node(kubenet())
    before = node.routes.items(), node.routes6.items(), list(node.next_hops)
    with pytest.raises(ValueError, match=said):
        node.set_routes(routes, family=family)
    assert (node.routes.items(), node.routes6.items(), node.next_hops) == before
    with pytest.raises(ConfigError, match="the node has no IPv6"):
        Wire().node.set_routes(ROUTES6, family=6)


def test_gateways_that_are_gone_leave_their_places() -> None:
    wire = Wire()
    for last in range(5, 105):
        wire.node.set_routes([*ROUTES, f"198.51.100.0/24 via 10.240.0.{last} dev eth0"])
    assert len(wire.node.next_hops) < 20
    assert sum(hop.type is RouteType.NONE for hop in wire.node.next_hops) <= 1
    assert "eth0" in wire.send("pod1", from_a("203.0.113.1", UDP, udp(1, 2)))


def test_a_gateway_that_another_route_has_stays() -> None:
    wire = Wire()
    kept = wire.node.routes["0.0.0.0/0"]
    wire.node.routes["203.0.113.0/24"] = kept  # by whoever has the table
    wire.node.set_routes(ROUTES[1:])
    assert wire.node.next_hops[kept].gateway != 0
    assert "eth0" in wire.send("pod1", from_a("203.0.113.1", UDP, udp(1, 2)))


def test_an_mtu_changes() -> None:
    wire = Wire()
    big = from_a(INTERNET, UDP, udp(1, 2, bytes(1400)))
    assert "eth0" in wire.send("pod1", big)
    wire.node.set_mtu("eth0", 1400)
    (answer,) = wire.send("pod1", big)["pod1"]
    assert (answer[34], answer[35], answer[40:42]) == (3, 4, (1400).to_bytes(2, "big"))
    wire.node.set_mtu("eth0", 1500)
    assert "eth0" in wire.send("pod1", big)


def test_a_bridge_has_the_least_of_its_ports_unless_its_own_is_set() -> None:
    wire = Wire()
    for pod in PODS:
        wire.node.set_mtu(pod, 1500)
    big = from_outside(INTERNET, A, UDP, udp(1, 2, bytes(1400)))
    assert "pod1" in wire.send("eth0", big)
    wire.node.set_mtu("pod2", 1400)
    assert wire.send("eth0", big)["eth0"][0][34] == 3
    wire.node.set_mtu("cbr0", 1500)
    wire.node.set_mtu("pod2", 1300)
    assert "pod1" in wire.send("eth0", big)


def test_a_bridged_datagram_is_cut_by_the_bridges_mtu() -> None:
    """ip_fragment takes the route's MTU, and the bridge's own route has cbr0's."""
    for mtu, left in ((1500, 2), (1300, 0)):
        wire = Wire()
        wire.node.set_mtu("cbr0", mtu)
        whole = from_a(B, UDP, udp(1, 2, bytes(2000)), B_MAC, flags=0)
        first, second = frames.fragments(whole[14:], 1480)
        assert wire.send("pod1", frames.with_checksums(whole[:14] + first)) == {}
        out = wire.send("pod1", frames.with_checksums(whole[:14] + second))
        assert len(out.get("pod2", [])) == left


def test_a_link_that_goes_down_takes_along_what_hangs_on_it() -> None:
    wire = Wire()
    syn = from_a(INTERNET, TCP, tcp(1000, 80, SYN))
    assert fields(wire.send("pod1", syn)["eth0"][0])["src"] == NODE_IP
    wire.send("pod1", from_a(B, TCP, tcp(1000, 80, SYN), B_MAC))
    assert len(wire.node.connections) == 2
    wire.node.set_up("eth0", False)
    assert len(wire.node.connections) == 1
    assert wire.send("eth0", from_outside(INTERNET, NODE_IP, TCP, tcp(80, 1000, SYN | ACK, 0, 1))) == {}
    assert wire.reason is Reason.NO_SUCH_PORT
    assert wire.send("pod1", syn)["pod1"][0][34:36] == b"\x03\x00"  # no route
    with pytest.raises(ConfigError, match="is down"):
        wire.node.set_routes(ROUTES)
    wire.node.set_up("eth0", True)
    assert "eth0" not in wire.send("pod1", syn)
    wire.node.set_routes(ROUTES)
    out = wire.send("pod1", syn)["eth0"]
    assert out[0][12:14] == b"\x08\x06"  # the gateway has to be asked for


def test_a_link_that_goes_down_loses_its_ipv6_addresses_too() -> None:
    """addrconf_ifdown: routes, neighbours and global addresses; the link-local one comes back."""
    wire = Wire6(kubenet())
    assert wire.from_a(OUTSIDE, tcp(1000, 80, SYN), TCP)[1] == "MASQUERADE"
    wire.send(wire.a, from_a(B, TCP, tcp(1000, 80, SYN), B_MAC))
    assert len(wire.node.connections) == 2
    wire.node.set_up("eth0", False)
    assert len(wire.node.connections) == 1
    assert {row[0] for row in wire.node.neighbours6.to_records().tolist()} == {wire.node._device("cbr0")}
    assert wire.from_a(OUTSIDE, udp(1, 2))[1] == "IP_INNOROUTES"
    assert wire.from_a(NODE, udp(1, 2))[1] == "IP_INNOROUTES"
    with pytest.raises(ConfigError, match="eth0, which is down"):
        wire.node.set_routes(ROUTES6, family=6)
    wire.node.set_up("eth0", True)
    wire.node.set_routes(ROUTES6, family=6)
    ((port, asked),) = wire.from_a(OUTSIDE, udp(1, 4))[2]
    assert (port, asked[54]) == ("eth0", 135)
    assert asked[22:24] == b"\xfe\x80"
    assert wire.to_node(OUTSIDE, NODE, udp(5, 9))[0] != "LOCAL"


def test_a_routed_pod_whose_link_goes_down_is_not_reached() -> None:
    config = kf.AzureCniOverlay(
        node_ip="10.240.0.4", gateway="10.240.0.1", pod_cidr="10.244.1.0/24", cluster_cidr="10.244.0.0/16",
        node_ip6="fd00:10::4/64", gateway6="fd00:10::1", pod_cidr6="fd12:3456:789a:0:1::/80",
        cluster_cidr6="fd12:3456:789a::/64",
    )  # fmt: skip
    node = kf.Node(config)
    pod = node.attach(kf.Pod("web")).pod
    node.set_up("web", False)
    assert node.routes6.longest_match(pod.ip6)[0] == "::/0"
    assert node.routes.longest_match(pod.ip)[0] == "0.0.0.0/0"
    node.detach("web")


def test_a_port_that_was_down_has_to_be_learned_again() -> None:
    wire = Wire()
    frame = from_a(B, UDP, udp(1, 2), B_MAC)
    assert set(wire.send("pod1", frame)) == {"pod2"}
    wire.node.set_up("pod2", False)
    assert set(wire.send("pod1", frame)) == {"pod3"}
    wire.node.set_up("pod2", True)
    assert set(wire.send("pod1", frame)) == {"pod2", "pod3"}
    wire.node.detach("pod2")
    wire.node.attach(kf.Pod("pod2", ip=B, mac=B_MAC))
    assert set(wire.send("pod1", frame)) == {"pod2"}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda node: node.set_mtu("eth0", 67), ConfigError),
        (lambda node: node.set_mtu("eth7", 1500), ConfigError),
        (lambda node: node.set_up("eth7", True), ConfigError),
        (lambda node: node.set_up("cbr0", False), ConfigError),
        (lambda node: node.set_mtu("eth0", 576.5), TypeError),
        (lambda node: node.set_mtu("eth0", "576"), TypeError),
    ],
)
def test_wrong_calls(call: object, error: type[Exception]) -> None:
    wire = Wire()
    with pytest.raises(error):
        call(wire.node)  # type: ignore[operator]
    assert {i.mtu for i in wire.node._interfaces.values()} == {1500}
    assert "eth0" in wire.send("pod1", from_a(INTERNET, UDP, udp(1, 2)))


def test_a_redirect_is_sent_to_a_neighbour_whose_best_route_leads_elsewhere() -> None:
    """rp_filter 2: what counts is that eth0's subnet has the address (__fib_validate_source looks up once more)."""
    node = kf.Node(
        kf.AzureCniNodeSubnet(node_ip="10.240.0.4", gateway="10.240.0.1", rp_filter=2, kube_proxy=False)
    )
    pod = node.attach(kf.Pod("web", ip="10.240.0.12")).pod
    frame = frames.packet(NODE_MAC, "12:34:56:78:9a:bc", frames.ipv4(pod.ip, "10.240.0.1", UDP, udp(1, 2)))
    for now in (
        10**18,
        10**18 + 10**9,
    ):  # no redirect before NAT is settled, at the end of the first one's way
        out = node.forward(kf.PacketBatch.from_frames([frame], node.ports["eth0"], now))
    (redirect,) = out.packets("web").frames()
    assert (redirect[34], redirect[35], redirect[38:42]) == (5, 1, bytes([10, 240, 0, 1]))


@pytest.mark.parametrize("reachable", [0.02, 30])
def test_a_neighbour_is_asked_again(reachable: float) -> None:
    """REACHABLE, DELAY because it is in use, PROBE by unicast three times, FAILED."""
    wire = Wire(
        permanent_neighbours=False,
        neighbour_retrans_s=0.2,
        neighbour_delay_s=1,
        neighbour_reachable_s=reachable,
    )
    wire.send("eth0", from_outside(INTERNET, A, UDP, udp(1, 2)))
    answer = frames.arp(2, A_MAC, A, NODE_MAC, "10.244.1.1", dst="0a:58:0a:f4:01:01")
    assert len(wire.send("pod1", answer)["pod1"]) == 1
    asked = [out for _ in range(20) for out in wire.wait(0.1).get("pod1", []) if out[12:14] == b"\x08\x06"]
    assert [out[:6].hex(":") for out in asked] == ([A_MAC] * 3 if reachable < 1 else [])
    assert ("FAILED" in wire.node.neighbours.to_text()) is (reachable < 1)
