"""Traffic for benchmarks: 64-byte UDP frames of many flows, in each of the ways that a node sends them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kubenet_fastpath as kf

PODS = 32
FRAME = 60  # bytes without FCS: what is called a 64-byte frame
BRIDGE_MAC = "0a:58:0a:f4:01:01"
GATEWAY_MAC = "12:34:56:78:9a:bc"
TRACE = 1 << 16  # packets before the trace repeats


class Path(Enum):
    """Where the packets go; what the node says of them, whether it routes them, and whose address they leave with."""

    SAME_NODE = ("same node", kf.Reason.FDB, False, None)
    OTHER_NODE = ("other node", kf.Reason.ROUTE, True, None)
    INTERNET = ("internet", kf.Reason.MASQUERADE, True, "10.240.0.4")
    REPLY = ("internet, reply", kf.Reason.NAT_REPLY, True, None)
    SERVICE = ("cluster IP", kf.Reason.SERVICE, True, None)
    VNET_HOST = ("Azure CNI, VNet host", kf.Reason.ROUTE, True, None)

    def __init__(self, label: str, reason: kf.Reason, routed: bool, source: str | None) -> None:
        self.label, self.reason, self.routed, self.source = label, reason, routed, source


def make_node(**settings: Any) -> tuple[kf.Node, list[kf.Port]]:
    """A kubenet node with 32 pods."""
    node = kf.Node(
        kf.Kubenet(
            node_ip="10.240.0.4",
            pod_cidr="10.244.1.0/24",
            cluster_cidr="10.244.0.0/16",
            gateway="10.240.0.1",
            **settings,
        )
    )
    return node, [node.attach(kf.Pod(f"pod{i}", ip=f"10.244.1.{i + 2}")) for i in range(PODS)]


def make_azure_node(**settings: Any) -> tuple[kf.Node, list[kf.Port]]:
    """A node of Azure CNI's node subnet with 32 pods, which knows the VNet's hosts."""
    hosts = tuple(kf.Neighbour(ip=f"10.240.1.{i}", mac=GATEWAY_MAC, dev="eth0") for i in range(1, 201))
    node = kf.Node(
        kf.AzureCniNodeSubnet(node_ip="10.240.0.4/16", gateway="10.240.0.1", neighbours=hosts, **settings)
    )
    return node, [node.attach(kf.Pod(f"pod{i}", ip=f"10.240.0.{i + 10}")) for i in range(PODS)]


def make_service() -> kf.Service:
    """DNS, answered on another node."""
    port = kf.ServicePort(name="dns", port=53, protocol="udp", endpoints=("10.244.2.10:53",))
    return kf.Service(name="kube-system/kube-dns", cluster_ip="10.0.0.10", ports=(port,))


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(dst_mac: str, src_mac: str, src: str, dst: str, sport: int, dport: int) -> bytes:
    addresses = IPv4Address(src).packed + IPv4Address(dst).packed
    size = FRAME - 34
    head = struct.pack("!BBHHHBBH", 0x45, 0, FRAME - 14, 1, 0x4000, 64, 17, 0)
    head = head[:10] + struct.pack("!H", _checksum(head + addresses)) + addresses
    l4 = struct.pack("!HHHH", sport, dport, size, 0) + bytes(size - 8)
    check = _checksum(addresses + struct.pack("!HH", 17, size) + l4) or 0xFFFF
    macs = bytes.fromhex((dst_mac + src_mac).replace(":", ""))
    return macs + b"\x08\x00" + head + l4[:6] + struct.pack("!H", check) + l4[8:]


def packet(path: Path, i: int, ports: list[kf.Port]) -> tuple[bytes, int]:
    """A packet of flow i, and the port that it comes in by; of REPLY the one that is answered."""
    pod, peer = ports[i % PODS].pod, ports[(i + 1) % PODS].pod
    assert pod is not None
    assert peer is not None
    sport, host = 1024 + i // PODS, 1 + i % 200
    if path is Path.SAME_NODE:
        sent = frame(str(peer.mac), str(pod.mac), str(pod.ip), str(peer.ip), sport, 53)
    elif path is Path.VNET_HOST:
        sent = frame(str(pod.host_mac), str(pod.mac), str(pod.ip), f"10.240.1.{host}", sport, 53)
    else:
        to = {Path.OTHER_NODE: f"10.244.2.{host}", Path.SERVICE: "10.0.0.10"}.get(path, f"198.51.100.{host}")
        sent = frame(BRIDGE_MAC, str(pod.mac), str(pod.ip), to, sport, 53)
    return sent, ports[i % PODS].index


def answer(sent: bytes, node: kf.Node) -> bytes:
    """What the internet says to a frame that left by eth0."""
    src, dst = (str(IPv4Address(sent[at : at + 4])) for at in (26, 30))
    sport, dport = (int.from_bytes(sent[at : at + 2], "big") for at in (34, 36))
    return frame(sent[6:12].hex(":"), GATEWAY_MAC, dst, src, dport, sport)


@dataclass
class Trace:
    """65,536 packets of established flows in random order, in batches that can be put back as they were."""

    node: kf.Node
    path: Path
    batches: list[kf.PacketBatch]
    bytes: NDArray[np.uint8]
    original: NDArray[np.uint8]
    now: int = 10**9

    @classmethod
    def make(cls, path: Path, flows: int, batch_size: int) -> Trace:
        most = max(262144, flows)
        if path is Path.VNET_HOST:
            node, ports = make_azure_node(conntrack_max=most)
        else:
            node, ports = make_node(
                conntrack_max=most, services=(make_service(),) if path is Path.SERVICE else ()
            )
        sent = [packet(path, i, ports) for i in range(flows)]
        first = kf.PacketBatch.from_frames([f for f, _ in sent], np.array([p for _, p in sent], np.uint16))
        result = node.forward(first.copy())  # now all flows are established
        if path is Path.REPLY:
            answers = [answer(bytes(left), node) for left in result.packets("eth0")]
            first = kf.PacketBatch.from_frames(answers, node.ports["eth0"])
        node.forward(first.copy())
        order = np.random.default_rng(2028).integers(0, flows, TRACE)
        whole = first[order].copy()
        batches = [whole[i : i + batch_size] for i in range(0, TRACE, batch_size)]
        return cls(node, path, batches, whole.data, whole.data.copy())

    @property
    def working_set(self) -> int:
        """Bytes that a round goes through: all frames, and the connection table."""
        return self.bytes.nbytes + self.node.connections.nbytes

    def restore(self) -> None:
        """Put the frames back, and let a millisecond pass."""
        self.bytes[:] = self.original
        self.now += 10**6
        for batch in self.batches:
            batch.time[:] = self.now

    def run(self) -> kf.Result:
        """Forward the trace; the last batch's result."""
        for batch in self.batches:
            result = self.node.forward(batch)
        return result

    def check(self) -> None:
        """Every packet leaves as it should: by reason, by one port, checksums right, one hop less if routed."""
        self.restore()
        for batch in self.batches:
            before = batch.headers()
            result = self.node.forward(batch)
            assert (result.reason == self.path.reason).all()
            assert (result.out_port >= 0).all()
            assert len(result.outputs) == len(batch)
            after = batch.headers()
            assert (after["ip_checksum_ok"] == 1).all()
            assert (after["l4_checksum_ok"] == 1).all()
            assert (before["ttl"] - after["ttl"] == self.path.routed).all()
            source = before["src"] if self.path.source is None else int(IPv4Address(self.path.source))
            assert (after["src"] == source).all()
            changed = self.path in (Path.SERVICE, Path.REPLY)
            assert ((after["dst"] != before["dst"]) == changed).all()
