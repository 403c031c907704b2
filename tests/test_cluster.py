"""Frames through clusters: who sees which source, that answers come home, that nothing gets lost."""

from __future__ import annotations

import frames
import numpy as np
import pytest
from clusters import (
    ADDRESSING,
    EXTERNAL,
    FRONTEND,
    SERVICE,
    START,
    address_of,
    config,
    framed,
    make,
    send,
    send_all,
    sent,
    turned,
)
from frames import ACK, ICMP, SYN, TCP, UDP, fields, icmp, tcp, udp
from golden_compare import wrong_checksums
from hypothesis import given, settings
from hypothesis import strategies as st

import kubenet_fastpath as kf
from kubenet_fastpath import Carriage, Outcome, Reason
from kubenet_fastpath.delivery import FABRIC

SECOND = 10**9
INTERNET = "198.51.100.7"


def arrival(delivery: kf.Delivery, frame: int = 0) -> tuple[str, bytes]:
    """Where a sent frame arrived, and how."""
    row = delivery.arrival(frame)
    assert row is not None, delivery
    return delivery.places[delivery.arrived_at[row]].name, bytes(delivery.arrived[row])


def path(delivery: kf.Delivery, frame: int = 0) -> list[tuple[int, int]]:
    return [(int(step["node"]), int(step["reason"])) for step in delivery.path(frame)]


# what a receiver sees as the source: "pod", "node" (its eth0), or the load balancer's address
SOURCES = {
    "pod11": {"kubenet": "pod", "node-subnet": "pod", "pod-subnet": "pod", "overlay": "pod"},
    "vm": {"kubenet": "node", "node-subnet": "pod", "pod-subnet": "pod", "overlay": "node"},
    "internet": {"kubenet": "lb", "node-subnet": "lb", "pod-subnet": "lb", "overlay": "lb"},
}
FABRIC_WAY = {
    "kubenet": Carriage.USER_ROUTE,
    "overlay": Carriage.OVERLAY,
    "node-subnet": Carriage.VNET,
    "pod-subnet": Carriage.VNET,
}


@pytest.mark.parametrize("addressing", ADDRESSING)
@pytest.mark.parametrize("receiver", SOURCES)
def test_which_source_a_receiver_sees(receiver: str, addressing: str) -> None:
    cluster = make(addressing)
    dst = INTERNET if receiver == "internet" else receiver
    place, got = arrival(send(cluster, "pod00", sent(cluster, "pod00", dst, UDP, udp(4000, 53))))
    expected = {"pod": address_of(cluster, "pod00"), "node": address_of(cluster, "node0"), "lb": FRONTEND}
    assert place == receiver
    assert fields(got)["src"] == expected[SOURCES[receiver][addressing]]
    assert wrong_checksums(got, ["ip", "l4"]) == []


@pytest.mark.parametrize("addressing", ADDRESSING)
def test_a_pod_of_another_node_is_two_hops_away(addressing: str) -> None:
    cluster = make(addressing)
    delivery = send(cluster, "pod00", sent(cluster, "pod00", "pod11", UDP, udp(4000, 53)))
    place, got = arrival(delivery)
    assert (place, fields(got)["ttl"]) == ("pod11", 62)
    ways = [way for node, way in path(delivery) if node == FABRIC]
    assert ways == [FABRIC_WAY[addressing]]
    assert [node for node, _ in path(delivery) if node != FABRIC] == [0, 1]


@pytest.mark.parametrize("addressing", ADDRESSING)
@pytest.mark.parametrize("seen", [0, 1])
def test_a_neighbour_on_the_node(addressing: str, seen: int) -> None:
    cluster = make(addressing)
    delivery = send(cluster, "pod00", sent(cluster, "pod00", "pod02", UDP, udp(4000 + seen, 53)))
    assert fields(arrival(delivery)[1])["ttl"] == (64 if addressing == "kubenet" else 63)
    assert [node for node, _ in path(delivery)] == [0]


ASKED = st.sampled_from(["pod00", "pod01", "pod02", "pod10", "pod21", "vm", INTERNET, SERVICE])
ASKS = st.tuples(
    st.sampled_from(["pod00", "pod01", "pod10", "pod20"]),
    ASKED,
    st.sampled_from([UDP, TCP]),
    st.integers(1024, 1027),
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(ADDRESSING), st.lists(ASKS, min_size=1, max_size=6))
def test_answers_reach_who_asked(addressing: str, asks: list[tuple[str, str, int, int]]) -> None:
    cluster = make(addressing)
    for k, (place, dst, proto, sport) in enumerate(asks):
        if dst == place or (dst == SERVICE and proto == UDP):
            continue
        if dst == SERVICE and place in ("pod01", "pod10") and addressing == "kubenet":
            continue  # may be its own endpoint, and a promiscuous bridge loses that since Linux 6.9
        question = sent(
            cluster, place, dst, proto, tcp(sport, 80, SYN) if proto == TCP else udp(sport, 80), ident=k
        )
        there, got = arrival(send(cluster, place, question, 10 * k * SECOND))
        home, answer = arrival(send(cluster, there, turned(cluster, there, got), (10 * k + 1) * SECOND))
        wanted, seen = fields(question), fields(answer)
        assert home == place
        assert (seen["src"], seen["sport"]) == (wanted["dst"], wanted["dport"])
        assert (seen["dst"], seen["dport"]) == (wanted["src"], wanted["sport"])
        assert wrong_checksums(answer, ["ip", "l4"]) == []


FRAMES = st.tuples(
    st.sampled_from(["pod00", "pod01", "pod10", "pod22", "vm", "internet"]),
    st.sampled_from(
        ["pod00", "pod01", "pod11", "pod21", "vm", "node0", "node1", INTERNET, SERVICE, EXTERNAL, FRONTEND, "10.0.0.77",
         "10.192.1.99", "172.16.0.1", "168.63.129.16", "10.225.9.9", "255.255.255.255", "224.0.0.1", "10.224.0.77"]
    ),
    st.sampled_from(["udp", "syn", "ack", "ping", "gre", "fragment", "short", "arp", "noise"]),
    st.sampled_from([64, 1, 2, 3]),
    st.sampled_from([0, 1, 100_000, 249_999, 250_000, 10**9]),
)  # fmt: skip


def made(cluster: kf.Cluster, place: str, dst: str, kind: str, ttl: int, ident: int) -> bytes:
    src = INTERNET if place == "internet" else address_of(cluster, place)
    to = address_of(cluster, dst) if dst in cluster.places else dst
    l4 = {"syn": tcp(1000, 80, SYN), "ack": tcp(1000, 80, ACK), "ping": icmp(8), "gre": bytes(8)}.get(
        kind, udp(1000, 80)
    )
    proto = {"syn": TCP, "ack": TCP, "ping": ICMP, "gre": 47}.get(kind, UDP)
    if kind == "arp":
        return frames.arp(1, "0a:58:0a:f4:00:02", src, "00:00:00:00:00:00", to)
    data = framed(
        cluster, place, src, to, proto, l4, ttl=ttl, ident=ident, flags=0x2000 if kind == "fragment" else 0
    )
    return data[:20] if kind == "short" else data[:14] + b"\xff" * 40 if kind == "noise" else data


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(ADDRESSING), st.lists(FRAMES, min_size=1, max_size=12))
def test_every_frame_ends_in_one_outcome(addressing: str, what: list[tuple[str, str, str, int, int]]) -> None:
    cluster, now, todo = make(addressing), 0, []
    for k, (place, dst, kind, ttl, wait) in enumerate(what):
        now += wait
        todo.append((place, made(cluster, place, dst, kind, ttl, k + 1), now))
    delivery = send_all(cluster, todo)
    assert (delivery.outcome != Outcome.LOST_TRACK).all()
    arrived = np.isin(np.arange(len(todo)), delivery.arrived_from[delivery.arrived_own])
    assert np.array_equal(arrived, delivery.outcome == Outcome.DELIVERED)
    # each step of a frame is one more packet in one node's counters, and the verdicts of a node add up
    own = delivery.steps[delivery.steps["node"] != FABRIC]
    for index, node in enumerate(cluster.nodes.values()):
        verdicts = sum(node.counters[v.name.lower()] for v in kf.Verdict)
        assert verdicts == int((own["node"] == index).sum())
        received = sum(node.counters[f"{port}.rx_packets"] for port in node.ports)
        assert received == verdicts


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(ADDRESSING), st.lists(FRAMES, min_size=2, max_size=10), st.data())
def test_a_batch_means_its_frames_in_the_order_of_time(
    addressing: str, what: list[tuple[str, str, str, int, int]], data: st.DataObject
) -> None:
    """Frames so far apart that nothing of one is under way when the next starts: any split gives the same."""
    whole, split = make(addressing), make(addressing)
    todo = [
        (place, made(whole, place, dst, kind, ttl, k + 1), k * 10**7)
        for k, (place, dst, kind, ttl, _) in enumerate(what)
    ]
    at_once = send_all(whole, todo)
    cut = data.draw(st.integers(1, len(todo) - 1))
    first, second = send_all(split, todo[:cut]), send_all(split, todo[cut:])
    assert np.array_equal(at_once.reason, np.concatenate([first.reason, second.reason]))
    assert at_once.arrived.frames() == first.arrived.frames() + second.arrived.frames()


def test_time_orders_what_meets_at_a_node() -> None:
    """An answer that starts before the question arrived is another connection's; one after it is translated back."""
    cluster = make("kubenet")
    question = sent(cluster, "pod00", INTERNET, UDP, udp(4000, 53))
    _, got = arrival(send(cluster, "pod00", question))
    answer = turned(cluster, "internet", got)
    for lead, reason in ((-cluster.latency_ns - 1, Carriage.NO_RULE), (cluster.latency_ns, Reason.NAT_REPLY)):
        fresh = make("kubenet")
        delivery = send_all(fresh, [("internet", answer, SECOND + lead), ("pod00", question, SECOND)])
        assert delivery.reason[0] == reason


@pytest.mark.parametrize("late", [1, 0])
def test_who_comes_first_at_a_node_begins_the_connection(late: int) -> None:
    cluster = make("kubenet")
    one = ("pod00", sent(cluster, "pod00", "pod11", UDP, udp(1000, 2000)), 0)
    other = (
        "pod11",
        sent(cluster, "pod11", "pod00", UDP, udp(2000, 1000)),
        cluster.latency_ns - 1 + 2 * late,
    )
    send_all(cluster, [one, other])
    (connection,) = cluster.nodes["node1"].connections.to_records()
    assert connection["src"] == cluster.places["pod00" if late else "pod11"].address


@pytest.mark.parametrize("addressing", ADDRESSING)
def test_a_service_behind_the_load_balancer(addressing: str) -> None:
    cluster = make(addressing)
    question = framed(cluster, "internet", INTERNET, EXTERNAL, TCP, tcp(5000, 80, SYN))
    delivery = send(cluster, "internet", question)
    place, got = arrival(delivery)
    assert place in ("pod01", "pod10")
    assert path(delivery)[0] == (FABRIC, Carriage.LB_RULE)
    home, answer = arrival(send(cluster, place, turned(cluster, place, got), SECOND))
    assert (home, fields(answer)["src"]) == ("internet", EXTERNAL)


def test_a_foreign_source_needs_ip_forwarding() -> None:
    for addressing, reason in (("kubenet", None), ("overlay", Carriage.SOURCE)):
        cluster = make(addressing)
        data = framed(cluster, "pod00", "10.200.0.9", address_of(cluster, "pod11"), UDP, udp(1, 2))
        delivery = send(cluster, "pod00", data)
        assert (delivery.outcome[0] == Outcome.DELIVERED) == (reason is None)
        assert reason is None or delivery.reason[0] == reason


def test_a_host_of_another_subnet_reaches_pods_with_vnet_addresses_alone() -> None:
    reasons = {}
    for addressing in ADDRESSING:
        cluster = make(addressing)
        delivery = send(cluster, "vm", sent(cluster, "vm", "pod00", UDP, udp(1, 2)))
        reasons[addressing] = delivery.reason[0] if delivery.outcome[0] != Outcome.DELIVERED else None
    none = Carriage.NO_ROUTE
    assert reasons == {"kubenet": none, "node-subnet": None, "pod-subnet": None, "overlay": none}


def test_outbound_ports_run_out() -> None:
    cluster = kf.Cluster(
        {"node0": config("kubenet", 0)},
        vnet=kf.Vnet(address_space=("10.224.0.0/12",)),
        pods={"node0": [kf.Pod("web")]},
        balancer=kf.LoadBalancer(addresses=(FRONTEND,), outbound_ports=8),
    )
    delivery = send_all(
        cluster, [("web", sent(cluster, "web", INTERNET, UDP, udp(4000 + k, 53)), k) for k in range(10)]
    )
    assert (delivery.reason == Carriage.SNAT_PORTS).sum() == 2
    assert cluster.fabric.snat is not None
    assert cluster.fabric.snat.exhausted == 2


@pytest.mark.parametrize("step", [0, 1])
def test_first_frames_wait_for_a_mac_and_arrive(step: int) -> None:
    cluster = make("node-subnet")
    todo = [
        ("pod00", sent(cluster, "pod00", "pod11", UDP, udp(1000 + k, 2), ident=k * step), k) for k in range(3)
    ]
    delivery = send_all(cluster, todo)
    assert (delivery.outcome == Outcome.DELIVERED).all()
    assert [step["reason"] for step in delivery.path(0)] == [Reason.NEIGHBOUR, Carriage.VNET, Reason.ROUTE]


def test_an_error_comes_back_and_is_not_the_frame() -> None:
    cluster = make("kubenet")
    delivery = send(cluster, "pod00", sent(cluster, "pod00", "pod11", UDP, udp(1, 2), ttl=2))
    assert (delivery.outcome[0], delivery.reason[0]) == (Outcome.DROPPED, Reason.TTL)
    assert delivery.arrival(0) is None
    assert [fields(bytes(f))["type"] for f in delivery.packets(cluster.places["pod00"])] == [11]


def test_the_callers_frames_stay_as_they_are() -> None:
    cluster = make("kubenet")
    batch = kf.PacketBatch.from_frames([sent(cluster, "pod00", INTERNET, UDP, udp(1, 2))], port=7, time=START)
    before = batch.copy()
    cluster.send(batch, "pod00")
    assert batch == before


def test_a_flooded_frame_is_taken_by_its_receiver_alone() -> None:
    cluster = make("kubenet", arp_notify=False)
    delivery = send(cluster, "pod00", sent(cluster, "pod00", "pod02", UDP, udp(1, 2)))
    assert (arrival(delivery)[0], len(delivery.arrived)) == ("pod02", 2)
    gone = framed(
        cluster, "pod00", address_of(cluster, "pod00"), address_of(cluster, "pod02"), UDP, udp(1, 2)
    )
    delivery = send(cluster, "pod00", bytes.fromhex("0a58000000ff") + gone[6:], SECOND)
    assert (delivery.outcome[0], delivery.reason[0]) == (Outcome.DROPPED, Carriage.NO_PLACE)


def test_neighbours_that_were_silent_for_minutes_are_still_found() -> None:
    cluster = make("node-subnet")
    for k in range(4):
        at = k * 200 * SECOND
        delivery = send(cluster, "pod00", sent(cluster, "pod00", "pod11", UDP, udp(1, 2), ident=k), at)
        assert [step["reason"] for step in delivery.path(0)][-2:] == [Carriage.VNET, Reason.ROUTE]
        assert (delivery.path(0)["reason"] == Reason.NEIGHBOUR).sum() == (k == 0)


def test_waiting_frames_are_given_up_when_time_passes() -> None:
    cluster = make("kubenet", permanent_neighbours=False, gateway_mac=None)
    data = framed(cluster, "pod00", address_of(cluster, "pod00"), "10.192.1.99", UDP, udp(1, 2))
    send(cluster, "pod00", data)
    back = cluster.advance(START + 10 * SECOND)
    assert len(back) == 0
    assert cluster.nodes["node1"].counters["generated"] > 0


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("nobody", KeyError),
        ("node0", ValueError),
        (99, IndexError),
        (1.5, TypeError),
        ([0, 1], ValueError),
        (-1, IndexError),
    ],
)
def test_what_send_refuses(at: object, error: type[Exception]) -> None:
    cluster = make("kubenet")
    with pytest.raises(error):
        send(cluster, at, bytes(60))  # type: ignore[arg-type]
    assert cluster.nodes["node0"].now is None


def test_400_kubenet_nodes_and_no_more() -> None:
    vnet = kf.Vnet(address_space=("10.224.0.0/12",))
    nodes = {f"node{i}": config("kubenet", i) for i in range(401)}
    nodes400 = dict(list(nodes.items())[:400])
    cluster = kf.Cluster(
        nodes400, vnet=vnet, pods={name: [kf.Pod(f"{name}-pod")] for name in ("node0", "node399")}
    )
    assert len(cluster.vnet.routes) == 400
    delivery = send(cluster, "node0-pod", sent(cluster, "node0-pod", "node399-pod", UDP, udp(1, 2)))
    assert arrival(delivery)[0] == "node399-pod"
    with pytest.raises(kf.ConfigError, match="401 nodes"):
        kf.Cluster(nodes, vnet=vnet)
    route = kf.UserRoute(prefix="0.0.0.0/0", hop=kf.HopKind.NONE)
    with pytest.raises(kf.ConfigError, match="401 routes"):
        kf.Cluster(nodes400, vnet=kf.Vnet(address_space=("10.224.0.0/12",), routes=(route,)))


def test_names_and_addresses_are_the_clusters() -> None:
    cluster = make("node-subnet")
    with pytest.raises(kf.ConfigError, match="already"):
        cluster.attach("node1", kf.Pod("pod00"))
    for taken in (address_of(cluster, "pod00"), "10.224.0.5"):
        with pytest.raises(kf.ConfigError):
            cluster.attach("node1", kf.Pod("twin", ip=taken))
    assert "twin" not in cluster.places
    with pytest.raises(KeyError):
        cluster.attach("node9", kf.Pod("pod90"))
    with pytest.raises(kf.ConfigError, match="no node"):
        kf.Cluster({}, vnet=kf.Vnet(address_space=("10.224.0.0/12",)), pods={"node9": []})
    with pytest.raises(kf.ConfigError, match="outside the VNet"):
        kf.Cluster({"n": config("kubenet", 0)}, vnet=kf.Vnet(address_space=("10.0.0.0/16",)))


def test_a_node_has_250_pods() -> None:
    with pytest.raises(kf.ConfigError, match="250 pods"):
        make("kubenet", nodes=1, pods=251)


def test_what_waited_in_an_earlier_call_is_nobodys_in_a_later_one() -> None:
    """A pod claims its address only after a frame for it has been waiting: the frame leaves, and is not the claim."""
    cluster = make("kubenet")
    own = "0a:58:0a:c0:01:02"  # pod10's MAC
    first = send(cluster, "pod00", sent(cluster, "pod00", "10.192.1.99", UDP, udp(1, 2)))
    assert (first.outcome[0], first.reason[0]) == (Outcome.HELD, Reason.NEIGHBOUR)
    assert len(cluster.advance(START + SECOND // 2)) == 0
    claim = frames.arp(2, own, "10.192.1.99", "0a:58:0a:c0:01:01", "10.192.1.1", "0a:58:0a:c0:01:01")
    second = send(cluster, "pod10", claim, SECOND * 3 // 4)
    assert second.outcome[0] == Outcome.LOCAL
    left = [fields(bytes(f)) for f in second.arrived if bytes(f)[12:14] == b"\x08\x00"]
    assert left
    assert {f["dst"] for f in left} == {"10.192.1.99"}
    assert not second.arrived_own.any()


def test_advance_moves_every_clock() -> None:
    cluster = make("kubenet")
    send(cluster, "pod00", sent(cluster, "pod00", "pod02", UDP, udp(1, 2)))
    cluster.advance(START + 1000 * SECOND)
    assert {node.now for node in cluster.nodes.values()} == {START + 1000 * SECOND}


def test_many_nodes_forward_each_for_itself() -> None:
    """Every pod of 100 nodes to one of the next node: each node sends and receives as many as its pods."""
    cluster = make("overlay", nodes=100, pods=3)
    cluster.set_services([])
    todo = [
        (
            f"pod{i}{k}",
            sent(cluster, f"pod{i}{k}", f"pod{(i + 1) % 100}{k}", UDP, udp(k + 1, 2), ident=3 * i + k),
            k,
        )
        for i in range(100)
        for k in range(3)
    ]
    delivery = send_all(cluster, todo)
    assert (delivery.outcome == Outcome.DELIVERED).all()
    names = [delivery.places[p].name for p in delivery.place]
    assert names == [f"pod{(i + 1) % 100}{k}" for i in range(100) for k in range(3)]
    assert all(node.counters["routed"] == 6 for node in cluster.nodes.values())
