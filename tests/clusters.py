"""Clusters of three nodes for tests, in every addressing mode, and frames as their pods send them."""

from __future__ import annotations

from typing import Any

import frames as frame
import numpy as np

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4, ipv4_text, mac_text

START = 10**18
VNET = "10.224.0.0/12"
ADDRESSING = ("kubenet", "node-subnet", "pod-subnet", "overlay")
FRONTEND = "20.0.0.1"
SERVICE = "10.0.0.50"
EXTERNAL = "20.0.0.9"


def config(addressing: str, i: int, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "node_ip": f"10.224.{i // 200}.{i % 200 + 4}/16",
        "gateway": "10.224.0.1",
        "node_mac": f"00:0d:3a:00:{i >> 8:02x}:{i & 255:02x}",
        "seed": i,
    } | changes
    private = {"pod_cidr": f"10.{192 + i // 256}.{i % 256}.0/24", "cluster_cidr": "10.192.0.0/12"}
    if addressing == "kubenet":
        return kf.Kubenet(**private, **fields)
    if addressing == "overlay":
        return kf.AzureCniOverlay(**private, **fields)
    if addressing == "pod-subnet":
        return kf.AzureCniPodSubnet(pod_subnet="10.230.0.0/16", **fields)
    return kf.AzureCniNodeSubnet(non_masquerade=(VNET,), **fields)


def make(addressing: str, nodes: int = 3, pods: int = 3, **changes: Any) -> kf.Cluster:
    """pod00, pod01 ... on node0, pod10 ... on node1; a service of two of them; a host `vm` in another subnet."""
    cluster = kf.Cluster(
        {f"node{i}": config(addressing, i, **changes) for i in range(nodes)},
        vnet=kf.Vnet(
            address_space=(VNET,),
            associated=("10.224.0.0/16",),
            hosts=(kf.VnetHost(name="vm", ip="10.225.0.10"),),
        ),
        pods={f"node{i}": [kf.Pod(f"pod{i}{k}") for k in range(pods)] for i in range(nodes)},
        balancer=kf.LoadBalancer(addresses=(FRONTEND,)),
    )
    if nodes > 1 and pods > 1:
        backends = tuple(f"{address_of(cluster, name)}:8080" for name in ("pod01", "pod10"))
        port = kf.ServicePort(port=80, endpoints=backends)
        cluster.set_services(
            [kf.Service(name="default/web", cluster_ip=SERVICE, ports=(port,), external_ips=(EXTERNAL,))]
        )
    return cluster


def address_of(cluster: kf.Cluster, place: str) -> str:
    return ipv4_text(cluster.places[place].address)


def framed(cluster: kf.Cluster, place: str, src: str, dst: str, proto: int, l4: bytes, **ip: Any) -> bytes:
    """A frame as a place sends it, all checksums right."""
    to, own = cluster.link_addresses(place, dst)
    return frame.packet(mac_text(to), mac_text(own), frame.ipv4(src, dst, proto, l4, **ip))


def sent(cluster: kf.Cluster, place: str, dst: str, proto: int, l4: bytes, **ip: Any) -> bytes:
    """A frame of a pod or host, from its own address; `dst` is an address, or a place's name."""
    to = address_of(cluster, dst) if dst in cluster.places else dst
    return framed(cluster, place, address_of(cluster, place), to, proto, l4, **ip)


def send(cluster: kf.Cluster, place: str, data: bytes, at: int = 0) -> kf.Delivery:
    return cluster.send(kf.PacketBatch.from_frames([data], time=START + at), place)


def send_all(cluster: kf.Cluster, what: list[tuple[str, bytes, int]]) -> kf.Delivery:
    """(place, frame, ns since the start) each."""
    batch = kf.PacketBatch.from_frames(
        [f for _, f, _ in what], time=np.array([START + t for _, _, t in what], np.int64)
    )
    return cluster.send(batch, np.array([cluster.places[p].index for p, _, _ in what], np.int64))


def turned(cluster: kf.Cluster, place: str, data: bytes, flags: int | None = None) -> bytes:
    """The answer of a place to a frame that arrived there: addresses and ports swapped."""
    f = frame.fields(data)
    at = 14 + 20
    if f["proto"] == frame.ICMP:
        ident = int.from_bytes(data[at + 4 : at + 6], "big")
        l4 = frame.icmp(0, ident=ident)
    elif f["proto"] == frame.TCP:
        l4 = frame.tcp(f["dport"], f["sport"], frame.SYN | frame.ACK if flags is None else flags, 5, 1)
    else:
        l4 = frame.udp(f["dport"], f["sport"], b"answer")
    return framed(cluster, place, f["dst"], f["src"], f["proto"], l4)


def address(text: str) -> int:
    return ipv4(text)
