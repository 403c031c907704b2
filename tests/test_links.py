"""Routes, MTUs and links that change while the node runs."""

from __future__ import annotations

import frames
import pytest
from frames import ACK, SYN, TCP, UDP, fields, tcp, udp
from strategies import NODE_IP, NODE_MAC, PODS
from test_node import A_MAC, B_MAC, INTERNET, A, B, Wire, from_a, from_outside

import kubenet_fastpath as kf
from kubenet_fastpath import ConfigError, Reason

ROUTES = ("default via 10.240.0.1 dev eth0", "10.240.0.0/16 dev eth0", "10.244.1.0/24 dev cbr0")


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
    ],
)
def test_wrong_calls(call: object, error: type[Exception]) -> None:
    wire = Wire()
    with pytest.raises(error):
        call(wire.node)  # type: ignore[operator]
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
