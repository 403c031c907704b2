"""Traffic for benchmarks: 64-byte UDP frames of many flows, in the three ways that a kubenet node sends them."""

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
TRACE = 1 << 16  # packets before the trace repeats


class Path(Enum):
    """Where the packets go, and what the node says of them."""

    SAME_NODE = kf.Reason.FDB
    OTHER_NODE = kf.Reason.ROUTE
    INTERNET = kf.Reason.MASQUERADE


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


def first_packets(path: Path, flows: int, ports: list[kf.Port]) -> kf.PacketBatch:
    """One packet of each flow."""
    frames, ingress = [], []
    for i in range(flows):
        pod, peer = ports[i % PODS].pod, ports[(i + 1) % PODS].pod
        assert pod is not None
        assert peer is not None
        sport = 1024 + i // PODS
        if path is Path.SAME_NODE:
            frames.append(frame(str(peer.mac), str(pod.mac), str(pod.ip), str(peer.ip), sport, 53))
        else:
            net = "10.244.2" if path is Path.OTHER_NODE else "198.51.100"
            frames.append(frame(BRIDGE_MAC, str(pod.mac), str(pod.ip), f"{net}.{1 + i % 200}", sport, 53))
        ingress.append(ports[i % PODS].index)
    return kf.PacketBatch.from_frames(frames, np.array(ingress, np.uint16))


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
        node, ports = make_node()
        first = first_packets(path, flows, ports)
        node.forward(first.copy())  # now all flows are established
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
        routed = self.path is not Path.SAME_NODE
        self.restore()
        for batch in self.batches:
            before = batch.headers()
            result = self.node.forward(batch)
            assert (result.reason == self.path.value).all()
            assert (result.out_port >= 0).all()
            assert len(result.outputs) == len(batch)
            after = batch.headers()
            assert (after["ip_checksum_ok"] == 1).all()
            assert (after["l4_checksum_ok"] == 1).all()
            assert (before["ttl"] - after["ttl"] == routed).all()
            own = after["src"] == int(IPv4Address("10.240.0.4"))
            assert own.all() if self.path is Path.INTERNET else not own.any()
