"""The node beside the running kernel's, class by class: kubenet and Azure CNI, ns a packet and the ratio.

    sudo python -m bench.linux [--rounds N] [--json]

The kernel's node is the one that the tests compare with: bridge, veths, rules and sysctls in network namespaces of its
own (tests/kernel/namespaces.py). Frames go in by packet sockets that bypass the qdisc, 256 a system call, from one
thread on one CPU, where the kernel's softirq then carries them to the far end; nobody listens there. What the generator
costs by itself, to a link without a node behind it, is measured beside it and taken off. Ours gets the same frames in
batches of 256. Before anything is measured, one packet of each class goes through both, and what comes out is compared
byte for byte. Rounds go by turns; a figure is the median round, its spread the range of the middle half.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from .progress import Line
from .traces import frame

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from golden_node import GoldenNode  # noqa: E402
from kernel.namespaces import UPLINK, KernelNode, enter, why_not  # noqa: E402

BATCH, ROUND = 256, 256 * 40
PACKET_QDISC_BYPASS = 20
NODE_MAC, GATEWAY_MAC, VNET_MAC = "00:0d:3a:00:00:04", "12:34:56:78:9a:bc", "00:0d:3a:00:00:09"
NODE_IP, VNET_HOST, INTERNET = "10.240.0.4", "10.240.0.9", "198.51.100.7"
START_MS = 60_000.0


@dataclass(frozen=True)
class Way:
    """A class of traffic: where its frames come in, and the frame of a flow."""

    port: str
    dst_mac: str
    src_mac: str
    src: str
    dst: str
    reply: bool = False

    def frame(self, flow: int) -> bytes:
        ports = (53, 1024 + flow) if self.reply else (1024 + flow, 53)
        return frame(self.dst_mac, self.src_mac, self.src, self.dst, *ports)


def ways(node: dict[str, Any]) -> dict[str, tuple[Way, Way]]:
    """Each class with its answers: pod to pod of this node, to another node's, to a VNet host, to the internet."""
    pod, peer = node["pods"][0], node["pods"][1]
    kubenet = node["mode"] == "kubenet"
    gateway = node["cbr0"]["mac"] if kubenet else pod["host_mac"]
    beside = peer["mac"] if kubenet else pod["host_mac"]
    other = "10.244.2.10" if kubenet else "10.240.0.50"
    other_mac = GATEWAY_MAC if kubenet else "00:0d:3a:00:00:32"

    def out(dst: str, mac: str = gateway) -> Way:
        return Way(pod["port"], mac, pod["mac"], pod["ip"], dst)

    def back(src: str, mac: str, dst: str) -> Way:
        return Way(UPLINK, NODE_MAC, mac, src, dst, reply=True)

    home = Way(
        peer["port"],
        pod["mac"] if kubenet else peer["host_mac"],
        peer["mac"],
        peer["ip"],
        pod["ip"],
        reply=True,
    )
    vnet_sees = NODE_IP if kubenet else pod["ip"]
    internet = out(INTERNET), back(INTERNET, GATEWAY_MAC, NODE_IP)
    return {
        "same node": (out(peer["ip"], beside), home),
        "other node": (out(other), back(other, other_mac, pod["ip"])),
        "VNet host": (out(VNET_HOST), back(VNET_HOST, VNET_MAC, vnet_sees)),
        "internet": internet,
        "internet, reply": (internet[1], internet[0]),
    }


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("n_parts", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


class Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Sender:
    """Frames that go out by an interface as fast as they can, BATCH a system call."""

    def __init__(self, namespace: str, interface: str, frames: list[bytes]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        enter(namespace)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((interface, 0))
            self._socket.setsockopt(263, PACKET_QDISC_BYPASS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
            self._counters = Path("/proc/thread-self/net/dev").open()  # noqa: SIM115
        finally:
            enter(None)
        self._memory = [
            ctypes.create_string_buffer(frames[i % len(frames)], len(frames[0])) for i in range(ROUND)
        ]
        self._parts = (Part * ROUND)(*(Part(ctypes.addressof(m), len(frames[0])) for m in self._memory))
        self._messages = (Message * ROUND)(
            *(
                Message(parts=ctypes.addressof(self._parts) + i * ctypes.sizeof(Part), n_parts=1)
                for i in range(ROUND)
            )
        )

    def received(self, interface: str) -> int:
        """Packets that have arrived at an interface of the far namespace."""
        self._counters.seek(0)
        found = re.search(rf"^\s*{interface}:\s*\d+\s+(\d+)", self._counters.read(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def run(self, arrives: str) -> float:
        """ns a packet, until all have arrived."""
        before = self.received(arrives)
        size = ctypes.sizeof(Message)
        began = time.perf_counter_ns()
        for at in range(0, ROUND, BATCH):
            sent = 0
            while sent < BATCH:
                place = ctypes.byref(self._messages, (at + sent) * size)
                n = self._libc.sendmmsg(self._socket.fileno(), place, BATCH - sent, 0)
                if n < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                sent += n
        took = time.perf_counter_ns() - began
        for _ in range(100):
            if self.received(arrives) - before >= ROUND:
                return took / ROUND
            time.sleep(0.001)
            took = time.perf_counter_ns() - began
        raise RuntimeError(f"{ROUND} frames went in, {self.received(arrives) - before} came out of {arrives}")

    def close(self) -> None:
        self._socket.close()
        self._counters.close()


class Ours:
    """The same frames through our node."""

    def __init__(self, node: GoldenNode, way: Way, frames: list[bytes]) -> None:
        import kubenet_fastpath as kf

        self.node = node.node
        port = self.node.ports["eth0" if way.port == UPLINK else way.port]
        whole = kf.PacketBatch.from_frames(
            [frames[i % len(frames)] for i in range(ROUND)], port, self.node.now
        )
        self._bytes, self._fresh = whole.data, whole.data.copy()
        self._batches = [whole[i : i + BATCH] for i in range(0, ROUND, BATCH)]

    def run(self) -> float:
        self._bytes[:] = self._fresh
        began = time.thread_time_ns()
        for batch in self._batches:
            result = self.node.forward(batch)
        took = time.thread_time_ns() - began
        assert len(result.outputs) == BATCH
        return took / ROUND


def establish(kernel: KernelNode, ours: GoldenNode, pair: tuple[Way, Way], flows: int) -> str:
    """Let all flows be answered once on both sides; where their packets leave. What leaves must be the same."""
    far = ""
    for number, way in enumerate((pair[0], pair[1], pair[0])):
        kernel.collect()
        for flow in range(flows):
            sent = way.frame(flow)
            if flow and number == 2:
                break
            want, have = (
                kernel.inject(way.port, sent) if flow < 3 else None,
                ours.inject(way.port, sent, START_MS),
            )
            if want is None:
                kernel.sockets[way.port].send(sent)
            elif sorted(want) != sorted(have) or (number == 2 and len(want) != 1):
                raise RuntimeError(f"the kernel and we do not agree: {want[:3]} {have[:3]}")
            elif number == 2:
                far = want[0][0]
    kernel.collect()
    return far


def measure(mode: str, flows: int, rounds: int, say: Any) -> dict[str, dict[str, Any]]:
    case = json.loads((TESTS / "golden" / "cases" / f"route.{mode}.noroute.json").read_text())
    node, rules = case["node"], (TESTS / "golden" / "cases" / case["rules"]).read_text()
    kernel, ours = KernelNode(node, rules), GoldenNode(node)
    found: dict[str, dict[str, Any]] = {}
    try:
        enter(kernel.far)
        try:
            for command in (
                "ip link add gen0 type veth peer name gen1",
                "ip link set gen0 arp off up",
                "ip link set gen1 arp off up",
            ):
                if os.system(command):
                    raise RuntimeError(command)
        finally:
            enter(None)
        ready = {}
        for name, pair in ways(node).items():
            say(f"{mode}: {name}: {flows} flows are answered")
            first = pair if not pair[0].reply else (pair[1], pair[0])
            if not pair[0].reply:
                establish(kernel, ours, first, flows)
            arrives = establish(kernel, ours, (pair[0], pair[1]), 1)
            frames = [pair[0].frame(flow) for flow in range(flows)]
            ready[name] = (
                Sender(kernel.far, pair[0].port, frames),
                Ours(ours, pair[0], frames),
                arrives,
                Sender(kernel.far, "gen0", frames),
            )
        for opened in kernel.sockets.values():
            opened.close()
        took: dict[str, dict[str, list[float]]] = {
            name: {"kernel": [], "generator": [], "ours": []} for name in ready
        }
        for number in range(rounds):
            say(f"{mode}: round {number + 1} of {rounds}")
            for name, (sender, mine, arrives, generator) in ready.items():
                took[name]["kernel"].append(sender.run(arrives))
                took[name]["generator"].append(generator.run("gen1"))
                mine.run()
                took[name]["ours"].append(mine.run())
        for name, times in took.items():
            net = [k - g for k, g in zip(times["kernel"], times["generator"], strict=True)]
            low, _, high = quantiles(net, n=4)
            found[name] = {
                "kernel": round(median(net)),
                "kernel_middle_half": (round(low), round(high)),
                "generator": round(median(times["generator"])),
                "ours": round(median(times["ours"]), 1),
                "ratio": round(median(net) / median(times["ours"])),
            }
        for sender, _, _, generator in ready.values():
            sender.close()
            generator.close()
    finally:
        kernel.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--flows", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    missing = why_not()
    if missing:
        sys.exit(f"the kernel's node cannot run here: {missing}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    say = Line()
    found = {mode: measure(mode, given.flows, given.rounds, say) for mode in ("kubenet", "azcni")}
    say()
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"ns a packet of {given.flows} established flows, 64-byte UDP, one core")
    head = "".join(f"{mode:>14}{'kernel':>10}{'middle half':>16}{'times':>7}" for mode in found)
    print(f"{'':18}{head}{'kubenet / azcni: ours':>24}{'kernel':>8}")
    for name in found["kubenet"]:
        line = ""
        for mode in found:
            row = found[mode][name]
            low, high = row["kernel_middle_half"]
            line += f"{row['ours']:>14}{row['kernel']:>10,}{f'{low:,}-{high:,}':>16}{row['ratio']:>7}"
        ours, theirs = (found["kubenet"][name][who] / found["azcni"][name][who] for who in ("ours", "kernel"))
        print(f"{name:18}{line}{ours:>24.2f}{theirs:>8.2f}")


if __name__ == "__main__":
    main()
