"""Replay a capture through a kubenet node: hosts of one prefix are its pods, all others are behind eth0.

Two walks over the file. The first counts who speaks, to hand out the parts (`casting`). The second gives
every frame its link layer (`linklayer`) and answers their address (`answers`), and forwards in the capture's
time, in batches of bounded size. Longer than its neighbours for what `replay` says of its arguments.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from .address import ipv4, ipv4_prefix, mac
from .answers import Answers
from .batch import PacketBatch
from .capture import PcapWriter, iter_pcap
from .casting import Cast, cast_node
from .census import Census
from .config import Pod
from .errors import ConfigError, FastpathError
from .linklayer import LinkLayer
from .node import Node
from .plan import mask_of
from .result import Port, Result
from .summary import Summary, Traffic
from .verdict import Reason

__all__ = ["Summary", "Traffic", "replay", "replayed"]

BATCH = 1 << 16  # packets
PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp"}

Progress = Callable[[str, int, int], None]  # what is done, packets so far, packets in all or 0


def replay(
    capture: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    pod_cidr: str | None = None,
    cluster_cidr: str | None = None,
    node_ip: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    batch_packets: int = BATCH,
) -> Summary:
    """Replay a capture through a kubenet node.

    Parameters
    ----------
    capture : path
        Any file that `read_pcap` takes. It is read twice.
    folder : path, optional
        Receives one capture a port: `eth0.pcap`, and each pod's under its address. Nothing is written if
        omitted.
    pod_cidr, cluster_cidr, node_ip : str, optional
        The pods of this node, those of all nodes, and the node; see `casting.cast_node` for what is taken if
        omitted.
    force : bool
        Write into a folder that is not empty; files of the same name are replaced.
    progress : callable, optional
        Called with what is done, packets so far and packets in all (0: not known yet).
    batch_packets : int
        Packets of a batch at the most; the result does not depend on it.

    Returns
    -------
    Summary

    Raises
    ------
    FastpathError, OSError
        For a capture that cannot be read, a cast that contradicts itself, a folder that is not empty or
        cannot be written.

    Notes
    -----
    The capture should show the pods' packets before any translation: taken in a pod, on the bridge, or in a
    LAN. Frames that it has twice (`tcpdump -i any`) are replayed twice.
    """
    census = Census()
    target = None if folder is None else _prepare(Path(folder), Path(capture), force)
    for batch in iter_pcap(capture, batch_packets=batch_packets):
        census.add(batch.headers())
        if progress:
            progress("who speaks", census.packets, 0)
    cast = cast_node(census, pod_cidr, cluster_cidr, node_ip)
    stage = _Stage(cast, target)
    summary = Summary(
        capture=os.fspath(capture),
        pod_cidr=cast.config.pod_cidr,
        why=cast.why,
        node_ip=cast.config.node_address,
        bridge_ip=cast.config.bridge_address,
        cluster_cidr=cast.config.cluster_cidr,
        pods=cast.pods,
        notes=list(cast.notes),
    )
    first = last = None
    for batch in iter_pcap(capture, batch_packets=batch_packets):
        first = int(batch.time[0]) if first is None else first
        last = int(batch.time[-1])
        stage.run(batch, summary)
        if progress:
            progress("forwarding", summary.packets.packets, census.packets)
    stage.finish(summary)
    summary.seconds = (last - first) / 1e9 if first is not None and last is not None else 0.0
    return summary


def replayed(
    capture: str | os.PathLike[str],
    frame: int | None = None,
    *,
    pod_cidr: str | None = None,
    cluster_cidr: str | None = None,
    node_ip: str | None = None,
    batch_packets: int = BATCH,
) -> tuple[Node, PacketBatch]:
    """A node after a replay, or right before one frame of it.

    Parameters
    ----------
    capture, pod_cidr, cluster_cidr, node_ip
        As for `replay`.
    frame : int, optional
        Number of a frame, counted from 1 as Wireshark does; the node has seen all before it.

    Returns
    -------
    node : Node
    batch : PacketBatch
        That frame as it will enter the node; empty if none was named.

    Raises
    ------
    FastpathError, OSError
        As `replay`.
    ConfigError
        For a frame that the capture does not have.
    """
    census = Census()
    for batch in iter_pcap(capture, batch_packets=batch_packets):
        census.add(batch.headers())
    if frame is not None and not 1 <= frame <= census.packets:
        raise ConfigError(f"there is no frame {frame}: {os.fspath(capture)} has {census.packets:,}")
    cast = cast_node(census, pod_cidr, cluster_cidr, node_ip)
    stage, seen = _Stage(cast, None), 0
    for batch in iter_pcap(capture, batch_packets=batch_packets):
        wanted = len(batch) if frame is None else min(len(batch), frame - 1 - seen)
        if wanted:
            first = batch[:wanted]
            stage.dress(first)
            stage.node.forward(first)
        if wanted < len(batch):
            last = batch[wanted : wanted + 1]
            stage.dress(last)
            return stage.node, last
        seen += len(batch)
    return stage.node, PacketBatch.from_frames([])


class _Stage:
    """The node with its pods, the scout, and the files."""

    def __init__(self, cast: Cast, folder: Path | None) -> None:
        config = cast.config
        self.node, scout = Node(config), Node(config)
        ports = [self.node.attach(Pod(ip, ip=ip)) for ip in cast.pods]
        for ip in cast.pods:
            scout.attach(Pod(ip, ip=ip))
        self.answers = Answers(scout)
        self.node_address = ipv4(config.node_address)
        self.link = _link_layer(cast, self.node, ports)
        self.used = {proto: np.zeros(1 << 16, np.bool_) for proto in PROTOCOLS}
        self.files = (
            None if folder is None else {name: _PortFile(folder / f"{name}.pcap") for name in self.node.ports}
        )

    def run(self, batch: PacketBatch, summary: Summary) -> None:
        scouted = self.dress(batch)
        begin = perf_counter_ns()
        result = self.node.forward(batch)
        summary.forward_ns += perf_counter_ns() - begin
        if not np.array_equal(scouted, result.verdict):
            raise FastpathError("node and scout disagree about a packet; please report this as a bug")
        summary.redirected = self.answers.redirected
        summary.count(result, batch.wire_length)
        self._note_ports(result)
        if self.files is not None:
            for name, file in self.files.items():
                file.write(result.packets(name))

    def dress(self, batch: PacketBatch) -> NDArray[np.uint8]:
        """Give a batch the link layer and the addresses that it has at this node; returns the scout's verdicts."""
        headers = batch.headers()
        asks, answers = self.link.dress(batch.data, batch.offset, batch.length, batch.port, headers)
        return self.answers.redirect(batch, headers, asks, answers)

    def _note_ports(self, result: Result) -> None:
        """See which ports masquerading used."""
        source = result.source("eth0")
        out = result.packets("eth0")[source >= 0]
        headers = out[result.reason[source[source >= 0]] == Reason.MASQUERADE].headers()
        headers = headers[(headers["src"] == self.node_address) & (headers["l4_offset"] > 0)]
        for proto, used in self.used.items():
            used[headers["icmp_id" if proto == 1 else "sport"][headers["proto"] == proto]] = True

    def finish(self, summary: Summary) -> None:
        counters = self.node.counters
        summary.generated = counters["generated"]
        for name in self.node.ports:
            summary.outputs[name] = Traffic(counters[f"{name}.tx_packets"], counters[f"{name}.tx_bytes"])
        summary.connections = self.node.connections.counters["insert"]
        summary.connections_open = len(self.node.connections)
        summary.nat_ports = {
            PROTOCOLS[proto]: int(used.sum()) for proto, used in self.used.items() if used.any()
        }
        if self.link.completed:
            summary.notes.append(
                f"checksums of {self.link.completed} packets were left to a network card: completed"
            )
        if counters["held_now"]:
            summary.notes.append(f"packets still held when the capture ended: {counters['held_now']}")


def _link_layer(cast: Cast, node: Node, ports: list[Port]) -> LinkLayer:
    network, length = ipv4_prefix(cast.config.pod_cidr)
    macs = {interface.name: interface.mac for interface in node.plan.interfaces}
    port = np.zeros(1 << 32 - length, np.uint16)
    for attached in ports:
        port[ipv4(attached.name) - network] = attached.index
    heard = sorted({*cast.macs, *cast.routers})
    return LinkLayer(
        network=network,
        mask=mask_of(length),
        node=ipv4(cast.config.node_address),
        bridge_mac=macs["cbr0"],
        eth0_mac=macs["eth0"],
        gateway_mac=mac(cast.config.gateway_mac or 0),
        ports=port,
        heard=np.array(heard, np.uint64),
        owner=np.array([cast.macs.get(address, 0) for address in heard], np.uint32),
        router=np.array([address in cast.routers for address in heard], np.uint8),
    )


class _PortFile:
    """A capture that is open only while it is written: ports may be more than a process may open files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")
        self._writer = PcapWriter(self)  # type: ignore[arg-type]

    def write(self, batch: PacketBatch | bytes) -> None:
        if isinstance(batch, PacketBatch):
            if len(batch):
                self._writer.write(batch)
            return
        with self._path.open("ab") as file:
            file.write(batch)


def _prepare(folder: Path, capture: Path, force: bool) -> Path:
    """Make the output folder, or refuse it."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give a folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not force:
        raise ConfigError(f"{folder} is not empty: give another folder, or --force to write into it")
    if capture.exists() and capture.resolve().parent == folder.resolve():
        raise ConfigError(f"{capture} is in {folder} and could be overwritten: give another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written: give another folder")
    return folder
