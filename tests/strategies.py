"""Histories of frames that know the node: its pods, the VNet, the internet; flows, replies, noise.

Everything crowds into few addresses and ports, so that packets meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import frames
from hypothesis import strategies as st

import kubenet_fastpath as kf

NODE_IP, NODE_MAC = "10.240.0.4", "00:0d:3a:00:00:04"
GATEWAY_MAC = "12:34:56:78:9a:bc"
BRIDGE_IP, BRIDGE_MAC = "10.244.1.1", "0a:58:0a:f4:01:01"
PODS = {f"pod{i}": (f"10.244.1.{i + 1}", f"0a:58:0a:f4:01:{i + 1:02x}") for i in range(1, 4)}
VIPS = ("10.0.0.50", "10.0.0.51", "10.0.0.52")
OTHERS = (
    "10.244.2.10",
    "10.240.0.9",
    "198.51.100.7",
    "203.0.113.9",
    NODE_IP,
    BRIDGE_IP,
    "10.244.1.77",
    *VIPS,
)
STRANGE = ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.244.1.255", "240.0.0.1")
SECOND = 10**9


def make_services() -> tuple[kf.Service, ...]:
    """Services at the histories' addresses: endpoints here and elsewhere, unreachable, none; affinity; node ports."""
    endpoints = (
        ("10.244.1.2:53", "10.244.1.3:53", "10.244.2.10:53"),
        ("10.244.1.3:600", "10.244.1.77:600"),
        (),
    )
    return tuple(
        kf.Service(
            name=f"d/s{i}",
            cluster_ip=ip,
            ports=tuple(
                kf.ServicePort(name=f"{proto}{port}", port=port, protocol=proto, node_port=node, endpoints=to)
                for proto in ("udp", "tcp")
                for port, node in ((53, None), (600, (40000, 40001, 65535)[i]))
            ),
            affinity_s=(20, None, None)[i],
        )
        for i, (ip, to) in enumerate(zip(VIPS, endpoints, strict=True))
    )


def make_node(**changes: object) -> kf.Node:
    """The node that the histories are about, three pods attached."""
    config = {
        "node_ip": f"{NODE_IP}/16",
        "node_mac": NODE_MAC,
        "pod_cidr": "10.244.1.0/24",
        "cluster_cidr": "10.244.0.0/16",
        "gateway": "10.240.0.1",
        "seed": 5,
    }
    node = kf.Node(kf.Kubenet(**(config | changes)))
    for name, (ip, mac) in PODS.items():
        node.attach(kf.Pod(name, ip=ip, mac=mac))
    return node


@dataclass(frozen=True)
class Event:
    """A frame that comes in, `gap` ns after the one before."""

    port: str
    frame: bytes
    gap: int = 0
    cut: int = 0  # bytes at the end that the capture lost


macs = st.sampled_from(
    [mac for _, mac in PODS.values()]
    + [
        BRIDGE_MAC,
        BRIDGE_MAC,
        NODE_MAC,
        GATEWAY_MAC,
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:01",
        "02:00:00:00:00:99",
    ]
    + ["01:80:c2:00:00:00", "01:80:c2:00:00:0e", "00:00:00:00:00:00"]
)
addresses = st.sampled_from([ip for ip, _ in PODS.values()] * 3 + list(OTHERS) * 2 + list(STRANGE))
ports = st.sampled_from([1, 53, 511, 600, 1024, 40000, 40001, 65535])
payloads = st.binary(max_size=24) | st.integers(0, 1600).map(bytes)


@st.composite
def transports(draw: st.DrawFn) -> tuple[int, bytes]:
    kind = draw(st.sampled_from(["udp", "udp", "tcp", "tcp", "echo", "icmp", "other"]))
    if kind == "udp":
        return frames.UDP, frames.udp(draw(ports), draw(ports), draw(payloads))
    if kind == "tcp":
        flags = draw(st.sampled_from([2, 18, 16, 17, 4, 20, 24, 0, 1, 3]))
        seq, ack = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        return frames.TCP, frames.tcp(draw(ports), draw(ports), flags, seq, ack, draw(payloads))
    if kind == "echo":
        return frames.ICMP, frames.icmp(
            draw(st.sampled_from([8, 8, 0])), ident=draw(st.integers(1, 2)), data=draw(payloads)
        )
    if kind == "icmp":
        inner = frames.ipv4(
            draw(addresses), draw(addresses), frames.UDP, frames.udp(draw(ports), draw(ports))
        )
        return frames.ICMP, frames.icmp(
            draw(st.sampled_from([3, 5, 11, 13, 99])), draw(st.integers(0, 4)), data=inner
        )
    return draw(st.sampled_from([2, 47, 132, 253])), draw(payloads)


@st.composite
def ip_frames(draw: st.DrawFn) -> list[bytes]:
    """One IPv4 packet, or its fragments, as frames."""
    proto, payload = draw(transports())
    l3 = frames.ipv4(
        draw(addresses),
        draw(addresses),
        proto,
        payload,
        ttl=draw(st.sampled_from([64, 64, 64, 2, 1, 0])),
        ident=draw(st.integers(0, 2)),
        flags=draw(st.sampled_from([0x4000, 0])),
        options=draw(st.sampled_from([b"", b"", b"", b"\x01\x01\x01\x00"])),
    )
    dst, src = draw(macs), draw(macs)
    tags = draw(st.sampled_from([(), (), (), (), (0,), (5,), (0, 0)]))
    if not tags and l3[0] == 0x45 and len(payload) > 16 and draw(st.booleans()):
        whole = frames.packet(dst, src, l3)[14:]
        pieces = frames.fragments(whole, draw(st.sampled_from([8, 16, 512])))[:6]
        return [frames.packet(dst, src, piece) for piece in draw(st.permutations(pieces))]
    return [frames.packet(dst, src, l3, tags)]


@st.composite
def arp_frames(draw: st.DrawFn) -> list[bytes]:
    op = draw(st.sampled_from([1, 1, 2, 3]))
    return [frames.arp(op, draw(macs), draw(addresses), draw(macs), draw(addresses), draw(macs))]


@st.composite
def flow_frames(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """A pod's UDP packet to somewhere and the answers that could come back, with their ports."""
    name = draw(st.sampled_from(sorted(PODS)))
    ip, mac = PODS[name]
    peer, sport, dport = draw(st.sampled_from(OTHERS)), draw(ports), draw(ports)
    there = frames.ipv4(ip, peer, frames.UDP, frames.udp(sport, dport))
    back = frames.ipv4(peer, draw(st.sampled_from([ip, NODE_IP])), frames.UDP, frames.udp(dport, sport))
    out = (name, frames.packet(BRIDGE_MAC, mac, there))
    answer = ("eth0", frames.packet(NODE_MAC, GATEWAY_MAC, back))
    return draw(st.sampled_from([[out], [out, answer], [out, answer, out], [answer]]))


@st.composite
def damaged(draw: st.DrawFn, frame: bytes) -> bytes:
    """The frame as it is, or with a bit flipped, an end cut off, or a tail."""
    how = draw(st.sampled_from(["whole"] * 6 + ["flip", "short", "tail"]))
    if how == "flip" and frame:
        at = draw(st.integers(0, len(frame) - 1))
        return frame[:at] + bytes([frame[at] ^ draw(st.sampled_from([1, 128]))]) + frame[at + 1 :]
    if how == "short":
        return frame[: draw(st.integers(0, len(frame)))]
    return frame + bytes(draw(st.integers(1, 9))) if how == "tail" else frame


gaps = st.sampled_from([0, 0, 0, 1, SECOND // 10, SECOND, 3 * SECOND, 30 * SECOND, 31 * SECOND, 301 * SECOND])


@st.composite
def histories(draw: st.DrawFn, most: int = 24) -> list[Event]:
    """What comes in, in order."""
    events: list[Event] = []
    names = st.sampled_from([*sorted(PODS), "eth0"])
    for _ in range(draw(st.integers(1, most // 2))):
        kind = draw(st.sampled_from(["ip", "ip", "flow", "flow", "arp", "bytes"]))
        if kind == "flow":
            made = draw(flow_frames())
        elif kind == "bytes":
            made = [(draw(names), draw(st.binary(max_size=80)))]
        else:
            made = [(draw(names), frame) for frame in draw(ip_frames() if kind == "ip" else arp_frames())]
        for port, frame in made:
            cut = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 20]))
            frame = draw(damaged(frame))
            events.append(Event(port, frame, draw(gaps), min(cut, len(frame))))
    return events
