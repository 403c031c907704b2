"""Our node beside the running kernel's, class by class, in every addressing mode; and why their ratios differ.

The kernel's node is the one that the tests compare with: bridge, veths, rules and sysctls in network namespaces of its
own (tests/kernel). Frames go in by packet sockets that bypass the qdisc, 256 a system call, from one thread on one
CPU, where the kernel's softirq then carries them to the far end; nobody listens there. What the generator costs by
itself, to a link without a node behind it, is measured beside it and taken off. Ours gets the same frames in batches of
256, on the fast path and without it. Before anything is measured, packets of each class go through both, and what comes
out is compared byte for byte. All modes take turns, and kubenet without br_netfilter, then without ebtables' rules
against duplicates as well, then without the promiscuous bridge that makes them. Those lose the answers of a service's
endpoint that is on the same bridge as the client.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import kubenet_fastpath as kf
from kubenet_fastpath.address import ipv4, mac

from .absent import Absent
from .frames import Frames, udp_frames
from .part import Data, Part, Say, Settings
from .plots import Bars, Plot
from .report import Table, ns
from .turns import Figure, by_turns

if TYPE_CHECKING:
    from .kernel_node import GoldenNode, KernelNode

FLOWS, ROUND, BATCH = 100, 256 * 16, 256
RUNS = ("run1", "run2", "run3", "run4", "run5")
NODE_MAC, GATEWAY_MAC, VNET_MAC = "00:0d:3a:00:00:04", "12:34:56:78:9a:bc", "00:0d:3a:00:00:09"
NODE_IP, VNET_HOST, INTERNET = "10.240.0.4", "10.240.0.9", "198.51.100.7"
UPLINK = "vnet"
START_MS = 60_000.0
KUBENET, DIRECT = "kubenet", ("node-subnet", "pod-subnet", "overlay")
WITHOUT = ("kubenet, no br_netfilter", "kubenet, nor ebtables", "kubenet, nor promiscuous")
LOST = "service, endpoint on this node"
OURS, FULL, KERNEL = "ours", "ours, no fast path", "kernel"
TIMES = 50  # what has to be reached


@dataclass(frozen=True)
class Way:
    """Where frames come in, and between which addresses; `server` is the port of who is asked."""

    port: str
    dst_mac: str
    src_mac: str
    src: str
    dst: str
    reply: bool = False
    server: int = 53

    def frames(self, first: int, count: int = FLOWS) -> Frames:
        """A frame of each of these flows, clients' ports from `first` on."""
        client = first + np.arange(count)
        ports = (self.server, client) if self.reply else (client, self.server)
        return udp_frames(mac(self.dst_mac), mac(self.src_mac), ipv4(self.src), ipv4(self.dst), *ports)


def ways(node: dict[str, Any]) -> dict[str, tuple[Way, Way]]:
    """Each class: what begins its flows, and their answers."""
    pod, peer = node["pods"][0], node["pods"][1]
    kubenet, masquerading = node["mode"] == "kubenet", node["mode"] in ("kubenet", "overlay")
    gateway = node["cbr0"]["mac"] if kubenet else pod["host_mac"]
    on_link = node["mode"] == "azcni"
    other_mac = "00:0d:3a:00:00:32" if on_link else GATEWAY_MAC

    def out(dst: str, to: str = gateway) -> Way:
        return Way(pod["port"], to, pod["mac"], pod["ip"], dst)

    def back(src: str, by: str, dst: str) -> Way:
        return Way(UPLINK, NODE_MAC, by, src, dst, reply=True)

    def home(dst: str, to: str) -> Way:
        return Way(peer["port"], to, peer["mac"], peer["ip"], dst, reply=True)

    beside = home(pod["ip"], pod["mac"] if kubenet else peer["host_mac"])
    masked = node["cbr0"]["ip"].split("/")[0] if kubenet else NODE_IP
    outside = pod["ip"] if node["mode"] == "podsubnet" else NODE_IP
    return {
        "same node": (out(peer["ip"], peer["mac"] if kubenet else gateway), beside),
        "other node": (out(node["far"]), back(node["far"], other_mac, pod["ip"])),
        "VNet host": (out(VNET_HOST), back(VNET_HOST, VNET_MAC, NODE_IP if masquerading else pod["ip"])),
        "internet": (out(INTERNET), back(INTERNET, GATEWAY_MAC, outside)),
        "service, endpoint on this node": (out("10.0.0.20"), beside),
        "service, endpoint elsewhere": (out("10.0.0.10"), back(node["far"], other_mac, pod["ip"])),
        "node port": (
            Way(UPLINK, NODE_MAC, VNET_MAC, VNET_HOST, NODE_IP, server=30053),
            home(masked, node["cbr0"]["mac"] if kubenet else peer["host_mac"]),
        ),
    }


class Ours:
    """The same frames through our node, with the fast path or without."""

    def __init__(self, golden: GoldenNode, way: Way, frames: Frames, packets: int, fast: bool) -> None:
        self._node, self._fast, self.packets = golden.node, fast, packets
        port = self._node.ports["eth0" if way.port == UPLINK else way.port]
        whole = kf.PacketBatch.from_array(
            frames[np.arange(packets) % len(frames)], port=port, time=self._node.now
        )
        self._bytes, self._fresh = whole.data, whole.data.copy()
        self._batches = [whole[i : i + BATCH] for i in range(0, packets, BATCH)]

    def restore(self) -> None:
        """Put the frames back."""
        self._bytes[:] = self._fresh
        self._node._pipeline.fast_path = self._fast

    def run(self) -> None:
        """Forward all of them."""
        for batch in self._batches:
            result = self._node.forward(batch)
        assert len(result.outputs) == len(self._batches[-1])

    def close(self) -> None:
        """Nothing is held."""


def inject(kernel: KernelNode, ours: GoldenNode, way: Way, frames: Frames, final: bool = False) -> str:
    """Send a frame of each flow through both; of three what leaves must be the same, in the end one frame. Where."""
    far = ""
    kernel.collect()
    for number, row in enumerate(frames):
        have = ours.inject(way.port, row.tobytes(), START_MS)
        if number >= 3:
            kernel.sockets[way.port].send(row.tobytes())
            continue
        want = kernel.inject(way.port, row.tobytes())
        if sorted(want) != sorted(have) or (final and len(want) != 1):
            raise RuntimeError(f"{way}: the kernel sends {want[:3]}, we send {have[:3]}")
        far = want[0][0] if want else ""
    kernel.collect()
    return far


def generator(kernel: KernelNode) -> None:
    """A link in the far namespace that leads nowhere."""
    made = "link add gen0 type veth peer name gen1", "link set gen0 arp off up", "link set gen1 arp off up"
    for command in made:
        subprocess.run(["ip", "-n", kernel.far, *command.split()], check=True)


def prepare(variant: str, packets: int, stack: ExitStack) -> dict[tuple[str, str], Any]:
    """All classes of a variant, ready to run: by class, and by who."""
    from . import kernel_node, sender

    node, kernel, ours = kernel_node.make(variant)
    stack.callback(kernel.close)
    generator(kernel)
    things: dict[tuple[str, str], Any] = {}
    for number, (name, pair) in enumerate(ways(node).items()):
        if name == LOST and variant in WITHOUT:
            continue
        frames = [way.frames(1024 + 256 * number) for way in pair]
        for which in (0, 1, 0):  # the bridge has then heard of everybody, and all are answered
            inject(kernel, ours, pair[which], frames[which])
        for which, label in enumerate((name, f"{name}, reply")):
            far = inject(kernel, ours, pair[which], frames[which], final=True)
            things[label, KERNEL] = sender.Sender(kernel.far, pair[which].port, far, frames[which], packets)
            things[label, "generator"] = sender.Sender(kernel.far, "gen0", "gen1", frames[which], packets)
            for who, fast in ((OURS, True), (FULL, False)):
                things[label, who] = Ours(ours, pair[which], frames[which], packets, fast)
    for opened in kernel.sockets.values():
        opened.close()
    for thing in things.values():
        stack.callback(thing.close)
    return things


def measure(slice_: str, settings: Settings, say: Say) -> Data:
    """ns a packet by class, variant and who, in nodes made for this run."""
    try:
        from . import kernel_node
    except ImportError as error:
        raise Absent(f"Linux: {error}") from None
    kernel_node.ready()
    packets = settings.size(ROUND, BATCH)
    processors = os.sched_getaffinity(0)
    found: Data = {}
    with ExitStack() as stack:
        os.sched_setaffinity(0, {max(processors)})
        stack.callback(os.sched_setaffinity, 0, processors)
        things: dict[tuple[str, str, str], Any] = {}
        for variant in kernel_node.VARIANTS:
            say(f"{variant}: flows are answered")
            things |= {(name, variant, who): t for (name, who), t in prepare(variant, packets, stack).items()}
        took = by_turns(things, settings.rounds(5), say, slice_)
    for (name, variant, who), times in took.items():
        if who == KERNEL:
            times = [t - g for t, g in zip(times, took[name, variant, "generator"], strict=True)]
        found.setdefault(name, {}).setdefault(variant, {})[who] = Figure.of(times).row()
    return found


def _over(data: Data, act: Any) -> list[float]:
    """A figure of each run."""
    return [act(run) for run in data.values()]


def _ns(data: Data, name: str, variant: str, who: str) -> float:
    return median(_over(data, lambda run: run[name][variant][who][0]))


def _ratio(data: Data, name: str, who: str, one: str, *others: str) -> list[float]:
    """One variant to others, a number for each run."""
    return _over(data, lambda run: run[name][one][who][0] / median(run[name][o][who][0] for o in others))


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def times(data: Data) -> Table:
    """Ours and the kernel's, kubenet and node subnet, and how many times as quick."""
    rows = []
    for name in next(iter(data.values())):
        cells: list[str] = []
        for variant in (KUBENET, *DIRECT[:1]):
            ours, kernel = _ns(data, name, variant, OURS), _ns(data, name, variant, KERNEL)
            cells += [ns(ours), ns(kernel), f"{kernel / ours:.0f}"]
        rows.append((name, *cells))
    head = ("class", "kubenet: ours", "kernel", "times", "node subnet: ours", "kernel", "times")
    least = min(
        _ns(data, name, variant, KERNEL) / _ns(data, name, variant, OURS)
        for name in next(iter(data.values())) for variant in (KUBENET, *DIRECT)
    )  # fmt: skip
    note = f"The least of all classes and modes is {least:.0f} times; {TIMES} had to be reached."
    return Table("linux.times", f"ns a packet beside the running kernel, {FLOWS} flows, batches of 256; median of "
                 f"{len(data)} runs", head, rows, (note,))  # fmt: skip


def ratios(data: Data) -> Table:
    """Kubenet to direct addressing: ours, the kernel's, and what explains where they differ."""
    rows = []
    for name in next(iter(data.values())):
        ours, kernel = (_ratio(data, name, who, KUBENET, *DIRECT) for who in (OURS, KERNEL))
        full = _ratio(data, name, FULL, KUBENET, *DIRECT)
        apart = max(median(kernel) / median(ours), median(ours) / median(kernel))
        there = next(iter(data.values()))[name]
        without = [_spread(_ratio(data, name, KERNEL, w, *DIRECT)) if w in there else "-" for w in WITHOUT]
        rows.append((name, _spread(ours), _spread(full), _spread(kernel), *without, f"{apart:.2f}"))
    head = ("kubenet / direct", "ours", "ours, no fast path", "kernel", "no br_netfilter", "nor ebtables",
            "nor promiscuous", "kernel / ours")  # fmt: skip
    return Table("linux.ratios", "kubenet to the median of the three direct modes; median and range of "
                 f"{len(data)} runs", head, rows)  # fmt: skip


def tables(data: Data) -> list[Table]:
    """Both."""
    return [times(data), ratios(data)]


def plots(data: Data) -> list[Plot]:
    """The ratios as bars."""
    run = next(iter(data.values()))
    label = {OURS: "ours", FULL: "ours without the fast path", KERNEL: "the kernel"}
    series = {label[who]: [median(_ratio(data, n, who, KUBENET, *DIRECT)) for n in run] for who in label}
    least = WITHOUT[0]  # no bar where flows are lost then
    series["the kernel without br_netfilter"] = [
        median(_ratio(data, n, KERNEL, least, *DIRECT)) if least in run[n] else 0.0 for n in run
    ]
    bars = Bars("kubenet / direct", "times", list(run), series)
    return [Plot("linux", (bars,), columns=1)]


PART = Part(
    "linux", "the same classes through the running kernel; root", RUNS, measure, tables, plots, quick=RUNS[:1]
)
