"""A node of the running kernel, in network namespaces of its own, driven frame by frame.

One namespace is the node: its uplink, bridge, veths, rules and sysctls as a golden case's `node` object says. The other
has the far ends of all links, without addresses, where frames are written and read by packet sockets. Both go when the
node is closed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
TOOLS = (
    "ip",
    "bridge",
    "ebtables",
    "iptables-restore",
    "ip6tables-restore",
    "conntrack",
    "sysctl",
    "ethtool",
)
QUIET_S = 0.002  # no frame for so long: what the kernel had to send has come
UPLINK = "vnet"

_libc = ctypes.CDLL(None, use_errno=True)


#: A router whose addresses are there at once, and which says the same whenever it says something.
SIX = (
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.default.forwarding=1",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.dad_transmits=0",
    "net.ipv6.conf.default.router_solicitations=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.auto_flowlabels=0",
)


def is_report(frame: bytes) -> bool:
    """Whether a frame says which groups somebody listens to (MLDv2): the kernel says it whenever it likes."""
    return (
        frame[12:14] == b"\x86\xdd"
        and frame[20:21] == b"\0"
        and frame[54:55] == b"\x3a"
        and frame[62:63] == b"\x8f"
    )


def why_not() -> str | None:
    """What is missing to run the kernel's node here."""
    if os.geteuid():
        return "network namespaces of the kernel's node take root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    probe = f"kfp-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


def enter(namespace: str | None) -> None:
    """Put this thread into a namespace, or back into the one of its process."""
    path = f"/var/run/netns/{namespace}" if namespace else f"/proc/{os.getpid()}/ns/net"
    with Path(path).open() as handle:
        if _libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {path}")


class KernelNode:
    """The node that a golden case describes.

    Parameters
    ----------
    node : dict
        As in golden/README.md.
    rules : str
        What iptables-restore reads.
    """

    _made = 0

    def __init__(self, node: dict[str, Any], rules: str) -> None:
        KernelNode._made += 1
        self.name = f"kfp-{os.getpid()}-{KernelNode._made}"
        self.far = f"{self.name}-far"
        self.node = node
        self.links = {UPLINK: "eth0"} | {pod["port"]: pod["host_if"] for pod in node["pods"]}
        self.sockets: dict[str, socket.socket] = {}
        try:
            self._make(rules)
        except BaseException:
            self.close()
            raise

    def run(self, *command: str, given: str | None = None) -> str:
        """What a command prints inside the node."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _ip(self, lines: list[str]) -> None:
        done = subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ip: {done.stderr.strip()}")

    def _make(self, rules: str) -> None:
        node = self.node
        for namespace in (self.name, self.far):
            subprocess.run(["ip", "netns", "add", namespace], check=True, capture_output=True)
            off = int(namespace == self.far or "six" not in self.node)
            quiet = [f"net.ipv6.conf.{which}.disable_ipv6={off}" for which in ("all", "default")]
            if not off:
                quiet += SIX
            subprocess.run(
                ["ip", "netns", "exec", namespace, "sysctl", "-qw", *quiet], check=True, capture_output=True
            )
        macs = {UPLINK: node["eth0"]["mac"]} | {pod["port"]: pod["host_mac"] for pod in node["pods"]}
        kubenet = node["mode"] == "kubenet"
        lines = ["link set lo up"]
        for port, device in self.links.items():
            lines.append(
                f"link add {device} address {macs[port]} type veth peer name {port} netns {self.far}"
            )
            lines.append(f"link set {device} mtu {node['mtu']}")
        if kubenet:
            lines += [
                f"link add cbr0 address {node['cbr0']['mac']} mtu {node['mtu']} type bridge",
                f"addr add {node['cbr0']['ip']} dev cbr0",
            ]
            if "ageing_s" in node:
                lines.append(f"link set cbr0 type bridge ageing_time {100 * node['ageing_s']}")
            lines += [f"link set {pod['host_if']} master cbr0" for pod in node["pods"]]
        self._ip(lines)
        devices = [*self.links.values(), *(["cbr0"] if kubenet else [])]
        settings = [
            f"{key.replace('.neigh.default.', f'.neigh.{device}.')}={value}"
            for key, value in node["sysctls"].items()
            for device in (
                devices if ".neigh.default." in key else devices[:1]
            )  # a namespace has no such default
        ]
        settings += [  # of a machine they are there before its devices
            f"{key.replace('.conf.default.', f'.conf.{device}.')}={value}"
            for key, value in node["sysctls"].items()
            for device in devices
            if ".conf.default." in key
        ]
        self.run("modprobe", "-a", "br_netfilter") if shutil.which("modprobe") and not Path(
            "/proc/sys/net/bridge"
        ).exists() else None
        self.run("sysctl", "-qw", *settings)
        for device in self.links.values():
            self.run("ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
            subprocess.run(
                ["ip", "netns", "exec", self.far, "ethtool", "-K", self._far_name(device), "tx", "off"],
                check=False, capture_output=True,
            )  # fmt: skip
        lines = [f"addr add {node['eth0']['ip']} dev eth0 noprefixroute"]
        lines += [f"link set {device} up" for device in self.links.values()]
        if kubenet:
            lines += ["link set cbr0 up"]
            if node["hairpin"] == "promisc":
                lines += ["link set cbr0 promisc on"]
        self._ip(lines)
        if kubenet and node["hairpin"] == "veth":
            for pod in node["pods"]:
                self.run("bridge", "link", "set", "dev", pod["host_if"], "hairpin", "on")
        for port in self.links:
            subprocess.run(["ip", "-n", self.far, "link", "set", port, "arp", "off", "up"], check=True)
        lines = [
            f"route replace {route}" for route in sorted(node["routes"], key=lambda route: " via " in route)
        ]
        lines += [
            f"neigh replace {n['ip']} lladdr {n['mac']} nud permanent dev {n['dev']}" for n in node["neigh"]
        ]
        self._ip(lines)
        if node.get("proxy_arp"):
            for pod in node["pods"]:
                conf = f"net.ipv4.conf.{pod['host_if']}.proxy_arp=1"
                self.run("sysctl", "-qw", conf, f"net.ipv4.neigh.{pod['host_if']}.proxy_delay=0")
        if node["ebtables_dedup"]:
            source = ["-p", "IPv4", "-s", node["cbr0"]["mac"], "-o", "veth+"]
            gateway, length = node["cbr0"]["ip"].split("/")
            self.run("ebtables", "-N", "KUBE-DEDUP")
            self.run("ebtables", "-A", "OUTPUT", "-j", "KUBE-DEDUP")
            self.run("ebtables", "-A", "KUBE-DEDUP", *source, "--ip-src", gateway, "-j", "ACCEPT")
            self.run("ebtables", "-A", "KUBE-DEDUP", *source, "--ip-src", f"{gateway}/{length}", "-j", "DROP")
        self.run("iptables-restore", given=rules)
        if "six" in node:
            self._make6(node["six"])
        for command in node["cmds"]:
            self.run(*command.split())
        self._open()
        time.sleep(0.05)
        self.collect()

    def _make6(self, six: dict[str, Any]) -> None:
        """Addresses, routes, neighbours and rules of IPv6."""
        lines = [f"-6 addr add {six['eth0']} dev eth0 nodad noprefixroute"]
        if "cbr0" in six:
            lines.append(f"-6 addr add {six['cbr0']} dev cbr0 nodad noprefixroute")
        lines += [f"-6 route replace {r}" for r in sorted(six["routes"], key=lambda r: " via " in r)]
        lines += [
            f"-6 neigh replace {n['ip']} lladdr {n['mac']} nud permanent dev {n['dev']}" for n in six["neigh"]
        ]
        self._ip([line.removeprefix("-6 ") if " neigh " in line else line[3:] for line in lines])
        devices = [*self.links.values(), *(["cbr0"] if "cbr0" in six else [])]
        self.run("sysctl", "-qw", *(f"net.ipv6.neigh.{device}.proxy_delay=0" for device in devices))
        self.run("ip6tables-restore", given=six["rules"])
        if self.node["ebtables_dedup"]:
            source = ["-p", "IPv6", "-s", self.node["cbr0"]["mac"], "-o", "veth+"]
            gateway, length = six["cbr0"].split("/")
            self.run("ebtables", "-A", "KUBE-DEDUP", *source, "--ip6-src", gateway, "-j", "ACCEPT")
            self.run(
                "ebtables", "-A", "KUBE-DEDUP", *source, "--ip6-src", f"{gateway}/{length}", "-j", "DROP"
            )

    def _far_name(self, device: str) -> str:
        return next(port for port, name in self.links.items() if name == device)

    def _open(self) -> None:
        enter(self.far)
        try:
            for port in self.links:
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                opened.bind((port, ETH_P_ALL))
                opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                opened.setsockopt(
                    SOL_PACKET, 8, 1
                )  # PACKET_AUXDATA: the VLAN tag that the kernel has taken off
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                opened.setblocking(False)
                self.sockets[port] = opened
        finally:
            enter(None)

    def _read(self, opened: socket.socket) -> bytes | None:
        try:
            frame, auxiliary, _, _ = opened.recvmsg(1 << 17, 256)
        except BlockingIOError:
            return None
        for level, kind, data in auxiliary:
            if level == SOL_PACKET and kind == 8:
                status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if status & 1 << 4:  # TP_STATUS_VLAN_VALID
                    frame = (
                        frame[:12] + struct.pack("!HH", tpid if status & 1 << 6 else 0x8100, tci) + frame[12:]
                    )
        return frame

    def collect(self) -> list[tuple[str, bytes]]:
        """Frames that came out until none comes any more."""
        found = []
        ports = {opened.fileno(): port for port, opened in self.sockets.items()}
        poll = select.poll()
        for number in ports:
            poll.register(number, select.POLLIN)
        while True:
            ready = poll.poll(QUIET_S * 1000)
            if not ready:
                return found
            for number, _ in ready:
                port = ports[number]
                while (frame := self._read(self.sockets[port])) is not None:
                    if "six" not in self.node or not is_report(frame):
                        found.append((port, frame))

    def inject(self, port: str, frame: bytes) -> list[tuple[str, bytes]] | None:
        """Frames that come out when `frame` goes in; None: the link does not carry one of its length."""
        try:
            self.sockets[port].send(frame)
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EMSGSIZE):
                raise
            return None
        return self.collect()

    def change(self, *command: str) -> bool:
        """Run `ip` with these words inside the node; False when it refuses."""
        done = subprocess.run(["ip", "-n", self.name, *command], check=False, capture_output=True)
        return done.returncode == 0

    def watch(self, seconds: float) -> list[tuple[str, bytes]]:
        """Frames that came out together, once any does; none after so long."""
        poll = select.poll()
        for opened in self.sockets.values():
            poll.register(opened.fileno(), select.POLLIN)
        return self.collect() if poll.poll(max(0.0, 1000 * seconds)) else []

    def forget(self) -> None:
        """Back to the state after setup, but for counters: no connections, nothing learned."""
        self.run("conntrack", "-F")
        if self.node["mode"] == "kubenet":
            self.run("ip", "link", "set", "cbr0", "type", "bridge", "fdb_flush")
        self.collect()

    def conntrack(self, family: int = 4) -> str:
        return self.run("conntrack", "-L", "-f", f"ipv{family}", "-o", "extended")

    def recent(self, name: str) -> str:
        """A list of xt_recent, as /proc shows it; empty if there is none."""
        enter(self.name)
        try:
            path = Path("/proc/thread-self/net/xt_recent") / name
            return path.read_text() if path.exists() else ""
        finally:
            enter(None)

    def restore(self, rules: str) -> None:
        """Put these rules in the place of all."""
        self.run("iptables-restore", given=rules)

    def end(self, *which: str) -> None:
        """Delete the connections that these options of conntrack name."""
        subprocess.run(
            ["ip", "netns", "exec", self.name, "conntrack", "-D", *which], check=False, capture_output=True
        )

    def fdb(self) -> set[tuple[str, str, str]]:
        """(MAC, device, state) of every entry of the bridge."""
        found = set()
        for line in self.run("bridge", "fdb", "show", "br", "cbr0").splitlines():
            match = re.match(r"([0-9a-f:]{17}) dev (\S+)(.*)", line)
            if match and "self" not in match[3] and " vlan " not in match[3]:
                found.add((match[1], match[2], "permanent" if "permanent" in match[3] else "learned"))
        return found

    def close(self) -> None:
        for opened in self.sockets.values():
            opened.close()
        for namespace in (self.name, self.far):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
