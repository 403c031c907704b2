"""A cluster and its flows as a capture has them: hosts of one prefix are pods, as in a replay, others are outside."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .address import ipv4, ipv4_prefix, ipv4_text
from .capture import iter_pcap
from .casting import cast_node
from .census import Census
from .errors import ConfigError
from .plan import mask_of
from .topology import PodSite, Topology
from .traffic import Flow
from .vnet import PRIVATE, VnetHost

__all__ = ["CapturedFlows", "captured_flows"]

MOST = 20  #: flows; those with most packets
TCP, UDP = 6, 17
SYN, ACK = 2, 16
HERE, THERE = "node0", "node1"
HOSTS = ipv4("10.225.0.10")  # the first of those that play other private addresses

Key = tuple[int, int, int, int]  # protocol, who began, with whom, port there


@dataclass(frozen=True)
class CapturedFlows:
    """What a capture said.

    Attributes
    ----------
    topology : Topology
        The pods of the capture's prefix on one node, those of the rest of the cluster's on another; other private
        addresses are hosts of the VNet. All are named by the address that they have in the capture.
    flows : tuple of Flow
        One for each client, server and port, most packets first.
    notes : tuple of str
        What was left out.
    """

    topology: Topology
    flows: tuple[Flow, ...]
    notes: tuple[str, ...]


def captured_flows(
    capture: str | os.PathLike[str],
    *,
    pod_cidr: str | None = None,
    most: int = MOST,
    batch_packets: int = 1 << 16,
) -> CapturedFlows:
    """Read the flows of TCP and UDP out of a capture.

    Parameters
    ----------
    capture : path
        Read twice.
    pod_cidr : str, optional
        Whose hosts are pods; as in `casting.cast_node` if omitted.
    most : int
        Flows at the most.
    batch_packets : int
        Packets of a batch; the result does not depend on it.

    Raises
    ------
    FastpathError, OSError
        For a capture that cannot be read, or that has no flow of a pod.
    """
    census, counted = Census(), _Count()
    for batch in iter_pcap(capture, batch_packets=batch_packets):
        headers = batch.headers()
        census.add(headers)
        counted.add(headers)
    cast = cast_node(census, pod_cidr)
    own, cluster = ipv4_prefix(cast.config.pod_cidr), ipv4_prefix(cast.config.cluster_cidr)
    pods = {ipv4(pod) for pod in cast.pods}
    packets_of, connections_of = counted.flows()
    wanted = [(key, packets) for key, packets in packets_of.most_common() if key[1] in pods]
    notes = [f"{len(cast.pods)} pods are the hosts of {cast.config.pod_cidr} ({cast.why})"]
    outside = len(packets_of) - len(wanted)
    if outside:
        notes.append(f"{outside:,} flows were begun by nobody's pod and are left out")
    if len(wanted) > most:
        notes.append(f"of {len(wanted):,} flows the {most} with most packets")
    if not wanted:
        raise ConfigError(
            f"{os.fspath(capture)} has no flow of TCP or UDP that a pod of {cast.config.pod_cidr} began"
        )
    wanted = wanted[:most]
    sites = {key[1]: HERE for key, _ in wanted}
    hosts: dict[int, VnetHost] = {}
    for _, _, server, _ in (key for key, _ in wanted):
        if server in pods or not (server ^ own[0]) & mask_of(own[1]):
            sites.setdefault(server, HERE)
        elif not (server ^ cluster[0]) & mask_of(cluster[1]):
            sites.setdefault(server, THERE)
        elif any(not (server ^ network) >> 32 - n for network, n in map(ipv4_prefix, PRIVATE)):
            hosts.setdefault(server, VnetHost(name=ipv4_text(server), ip=ipv4_text(HOSTS + len(hosts))))
    topology = Topology(
        nodes=((HERE, "10.224.0.4"), (THERE, "10.224.0.5")),
        pods=tuple(PodSite(name=ipv4_text(ip), node=node) for ip, node in sorted(sites.items())),
        hosts=tuple(hosts.values()),
        max_pods=max(30, len(sites)),
    )
    flows = []
    for (proto, client, server, port), packets in wanted:
        names = f"{ipv4_text(client)} -> {ipv4_text(server)}:{port}/{'tcp' if proto == TCP else 'udp'}"
        label = f"{names}, {packets:,} packets"
        flows.append(
            Flow(
                label=label,
                src=ipv4_text(client),
                dst=ipv4_text(server),
                port=port,
                proto=proto,
                connections=connections_of[proto, client, server, port],
            )
        )
    return CapturedFlows(topology, tuple(flows), tuple(notes))


class _Count:
    """Packets of each connection, and who began it: who sent the SYN, or else who spoke first."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, ...], int] = {}  # as its first packet has it -> packets
        self._turned: set[tuple[int, ...]] = set()

    def add(self, headers: NDArray[Any]) -> None:
        whole = (headers["l4_offset"] > 0) & (headers["ip_version"] == 4) & (headers["dst"] >> 28 < 14)
        rows = headers[np.isin(headers["proto"], (TCP, UDP)) & whole]
        columns = [rows[name].tolist() for name in ("proto", "src", "sport", "dst", "dport", "tcp_flags")]
        for proto, src, sport, dst, dport, flags in zip(*columns, strict=True):
            there, back = (proto, src, sport, dst, dport), (proto, dst, dport, src, sport)
            key = back if back in self._connections else there
            self._connections[key] = self._connections.get(key, 0) + 1
            if proto == TCP and flags & (SYN | ACK) == SYN and key == back:
                self._turned.add(key)

    def flows(self) -> tuple[Counter[Key], Counter[Key]]:
        """Packets and connections by protocol, client, server and the server's port."""
        packets: Counter[Key] = Counter()
        connections: Counter[Key] = Counter()
        for key, count in self._connections.items():
            proto, src, sport, dst, dport = key
            flow = (proto, dst, src, sport) if key in self._turned else (proto, src, dst, dport)
            packets[flow] += count
            connections[flow] += 1
        return packets, connections
